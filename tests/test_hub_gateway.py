"""A client on a hub that is scripted frame by frame: refusals, ends, violations, sends, secrets."""

import json
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.hub_peer import (
    ACCOUNT,
    EPOCH,
    START,
    URL,
    Line,
    ScriptedHub,
    answer,
    as_json,
    envelope,
    heartbeat,
    hello,
    hole,
    message,
    refuses,
    says,
    scripted,
)
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    PEER,
    RECONNECTING,
    SYNCING,
    gaps_in,
    logged,
    outcome_of,
    record,
    saved,
    send_all,
    settled,
    texts_in,
    wait_done,
    wall_ms,
)
from tests.stores import KilledStore
from trio_signal import (
    AnswerError,
    Backoff,
    ChallengeRequired,
    Cursor,
    Failed,
    Gap,
    GapReason,
    GatewayRefused,
    LinkLost,
    Reason,
    SignalClient,
    StateChange,
    Undecodable,
    UnknownAccount,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal.gateways import SendResult
from trio_signal.gateways._hub_answers import read_hub_answer
from trio_signal.testing import server_frame


async def take(signal: SignalClient, count: int) -> list[Any]:
    """Take events from the inbox."""
    events = signal.events()
    return [await anext(events) for _ in range(count)]


@asynccontextmanager
async def watched(
    hub: ScriptedHub, nursery: trio.Nursery, **options: Any
) -> AsyncGenerator[tuple[SignalClient, list[StateChange]]]:
    """Open a client and note its changes of state from the first on."""
    changes: list[StateChange] = []
    async with hub.client(**options) as signal:
        nursery.start_soon(record, signal.state_changes(), changes)
        yield signal, changes


def ends(changes: Iterable[StateChange]) -> list[StateChange]:
    return [change for change in changes if change.current is DISCONNECTED]


def sleeps(changes: Iterable[StateChange]) -> list[float | None]:
    return [change.delay for change in changes if change.current is RECONNECTING]


async def fails(hub: ScriptedHub, **options: Any) -> None:
    """Run a client until it fails for good."""
    with trio.fail_after(600):
        async with hub.client(**options):
            await trio.sleep_forever()


# --- Connecting. ---


@pytest.mark.contract("H2", "C3")
async def test_the_first_link_asks_for_nothing_and_is_up_to_date_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with scripted(says(hello(7))) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await settled()
        assert hub.targets == ["/websocket"]
        assert [(c.current, c.reason) for c in changes] == [
            (RECONNECTING, Reason.START),
            (SYNCING, Reason.LINK_UP),
            (CONNECTED, Reason.SYNCHRONISED),
        ]
        assert signal.cursor == Cursor(wall_ms(), EPOCH, 7)
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R3", "R5")
@pytest.mark.parametrize("acknowledge", [False, True])
async def test_a_cursor_keeps_its_place_until_the_new_epochs_gap_is_taken(
    autojump_clock: MockClock, acknowledge: bool
) -> None:
    """Who is given it next still gets what the hub has."""
    cursor = Cursor(wall_ms(), "old", 7)
    async with (
        scripted(says(hello(2), message(1), message(2))) as hub,
        hub.client(cursor=cursor, acknowledge=acknowledge) as signal,
    ):
        await signal.wait_state(CONNECTED)
        assert saved(signal.cursor).position == ("old", 7)
        gap, *_ = await take(signal, 3)
        assert gap.reason == "epoch_changed"
        if acknowledge:
            assert saved(signal.cursor).position == ("old", 7)
            signal.acknowledge(gap)
            assert saved(signal.cursor).position == (EPOCH, 0)
        else:
            assert saved(signal.cursor).position == (EPOCH, 2)


@pytest.mark.contract("R5", "H2")
async def test_a_cursor_is_given_to_the_hub(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(7, epoch="a b/ü&c"))) as hub:
        async with hub.client(cursor=Cursor(1, "a b/ü&c", 7)) as signal:
            await signal.wait_state(CONNECTED)
        assert hub.targets == ["/websocket?since=7&epoch=a%20b%2F%C3%BC%26c"]


@pytest.mark.contract("B5")
async def test_a_hub_that_says_no_hello_is_left_at_the_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with scripted(says(), says(hello())) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await settled()
        (failed,) = ends(changes)
        assert failed.time == 20
        assert failed.reason is Reason.ATTEMPT_FAILED
        assert "hello" in str(failed.error)
        assert SYNCING not in [change.current for change in changes[:3]]


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    "first",
    [
        b"nonsense",
        b'{"envelope":{"timestamp":1},"account":"+15550001"}',
        heartbeat(5),
        hello(5, 9),
        as_json("message", sequence_number=1, timestamp=1, data={}),
    ],
)
async def test_a_first_frame_that_is_no_hello_ends_the_client_with_what_to_do(
    autojump_clock: MockClock, first: bytes
) -> None:
    async with scripted(says(first)) as hub:
        with pytest.raises(WrongGatewayMode, match='gateway="auto"'):
            await fails(hub)


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [404, 405, 200])
async def test_something_that_is_no_hub_ends_the_client_with_what_to_do(
    autojump_clock: MockClock, status: int
) -> None:
    async with scripted(refuses(status)) as hub:
        hub.about = answer(404)
        with pytest.raises(WrongGatewayMode, match=rf"no trio_signal hub.*HTTP {status}.*auto"):
            await fails(hub)


@pytest.mark.contract("C6")
async def test_a_gateway_of_another_kind_is_named(autojump_clock: MockClock) -> None:
    async with scripted(says(hello())) as hub:
        hub.about = answer(200, {"mode": "json-rpc", "version": "0.100"})
        with pytest.raises(WrongGatewayMode, match='json-rpc.*gateway="rest"'):
            await fails(hub)
        assert hub.targets == []


@pytest.mark.contract("C6")
async def test_a_client_of_a_rest_gateway_says_that_this_is_a_hub(autojump_clock: MockClock) -> None:
    async with scripted(says(hello())) as hub:
        with pytest.raises(WrongGatewayMode, match='hub; use gateway="hub" or "auto"'):
            await fails(hub, gateway="rest")


@pytest.mark.contract("C6")
async def test_a_hub_of_another_account_ends_the_client(autojump_clock: MockClock) -> None:
    async with scripted(says(hello())) as hub:
        hub.status = answer(200, {"account": "+15559999"})
        with pytest.raises(UnknownAccount, match=r"\+15559999 and not \+15550001"):
            await fails(hub)


@pytest.mark.contract("C6")
async def test_what_is_asked_before_the_first_link_is_not_asked_again(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(), close=1000)) as hub, hub.client() as signal:
        await trio.sleep(60)
        await signal.wait_state(CONNECTED)
        asked = [head.split(b" ")[1] for head in hub.heads if not head.startswith(b"GET /websocket")]
        assert asked == [b"/v1/about", b"/status"]
        assert len(hub.targets) > 2


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    "status", [answer(404), answer(200, b"<html>"), answer(200, {"account": None}), answer(500)]
)
async def test_an_account_that_cannot_be_asked_for_is_not_checked(
    autojump_clock: MockClock, status: bytes
) -> None:
    async with scripted(says(hello())) as hub:
        hub.status = status
        async with hub.client() as signal:
            await signal.wait_state(CONNECTED)


@pytest.mark.contract("C6", "B3")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_hub_that_is_full_says_when_to_come_back(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    scripts = refuses(status, Retry_After=50), says(hello())
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await settled()
        (failed,) = ends(changes)
        assert failed.reason is Reason.ATTEMPT_FAILED
        assert isinstance(failed.error, LinkLost)
        assert failed.error.status == status
        assert sleeps(changes) == [0, 50]


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_end_a_client_that_has_no_others(
    autojump_clock: MockClock, status: int
) -> None:
    async with scripted(refuses(status)) as hub:
        hub.status = answer(status)
        with pytest.raises(GatewayRefused, match=f"HTTP {status}"):
            await fails(hub, token="old")


@pytest.mark.contract("C6")
async def test_a_token_callable_is_asked_for_each_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    tokens = iter(range(100))
    scripts = refuses(401), refuses(401), says(hello())
    async with scripted(*scripts) as hub:
        async with watched(hub, nursery, token=lambda: f"t{next(tokens)}") as (signal, changes):
            await signal.wait_state(CONNECTED)
            await settled()
            assert [change.reason for change in ends(changes)] == [Reason.REFUSED] * 2
        shown = [line.head.lower().split(b"authorization: bearer ")[1][:2] for line in hub.lines]
        assert shown == [b"t0", b"t1", b"t2"]


@pytest.mark.contract("C6")
async def test_a_cursor_that_the_hub_refuses_ends_the_client(autojump_clock: MockClock) -> None:
    async with scripted(refuses(422)) as hub:
        with pytest.raises(LinkLost, match="422") as caught:
            await fails(hub, cursor=Cursor(1, "e", 5))
        assert caught.value.status == 422


@pytest.mark.contract("C6")
async def test_a_hub_that_has_worked_is_tried_on_whatever_it_says(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    scripts = says(hello(), close=1000), refuses(404), refuses(422), says(b"no hello"), says(hello())
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        await settled()
        assert [c.reason for c in ends(changes)] == [
            Reason.CLOSED_BY_GATEWAY,
            Reason.PERMANENT,
            Reason.PERMANENT,
            Reason.PERMANENT,
        ]
        assert len(logged(caplog.records, logging.ERROR)) == 3


async def test_base_path_headers_and_token_are_on_every_request(autojump_clock: MockClock) -> None:
    async with scripted(says(hello())) as hub:
        async with trio.open_nursery() as nursery:
            async with open_signal_client(
                URL + "/base/",
                ACCOUNT,
                gateway="hub",
                connect=hub.connect,
                headers={"X-Key": "k"},
                token="secret-token",
            ) as signal:
                await signal.wait_state(CONNECTED)
            nursery.cancel_scope.cancel()
        targets = [head.split(b" ")[1] for head in hub.heads]
        assert targets == [b"/base/v1/about", b"/base/status", b"/base/websocket"]
        for head in hub.heads:
            assert b"x-key: k\r\n" in head.lower()
            assert b"authorization: bearer secret-token\r\n" in head.lower()


# --- Receiving. ---


@pytest.mark.contract("R1", "R5")
async def test_messages_come_in_order_and_the_cursor_follows_what_is_taken(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    script, store = says(hello(7), message(8), message(9), message(10)), KilledStore(tmp_path).store
    async with scripted(script) as hub, hub.client(store=store) as signal:
        await signal.wait_state(CONNECTED)
        await settled()
        places = [saved(signal.cursor).sequence]
        events = signal.events()
        for number in (8, 9, 10):
            assert texts_in([await anext(events)]) == [f"m{number}"]
            places.append(saved(signal.cursor).sequence)
        assert places == [7, 8, 9, 10]
        assert signal._journal.cursor == signal.cursor


@pytest.mark.contract("C3", "H2")
async def test_syncing_lasts_until_the_hellos_head_has_come(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def slowly(line: Line) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(line.serve)
            await line.open(hello(6))
            for number in (4, 5, 6, 7):
                await trio.sleep(10)
                await line.tell(message(number))

    cursor = Cursor(wall_ms(), EPOCH, 3)
    async with scripted(slowly) as hub, watched(hub, nursery, cursor=cursor) as (signal, changes):
        await signal.wait_state(SYNCING)
        assert trio.current_time() == 0
        await signal.wait_state(CONNECTED)
        assert trio.current_time() == 30
        assert texts_in(await take(signal, 3)) == ["m4", "m5", "m6"]
        await settled()
        assert [change.current for change in changes] == [RECONNECTING, SYNCING, CONNECTED]


@pytest.mark.contract("R2", "R5")
async def test_a_new_link_goes_on_behind_what_is_in_the_inbox(autojump_clock: MockClock) -> None:
    scripts = (
        says(hello(7), message(8), message(9), close=1000),
        says(hello(11), message(10), message(11)),
    )
    async with scripted(*scripts) as hub, hub.client() as signal:
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        # None of them was taken before, so the cursor is where it was; the link is not.
        assert hub.targets == ["/websocket", f"/websocket?since=9&epoch={EPOCH}"]
        assert saved(signal.cursor).sequence == 7
        assert texts_in(await take(signal, 4)) == ["m8", "m9", "m10", "m11"]
        assert saved(signal.cursor).sequence == 11
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R6")
async def test_a_message_that_comes_twice_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    frames = hello(7), message(8), message(8), message(7), message(9)
    async with scripted(says(*frames)) as hub, hub.client() as signal:
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]
        assert signal.statistics().receiving.duplicates == 2
        assert signal.statistics().generation == 1


@pytest.mark.contract("R1")
async def test_on_a_hub_the_number_tells_messages_apart_and_nothing_else(autojump_clock: MockClock) -> None:
    same = envelope("again", 5)
    frames = hello(7), message(8, data=same), message(9, data=same)
    async with scripted(says(*frames)) as hub, hub.client() as signal:
        assert texts_in(await take(signal, 2)) == ["again", "again"]


@pytest.mark.contract("R3", "R1")
@pytest.mark.parametrize(
    "wrong",
    [message(11), heartbeat(12), heartbeat(8), hole(11, 12)],
    ids=["jump", "stale-head", "old-head", "silent-loss"],
)
async def test_a_hole_is_mended_by_asking_again(
    autojump_clock: MockClock, nursery: trio.Nursery, wrong: bytes
) -> None:
    scripts = (
        says(hello(7), message(8), message(9), wrong, message(12)),
        says(hello(12), message(10), message(11), message(12), heartbeat(12)),
    )
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        assert texts_in(await take(signal, 5)) == ["m8", "m9", "m10", "m11", "m12"]
        await settled()
        (lost,) = ends(changes)
        assert lost.reason is Reason.HOLE
        assert hub.targets[1] == f"/websocket?since=9&epoch={EPOCH}"
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R4", "R3", "C3")
async def test_what_the_hub_cannot_give_is_a_gap_in_its_place(autojump_clock: MockClock) -> None:
    kept = [message(n, timestamp=START + 1000 * n) for n in (12, 13, 14)]
    scripts = (
        says(hello(7), message(8), close=1000),
        says(hello(14), hole(9, 11, "expired"), *kept),
    )
    async with scripted(*scripts) as hub, hub.client() as signal:
        await signal.wait_state(CONNECTED)
        await trio.sleep(60)
        await signal.wait_state(CONNECTED)
        assert signal.statistics().inbox.waiting == 5
        first, gap, *rest = await take(signal, 5)
        assert texts_in([first, *rest]) == ["m8", "m12", "m13", "m14"]
        # From the last message had to the first that was kept.
        assert gap == Gap(GapReason.EXPIRED, START, START + 12_000, first=9, last=11)
        assert signal.statistics().receiving.gaps == 1


@pytest.mark.contract("R4", "H3")
async def test_a_restarted_hub_is_told_once_however_it_says_so(autojump_clock: MockClock) -> None:
    scripts = (
        says(hello(7), message(8), close=1012),
        says(hello(2, epoch="new"), hole(None, None, "epoch_changed"), message(1), message(2)),
    )
    async with scripted(*scripts) as hub, hub.client() as signal:
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        first, gap, *rest = await take(signal, 4)
        assert texts_in([first, *rest]) == ["m8", "m1", "m2"]
        assert isinstance(gap, Gap)
        assert gap.reason is GapReason.EPOCH_CHANGED
        assert saved(signal.cursor).epoch == "new"
        assert saved(signal.cursor).sequence == 2


@pytest.mark.contract("R3", "R4")
async def test_an_absence_of_the_hubs_own_stands_between_the_messages(autojump_clock: MockClock) -> None:
    now = wall_ms()
    absence = as_json(
        "gap", sequence_number=9, timestamp=now, reason="gateway", since=now - 50, until=now - 10
    )
    async with scripted(says(hello(7), message(8), absence, message(10))) as hub, hub.client() as signal:
        before, gap, after = await take(signal, 3)
        assert texts_in([before, after]) == ["m8", "m10"]
        assert gap == Gap(GapReason.GATEWAY, now - 50, now - 10)
        assert signal.statistics().receiving.gaps == 1


async def test_a_message_to_this_client_alone_arrives_and_moves_nothing(autojump_clock: MockClock) -> None:
    direct = as_json("direct", connection_sequence=1, timestamp=1, data=envelope("for you"))
    async with scripted(says(hello(7), direct, message(8))) as hub, hub.client() as signal:
        await signal.wait_state(CONNECTED)
        await settled()
        events = signal.events()
        assert texts_in([await anext(events)]) == ["for you"]
        assert saved(signal.cursor).sequence == 7
        assert texts_in([await anext(events)]) == ["m8"]


@pytest.mark.contract("R7")
async def test_a_frame_that_was_no_json_arrives_as_it_was(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(7), message(8, data="oops {"), message(9))) as hub, hub.client() as signal:
        strange, after = await take(signal, 2)
        assert isinstance(strange, Undecodable)
        assert strange.raw == b"oops {"
        assert texts_in([after]) == ["m9"]
        assert saved(signal.cursor).sequence == 9


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    "frame", [b"nonsense", b"[]", b"[" * 50_000, b'{"type":"message"}', b'{"type":"heartbeat"}', b"\xc3\xa4"]
)
async def test_garbage_from_a_hub_is_an_event_and_nothing_else(
    autojump_clock: MockClock, frame: bytes
) -> None:
    async with scripted(says(hello(7), frame, message(8))) as hub, hub.client() as signal:
        strange, after = await take(signal, 2)
        assert isinstance(strange, Undecodable)
        assert strange.raw == frame
        assert texts_in([after]) == ["m8"]
        figures = signal.statistics()
        assert (figures.generation, figures.receiving.undecodable) == (1, 1)


@pytest.mark.contract("R8")
async def test_endless_garbage_fills_the_inbox_and_no_more(autojump_clock: MockClock) -> None:
    async def flood(line: Line) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(line.serve)
            await line.open(hello(7))
            for _ in range(200):
                await line.tell(*[b"x" * 1000] * 100)

    async with scripted(flood) as hub, hub.client(inbox_size=50) as signal:
        await signal.wait_state(CONNECTED)
        await trio.sleep(5)
        inbox = signal.statistics().inbox
        assert (inbox.waiting, inbox.overflowed) == (51, 20_000 - 50)
        assert signal.state is CONNECTED


@pytest.mark.contract("R8", "R4", "R5")
async def test_an_overflow_is_a_gap_with_the_numbers_that_it_stands_for(autojump_clock: MockClock) -> None:
    frames = [hello(7), *(message(n) for n in range(8, 20))]
    async with scripted(says(*frames)) as hub, hub.client(inbox_size=4) as signal:
        await signal.wait_state(CONNECTED)
        await settled()
        *first, gap = await take(signal, 5)
        assert texts_in(first) == ["m8", "m9", "m10", "m11"]
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.first, gap.last, gap.count) == ("overflow", 12, 19, 8)
        assert saved(signal.cursor).sequence == 19
        await hub.lines[0].tell(message(20))
        assert texts_in(await take(signal, 1)) == ["m20"]


@pytest.mark.contract("R8", "R4")
async def test_an_overflow_over_two_numberings_names_no_numbers(autojump_clock: MockClock) -> None:
    scripts = (
        says(hello(7), *(message(n) for n in range(8, 12)), close=1000),
        says(hello(3, epoch="new"), *(message(n) for n in range(1, 4))),
    )
    async with scripted(*scripts) as hub, hub.client(inbox_size=2) as signal:
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        *first, gap = await take(signal, 3)
        assert texts_in(first) == ["m8", "m9"]
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.first, gap.last, gap.count) == ("overflow", None, None, None)
        assert saved(signal.cursor).position == ("new", 3)


@pytest.mark.contract("R7", "R3")
async def test_a_message_that_is_too_large_is_passed_over_when_it_ends_a_second_link(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    large = message(9, data=envelope("x" * 300_000))
    scripts = (
        says(hello(7), message(8), large, message(10)),
        says(hello(10), large, message(10)),
        says(hello(10), message(10)),
    )
    async with (
        scripted(*scripts) as hub,
        watched(hub, nursery, max_message_size=100_000) as (signal, changes),
    ):
        first, gap, last = await take(signal, 3)
        assert texts_in([first, last]) == ["m8", "m10"]
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.first, gap.last, gap.count) == ("overflow", 9, 9, 1)
        await settled()
        assert [getattr(change.error, "close_code", None) for change in ends(changes)] == [1009, 1009]
        assert [target.partition("&")[0] for target in hub.targets] == [
            "/websocket",
            "/websocket?since=8",
            "/websocket?since=9",
        ]


@pytest.mark.contract("R3")
async def test_something_too_large_that_does_not_come_again_costs_no_message(
    autojump_clock: MockClock,
) -> None:
    direct = as_json("direct", connection_sequence=1, timestamp=1, data="x" * 300_000)
    scripts = says(hello(7), message(8), direct, message(9)), says(hello(9), message(9))
    async with scripted(*scripts) as hub, hub.client(max_message_size=100_000) as signal:
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]
        assert signal.statistics().receiving.gaps == 0


async def test_a_message_of_the_largest_size_fits_with_what_the_hub_writes_around_it(
    autojump_clock: MockClock,
) -> None:
    data = envelope("")
    data["envelope"]["dataMessage"]["message"] = "x" * (100_000 - len(json.dumps(data)))
    assert len(json.dumps(data)) == 100_000
    async with scripted(says(hello(7), message(8, data=data))) as hub:
        async with hub.client(max_message_size=100_000) as signal:
            (large,) = await take(signal, 1)
            assert len(large.raw) == 100_000
            assert signal.statistics().generation == 1


@pytest.mark.contract("R3", "R5")
async def test_a_cursor_without_a_place_is_reported_and_everything_begins_now(
    autojump_clock: MockClock,
) -> None:
    await trio.sleep(50)
    cursor = Cursor(wall_ms() - 40_000)
    async with scripted(says(hello(7), message(8))) as hub, hub.client(cursor=cursor) as signal:
        assert signal.cursor == cursor
        await signal.wait_state(CONNECTED)
        gap, first = await take(signal, 2)
        assert gap == Gap(GapReason.GATEWAY, cursor.time, wall_ms())
        assert texts_in([first]) == ["m8"]
        assert hub.targets == ["/websocket"]
        assert saved(signal.cursor).sequence == 8


@pytest.mark.contract("R5")
async def test_a_client_that_never_got_through_gives_back_the_cursor_it_was_given(
    autojump_clock: MockClock,
) -> None:
    cursor = Cursor(5, EPOCH, 7)
    async with scripted(refuses(503)) as hub:
        async with hub.client(cursor=cursor) as signal:
            await trio.sleep(100)
            assert signal.cursor == cursor
        assert signal.cursor == cursor


@pytest.mark.contract("R5")
async def test_heartbeats_move_the_cursors_time_while_nothing_comes(autojump_clock: MockClock) -> None:
    async def beats(line: Line) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(line.serve)
            await line.open(hello(7))
            while True:
                await trio.sleep(15)
                await line.tell(heartbeat(7))

    async with scripted(beats) as hub, hub.client() as signal:
        await signal.wait_state(CONNECTED)
        before = saved(signal.cursor)
        await trio.sleep(100)
        after = saved(signal.cursor)
        assert (after.epoch, after.sequence) == (before.epoch, before.sequence)
        assert after.time == before.time + 90_000


# --- How links end. ---


@pytest.mark.contract("C6", "B3")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1012, Reason.GOING_DOWN),
        (4001, Reason.TOKEN_EXPIRED),
        (4008, Reason.TOO_SLOW),
        (1000, Reason.CLOSED_BY_GATEWAY),
        (1001, Reason.CLOSED_BY_GATEWAY),
        (1008, Reason.CLOSED_BY_GATEWAY),
        (1011, Reason.CLOSED_BY_GATEWAY),
    ],
)
async def test_each_end_is_named_and_followed_by_a_link_without_a_gap(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int, reason: Reason
) -> None:
    scripts = says(hello(7), message(8), close=code), says(hello(8))
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        await settled()
        (end,) = ends(changes)
        assert (end.reason, getattr(end.error, "close_code", None)) == (reason, code)
        assert gaps_in(await take(signal, signal.statistics().inbox.waiting)) == []


@pytest.mark.contract("B3")
@pytest.mark.parametrize(("asked", "slept"), [(0.1, 2), (40, 40), (1e9, 300)])
async def test_a_goodbye_says_when_to_come_back(
    autojump_clock: MockClock, nursery: trio.Nursery, asked: float, slept: float
) -> None:
    scripts = says(hello(7), as_json("goodbye", retry_after=asked), close=1012), says(hello(7))
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        await settled()
        assert [change.reason for change in ends(changes)] == [Reason.GOING_DOWN]
        assert sleeps(changes) == [0, slept]


@pytest.mark.contract("C6", "H9")
async def test_an_expired_token_is_replaced(autojump_clock: MockClock) -> None:
    tokens = iter(["first", "second"])
    expiring = as_json("token_expiring", expires_in=25)
    scripts = says(hello(7), expiring, message(8), close=4001), says(hello(8), message(9))
    async with scripted(*scripts) as hub, hub.client(token=lambda: next(tokens)) as signal:
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]
        assert [b"bearer first" in line.head.lower() for line in hub.lines] == [True, False]
        assert b"bearer second" in hub.lines[1].head.lower()


@pytest.mark.contract("L3", "L4")
async def test_a_hub_that_answers_pings_and_says_nothing_is_stalled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with scripted(says(hello(7)), says(hello(8), message(8))) as hub:
        async with watched(hub, nursery) as (signal, changes):
            assert texts_in(await take(signal, 1)) == ["m8"]
            await settled()
            (end,) = ends(changes)
            assert (end.time, end.reason) == (45, Reason.GATEWAY_STALLED)
            assert signal.statistics().receiving.gaps == 0


class Narrow(trio.abc.Stream):
    """A stream over which so many bytes come in a second."""

    def __init__(self, stream: trio.abc.Stream, rate: float) -> None:
        self._stream = stream
        self._rate = rate
        self._owed = 0.0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.sleep(self._owed)
        data = await self._stream.receive_some(4096)
        self._owed = len(data) / self._rate
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.contract("B5", "L2", "R3")
@pytest.mark.parametrize("head", [0, 1])
async def test_a_message_that_comes_slowly_is_waited_for(
    autojump_clock: MockClock, nursery: trio.Nursery, head: int
) -> None:
    """Longer than an attempt may take, and than a hub may be silent: its bytes come all the time."""

    async def script(line: Line) -> None:
        await line.open(hello(head))
        async with trio.open_nursery() as inner:
            inner.start_soon(line.serve)
            await line.tell(message(1, data=envelope("x" * 300_000)))
            while True:
                await trio.sleep(15)
                await line.tell(heartbeat(1))

    async with scripted(script) as hub:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return Narrow(await hub.connect(host, port), 3000)

        options = {"connect": connect, "cursor": Cursor(wall_ms(), EPOCH, 0)}
        async with watched(hub, nursery, **options) as (signal, changes):
            (received,) = await take(signal, 1)
            assert len(received.text) == 300_000
            assert trio.current_time() > 95
            await trio.sleep(60)
            assert signal.state is CONNECTED
            assert ends(changes) == []


@pytest.mark.contract("C3", "L3", "L4")
@pytest.mark.parametrize(
    "frame", [heartbeat(5), as_json("news"), as_json("direct", data={}), message(3)], ids=str
)
async def test_a_hub_that_never_gives_what_we_missed_is_left(
    autojump_clock: MockClock, nursery: trio.Nursery, frame: bytes
) -> None:
    async def script(line: Line) -> None:
        await line.open(hello(10))
        async with trio.open_nursery() as inner:
            inner.start_soon(line.serve)
            while True:
                await trio.sleep(15)
                await line.tell(frame)

    cursor = Cursor(wall_ms(), EPOCH, 5)
    async with scripted(script) as hub, watched(hub, nursery, cursor=cursor) as (_, changes):
        await trio.sleep(46)
        assert [end.reason for end in ends(changes)[:1]] == [
            Reason.HOLE if frame == heartbeat(5) else Reason.GATEWAY_STALLED
        ]


@pytest.mark.contract("R1", "R4")
async def test_what_is_too_large_and_has_no_number_takes_none(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    large = as_json("direct", data="x" * 300_000)
    scripts = says(hello(5), large), says(hello(5), large), says(hello(5), message(6))
    async with (
        scripted(*scripts) as hub,
        watched(hub, nursery, max_message_size=100_000) as (signal, _),
    ):
        assert texts_in(await take(signal, 1)) == ["m6"]
        assert hub.targets[1:] == [f"/websocket?since=5&epoch={EPOCH}"] * 2
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("L3", "C3")
async def test_a_hub_that_stops_in_the_middle_of_what_was_missed_is_stalled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    scripts = says(hello(9), message(8)), says(hello(9), message(9))
    cursor = Cursor(wall_ms(), EPOCH, 7)
    async with scripted(*scripts) as hub, watched(hub, nursery, cursor=cursor) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await settled()
        assert [change.current for change in changes] == [
            RECONNECTING,
            SYNCING,
            DISCONNECTED,
            RECONNECTING,
            SYNCING,
            CONNECTED,
        ]
        assert changes[2].reason is Reason.GATEWAY_STALLED
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]


class LateHub(ScriptedHub):
    """Takes its time over each send."""

    delay = 0.0

    async def _take_letter(self, line: Line) -> bool:
        await trio.sleep(self.delay)
        return await super()._take_letter(line)


@pytest.mark.contract("O11")
@pytest.mark.parametrize("delay", [98, 110])
async def test_a_send_may_wait_for_its_turn_at_the_hub(
    autojump_clock: MockClock, nursery: trio.Nursery, delay: float
) -> None:
    """25 s for its turn, 60 s for the gateway, 13 s for evidence, and the way."""
    hub = LateHub(nursery, says(hello()))
    hub.delay = delay
    async with hub.client() as signal:
        await signal.wait_state(CONNECTED)
        sent = await signal.send_message(PEER, "hello")
        begun = trio.current_time()
        await wait_done([sent])
        assert trio.current_time() - begun == min(delay, 105)
        assert isinstance(sent.outcome, Failed) is (delay > 105)


@pytest.mark.contract("L1")
async def test_a_hub_that_answers_no_ping_is_left(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def goes_silent(line: Line) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(line.serve)
            await line.open(hello(7))
            await trio.sleep(2)
            tasks.cancel_scope.cancel()
        await trio.sleep_forever()

    async with scripted(goes_silent, says(hello(7))) as hub, watched(hub, nursery) as (signal, changes):
        await signal.wait_state(CONNECTED)
        await signal.wait_state(DISCONNECTED)
        await settled()
        (end,) = ends(changes)
        assert end.reason is Reason.NO_ANSWER
        assert end.time == 15


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    "bad", [server_frame(b"\xff\xfe"), server_frame(b"x", 3), server_frame(b"x", mask=b"abcd")]
)
async def test_a_violation_of_the_websocket_protocol_ends_the_link_and_costs_nothing(
    autojump_clock: MockClock, bad: bytes
) -> None:
    async def violate(line: Line) -> None:
        await line.open(hello(7), message(8))
        async with trio.open_nursery() as tasks:
            tasks.start_soon(line.serve)
            await trio.sleep(1)
            await line.stream.send_all(bad)

    async with scripted(violate, says(hello(9), message(9))) as hub, hub.client() as signal:
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R7")
async def test_a_hub_that_says_hello_twice_is_left(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    scripts = says(hello(7), message(8), hello(8), message(9)), says(hello(9), message(9))
    async with scripted(*scripts) as hub, watched(hub, nursery) as (signal, changes):
        assert texts_in(await take(signal, 2)) == ["m8", "m9"]
        await settled()
        assert [change.reason for change in ends(changes)] == [Reason.CONNECTION_LOST]


@pytest.mark.contract("B2")
async def test_a_hub_whose_numbers_never_fit_is_not_dialled_in_a_hot_loop(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(7), message(9))) as hub, hub.client(backoff=Backoff()):
        await trio.sleep(600)
        assert 5 < len(hub.targets) <= 41


# --- What the answers to a send mean. ---


def body(**fields: object) -> bytes:
    return json.dumps({"error": "some words"} | fields).encode()


def told(result: SendResult) -> str:
    if not isinstance(result.outcome, Failed):
        return "sent"
    flags = [name for name in ("retry", "refused", "rate_limited") if getattr(result, name)]
    return " ".join([result.outcome.certainty.value, *flags])


ANSWERS: Final[list[tuple[int, bytes, str]]] = [
    (201, b'[{"timestamp":"7"}]', "sent"),
    (201, b'{"timestamp":"7"}', "sent"),
    (201, b"<html>", "unknown"),
    (400, body(certainty="not_sent"), "not_sent"),
    (400, body(), "not_sent"),
    (400, body(certainty="unknown"), "unknown"),
    (401, body(), "not_sent refused"),
    (403, body(), "not_sent refused"),
    (403, body(certainty="unknown"), "unknown"),
    (404, b"not found", "not_sent"),
    (405, body(), "not_sent"),
    (408, body(), "not_sent"),
    (408, b"<html>a proxy's</html>", "unknown"),
    (413, body(), "not_sent"),
    (414, body(), "not_sent"),
    (415, body(), "not_sent"),
    (422, body(), "not_sent"),
    (429, body(), "not_sent retry"),
    (431, body(), "not_sent"),
    (300, b"", "not_sent"),
    (301, b"", "not_sent"),
    (499, b"", "not_sent"),
    (299, b"", "unknown"),
    (500, b"", "unknown"),
    (500, body(), "unknown"),
    (502, b"<html>bad gateway</html>", "unknown"),
    (503, body(certainty="not_sent"), "not_sent retry"),
    (503, b"<html>no hub</html>", "not_sent retry"),
    (503, body(certainty="unknown"), "unknown"),
    (504, body(certainty="unknown"), "unknown"),
    (504, b"<html>gateway time-out</html>", "unknown"),
    (504, body(certainty="not_sent"), "not_sent"),
    (504, body(certainty="unknown", challenge_tokens=["t", ""]), "unknown rate_limited"),
    (504, body(certainty="perhaps"), "unknown"),
    (504, body(certainty=["unknown"]), "unknown"),
    (200, b'[{"timestamp":"7"}]', "unknown"),
    (204, b"", "unknown"),
]


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize(("status", "content", "expected"), ANSWERS)
def test_each_answer_to_a_send_means_one_thing(status: int, content: bytes, expected: str) -> None:
    result = read_hub_answer(status, content, recipient=PEER, wait=7.0)
    assert told(result) == expected
    if status != 201:
        assert result.retry_after == 7
    if isinstance(result.outcome, Failed) and status != 201:
        assert isinstance(result.outcome.error, AnswerError)
        assert result.outcome.error.status == status
        assert str(result.outcome.error).startswith(f"the hub answered HTTP {status}")


@pytest.mark.contract("O6")
def test_an_answer_is_told_in_the_hubs_own_words() -> None:
    result = read_hub_answer(400, body(), recipient=PEER, wait=None)
    assert isinstance(result.outcome, Failed)
    assert str(result.outcome.error) == "the hub answered HTTP 400: some words"


@pytest.mark.contract("O6")
@pytest.mark.parametrize("content", [b"\xff", b"[" * 50_000, b"null", b"5", b"[]", b""])
def test_an_answer_without_sense_is_read_by_its_status(content: bytes) -> None:
    assert told(read_hub_answer(504, content, recipient=PEER, wait=None)) == "unknown"
    assert told(read_hub_answer(400, content, recipient=PEER, wait=None)) == "not_sent"
    assert told(read_hub_answer(201, content, recipient=PEER, wait=None)) == "unknown"


# --- Sending. ---


@asynccontextmanager
async def connected(hub: ScriptedHub, **options: Any) -> AsyncGenerator[SignalClient]:
    async with hub.client(**options) as signal:
        await signal.wait_state(CONNECTED)
        yield signal


def letters(hub: ScriptedHub) -> list[str]:
    return [letter["message"] for letter in hub.letters]


@pytest.mark.contract("O1", "O4", "O7")
async def test_sends_go_to_the_hub_in_order(autojump_clock: MockClock) -> None:
    async with scripted(says(hello())) as hub, connected(hub) as signal:
        sent = await send_all(signal, ["one", "two", "three"])
        await wait_done(sent)
        assert [outcome_of(message) for message in sent] == ["sent"] * 3
        assert letters(hub) == ["one", "two", "three"]
        assert hub.letters[0] == {"number": ACCOUNT, "recipients": [PEER], "message": "one"}


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer(400, {"error": "no", "certainty": "not_sent"}), "failed: not_sent"),
        (answer(504, {"error": "?", "certainty": "unknown"}), "failed: unknown"),
        (answer(422, {"error": "mentions"}), "failed: not_sent"),
        (answer(502, b"<html>", Connection="close"), "failed: unknown"),
        (b"garbage\r\n\r\n", "failed: unknown"),
        (None, "failed: unknown"),
    ],
    ids=["not-sent", "unknown", "refused", "proxy", "garbage", "lost"],
)
async def test_an_end_of_a_send_is_final(
    autojump_clock: MockClock, reply: bytes | None, outcome: str
) -> None:
    async with scripted(says(hello())) as hub, connected(hub) as signal:
        hub.sends.append(reply)
        sent = await send_all(signal, ["one", "two"])
        await wait_done(sent)
        assert [outcome_of(message) for message in sent] == [outcome, "sent"]
        assert letters(hub) == ["one", "two"]


@pytest.mark.contract("O4", "O6", "B3")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_send_for_which_there_is_no_room_waits_in_its_place(
    autojump_clock: MockClock, status: int
) -> None:
    async with scripted(says(hello())) as hub, connected(hub) as signal:
        hub.sends.extend([answer(status, {"error": "later"}, Retry_After=30)] * 2)
        sent = await send_all(signal, ["one", "two"])
        await wait_done(sent)
        assert [outcome_of(message) for message in sent] == ["sent"] * 2
        assert letters(hub) == ["one", "one", "one", "two"]
        assert trio.current_time() == 60
        # It is the hub's own limit: Signal wants nothing solved and no pause.
        assert signal.statistics().inbox.waiting == 0


@pytest.mark.contract("C6", "O6")
async def test_a_send_that_is_refused_asks_for_another_token(autojump_clock: MockClock) -> None:
    tokens = iter(range(10))
    async with scripted(says(hello())) as hub, connected(hub, token=lambda: f"t{next(tokens)}") as signal:
        hub.sends.append(answer(401, {"error": "unauthorized"}))
        (sent,) = await send_all(signal, ["one"])
        await wait_done([sent])
        assert outcome_of(sent) == "sent"
        heads = [head.lower() for head in hub.heads if head.startswith(b"POST")]
        assert [b"bearer t0" in head for head in heads] == [True, False]


@pytest.mark.contract("O6")
async def test_signals_own_limit_is_told_with_what_to_solve(autojump_clock: MockClock) -> None:
    limited = {"error": "rate limit", "certainty": "unknown", "challenge_tokens": ["solve me"]}
    async with scripted(says(hello())) as hub, connected(hub) as signal:
        hub.sends.append(answer(504, limited))
        sent = await send_all(signal, ["one", "two"])
        await wait_done(sent)
        assert [outcome_of(message) for message in sent] == ["failed: unknown", "sent"]
        assert await take(signal, 1) == [ChallengeRequired(("solve me",), ACCOUNT, 60)]
        assert trio.current_time() == 60


@pytest.mark.contract("O10", "O4")
async def test_a_lost_link_cuts_no_send_and_the_others_follow_in_order(autojump_clock: MockClock) -> None:
    scripts = says(hello(), close=1000), says(hello())
    async with scripted(*scripts) as hub, connected(hub) as signal:
        await trio.sleep(9)
        sent = await send_all(signal, [str(n) for n in range(5)])
        await trio.sleep(2)
        sent += await send_all(signal, ["5"])
        await wait_done(sent)
        assert {outcome_of(message) for message in sent} == {"sent"}
        assert letters(hub) == [str(n) for n in range(6)]


@pytest.mark.parametrize("cursor", [None, Cursor(1, EPOCH, 0)])
async def test_a_client_of_the_callers_own_sends(autojump_clock: MockClock, cursor: Cursor | None) -> None:
    """What has the shape of httpx's client may be given in place of ours."""
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.method == "POST":
            return httpx.Response(201, stream=httpx.ByteStream(b'[{"timestamp":"9"}]'))
        said = json.dumps({"mode": "trio-signal-hub", "account": ACCOUNT}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(said))

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        async with scripted(says(hello())) as hub:
            async with connected(hub, http_client=http, cursor=cursor) as signal:
                (sent,) = await send_all(signal, ["one"])
                await wait_done([sent])
                assert outcome_of(sent) == "sent"
    assert asked == ["/v1/about", "/status", "/v2/send"]


# --- Secrets. ---


@pytest.mark.threat("T14")
async def test_no_secret_shows_in_log_error_or_repr(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = refuses(401), says(hello(), close=4001), refuses(503), says(hello())
    async with scripted(*scripts) as hub:
        async with watched(hub, nursery, token=lambda: "secret-token") as (signal, changes):
            await signal.wait_state(CONNECTED)
            await trio.sleep(60)
            await wait_done(await send_all(signal, ["one"]))
            shown = [repr(signal), str(signal.statistics()), *(str(change) for change in changes)]
    shown += [record.getMessage() + str(record.exc_text) for record in caplog.records]
    assert not any("secret-token" in text for text in shown)

"""Receiving, end to end: once, in order, gaps in place, the cursor, a bounded inbox, whatever bytes come."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    ChallengeRequired,
    Cursor,
    Gap,
    GapReason,
    MessageKind,
    ReceivedMessage,
    SignalClient,
    StateChange,
    Undecodable,
)
from trio_signal._inbox import Inbox
from trio_signal._journal import MemoryJournal
from trio_signal._receiver import Receiver, WallClock
from trio_signal.testing import FakeGateway, close_frame, envelopes, rate_limited, server_frame

from .scene import (
    CONNECTED,
    DISCONNECTED,
    PEER,
    WatchedStream,
    check_gaps,
    collect,
    connected,
    gaps_in,
    open_client,
    open_gateway,
    record,
    saved,
    send_all,
    settled,
    texts_in,
    wait_done,
    wall_ms,
)
from .stores import KilledStore


def deliver_many(gateway: FakeGateway, count: int, start: int = 0) -> list[str]:
    """Deliver numbered messages and return their texts."""
    texts = [f"m{n}" for n in range(start, start + count)]
    for text in texts:
        gateway.deliver(text=text)
    return texts


async def take(signal: SignalClient, count: int) -> list[Any]:
    """Take events from the inbox."""
    events = signal.events()
    return [await anext(events) for _ in range(count)]


# --- once and in order ---


@pytest.mark.contract("R1")
async def test_messages_come_once_and_in_order(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        texts = deliver_many(gateway, 500)
        assert texts_in(await take(signal, 500)) == texts
        assert signal.statistics().receiving.received == 500
        assert signal.statistics().inbox.waiting == 0


@pytest.mark.contract("R1", "R6")
async def test_duplicates_are_dropped_and_counted(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.duplicate(3)
        texts = deliver_many(gateway, 6)
        await gateway.wait_delivered()
        await settled()
        assert texts_in(await take(signal, 6)) == texts
        figures = signal.statistics().receiving
        assert (figures.received, figures.duplicates) == (6, 3)
        assert signal.statistics().inbox.waiting == 0


@pytest.mark.contract("R1", "R6")
async def test_duplicates_are_dropped_over_reconnections_and_after_thousands_of_others(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        first = gateway.deliver(text="first")
        assert texts_in(await take(signal, 1)) == ["first"]
        texts = deliver_many(gateway, 5000)
        assert texts_in(await take(signal, 5000)) == texts
        gateway.drop()
        await gateway.wait_handshakes(2)
        gateway.deliver_raw(first)
        gateway.deliver(text="new")
        assert texts_in(await take(signal, 2)) == ["new"]
        assert signal.statistics().receiving.duplicates == 1


@pytest.mark.contract("R6")
@pytest.mark.parametrize(
    "other",
    [
        {"sender": "+15550009"},
        {"timestamp": 1_795_302_000_001},
        {"group": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
    ],
    ids=str,
)
async def test_messages_that_share_less_than_everything_are_no_duplicates(
    autojump_clock: MockClock, other: dict[str, Any]
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        options: dict[str, Any] = {"text": "hi", "timestamp": 1_795_302_000_000}
        gateway.deliver(**options)
        gateway.deliver(**(options | other))
        gateway.deliver(envelopes.typing(), timestamp=1_795_302_000_000)
        gateway.deliver(**options)
        gateway.deliver(text="end")
        assert texts_in(await take(signal, 4)) == ["hi", "hi", None, "end"]
        assert signal.statistics().receiving.duplicates == 1


@pytest.mark.contract("R1", "R3")
async def test_a_message_right_behind_the_handshake_is_not_lost(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []

        async def greet() -> None:
            for n in range(1, 6):
                await gateway.wait_handshakes(n)
                deliver_many(gateway, 3, start=10 * n)
                gateway.send_frame(close_frame(1001))

        async with open_client(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            nursery.start_soon(greet)
            await trio.sleep(200)
        expected: list[str] = []
        for n in range(1, 6):
            expected += [*(f"m{10 * n + i}" for i in range(3)), "gap"]
        # Each gap stands before the first message behind it, though that came before our first pong.
        assert ["gap" if isinstance(event, Gap) else event.text for event in events] == expected
        check_gaps(gaps_in(events))


@pytest.mark.contract("R1", "R3")
@pytest.mark.parametrize("end", ["close", "drop-after-writing", "cut"])
@pytest.mark.parametrize("count", [1, 10, 3000])
async def test_what_was_written_before_the_end_arrives_before_the_gap(
    autojump_clock: MockClock, end: str, count: int
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(60)
        texts = deliver_many(gateway, count)
        if end == "close":
            gateway.close(1001)
        elif end == "cut":
            gateway.cut(10)
            gateway.deliver(text="cut in half")
        else:
            await gateway.wait_delivered()
            gateway.drop()
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        gateway.deliver(text="after")
        events = await take(signal, count + 2)
        assert texts_in(events) == [*texts, "after"]
        assert isinstance(events[-2], Gap)


class _Mute(WatchedStream):
    """A stream on which our pings are lost, but for the first, which proves that the link stands."""

    _pinged = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        is_ping = bytes(data[:1]) == b"\x89"
        if not (is_ping and self._pinged):
            await super().send_all(data)
        self._pinged = self._pinged or is_ping


def numbered_frame(gateway: FakeGateway, n: int) -> bytes:
    """Make a message of its own, as the frame that the gateway would write."""
    envelope = envelopes.text(f"m{n}", timestamp=1_795_400_000_000 + n)
    return server_frame(json.dumps({"envelope": envelope, "account": gateway.account}).encode())


@pytest.mark.contract("R1", "R3")
@pytest.mark.parametrize("end", ["close", "drop"])
@pytest.mark.parametrize("count", [1, 5, 300, 2500])
async def test_what_was_written_arrives_though_a_ping_of_ours_was_waiting(
    autojump_clock: MockClock, end: str, count: int
) -> None:
    """The watch over the link fails in the same moment in which the last messages come in."""
    async with open_gateway() as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return _Mute(await gateway.connect(host, port))

        async with connected(gateway, connect=connect, inbox_size=30_000) as signal:
            expected: list[str] = []
            lost = 0
            for n in range(8):
                (sock,) = gateway.connections
                gateway.deliver(text=f"first{n}")
                expected.append(f"first{n}")
                await trio.sleep(12)  # a ping has been waiting for two seconds
                expected += [f"m{n * 10_000 + i}" for i in range(count)]
                frames = b"".join(numbered_frame(gateway, n * 10_000 + i) for i in range(count))
                sock.send_frame(frames + (close_frame(1001) if end == "close" else b""))
                if end == "drop":
                    await gateway.wait_delivered()
                    sock.drop()
                await signal.wait_state(DISCONNECTED)
                lost += 1
                await signal.wait_state(CONNECTED)
            await settled()
            events = await take(signal, signal.statistics().inbox.waiting)
            assert texts_in(events) == expected
            assert len(gaps_in(events)) == lost


@pytest.mark.contract("R7", "R1")
@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_slices_and_fragments_make_no_difference(autojump_clock: MockClock, size: int) -> None:
    async with open_gateway() as gateway:
        gateway.split(size)
        async with connected(gateway) as signal:
            gateway.fragment()
            texts = deliver_many(gateway, 5)
            assert texts_in(await take(signal, 5)) == texts


# --- gaps and the cursor ---


@pytest.mark.contract("R3", "R4")
async def test_the_first_connection_makes_no_gap_however_late_it_comes(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(5)
        async with open_client(gateway) as signal:
            await signal.wait_state(CONNECTED)
            assert trio.current_time() == 2 + 4 + 8 + 16 + 32
            gateway.deliver(text="one")
            assert texts_in(await take(signal, 1)) == ["one"]
            assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("R4")
async def test_a_stalled_gateway_is_a_gap_of_its_own_kind_from_its_last_real_sign_of_life(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(54)  # the gateway has pinged
        await trio.sleep(6)
        gateway.deliver(text="last")
        await settled()
        last = wall_ms()
        gateway.stall()
        gateway.deliver(text="kept")
        gateway.deliver(text="lost")
        await trio.sleep(70)
        gateway.heal()
        await trio.sleep(10)
        events = await take(signal, signal.statistics().inbox.waiting)
        (gap,) = gaps_in(events)
        assert gap.reason is GapReason.STALLED
        assert gap.since <= last
        assert gap.until >= last + 54_000
        assert texts_in(events)[0] == "last"


@pytest.mark.contract("R5")
async def test_the_cursor_moves_only_when_something_is_taken(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    store = KilledStore(tmp_path).store
    async with open_gateway() as gateway, open_client(gateway, store=store) as signal:
        assert signal.cursor is None
        await signal.wait_state(CONNECTED)
        start = saved(signal.cursor).time
        for n in range(5):
            await trio.sleep(100)
            deliver_many(gateway, 1, start=n)
            await settled()
        waiting = saved(signal.cursor).time
        assert waiting == start + 100_000  # where the first one came in
        positions: list[int] = []
        events = signal.events()
        for _ in range(5):
            await anext(events)
            positions.append(saved(signal.cursor).time)
        assert positions[:4] == [start + 100_000 * n for n in (2, 3, 4, 5)]
        assert positions[4] == wall_ms()
        assert signal._journal.cursor == signal.cursor  # so the store on disk is told
        assert positions == sorted(positions)


@pytest.mark.contract("R5", "R3")
async def test_what_was_not_taken_is_in_the_next_processes_gap(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            await trio.sleep(50)
            deliver_many(gateway, 3)
            assert texts_in(await take(signal, 1)) == ["m0"]
            await settled()
            came = wall_ms()
            await trio.sleep(50)
        cursor = saved(signal.cursor)
        assert cursor.time <= came
        await trio.sleep(10)
        async with connected(gateway, cursor=cursor) as signal:
            (gap,) = await take(signal, 1)
            assert isinstance(gap, Gap)
            assert gap.since <= came <= gap.until


@pytest.mark.contract("R5")
async def test_the_cursor_is_plain_data(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        cursor = saved(signal.cursor)
        again = Cursor(**json.loads(json.dumps({"time": cursor.time})))
        assert again == cursor
        assert (cursor.epoch, cursor.sequence) == (None, None)


@pytest.mark.contract("R5", "R3")
async def test_the_cursor_of_an_absence_is_where_it_began(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(100)
        gateway.refuse(None)
        gateway.drop()
        await signal.wait_state(DISCONNECTED)
        lost = saved(signal.cursor).time
        assert wall_ms() - 10_000 <= lost <= wall_ms()
        await trio.sleep(1000)
        assert saved(signal.cursor).time == lost
        gateway.heal()
        await signal.wait_state(CONNECTED)
        assert saved(signal.cursor).time == lost  # the gap waits in the inbox
        (gap,) = await take(signal, 1)
        assert isinstance(gap, Gap)
        assert saved(signal.cursor).time > lost


# --- the bounded inbox ---


@pytest.mark.contract("R8", "R3", "L2")
async def test_what_does_not_fit_is_one_gap_in_its_place(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_size=10) as signal:
        deliver_many(gateway, 15)
        await gateway.wait_delivered()
        await settled()
        begun = wall_ms()
        await trio.sleep(30)
        deliver_many(gateway, 5, start=15)
        await gateway.wait_delivered()
        await settled()
        ended = wall_ms()
        figures = signal.statistics().inbox
        assert (figures.waiting, figures.overflowed) == (11, 10)
        events = await take(signal, 11)
        assert texts_in(events) == [f"m{n}" for n in range(10)]
        assert events[-1] == Gap(GapReason.OVERFLOW, begun, ended, count=10)
        gateway.deliver(text="fits")
        assert texts_in(await take(signal, 1)) == ["fits"]


@pytest.mark.contract("R8")
async def test_the_inbox_is_bounded_in_bytes_too(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_bytes=50_000) as signal:
        for _ in range(20):
            gateway.deliver(text="x" * 10_000)
        await gateway.wait_delivered()
        await settled()
        assert signal.statistics().inbox.waiting_bytes <= 51_000
        events = await take(signal, signal.statistics().inbox.waiting)
        (gap,) = gaps_in(events)
        assert events[-1] is gap
        assert gap.count == 20 - len(texts_in(events))


@pytest.mark.contract("R8", "R3")
async def test_every_message_is_taken_or_counted_in_a_gap_with_a_consumer_that_comes_and_goes(
    autojump_clock: MockClock,
) -> None:
    rng = random.Random(8)
    async with open_gateway() as gateway, connected(gateway, inbox_size=20) as signal:
        events: list[Any] = []
        delivered = 0
        for _ in range(200):
            delivered += len(deliver_many(gateway, rng.randint(0, 15), start=delivered))
            await gateway.wait_delivered()
            await settled()
            ready = signal.statistics().inbox.waiting
            events += await take(signal, rng.randint(0, ready))
        events += await take(signal, signal.statistics().inbox.waiting)
        numbers = [int(text[1:]) for text in texts_in(events) if text]
        assert numbers == sorted(numbers)
        # Each gap stands exactly where its messages are missing, and counts them.
        at = 0
        for event in events:
            if isinstance(event, Gap):
                assert event.reason is GapReason.OVERFLOW
                assert event.count
                at += event.count
            else:
                assert event.text == f"m{at}"
                at += 1
        assert at == delivered


@pytest.mark.contract("R8", "R4")
async def test_an_absence_while_the_inbox_is_full_is_in_the_overflow_gap(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_size=3) as signal:
        await trio.sleep(60)
        deliver_many(gateway, 3)
        await settled()
        lost = wall_ms()
        gateway.drop()
        await signal.wait_state(DISCONNECTED)
        await signal.wait_state(CONNECTED)
        back = wall_ms()
        await settled()
        events = await take(signal, signal.statistics().inbox.waiting)
        (gap,) = gaps_in(events)
        assert gap.since <= lost
        assert gap.until >= back
        assert gap.count is None


async def test_a_challenge_is_not_lost_to_a_full_inbox(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_size=3) as signal:
        deliver_many(gateway, 5)
        await settled()
        gateway.script_send(rate_limited(("token",)))
        await wait_done(await send_all(signal, ["one"]))
        events = await take(signal, signal.statistics().inbox.waiting)
        assert [event for event in events if isinstance(event, ChallengeRequired)] == [
            ChallengeRequired(("token",), gateway.account, 60)
        ]
        assert [gap.count for gap in gaps_in(events)] == [2]


@pytest.mark.contract("L2")
async def test_a_consumer_that_stops_for_an_hour_loses_no_connection(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        changes: list[StateChange] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(record, signal.state_changes(), changes)
            for n in range(360):
                deliver_many(gateway, 20, start=20 * n)
                await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert changes == []
        assert gateway.statistics().pongs_received == gateway.statistics().pings_sent > 60
        assert texts_in(await take(signal, 7200)) == [f"m{n}" for n in range(7200)]


@pytest.mark.contract("R1", "R8", "L2")
async def test_a_burst_of_a_hundred_thousand_messages(autojump_clock: MockClock) -> None:
    count = 100_000
    async with open_gateway() as gateway, connected(gateway, inbox_size=count) as signal:
        (sock,) = gateway.connections
        # Numbers of six digits keep the frame's length, so that one frame serves as the mould of all.
        mould = numbered_frame(gateway, 100_000)
        assert mould.count(b"100000") == mould.count(b"1795400100000") + 1 == 3
        for start in range(count, 2 * count, 1000):
            numbers = (b"%d" % n for n in range(start, start + 1000))
            sock.send_frame(b"".join(mould.replace(b"100000", n) for n in numbers))
        events = signal.events()
        for n in range(count, 2 * count):
            event = await anext(events)
            assert isinstance(event, ReceivedMessage)
            assert event.text == f"m{n}"
        assert signal.state is CONNECTED
        assert signal.statistics().inbox.overflowed == 0
        assert signal.statistics().generation == 1


# --- several loops ---


@pytest.mark.contract("R1")
async def test_two_loops_compete_for_the_messages_of_one_inbox(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        got: dict[str, list[Any]] = {"one": [], "two": []}

        async def loop(name: str) -> None:
            async for message in signal.receive_messages():
                got[name].append(message.text)
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop, "one")
            nursery.start_soon(loop, "two")
            texts = deliver_many(gateway, 100)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        assert sorted(got["one"] + got["two"]) == sorted(texts)
        assert len(got["one"]) == len(got["two"]) == 50
        for mine in got.values():
            assert mine == sorted(mine, key=texts.index)


@pytest.mark.contract("R1")
async def test_cancelling_a_loop_loses_no_message(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        got: list[str | None] = []
        rng = random.Random(1)

        async def deliver_slowly() -> None:
            for n in range(200):
                deliver_many(gateway, 1, start=n)
                await trio.sleep(rng.choice([0, 0, 0.01, 0.1]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver_slowly)
            while len(got) < 200:
                with trio.move_on_after(rng.choice([0, 0.005, 0.01, 0.05])):
                    got.append((await anext(signal.receive_messages())).text)
        assert got == [f"m{n}" for n in range(200)]


async def test_a_loop_that_never_waits_leaves_the_others_their_turn(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        deliver_many(gateway, 5000)
        await gateway.wait_delivered()
        await settled()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            events = signal.events()
            seen: list[int] = []
            for _ in range(5000):
                await anext(events)
                seen.append(turns)
            nursery.cancel_scope.cancel()
        # A turn is a thousand. Trio shuffles, so one can be the last of its round and the next the first.
        assert max(Counter(seen).values()) <= 2 * 1001


# --- whatever bytes come ---

FRAMES: dict[str, Callable[[FakeGateway], object]] = {
    "no-json": lambda gateway: gateway.deliver_raw("oops"),
    "half-json": lambda gateway: gateway.deliver_raw('{"envelope": {"source": '),
    "empty": lambda gateway: gateway.deliver_raw(""),
    "array": lambda gateway: gateway.deliver_raw("[1, 2]"),
    "array-of-envelopes": lambda gateway: gateway.deliver_raw('[{"envelope": {}}]'),
    "null": lambda gateway: gateway.deliver_raw("null"),
    "number": lambda gateway: gateway.deliver_raw("1e999"),
    "no-envelope": lambda gateway: gateway.deliver_raw('{"account": "+15550001"}'),
    "null-envelope": lambda gateway: gateway.deliver_raw('{"envelope": null}'),
    "envelope-text": lambda gateway: gateway.deliver_raw('{"envelope": "x"}'),
    "deep": lambda gateway: gateway.deliver_raw("[" * 100_000),
    "error": lambda gateway: gateway.deliver_error("Failed to load"),
    "binary": lambda gateway: gateway.send_frame(server_frame(b"\xff\x00\xfe", opcode=2)),
}


@pytest.mark.contract("R7")
@pytest.mark.parametrize("frame", FRAMES)
async def test_what_cannot_be_understood_is_an_event_and_nothing_else_happens(
    autojump_clock: MockClock, frame: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.deliver(text="before")
        FRAMES[frame](gateway)
        gateway.deliver(text="after")
        before, strange, after = await take(signal, 3)
        assert texts_in([before, after]) == ["before", "after"]
        assert isinstance(strange, Undecodable)
        assert strange.error == ("Failed to load" if frame == "error" else None)
        assert signal.statistics().receiving.undecodable == 1
        assert signal.statistics().generation == 1
        assert signal.state is CONNECTED


@pytest.mark.contract("R7")
async def test_what_cannot_be_understood_is_passed_over_by_who_reads_messages_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.deliver_raw('{"secret words')
        gateway.deliver_error("Failed")
        gateway.deliver_exception()
        gateway.deliver(text="fine")
        assert (await anext(signal.receive_messages())).text == "fine"
        assert "secret" not in caplog.text
        assert "could not be understood" in caplog.text


@pytest.mark.contract("R7")
async def test_an_envelope_with_an_exception_is_a_message_of_that_kind(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        raw = gateway.deliver_exception("UntrustedIdentityException", None)
        (message,) = await take(signal, 1)
        assert isinstance(message, ReceivedMessage)
        assert message.kind is MessageKind.EXCEPTION
        assert message.exception is not None
        assert message.exception.type == "UntrustedIdentityException"
        assert message.sender == PEER
        assert message.raw == raw


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"timestamp": None, "source": None, "dataMessage": None},
        {"timestamp": "soon", "source": 5, "dataMessage": []},
        {"source": PEER, "timestamp": -1, "dataMessage": {"message": 5, "timestamp": 1e300}},
        {"source": PEER, "timestamp": 2**70, "dataMessage": {"message": "hi", "attachments": "none"}},
        {"source": PEER, "timestamp": 1, "newKindOfMessage": {"x": [1, 2, 3]}},
        {"source": PEER, "timestamp": 1, "dataMessage": {"message": "hi", "unknown": {"deep": [None]}}},
    ],
    ids=lambda envelope: json.dumps(envelope)[:60],
)
async def test_missing_null_wrong_and_unknown_fields_are_survived(
    autojump_clock: MockClock, envelope: dict[str, Any]
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        raw = gateway.deliver_raw(json.dumps({"envelope": envelope, "account": gateway.account}))
        gateway.deliver(text="after")
        strange, after = await take(signal, 2)
        assert isinstance(strange, ReceivedMessage)
        assert strange.raw == raw
        assert texts_in([after]) == ["after"]
        assert signal.statistics().generation == 1


@pytest.mark.contract("R7")
async def test_bytes_drawn_at_random_tear_nothing_down(autojump_clock: MockClock) -> None:
    rng = random.Random(7)
    async with open_gateway() as gateway, connected(gateway) as signal:
        template = json.dumps({"envelope": envelopes.text("hi", timestamp=1_795_302_000_000)}).encode()
        for _ in range(1500):
            data = bytearray(template)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(32, 127)
            gateway.deliver_raw(bytes(data))
        gateway.deliver(text="after")
        await gateway.wait_delivered()
        await settled()
        events = await take(signal, signal.statistics().inbox.waiting)
        assert texts_in(events)[-1] == "after"
        assert signal.statistics().generation == 1
        figures = signal.statistics().receiving
        assert figures.received == len(events)
        assert figures.received + figures.duplicates == 1501


@pytest.mark.contract("R7", "R3", "C6")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(server_frame(b"\xff\xfe", opcode=1), 1007, id="bad-utf8"),
        pytest.param(server_frame(b"x", opcode=3), 1002, id="reserved-opcode"),
        pytest.param(server_frame(b"x" * 200_001), 1009, id="too-large"),
        pytest.param(server_frame(b"x", mask=b"abcd"), 1002, id="masked"),
    ],
)
async def test_a_violation_of_the_protocol_ends_the_connection_and_makes_a_gap(
    autojump_clock: MockClock, data: bytes, code: int
) -> None:
    async with open_gateway() as gateway, connected(gateway, max_message_size=200_000) as signal:
        changes = signal.state_changes()
        gateway.deliver(text="before")
        gateway.send_frame(data)
        lost = await anext(changes)
        assert lost.current is DISCONNECTED
        assert getattr(lost.error, "close_code", None) == code
        await signal.wait_state(CONNECTED)
        gateway.deliver(text="after")
        before, gap, after = await take(signal, 3)
        assert texts_in([before, after]) == ["before", "after"]
        assert isinstance(gap, Gap)


@pytest.mark.contract("R8")
@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_a_large_message_arrives_whole(autojump_clock: MockClock, size: int) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.deliver(text="x" * size)
        gateway.deliver(text="after")
        large, after = await take(signal, 2)
        assert large.text == "x" * size
        assert texts_in([after]) == ["after"]


@pytest.mark.contract("R7")
async def test_every_kind_of_event_reaches_who_asks_for_it(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        own = gateway.account
        made = [
            (MessageKind.MESSAGE, envelopes.text("hi")),
            (MessageKind.MESSAGE, envelopes.sticker()),
            (MessageKind.MESSAGE, envelopes.with_attachments()),
            (MessageKind.EDIT, envelopes.edit("new", 1_795_302_000_000)),
            (MessageKind.REACTION, envelopes.reaction("👍", 1_795_302_000_000)),
            (MessageKind.REMOTE_DELETE, envelopes.remote_delete(1_795_302_000_000)),
            (MessageKind.RECEIPT, envelopes.receipt(1_795_302_000_000, kind="read")),
            (MessageKind.TYPING, envelopes.typing()),
            (MessageKind.CALL, envelopes.call()),
            (MessageKind.STORY, envelopes.story()),
            (MessageKind.POLL_CREATE, envelopes.poll("lunch?", "yes", "no")),
            (MessageKind.PIN, envelopes.pin(1_795_302_000_000)),
            (MessageKind.MESSAGE, envelopes.sync_sent("mine", account=own)),
            (MessageKind.SYNC, envelopes.sync(account=own, type="CONTACTS_SYNC")),
        ]
        for _, envelope in made:
            gateway.deliver(envelope)
        kinds = set(MessageKind)
        stream = signal.receive_messages(kinds=kinds)
        # What has no place to answer to is not given even to who asks for its kind.
        given = [(kind, envelope) for kind, envelope in made if kind is not MessageKind.SYNC]
        for kind, _ in given:
            assert (await anext(stream)).kind is kind


@pytest.mark.contract("R3", "C4")
async def test_a_message_for_another_account_is_not_ours(autojump_clock: MockClock) -> None:
    async with open_gateway(accounts=["+15550001", "+15550077"]) as gateway, connected(gateway) as signal:
        gateway.deliver(text="for somebody else", account="+15550077")
        gateway.deliver(text="for us")
        assert texts_in(await take(signal, 1)) == ["for us"]


@pytest.mark.contract("L4")
async def test_the_figures_tell_of_the_link(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        before = signal.statistics()
        await trio.sleep(5)
        gateway.deliver(text="hi")
        await settled()
        after = signal.statistics()
        assert after.bytes_received > before.bytes_received
        assert (before.last_received, after.last_received) == (0, 5)
        assert after.inbox.waiting == 1
        gateway.half_open()
        await trio.sleep(15.001)
        assert signal.state is not CONNECTED
        assert signal.statistics().last_error is not None


class Eavesdropper:
    """Listens to a receiver, and knows some people."""

    def __init__(self, people: dict[str, str]) -> None:
        self.people = people
        self.heard: list[ReceivedMessage | Undecodable] = []

    def hear(self, event: ReceivedMessage | Undecodable) -> None:
        self.heard.append(event)

    def missed(self, until: int) -> None:
        """Nothing was expected of it."""


async def test_a_listener_is_told_of_all_that_it_can_learn_from() -> None:
    text = envelopes.text(sender=PEER)
    known = {text["sourceNumber"]: text["sourceUuid"]}
    other = dict(text, sourceUuid="00000000-0000-4000-8000-00000000abcd")
    learnt = [
        {"envelope": other},
        {"envelope": dict(text, sourceNumber="+15550999")},
        {"envelope": dict(text), "account": text["sourceNumber"]},
        {"envelope": dict(text), "exception": {"message": "not decrypted"}},
        {"envelope": dict(text, receiptMessage={"when": 1, "isDelivery": True, "timestamps": [1]})},
        {"envelope": dict(text, syncMessage={})},
        {"envelope": {name: value for name, value in text.items() if name != "dataMessage"}},
        {"error": "something"},
    ]
    nothing_new = [
        {"envelope": text, "account": "+15550001"},
        {"envelope": dict(text, sourceNumber=None), "account": "+15550001"},
        {"envelope": dict(text, sourceUuid=None), "account": "+15550001"},
    ]
    listener, inbox = Eavesdropper(known), Inbox()
    receiver = Receiver(inbox, MemoryJournal(), WallClock(), listener)
    receiver.take_in(
        [json.dumps(_at(frame, number)).encode() for number, frame in enumerate([*learnt, *nothing_new], 1)]
    )
    assert [json.loads(event.raw) for event in listener.heard] == [
        _at(frame, number) for number, frame in enumerate(learnt, 1)
    ]
    assert inbox.statistics().waiting == len(learnt) + len(nothing_new)


def _at(frame: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a frame with a timestamp of its own."""
    if "envelope" not in frame:
        return frame
    envelope = dict(frame["envelope"], timestamp=number)
    if "dataMessage" in envelope:
        envelope["dataMessage"] = dict(envelope["dataMessage"], timestamp=number)
    return dict(frame, envelope=envelope)

"""Several messages in flight: order inside each conversation, and what one message means for the others."""

import itertools
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Certainty,
    ChallengeRequired,
    Dropped,
    DropReason,
    Failed,
    MessageSettled,
    OutgoingMessage,
    RateLimit,
    Sent,
    SignalClient,
    Store,
)
from trio_signal.gateways._turn import Turn
from trio_signal.store import inline
from trio_signal.store._batch import MessageState
from trio_signal.testing import FakeGateway, daemon_down, error, hang, lost, ok, rate_limited, slow

from .scene import (
    PEER,
    check_ledger,
    collect,
    connected,
    open_client,
    open_gateway,
    outcomes_of,
    settled,
    texts_at,
    wait_done,
)
from .stores import KilledStore
from .test_cancellation import cancelled_at, sweep

PEOPLE = [f"+1555{number:04}" for number in range(100, 108)]


async def write(signal: SignalClient, *texts: str, **options: Any) -> list[OutgoingMessage]:
    """Accept messages; the first letter of a text says whom it is for."""
    return [await signal.send_message(PEOPLE["abcdefgh".index(text[0])], text, **options) for text in texts]


def arrived(gateway: FakeGateway) -> dict[str, list[str]]:
    """What came to the gateway, by conversation, in the order in which it came."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for send in gateway.received:
        found[send.message[0]].append(send.message)
    return found


def times_at(gateway: FakeGateway) -> dict[str, list[float]]:
    """When the attempts at each message came, on Trio's clock."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for send in gateway.received:
        found[send.message].append(send.time)
    return found


# --- order ---


@pytest.mark.contract("O1", "O4", "O7")
@pytest.mark.parametrize("limit", [1, 2, 5, 256])
async def test_so_many_leave_at_once_and_one_of_each_conversation(
    autojump_clock: MockClock, limit: int
) -> None:
    async with (
        open_gateway(answer_delay=1.0) as gateway,
        connected(gateway, rate_limit=None, max_in_flight=limit) as signal,
    ):
        messages = await write(signal, *(f"{who}{n}" for n in range(5) for who in "abcdefgh"))
        start = trio.current_time()
        await wait_done(messages)
        assert gateway.statistics().most_sends_in_flight == min(limit, 8)
        assert trio.current_time() - start == pytest.approx(40 / min(limit, 8), abs=0.5)
        assert arrived(gateway) == {who: [f"{who}{n}" for n in range(5)] for who in "abcdefgh"}
        assert outcomes_of(messages) == ["sent"] * 40
        check_ledger(signal, messages)


@pytest.mark.contract("O4", "O10")
async def test_a_conversation_of_many_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    async with (
        open_gateway(answer_delay=1.0) as gateway,
        connected(gateway, rate_limit=None, max_in_flight=2) as signal,
    ):
        many = await write(signal, *(f"a{n}" for n in range(10)))
        (other,) = await write(signal, "b0")
        await other.wait()
        assert sorted(texts_at(gateway)[:2]) == ["a0", "b0"]
        assert trio.current_time() == pytest.approx(1.0, abs=0.1)
        await wait_done(many)
        assert gateway.statistics().most_sends_in_flight == 2
        assert arrived(gateway)["a"] == [f"a{n}" for n in range(10)]


@pytest.mark.contract("O4", "O7")
async def test_one_at_a_time_keeps_the_order_of_all(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway, rate_limit=None) as signal:
        gateway.script_send(ok(), daemon_down(), ok(), error(503))
        messages = await write(signal, "a0", "b0", "c0", "a1", "b1")
        await wait_done(messages)
        assert list(dict.fromkeys(texts_at(gateway))) == ["a0", "b0", "c0", "a1", "b1"]
        assert gateway.statistics().most_sends_in_flight == 1


@pytest.mark.contract("O4")
async def test_who_is_told_first_that_a_message_is_accepted_is_sent_first(autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def accept(signal: SignalClient, text: str) -> None:
        await signal.send_message(PEER, text)
        told.append(text)

    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway, rate_limit=None) as signal:
        # Trio runs tasks in an order of its own, and the first of each round finds the send task waiting.
        for number in range(20):
            async with trio.open_nursery() as nursery:
                for who in "abcd":
                    nursery.start_soon(accept, signal, f"{who}{number}")
            await trio.sleep(1)
        assert texts_at(gateway) == told
        assert len(told) == 80
    assert {text[0] for text in told[::4]} > {told[0][0]}, "it was always the same one"


class Steps(trio.abc.Instrument):
    """Counts how often the task that makes it has let the others run."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self.task


@pytest.mark.contract("O9")
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_loop_of_sends_gives_the_others_their_turn(autojump_clock: MockClock, limit: int) -> None:
    steps = Steps()
    async with (
        open_gateway() as gateway,
        connected(gateway, rate_limit=None, max_in_flight=limit, close_timeout=0) as signal,
    ):
        gateway.script_send(*[hang()] * limit)
        counts: list[int] = []
        messages: list[OutgoingMessage] = []
        trio.lowlevel.add_instrument(steps)
        for who in "abcdefgh":
            before = steps.count
            messages += await write(signal, who)
            counts.append(steps.count - before)
        trio.lowlevel.remove_instrument(steps)
        # Only what the send task has at once needs none.
        assert counts == [0] * limit + [1] * (8 - limit)
        await settled()
        assert sorted(texts_at(gateway)) == list("abcdefgh"[:limit])
    assert outcomes_of(messages) == ["failed: unknown"] * limit + ["dropped: closed"] * (8 - limit)


@pytest.mark.contract("O9")
async def test_a_cancelled_send_accepts_nothing_though_it_needs_no_turn(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None) as signal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await write(signal, "a0")
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert texts_at(gateway) == []
        check_ledger(signal, [])


@pytest.mark.contract("O4")
async def test_order_is_kept_over_reconnections_and_lost_links(autojump_clock: MockClock) -> None:
    async with (
        open_gateway(answer_delay=0.2) as gateway,
        connected(gateway, rate_limit=None, max_in_flight=4) as signal,
    ):
        messages: list[OutgoingMessage] = []
        for n in range(6):
            messages += await write(signal, *(f"{who}{n}" for who in "abcde"))
            await trio.sleep(0.3)
            gateway.refuse(1)
            gateway.drop()
        await wait_done(messages)
        assert arrived(gateway) == {who: [f"{who}{n}" for n in range(6)] for who in "abcde"}
        check_ledger(signal, messages)


# --- what one means for the others ---


@pytest.mark.contract("O4", "O6")
@pytest.mark.parametrize("trouble", ["503", "daemon down"])
async def test_a_retried_message_holds_back_its_own_conversation_only(
    autojump_clock: MockClock, trouble: str
) -> None:
    answer = error(503, retry_after=30) if trouble == "503" else daemon_down()
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=2) as signal:
        gateway.script_send(answer)
        messages = await write(signal, "a0")
        await gateway.wait_received(1)
        messages += await write(signal, "a1", "b0", "c0", "b1")
        start = trio.current_time()
        await messages[-1].wait()
        assert trio.current_time() == start
        await wait_done(messages)
        assert trio.current_time() >= start + 1
        assert texts_at(gateway) == ["a0", "b0", "c0", "b1", "a0", "a1"]
        assert outcomes_of(messages) == ["sent"] * 5


@pytest.mark.contract("O4", "O5")
async def test_at_least_once_keeps_a_doubtful_message_before_its_conversation_only(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_gateway() as gateway,
        connected(gateway, rate_limit=None, max_in_flight=2, delivery="at_least_once") as signal,
    ):
        gateway.script_send(lost())
        messages = await write(signal, "a0")
        await gateway.wait_received(1)
        messages += await write(signal, "a1", "b0", "b1")
        await messages[3].wait()
        assert messages[1].outcome is None
        await wait_done(messages)
        assert arrived(gateway) == {"a": ["a0", "a0", "a1"], "b": ["b0", "b1"]}
        assert outcomes_of(messages) == ["sent"] * 4


@pytest.mark.contract("O12", "O4")
async def test_the_next_of_a_conversation_leaves_when_the_one_before_is_withdrawn(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=3) as signal:
        gateway.script_send(*[error(503, retry_after=300)] * 2)
        first, other, second = await write(signal, "a0", "b0", "a1")
        await gateway.wait_received(2)
        await settled()
        assert signal.statistics().in_flight == 2
        assert first.withdraw()
        await second.wait()
        assert outcomes_of([first, other, second]) == ["dropped: withdrawn", "pending", "sent"]
        assert trio.current_time() < 1


@pytest.mark.contract("O8")
async def test_what_expires_while_its_conversation_is_busy_is_never_sent(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=3) as signal:
        gateway.script_send(slow(10))
        (first,) = await write(signal, "a0")
        (late,) = await write(signal, "a1", deadline=trio.current_time() + 5)
        (last,) = await write(signal, "a2")
        await wait_done([first, late, last])
        assert outcomes_of([first, late, last]) == ["sent", "dropped: expired", "sent"]
        assert texts_at(gateway) == ["a0", "a2"]


@pytest.mark.contract("O3")
async def test_the_buffer_s_bound_holds_and_the_oldest_that_waits_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_gateway(answer_delay=10) as gateway,
        connected(gateway, rate_limit=None, max_in_flight=2, buffer_size=2) as signal,
    ):
        messages = await write(signal, "a0", "a1", "a2", "b0", "b1", "c0")
        await settled()
        assert outcomes_of(messages) == [
            "pending",
            *["dropped: overflow"] * 2,
            "pending",
            "pending",
            "pending",
        ]
        assert (signal.statistics().in_flight, signal.statistics().buffer.waiting) == (2, 2)
        await wait_done(messages)
        assert [sorted(texts_at(gateway)[n : n + 2]) for n in (0, 2)] == [["a0", "b0"], ["b1", "c0"]]


# --- limits ---


@pytest.mark.contract("O6")
async def test_the_pause_for_a_limit_holds_back_all_and_is_one_for_all_who_met_it(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(answer_delay=1.0) as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        async with connected(gateway, rate_limit=None, max_in_flight=4) as signal:
            nursery.start_soon(collect, signal.events(), events)
            gateway.script_send(
                rate_limited(("token-1",)), slow(2), rate_limited(("token-1",)), rate_limited(("token-2",))
            )
            messages = await write(signal, *(f"{who}{n}" for n in range(2) for who in "abcd"))
            await gateway.wait_received(4)
            await trio.sleep(3)
            # Not 60, 120 and 240: they had left before the limit was known. Nor does a success end it.
            assert signal.statistics().paused_until == pytest.approx(61, abs=0.1)
            gateway.script_send(*[rate_limited(None)] * 4)
            await wait_done(messages)
            later = sorted(itertools.chain(*times_at(gateway).values()))[4:]
            assert later == pytest.approx([61] * 4, abs=0.1)
            # That was the second in a row, and not the second to the fifth.
            assert signal.statistics().paused_until == pytest.approx(62 + 120, abs=0.1)
        assert sorted(event.tokens for event in events) == [("token-1",), ("token-2",)]
        assert all(isinstance(event, ChallengeRequired) and event.paused_for == 60 for event in events)


@pytest.mark.contract("O6")
async def test_limits_one_after_the_other_still_double_the_pause(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=2) as signal:
        gateway.script_send(*[rate_limited(None)] * 4)
        messages = await write(signal, "a0", "b0", "a1", "b1", "a2")
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown"] * 4 + ["sent"]
        assert times_at(gateway) == {"a0": [0], "b0": [0], "a1": [60], "b1": [60], "a2": [180]}


@pytest.mark.contract("O6", "A5")
async def test_a_pause_that_was_ended_is_not_begun_again_by_what_left_before(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=2) as signal:
        gateway.script_send(rate_limited(None), slow(5, rate_limited(None)), ok(), rate_limited(None))
        messages = await write(signal, "a0", "b0")
        await trio.sleep(1)
        assert signal.statistics().paused_until is not None
        signal.resume_sending()
        await trio.sleep(19)
        assert outcomes_of(messages) == ["failed: unknown"] * 2
        assert signal.statistics().paused_until is None
        messages = await write(signal, "c0")
        await wait_done(messages)
        messages += await write(signal, "d0")
        await wait_done(messages)
        # A limit that is met later is one.
        messages += await write(signal, "e0")
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent", "failed: unknown", "sent"]
        assert [times_at(gateway)[text] for text in ("c0", "d0", "e0")] == [[20], [20], [80]]


@pytest.mark.contract("O10")
async def test_our_own_rate_limit_is_kept_by_all_together(autojump_clock: MockClock) -> None:
    async with (
        open_gateway() as gateway,
        connected(gateway, rate_limit=RateLimit(1, per=1.0, burst=2), max_in_flight=8) as signal,
    ):
        await trio.sleep(10)
        start = trio.current_time()
        await wait_done(await write(signal, "a0", "b0", "c0", "d0", "e0"))
        times = sorted(itertools.chain(*times_at(gateway).values()))
        assert [time - start for time in times] == pytest.approx([0, 0, 1, 2, 3])


@pytest.mark.contract("O6", "C6")
async def test_credentials_that_are_refused_for_many_are_asked_for_once(autojump_clock: MockClock) -> None:
    asked = itertools.count()

    async def token() -> str:
        number = next(asked)
        await trio.sleep(1)
        return f"t{number}"

    async with (
        open_gateway(answer_delay=0.1) as gateway,
        connected(gateway, token=token, rate_limit=None, max_in_flight=4) as signal,
    ):
        already = next(asked)
        gateway.script_send(*[error(401, "expired")] * 4)
        messages = await write(signal, "a0", "b0", "c0", "d0")
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 4
        assert next(asked) == already + 2
        used = {send.headers["authorization"] for send in gateway.received[4:]}
        assert used == {f"Bearer t{already + 1}"}


# --- the end ---


@pytest.mark.contract("C5", "O1")
async def test_at_the_end_what_is_in_flight_is_unknown_and_what_waits_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(*[hang()] * 3)
        async with connected(
            gateway, rate_limit=None, max_in_flight=3, close_timeout=1.0, settle_timeout=0
        ) as signal:
            messages = await write(signal, "a0", "b0", "c0", "a1", "d0")
            await gateway.wait_received(3)
            assert signal.statistics().in_flight == 3
        assert outcomes_of(messages) == ["failed: unknown"] * 3 + ["dropped: closed"] * 2
        check_ledger(signal, messages)


@pytest.mark.contract("C5", "O4")
async def test_what_waits_at_the_end_is_still_sent_in_order(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.5) as gateway:
        async with connected(gateway, rate_limit=None, max_in_flight=3) as signal:
            messages = await write(signal, "a0", "a1", "a2", "b0", "c0", "b1", "a3")
        assert outcomes_of(messages) == ["sent"] * 7
        assert arrived(gateway) == {"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1"], "c": ["c0"]}


@pytest.mark.contract("C5", "O1", "O9")
async def test_cancelled_anywhere_with_four_in_flight_each_has_one_outcome(autojump_clock: MockClock) -> None:
    fates: set[str] = set()

    async def scene(step: int) -> bool:
        messages: list[OutgoingMessage] = []
        async with open_gateway(answer_delay=0.01) as gateway:
            gateway.script_send(ok(), lost(), error(503), slow(1))

            async def use() -> None:
                async with open_client(gateway, max_in_flight=4, settle_timeout=0) as signal:
                    for text in ("a0", "b0", "c0", "d0", "a1", "b1"):
                        messages.extend(await write(signal, text))
                    await wait_done(messages)

            came_that_far = await cancelled_at(step, use, of_any_task=True)
            with trio.fail_after(2):
                await gateway.wait_disconnected()
            whole = [send.message for send in gateway.received if send.timestamp is not None]
            assert len(whole) == len(set(whole))
            for message in messages:
                assert message.outcome is not None
                if isinstance(message.outcome, Sent):
                    assert message.text in whole
                elif message.outcome == Dropped(DropReason.CLOSED):
                    assert message.text not in whole
        fates.update(outcomes_of(messages))
        return came_that_far

    # Each third step, since there are hundreds.
    assert await sweep(lambda step: scene(3 * step)) > 80
    assert fates == {"sent", "failed: unknown", "dropped: closed"}


# --- with a store ---


@pytest.mark.contract("D1", "O4", "O5")
async def test_after_a_kill_what_was_in_flight_is_unknown_and_the_rest_is_sent_in_order(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    kept = KilledStore(tmp_path)
    async with open_gateway() as gateway:
        gateway.script_send(*[hang()] * 3)
        async with connected(
            gateway, store=kept.store, rate_limit=None, max_in_flight=3, close_timeout=0.0
        ) as signal:
            for text in ("a0", "b0", "a1", "c0", "b1", "d0"):
                await write(signal, text, id=text)
            await gateway.wait_received(3)
            await settled()
            kept.kill()
        events: list[Any] = []
        async with (
            trio.open_nursery() as nursery,
            connected(gateway, store=kept.store, rate_limit=None, max_in_flight=3) as signal,
        ):
            nursery.start_soon(collect, signal.events(), events)
            await gateway.wait_received(6)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        told = {event.message_id: event.outcome for event in events if isinstance(event, MessageSettled)}
        unknown = {
            name
            for name, outcome in told.items()
            if isinstance(outcome, Failed) and outcome.certainty is Certainty.UNKNOWN
        }
        assert unknown == {"a0", "b0", "c0"}
        assert {name for name, outcome in told.items() if isinstance(outcome, Sent)} == {"a1", "b1", "d0"}
        assert arrived(gateway) == {"a": ["a0", "a1"], "b": ["b0", "b1"], "c": ["c0"], "d": ["d0"]}


def leaving(live: Path, copy: Path) -> int:
    """Count what a process that comes after a kill would find written down as leaving."""
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        if (part := live.with_name(live.name + suffix)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + suffix))
    with closing(sqlite3.connect(copy)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'outgoing'").fetchall():
            return 0
        count = "SELECT count(*) FROM outgoing WHERE state = ?"
        return int(connection.execute(count, [MessageState.WRITING]).fetchone()[0])


@pytest.mark.contract("D1", "O5")
async def test_what_our_rate_limit_holds_back_is_not_written_down_as_leaving(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Else a kill would give it an unknown outcome."""
    live, most = tmp_path / "live.db", 0

    async def run(work: Callable[[], None]) -> None:
        nonlocal most
        await inline(work)
        most = max(most, leaving(live, tmp_path / "killed.db"))

    limit = RateLimit(1, per=10.0, burst=2)
    async with (
        open_gateway(answer_delay=1.0) as gateway,
        connected(gateway, store=Store(live, run=run), rate_limit=limit, max_in_flight=8) as signal,
    ):
        messages = await write(signal, *(f"{who}0" for who in "abcdefgh"))
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 8
    assert most == 2


@pytest.mark.contract("O10")
async def test_a_message_that_is_withdrawn_before_its_turn_leaves_its_place_in_the_rate_limit(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_gateway() as gateway,
        connected(gateway, rate_limit=RateLimit(1, per=3600.0), max_in_flight=2) as signal,
        trio.open_nursery() as nursery,
    ):
        gateway.script(f"PUT /v1/typing-indicator/{gateway.account}", slow(10), slow(10))
        nursery.start_soon(signal.send_typing, PEER)
        nursery.start_soon(signal.send_typing, PEER)
        await settled()
        (withdrawn,) = await write(signal, "a0")
        await settled()
        (other,) = await write(signal, "b0")
        await settled()
        assert withdrawn.withdraw()
        start = trio.current_time()
        await other.wait()
        assert trio.current_time() - start == pytest.approx(10)
        assert texts_at(gateway) == ["b0"]


# --- turns at the gateway ---


@pytest.mark.contract("O7")
async def test_what_is_asked_beside_takes_a_place_as_well(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, max_in_flight=2) as signal:
        gateway.script_send(slow(10), slow(20))
        messages = await write(signal, "a0", "b0")
        await gateway.wait_received(2)
        start = trio.current_time()
        await signal.send_typing(PEER)
        assert trio.current_time() - start == pytest.approx(10)
        await wait_done(messages)


async def test_a_turn_is_taken_in_the_order_of_asking(autojump_clock: MockClock) -> None:
    turn, order = Turn(2), list[int]()

    async def use(number: int) -> None:
        async with turn:
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(use, number)
            # Until it has asked, without time passing.
            for _ in range(3):
                await trio.lowlevel.checkpoint()
        assert order == [0, 1]
    assert [sorted(order[n : n + 2]) for n in (0, 2, 4)] == [[0, 1], [2, 3], [4, 5]]
    assert trio.current_time() == 3


async def test_a_turn_that_was_given_up_goes_to_the_next(autojump_clock: MockClock) -> None:
    turn = Turn(1)
    async with turn:
        with trio.move_on_after(1) as limit:
            await turn.acquire()
    assert limit.cancelled_caught
    with trio.fail_after(0):
        await turn.acquire()
    turn.release()


@pytest.mark.contract("O1", "O9")
async def test_what_is_handed_over_as_the_client_is_left_was_certainly_not_sent(
    autojump_clock: MockClock,
) -> None:
    class Trouble(Exception):
        pass

    messages: list[OutgoingMessage] = []
    async with open_gateway() as gateway:
        with pytest.raises(Trouble):
            async with connected(gateway) as signal:
                messages.append(await signal.send_message(PEER, "hi"))
                raise Trouble
        assert gateway.received == []
    assert [message.outcome for message in messages] == [Dropped(DropReason.CLOSED)]

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_signal import (
    BufferFull,
    Certainty,
    ClientClosed,
    ConfigurationError,
    Dropped,
    DropReason,
    Failed,
    GatewayError,
    MessageBuffer,
    Outcome,
    OutgoingMessage,
    OutgoingStatistics,
    Sent,
)
from trio_signal._buffer import Overflow
from trio_signal._outgoing import begin_writing, hold, is_held, is_new, is_waiting, settle

PEER = "+15550100"
#: What a message costs beside its text.
COST = OutgoingMessage(PEER, "x").size - 1
SENT = Sent(1795300291244)
DOUBT = Failed(GatewayError("the answer was lost"), Certainty.UNKNOWN)
OVERFLOWED = Dropped(DropReason.OVERFLOW)


def texts(messages: Sequence[OutgoingMessage]) -> list[str]:
    return [message.text for message in messages]


def pending(messages: Sequence[OutgoingMessage]) -> list[OutgoingMessage]:
    """Return those without an outcome, without looking at them: looking would let them expire."""
    return [message for message in messages if message._outcome is None]


# --- As it was asked for ---


@pytest.mark.contract("O3")
def test_four_messages_into_a_buffer_of_three_leave_two_three_and_four() -> None:
    buffer = MessageBuffer(max_size=3)
    assert buffer.is_empty()
    assert buffer.dequeue() is None
    messages = [buffer.enqueue(PEER, text) for text in ("1", "2", "3", "4")]
    assert (len(buffer), buffer.is_empty()) == (3, False)
    assert messages[0].outcome == OVERFLOWED
    assert buffer.dequeue() is messages[1]
    assert texts(buffer.drain()) == ["3", "4"]
    assert (len(buffer), buffer.is_empty(), buffer.drain()) == (0, True, [])


def test_by_default_it_holds_a_hundred_messages_of_sixteen_mebibytes() -> None:
    buffer = MessageBuffer()
    assert (buffer.max_size, buffer.max_bytes, buffer.overflow) == (100, 16 * 1024 * 1024, "drop_oldest")


async def test_enqueue_passes_on_what_it_was_given() -> None:
    message = MessageBuffer().enqueue(PEER, "hello", id="mine", deadline=1e9)
    assert (message.recipient, message.text, message.id, message.deadline) == (PEER, "hello", "mine", 1e9)


# --- The synchronous part against a list ---


@dataclass
class Model:
    """A list, and what became of each message."""

    overflow: Overflow
    max_size: int
    max_bytes: int
    waiting: list[OutgoingMessage] = field(default_factory=list[OutgoingMessage])
    outcomes: dict[OutgoingMessage, Outcome] = field(default_factory=dict[OutgoingMessage, Outcome])

    def end(self, message: OutgoingMessage, outcome: Outcome) -> None:
        assert message not in self.outcomes
        self.outcomes[message] = outcome
        if message in self.waiting:
            self.waiting.remove(message)

    def fits(self, message: OutgoingMessage) -> bool:
        used = sum(m.size for m in self.waiting)
        return len(self.waiting) < self.max_size and used + message.size <= self.max_bytes

    def put(self, message: OutgoingMessage) -> bool:
        """Return whether it is accepted."""
        if self.overflow == "drop_oldest":
            while not self.fits(message):
                self.end(self.waiting[0], OVERFLOWED)
        if self.fits(message):
            self.waiting.append(message)
        elif self.overflow == "drop_newest":
            self.end(message, OVERFLOWED)
        else:
            return False
        return True


class BufferMachine(RuleBasedStateMachine):
    """Every synchronous operation in every order, with time going on.

    Nothing is looked at after each step, since looking lets a message expire; the rule
    ``look`` does that, at any time.
    """

    overflow: ClassVar[Overflow]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.accepted: list[OutgoingMessage] = []
        self.held: list[OutgoingMessage] = []
        self.doubted: set[OutgoingMessage] = set()
        self.closed = False

    @initialize(max_size=st.integers(1, 4), spare=st.sampled_from([10**6, 30, 12]), whole=st.integers(1, 3))
    def make(self, max_size: int, spare: int, whole: int) -> None:
        max_bytes = whole * COST + spare
        self.buffer = MessageBuffer(max_size, max_bytes=max_bytes, overflow=self.overflow)
        self.model = Model(self.overflow, max_size, max_bytes)

    def expire(self) -> None:
        for message in self.accepted:
            if message not in self.model.outcomes and self.now >= message.deadline:
                outcome = DOUBT if message in self.doubted else Dropped(DropReason.EXPIRED)
                self.model.end(message, outcome)
        self.held = [m for m in self.held if m not in self.model.outcomes]

    @rule(length=st.integers(1, 20), wait=st.sampled_from([math.inf, math.inf, 5.0, 1.0, 0.0]))
    def put(self, length: int, wait: float) -> None:
        message = OutgoingMessage(PEER, "x" * length, deadline=self.now + wait, clock=lambda: self.now)
        if self.closed:
            with pytest.raises(ClientClosed):
                self.buffer.put_nowait(message)
        elif message.size > self.model.max_bytes:
            with pytest.raises(ConfigurationError, match=r"over the whole buffer's"):
                self.buffer.put_nowait(message)
        else:
            self.put_possible(message)

    def put_possible(self, message: OutgoingMessage) -> None:
        self.expire()
        if message.deadline <= self.now:
            # Too late from the start: nothing else is pushed out for it.
            self.buffer.put_nowait(message)
            self.accepted.append(message)
            self.model.end(message, Dropped(DropReason.EXPIRED))
        elif self.model.put(message):
            self.buffer.put_nowait(message)
            self.accepted.append(message)
        else:
            with pytest.raises(BufferFull, match="no room"):
                self.buffer.put_nowait(message)
            assert message.outcome is None

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        with pytest.raises((ConfigurationError, ClientClosed)):
            self.buffer.put_nowait(data.draw(st.sampled_from(self.accepted)))

    @rule()
    def dequeue(self) -> None:
        self.expire()
        expected = self.model.waiting.pop(0) if self.model.waiting else None
        assert self.buffer.dequeue() is expected
        if expected is not None:
            self.held.append(expected)

    @rule()
    def drain(self) -> None:
        self.expire()
        assert self.buffer.drain() == self.model.waiting
        self.held += self.model.waiting
        self.model.waiting.clear()

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.accepted))
        self.expire()
        assert message.outcome == self.model.outcomes.get(message)
        assert message.withdraw() == (message not in self.model.outcomes)
        if message not in self.model.outcomes:
            self.model.end(message, DOUBT if message in self.doubted else Dropped(DropReason.WITHDRAWN))
            self.held = [m for m in self.held if m is not message]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from([SENT, DOUBT, None]))
    def attempt(self, data: st.DataObject, outcome: Outcome | None) -> None:
        message = data.draw(st.sampled_from(self.held))
        self.expire()
        assert begin_writing(message) == (message in self.held)
        if message in self.held and outcome is None:
            hold(message, DOUBT)
            self.doubted.add(message)
        elif message in self.held and outcome is not None:
            settle(message, outcome)
            self.model.end(message, outcome)
            self.held.remove(message)

    @rule(elapsed=st.sampled_from([0.5, 1.0, 5.0]))
    def tick(self, elapsed: float) -> None:
        self.now += elapsed

    @precondition(lambda self: len(self.accepted) > 8)
    @rule()
    def close(self) -> None:
        self.buffer.close()
        self.closed = True

    @precondition(lambda self: len(self.accepted) > 4)
    @rule()
    def drop_all(self) -> None:
        self.expire()
        self.buffer.drop_all(DropReason.CLOSED)
        for message in list(self.model.waiting):
            self.model.end(message, Dropped(DropReason.CLOSED))

    @rule()
    def look(self) -> None:
        self.expire()
        figures = self.buffer.statistics()
        assert len(self.buffer) == figures.waiting == len(self.model.waiting)
        assert self.buffer.is_empty() == (not self.model.waiting)
        assert figures.waiting_bytes == sum(m.size for m in self.model.waiting) <= figures.max_bytes
        assert (figures.max_size, figures.max_bytes) == (self.model.max_size, self.model.max_bytes)
        for message in self.accepted:
            assert message.outcome == self.model.outcomes.get(message)
        ended = list(self.model.outcomes.values())
        ledger = self.buffer.statistics().outgoing
        assert ledger.accepted == len(self.accepted)
        assert ledger.sent == sum(isinstance(o, Sent) for o in ended)
        assert ledger.dropped == {r: n for r in DropReason if (n := ended.count(Dropped(r)))}
        assert ledger.failed == ({DOUBT.certainty: n} if (n := ended.count(DOUBT)) else {})
        assert ledger.pending == len(self.accepted) - len(ended)

    @invariant()
    def balances(self) -> None:
        ledger = self.buffer._ledger.statistics()
        assert ledger.accepted == len(self.accepted)
        assert ledger.pending == len(pending(self.accepted))
        assert self.buffer._receive.statistics().current_buffer_used <= 2 * self.model.max_size

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            self.look()


class DropOldestMachine(BufferMachine):
    overflow = "drop_oldest"


class DropNewestMachine(BufferMachine):
    overflow = "drop_newest"


class ErrorMachine(BufferMachine):
    overflow = "error"


class WaitMachine(BufferMachine):
    overflow = "wait"


def as_test(machine: type[RuleBasedStateMachine]) -> Any:
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
    return pytest.mark.contract("O1", "O2", "O3", "O8")(machine.TestCase)


TestDropOldest = as_test(DropOldestMachine)
TestDropNewest = as_test(DropNewestMachine)
TestError = as_test(ErrorMachine)
TestWait = as_test(WaitMachine)


# --- Overflow, one by one ---


@pytest.mark.contract("O3")
def test_as_many_old_ones_are_dropped_as_a_large_one_needs() -> None:
    buffer = MessageBuffer(max_bytes=3 * (COST + 10))
    small = [buffer.enqueue(PEER, "x" * 10) for _ in range(3)]
    large = buffer.enqueue(PEER, "x" * (COST + 20))
    assert [m.outcome for m in small] == [OVERFLOWED, OVERFLOWED, None]
    assert buffer.drain() == [small[2], large]


@pytest.mark.contract("O3")
def test_a_message_larger_than_the_buffer_is_refused_and_pushes_nothing_out() -> None:
    buffer = MessageBuffer(max_bytes=COST + 10)
    small = buffer.enqueue(PEER, "x")
    with pytest.raises(ConfigurationError, match=r"^text: "):
        buffer.enqueue(PEER, "x" * 11)
    assert buffer.drain() == [small]
    assert buffer.statistics().outgoing.accepted == 1


@pytest.mark.contract("O3")
def test_a_drop_has_a_log_line_with_the_id_and_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_signal.buffer")
    buffer = MessageBuffer(max_size=1)
    for n in range(4):
        buffer.enqueue(PEER, "a secret", id=f"m{n}")
    message = buffer.enqueue(PEER, "a secret", id="m4")
    message.withdraw()
    for n, outcome in ((5, SENT), (6, DOUBT)):
        message = buffer.enqueue(PEER, "a secret", id=f"m{n}")
        assert buffer.dequeue() is message
        settle(message, outcome)
    buffer.enqueue(PEER, "a secret", id="m7")
    buffer.drop_all(DropReason.CLOSED)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        *(("WARNING", f"message m{n} was dropped: overflow") for n in range(4)),
        ("INFO", "message m4 was dropped: withdrawn"),
        ("DEBUG", "message m5 was sent as 1795300291244"),
        ("WARNING", "message m6 failed (unknown): the answer was lost"),
        ("WARNING", "message m7 was dropped: closed"),
    ]


@pytest.mark.contract("O3")
def test_an_overflowing_newcomer_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    buffer = MessageBuffer(max_size=1, overflow="drop_newest")
    first = buffer.enqueue(PEER, "1", id="first")
    assert buffer.enqueue(PEER, "2", id="second").outcome == OVERFLOWED
    assert [r.getMessage() for r in caplog.records] == ["message second was dropped: overflow"]
    assert buffer.drain() == [first]


@pytest.mark.contract("O3")
@pytest.mark.parametrize("overflow", ["error", "wait"])
def test_enqueue_does_not_wait_for_room(overflow: Overflow) -> None:
    buffer = MessageBuffer(max_size=1, overflow=overflow)
    first = buffer.enqueue(PEER, "1")
    with pytest.raises(BufferFull, match=f"1 messages \\({COST + 1} bytes\\) wait already"):
        buffer.enqueue(PEER, "2")
    assert buffer.drain() == [first]
    assert buffer.statistics().outgoing.accepted == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"max_size": 0}, "buffer_size"),
        ({"max_size": -1}, "buffer_size"),
        ({"max_size": 1.5}, "buffer_size"),
        ({"max_size": math.inf}, "buffer_size"),
        ({"max_size": "5"}, "buffer_size"),
        ({"max_size": True}, "buffer_size"),
        ({"max_size": None}, "buffer_size"),
        ({"max_bytes": 0}, "buffer_bytes"),
        ({"max_bytes": 0.5}, "buffer_bytes"),
        ({"overflow": "drop_all"}, "overflow"),
        ({"overflow": None}, "overflow"),
        ({"overflow": ["wait"]}, "overflow"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_by_name(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
        MessageBuffer(**arguments)
    assert caught.value.argument == name


# --- What is dead in it ---


@pytest.mark.contract("O2", "O3", "O12")
def test_dead_messages_are_passed_over_and_make_room() -> None:
    buffer = MessageBuffer(max_size=3)
    messages = [buffer.enqueue(PEER, str(n)) for n in range(3)]
    assert messages[0].withdraw()
    assert messages[2].withdraw()
    assert len(buffer) == 1
    late = [buffer.enqueue(PEER, str(n)) for n in (3, 4)]
    assert messages[1].outcome is None
    assert buffer.drain() == [messages[1], *late]


@pytest.mark.contract("O3")
def test_dead_messages_are_cleared_out_and_the_live_ones_keep_their_order() -> None:
    buffer = MessageBuffer(max_size=3, overflow="error")
    keep = [buffer.enqueue(PEER, "first")]
    for n in range(1000):
        message = buffer.enqueue(PEER, str(n))
        if n == 500:
            keep.append(message)
        else:
            assert message.withdraw()
        assert buffer._receive.statistics().current_buffer_used <= 6
        assert len(buffer) == len(keep)
    assert buffer.drain() == keep


@pytest.mark.contract("O3")
def test_dead_messages_are_cleared_out_once_in_as_many_as_there_is_room_for() -> None:
    class Counting(MessageBuffer):
        clearings = 0

        def _clear_out(self) -> None:
            self.clearings += 1
            super()._clear_out()

    buffer = Counting(max_size=100, overflow="error")
    live = [buffer.enqueue(PEER, str(n)) for n in range(99)]
    for _ in range(1000):
        assert buffer.enqueue(PEER, "dead").withdraw()
    assert buffer.clearings <= 10
    assert buffer.drain() == live


@pytest.mark.contract("O3", "O4")
def test_what_is_withdrawn_behind_a_busy_conversation_leaves_nothing_behind() -> None:
    buffer = MessageBuffer(max_size=3)
    busy = buffer.enqueue(PEER, "is being sent")
    assert buffer.next_in_turn() is busy
    for n in range(1000):
        message = buffer.enqueue(PEER, str(n))
        assert buffer.next_in_turn() is None
        assert message.withdraw()
        assert len(buffer._lanes) == 0


@pytest.mark.contract("O3")
@pytest.mark.parametrize("withdrawn", [False, True])
def test_deadlines_of_messages_that_have_left_do_not_pile_up(withdrawn: bool) -> None:
    buffer = MessageBuffer(max_size=4)
    clock = [0.0]
    for n in range(2000):
        # Earlier and earlier deadlines, so that the first that was given is always at the end of the heap.
        message = OutgoingMessage(PEER, "x", deadline=1e6 - n, clock=lambda: clock[0])
        buffer.put_nowait(message)
        assert message.withdraw() if withdrawn else buffer.dequeue() is message
        assert len(buffer._deadlines) <= 2 * buffer.max_size + 17


@pytest.mark.contract("O3")
def test_deadlines_do_not_pile_up_behind_one_that_stays() -> None:
    buffer = MessageBuffer(max_size=4)
    stays = OutgoingMessage(PEER, "stays", deadline=1.0, clock=lambda: 0.0)
    buffer.put_nowait(stays)
    for n in range(2000):
        message = OutgoingMessage(PEER, "x", deadline=10.0 + n, clock=lambda: 0.0)
        buffer.put_nowait(message)
        assert message.withdraw()
        assert len(buffer._deadlines) <= 2 * buffer.max_size + 17
    assert buffer.drain() == [stays]


@pytest.mark.contract("O8")
async def test_a_message_expires_while_it_waits_and_is_never_taken(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=2)
    start = trio.current_time()
    early, late = (buffer.enqueue(PEER, t, deadline=start + d) for t, d in (("early", 5), ("late", 50)))
    await trio.sleep(5)
    assert len(buffer) == 1
    third = buffer.enqueue(PEER, "third", deadline=start + 6)
    await trio.sleep(10)
    assert await buffer.take() is late
    assert [m.outcome for m in (early, third)] == [Dropped(DropReason.EXPIRED)] * 2
    assert buffer.is_empty()


@pytest.mark.contract("O3", "O8")
async def test_a_message_that_is_late_already_pushes_nobody_out(autojump_clock: MockClock) -> None:
    for overflow in ("drop_oldest", "drop_newest", "error", "wait"):
        buffer = MessageBuffer(max_size=1, overflow=overflow)
        first = buffer.enqueue(PEER, "first")
        late = OutgoingMessage(PEER, "late", deadline=trio.current_time())
        await buffer.put(late)
        assert late.outcome == Dropped(DropReason.EXPIRED)
        assert buffer.drain() == [first]
        assert buffer.statistics().outgoing.accepted == 2


@pytest.mark.contract("O2", "O3")
def test_a_message_is_taken_on_once_only() -> None:
    buffer = MessageBuffer()
    message = buffer.enqueue(PEER, "once")
    ended = OutgoingMessage(PEER, "never put")
    ended.withdraw()
    for refused in (message, ended):
        with pytest.raises(ConfigurationError, match="make a new one"):
            buffer.put_nowait(refused)
    assert buffer.drain() == [message]
    with pytest.raises(ConfigurationError, match="make a new one"):
        MessageBuffer().put_nowait(message)


# --- take() ---


async def start_taker(
    nursery: trio.Nursery, buffer: MessageBuffer, taken: list[OutgoingMessage]
) -> trio.CancelScope:
    """Start a task that takes one message after the other; return what cancels it, once it waits."""
    scope = trio.CancelScope()

    async def taker() -> None:
        with scope:
            while True:
                try:
                    taken.append(await buffer.take())
                except trio.EndOfChannel:
                    return

    nursery.start_soon(taker)
    await wait_all_tasks_blocked()
    return scope


@pytest.mark.contract("O3", "O4")
async def test_a_waiting_task_gets_each_message_in_order(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        backlog = [buffer.enqueue(PEER, str(n)) for n in range(3)]
        await start_taker(nursery, buffer, taken)
        assert taken == backlog
        more = [buffer.enqueue(PEER, str(n)) for n in range(3, 10)]
        await wait_all_tasks_blocked()
        buffer.close()
    assert taken == backlog + more
    assert all(is_held(message) for message in taken)


@pytest.mark.contract("O1", "O3")
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "error", "wait"])
async def test_a_message_handed_to_a_waiting_task_takes_no_room(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    buffer = MessageBuffer(max_size=1, overflow=overflow)
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        # No checkpoint in between: the waiting task has been given the first, and has not run yet.
        first, second = buffer.enqueue(PEER, "1"), buffer.enqueue(PEER, "2")
        assert taken == []
        assert (len(buffer), first.outcome, second.outcome) == (1, None, None)
        buffer.close()
    assert taken == [first, second]


@pytest.mark.contract("O1", "O3")
async def test_a_message_is_handed_over_only_if_somebody_waits(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1)
    first, second = OutgoingMessage(PEER, "1"), OutgoingMessage(PEER, "2")
    taken: list[OutgoingMessage] = []
    assert not buffer.hand_over(first)
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        assert (is_new(first), buffer.statistics().outgoing.accepted) == (True, 0)
        assert buffer.hand_over(first)
        # It is the waiting task's from now on, which has not run yet; so nobody waits any more.
        assert (is_held(first), len(buffer), buffer.statistics().outgoing.accepted) == (True, 0, 1)
        assert not buffer.hand_over(second)
        buffer.put_nowait(second)
        assert not buffer.hand_over(OutgoingMessage(PEER, "3")), "it would overtake"
        await wait_all_tasks_blocked()
        settle(first, SENT)
        buffer.close()
    assert taken == [first, second]
    assert buffer.statistics().outgoing == OutgoingStatistics(2, 1, {}, {})


@pytest.mark.contract("O3", "O8")
async def test_what_must_not_come_in_is_not_handed_over(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_bytes=COST + 10)
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        late = OutgoingMessage(PEER, "1", deadline=trio.current_time())
        old = buffer.enqueue(PEER, "old")
        await wait_all_tasks_blocked()
        for message in (late, old, OutgoingMessage(PEER, "x" * 11)):
            assert not buffer.hand_over(message)
        assert buffer.hand_over(OutgoingMessage(PEER, "x" * 10, deadline=trio.current_time() + 1))
        await wait_all_tasks_blocked()
        buffer.close()
        assert not buffer.hand_over(OutgoingMessage(PEER, "1"))
    assert texts(taken) == ["old", "x" * 10]


@pytest.mark.contract("O3")
async def test_nothing_is_handed_over_before_what_waits_for_room(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    taken: list[OutgoingMessage] = []
    promised = OutgoingMessage(PEER, "0")
    assert await buffer.admit(promised)
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        await start_puts(nursery, buffer, "1")
        buffer.release(promised)
        assert not buffer.hand_over(OutgoingMessage(PEER, "2"))
        await wait_all_tasks_blocked()
        assert texts(taken) == ["1"]
        buffer.close()


@pytest.mark.contract("O1", "O3")
async def test_two_waiting_tasks_get_one_message_each(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1)
    both: list[list[OutgoingMessage]] = [[], []]
    async with trio.open_nursery() as nursery:
        for taken in both:
            await start_taker(nursery, buffer, taken)
        messages = [buffer.enqueue(PEER, str(n)) for n in range(3)]
        assert len(buffer) == 1
        buffer.close()
    assert sorted(texts(both[0] + both[1])) == texts(messages)
    assert all(both)


class AfterFirstStep(trio.abc.Instrument):
    """Call back when a task has made its first step, before any other task runs."""

    def __init__(self, name: str, callback: Callable[[], None]) -> None:
        self.name = name
        self.callback = callback
        self.calls = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(self.name):
            self.calls += 1
            if self.calls == 1:
                self.callback()


@pytest.mark.contract("O1", "O3")
@pytest.mark.parametrize("max_bytes", [10**6, COST + 5], ids=["by number", "by bytes"])
async def test_a_new_message_between_the_steps_of_a_take_loses_nothing(
    max_bytes: int, autojump_clock: MockClock
) -> None:
    # trio's receive() takes the item out of the channel and then lets other tasks run: what is put in then
    # must find the buffer in order.
    buffer = MessageBuffer(1 if max_bytes > 1000 else 5, max_bytes=max_bytes)
    first = buffer.enqueue(PEER, "1")
    late: list[OutgoingMessage | Exception] = []
    taken: list[OutgoingMessage] = []

    def put_another() -> None:
        try:
            late.append(buffer.enqueue(PEER, "2"))
        except Exception as error:  # noqa: BLE001  (an instrument's errors would only be logged)
            late.append(error)

    async def the_taker() -> None:
        taken.append(await buffer.take())

    instrument = AfterFirstStep("the_taker", put_another)
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(the_taker)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert instrument.calls > 1
    (second,) = late
    assert isinstance(second, OutgoingMessage)
    everything = [*taken, *buffer.drain(), *(m for m in (first, second) if m.outcome is not None)]
    assert sorted(texts(everything)) == ["1", "2"]
    assert first.outcome in {None, OVERFLOWED}
    assert second.outcome is None


@pytest.mark.contract("O2", "O12")
async def test_a_message_withdrawn_on_its_way_to_a_waiting_task_does_not_arrive(
    autojump_clock: MockClock,
) -> None:
    buffer = MessageBuffer(max_size=1)
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        message = buffer.enqueue(PEER, "1")
        assert message.withdraw()
        assert buffer.is_empty()
        await wait_all_tasks_blocked()
        assert taken == []
        second = buffer.enqueue(PEER, "2")
        buffer.close()
    assert taken == [second]
    assert buffer.statistics().outgoing.dropped == {DropReason.WITHDRAWN: 1}


@pytest.mark.contract("O1", "O9")
async def test_cancelling_a_task_on_its_way_with_a_message_loses_nothing(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        scope = await start_taker(nursery, buffer, taken)
        messages = [buffer.enqueue(PEER, "1"), buffer.enqueue(PEER, "2")]
        scope.cancel()
    assert taken == messages[: len(taken)]
    assert taken + buffer.drain() == messages


@pytest.mark.contract("O1", "O9")
async def test_a_cancelled_take_leaves_the_message_there(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    message = buffer.enqueue(PEER, "1")
    with trio.CancelScope() as scope:
        scope.cancel()
        await buffer.take()
    assert scope.cancelled_caught
    assert buffer.drain() == [message]


async def test_take_is_a_checkpoint_with_and_without_waiting(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    buffer.enqueue(PEER, "1")
    with assert_checkpoints():
        await buffer.take()
    buffer.close()
    with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
        await buffer.take()


@pytest.mark.contract("O3")
async def test_what_waits_at_closing_can_still_be_taken(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    message = buffer.enqueue(PEER, "1")
    buffer.close()
    buffer.close()
    with pytest.raises(ClientClosed):
        buffer.enqueue(PEER, "2")
    with pytest.raises(ClientClosed):
        await buffer.put(OutgoingMessage(PEER, "2"))
    assert await buffer.take() is message
    assert buffer.dequeue() is None
    with pytest.raises(trio.EndOfChannel):
        await buffer.take()


async def test_closing_ends_a_task_that_waits(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    taken: list[OutgoingMessage] = []
    async with trio.open_nursery() as nursery:
        await start_taker(nursery, buffer, taken)
        buffer.close()
    assert taken == []


async def test_take_in_turn_is_a_checkpoint_where_it_takes_long_and_at_the_end(
    autojump_clock: MockClock,
) -> None:
    buffer = MessageBuffer(max_size=600)
    first = buffer.enqueue(PEER, "its conversation is busy")
    assert await buffer.take_in_turn() is first
    for n in range(300):
        buffer.enqueue(PEER, str(n))
    other = buffer.enqueue("+15550199", "behind many")
    with assert_checkpoints():
        assert await buffer.take_in_turn() is other
    buffer.close()
    with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
        await buffer.take_in_turn()


def test_what_is_left_to_the_next_process_is_out_of_reach() -> None:
    buffer = MessageBuffer()
    messages = [buffer.enqueue(PEER, text) for text in "12"]
    buffer.leave_all()
    assert buffer.is_empty()
    assert [message.withdraw() for message in messages] == [False, False]
    assert buffer.statistics().outgoing.pending == 2


def test_what_an_earlier_process_began_is_counted() -> None:
    buffer, message = MessageBuffer(), OutgoingMessage(PEER, "1")
    buffer.take_over(message)
    assert buffer.statistics().outgoing.pending == 1
    settle(message, SENT)
    outgoing = buffer.statistics().outgoing
    assert (outgoing.accepted, outgoing.sent, outgoing.pending) == (1, 1, 0)


@pytest.mark.contract("D1", "O4")
def test_more_than_it_holds_may_be_restored() -> None:
    buffer = MessageBuffer(max_size=2, restored=10)
    messages = [OutgoingMessage(PEER, str(n)) for n in range(10)]
    for message in messages:
        buffer.restore(message)
    assert buffer.drain() == messages


# --- put() ---


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "error", "wait"])
async def test_put_is_a_checkpoint_and_cancelled_it_accepts_nothing(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    buffer = MessageBuffer(overflow=overflow)
    with assert_checkpoints():
        await buffer.put(OutgoingMessage(PEER, "1"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await buffer.put(OutgoingMessage(PEER, "2"))
    assert scope.cancelled_caught
    assert texts(buffer.drain()) == ["1"]
    assert buffer.statistics().outgoing.accepted == 1


@pytest.mark.contract("O3")
async def test_put_follows_the_policy_like_enqueue(autojump_clock: MockClock) -> None:
    buffers = {o: MessageBuffer(max_size=1, overflow=o) for o in ("drop_oldest", "drop_newest", "error")}
    messages = {o: [OutgoingMessage(PEER, t) for t in "12"] for o in buffers}
    await buffers["drop_oldest"].put(messages["drop_oldest"][0])
    for overflow in ("drop_oldest", "drop_newest"):
        if overflow == "drop_newest":
            await buffers[overflow].put(messages[overflow][0])
        await buffers[overflow].put(messages[overflow][1])
    assert [m.outcome for m in messages["drop_oldest"]] == [OVERFLOWED, None]
    assert [m.outcome for m in messages["drop_newest"]] == [None, OVERFLOWED]
    await buffers["error"].put(messages["error"][0])
    with pytest.raises(BufferFull):
        await buffers["error"].put(messages["error"][1])


async def start_puts(
    nursery: trio.Nursery, buffer: MessageBuffer, *names: str, size: int = 1
) -> list[trio.CancelScope]:
    """Start one task for each message, one after the other; return what cancels them, once all wait."""
    scopes: list[trio.CancelScope] = []

    async def put(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await buffer.put(OutgoingMessage(PEER, name * size, id=name))

    for name in names:
        scopes.append(trio.CancelScope())
        nursery.start_soon(put, name, scopes[-1])
        await wait_all_tasks_blocked()
    return scopes


@pytest.mark.contract("O3", "O4")
async def test_those_who_wait_for_room_get_it_in_turn(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=2, overflow="wait")
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        await start_puts(nursery, buffer, *"abcdefg")
        assert (len(buffer), buffer.statistics().outgoing.accepted) == (2, 2)
        while not buffer.is_empty():
            seen.append((await buffer.take()).id)
            await wait_all_tasks_blocked()
            assert len(buffer) == min(2, 7 - len(seen))
    assert seen == list("abcdefg")


@pytest.mark.contract("O3")
async def test_each_way_to_leave_makes_room(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    ways: list[Callable[[OutgoingMessage], object]] = [
        lambda _: buffer.dequeue(),
        OutgoingMessage.withdraw,
        lambda _: buffer.drain(),
        lambda _: buffer.drop_all(DropReason.CLOSED),
    ]
    first = buffer.enqueue(PEER, "first")
    for way in ways:
        async with trio.open_nursery() as nursery:
            await start_puts(nursery, buffer, "next")
            accepted = buffer.statistics().outgoing.accepted
            way(first)
        assert len(buffer) == 1
        assert buffer.statistics().outgoing.accepted == accepted + 1
        (second,) = buffer.drain()
        assert second.id == "next"
        settle(second, SENT)
        first = buffer.enqueue(PEER, "first")


@pytest.mark.contract("O3", "O8")
async def test_room_that_comes_from_an_expiry_is_noticed_at_once(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    start = trio.current_time()
    buffer.enqueue(PEER, "dies", deadline=start + 5)
    with trio.fail_after(60):
        await buffer.put(OutgoingMessage(PEER, "next"))
    assert trio.current_time() == start + 5
    assert texts(buffer.drain()) == ["next"]


@pytest.mark.contract("O3", "O8")
async def test_a_message_that_expires_while_it_waits_for_room_is_dropped_then(
    autojump_clock: MockClock,
) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    first = buffer.enqueue(PEER, "first")
    start = trio.current_time()
    message = OutgoingMessage(PEER, "next", deadline=start + 5)
    with trio.fail_after(60):
        await buffer.put(message)
    assert trio.current_time() == start + 5
    assert message.outcome == Dropped(DropReason.EXPIRED)
    assert buffer.drain() == [first]
    assert buffer.statistics().outgoing.accepted == 2


@pytest.mark.contract("O3")
async def test_a_large_message_is_not_starved_by_small_ones(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=10, max_bytes=3 * (COST + 1), overflow="wait")
    taken: list[str] = []
    async with trio.open_nursery() as nursery:
        await start_puts(nursery, buffer, *"abc")
        await start_puts(nursery, buffer, "L", size=COST + 2)
        await start_puts(nursery, buffer, *"de")
        assert len(buffer) == 3
        for _ in range(6):
            taken.append((await buffer.take()).id)
            await wait_all_tasks_blocked()
    assert taken == list("abcLde")


@pytest.mark.contract("O3")
@pytest.mark.parametrize("cancelled", range(4))
async def test_who_is_cancelled_while_waiting_leaves_the_others_in_turn(
    cancelled: int, autojump_clock: MockClock
) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    buffer.enqueue(PEER, "first", id="first")
    taken: list[str] = []
    async with trio.open_nursery() as nursery:
        scopes = await start_puts(nursery, buffer, *"abcd")
        scopes[cancelled].cancel()
        await wait_all_tasks_blocked()
        assert scopes[cancelled].cancelled_caught
        while not buffer.is_empty():
            taken.append((await buffer.take()).id)
            await wait_all_tasks_blocked()
    expected = [name for n, name in enumerate("abcd") if n != cancelled]
    assert taken == ["first", *expected]
    assert buffer.statistics().outgoing.accepted == 4


@pytest.mark.contract("O3")
async def test_closing_tells_everybody_who_waits_for_room(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=1, overflow="wait")
    first = buffer.enqueue(PEER, "first")
    told: list[str] = []

    async def put(name: str) -> None:
        with pytest.raises(ClientClosed):
            await buffer.put(OutgoingMessage(PEER, name))
        told.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(put, name)
        await wait_all_tasks_blocked()
        buffer.close()
    assert sorted(told) == list("abc")
    assert buffer.drain() == [first]
    assert buffer.statistics().outgoing.accepted == 1


# --- Any interleaving of putting, taking, cancelling and time ---

Op = tuple[str, int]

OPS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.sampled_from(["put", "put", "put"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["put_dying", "sleep", "withdraw"]), st.integers(0, 6)),
    st.tuples(st.sampled_from(["taker", "cancel", "step", "settle"]), st.just(0)),
)


class Interleaving:
    """One run: what was put, what was taken, and what must hold in between.

    Args:
        several: let several tasks take at once; what they took has no order among them.
    """

    def __init__(self, buffer: MessageBuffer, nursery: trio.Nursery, *, several: bool) -> None:
        self.buffer = buffer
        self.nursery = nursery
        self.several = several
        self.accepted: list[OutgoingMessage] = []
        self.taken: list[OutgoingMessage] = []
        self.takers: list[trio.CancelScope] = []

    async def do(self, op: Op) -> None:
        kind, number = op
        if kind == "put":
            for _ in range(number):
                self.put(math.inf)
        elif kind == "put_dying":
            self.put(trio.current_time() + number)
        elif kind == "withdraw" and self.accepted:
            self.accepted[-1 - number % len(self.accepted)].withdraw()
        elif kind == "taker" and (self.several or not self.takers):
            self.takers.append(trio.CancelScope())
            self.nursery.start_soon(self.taker, self.takers[-1])
        elif kind == "cancel" and self.takers:
            self.takers.pop(0).cancel()
            await wait_all_tasks_blocked()
        else:
            await self.pass_on(kind, number)
        self.check()

    async def pass_on(self, kind: str, number: int) -> None:
        if kind == "sleep":
            await trio.sleep(number)
        elif kind == "settle":
            await wait_all_tasks_blocked()
            assert not (self.takers and len(self.buffer)), "a task waits beside a message"
        else:
            await trio.lowlevel.checkpoint()

    def put(self, deadline: float) -> None:
        before = [m for m in self.accepted if is_waiting(m)]
        self.accepted.append(self.buffer.enqueue(PEER, str(len(self.accepted)), deadline=deadline))
        gone = [m for m in before if not is_waiting(m)]
        # Nobody is pushed out but the oldest, and only when the buffer was full and the newcomer in time.
        full = len(before) == self.buffer.max_size and deadline > trio.current_time()
        assert gone == (before[:1] if full else [])
        assert all(m.outcome == OVERFLOWED for m in gone)

    async def taker(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    message = await self.buffer.take()
                except trio.EndOfChannel:
                    return
                assert message.outcome is None
                self.taken.append(message)

    def check(self) -> None:
        waiting = [m for m in self.accepted if is_waiting(m)]
        assert len(self.buffer) == len(waiting) <= self.buffer.max_size
        ledger = self.buffer.statistics().outgoing
        assert ledger.accepted == len(self.accepted)
        assert ledger.pending == sum(m.outcome is None for m in self.accepted)

    async def finish(self) -> None:
        await wait_all_tasks_blocked()
        rest = self.buffer.drain()
        self.buffer.close()
        await wait_all_tasks_blocked()
        if not self.several:
            order = {message: n for n, message in enumerate(self.accepted)}
            assert self.taken == sorted(self.taken, key=order.__getitem__)
        assert len(set(self.taken + rest)) == len(self.taken + rest)
        # What was taken may have expired or been withdrawn since, but nothing without an outcome is gone.
        assert {m for m in self.accepted if m.outcome is None} <= set(self.taken + rest)


def run(main: Callable[..., Awaitable[object]], *args: object) -> None:
    """Run on a clock that jumps."""
    trio.run(main, *args, clock=MockClock(autojump_threshold=0))


@given(st.lists(OPS, max_size=40), st.integers(1, 3), st.booleans())
@pytest.mark.contract("O1", "O3", "O4", "O8", "O9")
def test_no_interleaving_loses_or_doubles_a_message(ops: list[Op], max_size: int, several: bool) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            interleaving = Interleaving(MessageBuffer(max_size), nursery, several=several)
            for op in ops:
                await interleaving.do(op)
            await interleaving.finish()

    run(main)


@given(st.lists(st.sampled_from(["put", "take", "cancel", "expire"]), max_size=30), st.integers(1, 3))
@pytest.mark.contract("O1", "O3", "O4", "O8")
def test_waiting_for_room_is_first_come_first_served(ops: list[str], max_size: int) -> None:
    async def main() -> None:
        buffer = MessageBuffer(max_size, overflow="wait")
        queue: list[str] = []
        scopes: dict[str, trio.CancelScope] = {}
        inside: dict[str, OutgoingMessage] = {}

        async def put(message: OutgoingMessage, scope: trio.CancelScope) -> None:
            with scope:
                await buffer.put(message)

        async with trio.open_nursery() as nursery:
            for n, op in enumerate(ops):
                if op in {"put", "expire"}:
                    deadline = trio.current_time() + 2.5 if op == "expire" else math.inf
                    message = OutgoingMessage(PEER, "x", id=str(n), deadline=deadline)
                    scopes[message.id], inside[message.id] = trio.CancelScope(), message
                    queue.append(message.id)
                    nursery.start_soon(put, message, scopes[message.id])
                elif op == "take" and (taken := buffer.dequeue()):
                    assert taken.id == queue[0]
                    settle(taken, SENT)
                elif op == "cancel" and len(queue) > max_size:
                    scopes[queue.pop()].cancel()
                await trio.sleep(1)
                queue = [name for name in queue if inside[name].outcome is None]
                assert len(buffer) == min(len(queue), max_size)
            while (taken := buffer.dequeue()) is not None:
                assert taken.id == queue.pop(0)
                await trio.sleep(0.001)
                queue = [name for name in queue if inside[name].outcome is None]
        assert queue == []

    run(main)


@pytest.mark.parametrize("overflow", ["drop_newest", "wait"])
async def test_admit_is_a_checkpoint_for_what_is_not_let_in_at_once(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    buffer = MessageBuffer(1, overflow=overflow)
    first = buffer.enqueue(PEER, "1")
    late = OutgoingMessage(PEER, "2", deadline=trio.current_time() - 1)
    with assert_checkpoints():
        assert not await buffer.admit(late)
    assert buffer.drain() == [first]


@pytest.mark.contract("O3")
@pytest.mark.parametrize("bounds", [{"max_size": 2}, {"max_bytes": 2 * (COST + 1)}])
async def test_what_is_on_its_way_in_is_bounded_though_the_oldest_make_room(
    bounds: dict[str, Any], autojump_clock: MockClock
) -> None:
    buffer = MessageBuffer(**bounds)
    first, second, third = (OutgoingMessage(PEER, text) for text in "123")
    assert await buffer.admit(first)
    assert await buffer.admit(second)
    with trio.move_on_after(1) as waited:
        await buffer.admit(third)
    assert waited.cancelled_caught
    buffer.enter(first)
    assert await buffer.admit(third)


@pytest.mark.contract("O3", "C5")
async def test_a_promise_of_room_is_void_once_the_buffer_is_closed(autojump_clock: MockClock) -> None:
    """A message that was written down meanwhile is not taken in; its room goes to others."""
    buffer = MessageBuffer(1, overflow="wait")
    message = OutgoingMessage("+15550100", "hello")
    assert await buffer.admit(message)
    with pytest.raises(BufferFull):
        buffer.enqueue("+15550100", "no room beside it")
    buffer.close()
    with pytest.raises(ClientClosed):
        buffer.enter(message)
    buffer.release(message)
    assert is_new(message)
    assert buffer.statistics().outgoing.accepted == 0


@pytest.mark.contract("D1", "O1")
async def test_what_is_restored_goes_to_who_waits_already(autojump_clock: MockClock) -> None:
    buffer, taken = MessageBuffer(), list[OutgoingMessage]()

    async def take() -> None:
        taken.append(await buffer.take_in_turn())

    message = OutgoingMessage("+15550002", "hi")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        buffer.restore(message)
    assert taken == [message]
    assert len(buffer) == 0

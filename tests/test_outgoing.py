import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_signal import (
    Certainty,
    ClientClosed,
    ConfigurationError,
    Dropped,
    DropReason,
    Failed,
    FailedRecipient,
    GatewayError,
    MessageDropped,
    Outcome,
    OutgoingAttachment,
    OutgoingMessage,
    OutgoingStatistics,
    SendFailed,
    Sent,
    SignalError,
)
from trio_signal._contents import MAX_TEXT_BYTES, Reaction, RemoteDelete, Text
from trio_signal._outcomes import Ledger
from trio_signal._outgoing import (
    begin_writing,
    conversation_of,
    drop,
    enter_buffer,
    expire,
    hold,
    is_decided,
    is_held,
    is_in_doubt,
    is_new,
    is_waiting,
    keep_outcome,
    leave_to_next,
    on_decided,
    on_done,
    put_in_doubt,
    settle,
    tell,
    was_in_buffer,
)

PEER = "+15550100"
DEADLINE = 10.0
SENT = Sent(1795300291244)
ERROR = GatewayError("the link broke")
NOT_SENT = Failed(ERROR, Certainty.NOT_SENT)
UNKNOWN = Failed(ERROR, Certainty.UNKNOWN)
DOUBT = Failed(GatewayError("the answer was lost"), Certainty.UNKNOWN)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Phase = Literal["new", "waiting", "held", "writing", "done"]


class Model:
    """What a message should be, in the plainest words, looked at after each step."""

    def __init__(self) -> None:
        self.phase: Phase = "new"
        self.outcome: Outcome | None = None
        self.doubt: Failed | None = None
        self.left_from: Phase | None = None

    def end(self, outcome: Outcome) -> None:
        assert self.outcome is None
        self.left_from, self.phase, self.outcome = self.phase, "done", outcome

    def give_up(self, reason: DropReason) -> bool:
        if self.phase in {"done", "writing"}:
            return False
        self.end(self.doubt or Dropped(reason))
        return True

    def settle(self, outcome: Outcome) -> None:
        # With a doubt nobody can say any more that it was certainly not sent.
        if self.doubt and isinstance(outcome, Failed):
            outcome = Failed(outcome.error, Certainty.UNKNOWN)
        self.end(outcome)


class Pair:
    """A message and its model, moved together."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self.clock = Clock()
        self.message = OutgoingMessage(PEER, "hello", deadline=deadline, clock=self.clock)
        self.model = Model()
        self.decided: list[bool] = []
        self.told: list[tuple[OutgoingMessage, Outcome | None]] = []
        on_decided(self.message, self.decide)
        on_done(self.message, self.tell)

    def decide(self, message: OutgoingMessage) -> None:
        assert message is self.message
        assert self.told == []
        self.decided.append(was_in_buffer(message))

    def tell(self, message: OutgoingMessage, outcome: Outcome) -> None:
        assert message.outcome is outcome
        self.told.append((message, outcome))

    def check(self) -> None:
        message, model = self.message, self.model
        if self.clock.now >= message.deadline and model.phase != "new":
            model.give_up(DropReason.EXPIRED)
        assert message.outcome == model.outcome
        assert is_new(message) == (model.phase == "new")
        assert is_waiting(message) == (model.phase == "waiting")
        assert is_held(message) == (model.phase == "held")
        # One outcome, told once, and whoever hears of the decision can still see where the message was.
        assert self.told == ([] if model.outcome is None else [(message, model.outcome)])
        assert self.decided == ([] if model.outcome is None else [model.left_from == "waiting"])


def tick(pair: Pair) -> None:
    pair.clock.now += DEADLINE


def enter(pair: Pair) -> None:
    enter_buffer(pair.message)
    pair.model.phase = "waiting"


def hold_it(pair: Pair) -> None:
    hold(pair.message)
    pair.model.phase = "held"


def hold_in_doubt(pair: Pair) -> None:
    hold(pair.message, DOUBT)
    pair.model.phase, pair.model.doubt = "held", DOUBT


def write(pair: Pair) -> None:
    assert begin_writing(pair.message) == (pair.model.phase == "held")
    if pair.model.phase == "held":
        pair.model.phase = "writing"


def settle_as(outcome: Outcome) -> Callable[[Pair], None]:
    def settle_it(pair: Pair) -> None:
        settle(pair.message, outcome)
        pair.model.settle(outcome)

    return settle_it


def withdraw(pair: Pair) -> None:
    assert pair.message.withdraw() == pair.model.give_up(DropReason.WITHDRAWN)


def drop_closed(pair: Pair) -> None:
    assert drop(pair.message, DropReason.CLOSED) == pair.model.give_up(DropReason.CLOSED)


ALWAYS = (tick, withdraw, drop_closed)
SETTLING = tuple(settle_as(outcome) for outcome in (SENT, NOT_SENT, UNKNOWN))

# What the buffer and the send task do in each phase; the rest is theirs to keep from doing.
MOVES: dict[Phase, tuple[Callable[[Pair], None], ...]] = {
    "new": (enter, *ALWAYS),
    "waiting": (hold_it, *ALWAYS),
    "held": (write, *ALWAYS),
    "writing": (hold_it, hold_in_doubt, *SETTLING, *ALWAYS),
    "done": (write, *ALWAYS),
}


def every_walk(length: int, walked: tuple[Callable[[Pair], None], ...] = ()) -> int:
    """Take every walk of that length from the beginning; return how many there were."""
    pair = Pair()
    for move in walked:
        move(pair)
        pair.check()
    if length == 0:
        return 1
    return sum(every_walk(length - 1, (*walked, move)) for move in MOVES[pair.model.phase])


@pytest.mark.contract("O1", "O2", "O5", "O8", "O12")
def test_every_walk_of_six_steps_ends_in_one_outcome_at_most() -> None:
    assert every_walk(6) > 3_000


class OutgoingMachine(RuleBasedStateMachine):
    """Longer walks, with and without a deadline, and wrong calls in between."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.started = False

    @precondition(lambda self: not self.started)
    @rule(deadline=st.sampled_from([math.inf, 5.0, 40.0]))
    def begin(self, deadline: float) -> None:
        self.pair = Pair(deadline)
        self.started = True

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(MOVES[self.pair.model.phase]))(self.pair)

    @precondition(lambda self: self.pair.model.phase == "done")
    @rule(outcome=st.sampled_from([SENT, NOT_SENT, UNKNOWN, Dropped(DropReason.CLOSED)]))
    def settle_again(self, outcome: Outcome) -> None:
        with pytest.raises(AssertionError, match="has an outcome already"):
            settle(self.pair.message, outcome)

    @precondition(lambda self: self.pair.model.phase == "done")
    @rule(doubt=st.sampled_from([None, DOUBT]))
    def hold_again(self, doubt: Failed | None) -> None:
        with pytest.raises(AssertionError, match="is done and must not be tried again"):
            hold(self.pair.message, doubt)

    @invariant()
    def agrees(self) -> None:
        self.pair.check()


TestOutgoingMachine = pytest.mark.contract("O1", "O2", "O8")(OutgoingMachine.TestCase)


@pytest.mark.contract("O5")
@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (SENT, SENT),
        (NOT_SENT, Failed(ERROR, Certainty.UNKNOWN)),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_an_earlier_doubt_makes_every_failure_unknown(last: Outcome, outcome: Outcome) -> None:
    message = OutgoingMessage(PEER, "hello")
    hold(message)
    assert not is_in_doubt(message)
    for doubt in (DOUBT, None):
        hold(message, doubt)
        assert is_in_doubt(message)
        assert begin_writing(message)
    settle(message, last)
    assert message.outcome == outcome


@pytest.mark.contract("O5")
def test_the_doubt_of_an_earlier_process_is_one() -> None:
    message = OutgoingMessage(PEER, "hello")
    put_in_doubt(message, DOUBT, 2)
    assert is_in_doubt(message)
    assert drop(message, DropReason.CLOSED)
    assert message.outcome == DOUBT


@pytest.mark.contract("O5")
@pytest.mark.parametrize("reason", DropReason)
def test_a_message_in_doubt_that_is_given_up_fails_as_unknown(reason: DropReason) -> None:
    message = OutgoingMessage(PEER, "hello")
    newer = Failed(GatewayError("the next answer was lost too"), Certainty.UNKNOWN)
    hold(message, DOUBT)
    hold(message, newer)
    hold(message)
    assert drop(message, reason)
    assert message.outcome == newer


@pytest.mark.contract("O8")
@pytest.mark.parametrize("deadline", [0.0, -1.0, -math.inf, 0])
def test_a_message_that_is_late_from_the_start_is_never_written(deadline: float) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=deadline, clock=Clock())
    enter_buffer(message)
    hold(message)
    assert not begin_writing(message)
    assert message.outcome == Dropped(DropReason.EXPIRED)


@pytest.mark.contract("O8")
def test_a_message_that_nobody_has_accepted_does_not_expire() -> None:
    message = OutgoingMessage(PEER, "hello", deadline=-1.0, clock=Clock())
    expire(message)
    assert message.outcome is None
    enter_buffer(message)
    assert message.outcome == Dropped(DropReason.EXPIRED)


@pytest.mark.contract("O8")
def test_nothing_expires_a_moment_too_early() -> None:
    clock = Clock()
    message = OutgoingMessage(PEER, "hello", deadline=DEADLINE, clock=clock)
    enter_buffer(message)
    clock.now = math.nextafter(DEADLINE, 0)
    expire(message)
    assert message.outcome is None
    clock.now = DEADLINE
    expire(message)
    assert message.outcome == Dropped(DropReason.EXPIRED)


def outcome_of(message: OutgoingMessage) -> Outcome | None:
    return message.outcome


def is_live(message: OutgoingMessage) -> bool:
    return is_waiting(message) or is_held(message)


@pytest.mark.contract("O8")
@pytest.mark.parametrize("phase", [enter_buffer, hold])
@pytest.mark.parametrize(
    ("look", "before", "after"),
    [
        (outcome_of, None, Dropped(DropReason.EXPIRED)),
        (is_decided, False, True),
        (is_live, True, False),
        (begin_writing, True, False),
    ],
    ids=["its outcome", "is it decided", "is it live", "may it leave"],
)
def test_whoever_looks_at_a_message_finds_that_its_time_is_over(
    look: Callable[[OutgoingMessage], object],
    before: object,
    after: object,
    phase: Callable[[OutgoingMessage], None],
) -> None:
    """Nobody else tells it so: there is no task for each message."""
    for deadline, now, expected in ((DEADLINE, DEADLINE - 1, before), (DEADLINE, DEADLINE, after)):
        clock, decided = Clock(), list[OutgoingMessage]()
        message = OutgoingMessage(PEER, "hello", deadline=deadline, clock=clock)
        on_decided(message, decided.append)
        phase(message)
        clock.now = now
        assert look(message) == expected
        assert decided == ([message] if now == DEADLINE else [])
    endless = OutgoingMessage(PEER, "hello", clock=Clock())
    phase(endless)
    assert look(endless) == before


@pytest.mark.contract("O4")
@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("+15550100", "+15550100", True),
        ("+15550100", "+15550101", False),
        ("0f9ca8ba-0000-4000-8000-00000000abcd", "0F9CA8BA-0000-4000-8000-00000000ABCD", True),
        ("ada.01", "Ada.01", True),
        ("group.QUFBQQ==", "group.QUFBQQ==", True),
        ("group.QUFBQQ==", "group.qufbqq==", False),
    ],
)
def test_case_tells_nobody_apart_but_groups(one: str, other: str, is_same: bool) -> None:
    first, second = (conversation_of(OutgoingMessage(to, "hello")) for to in (one, other))
    assert (first == second) == is_same
    assert first != conversation_of(OutgoingMessage(one, "hello", account="+15550001"))


@pytest.mark.contract("O1")
def test_everybody_who_asked_is_told_once_and_in_order() -> None:
    message = OutgoingMessage(PEER, "hello")
    told: list[tuple[int, Outcome]] = []

    def tell(n: int, of: OutgoingMessage, outcome: Outcome) -> None:
        assert of is message
        told.append((n, outcome))

    for n in range(3):
        on_done(message, partial(tell, n))
    hold(message)
    begin_writing(message)
    settle(message, SENT)
    message.withdraw()
    assert told == [(0, SENT), (1, SENT), (2, SENT)]


# --- With a store an outcome is decided first, and told once it is kept. ---


@pytest.mark.contract("O1", "O2", "D1")
async def test_an_outcome_is_told_only_once_it_is_kept(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    kept: list[Outcome] = []
    told: list[Outcome] = []
    seen: list[None] = []
    keep_outcome(message, lambda _, outcome: kept.append(outcome))
    on_done(message, lambda _, outcome: told.append(outcome))
    enter_buffer(message)
    assert message.withdraw()
    assert kept == [Dropped(DropReason.WITHDRAWN)]
    assert is_decided(message)
    assert not is_waiting(message)
    assert not message.withdraw()
    assert [message.outcome] == [None]
    with trio.move_on_after(5) as waiting, pytest.raises(MessageDropped):
        await message.wait()
    assert waiting.cancelled_caught
    tell(message, lambda: seen.append(None))
    assert told == kept
    assert seen == []
    with pytest.raises(MessageDropped, match="withdrawn"):
        await message.wait()
    assert message.outcome == Dropped(DropReason.WITHDRAWN)
    assert seen == [None]


def test_what_has_no_outcome_cannot_be_told() -> None:
    with pytest.raises(AssertionError, match="no outcome"):
        tell(OutgoingMessage(PEER, "hello"))


@pytest.mark.contract("C5", "D1")
async def test_what_is_left_to_the_next_process_has_no_outcome_in_this_one(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    enter_buffer(message)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ClientClosed, match="the next process sends it"):
                await message.wait()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert leave_to_next(message)
    with assert_checkpoints(), pytest.raises(ClientClosed, match="the next process sends it"):
        await message.wait()
    assert not message.withdraw()
    assert not drop(message, DropReason.CLOSED)
    assert message.outcome is None
    assert not is_waiting(message)


def test_what_is_being_written_or_done_is_not_left_to_the_next_process() -> None:
    message = OutgoingMessage(PEER, "hello")
    hold(message)
    assert begin_writing(message)
    assert not leave_to_next(message)
    settle(message, SENT)
    assert not leave_to_next(message)


# --- wait() ---


async def test_wait_returns_what_the_gateway_said(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    partly = Sent(5, (FailedRecipient("+15550101", "UNREGISTERED_FAILURE"),))
    results: list[Sent] = []

    async def waiter() -> None:
        results.append(await message.wait())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waiter)
        await wait_all_tasks_blocked()
        settle(message, partly)
    assert results == [partly] * 3
    with assert_checkpoints():
        assert await message.wait() is partly


@pytest.mark.parametrize("reason", DropReason)
async def test_wait_raises_for_a_drop(reason: DropReason, autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    drop(message, reason)
    with assert_checkpoints(), pytest.raises(MessageDropped, match=reason.value) as caught:
        await message.wait()
    assert caught.value.reason is reason
    assert isinstance(caught.value, SignalError)


@pytest.mark.parametrize(
    ("certainty", "words"), [(Certainty.NOT_SENT, "it was not sent"), (Certainty.UNKNOWN, "is unknown")]
)
async def test_wait_raises_for_a_failure_and_says_how_certain_it_is(
    certainty: Certainty, words: str, autojump_clock: MockClock
) -> None:
    message = OutgoingMessage(PEER, "hello")
    settle(message, Failed(ERROR, certainty))
    with assert_checkpoints(), pytest.raises(SendFailed, match=f"the link broke .*{words}") as caught:
        await message.wait()
    assert caught.value.error is caught.value.__cause__ is ERROR
    assert caught.value.certainty == certainty.value
    assert isinstance(caught.value, GatewayError)


@pytest.mark.contract("O12")
async def test_cancelling_a_wait_cancels_the_waiting_only(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=trio.current_time() + 100)
    enter_buffer(message)
    for phase in (enter_buffer, hold, begin_writing):
        phase(message)
        with trio.move_on_after(1) as scope:
            await message.wait()
        assert scope.cancelled_caught
        assert message.outcome is None
    settle(message, SENT)
    assert await message.wait() is SENT


@pytest.mark.contract("O12")
async def test_a_wait_cancelled_in_advance_tells_nothing(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    settle(message, SENT)
    with trio.CancelScope() as scope:
        scope.cancel()
        await message.wait()
    assert scope.cancelled_caught


@pytest.mark.contract("O8")
@pytest.mark.parametrize("held", [False, True])
async def test_wait_ends_at_the_deadline_of_a_message_that_has_not_left(
    held: bool, autojump_clock: MockClock
) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=trio.current_time() + 5)
    enter_buffer(message)
    if held:
        hold(message)
    start = trio.current_time()
    with pytest.raises(MessageDropped, match="expired"):
        await message.wait()
    assert trio.current_time() - start == 5


@pytest.mark.contract("O5", "O8")
async def test_wait_ends_at_the_deadline_with_the_doubt_of_an_earlier_attempt(
    autojump_clock: MockClock,
) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=trio.current_time() + 5)
    hold(message, DOUBT)
    with pytest.raises(SendFailed, match="the answer was lost"):
        await message.wait()


@pytest.mark.contract("O8")
async def test_a_message_being_written_outlives_its_deadline(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    message = OutgoingMessage(PEER, "hello", deadline=start + 5)
    ended: list[float] = []

    async def waiter() -> None:
        assert await message.wait() is SENT
        ended.append(trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        await trio.sleep(3)
        hold(message)
        assert begin_writing(message)
        nursery.start_soon(waiter)
        await trio.sleep(17)
        assert message.outcome is None
        assert not message.withdraw()
        settle(message, SENT)
    assert ended == [20, 20]


@pytest.mark.contract("O8")
@pytest.mark.parametrize("asked_at", [0, 1, 7])
async def test_a_message_that_comes_back_from_writing_ends_at_its_deadline(
    asked_at: float, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    message = OutgoingMessage(PEER, "hello", deadline=start + 10)
    hold(message)

    async def waiter() -> None:
        await trio.sleep(asked_at)
        with pytest.raises(MessageDropped, match="expired"):
            await message.wait()
        assert trio.current_time() - start == 10

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = start + 30
        nursery.start_soon(waiter)
        await trio.sleep(0.5)
        assert begin_writing(message)
        await trio.sleep(5)
        hold(message)
    assert not nursery.cancel_scope.cancelled_caught, "nobody told the waiter that it is too late"


@pytest.mark.contract("O8")
async def test_a_message_that_comes_back_too_late_has_expired(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=trio.current_time() + 1)
    hold(message)
    assert begin_writing(message)
    await trio.sleep(2)
    hold(message)
    with pytest.raises(MessageDropped, match="expired"):
        await message.wait()


@pytest.mark.contract("O8")
async def test_a_message_that_nobody_has_accepted_waits_without_being_busy(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    message = OutgoingMessage(PEER, "hello", deadline=start + 5)
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1
            if steps > 1000:
                nursery.cancel_scope.cancel()

    async def waiter() -> None:
        with pytest.raises(MessageDropped, match="expired"):
            await message.wait()

    instrument = Steps()
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            await trio.sleep(20)
            assert message.outcome is None
            enter_buffer(message)
            nursery.cancel_scope.deadline = start + 60
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert steps < 100
    assert not nursery.cancel_scope.cancelled_caught, "nobody told the waiter that it is too late"


@pytest.mark.contract("O12")
async def test_withdrawing_wakes_whoever_waits(autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello")
    enter_buffer(message)

    async def waiter() -> None:
        with pytest.raises(MessageDropped, match="withdrawn"):
            await message.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        await wait_all_tasks_blocked()
        assert message.withdraw()
        assert not message.withdraw()


# --- Making one ---


def test_a_message_keeps_what_it_was_made_of() -> None:
    content = Text("hello", styled=True)
    message = OutgoingMessage(PEER, content, account="+15550001", id="mine", deadline=7)
    assert (message.recipient, message.text, message.id, message.deadline) == (PEER, "hello", "mine", 7.0)
    assert (message.content, message.account) == (content, "+15550001")
    assert OutgoingMessage(PEER, "hello").id != OutgoingMessage(PEER, "hello").id
    assert OutgoingMessage(PEER, "hello").content == Text("hello")


def test_what_is_no_text_has_none() -> None:
    reaction = Reaction("👍", PEER, 5)
    message = OutgoingMessage(PEER, reaction)
    assert (message.text, message.content) == ("", reaction)


@pytest.mark.contract("O3")
def test_the_size_counts_all_bytes_that_it_keeps_in_memory() -> None:
    empty = OutgoingMessage(PEER, "x").size - 1
    assert 0 < empty <= 1024
    for content in (Text("ü👋"), Text("x", (OutgoingAttachment(b"12345", None, "text/plain", 5),) * 2)):
        assert OutgoingMessage(PEER, content).size == empty + content.held
    assert OutgoingMessage(PEER, RemoteDelete(5)).size == empty


@pytest.mark.parametrize(
    "text", ["", None, b"bytes", 5, "\udcff", "x" * (MAX_TEXT_BYTES + 1), "ü" * (MAX_TEXT_BYTES // 2 + 1)]
)
def test_a_text_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^text: ") as caught:
        OutgoingMessage(PEER, text)
    assert caught.value.argument == "text"


def test_a_text_of_exactly_the_limit_is_taken() -> None:
    assert len(OutgoingMessage(PEER, "x" * MAX_TEXT_BYTES).text) == MAX_TEXT_BYTES


@pytest.mark.parametrize("deadline", [math.nan, "5", None, True])
def test_a_deadline_that_is_no_time_is_refused(deadline: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^deadline: .*trio\.current_time\(\)"):
        OutgoingMessage(PEER, "hello", deadline=deadline)


@pytest.mark.contract("O8")
async def test_a_deadline_later_than_any_is_none(autojump_clock: MockClock) -> None:
    for deadline in (10**400, 1e308, math.inf):
        message = OutgoingMessage(PEER, "hello", deadline=deadline)
        assert message.deadline == math.inf
        enter_buffer(message)
        with trio.move_on_after(10**8) as scope:
            await message.wait()
        assert scope.cancelled_caught
        assert message.outcome is None


@pytest.mark.contract("O8")
@pytest.mark.parametrize("deadline", [-(10**400), -1e308, -math.inf], ids=["huge", "large", "infinite"])
async def test_a_deadline_earlier_than_any_has_passed(deadline: float, autojump_clock: MockClock) -> None:
    message = OutgoingMessage(PEER, "hello", deadline=deadline)
    enter_buffer(message)
    with pytest.raises(MessageDropped, match="expired"):
        await message.wait()


@pytest.mark.parametrize("recipient", ["", "15550100", "somebody", None, 5])
def test_a_recipient_that_is_no_address_is_refused(recipient: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^recipient: "):
        OutgoingMessage(recipient, "hello")


def test_the_repr_shows_the_id_and_the_state_and_nothing_else() -> None:
    message = OutgoingMessage(PEER, "a secret", id="mine")
    assert repr(message) == "<OutgoingMessage mine new>"
    for change, name in ((enter_buffer, "waiting"), (hold, "held"), (begin_writing, "writing")):
        change(message)
        assert repr(message) == f"<OutgoingMessage mine {name}>"
    settle(message, SENT)
    assert repr(message) == f"<OutgoingMessage mine {SENT}>"


def test_certainties_and_reasons_compare_equal_to_their_words() -> None:
    certainties: list[str] = ["not_sent", "unknown"]
    reasons: list[str] = ["overflow", "expired", "withdrawn", "closed"]
    assert list(Certainty) == certainties
    assert list(DropReason) == reasons


# --- The ledger ---


@pytest.mark.contract("O1")
def test_the_ledger_balances_for_every_mix_of_outcomes() -> None:
    kinds: list[Outcome | None] = [
        None,
        SENT,
        *(Dropped(reason) for reason in DropReason),
        *(Failed(ERROR, certainty) for certainty in Certainty),
    ]
    for mix in itertools.product(kinds, repeat=3):
        ledger = Ledger()
        for outcome in mix:
            ledger.accepted += 1
            if outcome is not None:
                ledger.enter(outcome)
        figures = ledger.statistics()
        assert figures == OutgoingStatistics(
            3,
            mix.count(SENT),
            {reason: n for reason in DropReason if (n := mix.count(Dropped(reason)))},
            {certainty: n for certainty in Certainty if (n := mix.count(Failed(ERROR, certainty)))},
        )
        assert figures.pending == mix.count(None)


def test_statistics_taken_do_not_change_afterwards() -> None:
    ledger = Ledger(accepted=2)
    before = ledger.statistics()
    ledger.enter(Dropped(DropReason.CLOSED))
    assert (before.pending, before.dropped) == (2, {})


def test_a_message_with_an_outcome_is_in_no_buffer_any_more() -> None:
    message = OutgoingMessage(PEER, "hello", clock=Clock())
    enter_buffer(message)
    places: list[bool] = []
    on_decided(message, lambda decided: places.append(was_in_buffer(decided)))
    drop(message, DropReason.WITHDRAWN)
    # Whoever is told of the decision still sees where it was.
    assert places == [True]
    assert not was_in_buffer(message)


def test_an_id_is_a_text() -> None:
    with pytest.raises(ConfigurationError, match=r"^id: "):
        OutgoingMessage(PEER, "hello", id=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("reason", DropReason)
def test_a_drop_says_what_it_is(reason: DropReason) -> None:
    assert str(MessageDropped(reason)) == f"the message was dropped: {reason.value}"


def test_an_empty_message_costs_as_much_as_is_written_down() -> None:
    assert OutgoingMessage(PEER, RemoteDelete(5)).size == 512

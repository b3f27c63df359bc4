"""Taking in turn: several messages at once, and one at a time of each conversation."""

from collections.abc import Hashable
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import Dropped, DropReason, MessageBuffer, OutgoingMessage, Sent
from trio_signal._buffer import Overflow
from trio_signal._lanes import Lanes
from trio_signal._outgoing import begin_writing, conversation_of, settle

ADA = "+15550002"
BEA = "+15550003"
GROUP = "group.QUFFQ0F3UUZCZ2M9"
UUID = "8e3d9f4a-6c1b-4e2a-9d7f-0a1b2c3d4e5f"


def take(buffer: MessageBuffer, count: int = 1_000) -> list[str]:
    """Take in turn what is there, up to so many, and give the texts."""
    taken: list[str] = []
    while len(taken) < count and (message := buffer.next_in_turn()) is not None:
        taken.append(message.text)
    return taken


# --- The rule itself ---


class TurnMachine(RuleBasedStateMachine):
    """Of all that waits the oldest is taken whose conversation is free; nothing else is ever passed over."""

    @initialize(overflow=st.sampled_from(["drop_oldest", "drop_newest"]), max_size=st.integers(1, 6))
    def make(self, overflow: Overflow, max_size: int) -> None:
        self.buffer = MessageBuffer(max_size, overflow=overflow)
        self.overflow, self.max_size = overflow, max_size
        self.now = 0.0
        self.waiting: list[OutgoingMessage] = []
        self.held: list[OutgoingMessage] = []
        self.count = 0

    def expire(self) -> None:
        self.waiting = [message for message in self.waiting if message.deadline > self.now]

    @rule(to=st.sampled_from([ADA, BEA, GROUP]), lasts=st.sampled_from([1.0, 5.0, float("inf")]))
    def put(self, to: str, lasts: float) -> None:
        self.expire()
        self.count += 1
        message = OutgoingMessage(to, str(self.count), deadline=self.now + lasts, clock=lambda: self.now)
        self.buffer.put_nowait(message)
        if len(self.waiting) == self.max_size:
            if self.overflow == "drop_newest":
                assert message.outcome == Dropped(DropReason.OVERFLOW)
                return
            assert self.waiting.pop(0).outcome == Dropped(DropReason.OVERFLOW)
        self.waiting.append(message)

    @rule(data=st.data(), goes_on=st.booleans())
    def next_in_turn(self, data: st.DataObject, goes_on: bool) -> None:
        done = None
        if self.held and not goes_on:
            done = data.draw(st.sampled_from(self.held))
            self.held.remove(done)
            if begin_writing(done):
                settle(done, Sent(1))
        self.expire()
        busy = {conversation_of(message) for message in self.held}
        expected = next((m for m in self.waiting if conversation_of(m) not in busy), None)
        assert self.buffer.next_in_turn(done) is expected
        if expected is not None:
            self.waiting.remove(expected)
            self.held.append(expected)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.expire()
        if self.waiting:
            message = data.draw(st.sampled_from(self.waiting))
            assert message.withdraw()
            self.waiting.remove(message)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def withdraw_while_held(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.held)).withdraw()

    @rule(elapsed=st.sampled_from([0.5, 2.0]))
    def tick(self, elapsed: float) -> None:
        self.now += elapsed

    @rule()
    def drain(self) -> None:
        self.expire()
        assert self.buffer.drain() == self.waiting
        self.waiting = []

    @invariant()
    def holds_what_waits(self) -> None:
        if hasattr(self, "buffer"):
            self.expire()
            assert len(self.buffer) == len(self.waiting)
            assert len(self.buffer._lanes) <= len(self.waiting)


TurnMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestTurns: Any = pytest.mark.contract("O3", "O4")(TurnMachine.TestCase)


@pytest.mark.contract("O4")
def test_whose_conversation_a_message_belongs_to() -> None:
    def conversation(to: str, account: str | None = None) -> Hashable:
        return conversation_of(OutgoingMessage(to, "hi", account=account))

    assert conversation(UUID) == conversation(UUID.upper())
    assert conversation("ada.01") == conversation("Ada.01")
    assert conversation(GROUP) != conversation(GROUP.replace("Q", "q"))
    assert conversation(ADA, "+15550001") != conversation(ADA, "+15550009")
    assert conversation(ADA) != conversation(BEA)


def test_what_is_aside_is_out_of_it_at_once_when_it_has_an_outcome() -> None:
    lanes = Lanes[str]()
    assert lanes.occupy("a", "a1")
    assert not lanes.occupy("a", "a2")
    assert not lanes.occupy("a", "a3")
    lanes.forget("a2")
    lanes.forget("never seen")
    assert len(lanes) == 1
    assert lanes.take() is None
    lanes.leave("a")
    assert lanes.take() == "a3"
    lanes.leave("a")
    assert lanes.take() is None
    assert lanes.occupy("a", "a4")


def test_a_conversation_that_is_free_with_nothing_left_aside_is_forgotten() -> None:
    lanes = Lanes[str]()
    lanes.occupy("a", "a1")
    lanes.occupy("a", "a2")
    lanes.leave("a")
    lanes.forget("a2")
    assert lanes.take() is None
    assert lanes.occupy("a", "a3")


def test_the_oldest_of_all_that_is_aside_can_be_taken_out() -> None:
    lanes = Lanes[str]()
    for conversation in "ab":
        lanes.occupy(conversation, f"{conversation}1")
    lanes.occupy("b", "b2")
    lanes.occupy("a", "a2")
    assert [lanes.take_oldest(), lanes.take_oldest(), lanes.take_oldest()] == ["b2", "a2", None]


# --- In the buffer ---


@pytest.mark.contract("O3", "O4")
def test_what_waits_aside_counts_and_is_dropped_first() -> None:
    buffer = MessageBuffer(max_size=3)
    first = buffer.enqueue(ADA, "1")
    assert buffer.next_in_turn() is first
    second, third, fourth = (buffer.enqueue(ADA, text) for text in "234")
    assert buffer.next_in_turn() is None
    assert len(buffer) == 3
    fifth = buffer.enqueue(BEA, "5")
    assert second.outcome == Dropped(DropReason.OVERFLOW)
    assert buffer.next_in_turn() is fifth
    assert buffer.next_in_turn(first) is third
    assert buffer.drain() == [fourth]


@pytest.mark.contract("O8")
async def test_what_expires_aside_is_passed_over(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    first = buffer.enqueue(ADA, "1")
    assert buffer.next_in_turn() is first
    second, third = buffer.enqueue(ADA, "2", deadline=trio.current_time() + 1), buffer.enqueue(ADA, "3")
    assert buffer.next_in_turn() is None
    await trio.sleep(1)
    assert buffer.next_in_turn(first) is third
    assert second.outcome == Dropped(DropReason.EXPIRED)
    last = buffer.enqueue(ADA, "4", deadline=trio.current_time() + 1)
    assert buffer.next_in_turn() is None
    await trio.sleep(1)
    assert buffer.next_in_turn(third) is None
    assert last.outcome == Dropped(DropReason.EXPIRED)
    assert buffer.enqueue(ADA, "5") is buffer.next_in_turn()


@pytest.mark.contract("O4")
async def test_who_waits_is_given_nothing_of_a_busy_conversation(autojump_clock: MockClock) -> None:
    buffer, taken = MessageBuffer(), list[OutgoingMessage]()

    async def take_one() -> None:
        taken.append(await buffer.take_in_turn())

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(take_one)
        await wait_all_tasks_blocked()
        # No checkpoint in between: the first is given to one of them, who has not run yet.
        first, second = buffer.enqueue(ADA, "1"), buffer.enqueue(ADA, "2")
        await wait_all_tasks_blocked()
        assert taken == [first]
        assert len(buffer) == 1
        third = buffer.enqueue(BEA, "3")
    assert taken == [first, third]
    assert buffer.next_in_turn(first) is second


@pytest.mark.contract("O4")
async def test_nothing_of_a_busy_conversation_is_handed_over(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    first, second, other, last = (OutgoingMessage(to, "hi") for to in (ADA, ADA, BEA, ADA))
    buffer.put_nowait(first)
    assert buffer.next_in_turn() is first
    taken: list[OutgoingMessage] = []

    async def taker() -> None:
        taken.append(await buffer.take_in_turn())

    assert not buffer.hand_over(other), "nobody waits"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        assert not buffer.hand_over(second)
        assert buffer.hand_over(other), "its conversation has stayed free"
    assert taken == [other]
    buffer.put_nowait(second)
    assert buffer.next_in_turn() is None
    assert buffer.next_in_turn(first) is second
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        settle(second, Sent(1))
        assert not buffer.hand_over(last), "it was not given back"
        nursery.cancel_scope.cancel()
    assert buffer.next_in_turn(second) is None


@pytest.mark.contract("O4", "O12")
async def test_who_waits_and_is_given_one_that_is_withdrawn_waits_on(autojump_clock: MockClock) -> None:
    buffer, taken = MessageBuffer(), list[OutgoingMessage]()

    async def take_one() -> None:
        taken.append(await buffer.take_in_turn())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_one)
        await wait_all_tasks_blocked()
        first, second = buffer.enqueue(ADA, "1"), buffer.enqueue(ADA, "2")
        assert first.withdraw()
        await wait_all_tasks_blocked()
    assert taken == [second]


async def test_taking_in_turn_ends_with_the_buffer(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer()
    first, second = buffer.enqueue(ADA, "1"), buffer.enqueue(ADA, "2")
    assert await buffer.take_in_turn() is first
    buffer.close()
    with pytest.raises(trio.EndOfChannel):
        await buffer.take_in_turn()
    assert await buffer.take_in_turn(first) is second
    assert buffer.next_in_turn(second) is None


async def test_a_long_queue_for_a_busy_conversation_holds_nobody_up(autojump_clock: MockClock) -> None:
    buffer = MessageBuffer(max_size=5_000)
    busy = buffer.enqueue(ADA, "0")
    assert buffer.next_in_turn() is busy
    for number in range(4_000):
        buffer.enqueue(ADA, str(number))
    last = buffer.enqueue(BEA, "last")
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert await buffer.take_in_turn() is last
        nursery.cancel_scope.cancel()
    assert steps >= 10
    assert take(buffer) == []
    assert len(buffer) == 4_000

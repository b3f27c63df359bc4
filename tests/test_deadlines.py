"""``Deadlines``: what waits ends when its time has come, and what has left is forgotten."""

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_signal._deadlines import Deadlines


class Guest:
    """Waits until its time has come or it leaves. Two of them cannot be compared."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.left = False
        self.expired = False


class Room:
    """Guests who wait, and their deadlines."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.expired: list[Guest] = []
        self.deadlines = Deadlines[Guest](self.is_waiting)

    def is_waiting(self, guest: Guest) -> bool:
        self.asked += 1
        if not guest.left and not guest.expired and guest.deadline <= self.now:
            guest.expired = True
            self.expired.append(guest)
        return not (guest.left or guest.expired)

    def enter(self, deadline: float) -> Guest:
        guest = Guest(deadline)
        self.deadlines.add(deadline, guest)
        return guest


# --- the rule itself ---


class DeadlineMachine(RuleBasedStateMachine):
    """A look ends all whose time has come, the earliest first, and nobody else; few who left are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.waiting: list[Guest] = []

    @rule(after=st.sampled_from([0.0, 1.0, 2.0, 5.0, 50.0, math.inf]), count=st.integers(1, 12))
    def enter(self, after: float, count: int) -> None:
        self.waiting += [self.room.enter(self.room.now + after) for _ in range(count)]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        guest = data.draw(st.sampled_from(self.waiting))
        guest.left = True
        self.waiting.remove(guest)

    @rule()
    def all_but_the_first_leave(self) -> None:
        for guest in self.waiting[1:]:
            guest.left = True
        del self.waiting[1:]

    @rule(elapsed=st.sampled_from([0.5, 1.0, 10.0]))
    def tick(self, elapsed: float) -> None:
        self.room.now += elapsed

    @rule()
    def look(self) -> None:
        room, count = self.room, len(self.waiting)
        room.expired.clear()
        room.deadlines.look(count)
        over = [guest for guest in self.waiting if guest.deadline <= room.now]
        # Those of one moment end in the order in which they came.
        assert room.expired == sorted(over, key=lambda guest: guest.deadline)
        self.waiting = [guest for guest in self.waiting if not guest.expired]
        assert room.deadlines.earliest == min((guest.deadline for guest in self.waiting), default=math.inf)
        assert len(room.deadlines) <= 2 * count + 16

    @invariant()
    def nobody_is_forgotten(self) -> None:
        finite = [guest.deadline for guest in self.waiting if guest.deadline < math.inf]
        assert len(self.room.deadlines) >= len(finite)
        assert self.room.deadlines.earliest <= min(finite, default=math.inf)


DeadlineMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestDeadlines: Any = pytest.mark.contract("O8")(DeadlineMachine.TestCase)


# --- one by one ---


def test_without_a_deadline_there_is_nothing_to_look_for() -> None:
    room = Room()
    room.enter(math.inf)
    assert (len(room.deadlines), room.deadlines.earliest) == (0, math.inf)
    room.deadlines.look(1)
    assert room.asked == 0


def test_what_has_not_expired_yet_is_the_last_that_is_asked() -> None:
    room = Room()
    early, late, last = (room.enter(deadline) for deadline in (1.0, 2.0, 3.0))
    room.now = 1.0
    room.deadlines.look(3)
    assert (room.expired, room.asked) == ([early], 2)
    assert (len(room.deadlines), room.deadlines.earliest) == (2, 2.0)
    room.now = 10.0
    room.deadlines.look(2)
    assert room.expired == [early, late, last]
    assert (len(room.deadlines), room.deadlines.earliest) == (0, math.inf)


@pytest.mark.parametrize(("left", "kept"), [(17, 18), (18, 1)])
def test_who_left_behind_one_that_stays_is_forgotten_when_there_are_many(left: int, kept: int) -> None:
    room = Room()
    stays = room.enter(1.0)
    for number in range(left):
        room.enter(2.0 + number).left = True
    room.deadlines.look(1)
    assert len(room.deadlines) == kept
    room.now = 1.0
    room.deadlines.look(1)
    assert room.expired == [stays]
    assert len(room.deadlines) == 0


def test_what_is_kept_of_many_is_still_in_order() -> None:
    room = Room()
    guests = [room.enter(float(deadline)) for deadline in range(100, 0, -1)]
    for guest in guests:
        guest.left = guest.deadline % 10 != 1
    room.deadlines.look(10)
    assert len(room.deadlines) == 10
    room.now = 100.0
    room.deadlines.look(10)
    assert [guest.deadline for guest in room.expired] == [float(deadline) for deadline in range(1, 100, 10)]

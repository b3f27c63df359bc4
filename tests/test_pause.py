"""``LimitPause``: how long sending pauses, whatever is under way when a limit is met."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_signal._pause import LimitPause

DAY = 86_400.0


def limited(pause: LimitPause, now: float, retry_after: float | None = None) -> float | None:
    """Note that a message met a limit that has left just before."""
    return pause.note_limit(pause.limits, now, retry_after=retry_after)


# --- the rule itself ---


class PauseMachine(RuleBasedStateMachine):
    """The pause grows with each limit that is met anew, and with nothing else, whoever is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = LimitPause()
        self.now = 0.0
        #: What each message under way has noted, and whether its news would still be of this limit.
        self.under_way: list[int] = []
        self.fresh: list[bool] = []
        self.over: list[bool] = []
        self.in_a_row = 0
        self.until = -math.inf

    @rule()
    def leaves(self) -> None:
        self.under_way.append(self.pause.limits)
        self.fresh.append(True)
        self.over.append(False)

    def come_back(self, data: st.DataObject) -> tuple[int, bool, bool]:
        place = data.draw(st.integers(0, len(self.under_way) - 1))
        return self.under_way.pop(place), self.fresh.pop(place), self.over.pop(place)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def succeeds(self, data: st.DataObject) -> None:
        known, fresh, _ = self.come_back(data)
        self.pause.note_success(known)
        if fresh:
            self.in_a_row = 0

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), asked=st.sampled_from([None, None, 0.0, 5.0, 1e9]))
    def is_limited(self, data: st.DataObject, asked: float | None) -> None:
        known, fresh, over = self.come_back(data)
        seconds = self.pause.note_limit(known, self.now, retry_after=asked)
        if over:
            assert seconds is None
            return
        if fresh:
            self.in_a_row += 1
            self.fresh = [False] * len(self.fresh)
        grown = min(60.0 * 2 ** max(self.in_a_row - 1, 0), 900.0)
        expected = grown if asked is None else min(max(asked, 1.0), DAY)
        assert seconds == expected
        self.until = max(self.until, self.now + expected)

    @rule()
    def ends(self) -> None:
        if self.until > self.now:
            self.fresh = [False] * len(self.fresh)
            self.over = [True] * len(self.over)
        self.pause.end(self.now)
        self.in_a_row, self.until = 0, -math.inf

    @rule(elapsed=st.sampled_from([1.0, 30.0, 600.0]))
    def tick(self, elapsed: float) -> None:
        self.now += elapsed

    @invariant()
    def is_as_it_should_be(self) -> None:
        assert (self.pause.in_a_row, self.pause.until) == (self.in_a_row, self.until)


PauseMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestPauses: Any = pytest.mark.contract("O6")(PauseMachine.TestCase)


# --- one by one ---


def test_without_a_limit_there_is_no_pause() -> None:
    pause = LimitPause()
    pause.note_success(pause.limits)
    pause.end(5.0)
    assert (pause.limits, pause.in_a_row, pause.until) == (0, 0, -math.inf)


@pytest.mark.contract("O6")
def test_the_pause_doubles_with_each_limit_and_begins_anew_after_a_success() -> None:
    pause = LimitPause()
    assert [limited(pause, 0.0) for _ in range(7)] == [60, 120, 240, 480, 900, 900, 900]
    assert pause.until == 900
    pause.note_success(pause.limits)
    assert limited(pause, 1000.0) == 60
    assert pause.until == 1060


@pytest.mark.contract("O6")
def test_what_left_together_meets_one_limit() -> None:
    pause = LimitPause()
    assert [pause.note_limit(0, float(now), retry_after=None) for now in range(3)] == [60, 60, 60]
    assert (pause.limits, pause.in_a_row, pause.until) == (1, 1, 62)
    pause.note_success(0)
    assert pause.in_a_row == 1, "it left before the limit was met"
    pause.note_success(1)
    assert pause.note_limit(0, 3.0, retry_after=None) == 60
    assert (pause.limits, pause.in_a_row) == (1, 0)


@pytest.mark.contract("O6")
@given(st.floats(min_value=0.0, allow_nan=False))
def test_what_the_gateway_asks_for_is_believed_from_a_second_to_a_day(asked: float) -> None:
    pause = LimitPause()
    believed = min(max(asked, 1.0), DAY)
    assert limited(pause, 7.0, asked) == believed
    assert pause.until == 7.0 + believed


@pytest.mark.contract("O6")
def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    pause = LimitPause()
    limited(pause, 0.0, 500.0)
    assert limited(pause, 10.0, 5.0) == 5.0
    assert pause.until == 500.0


@pytest.mark.contract("O6", "A5")
def test_a_pause_that_was_ended_is_not_begun_again_by_what_left_before() -> None:
    pause = LimitPause()
    limited(pause, 0.0)
    limited(pause, 0.0)
    pause.end(10.0)
    assert (pause.in_a_row, pause.until) == (0, -math.inf)
    assert [pause.note_limit(known, 11.0, retry_after=99.0) for known in (0, 1, 2)] == [None] * 3
    assert pause.until == -math.inf
    assert pause.note_limit(3, 12.0, retry_after=None) == 60


@pytest.mark.contract("O6")
def test_a_pause_that_is_over_by_itself_and_then_ended_still_counts_for_what_left_before() -> None:
    pause = LimitPause()
    left_before, _ = pause.limits, limited(pause, 0.0)
    pause.end(60.0)
    assert pause.note_limit(left_before, 61.0, retry_after=None) == 60
    assert pause.until == 121


@pytest.mark.contract("O6")
def test_each_challenge_of_a_limit_is_new_once() -> None:
    pause = LimitPause()
    limited(pause, 0.0)
    assert not pause.is_new_challenge(())
    assert [pause.is_new_challenge(tokens) for tokens in (("a",), ("a",), ("b",), ("a",))] == [
        *(True, False, True, False)
    ]
    pause.note_limit(0, 1.0, retry_after=None)
    assert not pause.is_new_challenge(("a",)), "it is the same limit"
    limited(pause, 2.0)
    assert pause.is_new_challenge(("a",))

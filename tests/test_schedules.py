"""Schedules of faults: see ``tests/schedules.py``."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .schedules import Step, draw, parse, shrink

FAULTS = ("cut", "drop", "kill")


def test_a_seed_gives_the_same_schedule_and_another_one_another() -> None:
    first, again, other = (draw(Random(seed), FAULTS, mean=3, until=100) for seed in (1, 1, 2))
    assert first == again != other
    assert {step.fault for step in first} == set(FAULTS)
    assert [step.time for step in first] == sorted(step.time for step in first)
    assert all(0 <= step.time < 100 for step in first)
    assert draw(Random(1), FAULTS, mean=1000, until=1) == ()


@given(st.lists(st.builds(Step, st.floats(0, 1e6), st.sampled_from(FAULTS), st.integers(0, 2**32))))
def test_a_schedule_is_read_as_it_was_written(steps: list[Step]) -> None:
    assert parse(" ".join(map(str, steps))) == tuple(steps)


@given(st.sets(st.integers(0, 19)), st.integers(1, 20))
def test_what_is_left_is_what_is_needed(needed: set[int], length: int) -> None:
    steps = tuple(Step(float(n), "cut", n) for n in range(length))
    needed = {n for n in needed if n < length}
    runs = 0

    def fails(candidate: tuple[Step, ...]) -> bool:
        nonlocal runs
        runs += 1
        return needed <= {step.seed for step in candidate}

    assert {step.seed for step in shrink(steps, fails, tries=1000)} == needed
    assert runs < 1000


@pytest.mark.parametrize("tries", [0, 1, 5, 15])
def test_it_stops_after_so_many_tries(tries: int) -> None:
    steps = tuple(Step(float(n), "cut", n) for n in range(16))
    tried: list[tuple[Step, ...]] = []

    def fails(candidate: tuple[Step, ...]) -> bool:
        tried.append(candidate)
        return len(candidate) >= 15

    kept = shrink(steps, fails, tries=tries)
    assert len(tried) == tries
    assert len(kept) == 16 - (tries >= 15)

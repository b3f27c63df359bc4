"""Seeded worlds of the whole, with stores, in which everything fails: see ``tests/hub_simulation.py``."""

import logging
import os

import pytest

from .hub_simulation import FAULTS, World, _steps, run_schedule, run_seed
from .schedules import parse
from .simulation import Violation, first_failure

#: How many worlds each run of the suite visits; ``TRIO_SIGNAL_SEEDS=5000`` visits more.
SEEDS = int(os.environ.get("TRIO_SIGNAL_SEEDS", "300"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected warnings out of a failing test's report, which tells its own story."""
    caplog.set_level(logging.CRITICAL, "trio_signal")


@pytest.mark.contract(
    "H1", "H2", "H3", "H4", "H5", "H6", "H7", "R1", "R2", "R3", "R4", "R5", "R6", "O1", "O4", "O5", "D1", "D2"
)
def test_no_promise_is_broken_in_any_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_failure(run_seed, SEEDS, monkeypatch) is None


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = run_seed(7), run_seed(7)
    assert first.faults == second.faults
    for one, other in zip(first.listeners, second.listeners, strict=True):
        assert [repr(event)[:60] for event in one.events] == [repr(event)[:60] for event in other.events]
        assert repr(one.told) == repr(other.told)
    assert first.faults != run_seed(8).faults


def test_every_fault_is_used() -> None:
    unused = set(FAULTS)
    for seed in range(30):
        unused -= {line.split()[1] for line in run_seed(seed).faults}
        if not unused:
            return
    assert not unused


def test_there_are_twenty_kinds_of_fault() -> None:
    assert len(FAULTS) >= 20


def test_a_schedule_can_be_run_again_with_fewer_faults() -> None:
    steps = _steps(7)
    assert [line.split()[1] for line in run_schedule(7, steps[:3]).faults][:3] == [s.fault for s in steps[:3]]
    assert run_schedule(7, steps).faults == run_seed(7).faults


def test_what_fails_is_told_with_the_shortest_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a listener that is killed is held to be the failure."""

    def fail(world: World) -> None:
        world.check(False, "a listener was killed")

    seed = next(seed for seed in range(100) if sum(step.fault == "listener_killed" for step in _steps(seed)))
    monkeypatch.setitem(FAULTS, "listener_killed", fail)
    with pytest.raises(Violation) as caught:
        run_seed(seed)
    again = str(caught.value).splitlines()[-1]
    assert again.count("listener_killed") == 1
    assert len(parse(again.split("'")[1])) == 1

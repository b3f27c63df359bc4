"""Seeded worlds of a hub and its clients in which everything fails: see ``tests/hub_simulation.py``."""

import logging
import os

import pytest

from .hub_simulation import FAULTS, run_seed
from .simulation import first_failure

#: How many worlds each run of the suite visits; ``TRIO_SIGNAL_SEEDS=5000`` visits more.
SEEDS = int(os.environ.get("TRIO_SIGNAL_SEEDS", "80"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected warnings out of a failing test's report, which tells its own story."""
    caplog.set_level(logging.CRITICAL, "trio_signal")


@pytest.mark.contract(
    "H1", "H2", "H3", "H4", "H5", "H6", "H7", "R1", "R2", "R3", "R4", "R5", "R6", "O1", "O4"
)
def test_no_promise_is_broken_in_any_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_failure(run_seed, SEEDS, monkeypatch) is None


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = run_seed(7), run_seed(7)
    assert first.faults == second.faults
    for one, other in zip(first.listeners, second.listeners, strict=True):
        assert [repr(event)[:60] for event in one.events] == [repr(event)[:60] for event in other.events]
        assert [repr(m.outcome) for m in one.letters] == [repr(m.outcome) for m in other.letters]
    assert first.faults != run_seed(8).faults


def test_every_fault_is_used() -> None:
    unused = set(FAULTS)
    for seed in range(30):
        unused -= {line.split()[1] for line in run_seed(seed).faults}
        if not unused:
            return
    assert not unused

"""Hundreds of seeded worlds in which everything fails: see ``tests/simulation.py``."""

import logging
import os
from collections.abc import Callable, Mapping

import pytest

from .simulation import CLI_FAULTS, FAULTS, Fault, World, first_failure, run_seed, run_signal_cli_seed

#: How many worlds each run of the suite visits; ``TRIO_SIGNAL_SEEDS=20000`` visits more.
SEEDS = int(os.environ.get("TRIO_SIGNAL_SEEDS", "160"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected warnings out of a failing test's report, which tells its own story."""
    caplog.set_level(logging.CRITICAL, "trio_signal")


@pytest.mark.contract("O1", "O2", "O4", "O5", "O7", "O9", "O10", "R1", "R3", "C1", "C2", "C4", "C5")
def test_no_promise_is_broken_in_any_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_failure(run_seed, SEEDS, monkeypatch) is None


@pytest.mark.contract("O1", "O2", "O4", "O5", "O7", "O9", "O10", "R1", "R3", "C1", "C2", "C3", "C4", "C5")
def test_no_promise_is_broken_with_signal_cli_s_own_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_failure(run_signal_cli_seed, SEEDS // 2, monkeypatch) is None


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = run_seed(7), run_seed(7)
    assert first.faults == second.faults
    assert list(map(repr, first.changes)) == list(map(repr, second.changes))
    assert [repr(m.outcome) for m in first.accepted] == [repr(m.outcome) for m in second.accepted]
    assert list(map(repr, first.events)) == list(map(repr, second.events))
    assert first.faults != run_seed(8).faults


@pytest.mark.parametrize(("run", "faults"), [(run_seed, FAULTS), (run_signal_cli_seed, CLI_FAULTS)])
def test_every_fault_is_used(run: Callable[[int], World], faults: Mapping[str, Fault]) -> None:
    unused = set(faults)
    for seed in range(100):
        unused -= {line.split()[1] for line in run(seed).faults}
        if not unused:
            return
    assert not unused

"""Hundreds of seeded worlds in which everything fails: see ``tests/simulation.py``."""

import logging
import multiprocessing
import os

import pytest

from trio_signal._errors import told

from .simulation import FAULTS, Violation, run_seed

#: How many worlds each run of the suite visits; ``TRIO_SIGNAL_SEEDS=20000`` visits more.
SEEDS = int(os.environ.get("TRIO_SIGNAL_SEEDS", "500"))

#: Worlds are independent, so both cores of a small machine may work.
WORKERS = min(2, os.cpu_count() or 1)


def _failure(seed: int) -> str | None:
    """Run one seed; give what went wrong as text, since not every exception can cross processes."""
    try:
        run_seed(seed)
    except Exception as error:  # noqa: BLE001  (whatever it was, the parent fails with it)
        cause = told(error)
        kind = "" if isinstance(cause, Violation) else f"seed {seed}: {type(cause).__name__}: "
        return f"{kind}{cause}"
    return None


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep thousands of expected warnings out of a failing test's report, which tells its own story."""
    caplog.set_level(logging.CRITICAL, "trio_signal")


@pytest.mark.contract("O1", "O2", "O4", "O5", "O7", "O9", "O10", "R1", "R3", "C1", "C2", "C4", "C5")
def test_no_promise_is_broken_in_any_world(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other tests measure what is covered; tracing would only make these worlds three times as slow.
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.delenv(name)
    # Spawned, not forked: a forked child would inherit the state of pytest and of coverage half way.
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        for failure in pool.imap(_failure, range(SEEDS), chunksize=25):
            assert failure is None, failure


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = run_seed(7), run_seed(7)
    assert first.faults == second.faults
    assert list(map(repr, first.changes)) == list(map(repr, second.changes))
    assert [repr(m.outcome) for m in first.accepted] == [repr(m.outcome) for m in second.accepted]
    assert list(map(repr, first.events)) == list(map(repr, second.events))
    assert first.faults != run_seed(8).faults


def test_every_fault_is_used() -> None:
    unused = set(FAULTS)
    for seed in range(100):
        unused -= {line.split()[1] for line in run_seed(seed).faults}
        if not unused:
            return
    assert not unused

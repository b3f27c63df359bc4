"""The fault matrix: 360 cells on real sockets, compared with docs/fault-matrix.md and the contract."""

import itertools

import pytest

from tests.fault_cell import all_cells
from tests.fault_kinds import FAULTS, KINDS, Kind, Phase
from tests.fault_matrix import documented, play, soak


@pytest.mark.contract(
    "L1", "L4", "B5", "C1", "C6", "O1", "O2", "O4", "O5", "O6", "O10", "O11", "R1", "R3", "R6", "R7"
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_user_sees_of_every_fault_in_every_phase(kind: Kind) -> None:
    cells = [cell for cell in all_cells() if cell.kind == kind]
    results = dict(zip(cells, play(cells), strict=True))
    failures = [seen.failure for seen in results.values() if seen.failure is not None]
    assert not failures, "\n".join(failures)
    told = {fault_phase[:2]: words for fault_phase, words in documented().items() if fault_phase[2] == kind}
    changed = [
        f"{cell}: {seen.words}; the page says: {told[cell.fault.name, cell.phase]}"
        for cell, seen in results.items()
        if seen.words != told[cell.fault.name, cell.phase]
    ]
    assert not changed, "\n".join([*changed, "python -m tests.fault_matrix --write writes it anew"])


@pytest.mark.contract("R3", "R5", "H2")
def test_nothing_is_lost_through_a_hub_whatever_the_fault() -> None:
    assert not [words for (_, _, kind), words in documented().items() if kind == "hub" and "gap" in words]


def test_the_page_has_every_cell_and_no_other() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == 20
    assert len(Phase) == 6
    assert list(documented()) == list(itertools.product(names, Phase, KINDS))


def test_few_cells_cannot_happen_and_each_says_why() -> None:
    reasons = [reason for fault in FAULTS for _, reason in fault.impossible]
    assert len(reasons) * len(KINDS) <= 10
    assert all(reasons)


def test_the_matrix_with_its_faults_at_random_moments() -> None:
    assert list(soak(20)) == [None] * 20

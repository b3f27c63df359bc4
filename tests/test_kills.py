"""Twenty times ``kill -9``, each followed by a look at the ledger: see ``tests/kills.py``."""

import os
from random import Random

import pytest

from .kills import SCENES, run_scenes

#: How often something is killed in each of the four scenes; ``TRIO_SIGNAL_KILLS=50`` kills more often.
KILLS = int(os.environ.get("TRIO_SIGNAL_KILLS", "5"))


@pytest.mark.contract("D1", "O1", "O2", "O4", "O5", "R1", "R3", "R5", "H1", "H3")
def test_nothing_is_lost_and_nothing_sent_twice_whatever_is_killed() -> None:
    # Other moments each time; the text of a failure names the seed.
    seed = Random().randrange(1_000_000)
    assert run_scenes([(name, seed) for name in SCENES], KILLS) == []

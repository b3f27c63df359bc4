"""Other clients do in the benchmarks what they are said to do: each at the size at which it shows."""

from dataclasses import replace

import pytest

from benchmarks.case import Contender
from benchmarks.catalogue import CASES
from benchmarks.harness import run_case

from ..bench_contenders import TINY


@pytest.mark.parametrize(
    ("name", "contender"),
    [(name, contender) for name in TINY for contender in CASES[name].contenders if contender.peer],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_peer_does_the_same_work(name: str, contender: Contender) -> None:
    case = replace(CASES[name], contenders=(replace(contender, fewer=1),), limit=60.0)
    result = run_case(case, rounds=1, params=TINY[name])
    assert result.missing == {}
    (measured,) = result.results
    assert measured.error is None

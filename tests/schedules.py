"""Schedules of faults: drawn from a seed, run as written, and shrunk to the shortest that still fails.

A schedule is data. So a world that broke a promise can be seen again with fewer faults, until none of those
that are left can be spared.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple


class Step(NamedTuple):
    """One fault.

    Attributes:
        time: when, in virtual seconds.
        fault: its name.
        seed: what its own random numbers come from.
    """

    time: float
    fault: str
    seed: int

    def __str__(self) -> str:
        """Show it as :func:`parse` reads it."""
        return f"{self.time!r}:{self.fault}:{self.seed}"


def draw(random: Random, faults: Iterable[str], *, mean: float, until: float) -> tuple[Step, ...]:
    """Draw faults whose distances are ``mean`` seconds on average."""
    names = sorted(faults)
    steps: list[Step] = []
    time = random.expovariate(1 / mean)
    while time < until:
        steps.append(Step(round(time, 3), random.choice(names), random.getrandbits(32)))
        time += random.expovariate(1 / mean)
    return tuple(steps)


def parse(text: str) -> tuple[Step, ...]:
    """Read a schedule as ``str()`` of its steps writes it, with blanks between."""
    steps = (step.split(":") for step in text.split())
    return tuple(Step(float(time), fault, int(seed)) for time, fault, seed in steps)


def shrink(
    steps: Sequence[Step], fails: Callable[[tuple[Step, ...]], bool], *, tries: int = 200
) -> tuple[Step, ...]:
    """Leave out what is not needed for the failure: halves, quarters, …, single steps, until none can go.

    Args:
        steps: a schedule that fails.
        fails: runs one and says whether it fails.
        tries: run no more than so many.
    """
    kept = tuple(steps)
    size = max(1, len(kept) // 2)
    while tries and kept:
        shorter = None
        for start in range(0, len(kept), size):
            if not tries:
                break
            tries -= 1
            candidate = kept[:start] + kept[start + size :]
            if fails(candidate):
                shorter = candidate
                break
        if shorter is not None:
            kept = shorter
            size = min(size, max(1, len(kept) // 2))
        elif size == 1:
            break
        else:
            size //= 2
    return kept

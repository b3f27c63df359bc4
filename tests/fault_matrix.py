"""Twenty faults in six phases of a connection to each of three gateways, on real sockets.

Every cell says what a user saw and how long it took until all was well again; `tests.fault_cell` tells how
one is played. Bytes travel through the kernel, and Trio's clock goes on to the next deadline once nothing has
happened for `_QUIET` seconds: so the library's own time limits are met, and nothing depends on how fast a
machine is. ::

    python -m tests.fault_matrix             plays it all and prints the table
    python -m tests.fault_matrix --write     writes it into docs/fault-matrix.md
    python -m tests.fault_matrix --soak 500  plays so many cells, each with its fault at random in the phase
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import trio
from trio.testing import MockClock

from tests.fault_cell import Cell, Seen, all_cells, run_cell
from tests.fault_kinds import FAULTS, KINDS, Phase
from tests.fault_wire import Names

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "fault-matrix.md"

#: For how long nothing must happen before Trio's clock goes on, in seconds by the kernel's clock.
_QUIET: Final = 0.005

#: How many cells are played at the same time; each opens about ten files.
_AT_ONCE: Final = 60

_IMPOSSIBLE: Final = "cannot happen here: "
_COLUMNS: Final = ["fault", "phase", *KINDS]


class _Unexpected(logging.Handler):
    """Collects what the client logs about an end of a connection that it did not foresee."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("unexpected"):
            self.words.append(self.format(record))


def play(cells: Sequence[Cell], seed: str | None = None) -> list[Seen]:
    """Play cells and return what was seen, in their order; never raises for what went wrong in one.

    Args:
        cells: which; those that are impossible are not played.
        seed: moves each fault at random within its phase; at the beginning of the phase without.
    """
    unexpected, logger = _Unexpected(), logging.getLogger("trio_signal")
    logger.addHandler(unexpected)
    try:
        seen = trio.run(_play, cells, seed, clock=MockClock(autojump_threshold=_QUIET))
    finally:
        logger.removeHandler(unexpected)
    assert not unexpected.words, "\n".join(unexpected.words)
    return seen


async def _play(cells: Sequence[Cell], seed: str | None) -> list[Seen]:
    names, limit = Names(), trio.CapacityLimiter(_AT_ONCE)
    trio.socket.set_custom_hostname_resolver(names)
    seen: dict[int, Seen] = {}

    async def play_one(number: int, cell: Cell) -> None:
        random = None if seed is None else Random(f"{seed} {cell}")
        async with limit:
            seen[number] = await run_cell(cell, names, f"cell-{number}.test", random)

    async with trio.open_nursery() as nursery:
        for number, cell in enumerate(cells):
            reason = cell.fault.why_not(cell.phase)
            if reason is None:
                nursery.start_soon(play_one, number, cell)
            else:
                seen[number] = Seen(_IMPOSSIBLE + reason, 0.0)
    return [seen[number] for number in range(len(cells))]


def soak(count: int) -> Iterator[str | None]:
    """Play so many cells, round after round of the matrix, with faults at random moments of their phases.

    Yields for each cell what went wrong in it, None if nothing did.
    """
    possible = [cell for cell in all_cells() if cell.fault.why_not(cell.phase) is None]
    for at in range(0, count, _AT_ONCE):
        cells = [possible[n % len(possible)] for n in range(at, min(at + _AT_ONCE, count))]
        seed = str(at // len(possible))
        for seen in play(cells, seed):
            yield None if seen.failure is None else f"seed {seed}: {seen.failure}"


# --- the table ---


def document(results: Mapping[Cell, Seen]) -> str:
    """Return the whole page."""
    stories = [f"- **{fault.name}**: {fault.story}." for fault in FAULTS]
    lines = [" | ".join(["", *row, ""]).strip() for row in _rows(results)]
    return "\n".join([_HEAD, *stories, "", _BEFORE_TABLE, *lines, ""])


def _rows(results: Mapping[Cell, Seen]) -> Iterator[list[str]]:
    yield _COLUMNS
    yield ["---"] * len(_COLUMNS)
    for fault in FAULTS:
        for phase in Phase:
            seen = [results[Cell(fault, phase, kind)] for kind in KINDS]
            yield [fault.name, phase, *map(_told, seen)]


def _told(seen: Seen) -> str:
    return seen.words if seen.words.startswith(_IMPOSSIBLE) else f"{seen.words} ({seen.seconds:.0f} s)"


def documented() -> dict[tuple[str, str, str], str]:
    """Return what the page in docs/ says was seen, by fault, phase and gateway, without the times."""
    found: dict[tuple[str, str, str], str] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells != _COLUMNS and set(cells) != {"---"}:
            fault, phase, *seen = cells
            for kind, words in zip(KINDS, seen, strict=True):
                assert (fault, phase, kind) not in found, f"{fault}, {phase} stands there twice"
                found[fault, phase, kind] = words.partition(" (")[0]
    return found


_HEAD: Final = """\
# What a user sees of each fault

Twenty faults strike in each of six phases of a connection to each of the three gateways. The client has its
default time limits and no jitter; it finds its gateway by name, and everything goes through real sockets.
`python -m tests.fault_matrix --write` writes this page; `tests/test_fault_matrix.py` plays all 360 cells and
compares them with it. It also checks in each that every message from outside arrived once and in order, or
that a gap names it; that the bot's messages arrived at most once and in order; that their outcomes are true;
that states change as the contract says; and that in the end the client is connected and messages pass.

The faults:
"""

_BEFORE_TABLE: Final = """\
The phases:

- **look-up**: on the first connection of all, the name is looked up and the gateway asked what it is.
- **connect**, **handshake**, **syncing**: on the connection after one that was lost, TCP is there; the link
  is asked for; what follows the answer is on its way (REST: the first pong; signal-cli: what waited on
  Signal's server, since its receive mode is `on-connection`; hub: what was missed).
- **connected and idle**.
- **in the middle of a send**: its request is on its way.

Each cell tells with which reasons the link was lost from the fault on, if it was; whether there was a gap, or
an event that could not be read (in `connect`, `handshake` and `syncing` a REST gateway's gap is that of the
loss before); what became of the message to be sent (after the fault, if the client was idle), and whether it
arrived if that is unknown; and how many seconds after the fault's beginning all was well again.
"""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Play the fault matrix.")
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name}")
    parser.add_argument("--soak", type=int, metavar="COUNT", help="play so many cells at random moments")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    failures: list[str]
    if options.soak:
        failures = [failure for failure in soak(options.soak) if failure is not None]
    else:
        cells = all_cells()
        results = dict(zip(cells, play(cells), strict=True))
        page = document(results)
        failures = [seen.failure for seen in results.values() if seen.failure is not None]
        if options.write and not failures:
            DOCUMENT.write_text(page, encoding="utf-8")
        else:
            sys.stdout.write(page)
    raise SystemExit("\n".join(failures) or None)


if __name__ == "__main__":
    main()

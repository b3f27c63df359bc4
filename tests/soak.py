"""The long forms of the tests: ``make soak``, or ``python -m tests.soak [PART ...] [--scale 0.1]``.

Each part is a module with a function ``soak(count)`` that yields for each case None, or what went wrong in
it, with the command that shows it again. Whatever fails, the rest is run; the exit code says whether all was
well.
"""

import argparse
import importlib
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

_ABOUT: Final = "Run the long forms of the tests."

#: Runs this many cases, and yields None or what went wrong for each.
Soak = Callable[[int], Iterator[str | None]]

#: How many failures of a part are shown; the others are counted.
_SHOWN: Final = 10
#: How many characters of a failure are shown: its beginning says what, its end how to see it again.
_LENGTH: Final = 3_000


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part.

    Attributes:
        count: how many cases it has at scale 1.
        about: what a case is.
        module: where its ``soak`` is; imported only when it is run.
        function: what that is called; a function of one seed with ``seeds``.
        seeds: run the seeds from 0 on, on all processors.
    """

    count: int
    about: str
    module: str
    function: str = "soak"
    seeds: bool = False

    def start(self, count: int) -> Iterator[str | None]:
        """Begin with it."""
        if self.seeds:
            return _run_seeds(partial(_seed_failure, self.module, self.function), count)
        soak: Soak = getattr(importlib.import_module(self.module), self.function)
        return soak(count)


PARTS: Final[dict[str, Part]] = {
    "simulation": Part(
        count=5_000,
        about="worlds of a client and a signal-cli-rest-api",
        module="tests.simulation",
        function="run_seed",
        seeds=True,
    ),
    "signal-cli": Part(
        count=5_000,
        about="worlds of a client and signal-cli's daemon",
        module="tests.simulation",
        function="run_signal_cli_seed",
        seeds=True,
    ),
    "hub": Part(
        count=20_000,
        about="worlds of a hub and its clients",
        module="tests.hub_simulation",
        function="run_seed",
        seeds=True,
    ),
    "hub-store": Part(count=2_000, about="worlds of a hub that is killed", module="tests.test_hub_store"),
    "overlap": Part(count=5_000, about="worlds of sockets that overlap", module="tests.test_overlap"),
    "evidence": Part(count=5_000, about="worlds of answers lost and receipts", module="tests.test_evidence"),
    "store": Part(count=5_000, about="damaged stores, killed writers", module="tests.test_store_database"),
    "kills": Part(count=200, about="kill -9 of real processes", module="tests.kills"),
    "faults": Part(count=1_000, about="faults on real sockets", module="tests.fault_matrix"),
    "fuzz": Part(
        count=100_000, about="inputs to what parses what comes from outside", module="tests.fuzzing"
    ),
    "storm": Part(count=20, about="times that 2,000 clients of a hub were cut", module="tests.storm"),
    "herd": Part(count=20, about="times that 10,000 clients came back", module="tests.test_herd"),
}


def _run_seeds(run: Callable[[int], str | None], count: int) -> Iterator[str | None]:
    """Run the seeds from 0 on, in as many processes as there are processors."""
    # Spawned, not forked: a forked child would inherit the progress bar's thread half way.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(run, range(count), chunksize=4)


def _seed_failure(module: str, function: str, seed: int) -> str | None:
    """Run one seed; give what went wrong as text, since not every exception can cross processes."""
    logging.disable(logging.CRITICAL)
    try:
        getattr(importlib.import_module(module), function)(seed)
    except Exception as error:  # noqa: BLE001  (whatever it was, it is what is looked for)
        return f"seed {seed}: {type(error).__name__}: {error}\n{module}.{function}({seed})"
    return None


@dataclass
class Result:
    """What came of a part."""

    name: str
    cases: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list[str])

    def enter(self, failure: str | None) -> None:
        """Note what came of a case."""
        self.cases += 1
        if failure is not None:
            self.failures.append(failure)


class Soaking:
    """Runs parts one after the other and shows how far they are."""

    def __init__(self, console: Console) -> None:
        self._console: Final = console
        self._progress: Final = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]:>4} failed {task.fields[rate]:>9}"),
            TimeElapsedColumn(),
            console=console,
        )

    def run(self, parts: dict[str, int]) -> list[Result]:
        """Run parts with so many cases each; Ctrl-C ends that early, and counts as a failure."""
        results: list[Result] = []
        with self._progress:
            for name, count in parts.items():
                results.append(Result(name))
                try:
                    self._run(results[-1], count)
                except KeyboardInterrupt:
                    results[-1].failures.append(f"{name} was interrupted")
                    break
        return results

    def _run(self, result: Result, count: int) -> None:
        name, began = result.name, time.monotonic()
        task = self._progress.add_task(name, total=count, failed=0, rate="")
        try:
            for failure in PARTS[name].start(count):
                result.enter(failure)
                if failure is not None:
                    self._show(result, failure)
                rate = result.cases / max(time.monotonic() - began, 0.001)
                self._progress.update(
                    task,
                    completed=result.cases,
                    total=max(count, result.cases),
                    failed=len(result.failures),
                    rate=f"{rate:.1f}/s",
                )
            if result.cases == 0:
                result.failures.append(f"{name}: it ran no case")
        except Exception as error:  # noqa: BLE001  (one part's trouble is not the others')
            result.failures.append(f"{name} itself failed: {type(error).__name__}: {error}")
            self._show(result, result.failures[-1])
        finally:
            result.seconds = time.monotonic() - began

    def _show(self, result: Result, failure: str) -> None:
        if len(result.failures) <= _SHOWN:
            short = failure if len(failure) <= _LENGTH else f"{failure[:_LENGTH]}\n[...]\n{failure[-200:]}"
            self._progress.console.print(f"[red]{escape(result.name)}:[/] {escape(short)}")


def summary(results: list[Result]) -> str:
    """Return one line for each part, and one for all."""
    lines = [
        f"{each.name:12} {each.cases:7} cases {len(each.failures):5} failed "
        f"{each.seconds:8.1f} s   {PARTS[each.name].about}"
        for each in results
    ]
    failed = sum(len(each.failures) for each in results)
    cases = sum(each.cases for each in results)
    lines.append(f"{cases} cases, " + (f"{failed} failed" if failed else "all well"))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=_ABOUT)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each, 1 being the full length")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    if not given.scale > 0:
        parser.error("--scale must be over 0")
    names: list[str] = given.parts or list(PARTS)
    console = Console()
    counts = {name: max(1, round(PARTS[name].count * given.scale)) for name in names}
    results = Soaking(console).run(counts)
    console.print(summary(results), highlight=False, soft_wrap=True)
    return any(each.failures for each in results)


if __name__ == "__main__":
    sys.exit(main())

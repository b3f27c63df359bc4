"""The command line: ``python -m benchmarks``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import report
from .cases import CASES
from .harness import run_case

_FULL_ROUNDS = 5
_QUICK_ROUNDS = 3
_MOST_ROUNDS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0, or 1 if a contender failed. A wrong command exits with 2.
    """
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    if options.command == "list":
        print(_listing())
        return 0
    if options.command is None:
        return _run(list(CASES), rounds=_QUICK_ROUNDS, quick=True, file=None)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _FULL_ROUNDS)
    return _run(options.names or list(CASES), rounds=rounds, quick=options.quick, file=options.json)


def _run(names: Sequence[str], *, rounds: int, quick: bool, file: Path | None) -> int:
    facts = report.environment()
    print(report.environment_text(facts))
    results = [run_case(CASES[n], rounds=rounds, params=_params(n, quick=quick), tell=_tell) for n in names]
    for result in results:
        print(f"\n{report.case_text(result)}")
    print(f"\nAfter the run: {report.load_text(os.getloadavg())}")
    if file is not None:
        file.write_text(json.dumps(report.as_json(facts, results), indent=1) + "\n", encoding="utf-8")
    return int(any(result.has_failed for result in results))


def _params(name: str, *, quick: bool) -> dict[str, int]:
    return dict(CASES[name].quick if quick else CASES[name].full)


def _tell(progress: str) -> None:
    """Show on a terminal what is being measured; elsewhere it would only be in the way."""
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def _listing() -> str:
    lines: list[str] = []
    for case in CASES.values():
        lines.append(f"{case.name:<10} {case.title}")
        lines += [f"{'':<12} {contender.name}" for contender in case.contenders]
    return "\n".join(lines)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What trio_signal costs, beside the same work done with the plain libraries. "
        "Without a command: all cases, quickly.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="name the cases and their contenders")
    run = commands.add_parser("run", help="run some cases, or all", description="Run some cases, or all.")
    run.add_argument("names", nargs="*", metavar="NAME", help="a case; all if none is named")
    run.add_argument("--rounds", type=_rounds, help=f"how often each contender is measured ({_FULL_ROUNDS})")
    run.add_argument("--quick", action="store_true", help=f"less work, and {_QUICK_ROUNDS} rounds")
    run.add_argument("--json", type=_file, metavar="FILE", help="write every measurement to a file")
    options = parser.parse_args(arguments)
    if options.command == "run" and (unknown := [name for name in options.names if name not in CASES]):
        run.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return options


def _rounds(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MOST_ROUNDS):
        raise argparse.ArgumentTypeError(f"give a number from 1 to {_MOST_ROUNDS}")
    return int(text)


def _file(text: str) -> Path:
    """Refuse at once what could not be written after some minutes of work."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be a file")
    return path


if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``python -m benchmarks``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from . import report
from .catalogue import CASES
from .harness import CaseResult, run_case
from .peers import PEERS, PeerMissing, bring
from .wakefulness import processors_awake

#: Where the results of each case's last run are kept, and the report.
HOME: Final = Path(__file__).parents[1] / ".cache" / "bench"

_FULL_ROUNDS: Final = 5
_QUICK_ROUNDS: Final = 3
_MOST_ROUNDS: Final = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0, or 1 if a contender failed, if a goal was missed where that was asked, or if a
        report could not be made. A wrong command exits with 2.
    """
    given = sys.argv[1:] if arguments is None else arguments
    options = _parse(given)
    if options.command == "list":
        print(_listing())
        return 0
    if options.command == "prepare":
        return _prepare(options.peers or list(PEERS))
    if options.command == "report":
        return _report(options.files or sorted(HOME.glob("*.json")), options.output)
    command = " ".join(("python -m benchmarks", *given))
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _FULL_ROUNDS)
    with nullcontext(False) if options.let_sleep else processors_awake() as awake:
        facts = report.environment(command, awake=awake)
        names = options.names or list(CASES)
        return _run(names, facts, rounds=rounds, quick=options.quick, file=options.json, check=options.check)


def _run(
    names: Sequence[str],
    facts: dict[str, Any],
    *,
    rounds: int,
    quick: bool,
    file: Path | None,
    check: bool,
) -> int:
    print(report.environment_text(facts))
    results: list[CaseResult] = []
    for name in names:
        case = CASES[name]
        result = run_case(case, rounds=rounds, params=case.quick if quick else case.full, tell=_tell)
        _tell("")
        print(f"\n{report.case_text(result)}", flush=True)
        _keep(HOME / f"{name}.json", report.as_json(facts, [result]))
        results.append(result)
    print(f"\nAfter the run: {report.load_text(os.getloadavg())}")
    if file is not None:
        _keep(file, report.as_json(facts, results))
    has_failed = any(result.has_failed for result in results)
    has_missed = any(result.missed for result in results)
    return int(has_failed or (check and has_missed))


def _keep(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _prepare(names: Sequence[str]) -> int:
    """Bring peers; those that a run lacks it brings itself."""
    statuses: list[bool] = []
    for name in names:
        try:
            prepared = bring(PEERS[name])
        except PeerMissing as error:
            print(f"{name} {error}")
            statuses.append(False)
        else:
            print(f"{name}: {' '.join(prepared.versions)}")
            statuses.append(True)
    return int(not all(statuses))


def _report(files: Sequence[Path], output: Path) -> int:
    """Draw a page. Only here is anything imported that draws."""
    from .page import page, read_runs  # noqa: PLC0415

    if not files:
        print("There are no results yet; `python -m benchmarks run` makes some.", file=sys.stderr)
        return 1
    try:
        text = page(read_runs(files), list(CASES))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(output)
    return 0


def _tell(progress: str) -> None:
    """Show on a terminal what is being measured; elsewhere it would only be in the way."""
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def _listing() -> str:
    lines: list[str] = []
    for case in CASES.values():
        lines.append(f"{case.name:<15} {case.title}")
        lines += [f"{'':<17} {contender.name}" for contender in case.contenders]
    return "\n".join(lines)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What trio_signal costs, beside the same work done with other libraries. "
        "Without a command: all cases, quickly.",
    )
    # Without a command: as `run --quick`. What a command has of these, it sets itself.
    parser.set_defaults(names=[], rounds=None, quick=True, let_sleep=False, json=None, check=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="name the cases and their contenders")
    prepare = commands.add_parser("prepare", help="install the peers, each into an environment of its own")
    prepare.add_argument("peers", nargs="*", metavar="PEER", help="a peer; all if none is named")
    run = commands.add_parser("run", help="run some cases, or all", description="Run some cases, or all.")
    run.add_argument("names", nargs="*", metavar="NAME", help="a case; all if none is named")
    run.add_argument("--rounds", type=_rounds, help=f"how often each contender is measured ({_FULL_ROUNDS})")
    run.add_argument("--quick", action="store_true", help=f"less work, and {_QUICK_ROUNDS} rounds")
    run.add_argument("--json", type=_file, metavar="FILE", help="write every measurement to a file too")
    run.add_argument("--let-sleep", action="store_true", help="let idle processors sleep, as they do in use")
    run.add_argument("--check", action="store_true", help="exit with 1 if a goal was missed")
    page = commands.add_parser("report", help="make a page of results, with drawings")
    page.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="what --json wrote; else the last runs"
    )
    page.add_argument("--output", type=_file, default=HOME / "report.html", help="where to put it")
    options = parser.parse_args(arguments)
    if options.command == "run" and (unknown := [name for name in options.names if name not in CASES]):
        run.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.command == "prepare" and (unknown := [name for name in options.peers if name not in PEERS]):
        prepare.error(f"there is no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
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

"""How many instructions the hot paths take: ``python -m tests.instructions [--write]``.

Times on a shared machine differ by more than what is worth noticing, instructions hardly do. Valgrind's
Callgrind counts them, in user mode, over the workloads of `tests.hot_paths`, each of which is run n times
and 2n times: the difference is what n items take. Compared is how many times the reference that is counted
in the same run, a loop of the plain libraries, an item takes: that is the same on all machines, and
changes little with the versions of Python and Valgrind. ``benchmarks/instructions.json`` keeps what it was.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from tests.hot_paths import COUNTS, MARKS

_ROOT: Final = Path(__file__).parent.parent
_KEPT: Final = _ROOT / "benchmarks" / "instructions.json"

#: How much more a path may take, and how much more where anything that is not ours is of another version.
_MORE: Final = 0.05
_MORE_ELSEWHERE: Final = 0.15

_REFERENCE: Final = "reference"
_LIBRARIES: Final = ("trio", "outcome", "attrs", "trio-websocket", "wsproto", "msgspec", "httptools")

#: Seconds for all of it; it takes about a minute.
_PATIENCE: Final = 600.0

_COUNTED: Final = re.compile(rb"^(?:totals|summary): (\d+)$", re.MULTILINE)


class Counts(msgspec.Struct, frozen=True):
    """What was counted.

    Attributes:
        versions: of what else decides about it.
        instructions: of one item of each path.
    """

    versions: dict[str, str]
    instructions: dict[str, int]

    def relative(self, path: str) -> float:
        """Return how many times the reference one item of a path takes."""
        return self.instructions[path] / self.instructions[_REFERENCE]


def compare(now: Counts, before: Counts) -> list[str]:
    """Say in a line for each path what became of it; what takes too much more begins with ``TOO MUCH``."""
    most = _MORE if now.versions == before.versions else _MORE_ELSEWHERE
    return [_compare(path, now, before, most) for path in now.instructions if path != _REFERENCE]


def _compare(path: str, now: Counts, before: Counts, most: float) -> str:
    told = f"{path:<10} {now.instructions[path]:>10,} instructions, {now.relative(path):.3f} x the reference"
    if path not in before.instructions:
        return f"{told}; not counted before"
    change = now.relative(path) / before.relative(path) - 1
    told += f"; {change:+.1%} (at most {most:+.0%})"
    return f"TOO MUCH: {told}" if change > most else told


def per_item(counted: Sequence[int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return what one item of each path takes.

    Args:
        counted: what was counted before each mark since the one before.
        counts: how many items of each path were measured.

    Raises:
        ValueError: there were not as many marks as there should be.
    """
    if len(counted) < len(counts) * MARKS:
        raise ValueError(f"only {len(counted)} marks were seen")
    figures = dict[str, int]()
    for place, path in enumerate(counts):
        # What is before the first mark of a path is preparation.
        _, once, twice = counted[place * MARKS : (place + 1) * MARKS]
        figures[path] = (twice - once) // counts[path]
    return figures


def measure() -> Counts:
    """Count. It takes about a minute.

    Raises:
        LookupError: there is no Valgrind.
        ValueError: it did not see the marks.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise LookupError("there is no valgrind on the PATH (on Debian and Ubuntu: apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        command = [valgrind, "--tool=callgrind", "--dump-before=ctermid", f"--callgrind-out-file={out}"]
        command += [sys.executable, "-m", "tests.hot_paths"]
        # What is compiled here, without being counted, need not be compiled there.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": f"{place}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for program in (command[-3:], command):
            ended = subprocess.run(
                program, check=False, cwd=_ROOT, env=environment, capture_output=True, timeout=_PATIENCE
            )
            if ended.returncode:
                raise ValueError(ended.stderr.decode(errors="replace")[-3000:])
        parts = sorted(Path(place).glob("out.*"), key=lambda part: int(part.suffix[1:]))
        counted = [int(found[1]) for part in parts if (found := _COUNTED.search(part.read_bytes()))]
    return Counts(_versions(valgrind), per_item(counted, COUNTS))


def _versions(valgrind: str) -> dict[str, str]:
    told = subprocess.run([valgrind, "--version"], capture_output=True, check=True, timeout=60).stdout
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "valgrind": told.decode().strip().removeprefix("valgrind-"),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def main() -> int:
    """Count and compare, or keep what was counted; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description="Count instructions.")
    parser.add_argument(
        "--write", action="store_true", help="keep what was counted, and compare with it from now on"
    )
    write = parser.parse_args().write
    try:
        now = measure()
    except (LookupError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    lines = compare(now, msgspec.json.decode(_KEPT.read_bytes(), type=Counts)) if _KEPT.exists() else []
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if write:
        _KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
        sys.stdout.write(f"kept in {_KEPT.relative_to(_ROOT)}\n")
    elif any(line.startswith("TOO MUCH") for line in lines):
        sys.stdout.write("If it is worth that, keep the new figures: python -m tests.instructions --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

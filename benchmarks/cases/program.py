"""A contender that is a program: started here, told by lines what to do. Standard library only."""

import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final


class Program:
    """A program that runs. Its lines are on its standard input and output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process: Final = process

    def tell(self, *lines: str) -> None:
        """Write lines, all at once."""
        stream = _pipe(self._process.stdin)
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()

    def hear(self, wanted: str) -> str:
        """Wait for a line that begins so, and return what follows.

        Raises:
            RuntimeError: it said something else, or ended.
        """
        line = _pipe(self._process.stdout).readline().rstrip("\n")
        if not line.startswith(wanted):
            raise RuntimeError(f"the program did not say {wanted!r} but {line!r}")
        return line.removeprefix(wanted).strip()

    def cpu(self) -> float:
        """Return the seconds of CPU that its threads have used, user and system. Linux only.

        From the scheduler's own account, in ns: the one in ``stat`` counts in hundredths of a second.
        """
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Return how many bytes of it are in memory. Linux only."""
        return resident(self._process.pid)


@contextmanager
def running(command: Sequence[str]) -> Generator[Program]:
    """Run a program for a block; it is killed at its end. What it says to standard error is ours."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def resident(process: int | str = "self") -> int:
    """Return how many bytes of a process are in memory. Linux only."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell the memory of a process")


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise AssertionError("the process was started without this pipe")
    return stream

"""What runs in each fresh process: a generator or one contender.

``python -m benchmarks.child``, with one line of JSON on standard input and the answer, one
line of JSON too, on standard output. Standard library only, until a contender is named.
"""

import faulthandler
import json
import os
import sys
from dataclasses import asdict
from pkgutil import resolve_name
from typing import Any, Final, Protocol, TextIO

from .contender import Gateway, Measurement, ProgramRun, Run, Work

_MOST_FILES: Final = 32_768


class _Generator(Protocol):
    """What contenders work against, as :class:`benchmarks.generators.Generator`."""

    @property
    def address(self) -> Gateway: ...

    @property
    def work(self) -> Work: ...

    @property
    def figures(self) -> dict[str, float]: ...

    def start(self) -> None: ...


def main() -> None:
    """Do what the first line of standard input says."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    answers = _take_output()
    # Whatever happens to the parent, this process ends; if it hangs, it says where.
    faulthandler.dump_traceback_later(told["limit"], exit=True)
    if told["cpu"] is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {told["cpu"]})
    _allow_many_sockets()
    if "contender" in told:
        print(json.dumps(asdict(_contend(told))), file=answers, flush=True)
    else:
        _generate(told["generator"], answers)


def _take_output() -> TextIO:
    """Return what was standard output, and let all that others print go to standard error."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def _contend(told: dict[str, Any]) -> Measurement:
    """Run the contender that is named."""
    gateway = Gateway(**told["gateway"])
    if told["program"]:
        with_program: ProgramRun = resolve_name(told["contender"])
        return with_program(gateway, told["params"], tuple(told["program"]))
    run: Run = resolve_name(told["contender"])
    return run(gateway, told["params"])


def _allow_many_sockets() -> None:
    """Raise the limit of open files, which is often 1,024, as far as a case needs and the system lets."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  (Unix only)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _generate(target: str, answers: TextIO) -> None:
    """Serve until standard input ends, then say what was written, got and measured."""
    generator: _Generator = resolve_name(target)()
    generator.start()
    print(json.dumps(asdict(generator.address)), file=answers, flush=True)
    sys.stdin.read()
    print(json.dumps(asdict(Measurement(generator.figures, generator.work))), file=answers, flush=True)


if __name__ == "__main__":
    main()

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
from typing import Any, Final

from .contender import Gateway, Measurement, Run

_MOST_FILES: Final = 4096


def main() -> None:
    """Do what the first line of standard input says."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    # Whatever happens to the parent, this process ends; if it hangs, it says where.
    faulthandler.dump_traceback_later(told["limit"], exit=True)
    if told["cpu"] is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {told["cpu"]})
    _allow_many_sockets()
    if "contender" in told:
        run: Run = resolve_name(told["contender"])
        answer = asdict(run(Gateway(**told["gateway"]), told["params"]))
        print(json.dumps(answer))
    else:
        _generate()


def _allow_many_sockets() -> None:
    """Raise the limit of open files, which is often 1,024, as far as a case needs and the system lets."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  (Unix only)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _generate() -> None:
    """Serve until standard input ends, then say what was written, got and measured."""
    from .generators import Generator  # noqa: PLC0415  (no contender should have it)

    generator = Generator()
    generator.start()
    print(json.dumps(asdict(generator.address)), flush=True)
    sys.stdin.read()
    print(json.dumps(asdict(Measurement(generator.figures, generator.work))))


if __name__ == "__main__":
    main()

"""Programs that start in a moment, so that they can be killed often: real processes, forked from a warm one.

Python takes half a second to import what a bot needs. Here one process imports it once and then forks: each
program is a process of its own, which is killed as any other, and starts in some milliseconds.

``python -m tests.forks`` is that warm process. It takes orders over its standard input, which is a socket,
and ends, with all that it has started, once that is closed: nothing outlives a test, not even one that is
killed itself.
"""

import json
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import trio

#: Seconds after which something that a program has to do is given up.
PATIENCE: Final = 20.0

_ROOT: Final = Path(__file__).parents[1]
_MESSAGE: Final = 64 * 1024


class Fork:
    """A program that runs, or has run. What it says, on standard error too, is taken down line by line."""

    def __init__(
        self, nest: "Nest", pid: int, stdin: int, stdout: int, on_line: Callable[[str], None]
    ) -> None:
        self._nest = nest
        self._pid = pid
        self._stdin = trio.lowlevel.FdStream(stdin)
        self._stdout = trio.lowlevel.FdStream(stdout)
        self._on_line = on_line
        self._silent = trio.Event()
        self._code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come from it."""
        return self._silent.is_set()

    async def say(self, line: str) -> None:
        """Write a line to its standard input; one that has ended takes no notice."""
        try:
            await self._stdin.send_all(line.encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()

    async def kill(self) -> None:
        """``kill -9``. Returns when it is gone and all that it has said is taken down."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Send SIGTERM, wait for its end and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._code is not None:
            await trio.lowlevel.checkpoint()
            return self._code
        await self._nest.order(do="signal", pid=self._pid, number=number)
        with trio.fail_after(PATIENCE):
            # It has ended, or is about to, once its output has; only then waiting for it holds up nobody.
            await self._silent.wait()
        code: int = (await self._nest.order(do="wait", pid=self._pid))["code"]
        self._code = code
        await self._stdin.aclose()
        return code

    async def listen(self) -> None:
        """Take down what it says until it ends."""
        rest = b""
        async with self._stdout:
            async for data in self._stdout:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._on_line(line.decode(errors="replace"))
        # A kill may cut a line in two: what is not whole was not said.
        self._silent.set()
        self._on_line("")


class Nest:
    """The warm process, made by :func:`open_nest`."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._sock = sock
        self._nursery = nursery
        self._turn = trio.Lock()

    async def start(self, role: str, *arguments: str, on_line: Callable[[str], None]) -> Fork:
        """Start a program.

        Args:
            role: which one: a function of :mod:`tests.kill_roles`.
            arguments: what it is told.
            on_line: takes each line that it says, at once, and an empty one at the end.
        """
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        try:
            answer = await self.order(fds=[theirs_in, theirs_out], do="start", role=role, arguments=arguments)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        fork = Fork(self, answer["pid"], ours_out, ours_in, on_line)
        self._nursery.start_soon(fork.listen)
        return fork

    async def order(self, fds: list[int] | None = None, **words: object) -> dict[str, Any]:
        """Have something done, one thing after the other, and return the answer."""
        async with self._turn:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                socket.send_fds(self._sock, [json.dumps(words).encode()], fds or [])
                await trio.lowlevel.wait_readable(self._sock)
                answer: dict[str, Any] = json.loads(self._sock.recv(_MESSAGE))
                return answer
        raise AssertionError(f"the warm process does not answer {words}")


@asynccontextmanager
async def open_nest() -> AsyncGenerator[Nest]:
    """Give a warm process for the length of a block; whatever it has started then ends with it."""
    ours, theirs = socket.socketpair()
    # Nothing is traced there, which would make it three times as slow; and its imports are compiled once.
    left_out = ("COVERAGE_", "TRIO_SIGNAL_", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    env = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    with ours, theirs:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.forks"],
            stdin=theirs,
            cwd=_ROOT,
            env={"PYTHONPYCACHEPREFIX": str(_ROOT / ".cache" / "pycache"), **env},
        )
        theirs.close()
        try:
            async with trio.open_nursery() as nursery:
                yield Nest(ours, nursery)
                nursery.cancel_scope.cancel()
        finally:
            ours.close()
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()


# --- The other side. ---


def main() -> None:
    """Be the warm process: nothing here may start a thread, which a fork would lose."""
    sock = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Only now, since it takes its time.
    from . import kill_roles

    children: set[int] = set()
    try:
        while True:
            words, fds, _, _ = socket.recv_fds(sock, _MESSAGE, 2)
            if not words:
                break
            sock.sendall(json.dumps(_obey(kill_roles, sock, children, fds, **json.loads(words))).encode())
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _obey(
    roles: Any, sock: socket.socket, children: set[int], fds: list[int], *, do: str, **words: Any
) -> dict[str, Any]:
    if do == "start":
        pid = os.fork()
        if pid == 0:
            sock.close()
            _become(getattr(roles, words["role"]), words["arguments"], *fds)
        children.add(pid)
        for fd in fds:
            os.close(fd)
        return {"pid": pid}
    if do == "signal":
        os.kill(words["pid"], words["number"])
        return {}
    _, status = os.waitpid(words["pid"], 0)
    children.remove(words["pid"])
    return {"code": os.waitstatus_to_exitcode(status)}


def _become(
    role: Callable[[list[str]], int | None], arguments: list[str], stdin: int, stdout: int
) -> NoReturn:
    """Be the program, from here on and to its end."""
    code = 1
    try:
        for fd, number in ((stdin, 0), (stdout, 1), (stdout, 2)):
            os.dup2(fd, number)
        os.close(stdin)
        os.close(stdout)
        # Those of the warm process know of its files, not of these.
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        # A fork has its parent's state, and two programs that draw the same numbers do not meet in real life.
        random.seed()
        code = role(arguments) or 0
    except Exception:  # noqa: BLE001  (whatever it was, this process ends here and says so)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

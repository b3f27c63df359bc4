"""``trio-signal`` started as a process of its own, as its users start it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from tests.canaries import EAR

#: Seconds after which a test gives a program up.
_PATIENCE = 20.0


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any setting of ours, and with ``more``."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("TRIO_SIGNAL_")}
    return {**plain, "PYTHONUNBUFFERED": "", **(more or {})}


async def run_program(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Finished:
    """Run it to its end."""
    with trio.fail_after(_PATIENCE):
        done = await trio.run_process(
            [sys.executable, "-m", "trio_signal", *arguments],
            stdin=stdin,
            env=environment(env),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    finished = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
    if {"token", "link"}.isdisjoint(arguments[:1]):  # which are there to print one
        EAR.read(finished.out, "the program's output")
    EAR.read(finished.err, "the program's standard error")
    return finished


class Program:
    """A program that runs."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._unread = self._told = b""
        self.seen = ""
        """All of its standard output so far."""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def line(self) -> str | None:
        """Wait for the next line of its standard output; None at the end."""
        await trio.lowlevel.checkpoint()
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            data = bytes(await self._process.stdout.receive_some())
            if not data:
                return None
            self._unread += data
            self.seen += EAR.read(data.decode(), "the program's output")
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    async def event(self, name: str, **fields: object) -> dict[str, Any]:
        """Wait for an event of a log in JSON that has this name and these fields."""
        while (line := await self.line()) is not None:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name and all(event[key] == value for key, value in fields.items()):
                return event
        raise AssertionError(f"the program ended without {name} {fields}; it said:\n{self.seen}")

    async def tells(self, words: str) -> None:
        """Wait until these words stand on its standard error."""
        while words.encode() not in self._told:
            assert await self._hear(), f"the program ended without {words!r}; it said:\n{self._told.decode()}"

    async def wait(self) -> int:
        """Wait for its end without reading what it says."""
        return await self._process.wait()

    async def end(self) -> Finished:
        """Wait for its end."""
        while await self.line() is not None:
            pass
        while await self._hear():
            pass
        told = EAR.read(self._told.decode(), "the program's standard error")
        return Finished(await self._process.wait(), self.seen, told)

    async def _hear(self) -> bool:
        """Wait for more on its standard error; False at the end."""
        assert self._process.stderr is not None
        data = bytes(await self._process.stderr.receive_some())
        self._told += data
        return bool(data)


@asynccontextmanager
async def started(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    redirect: str = "",
    pass_fds: tuple[int, ...] = (),
) -> AsyncGenerator[Program]:
    """Start it, with a shell's redirections if asked for; kill it if it still runs at the end."""
    program = [sys.executable, "-m", "trio_signal", *arguments]
    process = await trio.lowlevel.open_process(
        # The shell becomes the program, so that signals reach it.
        ["bash", "-c", f"exec {shlex.join(program)} {redirect}"] if redirect else program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        pass_fds=pass_fds,
    )
    try:
        with trio.fail_after(_PATIENCE):
            await trio.lowlevel.checkpoint()
            yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.move_on_after(_PATIENCE, shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    await pipe.aclose()

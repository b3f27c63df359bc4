"""``trio-signal daemon`` inside a test, with an input and a log of the test's own."""

import json
import math
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.canaries import EAR
from trio_signal import Backoff
from trio_signal._cli.connection import Connection
from trio_signal._cli.daemon import DaemonSettings, run_daemon
from trio_signal._cli.log import library_events, make_logger
from trio_signal.testing import FakeGateway

#: Who the tests write to.
PEER = "+15550002"


class Input:
    """Standard input that a test writes to."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1000)
        self.failure: OSError | None = None

    def line(self, **fields: object) -> None:
        """Write one line of JSON."""
        self.raw(json.dumps(fields).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        """Write bytes."""
        self._send.send_nowait(data)

    def end(self) -> None:
        """Close it."""
        self._send.close()

    async def read(self) -> bytes:
        """Wait for what was written."""
        await trio.lowlevel.checkpoint()
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self.failure is not None:
                raise self.failure from None
            return b""


class Daemon:
    """A daemon that runs inside the test, and its log."""

    def __init__(self, gateway: FakeGateway, options: dict[str, Any], *, level: str) -> None:
        where = Connection(
            gateway=gateway.url,
            account=gateway.account,
            connect=gateway.connect,
            token=options.pop("token", None),
            token_file=options.pop("token_file", None),
        )
        standard: dict[str, Any] = {
            "buffer_size": 100,
            "overflow": "drop_oldest",
            "delivery": "at_most_once",
            "close_timeout": 10.0,
            "backoff": Backoff(jitter=False),
            "show_text": False,
        }
        self._written = options.pop("written", trio.lowlevel.checkpoint)
        #: How many lines the log has room for.
        self.room = math.inf
        self.lost = 0
        self._settings = DaemonSettings(where=where, **(standard | options))
        self._level = level
        self.input = Input()
        self.events: list[dict[str, Any]] = []
        self.code: int | None = None
        self.ended = trio.Event()

    async def run(self) -> None:
        """Run it to its end."""
        log = make_logger(self._hear, as_json=True, level=self._level)
        with trio.fail_after(86_400), library_events(log, level=self._level):
            self.code = await run_daemon(
                self._settings, log, read=self.input.read, written=self._written, lost=lambda: self.lost
            )
        self.ended.set()

    def _hear(self, line: str) -> None:
        if len(self.events) >= self.room:
            self.lost += 1
            return
        self.events.append(json.loads(EAR.read(line, "the daemon's log")))

    def told(self, event: str, *fields: str) -> list[Any]:
        """Return of each event of one name these fields: one alone, or several as a tuple."""
        found = [each for each in self.events if each["event"] == event]
        return [each[fields[0]] if len(fields) == 1 else tuple(each[f] for f in fields) for each in found]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Send a signal, and wait for the end."""
        signal.raise_signal(number)
        await self.ended.wait()
        return self.code


@asynccontextmanager
async def running(gateway: FakeGateway, *, level: str = "info", **options: Any) -> AsyncGenerator[Daemon]:
    """Run a daemon for the length of a block, which must end it or see it end."""
    daemon = Daemon(gateway, options, level=level)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        # Before it listens to signals, one would end the tests themselves.
        await wait_all_tasks_blocked()
        yield daemon
        if not daemon.ended.is_set():
            await daemon.stop()

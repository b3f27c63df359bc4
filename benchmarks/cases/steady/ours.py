"""Going on for long with trio_signal."""

import gc
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from trio_signal import Backoff, ConnectionState, Gap, ReceivedMessage, SignalClient, open_signal_client

from ...contender import Gateway, Measurement, Params, Work
from ...traffic import ACCOUNT

#: Memory is looked at when so large a part of the work is done, and at the end.
_PARTS = 10

#: Messages that are ordered at once.
_AT_ONCE = 50_000


def run(gateway: Gateway, params: Params) -> Measurement:
    """Receive all messages, then go through all reconnections."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    # Each loss is followed by an attempt at once.
    backoff = Backoff(initial=0.001, maximum=0.001, jitter=False, stable_after=0.0)
    async with open_signal_client(gateway.url, ACCOUNT, backoff=backoff) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        taker = Taker(gateway, signal)
        more_for_messages, seconds = await _grown(taker.take, params["messages"])
        rate = params["messages"] / seconds
        await taker.come_back(1)
        files = _files()
        more_for_reconnects, seconds = await _grown(taker.come_back, params["reconnects"])
        figures = {
            "messages": more_for_messages,
            "reconnects": more_for_reconnects,
            "files": float(_files() - files),
            "rss": _resident() / 1024,
            "rate": rate,
            "each": seconds / params["reconnects"] * 1e3,
        }
    return Measurement(figures, taker.work)


class Taker:
    """Takes what comes and adds it up.

    Args:
        gateway: takes the orders.
        signal: the client.
    """

    def __init__(self, gateway: Gateway, signal: SignalClient) -> None:
        self._gateway = gateway
        self._events = signal.events()
        self._signal = signal
        self._count = self._sum = 0

    @property
    def work(self) -> Work:
        """How many have come, and the sum of their timestamps."""
        return Work(self._count, str(self._sum))

    async def take(self, count: int) -> None:
        """Receive so many messages."""
        await trio.lowlevel.checkpoint()
        for begun in range(0, count, _AT_ONCE):
            piece = min(_AT_ONCE, count - begun)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, self._gateway.order, "flow", piece)
                for _ in range(piece):
                    self._add(await anext(self._events))

    async def come_back(self, times: int) -> None:
        """Be dropped so often, and take a gap and a message each time."""
        await trio.lowlevel.checkpoint()
        for _ in range(times):
            changes = self._signal.state_changes()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, self._gateway.order, "drop")
                gap = await anext(self._events)
                self._add(await anext(self._events))
            if not isinstance(gap, Gap):
                raise TypeError(f"not a gap: {gap!r}")
            # The pong may still be on its way.
            while (await anext(changes)).current is not ConnectionState.CONNECTED:
                pass

    def _add(self, event: object) -> None:
        if not isinstance(event, ReceivedMessage):
            raise TypeError(f"not a message: {event!r}")
        self._count += 1
        self._sum += event.timestamp or 0


async def _grown(do: Callable[[int], Awaitable[None]], times: int) -> tuple[float, float]:
    """Do something so often; return KiB more than after its first part, and the seconds it took."""
    first = max(times // _PARTS, 1)
    started = time.perf_counter()
    await do(first)
    before = _resident()
    await do(times - first)
    seconds = time.perf_counter() - started
    return _resident() - before, seconds


def _resident() -> float:
    """Return how many KiB are resident, after a collection; 0 where the system does not tell."""
    gc.collect()
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return 0.0
    return int(pages.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def _files() -> int:
    """Return how many files are open; 0 where the system does not tell."""
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0

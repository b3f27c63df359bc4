"""Reconnecting with trio_signal."""

import statistics

import trio

from trio_signal import (
    Backoff,
    ConnectionState,
    Gap,
    ReceivedMessage,
    StateChange,
    StateChanges,
    open_signal_client,
)

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT


def run(gateway: Gateway, params: Params) -> Measurement:
    """Go through the outages, woken by ``reconnect_now()``."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    connected: list[float] = []
    first: list[float] = []
    outages = params["outages"]
    gateway.order("prepare", outages)
    backoff = Backoff(initial=60.0, maximum=60.0, jitter=False)
    async with open_signal_client(gateway.url, ACCOUNT, backoff=backoff) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        changes, events = signal.state_changes(), signal.events()
        watch = Stopwatch()
        for _ in range(outages):
            await trio.to_thread.run_sync(gateway.order, "outage", params["down"])
            await _reach(changes, ConnectionState.RECONNECTING)
            returned = trio.current_time()
            signal.reconnect_now()
            gap, message = await anext(events), await anext(events)
            first.append(trio.current_time() - returned)
            connected.append((await _reach(changes, ConnectionState.CONNECTED)).time - returned)
            if not (isinstance(gap, Gap) and isinstance(message, ReceivedMessage)):
                raise TypeError(f"not a gap and a message: {gap!r}, {message!r}")
            group = message.group
            items.append((message.timestamp, message.sender, group.id if group else None, message.text))
        watch.stop()
    figures = {
        "connected": statistics.median(connected) * 1e3,
        "message": statistics.median(first) * 1e3,
        "cpu": watch.cpu_seconds / outages * 1e6,
    }
    return Measurement(figures, Work.of(items))


async def _reach(changes: StateChanges, state: ConnectionState) -> StateChange:
    async for change in changes:
        if change.current is state:
            return change
    raise RuntimeError(f"the client was closed before it was {state.name}")

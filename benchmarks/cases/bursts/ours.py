"""Bursts with trio_signal's hub."""

from functools import partial

import trio
import trio.testing

from trio_signal import ConnectionState, open_signal_client
from trio_signal.hub import ConnectionManager, HubLimits, serve_hub

from ...contender import Gateway, Measurement, Params
from ...traffic import ACCOUNT, broadcasts
from ..broadcast.phases import Phases
from . import BURST

#: What waits for a client that is slow is bounded as in nats-server, where it is 64 MiB.
_MOST_BYTES = 64 * 1024 * 1024


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast each burst as one write, as the hub does it with what waits at the gateway's socket."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    phases = Phases(gateway, params)
    texts = broadcasts(len(phases.messages))
    limits = HubLimits(max_connections=params["clients"], max_queue=len(texts), max_queue_bytes=_MOST_BYTES)
    async with open_signal_client(gateway.url, ACCOUNT) as signal, trio.open_nursery() as nursery:
        await signal.wait_state(ConnectionState.CONNECTED)
        hub = await nursery.start(partial(serve_hub, signal, limits=limits))
        await trio.to_thread.run_sync(phases.attend, hub.address[1])
        await trio.testing.wait_all_tasks_blocked()
        for part, _ in phases:
            await _broadcast(hub.connections, texts[part])
            await trio.to_thread.run_sync(phases.wait)
        measurement = phases.measurement()
        nursery.cancel_scope.cancel()
    return measurement


async def _broadcast(manager: ConnectionManager, texts: list[tuple[int, bytes]]) -> None:  # noqa: ASYNC910  (there is a message)
    for start in range(0, len(texts), BURST):
        with manager.one_write():
            for stamp, envelope in texts[start : start + BURST]:
                manager.broadcast(envelope, timestamp=stamp)
        await trio.lowlevel.checkpoint()

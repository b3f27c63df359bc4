"""Recovery with trio_signal's hub."""

from functools import partial

import trio

from trio_signal import open_signal_client
from trio_signal.hub import Hub, HubLimits, MessageLog, serve_hub
from trio_signal.hub._protocol import recovery

from ...contender import Gateway, Measurement, Params
from ...traffic import ACCOUNT, broadcasts
from . import SIZES
from .asking import Asking
from .pages import with_build


def run(gateway: Gateway, params: Params) -> Measurement:
    """Answer from the hub's own log, through its own server."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    asking = Asking(gateway, params)
    # The limits keep a storm of clients from starving the live ones; here nothing else is measured.
    limits = HubLimits(recovery_rate=1e6, recovery_burst=1_000_000, max_recoveries=4 * params["connections"])
    log = MessageLog(max_messages=max(SIZES))
    async with open_signal_client(gateway.url, ACCOUNT) as signal, trio.open_nursery() as nursery:
        hub = await nursery.start(partial(serve_hub, signal, log=log, limits=limits))
        for stamp, envelope in broadcasts(max(SIZES)):
            hub.connections.broadcast(envelope, timestamp=stamp)
        measurement = await trio.to_thread.run_sync(asking.run, hub.address[1])
        nursery.cancel_scope.cancel()
    return with_build(measurement, partial(_build, hub))


def _build(hub: Hub) -> bytes:
    return b"".join(recovery(hub.connections.get_messages_since(0)))

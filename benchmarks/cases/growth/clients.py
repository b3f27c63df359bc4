"""Clients of the hub, ever more."""

import time
from functools import partial

import trio
import trio.testing

from trio_signal import ConnectionState, open_signal_client
from trio_signal.hub import ConnectionManager, HubLimits, serve_hub

from ...contender import Gateway, Measurement, Params, Work
from ...traffic import ACCOUNT, broadcasts
from .sizes import CLIENTS, doubling, up_to

#: The most that are opened by one order, which then is obeyed in time.
_AT_ONCE = 500

_TEXTS = 64


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast to one client, then to some more, and so on."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    costs: dict[int, float] = {}
    delivered = clients = 0
    limits = HubLimits(max_connections=params["most"], heartbeat_interval=600.0)
    async with open_signal_client(gateway.url, ACCOUNT) as signal, trio.open_nursery() as nursery:
        await signal.wait_state(ConnectionState.CONNECTED)
        hub = await nursery.start(partial(serve_hub, signal, limits=limits))
        for size in up_to(params["most"], CLIENTS):
            while clients < size:
                more = min(size - clients, _AT_ONCE)
                await trio.to_thread.run_sync(gateway.order, "join", hub.address[1], more)
                clients += more
            await trio.testing.wait_all_tasks_blocked()
            # The first time at each size is dearer, and not counted.
            for count in (1, max(params["each"] // size, params["least"])):
                started = time.process_time()
                await _broadcast(hub.connections, count)
                delivered += size * count
                await trio.to_thread.run_sync(gateway.order, "delivered", delivered)
                costs[size] = (time.process_time() - started) / count * 1e6
        nursery.cancel_scope.cancel()
    figures = {f"cost_{size}": cost for size, cost in costs.items()}
    return Measurement(figures | {"doubling": doubling(costs)}, Work(delivered, ""))


async def _broadcast(manager: ConnectionManager, count: int) -> None:
    texts = broadcasts(_TEXTS)
    await trio.lowlevel.checkpoint()
    for number in range(count):
        stamp, envelope = texts[number % _TEXTS]
        manager.broadcast(envelope, timestamp=stamp)
        await trio.lowlevel.checkpoint()

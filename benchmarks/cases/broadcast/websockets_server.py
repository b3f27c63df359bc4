"""Broadcasting with the websockets library."""

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from ...contender import Gateway, Measurement, Params
from .phases import Phases


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast with ``broadcast()``, which encodes each text once."""
    return asyncio.run(_run(gateway, params))


async def _run(gateway: Gateway, params: Params) -> Measurement:
    clients, phases = params["clients"], Phases(gateway, params)
    sockets: list[ServerConnection] = []
    complete = asyncio.Event()

    async def attend(socket: ServerConnection) -> None:
        sockets.append(socket)
        if len(sockets) == clients:
            complete.set()
        await socket.wait_closed()

    server = await serve(attend, gateway.host, 0, compression=None, close_timeout=0.1)
    port: int = next(iter(server.sockets)).getsockname()[1]
    await asyncio.to_thread(gateway.order, "attend", port, clients)
    await complete.wait()
    for part, pause in phases:
        await _broadcast(sockets, phases.messages[part], pause)
        await asyncio.to_thread(phases.wait)
    return phases.measurement()


async def _broadcast(sockets: list[ServerConnection], messages: list[bytes], pause: float) -> None:  # noqa: ASYNC910  (there is a message)
    for message in messages:
        broadcast(sockets, message, text=True)
        await asyncio.sleep(pause)

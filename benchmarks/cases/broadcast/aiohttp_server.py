"""Broadcasting with aiohttp's server: each text encoded once, handed to one WebSocket after the other."""

import asyncio

from aiohttp import WSMsgType, web

from ...contender import Gateway, Measurement, Params
from ..aiohttp_site import serve
from .phases import Phases


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast with ``WebSocketResponse.send_frame()``."""
    return asyncio.run(_run(gateway, params))


async def _run(gateway: Gateway, params: Params) -> Measurement:
    clients, phases = params["clients"], Phases(gateway, params)
    sockets: list[web.WebSocketResponse] = []
    complete = asyncio.Event()

    async def attend(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        if len(sockets) == clients:
            complete.set()
        async for _ in socket:
            pass
        return socket

    port = await serve(gateway.host, web.get("/websocket", attend))
    await asyncio.to_thread(gateway.order, "attend", port, clients)
    await complete.wait()
    for part, pause in phases:
        await _broadcast(sockets, phases.messages[part], pause)
        await asyncio.to_thread(phases.wait)
    return phases.measurement()


async def _broadcast(sockets: list[web.WebSocketResponse], messages: list[bytes], pause: float) -> None:  # noqa: ASYNC910  (there is a message)
    for message in messages:
        for socket in sockets:
            await socket.send_frame(message, WSMsgType.TEXT)
        await asyncio.sleep(pause)

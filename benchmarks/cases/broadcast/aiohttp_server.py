"""Broadcasting with aiohttp's server: each text encoded once, handed to one WebSocket after the other."""

import asyncio

from aiohttp import WSMsgType, web

from ...contender import Gateway, Measurement, Params
from ..aiohttp_site import serve
from .phases import Phases
from .quiet import Quiet


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast with ``WebSocketResponse.send_frame()``."""
    return asyncio.run(_run(gateway.host, Phases(gateway, params)))


def idle(gateway: Gateway, params: Params) -> Measurement:
    """Have aiohttp ping each client."""
    return asyncio.run(_run(gateway.host, Quiet(gateway, params)))


async def _run(host: str, phases: Phases | Quiet) -> Measurement:
    sockets: list[web.WebSocketResponse] = []
    complete = asyncio.Event()

    async def attend(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=phases.beat or None)
        await socket.prepare(request)
        sockets.append(socket)
        if len(sockets) == phases.clients:
            complete.set()
        async for _ in socket:
            pass
        return socket

    port = await serve(host, web.get("/websocket", attend))
    await asyncio.to_thread(phases.attend, port)
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

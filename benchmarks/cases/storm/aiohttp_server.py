"""The storm at aiohttp's server, which keeps the last messages in a list."""

import asyncio
import json
import time

from aiohttp import WSMsgType, web

from ...contender import Gateway, Measurement, Params
from ..aiohttp_site import serve
from .weather import Weather


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast on schedule, whoever asks meanwhile."""
    return asyncio.run(_run(gateway, Weather(gateway, params)))


async def _run(gateway: Gateway, weather: Weather) -> Measurement:
    sockets: list[web.WebSocketResponse] = []
    kept = [json.loads(message) for message in weather.messages]
    head = weather.missed

    async def attend(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        async for _ in socket:
            pass
        return socket

    async def answer(request: web.Request) -> web.Response:
        since, limit = int(request.query["since"]), int(request.query["limit"])
        end = min(since + limit, head)
        page = {"messages": kept[since:end], "epoch": "epoch", "head": head, "oldest": 1, "gap": None}
        response = web.json_response(page | {"more": end < head})
        await response.prepare(request)
        return response

    port = await serve(gateway.host, web.get("/websocket", attend), web.get("/websocket/messages", answer))
    await asyncio.to_thread(weather.attend, port)
    for number, due in weather.schedule(port):
        await asyncio.sleep(max(0.0, due - time.time()))
        head = number + 1
        for socket in sockets:
            await socket.send_frame(weather.messages[number], WSMsgType.TEXT)
    return await asyncio.to_thread(weather.measurement)

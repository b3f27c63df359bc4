"""Recovery with aiohttp's server, from a list of the last messages."""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import web

from ...contender import Gateway, Measurement, Params
from ..aiohttp_site import serve
from . import SIZES, pages
from .asking import Asking


def with_json(gateway: Gateway, params: Params) -> Measurement:
    """Encode each answer with ``json.dumps()``, as ``json_response()`` does."""
    whole = pages.page(0, max(SIZES))

    def build(since: int) -> bytes:
        return pages.dumped(whole | {"messages": whole["messages"][since:]})

    return pages.with_build(asyncio.run(_run(gateway, params, build)), partial(build, 0))


def ready(gateway: Gateway, params: Params) -> Measurement:
    """Have each answer as bytes beforehand."""
    return asyncio.run(_run(gateway, params, pages.ready(SIZES).__getitem__))


async def _run(gateway: Gateway, params: Params, build: Callable[[int], bytes]) -> Measurement:
    asking = Asking(gateway, params)

    async def answer(request: web.Request) -> web.Response:
        body = build(int(request.query["since"]))
        response = web.Response(body=body, content_type="application/json")
        await response.prepare(request)
        return response

    port = await serve(gateway.host, web.get("/websocket/messages", answer))
    return await asyncio.to_thread(asking.run, port)

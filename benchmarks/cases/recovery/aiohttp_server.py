"""Recovery with aiohttp's server, from a list of the last messages."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from ...contender import Gateway, Measurement, Params
from ...traffic import hub_messages
from ..aiohttp_site import serve
from . import SIZES
from .asking import Asking


def with_json(gateway: Gateway, params: Params) -> Measurement:
    """Encode each answer with ``json.dumps()``, as ``json_response()`` does."""
    return asyncio.run(_run(gateway, params, lambda answer: json.dumps(answer).encode()))


def with_msgspec(gateway: Gateway, params: Params) -> Measurement:
    """Encode each answer with msgspec."""
    return asyncio.run(_run(gateway, params, msgspec.json.encode))


async def _run(gateway: Gateway, params: Params, encode: Callable[[Any], bytes]) -> Measurement:
    asking = Asking(gateway, params)
    head = max(SIZES)
    messages = [json.loads(message) for message in hub_messages(head)]

    async def answer(request: web.Request) -> web.Response:
        missed = messages[int(request.query["since"]) :]
        page = {"messages": missed, "epoch": "epoch", "head": head, "oldest": 1, "gap": None, "more": False}
        response = web.Response(body=encode(page), content_type="application/json")
        await response.prepare(request)
        return response

    port = await serve(gateway.host, web.get("/websocket/messages", answer))
    return await asyncio.to_thread(asking.run, port)

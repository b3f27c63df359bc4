"""What aiohttp's client does, as somebody would write it without a library for Signal."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from ..contender import Gateway, Measurement, Params
from ..traffic import ACCOUNT
from . import asyncio_work


def send(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``ClientSession.post()``."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_one_by_one))


def send_many(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``ClientSession.post()``, from a task for each person."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_at_once))


async def _send(gateway: Gateway, params: Params, work: Callable[..., Any]) -> Measurement:
    url = f"{gateway.url}/v2/send"
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def send(recipient: str, text: str) -> int:
            body = {"number": ACCOUNT, "recipients": [recipient], "message": text}
            async with session.post(url, json=body) as response:
                (sent,) = await response.json()
                return int(sent["timestamp"])

        measurement: Measurement = await work(send, params)
        return measurement

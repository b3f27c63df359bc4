"""Receiving with trio-websocket and json, as somebody would write it without trio_signal."""

import json
from collections.abc import Callable

import trio
from trio_websocket import WebSocketConnection, open_websocket

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT
from .orders import Orders


def run(gateway: Gateway, params: Params) -> Measurement:
    """Decode what ``get_message()`` gives and read it, each message when it comes."""
    items: list[Item] = []

    def take(text: str | bytes) -> None:
        items.append(_item(text))

    watch = trio.run(_run, Orders(gateway, params), take)
    return Measurement(watch.figures(params["count"]), Work.of(items))


def run_undecoded(gateway: Gateway, params: Params) -> Measurement:
    """Only take what ``get_message()`` gives. It is read when all has come and the watch has stopped."""
    texts: list[str | bytes] = []
    watch = trio.run(_run, Orders(gateway, params), texts.append)
    return Measurement(watch.figures(params["count"]), Work.of(map(_item, texts)))


async def _run(orders: Orders, take: Callable[[str | bytes], None]) -> Stopwatch:
    gateway, watch = orders.gateway, Stopwatch()
    resource = f"/v1/receive/{ACCOUNT}"
    async with open_websocket(gateway.host, gateway.port, resource, use_ssl=False) as websocket:
        for count in orders:
            watch.start()
            await _take(websocket, take, count)
            watch.stop()
    return watch


async def _take(websocket: WebSocketConnection, take: Callable[[str | bytes], None], count: int) -> None:  # noqa: ASYNC910  (there is a message)
    for _ in range(count):
        take(await websocket.get_message())


def _item(text: str | bytes) -> Item:
    envelope = json.loads(text)["envelope"]
    data = envelope["dataMessage"]
    group = data.get("groupInfo")
    return data["timestamp"], envelope["sourceNumber"], group["groupId"] if group else None, data["message"]

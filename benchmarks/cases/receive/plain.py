"""Receiving with trio-websocket and json, as somebody would write it without trio_signal."""

import json

import trio
from trio_websocket import WebSocketConnection, open_websocket

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT


def run(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from ``get_message()``."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    warm, count = params["warm"], params["count"]
    gateway.order("prepare", warm + count)
    resource = f"/v1/receive/{ACCOUNT}"
    async with open_websocket(gateway.host, gateway.port, resource, use_ssl=False) as websocket:
        gateway.order("blast", warm)
        await _take(websocket, items, warm)
        watch = Stopwatch()
        gateway.order("blast", count)
        await _take(websocket, items, warm + count)
        watch.stop()
    return Measurement(watch.figures(count), Work.of(items))


async def _take(websocket: WebSocketConnection, items: list[Item], until: int) -> None:
    while True:
        envelope = json.loads(await websocket.get_message())["envelope"]
        data = envelope["dataMessage"]
        group = data.get("groupInfo")
        items.append(
            (
                data["timestamp"],
                envelope["sourceNumber"],
                group["groupId"] if group else None,
                data["message"],
            )
        )
        if len(items) == until:
            return

"""Receiving with trio-websocket and json, as somebody would write it without trio_signal."""

import json
from collections.abc import Callable

import trio
from trio_websocket import WebSocketConnection, open_websocket

from ...contender import Gateway, Item, Measurement, Params, T
from ...traffic import ACCOUNT
from .orders import Orders, as_it_is


def run(gateway: Gateway, params: Params) -> Measurement:
    """Decode what ``get_message()`` gives and read it, each message when it comes."""
    orders = Orders(gateway, params, as_it_is)
    keep = orders.taken.append

    def take(text: str | bytes) -> None:
        keep(_item(text))

    return trio.run(_run, orders, take)


def run_undecoded(gateway: Gateway, params: Params) -> Measurement:
    """Only take what ``get_message()`` gives. It is read while the watch is stopped."""
    orders = Orders(gateway, params, _item)
    return trio.run(_run, orders, orders.taken.append)


async def _run(orders: Orders[T], take: Callable[[str | bytes], None]) -> Measurement:
    gateway = orders.gateway
    resource = f"/v1/receive/{ACCOUNT}"
    async with open_websocket(gateway.host, gateway.port, resource, use_ssl=False) as websocket:
        for count in orders:
            await _take(websocket, take, count)
    return orders.measurement()


async def _take(websocket: WebSocketConnection, take: Callable[[str | bytes], None], count: int) -> None:  # noqa: ASYNC910  (there is a message)
    for _ in range(count):
        take(await websocket.get_message())


def _item(text: str | bytes) -> Item:
    envelope = json.loads(text)["envelope"]
    data = envelope["dataMessage"]
    group = data.get("groupInfo")
    return data["timestamp"], envelope["sourceNumber"], group["groupId"] if group else None, data["message"]

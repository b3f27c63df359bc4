"""Answering with trio-websocket and httpx, as somebody would write it without trio_signal."""

import json

import httpx
import trio
from trio_websocket import WebSocketConnection, open_websocket

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation


def run(gateway: Gateway, params: Params) -> Measurement:
    """Answer with ``AsyncClient.post()``, from a task for each message."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    people, watch = params["people"], Stopwatch()
    gateway.order("introduce", people, params["warm"] + params["each"])
    resource = f"/v1/receive/{ACCOUNT}"
    limits = httpx.Limits(max_keepalive_connections=people)
    async with (
        open_websocket(gateway.host, gateway.port, resource, use_ssl=False) as websocket,
        httpx.AsyncClient(base_url=gateway.url, limits=limits) as client,
    ):
        for each in (params["warm"], params["each"]):
            gateway.order("converse", each)
            watch.start()
            await _answer_all(websocket, client, items, people * each)
            watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))


async def _answer_all(
    websocket: WebSocketConnection, client: httpx.AsyncClient, items: list[Item], count: int
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            envelope = json.loads(await websocket.get_message())["envelope"]
            sender, text = envelope["sourceNumber"], envelope["dataMessage"]["message"]
            nursery.start_soon(_answer, client, sender, text, items)


async def _answer(client: httpx.AsyncClient, sender: str, text: str, items: list[Item]) -> None:
    body = {"number": ACCOUNT, "recipients": [sender], "message": text}
    response = await client.post("/v2/send", json=body)
    response.raise_for_status()
    items.append((None, sender, None, text))

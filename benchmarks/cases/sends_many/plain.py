"""Sending to many people with httpx on Trio."""

import httpx
import trio

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing_to


def run(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``AsyncClient.post()``, from a task for each person."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    people, warm, watch = params["people"], params["warm"], Stopwatch()
    to_each = outgoing_to(people, warm + params["each"])
    url, limits = f"{gateway.url}/v2/send", httpx.Limits(max_keepalive_connections=people)
    async with httpx.AsyncClient(limits=limits) as client:
        for part in (slice(warm), slice(warm, None)):
            watch.start()
            async with trio.open_nursery() as nursery:
                for messages in to_each:
                    nursery.start_soon(_send, client, url, messages[part], items)
            watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))


async def _send(  # noqa: ASYNC910  (there is a message)
    client: httpx.AsyncClient, url: str, messages: list[tuple[str, str]], items: list[Item]
) -> None:
    for recipient, text in messages:
        body = {"number": ACCOUNT, "recipients": [recipient], "message": text}
        response = await client.post(url, json=body)
        response.raise_for_status()
        items.append((int(response.json()[0]["timestamp"]), recipient, None, text))

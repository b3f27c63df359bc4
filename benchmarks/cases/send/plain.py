"""Sending with httpx on Trio, as somebody would write it without trio_signal."""

import httpx
import trio

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing


def run(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``AsyncClient.post()``."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    warm, count = params["warm"], params["count"]
    watch = Stopwatch()
    async with httpx.AsyncClient() as client:
        for number, (recipient, text) in enumerate(outgoing(warm + count)):
            if number == warm:
                watch.start()
            body = {"number": ACCOUNT, "recipients": [recipient], "message": text}
            response = await client.post(f"{gateway.url}/v2/send", json=body)
            response.raise_for_status()
            items.append((int(response.json()[0]["timestamp"]), recipient, None, text))
        watch.stop()
    return Measurement(watch.figures(count), Work.of(by_conversation(items)))

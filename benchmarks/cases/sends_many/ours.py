"""Sending to many people with trio_signal."""

import trio

from trio_signal import ConnectionState, SignalClient, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing_to


def run(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``send_message()`` and wait for each outcome, from a task for each person."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    people, warm, watch = params["people"], params["warm"], Stopwatch()
    to_each = outgoing_to(people, warm + params["each"])
    async with open_signal_client(gateway.url, ACCOUNT, rate_limit=None, max_in_flight=people) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        for part in (slice(warm), slice(warm, None)):
            watch.start()
            async with trio.open_nursery() as nursery:
                for messages in to_each:
                    nursery.start_soon(_send, signal, messages[part], items)
            watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))


async def _send(signal: SignalClient, messages: list[tuple[str, str]], items: list[Item]) -> None:  # noqa: ASYNC910  (there is a message)
    for recipient, text in messages:
        message = await signal.send_message(recipient, text)
        sent = await message.wait()
        items.append((sent.timestamp, recipient, None, text))

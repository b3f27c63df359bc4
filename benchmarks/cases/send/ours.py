"""Sending with trio_signal."""

import trio

from trio_signal import ConnectionState, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing


def run(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``send_message()`` and wait for each outcome."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    warm, count = params["warm"], params["count"]
    watch = Stopwatch()
    # The default rate limit, 20 a second, would be all that is measured.
    async with open_signal_client(gateway.url, ACCOUNT, rate_limit=None) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        for number, (recipient, text) in enumerate(outgoing(warm + count)):
            if number == warm:
                watch.start()
            message = await signal.send_message(recipient, text)
            sent = await message.wait()
            items.append((sent.timestamp, recipient, None, text))
        watch.stop()
    return Measurement(watch.figures(count), Work.of(by_conversation(items)))

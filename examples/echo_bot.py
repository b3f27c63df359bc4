"""Answers every message with its own text.

::

    export TRIO_SIGNAL_GATEWAY=http://127.0.0.1:8080 TRIO_SIGNAL_ACCOUNT=+15550100
    python examples/echo_bot.py

Ctrl-C or SIGTERM ends it in order: answers that still wait get ten seconds to leave. A second
one ends it at once.
"""

import logging
import os
from signal import SIGINT, SIGTERM

import trio

from trio_signal import SignalClient, open_signal_client


async def echo(signal: SignalClient) -> None:
    """Answer, over any number of lost connections."""
    async for message in signal.receive_messages():
        # What you write from your own phone comes too, and nobody has asked you.
        if message.text and not message.from_self:
            await signal.send_message(message.reply_to, f"you said: {message.text}")


async def main() -> None:
    """Echo until Ctrl-C or SIGTERM."""
    gateway, account = os.environ["TRIO_SIGNAL_GATEWAY"], os.environ["TRIO_SIGNAL_ACCOUNT"]
    async with open_signal_client(gateway, account) as signal, trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await echo(signal)


async def stop_at_signal(work: trio.CancelScope) -> None:
    """End the work at a signal. The client's own block goes on to its end."""
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        await anext(aiter(signals))
    logging.warning("ending in order; a second signal ends it at once")
    work.cancel()


if __name__ == "__main__":
    logging.basicConfig()
    trio.run(main)

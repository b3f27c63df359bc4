"""Coming back with trio_signal's own settings."""

import trio

from trio_signal import ReceivedMessage, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Work
from ...traffic import ACCOUNT
from .sites import in_order, order_outages, sites


def run(gateway: Gateway, params: Params) -> Measurement:
    """Keep a client at each gateway until all of them are back."""
    return trio.run(_run, gateway, params)


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    async with trio.open_nursery() as nursery:
        for site in sites(gateway, params):
            nursery.start_soon(_wait, site.url, items)
        await trio.to_thread.run_sync(order_outages, gateway, params)
    return Measurement({}, Work.of(in_order(items)))


async def _wait(url: str, items: list[Item]) -> None:
    """Keep a client until the one message has come."""
    async with open_signal_client(url, ACCOUNT) as signal:
        async for message in signal.receive_messages():
            items.append(_item(message))
            return


def _item(message: ReceivedMessage) -> Item:
    group = message.group
    return message.timestamp, message.sender, group.id if group else None, message.text

"""Receiving with trio_signal."""

import trio

from trio_signal import ConnectionState, EventStream, MessageStream, ReceivedMessage, open_signal_client

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT
from .orders import Orders


def receive_messages(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from ``receive_messages()``."""
    return trio.run(_receive_messages, gateway, params)


def events(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from ``events()``."""
    return trio.run(_events, gateway, params)


async def _receive_messages(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    orders, watch = Orders(gateway, params), Stopwatch()
    async with open_signal_client(gateway.url, ACCOUNT) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        messages = signal.receive_messages()
        for count in orders:
            watch.start()
            await _take_messages(messages, items, len(items) + count)
            watch.stop()
    return Measurement(watch.figures(params["count"]), Work.of(items))


async def _take_messages(messages: MessageStream, items: list[Item], until: int) -> None:
    async for message in messages:
        items.append(_item(message))
        if len(items) == until:
            return


async def _events(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    orders, watch = Orders(gateway, params), Stopwatch()
    async with open_signal_client(gateway.url, ACCOUNT) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        stream = signal.events()
        for count in orders:
            watch.start()
            await _take_events(stream, items, len(items) + count)
            watch.stop()
    return Measurement(watch.figures(params["count"]), Work.of(items))


async def _take_events(stream: EventStream, items: list[Item], until: int) -> None:
    async for event in stream:
        if not isinstance(event, ReceivedMessage):
            raise TypeError(f"not a message: {event!r}")
        items.append(_item(event))
        if len(items) == until:
            return


def _item(message: ReceivedMessage) -> Item:
    group = message.group
    return message.timestamp, message.sender, group.id if group else None, message.text

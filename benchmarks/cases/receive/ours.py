"""Receiving with trio_signal."""

import trio

from trio_signal import ConnectionState, EventStream, MessageStream, ReceivedMessage, open_signal_client

from ...contender import Gateway, Item, Measurement, Params
from ...traffic import ACCOUNT
from .orders import Orders, as_it_is


def receive_messages(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from ``receive_messages()``."""
    return trio.run(_receive_messages, gateway, params)


def events(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from ``events()``."""
    return trio.run(_events, gateway, params)


async def _receive_messages(gateway: Gateway, params: Params) -> Measurement:
    orders = Orders(gateway, params, as_it_is)
    async with open_signal_client(gateway.url, ACCOUNT) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        messages = signal.receive_messages()
        for count in orders:
            await _take_messages(messages, orders.taken, count)
    return orders.measurement()


async def _take_messages(messages: MessageStream, taken: list[Item], count: int) -> None:
    async for message in messages:
        taken.append(_item(message))
        if len(taken) == count:
            return


async def _events(gateway: Gateway, params: Params) -> Measurement:
    orders = Orders(gateway, params, as_it_is)
    async with open_signal_client(gateway.url, ACCOUNT) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        stream = signal.events()
        for count in orders:
            await _take_events(stream, orders.taken, count)
    return orders.measurement()


async def _take_events(stream: EventStream, taken: list[Item], count: int) -> None:
    async for event in stream:
        if not isinstance(event, ReceivedMessage):
            raise TypeError(f"not a message: {event!r}")
        taken.append(_item(event))
        if len(taken) == count:
            return


def _item(message: ReceivedMessage) -> Item:
    group = message.group
    return message.timestamp, message.sender, group.id if group else None, message.text

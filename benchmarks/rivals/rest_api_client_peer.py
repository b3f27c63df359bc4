"""What signal-cli-rest-api-client does, in the way its documentation shows."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

import asyncio
from collections.abc import Callable
from typing import Any

from signal_cli_rest_api_client.client import SignalClient

from ..contender import Gateway, Measurement, Params
from ..traffic import ACCOUNT
from . import asyncio_work
from .asyncio_work import Intake, Reception


def receive(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages, which are plain dicts, from ``stream_events()``."""
    return asyncio.run(_receive(gateway, params))


def send(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``send()``, which opens a connection for each message."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_one_by_one))


def send_many(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``send()``, from a task for each person."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_at_once))


def echo(gateway: Gateway, params: Params) -> Measurement:
    """Answer from a task for each message."""
    return asyncio.run(_echo(gateway, params))


async def _receive(gateway: Gateway, params: Params) -> Measurement:
    reception = Reception(gateway, params)
    client, take = SignalClient(gateway.url, ACCOUNT), reception.take

    async def take_all() -> None:
        async for event in client.stream_events():
            envelope = event["envelope"]
            data = envelope["dataMessage"]
            group = data.get("groupInfo")
            take(
                (
                    data["timestamp"],
                    envelope["sourceNumber"],
                    group["groupId"] if group else None,
                    data["message"],
                )
            )

    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(take_all())
        measurement = await reception.measure()
        taking.cancel()
    return measurement


async def _echo(gateway: Gateway, params: Params) -> Measurement:
    gateway.order("introduce", params["people"], params["warm"] + params["each"])
    client, intake = SignalClient(gateway.url, ACCOUNT), Intake()

    async def answer(sender: str, text: str) -> None:
        await client.send(sender, text)
        intake.take((None, sender, None, text))

    async with asyncio.TaskGroup() as tasks:

        async def answer_all() -> None:
            async for event in client.stream_events():
                envelope = event["envelope"]
                tasks.create_task(answer(envelope["sourceNumber"], envelope["dataMessage"]["message"]))

        answering = tasks.create_task(answer_all())
        measurement = await asyncio_work.converse(gateway, params, intake)
        answering.cancel()
    return measurement


async def _send(gateway: Gateway, params: Params, work: Callable[..., Any]) -> Measurement:
    client = SignalClient(gateway.url, ACCOUNT)

    async def send(recipient: str, text: str) -> int:
        (sent,) = await client.send(recipient, text)
        return int(sent["timestamp"])

    measurement: Measurement = await work(send, params)
    return measurement

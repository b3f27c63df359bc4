"""What signal-client does, in the way its documentation shows, its limit of 50 requests a second lifted."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from signal_client import SignalClient, command

from ..contender import Gateway, Measurement, Params
from ..traffic import ACCOUNT
from . import asyncio_work
from .asyncio_work import Intake, Reception, Take

_ANY_TEXT: Final = re.compile("")


def receive(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages in a command that any text calls."""
    return asyncio.run(_receive(gateway, params))


def send(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``api_clients.messages.send()``."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_one_by_one))


def send_many(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``api_clients.messages.send()``, from a task for each person."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_at_once))


def echo(gateway: Gateway, params: Params) -> Measurement:
    """Answer in a command; four workers share the conversations."""
    return asyncio.run(_echo(gateway, params))


class _Handler:
    """What its commands call."""

    def __init__(self, take: Take) -> None:
        self._take = take

    async def take(self, context: Any) -> None:  # noqa: ASYNC910  (asyncio)
        message = context.message
        group = message.group
        self._take((message.timestamp, message.source, group["groupId"] if group else None, message.message))

    async def answer(self, context: Any) -> None:
        message = context.message
        await context.send_text(message.message)
        self._take((None, message.source, None, message.message))


async def _receive(gateway: Gateway, params: Params) -> Measurement:
    reception = Reception(gateway, params)
    async with open_client(gateway, command(_ANY_TEXT)(_Handler(reception.take).take)):
        return await reception.measure()


async def _echo(gateway: Gateway, params: Params) -> Measurement:
    gateway.order("introduce", params["people"], params["warm"] + params["each"])
    intake = Intake()
    async with open_client(gateway, command(_ANY_TEXT)(_Handler(intake.take).answer)):
        return await asyncio_work.converse(gateway, params, intake)


async def _send(gateway: Gateway, params: Params, work: Callable[..., Any]) -> Measurement:
    async with open_client(gateway) as client:
        messages = client.api_clients.messages

        async def send(recipient: str, text: str) -> int:
            (sent,) = await messages.send({"number": ACCOUNT, "recipients": [recipient], "message": text})
            return int(sent["timestamp"])

        measurement: Measurement = await work(send, params)
        return measurement


@asynccontextmanager
async def open_client(gateway: Gateway, *commands: Any) -> AsyncGenerator[Any]:
    """Run a client."""
    config = {
        "phone_number": ACCOUNT,
        "signal_service": gateway.url,
        "base_url": gateway.url,
        "rate_limit": 1_000_000_000,
    }
    client = SignalClient(config)
    for each in commands:
        client.register(each)
    await client.app.initialize()
    running = asyncio.create_task(client.start())
    yield client
    # It may be waiting for a worker that the other has ended; what is measured is over.
    running.cancel()
    await asyncio.wait([running])

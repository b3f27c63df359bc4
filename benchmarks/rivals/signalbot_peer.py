"""What signalbot does, in the way its documentation shows."""

# It is installed in an environment of its own, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from signalbot import Config, DataMessageHandler, SendMessage, SignalBot

from ..contender import Gateway, Measurement, Params
from ..traffic import ACCOUNT
from . import asyncio_work
from .asyncio_work import Intake, Reception, Take


def receive(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages in a handler."""
    return asyncio.run(_receive(gateway, params))


def send(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``bot.messages.send()``."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_one_by_one))


def send_many(gateway: Gateway, params: Params) -> Measurement:
    """Send with ``bot.messages.send()``, from a task for each person."""
    return asyncio.run(_send(gateway, params, asyncio_work.send_at_once))


def echo(gateway: Gateway, params: Params) -> Measurement:
    """Answer in a handler; the bot runs three of them at a time."""
    return asyncio.run(_echo(gateway, params))


class Taking(DataMessageHandler):
    """Takes what it is called with."""

    def __init__(self, take: Take) -> None:
        self._take = take

    async def handle_data_message(self, context: Any) -> None:  # noqa: ASYNC910  (asyncio)
        """Take it."""
        message = context.message
        group = message.group_info
        self._take(
            (message.timestamp, message.source_number, group.group_id if group else None, message.text)
        )


class _Answering(DataMessageHandler):
    def __init__(self, take: Take) -> None:
        self._take = take

    async def handle_data_message(self, context: Any) -> None:
        message = context.message
        await context.send(SendMessage(text=message.text))
        self._take((None, message.source_number, None, message.text))


async def _receive(gateway: Gateway, params: Params) -> Measurement:
    reception = Reception(gateway, params)
    async with open_bot(gateway, Taking(reception.take)):
        return await reception.measure()


async def _echo(gateway: Gateway, params: Params) -> Measurement:
    gateway.order("introduce", params["people"], params["warm"] + params["each"])
    intake = Intake()
    async with open_bot(gateway, _Answering(intake.take)):
        return await asyncio_work.converse(gateway, params, intake)


async def _send(gateway: Gateway, params: Params, work: Callable[..., Any]) -> Measurement:
    async with open_bot(gateway) as bot:

        async def send(recipient: str, text: str) -> int:
            sent = await bot.messages.send(SendMessage(text=text), recipient)
            return int(sent.timestamp)

        measurement: Measurement = await work(send, params)
        return measurement


@asynccontextmanager
async def open_bot(gateway: Gateway, *handlers: Any) -> AsyncGenerator[Any]:
    """Run a bot. It is not stopped: that would stop the loop before its result is known."""
    config = Config(
        phone_number=ACCOUNT,
        signal_service=f"{gateway.host}:{gateway.port}",
        connection_mode="http_only",
        storage={"type": "in-memory"},
        download_attachments=False,
    )
    bot = SignalBot(config)
    for handler in handlers:
        bot.register(handler)
    bot.start(run_forever=False)
    await bot.wait_until_ready()
    yield bot
    await bot.close()

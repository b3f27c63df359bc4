"""Obeys /help, /ping and /remind: what other libraries have a framework for.

::

    export TRIO_SIGNAL_GATEWAY=http://127.0.0.1:8080 TRIO_SIGNAL_ACCOUNT=+15550100
    python examples/command_bot.py

Another command is another function. Ctrl-C or SIGTERM ends it; reminders are lost then.
"""

import logging
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from signal import SIGINT, SIGTERM

import trio

from trio_signal import ReceivedMessage, SignalClient, open_signal_client

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_REMINDERS = 100


@dataclass
class Bot:
    """What commands work with: the client, and a nursery for what goes on after they have answered."""

    signal: SignalClient
    nursery: trio.Nursery

    async def answer(self, message: ReceivedMessage, text: str) -> None:
        """Answer where the message came from, quoting it."""
        await self.signal.send_message(message.reply_to, text, quote=message)


Command = Callable[[Bot, ReceivedMessage, str], Awaitable[None]]
COMMANDS: dict[str, Command] = {}


def command(name: str) -> Callable[[Command], Command]:
    """Have a function called with what follows its name in a message."""

    def register(function: Command) -> Command:
        COMMANDS[name] = function
        return function

    return register


async def obey(bot: Bot) -> None:
    """Call the command that each message begins with, showing meanwhile that we type."""
    async for message in bot.signal.receive_messages():
        name, _, rest = (message.text or "").partition(" ")
        if name in COMMANDS and not message.from_self:
            async with bot.signal.typing(message.reply_to):
                try:
                    await COMMANDS[name](bot, message, rest.strip())
                except Exception:
                    # One command's mistake must not end the others.
                    logging.exception("%s failed", name)


@command("/help")
async def show_help(bot: Bot, message: ReceivedMessage, _rest: str) -> None:
    """Show this list."""
    await bot.answer(message, "\n".join(f"{name}: {each.__doc__}" for name, each in COMMANDS.items()))


@command("/ping")
async def ping(bot: Bot, message: ReceivedMessage, _rest: str) -> None:
    """Say pong."""
    await bot.answer(message, "pong")


@command("/remind")
async def remind(bot: Bot, message: ReceivedMessage, rest: str) -> None:
    """Say something again later: /remind 10m tea is ready."""
    match = re.fullmatch(r"(\d{1,4})([smhd])\s+(.+)", rest, re.DOTALL)
    if match is None:
        await bot.answer(message, "Like this: /remind 10m tea is ready")
    elif len(bot.nursery.child_tasks) > MOST_REMINDERS:
        await bot.answer(message, "I have too much to remember already.")
    else:
        bot.nursery.start_soon(ring, bot, message, int(match[1]) * SECONDS[match[2]], match[3])
        await bot.answer(message, f"In {match[1]}{match[2]}.")


async def ring(bot: Bot, message: ReceivedMessage, delay: float, text: str) -> None:
    """Say the text after some seconds."""
    await trio.sleep(delay)
    await bot.answer(message, text)


async def main() -> None:
    """Obey until Ctrl-C or SIGTERM."""
    gateway, account = os.environ["TRIO_SIGNAL_GATEWAY"], os.environ["TRIO_SIGNAL_ACCOUNT"]
    async with open_signal_client(gateway, account) as signal, trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await obey(Bot(signal, nursery))


async def stop_at_signal(work: trio.CancelScope) -> None:
    """End the work at a signal. The client's own block goes on to its end."""
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        await anext(aiter(signals))
    logging.warning("ending in order; a second signal ends it at once")
    work.cancel()


if __name__ == "__main__":
    logging.basicConfig()
    trio.run(main)

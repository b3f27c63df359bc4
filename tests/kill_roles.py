"""The programs that ``tests/kills.py`` kills: a gateway, a bot, and ``trio-signal`` itself.

Each says in lines of JSON what it does, at the very moment: a line that was written survives its writer. The
gateway and the bot do what the words on their standard input order, one a line, and end with it.
"""

import json
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import Any, Final

import trio

from trio_signal import (
    Backoff,
    ConnectionState,
    Dropped,
    Failed,
    Gap,
    MessageDropped,
    MessageSettled,
    OutgoingMessage,
    RateLimit,
    ReceivedMessage,
    SendFailed,
    Sent,
    SignalClient,
    Store,
    open_signal_client,
)
from trio_signal._cli import daemon_command, hub
from trio_signal.cli import main
from trio_signal.testing import FakeGateway, SendRequest, open_fake_gateway

#: What `trio-signal daemon --hub` imports only when it is asked for, and which is to be there already.
WARM = (daemon_command, hub)

ACCOUNT = "+15550001"
PEOPLE = ("+15550002", "+15550003", "group.QUFFQ0F3UUZCZ2M9")


def say(**fields: object) -> None:
    """Tell whoever started us, before anything else can happen."""
    os.write(1, json.dumps(fields).encode() + b"\n")


async def orders() -> AsyncGenerator[str]:
    """Yield the words on standard input until it ends."""
    rest = b""
    stdin = trio.lowlevel.FdStream(os.dup(0))
    async for data in stdin:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()
    await stdin.aclose()


class _Going:
    """Whether there is to be traffic."""

    def __init__(self) -> None:
        self._gate = trio.Event()
        #: Held while a message is handed over: until that is done, nobody is at rest.
        self.handing_over: Final = trio.Lock()

    async def wait(self) -> None:
        await self._gate.wait()

    @property
    def goes(self) -> bool:
        return self._gate.is_set()

    def go(self) -> None:
        self._gate.set()

    def rest(self) -> None:
        self._gate = trio.Event()


# --- the gateway ---


class _Arrivals(list[SendRequest]):
    """Says of each message that it has come in whole, before anybody can be told so."""

    def append(self, send: SendRequest) -> None:
        super().append(send)
        say(arrived=send.message, to=send.recipients[0])


def gateway(arguments: list[str]) -> None:
    """Run a gateway: its port, and the number of its first message."""
    port, first = map(int, arguments)
    trio.run(_gateway, port, first)


async def _gateway(port: int, first: int) -> None:
    random, going = Random(), _Going()
    async with (
        open_fake_gateway(ACCOUNT, port=port, answer_delay=0.002, start_time=time.time()) as fake,
        trio.open_nursery() as nursery,
    ):
        # The one thing that a fake gateway's own notes cannot do is to survive it.
        fake._core.records.received = _Arrivals()
        numbers = iter(range(first, 10**9))
        nursery.start_soon(_correspond, fake, going, lambda: next(numbers), random)
        say(up=True)
        async for word in orders():
            if word == "go":
                going.go()
            elif word == "rest":
                going.rest()
                say(rests=True)
            else:
                _emit(fake, next(numbers))
        nursery.cancel_scope.cancel()


async def _correspond(fake: FakeGateway, going: _Going, number: Callable[[], int], random: Random) -> None:
    while True:
        await going.wait()
        _emit(fake, number())
        await trio.sleep(random.uniform(0.002, 0.02))


def _emit(fake: FakeGateway, number: int) -> None:
    say(emitted=number)
    fake.deliver(text=f"in-{number}")


# --- the bot ---


def bot(arguments: list[str]) -> None:
    """Run a bot: where it connects to, what is there, its store, its name, which of its runs this is."""
    logging.disable(logging.WARNING)
    trio.run(_bot, arguments)


async def _bot(arguments: list[str]) -> None:
    url, kind, store, name, run = arguments
    going = _Going()
    async with (
        open_signal_client(
            url,
            ACCOUNT,
            gateway="hub" if kind == "hub" else "rest",
            store=Store(store),
            overflow="wait",
            buffer_size=10,
            rate_limit=RateLimit(1000, per=1.0, burst=1000),
            backoff=Backoff(initial=0.05, maximum=0.1, jitter=False),
            settle_timeout=0.2,
        ) as signal,
        trio.open_nursery() as nursery,
    ):
        say(up=True)
        nursery.start_soon(_receive, signal)
        nursery.start_soon(_write, signal, going, f"{name}-{run}", nursery)
        async for word in orders():
            if word == "go":
                going.go()
            else:
                going.rest()
                async with going.handing_over:
                    pass
                await _come_to_rest(signal)
                say(rests=True)
        nursery.cancel_scope.cancel()


async def _write(signal: SignalClient, going: _Going, name: str, nursery: trio.Nursery) -> None:
    random = Random()
    number = 0
    while True:
        await going.wait()
        async with going.handing_over:
            if not going.goes:
                continue
            number += 1
            recipient = random.choice(PEOPLE)
            message = await signal.send_message(recipient, f"{name}-{number}", id=f"{name}-{number}")
            say(accepted=message.id, to=recipient)
        nursery.start_soon(_tell_outcome, message)
        await trio.sleep(random.expovariate(1 / 0.008))


async def _tell_outcome(message: OutgoingMessage) -> None:
    try:
        outcome: Any = await message.wait()
    except (MessageDropped, SendFailed):
        outcome = message.outcome
    say(outcome=_words(outcome), id=message.id, why=_why(outcome))


def _words(outcome: Sent | Dropped | Failed) -> str:
    if isinstance(outcome, Sent):
        return f"sent {outcome.timestamp}"
    return f"dropped {outcome.reason}" if isinstance(outcome, Dropped) else outcome.certainty.value


def _why(outcome: Sent | Dropped | Failed) -> str | None:
    return repr(outcome.error) if isinstance(outcome, Failed) else None


async def _receive(signal: SignalClient) -> None:
    async for event in signal.events():
        cursor = signal.cursor
        place = None if cursor is None or cursor.epoch is None else [cursor.epoch, cursor.sequence]
        match event:
            case ReceivedMessage():
                say(got=event.text, at=place)
            case Gap():
                say(gap=event.reason.value, first=event.first, last=event.last, at=place)
            case MessageSettled():
                say(outcome=_words(event.outcome), id=event.message_id, why=_why(event.outcome))
            case _:
                say(unexpected=repr(event))


async def _come_to_rest(signal: SignalClient) -> None:
    """Wait until nothing is left to be sent, and the link is up."""
    await signal.wait_state(ConnectionState.CONNECTED)
    # Messages of earlier runs are among them, of which there is no object to wait for.
    while signal.statistics().buffer.outgoing.pending:  # noqa: ASYNC110
        await trio.sleep(0.005)


# --- trio-signal ---


def trio_signal(arguments: list[str]) -> int:
    """Run a command of the command line."""
    return main(arguments)

"""The people of the demo: a correspondent who writes all the time, and a bot that answers.

The bot hears through a hub, and so can others; it answers with the client that the hub reads from.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import trio

from .._client import SignalClient
from .._continuity import Gap
from .._envelopes import ReceivedMessage, Undecodable
from .._errors import ClientClosed
from .._inbox import EventStream
from .._outcomes import Dropped, Failed, MessageDropped, Outcome, SendFailed
from .._outgoing import OutgoingMessage, on_done
from .._states import ConnectionState
from .._status import StateChange, StateChanges
from ..testing import FakeGateway, envelopes
from .record import Record

#: Seconds between two messages of the correspondent.
_PAUSE: Final = 0.3

_TALK: Final = (
    "Are you there?",
    "The kettle is on.",
    "It has begun to rain.",
    "Did you feed the cat?",
    "I found your umbrella.",
    "The train is late again.",
    "Have you seen the moon?",
)


class Stage:
    """Who acts, on what.

    Attributes:
        gateway: what gets broken.
        client: what has to cope.
        bot: the bot's own client, of the hub.
        visit: opens another client of the hub.
        record: what happens.
    """

    def __init__(
        self,
        gateway: FakeGateway,
        client: SignalClient,
        bot: SignalClient,
        visit: Callable[..., AbstractAsyncContextManager[SignalClient]],
        record: Record,
    ) -> None:
        self.gateway: Final = gateway
        self.client: Final = client
        self.bot: Final = bot
        self.visit: Final = visit
        self.record: Final = record
        self._talk: Final[Iterator[str]] = itertools.cycle(_TALK)
        self._numbers: Final = itertools.count(1)
        self._may_talk = trio.Event()
        self._may_talk.set()

    async def converse(self) -> None:
        """Write to the bot now and then, from its first connection on, until cancelled."""
        # The time before is no absence: nobody would be told of what is said then.
        await self.client.wait_state(ConnectionState.CONNECTED)
        await self.bot.wait_state(ConnectionState.CONNECTED)
        while True:
            await self._may_talk.wait()
            self.say(next(self._talk))
            await trio.sleep(_PAUSE)

    def say(self, text: str) -> int:
        """Write one message to the bot, whether or not it is there; return its timestamp."""
        frame = json.loads(self.gateway.deliver(text=text, sender=envelopes.PEER))
        stamp: int = frame["envelope"]["timestamp"]
        self.record.said.append(stamp)
        return stamp

    def tell(self, text: str) -> None:
        """Say what is being broken."""
        self.record.note("demo", text)

    def hush(self) -> None:
        """Have the correspondent pause."""
        self._may_talk = trio.Event()

    def resume(self) -> None:
        """Have the correspondent go on."""
        self._may_talk.set()

    async def answer(self, events: EventStream) -> None:
        """Be the bot: answer each message, and take note of gaps. A checkpoint; ends with the client."""
        await trio.lowlevel.checkpoint()
        async for event in events:
            if isinstance(event, ReceivedMessage):
                self.record.heard.append(event.timestamp or 0)
                await self._reply(event)
            elif isinstance(event, Gap):
                self.record.gaps.append(event)
                length = (event.until - event.since) / 1000
                self.record.note("gap", f"{length:.1f} s in which messages may be missing", bad=True)
            elif isinstance(event, Undecodable):
                self.record.unreadable += 1
                self.record.note("recv", f"unreadable: {event.reason}", bad=True)

    async def alert(self, count: int) -> list[OutgoingMessage]:
        """Have the bot send something of its own, several times. A checkpoint."""
        await trio.lowlevel.checkpoint()
        return [await self._send(f"alert {number}") for number in range(1, count + 1)]

    async def settled(self) -> None:
        """Wait until everything that was sent has its outcome. A checkpoint."""
        await trio.lowlevel.checkpoint()
        for letter in self.record.letters:
            await outcome_of(letter)

    async def follow(self, changes: StateChanges) -> None:
        """Note each change of state. A checkpoint; ends with the client."""
        await trio.lowlevel.checkpoint()
        async for change in changes:
            self.record.note("link", _sentence(change), bad=change.error is not None)

    async def _reply(self, message: ReceivedMessage) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self._send(f"you said: {message.text}", to=message.reply_to)
        except ClientClosed:
            # The last messages come out of the inbox after the client has been closed.
            self.record.note("send", "closed: no answer to the last message")

    async def _send(self, text: str, *, to: str | None = None) -> OutgoingMessage:
        # The number makes each text unique, so that both sides' lists can be compared.
        numbered = f"{next(self._numbers)}. {text}"
        letter = await self.client.send_message(to or envelopes.PEER, numbered)
        self.record.letters.append(letter)
        # Its buffer drops the oldest, so a message has no outcome yet when it is accepted.
        on_done(letter, self._note_outcome)
        return letter

    def _note_outcome(self, letter: OutgoingMessage, outcome: Outcome) -> None:
        number = letter.text.partition(".")[0]
        if isinstance(outcome, Dropped):
            self.record.note("send", f"message {number} dropped: {outcome.reason.value}", bad=True)
        elif isinstance(outcome, Failed):
            words = f"{outcome.certainty.value}): {outcome.error}"
            self.record.note("send", f"message {number} failed ({words}", bad=True)


async def outcome_of(letter: OutgoingMessage) -> None:
    """Wait until a message has its outcome, whichever. A checkpoint."""
    await trio.lowlevel.checkpoint()
    with suppress(MessageDropped, SendFailed):
        await letter.wait()


def _sentence(change: StateChange) -> str:
    word = change.current.name
    match change.current:
        case ConnectionState.RECONNECTING if change.delay:
            return f"{word}: attempt {change.attempt}, in {change.delay:.1f} s"
        case ConnectionState.RECONNECTING:
            return f"{word}: attempt {change.attempt}"
        case ConnectionState.SYNCING:
            return f"{word}: the link is up, what was missed is reported"
        case ConnectionState.CONNECTED:
            return word
        case ConnectionState.DISCONNECTED:
            return f"{word}: {change.error or 'the demo is over'}"

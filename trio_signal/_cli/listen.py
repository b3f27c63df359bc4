"""``trio-signal listen``: print what people write, and where something may be missing."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from .._client import SignalClient
from .._continuity import Gap
from .._dial import parse_url
from .._envelopes import MessageKind, ReceivedMessage
from .._errors import ObserverLagged, Reason, SignalError
from .._events import Event
from .._states import ConnectionState
from .._status import StateChange, StateChanges
from . import output
from .connection import Connection
from .exits import Exit, complain, failed
from .interrupt import run_until_signal
from .text import clock, iso, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """What ``trio-signal listen`` was told."""

    where: Connection
    as_json: bool


#: Writes text; raises ``BrokenPipeError`` once nobody reads it any more.
Write = Callable[[str], Awaitable[None]]


async def run_listen(
    settings: ListenSettings,
    *,
    write: Write = output.write,
    wait_reader_gone: Callable[[], Awaitable[None]] = output.wait_reader_gone,
) -> int:
    """Print messages until a signal comes or nobody reads any more, and return the exit code.

    A checkpoint.
    """
    listening = _Listening(settings, write, wait_reader_gone)
    await run_until_signal(listening.run)
    return Exit.OK if listening.failure is None else failed(listening.failure)


class _Listening:
    def __init__(
        self, settings: ListenSettings, write: Write, wait_reader_gone: Callable[[], Awaitable[None]]
    ) -> None:
        self._settings: Final = settings
        self._write: Final = write
        self._wait_reader_gone: Final = wait_reader_gone
        self._describe: Final = (
            as_json if settings.as_json else partial(as_text, with_account=settings.where.account is None)
        )
        self._connected_before = False
        self._everything: Final = trio.CancelScope()
        self.failure: Exception | None = None

    async def run(self) -> None:
        """Listen. A checkpoint; cancelling closes the client at once."""
        where = self._settings.where
        await trio.lowlevel.checkpoint()
        try:
            with self._everything:
                async with where.open_client(token=where.lasting_token) as client:
                    await self._listen(client, client.state_changes())
        except SignalError as error:
            self.failure = error

    async def _listen(self, client: SignalClient, changes: StateChanges) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_link, changes)
            nursery.start_soon(self._watch_reader)
            await self._print(client)

    async def _print(self, client: SignalClient) -> None:
        await trio.lowlevel.checkpoint()
        try:
            async for event in client.events():
                # Waits for the reader. What comes meanwhile stays in the inbox, or is a gap if it is full.
                if line := self._describe(event):
                    await self._write(f"{line}\n")
        except BrokenPipeError:
            self._everything.cancel(reason="nobody reads the output")

    async def _watch_reader(self) -> None:
        await self._wait_reader_gone()
        self._everything.cancel(reason="nobody reads the output")

    async def _watch_link(self, changes: StateChanges) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                async for change in changes:
                    self._tell(change)
            except ObserverLagged:
                continue
            else:
                break

    def _tell(self, change: StateChange) -> None:
        """Say on standard error what a person needs to know who sees nothing come."""
        if change.current is ConnectionState.CONNECTED:
            where = self._settings.where
            complain(f"connected to {parse_url(where.gateway)} {_whose(where.account)}")
            self._connected_before = True
        elif change.current is ConnectionState.DISCONNECTED and change.error is not None:
            complain(f"not connected: {change.error}")
            if change.reason is Reason.REFUSED and not self._connected_before:
                # A token's file would be read again and again, which hides one that was wrong from the start.
                self.failure = change.error
                self._everything.cancel(reason="the gateway refused the token")
        elif change.current is ConnectionState.RECONNECTING and change.delay:
            complain(f"trying again in {change.delay:.1f} s")


def _whose(account: str | None) -> str:
    return "for all of its accounts" if account is None else f"as {account}"


def as_text(event: Event, *, with_account: bool = False) -> str | None:
    """Return the line for a person, safe for a terminal; None for what is no message and no gap.

    Args:
        event: what came.
        with_account: whether to say which account a message came to.
    """
    if isinstance(event, Gap):
        since, until = clock(event.since), clock(event.until)
        return f"-- messages may be missing from {since} to {until} ({event.reason.value}) --"
    if not isinstance(event, ReceivedMessage) or event.kind is not MessageKind.MESSAGE:
        return None
    when = clock(event.timestamp) if event.timestamp is not None else "at an unknown time"
    who = event.sender or "somebody"
    if event.sender_name and event.sender_name != who:
        who = f"{event.sender_name} ({who})"
    group = event.group
    place = f" in {group.name or group.id or 'a group'}" if group else ""
    if with_account:
        place += f" to {event.account or 'an unknown account'}"
    files = "".join(f" [{file.content_type or 'file'}]" for file in event.attachments)
    return printable(f"{when}  {who}{place}: {event.text or ''}{files}")


def as_json(event: Event) -> str | None:
    """Return one JSON object in ASCII, None for what is no message and no gap."""
    if isinstance(event, Gap):
        return json.dumps(
            {
                "event": "gap",
                "reason": event.reason.value,
                "since": iso(event.since),
                "until": iso(event.until),
                "count": event.count,
                "first": event.first,
                "last": event.last,
            }
        )
    if not isinstance(event, ReceivedMessage) or event.kind is not MessageKind.MESSAGE:
        return None
    return json.dumps(
        {
            "event": "message",
            "account": event.account,
            "timestamp": event.timestamp,
            "time": None if event.timestamp is None else iso(event.timestamp),
            "sender": event.sender,
            "sender_name": event.sender_name,
            "group": event.group.id if event.group else None,
            "reply_to": event.reply_to,
            "text": event.text,
            "attachments": [file.id for file in event.attachments],
        }
    )

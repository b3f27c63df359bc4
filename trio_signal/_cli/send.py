"""``trio-signal send``: one message, its outcome as the exit code."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from .._contents import MAX_TEXT_BYTES
from .._errors import Certainty, ClientClosed, SignalError
from .._outcomes import Failed, MessageDropped, SendFailed, Sent
from .._outgoing import OutgoingMessage
from .connection import Connection
from .exits import Exit, complain, failed
from .interrupt import run_until_signal
from .lines import read_stdin
from .options import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSettings:
    """What ``trio-signal send`` was told.

    Attributes:
        where: how to reach the gateway.
        recipient: who it is for.
        text: what to say; None to read it from standard input.
        attach: files to attach.
        timeout: how long to try, in seconds.
    """

    where: Connection
    recipient: str
    text: str | None
    attach: tuple[Path, ...]
    timeout: float


async def run_send(settings: SendSettings, *, read: Callable[[], Awaitable[bytes]] = read_stdin) -> int:
    """Send the message, and return the exit code. A checkpoint; a signal ends it at once.

    Raises:
        UsageError: standard input holds no text.
    """
    sending = _Sending(settings, read)
    caught = await run_until_signal(sending.run)
    return sending.conclude(caught)


class _Sending:
    def __init__(self, settings: SendSettings, read: Callable[[], Awaitable[bytes]]) -> None:
        self._settings: Final = settings
        self._read: Final = read
        self._message: OutgoingMessage | None = None
        self._failure: Exception | None = None
        self._last_error: Exception | None = None

    async def run(self) -> None:
        """Have the message sent. A checkpoint; cancelled, the message has its outcome all the same."""
        await trio.lowlevel.checkpoint()
        try:
            await self._run()
        except (SignalError, UsageError) as error:
            self._failure = error

    async def _run(self) -> None:
        settings, where = self._settings, self._settings.where
        text = await self._text()
        async with where.open_client(token=where.token, close_timeout=0, receive=False) as client:
            self._message = await client.send_message(
                settings.recipient,
                text,
                attachments=settings.attach,
                deadline=trio.current_time() + settings.timeout,
            )
            # The deadline drops it while it waits; while it is being written only leaving the block ends it.
            with trio.move_on_after(settings.timeout), suppress(MessageDropped, SendFailed):
                await self._message.wait()
            self._last_error = client.statistics().last_error

    def conclude(self, caught: signal.Signals | None) -> int:
        """Tell what became of it, and return the exit code."""
        if isinstance(self._failure, UsageError):
            raise self._failure
        if self._failure is not None:
            return failed(self._failure)
        outcome = None if self._message is None else self._message.outcome
        if isinstance(outcome, Sent):
            sys.stdout.write(f"{outcome.timestamp}\n")
            for recipient in outcome.failed:
                complain(f"{recipient.recipient} did not get it: {recipient.reason}")
            return Exit.OK
        if isinstance(outcome, Failed):
            unknown = outcome.certainty is Certainty.UNKNOWN
            reason = self._why(caught) if isinstance(outcome.error, ClientClosed) else str(outcome.error)
            complain(f"{'it is not known whether it was sent' if unknown else 'not sent'}: {reason}")
            return Exit.UNKNOWN if unknown else Exit.NOT_SENT
        complain(f"not sent: {self._why(caught)}")
        return Exit.NOT_SENT

    def _why(self, caught: signal.Signals | None) -> str:
        """Say why there was no answer."""
        if caught is not None:
            return f"{caught.name} came first"
        hint = "" if self._last_error is None else f" ({self._last_error})"
        return f"no answer within {self._settings.timeout:g} s{hint}"

    async def _text(self) -> str:
        settings = self._settings
        await trio.lowlevel.checkpoint()
        if settings.text is not None:
            return settings.text
        if settings.attach and os.isatty(0):
            return ""
        data = b""
        while len(data) <= MAX_TEXT_BYTES and (piece := await self._read()):
            data += piece
        try:
            return data.decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise UsageError("standard input is not UTF-8 text") from None

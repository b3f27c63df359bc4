"""The lines that a daemon reads: each a message, handed to the client in order."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from .._client import SignalClient
from .._errors import BufferFull, ConfigurationError, StoreError
from .._outgoing import OutgoingMessage
from .lines import BadLine, Letter, LineSplitter, parse_line
from .reports import Reports

#: Seconds after which a line that could not be kept is tried again.
_STORE_AGAIN: Final = 1.0

#: Waits for input and returns it; nothing at its end.
Read = Callable[[], Awaitable[bytes]]


class Input:
    """Has messages sent that come as lines.

    Args:
        read: waits for input.
        reports: told what becomes of lines that are no accepted messages.
        on_accepted: called with each message that the client has accepted.

    Attributes:
        given_up: how many messages were read and not accepted, because the daemon stopped.
    """

    def __init__(self, read: Read, reports: Reports, on_accepted: Callable[[OutgoingMessage], None]) -> None:
        self.given_up = 0
        self._read: Final = read
        self._reports: Final = reports
        self._on_accepted: Final = on_accepted
        self._reading = trio.CancelScope()
        self._is_stopped = False

    def stop(self) -> None:
        """Read no more."""
        self._is_stopped = True
        self._reading.cancel(reason="the daemon stops")

    async def run(self, client: SignalClient) -> None:
        """Send what is read, to its end or until it is stopped.

        A checkpoint. Cancelled, it tells of the lines that the client has not taken.
        """
        splitter = LineSplitter()
        lines: deque[tuple[int, bytes]] = deque()
        await trio.lowlevel.checkpoint()
        try:
            while not self._is_stopped:
                data = await self._next()
                lines.extend(splitter.feed(data) if data else self._last_line(splitter))
                while lines:
                    await self._send_line(client, *lines[0])
                    lines.popleft()
                if not data:
                    break
        finally:
            # Cancelled while the buffer had no room: these were read, so nobody else will speak of them.
            for number, line in lines:
                self._give_up(number, line)

    async def _next(self) -> bytes:
        """Wait for input; give none at its end, or when the daemon stops. A checkpoint."""
        data = b""
        error: OSError | None = None
        with trio.CancelScope() as self._reading:
            await trio.lowlevel.checkpoint()
            try:
                data = await self._read()
            except OSError as problem:
                error = problem
        if not data and not self._reading.cancelled_caught:
            self._reports.input_ended(error)
        return data

    def _last_line(self, splitter: LineSplitter) -> Iterator[tuple[int, bytes]]:
        """Return a line without an end, unless it is the stop that keeps its rest from us."""
        return iter(()) if self._is_stopped else splitter.end()

    async def _send_line(self, client: SignalClient, number: int, line: bytes) -> None:
        """Hand one line's message to the client. A checkpoint; cancelled, the client has not taken it."""
        await trio.lowlevel.checkpoint()
        message_id: str | None = None
        try:
            letter = parse_line(line)
            message_id = letter.id
            message = await self._accept(client, number, letter)
        except (BadLine, ConfigurationError, BufferFull) as problem:
            self._reports.line_skipped(number, problem, message_id)
        else:
            self._on_accepted(message)

    async def _accept(self, client: SignalClient, number: int, letter: Letter) -> OutgoingMessage:
        """Have the client accept a message, and wait while there is no room for it on the disk."""
        told = False
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return await client.send_message(letter.recipient, letter.text, id=letter.id)
            except StoreError as problem:
                if not told:
                    self._reports.store_failed(problem, number)
                told = True
            await trio.sleep(_STORE_AGAIN)

    def _give_up(self, number: int, line: bytes) -> None:
        try:
            letter = parse_line(line)
        except BadLine as problem:
            self._reports.line_skipped(number, problem)
        else:
            self.given_up += 1
            self._reports.not_accepted(letter.id)

"""The stream under a WebSocket: messages leave it here, all else goes on to trio-websocket.

Theory of operation
===================

trio-websocket keeps a task of its own that reads, and it takes 25 us and more for each message. So it is
given only what it is good at: the handshake, pings, pongs and closes. The frames with messages are cut
out below it (:mod:`._frames`) and handed over as one list for each read.

Two tasks may want to read. trio-websocket's calls :meth:`LinkStream.receive_some`, for control frames.
Whoever wants messages calls :meth:`LinkStream.draw` and then reads himself, so that messages need no
other task to be woken; meanwhile trio-websocket's task waits for the next control frame. It reads only
while nobody draws: in the handshake, and until somebody begins to draw or has stopped. It then reads no
further than to the first messages, so that no more is held than one read gives.

Whoever draws waits in turn while control frames are not taken yet: a peer that sends pings and reads no
pongs is not read any further, as it is with trio-websocket alone.

A violation is the end of the stream for trio-websocket. What it was stands in :attr:`LinkStream.violation`,
and whoever owns the connection tells the other side.
"""

import os
import re
import sys
from typing import Final

import trio

from ._clock import bound_clock
from ._closing import close_at_once
from ._frames import FrameSplitter, FrameViolation

#: What a peer may send before its handshake answer is whole, in bytes.
MAX_HANDSHAKE: Final = 128 * 1024

#: How much is read at once, in bytes.
READ: Final = 64 * 1024

#: The same where the last read was full, so that more waits, which costs less for each message. So many bytes
#: are 60,000 empty messages, which take 80 ms to be cut out in one go, and nobody else has a turn then. From
#: 128 KiB on the C library gets memory of its own from the system for each.
_READ_ON: Final = 120 * 1024

#: Where a socket is a file, which :func:`os.read` reads.
_IS_FILE: Final = sys.platform != "win32"

#: How many messages are given at once: more of what a gateway sends are not in one read, but tens of
#: thousands of empty ones are, and nobody else would have a turn while these are looked at.
_AT_ONCE: Final = 1_000

#: The first byte of the frame with which trio-websocket answers a ping; we send no other pongs.
_PONG: Final = 0x8A
_CLOSE: Final = 0x88

#: The end of an answer's head, as h11 sees it, under trio-websocket: were it another, the first frame would
#: begin in another place there.
HEAD_END: Final = re.compile(rb"\n\r?\n")
_SWITCHING: Final = re.compile(rb"HTTP/[0-9]\.[0-9] 101[ \r\n]")


class LinkStream(trio.abc.Stream):
    """The stream under a WebSocket: takes messages out and takes note of the rest.

    Args:
        stream: where it all comes from.
        max_message_size: the largest message taken, in bytes.

    Attributes:
        bytes_received: how many have come.
        last_received: when the last ones came, on Trio's clock.
        last_pong_sent: when the last ping of the other side was answered; None before.
        close_sent: whether a close frame was written.
        head: what came of the handshake's answer, up to its blank line.
        ended: set when nothing more can come.
        established: the other side has agreed to the WebSocket.
    """

    def __init__(self, stream: trio.abc.Stream, max_message_size: int) -> None:
        self._stream: Final = stream
        #: What is read directly: a plain socket has nothing that it keeps back.
        self._socket: Final = stream.socket if isinstance(stream, trio.SocketStream) and _IS_FILE else None
        self._splitter: Final = FrameSplitter(max_message_size)
        self._clock: Final = bound_clock()
        self.bytes_received = 0
        self.last_received = self._clock()
        self.last_pong_sent: float | None = None
        self.close_sent = False
        self.head = b""
        self.ended = trio.Event()
        self.established = self._has_head = False
        #: What was read and is not taken yet: messages, and what is for trio-websocket.
        self._messages: list[bytes] = []
        self._passing = b""
        self._error: Exception | None = None
        self._is_drawn = self._is_reading = False
        #: Whether the last read gave all that it could, so that there is more, most likely.
        self._was_full = False
        #: Set when whoever draws has everything that came, if anybody waits for that; see :meth:`heard`.
        self._all_drawn: trio.Event | None = None
        self._drawers: Final = trio.lowlevel.ParkingLot()
        self._readers: Final = trio.lowlevel.ParkingLot()

    @property
    def violation(self) -> FrameViolation | None:
        """How the other side broke the protocol in what carries messages, if it has."""
        return self._splitter.violation

    async def draw(self) -> list[bytes]:
        """Wait for messages and return what was read, 1,000 at most; none once no more can come.

        From the first call on what comes is read by these calls, control frames included, so whoever makes
        one goes on until nothing is given, or calls :meth:`stop_drawing`. For one task at a time. A
        checkpoint; cancelling loses nothing, and is a :meth:`stop_drawing`.
        """
        if self._messages:
            await trio.lowlevel.checkpoint()
        try:
            while not (self._messages or self.ended.is_set() or self._splitter.is_closed):
                self._is_drawn = True
                if self._all_drawn is not None:
                    self._all_drawn.set()
                    self._all_drawn = None
                if self._is_reading or self._passing:
                    await self._drawers.park()
                else:
                    await self._read(_READ_ON if self._was_full else READ)
        finally:
            if not self._messages:
                self.stop_drawing()
        messages = self._messages
        self._messages = messages[_AT_ONCE:]
        if len(messages) > _AT_ONCE:
            del messages[_AT_ONCE:]
        elif not messages:
            await trio.lowlevel.checkpoint()
        return messages  # noqa: ASYNC910  (where there were some already, it has passed one above)

    def stop_drawing(self) -> None:
        """Let trio-websocket read by itself until somebody draws again."""
        self._is_drawn = False
        self._readers.unpark_all()

    async def heard(self, since: float) -> None:
        """Wait until bytes have come since a moment of Trio's clock, and their messages have been drawn.

        A checkpoint; cancelling is safe. Returns when whoever draws is back for more. Where nothing more can
        come, it waits until it is cancelled.
        """
        await trio.lowlevel.checkpoint()
        while self.last_received < since or self._messages:
            if self._all_drawn is None:
                self._all_drawn = trio.Event()
            await self._all_drawn.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Give trio-websocket what it is to have; for its own task. A checkpoint; cancelled, it has ended."""
        data = b""
        try:
            await trio.lowlevel.checkpoint()
            while not (self._passing or self.ended.is_set()):
                if self._is_drawn or self._is_reading or self._messages:
                    await self._readers.park()
                else:
                    await self._read(max_bytes)
            data = self._passing[:max_bytes]
        finally:
            if not data:
                self.ended.set()
            self._drawers.unpark_all()
        self._passing = self._passing[len(data) :]
        if not data and self._error is not None:
            raise self._error
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send. Cancelled half way, the whole stream is closed: nobody can go on after half a frame."""
        whole = False
        try:
            await self._stream.send_all(data)
            whole = True
        finally:
            if not whole:
                self._end()
                await close_at_once(self._stream)  # noqa: ASYNC102  (it shields itself)
        if self.established and data[0] == _PONG:
            self.last_pong_sent = self._clock()
        elif self.established and data[0] == _CLOSE:
            self.close_sent = True

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close it."""
        self._end()
        await self._stream.aclose()

    async def _read(self, max_bytes: int | None) -> None:  # noqa: ASYNC910  (reading is one, and so is its end)
        """Read once and put what came where it belongs. A checkpoint; cancelling is safe."""
        socket = self._socket
        self._is_reading = True
        try:
            data: bytes | bytearray | None = None
            if socket is not None and max_bytes is not None and (descriptor := socket.fileno()) >= 0:
                # As trio.SocketStream.receive_some(), but waiting first where nothing may be there.
                if self._was_full:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(descriptor)
                data = self._read_now(socket, max_bytes)
            if data is None:
                data = await self._stream.receive_some(max_bytes)
            self._take_note(data)
        except Exception as error:  # noqa: BLE001  (raised to trio-websocket, which ends the connection)
            self._error = error
            self.ended.set()
        finally:
            self._is_reading = False
            if self._drawers:
                self._drawers.unpark_all()
            if self._passing or not self._is_drawn or self.ended.is_set():
                self._readers.unpark_all()

    def _read_now(self, socket: trio.socket.SocketType, max_bytes: int) -> bytes | None:
        """Read what is there; None if there is nothing: sockets may be readable for nothing.

        Raises:
            ClosedResourceError: it was closed.
            BrokenResourceError: the connection broke.
        """
        self._was_full = False
        try:
            # It may have been closed since it became readable: its number is that of another file then.
            data = os.read(socket.fileno(), max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            if socket.fileno() < 0:
                raise trio.ClosedResourceError("this socket was closed") from None
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
        self._was_full = len(data) == max_bytes
        return data

    def _take_note(self, data: bytes | bytearray) -> None:
        if not data:
            # Its end is no sign of life: a gap begins with the last byte, not where the end was noticed.
            self.ended.set()
            return
        self.bytes_received += len(data)
        self.last_received = self._clock()
        data = bytes(data) if self.established else self._read_head(bytes(data))
        if data:
            splitter = self._splitter
            self._messages += splitter.feed(data)
            if splitter.control:
                self._passing += splitter.take_control()
            if splitter.violation is not None:
                self.ended.set()

    def _read_head(self, data: bytes) -> bytes:
        """Take what belongs to the handshake; return what stands behind its end if that is a 101."""
        known, behind = len(self.head), b""
        if not self._has_head:
            self.head += data
            if end := HEAD_END.search(self.head, max(0, known - 2)):
                self.head, self._has_head = self.head[: end.end()], True
                self.established = _SWITCHING.match(self.head) is not None
            if self.established:
                data, behind = data[: len(self.head) - known], data[len(self.head) - known :]
        if not self.established and self.bytes_received > MAX_HANDSHAKE:
            raise trio.BrokenResourceError("the handshake's answer is too long")
        self._passing += data
        return behind

    def _end(self) -> None:
        """Note that nothing can be read any more."""
        self.ended.set()
        self._drawers.unpark_all()
        self._readers.unpark_all()

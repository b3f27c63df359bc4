"""The stream under a client's WebSocket, written to without waiting.

A broadcast writes one prebuilt frame straight to each socket. Only what a socket does not
take at once is queued, and behind that everything else waits its turn: trio-websocket's pongs
and close frames go the same way, so no frame is ever cut by another.
"""

import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from .connections import CloseCode

#: How long a socket may take nothing at all of what is queued for it, in seconds.
_STALLED: Final = 30.0

#: How long the rest of what is queued may take once the connection is to end, in seconds.
_LAST_FLUSH: Final = 1.0

#: How much is joined for one write, in bytes.
_WRITE: Final = 64 * 1024

#: How much a client may send, which needs to send nothing but pings, pongs and a close frame: at once, and
#: each second after that, in bytes. Our own client sends about one byte a second.
_ALLOWANCE: Final = 16 * 1024
_ALLOWANCE_PER_SECOND: Final = 64


class Outlet(trio.abc.Stream):
    """A stream whose sending side never makes the hub wait.

    Args:
        stream: what the client is connected by; it is taken over.
        head: what is given out first: the request for the WebSocket.
        behind: what was read after that request; given out once :attr:`upgraded` is set.
        max_frames: the most frames that wait for the socket.
        max_bytes: the most bytes that they may have; a larger frame waits alone.

    Attributes:
        last_received: when the last bytes came, on Trio's clock.
        upgraded: to be set when that request has been answered. Until then nothing more is given
            out, since trio-websocket would leave it lying until still more comes.
        wake: set when there is something to flush, or the connection is to end.
        ending: the close code and the words with which it is to end; None while it is not.
        abusive: whether the client sent more than any client needs to.
        queued_bytes: how many bytes wait for the socket.
    """

    # There is one for each client, and a broadcast walks over all of them.
    __slots__ = (
        "_behind",
        "_closed",
        "_credit",
        "_enqueued",
        "_first_is_a_rest",
        "_head",
        "_last_moment",
        "_lock",
        "_max_bytes",
        "_max_frames",
        "_queue",
        "_send",
        "_socket",
        "_step",
        "_stream",
        "abusive",
        "ending",
        "last_received",
        "queued_bytes",
        "upgraded",
        "wake",
    )

    def __init__(
        self, stream: trio.abc.Stream, head: bytes, *, behind: bytes = b"", max_frames: int, max_bytes: int
    ) -> None:
        self._stream: Final = stream
        self._head = head
        self._behind = behind
        self._max_frames: Final = max_frames
        self._max_bytes: Final = max_bytes
        self._socket: Final = _raw_socket(stream)
        self._send: Callable[[bytes | memoryview], int] | None = (
            None if self._socket is None else self._socket.send
        )
        self._queue: Final[deque[memoryview]] = deque()
        self._first_is_a_rest = False
        self._lock: Final = trio.Lock()
        self._step = trio.CancelScope()
        self._last_moment = math.inf
        self._enqueued = 0
        self._closed = False
        self._credit: float = _ALLOWANCE
        self.queued_bytes = 0
        self.last_received = trio.current_time()
        self.upgraded: Final = trio.Event()
        self.wake = trio.Event()
        self.ending: tuple[int, str] | None = None
        self.abusive = False

    @property
    def queued(self) -> int:
        """How many frames wait for the socket."""
        return len(self._queue)

    def push(self, frame: bytes) -> bool:
        """Write a frame, or queue what of it the socket does not take; False if there is no room.

        Never waits and never fails: that a connection is broken is noticed by its reader.
        """
        # Each delivery of a broadcast goes through here, so the common case makes no further call.
        if self._send is not None and not self._queue:
            try:
                taken = self._send(frame)
            except BlockingIOError:
                taken = 0
            except OSError:
                return True
            if taken < len(frame):
                self._enqueue(frame, taken)
            return True
        full = len(self._queue) >= self._max_frames or self.queued_bytes + len(frame) > self._max_bytes
        if self._queue and full:
            return False
        self.put(frame)
        return True

    def put(self, frame: bytes) -> None:
        """Write or queue a frame as :meth:`push` does, but without a bound: for who flushes behind it."""
        taken = 0 if self._queue else self._try_write(frame)
        if taken < len(frame):
            self._enqueue(frame, taken)

    def _enqueue(self, frame: bytes, taken: int) -> None:
        self._first_is_a_rest |= taken > 0
        self._queue.append(memoryview(frame)[taken:])
        self._enqueued += len(frame) - taken
        self.queued_bytes += len(frame) - taken
        self.wake.set()

    def end(self, code: int, reason: str, *, flush: bool = True) -> None:
        """Close the connection soon.

        Args:
            code: the WebSocket close code.
            reason: what the close frame says.
            flush: whether what is queued still goes out, if the client takes it within a second.
        """
        if self.ending is not None:
            return
        self.ending = code, reason
        if not flush:
            # What follows would be no frame if the rest of a half-written one were missing.
            rest = [self._queue[0]] if self._first_is_a_rest else []
            self._queue.clear()
            self._queue.extend(rest)
            self.queued_bytes = sum(map(len, rest))
        self._last_moment = trio.current_time() + _LAST_FLUSH
        self._step.deadline = min(self._step.deadline, self._last_moment)
        self.wake.set()

    async def flush(self) -> None:
        """Wait until what is queued now has left, or until :meth:`end` has waited long enough.

        A checkpoint. Cancelling loses nothing of what is queued for a plain socket; any
        other stream is closed by it, since nobody knows how much of it has left.

        Raises:
            trio.BrokenResourceError: the client takes nothing, or the connection is broken.
            trio.ClosedResourceError: it was closed.
        """
        mark = self._enqueued
        await trio.lowlevel.checkpoint()
        while self._enqueued - self.queued_bytes < mark and trio.current_time() < self._last_moment:
            # One step at a time: whoever else waits here may be done after it.
            async with self._lock:
                if self._queue:
                    await self._write_some()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send behind what is queued and wait until it has left. A checkpoint."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is closed")
        self.put(bytes(data))
        await self.flush()

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self.flush()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; who sends too much is not listened to any more. A checkpoint; cancelling is safe."""
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        await self.upgraded.wait()
        data: bytes | bytearray = self._behind
        self._behind = b""
        if not data:
            data = await self._stream.receive_some(max_bytes)
        passed, self.last_received = trio.current_time() - self.last_received, trio.current_time()
        self._credit = min(_ALLOWANCE, self._credit + passed * _ALLOWANCE_PER_SECOND) - len(data)
        self.abusive = self._credit < 0
        if self.abusive:
            self.end(CloseCode.ABUSE, "more than any client needs to send")
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        """Close it. A checkpoint; closed even if that is cancelled."""
        self._closed = True
        self._send = None
        if self._socket is not None:
            # The descriptor belongs to the stream, which closes it now; its number may soon be another's.
            self._socket.detach()
        self.wake.set()
        await self._stream.aclose()

    def _try_write(self, data: bytes | memoryview) -> int:
        """Write what a plain socket takes at once; return how much that was."""
        if self._send is None:
            return len(data) if self._closed else 0
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # Broken. Its reader learns the same and ends it; until then there is nobody to write to.
            return len(data)

    async def _write_some(self) -> None:
        """Write some of the queue as soon as that is possible. A checkpoint."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is closed")
        stalled_at = trio.current_time() + _STALLED
        with trio.CancelScope(deadline=min(stalled_at, self._last_moment)) as self._step:
            if self._socket is None:
                await self._send_some()
            else:
                await trio.lowlevel.wait_writable(self._socket)
                self._take_off(self._try_write(self._next()))
        if self._step.cancelled_caught and trio.current_time() >= stalled_at:
            self._note_stall()
            raise trio.BrokenResourceError(f"the client took nothing for {_STALLED:g} s")

    async def _send_some(self) -> None:
        data = self._next()
        self._take_off(len(data))
        sent = False
        try:
            await self._stream.send_all(data)
            sent = True
        finally:
            if not sent:
                if self._step.cancel_called:
                    # Before the stream is closed: whoever reads from it ends the session then.
                    self._note_stall()
                await trio.aclose_forcefully(self)

    def _note_stall(self) -> None:
        self.end(CloseCode.TOO_SLOW, "you took nothing for too long", flush=False)

    def _next(self) -> bytes | memoryview:
        """Return what is to be written next, of several frames at once if they are small."""
        if len(self._queue) == 1 or len(self._queue[0]) >= _WRITE:
            return self._queue[0][:_WRITE]
        size, frames = 0, list[memoryview]()
        for frame in self._queue:
            if size + len(frame) > _WRITE:
                break
            frames.append(frame)
            size += len(frame)
        return b"".join(frames)

    def _take_off(self, size: int) -> None:
        """Take what has left off the queue."""
        self.queued_bytes -= size
        self._first_is_a_rest &= size == 0
        while size:
            first = self._queue.popleft()
            if len(first) > size:
                self._queue.appendleft(first[size:])
                self._first_is_a_rest = True
            size -= min(size, len(first))


def _raw_socket(stream: trio.abc.Stream) -> socket.socket | None:
    """Return the same socket with the standard library's face, which can send without waiting.

    Trio has no public way to try that. None for TLS and for streams in memory.
    """
    if not isinstance(stream, trio.SocketStream):
        return None
    raw = socket.socket(fileno=stream.socket.fileno())
    raw.setblocking(False)
    return raw

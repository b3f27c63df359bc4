"""What a client's WebSocket is written to, without waiting, and read from, with little.

A broadcast writes one prebuilt buffer straight to each socket. Only what a socket does not take at once
is queued, and behind that everything else waits its turn, pongs and close frames included, so no frame is
ever cut by another.

While nothing is queued an outlet costs no queue, no event and no task of its own: there may be thousands.
"""

import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from ._connection import CloseCode, Write

#: How long a socket may take nothing at all of what is queued for it, in seconds.
_STALLED: Final = 30.0

#: How long the rest of what is queued may take once the connection is to end, in seconds.
_LAST_FLUSH: Final = 1.0

#: How much is joined for one write, in bytes; and how much is read at once.
_WRITE: Final = 64 * 1024
_READ: Final = 4096

#: How much a client may send, which needs to send nothing but pings, pongs and a close frame: at once, and
#: each second after that, in bytes. Our own client sends about one byte a second.
_ALLOWANCE: Final = 16 * 1024
_ALLOWANCE_PER_SECOND: Final = 64


class Outlet(trio.abc.AsyncResource):
    """A connection whose sending side never makes the hub wait.

    Args:
        stream: what the client is connected by; it is taken over.
        behind: what was read from it already; given out first.
        max_frames: the most frames that wait for the socket.
        max_bytes: the most bytes that they may have; a larger frame waits alone.

    Attributes:
        write: writes to the socket at once and returns how many bytes it took, or raises :exc:`OSError`.
            Takes nothing while something is queued, or where the stream is no plain socket.
        is_plain: whether the stream is a plain socket.
        last_received: when the last bytes came, on Trio's clock.
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
        "_last_moment",
        "_max_bytes",
        "_max_frames",
        "_on_work",
        "_queue",
        "_socket",
        "_step",
        "_stream",
        "abusive",
        "ending",
        "is_plain",
        "last_received",
        "queued_bytes",
        "write",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        behind: bytes = b"",
        max_frames: int,
        max_bytes: int,
    ) -> None:
        self._stream: Final = stream
        self._behind = behind
        self._max_frames: Final = max_frames
        self._max_bytes: Final = max_bytes
        self._socket: Final = _raw_socket(stream)
        self.is_plain: Final = self._socket is not None
        self._queue: deque[memoryview] | None = None
        self._first_is_a_rest = False
        self._step: trio.CancelScope | None = None
        self._on_work: Callable[[], object] | None = None
        self._last_moment = math.inf
        self._enqueued = 0
        self._closed = False
        self._credit: float = _ALLOWANCE
        self.write: Write = _nothing if self._socket is None else self._socket.send
        self.queued_bytes = 0
        self.last_received = trio.current_time()
        self.ending: tuple[int, str] | None = None
        self.abusive = False

    @property
    def queued(self) -> int:
        """How many frames wait for the socket."""
        return len(self._queue) if self._queue else 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to flush, or the connection is to end."""
        return self._queue is not None or self.ending is not None

    def call_on_work(self, wake: Callable[[], object]) -> None:
        """Have this called, in place of what it was before, as soon as there is work; perhaps now."""
        self._on_work = wake
        if self.has_work:
            wake()

    def push(self, frame: bytes) -> bool:
        """Write a frame, or queue what of it the socket does not take; False if there is no room.

        Never waits and never fails: that a connection is broken is noticed by its reader.
        """
        taken = _at_once(self.write, frame)
        return taken == len(frame) or self.keep([frame], taken)

    def keep(self, frames: Sequence[bytes], taken: int) -> bool:
        """Queue the rest of frames of which so many bytes have left; False without room for all of it."""
        for frame in frames:
            if taken >= len(frame):
                taken -= len(frame)
                continue
            if self._is_full(len(frame)):
                return False
            self._enqueue(frame, taken)
            taken = 0
        return True

    def put(self, frame: bytes) -> None:
        """Write or queue a frame as :meth:`push` does, but without a bound: for who flushes behind it."""
        taken = _at_once(self.write, frame)
        if taken < len(frame):
            self._enqueue(frame, taken)

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
        if not flush and self._queue is not None:
            # What follows would be no frame if the rest of a half-written one were missing.
            rest = [self._queue[0]] if self._first_is_a_rest else []
            self.queued_bytes = sum(map(len, rest))
            self._queue.clear()
            self._queue.extend(rest)
            self._note_drained()
        self._last_moment = trio.current_time() + _LAST_FLUSH
        if self._step is not None:
            self._step.deadline = min(self._step.deadline, self._last_moment)
        self._tell_of_work()

    async def flush(self) -> None:
        """Wait until what is queued now has left, or until :meth:`end` has waited long enough.

        For one task at a time. A checkpoint. Cancelling loses nothing of what is queued for a plain
        socket; any other stream is closed by it, since nobody knows how much of it has left.

        Raises:
            trio.BrokenResourceError: the client takes nothing, or the connection is broken.
            trio.ClosedResourceError: it was closed.
        """
        mark = self._enqueued
        await trio.lowlevel.checkpoint()
        while (queue := self._queue) is not None and trio.current_time() < self._last_moment:
            if self._enqueued - self.queued_bytes >= mark:
                break
            await self._write_some(queue)

    async def send_all(self, data: bytes) -> None:
        """Send behind what is queued and wait until it has left, as :meth:`flush` does. A checkpoint."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is closed")
        self.put(data)
        await self.flush()

    async def receive_some(self) -> bytes:
        """Receive; who sends too much is not listened to any more. A checkpoint; cancelling is safe.

        Raises:
            trio.BrokenResourceError: the connection is broken.
            trio.ClosedResourceError: it was closed.
        """
        if self._behind:
            await trio.lowlevel.checkpoint()
            # Only now: who is cancelled before reads it the next time.
            data, self._behind = self._behind, b""
        else:
            data = await self._read()
        passed, self.last_received = trio.current_time() - self.last_received, trio.current_time()
        self._credit = min(_ALLOWANCE, self._credit + passed * _ALLOWANCE_PER_SECOND) - len(data)
        # For good, though the credit grows again while it is told so.
        self.abusive = self.abusive or self._credit < 0
        if self.abusive:
            self.end(CloseCode.ABUSE, "more than any client needs to send")
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        """Close it. A checkpoint; closed even if that is cancelled."""
        self._closed = True
        self.write = len  # takes all: what is pushed from now on is nobody's trouble
        if self._socket is not None:
            # The descriptor belongs to the stream, which closes it now; its number may soon be another's.
            self._socket.detach()
        self._tell_of_work()
        await self._stream.aclose()

    async def _read(self) -> bytes:
        if self._socket is None or self._closed:
            return bytes(await self._stream.receive_some(_READ))
        # With less than Trio's own way, which tries to read before it waits: nothing is there as a rule.
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_READ)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError("the connection is broken") from error

    def _is_full(self, size: int) -> bool:
        """Whether there is no room in the queue for a frame of this size; into an empty one each fits."""
        return self._queue is not None and (
            len(self._queue) >= self._max_frames or self.queued_bytes + size > self._max_bytes
        )

    def _enqueue(self, frame: bytes, taken: int) -> None:
        if self._queue is None:
            self._queue = deque()
            # Nothing may overtake what waits.
            self.write = _nothing
        self._first_is_a_rest |= taken > 0
        self._queue.append(memoryview(frame)[taken:])
        self._enqueued += len(frame) - taken
        self.queued_bytes += len(frame) - taken
        self._tell_of_work()

    def _note_drained(self) -> None:
        """Write at once again if nothing is queued any more."""
        if self._queue:
            return
        self._queue = None
        if self._socket is not None and not self._closed:
            self.write = self._socket.send

    def _tell_of_work(self) -> None:
        if self._on_work is not None:
            self._on_work()

    async def _write_some(self, queue: deque[memoryview]) -> None:
        """Write some of the queue as soon as that is possible. A checkpoint."""
        if self._closed:
            raise trio.ClosedResourceError("this connection is closed")
        stalled_at = trio.current_time() + _STALLED
        with trio.CancelScope(deadline=min(stalled_at, self._last_moment)) as self._step:
            if self._socket is None:
                await self._send_some(queue, self._step)
            else:
                await trio.lowlevel.wait_writable(self._socket)
                self._take_off(queue, _at_once(self._socket.send, _next(queue)))
        step, self._step = self._step, None
        if step.cancelled_caught and trio.current_time() >= stalled_at:
            self._note_stall()
            raise trio.BrokenResourceError(f"the client took nothing for {_STALLED:g} s")

    async def _send_some(self, queue: deque[memoryview], step: trio.CancelScope) -> None:
        data = _next(queue)
        self._take_off(queue, len(data))
        sent = False
        try:
            await self._stream.send_all(data)
            sent = True
        finally:
            if not sent:
                if step.cancel_called:
                    # Before the stream is closed: whoever reads from it ends the session then.
                    self._note_stall()
                await trio.aclose_forcefully(self)

    def _note_stall(self) -> None:
        self.end(CloseCode.TOO_SLOW, "you took nothing for too long", flush=False)

    def _take_off(self, queue: deque[memoryview], size: int) -> None:
        """Take what has left off the queue."""
        self.queued_bytes -= size
        self._first_is_a_rest &= size == 0
        while size:
            first = queue.popleft()
            if len(first) > size:
                queue.appendleft(first[size:])
                self._first_is_a_rest = True
            size -= min(size, len(first))
        self._note_drained()


def _next(queue: deque[memoryview]) -> bytes:
    """Return what is to be written next, of several frames at once if they are small."""
    size, frames = 0, list[memoryview]()
    for frame in queue:
        if frames and size + len(frame) > _WRITE:
            break
        frames.append(frame[:_WRITE])
        size += len(frame)
    return b"".join(frames)


def _at_once(write: Write, data: bytes) -> int:
    """Write what is taken at once; return how many bytes that was."""
    try:
        return write(data)
    except BlockingIOError:
        return 0
    except OSError:
        # Broken. Its reader learns the same and ends it; until then there is nobody to write to.
        return len(data)


def _nothing(_: bytes) -> int:
    """Take nothing."""
    return 0


def _raw_socket(stream: trio.abc.Stream) -> socket.socket | None:
    """Return the same socket with the standard library's face, which can send without waiting.

    Trio has no public way to try that. None for TLS and for streams in memory.
    """
    if not isinstance(stream, trio.SocketStream):
        return None
    raw = socket.socket(fileno=stream.socket.fileno())
    raw.setblocking(False)
    return raw

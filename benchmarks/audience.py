"""A server's clients: raw sockets in one loop, which reads and compares and does nothing else.

Standard library only. What is to come is known beforehand (:mod:`~benchmarks.traffic`), and so are its bytes
on the wire; so a client only compares what it reads with where it is in them, which costs some tenths of a
microsecond, and no message is cut out, copied or kept. What a server writes beside that is cut off where it
stands, and its pings are answered.
"""

import selectors
import socket
import statistics
import struct
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import accumulate
from typing import Final

from .contender import Work
from .traffic import hub_item
from .wires import Wire

_READ: Final = 64 * 1024

#: Linux tells with what is received when it came. Python does not name the option.
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("@ll")
_TOLD: Final = 64

#: As in the generator's listeners: with loopback's own segments a receive window stalls.
_SEGMENT: Final = 1448

#: Seconds to open one connection, and seconds for everything that is watched for to come.
_PATIENCE: Final = 5.0
_WATCH_LIMIT: Final = 20.0

#: Seconds to wait between two looks, for each client: what has come meanwhile is read at once, which costs
#: much less than one message at a time, so that the audience is not what is measured.
_NAP: Final = 1e-5

#: So many connections are opened before pings are answered again.
_LET_IN: Final = 50

#: Listeners whose connection has ended do not show up any more; so often the loop looks whether any is left.
_LOOK: Final = 0.5


class Audience:
    """All the clients. Made without any; every method blocks until it is done.

    Args:
        wire: what they speak.
        messages: what they are to get, in this order.
    """

    def __init__(self, wire: Wire, messages: Sequence[bytes]) -> None:
        self._wire: Final = wire
        self._messages: Final = messages
        pieces = [wire.encode(message) for message in messages]
        self._script: Final = _Script(wire, b"".join(pieces), list(accumulate(map(len, pieces))))
        self._listeners: list[_Listener] = []
        self._selector = selectors.DefaultSelector()
        self._busy: float | None = None

    def attend(self, host: str, port: int, count: int) -> None:
        """Open this many more connections, one after the other, and answer the pings on those there are.

        Raises:
            OSError: one was refused.
        """
        for number in range(count):
            if number % _LET_IN == 0:
                self._read(_Listener.read, 0.0)
            listener = _Listener(*_connect(self._wire, host, port), self._script)
            self._listeners.append(listener)
            if not listener.has_ended:
                self._selector.register(listener.sock, selectors.EVENT_READ, listener)

    def close(self) -> None:
        """Hang up on the server."""
        for listener in self._listeners:
            listener.sock.close()
        self._selector.close()

    def watch(self, count: int) -> None:
        """Read until each client has got this many messages, has been hung up on, or 20 s are over.

        What is lacking then is lacking in :attr:`work`.
        """
        clock, cpu = time.perf_counter(), time.thread_time()
        self._watch(count, _Listener.read, nap=_NAP * len(self._listeners))
        self._busy = (time.thread_time() - cpu) / (time.perf_counter() - clock)

    def time(self, count: int) -> None:
        """Do as :meth:`watch` and note when each message came; give each the time before the next."""
        self._watch(count, _Listener.read_and_time, nap=0.0)

    def idle(self, seconds: float) -> None:
        """Read for so long what comes, and answer the pings in it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(_Listener.read, left)

    @property
    def work(self) -> Work:
        """What came: how many messages at all clients together, and what each of them got in which order."""
        counts = [listener.count for listener in self._listeners]
        wrong = next((listener.wrong for listener in self._listeners if listener.wrong), None)
        if wrong is not None or len({*counts}) > 1:
            return Work(sum(counts), wrong or "the clients got different messages")
        got = self._messages[: counts[0] if counts else 0]
        return Work(sum(counts), Work.of(map(hub_item, got)).digest)

    @property
    def arrivals(self) -> list[list[float]]:
        """When each message that was timed came at each client, in seconds since the epoch."""
        return [listener.times for listener in self._listeners]

    @property
    def figures(self) -> dict[str, float]:
        """What the clients alone can measure.

        ``spread``: the median time from the first client that has a message to the last, in ms; if any were
        timed. ``busy``: how much of its CPU the audience used when it watched last, in %: near 100 it would
        be what is measured, and not the server.
        """
        figures = {} if self._busy is None else {"busy": self._busy * 100}
        spreads = [max(times) - min(times) for times in zip(*self.arrivals, strict=False)]
        return figures | ({"spread": statistics.median(spreads) * 1e3} if spreads else {})

    def _watch(self, count: int, read: "Callable[[_Listener], None]", nap: float) -> None:
        target = self._script.ends[count - 1]
        present = (listener for listener in self._listeners if not listener.has_ended)
        lacking = {listener for listener in present if listener.position < target}
        everybody = len(lacking)
        deadline = time.monotonic() + _WATCH_LIMIT
        while lacking and time.monotonic() < deadline:
            for listener in self._read(read, _LOOK):
                if listener.position >= target or listener.has_ended:
                    lacking.discard(listener)
            # Once the first has all, the last message is on its way, and the end must not be slept through.
            if nap and len(lacking) == everybody:
                time.sleep(nap)

    def _read(self, read: "Callable[[_Listener], None]", patience: float) -> "list[_Listener]":
        """Have those read that have something, and return them."""
        ready: list[_Listener] = [key.data for key, _ in self._selector.select(patience)]
        for listener in ready:
            read(listener)
            if listener.has_ended:
                self._selector.unregister(listener.sock)
        return ready


class _Script:
    """All that is to come, as bytes, and where in them each message ends."""

    __slots__ = ("ends", "stream", "wire")

    def __init__(self, wire: Wire, stream: bytes, ends: list[int]) -> None:
        self.wire: Final = wire
        self.stream: Final = stream
        self.ends: Final = ends


class _Listener:
    """One client.

    Attributes:
        position: how much of the script it has got, in bytes.
        times: when the messages came that were timed, in seconds on whichever clock.
        wrong: what it got that is not in the script; nothing more is compared then.
        has_ended: whether it has been hung up on, or got something wrong.
    """

    __slots__ = ("_recv", "_rest", "_script", "_stream", "has_ended", "position", "sock", "times", "wrong")

    def __init__(self, sock: socket.socket, behind: bytes, script: _Script) -> None:
        self.sock: Final = sock
        self.times: Final[list[float]] = []
        self.position = 0
        self.wrong: str | None = None
        self.has_ended = False
        self._recv = sock.recv
        self._stream = script.stream
        self._script = script
        self._rest: bytes = b""
        if behind:
            self._take(behind)

    @property
    def count(self) -> int:
        """How many whole messages have come."""
        return bisect_right(self._script.ends, self.position)

    def read(self) -> None:
        """Read what is there."""
        try:
            data = self._recv(_READ)
        except ConnectionError:
            data = b""
        if data and not self._rest and self._stream.startswith(data, self.position):
            self.position += len(data)
        else:
            self._take(data)

    def read_and_time(self) -> None:
        """Do as :meth:`read` and note when the last byte came: by the kernel, where that tells.

        For whoever reads 1,000 sockets in turn reads the last of them late.
        """
        try:
            data, told, _, _ = self.sock.recvmsg(_READ, _TOLD)
        except ConnectionError:
            data, told = b"", []
        now = time.time()
        for level, kind, stamp in told:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                now = seconds + nanoseconds / 1e9
        before = self.count
        self._take(data)
        self.times.extend([now] * (self.count - before))

    def _take(self, data: bytes) -> None:
        """Go on in the script, past whatever else stands between."""
        self.has_ended = self.has_ended or not data
        data = self._rest + data
        self._rest = b""
        while data and not self._stream.startswith(data, self.position):
            data = self._step(data)
        self.position += len(data)

    def _step(self, data: bytes) -> bytes:
        """Take one message or one foreign thing off the front and return what is left to look at."""
        ends = self._script.ends
        done = bisect_right(ends, self.position)
        start = ends[done - 1] if done else 0
        # From where this message begins: its first bytes may be those of something foreign too.
        data = self._stream[start : self.position] + data
        self.position = start
        if done < len(ends) and data.startswith(self._stream[start : ends[done]]):
            self.position = ends[done]
            return data[ends[done] - start :]
        try:
            length, reply = self._script.wire.foreign(data)
        except ValueError as error:
            self.wrong, self.has_ended = str(error), True
            return b""
        if reply:
            with suppress(ConnectionError):  # which the next read tells
                self.sock.send(reply)
        if not length:
            self._rest = data
            return b""
        return data[length:]


def _connect(wire: Wire, host: str, port: int) -> tuple[socket.socket, bytes]:
    """Open a connection and return it with what came behind its handshake."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.connect((host, port))
        behind = wire.open(sock, host, port)
        sock.setblocking(False)
        stack.pop_all()
        return sock, behind

"""A hub's WebSocket clients: raw sockets in one loop, which reads and counts and does nothing else.

Standard library only. No ping is answered: no run lasts as long as a server's patience.
"""

import selectors
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from .contender import Work
from .traffic import hub_item

_READ: Final = 64 * 1024

#: Linux tells with what is received when it came. Python does not name the option.
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("@ll")
_TOLD: Final = 64

#: As in the generator's listeners: with loopback's own segments a receive window stalls.
_SEGMENT: Final = 1448

#: Seconds to open one WebSocket, and seconds for everything that is watched for to come.
_PATIENCE: Final = 5.0
_WATCH_LIMIT: Final = 20.0

#: What else a hub writes (its hello, a heartbeat) is no broadcast.
_BROADCAST: Final = b'{"type":"message"'

_HANDSHAKE: Final = (
    "GET /websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Audience:
    """All the clients. Made without any; every method blocks until it is done."""

    def __init__(self) -> None:
        self._listeners: list[_Listener] = []
        self._selector = selectors.DefaultSelector()
        self._idle = threading.Event()

    def attend(self, host: str, port: int, count: int) -> None:
        """Open this many WebSockets, one after the other.

        Raises:
            OSError: one was refused.
        """
        for _ in range(count):
            listener = _Listener(*_shake_hands(host, port))
            self._listeners.append(listener)
            self._selector.register(listener.sock, selectors.EVENT_READ, listener)

    def close(self) -> None:
        """Hang up on the server."""
        for listener in self._listeners:
            listener.sock.close()
        self._selector.close()

    def expect(self) -> None:
        """Make :meth:`wait` wait for the end of what is watched next."""
        self._idle.clear()

    def watch(self, count: int) -> None:
        """Read until each client has got this many messages, has been hung up on, or 20 s are over.

        What is lacking then is lacking in :attr:`work`.
        """
        self._watch(count, _Listener.read)

    def time(self, count: int) -> None:
        """Do as :meth:`watch` and note when each message came; give each the time before the next."""
        self._watch(count, _Listener.read_and_time)

    def wait(self) -> None:
        """Wait for the end of what is being watched."""
        self._idle.wait(_WATCH_LIMIT)

    @property
    def work(self) -> Work:
        """What came: how many messages at all clients together, and what each of them got in which order."""
        count = sum(len(listener.messages) for listener in self._listeners)
        first = self._listeners[0].messages if self._listeners else []
        if any(listener.messages != first for listener in self._listeners):
            return Work(count, "the clients got different messages")
        return Work(count, Work.of(map(hub_item, first)).digest)

    @property
    def figures(self) -> dict[str, float]:
        """The median time from the first client that has a message to the last, in ms."""
        spreads = [
            max(times) - min(times) for times in zip(*(one.times for one in self._listeners), strict=False)
        ]
        return {"spread": statistics.median(spreads) * 1e3} if spreads else {}

    def _watch(self, count: int, read: "Callable[[_Listener], int]") -> None:
        lacking = sum(count - len(listener.messages) for listener in self._listeners)
        deadline = time.monotonic() + _WATCH_LIMIT
        while lacking > 0 and self._selector.get_map() and time.monotonic() < deadline:
            for key, _ in self._selector.select(_WATCH_LIMIT):
                listener: _Listener = key.data
                got = read(listener)
                if got < 0:
                    self._selector.unregister(listener.sock)
                    got = max(0, count - len(listener.messages))  # which will never come
                lacking -= got
        self._idle.set()


class _Listener:
    """One client: what it has got, and when, in seconds on whichever clock."""

    __slots__ = ("_recv", "_rest", "messages", "sock", "times")

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        self.sock: Final = sock
        self.messages: Final[list[bytes]] = []
        self.times: Final[list[float]] = []
        self._recv = sock.recv
        self._rest = b""
        self._take(rest)

    def read(self) -> int:
        """Read what is there and return how many messages it completes; -1 at the connection's end."""
        try:
            data = self._recv(_READ)
        except ConnectionError:
            return -1
        return self._take(data) if data else -1

    def read_and_time(self) -> int:
        """Do as :meth:`read` and note when the last byte came: by the kernel, where that tells.

        For whoever reads 1,000 sockets in turn reads the last of them late.
        """
        try:
            data, told, _, _ = self.sock.recvmsg(_READ, _TOLD)
        except ConnectionError:
            return -1
        now = time.perf_counter()
        for level, kind, stamp in told:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                now = seconds + nanoseconds / 1e9
        got = self._take(data) if data else -1
        self.times.extend([now] * got)
        return got

    def _take(self, data: bytes) -> int:
        """Cut the whole messages out and keep the rest; return how many there were."""
        if not self._rest and data.startswith(_BROADCAST, 4) and len(data) == 4 + int.from_bytes(data[2:4]):
            # One whole frame of 126 to 65535 bytes, as most are: so that reading costs less than writing.
            self.messages.append(data[4:])
            return 1
        data = self._rest + data
        before, start = len(self.messages), 0
        for begin, end in _frames(data):
            if data.startswith(_BROADCAST, begin, end):
                self.messages.append(data[begin:end])
            start = end
        self._rest = data[start:]
        return len(self.messages) - before


def _frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the payload of each whole frame begins and ends. A server's frames are not masked."""
    end, size = 0, len(data)
    while size - end >= 2:
        begin, length = end + 2, data[end + 1]
        if length == 126:
            begin += 2
            length = int.from_bytes(data[begin - 2 : begin])
        elif length == 127:
            begin += 8
            length = int.from_bytes(data[begin - 8 : begin])
        end = begin + length
        # A length of which not all is there yet reads as too small.
        if end > size or begin > size:
            return
        yield begin, end


def _shake_hands(host: str, port: int) -> tuple[socket.socket, bytes]:
    """Open a WebSocket and return it with what came behind the answer."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.connect((host, port))
        sock.sendall(_HANDSHAKE.format(host=host, port=port).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = sock.recv(_READ)
            if not data:
                raise ConnectionError("the server hung up in the handshake")
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"the handshake was refused: {answer[:200]!r}")
        sock.setblocking(False)
        stack.pop_all()
        return sock, rest

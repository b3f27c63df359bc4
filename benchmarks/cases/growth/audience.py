"""Clients of a hub that only count what they get, ever more of them. Standard library only."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Final

from ...connections import HOST, start
from ...contender import Work
from ...generators import Generator
from ...wires import WebSocketWire

#: What each broadcast has once. The hub's own words to its clients have not.
_MARK: Final = b'"type":"message"'

#: Seconds until all have got what they should.
_LIMIT: Final = 20.0

_READ: Final = 256 * 1024


class OpenHouse(Generator):
    """A gateway whose clients visit a hub.

    Its orders are ``join PORT CLIENTS``, to have so many more connect, and ``delivered COUNT``, to wait until
    they have got so many messages together.
    """

    def __init__(self) -> None:
        super().__init__()
        self._poll: Final = select.epoll()
        self._clients: Final[dict[int, tuple[socket.socket, bytearray]]] = {}
        self._got = 0
        self._change: Final = threading.Condition()

    def start(self) -> None:
        """Begin to serve, and to read."""
        super().start()
        start(self._read)

    @property
    def work(self) -> Work:
        """How many messages have come."""
        return Work(self._got, "")

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | {"join": self._join, "delivered": self._wait}

    def _join(self, port: int, clients: int) -> None:
        for _ in range(clients):
            sock = socket.create_connection((HOST, port), timeout=_LIMIT)
            rest = WebSocketWire().open(sock, HOST, port)
            sock.setblocking(False)
            self._clients[sock.fileno()] = sock, bytearray(rest)
            self._poll.register(sock, select.EPOLLIN)

    def _wait(self, count: int) -> None:
        with self._change:
            if not self._change.wait_for(lambda: self._got >= count, _LIMIT):
                raise RuntimeError(f"{self._got} of {count} messages have come")

    def _read(self) -> None:
        while True:
            got = sum(self._messages_for(number) for number, _ in self._poll.poll())
            with self._change:
                self._got += got
                self._change.notify_all()

    def _messages_for(self, number: int) -> int:
        """Read what has come to one client and return how many messages have begun in it."""
        sock, tail = self._clients[number]
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(_READ)
            if not data:
                self._poll.unregister(sock)
        data = bytes(tail) + data
        # A mark may be cut in two.
        tail[:] = data[-(len(_MARK) - 1) :]
        return data.count(_MARK)

"""Clients that ask a hub what they missed: raw sockets in one loop, one request at a time on each.

Standard library only.
"""

import json
import re
import selectors
import socket
import time
from contextlib import ExitStack
from typing import Final

from .contender import Work
from .traffic import hub_item

_READ: Final = 512 * 1024

#: As in the generator's listeners: with loopback's own segments a receive window stalls.
_SEGMENT: Final = 1448

_MOST_HEAD: Final = 64 * 1024

#: Seconds in which something has to come.
_PATIENCE: Final = 10.0

_REQUEST: Final = "GET /websocket/messages?since={since} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Askers:
    """All that was asked and answered. The method blocks until it is done."""

    def __init__(self) -> None:
        self.work = Work(0, "")
        self.figures: Final[dict[str, float]] = {}

    def ask(self, host: str, port: int, connections: int, since: int, count: int) -> None:
        """Ask the same so many times in all, over so many connections that are kept alive.

        Sums the answers up in :attr:`work`, and gives in :attr:`figures` the 99th percentile of the
        latencies in ms, as ``p99_N`` where N is how many messages an answer has.

        Raises:
            OSError: the server broke off.
            ValueError: an answer was not 200, or another than the first.
            TimeoutError: nothing came.
        """
        request = _REQUEST.format(since=since, host=host, port=port).encode()
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            sockets = [stack.enter_context(_connect(host, port)) for _ in range(min(connections, count))]
            askers = [_Asker(sock, request) for sock in sockets]
            for asker in askers:
                selector.register(asker.sock, selectors.EVENT_READ, asker)
                asker.ask()
            _attend(selector, count - len(askers))
        self._sum_up(askers)

    def _sum_up(self, askers: "list[_Asker]") -> None:
        latencies = sorted(latency for asker in askers for latency in asker.latencies)
        body = askers[0].body
        if any(asker.body != body for asker in askers):
            raise ValueError("the answers differ")
        messages = json.loads(body)["messages"]
        items = [hub_item(json.dumps(message).encode()) for message in messages]
        self.figures[f"p99_{len(items)}"] = latencies[len(latencies) * 99 // 100] * 1e3
        self.work = self.work.then(len(latencies), items)


class _Asker:
    """One connection: its present answer as far as it has come, and how long each has taken."""

    __slots__ = ("_has_head", "_lacking", "_pieces", "_request", "_started", "body", "latencies", "sock")

    def __init__(self, sock: socket.socket, request: bytes) -> None:
        self.sock: Final = sock
        self.body = b""
        self.latencies: Final[list[float]] = []
        self._request = request

    def ask(self) -> None:
        """Send the request."""
        self._pieces: list[bytes] = []
        self._lacking = 0
        self._has_head = False
        self._started = time.perf_counter()
        self.sock.sendall(self._request)

    def read(self) -> bool:
        """Read what is there and say whether the answer is complete."""
        data = self.sock.recv(_READ)
        if not data:
            raise ConnectionError("the server hung up")
        self._pieces.append(data)
        self._lacking -= len(data)
        if not self._has_head:
            self._read_head()
        if self._lacking > 0 or not self._has_head:
            return False
        self.latencies.append(time.perf_counter() - self._started)
        body = b"".join(self._pieces)
        if self.body not in (b"", body):
            raise ValueError("an answer differs from the one before")
        self.body = body
        return True

    def _read_head(self) -> None:
        """Take the head off, if all of it is there."""
        head, end, rest = b"".join(self._pieces).partition(b"\r\n\r\n")
        if not end and len(head) < _MOST_HEAD:
            return
        length = _LENGTH.search(head)
        if not (head.startswith(b"HTTP/1.1 200 ") and length):
            raise ValueError(f"not an answer of 200 with its length: {head[:200]!r}")
        self._has_head = True
        self._pieces = [rest]
        self._lacking = int(length[1]) - len(rest)


def _attend(selector: selectors.BaseSelector, remaining: int) -> None:
    """Ask anew whenever an answer is complete, until none remains to be asked and all are answered."""
    while selector.get_map():
        ready = selector.select(_PATIENCE)
        if not ready:
            raise TimeoutError(f"nothing came for {_PATIENCE:g} s")
        for key, _ in ready:
            asker: _Asker = key.data
            if not asker.read():
                continue
            if remaining:
                remaining -= 1
                asker.ask()
            else:
                selector.unregister(asker.sock)


def _connect(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(_PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((host, port))
    return sock

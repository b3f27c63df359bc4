"""Clients that ask a hub what they missed: raw sockets in one loop, one request at a time on each.

Standard library only.
"""

import json
import os
import re
import selectors
import socket
import statistics
import time
from contextlib import ExitStack
from errno import EINPROGRESS
from typing import Final

from .contender import Item, Work
from .traffic import hub_item

_READ: Final = 64 * 1024

#: As in the generator's listeners: with loopback's own segments a receive window stalls.
_SEGMENT: Final = 1448

_MOST_HEAD: Final = 64 * 1024

#: Seconds in which something has to come.
_PATIENCE: Final = 10.0

_REQUEST: Final = "GET /websocket/messages?since={since}{limit} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Askers:
    """All that was asked and answered. The methods block until they are done.

    Attributes:
        work: what was answered.
        figures: latencies in ms.
        storm_times: when the storm began and ended, in seconds since the epoch; None before there was one.
    """

    def __init__(self) -> None:
        self.work = Work(0, "")
        self.figures: Final[dict[str, float]] = {}
        self.storm_times: tuple[float, float] | None = None

    def ask(self, host: str, port: int, connections: int, since: int, count: int) -> None:
        """Ask the same so many times in all, over so many connections that are kept alive.

        Sums the answers up in :attr:`work`, and gives in :attr:`figures` the 99th percentile of the
        latencies in ms, as ``p99_N`` where N is how many messages an answer has.

        Raises:
            OSError: the server broke off.
            ValueError: an answer was not 200, or another than the first.
            TimeoutError: nothing came.
        """
        request = _REQUEST.format(since=since, limit="", host=host, port=port).encode()
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            sockets = [stack.enter_context(_connect(host, port)) for _ in range(min(connections, count))]
            askers = [_Asker(sock, request) for sock in sockets]
            for asker in askers:
                selector.register(asker.sock, selectors.EVENT_READ, asker)
                asker.ask()
            _attend(selector, count - len(askers))
        self._sum_up(askers)

    def storm(self, host: str, port: int, clients: int, count: int) -> None:
        """Have so many clients connect at once, and each ask once for the first so many messages.

        Gives in :attr:`figures` how many answers a second there were (``storm``), and the median time
        from the beginning of the storm to an answer, in ms (``recovered``). Raises as :meth:`ask`.
        """
        request = _REQUEST.format(since=0, limit=f"&limit={count}", host=host, port=port).encode()
        began, clock = time.time(), time.perf_counter()
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            askers: list[_Asker] = []
            for _ in range(clients):
                askers.append(_Asker(stack.enter_context(_socket()), request))
                _begin_to_connect(askers[-1].sock, host, port)
                selector.register(askers[-1].sock, selectors.EVENT_WRITE, askers[-1])
            items = _attend_storm(selector)
        self.storm_times = began, time.time()
        self.figures["storm"] = clients / (time.perf_counter() - clock)
        times = [asker.latencies[0] + asker.started - clock for asker in askers]
        self.figures["recovered"] = statistics.median(times) * 1e3
        self.work = self.work.then(len(askers), items)

    def _sum_up(self, askers: "list[_Asker]") -> None:
        latencies = sorted(latency for asker in askers for latency in asker.latencies)
        body = askers[0].body
        if any(asker.body != body for asker in askers):
            raise ValueError("the answers differ")
        items = _items(body)
        self.figures[f"p99_{len(items)}"] = latencies[len(latencies) * 99 // 100] * 1e3
        self.work = self.work.then(len(latencies), items)


class _Asker:
    """One connection: its present answer as far as it has come, and how long each has taken."""

    __slots__ = (
        *("_has_head", "_lacking", "_pieces", "_request", "_size"),
        *("body", "latencies", "sock", "started"),
    )

    def __init__(self, sock: socket.socket, request: bytes) -> None:
        self.sock: Final = sock
        self.body = b""
        self.latencies: Final[list[float]] = []
        self.started = 0.0
        self._request = request
        self._size = 0
        self._pieces: list[bytes] = []

    def ask(self) -> None:
        """Send the request."""
        self._pieces.clear()
        self._lacking = 0
        self._has_head = False
        self.started = time.perf_counter()
        self.sock.sendall(self._request)

    def read(self) -> bool:
        """Read what is there and say whether the answer is complete."""
        data = self.sock.recv(max(_READ, self._size))
        if not data:
            raise ConnectionError("the server hung up")
        if not self._pieces and self._is_as_before(data):
            self.latencies.append(time.perf_counter() - self.started)
            return True
        self._pieces.append(data)
        self._lacking -= len(data)
        if not self._has_head:
            self._read_head()
        if self._lacking > 0 or not self._has_head:
            return False
        self.latencies.append(time.perf_counter() - self.started)
        body = b"".join(self._pieces)
        if self.body not in (b"", body):
            raise ValueError("an answer differs from the one before")
        self.body = body
        return True

    def _is_as_before(self, data: bytes) -> bool:
        """Whether this is the whole answer again, but for what a head may say of the time.

        So that reading costs less than answering.
        """
        return len(data) == self._size and data.startswith(b"HTTP/1.1 200 ") and data.endswith(self.body)

    def _read_head(self) -> None:
        """Take the head off, if all of it is there."""
        head, end, rest = b"".join(self._pieces).partition(b"\r\n\r\n")
        if not end and len(head) < _MOST_HEAD:
            return
        length = _LENGTH.search(head)
        if not (head.startswith(b"HTTP/1.1 200 ") and length):
            raise ValueError(f"not an answer of 200 with its length: {head[:200]!r}")
        self._has_head = True
        self._size = len(head) + len(end) + int(length[1])
        self._pieces = [rest]
        self._lacking = int(length[1]) - len(rest)


def _attend(selector: selectors.BaseSelector, remaining: int) -> None:
    """Ask anew whenever an answer is complete, until none remains to be asked and all are answered."""
    while selector.get_map():
        for key, _ in _ready(selector):
            asker: _Asker = key.data
            if not asker.read():
                continue
            if remaining:
                remaining -= 1
                asker.ask()
            else:
                selector.unregister(asker.sock)


def _attend_storm(selector: selectors.BaseSelector) -> list[Item]:
    """Ask once on each connection as soon as it is open, and return what all were answered."""
    first = b""
    while selector.get_map():
        for key, event in _ready(selector):
            asker: _Asker = key.data
            if event & selectors.EVENT_WRITE:
                if error := asker.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, os.strerror(error))
                selector.modify(asker.sock, selectors.EVENT_READ, asker)
                asker.ask()
            elif asker.read():
                # Each goes as soon as it has what it wants: nobody waits for the others to go at once.
                selector.unregister(asker.sock)
                asker.sock.close()
                first = first or asker.body
                if _messages(asker.body) != _messages(first):
                    raise ValueError("the answers differ")
                asker.body = b""
    return _items(first)


def _messages(body: bytes) -> bytes:
    """Return the messages of an answer, without what else it says: the head moves on meanwhile."""
    return body[: body.rindex(b"]")]


def _items(body: bytes) -> list[Item]:
    return [hub_item(json.dumps(message).encode()) for message in json.loads(body)["messages"]]


def _ready(selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]]:
    ready = selector.select(_PATIENCE)
    if not ready:
        raise TimeoutError(f"nothing came for {_PATIENCE:g} s")
    return ready


def _begin_to_connect(sock: socket.socket, host: str, port: int) -> None:
    sock.setblocking(False)
    if (error := sock.connect_ex((host, port))) not in (0, EINPROGRESS):
        raise OSError(error, os.strerror(error))


def _connect(host: str, port: int) -> socket.socket:
    sock = _socket()
    sock.connect((host, port))
    return sock


def _socket() -> socket.socket:
    sock = socket.socket()
    sock.settimeout(_PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock

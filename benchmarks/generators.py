"""The generator: a gateway made of blocking sockets and threads, so fast that it is never what is measured.

Where a contender is itself the server, the generator is its clients (:mod:`~benchmarks.audience`,
:mod:`~benchmarks.askers`).

It speaks what the contenders need of signal-cli-rest-api: ``/v1/about``, ``/v1/accounts``,
``/v2/send`` and ``/v1/receive/{number}`` with its handshake, pings and closes. It writes
frames that were built before, keeps what it was sent, and at the end says what it has
written and got. Standard library only, bound to 127.0.0.1.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from . import traffic
from .askers import Askers
from .audience import Audience
from .contender import Gateway, Item, Work

HOST: Final = "127.0.0.1"

#: With loopback's own segments of 64 KiB the receive window stalls, and a slow reader sees pauses that no
#: network has.
_SEGMENT: Final = 1448

#: Seconds to wait for a WebSocket on which to write.
_PATIENCE: Final = 5.0

#: Frames that go out in one write: about 45 KiB.
_FRAMES_PER_WRITE: Final = 64

_WEBSOCKET_ID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA

#: These orders are confirmed before they are done: whoever gave them is to read, or to write, meanwhile.
_CONFIRMED_FIRST: Final = frozenset({"blast", "watch", "time"})

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_KEY: Final = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")


class Peer:
    """One connection, read in pieces of a known end."""

    def __init__(self, sock: socket.socket) -> None:
        self.port: Final[int] = sock.getsockname()[1]
        self._sock = sock
        self._buffer = b""
        self._lock = threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_until(self, mark: bytes) -> bytes:
        """Read up to the mark and take both.

        Raises:
            EOFError: the other side has ended the connection.
        """
        while (end := self._buffer.find(mark)) < 0:
            self._fill()
        return self._take(end + len(mark))

    def read(self, size: int) -> bytes:
        """Read exactly this many bytes; raises as :meth:`read_until`."""
        while len(self._buffer) < size:
            self._fill()
        return self._take(size)

    def write(self, data: bytes) -> None:
        """Write all of it, in one piece among the threads that write."""
        with self._lock:
            self._sock.sendall(data)

    def drop(self) -> None:
        """End the connection without a word, from whichever thread."""
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def _fill(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


class Generator:
    """The gateway and what it is ordered to do. Its threads run until :meth:`stop` or the process's end."""

    def __init__(self) -> None:
        self._gateway = _listen()
        self._control = _listen()
        self._peers: set[Peer] = set()
        self._receiver: Peer | None = None
        self._connected = threading.Event()
        self._prepared: list[tuple[Item, bytes]] = []
        self._written = 0
        self._bodies: list[bytes] = []
        self._greets = False
        self._audience, self._askers = Audience(), Askers()
        self._clients: Audience | Askers | None = None
        ports = [sock.getsockname()[1] for sock in (self._gateway, self._control)]
        self.address: Final = Gateway(HOST, *ports)

    def start(self) -> None:
        """Begin to serve."""
        _start(self._accept, self._gateway, self._serve)
        _start(self._accept, self._control, self._obey)

    @property
    def work(self) -> Work:
        """What it has written to WebSockets and been sent over HTTP, until now; as clients, what they got."""
        if self._clients is not None:
            return self._clients.work
        written = [item for item, _ in self._prepared[: self._written]]
        return Work.of(written + [_as_item(n, body) for n, body in enumerate(self._bodies)])

    @property
    def figures(self) -> dict[str, float]:
        """What only the clients can measure."""
        return {} if self._clients is None else self._clients.figures

    def stop(self) -> None:
        """End every connection and listen no more."""
        for sock in (self._gateway, self._control):
            _hang_up(sock)
        for peer in list(self._peers):
            peer.drop()
        self._audience.close()

    def _accept(self, listener: socket.socket, serve: Callable[[Peer], None]) -> None:
        with listener:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:  # it was shut down
                    return
                _start(self._attend, Peer(sock), serve)

    def _attend(self, peer: Peer, serve: Callable[[Peer], None]) -> None:
        self._peers.add(peer)
        try:
            serve(peer)
        except (EOFError, ConnectionError):  # the usual end
            peer.drop()
        finally:
            self._peers.discard(peer)
            peer.close()

    # The gateway.

    def _serve(self, peer: Peer) -> None:
        """Answer HTTP requests until the connection ends or becomes a WebSocket."""
        while True:
            head = peer.read_until(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            length = _LENGTH.search(head)
            body = peer.read(int(length[1])) if length else b""
            if path == b"/v2/send":
                stamp = traffic.timestamp(len(self._bodies))
                self._bodies.append(body)
                peer.write(_answer(b"201 Created", b'{"timestamp":"%d"}' % stamp))
            elif path == b"/v1/about":
                peer.write(_answer(b"200 OK", b'{"versions":["v1","v2"],"build":2,"mode":"json-rpc"}'))
            elif path == b"/v1/accounts":
                peer.write(_answer(b"200 OK", json.dumps([traffic.ACCOUNT]).encode()))
            elif path.startswith(b"/v1/receive/") and (key := _KEY.search(head)):
                self._serve_websocket(peer, key[1].strip())
                return
            else:
                peer.write(_answer(b"404 Not Found", b"404 page not found"))

    def _serve_websocket(self, peer: Peer, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_ID, usedforsecurity=False).digest())
        peer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        # Only now: a frame must not overtake the answer to the handshake.
        self._receiver = peer
        self._connected.set()
        if self._greets:
            self._blast(1)
        while True:
            opcode, payload = _read_frame(peer)
            if opcode == _PING:
                peer.write(bytes([0x80 | _PONG, len(payload)]) + payload)
            elif opcode == _CLOSE:
                peer.write(bytes([0x80 | _CLOSE, len(payload)]) + payload)
                return

    # Orders.

    def _obey(self, peer: Peer) -> None:
        command, *words = peer.read_until(b"\n").decode().split()
        obey = partial(self._orders[command], *map(int, words))
        if command in _CONFIRMED_FIRST:
            self._audience.expect()
            peer.write(b"ok\n")
            obey()
            return
        try:
            obey()
        except (OSError, ValueError) as error:
            peer.write(f"{error}\n".encode())
        else:
            peer.write(b"ok\n")

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return {
            "prepare": self._prepare,
            "blast": self._blast,
            "outage": self._be_away,
            "attend": self._attend_to,
            "watch": self._audience.watch,
            "time": self._audience.time,
            "watched": self._audience.wait,
            "ask": self._ask,
        }

    def _prepare(self, count: int) -> None:
        self._prepared = list(traffic.frames(count))

    def _attend_to(self, port: int, count: int) -> None:
        self._clients = self._audience
        self._audience.attend(HOST, port, count)

    def _ask(self, port: int, connections: int, since: int, count: int) -> None:
        self._clients = self._askers
        self._askers.ask(HOST, port, connections, since, count)

    def _blast(self, count: int) -> None:
        # The contender may know of the handshake's end a moment before this thread does.
        if not self._connected.wait(_PATIENCE) or self._receiver is None:
            raise RuntimeError("nobody is connected")
        end = self._written + count
        if end > len(self._prepared):
            raise RuntimeError("fewer messages are prepared")
        for start in range(self._written, end, _FRAMES_PER_WRITE):
            piece = self._prepared[start : min(start + _FRAMES_PER_WRITE, end)]
            self._receiver.write(b"".join([frame for _, frame in piece]))
            self._written += len(piece)

    def _be_away(self, milliseconds: int) -> None:
        _hang_up(self._gateway)
        self._connected.clear()
        for peer in list(self._peers):
            # Not the connection on which this was ordered.
            if peer.port == self.address.port:
                peer.drop()
        time.sleep(milliseconds / 1000)
        self._greets = True
        self._gateway = _listen(self.address.port)
        _start(self._accept, self._gateway, self._serve)


def _listen(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.bind((HOST, port))
    sock.listen(16)
    return sock


def _hang_up(listener: socket.socket) -> None:
    """Stop listening. A close would not wake the thread that accepts; woken, it closes the socket itself."""
    listener.shutdown(socket.SHUT_RDWR)


def _start(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _read_frame(peer: Peer) -> tuple[int, bytes]:
    """Read a client's frame, which is masked; none here is long."""
    first, second = peer.read(2)
    size = second & 0x7F
    if size > 125:
        raise ValueError("a frame over 125 bytes, which no contender sends")
    mask = peer.read(4)
    payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(peer.read(size)))
    return first & 0x0F, payload


def _as_item(number: int, body: bytes) -> Item:
    message = json.loads(body)
    (recipient,) = message["recipients"]
    return traffic.timestamp(number), recipient, None, message["message"]

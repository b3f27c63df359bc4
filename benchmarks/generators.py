"""The generator: a gateway made of blocking sockets and threads, so fast that it is never what is measured.

Where a contender is itself the server, the generator is its clients (:mod:`~benchmarks.crowd`).

It speaks what the contenders need of signal-cli-rest-api 0.101: ``/v1/about``, ``/v1/health``,
``/v1/accounts``, ``/v1/groups/{number}``, ``/v2/send`` and ``/v1/receive/{number}`` with its handshake, pings
and closes; like it, it pings each WebSocket every 54 s. It writes frames that were built before, keeps what
it was sent, and at the end says what it has written and got. Standard library only, bound to 127.0.0.1.

Its orders as a gateway, each with numbers; those of :mod:`~benchmarks.crowd` are beside them.

- ``prepare COUNT``: build so many frames. ``blast COUNT``: write so many of them, as fast as they are taken;
  ``pace COUNT MICROSECONDS``: the same, one at a time with so much time between. Both are confirmed at once.
- ``introduce PEOPLE EACH``: build conversations with so many people, of so many messages each.
  ``converse EACH``: write the next message of each of them, and whenever one of them is answered the one
  behind it, until each has had so many more. Confirmed at once.
- ``outage MS``: drop every connection, refuse new ones for so many milliseconds, then listen again, and from
  then on write the next frame to each WebSocket once it is open.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from . import traffic
from .connections import HOST, Connection, answer, attend, hang_up, json_answer, listen, start
from .contender import Gateway, Item, Work
from .crowd import CONFIRMED_FIRST, Crowd

#: Seconds to wait for a WebSocket on which to write.
_PATIENCE: Final = 5.0

#: Seconds from the gateway's one ping to its next on the same WebSocket.
_PING_PERIOD: Final = 54.0

#: Frames that go out in one write: about 45 KiB.
_FRAMES_PER_WRITE: Final = 64

_WEBSOCKET_ID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA

#: These orders are confirmed before they are done: whoever gave them is to read, or to write, meanwhile.
_CONFIRMED_FIRST: Final = frozenset({"blast", "pace", "converse"}) | CONFIRMED_FIRST

_KEY: Final = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")

#: The first word of a text that :func:`~benchmarks.traffic.outgoing` made is the message's number.
_NUMBER: Final = re.compile(rb'"message": ?"(\d+) ')
_RECIPIENT: Final = re.compile(rb'"recipients": ?\["([^"]+)"\]')

#: What a gateway in JSON-RPC mode says of itself.
_ABOUT: Final = {
    "versions": ["v1", "v2"],
    "build": 2,
    "mode": "json-rpc",
    "version": "0.101",
    "capabilities": {"v2/send": ["quotes", "mentions"]},
}
_NOT_FOUND: Final = answer(b"404 Not Found", b"404 page not found")
_ANSWERS: Final = {
    b"/v1/about": json_answer(_ABOUT),
    b"/v1/health": b"HTTP/1.1 204 No Content\r\n\r\n",
    b"/v1/accounts": json_answer([traffic.ACCOUNT]),
    f"/v1/groups/{traffic.ACCOUNT}".encode(): json_answer(traffic.groups()),
}


class Conversation:
    """What one person says, of which each message but the first waits for the answer to the one before.

    Attributes:
        frames: all of it.
        position: how many of them are written.
        end: how many are to be written for now.
    """

    def __init__(self, frames: list[bytes]) -> None:
        self.frames: Final = frames
        self.position = self.end = 0


class Generator:
    """The gateway and what it is ordered to do. Its threads run until :meth:`stop` or the process's end.

    Args:
        port: where it is a gateway; any if it is 0.
        ping_period: seconds from one ping to the next on each WebSocket.
    """

    def __init__(self, port: int = 0, *, ping_period: float = _PING_PERIOD) -> None:
        self._gateway = listen(port)
        self._control = listen()
        self._connections: set[Connection] = set()
        self._receiver: Connection | None = None
        self._connected = threading.Event()
        self._ping_period: Final = ping_period
        #: When each WebSocket is to be pinged, the next one first.
        self._pings: Final = deque[tuple[float, Connection]]()
        self._stopped: Final = threading.Event()
        self._prepared: list[tuple[Item, bytes]] = []
        self._written = 0
        self._conversations: dict[bytes, Conversation] = {}
        self._bodies: list[bytes] = []
        self._greets = False
        self._crowd: Final = Crowd(HOST)
        ports = [sock.getsockname()[1] for sock in (self._gateway, self._control)]
        self.address: Final = Gateway(HOST, *ports)

    def start(self) -> None:
        """Begin to serve."""
        start(attend, self._gateway, self._serve, self._connections)
        start(self._take_orders)
        start(self._ping)

    @property
    def work(self) -> Work:
        """What it has written to WebSockets and been sent over HTTP, until now; as clients, what they got.

        Of a conversation only the answers count, which have the messages' texts.
        """
        if self._crowd.has_served:
            return self._crowd.work
        sent = traffic.by_conversation(map(_as_item, self._bodies))
        return Work.of([item for item, _ in self._prepared[: self._written]] + sent)

    @property
    def figures(self) -> dict[str, float]:
        """What only the clients can measure."""
        return self._crowd.figures

    def stop(self) -> None:
        """End every connection and listen no more."""
        self._stopped.set()
        for sock in (self._gateway, self._control):
            hang_up(sock)
        for connection in list(self._connections):
            connection.drop()
        self._crowd.close()

    # The gateway.

    def _serve(self, connection: Connection) -> None:
        """Take what a connection has sent: HTTP requests, or frames once it is a WebSocket."""
        if connection.is_websocket:
            self._serve_websocket(connection)
            return
        for head, body in connection.requests():
            path = head.split(b" ", 2)[1]
            if path == b"/v2/send":
                self._take(connection, body)
            elif path.startswith(b"/v1/receive/") and (key := _KEY.search(head)):
                self._upgrade(connection, key[1].strip())
                return
            else:
                connection.write(_ANSWERS.get(path, _NOT_FOUND))

    def _take(self, connection: Connection, body: bytes) -> None:
        """Accept a message; if it answers one of a conversation, write what follows there."""
        self._bodies.append(body)
        number = _NUMBER.search(body)
        stamp = traffic.timestamp(int(number[1]) if number else len(self._bodies))
        connection.write(answer(b"201 Created", b'[{"timestamp":"%d"}]' % stamp))
        recipient = _RECIPIENT.search(body)
        if recipient and (conversation := self._conversations.get(recipient[1])):
            self._continue(conversation)

    def _upgrade(self, connection: Connection, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_ID, usedforsecurity=False).digest())
        connection.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        # Only now: a frame must not overtake the answer to the handshake.
        connection.is_websocket = True
        self._opened(connection)

    def _opened(self, connection: Connection) -> None:
        """Note a new WebSocket."""
        self._pings.append((time.monotonic() + self._ping_period, connection))
        self._receiver = connection
        self._connected.set()
        if self._greets:
            self._blast(1)

    def _ping(self) -> None:
        """Ping each WebSocket whenever its time has come, whatever else is written to it."""
        # One that is opened while nobody is to be pinged is to be pinged no sooner than this looks again.
        pause = self._ping_period
        while not self._stopped.wait(pause):
            while self._pings and self._pings[0][0] <= time.monotonic():
                due, connection = self._pings.popleft()
                with suppress(OSError):  # it has ended, and is forgotten
                    connection.write(bytes([0x80 | _PING, 0]))
                    self._pings.append((due + self._ping_period, connection))
            pause = self._pings[0][0] - time.monotonic() if self._pings else self._ping_period

    def _serve_websocket(self, connection: Connection) -> None:
        for opcode, payload in connection.frames():
            if opcode == _PING:
                connection.write(bytes([0x80 | _PONG, len(payload)]) + payload)
            elif opcode == _CLOSE:
                connection.write(bytes([0x80 | _CLOSE, len(payload)]) + payload)
                raise EOFError

    # Orders.

    def _take_orders(self) -> None:
        with self._control:
            while True:
                try:
                    sock, _ = self._control.accept()
                except OSError:  # it was hung up
                    return
                start(self._obey, Connection(sock))

    def _obey(self, connection: Connection) -> None:
        command, *words = connection.line().split()
        obey = partial(self._orders[command], *map(int, words))
        try:
            if command in _CONFIRMED_FIRST:
                self._crowd.expect()
                connection.write(b"ok\n")
                obey()
                return
            try:
                obey()
            except (OSError, ValueError, RuntimeError) as error:
                connection.write(f"{error}\n".encode())
            else:
                connection.write(b"ok\n")
        finally:
            connection.close()

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        orders: dict[str, Callable[..., None]] = {
            "prepare": self._prepare,
            "blast": self._blast,
            "pace": self._pace,
            "introduce": self._introduce,
            "converse": self._converse,
            "outage": self._be_away,
        }
        return orders | self._crowd.orders

    def _prepare(self, count: int) -> None:
        self._prepared = list(traffic.frames(count))

    def _introduce(self, people: int, each: int) -> None:
        # A client may name a person either way.
        for person in range(people):
            conversation = Conversation([frame for _, frame in traffic.chat(person, people, each)])
            for name in (traffic.number(person), traffic.uuid(person)):
                self._conversations[name.encode()] = conversation

    def _converse(self, each: int) -> None:
        for conversation in set(self._conversations.values()):
            conversation.end += each
            self._continue(conversation)

    def _continue(self, conversation: Conversation) -> None:
        if conversation.position < conversation.end:
            frame = conversation.frames[conversation.position]
            conversation.position += 1
            self._connection().write(frame)

    def _connection(self) -> Connection:
        """Return the WebSocket that was opened last, which may be a moment from now.

        For the contender may know of the handshake's end a moment before the other thread does.
        """
        if not self._connected.wait(_PATIENCE) or self._receiver is None:
            raise RuntimeError("nobody is connected")
        return self._receiver

    def _blast(self, count: int) -> None:
        end, receiver = self._end(count), self._connection()
        for begin in range(self._written, end, _FRAMES_PER_WRITE):
            piece = self._prepared[begin : min(begin + _FRAMES_PER_WRITE, end)]
            # Before they can have been received.
            self._written += len(piece)
            receiver.write(b"".join([frame for _, frame in piece]))

    def _pace(self, count: int, microseconds: int) -> None:
        end, receiver = self._end(count), self._connection()
        due = time.perf_counter()
        for _, frame in self._prepared[self._written : end]:
            self._written += 1
            receiver.write(frame)
            due += microseconds / 1e6
            time.sleep(max(0.0, due - time.perf_counter()))

    def _end(self, count: int) -> int:
        end = self._written + count
        if end > len(self._prepared):
            raise RuntimeError("fewer messages are prepared")
        return end

    def _be_away(self, milliseconds: int) -> None:
        self._leave()
        time.sleep(milliseconds / 1000)
        self._greets = True
        self._come_back()

    def _leave(self) -> None:
        hang_up(self._gateway)
        self._connected.clear()
        for connection in list(self._connections):
            connection.drop()

    def _come_back(self) -> None:
        self._gateway = listen(self.address.port)
        start(attend, self._gateway, self._serve, self._connections)


def _as_item(body: bytes) -> Item:
    message = json.loads(body)
    (recipient,) = message["recipients"]
    text: str = message["message"]
    number = text.partition(" ")[0]
    stamp = traffic.timestamp(int(number)) if number.isdecimal() else None
    return stamp, traffic.NUMBERS.get(recipient, recipient), None, text

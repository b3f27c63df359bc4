"""What an audience speaks, once connected: WebSocket, or NATS' own protocol. Standard library only.

A wire knows the one form in which a message may come, to the byte, so that an audience need only compare;
whatever else a server writes (its hello, a heartbeat, a ping) is *foreign* and is cut off where it stands.
"""

import socket
from typing import Final, Protocol

_READ: Final = 64 * 1024
_MOST_HEAD: Final = 64 * 1024

#: What else a hub writes (its hello, a heartbeat) is no broadcast.
_BROADCAST: Final = b'{"type":"message"'

_HANDSHAKE: Final = (
    "GET /websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A

_SUBSCRIBE: Final = (
    b'CONNECT {"verbose":false,"pedantic":false,"name":"audience"}\r\nSUB broadcast 1\r\nPING\r\n'
)


class Wire(Protocol):
    """How one server is spoken to."""

    def open(self, sock: socket.socket, host: str, port: int) -> bytes:
        """Do the handshake on a blocking socket and return what came behind its answer.

        Raises:
            OSError: the server refused, or hung up.
        """
        ...

    def encode(self, message: bytes) -> bytes:
        """Return the bytes in which a message comes."""
        ...

    def foreign(self, data: bytes) -> tuple[int, bytes]:
        """Return how long the foreign thing is with which this begins, and what to answer to it.

        The length is 0 while not all of it has come.

        Raises:
            ValueError: it is a message.
        """
        ...


class WebSocketWire:
    """RFC 6455, without extensions. A server's frames are not masked."""

    def open(self, sock: socket.socket, host: str, port: int) -> bytes:
        """See :meth:`Wire.open`."""
        sock.sendall(_HANDSHAKE.format(host=host, port=port).encode())
        head, rest = _read_until(sock, b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"the handshake was refused: {head[:200]!r}")
        return rest

    def encode(self, message: bytes) -> bytes:
        """See :meth:`Wire.encode`: one whole text frame, its length in the shortest form."""
        size = len(message)
        if size < 126:
            return bytes((_TEXT, size)) + message
        if size < 1 << 16:
            return b"\x81\x7e" + size.to_bytes(2, "big") + message
        return b"\x81\x7f" + size.to_bytes(8, "big") + message

    def foreign(self, data: bytes) -> tuple[int, bytes]:
        """See :meth:`Wire.foreign`: a control frame, or a text that is no broadcast."""
        begin, length = 2, data[1] if len(data) > 1 else 0
        if length > 125:
            begin = 4 if length == 126 else 10
            length = int.from_bytes(data[2:begin])
        if len(data) < begin or len(data) < begin + length:
            return 0, b""
        payload = data[begin : begin + length]
        if payload.startswith(_BROADCAST):
            raise ValueError(f"another message than expected: {payload[:120]!r}")
        # A client's frame has a mask; this one is zero.
        pong = bytes((_PONG, 0x80 | length)) + bytes(4) + payload if data[0] == _PING else b""
        return begin + length, pong


class NatsWire:
    """NATS' client protocol: a subscription to the subject ``broadcast``."""

    def open(self, sock: socket.socket, host: str, port: int) -> bytes:
        """See :meth:`Wire.open`."""
        del host, port
        info, _ = _read_until(sock, b"\r\n")
        if not info.startswith(b"INFO "):
            raise ConnectionError(f"this is not NATS: {info[:200]!r}")
        sock.sendall(_SUBSCRIBE)
        return _read_until(sock, b"PONG\r\n")[1]

    def encode(self, message: bytes) -> bytes:
        """See :meth:`Wire.encode`."""
        return b"MSG broadcast 1 %d\r\n%b\r\n" % (len(message), message)

    def foreign(self, data: bytes) -> tuple[int, bytes]:
        """See :meth:`Wire.foreign`: a line that is no message."""
        line, end, _ = data.partition(b"\r\n")
        if line.startswith(b"MSG "):
            raise ValueError(f"another message than expected: {line[:120]!r}")
        return (len(line) + 2 if end else 0), (b"PONG\r\n" if line == b"PING" and end else b"")


#: The wires by the number that an order names them with.
WIRES: Final[tuple[Wire, ...]] = (WebSocketWire(), NatsWire())
WEBSOCKET, NATS = range(2)


def _read_until(sock: socket.socket, mark: bytes) -> tuple[bytes, bytes]:
    """Return what came with the mark and what came behind it."""
    answer = b""
    while mark not in answer:
        data = sock.recv(_READ)
        if not data or len(answer) > _MOST_HEAD:
            raise ConnectionError("the server hung up in the handshake")
        answer += data
    head, _, rest = answer.partition(mark)
    return head + mark, rest

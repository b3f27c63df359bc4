"""What a generator's connections are: read by one thread, written to by any. Standard library only."""

import contextlib
import json
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

HOST: Final = "127.0.0.1"

#: With loopback's own segments of 64 KiB the receive window stalls, and a slow reader sees pauses that no
#: network has.
_SEGMENT: Final = 1448

_READ: Final = 65_536

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection:
    """One connection: what it has sent and nobody has taken yet, and a way to write to it.

    Attributes:
        is_websocket: whether it has become one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.is_websocket = False
        self._sock: Final = sock
        self._buffer = b""
        self._lock: Final = threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self) -> bool:
        """Read what is there, once there is something; False at the connection's end."""
        try:
            data = self._sock.recv(_READ)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)

    def line(self) -> str:
        """Read a line, however long that takes.

        Raises:
            EOFError: the other side has ended the connection.
        """
        while b"\n" not in self._buffer:
            if not self.fill():
                raise EOFError
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def requests(self) -> Iterator[tuple[bytes, bytes]]:
        """Take the HTTP requests that are complete: head, the empty line included, and body."""
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            size = end + (int(length[1]) if length else 0)
            if len(self._buffer) < size:
                return
            body, self._buffer = self._buffer[end:size], self._buffer[size:]
            yield head, body

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Take the WebSocket frames that are complete: opcode and payload. A client's frames are masked.

        Raises:
            ValueError: a frame is over 125 bytes, which no contender sends.
        """
        while len(self._buffer) >= 6:
            size = self._buffer[1] & 0x7F
            if size > 125:
                raise ValueError("a frame over 125 bytes")
            if len(self._buffer) < 6 + size:
                return
            opcode, mask, masked = self._buffer[0] & 0x0F, self._buffer[2:6], self._buffer[6 : 6 + size]
            self._buffer = self._buffer[6 + size :]
            yield opcode, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))

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


def listen(port: int = 0) -> socket.socket:
    """Return a listening socket; any port if none is given."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.bind((HOST, port))
    sock.listen(64)
    return sock


def hang_up(listener: socket.socket) -> None:
    """Stop listening. A close would not wake the thread that accepts; woken, it closes the socket itself."""
    listener.shutdown(socket.SHUT_RDWR)


def start(target: Callable[..., None], *args: object) -> None:
    """Run something in a thread that does not keep the process alive."""
    threading.Thread(target=target, args=args, daemon=True).start()


def attend(
    listener: socket.socket, serve: Callable[[Connection], None], connections: set[Connection]
) -> None:
    """Accept and read in this thread until the listener is hung up and all connections have ended.

    Args:
        listener: where they come from.
        serve: takes what a connection has sent, whenever it has sent something; it ends it by raising
            :exc:`EOFError` or :exc:`ConnectionError`.
        connections: those that are open.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                connection: Connection | None = key.data
                if connection is None:
                    _accept(selector, listener, connections)
                elif not _has_served(connection, serve):
                    selector.unregister(key.fileobj)
                    connections.discard(connection)
                    connection.close()


def _accept(selector: selectors.BaseSelector, listener: socket.socket, connections: set[Connection]) -> None:
    try:
        sock, _ = listener.accept()
    except OSError:  # it was hung up
        selector.unregister(listener)
        listener.close()
        return
    connection = Connection(sock)
    connections.add(connection)
    selector.register(sock, selectors.EVENT_READ, connection)


def _has_served(connection: Connection, serve: Callable[[Connection], None]) -> bool:
    """Read and serve; False when the connection is to be closed."""
    if not connection.fill():
        return False
    try:
        serve(connection)
    except (EOFError, ConnectionError):  # the usual end
        return False
    return True


def answer(status: bytes, body: bytes) -> bytes:
    """Return an HTTP answer in JSON."""
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def json_answer(content: object) -> bytes:
    """Return an HTTP answer of 200."""
    return answer(b"200 OK", json.dumps(content).encode())

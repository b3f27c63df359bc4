"""Where connections come in: a real port, memory, or both, all to one handler."""

import errno
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

from ._streams import MemoryStream, Transport, end_at_once, memory_connection

_BACKLOG = 128


class Door:
    """Accepts connections on a port and in memory and starts one task in ``nursery`` for each.

    All but `connect` is synchronous, so that a fault takes effect at the call that makes it.
    """

    def __init__(
        self,
        handler: Callable[[Transport], Awaitable[None]],
        nursery: trio.Nursery,
        *,
        host: str,
        port: int | None,
    ) -> None:
        self._handler = handler
        self._nursery = nursery
        self._host = host
        self._listener: trio.SocketListener | None = None
        self._reserved: socket.socket | None = None
        self.port = port
        self.is_open = False
        self.refused = 0
        self._refusals: int | None = 0

    def open(self) -> None:
        """Listen; does nothing when it listens already.

        Raises:
            OSError: the port is taken, or the host is not an address of this machine.
        """
        if self.is_open:
            return
        self.is_open = True
        if self._refusals is not None:
            self._listen()

    def refuse(self, times: int | None) -> None:
        """Refuse the next ``times`` connections, or all until `heal` (None).

        Raises:
            ValueError: ``times`` is not positive.
        """
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1, or None for 'until heal()', not {times}")
        if times is None:
            self._deafen()
            self._refusals = None
        elif self._refusals is not None:
            self._refusals += times

    def heal(self) -> None:
        """Refuse no longer, unless closed."""
        deaf, self._refusals = self._refusals is None, 0
        if deaf and self.is_open:
            self._listen()

    def _listen(self) -> None:
        if self.port is not None:
            self._release()
            sock = socket.create_server((self._host, self.port), family=self._family(), backlog=_BACKLOG)
            sock.setblocking(False)
            self.port = sock.getsockname()[1]
            self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            self._nursery.start_soon(self._accept, self._listener)

    def close(self) -> None:
        """Stop listening: connects are refused until `open`. What is connected stays connected."""
        self.is_open = False
        self._deafen()

    def _deafen(self) -> None:
        if self._listener is None or self.port is None:
            return
        self._listener.socket.close()
        self._listener = None
        # Bound but not listening: refuses, and keeps the number from going to somebody else, or to a client's
        # own end (a connect on loopback to a free port in the ephemeral range can meet itself).
        self._reserved = socket.socket(self._family())
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self._host, self.port))

    def shut(self) -> None:
        """Close for good and give the port back."""
        self.close()
        self._release()

    async def connect(self, host: str, port: int) -> MemoryStream:
        """Open a connection in memory. A checkpoint.

        Raises:
            ConnectionRefusedError: the door is closed.
        """
        await trio.lowlevel.checkpoint()
        if self._turn_away():
            raise refusal(host, port)
        client, server = memory_connection()
        self._nursery.start_soon(self._handler, server)
        return client

    async def _accept(self, listener: trio.SocketListener) -> None:
        with suppress(trio.ClosedResourceError):  # it is, by `close`
            while True:
                stream = await listener.accept()
                if self._turn_away():
                    end_at_once(stream, reset=True)
                else:
                    self._nursery.start_soon(self._handler, stream)
        await trio.lowlevel.checkpoint()

    def _turn_away(self) -> bool:
        if self.is_open:
            if self._refusals == 0:
                return False
            if self._refusals is not None:
                self._refusals -= 1
        self.refused += 1
        return True

    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self._host else socket.AF_INET

    def _release(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


def refusal(host: str, port: int) -> ConnectionRefusedError:
    """Return the error that connecting to a port where nobody listens gives."""
    return ConnectionRefusedError(errno.ECONNREFUSED, f"connection to {host}:{port} refused")


@asynccontextmanager
async def lone_exception() -> AsyncGenerator[None]:
    """Let an exception that is alone in a nursery's group leave as it came."""
    try:
        yield
    except BaseExceptionGroup as group:
        only = _only(group)
        if only is None:
            raise
        raise only from only.__cause__


def _only(group: BaseExceptionGroup) -> BaseException | None:
    return group.exceptions[0] if len(group.exceptions) == 1 else None

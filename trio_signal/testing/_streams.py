"""A connection in memory that behaves like TCP, and what can be done to any connection at once.

Trio's own ``memory_stream_pair`` never pushes back and knows no reset; both matter here, since a gateway that
meets a reader which has stopped reading is one of the faults to be made.
"""

import operator
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

import trio

WINDOW = 64 * 1024
"""Bytes that one direction of a memory connection holds before its sender has to wait."""

# l_onoff = 1, l_linger = 0: closing such a socket sends RST in place of FIN.
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class _Pipe:
    """One direction of a memory connection.

    ``ended``: the writer has closed its half, the reader sees the end after what is still in ``data``.
    ``broken``: a reset, or the reader is gone; writing fails at once, reading fails after what is still in
    ``data``.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.data = bytearray()
        self.ended = False
        self.broken = False
        self.readers = trio.lowlevel.ParkingLot()
        self.writers = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        self.readers.unpark_all()
        self.writers.unpark_all()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory, made by `memory_connection`.

    It behaves as a TCP socket on Linux does: a sender waits once `WINDOW` bytes are unread, ``aclose`` gives
    the other end an end of stream (or a reset if this end had not read everything), `reset` gives it
    `trio.BrokenResourceError`. What had arrived before either can still be read. Unlike TCP, a send to an end
    that is gone fails at once, not at the second try.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = False
        self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; waits while the window is full.

        A checkpoint. Cancelled in the middle, an unknown first part has been sent, as with TCP.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the other end is gone, or the connection was reset.
        """
        with self._one_sender():
            await trio.lowlevel.checkpoint_if_cancelled()
            view = memoryview(data)
            view = view[self._write(view) :]
            if not view:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while view:
                await self._outgoing.writers.park()
                view = view[self._write(view) :]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the window has room. A checkpoint; cancelling it does nothing."""
        with self._one_sender():
            await trio.lowlevel.checkpoint()
            while self._room() <= 0:
                await self._outgoing.writers.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive up to ``max_bytes`` bytes, ``b""`` at the end of the stream.

        A checkpoint; cancelling it loses nothing.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the connection was reset.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._readable():
                await self._incoming.readers.park()
            return self._read(max_bytes)
        finally:
            self._receiving = False

    async def send_eof(self) -> None:
        """Close the sending half: the other end sees the end of the stream. A checkpoint."""
        with self._one_sender():
            if self._closed:
                raise trio.ClosedResourceError("this end of the connection is closed")
            self._outgoing.ended = True
            self._outgoing.wake()
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close this end. A checkpoint; closed even if that is cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end at once: the synchronous form of `aclose`. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._incoming.data:  # TCP answers with a reset, not an end, when data were thrown away unread.
            self._outgoing.broken = True
        self._outgoing.ended = True
        self._incoming.broken = True
        self._incoming.data.clear()
        self._incoming.wake()
        self._outgoing.wake()

    def reset(self) -> None:
        """Close this end as a TCP RST would: the other end gets `trio.BrokenResourceError`."""
        self._outgoing.broken = True
        self.close()

    @contextmanager
    def _one_sender(self) -> Generator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _room(self) -> int:
        if self._closed or self._outgoing.ended:
            raise trio.ClosedResourceError("this end of the connection is closed")
        if self._outgoing.broken:
            raise trio.BrokenResourceError("the other end of the connection is gone")
        return self._outgoing.window - len(self._outgoing.data)

    def _write(self, view: memoryview) -> int:
        taken = view[: max(0, self._room())]
        self._outgoing.data += taken
        if taken:
            self._outgoing.readers.unpark_all()
        return len(taken)

    def _readable(self) -> bool:
        if self._closed:
            raise trio.ClosedResourceError("this end of the connection is closed")
        return bool(self._incoming.data or self._incoming.broken or self._incoming.ended)

    def _read(self, max_bytes: int | None) -> bytes:
        incoming = self._incoming
        if not incoming.data and incoming.broken:
            raise trio.BrokenResourceError("the connection was reset")
        taken = bytes(incoming.data[:max_bytes])
        del incoming.data[: len(taken)]
        incoming.writers.unpark_all()
        return taken


Transport: TypeAlias = MemoryStream | trio.SocketStream
"""What connections are made of here: all that can be reset, and closed half and at once."""


def memory_connection(window: int = WINDOW) -> tuple[MemoryStream, MemoryStream]:
    """Make both ends of a connection in memory that holds ``window`` unread bytes in each direction."""
    there, back = _Pipe(window), _Pipe(window)
    return MemoryStream(back, there), MemoryStream(there, back)


def end_at_once(transport: Transport, *, reset: bool = False) -> None:
    """Close ``transport`` without waiting, from any task; tasks that use it get `trio.ClosedResourceError`.

    Args:
        transport: what is to be closed.
        reset: send RST in place of FIN.
    """
    if isinstance(transport, MemoryStream):
        if reset:
            transport.reset()
        transport.close()
        return
    if reset and transport.socket.fileno() != -1:
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.socket.close()

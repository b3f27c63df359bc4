"""A listener in memory, for servers such as a hub in tests without a port."""

import trio

from ._streams import MemoryStream, memory_connection

_BACKLOG = 128


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """What `connect` opens comes out of `accept`: give it to ``serve_hub(listeners=[…])``.

    Closed, it refuses connections as a port does on which nobody listens.
    """

    def __init__(self) -> None:
        self._door, self._arrivals = trio.open_memory_channel[MemoryStream](_BACKLOG)

    async def connect(self, host: str = "memory", port: int = 0) -> MemoryStream:
        """Open one connection; the arguments only go into the error's text. A checkpoint.

        Raises:
            ConnectionRefusedError: the listener is closed, or 128 connections wait already.
        """
        await trio.lowlevel.checkpoint()
        here, there = memory_connection()
        try:
            self._door.send_nowait(there)
        except (trio.BrokenResourceError, trio.WouldBlock):
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}") from None
        return here

    async def accept(self) -> MemoryStream:
        """Wait for a connection. A checkpoint; cancelling loses none."""
        try:
            return await self._arrivals.receive()
        except trio.ClosedResourceError:
            raise trio.ClosedResourceError("this listener is closed") from None

    async def aclose(self) -> None:
        """Listen no more; connections that nobody has accepted are closed. A checkpoint."""
        while True:
            try:
                self._arrivals.receive_nowait().close()
            except (trio.WouldBlock, trio.ClosedResourceError):
                break
        self._arrivals.close()
        await trio.lowlevel.checkpoint()

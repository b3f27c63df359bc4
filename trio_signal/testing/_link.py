"""One accepted connection, whatever it is used for, and how it ends."""

import trio

from ._streams import Transport, end_at_once

_CHUNK = 64 * 1024


class Link:
    """A connection from the gateway's side.

    ``transport`` is what came in at the door, ``stream`` what HTTP is spoken over: the same, or TLS upon it.
    """

    def __init__(self, transport: Transport, slice_size: int | None) -> None:
        self.transport = transport
        self.stream: trio.abc.Stream = transport
        self.scope = trio.CancelScope()
        self.slice_size = slice_size
        self.is_busy = False
        """Whether a request is in work here."""
        self._sending = trio.Lock()

    async def send(self, data: bytes) -> None:
        """Write all of ``data``, in slices where that is asked for; one sender after the other.

        A checkpoint. Cancelled in the middle, an unknown part has been written.

        Raises:
            trio.BrokenResourceError: the client is gone.
            trio.ClosedResourceError: the link was ended meanwhile.
        """
        async with self._sending:
            size = self.slice_size or len(data)
            for at in range(0, len(data), max(1, size)):
                await self.stream.send_all(data[at : at + size])

    async def drain(self) -> None:
        """Read and forget all that comes until the client ends the connection. A checkpoint."""
        while await self.stream.receive_some(_CHUNK):
            pass

    def end(self, *, reset: bool = False) -> None:
        """End the connection at once, without any farewell; twice does nothing more."""
        end_at_once(self.transport, reset=reset)
        self.scope.cancel()

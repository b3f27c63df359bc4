"""A connection, read and written without the layers of Trio's streams where it is a plain socket.

For one small request and its answer these layers cost more than to read the one and write the other: a look
at a socket that has nothing yet, a time limit for what takes no time, a turn of the scheduler after it. Here
a reader waits first, and a writer first writes what the socket takes at once. Any other stream (TLS, in
memory) is used as it is.
"""

import os
import sys
from typing import Final

import trio

#: Whether a socket's descriptor is one of a file's too.
_IS_FILE: Final = sys.platform != "win32"


class Direct:
    """The two directions of one connection. It is not closed here.

    Args:
        stream: the connection.
    """

    __slots__ = ("_socket", "_stream")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream: Final = stream
        self._socket: Final = stream.socket if isinstance(stream, trio.SocketStream) and _IS_FILE else None

    async def read(self, most: int) -> bytes | bytearray:
        """Return what comes next, at most so many bytes; nothing once the connection has ended somehow.

        A checkpoint. Cancelling is safe: nothing is lost.
        """
        try:
            if self._socket is None:
                return await self._stream.receive_some(most)
            while (descriptor := self._socket.fileno()) >= 0:
                await trio.lowlevel.wait_readable(descriptor)
                try:
                    # Asked again: it may be closed by now, and its number another's.
                    return os.read(self._socket.fileno(), most)
                except BlockingIOError:
                    # It was readable for nothing, as sockets may be.
                    continue
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        return b""  # noqa: ASYNC910  (an error of a stream or of a socket comes after a checkpoint)

    def write(self, data: bytes) -> int:
        """Write what a plain socket takes at once and return how much that was. Never waits.

        Nothing, if it is another stream or broken, which the stream tells whoever sends the rest.
        """
        if self._socket is None:
            return 0
        try:
            return os.write(self._socket.fileno(), data)
        except OSError:
            return 0

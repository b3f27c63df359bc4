"""Where a request's body ends: after so many bytes, or with the last of its chunks, which h11 reads. Pure."""

from typing import Final

import h11

from ._exchange import HttpError

#: What h11 is told in place of the head, which we have read ourselves.
_HEAD: Final = b"POST / HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"

#: How the last chunk, or the last line behind it, and the empty line after that end.
_END: Final = b"\r\n\r\n"


class Counted:
    """A body whose length was announced.

    Args:
        length: how many bytes it has.
    """

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_whole(self) -> bool:
        """Whether all of it was taken."""
        return self._left == 0

    def take(self, came: bytearray) -> bytes:
        """Take what there is of the body off what has come; nothing if more must come."""
        piece = bytes(came[: self._left])
        del came[: len(piece)]
        self._left -= len(piece)
        return piece


class Chunked:
    """A body that comes in chunks."""

    def __init__(self) -> None:
        self._h11: Final = h11.Connection(h11.SERVER)
        self._h11.receive_data(_HEAD)
        self._h11.next_event()
        #: The last that came, and a few bytes before it: to see how the end is written.
        self._recent = b""
        self.is_whole = False

    def take(self, came: bytearray) -> bytes:
        """Take a piece of the body off what has come; nothing if more must come, or if that was all.

        Raises:
            HttpError: these are no chunks (400), or what is said about one is endless (431).
        """
        if came:
            data = bytes(came)
            self._recent = self._recent[-len(_END) :] + data
            self._h11.receive_data(data)
            came.clear()
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            # Not in h11's words: they quote the request, secrets included.
            raise HttpError(error.error_status_hint, "the request's chunks are not valid HTTP/1.1") from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self.is_whole = isinstance(event, h11.EndOfMessage)
        if self.is_whole:
            came += self._h11.trailing_data[0]
            taken, self._recent = self._recent.removesuffix(came), b""
            if not taken.endswith(_END):
                # h11 takes bare line feeds for the end, where a proxy before us may see none yet.
                raise HttpError(400, "the end of the request's chunks is not valid HTTP/1.1")
        return b""

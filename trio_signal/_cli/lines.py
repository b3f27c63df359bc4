"""Standard input, and the messages to send that stand in it, one JSON object a line."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
import trio

_STDIN: Final = 0
_PIECE: Final = 64 * 1024

#: The longest line that is read, in bytes. Signal itself sends anything over 2 KB as an attachment.
MAX_LINE: Final = 1024 * 1024


async def read_stdin() -> bytes:
    """Wait for input and return what is there; nothing at its end. A checkpoint.

    Read in a thread, which works for files, pipes and terminals alike. When this is cancelled a read that
    has begun is left behind, and what it gives is lost; so it begins only once there is something, and
    what comes later is for whoever reads the same pipe next.

    Raises:
        OSError: standard input is closed or broken.
    """
    while True:  # noqa: ASYNC913  (reading is one)
        # A regular file cannot be waited for, and need not be.
        with suppress(OSError):
            await trio.lowlevel.wait_readable(_STDIN)
        # Another program that shares the terminal or pipe with us has made it non-blocking, and was quicker.
        with suppress(BlockingIOError):
            return await trio.to_thread.run_sync(os.read, _STDIN, _PIECE, abandon_on_cancel=True)


#: What to do about a line that is none.
_WANTED: Final = 'write one like {"recipient": "+15550101", "text": "hello"}, with an "id" if you want'


class Letter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message to send, as a line gives it.

    Attributes:
        recipient: a number, a group, a UUID or a username.
        text: what to say.
        id: a name of the writer's own for it, to find its outcome by.
    """

    recipient: str
    text: str
    id: str | None = None


class BadLine(Exception):
    """A line that is no :class:`Letter`. Its text says why, and repeats nothing but names of fields."""


def parse_line(line: bytes) -> Letter:
    """Read a line.

    Raises:
        BadLine: it is no JSON object with these fields.
    """
    if len(line) > MAX_LINE:
        raise BadLine(f"it is over {MAX_LINE} bytes")
    try:
        return msgspec.json.decode(line, type=Letter)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(f"it is no message: {error}; {_WANTED}") from None


class LineSplitter:
    """Cuts a stream of bytes into numbered lines, without ever keeping much more than :data:`MAX_LINE`."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that are now whole, without their ends; blank ones are passed over.

        Of a line that is too long only so much is kept that one can see it.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            yield from self.end()
        self._keep(rest)

    def end(self) -> Iterator[tuple[int, bytes]]:
        """Yield the last line, if it had no end."""
        line = bytes(self._rest)
        self._rest.clear()
        yield from self._line(line)

    def _keep(self, part: bytes) -> None:
        # In place: a long line that comes byte by byte must not be copied for each of them.
        self._rest += part[: MAX_LINE + 1 - len(self._rest)]

    def _line(self, line: bytes) -> Iterator[tuple[int, bytes]]:
        self._number += 1
        if line.strip():
            yield self._number, line

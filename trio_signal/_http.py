"""HTTP/1.1 over streams of ours: how a request is written, and its answer read as it comes.

There is no time limit but for connecting: whoever asks has a deadline of its own over everything.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

import msgspec
import trio

from ._closing import close_at_once
from ._errors import LinkLost, Reason
from ._http_answers import AnswerReader, BadAnswer, Headers

#: How long connecting may take, TLS included, in seconds. A limit of its own, because what ends before there
#: is a connection has certainly not been sent.
DIAL_LIMIT: Final = 20.0

#: The most that is read at once, in bytes.
PIECE: Final = 64 * 1024

Dial = Callable[[], Awaitable[trio.abc.Stream]]

#: Bytes, or pieces of them, which are read as they are sent.
Body = bytes | AsyncIterator[bytes]


class Unanswered(Exception):
    """A request may have arrived, and its answer did not come whole."""

    def as_link_lost(self) -> LinkLost:
        """Return what is told of it."""
        error = LinkLost(str(self), reason=Reason.CONNECTION_LOST)
        error.__cause__ = self.__cause__
        return error


class Misstated(Unanswered):
    """A request's body is not as long as its head says: the gateway acts on nothing less."""


class Request(msgspec.Struct, frozen=True):
    """A request, ready to be written.

    Attributes:
        head: its head, with a Content-Length where there is a body.
        body: what follows.
        length: of the body, in bytes; None where its pieces tell.
        is_head: whether its method is HEAD.
    """

    head: bytes
    body: Body = b""
    length: int | None = 0
    is_head: bool = False

    def __repr__(self) -> str:
        """Show nothing of what it holds: credentials, and what somebody wrote."""
        return "<Request>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Tell rich, whose tracebacks show locals through this, no more than `repr()` tells."""
        return []


async def dial_within(dial: Dial, limit: float) -> trio.abc.Stream:
    """Open a stream within a time limit. A checkpoint.

    Raises:
        LinkLost: it took too long.
    """
    try:
        with trio.fail_after(limit):
            return await dial()
    except trio.TooSlowError as error:
        raise LinkLost(f"no connection within {limit:g} s") from error


async def send_request(stream: trio.abc.Stream, request: Request) -> bool:
    """Send it all; return False if the other side stopped taking it: its answer may be there. A checkpoint.

    Raises:
        Misstated: the body is not as long as its head says.
        Unanswered: the stream was closed meanwhile.
    """
    if isinstance(request.body, bytes):
        return await _send_all(stream, request.head + request.body)
    head, length, sent = request.head, request.length, 0
    async for piece in request.body:
        sent += len(piece)
        if length is not None and sent > length:
            break
        if not await _send_all(stream, head + piece):
            return False
        head = b""
    if length is not None and sent != length:
        raise Misstated("the request's body is not as long as was said")
    return not head or await _send_all(stream, head)


async def _send_all(stream: trio.abc.Stream, data: bytes) -> bool:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return False  # noqa: ASYNC910  (it has tried to send)
    except trio.ClosedResourceError as error:
        raise broken() from error
    return True  # noqa: ASYNC910  (so it has)


async def receive(stream: trio.abc.Stream) -> bytes:
    """Return what comes next; nothing at the end. A checkpoint; cancelling loses nothing.

    Raises:
        Unanswered: the connection broke.
    """
    try:
        return bytes(await stream.receive_some(PIECE))
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken() from error


def feed(reader: AnswerReader, data: bytes) -> bytes:
    """Let a reader read, or take note of the end, and return what there is of the body.

    Raises:
        Unanswered: it is no answer.
    """
    try:
        if data:
            return reader.feed(data)
        reader.end()
    except BadAnswer as error:
        raise Unanswered(str(error)) from None
    return b""


def check_rest(reader: AnswerReader) -> None:
    """Raise what is wrong behind that which was given.

    Raises:
        Unanswered: nothing more can be read.
    """
    if reader.problem is not None:
        raise Unanswered(str(reader.problem))


def broken() -> Unanswered:
    """Return what is raised where a connection breaks."""
    return Unanswered("the connection broke before the answer was whole")


class Response:
    """An answer whose head has come, and whose body is read as it comes: an iterator over its pieces.

    Attributes:
        status: the HTTP status.
        headers: what stands in its head.
    """

    def __init__(
        self, stream: trio.abc.Stream, reader: AnswerReader, first: bytes, on_bytes: Callable[[int], None]
    ) -> None:
        self.status: Final = reader.status
        self.headers: Final = Headers(reader.raw)
        self._stream: Final = stream
        self._reader: Final = reader
        self._first = first
        self._on_bytes: Final = on_bytes

    def __aiter__(self) -> Self:
        """Return itself: there is one stream of bytes."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece. A checkpoint; cancelling loses nothing.

        Raises:
            StopAsyncIteration: that was all, and none is missing.
            Unanswered: the rest does not come.
        """
        if self._first or self._reader.is_whole:
            await trio.lowlevel.checkpoint()
        piece, self._first = self._first, b""
        while not piece and not self._reader.is_whole:
            check_rest(self._reader)
            data = await receive(self._stream)
            self._on_bytes(len(data))
            piece = feed(self._reader, data)
        if not piece:
            raise StopAsyncIteration
        return piece  # noqa: ASYNC910  (what is not there already was read)


@asynccontextmanager
async def open_response(
    dial: Dial, request: Request, on_bytes: Callable[[int], None]
) -> AsyncGenerator[Response]:
    """Send a request on a connection of its own and give the answer as soon as its head has come.

    Entering is a checkpoint; leaving closes the connection at once. No time limit but for connecting.

    Args:
        dial: opens a stream to the gateway.
        request: what to send.
        on_bytes: told how many bytes have come, whenever some have; 0 at the end of the connection.

    Raises:
        GatewayError: there is no connection, so nothing was sent.
        Unanswered: no answer came.
    """
    stream = await dial_within(dial, DIAL_LIMIT)
    try:
        await send_request(stream, request)
        reader = AnswerReader(to_head=request.is_head)
        first = b""
        while not reader.status:
            data = await receive(stream)
            on_bytes(len(data))
            first = feed(reader, data)
        yield Response(stream, reader, first, on_bytes)
    finally:
        await close_at_once(stream)  # noqa: ASYNC102  (it shields itself)

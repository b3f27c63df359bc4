"""Our connections under an ``httpx.AsyncClient``, for who wants its hooks, its log or its kinds of auth.

httpx's own pool leaks slots when a request is cancelled, and cannot say whether a byte has left.
"""

import math
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final, Self, cast

import httpx
import trio

from ._connections import Connections
from ._dial import Connect, open_stream, parse_url
from ._errors import AnswerError, GatewayError
from ._http import DIAL_LIMIT, Misstated, Request, Unanswered

_MAX_ANSWER: Final = 32 * 1024 * 1024

_USUAL_PORTS: Final = {"http": 80, "https": 443}

#: What a head may hold: its first line, and the others.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIRST: Final = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.1")
_OTHER: Final = re.compile(_TOKEN + rb": *[^\0\r\n]*")


class GatewayTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 to one gateway, for ``http_client=httpx.AsyncClient(transport=GatewayTransport(url))``.

    Connections are kept while they are young and closed after any trouble, cancellation included; each
    answer is read whole. An error that comes before anything can have left is an ``httpx.ConnectError``, a
    ``ConnectTimeout`` or an ``UnsupportedProtocol``, and no other is. Of the time-outs ``connect`` and
    ``write`` mean what they do with httpx, ``read`` is for the whole answer, and nobody waits for ``pool``.

    Args:
        url: the gateway; nothing goes anywhere else. Its path and credentials play no part here: requests
            bring their own.
        ssl_context: for https, to trust an authority of your own.
        connect: opens the byte stream to (host, port), for proxies and Unix sockets; TCP by default.
        max_idle: how many connections are kept between requests.

    Raises:
        ConfigurationError: the URL is none of a gateway.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect: Connect | None = None,
        max_idle: int = 1,
    ) -> None:
        self._address: Final = parse_url(url)
        self._ssl_context: Final = ssl_context
        self._connect: Final = connect or trio.open_tcp_stream
        self._connections: Final = Connections(self._dial, most_idle=max_idle)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer. A checkpoint; cancelling closes the connection.

        Raises:
            httpx.TransportError: there is no answer.
        """
        self._check(request)
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.LocalProtocolError("the body cannot be read asynchronously", request=request)
        limits = request.extensions.get("timeout", {})
        connect, write, read = (_seconds(limits.get(name)) for name in ("connect", "write", "read"))
        head, length = _head(request), _length(request)
        # Closed here and now if it is not read to its end, not whenever the garbage collector comes by.
        async with aclosing(cast("AsyncGenerator[bytes]", aiter(request.stream))) as pieces:
            body = _Body(pieces, trio.CancelScope(), write, read, in_chunks=length is None)
            with body.scope:
                try:
                    answer = await self._connections.exchange(
                        Request(head, body, length, request.method == "HEAD"),
                        max_answer=_MAX_ANSWER,
                        dial_limit=min(connect, DIAL_LIMIT),
                    )
                except (GatewayError, Unanswered) as error:
                    raise _in_httpx_words(error, request) from error
                stream = httpx.ByteStream(answer.body)
                return httpx.Response(
                    answer.status, headers=answer.raw_headers, stream=stream, request=request
                )
        kind = httpx.ReadTimeout if body.is_sent else httpx.WriteTimeout
        raise kind("the gateway took too long", request=request)

    async def aclose(self) -> None:
        """Close what is idle; nothing is sent any more. A checkpoint."""
        await self._connections.aclose()

    async def _dial(self) -> trio.abc.Stream:
        return await open_stream(self._address, self._connect, self._ssl_context)

    def _check(self, request: httpx.Request) -> None:
        url, address = request.url, self._address
        place = url.scheme, url.host, url.port or _USUAL_PORTS.get(url.scheme)
        if place != (address.scheme, address.host, address.port):
            raise httpx.UnsupportedProtocol(f"this transport leads to {address} only", request=request)


class _Body:
    """A request's body: an iterator that knows how far the request has come.

    Args:
        pieces: the body.
        scope: what ends the exchange.
        write: how long writing a piece may take, in seconds.
        read: how long the answer may take, in seconds.
        in_chunks: whether the body's length is not known.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        scope: trio.CancelScope,
        write: float,
        read: float,
        *,
        in_chunks: bool,
    ) -> None:
        self.scope: Final = scope
        self.is_sent = False
        self._pieces: Final = pieces
        self._write: Final = write
        self._read: Final = read
        self._in_chunks = in_chunks

    def __aiter__(self) -> Self:
        """Return itself: there is one stream of bytes."""
        return self

    async def __anext__(self) -> bytes:  # noqa: ASYNC910  (what is there needs no waiting)
        """Return what is to be written next."""
        # Whoever makes the body may take all the time.
        self.scope.deadline = math.inf
        piece = await anext(self._pieces, None)
        if piece is None:
            if not self._in_chunks:
                self.is_sent = True
                self.scope.deadline = trio.current_time() + self._read
                raise StopAsyncIteration
            self._in_chunks = False
        self.scope.deadline = trio.current_time() + self._write
        if piece is None:
            return b"0\r\n\r\n"
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._in_chunks and piece else piece


def _length(request: httpx.Request) -> int | None:
    """Return how long a request says that its body is; None where it comes in chunks.

    Raises:
        httpx.LocalProtocolError: it says two things, or nonsense.
    """
    length, coding = (request.headers.get(name) for name in ("content-length", "transfer-encoding"))
    if coding is not None and length is None and coding.lower() == "chunked":
        return None
    length = length or "0"
    if coding is not None or not (length.isascii() and length.isdigit()):
        raise httpx.LocalProtocolError("it is not clear how long the request's body is", request=request)
    return int(length)


def _head(request: httpx.Request) -> bytes:
    """Write a request's head.

    Raises:
        httpx.LocalProtocolError: it would say something else than it should.
    """
    target: bytes = request.extensions.get("target", request.url.raw_path)
    first = b"%b %b HTTP/1.1" % (request.method.encode("ascii", "replace"), target)
    others = [b"%b: %b" % pair for pair in request.headers.raw]
    if not (_FIRST.fullmatch(first) and all(map(_OTHER.fullmatch, others))):
        raise httpx.LocalProtocolError("a line of the request's head is malformed", request=request)
    return b"\r\n".join([first, *others, b"", b""])


def _seconds(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _in_httpx_words(error: GatewayError | Unanswered, request: httpx.Request) -> httpx.TransportError:
    kind: type[httpx.TransportError] = httpx.ConnectError
    if isinstance(error, Misstated):
        kind = httpx.LocalProtocolError
    elif isinstance(error, Unanswered):
        # What ended in disorder has a cause.
        kind = httpx.RemoteProtocolError if error.__cause__ is None else httpx.ReadError
    elif isinstance(error, AnswerError):
        kind = httpx.ReadError
    elif isinstance(error.__cause__, trio.TooSlowError):
        kind = httpx.ConnectTimeout
    return kind(str(error), request=request)

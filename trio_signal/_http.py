"""HTTP/1.1 for sends and look-ups: httpx's face over a stream of ours.

httpx's own pool leaks slots when a request is cancelled, cannot say whether a byte
has left, and reuses connections in ways that nobody can time. A sender that has one
request in flight and must know what became of it needs less: one connection, kept
while it is young, thrown away after any trouble.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, contextmanager
from typing import Final, cast

import h11
import httpx
import trio

#: An idle connection older than this is not reused, in seconds: signal-cli's daemon closes its own after 30
#: (measured on 0.13.19), proxies theirs after 60 to 180, and a request that crosses such an end on its way is
#: lost and ends as "unknown".
_KEEP_IDLE: Final = 20.0

#: How long connecting may take, TLS included, in seconds. A limit of its own, because what ends before there
#: is a connection has certainly not been sent.
_DIAL_LIMIT: Final = 20.0

_PIECE: Final = 64 * 1024


class StreamTransport(httpx.AsyncBaseTransport):
    """One kept-alive HTTP/1.1 connection (more only while requests overlap).

    An error before the first byte of a request may have left is an
    :class:`httpx.ConnectError`; any later one is not.

    Args:
        dial: opens a stream to the gateway.
        base_path: put before the path of each request; kept out of the URLs that httpx logs.
        max_answer: the most bytes of an answer's body that are read.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[trio.abc.Stream]],
        *,
        base_path: str = "",
        max_answer: int = 1024 * 1024,
    ) -> None:
        self._dial = dial
        self._base_path = base_path.encode()
        self._max_answer = max_answer
        self._idle: _Connection | None = None
        self._generation = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer. A checkpoint; cancelling closes the connection."""
        generation = self._generation
        connection = await self._connection(request)
        reusable = False
        try:
            response = await connection.exchange(request, self._base_path, self._max_answer)
            reusable = connection.is_reusable and self._idle is None and generation == self._generation
        finally:
            if not reusable:
                await trio.aclose_forcefully(connection.stream)
        if reusable:
            connection.idle_since = trio.current_time()
            self._idle = connection
        return response

    async def renew(self) -> None:
        """Reuse no connection made before now; a request under way goes on. A checkpoint."""
        self._generation += 1
        idle, self._idle = self._idle, None
        if idle is not None:
            await trio.aclose_forcefully(idle.stream)
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the idle connection. A checkpoint."""
        await self.renew()

    async def _connection(self, request: httpx.Request) -> "_Connection":
        await trio.lowlevel.checkpoint_if_cancelled()
        idle, self._idle = self._idle, None
        if idle is not None and idle.is_fresh():
            return idle
        if idle is not None:
            await trio.aclose_forcefully(idle.stream)
        return await _dialled(self._dial, request)


class LiveTransport(httpx.AsyncBaseTransport):
    """A connection for each request, whose response is given at once and read as it comes.

    Args:
        dial: opens a stream to the gateway.
        base_path: put before the path of each request; kept out of the URLs that httpx logs.
        on_bytes: told how many bytes have come, whenever some have.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[trio.abc.Stream]],
        *,
        base_path: str,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._dial = dial
        self._base_path = base_path.encode()
        self._on_bytes = on_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the response's head. A checkpoint; cancelling closes the connection."""
        connection = await _dialled(self._dial, request, self._on_bytes)
        answered = False
        try:
            with _in_httpx_words(request):
                await connection.send(request, self._base_path)
                head = await connection.head(request)
            answered = True
        finally:
            if not answered:
                await trio.aclose_forcefully(connection.stream)
        return httpx.Response(
            head.status_code, headers=_pairs(head), stream=_Live(connection, request), request=request
        )


async def _dialled(
    dial: Callable[[], Awaitable[trio.abc.Stream]],
    request: httpx.Request,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> "_Connection":
    """Open a connection for a request, within its time limit for that. A checkpoint.

    Raises:
        httpx.ConnectError: it failed, so that nothing has been sent.
        httpx.ConnectTimeout: it took too long.
    """
    wanted = request.extensions.get("timeout", {}).get("connect")
    limit = _DIAL_LIMIT if wanted is None else min(wanted, _DIAL_LIMIT)
    try:
        with trio.move_on_after(limit):
            return _Connection(await dial(), on_bytes)
    except Exception as error:
        raise httpx.ConnectError(str(error)) from error
    raise httpx.ConnectTimeout(f"no connection within {limit:g} s")


@contextmanager
def _in_httpx_words(request: httpx.Request) -> Generator[None]:
    """Turn the errors of h11 and Trio into httpx's."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(_without_data(error), request=request) from None
    except h11.RemoteProtocolError as error:
        raise httpx.RemoteProtocolError(_without_data(error), request=request) from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise httpx.ReadError("the connection broke before the answer was whole", request=request) from error


def _without_data(error: h11.ProtocolError) -> str:
    """Return h11's words without the data that it quotes behind a colon: messages belong in no log."""
    return str(error).partition(":")[0]


def _pairs(head: h11.Response) -> list[tuple[bytes, bytes]]:
    # As they were spelled: that tells one server from another.
    return [(bytes(name), bytes(value)) for name, value in head.headers.raw_items()]


class _Connection:
    """One HTTP/1.1 connection, one request after another."""

    def __init__(self, stream: trio.abc.Stream, on_bytes: Callable[[int], None]) -> None:
        self.stream: Final = stream
        self._on_bytes: Final = on_bytes
        self.idle_since = trio.current_time()
        self._h11 = h11.Connection(h11.CLIENT)

    @property
    def is_reusable(self) -> bool:
        """Whether both sides are ready for another request."""
        return self._h11.our_state is h11.IDLE and self._h11.their_state is h11.IDLE

    def is_fresh(self) -> bool:
        """Say whether an idle connection may be used again: young, and nothing has come on it since."""
        if trio.current_time() - self.idle_since > _KEEP_IDLE:
            return False
        transport: object = self.stream
        if isinstance(transport, trio.SSLStream):
            transport = cast("trio.SSLStream[trio.abc.Stream]", transport).transport_stream
        # What is readable on an idle connection is its end.
        return not (isinstance(transport, trio.SocketStream) and transport.socket.is_readable())

    async def exchange(self, request: httpx.Request, base_path: bytes, max_answer: int) -> httpx.Response:
        with _in_httpx_words(request):
            taken = await self.send(request, base_path)
            return await self._whole(request, max_answer, may_go_on=taken)

    async def send(self, request: httpx.Request, base_path: bytes) -> bool:
        """Send it all; return False if the other side stopped taking it: its answer may be there."""
        target: bytes = base_path + request.extensions.get("target", request.url.raw_path)
        head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
        first = self._h11.send(head)
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.LocalProtocolError(
                "the request's body cannot be read asynchronously", request=request
            )
        try:
            # Closed here and now if it is not read to its end, not whenever the garbage collector comes by.
            async with aclosing(cast("AsyncGenerator[bytes]", aiter(request.stream))) as pieces:
                async for piece in pieces:
                    await self.stream.send_all(first + self._h11.send(h11.Data(data=piece)))
                    first = b""
            if rest := first + self._h11.send(h11.EndOfMessage()):
                await self.stream.send_all(rest)
        except trio.BrokenResourceError:
            return False  # noqa: ASYNC910  (as below)
        return True  # noqa: ASYNC910  (it has sent at least a head)

    async def head(self, request: httpx.Request) -> h11.Response:
        """Read the response's head. A checkpoint."""
        while True:  # noqa: ASYNC913  (next_event is one if it must read; a head is never there already)
            event = await self.next_event(request, "the gateway ended the connection without an answer")
            if isinstance(event, h11.Response):
                return event

    async def next_event(self, request: httpx.Request, ended: str | None = None) -> h11.Event:
        """Read on until something has come. A checkpoint only if nothing is there.

        Raises:
            httpx.RemoteProtocolError: the connection ended, in these words if there are some.
            h11.RemoteProtocolError: the other side broke the protocol, or the connection ended.
        """
        while True:  # noqa: ASYNC913  (as said)
            event = self._h11.next_event()
            if isinstance(event, h11.Event):
                return event  # noqa: ASYNC910
            data = bytes(await self.stream.receive_some(_PIECE))
            self._on_bytes(len(data))
            if not data and ended is not None:
                raise httpx.RemoteProtocolError(ended, request=request)
            self._h11.receive_data(data)

    async def _whole(self, request: httpx.Request, max_answer: int, *, may_go_on: bool) -> httpx.Response:
        head = await self.head(request)
        body = bytearray()
        while isinstance(event := await self.next_event(request), h11.Data):
            body += event.data
            if len(body) > max_answer:
                raise httpx.ReadError(f"the answer is over {max_answer} bytes", request=request)
        done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        # Bytes behind the answer would be taken for the next one.
        if may_go_on and done and self._h11.trailing_data == (b"", False):
            self._h11.start_next_cycle()
        return httpx.Response(
            head.status_code, headers=_pairs(head), stream=_Whole(bytes(body)), request=request
        )


class _Live(httpx.AsyncByteStream):
    """A body that is read as it comes; closing it closes the connection."""

    def __init__(self, connection: _Connection, request: httpx.Request) -> None:
        self._connection = connection
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC900, ASYNC911  (httpx asks for it)
        await trio.lowlevel.checkpoint()
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)  # noqa: ASYNC911  (what is there already needs no waiting)

    async def _next(self) -> h11.Event:
        await trio.lowlevel.checkpoint_if_cancelled()
        with _in_httpx_words(self._request):
            return await self._connection.next_event(self._request)  # noqa: ASYNC910  (one if it must read)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._connection.stream)


class _Whole(httpx.AsyncByteStream):
    """A body that has been read already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC900, ASYNC911  (httpx asks for it)
        await trio.lowlevel.checkpoint()
        yield self._body


#: How httpx and its successor name the errors that come before a byte of the request can have left.
_BEFORE_ANYTHING_LEFT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
)


def nothing_has_left(error: Exception) -> bool:
    """Say whether an HTTP client's error proves that the gateway got nothing.

    By name, so that it holds for any client of httpx's shape.
    """
    return any(kind.__name__ in _BEFORE_ANYTHING_LEFT for kind in type(error).__mro__)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read a Retry-After header given in seconds; a date or nonsense counts as none."""
    value = headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None

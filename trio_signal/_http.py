"""HTTP/1.1 for sends and look-ups: httpx's face over a stream of ours.

httpx's own pool leaks slots when a request is cancelled, cannot say whether a byte
has left, and reuses connections in ways that nobody can time. A sender that has one
request in flight and must know what became of it needs less: one connection, kept
while it is young, thrown away after any trouble.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final, cast

import h11
import httpx
import trio

#: An idle connection older than this is not reused, in seconds: proxies close theirs after 60 to 180, and a
#: request that crosses such an end on its way is lost and ends as "unknown".
_KEEP_IDLE: Final = 30.0

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
        connection = await self._connection()
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

    async def _connection(self) -> "_Connection":
        await trio.lowlevel.checkpoint_if_cancelled()
        idle, self._idle = self._idle, None
        if idle is not None and idle.is_fresh():
            return idle
        if idle is not None:
            await trio.aclose_forcefully(idle.stream)
        try:
            with trio.move_on_after(_DIAL_LIMIT):
                return _Connection(await self._dial())
        except Exception as error:
            raise httpx.ConnectError(str(error)) from error
        raise httpx.ConnectTimeout(f"no connection within {_DIAL_LIMIT:g} s")


class _Connection:
    """One HTTP/1.1 connection, one request after another."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream: Final = stream
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
        try:
            taken = await self._send(request, base_path)
            return await self._receive(request, max_answer, may_go_on=taken)
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error), request=request) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(
                "the connection broke before the answer was whole", request=request
            ) from error

    async def _send(self, request: httpx.Request, base_path: bytes) -> bool:
        """Send it all; return False if the other side stopped taking it: its answer may be there."""
        target = base_path + request.url.raw_path
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

    async def _receive(self, request: httpx.Request, max_answer: int, *, may_go_on: bool) -> httpx.Response:
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                data = bytes(await self.stream.receive_some(_PIECE))
                if not data and response is None:
                    raise httpx.RemoteProtocolError(
                        "the gateway ended the connection without an answer", request=request
                    )
                self._h11.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > max_answer:
                    raise httpx.ReadError(f"the answer is over {max_answer} bytes", request=request)
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                break
        done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        # Bytes behind the answer would be taken for the next one.
        if may_go_on and done and self._h11.trailing_data == (b"", False):
            self._h11.start_next_cycle()
        headers = [(bytes(name), bytes(value)) for name, value in response.headers]
        return httpx.Response(  # noqa: ASYNC910  (it has received at least a head)
            response.status_code, headers=headers, stream=_Whole(bytes(body)), request=request
        )


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

"""One HTTP/1.1 connection of the hub's: requests in, answers out, read by h11 and bounded in every direction.

What one peer can cost, whatever it sends or leaves out (the defaults):

================================================  =============================================
says nothing after connecting                     closed after 10 s
says nothing between two requests                 closed after 60 s
a request's head, byte by byte or without an end  16 KiB, 100 lines and 10 s from its first byte
a request's body, slower than 16 KiB a second     10 s plus what that rate earned, and what
                                                  the route allows in all
does not take our answer                          30 s after the last 64 KiB it took; the same
                                                  30 s plus 1 s for each 16 KiB in all
does not close after our last answer              2 s of silence, 5 s in all
================================================  =============================================

The head is cut off the stream here, so that its very bytes can be replayed to whoever
takes over an upgraded connection. h11 parses it and frames the body. Answers are ours and
have a length, so their heads are put together without its help, which is ten times as fast.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import h11
import trio

from ._exchange import (
    MOST_TARGET,
    Answer,
    HttpError,
    Request,
    Stream,
    StreamBroken,
    check_head,
    problem,
    read_head,
    render_head,
)
from ._pace import LEAST_RATE, PIECE, Pace, chunk, packed

__all__ = ["Answer", "HttpConnection", "HttpError", "Request", "problem"]

#: Seconds that a body may take beyond what the least rate earns it.
_BODY_START: Final = 10.0

#: Seconds for which a peer that was told to close may go on talking, and may be silent.
_LINGER: Final = 5.0
_LINGER_SILENCE: Final = 2.0

#: Bytes kept of the requests that a peer sends ahead while we work on its first.
_MOST_AHEAD: Final = 64 * 1024

_HEAD_END: Final = re.compile(rb"\n\r?\n")

_WORDS: Final = {501: "of the transfer codings only chunked is understood"}


class HttpConnection:
    """The server's side of one connection. One task uses it; :meth:`wait_hung_up` may run beside the work.

    It never closes the stream; that is its owner's duty.

    Args:
        stream: the connection, TLS included.
        head_limit: the most bytes of a request's head.
        head_timeout: seconds for a head from its first byte, and for the first byte after connecting.
        idle_timeout: seconds between two requests.
        answer_timeout: seconds that the peer may refuse to take any of an answer.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        head_limit: int = 16 * 1024,
        head_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        answer_timeout: float = 30.0,
    ) -> None:
        self._stream: Final = stream
        self._head_limit: Final = head_limit
        self._head_timeout: Final = head_timeout
        self._idle_timeout: Final = idle_timeout
        self._answer_timeout: Final = answer_timeout
        self._patience = min(head_timeout, idle_timeout)
        self._buffer = bytearray()
        # A new one for each request: what came of the next must stay out of it until that head is whole.
        self._h11 = h11.Connection(h11.SERVER)
        self._length = 0
        # Until a request has come whole, and says otherwise, the connection ends with its answer.
        self._is_head = self._is_http_11 = self._stays = self._whole = False
        # After that nothing is written any more, until the next request has come.
        self._answered = False
        # Whether the peer has an answer of ours to read before the stream is closed.
        self._told = False

    async def next_request(self) -> Request | None:
        """Read the head of the next request; None if the peer has closed or stays idle.

        A checkpoint. Cancelling is safe: what has come of the head is kept.

        Raises:
            HttpError: it is no request that anybody may answer otherwise (400, 408, 414, 431, 501, 505).
                Send the answer; it ends the connection.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._h11 = h11.Connection(h11.SERVER)
        self._is_head = self._is_http_11 = self._stays = self._whole = False
        self._answered = self._told = False
        if self._buffer:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif not await self._starts():
            return None
        try:
            head = await self._read_head(trio.current_time() + self._head_timeout)
        except trio.TooSlowError:
            raise HttpError(408, f"the request's head did not come within {self._head_timeout:g} s") from None
        self._patience = self._idle_timeout
        return self._parse(head)

    async def read_body(
        self,
        limit: int,
        *,
        timeout: float,
        take: Callable[[int], None] = lambda _: None,
    ) -> bytes:
        """Read the body of the request. A checkpoint; cancelled, the connection is of no more use.

        Args:
            limit: the most bytes.
            timeout: seconds for all of it; a peer far slower than 16 KiB a second is cut off earlier.
            take: told how many bytes have come each time, before they are kept; raises :exc:`HttpError` to
                take no more.

        Raises:
            HttpError: it is too large (413), too slow (408) or not framed as HTTP (400).
                Send the answer; it ends the connection.
        """
        if self._whole:
            await trio.lowlevel.checkpoint()
            return b""
        if self._length > limit:
            raise _too_large(limit)
        if self._h11.they_are_waiting_for_100_continue and not self._buffer:
            await self._write([b"HTTP/1.1 100 Continue\r\n\r\n"])
        body, start = bytearray(), trio.current_time()
        while isinstance(event := self._next_event(), h11.Data) or event is h11.NEED_DATA:
            if isinstance(event, h11.Data):
                if len(body) + len(event.data) > limit:
                    raise _too_large(limit)
                take(len(event.data))
                body += event.data
                # A body of thousands of tiny chunks must not hold up everybody else.
                await trio.lowlevel.checkpoint()
            else:
                await self._feed(start + min(timeout, _BODY_START + len(body) / LEAST_RATE))
        self._whole = True
        self._buffer[:0] = self._h11.trailing_data[0]
        return bytes(body)  # noqa: ASYNC910  (it has fed at least once)

    async def send(self, answer: Answer, *, close: bool = False) -> bool:
        """Send the answer to the request; return whether the connection may go on.

        A checkpoint; cancelled, the connection is of no more use. It ends when the peer
        asked for it, when the request was refused or its body not read, or when the peer is
        gone or does not take the answer in time: :meth:`linger` then before closing the stream.

        Args:
            answer: what to send; the body is left out after HEAD.
            close: end the connection in any case.
        """
        if self._answered:
            await trio.lowlevel.checkpoint()
            return False
        self._answered = True
        stays = self._stays and self._whole and not close
        if isinstance(answer.body, Stream) and answer.body.size is None and not self._is_http_11:
            # The end of the connection would be the only sign of the end, and is one of trouble too.
            answer = problem(505, "what has no known length is sent to HTTP/1.1 only")
        if isinstance(answer.body, Stream):
            self._told = await self._send_stream(answer, answer.body, close=not stays)
            return stays and self._told
        pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
        head = render_head(answer, sum(map(len, pieces)), close=not stays)
        self._told = await self._write([head] if self._is_head else packed(head, pieces))
        return stays and self._told

    async def _send_stream(self, answer: Answer, stream: Stream, *, close: bool) -> bool:
        """Send an answer whose body comes bit by bit; return False if not all of it went. A checkpoint."""
        pace, left = Pace(self._answer_timeout), stream.size
        told = await self._write([render_head(answer, left, close=close)], pace)
        if self._is_head or not told:
            return told
        try:
            async for piece in stream.pieces:
                left = None if left is None else left - len(piece)
                if left is not None and left < 0:
                    return False
                framed = chunk(piece) if left is None else [piece]
                if not await self._write(packed(b"", framed), pace):
                    return False
        except StreamBroken:
            # The peer notices: what it gets is short of its length, or lacks the last chunk.
            return False
        return left == 0 or (left is None and await self._write([b"0\r\n\r\n"], pace))

    async def wait_hung_up(self) -> None:
        """Wait until the peer has closed its side, for use beside the work on its request.

        A checkpoint. Cancelling is safe: what the peer sends ahead is kept for the next
        request. One that sends 64 KiB ahead is not listened to any longer.
        """
        while len(self._buffer) < _MOST_AHEAD:
            if not await self._more():
                return
        await trio.sleep_forever()

    def leftover(self) -> bytes:
        """Return what has come behind the head, for whoever takes the stream over after an upgrade."""
        return bytes(self._buffer)

    async def _more(self) -> bool:
        """Receive once into the buffer; return False at the connection's end. A checkpoint."""
        data = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            data = bytes(await self._stream.receive_some(PIECE))
        self._buffer += data
        return bool(data)  # noqa: ASYNC910  (receiving is one)

    async def _starts(self) -> bool:
        """Wait for the first byte of a request."""
        with trio.move_on_after(self._patience):
            return await self._more()
        return False

    async def _read_head(self, deadline: float) -> bytes:
        searched = 0
        while (end := _HEAD_END.search(self._buffer, max(0, searched - 2))) is None:
            if not 0x20 < self._buffer[0] < 0x7F:
                raise HttpError(400, "this is not HTTP")
            searched = len(self._buffer)
            self._check_head_size(searched)
            with trio.fail_at(deadline):
                if not await self._more():
                    raise HttpError(400, "the connection ended within the request's head")
        self._check_head_size(end.end())
        head = bytes(self._buffer[: end.end()])
        del self._buffer[: len(head)]
        return head  # noqa: ASYNC910  (next_request() has passed one)

    def _check_head_size(self, size: int) -> None:
        if size <= self._head_limit:
            return
        if b"\n" not in self._buffer[: self._head_limit]:
            raise HttpError(414, f"the target is over {MOST_TARGET} bytes")
        raise HttpError(431, f"the request's head is over {self._head_limit} bytes")

    def _parse(self, head: bytes) -> Request:
        check_head(head)
        self._h11.receive_data(head)
        event = self._next_event()
        if not isinstance(event, h11.Request):
            raise HttpError(400, "this is not HTTP")
        request = read_head(event, head)
        self._is_head, self._is_http_11 = request.method == "HEAD", request.http_11
        self._stays = request.keeps_alive
        self._length = int(request.headers.get("content-length", "0"))
        self._whole = isinstance(self._next_event(), h11.EndOfMessage)
        if request.is_upgrade and not self._whole:
            raise HttpError(400, "a request for a WebSocket has no body")
        return request

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            # Not in h11's words: they quote the request, secrets included.
            status = error.error_status_hint
            raise HttpError(status, _WORDS.get(status, "the request is not valid HTTP/1.1")) from None

    async def _feed(self, deadline: float) -> None:
        """Give h11 more of the body. A checkpoint."""
        if self._buffer:
            await trio.lowlevel.checkpoint()
        else:
            try:
                with trio.fail_at(deadline):
                    await self._more()
            except trio.TooSlowError:
                raise HttpError(408, "the request's body came too slowly") from None
        # Empty at the connection's end, which is what h11 takes for it.
        self._h11.receive_data(bytes(self._buffer))
        self._buffer.clear()

    async def _write(self, pieces: Iterable[bytes], pace: Pace | None = None) -> bool:
        """Send it all, unless the peer is gone or takes it too slowly. A checkpoint."""
        pace = pace or Pace(self._answer_timeout)
        try:
            for piece in pieces:
                begun = trio.current_time()
                with trio.fail_after(pace.limit()):
                    await self._stream.send_all(piece)
                pace.note(len(piece), trio.current_time() - begun)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._answered = True
            return False  # noqa: ASYNC910  (each write is one)
        return True  # noqa: ASYNC910

    async def linger(self) -> None:
        """Let the peer read our last answer: closing with its bytes unread would reset the connection.

        A checkpoint. Takes no time where the peer is gone, or did not take the answer.
        """
        await trio.lowlevel.checkpoint()
        if not self._told:
            return
        with (
            trio.move_on_after(_LINGER),  # noqa: ASYNC912  (without a cancel point it has nothing to wait for)
            suppress(trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            more = True
            while more:
                with trio.fail_after(_LINGER_SILENCE):
                    more = bool(await self._stream.receive_some(PIECE))


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the request's body is over {limit} bytes")

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

What a peer takes of an answer at once has no time limit and needs no turn of the scheduler; only the rest
waits as any stream does.
"""

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

import trio

from ._direct import Direct
from ._exchange import Answer, Fields, HttpError, Request, Stream, StreamBroken, problem, render_head
from ._fairness import Turnstile
from ._framing import Chunked, Counted
from ._pace import LEAST_RATE, PIECE, Pace, chunk, packed
from ._request_head import MOST_TARGET, read_head

__all__ = ["Answer", "HttpConnection", "HttpError", "Request", "problem"]

#: Seconds that a body may take beyond what the least rate earns it.
_BODY_START: Final = 10.0

#: Seconds for which a peer that was told to close may go on talking, and may be silent.
_LINGER: Final = 5.0
_LINGER_SILENCE: Final = 2.0

#: The most bytes of a request's fields that are kept for the next one.
_MOST_KNOWN: Final = 1024

#: Bytes kept of the requests that a peer sends ahead while we work on its first.
_MOST_AHEAD: Final = 64 * 1024

_HEAD_END: Final = re.compile(rb"\n\r?\n")


class Watched(Protocol):
    """What somebody ends once Trio's clock shows that it is due, or when it is wanted for nothing.

    Attributes:
        due: when; infinite while nothing is waited for.
        is_at_work: whether a request has come that is not answered.
    """

    due: float
    is_at_work: bool


class HttpConnection:
    """The server's side of one connection. One task uses it; :meth:`wait_hung_up` may run beside the work.

    It never closes the stream; that is its owner's duty.

    Args:
        stream: the connection, TLS included.
        watched: told when the peer must have said something, for somebody who ends the connection then; by
            default each wait has a time limit of its own, which costs more.
        turnstile: what each request, and each further piece of a long answer, passes through; by default
            they have no turns.
        head_limit: the most bytes of a request's head.
        head_timeout: seconds for a head from its first byte, and for the first byte after connecting.
        idle_timeout: seconds between two requests.
        answer_timeout: seconds that the peer may refuse to take any of an answer.
    """

    # It lasts as long as the connection, of which there may be thousands.
    __slots__ = (
        *("_answer_timeout", "_answered", "_body", "_buffer", "_direct", "_head_limit", "_head_timeout"),
        *("_idle_timeout", "_is_head", "_is_http_11", "_known", "_length", "_patience", "_stays", "_stream"),
        *("_told", "_turnstile", "_waits_for_100", "_watched", "_whole"),
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        watched: Watched | None = None,
        turnstile: Turnstile | None = None,
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
        self._watched: Final = watched
        self._turnstile: Final = turnstile
        self._direct: Final = Direct(stream)
        self._buffer = bytearray()
        # Clients send the same ones again and again.
        self._known: Fields | None = None
        self._body: Counted | Chunked = Counted(0)
        self._length = 0
        # Until a request has come whole, and says otherwise, the connection ends with its answer.
        self._is_head = self._is_http_11 = self._stays = self._whole = self._waits_for_100 = False
        # After that nothing is written any more, until the next request has come.
        self._answered = False
        # Whether the peer has an answer of ours to read before the stream is closed.
        self._told = False

    async def next_request(self) -> Request | None:
        """Read the head of the next request; None if the peer has closed, or stays idle and is not watched.

        A checkpoint. Cancelled, a request may be lost that has come: end the connection.

        Raises:
            HttpError: it is no request that anybody may answer otherwise (400, 408, 414, 431, 501, 505).
                Send the answer; it ends the connection.
        """
        self._is_head = self._is_http_11 = self._stays = self._whole = False
        self._answered = self._told = False
        self._note_work(is_at_work=False)
        head = b""
        if self._buffer:
            await trio.lowlevel.checkpoint()
        else:
            data = await self._first()
            if not data:
                return None
            end = _HEAD_END.search(data)
            # Most requests come in one piece, and have nothing behind their head.
            if end is not None and end.end() == len(data) <= self._head_limit:
                head = bytes(data)
            else:
                self._buffer += data
        if not head:
            head = await self._read_head()
        self._patience = self._idle_timeout
        self._note_work(is_at_work=True)
        if self._turnstile is not None and not self._turnstile.passes():
            await self._turnstile.wait()
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
        await trio.lowlevel.checkpoint()
        if self._whole:
            return b""
        if self._length > limit:
            raise _too_large(limit)
        if self._waits_for_100 and not self._buffer:
            await self._write([b"HTTP/1.1 100 Continue\r\n\r\n"])
        body, start = bytearray(), trio.current_time()
        while not self._body.is_whole:
            if piece := self._body.take(self._buffer):
                if len(body) + len(piece) > limit:
                    raise _too_large(limit)
                take(len(piece))
                body += piece
                # A body of thousands of tiny chunks must not hold up everybody else.
                await trio.lowlevel.checkpoint()
            elif not self._body.is_whole:
                deadline = start + min(timeout, _BODY_START + len(body) / LEAST_RATE)
                await self._wait_more(deadline, "body", "came too slowly")
        self._whole = True
        return bytes(body)

    async def send(self, answer: Answer, *, close: bool = False) -> bool:
        """Send the answer to the request; return whether the connection may go on.

        A checkpoint, unless the peer takes a short answer at once; reading the request was one then.
        Cancelled, the connection is of no more use. It ends when the peer asked for it, when the
        request was refused or its body not read, or when the peer is gone or does not take the
        answer in time: :meth:`linger` then before closing the stream.

        Args:
            answer: what to send; the body is left out after HEAD.
            close: end the connection in any case.
        """
        if self._answered:
            await trio.lowlevel.checkpoint()
            return False
        self._answered = True
        stays = self._stays and self._whole and not close
        if answer.wire and stays and not self._is_head:
            if len(answer.wire) > 1:
                self._told = await self._write(answer.wire)
            else:
                [whole] = answer.wire
                taken = self._write_now(whole)
                self._told = taken == len(whole) or await self._write([whole[taken:]])
            return self._told  # noqa: ASYNC910
        if isinstance(answer.body, Stream) and answer.body.size is None and not self._is_http_11:
            # The end of the connection would be the only sign of the end, and is one of trouble too.
            answer = problem(505, "what has no known length is sent to HTTP/1.1 only")
        if isinstance(answer.body, Stream):
            self._told = await self._send_stream(answer, answer.body, close=not stays)
            return stays and self._told
        pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
        size = sum(map(len, pieces))
        head = render_head(answer, size, close=not stays)
        if self._is_head or size <= PIECE:
            whole = head if self._is_head else b"".join((head, *pieces))
            # Most answers go in one step, and most of what sending may need is for the others.
            taken = self._write_now(whole)
            self._told = taken == len(whole) or await self._write([whole[taken:]])
        else:
            self._told = await self._write(packed(head, pieces))
        return stays and self._told  # noqa: ASYNC910

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

    async def _first(self) -> bytes | bytearray:
        """Wait for the first bytes of a request; return none if none come. A checkpoint."""
        due = trio.current_time() + self._patience
        if self._watched is None:
            with trio.CancelScope(deadline=due):
                return await self._direct.read(PIECE)
            return b""
        self._watched.due = due
        data = await self._direct.read(PIECE)
        self._watched.due = math.inf
        return data

    async def _more(self) -> bool:
        """Receive once into the buffer; return False at the connection's end. A checkpoint."""
        data = await self._direct.read(PIECE)
        self._buffer += data
        return bool(data)

    async def _read_head(self) -> bytes:
        """Take the head off what has come, once it is whole. A checkpoint only where it has to wait."""
        searched, deadline = 0, None
        while (end := _HEAD_END.search(self._buffer, max(0, searched - 2))) is None:
            if not 0x20 < self._buffer[0] < 0x7F:
                raise HttpError(400, "this is not HTTP")
            searched = len(self._buffer)
            self._check_head_size(searched)
            deadline = deadline or trio.current_time() + self._head_timeout
            await self._wait_more(deadline, "head", f"did not come within {self._head_timeout:g} s")
        size = end.end()
        self._check_head_size(size)
        head = bytes(self._buffer[:size])
        del self._buffer[:size]
        return head  # noqa: ASYNC910

    def _check_head_size(self, size: int) -> None:
        if size <= self._head_limit:
            return
        if b"\n" not in self._buffer[: self._head_limit]:
            raise HttpError(414, f"the target is over {MOST_TARGET} bytes")
        raise HttpError(431, f"the request's head is over {self._head_limit} bytes")

    def _parse(self, head: bytes) -> Request:
        request = read_head(head, self._known)
        headers, fields = request.headers, request.fields
        if len(fields.raw) <= _MOST_KNOWN:
            self._known = fields
        self._is_head, self._is_http_11 = request.method == "HEAD", fields.http_11
        self._stays = fields.keeps_alive
        self._length = int(headers.get("content-length", "0"))
        is_chunked = "transfer-encoding" in headers
        self._whole = not (self._length or is_chunked)
        if self._whole:
            return request
        if request.is_upgrade:
            raise HttpError(400, "a request for a WebSocket has no body")
        self._body = Chunked() if is_chunked else Counted(self._length)
        self._waits_for_100 = request.waits_to_send
        return request

    async def _wait_more(self, deadline: float, part: str, slowly: str) -> None:
        """Receive more of a part of the request. A checkpoint.

        Raises:
            HttpError: it came too slowly (408), or the connection ended (400).
        """
        with trio.move_on_at(deadline):
            if await self._more():
                return
            raise HttpError(400, f"the connection ended within the request's {part}")
        raise HttpError(408, f"the request's {part} {slowly}")

    async def _write(self, pieces: Iterable[bytes], pace: Pace | None = None) -> bool:
        """Send it all, unless the peer is gone or takes it too slowly.

        A checkpoint, unless the peer takes a single piece at once. But then reading its request was one.
        """
        pace = pace or Pace(self._answer_timeout)
        is_first = True
        for piece in pieces:
            if not is_first:
                # A long answer to one must not hold up everybody else.
                await trio.lowlevel.checkpoint()
                if self._turnstile is not None and not self._turnstile.passes():
                    await self._turnstile.wait()
            is_first = False
            taken = self._write_now(piece)
            pace.note(taken, 0.0)
            if taken < len(piece) and not await self._write_rest(piece[taken:], pace):
                self._answered = True
                return False  # noqa: ASYNC910
        return True  # noqa: ASYNC910

    def _note_work(self, *, is_at_work: bool) -> None:
        if self._watched is not None:
            self._watched.is_at_work = is_at_work

    def _write_now(self, data: bytes) -> int:
        """Write what goes at once, and return how much that was."""
        if self._turnstile is not None:
            self._turnstile.count(len(data))
        return self._direct.write(data)

    async def _write_rest(self, data: bytes, pace: Pace) -> bool:
        """Send it, unless the peer is gone or takes it too slowly. A checkpoint."""
        begun = trio.current_time()
        try:
            with trio.fail_after(pace.limit()):
                await self._stream.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            return False  # noqa: ASYNC910
        pace.note(len(data), trio.current_time() - begun)
        return True

    async def linger(self) -> None:
        """Let the peer read our last answer: closing with its bytes unread would reset the connection.

        A checkpoint. Takes no time where the peer is gone, or did not take the answer.
        """
        self._note_work(is_at_work=False)
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

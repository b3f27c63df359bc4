"""HTTP/1.1 over streams of ours: one exchange after another on connections that are kept while young.

A sender that must know what became of its request, and may not lose a connection to a cancellation, needs
little: write, read one answer, keep the connection or throw it away after any trouble.
"""

import os
import select
import sys
from contextlib import suppress
from typing import Final, cast

import msgspec
import trio

from ._clock import bound_clock
from ._closing import close_at_once
from ._errors import AnswerError, LinkLost
from ._http import (
    DIAL_LIMIT,
    PIECE,
    Dial,
    Request,
    broken,
    check_rest,
    dial_within,
    feed,
    receive,
    send_request,
)
from ._http_answers import AnswerReader, KnownHead

#: An idle connection older than this is not reused, in seconds: signal-cli's daemon closes its own after 30
#: (measured on 0.13.19), proxies theirs after 60 to 180, and a request that crosses such an end on its way is
#: lost and ends as "unknown".
_KEEP_IDLE: Final = 20.0

#: So many turns of the scheduler a stream gets to say that something has come, where nothing shows it.
#: One in memory takes up to three; one that takes more, as with TLS in TLS over it, is taken for silent.
_TURNS: Final = 4

#: Whether a socket's descriptor is one of a file's too.
_IS_FILE: Final = sys.platform != "win32"


class Answer(msgspec.Struct, frozen=True):
    """An answer that has been read to its end.

    Attributes:
        status: the HTTP status.
        body: its body, whole.
        wait: for how long nobody is to ask again, in seconds, if it says so and did not go well.
        raw_headers: names and values as they came; none from an HTTP client of the caller's.
    """

    status: int
    body: bytes
    wait: float | None
    raw_headers: list[tuple[bytes, bytes]] = []


class Connections:
    """HTTP/1.1 connections to one place, for one request at a time each.

    Args:
        dial: opens a stream to the gateway; raises a :class:`GatewayError`.
        most_idle: how many connections are kept between requests.
    """

    def __init__(self, dial: Dial, *, most_idle: int = 1) -> None:
        self._dial: Final = dial
        self._most_idle: Final = most_idle
        #: The one that was used last is used next, so that the others grow old.
        self._idle: Final[list[_Connection]] = []
        self._generation = 0
        self._is_closed = False

    async def exchange(self, request: Request, *, max_answer: int, dial_limit: float = DIAL_LIMIT) -> Answer:
        """Send a request and read the whole answer. A checkpoint; cancelling closes the connection.

        Args:
            request: what to send.
            max_answer: the most bytes of the answer's body that are read.
            dial_limit: how long connecting may take, in seconds.

        Raises:
            GatewayError: there is no connection, so nothing was sent; what ``dial`` raised, or that it took
                too long.
            Unanswered: the request may have arrived.
            AnswerError: so it has, and the answer is over ``max_answer``.
        """
        if self._is_closed:
            raise _closed()
        await trio.lowlevel.checkpoint_if_cancelled()
        idle = self._idle
        # The oldest stands at the bottom and may never be taken again.
        if idle and not idle[0].is_old() and idle[-1].is_quiet():
            connection = idle.pop()
        else:
            connection = await self._connection(dial_limit)
        is_kept = False
        try:
            # It may have been closed while a connection was made.
            if self._is_closed:
                raise _closed()
            answer = await connection.exchange(request, max_answer)
            is_young = connection.generation == self._generation
            is_kept = connection.may_go_on and is_young and len(idle) < self._most_idle
        finally:
            if not is_kept:
                await close_at_once(connection.stream)  # noqa: ASYNC102  (it shields itself)
        if is_kept:
            connection.idle_since = connection.clock()
            idle.append(connection)
        return answer

    async def renew(self) -> None:
        """Reuse no connection made before now; a request under way goes on. A checkpoint."""
        self._generation += 1
        # None is left for those who get a turn meanwhile.
        old = [*self._idle]
        self._idle.clear()
        async with trio.open_nursery() as nursery:
            for connection in old:
                nursery.start_soon(close_at_once, connection.stream)
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close what is idle; nothing is sent any more. A checkpoint."""
        self._is_closed = True
        await self.renew()

    async def _connection(self, limit: float) -> "_Connection":
        """Return one that may be used, closing what may not. A checkpoint, unless one is there at once."""
        while self._idle and self._idle[0].is_old():  # noqa: ASYNC913  (dialling is a checkpoint)
            await close_at_once(self._idle.pop(0).stream)
        while self._idle:  # noqa: ASYNC913  (and so is what is done with a connection)
            connection, may_be_used = self._idle.pop(), False
            try:
                # While we listened it may have become an old one.
                may_be_used = await connection.is_silent() and connection.generation == self._generation
            finally:
                if not may_be_used:
                    await close_at_once(connection.stream)  # noqa: ASYNC102  (as above)
            if may_be_used:
                return connection  # noqa: ASYNC910
        generation = self._generation
        return _Connection(await dial_within(self._dial, limit), generation)


def _closed() -> LinkLost:
    return LinkLost("the client has been closed")


def _closed_by_owner() -> LinkLost:
    return LinkLost("the connection was closed by whoever opened it")


async def _cancel_soon(scope: trio.CancelScope) -> None:  # noqa: ASYNC910  (there are some turns)
    for _ in range(_TURNS):
        await trio.lowlevel.checkpoint()
    scope.cancel(reason="nothing has come")


class _Connection:
    """One HTTP/1.1 connection, one request after another.

    For a small request and its answer the layers of a stream cost more than both. So what a plain socket
    takes at once is written at once, and what comes is waited for before it is looked for. Any other stream
    (TLS, in memory) is used as it is.

    Args:
        stream: what it goes over.
        generation: when it was begun to be made, as :class:`Connections` counts.

    Attributes:
        stream: that.
        generation: that too.
        clock: tells the time.
        idle_since: when its last exchange ended.
        may_go_on: whether there may be another one.

    Raises:
        LinkLost: the stream was closed already.
    """

    def __init__(self, stream: trio.abc.Stream, generation: int) -> None:
        self.stream: Final = stream
        self.generation: Final = generation
        self.clock: Final = bound_clock()
        self.idle_since = self.clock()
        self.may_go_on = False
        self._known: KnownHead | None = None
        self._socket: Final = stream.socket if isinstance(stream, trio.SocketStream) and _IS_FILE else None
        if self._socket is not None:
            self._descriptor: Final = self._socket.fileno()
            if self._descriptor < 0:
                raise _closed_by_owner()
            self._ear: Final = select.poll()
            self._ear.register(self._descriptor, select.POLLIN)

    def is_old(self) -> bool:
        """Say whether it has been idle for too long."""
        return self.clock() - self.idle_since > _KEEP_IDLE

    def is_quiet(self) -> bool:
        """Say whether nothing has come on an idle connection, where that is known at once."""
        return self._socket is not None and not self._ear.poll(0)

    async def is_silent(self) -> bool:
        """Say whether nothing has come on an idle connection, if only its end. A checkpoint only to find out.

        What has come would be taken for the next answer. TLS may have read it from the socket already.
        """
        if self._socket is not None:
            return not self._ear.poll(0)  # noqa: ASYNC910  (as said)
        transport: object = self.stream
        if isinstance(transport, trio.SSLStream):
            transport = cast("trio.SSLStream[trio.abc.Stream]", transport).transport_stream
        if isinstance(transport, trio.SocketStream):
            if transport.socket.is_readable():
                return False  # noqa: ASYNC910  (as said)
            with trio.CancelScope() as wait:  # noqa: ASYNC912  (reading is one)
                # From the moment that it has to wait: a scope that is over when it begins reads nothing.
                wait.deadline = trio.current_time()
                with suppress(Exception):
                    await self.stream.receive_some(1)
            return wait.cancelled_caught  # noqa: ASYNC910  (as said)
        is_silent = True
        # Whatever is wrong with it, a stream of the caller's included, it is of no use any more.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_soon, nursery.cancel_scope)
            with suppress(Exception):
                await self.stream.receive_some(1)
            is_silent = False
            nursery.cancel_scope.cancel(reason="something has come")
        return is_silent

    async def exchange(self, request: Request, max_answer: int) -> Answer:
        """Send a request and read the whole answer. A checkpoint.

        Raises:
            LinkLost: the socket had been closed.
            Unanswered: the request may have arrived.
            AnswerError: so it has, and the answer is over ``max_answer``.
        """
        self.may_go_on = False
        rest = self._write(request)
        is_taken = rest is None or await send_request(self.stream, rest)
        reader: AnswerReader | None = None
        size, pieces = 0, list[bytes]()
        while reader is None or not reader.is_whole:
            if self._socket is None:
                data = await receive(self.stream)
            else:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                    data = os.read(self._socket.fileno(), PIECE)
                except BlockingIOError:
                    # It was readable for nothing, as sockets may be.
                    continue
                # A ValueError is that of a descriptor which is none any more.
                except (trio.ClosedResourceError, OSError, ValueError) as error:
                    raise broken() from error
            if reader is None:
                # Nearly every answer to a send comes at once, with the head of the one before.
                known = None if request.is_head else self._known
                body = None if known is None else known.body_in(data)
                if known is not None and body is not None and len(body) <= max_answer:
                    self.may_go_on = is_taken
                    return Answer(known.status, body, known.wait, known.raw)  # noqa: ASYNC910  (it has read)
                reader = AnswerReader(to_head=request.is_head)
            piece = feed(reader, data)
            check_rest(reader)
            size += len(piece)
            if size > max_answer:
                raise AnswerError(f"the gateway's answer is over {max_answer} bytes", status=reader.status)
            if piece:
                pieces.append(piece)
        self._known = reader.known_head
        self.may_go_on = is_taken and not reader.is_last
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Answer(reader.status, body, reader.wait, reader.raw)  # noqa: ASYNC910  (as above)

    def _write(self, request: Request) -> Request | None:
        """Write what a plain socket takes at once; return what is left."""
        if self._socket is None:
            return request
        descriptor = self._socket.fileno()
        if descriptor != self._descriptor:
            raise _closed_by_owner()
        if not isinstance(request.body, bytes):
            return request
        data = request.head + request.body
        try:
            written = os.write(descriptor, data)
        except OSError:
            # The stream tells what it was, or waits.
            written = 0
        return None if written == len(data) else Request(data[written:])

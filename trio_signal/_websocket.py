"""A WebSocket to the gateway: trio-websocket over a stream of our own.

trio-websocket does the handshake and the control frames. Its connect has three
holes that are closed here: a peer that accepts TCP and says nothing, one that hangs
up in the handshake, and TLS trouble that shows up only as a time-out (``_dial``
does TLS before the library sees the stream). The stream under it (:mod:`._link_stream`)
takes the messages out, counts bytes, knows when the last one came, and turns a torn write
into the end of the connection, since a WebSocket with half a frame written still calls
itself open and swallows what follows.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import h11
import trio
import trio_websocket
from wsproto import utilities
from wsproto.frame_protocol import FrameProtocol

from ._closing import close_at_once
from ._errors import GatewayError, GatewayRefused, LinkLost, Reason, told
from ._frames import TOO_LARGE
from ._http_answers import retry_after
from ._link_stream import HEAD_END, MAX_HANDSHAKE, READ, LinkStream

_BROKEN: Final = "the gateway broke the WebSocket protocol"

#: Seconds to tell the other side that it broke the protocol.
_LAST_WORD: Final = 1.0

#: What sending that may raise; the last where something is on its way out that nobody takes.
_UNSENDABLE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)

#: What comes out of trio-websocket's reader when the other side talks nonsense in the handshake.
_PROTOCOL_ERRORS: Final = (
    h11.RemoteProtocolError,
    h11.LocalProtocolError,
    utilities.RemoteProtocolError,
    utilities.LocalProtocolError,
    # wsproto takes all header values for ASCII; what it says would repeat them.
    UnicodeDecodeError,
)


class WebSocketLink:
    """An open WebSocket. Made by :func:`open_websocket`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: LinkStream) -> None:
        self._connection = connection
        self._goodbye: trio.Event | None = None
        self.stream: Final = stream

    async def receive(self) -> list[bytes]:
        """Wait for messages and return all that are there; text is given as the UTF-8 that came.

        A checkpoint; cancelling loses nothing. Whoever calls this goes on calling it until it raises, for
        what comes is read by these calls.

        Raises:
            LinkLost: the connection has ended.
        """
        if messages := await self.stream.draw():
            return messages
        with suppress(trio_websocket.ConnectionClosed):
            # It gets no messages; this waits until it knows how the connection has ended.
            await self._connection.get_message()
        if self._goodbye is not None:
            # Closing goes on in another task, which still needs the connection.
            await self._goodbye.wait()
        raise await self._ended()

    async def ping(self) -> None:
        """Send a ping and wait for its pong; no time limit of its own.

        A checkpoint. Cancelled while writing, it ends the connection. When the connection
        has ended this waits until it is cancelled: :meth:`receive` tells the end, and only
        after it has given all that came before.
        """
        with suppress(trio_websocket.ConnectionClosed):
            self.stream.stop_drawing()
            await self._connection.ping()
            return
        await trio.sleep_forever()

    async def _ended(self) -> LinkLost:
        """Name the end; tell the other side if it broke the protocol, which trio-websocket does not."""
        await trio.lowlevel.checkpoint()
        error = self.end()
        if not self.stream.close_sent and error.close_code is not None:
            with trio.move_on_after(_LAST_WORD), suppress(*_UNSENDABLE):
                await self.stream.send_all(FrameProtocol(client=True, extensions=[]).close(error.close_code))
        return error

    def end(self) -> LinkLost:
        """Say how a connection ended that has."""
        if (violation := self.stream.violation) is not None:
            what = "a message was too large" if violation.code == TOO_LARGE else _BROKEN
            return LinkLost(f"{what}: {violation}", reason=Reason.CONNECTION_LOST, close_code=violation.code)
        reason = self._connection.closed
        code = reason.code if reason else 1002
        words = f": {reason.reason!r}" if reason and reason.reason else ""
        if code == 1006:
            return LinkLost("the connection ended without a close frame", reason=Reason.CONNECTION_LOST)
        if self.stream.close_sent:
            what, kind = f"the WebSocket was closed with {code}{words}", Reason.CLOSED_BY_GATEWAY
        else:
            what, kind = f"{_BROKEN}{words}", Reason.CONNECTION_LOST
        return LinkLost(what, reason=kind, close_code=code)

    async def close(self) -> None:
        """Say goodbye (1000) and wait for the answer; no time limit of its own. A checkpoint."""
        self._goodbye = trio.Event()
        self.stream.stop_drawing()
        try:
            await self._connection.aclose()
        finally:
            self._goodbye.set()


@asynccontextmanager
async def open_websocket(
    stream: trio.abc.Stream,
    *,
    host: str,
    resource: str,
    headers: Sequence[tuple[bytes, bytes]],
    max_message_size: int,
) -> AsyncGenerator[WebSocketLink]:
    """Do the handshake on a stream and keep the WebSocket while the block runs.

    Takes over the stream and always closes it. No time limit of its own; cancelling
    is safe. Leaving the block ends the connection without a goodbye, so call
    :meth:`WebSocketLink.close` first where there is time for one.

    Raises:
        LinkLost: the handshake failed, or the connection broke in a way that only
            trio-websocket noticed. The cause is attached.
        GatewayRefused: the answer to the handshake was 401 or 403.
    """
    watched = LinkStream(stream, max_message_size)
    link: WebSocketLink | None = None
    try:
        async with trio.open_nursery() as nursery:
            connect = partial(
                trio_websocket.wrap_client_stream,
                nursery,
                watched,  # type: ignore[arg-type]  # annotated as a socket, documented as any stream
                host,
                resource,
                extra_headers=list(headers),
                receive_buffer_size=READ,
            )
            link = WebSocketLink(await _shake_hands(connect, watched), watched)
            yield link
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise _told(group, link) from group
    finally:
        await close_at_once(stream)  # noqa: ASYNC102  (it shields itself)


async def _shake_hands(
    connect: Callable[[], Awaitable[trio_websocket.WebSocketConnection]], stream: LinkStream
) -> trio_websocket.WebSocketConnection:
    """Connect, unless the stream ends first: trio-websocket would wait for ever for an answer then."""
    made: list[trio_websocket.WebSocketConnection] = []
    async with trio.open_nursery() as race:
        race.start_soon(_cancel_after, stream.ended, race.cancel_scope)
        made.append(await connect())
        race.cancel_scope.cancel()
    if not made:
        raise _hung_up(stream)
    return made[0]


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel(reason="the other side hung up in the handshake")


def _hung_up(stream: LinkStream) -> GatewayError:
    """Name the end of a connection whose handshake never finished."""
    if stream.bytes_received > MAX_HANDSHAKE:
        return LinkLost("the gateway sent an endless answer to the WebSocket handshake")
    # A refusal whose body ends with the connection never becomes an event of trio-websocket's.
    status = re.match(rb"HTTP/1\.[01] ([2-5][0-9]{2})", stream.head)
    if status and HEAD_END.search(stream.head):
        wait = re.search(rb"\r\nretry-after:[ \t]*([0-9]{1,9})[ \t]*\r\n", stream.head, re.IGNORECASE)
        return rejected(int(status[1]), float(wait[1]) if wait else None)
    return LinkLost("the gateway hung up in the WebSocket handshake")


def rejected(status: int, wait: float | None) -> GatewayError:
    """Name the refusal of a handshake by its HTTP status."""
    if status in (401, 403):
        return GatewayRefused(
            f"the gateway refused the WebSocket handshake (HTTP {status}); check token= or headers=",
            status=status,
            retry_after=wait,
        )
    hint = {
        200: "; a gateway in normal or native mode does that: run it with MODE=json-rpc",
        404: "; is the path of the URL right?",
    }.get(status, "")
    return LinkLost(
        f"the gateway answered the WebSocket handshake with HTTP {status}{hint}",
        status=status,
        retry_after=wait,
    )


def _told(group: ExceptionGroup[Exception], link: WebSocketLink | None) -> Exception:
    """Pick what a group of errors of one connection says to whoever wants to reconnect."""
    leaf = told(group)
    if isinstance(leaf, trio_websocket.ConnectionRejected):
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in leaf.headers or ()
        }
        return rejected(leaf.status_code, retry_after(headers))
    if isinstance(leaf, _PROTOCOL_ERRORS) and link is not None:
        # trio-websocket trips over a ping that comes when it has said goodbye: it wants to answer.
        return link.end()
    if isinstance(leaf, _PROTOCOL_ERRORS):
        what = "a header is not ASCII" if isinstance(leaf, UnicodeDecodeError) else str(leaf)
        return LinkLost(f"the gateway does not speak WebSocket: {what}")
    return leaf

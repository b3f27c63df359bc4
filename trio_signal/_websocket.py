"""A WebSocket to the gateway: trio-websocket over a stream of our own.

trio-websocket does the handshake and the control frames. Its connect has three
holes that are closed here: a peer that accepts TCP and says nothing, one that hangs
up in the handshake, and TLS trouble that shows up only as a time-out (``_dial``
does TLS before the library sees the stream). The stream under it counts bytes, knows
when the last one came, and turns a torn write into the end of the connection, since
a WebSocket with half a frame written still calls itself open and swallows what follows.

This stream is also where data frames will be split by ourselves, a whole read at a
time: :meth:`WebSocketLink.receive` gives a list for that reason.
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

from ._errors import GatewayError, GatewayRefused, LinkLost, Reason, told
from ._http import retry_after

#: What a peer may send before its handshake answer is whole, in bytes.
_MAX_HANDSHAKE: Final = 128 * 1024

#: How much of it is kept, in bytes. h11 takes no longer head either.
_MAX_HEAD: Final = 16 * 1024
_BLANK_LINE: Final = b"\r\n\r\n"

#: How much is read at once, in bytes: larger reads cost less for each message.
_READ: Final = 64 * 1024

#: trio-websocket hands messages on through a queue; while that is full no pong is answered.
_QUEUE: Final = 1024

#: The first byte of the frame with which trio-websocket answers a ping; we send no other pongs.
_PONG: Final = 0x8A
_CLOSE: Final = 0x88

#: How trio-websocket words its own 1009.
_TOO_BIG: Final = "Exceeded maximum message size"

#: Seconds to tell the other side that it broke the protocol.
_LAST_WORD: Final = 1.0

#: What comes out of trio-websocket's reader when the other side talks nonsense in the handshake.
_PROTOCOL_ERRORS: Final = (
    h11.RemoteProtocolError,
    h11.LocalProtocolError,
    utilities.RemoteProtocolError,
    utilities.LocalProtocolError,
    # wsproto takes all header values for ASCII; what it says would repeat them.
    UnicodeDecodeError,
)


class LinkStream(trio.abc.Stream):
    """The stream under a WebSocket: passes everything through and takes note.

    Attributes:
        bytes_received: how many have come.
        last_received: when the last ones came, on Trio's clock.
        last_pong_sent: when the last ping of the other side was answered; None before.
        close_sent: whether a close frame was written.
        head: what came of the handshake's answer, up to its blank line and perhaps more.
        ended: set when nothing more can come.
        established: the other side has agreed to the WebSocket.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream: Final = stream
        self.bytes_received = 0
        self.last_received = trio.current_time()
        self.last_pong_sent: float | None = None
        self.close_sent = False
        self.head = b""
        self.ended = trio.Event()
        self.established = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send. Cancelled half way, the whole stream is closed: nobody can go on after half a frame."""
        whole = False
        try:
            await self._stream.send_all(data)
            whole = True
        finally:
            if not whole:
                self.ended.set()
                await trio.aclose_forcefully(self._stream)
        if self.established and data[0] == _PONG:
            self.last_pong_sent = trio.current_time()
        elif self.established and data[0] == _CLOSE:
            self.close_sent = True

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, taking note of bytes and of the end. A checkpoint; cancelling is safe."""
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.ended.set()
        if data:
            # Its end is no sign of life: a gap begins with the last byte, not where the end was noticed.
            self.bytes_received += len(data)
            self.last_received = trio.current_time()
        if not self.established:
            self._read_head(bytes(data))
        return data

    def _read_head(self, data: bytes) -> None:
        self.head = (self.head + data)[:_MAX_HEAD]
        # trio-websocket reads on before it says that it is connected; what follows a 101 is no handshake.
        self.established = self.head.startswith(b"HTTP/1.1 101") and _BLANK_LINE in self.head
        if not self.established and self.bytes_received > _MAX_HANDSHAKE:
            self.ended.set()
            raise trio.BrokenResourceError("the handshake's answer is too long")

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()


class WebSocketLink:
    """An open WebSocket. Made by :func:`open_websocket`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: LinkStream) -> None:
        self._connection = connection
        self._goodbye: trio.Event | None = None
        self.stream: Final = stream

    async def receive(self) -> list[str | bytes]:
        """Wait for messages and return all that are there.

        A checkpoint; cancelling loses nothing.

        Raises:
            LinkLost: the connection has ended.
        """
        messages: list[str | bytes] = []
        with suppress(trio_websocket.ConnectionClosed):
            messages.append(await self._connection.get_message())
        if not messages and self._goodbye is not None:
            # Closing goes on in another task, which still needs the connection.
            await self._goodbye.wait()
        if not messages:
            raise await self._ended()
        # No public way asks for what is queued already; one at a time would wake the application for each.
        queue = self._connection._recv_channel  # noqa: SLF001
        while queue.statistics().current_buffer_used:
            messages.append(queue.receive_nowait())
        return messages  # noqa: ASYNC910  (it got at least one)

    async def ping(self) -> None:
        """Send a ping and wait for its pong; no time limit of its own.

        A checkpoint. Cancelled while writing, it ends the connection. When the connection
        has ended this waits until it is cancelled: :meth:`receive` tells the end, and only
        after it has given all that came before.
        """
        with suppress(trio_websocket.ConnectionClosed):
            await self._connection.ping()
            return
        await trio.sleep_forever()

    async def _ended(self) -> LinkLost:
        """Name the end; tell the other side if it broke the protocol, which trio-websocket does not."""
        await trio.lowlevel.checkpoint()
        error = self.end()
        if not self.stream.close_sent and error.close_code is not None:
            with trio.move_on_after(_LAST_WORD), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_all(FrameProtocol(client=True, extensions=[]).close(error.close_code))
        return error

    def end(self) -> LinkLost:
        """Say how a connection ended that has."""
        reason = self._connection.closed
        code = reason.code if reason else 1002
        words = f": {reason.reason!r}" if reason and reason.reason else ""
        if code == 1006:
            return LinkLost("the connection ended without a close frame", reason=Reason.CONNECTION_LOST)
        if code == 1009 and _TOO_BIG in words:
            what, kind = f"a message was too large{words}", Reason.CONNECTION_LOST
        elif self.stream.close_sent:
            what, kind = f"the WebSocket was closed with {code}{words}", Reason.CLOSED_BY_GATEWAY
        else:
            what, kind = f"the gateway broke the WebSocket protocol{words}", Reason.CONNECTION_LOST
        return LinkLost(what, reason=kind, close_code=code)

    async def close(self) -> None:
        """Say goodbye (1000) and wait for the answer; no time limit of its own. A checkpoint."""
        self._goodbye = trio.Event()
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
    watched = LinkStream(stream)
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
                message_queue_size=_QUEUE,
                max_message_size=max_message_size,
                receive_buffer_size=_READ,
            )
            link = WebSocketLink(await _shake_hands(connect, watched), watched)
            yield link
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise _told(group, link) from group
    finally:
        await trio.aclose_forcefully(stream)


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
    if stream.bytes_received > _MAX_HANDSHAKE:
        return LinkLost("the gateway sent an endless answer to the WebSocket handshake")
    # A refusal whose body ends with the connection never becomes an event of trio-websocket's.
    status = re.match(rb"HTTP/1\.[01] ([2-5][0-9]{2})", stream.head)
    if status and _BLANK_LINE in stream.head:
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
        # trio-websocket trips over its own close frame when more comes of a message that was too large.
        return link.end()
    if isinstance(leaf, _PROTOCOL_ERRORS):
        what = "a header is not ASCII" if isinstance(leaf, UnicodeDecodeError) else str(leaf)
        return LinkLost(f"the gateway does not speak WebSocket: {what}")
    return leaf

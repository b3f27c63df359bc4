"""One client's WebSocket: hello, catching up, live, the end of its token, goodbye."""

import logging
from contextlib import suppress
from typing import Final

import trio
import trio_websocket
from wsproto import utilities

from .._errors import told
from . import _protocol
from ._outlet import Outlet
from ._status import HubCounters
from .connections import CloseCode, Connection, ConnectionManager

_logger: Final = logging.getLogger("trio_signal.hub")

#: How long the handshake may take after its request was read, in seconds.
_HANDSHAKE: Final = 10.0

#: How long the closing handshake may take, in seconds; and when the whole hub is being cancelled.
_GOODBYE: Final = 1.5
_CANCELLED: Final = 0.25

#: How long a client may stay after its token has expired, in seconds (contract H9).
_GRACE: Final = 25.0

#: How trio-websocket closes a connection on which came what must not: RFC 6455 7.4.1.
_VIOLATIONS: Final = frozenset({1002, 1007, 1009})

#: The largest message that is taken from a client, in bytes; none is looked at.
_MAX_MESSAGE: Final = 4096


class Session:
    """What serves one WebSocket, from the upgrade to its end.

    Args:
        manager: where the client is registered.
        outlet: the stream, whose first bytes are the upgrade request.
        counters: counts how it ends.
        subject: who the client is.
        remote: its address.
        expires_at: when its token expires, on Trio's clock.
        heartbeat_interval: what the hello announces, in seconds.
        retry_after: how long the client is told to stay away after a shutdown, in seconds.
    """

    def __init__(
        self,
        manager: ConnectionManager,
        outlet: Outlet,
        *,
        counters: HubCounters,
        subject: str,
        remote: str,
        expires_at: float,
        heartbeat_interval: float,
        retry_after: float,
    ) -> None:
        self._manager: Final = manager
        self._outlet: Final = outlet
        self._counters: Final = counters
        self._subject: Final = subject
        self._remote: Final = remote
        self._expires_at: Final = expires_at
        self._heartbeat_interval: Final = heartbeat_interval
        self._retry_after: Final = retry_after

    async def run(self, *, since: int | None, epoch: str | None) -> None:
        """Serve the client until it leaves or is sent away; nothing that it does raises here.

        A checkpoint. Cancelled, the client is told that the hub goes down.
        """
        outlet = self._outlet
        try:
            async with trio.open_nursery() as nursery:
                socket = await self._accept(nursery)
                if socket is not None:
                    await self._serve(socket, nursery, since, epoch)
                nursery.cancel_scope.cancel(reason="the connection has ended")
        except BaseExceptionGroup as group:
            errors, others = group.split(Exception)
            if errors is not None:
                self._note_end(told(errors))
            if others is not None:
                raise others from None
        finally:
            await trio.aclose_forcefully(outlet)

    async def _accept(self, nursery: trio.Nursery) -> trio_websocket.WebSocketConnection | None:
        """Finish the handshake; None if that does not come about in time."""
        with trio.move_on_after(_HANDSHAKE):
            request = await trio_websocket.wrap_server_stream(
                nursery, self._outlet, message_queue_size=1, max_message_size=_MAX_MESSAGE
            )
            socket = await request.accept()
            self._outlet.upgraded.set()
            return socket
        return None

    async def _serve(
        self,
        socket: trio_websocket.WebSocketConnection,
        nursery: trio.Nursery,
        since: int | None,
        epoch: str | None,
    ) -> None:
        connection = self._manager.connect(
            self._outlet,
            subject=self._subject,
            remote=self._remote,
            heartbeat_interval=self._heartbeat_interval,
            since=since,
            epoch=epoch,
        )
        self._counters.websockets_opened += 1
        limit = _CANCELLED
        try:
            with trio.CancelScope() as gone:
                nursery.start_soon(_read_on, socket, gone)
                nursery.start_soon(self._mind_the_token)
                await self._write(connection)
            limit = _GOODBYE
        finally:
            self._manager.disconnect(connection)
            with trio.move_on_after(limit, shield=True):
                await self._say_goodbye(socket)
            self._counters.closed_slow += (self._outlet.ending or (0,))[0] == CloseCode.TOO_SLOW
            broken_rules = socket.closed is not None and socket.closed.code in _VIOLATIONS
            self._counters.closed_abusive += broken_rules or self._outlet.abusive

    async def _write(self, connection: Connection) -> None:
        """Hand the client what it has not got, until its connection is to end."""
        outlet = self._outlet
        await trio.lowlevel.checkpoint()
        while outlet.ending is None:
            outlet.wake = trio.Event()
            if not connection.is_live:
                outlet.put(self._manager.next_page(connection))
            if outlet.queued or not connection.is_live:
                await outlet.flush()
            else:
                await outlet.wake.wait()

    async def _mind_the_token(self) -> None:
        """Tell the client when its token has expired, and end its connection a grace later."""
        await trio.sleep_until(self._expires_at)
        self._outlet.put(_protocol.text_frame(_protocol.token_expiring(_GRACE)))
        await trio.sleep(_GRACE)
        self._counters.closed_expired += 1
        self._outlet.end(CloseCode.TOKEN_EXPIRED, "come back with a new token")

    async def _say_goodbye(self, socket: trio_websocket.WebSocketConnection) -> None:
        await trio.lowlevel.checkpoint()
        outlet = self._outlet
        code, reason = outlet.ending or (CloseCode.GOING_DOWN, "the hub goes down")
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if code == CloseCode.GOING_DOWN and socket.closed is None:
                outlet.put(_protocol.text_frame(_protocol.goodbye(self._retry_after)))
            await outlet.flush()
            await socket.aclose(code, reason)

    def _note_end(self, error: Exception) -> None:
        ordinary = trio.BrokenResourceError | trio.ClosedResourceError | trio_websocket.ConnectionClosed
        nonsense = utilities.RemoteProtocolError | utilities.LocalProtocolError
        if isinstance(error, ordinary | nonsense):
            _logger.debug("the connection of %s ended: %r", self._remote, error)
        else:
            # Not an end that is known: it costs this connection only, but somebody should see it.
            _logger.error("unexpected error in the connection of %s", self._remote, exc_info=error)


async def _read_on(socket: trio_websocket.WebSocketConnection, gone: trio.CancelScope) -> None:
    """Take what the client sends, so that its pongs and its goodbye are read, and look at none of it."""
    await trio.lowlevel.checkpoint()
    with suppress(trio_websocket.ConnectionClosed):
        while True:
            await socket.get_message()
    gone.cancel(reason="the client has left")

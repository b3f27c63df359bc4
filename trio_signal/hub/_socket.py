"""One client's WebSocket: the handshake's answer, hello, catching up, live, the end of its token, goodbye.

::

    busy    something is to be written, or the client catches up: a task writes, beside it another reads
    idle    it has everything: one task reads, nothing else is there

There may be thousands who are idle, and each of them costs what it keeps alive; so it is one task, without
a queue or a parser. What a broadcast could not write at once makes it busy until that has left. Where the
stream is no plain socket (TLS), every broadcast would, so it stays busy.
"""

import logging
import math
from contextlib import suppress
from typing import Final

import trio
from wsproto.utilities import generate_accept_token

from .._errors import told
from . import _protocol
from ._connection import CloseCode, Connection
from ._incoming import Incoming
from ._outlet import Outlet
from ._status import HubCounters
from .connections import ConnectionManager

_logger: Final = logging.getLogger("trio_signal.hub")

#: How long the client may take to take the handshake's answer, in seconds.
_HANDSHAKE: Final = 10.0

#: How long the closing handshake may take, in seconds; and when the whole hub is being cancelled.
_GOODBYE: Final = 1.5
_CANCELLED: Final = 0.25

#: How long a client may stay after its token has expired, in seconds (contract H9).
_GRACE: Final = 25.0

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


class Session:
    """What serves one WebSocket, from the upgrade to its end.

    Args:
        manager: where the client is registered.
        outlet: the connection, on which a request for a WebSocket has come and was found to be good.
        counters: counts how it ends.
        key: the ``Sec-WebSocket-Key`` of the request.
        since: the last number that the client has; None to begin with what comes next.
        epoch: the numbering that it belongs to.
        subject: who the client is.
        remote: its address.
        expires_at: when its token expires, on Trio's clock.
        heartbeat_interval: what the hello announces, in seconds.
        retry_after: how long the client is told to stay away after a shutdown, in seconds.
    """

    __slots__ = (
        "_counters",
        "_heartbeat_interval",
        "_incoming",
        "_is_told",
        "_key",
        "_left",
        "_manager",
        "_moment",
        "_outlet",
        "_remote",
        "_retry_after",
        "_since",
        "_subject",
    )

    def __init__(
        self,
        manager: ConnectionManager,
        outlet: Outlet,
        *,
        counters: HubCounters,
        key: str,
        since: int | None,
        epoch: str | None,
        subject: str,
        remote: str,
        expires_at: float,
        heartbeat_interval: float,
        retry_after: float,
    ) -> None:
        self._manager: Final = manager
        self._outlet: Final = outlet
        self._counters: Final = counters
        self._key: Final = key
        self._since: Final = (since, epoch)
        self._subject: Final = subject
        self._remote: Final = remote
        #: When the token expires; after that, when the grace is over.
        self._moment = expires_at
        self._is_told = False
        self._heartbeat_interval: Final = heartbeat_interval
        self._retry_after: Final = retry_after
        self._incoming: Final = Incoming()
        #: Whether the client has gone, or broken the rules: nothing is read from it any more.
        self._left = False

    async def run(self) -> None:
        """Serve the client until it leaves or is sent away; nothing that it does should raise here.

        A checkpoint. Cancelled, the client is told that the hub goes down.
        """
        try:
            if await self._accept():
                await self._serve()
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as errors:
            _logger.debug("the connection of %s ended: %r", self._remote, told(errors))
        finally:
            await trio.aclose_forcefully(self._outlet)

    async def _accept(self) -> bool:
        """Finish the handshake; return False if that does not come about in time."""
        with trio.move_on_after(_HANDSHAKE):
            await self._outlet.send_all(_SWITCHING % generate_accept_token(self._key.encode()))
            return True
        return False

    async def _serve(self) -> None:
        since, epoch = self._since
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
            await self._attend(connection)
            limit = _GOODBYE
        finally:
            self._manager.disconnect(connection)
            with trio.move_on_after(limit, shield=True):
                await self._say_goodbye()
            self._counters.closed_slow += (self._outlet.ending or (0,))[0] == CloseCode.TOO_SLOW
            self._counters.closed_abusive += self._incoming.broke_rules or self._outlet.abusive

    async def _attend(self, connection: Connection) -> None:
        """Hand the client what it has not got, until it has left or its connection is to end."""
        await trio.lowlevel.checkpoint()
        while not self._left and self._outlet.ending is None:
            if connection.is_live and self._outlet.is_plain and not self._outlet.has_work:
                await self._idle()
            else:
                await self._work(connection)

    async def _idle(self) -> None:
        """Read, until there is work or the token expires."""
        with trio.CancelScope(deadline=self._moment) as scope:
            self._outlet.call_on_work(scope.cancel)
            await self._read_on()
        if trio.current_time() >= self._moment:
            self._note_expiry()

    async def _work(self, connection: Connection) -> None:
        """Write, and read beside it, until there is nothing more to write at present."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_beside, nursery.cancel_scope)
            nursery.start_soon(self._mind_the_token)
            await self._write(connection)
            nursery.cancel_scope.cancel(reason="everything is written")

    async def _write(self, connection: Connection) -> None:
        outlet = self._outlet
        await trio.lowlevel.checkpoint()
        while outlet.ending is None:
            if not connection.is_live:
                outlet.put(self._manager.next_page(connection))
            if outlet.has_work or not connection.is_live:
                await outlet.flush()
            elif outlet.is_plain:
                return
            else:
                woken = trio.Event()
                outlet.call_on_work(woken.set)
                await woken.wait()

    async def _read_beside(self, scope: trio.CancelScope) -> None:
        await self._read_on()
        scope.cancel(reason="the client has left")

    async def _read_on(self) -> None:  # noqa: ASYNC910  (nobody calls it after that, and to read is one)
        """Take what the client sends, until it leaves or breaks the rules."""
        while not self._left:
            data = b""
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = await self._outlet.receive_some()
            if answers := self._incoming.take(data):
                # Without a bound of their own: pings that are answered have an allowance.
                self._outlet.put(answers)
            self._left = self._incoming.ended or not data

    async def _mind_the_token(self) -> None:
        """Tell the client when its token has expired, and end its connection a grace later."""
        while True:
            await trio.sleep_until(self._moment)
            self._note_expiry()

    def _note_expiry(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._moment = trio.current_time() + _GRACE
            self._outlet.put(_protocol.text_frame(_protocol.token_expiring(_GRACE)))
        else:
            self._moment = math.inf
            self._counters.closed_expired += self._outlet.ending is None
            self._outlet.end(CloseCode.TOKEN_EXPIRED, "come back with a new token")

    async def _say_goodbye(self) -> None:
        """Let what is queued leave, and close the WebSocket if the client has not done so. A checkpoint."""
        outlet = self._outlet
        await trio.lowlevel.checkpoint()
        if self._left:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await outlet.flush()
            return
        code, reason = outlet.ending or (CloseCode.GOING_DOWN, "the hub goes down")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_beside, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if code == CloseCode.GOING_DOWN:
                    outlet.put(_protocol.text_frame(_protocol.goodbye(self._retry_after)))
                await outlet.flush()
                await outlet.send_all(self._incoming.close(code, reason))

"""Who gets in: TLS, how many at once, and that nobody's trouble becomes another's."""

import logging
import math
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any, Final

import trio

from ._status import HubCounters

_logger: Final = logging.getLogger("trio_signal.hub")

#: No peer has less time to say something, in seconds.
LEAST_PATIENCE: Final = 10.0

#: How long a TLS handshake may take, in seconds.
_TLS_HANDSHAKE: Final = 10.0


class Visit:
    """One connection: pending until it has shown a token, or while it is idle; then admitted.

    Attributes:
        remote: the address it comes from.
        scope: cancels it.
        due: when the peer must have said something, on Trio's clock; infinite while there is work for it.
        is_at_work: whether a request of its peer's has come whose answer has not been given.
    """

    # It lasts as long as the connection, of which there may be thousands.
    __slots__ = ("_door", "due", "is_at_work", "remote", "scope")

    def __init__(self, door: "Door", remote: str) -> None:
        self._door: Final = door
        self.remote: Final = remote
        self.scope: Final = trio.CancelScope()
        self.due = math.inf
        self.is_at_work = False

    def admit(self) -> bool:
        """Count as admitted from now on; False if there are too many of those."""
        return self._door.admit(self)

    def release(self) -> None:
        """Count as pending again: its request has been answered."""
        self._door.release(self)


Serve = Callable[[trio.abc.Stream, Visit], Awaitable[None]]


class Door:
    """Takes connections and bounds their number.

    Connections that have shown no token are bounded apart from the others, so that a stranger
    cannot keep out who has one. Where there is one too many, the oldest one ends of those from the
    address that has the most of them: an honest client shows its token soon, and has few.

    Args:
        serve: serves one connection.
        ssl_context: for TLS.
        counters: counts those that came.
        max_pending: the most that are pending.
        max_admitted: the most that are admitted.
    """

    def __init__(
        self,
        serve: Serve,
        ssl_context: ssl.SSLContext | None,
        counters: HubCounters,
        *,
        max_pending: int,
        max_admitted: int,
    ) -> None:
        self._serve: Final = serve
        self._ssl_context: Final = ssl_context
        self._counters: Final = counters
        self._max_pending: Final = max_pending
        self._max_admitted: Final = max_admitted
        self._pending: Final[dict[Visit, None]] = {}
        self._admitted: Final[set[Visit]] = set()

    async def accept(self, listeners: Sequence[trio.abc.Listener[Any]], nursery: trio.Nursery) -> None:
        """Take connections until cancelled; each is served by a task in the nursery."""
        await trio.serve_listeners(self._handle, list(listeners), handler_nursery=nursery)

    async def dismiss_silent(self) -> None:
        """End every connection whose peer says nothing for too long, until cancelled.

        A time limit around each wait would cost more than to answer what comes.
        """
        while True:
            now = trio.current_time()
            visits = [*chain(self._pending, self._admitted)]
            for visit in visits:
                if visit.due <= now:
                    visit.due = math.inf
                    visit.scope.cancel(reason="its peer said nothing for too long")
            due = min((visit.due for visit in visits), default=math.inf)
            # Whoever begins to wait after this look waits for so long at least.
            await trio.sleep_until(min(due, now + LEAST_PATIENCE))

    def close_idle(self) -> None:
        """End every connection that nothing is being done for."""
        for visit in self._pending:
            if not visit.is_at_work:
                visit.scope.cancel(reason="the hub shuts down")

    def admit(self, visit: Visit) -> bool:
        """See :meth:`Visit.admit`."""
        if len(self._admitted) >= self._max_admitted:
            return False
        self._pending.pop(visit, None)
        self._admitted.add(visit)
        return True

    def release(self, visit: Visit) -> None:
        """See :meth:`Visit.release`."""
        if visit in self._admitted:
            self._admitted.remove(visit)
            self._wait_outside(visit)

    def _wait_outside(self, visit: Visit) -> None:
        if len(self._pending) >= self._max_pending:
            [(crowd, _)] = Counter(other.remote for other in self._pending).most_common(1)
            # Rather one who wants nothing now, though he be younger: min() gives the first of equals.
            theirs = (other for other in self._pending if other.remote == crowd)
            oldest = min(theirs, key=lambda other: other.is_at_work)
            del self._pending[oldest]
            oldest.scope.cancel(reason="too many connections without a token")
        self._pending[visit] = None

    async def _handle(self, stream: trio.abc.Stream) -> None:
        self._counters.accepted_connections += 1
        visit = Visit(self, _remote(stream))
        self._wait_outside(visit)
        try:
            with visit.scope:
                await self._serve(await self._secured(stream), visit)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            _logger.debug("the connection of %s ended: %r", visit.remote, error)
        except Exception:
            # It costs this connection and no other, but somebody should see it.
            _logger.exception("unexpected error in the connection of %s", visit.remote)
        finally:
            self._pending.pop(visit, None)
            self._admitted.discard(visit)
            await trio.aclose_forcefully(stream)

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        if self._ssl_context is None:
            await trio.lowlevel.checkpoint()
            return stream
        secured = trio.SSLStream(stream, self._ssl_context, server_side=True, https_compatible=True)
        with trio.move_on_after(_TLS_HANDSHAKE):
            await secured.do_handshake()
            return secured
        raise trio.BrokenResourceError(f"no TLS handshake within {_TLS_HANDSHAKE:g} s")


def _remote(stream: trio.abc.Stream) -> str:
    if isinstance(stream, trio.SocketStream):
        try:
            name: str | bytes | tuple[str, int] = stream.socket.getpeername()
        except OSError:
            # It is gone already, which whoever reads from it will notice.
            return "unknown"
        # On a Unix socket nobody has an address.
        return name[0] if isinstance(name, tuple) else "local"
    return "memory"

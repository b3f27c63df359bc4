"""Who may ask, what everybody is asked for, and what is told to those who must come back later."""

import math
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import trio

from ._door import Visit
from ._http import HttpConnection, HttpError, Request
from ._hub import Hub, HubLimits
from .auth import Authenticator, Identity, Tickets, Unauthorized

#: Who somebody is where there is no key.
_ANYBODY: Final = Identity("anybody", None)

#: One subject may have a quarter of what there is for all.
_PARTS: Final = 4

#: When a request under way at a shutdown is answered, in seconds after it has begun; a second later all ends.
_LAST_ANSWERS: Final = 4.0


class Call(msgspec.Struct, frozen=True, eq=False):
    """One request and the connection that it came on.

    Attributes:
        request: its head.
        argument: the part of the path that the route leaves open, percent-encoded as it came.
        http: reads its body.
        visit: counts the connection.
        stream: the connection itself.
        stack: what is to be done once the request has been answered.
    """

    request: Request
    argument: str
    http: HttpConnection
    visit: Visit
    stream: trio.abc.Stream
    stack: AsyncExitStack


class Guard:
    """Checks tokens and tickets.

    Args:
        hub: whose they are for.
        limits: how much of everything.
        key: checks tokens; None lets everybody in.
        tickets: what a browser's WebSocket shows instead of a token.
        wall_clock: tells the time of day in seconds since the epoch.
    """

    def __init__(
        self,
        hub: Hub,
        limits: HubLimits,
        *,
        key: Authenticator | None,
        tickets: Tickets,
        wall_clock: Callable[[], float],
    ) -> None:
        self._hub: Final = hub
        self._limits: Final = limits
        self._key: Final = key
        self.tickets: Final = tickets
        self._wall_clock: Final = wall_clock

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self._key is None

    @property
    def parts(self) -> int:
        """Into how many parts everything is divided, of which one subject may have one."""
        # Without a key everybody is the same.
        return 1 if self._key is None else _PARTS

    def admit(self, call: Call) -> Identity:
        """Check the token and count the connection as admitted.

        Raises:
            HttpError: the token is none (401), or there are too many connections (503).
        """
        identity = self.identify(call.request)
        self.count(call.visit)
        return identity

    def count(self, visit: Visit) -> None:
        """Count a connection as admitted.

        Raises:
            HttpError: there are too many (503).
        """
        if not visit.admit():
            raise self.later(503, "too many connections", 1.0)

    def identify(self, request: Request) -> Identity:
        """Say who asks.

        Raises:
            HttpError: the token is none (401).
        """
        if self._key is None:
            return _ANYBODY
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            return self._key.check(token.strip() if scheme.lower() == "bearer" else "")
        except Unauthorized:
            raise _unauthorized() from None

    def redeem(self, ticket: str) -> Identity:
        """Take a ticket and say who shows it.

        Raises:
            HttpError: it is none, or no longer one (401).
        """
        if self._key is None:
            return _ANYBODY
        identity = self.tickets.redeem(ticket)
        if identity is None or not self._key.is_current(identity):
            raise _unauthorized()
        return identity

    def moment(self, expires_at: float | None) -> float:
        """Turn a time of day into one of Trio's clock."""
        if expires_at is None:
            return math.inf
        # That of a token that is taken within the leeway is over already: its grace begins now.
        return trio.current_time() + expires_at - self._wall_clock()

    def check_open(self) -> None:
        """Refuse what would not be done any more.

        Raises:
            HttpError: the hub is shutting down (503).
        """
        if self._hub.stopping:
            raise self.later(503, "the hub is shutting down", self._limits.shutdown_spread)

    def later(self, status: int, words: str, wait: float) -> HttpError:
        """Ask to come back later, not all at the same moment."""
        seconds = math.ceil(wait + self._hub.random.uniform(0.0, wait + 1.0))
        return HttpError(status, words, headers=(("Retry-After", str(seconds)),))

    async def wait_last_answers(self) -> None:
        """Wait until there is just time left to answer before a shutdown ends every connection."""
        await self._hub.wait_shutdown()
        await trio.sleep(_LAST_ANSWERS)


def _unauthorized() -> HttpError:
    return HttpError(401, "unauthorized", headers=(("WWW-Authenticate", "Bearer"),))

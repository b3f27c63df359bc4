"""Chooses among the kinds of gateway, or finds out which there is."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

from .._continuity import Cursor
from .._errors import REFUSED_STATUSES, GatewayError, GatewayRefused, LinkLost
from .._outgoing import OutgoingMessage
from . import Link, SendResult
from ._requests import HUB_MODE, HttpGateway, Requests
from .hub import HubGateway
from .rest import RestGateway

#: The kinds that this version knows.
GatewayKind = Literal["auto", "rest", "hub"]


def make_gateway(
    kind: GatewayKind,
    requests: Requests,
    account: str,
    *,
    ping_interval: float,
    pong_timeout: float,
    max_message_size: int,
    now: Callable[[], int],
) -> HttpGateway:
    """Make a gateway of one kind.

    Args:
        kind: which.
        requests: how to reach it.
        account: whose messages.
        ping_interval: silence before we ping, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        max_message_size: the largest message taken, in bytes.
        now: tells the time in milliseconds since the epoch.
    """
    rest = RestGateway(
        requests,
        account,
        ping_interval=ping_interval,
        pong_timeout=pong_timeout,
        max_message_size=max_message_size,
    )
    hub = HubGateway(
        requests,
        account,
        ping_interval=ping_interval,
        pong_timeout=pong_timeout,
        max_message_size=max_message_size,
        now=now,
    )
    if kind == "auto":
        return AutoGateway(requests, rest, hub)
    return rest if kind == "rest" else hub


class AutoGateway(HttpGateway):
    """Whichever gateway there is: a hub if it says that it is one. See :class:`trio_signal.gateways.Gateway`.

    It is asked until it has told, or a link has stood; where something hides the answer, it is
    taken for a REST gateway.

    Args:
        requests: how to reach it.
        rest: what to be if there is no hub.
        hub: what to be if there is one.
    """

    def __init__(self, requests: Requests, rest: RestGateway, hub: HubGateway) -> None:
        super().__init__(requests)
        self._rest: Final = rest
        self._hub: Final = hub
        self._chosen: HttpGateway = rest
        self._has_stood = False

    @asynccontextmanager
    async def connect(self, resume: Cursor | None) -> AsyncGenerator[Link]:
        """See :meth:`HttpGateway.connect`."""
        if not self._has_stood:
            self._requests.ask_anew()
        about = await self._requests.about()
        hidden = about is None and not self._has_stood
        status = self._requests.status
        if about is not None and about.mode == HUB_MODE:
            self._chosen = self._hub
        try:
            async with self._chosen.connect(resume) as link:
                self._has_stood, hidden = True, False
                yield link
        except LinkLost as error:
            if hidden and error.status == 404 and status != 404:
                # The 404 behind it would count as final.
                raise self._unknown(status) from None
            raise

    def _unknown(self, status: int | None) -> GatewayError:
        """Return why this may be a hub all the same, if only it told."""
        words = f"{self._requests.address} does not tell what it is, and is no REST gateway at this path"
        if status is not None and status in REFUSED_STATUSES:
            return GatewayRefused(f"{words}: /v1/about was refused with HTTP {status}", status=status)
        return LinkLost(f"{words}; it is asked again")

    async def send(self, message: OutgoingMessage) -> SendResult:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        # Nothing is sent before there has been a link, so it is known by now.
        return await self._chosen.send(message)

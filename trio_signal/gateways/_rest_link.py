"""The receive socket of a REST gateway: alive, dead, or alive and stalled (contract L3)."""

import logging
import math
from collections.abc import Coroutine
from typing import Any, Final

import trio

from .._continuity import GapReason
from .._errors import LinkLost, Reason
from .._websocket import WebSocketLink
from . import Absence
from ._socket_link import SocketLink

_logger: Final = logging.getLogger("trio_signal.gateway")

#: The gateway pings each receive socket every 54 s, whether or not it has anything to deliver; one that stops
#: while it still answers our own pings has stopped delivering to everybody (contract L3).
STALL_LIMIT: Final = 65.0

#: A message from when the ping was due puts the verdict off: the gateway's one lock, on which all its writers
#: wait in a stall, was free then, so the ping is missing for another reason. One from before shows nothing of
#: that, so a stall is noticed as soon where many messages come as where none do.
MESSAGE_LIMIT: Final = STALL_LIMIT - 54.0

#: After this many connections without any ping of the gateway's, something between us eats them.
_UNPINGED_LIMIT: Final = 3


class StallWatch:
    """Whether the lack of the gateway's own pings may be believed (contract L3)."""

    def __init__(self) -> None:
        self._seen_any = False
        self._unpinged = 0

    def deadline(self, opened: float, last_ping: float | None, last_frame: float) -> float:
        """Return when a link counts as stalled, on Trio's clock."""
        if last_ping is not None:
            self._seen_any = True
        elif not self._seen_any and self._unpinged >= _UNPINGED_LIMIT:
            return math.inf
        moved = opened if last_ping is None else last_ping
        return max(moved + STALL_LIMIT, last_frame + MESSAGE_LIMIT)

    def is_stalled(self) -> bool:
        """Judge a link whose deadline has passed."""
        if not self._seen_any:
            self._unpinged += 1
            if self._unpinged >= _UNPINGED_LIMIT:
                _logger.warning(
                    "%d connections had no ping of the gateway's; something between us eats them, "
                    "so a stalled gateway cannot be noticed by that sign any more",
                    self._unpinged,
                )
                return False
        return True


class RestLink(SocketLink):
    """The receive socket of a REST gateway. See :class:`trio_signal.gateways.Link`."""

    def __init__(
        self, socket: WebSocketLink, stall_watch: StallWatch, ping_interval: float, pong_timeout: float
    ) -> None:
        super().__init__(socket, ping_interval, pong_timeout)
        self._stall_watch = stall_watch
        self._has_stalled = False

    @property
    def absence(self) -> Absence:
        """See :class:`trio_signal.gateways.Link`."""
        moved = max(self._last_frame, self._socket.stream.last_pong_sent or self._opened)
        if self._has_stalled:
            # A ping of the gateway's own shows that its writer still moved; a pong to ours shows nothing.
            return Absence(GapReason.STALLED, moved)
        # Up to the last whole frame: bytes behind it belong to one that was lost with the connection.
        return Absence(GapReason.GATEWAY, max(moved, self._last_pong))

    def receive(self) -> Coroutine[Any, Any, list[bytes]]:
        """See :class:`trio_signal.gateways.Link`."""
        return self._frames()

    async def synchronise(self) -> None:
        """See :class:`trio_signal.gateways.Link`. This gateway keeps nothing that we could wait for."""
        await trio.lowlevel.checkpoint()

    def _stalled_at(self) -> float:
        return self._stall_watch.deadline(self._opened, self._socket.stream.last_pong_sent, self._last_frame)

    def _stalled(self) -> LinkLost | None:
        if not self._stall_watch.is_stalled():
            return None
        self._has_stalled = True
        return LinkLost(
            f"the gateway answers, but has sent no ping of its own for {STALL_LIMIT:g} s "
            f"and no message for {MESSAGE_LIMIT:g} s, so it delivers nothing",
            reason=Reason.GATEWAY_STALLED,
        )

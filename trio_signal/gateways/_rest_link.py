"""The receive socket of a REST gateway: alive, dead, or alive and stalled (contract L1, L3)."""

import logging
import math
from typing import Final

import trio

from .._continuity import GapReason
from .._errors import LinkLost, Reason
from .._websocket import WebSocketLink

_logger: Final = logging.getLogger("trio_signal.gateway")

#: The gateway pings each receive socket every 54 s, whether or not it has anything to deliver; one that stops
#: while it still answers our own pings has stopped delivering to everybody (contract L3).
STALL_LIMIT: Final = 65.0

#: After this many connections without any ping of the gateway's, something between us eats them.
_UNPINGED_LIMIT: Final = 3


class StallWatch:
    """Whether the lack of the gateway's own pings may be believed (contract L3)."""

    def __init__(self) -> None:
        self._seen_any = False
        self._unpinged = 0

    def deadline(self, opened: float, last_ping: float | None) -> float:
        """Return when a link counts as stalled, on Trio's clock."""
        if last_ping is not None:
            self._seen_any = True
            return last_ping + STALL_LIMIT
        if not self._seen_any and self._unpinged >= _UNPINGED_LIMIT:
            return math.inf
        return opened + STALL_LIMIT

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


class RestLink:
    """The receive socket of a REST gateway. See :class:`trio_signal.gateways.Link`."""

    def __init__(
        self, socket: WebSocketLink, stall_watch: StallWatch, ping_interval: float, pong_timeout: float
    ) -> None:
        self._socket = socket
        self._stall_watch = stall_watch
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._opened = self._last_frame = trio.current_time()
        self._stalled = False

    @property
    def bytes_received(self) -> int:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.bytes_received

    @property
    def last_received(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.last_received

    @property
    def absence(self) -> tuple[GapReason, float]:
        """See :class:`trio_signal.gateways.Link`."""
        if self._stalled:
            # A ping of the gateway's own shows that its writer still moved; a pong to ours shows nothing.
            return GapReason.STALLED, max(
                self._last_frame, self._socket.stream.last_pong_sent or self._opened
            )
        return GapReason.GATEWAY, self.last_received

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.ping()

    async def receive(self) -> list[str | bytes]:
        """See :class:`trio_signal.gateways.Link`."""
        frames = await self._socket.receive()
        self._last_frame = trio.current_time()
        return frames

    async def close(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.close()

    async def watch(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        while True:
            stalled_at = self._stall_watch.deadline(self._opened, self._socket.stream.last_pong_sent)
            await trio.sleep_until(min(self.last_received + self._ping_interval, stalled_at))
            # Bytes may have come while we slept, so look again instead of believing the alarm clock.
            now = trio.current_time()
            stalled_at = self._stall_watch.deadline(self._opened, self._socket.stream.last_pong_sent)
            if now >= stalled_at and self._stall_watch.is_stalled():
                self._stalled = True
                raise LinkLost(
                    f"the gateway answers, but has sent no ping of its own for {STALL_LIMIT:g} s, "
                    "so it delivers nothing",
                    reason=Reason.GATEWAY_STALLED,
                )
            if now >= self.last_received + self._ping_interval:
                await self._ping_or_fail()

    async def _ping_or_fail(self) -> None:
        limit = self.last_received + self._ping_interval + self._pong_timeout
        with trio.move_on_at(limit):
            await self._socket.ping()
        # Any byte counts as life, the pong or another.
        if trio.current_time() >= self.last_received + self._ping_interval + self._pong_timeout:
            silence = self._ping_interval + self._pong_timeout
            raise LinkLost(f"nothing came for {silence:g} s, not even a pong", reason=Reason.NO_ANSWER)

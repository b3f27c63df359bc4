"""A WebSocket as a link: whether the other side is alive (contract L1), whatever it has to say."""

import abc

import trio

from .._errors import LinkLost, Reason
from .._websocket import WebSocketLink


class SocketLink(abc.ABC):
    """What the receive sockets of all gateways have in common. See :class:`trio_signal.gateways.Link`.

    Args:
        socket: the open WebSocket.
        ping_interval: silence before we ping, in seconds.
        pong_timeout: silence after that before the link counts as dead, in seconds.
    """

    def __init__(self, socket: WebSocketLink, ping_interval: float, pong_timeout: float) -> None:
        self._socket = socket
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._opened = self._last_frame = self._last_pong = trio.current_time()

    @property
    def patience(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return 0.0

    @property
    def bytes_received(self) -> int:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.bytes_received

    @property
    def last_received(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.last_received

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.ping()
        self._last_pong = trio.current_time()

    async def heard(self, since: float) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.stream.heard(since)

    async def close(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.close()

    async def watch(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        while True:
            await trio.sleep_until(min(self.last_received + self._ping_interval, self._stalled_at()))
            # Bytes may have come while we slept, so look again instead of believing the alarm clock.
            now = trio.current_time()
            if now >= self._stalled_at() and (stalled := self._stalled()) is not None:
                raise stalled
            if now >= self.last_received + self._ping_interval:
                await self._ping_or_fail()

    @abc.abstractmethod
    def _stalled_at(self) -> float:
        """Return when the link delivers nothing any more though it answers pings, on Trio's clock."""

    @abc.abstractmethod
    def _stalled(self) -> LinkLost | None:
        """Judge a link that has come to that moment."""

    async def _frames(self) -> list[bytes]:
        """Wait for frames and return all that are there. A checkpoint; cancelling loses none."""
        stream = self._socket.stream
        # Asked directly, since each layer costs something for each read; the other way tells the end.
        frames = await stream.draw() or await self._socket.receive()
        # Frames are given as soon as they are read.
        self._last_frame = stream.last_received
        return frames

    async def _ping_or_fail(self) -> None:
        limit = self.last_received + self._ping_interval + self._pong_timeout
        with trio.move_on_at(limit):
            await self._socket.ping()
            self._last_pong = trio.current_time()
        # Any byte counts as life, the pong or another.
        if trio.current_time() >= self.last_received + self._ping_interval + self._pong_timeout:
            silence = self._ping_interval + self._pong_timeout
            raise LinkLost(f"nothing came for {silence:g} s, not even a pong", reason=Reason.NO_ANSWER)

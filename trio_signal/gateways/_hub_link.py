"""The WebSocket of a hub: moves data, and leaves to :mod:`._hub_frames` what it says."""

from collections.abc import Callable
from typing import Final

import trio

from .._continuity import Cursor, Position
from .._errors import LinkLost, Reason
from .._websocket import WebSocketLink
from . import Numbered
from ._hub_frames import HubFrames
from ._socket_link import SocketLink

#: A hub that says nothing for this many of its heartbeats delivers nothing any more.
_HEARTBEATS: Final = 3

#: More than this in that time is no pongs, but a large frame that is on its way, in bytes.
_MORE_THAN_PONGS: Final = 4096


class Oversize:
    """Knows behind which message the last link met one that was too large to take.

    That message would end each further link in the same place. It is passed over, as a
    gap, once it has ended two: the first may have been something else, which does not
    come again.
    """

    def __init__(self) -> None:
        self._behind: Position | None = None

    def met(self, behind: Position | None) -> bool:
        """Note that a link has met one behind this place; say whether the one before had, too."""
        again = behind is not None and behind == self._behind
        self._behind = None if again else behind
        return again


class HubLink(SocketLink):
    """The WebSocket of a hub. See :class:`trio_signal.gateways.Link`.

    Args:
        socket: the open WebSocket.
        resume: where to go on; None to begin with what comes from now on.
        oversize: what the links before this one met.
        now: tells the time in milliseconds since the epoch.
        ping_interval: silence before we ping, in seconds.
        pong_timeout: silence after that before the link counts as dead, in seconds.
    """

    def __init__(
        self,
        socket: WebSocketLink,
        resume: Cursor | None,
        oversize: Oversize,
        *,
        now: Callable[[], int],
        ping_interval: float,
        pong_timeout: float,
    ) -> None:
        super().__init__(socket, ping_interval, pong_timeout)
        self._frames_read: Final = HubFrames(resume)
        self._oversize: Final = oversize
        self._now: Final = now
        self._end: Exception | None = None
        self._greeted: Final = trio.Event()
        self._synchronised: Final = trio.Event()
        #: When the link delivered something last, and how many bytes had come by then.
        self._progress = trio.current_time()
        self._progress_bytes = 0

    @property
    def absence(self) -> None:
        """See :class:`trio_signal.gateways.Link`. A hub keeps what comes, and says what it has lost."""
        return

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`. The hello is the answer.

        A pong would stand behind the first page of what was missed, which may take longer than an attempt.
        """
        await self._greeted.wait()

    async def receive(self) -> list[Numbered]:
        """See :class:`trio_signal.gateways.Link`."""
        items: list[Numbered] = []
        while not items:
            self._tell_progress()
            if self._end is not None:
                await trio.lowlevel.checkpoint()
                raise self._end
            try:
                frames = await self._frames()
            except LinkLost as error:
                items = self._note_end(error)
            else:
                items = self._read(frames)
            if self._frames_read.position is not None:
                self._greeted.set()
        return items  # noqa: ASYNC910  (it waited for frames to read them)

    async def synchronise(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._synchronised.wait()

    def _read(self, frames: list[bytes]) -> list[Numbered]:
        """Read frames up to the first that ends the link; what came before it is given first."""
        now, items = self._now(), list[Numbered]()
        read, before = self._frames_read.read, self._frames_read.position
        try:
            for frame in frames:
                items += read(frame, now)
        except Exception as error:  # noqa: BLE001  (raised by the next call, behind these items)
            self._end = error
        # Until it has given what we missed, a hub that gives anything else gets nowhere.
        if self._frames_read.is_synchronised or self._frames_read.position != before:
            self._note_progress()
        return items

    def _note_progress(self) -> None:
        self._progress, self._progress_bytes = trio.current_time(), self.bytes_received

    def _note_end(self, error: LinkLost) -> list[Numbered]:
        self._end = self._frames_read.explain(error)
        too_large = error.close_code == 1009 and error.reason is Reason.CONNECTION_LOST
        if too_large and self._oversize.met(self._frames_read.position):
            return self._frames_read.skip(self._now())
        return []

    def _tell_progress(self) -> None:
        """Say that we are synchronised, now that all that was given is in the inbox (contract C3)."""
        if self._frames_read.is_synchronised:
            self._synchronised.set()

    def _stalled_at(self) -> float:
        return self._progress + _HEARTBEATS * self._frames_read.heartbeat_interval

    def _stalled(self) -> LinkLost | None:
        if self.bytes_received - self._progress_bytes > _MORE_THAN_PONGS:
            self._note_progress()
            return None
        silence = _HEARTBEATS * self._frames_read.heartbeat_interval
        return LinkLost(
            f"the hub answers, but has sent nothing of its own that gets us on for {silence:g} s",
            reason=Reason.GATEWAY_STALLED,
        )

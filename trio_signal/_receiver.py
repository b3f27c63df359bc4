"""The receive task: frames in, events out. It never waits for the application."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from ._continuity import Gap, GapReason
from ._envelopes import ReceivedMessage, decode_frame
from ._inbox import Event, Inbox
from ._journal import Journal
from .gateways import Link


class WallClock:
    """Milliseconds since the epoch, now and at a past moment of Trio's clock.

    Args:
        source: the wall clock, in seconds since the epoch.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source

    def now(self) -> int:
        """Return the present time."""
        return int(self._source() * 1000)

    def at(self, moment: float) -> int:
        """Return the time that corresponds to a moment of Trio's clock."""
        return int((self._source() - (trio.current_time() - moment)) * 1000)


@dataclass(frozen=True, slots=True)
class ReceiveStatistics:
    """What has come in.

    Attributes:
        received: events handed to the inbox, without gaps.
        undecodable: how many of them could not be understood.
        duplicates: messages that had come before and were dropped.
        gaps: absences that were reported.
    """

    received: int
    undecodable: int
    duplicates: int
    gaps: int


class Receiver:
    """Turns frames into events: decoded, without duplicates, with gaps in their place.

    Args:
        inbox: where the events go.
        journal: what knows which messages have come before.
        wall: tells the time of day.
    """

    def __init__(self, inbox: Inbox, journal: Journal, wall: WallClock) -> None:
        self._inbox: Final = inbox
        self._journal: Final = journal
        self._wall: Final = wall
        self._absence: tuple[GapReason, int] | None = None
        self._received = self._undecodable = self._duplicates = self._gaps = 0

    async def run(self, link: Link) -> None:
        """Take in what comes over a link until it ends, by raising :class:`LinkLost`. Cancelling is safe."""
        while True:
            self.take_in(await link.receive())

    def take_in(self, frames: Iterable[str | bytes]) -> None:
        """Put frames into the inbox as events. Never waits, whatever they hold."""
        self.report_absence()
        events: list[Event] = []
        for frame in frames:
            event = decode_frame(frame)
            if not isinstance(event, ReceivedMessage):
                self._undecodable += 1
            elif (key := event.duplicate_key) is not None and not self._journal.is_new(key):
                self._duplicates += 1
                continue
            events.append(event)
        self._received += len(events)
        self._inbox.put(events, time=self._wall.now())

    @property
    def absent_since(self) -> int | None:
        """When an absence began that is not reported yet, in milliseconds since the epoch."""
        return self._absence[1] if self._absence else None

    def begin_absence(self, reason: GapReason, since: int) -> None:
        """Note that messages may be missed from ``since`` on; one that is open already goes on."""
        if self._absence is None:
            self._absence = (reason, since)

    def report_absence(self) -> None:
        """Put the gap for an open absence, which ends now, into the inbox.

        The first frame on a new link does this, or the link's first pong where no frame
        comes: only then is it certain that the gateway has taken note of us.
        """
        if self._absence is not None:
            (reason, since), self._absence = self._absence, None
            now = self._wall.now()
            self._gaps += 1
            self._inbox.put([Gap(reason, since, max(since, now))], time=now)

    def statistics(self) -> ReceiveStatistics:
        """Return the present figures."""
        return ReceiveStatistics(self._received, self._undecodable, self._duplicates, self._gaps)

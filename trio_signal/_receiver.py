"""The receive task: frames in, events out. It never waits for the application."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeGuard

import trio

from ._continuity import Cursor, Gap, GapReason, cursor_at
from ._decoding import decode_frame, decode_frames
from ._envelopes import Decoded, ReceivedMessage, Undecodable
from ._inbox import Inbox
from ._journal import Journal
from .gateways import Link, Note, Numbered

_NOBODY: Final[Mapping[str, str]] = {}


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


class Listener(Protocol):
    """Whoever wants to know what comes, and what may have been missed, before the application does."""

    @property
    def people(self) -> Mapping[str, str]:
        """The UUID of each number, as far as is known."""
        ...

    def hear(self, event: Decoded) -> None:
        """Take note of what came.

        Not of what has a number: a hub gives that to all its clients. Nor of an ordinary message of somebody
        else's from which there is nothing to learn: the sender is in ``people``, or tells only one name.
        """
        ...

    def missed(self, until: int) -> None:
        """Take note of an absence that is over: until when it was, in milliseconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class ReceiveStatistics:
    """What has come in.

    Attributes:
        received: events handed to the inbox, without gaps.
        undecodable: how many of them could not be understood.
        duplicates: messages that had come before and were dropped.
        gaps: how often it was reported that messages may be missing, without an inbox that was full.
    """

    received: int
    undecodable: int
    duplicates: int
    gaps: int


class _Absence(NamedTuple):
    """An absence that is not reported yet; times in milliseconds since the epoch."""

    reason: GapReason
    since: int
    until: float

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is missed by it."""
        return self.until <= self.since


class Receiver:
    """Turns frames into events: decoded, without duplicates, with gaps in their place.

    Args:
        inbox: where the events go.
        journal: what knows which messages have come before.
        wall: tells the time of day.
        listener: told of what comes.

    Attributes:
        has_numbers: whether the gateway numbers what it gives, as a hub does; False before there was a link.
    """

    def __init__(
        self, inbox: Inbox, journal: Journal, wall: WallClock, listener: Listener | None = None
    ) -> None:
        self._inbox: Final = inbox
        self._journal: Final = journal
        self._wall: Final = wall
        self._listener: Final = listener
        self.has_numbers = False
        self._absence: _Absence | None = None
        self._is_doubtful = self._has_begun = False
        #: The last absence by which nothing was missed, from when until when.
        self._harmless = (0, -1)
        cursor = journal.cursor
        #: Up to when everything was put into the inbox, and the place behind it.
        self._reached = None if cursor is None else (cursor.time, cursor.position)
        self._received = self._undecodable = self._duplicates = self._gaps = 0

    def take_in(self, items: Sequence[str | bytes | Undecodable | Numbered]) -> None:
        """Put what came into the inbox as events. Never waits, whatever it is."""
        if self._absence is not None or not self._has_begun:
            self.report_absence(in_passing=True)
        # While an absence is in doubt the cursor has to stay before it.
        now = self._wall.now() if self._absence is None else self._absence.since
        if _are_raw(items):
            self._hand_over(decode_frames(items), now)
            return
        events: list[Decoded] = []
        for item in items:
            if isinstance(item, Numbered):
                self._hand_over(events, now)
                events = []
                self._take_in_numbered(item)
            else:
                events.append(item if isinstance(item, Undecodable) else decode_frame(item))
        self._hand_over(events, now)

    def _hand_over(self, events: Sequence[Decoded], now: int) -> None:
        """Put what has come so far into the inbox, without duplicates."""
        new, listener = self._journal.new_of(events), self._listener
        telling = _telling(new, _NOBODY if listener is None else listener.people)
        self._received += len(new)
        self._duplicates += len(events) - len(new)
        self._inbox.put(new, time=now)
        if telling:
            self._undecodable += sum(isinstance(event, Undecodable) for event in telling)
        if listener is not None:
            for event in telling:
                listener.hear(event)

    def begin(self, link: Link) -> None:
        """Note that a link stands; this decides who tells what was missed before."""
        self.has_numbers = link.absence is None
        if link.absence is None:
            self._absence = None
            return
        self._inbox.leave_numbers()
        if self._reached is not None:
            # How long the process before us lived on after that moment, nobody knows; what it received then
            # and did not hand over is lost.
            self.begin_absence(GapReason.GATEWAY, self._reached[0])
            self._reached = None

    @property
    def resume(self) -> Cursor | None:
        """Where the next link goes on: behind all that was put into the inbox, or where another process was.

        None where the gateway keeps nothing.
        """
        return None if self._reached is None else cursor_at(*self._reached)

    @property
    def absent_since(self) -> int | None:
        """When an absence began that is not reported yet, in milliseconds since the epoch."""
        return self._absence.since if self._absence else None

    def begin_absence(self, reason: GapReason, since: int, lasts: float = math.inf) -> None:
        """Note that messages may be missed from ``since`` on; one that is open already goes on.

        Args:
            reason: why.
            since: in milliseconds since the epoch.
            lasts: for how long at most, in seconds.
        """
        began, over = self._harmless
        opened, until = self._absence, since + lasts * 1000
        if since <= over:
            # Nothing has come since an absence was held to be harmless, so what waited then may be lost now.
            since = min(since, began)
            if not lasts:
                until = since
        if opened is None:
            self._absence = _Absence(reason, since, until)
        elif lasts:
            # From the beginning of all, also where that was harmless: what waited since then may be lost now.
            self._absence = opened._replace(until=max(opened.until, until))

    def report_absence(self, *, in_passing: bool = False) -> None:
        """Put the gap for an open absence, which ends now, into the inbox.

        The first frame on a new link does this, or the link's first pong where no frame
        comes: only then is it certain that the gateway has taken note of us.

        Args:
            in_passing: more of what waited may come, so that a harmless absence is not over yet.
        """
        if not self._has_begun:
            self._has_begun = True
            if self._listener is not None:
                # Nobody knows what was sent before we listened.
                self._listener.missed(self._wall.now())
        if self._absence is None or self._is_doubtful or (in_passing and self._absence.is_harmless):
            return
        absence, self._absence = self._absence, None
        now = self._wall.now()
        if absence.is_harmless:
            self._harmless = absence.since, now
            return
        until = max(absence.since, int(min(absence.until, now)))
        self._gaps += 1
        self._inbox.add(Gap(absence.reason, absence.since, until), time=now)
        if self._listener is not None:
            self._listener.missed(until)

    def doubt_absence(self) -> None:
        """Leave the open absence open, whatever comes, until it is settled: perhaps nothing is missed."""
        self._is_doubtful = True

    def split_absence(self) -> None:
        """Report the open absence up to now, and begin another from now on, which is in doubt as well."""
        self.settle_absence(was_missed=True)
        self.report_absence()
        self.begin_absence(GapReason.GATEWAY, self._wall.now())
        self.doubt_absence()

    def settle_absence(self, *, was_missed: bool) -> None:
        """End the doubt: the absence is reported by what comes next, or there was none."""
        self._is_doubtful = False
        if not was_missed:
            self._absence = None

    def statistics(self) -> ReceiveStatistics:
        """Return the present figures."""
        return ReceiveStatistics(self._received, self._undecodable, self._duplicates, self._gaps)

    def _take_in_numbered(self, numbered: Numbered) -> None:
        """Put one item of a gateway that numbers them where it belongs; its number tells duplicates."""
        item, position, time = numbered
        if isinstance(item, Gap):
            self._gaps += 1
            self._inbox.add(item, time=time, position=position)
        elif not isinstance(item, Note):
            event = item if isinstance(item, Undecodable) else decode_frame(item)
            self._received += 1
            self._undecodable += isinstance(event, Undecodable)
            self._inbox.add(event, time=time, position=position)
        elif item is Note.DUPLICATE:
            self._duplicates += 1
        elif position is not None:
            self._inbox.advance(position)
        if position is not None:
            self._reached = (time, position)


def _are_raw(items: Sequence[str | bytes | Undecodable | Numbered]) -> TypeGuard[Sequence[bytes]]:
    """Say whether all are frames as they came, which is what nearly every gateway gives."""
    return {bytes}.issuperset(map(type, items))


def _telling(events: Sequence[Decoded], people: Mapping[str, str]) -> list[Decoded]:
    """Return those from which a listener that knows these people may learn anything."""
    uuid_of = people.get
    telling: list[Decoded] = []
    for event in events:
        if type(event) is not ReceivedMessage:
            telling.append(event)
            continue
        envelope, account = event.envelope, event.account
        number, uuid = envelope.source_number, envelope.source_uuid
        if (
            envelope.data_message is None  # noqa: PLR1714  (a tuple would have to be made of the last three)
            or event.exception is not None
            or envelope.sync_message is not None
            or envelope.receipt_message is not None
            or (number is not None and uuid is not None and uuid_of(number) != uuid)
            # What a device of the account sends with `notify_self` reaches the others as an ordinary message.
            or account == number
            or account == uuid
            or account == envelope.source
        ):
            telling.append(event)
    return telling

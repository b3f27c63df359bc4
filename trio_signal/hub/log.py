"""The hub's log: here every message gets its number, and here those who were away read what came. Pure.

**Sequence.** Numbers start at 1 and have no holes, so a client that had 7 and sees 9 knows what it lacks, and
what it lacks has a name. The next number follows from what there is, the head and the drafts behind it, and
one place moves the head: :meth:`MessageLog._keep`. The number is spliced into the JSON object once; the same
bytes then serve the ring, every live client, every answer to somebody who was away and the disk, so a frame
never carries another number than the stored message.

**Drafts.** Where the log is kept on disk, an entry gets its number first, then goes to the disk, and only
then may anybody see it (contract H1): somebody who had been offered 8 by a hub that dies before 8 is on disk
would meet another 8 afterwards, under the same epoch. So :meth:`MessageLog.draft` gives a number and nothing
else: head, pages and figures are as if the entry did not exist. :meth:`MessageLog.publish` makes drafts
visible, always the oldest first. Without a disk :meth:`MessageLog.append` does both at once.

**Epoch.** A number means something only within one counting. After a restart without its past a hub counts
from 1 again, and "since 7" would quietly mean another 7. So each log draws a random name for its counting,
and a client gives it back with its number. Another name, or a number that was never given out, is answered
with everything kept and a hole without numbers, for nobody can say what is missing there. Equal epochs mean
equal numbering (contract H3). A client that gives no epoch is believed as far as its number can be true:
continuity over restarts is promised only to those who give it. A log that has its past back
(:meth:`MessageLog.resume`) goes on under the old name, if it is certain that nothing that was ever offered is
missing from it; otherwise it keeps what there is, and counts on from there under a new one.

**Ring.** A list of fixed length; number n lives in slot ``n % max_messages``. What is kept is always one
contiguous run, ``oldest`` to ``head``, and an empty log has ``oldest == head + 1``. So a look-up is
arithmetic, a page is a slice, and nothing is ever searched. The run loses entries at its old end only: by
number, by bytes, by age. An entry that is larger than all the room there is pushes out everything, itself
included, since keeping those before it would leave a hole in the middle.

**Expiry** holds at the moment of reading: each read first drops what is older than ``max_age`` by the log's
clock. That clock is monotonic, so nobody who sets the time of day makes messages live for ever or die at
once; a reading below an earlier one counts as the earlier one. An entry's age counts from when it became
visible: that is what the absences of readers are measured against. Only over a restart there is nothing but
the time of day to tell how old an entry is. There an age is never negative and no entry counts as older than
the one before it, so a clock that was set back lengthens what is left of a life, by ``max_age`` at most; one
that was set forward ends it, which every reader is told.

**Honesty about holes.** Who asks for what came after N gets either all of it, or what is still kept and a
:class:`Hole` that names the numbers that are gone and says why. There is no third case. ``oldest - 1``
is complete, ``head`` is complete and empty, and that stays true when everything has expired.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .._checks import check_count, check_positive
from .._continuity import MAX_EPOCH, Gap, GapReason
from .._errors import ConfigurationError
from ..store._batch import LogPast, LogRow
from . import _protocol
from ._pages import Hole, LogEntry, Page

#: What an entry costs beside the text of its body, in bytes, roughly: three objects and a slot.
_OVERHEAD: Final = 200

#: Why most entries go.
_OVERWRITTEN: Final = GapReason.OVERWRITTEN


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """The log at one moment.

    Attributes:
        epoch: the name of this numbering.
        head: the last number given out.
        oldest: the first number kept.
        messages: entries kept.
        bytes: what they cost, in bytes.
        max_messages: the most entries kept.
        max_bytes: the most bytes kept.
        max_age: how long an entry is kept, in seconds.
        seconds_covered: see :attr:`MessageLog.seconds_covered`.
        overwritten: entries that went for want of room, ever.
        expired: entries that went because of their age, ever.
    """

    epoch: str
    head: int
    oldest: int
    messages: int
    bytes: int
    max_messages: int
    max_bytes: int
    max_age: float
    seconds_covered: float
    overwritten: int
    expired: int


_EMPTY: Final = LogEntry(0, 0.0, b"")


class MessageLog:
    """Numbers messages and keeps the last of them. All methods are synchronous, so never a checkpoint.

    Args:
        max_messages: the most entries kept.
        max_age: how long an entry is kept, in seconds of ``clock``.
        max_bytes: the most bytes kept, counting some for each entry beside its body.
        epoch: the name of this numbering; a random one by default. Give one only to a log that
            goes on where another one of that name ended; where there is a store, that is told by it.
        clock: tells seconds that never go back.

    Raises:
        ConfigurationError: a limit is not positive, or the epoch is not a text of at least one character.
    """

    def __init__(
        self,
        *,
        max_messages: int = 500,
        max_age: float = 900.0,
        max_bytes: int = 64 * 1024 * 1024,
        epoch: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_messages: Final = check_count("max_messages", max_messages)
        self._max_age: Final = check_positive("max_age", max_age)
        self._max_bytes: Final = check_count("max_bytes", max_bytes)
        self._epoch = _checked_epoch(_new_epoch() if epoch is None else epoch)
        self._clock: Final = clock
        self._ring: Final = [_EMPTY] * self._max_messages
        self._head = 0
        self._oldest = 1
        self._bytes = 0
        #: Numbered, not visible yet; the oldest follows the head.
        self._drafts: Final = deque[LogEntry]()
        self._draft_bytes = 0
        self._overwritten = 0
        self._expired = 0
        self._now = clock()
        # After this moment nothing that came is missing; before it, something may be.
        self._complete_after = self._now
        self._last_loss = GapReason.EXPIRED

    @property
    def epoch(self) -> str:
        """The name of this numbering. It never changes once there is a number, or a past."""
        return self._epoch

    @property
    def head(self) -> int:
        """The last number that anybody has seen; 0 if there is none."""
        return self._head

    @property
    def drafts(self) -> int:
        """How many entries are numbered and not visible yet."""
        return len(self._drafts)

    @property
    def draft_bytes(self) -> int:
        """What they cost, in bytes."""
        return self._draft_bytes

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever numbered here."""
        return self._next == 1

    @property
    def oldest(self) -> int:
        """The first number kept at this moment; ``head + 1`` if none is."""
        self._expire()
        return self._oldest

    @property
    def seconds_covered(self) -> float:
        """How far back everything that came is still kept, in seconds, ``max_age`` at most.

        A client that was away for less than this misses nothing. A new log starts at 0: what
        came before it is not in it.
        """
        self._expire()
        return min(self._now - self._complete_after, self._max_age)

    def append(self, data: bytes, *, timestamp: int) -> LogEntry:
        """Number a message and keep it (contract H1).

        Args:
            data: valid JSON, spliced in unchanged.
            timestamp: the time of day in milliseconds since the epoch.

        Raises:
            ValueError: there are drafts, which come first.
        """
        if self._drafts:
            raise self._drafts_first()
        return self._keep(_protocol.message(self._head + 1, timestamp, data))

    def append_gap(self, gap: Gap, *, timestamp: int) -> LogEntry:
        """Number an absence of the hub from its gateway, so that every client hears of it in its place.

        Args:
            gap: the absence.
            timestamp: the time of day in milliseconds since the epoch.

        Raises:
            ValueError: there are drafts, which come first.
        """
        if self._drafts:
            raise self._drafts_first()
        return self._keep(_protocol.gap(self._head + 1, timestamp, gap))

    def draft(self, data: bytes, *, timestamp: int) -> LogEntry:
        """Number a message that nobody may see yet; arguments as for :meth:`append`."""
        return self._draft(_protocol.message(self._next, timestamp, data))

    def draft_gap(self, gap: Gap, *, timestamp: int) -> LogEntry:
        """Number an absence that nobody may see yet; arguments as for :meth:`append_gap`."""
        return self._draft(_protocol.gap(self._next, timestamp, gap))

    def publish(self, sequence: int) -> tuple[LogEntry, ...]:
        """Keep all drafts up to this number, and return them: from now on everybody may have them."""
        published: list[LogEntry] = []
        while self._drafts and self._drafts[0].sequence <= sequence:
            draft = self._drafts.popleft()
            self._draft_bytes -= _cost(draft)
            published.append(self._keep(draft.body))
        return tuple(published)

    def oldest_with(self, sequence: int) -> int:
        """Return the first number that a restart may still ask for once the draft ``sequence`` is on disk."""
        return max(self.oldest, sequence + 1 - self._max_messages)

    def resume(self, past: LogPast, *, wall: int) -> None:
        """Go on where an earlier process ended, within the bounds of this log.

        Args:
            past: what is left of it.
            wall: the time of day now, in milliseconds since the epoch.

        Raises:
            ConfigurationError: something was numbered here before.
        """
        if not self.is_new:
            raise ConfigurationError("log", "one that goes on from a store must be new, with nothing in it")
        self._epoch = past.epoch if past.continues else _new_epoch()
        self._now = now = max(self._now, self._clock())
        times = _times(past.rows, now, wall)
        self._head = past.head - len(past.rows)
        self._oldest = self._head + 1
        # Of what was let go before that, nobody knows any more when it came and why it went.
        self._complete_after = times[0] if times else now
        self._last_loss = GapReason.OVERWRITTEN if len(times) >= self._max_messages else GapReason.EXPIRED
        for row, came in zip(past.rows, times, strict=True):
            self._keep(row.body, came)
        self._expire()
        if not past.continues:
            # Something may have been offered of which nothing is left.
            self._complete_after = now

    def since(
        self,
        sequence: int,
        *,
        epoch: str | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> Page:
        """Return what came after ``sequence``, or what is kept of it and what is not (contract H4, H5).

        Args:
            sequence: the last number the reader has had; 0 for everything kept.
            epoch: the numbering it belongs to; None if the reader does not know.
            limit: the most messages to give; all by default.
            max_bytes: stop before the bodies together exceed this; one message is always given.

        Raises:
            ValueError: ``sequence`` is negative or ``limit`` is not positive.
        """
        if sequence < 0:
            raise ValueError(f"a sequence number is 0 or more, not {sequence}")
        if limit is not None and limit < 1:
            raise ValueError(f"a page has at least one message, not {limit}")
        self._expire()
        hole = self._hole(sequence, epoch)
        start = self._oldest if hole else sequence + 1
        end = self._end(start, limit, max_bytes)
        more = end <= self._head
        return Page(self._slice(start, end), self._epoch, self._head, self._oldest, hole, more)

    def statistics(self) -> LogStatistics:
        """Return the log at this moment."""
        covered = self.seconds_covered
        return LogStatistics(
            epoch=self._epoch,
            head=self._head,
            oldest=self._oldest,
            messages=self._head + 1 - self._oldest,
            bytes=self._bytes,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
            max_age=self._max_age,
            seconds_covered=covered,
            overwritten=self._overwritten,
            expired=self._expired,
        )

    @property
    def _next(self) -> int:
        return self._head + len(self._drafts) + 1

    def _draft(self, body: bytes) -> LogEntry:
        entry = LogEntry(self._next, self._now, body)
        self._drafts.append(entry)
        self._draft_bytes += _cost(entry)
        return entry

    def _drafts_first(self) -> ValueError:
        return ValueError(f"{len(self._drafts)} drafts come before it")

    def _keep(self, body: bytes, came: float | None = None) -> LogEntry:
        """Move the head by one, to this entry; ``came`` where it is older than this moment."""
        self._expire()  # first, so that what is too old does not count as overwritten
        self._head = number = self._head + 1
        entry = LogEntry(number, self._now if came is None else came, body)
        size = self._bytes + len(body) + _OVERHEAD
        ring, slot = self._ring, number % self._max_messages
        if number - self._oldest == self._max_messages:
            # A full log does this for each message, so it is laid out: the oldest has the slot of the newest.
            old = ring[slot]
            size -= len(old.body) + _OVERHEAD
            self._oldest += 1
            self._overwritten += 1
            self._complete_after = old.time
            self._last_loss = _OVERWRITTEN
        ring[slot] = entry
        self._bytes = size
        while self._bytes > self._max_bytes:
            self._overwrite()
        return entry

    def _expire(self) -> None:
        # Each entry is dropped once, so over time this costs a constant for each message.
        clock, ring, size = self._clock, self._ring, self._max_messages
        if (now := clock()) > self._now:
            self._now = now
        else:
            now = self._now
        while self._oldest <= self._head and now - ring[self._oldest % size].time > self._max_age:
            self._drop_oldest(GapReason.EXPIRED)
            self._expired += 1

    def _overwrite(self) -> None:
        self._drop_oldest(_OVERWRITTEN)
        self._overwritten += 1

    def _drop_oldest(self, reason: GapReason) -> None:
        slot = self._oldest % self._max_messages
        entry = self._ring[slot]
        self._ring[slot] = _EMPTY
        self._bytes -= len(entry.body) + _OVERHEAD
        self._oldest += 1
        self._complete_after = entry.time
        self._last_loss = reason

    def _hole(self, sequence: int, epoch: str | None) -> Hole | None:
        if (epoch is not None and epoch != self._epoch) or sequence > self._head:
            return Hole(GapReason.EPOCH_CHANGED, None, None)
        if sequence < self._oldest - 1:
            return Hole(self._last_loss, sequence + 1, self._oldest - 1)
        return None

    def _end(self, start: int, limit: int | None, max_bytes: int | None) -> int:
        """Return the number after the last one of a page that begins with ``start``."""
        end = self._head + 1 if limit is None else min(self._head + 1, start + limit)
        if max_bytes is None:
            return end
        size = 0
        for number in range(start, end):
            size += len(self._ring[number % self._max_messages].body)
            if size > max_bytes and number > start:
                return number
        return end

    def _slice(self, start: int, end: int) -> tuple[LogEntry, ...]:
        """Return the entries from number ``start`` up to, but not including, ``end``."""
        if start == end:
            return ()
        first, last = start % self._max_messages, (end - 1) % self._max_messages
        if first <= last:
            return tuple(self._ring[first : last + 1])
        return (*self._ring[first:], *self._ring[: last + 1])


def _new_epoch() -> str:
    return secrets.token_urlsafe(12)


def _checked_epoch(epoch: object) -> str:
    if isinstance(epoch, str) and 0 < len(epoch) <= MAX_EPOCH:
        return epoch
    raise ConfigurationError("epoch", f"{epoch!r} is not a text of 1 to {MAX_EPOCH} characters")


def _cost(entry: LogEntry) -> int:
    return len(entry.body) + _OVERHEAD


def _times(rows: tuple[LogRow, ...], now: float, wall: int) -> list[float]:
    """Return when entries came by the log's clock, which shows ``now`` while the time of day is ``wall``."""
    times: list[float] = []
    for row in rows:
        came = now - max(0, wall - row.time) / 1000
        times.append(max(came, times[-1]) if times else came)
    return times

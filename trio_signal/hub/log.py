"""The hub's log: here every message gets its number, and here those who were away read what came. Pure.

**Sequence.** One counter, and one place that moves it: :meth:`MessageLog._append`. Numbers start at 1 and
have no holes, so a client that had 7 and sees 9 knows what it lacks, and what it lacks has a name. The number
is spliced into the JSON object once; the same bytes then serve the ring, every live client and every answer
to somebody who was away, so a frame never carries another number than the stored message.

**Epoch.** A number means something only within one counting. After a restart without its past a hub counts
from 1 again, and "since 7" would quietly mean another 7. So each log draws a random name for its counting,
and a client gives it back with its number. Another name, or a number that was never given out, is answered
with everything kept and a hole without numbers, for nobody can say what is missing there. Equal epochs mean
equal numbering (contract H3). A client that gives no epoch is believed as far as its number can be true:
continuity over restarts is promised only to those who give it.

**Ring.** A list of fixed length; number n lives in slot ``n % max_messages``. What is kept is always one
contiguous run, ``oldest`` to ``head``, and an empty log has ``oldest == head + 1``. So a look-up is
arithmetic, a page is a slice, and nothing is ever searched. The run loses entries at its old end only: by
number, by bytes, by age. An entry that is larger than all the room there is pushes out everything, itself
included, since keeping those before it would leave a hole in the middle.

**Expiry** holds at the moment of reading: each read first drops what is older than ``max_age`` by the log's
clock. That clock is monotonic, so nobody who sets the time of day makes messages live for ever or die at
once; a reading below an earlier one counts as the earlier one.

**Honesty about holes.** Who asks for what came after N gets either all of it, or what is still kept and a
:class:`Hole` that names the numbers that are gone and says why. There is no third case. ``oldest - 1``
is complete, ``head`` is complete and empty, and that stays true when everything has expired.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .._checks import check_count, check_positive
from .._continuity import MAX_EPOCH, Gap, GapReason
from .._errors import ConfigurationError
from . import _protocol
from ._pages import Hole, LogEntry, Page

#: What an entry costs beside the text of its body, in bytes, roughly: three objects and a slot.
_OVERHEAD: Final = 200


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
            goes on where another one of that name ended.
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
        self._epoch: Final = _checked_epoch(secrets.token_urlsafe(12) if epoch is None else epoch)
        self._clock: Final = clock
        self._ring: Final = [_EMPTY] * self._max_messages
        self._head = 0
        self._oldest = 1
        self._bytes = 0
        self._overwritten = 0
        self._expired = 0
        self._now = clock()
        # After this moment nothing that came is missing; before it, something may be.
        self._complete_after = self._now
        self._last_loss = GapReason.EXPIRED

    @property
    def epoch(self) -> str:
        """The name of this numbering. It never changes."""
        return self._epoch

    @property
    def head(self) -> int:
        """The last number given out; 0 if none was."""
        return self._head

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
        """
        return self._append(_protocol.message(self._head + 1, timestamp, data))

    def append_gap(self, gap: Gap, *, timestamp: int) -> LogEntry:
        """Number an absence of the hub from its gateway, so that every client hears of it in its place.

        Args:
            gap: the absence.
            timestamp: the time of day in milliseconds since the epoch.
        """
        return self._append(_protocol.gap(self._head + 1, timestamp, gap))

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

    def _append(self, body: bytes) -> LogEntry:
        self._expire()  # first, so that what is too old does not count as overwritten
        if self._head + 1 - self._oldest == self._max_messages:
            self._overwrite()
        self._head += 1
        entry = LogEntry(self._head, self._now, body)
        self._ring[self._head % self._max_messages] = entry
        self._bytes += _cost(entry)
        while self._bytes > self._max_bytes:
            self._overwrite()
        return entry

    def _expire(self) -> None:
        # Each entry is dropped once, so over time this costs a constant for each message.
        self._now = max(self._now, self._clock())
        while (
            self._oldest <= self._head
            and self._now - self._ring[self._oldest % self._max_messages].time > self._max_age
        ):
            self._drop_oldest(GapReason.EXPIRED)
            self._expired += 1

    def _overwrite(self) -> None:
        self._drop_oldest(GapReason.OVERWRITTEN)
        self._overwritten += 1

    def _drop_oldest(self, reason: GapReason) -> None:
        slot = self._oldest % self._max_messages
        entry = self._ring[slot]
        self._ring[slot] = _EMPTY
        self._bytes -= _cost(entry)
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


def _checked_epoch(epoch: object) -> str:
    if isinstance(epoch, str) and 0 < len(epoch) <= MAX_EPOCH:
        return epoch
    raise ConfigurationError("epoch", f"{epoch!r} is not a text of 1 to {MAX_EPOCH} characters")


def _cost(entry: LogEntry) -> int:
    return len(entry.body) + _OVERHEAD

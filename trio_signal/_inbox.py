"""What has arrived and not been taken yet: bounded, in order, with gaps in their place (contract R8)."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Final, Self

import trio

from ._acknowledgements import Acknowledgements
from ._checks import check_count
from ._continuity import Gap, GapReason, Position
from ._envelopes import Decoded, ReceivedMessage, Undecodable
from ._errors import ConfigurationError
from ._events import ChallengeRequired, Event, MessageSettled
from ._waiters import Waiters

_FRAMES: Final = (ReceivedMessage, Undecodable)

#: What an item costs beside its raw bytes, roughly.
_OVERHEAD: Final = 512

#: A loop over what is there gives other tasks a turn after this many items at the latest. If that were fewer
#: than the receive task puts in during its turn, a burst would overflow an application that keeps up.
_ITEMS_PER_TURN: Final = 1_000

#: After this many items at the latest a loop notices that it was cancelled.
_ITEMS_PER_LOOK: Final = 32


@dataclass(frozen=True, slots=True)
class InboxStatistics:
    """The inbox at one moment.

    Attributes:
        waiting: items in it.
        waiting_bytes: what they cost, in bytes.
        max_items: the most items it holds.
        max_bytes: the most bytes it holds.
        overflowed: how many items it had no room for, ever.
        unacknowledged: how many were taken and not acknowledged; 0 where nobody has to.
    """

    waiting: int
    waiting_bytes: int
    max_items: int
    max_bytes: int
    overflowed: int
    unacknowledged: int = 0


#: What waits: the event, what it costs in bytes, when it came, the place behind it. A plain tuple, since one
#: is made for each message, which costs a fifth of what anything with names does.
_Entry = tuple[Event, int, int, Position | None]


class Inbox:
    """A bounded queue of events. Putting never waits; taking does.

    What comes while it is full is folded into one ``Gap("overflow")`` at the end, which
    grows until there is room again: so the gap stands where the messages would have.
    Several tasks may take at once; each item goes to one of them.

    Args:
        max_items: the most items it holds, and with ``acknowledge`` the most that may be taken
            from the oldest that is not acknowledged on.
        max_bytes: the most bytes they may cost together.
        acknowledge: an item counts as done when :meth:`acknowledge` says so, not when it is taken.
        position: the place up to which an earlier process was done.
    """

    def __init__(
        self,
        max_items: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        *,
        acknowledge: bool = False,
        position: Position | None = None,
    ) -> None:
        self._max_items: Final = check_count("inbox_size", max_items)
        self._max_bytes: Final = check_count("inbox_bytes", max_bytes)
        self._taken: Final = Acknowledgements(max_items, max_bytes) if acknowledge else None
        self._entries: deque[_Entry] = deque()
        #: The place behind what was put last, and behind what is done with.
        self._reached = position
        self._position = position
        self._bytes = 0
        self._overflowed = 0
        #: The tasks that wait for an item. They take it themselves.
        self._waiters: Final = Waiters[None]()
        self._left_in_turn = 0
        self._closed = False

    def put(self, frames: Sequence[Decoded], *, time: int) -> None:
        """Add what came at ``time`` (milliseconds since the epoch). Never waits, never fails."""
        # As add() of each, where there is room for all.
        entries = self._entries
        sizes = [_OVERHEAD + len(frame.raw) for frame in frames]
        size = self._bytes + sum(sizes)
        if len(entries) + len(frames) > self._max_items or size > self._max_bytes:
            for frame in frames:
                self.add(frame, time=time)
            return
        entries.extend(zip(frames, sizes, repeat(time), repeat(self._reached)))
        self._bytes = size
        for _ in frames:
            if not self._waiters.give(None):
                break

    def add(self, item: Event, *, time: int, position: Position | None = None) -> None:
        """Add one item. Never waits, never fails.

        Args:
            item: what came.
            time: when, in milliseconds since the epoch.
            position: the place behind it, if it has a number of its own.
        """
        before = self._reached
        if position is not None:
            self._reached = position
        size, since = _OVERHEAD, time
        if isinstance(item, _FRAMES):
            size += len(item.raw)
        elif isinstance(item, Gap):
            since = item.since
        entries = self._entries
        # One item larger than everything is let in alone; the WebSocket's own limit bounds it.
        has_room = len(entries) < self._max_items and self._bytes + size <= self._max_bytes
        if has_room or not entries or self._must_be_told(item):
            entries.append((item, size, since, self._reached))
            self._bytes += size
            self._waiters.give(None)
        else:
            self._fold(item, time, before, position)

    def advance(self, position: Position) -> None:
        """Note that what was put last reaches up to here; nothing is added."""
        self._reached = position
        if self._entries:
            self._entries[-1] = (*self._entries[-1][:3], position)
        elif self._taken is None or not self._taken.advance(position):
            self._position = position

    def leave_numbers(self) -> None:
        """Note that what comes from now on has no numbers: no place is known behind it."""
        self._reached = None
        if self.oldest is None:
            self._position = None

    async def take(self) -> Event:
        """Wait for the oldest item and take it.

        Cancelling is safe: the item is either still there or returned. Not every call
        gives other tasks a turn: one does for all items that are there then, and every one
        that waits.

        Raises:
            trio.EndOfChannel: the inbox is closed and empty.
            TooManyUnacknowledged: the bound of what may be taken is reached; the item is still there.
        """
        if self._entries and self._left_in_turn:
            await trio.lowlevel.checkpoint_if_cancelled()
        elif self._entries or self._closed:
            await trio.lowlevel.checkpoint()
            self._left_in_turn = 0
        while not self._entries:
            if self._closed:
                raise trio.EndOfChannel
            # This is a turn of the others as well, so no checkpoint goes before it.
            await self._waiters.wait()
            self._left_in_turn = 0
        # Others may go on with a turn that is not used up.
        self._left_in_turn = (self._left_in_turn or min(len(self._entries), _ITEMS_PER_TURN)) - 1
        return self._take_oldest()  # noqa: ASYNC910  (as said above)

    def take_in_turn(self) -> Event | None:
        """Take the oldest item if that goes without a checkpoint; None if :meth:`take` is to be called.

        Raises:
            TooManyUnacknowledged: as :meth:`take`.
        """
        left, entries = self._left_in_turn, self._entries
        if not (left % _ITEMS_PER_LOOK and entries):
            return None
        item = self._take_oldest()
        self._left_in_turn = left - 1
        return item

    def _take_oldest(self) -> Event:
        taken = self._taken
        if taken is not None:
            taken.check_room()
        item, size, time, position = self._entries.popleft()
        self._bytes -= size
        if taken is None:
            self._position = position
        else:
            taken.add(item, size=size, time=time, position=position)
            self._wake()
        return item

    def acknowledge(self, item: Event) -> None:
        """Note that the application is done with an item.

        Raises:
            ConfigurationError: it is none that was taken and not acknowledged; or nothing has to be.
        """
        if self._taken is None:
            raise ConfigurationError(
                "acknowledge", "open the client with acknowledge=True to acknowledge events"
            )
        self._position = self._taken.acknowledge(item, self._position)
        self._wake()

    @property
    def acknowledges(self) -> bool:
        """Whether what is taken must be acknowledged."""
        return self._taken is not None

    def close(self) -> None:
        """Let whoever takes finish: what is there can still be taken. Idempotent."""
        self._closed = True
        while self._waiters.give(None):
            pass

    @property
    def oldest(self) -> int | None:
        """When the oldest item that is not done with came (for a gap: began); None without one.

        In milliseconds since the epoch.
        """
        if self._taken is not None and (oldest := self._taken.oldest) is not None:
            return oldest
        return self._entries[0][2] if self._entries else None

    @property
    def position(self) -> Position | None:
        """The place up to which everything is done with, where the gateway numbers messages."""
        return self._position

    def statistics(self) -> InboxStatistics:
        """Return the present figures."""
        return InboxStatistics(
            len(self._entries),
            self._bytes,
            self._max_items,
            self._max_bytes,
            self._overflowed,
            len(self._taken) if self._taken is not None else 0,
        )

    def _must_be_told(self, item: Event) -> bool:
        """Say whether it is let in however full it is, being no message that a gap could stand for.

        Of outcomes there are no more than an earlier process had accepted; of challenges one is enough.
        """
        if isinstance(item, MessageSettled):
            return True
        return isinstance(item, ChallengeRequired) and not any(
            isinstance(waiting, ChallengeRequired) for waiting, *_ in self._entries
        )

    def _wake(self) -> None:
        """Wake a task for what waits: whoever was woken when it came may have found no room to take it."""
        if self._entries and self._taken is not None and self._taken.has_room:
            self._waiters.give(None)

    def _fold(self, item: Event, time: int, before: Position | None, position: Position | None) -> None:
        if isinstance(item, ChallengeRequired):
            # The one that waits already says the same.
            return
        self._overflowed += 1
        lost = _as_overflow(item, time, before, position)
        last, size, _, reached = self._entries[-1]
        if isinstance(last, Gap) and last.reason is GapReason.OVERFLOW:
            wider = _widened(last, reached, lost, position)
            self._entries[-1] = wider, size, wider.since, self._reached
        else:
            self._entries.append((lost, _OVERHEAD, lost.since, self._reached))
            self._bytes += _OVERHEAD
            self._waiters.give(None)


class EventStream:
    """An iterator over everything that arrives. See :meth:`SignalClient.events`.

    Args:
        inbox: where it waits.
        on_done_with: told of each event once it counts as done with; None where nobody keeps account.
    """

    def __init__(self, inbox: Inbox, on_done_with: Callable[[Event], None] | None) -> None:
        self._inbox: Final = inbox
        self._on_done_with: Final = on_done_with
        #: The same, where an event counts as done with as soon as it is taken.
        self._on_taken: Final = None if inbox.acknowledges else on_done_with
        self._is_plain: Final = on_done_with is None and not inbox.acknowledges

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event and take it. Cancelling is safe: it is taken or still there.

        What is there already is given without a checkpoint, but a cancellation is noticed after 32 events
        and other tasks get a turn after 1,000 at the latest.

        Raises:
            TooManyUnacknowledged: acknowledge what was taken before; the event is still there.
        """
        inbox = self._inbox
        left, entries = inbox._left_in_turn, inbox._entries
        if left % _ITEMS_PER_LOOK and entries and self._is_plain:
            # As Inbox.take_in_turn(), laid out for the loop that this is called in.
            item, size, _, inbox._position = entries.popleft()
            inbox._bytes -= size
            inbox._left_in_turn = left - 1
            return item  # noqa: ASYNC910  (documented: a burst costs one checkpoint, not one for each event)
        event = self.next_in_turn() if entries else None
        if event is None:
            try:
                event = await inbox.take()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            if self._on_taken is not None:
                self._on_taken(event)
        return event  # noqa: ASYNC910  (as documented)

    def next_in_turn(self) -> Event | None:
        """Take the next event if that goes without a checkpoint; None if :meth:`__anext__` is to be called.

        Raises:
            TooManyUnacknowledged: as :meth:`__anext__`.
        """
        event = self._inbox.take_in_turn()
        if event is not None and self._on_taken is not None:
            self._on_taken(event)
        return event

    def pass_over(self, event: Event) -> None:
        """Count an event as done with that nobody is given, where events must be acknowledged."""
        if self._inbox.acknowledges:
            self._inbox.acknowledge(event)
            if self._on_done_with is not None:
                self._on_done_with(event)


def _as_overflow(item: Event, time: int, before: Position | None, position: Position | None) -> Gap:
    """Return the gap for one item that has no room, put behind the place ``before``."""
    number = position.sequence if position else None
    if not isinstance(item, Gap):
        return Gap(GapReason.OVERFLOW, time, time, first=number, last=number, count=1)
    if before is not None and position == (before.epoch, before.sequence + 1):
        # It takes up one number by itself.
        return Gap(GapReason.OVERFLOW, item.since, item.until, first=number, last=number)
    return Gap(GapReason.OVERFLOW, item.since, item.until, first=item.first, last=item.last)


def _widened(gap: Gap, reached: Position | None, lost: Gap, position: Position | None) -> Gap:
    """Return the gap reaching over another one.

    Numbers of two numberings make no range, nor does a loss of which no numbers are known. What
    has come and has no number leaves the range as it is.
    """
    wider = gap.extended(since=lost.since, until=lost.until, count=lost.count)
    if gap.last is None or (lost.last is None and lost.count is not None):
        return wider
    if lost.last is None or reached is None or position is None or reached.epoch != position.epoch:
        return replace(wider, first=None, last=None)
    return replace(wider, last=lost.last)

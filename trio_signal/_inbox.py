"""What has arrived and not been taken yet: bounded, in order, with gaps in their place (contract R8)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import trio

from ._acknowledgements import Acknowledgements
from ._checks import check_count
from ._continuity import Gap, GapReason, Position
from ._envelopes import ReceivedMessage, Undecodable
from ._errors import ConfigurationError
from ._outcomes import Outcome


@dataclass(frozen=True, slots=True)
class ChallengeRequired:
    """Signal wants proof that a person sends, before it takes more from this account.

    Solve it in a browser (https://signalcaptchas.org/challenge/generate.html) and hand the
    solution in with :meth:`SignalClient.submit_rate_limit_challenge`, which lets the queue go on.

    Attributes:
        tokens: what to solve; never empty, and no token is the empty string.
        account: whose sending is limited.
        paused_for: how long the queue pauses by itself, in seconds.
    """

    tokens: tuple[str, ...]
    account: str | None
    paused_for: float


@dataclass(frozen=True, slots=True)
class MessageSettled:
    """What became of a message that an earlier process had accepted into the store.

    Attributes:
        message_id: the ``id=`` that it was given, or its random one.
        recipient: who it was for.
        account: whose it was, for a client that serves all accounts of a gateway.
        outcome: ``Sent``, ``Dropped`` or ``Failed``; an error in it is a :class:`RecordedError` if it
            was decided by the earlier process.
    """

    message_id: str
    recipient: str
    account: str | None
    outcome: Outcome


Event = ReceivedMessage | Undecodable | Gap | ChallengeRequired | MessageSettled

#: What an item costs beside its raw bytes, roughly.
_OVERHEAD: Final = 512

#: A loop over what is there gives other tasks a turn after this many items at the latest. If that were fewer
#: than the receive task puts in during its turn, a burst would overflow an application that keeps up.
_ITEMS_PER_TURN: Final = 1_000


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


class _Entry(NamedTuple):
    item: Event
    size: int
    time: int
    position: Position | None


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
        self._lot = trio.lowlevel.ParkingLot()
        self._left_in_turn = 0
        self._closed = False

    def put(self, items: Iterable[Event], *, time: int) -> None:
        """Add what came at ``time`` (milliseconds since the epoch). Never waits, never fails."""
        for item in items:
            self.add(item, time=time)

    def add(self, item: Event, *, time: int, position: Position | None = None) -> None:
        """Add one item. Never waits, never fails.

        Args:
            item: what came.
            time: when, in milliseconds since the epoch.
            position: the place behind it, if it has a number of its own.
        """
        before, self._reached = self._reached, position or self._reached
        size = _OVERHEAD + (len(item.raw) if isinstance(item, ReceivedMessage | Undecodable) else 0)
        if self._has_room(size) or self._must_be_told(item):
            self._append(_Entry(item, size, item.since if isinstance(item, Gap) else time, self._reached))
        else:
            self._fold(item, time, before, position)

    def advance(self, position: Position) -> None:
        """Note that what was put last reaches up to here; nothing is added."""
        self._reached = position
        if self._entries:
            self._entries[-1] = self._entries[-1]._replace(position=position)
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
        if self._left_in_turn and self._entries:
            self._left_in_turn -= 1
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
            self._left_in_turn = min(len(self._entries), _ITEMS_PER_TURN)
        while not self._entries:
            if self._closed:
                raise trio.EndOfChannel
            await self._lot.park()
        if self._taken is not None:
            self._taken.check_room()
        entry = self._entries.popleft()
        self._bytes -= entry.size
        if self._taken is None:
            self._position = entry.position
        else:
            self._taken.add(entry.item, size=entry.size, time=entry.time, position=entry.position)
            self._wake()
        return entry.item

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
        self._lot.unpark_all()

    @property
    def oldest(self) -> int | None:
        """When the oldest item that is not done with came (for a gap: began); None without one.

        In milliseconds since the epoch.
        """
        if self._taken is not None and (oldest := self._taken.oldest) is not None:
            return oldest
        return self._entries[0].time if self._entries else None

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

    def _has_room(self, size: int) -> bool:
        # One item larger than everything is let in alone; the WebSocket's own limit bounds it.
        return not self._entries or (
            len(self._entries) < self._max_items and self._bytes + size <= self._max_bytes
        )

    def _must_be_told(self, item: Event) -> bool:
        """Say whether it is let in however full it is, being no message that a gap could stand for.

        Of outcomes there are no more than an earlier process had accepted; of challenges one is enough.
        """
        if isinstance(item, MessageSettled):
            return True
        return isinstance(item, ChallengeRequired) and not any(
            isinstance(entry.item, ChallengeRequired) for entry in self._entries
        )

    def _append(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._bytes += entry.size
        if self._lot:
            self._lot.unpark()

    def _wake(self) -> None:
        """Wake a task for what waits: whoever was woken when it came may have found no room to take it."""
        if self._entries and self._lot and self._taken is not None and self._taken.has_room:
            self._lot.unpark()

    def _fold(self, item: Event, time: int, before: Position | None, position: Position | None) -> None:
        if isinstance(item, ChallengeRequired):
            # The one that waits already says the same.
            return
        self._overflowed += 1
        lost = _as_overflow(item, time, before, position)
        last = self._entries[-1]
        if isinstance(last.item, Gap) and last.item.reason is GapReason.OVERFLOW:
            wider = _widened(last.item, last.position, lost, position)
            self._entries[-1] = last._replace(item=wider, time=wider.since, position=self._reached)
        else:
            self._append(_Entry(lost, _OVERHEAD, lost.since, self._reached))


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

"""What has arrived and not been taken yet: bounded, in order, with gaps in their place (contract R8)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from ._checks import check_count
from ._continuity import Gap, GapReason
from ._envelopes import ReceivedMessage, Undecodable


@dataclass(frozen=True, slots=True)
class ChallengeRequired:
    """Signal wants proof that a person sends, before it takes more from this account.

    Solve the challenge, submit it to the gateway
    (``POST /v1/accounts/{number}/rate-limit-challenge``) and call
    :meth:`SignalClient.resume_sending`.

    Attributes:
        tokens: what to solve; never empty, and no token is the empty string.
        account: whose sending is limited.
        paused_for: how long the queue pauses by itself, in seconds.
    """

    tokens: tuple[str, ...]
    account: str
    paused_for: float


Event = ReceivedMessage | Undecodable | Gap | ChallengeRequired

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
    """

    waiting: int
    waiting_bytes: int
    max_items: int
    max_bytes: int
    overflowed: int


class _Entry(NamedTuple):
    item: Event
    size: int
    time: int


class Inbox:
    """A bounded queue of events. Putting never waits; taking does.

    What comes while it is full is folded into one ``Gap("overflow")`` at the end, which
    grows until there is room again: so the gap stands where the messages would have.
    Several tasks may take at once; each item goes to one of them.

    Args:
        max_items: the most items it holds.
        max_bytes: the most bytes they may cost together.
    """

    def __init__(self, max_items: int = 10_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_items: Final = check_count("inbox_size", max_items)
        self._max_bytes: Final = check_count("inbox_bytes", max_bytes)
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._overflowed = 0
        self._lot = trio.lowlevel.ParkingLot()
        self._left_in_turn = 0
        self._closed = False

    def put(self, items: Iterable[Event], *, time: int) -> None:
        """Add what came at ``time`` (milliseconds since the epoch). Never waits, never fails."""
        before = len(self._entries)
        for item in items:
            size = _OVERHEAD + (len(item.raw) if isinstance(item, ReceivedMessage | Undecodable) else 0)
            if self._has_room(size) or self._must_be_told(item):
                self._append(_Entry(item, size, item.since if isinstance(item, Gap) else time))
            else:
                self._fold(item, time)
        if added := len(self._entries) - before:
            self._lot.unpark(count=added)

    async def take(self) -> Event:
        """Wait for the oldest item and take it.

        Cancelling is safe: the item is either still there or returned. Not every call
        gives other tasks a turn: one does for all items that are there then, and every one
        that waits.

        Raises:
            trio.EndOfChannel: the inbox is closed and empty.
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
        entry = self._entries.popleft()
        self._bytes -= entry.size
        return entry.item

    def close(self) -> None:
        """Let whoever takes finish: what is there can still be taken. Idempotent."""
        self._closed = True
        self._lot.unpark_all()

    @property
    def oldest(self) -> int | None:
        """When the oldest item came (for a gap: began), in milliseconds since the epoch; None if empty."""
        return self._entries[0].time if self._entries else None

    def statistics(self) -> InboxStatistics:
        """Return the present figures."""
        return InboxStatistics(
            len(self._entries), self._bytes, self._max_items, self._max_bytes, self._overflowed
        )

    def _has_room(self, size: int) -> bool:
        # One item larger than everything is let in alone; the WebSocket's own limit bounds it.
        return not self._entries or (
            len(self._entries) < self._max_items and self._bytes + size <= self._max_bytes
        )

    def _must_be_told(self, item: Event) -> bool:
        """A challenge is no message that a gap could stand for; one of them is let in however full it is."""
        return isinstance(item, ChallengeRequired) and not any(
            isinstance(entry.item, ChallengeRequired) for entry in self._entries
        )

    def _append(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._bytes += entry.size

    def _fold(self, item: Event, time: int) -> None:
        if isinstance(item, ChallengeRequired):
            # The one that waits already says the same.
            return
        self._overflowed += 1
        count = None if isinstance(item, Gap) else 1
        since, until = (item.since, item.until) if isinstance(item, Gap) else (time, time)
        last = self._entries[-1]
        if isinstance(last.item, Gap) and last.item.reason is GapReason.OVERFLOW:
            wider = last.item.extended(since=since, until=until, count=count)
            self._entries[-1] = last._replace(item=wider, time=wider.since)
        else:
            self._append(_Entry(Gap(GapReason.OVERFLOW, since, until, count=count), _OVERHEAD, since))

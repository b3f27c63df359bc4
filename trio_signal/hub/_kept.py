"""The hub's log on disk: number, commit, then queue (contract H1).

::

    pump, in the step in which it takes an event   draft -> keeper's batch, with the client's cursor
    keeper, when the batch is committed            up to here it is on disk: wakes
    offer                                          publish -> handed to everybody who is connected

Cursor and entry are in one commit since nothing else runs between them: what the client counts as taken is in
the log, and the other way round, whenever the process dies. An entry that is on disk and was not offered yet
when it dies is offered by the next one, under its number.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

import trio

from .._errors import ConfigurationError, StoreError
from ..store._batch import LogPast, LogRow
from ._pages import LogEntry
from .log import MessageLog

#: Entries that may wait for the disk, and what they may cost in bytes; then nothing more is taken.
MAX_DRAFTS: Final = 1_000
MAX_DRAFT_BYTES: Final = 8 * 1024 * 1024


class LogKeeper(Protocol):
    """What writes the log to the disk: the store of the hub's client.

    Attributes:
        past_log: the log as an earlier process left it; None without one, and once it was taken over.
    """

    past_log: LogPast | None
    #: The log that goes on where that ended, for the next hub on the same client: a :class:`KeptLog`.
    kept_log: object | None

    @property
    def failure(self) -> StoreError | None:
        """Why nothing can be written at present; None while all is well."""
        ...

    def keep_epoch(self, epoch: str) -> None:
        """Write down the name of the log's numbering, before there is an entry in it. Never waits."""
        ...

    def keep_log(self, epoch: str, row: LogRow, oldest: int, on_kept: Callable[[], None]) -> None:
        """Write an entry down, and strike out those below ``oldest``. Never waits.

        Entries are committed in their order, each together with all that was given to the keeper in
        the same step. What fails is tried again until it succeeds.

        Args:
            epoch: the name of the log's numbering.
            row: the entry.
            oldest: the first number that is still needed.
            on_kept: called once the entry is committed.
        """
        ...


class KeptLog:
    """A log and the keeper that has it on disk. Its bounds hold back whoever would fill it.

    Args:
        log: what numbers the messages.
        keeper: what writes them down.
    """

    def __init__(self, log: MessageLog, keeper: LogKeeper) -> None:
        self.log: Final = log
        self._keeper: Final = keeper
        self._kept = log.head
        self._change: Final = trio.lowlevel.ParkingLot()
        self._is_claimed = False

    @contextmanager
    def claimed(self) -> Generator[None]:
        """Have it for one hub alone while the block runs: each entry is published once.

        Raises:
            ConfigurationError: another hub has it.
        """
        if self._is_claimed:
            raise ConfigurationError("signal", "another hub serves this client, whose store has one log")
        self._is_claimed = True
        try:
            yield
        finally:
            self._is_claimed = False

    @property
    def is_writable(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._keeper.failure is None

    def keep(self, draft: LogEntry, *, time: int) -> LogEntry:
        """Have a draft written, and return it. Never waits, and asks for no room: see :meth:`wait_room`.

        Args:
            draft: the last one that was numbered.
            time: the time of day, in milliseconds since the epoch.
        """
        number = draft.sequence
        row = LogRow(number, time, draft.body)
        self._keeper.keep_log(self.log.epoch, row, self.log.oldest_with(number), partial(self._note, number))
        return draft

    def publish(self) -> LogEntry | None:
        """Make the next entry that is on disk visible and return it; None if there is none."""
        if self.log.head == self._kept:
            return None
        [entry] = self.log.publish(self.log.head + 1)
        self._change.unpark_all()
        return entry

    async def wait_kept(self) -> None:
        """Wait until there is something to publish. A checkpoint; cancelling is safe."""
        await trio.lowlevel.checkpoint()
        while self.log.head == self._kept:
            await self._change.park()

    @property
    def has_room(self) -> bool:
        """Whether another entry may be numbered."""
        return self.log.drafts < MAX_DRAFTS and self.log.draft_bytes < MAX_DRAFT_BYTES

    async def wait_room(self) -> None:
        """Wait until fewer entries wait for the disk. A checkpoint; cancelling is safe.

        No time limit: while the disk is full there is nothing else that could be done.
        """
        await trio.lowlevel.checkpoint()
        while not self.has_room:
            await self._change.park()

    def check_room(self) -> None:
        """Make sure that there is room for another entry.

        Raises:
            StoreError: too much waits for the disk already; the error of the disk, if any, is its cause.
        """
        if not self.has_room:
            raise StoreError(
                f"{self.log.drafts} messages wait for the disk already; try again later"
            ) from self._keeper.failure

    def _note(self, number: int) -> None:
        self._kept = number
        self._change.unpark_all()


def kept_log(keeper: LogKeeper, log: MessageLog | None, *, wall: int) -> KeptLog:
    """Return the log that goes on where the one on disk ended.

    Another hub on the same client, after the first has ended, goes on with the first one's log: what
    that has numbered since is not in the keeper's past.

    Args:
        keeper: the client's store.
        log: what to number with; one with the usual bounds by default.
        wall: the time of day, in milliseconds since the epoch.

    Raises:
        ConfigurationError: something was numbered in ``log`` that is not in the store.
    """
    kept = keeper.kept_log
    if not isinstance(kept, KeptLog):
        log = MessageLog(clock=trio.current_time) if log is None else log
        if not log.is_new:
            raise ConfigurationError("log", "with a store it must be new: what is in it is not in the store")
        if keeper.past_log is not None:
            log.resume(keeper.past_log, wall=wall)
            keeper.past_log = None  # The log has what it needs of it.
        # Clients are told it when they connect: the next process should know it, with or without a message.
        keeper.keep_epoch(log.epoch)
        kept = keeper.kept_log = KeptLog(log, keeper)
    elif log is not None and log is not kept.log:
        raise ConfigurationError("log", "this client's store holds another one; give that, or none")
    return kept

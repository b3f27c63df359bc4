"""The one writer of a store: gathers what is to be written, and commits it together.

Theory of operation
===================

Whoever has something to write puts it into the *pending* batch, which is synchronous and never
waits, and may ask to be called back. One task (:meth:`Keeper.run`) takes the whole batch and
writes it in one transaction, outside the event loop; meanwhile the next batch fills. So a commit
costs the same for one change as for a hundred, and changes made in one synchronous step are always
committed together: the cursor that moves over a message and the log entry that the message became.

After the commit the callbacks run in the order in which they were asked for, in one synchronous
step: messages enter the buffer in the order in which they were accepted.

**If it fails** (a full disk), the acceptances in it fail with the error, at the calls that made
them; everything else is put back and written again later, in front of what has come since: after
1 s, doubling to 30 s, or at once when somebody wants to know. Outcomes are told all the same: the
message was sent, and only a kill before the disk has room again would make it unknown to the next
process. Nothing is begun to be sent and nothing is offered by the hub meanwhile.

**If it is cancelled**, nobody knows whether it was committed. A batch says how things *are*, so it is
merged into the last one and written again by :meth:`Keeper.aclose`.

What is pending is bounded by what it is about: one state for each message that the buffer holds,
one cursor, the last 10,000 keys, the hub's own bound of drafts.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from .._continuity import Cursor
from .._errors import ClientClosed, StoreError
from ._batch import Batch, LogPast, LogRow, StoredMessage
from ._database import Database

_logger: Final = logging.getLogger("trio_signal.store")

#: Seconds before a failed commit is tried again: the first time, and at most.
_RETRY_FIRST: Final = 1.0
_RETRY_MOST: Final = 30.0

#: No more keys than these are ever remembered.
_MAX_KEYS: Final = 10_000

#: Runs something that blocks, and waits for it.
Runner = Callable[[Callable[[], None]], Awaitable[None]]


class _Acceptance:
    """One that waits for its message to be written down."""

    def __init__(self, on_kept: Callable[[], None]) -> None:
        self.on_kept: Final = on_kept
        self._task: Final = trio.lowlevel.current_task()
        self._error: Exception | None = None

    async def wait(self, on_cancelled: Callable[[], None]) -> None:
        """Wait until :meth:`finish` is called, and raise its error. A checkpoint.

        ``on_cancelled`` is called at the very moment of the cancellation: when the task gets to know of it,
        the commit may have been made meanwhile.
        """

        def abort(_: object) -> trio.lowlevel.Abort:
            on_cancelled()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if self._error is not None:
            raise self._error

    def finish(self, error: Exception | None = None) -> None:
        """End the wait. Once at most."""
        self._error = error
        trio.lowlevel.reschedule(self._task)


class _Pending:
    """What goes into one transaction, and who is told of it."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.acceptances: dict[int, _Acceptance] = {}
        self.on_kept: list[Callable[[], None]] = []
        #: Told once the attempt was made, whatever came of it.
        self.on_tried: list[Callable[[], None]] = []
        #: Work for the same thread once all is committed.
        self.afterwards: list[Callable[[], None]] = []
        #: Work for the same thread once the attempt was made, whatever came of it.
        self.at_any_rate: list[Callable[[], None]] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.batch == Batch() and not self.afterwards and not self.at_any_rate

    def refuse_acceptances(self) -> None:
        """Tell whoever waits that it is too late; a commit in doubt may have accepted the message."""
        for sequence, acceptance in self.acceptances.items():
            self.batch.messages.pop(sequence, None)
            self.batch.struck.add(sequence)
            acceptance.finish(ClientClosed())
        self.acceptances = {}

    def put_before(self, later: "_Pending") -> "_Pending":
        """Return both as one; where they disagree, the later one is true."""
        mine, its = self.batch, later.batch
        both = _Pending()
        both.batch = Batch(
            messages={k: v for k, v in (mine.messages | its.messages).items() if k not in its.struck},
            struck=mine.struck | its.struck,
            keys=(mine.keys + its.keys)[-_MAX_KEYS:],
            cursor=its.cursor or mine.cursor,
            log_epoch=its.log_epoch or mine.log_epoch,
            log_rows=mine.log_rows + its.log_rows,
            log_oldest=its.log_oldest if its.log_oldest is not None else mine.log_oldest,
        )
        both.acceptances = self.acceptances | later.acceptances
        both.on_kept = self.on_kept + later.on_kept
        both.on_tried = self.on_tried + later.on_tried
        both.afterwards = self.afterwards + later.afterwards
        both.at_any_rate = self.at_any_rate + later.at_any_rate
        return both


class Keeper:
    """Writes to a store that is open. See the top of the module.

    Args:
        database: where to.
        run: how blocking work is run.
        past_log: the hub's log as it was found.

    Attributes:
        past_log: the hub's log as it was found; None if there never was one.
        kept_log: what the hub makes of it, kept here for the next one on the same client.
        failure: why the last commit failed; None if it did not.
    """

    def __init__(self, database: Database, run: Runner, past_log: LogPast | None) -> None:
        self._database: Final = database
        self._run: Final = run
        self.past_log = past_log
        self.kept_log: object | None = None
        self.failure: StoreError | None = None
        self._pending = _Pending()
        self._writing: _Pending | None = None
        self._news = trio.Event()
        self._acceptance = trio.Event()
        self._is_closed = False

    async def accept(self, message: StoredMessage, on_kept: Callable[[], None]) -> None:
        """Write a new message down and wait until it is committed, when ``on_kept`` is called.

        A checkpoint. Cancelled, it is struck out again, and ``on_kept`` is not called.

        Raises:
            StoreError: it could not be written.
            ClientClosed: the keeper was closed, or ``on_kept`` said so; it was struck out.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise ClientClosed
        # No checkpoint before this: what is numbered first is also taken in first.
        sequence = message.sequence
        acceptance = self._pending.acceptances[sequence] = _Acceptance(on_kept)
        self.put(message)
        self._acceptance.set()
        await acceptance.wait(partial(self._forget, sequence))

    def put(self, message: StoredMessage) -> None:
        """Write down how a message stands now."""
        self._pending.batch.messages[message.sequence] = message
        self._wake()

    def strike(self, sequence: int) -> None:
        """Delete a message."""
        self._pending.batch.messages.pop(sequence, None)
        self._pending.batch.struck.add(sequence)
        self._wake()

    def put_key(self, key: bytes) -> None:
        """Write down that a received message was taken."""
        keys = self._pending.batch.keys
        keys.append(key)
        if len(keys) > 2 * _MAX_KEYS:
            del keys[:-_MAX_KEYS]
        self._wake()

    def put_cursor(self, cursor: Cursor) -> None:
        """Write down how far the application has come."""
        self._pending.batch.cursor = cursor
        self._wake()

    def keep_epoch(self, epoch: str) -> None:
        """Write down the name of the numbering of the hub's log, before there is an entry in it."""
        self._pending.batch.log_epoch = epoch
        self._wake()

    def keep_log(self, epoch: str, row: LogRow, oldest: int, on_kept: Callable[[], None]) -> None:
        """Write down an entry of the hub's log.

        Args:
            epoch: the name of the numbering.
            row: the entry, whose number follows the one before.
            oldest: the first number that is still kept.
            on_kept: called once it is committed.
        """
        batch = self._pending.batch
        batch.log_epoch, batch.log_oldest = epoch, oldest
        batch.log_rows.append(row)
        self.call_when_kept(on_kept)

    def call_when_kept(self, callback: Callable[[], None], *, at_latest_tried: bool = False) -> None:
        """Have ``callback`` called once everything that was put until now is committed.

        Args:
            callback: called synchronously, in the order of these calls; it raises nothing.
            at_latest_tried: call it after the next attempt too, should that fail.
        """
        (self._pending.on_tried if at_latest_tried else self._pending.on_kept).append(callback)
        self._wake()

    def do_afterwards(self, work: Callable[[], None], *, at_latest_tried: bool = False) -> None:
        """Run something that blocks once all that was put until now is committed, or an attempt was made."""
        (self._pending.at_any_rate if at_latest_tried else self._pending.afterwards).append(work)
        self._wake()

    async def run(self) -> None:
        """Commit what comes, until it is cancelled; then :meth:`aclose` writes what is left."""
        delay = _RETRY_FIRST
        while True:
            await self._news.wait()
            self._news, self._acceptance = trio.Event(), trio.Event()
            await self._commit()
            if self.failure is None:
                delay = _RETRY_FIRST
                continue
            # Whoever asks for something new wants to know at once, not when we would have looked again.
            with trio.move_on_after(delay):
                await self._acceptance.wait()
            delay = min(2 * delay, _RETRY_MOST)
            self._news.set()

    async def aclose(self) -> None:
        """Write what is left and close the store. A checkpoint. Idempotent.

        Cancelled by the caller's deadline, it logs what may not have been written.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        if self._writing is not None:
            self._pending, self._writing = self._writing.put_before(self._pending), None
        left, self._pending = self._pending, _Pending()
        left.refuse_acceptances()
        written = False
        try:
            await self._run(partial(_close, self._database, left))
            written = True
        except Exception as caught:  # noqa: BLE001  (whatever it is, the client must not end by it)
            error = _as_store_error(caught)
            _logger.error("what was left could not be written to the store: %s", error)  # noqa: TRY400
            await trio.lowlevel.checkpoint()
        finally:
            if not written:
                _logger.error(
                    "the store may lack the last changes; the next process may tell of them otherwise"
                )
            self._tell(left, kept=written)

    async def _commit(self) -> None:
        """Write what is pending. A checkpoint; cancelled, :meth:`aclose` writes it again."""
        await trio.lowlevel.checkpoint()
        if self._pending.is_empty:
            # Somebody only wants to be told that all is written; what could not be was refused, and is gone.
            self.failure = None
            pending, self._pending = self._pending, _Pending()
            self._tell(pending, kept=True)
            return
        writing = self._writing = self._pending
        self._pending = _Pending()
        try:
            await self._run(partial(_apply, self._database, writing))
        except Exception as caught:  # noqa: BLE001  (as in aclose())
            error = _as_store_error(caught)
            if self.failure is None:
                # The error says what to do; where it was met says nothing more.
                _logger.error("the store cannot be written, trying on: %s", error)  # noqa: TRY400
            self._writing, self.failure = None, error
            self._put_back(writing, error)
            return
        if self.failure is not None:
            _logger.warning("the store can be written again")
        self._writing = self.failure = None
        self._tell(writing, kept=True)

    def _put_back(self, failed: _Pending, error: StoreError) -> None:
        for sequence, acceptance in failed.acceptances.items():
            failed.batch.messages.pop(sequence, None)
            acceptance.finish(error)
        failed.acceptances = {}
        for callback in failed.on_tried:
            callback()
        failed.on_tried = []
        self._pending = failed.put_before(self._pending)

    def _tell(self, tried: _Pending, *, kept: bool) -> None:
        for sequence, acceptance in tried.acceptances.items():
            try:
                acceptance.on_kept()
            except ClientClosed as error:
                self.strike(sequence)
                acceptance.finish(error)
            else:
                acceptance.finish()
        for callback in tried.on_kept if kept else ():
            callback()
        for callback in tried.on_tried:
            callback()

    def _forget(self, sequence: int) -> None:
        """Strike out a message whose acceptance was cancelled, wherever it is by now."""
        if self._pending.acceptances.pop(sequence, None) is not None:
            # No attempt was made with it: there is nothing to strike out.
            self._pending.batch.messages.pop(sequence, None)
            return
        if self._writing is not None:
            self._writing.acceptances.pop(sequence, None)
        self.strike(sequence)

    def _wake(self) -> None:
        self._news.set()


def _as_store_error(error: Exception) -> StoreError:
    """Return what went wrong as a StoreError: no thread can be started, or there is no memory, for now."""
    if isinstance(error, StoreError):
        return error
    return StoreError(f"the store cannot be written at the moment ({type(error).__name__}: {error})")


def _apply(database: Database, pending: _Pending) -> None:
    try:
        database.apply(pending.batch)
    finally:
        _work_off(pending.at_any_rate)
    _work_off(pending.afterwards)


def _close(database: Database, pending: _Pending) -> None:
    try:
        database.close(pending.batch, clean=True)
    finally:
        _work_off(pending.at_any_rate)
    _work_off(pending.afterwards)


def _work_off(works: list[Callable[[], None]]) -> None:
    while works:
        try:
            works.pop()()
        except StoreError as error:
            # What could not be deleted is found by the next opening.
            _logger.warning("the store could not be tidied up: %s", error)


async def in_thread(work: Callable[[], None]) -> None:
    """Run it in a thread, and leave it behind when cancelled: a dead disk must not hold up the end."""
    await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


async def inline(work: Callable[[], None]) -> None:
    """Run it on the spot, for tests on a virtual clock, which does not wait for threads."""
    await trio.lowlevel.checkpoint()
    work()

"""The client's journal on a store: see :class:`trio_signal._journal.Journal`."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, Self

import trio

from .._contents import Content
from .._continuity import Cursor
from .._duplicates import DuplicateFilter
from .._envelopes import Decoded, ReceivedMessage
from .._errors import Certainty, ConfigurationError, StoreDamaged
from .._events import Event, MessageSettled
from .._journal import Restored
from .._outcomes import Failed, Outcome
from .._outgoing import OutgoingMessage, doubts, is_in_doubt, keep_outcome, tell
from .._receiver import WallClock
from ._batch import MessageState, Past, StoredMessage
from ._codec import decode_content, decode_outcome, encode_content, encode_outcome
from ._files import FileCopies, absolute
from ._keeper import Keeper, Runner

#: How often it is written down that time has passed without an event, in seconds.
_CURSOR_INTERVAL: Final = 10.0

#: Outcomes that nobody has looked at; the store keeps no more than these.
_MAX_UNSEEN: Final = 1_000

#: Bytes of a received message's digest.
_DIGEST: Final = 16


class _Charge(NamedTuple):
    """A message without an outcome, and how it stands in the store."""

    message: OutgoingMessage
    stored: StoredMessage
    is_restored: bool


class StoreJournal:
    """Writes down what the client does, and knows what an earlier one has written.

    Args:
        keeper: the writer of an open store.
        past: what was found in it.
        cursor: how far the application has come, if the store does not know.
        copies: where attachments are copied to; None to refer to the files as they are.
        wall: tells the time of day.
        run: how blocking work is run.
        receives: whether anything is received; if not, the cursor stays where it is.

    Attributes:
        keeper: the writer.
    """

    survives = True

    def __init__(
        self,
        keeper: Keeper,
        past: Past,
        *,
        cursor: Cursor | None,
        copies: FileCopies | None,
        wall: WallClock,
        run: Runner,
        receives: bool,
    ) -> None:
        self.keeper: Final = keeper
        self._copies: Final = copies
        self._wall: Final = wall
        self._run: Final = run
        self._receives: Final = receives
        self._cursor = (past.cursor or cursor) if receives else None
        self._next_sequence = past.next_sequence
        self._duplicates: Final = DuplicateFilter()
        for key in past.keys:
            self._duplicates.is_new(key)
        #: Messages without an outcome, by account and id.
        self._open: Final[dict[tuple[str | None, str], _Charge]] = {}
        #: Sequences of outcomes that nobody has looked at, the oldest first.
        self._unseen: Final[dict[int, None]] = {}
        #: The events that tell of earlier outcomes, by identity, until the application is done with them.
        self._events: Final[dict[int, tuple[MessageSettled, int]]] = {}
        self._past = past.messages
        self._report: Callable[[MessageSettled], None] | None = None
        #: What ends the wait of a message that begins for that to be committed.
        self._beginning: Final[dict[OutgoingMessage, trio.Event]] = {}

    @property
    def book(self) -> Self:
        """See :attr:`trio_signal._journal.Journal.book`."""
        return self

    @property
    def waiting(self) -> int:
        """See :attr:`trio_signal._journal.Journal.waiting`."""
        return sum(stored.outcome is None for stored in self._past)

    def restore(self, report: Callable[[MessageSettled], None]) -> list[Restored]:
        """See :meth:`trio_signal._journal.Journal.restore`."""
        self._report = report
        # They may be megabytes, which nobody needs twice.
        past, self._past = self._past, ()
        restored = map(self._restore, past)
        return [message for message in restored if message is not None]

    async def prepare(self, content: Content) -> Content:
        """See :meth:`trio_signal._journal.Book.prepare`."""
        await trio.lowlevel.checkpoint()
        if self._copies is None:
            return absolute(content)
        copied = content
        copies = self._copies
        is_wanted = True

        def copy() -> None:
            nonlocal copied
            copied = copies.copy(content)
            if not is_wanted:
                copies.release(copied)

        try:
            await self._run(copy)
        except trio.Cancelled:
            is_wanted = False
            # It may have been made already; otherwise the thread that was left behind sees to it.
            self.discard(copied)
            raise
        return copied

    def discard(self, content: Content) -> None:
        """See :meth:`trio_signal._journal.Book.discard`."""
        if self._copies is not None and (release := self._copies.releasing(content)) is not None:
            # Also while nothing can be committed, or refused ones would fill the disk that is full already.
            self.keeper.do_afterwards(release, at_latest_tried=True)

    async def accept(self, message: OutgoingMessage, enter: Callable[[OutgoingMessage], None]) -> None:
        """See :meth:`trio_signal._journal.Book.accept`."""
        if _name(message) in self._open:
            raise ConfigurationError("id", f"a message {message.id!r} is in the store and has no outcome yet")
        stored = StoredMessage(
            self._next_sequence,
            message.id,
            message.account,
            message.recipient,
            encode_content(message.content),
            self._wall_deadline(message),
        )
        self._next_sequence += 1
        entered = False

        def on_kept() -> None:
            nonlocal entered
            enter(message)
            entered = True

        self._take_charge(_Charge(message, stored, is_restored=False))
        try:
            await self.keeper.accept(stored, on_kept)
        finally:
            if not entered:
                del self._open[_name(message)]

    async def begin(self, message: OutgoingMessage) -> None:
        """See :meth:`trio_signal._journal.Journal.begin`."""
        stored = self._stored(message)
        if stored is None:
            await trio.lowlevel.checkpoint()
            return
        attempts = doubts(message) + 1
        self._put(
            message, replace(stored, state=MessageState.WRITING, begun=self._wall.now(), attempts=attempts)
        )
        kept = trio.Event()
        self._beginning[message] = kept
        self.keeper.call_when_kept(kept.set)
        try:
            with trio.move_on_at(message.deadline):
                await kept.wait()
        finally:
            del self._beginning[message]

    def unsent(self, message: OutgoingMessage) -> None:
        """See :meth:`trio_signal._journal.Journal.unsent`."""
        stored = self._stored(message)
        if stored is not None and stored.state is MessageState.WRITING:
            state = MessageState.WRITING if is_in_doubt(message) else MessageState.WAITING
            self._put(message, replace(stored, state=state, attempts=doubts(message)))

    def new_of(self, events: Sequence[Decoded]) -> Sequence[Decoded]:
        """See :meth:`trio_signal._journal.Journal.new_of`."""
        return self._duplicates.new_of(events, list(map(_digest_of, events)))

    def done_with(self, event: Event) -> None:
        """See :meth:`trio_signal._journal.Journal.done_with`."""
        if isinstance(event, MessageSettled):
            _, sequence = self._events.pop(id(event), (event, None))
            if sequence is not None:
                self.keeper.strike(sequence)
        elif isinstance(event, ReceivedMessage):
            digest = _digest_of(event)
            # What comes with a number is known by that, and its key was never asked for.
            if digest is not None and digest in self._duplicates:
                self.keeper.put_key(digest)

    @property
    def cursor(self) -> Cursor | None:
        """See :attr:`trio_signal._journal.Journal.cursor`."""
        return self._cursor

    def advance(self, cursor: Cursor) -> None:
        """See :meth:`trio_signal._journal.Journal.advance`."""
        if self._receives and cursor != self._cursor:
            self._cursor = cursor
            self.keeper.put_cursor(cursor)

    async def run(self, cursor: Callable[[], Cursor | None]) -> None:
        """See :meth:`trio_signal._journal.Journal.run`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keeper.run)
            while True:
                await trio.sleep(_CURSOR_INTERVAL)
                if (reached := cursor()) is not None:
                    self.advance(reached)

    async def aclose(self, *, in_order: bool) -> None:
        """See :meth:`trio_signal._journal.Journal.aclose`."""
        if in_order:
            # Whoever wants to know what became of them has them in hand.
            for sequence in self._unseen:
                self.keeper.strike(sequence)
            self._unseen.clear()
        await self.keeper.aclose()

    def _restore(self, stored: StoredMessage) -> Restored | None:
        """Make a stored message anew, or report what became of it."""
        outcome: Outcome | None = None
        message: OutgoingMessage | None = None
        begun = stored.begun if stored.state is MessageState.WRITING else None
        try:
            if stored.outcome is not None:
                outcome = decode_outcome(stored.outcome)
            else:
                message = OutgoingMessage(
                    stored.recipient,
                    decode_content(stored.content),
                    account=stored.account,
                    id=stored.id,
                    deadline=self._trio_deadline(stored.deadline),
                )
        except ValueError as error:
            damage = StoreDamaged(f"message {stored.id!r} cannot be read from the store: {error}")
            # Of an outcome that cannot be read nobody knows what it was.
            known = stored.outcome is None and begun is None
            outcome = Failed(damage, Certainty.NOT_SENT if known else Certainty.UNKNOWN)
            done = replace(stored, content=b"", state=MessageState.DONE, outcome=encode_outcome(outcome))
            self.keeper.put(done)
        if message is None:
            if outcome is not None:
                self._tell_of(stored, outcome)
            return None
        self._take_charge(_Charge(message, stored, is_restored=True))
        return Restored(message, begun, stored.attempts)

    def _take_charge(self, charge: _Charge) -> None:
        self._open[_name(charge.message)] = charge
        keep_outcome(charge.message, self._settle)

    def _stored(self, message: OutgoingMessage) -> StoredMessage | None:
        """Return how a message stands in the store; None if it has its outcome."""
        charge = self._open.get(_name(message))
        # Once it has, another may have its name.
        return charge.stored if charge is not None and charge.message is message else None

    def _put(self, message: OutgoingMessage, stored: StoredMessage) -> None:
        name = _name(message)
        self._open[name] = self._open[name]._replace(stored=stored)
        self.keeper.put(stored)

    def _settle(self, message: OutgoingMessage, outcome: Outcome) -> None:
        """Write an outcome down, and tell it once that is done."""
        charge = self._open.pop(_name(message))
        stored = charge.stored
        if (beginning := self._beginning.get(message)) is not None:
            beginning.set()
        encoded = encode_outcome(outcome)
        self.keeper.put(replace(stored, content=b"", state=MessageState.DONE, outcome=encoded))
        if self._copies is not None and (release := self._copies.releasing(message.content)) is not None:
            self.keeper.do_afterwards(release)
        if not charge.is_restored:
            self._unseen[stored.sequence] = None
            if len(self._unseen) > _MAX_UNSEEN:
                del self._unseen[next(iter(self._unseen))]
        self.keeper.call_when_kept(partial(self._tell, charge, outcome), at_latest_tried=True)

    def _tell(self, charge: _Charge, outcome: Outcome) -> None:
        if charge.is_restored:
            tell(charge.message)
            self._tell_of(charge.stored, outcome)
        else:
            tell(charge.message, partial(self._note_seen, charge.stored.sequence))

    def _tell_of(self, stored: StoredMessage, outcome: Outcome) -> None:
        event = MessageSettled(stored.id, stored.recipient, stored.account, outcome)
        self._events[id(event)] = event, stored.sequence
        if self._report is not None:
            self._report(event)

    def _note_seen(self, sequence: int) -> None:
        if self._unseen.pop(sequence, sequence) is None:
            self.keeper.strike(sequence)

    def _wall_deadline(self, message: OutgoingMessage) -> int | None:
        return None if message.deadline == math.inf else self._wall.at(message.deadline)

    def _trio_deadline(self, deadline: int | None) -> float:
        return math.inf if deadline is None else trio.current_time() + (deadline - self._wall.now()) / 1000


def _name(message: OutgoingMessage) -> tuple[str | None, str]:
    return message.account, message.id


def _digest_of(event: Decoded) -> bytes | None:
    """Return a digest of an event's duplicate key, if it has one."""
    key = event.duplicate_key if isinstance(event, ReceivedMessage) else None
    if key is None:
        return None
    # Not by msgpack, which knows no number beyond 64 bits.
    return hashlib.blake2b(repr(key).encode(errors="surrogatepass"), digest_size=_DIGEST).digest()

"""The seam to what must survive: accepted messages, the cursor, the duplicate filter.

The client keeps nothing else that a restart should not forget, and reaches it only
through :class:`Journal`. :class:`MemoryJournal` forgets everything with the process; the
store on disk (:mod:`trio_signal.store`) stands in its place without a change to the tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ._contents import Content
from ._continuity import Cursor
from ._duplicates import MessageFilter
from ._envelopes import Decoded
from ._events import Event, MessageSettled
from ._outgoing import OutgoingMessage

if TYPE_CHECKING:
    from .store._keeper import Keeper


@dataclass(frozen=True, slots=True)
class Restored:
    """A message that an earlier process has accepted and that has no outcome yet.

    Attributes:
        message: it, as an object of this process.
        begun: when an attempt began of which nobody knows what came of it, in milliseconds since the
            epoch; None if nothing of it can have left.
        attempts: how many attempts have begun.
    """

    message: OutgoingMessage
    begun: int | None
    attempts: int


class Book(Protocol):
    """What accepted messages are written down in."""

    async def prepare(self, content: Content) -> Content:
        """Return the content as it is to be written down. Cancelling is safe; a checkpoint if it takes time.

        Raises:
            ConfigurationError: a file of it cannot be copied.
            StoreError: nor can it be written.
        """
        ...

    def discard(self, content: Content) -> None:
        """Forget content that was prepared for a message which was not accepted."""
        ...

    async def accept(self, message: OutgoingMessage, enter: Callable[[OutgoingMessage], None]) -> None:
        """Write a message down, and then have it ``enter`` the buffer, in the order of these calls.

        A checkpoint; cancelled, it was not accepted.

        Args:
            message: a new one, whose content :meth:`prepare` gave.
            enter: what is called, once at most.

        Raises:
            ConfigurationError: a message of this id is written down, and has no outcome yet.
            StoreError: it could not be written down, and was not accepted.
            ClientClosed: ``enter`` raised it.
        """
        ...


class Journal(Protocol):
    """What the client writes down as it goes."""

    @property
    def keeper(self) -> "Keeper | None":
        """The writer of the store, for a hub on top of the client; None without a store."""
        ...

    @property
    def survives(self) -> bool:
        """Whether another process goes on where this one ends."""
        ...

    @property
    def book(self) -> "Book | None":
        """Where accepted messages are written down; None where the buffer holds them and that is all."""
        ...

    @property
    def waiting(self) -> int:
        """How many messages :meth:`restore` gives at most."""
        ...

    def restore(self, report: Callable[[MessageSettled], None]) -> Sequence[Restored]:
        """Hand over what an earlier process has left. Once, before anything else.

        Args:
            report: called with each outcome that nobody has heard of for certain: of what was settled
                before, now; of what is handed over, when it is settled.

        Returns:
            The messages that wait for this process, in the order of acceptance.
        """
        ...

    async def begin(self, message: OutgoingMessage) -> None:
        """Write down that it may leave from now on. A checkpoint if that takes time.

        Returns only once that is so, or once the message has its outcome, by its deadline for instance.
        Cancelled, it may be written down all the same; :meth:`unsent` takes it back.
        """
        ...

    def unsent(self, message: OutgoingMessage) -> None:
        """Write down that nothing of it has left after all, and it waits for another attempt."""
        ...

    def new_of(self, events: Sequence[Decoded], /) -> Sequence[Decoded]:
        """Return those that have not come before, in their order, and remember them."""
        ...

    def done_with(self, event: Event) -> None:
        """Write down that the application has taken, or acknowledged, an event."""
        ...

    @property
    def cursor(self) -> Cursor | None:
        """How far the application had come when it last said so; None at the very start."""
        ...

    def advance(self, cursor: Cursor) -> None:
        """Write down how far the application has come."""
        ...

    async def run(self, cursor: Callable[[], Cursor | None]) -> None:
        """Do what must be done while the client runs; cancelling is safe. A checkpoint.

        Args:
            cursor: tells how far the application has come; asked now and then, for time passes too.
        """
        ...

    async def aclose(self, *, in_order: bool) -> None:
        """Write down what is left; cancelled by the caller's deadline, then it tells what is lost.

        Args:
            in_order: whether the client's block was left normally.
        """
        ...


class MemoryJournal:
    """A journal that ends with the process."""

    keeper = None
    book = None
    survives = False
    waiting = 0

    def __init__(self, cursor: Cursor | None = None) -> None:
        self._cursor = cursor
        self._received: Final = MessageFilter()

    def restore(self, report: Callable[[MessageSettled], None]) -> Sequence[Restored]:  # noqa: ARG002
        """See :meth:`Journal.restore`. There is nothing."""
        return ()

    async def begin(self, message: OutgoingMessage) -> None:
        """See :meth:`Journal.begin`. Whoever ends with the message need not know."""

    def unsent(self, message: OutgoingMessage) -> None:
        """See :meth:`Journal.unsent`."""

    def new_of(self, events: Sequence[Decoded]) -> Sequence[Decoded]:
        """See :meth:`Journal.new_of`."""
        return self._received.new_of(events)

    def done_with(self, event: Event) -> None:
        """See :meth:`Journal.done_with`."""

    @property
    def cursor(self) -> Cursor | None:
        """See :attr:`Journal.cursor`."""
        return self._cursor

    def advance(self, cursor: Cursor) -> None:
        """See :meth:`Journal.advance`."""
        self._cursor = cursor

    async def run(self, cursor: Callable[[], Cursor | None]) -> None:  # noqa: ARG002
        """See :meth:`Journal.run`. There is nothing to do."""
        await trio.lowlevel.checkpoint()

    async def aclose(self, *, in_order: bool) -> None:  # noqa: ARG002
        """See :meth:`Journal.aclose`. There is nothing to write."""
        await trio.lowlevel.checkpoint()

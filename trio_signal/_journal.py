"""The seam to what must survive: accepted messages, the cursor, the duplicate filter.

The client keeps nothing else that a restart should not forget, and reaches it only
through :class:`Journal`. :class:`MemoryJournal` forgets everything with the process; a
store on disk stands in its place without a change to the tasks.
"""

from collections.abc import Hashable
from typing import Protocol

import trio

from ._continuity import Cursor, DuplicateFilter
from ._outgoing import Outcome, OutgoingMessage


class Journal(Protocol):
    """What the client writes down as it goes."""

    async def accept(self, message: OutgoingMessage) -> None:
        """Write down a message before it enters the buffer. A checkpoint; cancelled, it was not accepted."""
        ...

    def forget(self, message: OutgoingMessage) -> None:
        """Strike out a message that the buffer did not take after all."""
        ...

    def settle(self, message: OutgoingMessage, outcome: Outcome) -> None:
        """Write down the outcome that a message now has."""
        ...

    def is_new(self, key: Hashable) -> bool:
        """Remember a received message's key; say whether it was unknown until now."""
        ...

    @property
    def cursor(self) -> Cursor | None:
        """How far the application had come when it last said so; None at the very start."""
        ...

    def advance(self, cursor: Cursor) -> None:
        """Write down how far the application has come."""
        ...


class MemoryJournal:
    """A journal that ends with the process."""

    def __init__(self, cursor: Cursor | None = None) -> None:
        self._cursor = cursor
        self._duplicates = DuplicateFilter()

    async def accept(self, message: OutgoingMessage) -> None:  # noqa: ARG002
        """See :meth:`Journal.accept`. The buffer holds the message, so there is nothing to write."""
        await trio.lowlevel.checkpoint()

    def forget(self, message: OutgoingMessage) -> None:
        """See :meth:`Journal.forget`. There is nothing to strike out."""

    def settle(self, message: OutgoingMessage, outcome: Outcome) -> None:
        """See :meth:`Journal.settle`. The message holds its outcome, so there is nothing to write."""

    def is_new(self, key: Hashable) -> bool:
        """See :meth:`Journal.is_new`."""
        return self._duplicates.is_new(key)

    @property
    def cursor(self) -> Cursor | None:
        """See :attr:`Journal.cursor`."""
        return self._cursor

    def advance(self, cursor: Cursor) -> None:
        """See :meth:`Journal.advance`."""
        self._cursor = cursor

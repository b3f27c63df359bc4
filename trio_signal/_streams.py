"""What the application iterates over: everything that arrives, or only what somebody wrote."""

import logging
from collections.abc import Callable
from typing import Final, Self

import trio

from ._continuity import Gap
from ._envelopes import MessageKind, ReceivedMessage, Undecodable
from ._inbox import Event, Inbox, MessageSettled
from ._outcomes import Sent

_logger: Final = logging.getLogger("trio_signal.client")

#: What :meth:`SignalClient.receive_messages` gives: what somebody wrote.
DEFAULT_KINDS: Final = frozenset({MessageKind.MESSAGE})


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
        event = self._inbox.take_in_turn()
        if event is None:
            try:
                event = await self._inbox.take()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        if self._on_taken is not None:
            self._on_taken(event)
        return event  # noqa: ASYNC910  (documented: a burst costs one checkpoint, not one for each event)

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


class MessageStream:
    """An iterator over received messages. See :meth:`SignalClient.receive_messages`."""

    def __init__(self, events: EventStream, kinds: frozenset[MessageKind]) -> None:
        self._events: Final = events
        #: Looked through in place of a set: a member of an enum is hashed by a function in Python.
        self._kinds: Final = tuple(kinds)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> ReceivedMessage:
        """Wait for the next message and take it. As :meth:`EventStream.__anext__`."""
        events = self._events
        while True:  # noqa: ASYNC913  (as documented there)
            event = events.next_in_turn()
            if event is None:
                event = await anext(events)
            if isinstance(event, ReceivedMessage):
                if event.kind in self._kinds and event.reply_to:
                    return event  # noqa: ASYNC910  (as documented there)
            elif isinstance(event, Gap):
                _logger.warning("messages may be missing: %s", event)
            elif isinstance(event, Undecodable):
                _logger.warning("a frame could not be understood and was passed over: %s", event.reason)
            elif isinstance(event, MessageSettled):
                level = logging.INFO if isinstance(event.outcome, Sent) else logging.WARNING
                _logger.log(level, "message %s of an earlier process: %s", event.message_id, event.outcome)
            else:
                _logger.warning("Signal wants a challenge solved before it takes more messages")
            self._events.pass_over(event)

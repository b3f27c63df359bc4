"""What the application iterates over when it wants only what somebody wrote."""

import logging
from typing import Final, Self

from ._continuity import Gap
from ._envelopes import MessageKind, ReceivedMessage, Undecodable
from ._events import MessageSettled
from ._inbox import EventStream
from ._outcomes import Sent

_logger: Final = logging.getLogger("trio_signal.client")

#: What :meth:`SignalClient.receive_messages` gives: what somebody wrote.
DEFAULT_KINDS: Final = frozenset({MessageKind.MESSAGE})


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

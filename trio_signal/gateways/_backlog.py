"""When all messages that waited on Signal's server have come over signal-cli's stream of events. Pure.

The daemon does not say so. What there is to go by are two times in most messages: when Signal's server got it
and when it gave it to the daemon, both by the server's clock. Messages wait in a queue, so with the first one
that the server got after we had connected, all that waited for the same account has come.

When we connected, by that clock, follows from the second time: it is at least that time less what has passed
here since. The highest value counts. So a copy that the daemon kept over a crash, which comes first and with
times of its own day, is outdone by the next message, and a message that is itself the newest word about the
time proves nothing: it may be such a copy. Our own clock, which may be wrong, is asked only as long as no
message has told the second time.

Otherwise a pause tells the end, and at last a limit: messages that keep coming, of which for 10 minutes not
one is proven to have waited, are taken for new ones.
"""

from typing import Annotated, Final

import msgspec

#: So long after the last message that is proven to have waited, all have come, in seconds.
LONGEST: Final = 600.0

#: Milliseconds since the epoch. Whatever is no time of day is as good as none.
_Stamp = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _Envelope(msgspec.Struct, rename="camel"):
    server_received_timestamp: _Stamp = 0
    server_delivered_timestamp: _Stamp = 0


class _Frame(msgspec.Struct):
    envelope: _Envelope


_UNKNOWN: Final = _Envelope()


class Backlog:
    """Looks at each event of a stream and knows when nothing that waited is still to come.

    Args:
        begun: when the stream began, on Trio's clock.
        wall: the same by our own clock, in milliseconds since the epoch.
        quiet_time: after how long without an event nothing is waiting any more, in seconds.
        serves_all: whether messages of several accounts come, so that a new one of one account says nothing
            about the others.

    Attributes:
        is_over: whether a message has come that the server got after we had connected. Never with
            ``serves_all``: then such a message just does not prolong the wait.
    """

    def __init__(self, begun: float, wall: int, *, quiet_time: float, serves_all: bool) -> None:
        self.is_over = False
        self._begun: Final = begun
        self._wall: Final = wall
        self._quiet_time: Final = quiet_time
        self._serves_all: Final = serves_all
        #: The server's clock showed at least this when the stream began; None while it has told nothing.
        self._connected: float | None = None
        #: When the last event came that may have waited, and the last one that certainly has.
        self._last_waiting = self._last_proven = begun

    @property
    def ends_at(self) -> float:
        """When all has come if nothing else comes, on Trio's clock."""
        return min(self._last_waiting + self._quiet_time, self._last_proven + LONGEST)

    def take(self, event: bytes | None, at: float) -> None:
        """Look at an event. Never raises.

        Args:
            event: its data; None if it was not kept.
            at: when it came whole, on Trio's clock.
        """
        envelope = _envelope(event)
        received, delivered = envelope.server_received_timestamp, envelope.server_delivered_timestamp
        connected = delivered - (at - self._begun) * 1000
        is_newest = delivered > 0 and (self._connected is None or connected > self._connected)
        if is_newest:
            self._connected = connected
        if self._connected is None:
            is_new = received > self._wall
        elif received > self._connected:
            is_new = not is_newest
        else:
            is_new = False
            if received > 0:
                self._last_proven = at
        if not is_new:
            self._last_waiting = at
        elif not self._serves_all:
            self.is_over = True


def _envelope(event: bytes | None) -> _Envelope:
    if event is None:
        return _UNKNOWN
    try:
        return msgspec.json.decode(event, type=_Frame).envelope
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # It is given to the application all the same; it just tells no time.
        return _UNKNOWN

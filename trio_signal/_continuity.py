"""What the application has had, and what it has missed. Pure."""

import enum
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from ._errors import ConfigurationError

#: No number is larger than this: what any JSON reader can hold exactly.
MAX_NUMBER: Final = 2**53

#: No name of a numbering is longer than this.
MAX_EPOCH: Final = 200


class GapReason(enum.StrEnum):
    """Why messages may be missing (contract R4)."""

    GATEWAY = "gateway"  #: the gateway keeps nothing while we are away
    STALLED = "stalled"  #: the gateway answered but delivered nothing any more
    OVERFLOW = "overflow"  #: the inbox was full
    EPOCH_CHANGED = "epoch_changed"  #: the numbering began anew
    EXPIRED = "expired"  #: kept for a time, and that is over
    OVERWRITTEN = "overwritten"  #: more came than is kept


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages may be missing here. It stands in the stream where they would have stood.

    Attributes:
        reason: a :class:`GapReason`, which compares equal to its text.
        since: the last moment known to be covered, in milliseconds since the epoch.
        until: the first moment covered again, in milliseconds since the epoch.
        first: the first missing sequence number, where the gateway numbers messages.
        last: the last missing one.
        count: how many messages are known to be lost, None where nobody can know.
    """

    reason: GapReason
    since: int
    until: int
    first: int | None = None
    last: int | None = None
    count: int | None = None

    def extended(self, *, since: int, until: int, count: int | None) -> "Gap":
        """Return this gap, reaching over another stretch of time with ``count`` more messages."""
        total = None if self.count is None or count is None else self.count + count
        return Gap(self.reason, min(self.since, since), max(self.until, until), self.first, self.last, total)


class Position(NamedTuple):
    """A place in a stream whose messages are numbered.

    Attributes:
        epoch: which numbering it is.
        sequence: the last message before this place.
    """

    epoch: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the application has come; store it and give it to the next process.

    Attributes:
        time: everything up to here has been taken or reported, in milliseconds since
            the epoch.
        epoch: which numbering ``sequence`` belongs to, where the gateway numbers messages.
        sequence: the last message taken, where the gateway numbers messages.
    """

    time: int
    epoch: str | None = None
    sequence: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.time):
            raise ConfigurationError(
                "cursor.time", f"{self.time!r} is no time in milliseconds since the epoch"
            )
        if (self.epoch is None) != (self.sequence is None):
            raise ConfigurationError("cursor.epoch", "give it together with sequence, or neither of them")
        if self.sequence is not None and not _is_number(self.sequence, up_to=MAX_NUMBER):
            raise ConfigurationError("cursor.sequence", f"{self.sequence!r} is no number of a message")
        if self.epoch is not None and not _is_name(self.epoch):
            raise ConfigurationError(
                "cursor.epoch", f"{self.epoch!r} names no numbering: give 1 to {MAX_EPOCH} characters"
            )

    @property
    def position(self) -> Position | None:
        """The place in the stream, where the gateway numbers messages."""
        if self.epoch is None or self.sequence is None:
            return None
        return Position(self.epoch, self.sequence)


def cursor_at(time: int, position: Position | None) -> Cursor:
    """Return the cursor of a moment (milliseconds since the epoch) and a place, if there is one."""
    return Cursor(time) if position is None else Cursor(time, position.epoch, position.sequence)


def _is_number(value: object, *, up_to: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= up_to


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_EPOCH:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a character cannot be put into a URL.
        return False
    return True

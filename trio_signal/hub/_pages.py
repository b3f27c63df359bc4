"""What the log gives to its readers: entries, pages of them, and holes. Pure."""

from dataclasses import dataclass

import msgspec

from .._continuity import GapReason


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One numbered message, or an absence of the hub from its gateway.

    Attributes:
        sequence: its number in this epoch.
        time: when it was appended, in seconds of the log's clock.
        body: the JSON object as it goes over the wire, number included.
    """

    sequence: int
    time: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Hole:
    """What a reader lacks and the log cannot give it any more.

    Attributes:
        reason: ``EXPIRED``, ``OVERWRITTEN`` or ``EPOCH_CHANGED``, as for the newest one missing.
        first: the first number missing; None where the numbering is another one.
        last: the last number missing; None where the numbering is another one.
    """

    reason: GapReason
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to somebody who was away (contract H4).

    Attributes:
        messages: contiguous numbers, the oldest first.
        epoch: which numbering they belong to.
        head: the last number given out; 0 if none was.
        oldest: the first number kept; ``head + 1`` if none is.
        gap: what is missing before the first message, or None.
        more: whether the log keeps messages after the last one here.
    """

    messages: tuple[LogEntry, ...]
    epoch: str
    head: int
    oldest: int
    gap: Hole | None
    more: bool

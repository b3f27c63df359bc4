"""What goes to the disk together, and what comes back from it. Pure.

A :class:`Batch` tells how things are now, not what happened: writing it twice leaves the same
as writing it once, so a batch of which nobody knows whether it was committed is simply written
again.
"""

import enum
from dataclasses import dataclass, field

from .._continuity import Cursor


class MessageState(enum.IntEnum):
    """How far an outgoing message has come."""

    WAITING = 0  #: accepted; nothing of it has left
    WRITING = 1  #: it may have left
    DONE = 2  #: it has its outcome, which nobody has looked at yet


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """An outgoing message as it stands on disk.

    Attributes:
        sequence: its place in the order of acceptance, from 1.
        id: the caller's, or a random one.
        account: whose it is, for a client that serves all accounts of a gateway.
        recipient: who it is for.
        content: what it says, encoded; empty once it is DONE.
        deadline: when it stops being worth sending, in milliseconds since the epoch; None for never.
        state: how far it has come.
        begun: when its last attempt began, in milliseconds since the epoch; None before the first.
        attempts: how many attempts have begun.
        outcome: what became of it, encoded; None while that is open.
    """

    sequence: int
    id: str
    account: str | None
    recipient: str
    content: bytes
    deadline: int | None = None
    state: MessageState = MessageState.WAITING
    begun: int | None = None
    attempts: int = 0
    outcome: bytes | None = None


@dataclass(frozen=True, slots=True)
class LogRow:
    """An entry of the hub's log.

    Attributes:
        sequence: its number.
        time: when it came, in milliseconds since the epoch.
        body: the JSON object that clients get.
    """

    sequence: int
    time: int
    body: bytes


@dataclass(slots=True)
class Batch:
    """What is written in one transaction.

    Attributes:
        messages: messages as they stand now, new and known ones, by sequence.
        struck: sequences of messages to be deleted, known or not.
        keys: received messages that the application has taken: digests, the oldest first.
        cursor: how far the application has come; None for no change.
        log_epoch: the name of the log's numbering; None for no change.
        log_rows: entries that were numbered, in their order.
        log_oldest: entries below this number are deleted; None for no change.
    """

    messages: dict[int, StoredMessage] = field(default_factory=dict[int, StoredMessage])
    struck: set[int] = field(default_factory=set[int])
    keys: list[bytes] = field(default_factory=list[bytes])
    cursor: Cursor | None = None
    log_epoch: str | None = None
    log_rows: list[LogRow] = field(default_factory=list[LogRow])
    log_oldest: int | None = None


@dataclass(frozen=True, slots=True)
class LogPast:
    """The hub's log as an earlier process left it.

    Attributes:
        epoch: the name of its numbering.
        head: the last number given out.
        rows: what was kept, contiguous and up to ``head``; may be empty.
        continues: whether nothing that was offered can be missing; otherwise another epoch must be drawn.
    """

    epoch: str
    head: int
    rows: tuple[LogRow, ...]
    continues: bool


@dataclass(frozen=True, slots=True)
class Past:
    """All that an earlier process left.

    Attributes:
        messages: outgoing messages in the order of acceptance, DONE ones included.
        next_sequence: the sequence for the next message: above all that were ever given out.
        keys: received messages that were taken: digests, the oldest first.
        cursor: how far the application had come.
        log: the hub's log; None if there never was one.
    """

    messages: tuple[StoredMessage, ...]
    next_sequence: int
    keys: tuple[bytes, ...]
    cursor: Cursor | None
    log: LogPast | None

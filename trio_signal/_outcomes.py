"""What became of an outgoing message, and how many came to which end (contract O1). Pure."""

import enum
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from ._errors import Certainty, FailedRecipient, GatewayError, SignalError


class DropReason(enum.StrEnum):
    """Why a message was given up before anything of it left."""

    OVERFLOW = "overflow"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    CLOSED = "closed"


# One is made for each message, and a struct costs a tenth of a frozen dataclass. `msgspec.structs.asdict()`
# and `.replace()` do with them what those of `dataclasses` do with dataclasses.


class Sent(msgspec.Struct, frozen=True):
    """The gateway has handed the message to Signal.

    Attributes:
        timestamp: the message's id in Signal, in milliseconds since the epoch; 0 if
            the gateway did not say.
        failed: who did not get it. Gateways before 0.101 do not tell.
    """

    timestamp: int
    failed: tuple[FailedRecipient, ...] = ()


class Dropped(msgspec.Struct, frozen=True):
    """The message was given up; nothing of it has left."""

    reason: DropReason


class Failed(msgspec.Struct, frozen=True):
    """The message was attempted and did not succeed.

    Attributes:
        error: what went wrong, in the gateway's words where it had any.
        certainty: whether it may have been delivered all the same.
    """

    error: Exception
    certainty: Certainty


Outcome = Sent | Dropped | Failed


class MessageDropped(SignalError):
    """Raised by :meth:`OutgoingMessage.wait`: the message was given up, nothing has left.

    Attributes:
        reason: a :class:`DropReason`.
    """

    def __init__(self, reason: DropReason) -> None:
        super().__init__(f"the message was dropped: {reason.value}")
        self.reason = reason


class SendFailed(GatewayError):
    """Raised by :meth:`OutgoingMessage.wait`: the message failed.

    Attributes:
        error: what went wrong.
        certainty: a :class:`Certainty`; ``"unknown"`` means that it may have been delivered.
    """

    def __init__(self, error: Exception, certainty: Certainty) -> None:
        hint = "it was not sent" if certainty is Certainty.NOT_SENT else "whether it was sent is unknown"
        super().__init__(f"{error} ({hint})")
        self.error = error
        self.certainty = certainty


@dataclass(frozen=True, slots=True)
class OutgoingStatistics:
    """What became of all accepted messages; ``accepted == sent + dropped + failed + pending`` always.

    Attributes:
        accepted: how many were taken on.
        sent: how many the gateway handed to Signal.
        dropped: how many were given up, by :class:`DropReason`.
        failed: how many failed, by :class:`Certainty`.
        pending: how many have no outcome yet.
    """

    accepted: int
    sent: int
    dropped: dict[DropReason, int]
    failed: dict[Certainty, int]

    @property
    def pending(self) -> int:
        """How many have no outcome yet."""
        return self.accepted - self.sent - sum(self.dropped.values()) - sum(self.failed.values())


@dataclass(slots=True)
class Ledger:
    """Counts messages in and outcomes out (contract O1)."""

    accepted: int = 0
    sent: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter[DropReason])
    failed: Counter[Certainty] = field(default_factory=Counter[Certainty])

    def enter(self, outcome: Outcome) -> None:
        """Book one outcome."""
        if isinstance(outcome, Sent):
            self.sent += 1
        elif isinstance(outcome, Dropped):
            self.dropped[outcome.reason] += 1
        else:
            self.failed[outcome.certainty] += 1

    def statistics(self) -> OutgoingStatistics:
        """Return the counts as they are now."""
        return OutgoingStatistics(self.accepted, self.sent, dict(self.dropped), dict(self.failed))

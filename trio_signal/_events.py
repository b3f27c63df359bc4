"""What the application gets beside messages, and all that it may get."""

from dataclasses import dataclass

from ._continuity import Gap
from ._envelopes import ReceivedMessage, Undecodable
from ._outcomes import Outcome


@dataclass(frozen=True, slots=True)
class ChallengeRequired:
    """Signal wants proof that a person sends, before it takes more from this account.

    Solve it in a browser (https://signalcaptchas.org/challenge/generate.html) and hand the
    solution in with :meth:`SignalClient.submit_rate_limit_challenge`, which lets the queue go on.

    Attributes:
        tokens: what to solve; never empty, and no token is the empty string.
        account: whose sending is limited.
        paused_for: how long the queue pauses by itself, in seconds.
    """

    tokens: tuple[str, ...]
    account: str | None
    paused_for: float


@dataclass(frozen=True, slots=True)
class MessageSettled:
    """What became of a message that an earlier process had accepted into the store.

    Attributes:
        message_id: the ``id=`` that it was given, or its random one.
        recipient: who it was for.
        account: whose it was, for a client that serves all accounts of a gateway.
        outcome: ``Sent``, ``Dropped`` or ``Failed``; an error in it is a :class:`RecordedError` if it
            was decided by the earlier process.
    """

    message_id: str
    recipient: str
    account: str | None
    outcome: Outcome


Event = ReceivedMessage | Undecodable | Gap | ChallengeRequired | MessageSettled

"""Which message a reaction, an edit, a deletion or a receipt is about. Pure.

What has been edited is named by the timestamp of its last edit, which an edit brings along as
its own: Signal-Desktop names it so when it reacts, edits or deletes
(``getMessageSentTimestamp`` there counts edits in), and Signal-Android finds every version by
its own timestamp and puts a reaction on the latest (``handleReaction`` in
``DataMessageProcessor``).
"""

from typing import Final

from ._contents import Target, Text
from ._envelopes import MessageKind, ReceivedMessage
from ._errors import ConfigurationError
from ._outcomes import Sent
from ._outgoing import OutgoingMessage

TargetLike = ReceivedMessage | OutgoingMessage | Target

#: What arrives and is no message that stands anywhere.
_NO_MESSAGE: Final = frozenset(
    {
        MessageKind.REACTION,
        MessageKind.REMOTE_DELETE,
        MessageKind.RECEIPT,
        MessageKind.TYPING,
        MessageKind.CALL,
        MessageKind.POLL_VOTE,
        MessageKind.SYNC,
        MessageKind.EXCEPTION,
    }
)


def account_of(target: TargetLike) -> str | None:
    """Return whose message it is in a client of all accounts: who sent it, or for whom it came."""
    return None if isinstance(target, Target) else target.account


def find_target(target: TargetLike, own: str) -> Target:
    """Return where a message stands, who wrote it, and when.

    Args:
        target: the message.
        own: the account that acts on it.

    Raises:
        ConfigurationError: that is not known, or not yet; or it is no message.
    """
    if isinstance(target, ReceivedMessage):
        return _find_received(target)
    if isinstance(target, OutgoingMessage):
        return _find_sent(target, own)
    if isinstance(target, Target):
        return target
    raise ConfigurationError(
        "target", f"{type(target).__name__} is none of ReceivedMessage, OutgoingMessage and Target"
    )


def find_own_target(target: TargetLike, own: str) -> Target:
    """Return the same as :func:`find_target`, for a message that only its author may change.

    Raises:
        ConfigurationError: as there; or it is certain that another wrote it.
    """
    found = find_target(target, own)
    if not _may_be_own(target, found, own):
        raise ConfigurationError(
            "target", "another wrote it; only one's own messages can be edited or deleted"
        )
    return found


def find_foreign_target(target: TargetLike, own: str) -> Target:
    """Return the same as :func:`find_target`, for a message that the account did not write itself.

    Raises:
        ConfigurationError: as there; or it is certain that the account wrote it.
    """
    found = find_target(target, own)
    mine = target.from_self if isinstance(target, ReceivedMessage) else isinstance(target, OutgoingMessage)
    if mine or found.author == own:
        raise ConfigurationError("target", "it is a message of our own; receipts are for those of others")
    return found


def _find_received(message: ReceivedMessage) -> Target:
    if message.kind in _NO_MESSAGE:
        raise ConfigurationError(
            "target", f"a {message.kind} is no message; give a Target for the message that it is about"
        )
    # The UUID first: many people hide their number, and it can change.
    author, timestamp = message.sender_uuid or message.sender, message.timestamp
    if not message.reply_to or author is None or timestamp is None:
        raise ConfigurationError("target", "this message does not say where it stands, who wrote it and when")
    return Target(message.reply_to, author, timestamp)


def _find_sent(message: OutgoingMessage, own: str) -> Target:
    if not isinstance(message.content, Text):
        raise ConfigurationError("target", f"it is a {type(message.content).__name__} and no message")
    outcome = message.outcome
    if not isinstance(outcome, Sent):
        raise ConfigurationError("target", "it has not been sent; wait for it first: await message.wait()")
    if not outcome.timestamp:
        raise ConfigurationError("target", "the gateway did not tell its timestamp when it sent it")
    return Target(message.recipient, message.account or own, outcome.timestamp)


def _may_be_own(target: TargetLike, found: Target, own: str) -> bool:
    if isinstance(target, ReceivedMessage):
        return target.from_self or own in {target.sender_number, found.author}
    # Whose a UUID is nobody has told us.
    return found.author == own or not found.author.startswith("+")

"""An outgoing message, from its acceptance to the one outcome that it ends in (contract O1, O2).

Theory of operation
===================

A message is always in one phase::

    NEW ──▶ WAITING ──taken──▶ HELD ◀──────▶ WRITING
     │         │ └───────────┬──┤               │
     │         │           KEPT │               │
     └─────────┴────────────────┴──── DONE ◀────┘

- NEW: not accepted yet.
- WAITING: in the buffer. Nothing of it has left.
- HELD: in one of the send task's slots, between attempts. Nothing of it is leaving now.
- WRITING: being sent. Only the send task may end this.
- DONE: its outcome is decided, for good.
- KEPT: the client was closed; it stays in the store, accepted, and the next process sends it.

A message may be withdrawn, or expire, while WAITING or HELD, never while WRITING:
nobody can call a letter back that is half through the slot. A message that was
attempted with an unknown result and is to be tried again carries that result as its
``doubt``; if it is then dropped, the doubt is its outcome, because "dropped" would
claim that nobody got it.

An outcome is decided first and told afterwards. Without a store that is one step; with one
the outcome is committed in between, so that what somebody was told is never told otherwise
after a kill. What was decided is in no queue any more and is never written again, told or not.

All changes of phase are made by the functions at the end of this file.
"""

import enum
import math
import os
from collections.abc import Callable, Hashable
from typing import Final, Literal, final

import trio

from ._checks import check_type
from ._contents import Content, Text
from ._errors import Certainty, ClientClosed, ConfigurationError
from ._outcomes import Dropped, DropReason, Failed, MessageDropped, Outcome, SendFailed, Sent
from ._recipients import GROUP, check_recipient

#: A deadline beyond this, in seconds, is none.
_FAR_FUTURE: Final = 1e15

#: What a queued message costs beside its contents, roughly.
_OVERHEAD: Final = 512


class _Phase(enum.Enum):
    NEW = enum.auto()
    WAITING = enum.auto()
    HELD = enum.auto()
    WRITING = enum.auto()
    DONE = enum.auto()
    KEPT = enum.auto()


# An attribute of an Enum costs ten times as much, and each message needs a dozen.
_NEW: Final = _Phase.NEW
_WAITING: Final = _Phase.WAITING
_HELD: Final = _Phase.HELD
_WRITING: Final = _Phase.WRITING
_DONE: Final = _Phase.DONE
_KEPT: Final = _Phase.KEPT


@final
class OutgoingMessage:
    """A message that was accepted, and what became of it.

    Made by :meth:`SignalClient.send_message` and :meth:`MessageBuffer.enqueue`.

    Attributes:
        recipient: who it is for.
        content: what it says: a ``Text``, a ``Reaction`` or a ``RemoteDelete``.
        account: whose it is, for a client that serves all accounts of a gateway.
        id: the caller's, or a random one.
        deadline: when it stops being worth sending, on Trio's clock.
        size: what it costs in the buffer, in bytes.
    """

    __slots__ = (
        "_clock",
        "_doubt",
        "_doubts",
        "_is_told",
        "_keep",
        "_news",
        "_on_decided",
        "_on_done",
        "_on_seen",
        "_outcome",
        "_phase",
        "account",
        "content",
        "deadline",
        "id",
        "recipient",
        "size",
    )

    def __init__(
        self,
        recipient: str,
        content: str | Content,
        *,
        account: str | None = None,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
        deadline: float = math.inf,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.recipient: Final = check_recipient(recipient)
        # Nearly every content is one, and asking the union costs five times as much.
        if type(content) is not Text and not isinstance(content, Content):
            content = Text(content)
        self.content: Final[Content] = content
        self.account: Final = account
        if id is None:
            id = os.urandom(16).hex()  # noqa: A001
        else:
            check_type("id", id, str)
        self.id: Final = id
        # Nearly every message has none, and then it is this very object.
        self.deadline: Final = math.inf if deadline is math.inf else _check_deadline(deadline)
        self.size: Final = _OVERHEAD + self.content.held
        self._clock: Final = clock
        self._phase = _NEW
        self._outcome: Outcome | None = None
        self._doubt: Failed | None = None
        self._doubts = 0
        #: Made by whoever waits, since hardly anybody does when most of the news comes.
        self._news: trio.Event | None = None
        self._is_told = False
        self._on_decided: tuple[Callable[[OutgoingMessage], None], ...] = ()
        self._on_done: tuple[Callable[[OutgoingMessage, Outcome], None], ...] = ()
        self._keep: Callable[[OutgoingMessage, Outcome], None] | None = None
        self._on_seen: Callable[[], None] | None = None

    def __repr__(self) -> str:
        """Show the id and what became of it, never the text or the recipient."""
        what = self._phase.name.lower() if self._outcome is None else self._outcome
        return f"<OutgoingMessage {self.id} {what}>"

    @property
    def text(self) -> str:
        """The text, empty for what has none."""
        return self.content.text if isinstance(self.content, Text) else ""

    @property
    def outcome(self) -> Outcome | None:
        """What became of it; None while that is open. Never changes once given."""
        if self.deadline != math.inf:
            expire(self)
        if not self._is_told:
            return None
        if self._on_seen is not None:
            seen, self._on_seen = self._on_seen, None
            seen()
        return self._outcome

    async def wait(self) -> Sent:
        """Wait until the outcome is known.

        A checkpoint. Cancelling it cancels the waiting only, not the message.

        Raises:
            MessageDropped: it was given up before anything of it left.
            SendFailed: it was attempted; ``certainty`` says whether it may have arrived.
            ClientClosed: the client was closed; its store keeps the message, and the next process sends it.
        """
        if self._is_told or self._phase is _KEPT or is_past_deadline(self):
            # Whoever is cancelled here has not seen the outcome.
            await trio.lowlevel.checkpoint()
        while (outcome := self.outcome) is None:
            if self._phase is _KEPT:
                raise ClientClosed(
                    "the client was closed; the message is kept, and the next process sends it"
                )
            news = self._news
            if news is None:
                news = self._news = trio.Event()
            # While it is written, or not accepted yet, the deadline has no say; news comes when that ends.
            if self.deadline == math.inf or (self._phase is not _WAITING and self._phase is not _HELD):
                await news.wait()
            else:
                with trio.move_on_at(self.deadline):
                    await news.wait()
        if isinstance(outcome, Sent):
            return outcome  # noqa: ASYNC910  (an outcome that is not there yet is waited for)
        if isinstance(outcome, Dropped):
            raise MessageDropped(outcome.reason)
        raise SendFailed(outcome.error, outcome.certainty) from outcome.error

    def withdraw(self) -> bool:
        """Take the message back, unless it is being sent right now or has an outcome.

        Returns:
            Whether it was taken back. Its outcome is then ``Dropped("withdrawn")``, or
            ``Failed("unknown")`` if an earlier attempt may have delivered it; with a store, once
            that is written down, and a process killed before then may leave the message to the next.
        """
        return drop(self, DropReason.WITHDRAWN)


def _check_deadline(deadline: object) -> float:
    if isinstance(deadline, int | float) and not isinstance(deadline, bool):
        # What no float can hold is as good as never; not-a-number compares false with everything.
        if deadline > _FAR_FUTURE:
            return math.inf
        if deadline <= _FAR_FUTURE:
            return float(max(deadline, -_FAR_FUTURE))
    raise ConfigurationError("deadline", f"{deadline!r} is not a time; give trio.current_time() + seconds")


# --- The changes of phase. They are for the buffer and the send task; nothing else calls them. ---


def is_new(message: OutgoingMessage) -> bool:
    """Say whether no buffer has had it yet."""
    return message._phase is _NEW and message._outcome is None


def is_decided(message: OutgoingMessage) -> bool:
    """Say whether it has its outcome, told or not, expiring it first if its time has come."""
    if message.deadline != math.inf:
        expire(message)
    return message._outcome is not None


def conversation_of(message: OutgoingMessage) -> Hashable:
    """Name the conversation that it belongs to, inside which order is kept: whose it is, and whom it is for.

    Case tells nobody apart but groups. A person's number and UUID are two conversations.
    """
    recipient = message.recipient
    return message.account, recipient if recipient.startswith(GROUP) else recipient.lower()


def enter_buffer(message: OutgoingMessage) -> None:
    """Move from NEW to WAITING."""
    message._phase = _WAITING
    if message.deadline != math.inf:
        # It has a say from now on.
        _wake(message)


def is_waiting(message: OutgoingMessage) -> bool:
    """Say whether the message is live in a buffer, expiring it first if its time has come."""
    # As is_decided(), laid out here and below: each message is asked several times.
    if message.deadline != math.inf:
        expire(message)
    return message._outcome is None and message._phase is _WAITING


def is_held(message: OutgoingMessage) -> bool:
    """Say whether the message is live and between attempts, expiring it first if its time has come."""
    if message.deadline != math.inf:
        expire(message)
    return message._outcome is None and message._phase is _HELD


def on_decided(message: OutgoingMessage, callback: Callable[[OutgoingMessage], None]) -> None:
    """Call back, synchronously and in the order of asking, when the message's outcome is decided."""
    message._on_decided += (callback,)


def on_done(message: OutgoingMessage, callback: Callable[[OutgoingMessage, Outcome], None]) -> None:
    """Call back, synchronously and in the order of asking, when the message's outcome is told."""
    message._on_done += (callback,)


def keep_outcome(message: OutgoingMessage, keep: Callable[[OutgoingMessage, Outcome], None]) -> None:
    """Have ``keep`` called when the outcome is decided; whatever it is must then be given to :func:`tell`."""
    message._keep = keep


def hold(message: OutgoingMessage, doubt: Failed | None = None) -> None:
    """Move to HELD: taken from the buffer, or to be tried again after ``doubt``."""
    if message._outcome is not None:
        raise AssertionError(f"{message} is done and must not be tried again")
    message._phase = _HELD
    if doubt is not None:
        message._doubt = doubt
        message._doubts += 1
    if message.deadline != math.inf:
        # It has a say from now on.
        _wake(message)


def put_in_doubt(message: OutgoingMessage, doubt: Failed, attempts: int) -> None:
    """Note that an earlier process has attempted it so often, with this result."""
    message._doubt, message._doubts = doubt, attempts


def doubts(message: OutgoingMessage) -> int:
    """Say how many attempts were made of which nobody knows what came of them."""
    return message._doubts


def is_in_doubt(message: OutgoingMessage) -> bool:
    """Say whether an attempt was made of which nobody knows what came of it."""
    return message._doubt is not None


def _wake(message: OutgoingMessage) -> None:
    """Have whoever waits look again."""
    news, message._news = message._news, None
    if news is not None:
        news.set()


def begin_writing(message: OutgoingMessage) -> bool:
    """Move from HELD to WRITING, unless the message has expired or was withdrawn."""
    if message.deadline != math.inf:
        expire(message)
    if message._outcome is not None:
        return False
    message._phase = _WRITING
    return True


def settle(message: OutgoingMessage, outcome: Outcome) -> None:
    """Decide the message's one outcome, and tell it as soon as it is kept."""
    if message._outcome is not None:
        raise AssertionError(f"{message} has an outcome already")
    if message._doubt is not None and isinstance(outcome, Failed):
        # Whatever the last attempt came to, an earlier one may have been delivered.
        outcome = Failed(outcome.error, Certainty.UNKNOWN)
    message._outcome = outcome
    for callback in message._on_decided:
        callback(message)
    # Only now: the callbacks still want to know where the message was.
    message._phase = _DONE
    if message._keep is None:
        tell(message)
    else:
        message._keep(message, outcome)


def tell(message: OutgoingMessage, on_seen: Callable[[], None] | None = None) -> None:
    """Tell the decided outcome to whoever waits; ``on_seen`` is called once somebody has looked at it."""
    if message._outcome is None:
        raise AssertionError(f"{message} has no outcome that could be told")
    message._is_told = True
    message._on_seen = on_seen
    _wake(message)
    for callback in message._on_done:
        callback(message, message._outcome)


def drop(message: OutgoingMessage, reason: DropReason) -> bool:
    """Give up a message that is not being written; say whether this call did so."""
    if message._outcome is not None or message._phase in (_WRITING, _KEPT):
        return False
    settle(message, message._doubt or Dropped(reason))
    return True


def leave_to_next(message: OutgoingMessage) -> bool:
    """Move to KEPT a message of which nothing is leaving now; say whether it is so."""
    if message._outcome is not None or message._phase is _WRITING:
        return False
    message._phase = _KEPT
    _wake(message)
    return True


def is_past_deadline(message: OutgoingMessage) -> bool:
    """Say whether its time is over."""
    return message.deadline != math.inf and message._clock() >= message.deadline


def expire(message: OutgoingMessage) -> None:
    """Drop the message if its deadline has passed. One that no buffer has accepted is left alone."""
    if message._outcome is None and message._phase is not _NEW and is_past_deadline(message):
        drop(message, DropReason.EXPIRED)


def was_in_buffer(message: OutgoingMessage) -> bool:
    """Say, from inside an ``on_decided`` callback, whether the message was still in its buffer."""
    return message._phase is _WAITING


Delivery = Literal["at_most_once", "at_least_once"]

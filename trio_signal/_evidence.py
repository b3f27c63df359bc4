"""What proves that a message went out although its answer was lost, and what does not. Pure.

Theory of operation
===================

Signal names a message by the time at which signal-cli began to send it, and a receipt (delivered, read,
viewed) repeats that time. So a receipt from the recipient, for a time between the begin of our request and
the loss of its answer, proves that the message went out, *if nothing else can have caused it*. What else
there is, and how it is excluded:

- Another message of ours whose time is known, or one that another device of the account sent, which Signal
  reports to us: its time is that of the receipt.
- Something of ours whose time is not known: another lost answer, a reaction (the gateway tells no time for
  one), a change of a group or a contact. It may explain each receipt within its own window, if it may have
  been for that person: everybody may be in a group, and a number and a UUID may be one person until a message
  that carries both has shown otherwise. A request whose answer was lost may be carried out late, by a gateway
  that was frozen; it explains what comes for a quarter of an hour.
- Something that we were never told of, since we did not hear everything: we had only begun to listen, the
  link was lost, or something came that could not be read. What was sent before we heard everything (again)
  proves nothing, nor what was sent soon after: nothing shows by how much another device's clock differs.
- Another device whose report comes after the receipt: a receipt counts only some seconds after it came, and
  whoever asks must have seen that the link has lived for so long.
- A clock that differs. The time of an ordinary answer shows by how much that of the gateway differs from ours
  at most; all windows but the message's own are wider by that. Where it may be more than a minute, or is not
  what it was because a clock was set, nothing is proved.
- Two receipts for different times inside one window: one of them has a cause that we do not know, so neither
  proves anything.

What stays: another device whose clock is more than seconds ahead and that sent while we did not listen, or
whose report comes later than that; another program that sends through the same account and gateway, as the
process before this one did; and signal-cli itself, which sends a profile key to who wrote without one (the
apps confirm no such thing, signal-cli does).

All here is told the time by a :class:`Now`; nothing waits, and nothing is a checkpoint. Times are
milliseconds since the epoch, moments are seconds on a clock that only runs forwards. Memory is bounded:
whatever is forgotten to stay within the bounds counts as something that we did not hear.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from ._envelopes import ReceivedMessage, Undecodable, is_from_self
from ._operations import (
    DeleteAttachment,
    FinishLink,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    SendReceipt,
    SendTyping,
    StartLink,
    SubmitRateLimitChallenge,
)
from ._people import People, Person, name_person

#: For so long after a receipt another device's report of the same message may still come, in seconds.
HEED: Final = 3.0

#: For so long a request whose answer was lost may still be carried out, in milliseconds.
_LATE: Final = 15 * 60 * 1000

#: By how much the gateway's clock may differ before an answer has shown it, and at most, in milliseconds.
_UNMEASURED: Final = 5_000
_MAX_ERROR: Final = 60_000

#: By how much the clocks of the account's other devices may differ, in milliseconds.
_OTHERS: Final = 5_000

#: A window in which the clock was set by more than this, in milliseconds, is none.
_MAX_STEP: Final = 1_000

#: How many requests and times of messages are remembered.
_MAX_ATTEMPTS: Final = 1_000
_MAX_KNOWN: Final = 1_000

#: A receipt for more messages is left alone, as is a window that receipts for more times fall into.
_MAX_IN_RECEIPT: Final = 1_000
_MAX_IN_WINDOW: Final = 16

#: What sends nothing that anybody confirms; there are no receipts for receipts and for typing.
_QUIET: Final[frozenset[type]] = frozenset(
    {
        SendReceipt,
        SendTyping,
        ListGroups,
        ListContacts,
        ListAccounts,
        ListAttachments,
        DeleteAttachment,
        SubmitRateLimitChallenge,
        StartLink,
        FinishLink,
    }
)


class Now(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks.

    Attributes:
        time: milliseconds since the epoch.
        moment: seconds on a clock that nobody sets.
    """

    time: int
    moment: float

    def drift(self, earlier: "Now") -> float:
        """Return by how many milliseconds the first was set since an earlier reading."""
        return abs(self.time - earlier.time - (self.moment - earlier.moment) * 1000)


class Attempt(msgspec.Struct, eq=False):
    """One request that may have sent something.

    Attributes:
        begun: when it began.
        recipient: whom it is for; None where that may be several people.
        account: whose it is; None where all are one account's.
        message: what was to be sent, while that is open.
        receipts: for which times in its window receipts came, and at which moment the first did.
        ended: when its answer came or was lost, in milliseconds since the epoch; infinite until then.
        late: how much later it may explain a receipt, in milliseconds.
        is_void: whether nothing can prove it.
    """

    begun: Now
    recipient: str | None
    account: str | None
    message: Hashable | None
    receipts: dict[int, float] = {}
    ended: float = math.inf
    late: int = 0
    is_void: bool = False

    @property
    def person(self) -> Person | None:
        """Who got it; None where that may be anybody. Worked out when it is asked for, which is seldom."""
        return None if self.recipient is None else name_person(self.recipient) or None

    @property
    def until(self) -> float:
        """When it explains nothing more, in milliseconds since the epoch."""
        return self.ended + self.late

    def covers(self, timestamp: int, margin: float) -> bool:
        """Say whether it may have been sent at that time by a clock that differs by up to ``margin`` ms."""
        return self.begun.time - margin <= timestamp <= self.until + margin


class Proof(NamedTuple):
    """That a message went out.

    Attributes:
        attempt: by which request.
        timestamp: its id in Signal, in milliseconds since the epoch.
        since: from which moment on it counts, if it still stands when something has come after that.
    """

    attempt: Attempt
    timestamp: int
    since: float


class Evidence:
    """Remembers what was sent and what was heard, and says what that proves.

    Attributes:
        people: who may be whom, as far as is known.
    """

    def __init__(self) -> None:
        self._attempts: Final[dict[Attempt, None]] = {}
        #: None of those that nobody waits for explains nothing before that time; see _forget_what_is_over().
        self._all_count_until: float = math.inf
        #: Those at messages that are open.
        self._open: Final[dict[Hashable, list[Attempt]]] = {}
        self._known: Final[OrderedDict[int, None]] = OrderedDict()
        self.people: Final = People()
        #: When the first request began.
        self._first: Now | None = None
        #: The last answer that told a time: when its request began, that time, and when it came.
        self._told: tuple[Now, int, Now] | None = None
        #: Up to when something may have been sent of which we were not told.
        self._missed: float = -math.inf

    # --- what we do ---

    def begin(
        self,
        now: Now,
        *,
        recipient: str | None = None,
        account: str | None = None,
        message: Hashable | None = None,
    ) -> Attempt:
        """Note that a request begins which may send something.

        Args:
            now: the present time.
            recipient: whom it is for; None if that may be several people.
            account: whose it is, on a gateway that serves several.
            message: what is to be proved if the answer is lost; None for what nobody waits for.
        """
        if self._first is None:
            self._first = now
        if now.time - _MAX_ERROR > self._all_count_until or len(self._attempts) >= _MAX_ATTEMPTS:
            self._forget_what_is_over(now)
        attempt = Attempt(now, recipient, account, message)
        self._attempts[attempt] = None
        if message is not None:
            earlier = self._open.get(message)
            if earlier is None:
                self._open[message] = [attempt]
            else:
                earlier.append(attempt)
        return attempt

    def answered(self, attempt: Attempt, now: Now, timestamp: int = 0) -> None:
        """Note that a request was answered, whatever the answer.

        Args:
            attempt: which request.
            now: the present time.
            timestamp: when the message was sent, by the gateway's clock; 0 if the answer does not tell.
        """
        if timestamp:
            self._told = attempt.begun, timestamp, now
            self._know(timestamp, now)
            self._end_waiting(attempt)
            del self._attempts[attempt]
        else:
            attempt.ended = now.time
            self._end_waiting(attempt)
            self._note_end(attempt)

    def lost(self, attempt: Attempt, now: Now) -> None:
        """Note that nobody knows whether a request was carried out."""
        attempt.ended = now.time
        attempt.late = _LATE
        attempt.is_void = attempt.is_void or now.drift(attempt.begun) > _MAX_STEP
        self._note_end(attempt)

    def close(self, message: Hashable) -> None:
        """Note that a message has its outcome. What was lost of it still explains what comes."""
        for attempt in [*self._open.get(message, ())]:
            self._end_waiting(attempt)
            self._note_end(attempt)

    # --- what we hear ---

    def missed(self, until: int) -> None:
        """Note that not everything was heard that was sent up to a time, in milliseconds since the epoch."""
        self._missed = max(self._missed, until)

    def overhear(self, event: ReceivedMessage | Undecodable) -> bool:
        """Take note of what came if it proves nothing, whenever it came; say whether it is so.

        Nearly all that comes is like this, so it does not even cost a look at the clocks.
        """
        if (
            not isinstance(event, ReceivedMessage)
            or event.exception is not None
            or event.envelope.receipt_message is not None
            or is_from_self(event)
        ):
            return False
        self.people.learn(event.envelope.source_number, event.envelope.source_uuid)
        return True

    def hear(self, event: ReceivedMessage | Undecodable, now: Now) -> bool:
        """Take note of what came; say whether it may prove something, or show that something is no proof."""
        if isinstance(event, Undecodable) or (event.exception is not None and self._may_be_ours(event)):
            # It may have been another device's report.
            self.missed(now.time)
            return True
        self.people.learn(event.envelope.source_number, event.envelope.source_uuid)
        if event.from_self:
            # The report of what another device sent, or the thing itself.
            for timestamp in (event.envelope.timestamp, event.timestamp):
                if timestamp is not None:
                    self._know(timestamp, now)
            return True
        return event.receipt is not None and self._take_receipt(event, now)

    # --- what that proves ---

    def proof(self, message: Hashable, now: Now) -> Proof | None:
        """Return the proof that a message went out, if there is one; it counts from its ``since`` on."""
        proofs = (self._proof(attempt, now) for attempt in self._open.get(message, ()))
        return next(filter(None, proofs), None)

    def accept(self, proof: Proof, now: Now) -> None:
        """Note that a message went out by that request, so that this explains its receipts from now on."""
        del self._attempts[proof.attempt]
        self._know(proof.timestamp, now)
        self.close(proof.attempt.message)

    def _proof(self, attempt: Attempt, now: Now) -> Proof | None:
        margin = self._margin(now)
        timestamps = [timestamp for timestamp in attempt.receipts if timestamp not in self._known]
        if len(timestamps) != 1 or attempt.is_void or attempt.ended == math.inf or margin > _MAX_ERROR:
            return None
        (timestamp,) = timestamps
        # What was missed may have been sent by another device, of whose clock nothing is known.
        may_be_missed = timestamp - max(margin, _OTHERS) <= self._missed
        if may_be_missed or self._is_explained(timestamp, attempt, margin):
            return None
        return Proof(attempt, timestamp, attempt.receipts[timestamp] + HEED)

    def _is_explained(self, timestamp: int, attempt: Attempt, margin: float) -> bool:
        """Say whether anything but one message may have been sent to its recipient at that time."""
        return any(
            other.covers(timestamp, margin) and self.people.may_be(attempt.person, other.person)
            for other in self._attempts
            # Another attempt at the same message proves as much.
            if other is not attempt and (other.message is None or other.message != attempt.message)
        )

    def _end_waiting(self, attempt: Attempt) -> None:
        """Note that nobody waits for a proof of it any more."""
        message, attempt.message = attempt.message, None
        if message is None:
            return
        attempts = self._open[message]
        attempts.remove(attempt)
        if not attempts:
            del self._open[message]

    def _note_end(self, attempt: Attempt) -> None:
        """Note until when a request explains anything, if it has ended and nobody waits for a proof of it."""
        if attempt.message is None:
            self._all_count_until = min(self._all_count_until, attempt.until)

    def _margin(self, now: Now) -> float:
        """Return by how many milliseconds the gateway's clock may differ from ours."""
        if self._told is None:
            return _UNMEASURED + (0 if self._first is None else now.drift(self._first))
        begun, timestamp, came = self._told
        return max(abs(timestamp - begun.time), abs(timestamp - came.time)) + now.drift(came)

    def _take_receipt(self, event: ReceivedMessage, now: Now) -> bool:
        receipt = event.receipt
        if receipt is None or not (receipt.is_delivery or receipt.is_read or receipt.is_viewed):
            return False
        timestamps = receipt.timestamps or ()
        if len(timestamps) > _MAX_IN_RECEIPT:
            return False
        newest = max(timestamps, default=0)
        # Nearly all receipts are for what was answered before any of this began.
        attempts = [each for each in chain.from_iterable(self._open.values()) if each.begun.time <= newest]
        if not attempts:
            return False
        sender = self.people.all_names(_sender_of(event))
        found = False
        for attempt in attempts:
            person, is_its_account = attempt.person, attempt.account in (None, event.account)
            if is_its_account and person is not None and person & sender:
                found |= self._file(attempt, timestamps, now)
        return found

    def _may_be_ours(self, event: ReceivedMessage) -> bool:
        """Say whether another device of the account may have sent it."""
        return self.people.may_be(name_person(event.account), _sender_of(event))

    def _file(self, attempt: Attempt, timestamps: tuple[int, ...], now: Now) -> bool:
        """File a receipt from its recipient under a request; say whether it fits."""
        end = min(attempt.ended, now.time)
        fitting = [t for t in timestamps if attempt.begun.time <= t <= end and t not in self._known]
        for timestamp in fitting:
            attempt.receipts.setdefault(timestamp, now.moment)
        if len(attempt.receipts) > _MAX_IN_WINDOW:
            # Somebody guesses.
            attempt.is_void = True
            attempt.receipts.clear()
        return bool(fitting)

    def _know(self, timestamp: int, now: Now) -> None:
        """Remember the time of a message that is no secret."""
        self._known[timestamp] = None
        if len(self._known) > _MAX_KNOWN:
            oldest, _ = self._known.popitem(last=False)
            self.missed(min(oldest, now.time))

    def _forget_what_is_over(self, now: Now) -> None:
        """Forget the requests that can explain no receipt in which anybody is interested."""
        began = (attempt.begun.time for attempt in chain.from_iterable(self._open.values()))
        horizon = min(began, default=now.time) - _MAX_ERROR
        over = [each for each in self._attempts if each.message is None and each.until < horizon]
        for attempt in over:
            del self._attempts[attempt]
        if len(self._attempts) >= _MAX_ATTEMPTS:
            self._forget_the_oldest()
        ends = (each.until for each in self._attempts if each.message is None)
        self._all_count_until = min(ends, default=math.inf)

    def _forget_the_oldest(self) -> None:
        """Forget one request that has ended, at the price of what it may have explained."""
        for attempt in self._attempts:
            if attempt.message is None and attempt.ended < math.inf:
                self._missed = max(self._missed, attempt.until)
                del self._attempts[attempt]
                return


def can_prove(recipient: str) -> bool:
    """Say whether receipts can tell of a recipient: a number or a UUID, but no group and no username."""
    return bool(name_person(recipient))


def may_send(operation: Operation[Any]) -> bool:
    """Say whether an operation may send something to somebody that is confirmed like a message."""
    return type(operation) not in _QUIET


def _sender_of(event: ReceivedMessage) -> Person:
    envelope = event.envelope
    return name_person(envelope.source_number, envelope.source_uuid, envelope.source)

"""The send task: each message to its outcome, in order inside each conversation, a bounded number at once."""

import logging
import math
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec
import trio

from ._buffer import MessageBuffer
from ._clock import bound_clock
from ._errors import Certainty, ClientClosed, LinkLost
from ._evidence import Attempt
from ._journal import Journal, Restored
from ._outcomes import DropReason, Failed, Sent
from ._outgoing import (
    Delivery,
    OutgoingMessage,
    begin_writing,
    doubts,
    drop,
    hold,
    is_decided,
    is_held,
    leave_to_next,
    on_decided,
    put_in_doubt,
    settle,
)
from ._overdue import Limited, Overdue
from ._pause import LimitPause
from ._presence import Presence
from ._ratelimit import TokenBucket
from ._settling import Settler
from ._states import Backoff, ConnectionState
from ._status import StateChange, StateLog
from .gateways import Gateway, SendResult
from .gateways._turn import Turn

_logger: Final = logging.getLogger("trio_signal.sender")

#: Between attempts of one message: 1 s doubling to 60 s (contract O6), never less than 1 s.
_RETRY: Final = Backoff(floor=1.0)

#: Looking a member up costs ten times what a name of the module does, and each send asks.
_CONNECTED: Final = ConnectionState.CONNECTED

#: Seconds for which a turn is held while the disk writes down that a message leaves.
_COMMIT: Final = 1.0

#: How often new credentials are asked for on behalf of one message.
_RENEWALS: Final = 3


class _Slot(msgspec.Struct, eq=False):
    """A message that is being seen to its outcome.

    Attributes:
        message: which.
        attempts: how often it has left.
        refusals: for how many of these other credentials were asked for.
        retry_at: when it may be tried again, on Trio's clock.
        limits: how many rate limits were known when it left last.
        renewals: how often credentials had been renewed then.
        evidence: that attempt, for the settler.
        result: what that attempt came to, until it is dealt with.
        news: ends its wait until it may leave; None before it has had to wait.
    """

    message: OutgoingMessage
    attempts: int = 0
    refusals: int = 0
    retry_at: float = -math.inf
    limits: int = 0
    renewals: int = 0
    evidence: Attempt | None = None
    result: SendResult | None = None
    news: trio.Event | None = None

    def wake_up(self, *_: object) -> None:
        """Have it look again whether it may leave."""
        if self.news is not None:
            self.news.set()


class Sender:
    """Takes messages from the buffer and gives each its outcome.

    Up to ``max_in_flight`` messages have a slot, no two of them of one conversation. A slot is outside
    every connection's scope: losing the receive link does not touch it, and whatever cancels the task
    leaves the messages there to be accounted for by :meth:`abandon` (contract O9). A message that
    is to be tried again keeps its slot, and so its place in its conversation; the other slots go on.

    Args:
        buffer: where messages wait.
        gateway: what sends them.
        status: says when the client is CONNECTED.
        bucket: the rate limit, None for none.
        journal: where it is written down that a message may leave.
        settler: waits for evidence where nobody knows whether a message went out.
        max_in_flight: how many messages are sent at once.
        delivery: what to do then without evidence.
        max_attempts: how often a message is attempted in all, with ``"at_least_once"``.
        source: where the jitter between attempts comes from; a shared one by default.
        on_challenge: told of the account and the tokens of a rate limit, and of the pause in seconds.
    """

    def __init__(
        self,
        buffer: MessageBuffer,
        gateway: Gateway,
        status: StateLog,
        bucket: TokenBucket | None,
        *,
        journal: Journal,
        settler: Settler,
        max_in_flight: int,
        delivery: Delivery,
        max_attempts: int,
        source: Random | None,
        on_challenge: Callable[[str | None, tuple[str, ...], float], None],
    ) -> None:
        self._buffer: Final = buffer
        self._gateway: Final = gateway
        self._status: Final = status
        self._clock: Final = bound_clock()
        self._bucket: Final = bucket
        self._journal: Final = journal
        self._writes_down: Final = journal.survives
        self._settler: Final = settler
        self._max_in_flight: Final = max_in_flight
        self._attempts_allowed: Final = max_attempts if delivery == "at_least_once" else 1
        self._source: Final = source
        self._on_challenge: Final = on_challenge
        self._overdue: Final = Overdue()
        self._slots: Final[dict[OutgoingMessage, _Slot]] = {}
        self.finished: Final = trio.Event()
        self._pause: Final = LimitPause()
        self._renewals = 0
        self._renewing: Final = trio.Lock()
        self._presence: Final = Presence(gateway, source)
        status.listen(self._note_change)

    async def run(self) -> None:
        """Send until the buffer is closed and empty, and nothing waits for evidence beside it.

        Cancelling at any point loses no message.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._overdue.run)
            async with trio.open_nursery() as places:
                for _ in range(self._max_in_flight):
                    places.start_soon(self._work, self._overdue.add())
            nursery.cancel_scope.cancel(reason="there is nothing more to send")
        await self._settler.drained()
        self.finished.set()

    async def _work(self, sending: Limited) -> None:
        """See messages through, one after the other, until the buffer has no more for us."""
        message: OutgoingMessage | None = None
        slot: _Slot | None = None
        while True:  # noqa: ASYNC913  (taking is a checkpoint, or attempting what was taken)
            with self._overdue.scope(sending):
                while True:
                    if slot is None:
                        try:
                            message = await self._buffer.take_in_turn(message)
                        except trio.EndOfChannel:
                            await trio.lowlevel.checkpoint()
                            return
                        slot = self._slots[message] = _Slot(message)
                    if slot.result is None:
                        await self._attempt(slot, sending)
                        if sending.is_over:
                            # The answer came as its time was over: it counts, but nothing may wait in here.
                            break
                    result, slot.result = slot.result, None
                    if result is None or await self._take_result(slot, result):
                        del self._slots[slot.message]
                        slot = None
            if slot is not None and slot.result is None:
                slot.result = self._give_up(slot)

    @property
    def in_flight(self) -> tuple[OutgoingMessage, ...]:
        """The messages that were taken from the buffer and have no outcome yet, in that order."""
        return tuple(self._slots)

    @property
    def paused_until(self) -> float | None:
        """When a pause for a rate limit ends, on Trio's clock; None if there is none."""
        until = self._pause.until
        return until if until > trio.current_time() else None

    def resume(self) -> None:
        """End the pause for a rate limit, since its cause is gone."""
        self._pause.end(trio.current_time())
        self._wake_up()

    def take_over(self, restored: Restored) -> None:
        """Go on with a message that an earlier process has accepted. Before :meth:`run`, in their order."""
        message = restored.message
        if restored.begun is None:
            self._buffer.restore(message)
            return
        self._settler.recall(message, restored.begun)
        error = ClientClosed("the process ended while the message was being sent")
        doubt = Failed(error, Certainty.UNKNOWN)
        if restored.attempts < self._attempts_allowed:
            put_in_doubt(message, doubt, restored.attempts)
            self._buffer.restore(message)
        else:
            self._buffer.take_over(message)
            settle(message, doubt)

    def abandon(self, *, leave: bool) -> None:
        """Give the messages in the slots their outcomes after the task has ended.

        Args:
            leave: leave them to the next process, unless something of them is leaving now.
        """
        for message in self.in_flight:
            self._abandon(message, leave=leave)
        self._slots.clear()

    def _abandon(self, message: OutgoingMessage, *, leave: bool) -> None:
        if is_decided(message):
            return
        if leave and leave_to_next(message):
            # That it leaves may be written down already, while it waited for its turn.
            self._journal.unsent(message)
            return
        if not drop(message, DropReason.CLOSED):
            error = ClientClosed("the client was closed while the message was being sent")
            settle(message, Failed(error, Certainty.UNKNOWN))

    async def _attempt(self, slot: _Slot, sending: Limited) -> None:  # noqa: ASYNC910  (hardly ever decided)
        """Send a message, once, when it may leave; without a result then if it has got its outcome before."""
        message = slot.message
        while is_held(message) and (self._is_free(slot) or await self._wait_until_free(slot)):
            if self._presence.is_in_doubt:
                await self._presence.make_sure()
                # The others look again, too.
                self._wake_up()
                continue
            turn = self._gateway.turn()
            lined_up = self._writes_down or not turn.take_nowait()
            if lined_up:
                await self._line_up(message, turn)
            try:
                # It may have been handed to us in the moment in which we are cancelled: nothing leaves then.
                await trio.lowlevel.checkpoint_if_cancelled()
                # While it lined up the link may have been lost, or a pause have begun, and it may have been
                # withdrawn or have expired.
                is_free = not lined_up or (self._is_free(slot) and not self._presence.is_in_doubt)
                if is_free and begin_writing(message):
                    self._begin(slot, sending)
                    slot.result = await self._gateway.send(message)
                    sending.due = math.inf
                    self._settler.end(slot.evidence, slot.result.outcome)
                    return
            finally:
                turn.release()
            self._journal.unsent(message)
            # Somebody else may leave in its stead.
            self._wake_up()

    def _begin(self, slot: _Slot, sending: Limited) -> None:
        """Note that a message leaves now; it is cancelled if it takes too long."""
        if self._bucket:
            self._bucket.take(trio.current_time())
        slot.attempts += 1
        slot.limits, slot.renewals = self._pause.limits, self._renewals
        slot.evidence = self._settler.begin(slot.message)
        self._overdue.begin(sending, self._gateway.send_limit)

    def _give_up(self, slot: _Slot) -> SendResult:
        """Return what an attempt came to that has taken too long."""
        late = LinkLost(f"the gateway did not answer a send within {self._gateway.send_limit:g} s")
        outcome = Failed(late, Certainty.UNKNOWN)
        self._settler.end(slot.evidence, outcome)
        return SendResult(outcome)

    async def _take_result(self, slot: _Slot, result: SendResult) -> bool:
        """Give a message its outcome, or keep it for another attempt; say whether we are done with it.

        A checkpoint if other credentials are asked for.
        """
        message, outcome, is_done = slot.message, result.outcome, False
        if result.rate_limited or self._pause.in_a_row:
            self._note_rate_limit(slot, result)
        if isinstance(outcome, Sent):
            settle(message, outcome)
            is_done = True
        elif result.retry:
            self._hold(slot, slot.attempts, result)
        elif result.refused and self._gateway.can_renew_credentials and slot.refusals < _RENEWALS:
            # Held, not being written, while the callable runs: it may take its time.
            slot.refusals += 1
            self._hold(slot, slot.refusals, result)
            await self._renew_credentials(slot)
        elif outcome.certainty is Certainty.UNKNOWN and doubts(message) + 1 < self._attempts_allowed:
            self._hold(slot, slot.attempts, result, doubt=outcome)
        else:
            self._conclude(message, outcome)
            is_done = True
        return is_done  # noqa: ASYNC910  (as said)

    async def _line_up(self, message: OutgoingMessage, turn: Turn) -> None:  # noqa: ASYNC910  (see Turn)
        """Take a turn, and have it written down that a message may leave. A checkpoint if that takes time."""
        # No more are written down as leaving than may leave: a kill would give each an unknown outcome.
        if self._bucket:
            self._bucket.take(trio.current_time())
        await turn.acquire()
        if self._writes_down and not await self._write_down(message, turn):
            # The disk is full, say, and operations need none.
            await self._journal.begin(message)
            await turn.acquire()
        if self._bucket:
            self._bucket.give_back()

    async def _write_down(self, message: OutgoingMessage, turn: Turn) -> bool:
        """Have it written down, in a turn of ours, that a message may leave. A checkpoint.

        False if that takes long. The turn is given back then, and when this is cancelled.
        """
        is_written = False
        try:
            with trio.move_on_after(_COMMIT):
                await self._journal.begin(message)
                is_written = True
        finally:
            if not is_written:
                turn.release()
        return is_written

    def _conclude(self, message: OutgoingMessage, outcome: Failed) -> None:
        """Give a message its outcome, or where nobody knows it, let it wait for evidence beside the queue."""
        is_doubtful = outcome.certainty is Certainty.UNKNOWN or self._settler.watches(message)
        if not (is_doubtful and self._settler.take(message, outcome)):
            settle(message, outcome)

    def _hold(self, slot: _Slot, attempt: int, result: SendResult, doubt: Failed | None = None) -> None:
        """Keep a message for another attempt, later."""
        message = slot.message
        hold(message, doubt)
        if doubt is None:
            self._journal.unsent(message)
        delay = _RETRY.delay(attempt, retry_after=result.retry_after, source=self._source)
        if doubt is not None:
            delay = max(delay, self._settler.watch(message))
        slot.retry_at = trio.current_time() + delay
        _logger.info("message %s is tried again in %.1f s: %s", message.id, delay, result.outcome)

    async def _wait_until_free(self, slot: _Slot) -> bool:
        """Wait until the message may be sent; False if it got an outcome meanwhile. A checkpoint."""
        message = slot.message
        if slot.news is None:
            on_decided(message, slot.wake_up)
        await trio.lowlevel.checkpoint()
        while is_held(message):
            if self._is_free(slot):
                return is_held(message)
            slot.news = trio.Event()
            with trio.move_on_at(min(message.deadline, self._free_at(slot, trio.current_time()))):
                await slot.news.wait()
        return False

    def _is_free(self, slot: _Slot) -> bool:
        """Say whether a message may leave now, if evidence does not give it its outcome at this moment."""
        if self._settler.cases:
            self._settler.look()
        return self._free_at(slot, now := self._clock()) <= now

    def _free_at(self, slot: _Slot, now: float) -> float:
        """Return when a message may leave, as far as is known; infinity without a connection."""
        if self._status.state is not _CONNECTED:
            return math.inf
        free_at = max(self._pause.until, self._presence.ask_at)
        if self._bucket:
            free_at = max(free_at, now + self._bucket.delay(now))
        if slot.retry_at != -math.inf:
            free_at = max(free_at, slot.retry_at, self._settler.ripe_at(slot.message))
        return free_at

    def _note_change(self, change: StateChange) -> None:
        if change.current is _CONNECTED:
            # It has just answered our ping.
            self._presence.note_sign()
        self._wake_up()

    async def _renew_credentials(self, slot: _Slot) -> None:
        """Ask for new credentials, once for all messages that were refused with the same. A checkpoint."""
        async with self._renewing:
            if slot.renewals == self._renewals:
                await self._gateway.renew_credentials()
                self._renewals += 1

    def _note_rate_limit(self, slot: _Slot, result: SendResult) -> None:
        if isinstance(result.outcome, Sent):
            self._pause.note_success(slot.limits)
        if not result.rate_limited:
            return
        seconds = self._pause.note_limit(slot.limits, trio.current_time(), retry_after=result.retry_after)
        if seconds is None:
            return
        _logger.warning("Signal limits the rate of this account; sending pauses for %g s", seconds)
        if self._pause.is_new_challenge(result.challenge_tokens):
            self._on_challenge(slot.message.account, result.challenge_tokens, seconds)

    def _wake_up(self, *_: object) -> None:
        for slot in self._slots.values():
            slot.wake_up()

"""The send task: one message at a time, in order, each to its outcome."""

import logging
import math
from collections.abc import Callable
from random import Random
from typing import Final

import trio

from ._buffer import MessageBuffer
from ._errors import Certainty, ClientClosed
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
from ._ratelimit import TokenBucket
from ._settling import Settler
from ._states import Backoff, ConnectionState
from ._status import StateLog
from .gateways import Gateway, SendResult

_logger: Final = logging.getLogger("trio_signal.sender")

#: Between attempts of one message: 1 s doubling to 60 s (contract O6), never less than 1 s.
_RETRY: Final = Backoff(floor=1.0)

#: How long the queue pauses for a rate limit that names no time: 60 s doubling to 15 min (contract O6).
_PAUSE: Final = Backoff(initial=60.0, maximum=900.0, jitter=False, retry_after_cap=86_400.0)

#: How often new credentials are asked for on behalf of one message.
_RENEWALS: Final = 3


class Sender:
    """Takes messages from the buffer and gives each its outcome.

    The message that is being sent sits in :attr:`slot`, outside every connection's
    scope: losing the receive link does not touch it, and whatever cancels the task
    leaves it there to be accounted for by :meth:`abandon` (contract O9).

    Args:
        buffer: where messages wait.
        gateway: what sends them.
        status: says when the client is CONNECTED.
        bucket: the rate limit, None for none.
        journal: where it is written down that a message may leave.
        settler: waits for evidence where nobody knows whether a message went out.
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
        delivery: Delivery,
        max_attempts: int,
        source: Random | None,
        on_challenge: Callable[[str | None, tuple[str, ...], float], None],
    ) -> None:
        self._buffer: Final = buffer
        self._gateway: Final = gateway
        self._status: Final = status
        self._bucket: Final = bucket
        self._journal: Final = journal
        self._settler: Final = settler
        self._attempts_allowed: Final = max_attempts if delivery == "at_least_once" else 1
        self._source: Final = source
        self._on_challenge: Final = on_challenge
        self.slot: OutgoingMessage | None = None
        self.finished: Final = trio.Event()
        self._limits_in_a_row = 0
        self._paused_until = -math.inf
        self._retry_at = -math.inf
        #: When the message in the slot may leave again for all that evidence is waited for.
        self._resend_at = -math.inf
        self._news = trio.Event()
        status.listen(self._wake_up)

    async def run(self) -> None:
        """Send until the buffer is closed and empty, and nothing waits for evidence beside it.

        Cancelling at any point loses no message.
        """
        while True:
            try:
                self.slot = await self._buffer.take()
            except trio.EndOfChannel:
                await trio.lowlevel.checkpoint()
                break
            on_decided(self.slot, self._wake_up)
            on_decided(self.slot, self._settler.forget)
            await self._see_through(self.slot)
            self.slot = None
        await self._settler.drained()
        self.finished.set()

    @property
    def paused_until(self) -> float | None:
        """When a pause for a rate limit ends, on Trio's clock; None if there is none."""
        return self._paused_until if self._paused_until > trio.current_time() else None

    def resume(self) -> None:
        """End the pause for a rate limit, since its cause is gone."""
        self._limits_in_a_row = 0
        self._paused_until = -math.inf
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
        """Give the message in the slot its outcome after the task has ended.

        Args:
            leave: leave it to the next process, if nothing of it is leaving now.
        """
        message, self.slot = self.slot, None
        if message is None or is_decided(message):
            return
        if leave and leave_to_next(message):
            # That it leaves may be written down already, while it waited for its turn.
            self._journal.unsent(message)
            return
        if not drop(message, DropReason.CLOSED):
            error = ClientClosed("the client was closed while the message was being sent")
            settle(message, Failed(error, Certainty.UNKNOWN))

    async def _see_through(self, message: OutgoingMessage) -> None:
        """Attempt one message until it has its outcome."""
        attempts = renewals = 0
        self._resend_at = -math.inf
        while await self._wait_for_turn(message):
            await self._journal.begin(message)
            async with self._gateway.turn():
                # While something else had the turn the link may have been lost, or a pause have begun, and
                # the message have been withdrawn or have expired.
                if not self._is_free(message, now := trio.current_time()):
                    self._journal.unsent(message)
                    continue
                if not begin_writing(message):
                    break
                self._take_leave(now)
                attempts += 1
                attempt = self._settler.begin(message)
                result = await self._gateway.send(message)
                self._settler.end(attempt, result.outcome)
            self._note_rate_limit(message, result)
            if result.retry:
                self._hold(message, attempts, result)
                continue
            if result.refused and self._gateway.can_renew_credentials and renewals < _RENEWALS:
                # Held, not being written, while the callable runs: it may take its time.
                renewals += 1
                self._hold(message, renewals, result)
                await self._gateway.renew_credentials()
                continue
            if (
                isinstance(result.outcome, Failed)
                and result.outcome.certainty is Certainty.UNKNOWN
                and doubts(message) + 1 < self._attempts_allowed
            ):
                self._hold(message, attempts, result, doubt=result.outcome)
                continue
            self._conclude(message, result.outcome)
            break

    def _conclude(self, message: OutgoingMessage, outcome: Sent | Failed) -> None:
        """Give a message its outcome, or where nobody knows it, let it wait for evidence beside the queue."""
        if isinstance(outcome, Failed):
            is_doubtful = outcome.certainty is Certainty.UNKNOWN or self._settler.watches(message)
            if is_doubtful and self._settler.take(message, outcome):
                return
        settle(message, outcome)

    def _hold(
        self, message: OutgoingMessage, attempt: int, result: SendResult, doubt: Failed | None = None
    ) -> None:
        """Keep a message for another attempt, later."""
        hold(message, doubt)
        if doubt is None:
            self._journal.unsent(message)
        delay = _RETRY.delay(attempt, retry_after=result.retry_after, source=self._source)
        now = trio.current_time()
        self._retry_at = now + delay
        if doubt is not None:
            self._resend_at = now + self._settler.watch(message)
            delay = max(delay, self._resend_at - now)
        _logger.info("message %s is tried again in %.1f s: %s", message.id, delay, result.outcome)

    async def _wait_for_turn(self, message: OutgoingMessage) -> bool:
        """Wait until the message may be sent; False if it got an outcome meanwhile. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while is_held(message):
            if self._is_free(message, now := trio.current_time()):
                return is_held(message)
            news = self._news = trio.Event()
            with trio.move_on_at(min(message.deadline, self._free_at(message, now))):
                await news.wait()
        return False

    def _is_free(self, message: OutgoingMessage, now: float) -> bool:
        """Say whether a message may leave now, if evidence does not give it its outcome at this moment."""
        self._settler.look()
        return self._free_at(message, now) <= now

    def _free_at(self, message: OutgoingMessage, now: float) -> float:
        """Return when a message may leave, as far as is known; infinity without a connection."""
        if self._status.state is not ConnectionState.CONNECTED:
            return math.inf
        rate = now + self._bucket.delay(now) if self._bucket else now
        settled_at = max(self._resend_at, self._settler.ripe_at(message))
        return max(self._retry_at, self._paused_until, rate, settled_at)

    def _take_leave(self, now: float) -> None:
        """Count a message that leaves now."""
        if self._bucket:
            self._bucket.take(now)
        self._retry_at = -math.inf

    def _note_rate_limit(self, message: OutgoingMessage, result: SendResult) -> None:
        if isinstance(result.outcome, Sent):
            self._limits_in_a_row = 0
        if not result.rate_limited:
            return
        self._limits_in_a_row += 1
        pause = _PAUSE.ceiling(self._limits_in_a_row)
        if result.retry_after is not None:
            # A pause of nothing would let a whole queue run into the same limit.
            pause = min(max(result.retry_after, _RETRY.floor), _PAUSE.retry_after_cap)
        self._paused_until = trio.current_time() + pause
        _logger.warning("Signal limits the rate of this account; sending pauses for %g s", pause)
        if result.challenge_tokens:
            self._on_challenge(message.account, result.challenge_tokens, pause)

    def _wake_up(self, *_: object) -> None:
        self._news.set()

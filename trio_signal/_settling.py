"""Messages whose answer was lost wait here for evidence that they went out all the same.

What proves it is decided in :mod:`._evidence`; here is when it is looked for. With
``"at_most_once"`` such a message leaves its slot in the send task and waits beside the queue, which
goes on; with ``"at_least_once"`` it stays in its slot, and is sent again only when nothing has
shown by then that it went out. No evidence comes from a hub, for a group, or without receiving.

A link may be dead for seconds before anybody notices, and another device's report lost with it. So
a proof that is old enough counts only once bytes have come that show that the link lives, as the
answer to a ping does.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

from ._clock import bound_clock
from ._envelopes import ReceivedMessage, Undecodable
from ._errors import Certainty, ClientClosed, ConfigurationError, RequestFailed, Unsupported
from ._evidence import Attempt, Evidence, Now, Proof, can_prove
from ._outcomes import Failed, Outcome, Sent
from ._outgoing import OutgoingMessage, is_held, on_decided, settle
from ._receiver import WallClock

_logger: Final = logging.getLogger("trio_signal.sender")

#: How many messages may wait beside the queue, and how many bytes of them.
_MAX_WAITING: Final = 100
_MAX_WAITING_BYTES: Final = 16 * 1024 * 1024


#: For so long bytes are waited for that show that the link lives, in seconds: a ping and its answer, or a
#: keep-alive. After that a proof still counts if they come, but no outcome waits for them.
_HEARING: Final = 15.0


class _Case(NamedTuple):
    """A message that is waited for.

    Attributes:
        until: how long, on Trio's clock; infinity where the send task sees to that.
        doubt: what its outcome is without evidence; None while it is in a slot of the send task.
    """

    until: float = math.inf
    doubt: Failed | None = None


class Settler:
    """Gives messages whose answer was lost their outcome.

    Args:
        wall: tells the time of day.
        timeout: how long a message waits for evidence, in seconds; 0 for not at all.
        has_one_account: whether all that comes is for the account that sends.
        is_possible: says whether evidence may come at all from this gateway.
        is_listening: says whether everything is heard that comes, and the link has lived at that moment of
            Trio's clock or later.
        heard: waits until a link has lived at that moment or later. Where none can, or not everything is
            heard, it may wait for ever: :meth:`wake_up` is called when that changes.

    Attributes:
        people: the UUID of each number, as far as is known. :meth:`hear` need not be told of an ordinary
            message of somebody who is in it.
        cases: the messages that are waited for.
    """

    def __init__(
        self,
        wall: WallClock,
        *,
        timeout: float,
        has_one_account: bool,
        is_possible: Callable[[], bool],
        is_listening: Callable[[float], bool],
        heard: Callable[[float], Awaitable[None]],
    ) -> None:
        self._wall: Final = wall
        self._clock: Final = bound_clock()
        self._timeout: Final = timeout
        self._has_one_account: Final = has_one_account
        self._is_possible: Final = is_possible
        self._is_listening: Final = is_listening
        self._heard: Final = heard
        self._evidence: Final = Evidence()
        self.people: Final[Mapping[str, str]] = self._evidence.people.uuids
        self.cases: Final[dict[OutgoingMessage, _Case]] = {}
        self._news = trio.Event()
        self._left = trio.Event()
        #: When to look again, and from when on bytes are waited for to look again; infinity for not at all.
        self._look_at = self._deaf_since = math.inf

    async def run(self) -> None:
        """Give each message its outcome in its time. Cancelling loses none; see :meth:`abandon`."""
        while True:
            self.look()
            news = self._news = trio.Event()
            with trio.move_on_at(self._look_at):
                if self._deaf_since == math.inf:
                    await news.wait()
                else:
                    await self._listen(self._deaf_since, news)

    async def _listen(self, since: float, news: trio.Event) -> None:
        """Wait until a link has lived since a moment of Trio's clock, or there is news. A checkpoint."""
        async with trio.open_nursery() as race:
            race.start_soon(_cancel_after, news, race.cancel_scope)
            await self._heard(since)
            race.cancel_scope.cancel(reason="the link lives")

    async def drained(self) -> None:
        """Wait until no message waits. A checkpoint; cancelling is safe."""
        await trio.lowlevel.checkpoint()
        while self.cases:
            await self._left.wait()

    def abandon(self) -> None:
        """Give what waits beside the queue its outcome after the task has ended."""
        for message, case in [*self.cases.items()]:
            if case.doubt is not None:
                settle(message, case.doubt)

    @property
    def waiting(self) -> int:
        """How many messages wait beside the queue."""
        return sum(case.doubt is not None for case in self.cases.values())

    # --- told by the send task and the client: what is done ---

    def begin(self, message: OutgoingMessage) -> Attempt | None:
        """Note that a message is handed to the gateway now; None where nothing is ever waited for."""
        if not self._timeout:
            return None
        account = None if self._has_one_account else message.account
        # Whether there could be evidence of it at all is a question for when its answer is lost.
        return self._evidence.begin(
            self._now(), recipient=message.recipient, account=account, message=message
        )

    def end(self, attempt: Attempt | None, outcome: Sent | Failed) -> None:
        """Note what came of it."""
        if attempt is None:
            return
        if isinstance(outcome, Sent):
            self._evidence.answered(attempt, self._now(), outcome.timestamp)
        elif outcome.certainty is Certainty.UNKNOWN:
            self._evidence.lost(attempt, self._now())
        else:
            self._evidence.answered(attempt, self._now())
        if self.cases:
            # It may have been what else explained a receipt.
            self.wake_up()

    def recall(self, message: OutgoingMessage, begun: int) -> None:
        """Note that an earlier process was sending a message when it ended.

        There is no waiting for it: what other devices sent until now was not heard, so nothing could
        be proved. But it may explain what comes.

        Args:
            message: which.
            begun: since when, in milliseconds since the epoch.
        """
        now = self._now()
        then = Now(begun, now.moment - (now.time - begun) / 1000)
        attempt = self._evidence.begin(then, recipient=message.recipient, account=message.account)
        self._evidence.lost(attempt, now)

    @contextmanager
    def aside(self) -> Generator[None]:
        """Note that something else is asked of the gateway while the block runs, which may send something."""
        attempt = self._evidence.begin(self._now())
        is_over = False
        try:
            yield
            is_over = True
        except (ConfigurationError, ClientClosed, Unsupported):
            is_over = True
            raise
        except RequestFailed as error:
            is_over = error.certainty is Certainty.NOT_SENT
            raise
        finally:
            if is_over:
                self._evidence.answered(attempt, self._now())
            else:
                self._evidence.lost(attempt, self._now())
            self.wake_up()

    # --- told by the receive task: what is heard ---

    def hear(self, event: ReceivedMessage | Undecodable) -> None:
        """Take note of what came."""
        if not self._evidence.overhear(event) and self._evidence.hear(event, self._now()):
            self.wake_up()

    def missed(self, until: int) -> None:
        """Note that not everything was heard up to a time, in milliseconds since the epoch."""
        self._evidence.missed(until)
        self.wake_up()

    def wake_up(self, *_: object) -> None:
        """Look again soon."""
        self._news.set()

    # --- asked by the send task: what becomes of a message ---

    def watch(self, message: OutgoingMessage) -> float:
        """Wait for evidence of a message that stays in its slot; return for how many seconds."""
        if not self._can_wait_for(message):
            self._evidence.close(message)
            return 0.0
        self._open_case(message, _Case())
        return self._timeout

    def watches(self, message: OutgoingMessage) -> bool:
        """Say whether an earlier attempt at it may yet be proved."""
        return message in self.cases

    def ripe_at(self, message: OutgoingMessage) -> float:
        """Return until when the evidence that there is for a message is waited for, on Trio's clock."""
        if message not in self.cases:
            return -math.inf
        now = self._now()
        proof = self._evidence.proof(message, now)
        if proof is None:
            return -math.inf
        return proof.since if now.moment < proof.since else proof.since + _HEARING

    def take(self, message: OutgoingMessage, doubt: Failed) -> bool:
        """Take a message out of its slot to wait for evidence; False if it is not worth while.

        Args:
            message: which.
            doubt: its outcome without evidence.
        """
        size = sum(other.size for other, case in self.cases.items() if case.doubt is not None)
        has_room = self.waiting < _MAX_WAITING and size + message.size <= _MAX_WAITING_BYTES
        if not (has_room and self._can_wait_for(message)):
            self._evidence.close(message)
            return False
        self._open_case(message, _Case(trio.current_time() + self._timeout, doubt))
        return True

    def _open_case(self, message: OutgoingMessage, case: _Case) -> None:
        if message not in self.cases:
            on_decided(message, self._forget)
        self.cases[message] = case
        self.wake_up()

    def _forget(self, message: OutgoingMessage) -> None:
        """Note that a message that was waited for has its outcome, or gets it now."""
        del self.cases[message]
        self._evidence.close(message)
        left, self._left = self._left, trio.Event()
        left.set()

    def look(self) -> None:
        """Give each message its outcome for which it is time now. Not a checkpoint."""
        self._look_at = self._deaf_since = math.inf
        while self.cases and self._look_once():
            pass  # What one has proved no longer explains the receipt of another.

    def _look_once(self) -> bool:
        """Look at each message; say whether one was proved to have gone out."""
        now = self._now()
        self._look_at = self._deaf_since = math.inf
        for message, case in [*self.cases.items()]:
            proof = self._evidence.proof(message, now)
            counts = proof is not None and self._counts(proof, now)
            if proof is not None and counts and _may_be_settled(message, case):
                self._settle(message, proof, now)
                return True
            end = case.until if proof is None else max(case.until, proof.since + _HEARING)
            if case.doubt is not None and end <= now.moment:
                settle(message, case.doubt)
                continue
            self._look_at = min(self._look_at, end)
            if proof is not None and not counts:
                self._wait_for(proof, now)
        return False

    def _counts(self, proof: Proof, now: Now) -> bool:
        """Say whether a proof counts: whatever might have shown that it is none would be here by now."""
        return proof.since <= now.moment and self._is_listening(proof.since)

    def _wait_for(self, proof: Proof, now: Now) -> None:
        """See to it that it is looked again as soon as a proof may count."""
        if now.moment < proof.since:
            self._look_at = min(self._look_at, proof.since)
        else:
            self._deaf_since = min(self._deaf_since, proof.since)

    def _settle(self, message: OutgoingMessage, proof: Proof, now: Now) -> None:
        self._evidence.accept(proof, now)
        _logger.info("message %s went out although its answer was lost: a receipt came", message.id)
        outcome: Outcome = Sent(proof.timestamp)
        settle(message, outcome)

    def _can_wait_for(self, message: OutgoingMessage) -> bool:
        return self._timeout > 0 and can_prove(message.recipient) and self._is_possible()

    def _now(self) -> Now:
        return Now(self._wall.now(), self._clock())


async def _cancel_after(news: trio.Event, scope: trio.CancelScope) -> None:
    await news.wait()
    scope.cancel(reason="there is something else to look at")


def _may_be_settled(message: OutgoingMessage, case: _Case) -> bool:
    """Say whether it is not being written again right now."""
    return case.doubt is not None or is_held(message)

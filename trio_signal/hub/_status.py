"""What a hub shows of itself: the state's history, rates, gaps, readiness, and the counters of its server.

:class:`StatusBoard` is told in passing of what is numbered (integer additions, no more), follows the
client's changes of state, and puts all of it into the JSON of ``GET /status``.
"""

import heapq
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import trio

from .. import __version__
from .._client import SignalClient
from .._continuity import Gap, GapReason
from .._errors import Certainty, ObserverLagged
from .._receiver import WallClock
from .._states import ConnectionState
from .._statistics import ClientStatistics
from .._status import StateChange
from .connections import ConnectionFigures
from .log import MessageLog

_logger: Final = logging.getLogger("trio_signal.hub.status")

#: How many changes of state, gaps and connections are shown.
KEPT_CHANGES: Final = 200
KEPT_GAPS: Final = 50
SHOWN_CONNECTIONS: Final = 100

#: Rates are counts for each 10 s of the last ten minutes.
RATE_INTERVAL: Final = 10.0
RATE_BUCKETS: Final = 60

#: A gateway that is there has sent something within this many seconds: the client pings it after 10 s of
#: silence and gives it 5 s to answer.
ANSWERS_WITHIN: Final = 20.0


@dataclass(slots=True)
class HubCounters:
    """What the server has counted since it started. Each only grows.

    Attributes:
        accepted_connections: TCP connections taken.
        refused: HTTP requests refused, by status.
        websockets_opened: WebSockets that got their hello.
        closed_slow: WebSockets closed for not reading fast enough (4008).
        closed_dead: connections dropped since nothing came from them any more.
        closed_expired: WebSockets closed after their token had expired (4001).
        closed_abusive: WebSockets closed for what they sent (1008, 1009 and the like).
        recoveries: recovery calls answered.
        recovered_messages: messages in those answers.
        recoveries_limited: recovery calls answered 429.
        sends: answers to texts, reactions and deletions, by status.
        operations: answers to operations, by status.
        downloads: answers to who asked for a file, by status.
        heartbeats: heartbeat frames handed out.
    """

    accepted_connections: int = 0
    refused: Counter[int] = field(default_factory=Counter[int])
    websockets_opened: int = 0
    closed_slow: int = 0
    closed_dead: int = 0
    closed_expired: int = 0
    closed_abusive: int = 0
    recoveries: int = 0
    recovered_messages: int = 0
    recoveries_limited: int = 0
    sends: Counter[int] = field(default_factory=Counter[int])
    operations: Counter[int] = field(default_factory=Counter[int])
    downloads: Counter[int] = field(default_factory=Counter[int])
    heartbeats: int = 0


class RateHistory:
    """How much a total that only grows has grown in each of the last intervals. Pure.

    Keeps finished intervals; what has come since the last one counts into the interval that is
    running. A sample that comes late books all growth into the interval that it finishes and none into
    those that passed since: nobody can know better then.

    Args:
        total: the total now.
        now: the time now, in seconds on any clock that does not run backwards.
        interval: how long an interval is, in seconds.
        length: how many are kept, the running one included.
    """

    def __init__(
        self, total: int, now: float, *, interval: float = RATE_INTERVAL, length: int = RATE_BUCKETS
    ) -> None:
        self._interval: Final = interval
        self._length: Final = length
        self._counts = deque([0] * (length - 1), maxlen=length - 1)
        self._total = total
        self._began = now

    def sample(self, total: int, now: float) -> None:
        """Finish the intervals that are over."""
        passed = int((now - self._began) // self._interval)
        if passed < 1:
            return
        self._counts.append(total - self._total)
        self._counts.extend([0] * min(passed - 1, self._length))
        self._total = total
        self._began += passed * self._interval

    def counts(self, total: int, now: float) -> list[int]:
        """Return the growth in each interval, oldest first; the last one is still running."""
        self.sample(total, now)
        return [*self._counts, total - self._total]


class StatusBoard:
    """Everything that the status page and the probes show.

    Must be made inside ``trio.run()``.

    Args:
        signal: the hub's own client.
        log: where its messages are kept.
        wall_clock: tells the time of day in seconds since the epoch.
        delivered: says how many frames were handed to clients so far.
        log_writable: says whether the log takes messages; without it, it always does, being in memory.
    """

    def __init__(
        self,
        signal: SignalClient,
        log: MessageLog,
        *,
        wall_clock: Callable[[], float],
        delivered: Callable[[], int],
        log_writable: Callable[[], bool] | None = None,
    ) -> None:
        self._signal: Final = signal
        self._log: Final = log
        self._wall: Final = WallClock(wall_clock)
        self._delivered: Final = delivered
        self._log_writable: Final = log_writable
        # Followed from here on, so that no change is missed before follow() gets its first turn.
        self._changes: Final = signal.state_changes()
        self._history: Final = deque[dict[str, object]](maxlen=KEPT_CHANGES)
        self._gaps: Final = deque[dict[str, object]](maxlen=KEPT_GAPS)
        self.received = 0
        self.gap_counts: Final = Counter[GapReason]()
        self.longest_pause = 0.0
        now = trio.current_time()
        self._received_rate: Final = RateHistory(0, now)
        self._sent_rate: Final = RateHistory(self._sent, now)
        self._delivered_rate: Final = RateHistory(delivered(), now)

    async def follow(self) -> None:
        """Take note of changes of state and of rates until cancelled, which is safe at any time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_changes)
            nursery.start_soon(self._sample_rates)

    def note_received(self, count: int = 1) -> None:
        """Count messages that came from the gateway and were numbered."""
        self.received += count

    def note_gap(self, entry_sequence: int, gap: Gap) -> None:
        """Remember a gap that was numbered like a message.

        Args:
            entry_sequence: the number it got.
            gap: the gap.
        """
        self.gap_counts[gap.reason] += 1
        self._gaps.append(
            {
                "time": self._wall.now(),
                "sequence_number": entry_sequence,
                "reason": gap.reason.value,
                "since": gap.since,
                "until": gap.until,
            }
        )

    def note_pause(self, seconds: float) -> None:
        """Take note of how long the task that reads the gateway was held up (contract H11)."""
        self.longest_pause = max(self.longest_pause, seconds)

    def readiness(self) -> dict[str, bool | str]:
        """Say for ``link``, ``gateway`` and ``log`` whether each is well.

        The hub is ready when **every value is True**; what is not well is a sentence that says why, and
        a sentence is true in Python's eyes.
        """
        figures = self._signal.statistics()
        return {
            "link": figures.state is ConnectionState.CONNECTED or f"the link is {figures.state.name}",
            "gateway": _answering(figures),
            "log": self.log_writable or "the log cannot be written",
        }

    def snapshot(self, connections: Sequence[ConnectionFigures]) -> dict[str, object]:
        """Return what ``GET /status`` answers, ready to be encoded as JSON.

        Args:
            connections: all of the hub's clients; of more than 100, those furthest behind are shown.
        """
        figures = self._signal.statistics()
        shown = heapq.nlargest(SHOWN_CONNECTIONS, connections, key=lambda client: client.lag)
        return {
            "version": __version__,
            "account": self._signal.account,
            "now": self._wall.now(),
            "state": figures.state.name,
            "since": self._wall.at(figures.since),
            "attempt": figures.attempt,
            "next_attempt": self._moment(figures.next_attempt),
            "last_error": _words(figures.last_error),
            "history": list(self._history),
            "buffer": self._buffer(figures),
            "rates": self._rates(),
            "log": self._log_figures(),
            "connections": [asdict(client) for client in sorted(shown, key=lambda client: client.connected)],
            "connection_count": len(connections),
            "gaps": list(self._gaps),
        }

    @property
    def log_writable(self) -> bool:
        """Whether the log takes messages."""
        return self._log_writable is None or self._log_writable()

    @property
    def delivered(self) -> int:
        """How many frames were handed to clients so far."""
        return self._delivered()

    @property
    def _sent(self) -> int:
        return self._signal.statistics().buffer.outgoing.sent

    def _moment(self, time: float | None) -> int | None:
        """Turn a moment of Trio's clock into milliseconds since the epoch."""
        return None if time is None else self._wall.at(time)

    def _buffer(self, figures: ClientStatistics) -> dict[str, object]:
        buffer, outgoing = figures.buffer, figures.buffer.outgoing
        return {
            "waiting": buffer.waiting,
            "max_messages": buffer.max_size,
            "bytes": buffer.waiting_bytes,
            "max_bytes": buffer.max_bytes,
            "in_flight": figures.in_flight > 0,
            "paused_until": self._moment(figures.paused_until),
            "accepted": outgoing.accepted,
            "sent": outgoing.sent,
            "dropped": sum(outgoing.dropped.values()),
            "failed": outgoing.failed.get(Certainty.NOT_SENT, 0),
            "unknown": outgoing.failed.get(Certainty.UNKNOWN, 0),
            "pending": outgoing.pending,
        }

    def _rates(self) -> dict[str, object]:
        now = trio.current_time()
        return {
            "interval": RATE_INTERVAL,
            "received": self._received_rate.counts(self.received, now),
            "sent": self._sent_rate.counts(self._sent, now),
            "delivered": self._delivered_rate.counts(self.delivered, now),
        }

    def _log_figures(self) -> dict[str, object]:
        log = self._log.statistics()
        return {
            "epoch": log.epoch,
            "head": log.head,
            "oldest": log.oldest,
            "messages": log.messages,
            "bytes": log.bytes,
            "max_messages": log.max_messages,
            "max_bytes": log.max_bytes,
            "max_age": log.max_age,
            "seconds_covered": log.seconds_covered,
            "writable": self.log_writable,
        }

    async def _follow_changes(self) -> None:
        """Write the history until the client is closed. A checkpoint; cancelling misses nothing."""
        await trio.lowlevel.checkpoint()
        while True:  # noqa: ASYNC913  (anext is a checkpoint)
            try:
                self._note_change(await anext(self._changes))
            except StopAsyncIteration:
                return
            except ObserverLagged as lagged:
                _logger.warning("the history of states lacks %d changes", lagged.missed)

    def _note_change(self, change: StateChange) -> None:
        self._history.append(
            {
                "time": self._wall.at(change.time),
                "state": change.current.name,
                "reason": change.reason.value,
                "attempt": change.attempt,
                "delay": change.delay,
            }
        )

    async def _sample_rates(self) -> None:
        # The intervals end by the clock of the histories, so a late turn here shifts none of them.
        while True:
            await trio.sleep(RATE_INTERVAL)
            self._rates()


def _answering(figures: ClientStatistics) -> bool | str:
    if figures.last_received is None:
        return "there is no connection to the gateway"
    silence = trio.current_time() - figures.last_received
    return silence <= ANSWERS_WITHIN or f"nothing has come from the gateway for {silence:.0f} s"


def _words(error: Exception | None) -> str | None:
    return None if error is None else str(error) or type(error).__name__

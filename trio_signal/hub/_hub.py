"""The hub itself: what it is made of, and the tasks that keep it going. Served by :mod:`.server`."""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import trio

from .._checks import check_count, check_positive
from .._client import SignalClient
from .._continuity import Gap
from .._envelopes import ReceivedMessage, Undecodable
from .._errors import ObserverLagged
from .._events import Event, MessageSettled
from .._inbox import EventStream
from .._receiver import WallClock
from ._fairness import Burst
from ._kept import KeptLog
from ._metrics import metrics
from ._status import HubCounters, StatusBoard
from .connections import CloseCode, Connection, ConnectionFigures, ConnectionManager
from .log import MessageLog

_logger: Final = logging.getLogger("trio_signal.hub")

#: A WebSocket ping without payload, as every client's library answers it.
_PING: Final = b"\x89\x00"

#: The pump gives others a turn after handing out this many frames at the latest, some 2 ms of work.
_TURN: Final = 256

#: So many clients get their heartbeat together, and all answer it; then others have so many seconds.
_BEATS: Final = 256
_BEAT_PAUSE: Final = 0.02

#: Seconds between two looks at how late a task gets its turn.
_LOOK: Final = 1.0

#: Descriptors for everything beside the hub's connections: the gateway, logs, look-ups, Trio itself.
_OTHER_FILES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLimits:
    """What one hub allows. Times in seconds.

    Attributes:
        max_connections: connections that a valid token (or ticket) has opened.
        max_pending: connections without one, idle ones included; one more ends the oldest of the address
            that has the most.
        max_queue: frames that wait for one full socket; one more closes it (4008).
        max_queue_bytes: bytes that they may have.
        max_send_bytes: the largest body of a send or an operation.
        max_send_total: bytes that have come of such bodies, but for 64 KiB of each, until it is handed on.
        recovery_rate: recovery calls, and WebSockets opened with ``since``, each second.
        recovery_burst: how many of them at once after a quiet time.
        max_recoveries: HTTP recovery answers on their way at once; a quarter for each token's ``sub``.
        max_downloads: files on their way from the gateway at once; a quarter for each token's ``sub``.
        heartbeat_interval: between two heartbeats; twice that and 5 s without a byte from a client end it.
        shutdown_spread: over how many seconds clients are spread that come back after a shutdown.
        send_wait: how long a message, or an operation, may wait for its turn.
    """

    max_connections: int = 1000
    max_pending: int = 256
    max_queue: int = 1000
    max_queue_bytes: int = 1024 * 1024
    max_send_bytes: int = 16 * 1024 * 1024
    max_send_total: int = 64 * 1024 * 1024
    recovery_rate: float = 100.0
    recovery_burst: int = 200
    max_recoveries: int = 16
    max_downloads: int = 16
    heartbeat_interval: float = 20.0
    shutdown_spread: float = 5.0
    send_wait: float = 25.0

    def __post_init__(self) -> None:
        for name in ("max_connections", "max_pending", "max_queue", "max_queue_bytes", "max_send_bytes"):
            check_count(name, getattr(self, name))
        for name in ("max_send_total", "recovery_burst", "max_recoveries", "max_downloads"):
            check_count(name, getattr(self, name))
        for name in ("recovery_rate", "heartbeat_interval", "send_wait"):
            check_positive(name, getattr(self, name))
        check_positive("shutdown_spread", self.shutdown_spread, zero=True)

    @property
    def descriptors(self) -> int:
        """How many open files this may need, with some for the rest of the process."""
        # Each file on its way has a connection to the gateway.
        return self.max_connections + self.max_pending + self.max_downloads + _OTHER_FILES


class Hub:
    """A running hub. Given by :func:`serve_hub`."""

    def __init__(
        self,
        signal: SignalClient,
        account: str,
        log: MessageLog,
        *,
        address: tuple[str, int],
        scheme: str,
        wall_clock: Callable[[], float],
        random: Random,
        kept: KeptLog | None = None,
        on_settled: Callable[[MessageSettled], Awaitable[bool]] | None = None,
    ) -> None:
        self.signal: Final = signal
        self.account: Final = account
        self.log: Final = log
        self.address: Final = address
        self.random: Final = random
        self.counters: Final = HubCounters()
        wall = WallClock(wall_clock)
        self.connections: Final = ConnectionManager(log, wall=wall.now, on_slow=self._note_slow, kept=kept)
        self.board: Final = StatusBoard(
            signal,
            log,
            wall_clock=wall_clock,
            delivered=lambda: self.connections.delivered,
            log_writable=None if kept is None else lambda: kept.is_writable,
        )
        self._kept: Final = kept
        self._on_settled: Final = on_settled
        #: What is to be counted when the entry of this number may be seen.
        self._uncounted: Final[dict[int, Callable[[], None]]] = {}
        self._scheme: Final = scheme
        self._stop: Final = trio.Event()

    def __repr__(self) -> str:
        """Show the address."""
        return f"<Hub {self.url}>"

    @property
    def url(self) -> str:
        """Where it listens, as a URL; what a client of it is opened with."""
        host, port = self.address
        return f"{self._scheme}://[{host}]:{port}" if ":" in host else f"{self._scheme}://{host}:{port}"

    @property
    def stopping(self) -> bool:
        """Whether a shutdown has begun."""
        return self._stop.is_set()

    def shutdown(self) -> None:
        """Begin an orderly end; :func:`serve_hub` returns when it is done (contract H10).

        Nothing more is accepted, sends that wait get a truthful answer within 4 s, every client is
        told when to come back, what is queued for it goes out, and its connection is closed with 1012.
        """
        self._stop.set()

    async def wait_shutdown(self) -> None:
        """Wait until a shutdown has begun. A checkpoint; cancelling is safe."""
        await self._stop.wait()

    def statistics(self) -> list[ConnectionFigures]:
        """Return the figures of every connected client."""
        return self.connections.figures()

    def metrics(self) -> bytes:
        """Return everything that is counted, as Prometheus' text."""
        return metrics(self.signal, self.log, self.board, self.connections.figures(), self.counters)

    async def pump(self) -> None:
        """Number, store and hand out whatever the client gives, until it is closed (contract H11).

        With a store on disk :meth:`offer` does the handing out, and this takes nothing while too
        much waits for the disk: the client's inbox fills, and tells of what it has no room for.
        If the client is closed meanwhile, what is left in there is for the next process to tell of.

        A checkpoint. Cancelling is safe: what was taken from the client has been handed out, or
        given to the disk in the very step in which the client's cursor moved.
        """
        work, kept, events = 0, self._kept, self.signal.events()
        async for event in events:
            begun = time.perf_counter()
            burst = Burst(_TURN - work)
            settled = self._hand_on_burst(event, events, burst)
            self.board.note_pause(time.perf_counter() - begun)
            if settled is not None:
                # Nothing is taken meanwhile: the cursor never stays behind what is in the log.
                if self._on_settled is None or await self._on_settled(settled):
                    self._acknowledge(settled)
                else:
                    self._pass_over(settled)
            if kept is not None and not kept.has_room and not await self._wait_room(kept):
                break
            # Not every step of the iterator gives others a turn, and to hand out is work for each client.
            work += burst.messages + len(self.connections)
            if work >= _TURN:
                await trio.lowlevel.checkpoint()
                work = 0

    async def offer(self) -> None:
        """Hand out what has come to the disk, until cancelled; without a store, do nothing.

        A checkpoint. Cancelling is safe: what was not handed out is on disk, for the next hub.
        """
        if self._kept is None:
            await trio.lowlevel.checkpoint()
            return
        while True:
            await self._kept.wait_kept()
            begun = time.perf_counter()
            self._publish_burst()
            self.board.note_pause(time.perf_counter() - begun)

    def _publish_burst(self) -> None:
        """Hand out some of what has come to the disk."""
        burst = Burst(_TURN)
        with self.connections.one_write():
            while burst.has_room and (entry := self.connections.publish()) is not None:
                self._uncounted.pop(entry.sequence, _nothing)()
                burst.add(len(entry.body))

    async def watch_lateness(self) -> None:
        """Notice what holds up all tasks, the one that reads the gateway among them (contract H11)."""
        while True:
            due = trio.current_time() + _LOOK
            await trio.sleep_until(due)
            self.board.note_pause(trio.current_time() - due)

    async def _wait_room(self, kept: KeptLog) -> bool:
        """Wait until there is room for another entry; False if the client was closed before.

        A checkpoint. Cancelling is safe.
        """
        async with trio.open_nursery() as race:
            race.start_soon(self._follow_to_end, race.cancel_scope)
            await kept.wait_room()
            race.cancel_scope.cancel(reason="there is room again")
        return kept.has_room

    async def _follow_to_end(self, scope: trio.CancelScope) -> None:
        """Cancel a scope once the client is closed."""
        changes = self.signal.state_changes()
        await trio.lowlevel.checkpoint()
        while True:
            with suppress(ObserverLagged):
                async for _ in changes:
                    pass
                break
        scope.cancel(reason="the client is closed")

    def _hand_on_burst(self, event: Event, events: EventStream, burst: Burst) -> MessageSettled | None:
        """Hand on an event, and as many behind it as are there and have room, with one write for each client.

        Returns:
            The last one, not acknowledged yet, if somebody is to be told of it.
        """
        kept, following = self._kept, None
        with self.connections.one_write():
            while True:
                self._hand_on(event)
                burst.add(len(event.raw) if isinstance(event, ReceivedMessage | Undecodable) else 0)
                if isinstance(event, MessageSettled):
                    return event
                # In the step in which it was handed on: the cursor and what it moved over are in one commit.
                self._acknowledge(event)
                if burst.has_room and (kept is None or kept.has_room):
                    following = events.next_in_turn()
                if following is None:
                    return None
                event, following = following, None

    def _acknowledge(self, event: Event) -> None:
        if self.signal.acknowledges:
            self.signal.acknowledge(event)

    def _pass_over(self, event: MessageSettled) -> None:
        """Let the cursor move over an outcome that nobody was told: the store has it for the next process."""
        if self.signal.acknowledges:
            self.signal._inbox.acknowledge(event)  # noqa: SLF001

    def _hand_on(self, event: Event) -> None:
        if isinstance(event, ReceivedMessage | Undecodable):
            self._count(self.connections.take_in(event.raw).sequence, self.board.note_received)
            if isinstance(event, Undecodable):
                _logger.warning("a frame could not be understood and goes on as it came: %s", event.reason)
        elif isinstance(event, Gap):
            number = self.connections.take_in_gap(event).sequence
            self._count(number, partial(self.board.note_gap, number, event))
            _logger.warning("messages may be missing: %s", event)
        elif isinstance(event, MessageSettled):
            # Whoever asked for it has gone with its connection, and knows that it does not know.
            _logger.info("a message of an earlier process: %s", event.outcome)
        else:
            _logger.warning("Signal wants a challenge solved before it takes more messages")

    def _count(self, number: int, count: Callable[[], None]) -> None:
        """Count an entry once it may be seen, which without a store it may already."""
        if number <= self.log.head:
            count()
        else:
            self._uncounted[number] = count

    async def beat(self, interval: float) -> None:
        """Tell every client the head now and then, and drop those that say nothing for too long."""
        patience = 2 * interval + 5
        next_beat = trio.current_time() + interval
        while True:
            silent_since = min(
                (c.outlet.last_received for c in self.connections.connections), default=math.inf
            )
            await trio.sleep_until(min(next_beat, silent_since + patience))
            now = trio.current_time()
            for connection in self.connections.connections:
                if connection.outlet.last_received + patience <= now:
                    self.counters.closed_dead += 1
                    self.connections.disconnect(connection)
                    connection.outlet.end(CloseCode.NO_ANSWER, "nothing came from you, not even a pong")
            if now >= next_beat:
                next_beat = now + interval
                await self._tell_everybody()

    async def _tell_everybody(self) -> None:
        """Send heartbeats, of thousands not all at once: neither that nor the answers may delay anybody long.

        A checkpoint. Cancelling is safe.
        """
        everybody = self.connections.connections
        await trio.lowlevel.checkpoint()
        for start in range(0, len(everybody), _BEATS):
            if start:
                await trio.sleep(_BEAT_PAUSE)
            some = everybody[start : start + _BEATS]
            self.counters.heartbeats += self.connections.heartbeat(_PING, among=some)

    def _note_slow(self, connection: Connection) -> None:
        _logger.warning("client %s takes nothing any more and is sent away to recover", connection.remote)


def _nothing() -> None:
    """Count nothing: what others broadcast did not come from the gateway."""

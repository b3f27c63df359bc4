"""``trio-signal daemon``: a client that runs for months and tells everything as events.

::

    reporters nursery ── ends by itself once the client has closed and all is told
     ├─ changes of state
     ├─ what arrives
     └─ work scope ── cancelled by the second signal
         └─ client ── left at the first signal, but after the hub: sends what waits
             └─ hub nursery ── with --hub: from the first signal on tells its clients goodbye
                 └─ input (:mod:`.daemon_input`) ── reads no more from the first signal on

With ``--hub`` what arrives goes to the hub alone, whose own warnings tell of gaps.
"""

import gc
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from structlog.typing import FilteringBoundLogger

from .._buffer import Overflow
from .._client import SignalClient
from .._errors import ObserverLagged, Reason, SignalError
from .._events import Event, MessageSettled
from .._inbox import EventStream
from .._outcomes import Outcome, Sent
from .._outgoing import Delivery, OutgoingMessage, on_done
from .._states import Backoff, ConnectionState
from .._status import StateChange, StateChanges
from ..store import Store
from .connection import Connection
from .daemon_input import Input, Read
from .exits import Exit, failed
from .interrupt import SIGNALS
from .options import HUB
from .reports import Reports

if TYPE_CHECKING:
    # It needs an extra that a daemon without a hub does not.
    from ..hub import Hub

#: Seconds in which lines that were read before the first signal may still find room in the buffer.
_READ_ALREADY: Final = 0.5

#: How many outcomes may wait for their line to be written before the oldest is told once more after a kill.
_UNWRITTEN: Final = 1_000

#: Seconds for which a hub hands out nothing new while an outcome's line is not written; then it is not waited
#: for again, since whoever reads the log has stopped.
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """The hub that runs beside the client.

    Attributes:
        serve: runs it for a client: :func:`trio_signal.hub.serve_hub` with its other options.
        has_key: whether its clients need a token.
    """

    serve: Callable[..., Awaitable[Any]]
    has_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """What ``trio-signal daemon`` was told; the names are those of its options."""

    where: Connection
    buffer_size: int
    overflow: Overflow
    delivery: Delivery
    close_timeout: float
    backoff: Backoff
    show_text: bool
    max_in_flight: int = 1
    settle_timeout: float = 10.0
    hub: HubSettings | None = None
    store: Store | None = None


async def run_daemon(
    settings: DaemonSettings,
    log: FilteringBoundLogger,
    *,
    read: Read | None = None,
    written: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    lost: Callable[[], int] = lambda: 0,
) -> int:
    """Run a client until a signal or a permanent failure ends it, and return the exit code.

    The first SIGINT or SIGTERM ends the hub in order, if there is one, and then lets the
    client send what waits, for up to ``close_timeout``; the second ends both at once. Only in
    the main thread. A checkpoint; cancelled, it ends at once too.

    Args:
        settings: what to run.
        log: where the events go.
        read: waits for lines of messages to send; None for none.
        written: waits until all that the log has taken by now is where a kill cannot take it away: for
            ever if nobody reads it any more.
        lost: says how many lines the log had no room for.
    """
    daemon = _Daemon(settings, Reports(log, show_text=settings.show_text), read, written, lost)
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            watch = trio.CancelScope()
            nursery.start_soon(daemon.watch_signals, signals, watch)
            async with trio.open_nursery() as reporters:
                await daemon.serve(reporters)
            watch.cancel(reason="the daemon has ended")
    return daemon.conclude()


class _Daemon:
    def __init__(
        self,
        settings: DaemonSettings,
        reports: Reports,
        read: Read | None,
        written: Callable[[], Awaitable[None]],
        lost: Callable[[], int],
    ) -> None:
        self._settings: Final = settings
        self._reports: Final = reports
        self._written: Final = written
        self._lost_lines: Final = lost
        self._started_at: Final = trio.current_time()
        self._stop: Final = trio.Event()
        self._input: Final = None if read is None else Input(read, reports, self._follow)
        self._work: Final = trio.CancelScope()
        self._client: SignalClient | None = None
        self._hub: Hub | None = None
        self._connected_before = False
        self._failure: Exception | None = None
        self._unsent = 0
        #: What was accepted from the input and has no outcome yet.
        self._open: Final[dict[OutgoingMessage, None]] = {}
        #: What has one, of which the line may not be written yet.
        self._reported: Final[deque[OutgoingMessage]] = deque(maxlen=_UNWRITTEN)
        self._news = trio.Event()
        #: Waits for an event's line to be written; once the client was left that is of no use any more.
        self._confirming = trio.CancelScope()
        self._left = False
        #: How long the hub may be held up for the line of an outcome, in seconds.
        self._patience = _PATIENCE

    async def watch_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Turn the first signal into a stop, and any other into a cancellation."""
        with scope:
            async for number in signals:
                if self._stop.is_set():
                    self._reports.cancelled(signal.Signals(number))
                    self._work.cancel(reason="a second signal came")
                else:
                    self._begin_stop(signal.Signals(number))

    async def serve(self, reporters: trio.Nursery) -> None:
        """Run the client until it is told to stop or has failed. A checkpoint; cancelling closes it."""
        settings, where = self._settings, self._settings.where
        # Without jitter the times are promised to be exact.
        knocking = {} if settings.backoff.jitter else {"probe_interval": None}
        await trio.lowlevel.checkpoint()
        try:
            with self._work:
                async with where.open_client(
                    token=where.lasting_token,
                    buffer_size=settings.buffer_size,
                    overflow=settings.overflow,
                    max_in_flight=settings.max_in_flight,
                    delivery=settings.delivery,
                    settle_timeout=settings.settle_timeout,
                    close_timeout=settings.close_timeout,
                    backoff=settings.backoff,
                    store=settings.store,
                    # An event counts as taken once its line is written: a kill between repeats the line.
                    acknowledge=settings.store is not None,
                    **knocking,
                ) as client:
                    # Followed before anything can wait, so that not even the first change is missed.
                    reporters.start_soon(self._report_changes, client.state_changes())
                    self._begin(client)
                    if settings.hub is None:
                        reporters.start_soon(self._report_events, client, client.events())
                        await self._run(client)
                    else:
                        await self._run_with_hub(settings.hub, client)
        except SignalError as error:
            self._failure = error
        finally:
            # Whoever reads the log may have stopped: nothing else would end the wait for it.
            self._left = True
            self._confirming.cancel(reason="the client is closed")

    def conclude(self) -> int:
        """Tell how it ended, and return the exit code."""
        if self._client is not None:
            for message in self._open:
                self._reports.kept(message.id)
            uptime = trio.current_time() - self._started_at
            self._reports.stopped(self._client, unsent=self._lost, uptime=uptime)
        if self._failure is not None:
            return failed(self._failure)
        return Exit.NOT_SENT if self._lost else Exit.OK

    @property
    def _lost(self) -> int:
        """How many messages the stop has cost."""
        return self._unsent + (0 if self._input is None else self._input.given_up)

    def _begin(self, client: SignalClient) -> None:
        self._client = client
        settings = self._settings
        self._reports.started(
            gateway=settings.where.gateway,
            account=settings.where.account,
            backoff=settings.backoff,
            buffer_size=settings.buffer_size,
            overflow=settings.overflow,
            delivery=settings.delivery,
        )
        if settings.store is not None:
            self._reports.store_opened(
                settings.store.path,
                durability=settings.store.durability,
                taken_over=client.statistics().buffer.outgoing.pending,
            )

    def _begin_stop(self, caught: signal.Signals) -> None:
        pending = 0 if self._client is None else self._client.statistics().buffer.outgoing.pending
        self._reports.stopping(caught, pending=pending, within=self._settings.close_timeout)
        self._stop.set()
        if self._hub is not None:
            self._hub.shutdown()
        if self._input is not None:
            self._input.stop()

    async def _run(self, client: SignalClient) -> None:
        """Send what is read until the first signal."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_written)
            async with trio.open_nursery() as inputs:
                if self._input is not None:
                    inputs.start_soon(self._input.run, client)
                await self._stop.wait()
                inputs.cancel_scope.deadline = trio.current_time() + _READ_ALREADY
            nursery.cancel_scope.cancel(reason="the daemon stops")

    async def _run_with_hub(self, settings: HubSettings, client: SignalClient) -> None:
        """Do so beside a hub, and return once that has ended in order. Cancelling ends it at once."""
        try:
            async with trio.open_nursery() as nursery:
                if await self._start_hub(settings, client, nursery):
                    # What there is by now stays, and a full pass of the collector over it holds up everybody:
                    # 115 ms in a crowd of 2,000 that comes back, 27 ms without it (measured).
                    gc.collect()
                    gc.freeze()
                    await self._run(client)
        finally:
            if self._hub is not None:
                self._reports.hub_stopped(self._hub)

    async def _start_hub(self, settings: HubSettings, client: SignalClient, nursery: trio.Nursery) -> bool:
        """Start the hub; False if it cannot listen, which is then the daemon's failure. A checkpoint."""
        await trio.lowlevel.checkpoint()
        try:
            serve = partial(settings.serve, client, on_settled=self._report_settled)
            hub: Hub = await nursery.start(serve)
        except SignalError as error:
            self._failure = error
            return False
        except OSError as error:
            self._failure = SignalError(f"{HUB.label}: it cannot be listened on: {error.strerror or error}")
            return False
        self._hub = hub
        self._reports.hub_started(hub, has_key=settings.has_key)
        if self._stop.is_set():
            # The signal came while it started.
            hub.shutdown()
        return True

    def _follow(self, message: OutgoingMessage) -> None:
        """Tell the outcome of an accepted message once it has one."""
        # At the very moment, and so in the true order; a task for each would be woken in any order.
        if message.outcome is None:
            self._open[message] = None
            on_done(message, self._report_outcome)
        else:
            self._report_outcome(message, message.outcome)

    def _report_outcome(self, message: OutgoingMessage, outcome: Outcome) -> None:
        taken = self._tell(partial(self._reports.outcome, message.id, outcome))
        self._open.pop(message, None)
        if self._settings.store is not None and taken:
            self._reported.append(message)
            self._news.set()
        if self._stop.is_set() and not isinstance(outcome, Sent):
            self._unsent += 1

    async def _report_changes(self, changes: StateChanges) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                async for change in changes:
                    self._reports.change(change)
                    self._judge(change)
            except ObserverLagged as lagged:
                self._reports.changes_missed(lagged.missed)
            else:
                break

    def _judge(self, change: StateChange) -> None:
        """Give up over a refused token before the first connection.

        The library would read the token's file again and again, which is right for one
        that is renewed and hides one that was wrong from the start.
        """
        self._connected_before |= change.current is ConnectionState.CONNECTED
        if change.reason is Reason.REFUSED and not self._connected_before:
            self._failure = change.error
            self._work.cancel(reason="the gateway refused the token")

    async def _report_events(self, client: SignalClient, events: EventStream) -> None:
        async for event in events:
            if self._settings.store is None or self._left:
                self._reports.event(event)
                continue
            with trio.CancelScope() as self._confirming:
                await self._tell_and_wait(event)
                client.acknowledge(event)

    def _tell(self, tell: Callable[[], None]) -> bool:
        """Tell something, and say whether the log had room for its line."""
        lost = self._lost_lines()
        tell()
        return self._lost_lines() == lost

    async def _tell_and_wait(self, event: Event) -> None:
        """Tell of an event until its line is written, again if the log had no room for it. A checkpoint."""
        while True:
            taken = self._tell(partial(self._reports.event, event))
            await self._written()
            if taken:
                return

    async def _report_settled(self, event: MessageSettled) -> bool:
        """Tell an outcome, and let the hub count it as told if its line is written in time. A checkpoint."""
        with trio.move_on_after(self._patience) as waiting:
            await self._tell_and_wait(event)
        if waiting.cancelled_caught:
            self._patience = 0.0
        return not waiting.cancelled_caught

    async def _note_written(self) -> None:
        """Let the store forget outcomes whose lines are written; a kill before repeats the line."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            reported = tuple(self._reported)
            self._reported.clear()
            await self._written()
            for message in reported:
                # Looking at it is what counts.
                _ = message.outcome

"""The client's state, told to everybody who follows it (contract C1, C2)."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import trio

from ._errors import ObserverLagged, Reason
from ._states import ConnectionState, ReconnectionManager

_logger: Final = logging.getLogger("trio_signal.status")

#: How many changes are kept for an observer that is behind.
KEPT_CHANGES: Final = 1000


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state.

    Attributes:
        previous: the state before.
        current: the state since.
        reason: why, as a :class:`Reason`.
        attempt: which attempt to connect this belongs to, counted since the link was last stable.
        delay: RECONNECTING: how long is slept before the attempt, in seconds; else None.
        time: when, on Trio's clock, in seconds.
        generation: which connection this belongs to, counted from 1 over the client's life.
        error: what went wrong, if something did.
    """

    previous: ConnectionState
    current: ConnectionState
    reason: Reason
    attempt: int
    delay: float | None
    time: float
    generation: int
    error: Exception | None = None


class StateLog:
    """The one source of truth for the state, and the history that observers read.

    Args:
        manager: holds the state and checks each change.

    Attributes:
        manager: as given.
        state: the present state; asked for before each send, so it is at hand.
        generation: how many connections were begun.
        since: when the state was entered, on Trio's clock.
        last_error: the last that went wrong.
    """

    def __init__(self, manager: ReconnectionManager) -> None:
        self.manager: Final = manager
        self.state: ConnectionState = manager.state
        self.generation = 0
        self.since = trio.current_time()
        self.last_error: Exception | None = None
        self._changes: deque[StateChange] = deque(maxlen=KEPT_CHANGES)
        self._count = 0
        self._news = trio.Event()
        self._closed = False
        self._listeners: list[Callable[[StateChange], None]] = []

    def listen(self, listener: Callable[[StateChange], None]) -> None:
        """Call ``listener`` synchronously at each change. For the client's own parts."""
        self._listeners.append(listener)

    def change(
        self,
        to: ConnectionState,
        reason: Reason,
        *,
        delay: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Make a change and tell everybody.

        Raises:
            InvalidTransition: it is not legal; nothing has changed and nobody was told.
        """
        previous = self.state
        counted = self.manager.attempt_count
        self.manager.transition(to)
        self.state = to
        if to is ConnectionState.RECONNECTING:
            self.generation += 1
        self.since = trio.current_time()
        self.last_error = error or self.last_error
        # CONNECTED sets the count to 0; the change itself still belongs to the attempt that succeeded.
        attempt = self.manager.attempt_count or counted
        change = StateChange(previous, to, reason, attempt, delay, self.since, self.generation, error)
        self._publish(change)

    def follow(self) -> "StateChanges":
        """Return an iterator over every change from now on."""
        return StateChanges(self)

    def close(self) -> None:
        """End all iterators once they have read what there is. Idempotent."""
        self._closed = True
        self._wake()

    def _publish(self, change: StateChange) -> None:
        _logger.info("%s -> %s (%s)", change.previous.name, change.current.name, change.reason)
        self._changes.append(change)
        self._count += 1
        for listener in self._listeners:
            listener(change)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


class StateChanges:
    """An iterator over state changes: in order, none merged, none missed.

    Raises :class:`ObserverLagged` from its next step if it fell more than 1,000
    changes behind, and goes on with the oldest that is kept. Ends when the client is closed.
    """

    def __init__(self, log: StateLog) -> None:
        self._log = log
        self._next = log._count

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> StateChange:
        """Wait for the next change. A checkpoint; cancelling is safe, nothing is missed."""
        log = self._log
        await trio.lowlevel.checkpoint()
        while self._next == log._count:
            if log._closed:
                raise StopAsyncIteration
            await log._news.wait()
        oldest = log._count - len(log._changes)
        if self._next < oldest:
            missed, self._next = oldest - self._next, oldest
            raise ObserverLagged(missed)
        self._next += 1
        return log._changes[self._next - 1 - oldest]

"""The connection's states: one table, and the counting of attempts.

Theory of operation
===================

A client is in exactly one of four states, and this file is the only place that
says which change is legal. Nothing here waits, reads a socket or knows Trio; the
supervisor asks, the table answers.

::

              ┌──────────────────────────────────────────────┐
              │                                              ▼
      DISCONNECTED ──▶ RECONNECTING ──▶ SYNCING ──▶ CONNECTED
          ▲  ▲              │  │          │  ▲         │  │
          │  └──── failed ──┘  └──────────│──│────────▶│  │   nothing to synchronise
          │                               │  └─────────┘  │   state must be fetched again
          └──────────────────── lost ─────┴───────────────┘

- DISCONNECTED: no link. A drop was noticed, or an attempt failed.
- RECONNECTING: an attempt is under way. Its sleep belongs to it: the backoff is
  slept *in* this state, before dialling, and before the attempt that succeeds too.
- SYNCING: the link is up; what was missed is being fetched or reported as a gap.
- CONNECTED: the link is up and everything missed is in the inbox.

Counting, which couples to all of that:

1. Entering RECONNECTING adds one to ``attempt_count``.
2. Entering CONNECTED sets it to 0 …
3. … but a link lost before it was stable (``Backoff.stable_after``) puts back the
   number it had, so that a gateway that accepts and closes at once meets a growing
   delay and not a hot loop. The clock for "stable" starts at the first CONNECTED of
   a link and survives CONNECTED → SYNCING → CONNECTED.
4. ``calculate_backoff()`` is the ceiling of the delay before the attempt that
   ``attempt_count`` counts: 1, 2, 4, …, 60 s. The supervisor sleeps a random part of
   it (:meth:`Backoff.delay`), because ten thousand clients that lost one server
   together must not come back together.
5. Where nobody listens at all there is nobody to be spared, so the supervisor knocks
   during its sleep and ends it when somebody does (:mod:`._probe`). A knock is no
   attempt: it changes no state, and counts and resets nothing here. A hub, which the ten
   thousand share, is never knocked at.

If you change a state, change ``VALID_TRANSITIONS``, the drawing above, contract C1
and the walk in ``tests/test_states.py`` with it.
"""

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from ._checks import check_positive
from ._errors import ConfigurationError, InvalidTransition


class ConnectionState(enum.Enum):
    """Where the link to the gateway stands. See :data:`VALID_TRANSITIONS`."""

    DISCONNECTED = "disconnected"
    RECONNECTING = "reconnecting"
    SYNCING = "syncing"
    CONNECTED = "connected"


_DISCONNECTED = ConnectionState.DISCONNECTED
_RECONNECTING = ConnectionState.RECONNECTING
_SYNCING = ConnectionState.SYNCING
_CONNECTED = ConnectionState.CONNECTED

#: Every legal change of state, as (from, to).
VALID_TRANSITIONS: Final[frozenset[tuple[ConnectionState, ConnectionState]]] = frozenset(
    {
        (_DISCONNECTED, _RECONNECTING),
        (_RECONNECTING, _SYNCING),
        (_RECONNECTING, _CONNECTED),
        (_RECONNECTING, _DISCONNECTED),
        (_SYNCING, _CONNECTED),
        (_SYNCING, _DISCONNECTED),
        (_CONNECTED, _DISCONNECTED),
        (_CONNECTED, _SYNCING),
    }
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before an attempt to connect. All times in seconds.

    The ceilings are ``initial`` doubling up to ``maximum``: 1, 2, 4, 8, 16, 32, 60,
    60, … With ``jitter`` the delay is drawn evenly between ``floor`` and the ceiling ("full
    jitter"); without it, it is the ceiling itself.

    Attributes:
        initial: the ceiling before the first attempt after a loss.
        maximum: the largest ceiling.
        jitter: draw the delay; switch it off only where nobody else reconnects with you.
        floor: the least that is slept.
        stable_after: a link that lasted this long forgets the attempts before it.
        retry_after_cap: the most that a gateway's ``Retry-After`` is believed.
        random: the source of the jitter; a seeded one gives the same delays again.
    """

    initial: float = 1.0
    maximum: float = 60.0
    jitter: bool = True
    floor: float = 0.25
    stable_after: float = 30.0
    retry_after_cap: float = 300.0
    random: Random | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "floor", "stable_after", "retry_after_cap"):
            check_positive(f"backoff.{name}", getattr(self, name), zero=True)
        if not 0 < self.initial <= self.maximum:
            raise ConfigurationError(
                "backoff.initial", "give a number over 0 that is not over backoff.maximum"
            )

    def ceiling(self, attempt: int) -> float:
        """Return ``min(initial * 2^(attempt - 1), maximum)``; 0 for attempt 0."""
        if attempt < 1:
            return 0.0
        # Past the doubling that reaches the maximum the power would only grow until it overflows.
        doublings = min(attempt - 1, math.ceil(math.log2(self.maximum) - math.log2(self.initial)))
        return min(math.ldexp(self.initial, doublings), self.maximum)

    def delay(self, attempt: int, *, retry_after: float | None = None, source: Random | None = None) -> float:
        """Return the seconds to sleep before this attempt.

        Args:
            attempt: counted from 1.
            retry_after: what the gateway asked for, in seconds. It lengthens the
                delay, never shortens it, up to ``retry_after_cap``.
            source: where the jitter comes from if the backoff has no source of its own.
        """
        delay = self.ceiling(attempt)
        if self.jitter:
            delay = (self.random or source or _SHARED).uniform(self.floor, max(self.floor, delay))
        return max(delay, min(retry_after or 0.0, self.retry_after_cap))


#: Jitter needs to differ between processes and is no secret.
_SHARED: Final = Random()  # noqa: S311


class ReconnectionManager:
    """One connection's state and its count of attempts. Pure and synchronous.

    A new manager is DISCONNECTED with no attempts.

    Args:
        backoff: the policy that :meth:`calculate_backoff` follows.
        clock: a monotonic clock in seconds, used to tell a stable link from a flapping one.
    """

    def __init__(
        self, backoff: Backoff | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.backoff: Final = backoff or Backoff()
        self._clock = clock
        self._state = ConnectionState.DISCONNECTED
        self._attempts = 0
        self._connected_since: float | None = None
        self._attempts_before = 0

    @property
    def state(self) -> ConnectionState:
        """The present state."""
        return self._state

    @property
    def attempt_count(self) -> int:
        """How many attempts were begun since the link was last up and stable; 0 while CONNECTED."""
        return self._attempts

    def transition(self, to: ConnectionState) -> None:
        """Change the state, or change nothing.

        Raises:
            InvalidTransition: the pair is not in :data:`VALID_TRANSITIONS`.
        """
        if (self._state, to) not in VALID_TRANSITIONS:
            legal = sorted(b.name for a, b in VALID_TRANSITIONS if a is self._state)
            raise InvalidTransition(f"{self._state.name} cannot become {to.name}, only {' or '.join(legal)}")
        self._state = to
        if to is ConnectionState.RECONNECTING:
            self._attempts += 1
        elif to is ConnectionState.CONNECTED:
            self._enter_connected()
        elif to is ConnectionState.DISCONNECTED:
            self._enter_disconnected()

    def calculate_backoff(self) -> float:
        """Return the longest delay before the present attempt, in seconds: 1, 2, 4, …, 60; 0 before any."""
        return self.backoff.ceiling(self._attempts)

    def _enter_connected(self) -> None:
        if self._connected_since is None:
            self._connected_since = self._clock()
            self._attempts_before = self._attempts
        self._attempts = 0

    def _enter_disconnected(self) -> None:
        since, self._connected_since = self._connected_since, None
        if since is not None and self._clock() - since < self.backoff.stable_after:
            self._attempts = self._attempts_before

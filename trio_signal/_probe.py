"""Notices that a gateway is back, while the supervisor sleeps before its next attempt.

Theory of operation
===================

The backoff is there to spare a gateway that is in trouble, and to keep many clients apart. Where no
program listens at all, there is nobody to be spared, and a sleep of half a minute is only late. So
during such a sleep somebody knocks: TCP is opened and closed at once, with nothing written. The first
knock that is accepted ends the sleep. It is no attempt, counts nothing and resets nothing.

Three bounds keep that from becoming a backoff of its own:

- It begins only after an attempt that *nobody listened to*. A gateway that answers, however badly, and a
  host that is silent are left to the backoff, and a knock that finds anything else ends the knocking.
- The longer nobody has listened, the rarer it gets: a return is noticed within a sixtieth of the time
  that the gateway was away, so that a week without it is a few hundred knocks and not a million.
- An accepted knock whose attempt fails all the same is followed by a rest of one sleep, then of two, four
  and so on, until a connection has lasted (contract B2).
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ._dial import Knock

#: Which part of the time that nobody has listened for may pass between two knocks.
_PART: Final = 60.0


class Probe:
    """Knocks during the sleeps between attempts.

    Args:
        knock: sees whether somebody listens; takes a bounded time.
        interval: the least time from one knock to the next, in seconds.
    """

    def __init__(self, knock: Callable[[], Awaitable[Knock]], interval: float) -> None:
        self._knock: Final = knock
        self._interval: Final = interval
        self._lost_at = trio.current_time()
        self._rest = 0
        self._next_rest = 1

    def is_due(self, attempt: int, *, nobody_listens: bool) -> bool:
        """Say whether to knock during a sleep. Asked at the beginning of each one.

        Args:
            attempt: which attempt the sleep is before, counted since a connection was last stable.
            nobody_listens: whether that is why the last one failed.
        """
        if attempt <= 1:
            self._lost_at, self._rest, self._next_rest = trio.current_time(), 0, 1
        elif self._rest:
            self._rest -= 1
            return False
        return nobody_listens

    async def wait(self) -> bool:
        """Knock until somebody listens. A checkpoint; cancelling is safe.

        Returns:
            False if there is something else than a place where nobody listens: better leave it alone.
        """
        found = Knock.REFUSED
        await trio.lowlevel.checkpoint()
        while found is Knock.REFUSED:
            away = trio.current_time() - self._lost_at
            await trio.sleep(max(self._interval, away / _PART))
            found = await self._knock()
        if found is Knock.ACCEPTED:
            # Taken back where the connection that follows proves stable.
            self._rest, self._next_rest = self._next_rest, 2 * self._next_rest
        return found is Knock.ACCEPTED

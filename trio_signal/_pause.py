"""How long sending pauses since Signal limits the rate of an account (contract O6). Pure."""

import math
from typing import Final

from ._states import Backoff

#: For a rate limit that names no time: 60 s doubling to 15 min. Less than the floor is not believed: a
#: pause of nothing would let a whole queue run into the same limit.
_PAUSE: Final = Backoff(initial=60.0, maximum=900.0, floor=1.0, retry_after_cap=86_400.0)


class LimitPause:
    """The pause for Signal's rate limits, told of by the results of attempts to send.

    Several messages may be under way when a limit is met. What left before that shows neither that it is
    over nor that it was met again. So each attempt notes as it leaves how many :attr:`limits` were known, and
    its result is told with that number. All times are in seconds of one clock.

    Attributes:
        limits: how often one was met, or the pause for one ended by :meth:`end`.
        in_a_row: how many were met since the last success. Where it is 0, a success need not be noted.
        until: when the pause ends; minus infinity if there was none.
    """

    def __init__(self) -> None:
        self.limits = 0
        self.in_a_row = 0
        self.until = -math.inf
        #: What attempts meet that left when fewer limits were known is over.
        self._over = 0
        #: What was told of the last limit.
        self._challenges: Final[set[tuple[str, ...]]] = set()

    def note_success(self, known: int) -> None:
        """Note that a message was sent which left when so many limits were known."""
        if known == self.limits:
            self.in_a_row = 0

    def note_limit(self, known: int, now: float, *, retry_after: float | None) -> float | None:
        """Note that Signal limited a message which left when so many limits were known.

        Args:
            known: so many.
            now: the time.
            retry_after: for how many seconds the gateway asked, if it did.

        Returns:
            For how many seconds sending pauses; None for a limit that is over (see :meth:`end`).
        """
        if known < self._over:
            return None
        if known == self.limits:
            self.limits += 1
            self.in_a_row += 1
            self._challenges.clear()
        seconds = _PAUSE.ceiling(max(self.in_a_row, 1))
        if retry_after is not None:
            seconds = min(max(retry_after, _PAUSE.floor), _PAUSE.retry_after_cap)
        self.until = max(self.until, now + seconds)
        return seconds

    def is_new_challenge(self, tokens: tuple[str, ...]) -> bool:
        """Say whether there are tokens of a challenge that this limit has not come with before."""
        if not tokens or tokens in self._challenges:
            return False
        self._challenges.add(tokens)
        return True

    def end(self, now: float) -> None:
        """End the pause, since its cause is gone; the next one begins with the shortest again."""
        if self.until > now:
            # What left before meets the old limit, which says nothing about now.
            self.limits += 1
            self._over = self.limits
        self.in_a_row = 0
        self.until = -math.inf

"""A token bucket: how fast messages may leave."""

from dataclasses import dataclass

from ._checks import check_count, check_positive


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``count`` messages in ``per`` seconds on average, ``burst`` at once.

    Signal's own limit is a token bucket of unknown size; the default is far
    above what a person would send and far below what a runaway loop would.

    Attributes:
        count: how many messages are earned in each period.
        per: the length of that period in seconds.
        burst: how many may leave at once after a quiet time.
    """

    count: float
    per: float = 1.0
    burst: int = 1

    def __post_init__(self) -> None:
        check_positive("rate_limit.per", self.per)
        check_count("rate_limit.burst", self.burst)
        check_positive("rate_limit.count", self.count)


class TokenBucket:
    """The state of one rate limit. Pure: the time is given at each call."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit = limit
        self._tokens: float = limit.burst
        self._updated = now

    def delay(self, now: float) -> float:
        """Return how many seconds from ``now`` the next token is there; 0 if one is."""
        self._refill(now)
        # The tolerance keeps rounding from leaving a token a hair short after exactly the delay that we gave.
        if self._tokens >= 1.0 - 1e-9:
            return 0.0
        return (1.0 - self._tokens) * self._limit.per / self._limit.count

    def take(self, now: float) -> None:
        """Use one token. Call it when :meth:`delay` says 0; a debt is repaid by a longer delay."""
        self._refill(now)
        self._tokens -= 1.0

    def give_back(self) -> None:
        """Undo the last :meth:`take`, as nothing left after all."""
        self._tokens = min(self._limit.burst, self._tokens + 1.0)

    def _refill(self, now: float) -> None:
        if now <= self._updated:
            return
        earned = (now - self._updated) * self._limit.count / self._limit.per
        self._tokens = min(self._limit.burst, self._tokens + earned)
        self._updated = now

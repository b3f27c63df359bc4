import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ConfigurationError, RateLimit
from trio_signal._ratelimit import TokenBucket

#: More than rounding can ever make of it, and far less than a message, in tokens.
NOTHING = Fraction(1, 10**6)


class ExactBucket:
    """A token bucket in fractions, which never round."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.rate = Fraction(limit.count) / Fraction(limit.per)
        self.burst = Fraction(limit.burst)
        self.tokens = self.burst
        self.now = Fraction(now)

    def move_to(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (Fraction(now) - self.now) * self.rate)
        self.now = Fraction(now)

    @property
    def delay(self) -> Fraction:
        return max(Fraction(0), (1 - self.tokens) / self.rate)


LIMITS = st.builds(
    RateLimit,
    st.one_of(st.integers(1, 200), st.floats(0.1, 200)),
    per=st.one_of(st.integers(1, 3600), st.floats(0.1, 3600)),
    burst=st.integers(1, 50),
)


@given(
    LIMITS,
    st.floats(0, 1000),
    st.lists(st.tuples(st.sampled_from(["wait", "take", "wait and take"]), st.floats(0, 100)), max_size=60),
)
def test_the_bucket_agrees_with_exact_arithmetic_and_never_gives_too_much(
    limit: RateLimit, start: float, steps: list[tuple[str, float]]
) -> None:
    bucket, exact, now = TokenBucket(limit, start), ExactBucket(limit, start), start
    taken: list[float] = []
    for kind, elapsed in steps:
        if kind == "wait":
            now += elapsed
        elif kind == "wait and take":
            now += bucket.delay(now)
            assert bucket.delay(now) <= 1e-9 * limit.per / limit.count + 1e-9
        exact.move_to(now)
        assert abs(Fraction(bucket.delay(now)) - exact.delay) * exact.rate < NOTHING
        if kind == "wait and take" or (kind == "take" and bucket.delay(now) == 0):
            bucket.take(now)
            exact.tokens -= 1
            assert exact.tokens > -NOTHING
            taken.append(now)
    for first, since in enumerate(taken):
        for last in range(first, len(taken)):
            passed = Fraction(taken[last]) - Fraction(since)
            assert last - first + 1 <= exact.burst + exact.rate * passed + NOTHING


@pytest.mark.parametrize("start", [0.0, 12_345.678, 1e6])
def test_after_the_burst_one_leaves_each_period(start: float) -> None:
    bucket, now = TokenBucket(RateLimit(20, per=1.0, burst=100), start), start
    for _ in range(100):
        assert bucket.delay(now) == 0
        bucket.take(now)
    for n in range(1, 1001):
        delay = bucket.delay(now)
        assert delay == pytest.approx(0.05, rel=1e-5)
        now += delay
        assert now - start == pytest.approx(n / 20, rel=1e-6)
        bucket.take(now)


def test_a_quiet_time_earns_the_burst_and_no_more() -> None:
    bucket = TokenBucket(RateLimit(1, burst=3), 0)
    for now in (0.0, 1e6):
        for _ in range(3):
            assert bucket.delay(now) == 0
            bucket.take(now)
        assert bucket.delay(now) == 1


def test_a_debt_is_repaid_by_a_longer_delay() -> None:
    bucket = TokenBucket(RateLimit(2, per=3), 10)
    for _ in range(4):
        bucket.take(10)
    assert bucket.delay(10) == 6
    assert bucket.delay(13) == 3
    assert bucket.delay(16) == 0


def test_a_clock_that_goes_back_earns_nothing_twice() -> None:
    bucket = TokenBucket(RateLimit(1), 10)
    bucket.take(10)
    assert bucket.delay(10.5) == 0.5
    assert bucket.delay(10) == 0.5
    assert bucket.delay(10.5) == 0.5
    assert bucket.delay(11) == 0


def test_asking_again_and_again_earns_nothing() -> None:
    bucket = TokenBucket(RateLimit(1), 0)
    bucket.take(0)
    for _ in range(100_000):
        bucket.delay(0)
    assert bucket.delay(0) == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": math.nan}, "count"),
        ({"count": math.inf}, "count"),
        ({"count": "20"}, "count"),
        ({"count": None}, "count"),
        ({"count": True}, "count"),
        pytest.param({"count": 10**400}, "count", id="a huge count"),
        ({"count": 1, "per": 0}, "per"),
        ({"count": 1, "per": -0.5}, "per"),
        ({"count": 1, "per": "s"}, "per"),
        ({"count": 1, "burst": 0}, "burst"),
        ({"count": 1, "burst": -1}, "burst"),
        ({"count": 1, "burst": 1.5}, "burst"),
        ({"count": 1, "burst": math.nan}, "burst"),
        pytest.param({"count": 1, "burst": 10**400}, "burst", id="a huge burst"),
    ],
    ids=str,
)
def test_a_wrong_limit_is_refused_by_name(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^rate_limit.{name}: ") as caught:
        RateLimit(**arguments)
    assert caught.value.argument == f"rate_limit.{name}"


def test_a_token_that_is_there_is_there_at_once_and_a_half_one_is_none() -> None:
    bucket = TokenBucket(RateLimit(1, per=1.0, burst=2), 0.0)
    bucket.take(0.0)
    assert [bucket.delay(now) for now in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]
    bucket.take(1.0)
    bucket.take(1.0)
    assert bucket.delay(1.25) == 0.75


@pytest.mark.parametrize("start", [0.0, 12_345.678, 1e6])
@pytest.mark.parametrize("rate", [3, 7.7, 20])
def test_after_exactly_the_delay_that_was_given_a_token_is_there(start: float, rate: float) -> None:
    bucket, now = TokenBucket(RateLimit(rate), start), start
    for _ in range(500):
        now += bucket.delay(now)
        assert bucket.delay(now) == 0.0
        bucket.take(now)


def test_taking_counts_the_time_that_has_passed_whether_or_not_the_delay_was_asked() -> None:
    bucket = TokenBucket(RateLimit(1), 0.0)
    bucket.take(0.0)
    bucket.take(10.0)
    assert bucket.delay(10.0) == 1.0


def test_what_was_given_back_is_there_again_and_never_more_than_a_burst() -> None:
    bucket = TokenBucket(RateLimit(1, per=10.0, burst=2), 0.0)
    bucket.take(0.0)
    bucket.take(0.0)
    bucket.give_back()
    assert bucket.delay(0.0) == 0.0
    bucket.take(0.0)
    assert bucket.delay(0.0) == 10.0
    # By now all has been earned again, so there is nothing to give back.
    bucket.take(100.0)
    assert bucket.delay(200.0) == 0.0
    bucket.give_back()
    bucket.take(200.0)
    bucket.take(200.0)
    assert bucket.delay(200.0) == 10.0

import itertools
import math
from collections import Counter
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import (
    VALID_TRANSITIONS,
    Backoff,
    ConfigurationError,
    ConnectionState,
    InvalidTransition,
    ReconnectionManager,
)

STATES = tuple(ConnectionState)
DISCONNECTED, RECONNECTING, SYNCING, CONNECTED = STATES

# Contract C1, written out by hand.
LEGAL = {
    DISCONNECTED: {RECONNECTING},
    RECONNECTING: {SYNCING, CONNECTED, DISCONNECTED},
    SYNCING: {CONNECTED, DISCONNECTED},
    CONNECTED: {DISCONNECTED, SYNCING},
}

# Never so long, and never so short, as "stable" by itself.
STABLE = 30.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


History = list[tuple[ConnectionState, float]]


def count_from_history(history: History, stable_after: float) -> int:
    """Count the attempts by looking at everything that ever happened: the naive model."""
    attempts = 0
    up_since: float | None = None
    for state, time in history:
        if state is RECONNECTING:
            attempts += 1
        elif state is CONNECTED and up_since is None:
            up_since = time
        elif state is DISCONNECTED:
            if up_since is not None and time - up_since >= stable_after:
                attempts = 0
            up_since = None
    return attempts if up_since is None else 0


def walk(
    manager: ReconnectionManager, clock: Clock, steps: tuple[tuple[ConnectionState, float], ...]
) -> None:
    """Ask for each change after the given time, and compare with the model after each."""
    state, history = DISCONNECTED, History()
    for target, elapsed in steps:
        clock.now += elapsed
        if target in LEGAL[state]:
            manager.transition(target)
            state = target
            history.append((target, clock.now))
        else:
            with pytest.raises(InvalidTransition, match=f"{state.name} cannot become {target.name}"):
                manager.transition(target)
        assert manager.state is state
        assert manager.attempt_count == count_from_history(history, STABLE)
        count = manager.attempt_count
        assert manager.calculate_backoff() == (min(2.0 ** (count - 1), 60.0) if count else 0.0)


@pytest.mark.contract("C1")
def test_the_table_holds_exactly_the_legal_changes() -> None:
    by_hand = {(a, b) for a, targets in LEGAL.items() for b in targets}
    assert by_hand == VALID_TRANSITIONS
    assert [state.name for state in STATES] == ["DISCONNECTED", "RECONNECTING", "SYNCING", "CONNECTED"]


def test_a_new_manager_is_disconnected_and_has_counted_nothing() -> None:
    manager = ReconnectionManager()
    assert manager.state is DISCONNECTED
    assert manager.attempt_count == 0
    assert manager.calculate_backoff() == 0
    assert manager.backoff == Backoff()


@pytest.mark.contract("C1", "B1", "B2")
def test_every_sequence_of_six_changes_does_what_the_table_says() -> None:
    for targets in itertools.product(STATES, repeat=6):
        clock = Clock()
        walk(ReconnectionManager(clock=clock), clock, tuple((target, 1.0) for target in targets))


def legal_walks(length: int) -> list[tuple[ConnectionState, ...]]:
    """Return every walk of that length that begins in DISCONNECTED and is legal."""
    walks: list[tuple[ConnectionState, ...]] = [()]
    for _ in range(length):
        walks = [(*w, b) for w in walks for b in sorted(LEGAL[(DISCONNECTED, *w)[-1]], key=STATES.index)]
    return walks


@pytest.mark.contract("C1", "B1", "B2")
def test_every_legal_walk_with_every_pause_around_the_stable_time_counts_as_the_history_says() -> None:
    # A pause only matters for how long a link lasted, so two lengths of it and their sum decide everything.
    for targets in legal_walks(7):
        for pauses in itertools.product((0.0, STABLE / 2), repeat=6):
            clock = Clock()
            walk(ReconnectionManager(clock=clock), clock, tuple(zip(targets, (0.0, *pauses), strict=True)))


@given(
    st.lists(
        st.tuples(st.sampled_from(STATES), st.sampled_from([0.0, 1.0, 14.5, 29.999, 30.0, 31.0, 1e6])),
        max_size=40,
    )
)
@pytest.mark.contract("C1", "B1", "B2")
def test_long_walks_count_as_the_history_says(steps: list[tuple[ConnectionState, float]]) -> None:
    clock = Clock()
    walk(ReconnectionManager(clock=clock), clock, tuple(steps))


@pytest.mark.contract("C1")
@pytest.mark.parametrize("state", STATES, ids=lambda s: s.name)
def test_an_illegal_change_names_what_would_be_legal(state: ConnectionState) -> None:
    manager = ReconnectionManager(clock=Clock())
    for step in {DISCONNECTED: (), RECONNECTING: (RECONNECTING,), SYNCING: (RECONNECTING, SYNCING)}.get(
        state, (RECONNECTING, CONNECTED)
    ):
        manager.transition(step)
    with pytest.raises(InvalidTransition) as caught:
        manager.transition(state)
    assert isinstance(caught.value, ValueError)
    named = str(caught.value).split(", only ")[1].split(" or ")
    assert named == sorted(other.name for other in LEGAL[state])


@pytest.mark.contract("B2")
@pytest.mark.parametrize(("lasted", "attempts"), [(0.0, 4), (29.999, 4), (30.0, 1), (86_400.0, 1)])
def test_only_a_stable_link_forgets_the_attempts_before_it(lasted: float, attempts: int) -> None:
    clock = Clock()
    manager = ReconnectionManager(clock=clock)
    for _ in range(2):
        manager.transition(RECONNECTING)
        manager.transition(DISCONNECTED)
    manager.transition(RECONNECTING)
    manager.transition(SYNCING)
    manager.transition(CONNECTED)
    assert manager.attempt_count == 0
    clock.now += lasted / 2
    # Fetching state again is no new link: its time goes on.
    manager.transition(SYNCING)
    manager.transition(CONNECTED)
    clock.now += lasted / 2
    manager.transition(DISCONNECTED)
    manager.transition(RECONNECTING)
    assert manager.attempt_count == attempts


def test_the_stable_time_is_the_backoffs() -> None:
    clock = Clock()
    manager = ReconnectionManager(Backoff(stable_after=0.0), clock=clock)
    for _ in range(3):
        manager.transition(RECONNECTING)
        manager.transition(CONNECTED)
        manager.transition(DISCONNECTED)
        assert manager.attempt_count == 0


# --- Backoff ---


@pytest.mark.contract("B1")
def test_the_ceilings_double_from_one_second_to_sixty() -> None:
    backoff = Backoff()
    assert [backoff.ceiling(n) for n in range(1, 12)] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert [backoff.ceiling(n) for n in (0, -1, -10_000)] == [0, 0, 0]


@pytest.mark.contract("B1")
def test_the_managers_ceilings_are_the_backoffs() -> None:
    manager = ReconnectionManager(clock=Clock())
    seen: list[float] = []
    for _ in range(9):
        manager.transition(RECONNECTING)
        seen.append(manager.calculate_backoff())
        manager.transition(DISCONNECTED)
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert manager.attempt_count == 9


@pytest.mark.contract("B1")
def test_the_ten_thousandth_attempt_overflows_nothing() -> None:
    assert Backoff().ceiling(10_000) == 60
    assert Backoff(initial=1e-3, maximum=1e9).ceiling(10_000) == 1e9
    assert Backoff(initial=5e-324, maximum=1e9).ceiling(10_000) == 1e9
    assert 0.25 <= Backoff(random=Random(1)).delay(10_000) <= 60


@pytest.mark.contract("B1")
def test_without_jitter_the_sleep_is_exactly_the_ceiling() -> None:
    backoff = Backoff(jitter=False)
    assert [backoff.delay(n) for n in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert Backoff(initial=0.01, jitter=False).delay(1) == 0.01


@given(
    st.floats(1e-3, 1e3),
    st.floats(1.0, 1e6),
    st.integers(0, 10_000),
)
@pytest.mark.contract("B1")
def test_a_ceiling_is_the_exact_power_of_two_or_the_maximum(
    initial: float, factor: float, attempt: int
) -> None:
    backoff = Backoff(initial=initial, maximum=initial * factor)
    exact = min(Fraction(initial) * 2 ** (attempt - 1), Fraction(backoff.maximum)) if attempt else Fraction(0)
    assert backoff.ceiling(attempt) == pytest.approx(float(exact), rel=1e-12)
    assert backoff.ceiling(attempt) <= backoff.maximum


@given(st.integers(0, 2**64), st.integers(1, 60), st.floats(0, 2))
@pytest.mark.contract("B1")
def test_jitter_stays_between_the_floor_and_the_ceiling(seed: int, attempt: int, floor: float) -> None:
    backoff = Backoff(floor=floor, random=Random(seed))
    for _ in range(5):
        assert floor <= backoff.delay(attempt) <= max(floor, backoff.ceiling(attempt))


@pytest.mark.contract("B1")
def test_jitter_uses_the_whole_range_evenly() -> None:
    backoff = Backoff(random=Random(7))
    delays = [backoff.delay(6) for _ in range(8000)]
    eighths = Counter(int(delay / 4) for delay in delays)
    assert set(eighths) == set(range(8))
    assert all(850 < count < 1150 for count in eighths.values())


@pytest.mark.contract("B6")
def test_one_seed_gives_one_sequence() -> None:
    attempts = range(1, 50)
    one, same, other = (
        [backoff.delay(n) for n in attempts] for backoff in (Backoff(random=Random(s)) for s in (1, 1, 2))
    )
    assert one == same != other


@pytest.mark.contract("B6")
def test_a_backoffs_own_source_goes_before_the_callers() -> None:
    own, callers = (Backoff(random=Random(seed)).delay(6) for seed in (1, 2))
    assert Backoff(random=Random(1)).delay(6, source=Random(2)) == own
    assert Backoff().delay(6, source=Random(2)) == callers != own


@pytest.mark.contract("B6")
def test_without_any_source_the_delays_differ() -> None:
    assert len({Backoff().delay(7) for _ in range(20)}) > 10


@given(
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.one_of(st.none(), st.floats(-10, 1e9), st.just(math.inf), st.just(math.nan)),
    st.booleans(),
)
@pytest.mark.contract("B3")
def test_retry_after_lengthens_and_never_shortens_up_to_its_cap(
    seed: int, attempt: int, retry_after: float | None, jitter: bool
) -> None:
    plain = Backoff(jitter=jitter, random=Random(seed)).delay(attempt)
    asked = Backoff(jitter=jitter, random=Random(seed)).delay(attempt, retry_after=retry_after)
    assert plain <= asked <= 300
    if retry_after is None or math.isnan(retry_after) or retry_after <= plain:
        assert asked == plain
    else:
        assert asked == min(retry_after, 300)


@pytest.mark.contract("B3")
def test_the_cap_of_retry_after_never_shortens_the_delay_either() -> None:
    backoff = Backoff(jitter=False, retry_after_cap=5)
    assert backoff.delay(7, retry_after=1000) == 60
    assert backoff.delay(1, retry_after=1000) == 5


@pytest.mark.parametrize("name", ["initial", "maximum", "floor", "stable_after", "retry_after_cap"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, -math.inf, 10**400, "1", None])
def test_a_number_of_seconds_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"backoff.{name}") as caught:
        Backoff(**{name: value})
    assert caught.value.argument == f"backoff.{name}"


@pytest.mark.parametrize(("initial", "maximum"), [(0, 60), (61, 60), (0, 0)])
def test_the_first_ceiling_lies_between_nothing_and_the_last(initial: float, maximum: float) -> None:
    with pytest.raises(ConfigurationError, match=r"backoff\.initial"):
        Backoff(initial=initial, maximum=maximum)


def test_a_backoff_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Backoff().initial = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# --- A gateway that flaps ---


def attempts_in(seconds: float, *, lasts: float, seed: int) -> int:
    """Count the attempts against a gateway that accepts each and closes it after ``lasts`` seconds."""
    clock = Clock()
    manager = ReconnectionManager(Backoff(random=Random(seed)), clock=clock)
    end = clock.now + seconds
    delay, attempts = 0.0, 0
    while True:
        manager.transition(RECONNECTING)
        clock.now += delay
        if clock.now > end:
            return attempts
        attempts += 1
        manager.transition(SYNCING)
        manager.transition(CONNECTED)
        clock.now += lasts
        manager.transition(DISCONNECTED)
        delay = manager.backoff.delay(manager.attempt_count + 1)


@pytest.mark.contract("B2")
@pytest.mark.parametrize("lasts", [0.0, 1.0, 29.9])
def test_a_flapping_gateway_meets_at_most_forty_attempts_in_ten_minutes(lasts: float) -> None:
    counts = [attempts_in(600, lasts=lasts, seed=seed) for seed in range(500)]
    assert max(counts) <= 40
    assert min(counts) >= 10

"""When all that waited has come: by the server's clock, by ours, by a pause, by the limit."""

import json
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal.gateways._backlog import LONGEST, Backlog

NOW: Final = 1_795_302_674_000
DAY: Final = 86_400_000
BEGUN: Final = 50.0


def make(*, wall: int = NOW, serves_all: bool = False) -> Backlog:
    return Backlog(BEGUN, wall, quiet_time=5.0, serves_all=serves_all)


def frame(received: int | None, delivered: int | None = None) -> bytes:
    stamps = {"serverReceivedTimestamp": received, "serverDeliveredTimestamp": delivered}
    return json.dumps(
        {"envelope": {key: value for key, value in stamps.items() if value is not None}}
    ).encode()


def over_after(backlog: Backlog, events: Sequence[tuple[float, bytes | None]]) -> int | None:
    """How many events were taken, each at its second, until it was over."""
    for number, (at, event) in enumerate(events, 1):
        backlog.take(event, BEGUN + at)
        if backlog.is_over:
            return number
    return None


@pytest.mark.contract("C3")
@pytest.mark.parametrize("wall", [NOW, 0, NOW - 3_600_000, NOW + 3_600_000])
@pytest.mark.parametrize("copies", [0, 1, 20])
def test_neither_our_clock_nor_old_copies_decide_where_the_server_tells(wall: int, copies: int) -> None:
    # Copies from before a crash: received and delivered a day ago, a second apart, and all given at once.
    old = [(0.01 * n, frame(NOW - DAY + 1000 * n, NOW - DAY + 1000 * n + 200)) for n in range(1, copies + 1)]
    waited = [(1 + 0.1 * n, frame(NOW - 60_000 + n, NOW + 1000 + 100 * n)) for n in range(100)]
    new = [(12.0 + n, frame(NOW + 12_000 + 1000 * n, NOW + 12_000 + 1000 * n)) for n in range(3)]
    # Only after the last of what waited, and then at once.
    assert over_after(make(wall=wall), [*old, *waited, *new]) == copies + 100 + 1


@pytest.mark.contract("C3")
@pytest.mark.parametrize("delays", [(300, 200, 100, 250), (100, 200, 300, 400)])
def test_a_message_that_is_the_newest_word_about_the_time_proves_nothing(delays: Sequence[int]) -> None:
    """Of new messages with nothing waiting, the first that took longer than one before it ends it."""
    events = [
        ((1000 * n + delay) / 1000, frame(NOW + 1000 * n, NOW + 1000 * n))
        for n, delay in enumerate(delays, 1)
    ]
    assert over_after(make(), events) == (4 if delays[0] == 300 else 2)


@pytest.mark.contract("C3")
def test_what_was_received_in_the_millisecond_of_connecting_had_waited() -> None:
    assert over_after(make(), [(0, frame(1, NOW)), (1, frame(NOW)), (1, frame(NOW + 1))]) == 3


@pytest.mark.contract("C3")
def test_our_clock_decides_only_where_the_server_tells_nothing() -> None:
    assert over_after(make(), [(0, frame(NOW)), (1, frame(NOW + 1))]) == 2
    told = (0.0, frame(1, NOW))
    assert over_after(make(wall=NOW - 1000), [told, (1, frame(NOW)), (2, frame(NOW + 1))]) == 3
    assert over_after(make(wall=NOW + 1000), [told, (1, frame(NOW)), (2, frame(NOW + 1))]) == 3


@pytest.mark.contract("C3")
def test_each_event_that_may_have_waited_begins_the_pause_anew() -> None:
    backlog = make()
    assert backlog.ends_at == BEGUN + 5
    for at, event in [(1.0, frame(NOW - 1)), (2.0, None), (3.0, b"no json"), (4.0, frame(1, NOW))]:
        backlog.take(event, BEGUN + at)
        assert backlog.ends_at == BEGUN + at + 5
        assert not backlog.is_over


@pytest.mark.contract("C3")
def test_of_several_accounts_a_new_message_only_prolongs_nothing() -> None:
    backlog = make(serves_all=True)
    backlog.take(frame(1, NOW), BEGUN)
    backlog.take(frame(NOW + 1000, NOW + 900), BEGUN + 1)
    assert not backlog.is_over
    assert backlog.ends_at == BEGUN + 5
    backlog.take(frame(2, NOW + 2000), BEGUN + 2)
    assert backlog.ends_at == BEGUN + 7


@pytest.mark.contract("C3")
@pytest.mark.parametrize("event", [None, b"[]", frame(None), frame(NOW), frame(None, NOW - DAY)])
def test_what_is_not_proven_to_have_waited_holds_nothing_up_for_ever(event: bytes | None) -> None:
    backlog = make(wall=NOW + DAY)
    for at in range(700):
        backlog.take(event, BEGUN + at)
        assert backlog.ends_at == BEGUN + min(at + 5, LONGEST)


@pytest.mark.contract("C3")
def test_what_is_proven_to_have_waited_is_waited_for_however_long() -> None:
    backlog = make()
    for at in range(0, 7200, 4):
        backlog.take(frame(NOW - DAY, NOW + 1000 * at), BEGUN + at)
    assert backlog.ends_at == BEGUN + 7196 + 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["envelope", "serverReceivedTimestamp", "serverDeliveredTimestamp", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@pytest.mark.contract("R7")
@given(
    st.lists(st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()), max_size=5),
    st.booleans(),
)
def test_it_looks_at_anything_and_never_raises(frames: list[bytes], serves_all: bool) -> None:
    backlog = make(serves_all=serves_all)
    for number, data in enumerate(frames):
        was_over = backlog.is_over
        backlog.take(data, BEGUN + number)
        assert backlog.is_over or not was_over
        assert BEGUN + 5 <= backlog.ends_at <= BEGUN + number + 5


@pytest.mark.contract("R7")
@pytest.mark.parametrize("stamp", [-1, -(10**400), 1 << 53 | 1, 10**400, 1.5, True])
@pytest.mark.parametrize("key", ["serverReceivedTimestamp", "serverDeliveredTimestamp"])
def test_what_is_no_time_is_as_good_as_none(key: str, stamp: float) -> None:
    backlog = make()
    backlog.take(json.dumps({"envelope": {key: stamp}}).encode(), BEGUN + 1)
    assert not backlog.is_over
    assert backlog.ends_at == BEGUN + 6


@pytest.mark.contract("C3")
def test_when_we_connected_is_told_to_the_millisecond_however_long_ago_it_was() -> None:
    told = (100.0, frame(1, NOW + 100_000))
    assert over_after(make(), [told, (100.0, frame(NOW))]) is None
    assert over_after(make(), [told, (100.0, frame(NOW + 1))]) == 2


@pytest.mark.contract("C3")
def test_ten_minutes_after_the_last_that_had_waited_nothing_else_has() -> None:
    backlog = make()
    for at in range(1, 700):
        backlog.take(None, BEGUN + at)
    assert backlog.ends_at == BEGUN + 600

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ConfigurationError, Cursor, Gap, GapReason
from trio_signal._continuity import Position, cursor_at


@pytest.mark.contract("R4")
def test_a_gaps_reason_compares_equal_to_its_word() -> None:
    assert [reason.value for reason in GapReason] == [
        "gateway",
        "stalled",
        "overflow",
        "epoch_changed",
        "expired",
        "overwritten",
    ]
    assert Gap(GapReason.GATEWAY, 1, 2) == Gap(GapReason("gateway"), 1, 2)
    assert Gap(GapReason.STALLED, 1, 2).reason == "stalled"


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
@pytest.mark.contract("R4")
def test_a_gap_extended_reaches_over_both_stretches(
    since: int, until: int, more_since: int, more_until: int
) -> None:
    gap = Gap(GapReason.OVERFLOW, since, until, first=3, last=4, count=2)
    extended = gap.extended(since=more_since, until=more_until, count=5)
    assert extended == Gap(
        GapReason.OVERFLOW, min(since, more_since), max(until, more_until), first=3, last=4, count=7
    )


@pytest.mark.parametrize(
    ("one", "other", "total"), [(1, 2, 3), (None, 2, None), (1, None, None), (None, None, None)]
)
def test_a_count_that_nobody_knows_stays_unknown(
    one: int | None, other: int | None, total: int | None
) -> None:
    assert Gap(GapReason.OVERFLOW, 1, 2, count=one).extended(since=1, until=2, count=other).count == total


@pytest.mark.parametrize("time", ["yesterday", 1795302674.5, -1, True, None])
def test_a_cursor_whose_time_is_none_is_refused(time: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^cursor\.time: ") as caught:
        Cursor(time)
    assert caught.value.argument == "cursor.time"


@pytest.mark.parametrize(
    ("epoch", "sequence", "argument"),
    [
        ("e", None, "cursor.epoch"),
        (None, 5, "cursor.epoch"),
        ("", 5, "cursor.epoch"),
        ("x" * 201, 5, "cursor.epoch"),
        (5, 5, "cursor.epoch"),
        ("\ud800", 5, "cursor.epoch"),
        ("e", -1, "cursor.sequence"),
        ("e", 2**53 + 1, "cursor.sequence"),
        ("e", True, "cursor.sequence"),
        ("e", 5.0, "cursor.sequence"),
        ("e", "5", "cursor.sequence"),
    ],
)
@pytest.mark.contract("R5")
def test_a_cursor_whose_place_is_none_is_refused(epoch: Any, sequence: Any, argument: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{argument}: ") as caught:
        Cursor(1, epoch, sequence)
    assert caught.value.argument == argument


@pytest.mark.contract("R5")
def test_a_cursor_knows_its_place() -> None:
    assert Cursor(5).position is None
    assert Cursor(5, "e", 0).position == Position("e", 0)
    assert cursor_at(5, None) == Cursor(5)
    assert cursor_at(5, Position("e", 2**53)) == Cursor(5, "e", 2**53)


def test_gaps_and_cursors_cannot_be_changed() -> None:
    assert Cursor(5) == Cursor(5, None, None)
    with pytest.raises(AttributeError):
        Cursor(5).time = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError):
        Gap(GapReason.GATEWAY, 1, 2).since = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_longest_name_of_a_numbering_and_one_that_is_longer() -> None:
    assert Cursor(1, "x" * 200, 1).epoch == "x" * 200
    with pytest.raises(ConfigurationError, match="1 to 200 characters"):
        Cursor(1, "x" * 201, 1)

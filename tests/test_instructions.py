"""What `tests.instructions` makes of what was counted; to count takes too long for a test."""

import pytest

from tests.hot_paths import COUNTS, MARKS
from tests.instructions import Counts, compare, per_item

VERSIONS = {"python": "3.11.7", "valgrind": "3.19.0"}


def counts(python: str = "3.11.7", **instructions: int) -> Counts:
    return Counts({**VERSIONS, "python": python}, instructions)


BEFORE = counts(reference=1_000, send=10_000, decode=500)


def test_a_twentieth_more_is_let_pass_and_more_is_not() -> None:
    assert not any("TOO MUCH" in line for line in compare(counts(reference=1_000, send=10_490), BEFORE))
    [line] = compare(counts(reference=1_000, send=10_510), BEFORE)
    assert line.startswith("TOO MUCH: send")
    assert "+5.1% (at most +5%)" in line


def test_what_a_machine_makes_of_everything_is_no_change() -> None:
    slower = counts("3.13.1", reference=1_300, send=13_000, decode=650)
    assert [line.partition(";")[2] for line in compare(slower, BEFORE)] == [" +0.0% (at most +15%)"] * 2


def test_with_other_versions_more_is_let_pass() -> None:
    assert not any(
        "TOO MUCH" in line for line in compare(counts("3.13.1", reference=1_000, send=11_400), BEFORE)
    )
    [line] = compare(counts("3.13.1", reference=1_000, send=11_600), BEFORE)
    assert line.startswith("TOO MUCH: send")


def test_what_was_not_counted_before_is_told() -> None:
    [line] = compare(counts(reference=1_000, broadcast=7), BEFORE)
    assert line.endswith("not counted before")


def test_an_item_is_what_twice_as_many_have_more() -> None:
    # A start of 100 that both have, and 7 for each item.
    counted = [999_999, 100 + 7 * 10, 100 + 7 * 20, 55, 100 + 3 * 5, 100 + 3 * 10, 1]
    assert per_item(counted, {"a": 10, "b": 5}) == {"a": 7, "b": 3}


def test_marks_that_were_not_seen_are_an_error() -> None:
    with pytest.raises(ValueError, match="only 4 marks"):
        per_item([1] * 4, COUNTS)
    assert len(per_item([1] * len(COUNTS) * MARKS, COUNTS)) == len(COUNTS)

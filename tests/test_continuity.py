import itertools
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ConfigurationError, Cursor, Gap, GapReason, ReceivedMessage
from trio_signal._continuity import DuplicateFilter, Position, cursor_at
from trio_signal._envelopes import decode_frame


class NaiveFilter:
    """A list of the last keys that were new."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys: list[Hashable] = []

    def is_new(self, key: Hashable) -> bool:
        if key in self.keys:
            return False
        self.keys = [*self.keys, key][-self.size :]
        return True


@given(st.integers(1, 6), st.lists(st.integers(0, 9), max_size=60))
@pytest.mark.contract("R6")
def test_the_filter_agrees_with_a_list(size: int, keys: list[int]) -> None:
    duplicates, naive = DuplicateFilter(size), NaiveFilter(size)
    for key in keys:
        assert duplicates.is_new(key) == naive.is_new(key)
        assert len(duplicates) == len(naive.keys) == len(duplicates._seen) <= size


@pytest.mark.contract("R6")
def test_every_short_sequence_of_keys_agrees_with_a_list() -> None:
    for size in (1, 2, 3):
        for keys in itertools.product(range(4), repeat=6):
            duplicates, naive = DuplicateFilter(size), NaiveFilter(size)
            assert [duplicates.is_new(key) for key in keys] == [naive.is_new(key) for key in keys]


@pytest.mark.contract("R6")
def test_keys_with_the_same_timestamp_are_told_apart() -> None:
    # The last two have no timestamp; one of them is what another is found by.
    keys = [
        ("me", "ada", 1, 5, "message"),
        ("me", "bea", 1, 5, "message"),
        ("me", "ada", 1, 6, "message"),
        (b"",),
        5,
    ]
    for size in (1, 2, 3):
        for sequence in itertools.product(keys, repeat=6):
            duplicates, naive = DuplicateFilter(size), NaiveFilter(size)
            for key in sequence:
                # Another object that is equal, as it comes from another frame.
                again = (*key[:1], *key[1:]) if isinstance(key, tuple) else key
                assert duplicates.is_new(again) == naive.is_new(key)
                assert [each in duplicates for each in keys] == [each in naive.keys for each in keys]
            assert len(duplicates) == len(naive.keys)


@pytest.mark.contract("R6")
def test_the_memory_is_bounded_over_a_long_time() -> None:
    duplicates = DuplicateFilter()
    assert all(duplicates.is_new(n) for n in range(50_000))
    assert len(duplicates) == len(duplicates._seen) == 10_000
    assert not any(duplicates.is_new(n) for n in range(40_000, 50_000))
    assert duplicates.is_new(39_999)


def test_a_filter_of_no_size_still_answers() -> None:
    duplicates = DuplicateFilter(0)
    assert duplicates.is_new("a")
    assert duplicates.is_new("b")


def frame(
    *,
    account: str = "+15550001",
    sender: str = "+15550002",
    device: int = 1,
    timestamp: int = 5,
    kind: str = "",
) -> bytes:
    content = kind or '"dataMessage":{"message":"hello"}'
    return (
        f'{{"envelope":{{"source":"{sender}","sourceNumber":"{sender}","sourceDevice":{device},'
        f'"timestamp":{timestamp},{content}}},"account":"{account}"}}'
    ).encode()


@pytest.mark.contract("R6")
def test_account_sender_device_timestamp_and_kind_tell_messages_apart() -> None:
    frames = [
        frame(),
        frame(account="+15550009"),
        frame(sender="+15550003"),
        frame(device=2),
        frame(timestamp=6),
        frame(kind='"receiptMessage":{"when":5,"isDelivery":true,"timestamps":[5]}'),
        frame(kind='"typingMessage":{"action":"STARTED","timestamp":5}'),
    ]
    messages = [m for m in map(decode_frame, frames) if isinstance(m, ReceivedMessage)]
    assert len(messages) == len(frames)
    duplicates = DuplicateFilter()
    assert all(m.duplicate_key is not None and duplicates.is_new(m.duplicate_key) for m in messages)
    assert not any(duplicates.is_new(m.duplicate_key) for m in messages)


# --- Gaps and cursors ---


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

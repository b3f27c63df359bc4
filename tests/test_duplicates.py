"""Which messages have come before: by keys, and by messages."""

import itertools
import json
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ReceivedMessage
from trio_signal._decoding import decode_frame
from trio_signal._duplicates import DuplicateFilter, MessageFilter
from trio_signal._envelopes import LONGEST_KEY, Decoded


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
        assert len(duplicates) == len(naive.keys) == len(duplicates._seen) - 1 <= size


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
    assert len(duplicates) == len(duplicates._seen) - 1 == 10_000
    assert not any(duplicates.is_new(n) for n in range(40_000, 50_000))
    assert duplicates.is_new(39_999)


def test_a_filter_of_no_size_still_answers() -> None:
    duplicates = DuplicateFilter(0)
    assert duplicates.is_new("a")
    assert duplicates.is_new("b")


@given(
    st.integers(1, 6), st.lists(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=8), max_size=20)
)
@pytest.mark.contract("R6")
def test_keys_that_come_in_one_are_told_apart_as_if_they_came_one_by_one(
    size: int, reads: list[list[int | None]]
) -> None:
    # With room for all of them nothing is forgotten; with less no more is remembered than one read besides.
    duplicates, narrow, naive = DuplicateFilter(200), DuplicateFilter(size), NaiveFilter(200)
    for keys in reads:
        wanted = [key for key in keys if key is None or naive.is_new(key)]
        assert list(duplicates.new_of(keys, keys)) == wanted
        assert set(narrow.new_of(keys, keys)) >= set(wanted)
        assert len(narrow) == len(list(narrow)) == len(narrow._seen) - 1 < size + 8
        assert len(narrow._order) <= len(narrow), "what is empty is kept"
    assert list(duplicates) == naive.keys
    assert all(key in duplicates for key in naive.keys)


@pytest.mark.contract("R6")
def test_an_empty_number_is_nobody() -> None:
    messages = MessageFilter()

    def said_by(source: str, timestamp: int) -> Decoded:
        data = {"timestamp": timestamp, "message": "hello"}
        envelope = {"source": source, "sourceNumber": "", "timestamp": timestamp, "dataMessage": data}
        return decode_frame(json.dumps({"account": "+15550001", "envelope": envelope}))

    for source, timestamp, is_new in [("ada", 5, 1), ("ada", 5, 0), ("", 1, 1), ("ada", 5, 0), ("bea", 5, 1)]:
        assert len(messages.new_of([said_by(source, timestamp)])) == is_new


@given(st.integers(1, 6), st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=20))
@pytest.mark.contract("R6")
def test_the_last_keys_are_remembered_however_they_came(size: int, reads: list[list[int]]) -> None:
    duplicates = DuplicateFilter(size)
    told: list[int] = []
    for keys in reads:
        for key in duplicates.new_of(keys, keys):
            assert key not in told[-size:]
            told.append(key)


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


# --- By messages ---


def said(
    *,
    account: str | None = "+15550001",
    sender: str | None = "+15550002",
    device: int | None = 1,
    timestamp: int | None = 5,
    inner: int | None = None,
    kind: str = "message",
    group: str | None = None,
    padding: int = 0,
) -> ReceivedMessage:
    """A message of one of all kinds that there are, as a gateway tells it."""
    data: dict[str, object] = {"timestamp": inner}
    if group is not None:
        data["groupInfo"] = {"groupId": group, "type": "DELIVER"}
    if kind == "reaction":
        data["reaction"] = {"emoji": "x"}
    elif kind in {"message", "both", "story", "exception"}:
        data["message"] = "hello"
    contents: dict[str, dict[str, object]] = {
        "receipt": {"receiptMessage": {"when": 5, "timestamps": [5]}},
        "typing": {"typingMessage": {"action": "STARTED", "groupId": group}},
        "both": {"dataMessage": data, "typingMessage": {"groupId": group}},
        "story": {"dataMessage": data, "storyMessage": {"groupId": group}},
        "sync": {"syncMessage": {"sentMessage": data | {"destination": "+15550003"}}},
        "edit": {"editMessage": {"targetSentTimestamp": 4, "dataMessage": data}},
    }
    envelope: dict[str, object] = {"sourceUuid": sender, "sourceDevice": device, "timestamp": timestamp}
    envelope |= contents.get(kind, {"dataMessage": data})
    frame: dict[str, object] = {"envelope": envelope, "account": account, "padding": "x" * padding}
    if kind == "exception":
        frame["exception"] = {"message": "no session", "type": "InvalidMessageException"}
    message = decode_frame(json.dumps(frame))
    assert isinstance(message, ReceivedMessage)
    return message


KINDS = ("message", "reaction", "receipt", "typing", "both", "story", "sync", "edit", "exception")
TIMES = st.sampled_from([None, 0, 5, 6, -1, 2**63 - 1, 2**63, 2**64 - 1])
MESSAGES = st.builds(
    said,
    account=st.sampled_from([None, "+15550001"]),
    sender=st.sampled_from([None, "+15550002", "x" * 2 * LONGEST_KEY]),
    device=st.sampled_from([None, 1, 2]),
    timestamp=TIMES,
    inner=TIMES,
    kind=st.sampled_from(KINDS),
    group=st.sampled_from([None, "group", "y" * 2 * LONGEST_KEY]),
    padding=st.sampled_from([0, 0, 0, 2 * LONGEST_KEY]),
)


def by_keys(naive: NaiveFilter, events: Sequence[Decoded]) -> list[Decoded]:
    """Return those of which no message with the same key is known, as R6 says it."""
    keys = [event.duplicate_key if isinstance(event, ReceivedMessage) else None for event in events]
    return [event for event, key in zip(events, keys, strict=True) if key is None or naive.is_new(key)]


@given(st.lists(st.lists(MESSAGES, max_size=6), max_size=6))
@pytest.mark.contract("R6")
def test_messages_are_told_apart_by_their_keys(reads: list[list[Decoded]]) -> None:
    messages, naive = MessageFilter(), NaiveFilter(1_000)
    for read in reads:
        events = [*read, decode_frame(b"no message")]
        assert list(messages.new_of(events)) == by_keys(naive, events)
        assert list(messages.new_of(read)) == by_keys(naive, read)


@pytest.mark.contract("R6")
@pytest.mark.parametrize("at_once", [True, False])
def test_every_kind_in_every_place_is_told_from_all_others(at_once: bool) -> None:
    ways = itertools.product(
        KINDS, (None, "group"), (None, 6), (0, 2 * LONGEST_KEY), ("+15550002", "x" * 2 * LONGEST_KEY)
    )
    events: list[Decoded] = [
        said(kind=kind, group=group, inner=inner, padding=padding, sender=sender)
        for kind, group, inner, padding, sender in ways
    ]
    messages, naive = MessageFilter(), NaiveFilter(10_000)
    for again in (events, events):
        if at_once:
            assert list(messages.new_of(again)) == by_keys(naive, again)
            continue
        for event in again:
            assert list(messages.new_of([event])) == by_keys(naive, [event])


@pytest.mark.contract("R6")
def test_what_differs_in_one_thing_is_another_message() -> None:
    ways: list[dict[str, object]] = [
        {"account": "+15550009"},
        {"sender": "+15550003"},
        {"device": 2},
        {"timestamp": 6},
        {"kind": "reaction"},
        {"group": "group"},
        {"inner": 2**62},
    ]
    events: list[Decoded] = [said(), *(said(**way) for way in ways)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    messages = MessageFilter()
    assert messages.new_of(events) is events
    assert list(messages.new_of([said(), *events, said(group="other")])) == [said(group="other")]


@pytest.mark.contract("R6")
def test_origins_are_forgotten_once_no_message_of_theirs_is_remembered() -> None:
    messages = MessageFilter(50)
    for sender in range(10_000):
        news: list[Decoded] = [said(sender=f"{sender}"), said(sender=f"{sender}", timestamp=6)]
        assert messages.new_of(news) is news
        assert list(messages.new_of(news)) == []
        assert len(messages._origins) <= 25 + 1_000 + 1
    # Also those of which one was known before are still told from each other.
    assert list(messages.new_of([said(sender="9990"), said(sender="9974")])) == [said(sender="9974")]


@pytest.mark.contract("R6")
def test_what_nobody_can_remember_by_one_number_is_bounded_as_well() -> None:
    messages = MessageFilter(50)
    for timestamp in range(2_000):
        assert len(messages.new_of([said(timestamp=2**63 + timestamp)])) == 1
    assert len(messages._filter) == 50
    assert len(messages._origins) == 0


@pytest.mark.contract("R6")
def test_a_message_is_remembered_as_one_integer() -> None:
    messages = MessageFilter()
    # The largest timestamp that fits; the first of an origin and the others go different ways.
    for timestamp in (5, 6, 2**63 - 1):
        messages.new_of([said(timestamp=timestamp), said(group="group", timestamp=timestamp)])
    assert [type(key) for key in messages._filter] == [int] * 6
    assert len(messages._origins) == 2


@pytest.mark.contract("R6")
def test_origins_are_looked_through_once_in_a_thousand_messages() -> None:
    class Counting(MessageFilter):
        looks = 0

        def _forget_origins(self) -> None:
            self.looks += 1
            super()._forget_origins()

    messages = Counting()
    # All are still used, so none can be forgotten.
    for sender in range(5_000):
        messages.new_of([said(sender=f"{sender}")])
    assert len(messages._origins) == 5_000
    assert messages.looks <= 5

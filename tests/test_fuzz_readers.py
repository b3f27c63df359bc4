"""Every reader of what strangers write, against spoiled recordings, noise, and shapes that never end."""

import sys
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import fuzz_readers as readers
from tests.fuzzing import SHAPES, SNIPPETS, TARGETS, Edit, edited, grown, soak

#: How much the work may grow where the bytes are twice as many, and how many calls depend on no bytes.
FACTOR: Final = 2.2
FIXED: Final = 1500

#: How many bytes, and then twice as many: enough to tell the square from the double.
SIZE: Final = 250

EDITS: Final = st.lists(
    st.builds(
        Edit,
        st.integers(0, (1 << 16) - 1),
        st.sampled_from([0, 0, 1, 2, 5, 40]),
        st.sampled_from(SNIPPETS) | st.binary(max_size=4),
    ),
    max_size=6,
)

#: What fuzzing has found, and by which reader.
FOUND: Final = {
    "a subprotocol that is not ASCII": (
        readers.read_handshake,
        (b"Connection: Upgrade", b"Sec-WebSocket-Protocol: \xff"),
    ),
    "an upgrade to half a character": (readers.read_handshake, (b"Connection: \xed\xa0\x80",)),
}


@pytest.mark.contract("R7")
@pytest.mark.threat("T1")
@pytest.mark.parametrize("name", TARGETS)
@given(choose=st.data())
@settings(max_examples=30)
def test_spoiled_recordings_break_no_reader(name: str, choose: st.DataObject) -> None:
    read, examples = TARGETS[name]
    start = choose.draw(st.sampled_from(examples))
    read(edited(start, choose.draw(EDITS)))


@pytest.mark.threat("T1")
@pytest.mark.parametrize("name", TARGETS)
@given(noise=st.binary(max_size=300))
@settings(max_examples=15)
def test_noise_breaks_no_reader(name: str, noise: bytes) -> None:
    TARGETS[name][0](noise)


@pytest.mark.threat("T1")
@pytest.mark.parametrize("name", TARGETS)
def test_every_example_is_read(name: str) -> None:
    read, examples = TARGETS[name]
    for example in examples:
        read(example)


@pytest.mark.threat("T1")
@pytest.mark.parametrize("found", FOUND)
def test_what_was_found(found: str) -> None:
    read, lines = FOUND[found]
    read(b"\r\n".join((b"Upgrade: websocket", b"Sec-WebSocket-Accept: ACCEPT", *lines, b"", b"")))


def work(read: Callable[[bytes], None], data: bytes) -> int:
    """Return how many functions a reader calls, of Python's and of C's."""
    calls = 0

    def count(_: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read(data)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", TARGETS)
def test_twice_the_bytes_are_no_more_than_twice_the_work(name: str) -> None:
    """Counted, not timed: whatever is repeated to no end, alone or in the middle of an example."""
    read, examples = TARGETS[name]
    for shape in SHAPES:
        for start in (b"", examples[0][: len(examples[0]) // 2]):
            once, twice = (work(read, grown(shape, size, start)) for size in (SIZE, 2 * SIZE))
            assert twice <= FACTOR * once + FIXED, (shape, start)


def test_work_is_counted() -> None:
    """The square of the bytes would be seen."""
    once, twice = (work(all_pairs, b"x" * size) for size in (SIZE, 2 * SIZE))
    assert twice > FACTOR * once + FIXED


def all_pairs(data: bytes) -> None:
    for end in range(len(data)):
        for byte in data[:end]:
            chr(byte)


def test_the_long_form_yields_one_item_for_each_case_and_names_what_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(data: bytes) -> None:
        assert len(data) < 0, "never"

    for name in list(islice(TARGETS, 1, None)):
        monkeypatch.delitem(TARGETS, name)
    [name] = TARGETS
    assert list(soak(5)) == [None] * 5
    monkeypatch.setitem(TARGETS, name, (broken, TARGETS[name][1]))
    told = list(soak(3))
    assert all(text is not None and text.startswith(f"{name}, case") for text in told)
    assert told == list(soak(3))

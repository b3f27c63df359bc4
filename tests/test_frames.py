"""The splitter of WebSocket frames: against wsproto, at every cut, and against what no server may send."""

import itertools
import random
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, MessageDecoder, ParseFailed
from wsproto.frame_protocol import Opcode as TheirOpcode

from trio_signal._frames import FrameSplitter
from trio_signal.testing import close_frame, fragmented, server_frame
from trio_signal.testing._frames import Opcode

LIMIT: Final = 1 << 20
PING: Final = server_frame(b"are you there", Opcode.PING)


class Given:
    """What a splitter gave for these pieces."""

    def __init__(self, pieces: Iterable[bytes], *, limit: int = LIMIT) -> None:
        splitter = FrameSplitter(limit)
        self.messages: list[bytes] = []
        self.control = b""
        for piece in pieces:
            self.messages += splitter.feed(piece)
            self.control += splitter.take_control()
        self.code = None if splitter.violation is None else splitter.violation.code
        self.words = str(splitter.violation)
        self.is_closed = splitter.is_closed


def whole(*frames: bytes, limit: int = LIMIT) -> Given:
    return Given([b"".join(frames)], limit=limit)


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Give data in pieces of these sizes, and the rest."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def theirs(data: bytes) -> tuple[list[bytes], bytes, int | None]:
    """Return what wsproto makes of it: messages, control frames up to a close, and a close code."""
    decoder, assembler = FrameDecoder(client=True), MessageDecoder()
    decoder.receive_bytes(data)
    messages: list[bytes] = []
    message, control = b"", b""
    try:
        while (frame := decoder.process_buffer()) is not None:
            if frame.opcode.iscontrol():
                assert isinstance(frame.payload, bytes)
                control += server_frame(frame.payload, frame.opcode)
                if frame.opcode is TheirOpcode.CLOSE:
                    break
                continue
            frame = assembler.process_frame(frame)
            assert isinstance(frame.payload, bytes | str)
            message += frame.payload if isinstance(frame.payload, bytes) else frame.payload.encode()
            if frame.frame_finished and frame.message_finished:
                messages.append(message)
                message = b""
    except ParseFailed as failure:
        return messages, control, failure.code
    return messages, control, None


# --- as wsproto ---

TEXTS: Final = st.text(max_size=200).map(str.encode)
BYTES: Final = st.binary(max_size=200)
#: Sizes on both sides of each form of the length.
LONG: Final = st.sampled_from([125, 126, 127, 300, 65_535, 65_536, 70_000]).map(lambda size: b"x" * size)
GOOD: Final = st.one_of(
    st.builds(server_frame, st.one_of(TEXTS, LONG), st.just(Opcode.TEXT)),
    st.builds(server_frame, st.one_of(BYTES, LONG), st.just(Opcode.BINARY)),
    st.builds(server_frame, st.binary(max_size=125), st.sampled_from([Opcode.PING, Opcode.PONG])),
    st.builds(fragmented, TEXTS, st.integers(1, 5)),
)
#: Any frame in any place, whatever it holds.
ANY: Final = st.builds(
    server_frame, BYTES, st.integers(0, 15), final=st.booleans(), mask=st.sampled_from([None, None, b"abcd"])
)
ODD: Final = st.sampled_from(
    [
        close_frame(1000),
        close_frame(None),
        close_frame(1006),
        bytes([0xC1, 1]) + b"x",
        bytes([0x91, 1]) + b"x",
        bytes([0x81, 126, 0, 125]) + b"x" * 125,
        bytes([0x82, 127]) + (65_535).to_bytes(8) + b"x" * 65_535,
        bytes([0x82, 127]) + (1 << 63).to_bytes(8),
        bytes([0x89, 126, 0, 126]) + b"x" * 126,
        server_frame(b"\xff"),
        server_frame("ü".encode()[:1]),
        server_frame("ü".encode()[1:]),
    ]
)
STREAMS: Final = st.lists(st.one_of(GOOD, GOOD, GOOD, ANY, ODD), max_size=12).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=40))
@example(server_frame("ü".encode()[:1]) + server_frame("ü".encode()[1:]), [])
@example(server_frame(b"a", final=False) + server_frame(b"b"), [1])
@pytest.mark.contract("R7")
def test_it_gives_what_wsproto_gives_and_ends_with_the_same_code(data: bytes, sizes: list[int]) -> None:
    ours = Given(cut(data, sizes))
    assert (ours.messages, ours.control, ours.code) == theirs(data)


BURST: Final = b"".join(
    [
        server_frame(b"x" * 130),
        PING,
        server_frame(b""),
        fragmented("zusammengefügt und länger als nichts".encode()),
        server_frame(b"\x00\xff", Opcode.BINARY),
        server_frame("grün".encode() * 40),
        server_frame(b"", final=False) + server_frame(b"y", Opcode.CONTINUATION),
        server_frame(b"", Opcode.PONG),
        server_frame(b"z" * 700),
        close_frame(1001, "bye"),
    ]
)


def test_a_cut_anywhere_changes_nothing() -> None:
    """Fragments between whole messages, control frames inside the burst, and one within a message."""
    expected = theirs(BURST)
    assert [len(message) for message in expected[0]] == [130, 0, 38, 2, 200, 1, 700]
    for at in range(len(BURST)):
        ours = Given(cut(BURST, [at]))
        assert (ours.messages, ours.control, ours.code) == expected, at
        assert ours.is_closed


def test_a_byte_at_a_time() -> None:
    ours = Given(BURST[at : at + 1] for at in range(len(BURST)))
    assert (ours.messages, ours.control, ours.code) == theirs(BURST)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65_534, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_every_form_of_the_length(size: int, opcode: Opcode) -> None:
    content = random.Random(size).randbytes(size) if opcode is Opcode.BINARY else b"x" * size
    ours = whole(server_frame(b"before"), server_frame(content, opcode), server_frame(b"behind" * 30))
    assert ours.messages == [b"before", content, b"behind" * 30]
    assert ours.code is None


# --- the end ---

VIOLATIONS: Final = {
    "masked": (server_frame(b"hi", mask=b"abcd"), 1002),
    "masked and usual": (server_frame(b"h" * 200, mask=b"abcd"), 1002),
    "reserved bit": (bytes([0xC1, 2]) + b"hi", 1002),
    "reserved bit of a usual one": (bytes([0x91, 126, 0, 200]) + b"h" * 200, 1002),
    "unknown kind": (server_frame(b"x", 3), 1002),
    "unknown control": (server_frame(b"x", 11), 1002),
    "continuation of nothing": (server_frame(b"hi", Opcode.CONTINUATION), 1002),
    "text within a message": (server_frame(b"a", final=False) + server_frame(b"b" * 200), 1002),
    "binary within a message": (
        server_frame(b"a", final=False) + server_frame(b"b", Opcode.BINARY, final=False),
        1002,
    ),
    "fragmented ping": (server_frame(b"", Opcode.PING, final=False), 1002),
    "long ping": (server_frame(b"x" * 126, Opcode.PING), 1002),
    "short in two bytes": (bytes([0x81, 126, 0, 125]) + b"x" * 125, 1002),
    "short in eight bytes": (bytes([0x81, 127]) + (65_535).to_bytes(8), 1002),
    "negative": (bytes([0x81, 127]) + (1 << 63).to_bytes(8), 1002),
    "bad UTF-8": (server_frame(b"\xff\xfe" * 80), 1007),
    "half a character": (server_frame("ü".encode()[:1]), 1007),
    "bad UTF-8 in a large one": (server_frame(b"x" * 500_000 + b"\xff"), 1007),
    "bad UTF-8 in the first fragment": (server_frame(b"\xff", final=False), 1007),
    "bad UTF-8 in the last fragment": (
        server_frame(b"a", final=False) + server_frame(b"\xc3", Opcode.CONTINUATION),
        1007,
    ),
    "too large": (server_frame(b"x" * (LIMIT + 1)), 1009),
    "announced as too large": (bytes([0x82, 127]) + (1 << 62).to_bytes(8), 1009),
    "too large in fragments": (
        server_frame(b"x" * LIMIT, final=False) + server_frame(b"x", Opcode.CONTINUATION),
        1009,
    ),
}


@pytest.mark.parametrize("case", VIOLATIONS)
@pytest.mark.parametrize("size", [1, 7, 1 << 30])
@pytest.mark.contract("R7")
def test_a_violation_is_told_and_nothing_behind_it_is_given(case: str, size: int) -> None:
    bad, code = VIOLATIONS[case]
    if len(bad) > 1000 and size < 1000:
        size *= 4096
    data = server_frame(b"good") + PING + server_frame("gut, grün".encode() * 20) + bad
    data += server_frame(b"never") + server_frame(b"n" * 200) + PING + close_frame(1000)
    ours = Given(data[at : at + size] for at in range(0, len(data), size))
    assert ours.messages == [b"good", "gut, grün".encode() * 20]
    assert ours.control == PING
    assert (ours.code, ours.is_closed) == (code, False)
    assert b"never" not in ours.words.encode()


def test_a_message_of_the_largest_size_is_taken() -> None:
    limit = 70_000
    whole_one = server_frame(b"x" * limit)
    in_fragments = fragmented(b"y" * limit)
    assert whole(whole_one, in_fragments, limit=limit).messages == [b"x" * limit, b"y" * limit]
    small = whole(server_frame(b"x" * 200), server_frame(b"x" * 201), limit=200)
    assert (small.messages, small.code) == ([b"x" * 200], 1009)
    assert "200 bytes" in small.words


def test_what_is_too_large_is_refused_before_it_has_come() -> None:
    assert whole(server_frame(b"x" * (LIMIT + 1))[:10]).code == 1009


def test_nothing_behind_a_close_is_read() -> None:
    ours = whole(server_frame(b"last"), close_frame(1000), server_frame(b"late"), b"\xff\xff", PING)
    assert (ours.messages, ours.control, ours.code) == ([b"last"], close_frame(1000), None)
    assert ours.is_closed


def test_characters_that_only_together_are_utf8_are_none() -> None:
    """Messages are checked together, and must not lend each other bytes."""
    first, last = "ü".encode()
    ours = whole(server_frame(b"a" * 130 + bytes([first])), server_frame(bytes([last]) + b"b" * 130))
    assert (ours.messages, ours.code) == ([], 1007)


def test_text_behind_other_text_is_looked_at_whatever_follows() -> None:
    bad, long = server_frame(b"\xff"), "ü" * 100_000
    any_bytes = server_frame(b"\xff\xfe", Opcode.BINARY)
    good = [server_frame("gut, grün".encode()), fragmented("grün".encode(), 3), any_bytes, PING]
    for others in itertools.permutations(good):
        for place in range(5):
            ours = whole(*others[:place], bad, *others[place:])
            assert (ours.code, len(ours.messages)) == (1007, sum(each != PING for each in others[:place]))
    # What is long is looked at in pieces, and its last character must be whole too.
    assert whole(server_frame(long.encode())).messages == [long.encode()]
    assert whole(server_frame(long.encode()[:-1])).code == 1007


def test_in_each_read_the_first_text_is_looked_at_too() -> None:
    good, bad = server_frame(b"good"), server_frame(b"\xff")
    for place in range(3):
        ours = Given([good * 3, good * place + bad + good])
        assert (len(ours.messages), ours.code, ours.words) == (3 + place, 1007, "text that is not UTF-8")


def test_a_control_frame_may_be_so_long_and_no_longer() -> None:
    longest = server_frame(b"x" * 125, Opcode.PING)
    ours = whole(longest, server_frame(b"good"))
    assert (ours.messages, ours.control, ours.code) == ([b"good"], longest, None)
    assert whole(server_frame(b"x" * 126, Opcode.PING)).code == 1002


# --- bounds ---


def test_a_large_frame_in_many_pieces_costs_no_more_than_its_size() -> None:
    size = 8 << 20
    splitter, piece = FrameSplitter(size), bytes(1024)
    began = time.process_time()
    assert splitter.feed(server_frame(bytes(size), Opcode.BINARY)[:10]) == []
    given: list[bytes] = []
    for _ in range(size // len(piece)):
        given += splitter.feed(piece)
    # To copy all that has come for each piece would take half a minute.
    assert time.process_time() - began < 5
    assert [len(message) for message in given] == [size]


def test_long_text_is_not_decoded_as_a_whole() -> None:
    """One character beyond the first 65,536 makes Python take four bytes for each."""
    text = "\N{PARTY POPPER}".encode() + b"x" * (2 << 20)
    frame, splitter = server_frame(text), FrameSplitter(4 << 20)
    tracemalloc.start()
    try:
        assert splitter.feed(frame) == [text]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * len(text)


def test_it_holds_no_more_than_one_message() -> None:
    """Neither empty fragments without an end nor messages that were given leave anything behind."""
    splitter = FrameSplitter(LIMIT)
    nothing = server_frame(b"", Opcode.CONTINUATION, final=False) * 100
    usual = server_frame(b"x" * 500) * 100

    def feed() -> int:
        """Return how many bytes stay."""
        tracemalloc.start()
        try:
            for _ in range(10):
                splitter.feed(usual)
            splitter.feed(server_frame(b"", final=False))
            for _ in range(50):
                splitter.feed(nothing)
                splitter.take_control()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert splitter.feed(server_frame(b"end", Opcode.CONTINUATION)) == [b"end"]
        return held

    # The first time whoever measures the coverage keeps something as well.
    feed()
    assert feed() < 10_000

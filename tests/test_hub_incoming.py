"""What a client sends on its WebSocket: read as wsproto reads it, with and without a parser of its own."""

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.hubs import Frame, frames_in, masked
from trio_signal.hub._incoming import Incoming
from trio_signal.testing import server_frame
from trio_signal.testing._frames import Opcode

MOST = 4096


def fed(pieces: Iterable[bytes]) -> tuple[Incoming, list[Frame]]:
    """Give these pieces to a reader; return it with what it answered."""
    incoming, answers = Incoming(), bytearray()
    for piece in pieces:
        answers += incoming.take(piece)
        if incoming.ended:
            break
    frames = list(frames_in(answers))
    assert not answers, "half a frame"
    return incoming, frames


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut bytes at these places, as far as there are any."""
    inner = sorted({place for place in places if 0 < place < len(data)})
    return [data[start:end] for start, end in pairwise([0, *inner, len(data)])]


def by_wsproto(pieces: Iterable[bytes]) -> tuple[list[Frame], bool, bool]:
    """What wsproto alone would answer, whether the connection ends, and whether the rules were broken."""
    wsproto, answers, size = Connection(ConnectionType.SERVER), bytearray(), 0
    for piece in pieces:
        wsproto.receive_data(piece)
        for event in wsproto.events():
            if isinstance(event, Ping):
                answers += wsproto.send(event.response())
            elif isinstance(event, TextMessage | BytesMessage):
                size += len(event.data)
                if size > MOST:
                    answers += wsproto.send(CloseConnection(1009, "no message may have more than 4096 bytes"))
                    return list(frames_in(answers)), True, True
                size = 0 if event.message_finished else size
            elif isinstance(event, CloseConnection):
                closed = wsproto.state is ConnectionState.REMOTE_CLOSING
                if closed:
                    answers += wsproto.send(event.response())
                return list(frames_in(answers)), True, not closed
    return list(frames_in(answers)), False, False


controls = st.builds(
    masked, st.binary(max_size=125), st.sampled_from([Opcode.PING, Opcode.PONG]), final=st.just(True)
)


def closing(code: int, reason: bytes) -> bytes:
    return masked(code.to_bytes(2, "big") + reason, Opcode.CLOSE)


def changed(data: bytes, place: int, byte: int) -> bytes:
    return data[:place] + bytes([byte]) + data[place + 1 :]


closes = st.builds(closing, st.integers(0, 5100), st.binary(max_size=20))
odd = st.one_of(
    st.binary(max_size=300),
    st.builds(
        masked, st.binary(max_size=5000), st.sampled_from([0, 1, 2, 3, 8, 9, 10, 11]), final=st.booleans()
    ),
    st.builds(masked, st.text(max_size=200).map(str.encode), st.sampled_from([0, 1]), final=st.booleans()),
    st.builds(server_frame, st.binary(max_size=20), st.sampled_from(list(Opcode))),
    st.builds(changed, controls, st.sampled_from([0, 1]), st.integers(0, 255)),
)


@pytest.mark.contract("H7")
@settings(max_examples=300)
@given(
    st.lists(st.one_of(controls, controls, closes, odd), max_size=8).map(b"".join),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_it_says_and_does_what_wsproto_alone_would(data: bytes, places: list[int]) -> None:
    pieces = cut(data, places)
    incoming, frames = fed(pieces)
    assert (frames, incoming.ended, incoming.broke_rules) == by_wsproto(pieces)


@pytest.mark.contract("H7")
@pytest.mark.parametrize("size", [0, 1, 3, 4, 124, 125])
def test_pings_are_answered_and_pongs_are_not(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    data = masked(payload, Opcode.PING) + masked(payload, Opcode.PONG) + masked(b"again", Opcode.PING)
    for place in range(len(data)):
        incoming, frames = fed(cut(data, [place]))
        assert frames == [Frame(Opcode.PONG, payload), Frame(Opcode.PONG, b"again")]
        assert not incoming.ended


@pytest.mark.contract("H7")
def test_who_only_answers_pings_has_no_parser() -> None:
    most = masked(b"x" * 125, Opcode.PING) + masked(b"x" * 125, Opcode.PONG)
    incoming, frames = fed([masked(b"", Opcode.PONG)] * 100 + [masked(b"x", Opcode.PING) * 3, most])
    assert len(frames) == 4
    assert incoming._wsproto is None
    incoming.take(masked(b"hello"))
    assert incoming._wsproto is not None


@pytest.mark.contract("H7")
@pytest.mark.parametrize(
    "data",
    [
        server_frame(b"", Opcode.PONG),
        server_frame(b"", Opcode.PING),
        masked(b"x" * 126, Opcode.PONG),
        masked(b"x" * 126, Opcode.PING),
        b"\x89\x7f" + b"\x00" * 8,
        b"\x8a\x7f" + b"\x00" * 8,
        masked(b"x", Opcode.PONG, final=False),
        b"\xca\x80" + b"\x00" * 8,
        b"\x8b\x80" + b"\x00" * 8,
        masked(b"\xff"),
        masked(b"\x03", Opcode.CLOSE),
        masked(b"\x03\xee", Opcode.CLOSE),
    ],
    ids=lambda data: data[:4].hex(),
)
def test_what_must_not_be_sent_breaks_the_rules_behind_any_pong(data: bytes) -> None:
    for before in (b"", masked(b"", Opcode.PONG), masked(b"one", Opcode.PONG) * 2, masked(b"a message")):
        incoming, frames = fed([before + data, b"never read"])
        assert frames == []
        assert incoming.ended
        assert incoming.broke_rules


@pytest.mark.contract("H7")
def test_a_message_has_a_bound_however_many_frames_it_has() -> None:
    half = masked(b"x" * 2048, Opcode.BINARY, final=False)
    rest = masked(b"x" * 2048, Opcode.CONTINUATION)
    incoming, frames = fed([half, rest] * 5)
    assert not incoming.ended
    assert frames == []
    incoming, [pong, close] = fed([half, masked(b"", Opcode.PING), masked(b"x" * 2049, 0)])
    assert (pong.opcode, close.code) == (Opcode.PONG, 1009)
    assert incoming.ended
    assert incoming.broke_rules


@pytest.mark.contract("H7")
def test_the_clients_close_frame_comes_back() -> None:
    for payload, code in ((b"", 1005), (b"\x03\xe8bye", 1000), (b"\x0f\xa1", 4001)):
        incoming, [close] = fed([masked(b"", Opcode.PONG) + masked(payload, Opcode.CLOSE), b"never read"])
        assert close.code == code
        assert incoming.ended
        assert not incoming.broke_rules


@pytest.mark.contract("H10")
def test_after_our_close_frame_nothing_is_answered_and_the_clients_ends_it() -> None:
    incoming = Incoming()
    incoming.take(masked(b"", Opcode.PONG))
    [close] = frames_in(bytearray(incoming.close(1012, "going down")))
    assert close.payload == b"\x03\xf4going down"
    assert incoming.take(masked(b"", Opcode.PING) + masked(b"x" * 5000) + masked(b"?")) == b""
    assert (incoming.ended, incoming.broke_rules) == (False, False)
    assert incoming.take(masked(b"\x03\xf4", Opcode.CLOSE) + b"never read") == b""
    assert (incoming.ended, incoming.broke_rules) == (True, False)


@pytest.mark.contract("H7")
def test_the_rules_hold_after_our_close_frame_too() -> None:
    incoming = Incoming()
    incoming.close(1012, "going down")
    assert incoming.take(b"\xff" * 10) == b""
    assert incoming.ended
    assert incoming.broke_rules

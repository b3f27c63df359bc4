"""Server-Sent Events as signal-cli writes them, however they are cut, against a naive reader."""

import itertools
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import Undecodable
from trio_signal._decoding import decode_frame
from trio_signal._envelopes import ReceivedMessage
from trio_signal.gateways._sse import EventParser, Oversize

BOM: Final = b"\xef\xbb\xbf"
PLENTY: Final = 1 << 20
#: What may be held between two reads on top of max_event, in bytes.
SLACK: Final = 64


def event(data: bytes) -> bytes:
    """An event as signal-cli writes it."""
    return b"event:receive\ndata:" + data + b"\n\n"


def parse(*parts: bytes, max_event: int = PLENTY) -> list[bytes | Oversize]:
    parser = EventParser(max_event)
    return [found for part in parts for found in parser.feed(part)]


def one_by_one(stream: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in stream)


# --- Against a reference that sees the whole stream at once. ---


def reference(stream: bytes, max_event: int) -> tuple[list[bytes | Oversize], int]:
    """The standard's rules, word by word: the events, and how many bytes of one were open at the end."""
    *lines, begun = re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM))
    events: list[bytes | Oversize] = []
    values: list[bytes] = []
    name, opened = b"", 0
    for line in lines:
        if not line:
            data = b"\n".join(values)
            if values and name == b"receive":
                events.append(data if len(data) <= max_event else Oversize(len(data)))
            values, name, opened = [], b"", 0
            continue
        if line.startswith(b":"):
            continue
        opened += len(line)
        field, value = line.split(b":", 1) if b":" in line else (line, b"")
        value = value.removeprefix(b" ")
        if field == b"data":
            values.append(value)
        elif field == b"event":
            name = value
    return events, opened if begun.startswith(b":") else opened + len(begun)


lines = st.one_of(
    st.sampled_from(
        [b"event:receive", b"event:receive", b"event: receive", b"event:  receive", b"event:other"]
    ),
    st.sampled_from([b"event", b"event:", b"data", b"data:", b"data: ", b"data:x", b"data: x", b"data:  x"]),
    st.sampled_from([b":", b":comment", b"id:1", b"retry: 5", b"data :x", b"", b"", BOM, b"\0", b"\xff\xfe"]),
    st.integers(0, 90).map(lambda length: b"data:" + b"d" * length),
    st.sampled_from([b"id:", b":", b"event:", b"event:receive", b""]).map(lambda start: start + b"e" * 70),
    st.binary(max_size=12),
)
ends = st.sampled_from([b"\n", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b""])
starts = st.sampled_from([b"", b"", BOM, BOM + BOM, BOM[:2], b"\n", b"\r"])
streams = st.tuples(starts, st.lists(st.builds(operator.add, lines, ends), max_size=20)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)
cuts = st.one_of(st.lists(st.integers(0, 400), max_size=20), st.just(range(400)))


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(place for place in at if place < len(stream)), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(places)]


@pytest.mark.contract("R7")
@given(streams, cuts, st.sampled_from([0, 1, 2, 5, 40, 70, PLENTY]))
def test_however_it_is_cut_a_stream_comes_to_what_the_standard_says(
    stream: bytes, at: Sequence[int], max_event: int
) -> None:
    parser = EventParser(max_event)
    found: list[bytes | Oversize] = []
    fed = b""
    for part in cut(stream, at):
        found += parser.feed(part)
        fed += part
        events, opened = reference(fed, max_event)
        assert found == events
        assert parser.rest == opened
        assert len(parser._line) + len(parser._data) <= max_event + SLACK
    assert fed == stream


@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), max_size=10), cuts)
def test_every_event_comes_whole_and_in_order(documents: list[dict[str, str]], at: Sequence[int]) -> None:
    sent = [json.dumps(document).encode() for document in documents]
    stream = b":\n" + b":\n".join(map(event, sent))
    parser = EventParser(PLENTY)
    assert [found for part in cut(stream, at) for found in parser.feed(part)] == sent
    assert parser.rest == 0


@pytest.mark.contract("R7")
@given(st.lists(st.binary(max_size=50)))
def test_after_any_bytes_and_two_line_ends_the_next_event_is_read(rubbish: list[bytes]) -> None:
    assert parse(*rubbish, b"\n\n", event(b"{}"))[-1] == b"{}"


# --- Case by case. ---


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        pytest.param(event(b'{"a":1}') + event(b"{}"), [b'{"a":1}', b"{}"], id="as signal-cli writes it"),
        pytest.param(b":\n:\n:\n" + event(b"1") + b":\n" + event(b"2"), [b"1", b"2"], id="comments between"),
        pytest.param(b"event:receive\n:\ndata:1\n:\n\n", [b"1"], id="comments within"),
        pytest.param(b"event: receive\ndata: 1\n\n", [b"1"], id="a space after the colon"),
        pytest.param(b"event:receive\ndata:  1 \n\n", [b" 1 "], id="one space only"),
        pytest.param(b"data:1\nevent:receive\n\n", [b"1"], id="the name after the data"),
        pytest.param(b"event:x\ndata:1\nevent:receive\n\n", [b"1"], id="the last name counts"),
        pytest.param(b"event:receive\ndata:1\nevent\n\n", [], id="a name taken back"),
        pytest.param(b"event:receive\ndata:1\ndata:2\n\n", [b"1\n2"], id="two lines of data"),
        pytest.param(b"event:receive\ndata:\ndata\ndata:3\n\n", [b"\n\n3"], id="empty lines of data"),
        pytest.param(b"event:receive\ndata\n\n", [b""], id="data without a colon"),
        pytest.param(b"event:receive\ndata:a:b\n\n", [b"a:b"], id="a colon in the value"),
        pytest.param(b"event:receive\nid:7\nretry:9\nfoo\ndata:1\n\n", [b"1"], id="other fields"),
        pytest.param(b"event:receive\nDATA:1\ndata :2\n data:3\n\n", [], id="names are exact"),
        pytest.param(b"event:receive\n\ndata:1\n\n", [], id="a name ends with its event"),
        pytest.param(b"data:1\n\nevent:other\ndata:2\n\n", [], id="other names"),
        pytest.param(b"event:receive\rdata:1\r\r", [b"1"], id="CR"),
        pytest.param(b"event:receive\r\ndata:1\r\n\r\n", [b"1"], id="CRLF"),
        pytest.param(b"event:receive\ndata:1\r\n\revent:receive\rdata:2\n\r\n", [b"1", b"2"], id="mixed"),
        pytest.param(BOM + event(b"1"), [b"1"], id="a byte order mark"),
        pytest.param(BOM + BOM + event(b"1"), [], id="a second byte order mark is text"),
        pytest.param(b"\n" + BOM + event(b"1"), [], id="a byte order mark later is text"),
        pytest.param(BOM[:2] + b"\n" + event(b"1"), [b"1"], id="half a byte order mark is text"),
        pytest.param(
            event(b"\0\x0b\x0c\x1c\x1d\x1e\x85"), [b"\0\x0b\x0c\x1c\x1d\x1e\x85"], id="no line ends"
        ),
        pytest.param(event(b"\xff\xc3\xe2\x80\xa8"), [b"\xff\xc3\xe2\x80\xa8"], id="not UTF-8"),
        pytest.param(b"event:receive\ndata:1\n", [], id="not ended"),
        pytest.param(b"\n\n\r\n\r\r", [], id="blank lines"),
    ],
)
def test_what_a_stream_comes_to(stream: bytes, wanted: list[bytes]) -> None:
    assert parse(stream) == wanted
    assert parse(*one_by_one(stream)) == wanted
    assert parse(*itertools.chain.from_iterable((b"", byte, b"") for byte in one_by_one(stream))) == wanted


def test_an_event_ends_with_a_cr_at_once_and_the_lf_behind_it_is_no_line_of_its_own() -> None:
    parser = EventParser(PLENTY)
    assert parser.feed(b"event:receive\r\ndata:1\r\n\r") == [b"1"]
    assert parser.feed(b"") == []
    assert parser.feed(b"\nevent:receive\r\ndata:2\r") == []
    assert parser.feed(b"\n") == []  # were it a line of its own, the event would end here
    assert parser.rest == len(b"event:receivedata:2")
    assert parser.feed(b"\n") == [b"2"]


@pytest.mark.contract("R7")
def test_two_documents_without_a_blank_line_between_them_are_one_event_that_cannot_be_decoded() -> None:
    document = b'{"envelope":{"timestamp":1},"account":"+4915112345678"}'
    twice = event(document).removesuffix(b"\n") + event(document)
    joined, whole = parse(twice + event(document))
    assert joined == document + b"\n" + document
    assert isinstance(joined, bytes)
    assert isinstance(whole, bytes)
    assert isinstance(decode_frame(joined), Undecodable)
    assert isinstance(decode_frame(whole), ReceivedMessage)


def test_the_rest_is_what_came_of_an_event_that_has_not_ended() -> None:
    parser = EventParser(max_event=10)
    seen: list[int] = []
    for part in [
        b"event:",
        b"receive\n",
        b":\n",
        b": life",
        b"\n",
        b"data:12",
        b"34\n",
        b"id:5\n",
        b"\n",
        b":",
    ]:
        parser.feed(part)
        seen.append(parser.rest)
    assert seen == [6, 13, 13, 13, 13, 20, 22, 26, 0, 0]


def test_the_rest_counts_what_is_not_kept() -> None:
    parser = EventParser(max_event=10)
    parser.feed(b"data:" + b"x" * 1000)
    assert parser.rest == 1005
    parser.feed(b"x" * 1000)
    parser.feed(b"\ndata:y")
    assert parser.rest == 2011


# --- Too large. ---


@pytest.mark.parametrize("size", [0, 9, 10])
def test_an_event_of_the_largest_size_is_kept(size: int) -> None:
    wanted: list[bytes | Oversize] = [b"x" * size]
    stream = event(b"x" * size)
    assert parse(stream, max_event=10) == wanted
    assert parse(*one_by_one(stream), max_event=10) == wanted


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    ("stream", "size"),
    [
        pytest.param(event(b"x" * 11), 11, id="by one byte"),
        pytest.param(event(b"x" * 5000), 5000, id="by far"),
        pytest.param(BOM + event(b" " + b"x" * 100), 100, id="with all that may stand before a value"),
        pytest.param(event(b"x" * 5 + b"\ndata:" + b"y" * 5), 11, id="by a joining LF"),
        pytest.param(event(b"x" * 5 + b"\ndata:" + b"y" * 99), 105, id="by its second line"),
        pytest.param(event(b"x" * 99 + b"\ndata:" + b"y" * 5), 105, id="by its first line"),
        pytest.param(event(b"\ndata:" * 11), 11, id="by empty lines"),
        pytest.param(b"data:" + b"x" * 99 + b"\nevent:receive\n\n", 99, id="before its name"),
    ],
)
def test_an_event_that_is_too_large_is_measured_and_the_next_one_is_read(stream: bytes, size: int) -> None:
    stream += event(b"next")
    assert parse(stream, max_event=10) == [Oversize(size), b"next"]
    assert parse(*one_by_one(stream), max_event=10) == [Oversize(size), b"next"]


@pytest.mark.threat("T2")
@pytest.mark.parametrize("line", [b":", b"id:", b"no colon", b"event:receive", b"event:"])
def test_other_lines_make_no_event_too_large_and_are_not_kept(line: bytes) -> None:
    data = b"d" * 1000
    parser = EventParser(max_event=len(data))
    parser.feed(b"event:receive\ndata:" + data + b"\n")
    for part in (line, *[b"x" * 900] * 100):
        assert parser.feed(part) == []
        assert len(parser._line) + len(parser._data) <= len(data) + SLACK
    found = parser.feed(b"\n\n" + event(b"next"))
    assert found == ([b"next"] if line.startswith(b"event") else [data, b"next"])


def test_a_large_event_of_another_name_is_ignored() -> None:
    assert parse(b"event:other\ndata:" + b"x" * 99 + b"\n\n", event(b"1"), max_event=10) == [b"1"]


def test_an_event_of_16_mib_comes_whole() -> None:
    data = bytes(range(33, 127)) * 178_500
    assert len(data) > 16 * 1024 * 1024
    stream = event(data)
    found = parse(*(stream[at : at + 65_536] for at in range(0, len(stream), 65_536)), max_event=len(data))
    assert found == [data]


# --- Work, counted. ---


class Counted(bytearray):
    """Counts the bytes that each call on it may have to look at or copy."""

    work = 0

    def __iadd__(self, more: Any, /) -> Self:  # type: ignore[misc]
        self.work += len(more) + 1
        super().__iadd__(more)
        return self

    def __bytes__(self) -> bytes:
        self.work += len(self)
        return bytes(memoryview(self))


def counted(name: str) -> Callable[..., Any]:
    method = getattr(bytearray, name)

    def call(self: Counted, /, *args: Any) -> Any:
        self.work += len(self)
        return method(self, *args)

    return call


#: What costs the same however much is held: __delitem__ cuts off an end, startswith looks for one byte.
#: Where there is __buffer__, bytes() still asks __bytes__ first.
CHEAP: Final = {"__len__", "__delitem__", "clear", "startswith", "__buffer__", "__release_buffer__"}
for _name in set(dir(bytearray)) - set(dir(object)) - set(vars(Counted)) - CHEAP:
    setattr(Counted, _name, counted(_name))


@pytest.mark.parametrize("max_event", [100, PLENTY])
@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(event(b"x" * 100_000), id="a long event"),
        pytest.param(event(b"x\ndata:" * 14_000), id="many lines of data"),
        pytest.param(b":" * 100_000 + b"\n", id="a long comment"),
        pytest.param(b"x" * 100_000 + b"\n", id="a long line without a colon"),
        pytest.param(b":\n" * 50_000, id="many comments"),
        pytest.param(b"\r\n" * 50_000, id="many line ends"),
    ],
)
def test_the_work_is_in_proportion_to_the_bytes_however_they_are_cut(
    stream: bytes, size: int, max_event: int
) -> None:
    parser = EventParser(max_event)
    line = parser._line = Counted()
    data = parser._data = Counted()
    for at in range(0, len(stream), size):
        parser.feed(stream[at : at + size])
        _ = parser.rest
    assert parser._line is line
    assert parser._data is data
    assert line.work + data.work <= 6 * len(stream)


def test_the_count_would_show_a_search_in_what_is_held() -> None:
    held = Counted()
    for _ in range(1000):
        held += b"x"
        held.find(b"\n")
    assert held.work > 100 * len(held)

"""Answers read out of bytes: what is taken, what is refused, and never more than h11 takes."""

import gc
import itertools
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal._http_answers import MAX_HEAD, AnswerReader, BadAnswer, Headers, retry_after

OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Read(NamedTuple):
    """What an answer came to: all of it, whether the connection goes on, and whether it ended it."""

    status: int
    body: bytes
    goes_on: bool


def read(pieces: Iterable[bytes], method: str = "GET", *, ends: bool = True) -> Read | str:
    """Read an answer that comes in these pieces, and then the end; return what is wrong if something is."""
    reader, body = AnswerReader(to_head=method == "HEAD"), b""
    try:
        for piece in pieces:
            body += reader.feed(piece)
            if reader.problem is not None:
                raise reader.problem
        goes_on = reader.is_whole and not reader.is_last
        if ends:
            reader.end()
    except BadAnswer as error:
        return str(error)
    assert reader.is_whole or not ends
    return Read(reader.status, body, goes_on)


def read_with_h11(data: bytes, method: str = "GET") -> Read | str:
    """Read the same with h11."""
    connection, body, status = h11.Connection(h11.CLIENT), b"", 0
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    try:
        for piece in (data, b""):
            connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    rest, _ = connection.trailing_data
                    goes_on = piece != b"" and connection.their_state is h11.DONE and not rest
                    return Read(status, body, goes_on)
                elif isinstance(event, h11.ConnectionClosed):
                    return "the end"
    except h11.RemoteProtocolError as error:
        return str(error)
    return "nothing"


# --- what is taken ---

GOOD: Final = {
    "length": (OK + b"Content-Length: 2\r\n\r\nok", Read(200, b"ok", goes_on=True)),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", Read(200, b"", goes_on=True)),
    "to the end": (OK + b"\r\nok", Read(200, b"ok", goes_on=False)),
    "nothing to the end": (OK + b"\r\n", Read(200, b"", goes_on=False)),
    "chunks": (CHUNKED + b"1\r\no\r\n001\r\nk\r\n0\r\n\r\n", Read(200, b"ok", goes_on=True)),
    "no chunks": (CHUNKED + b"0\r\n\r\n", Read(200, b"", goes_on=True)),
    "an extension": (CHUNKED + b'2;a=b;c="d"\r\nok\r\n0\r\n\r\n', Read(200, b"ok", goes_on=True)),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", Read(200, b"ok", goes_on=True)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Read(204, b"", goes_on=True)),
    "304": (b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", Read(304, b"", goes_on=True)),
    "hints of any kind": (
        b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        Read(200, b"ok", goes_on=True),
    ),
    "no words": (b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", Read(500, b"", goes_on=True)),
    "an early hint": (
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx",
        Read(201, b"x", goes_on=True),
    ),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Read(200, b"ok", goes_on=False)),
    "1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Read(200, b"ok", goes_on=False),
    ),
    "it closes": (
        OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        Read(200, b"ok", goes_on=False),
    ),
    "it stays": (
        OK + b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Read(200, b"ok", goes_on=True),
    ),
    "odd spelling": (
        OK + b"tRANSFER-eNCODING: \t CHUNKED \r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Read(200, b"ok", goes_on=True),
    ),
    "a blank line as body": (OK + b"Content-Length: 4\r\n\r\n\r\n\r\n", Read(200, b"\r\n" * 2, goes_on=True)),
}


@pytest.mark.parametrize("name", GOOD)
def test_answers_of_every_form_are_read_however_they_are_cut(name: str) -> None:
    data, expected = GOOD[name]
    assert read([data]) == expected
    assert read([bytes([byte]) for byte in data]) == expected
    for cut in range(len(data)):
        assert read([data[:cut], data[cut:]]) == expected


@pytest.mark.parametrize(
    "more",
    [
        *(b"\r\n", b"\n", b"x", b"x\r\n\r\n", b"0\r\n\r\n", OK + b"\r\n"),
        OK + b"Content-Length: 2\r\n\r\nno",
    ],
    ids=["CRLF", "LF", "x", "x and a blank line", "a last chunk", "a head", "an answer"],
)
@pytest.mark.parametrize("name", GOOD)
def test_what_stands_behind_an_answer_ends_the_connection(name: str, more: bytes) -> None:
    """Else it would be taken for the answer to the next request."""
    data, expected = GOOD[name]
    if name.endswith("to the end"):
        expected = expected._replace(body=expected.body + more)
    expected = expected._replace(goes_on=False)
    assert read([data + more]) == expected
    assert read([data, more]) == expected
    assert read([bytes([byte]) for byte in data + more]) == expected


@pytest.mark.parametrize("header", [b"Content-Length: 9", b"Transfer-Encoding: chunked", b"X: y"])
def test_the_answer_to_head_ends_with_its_head(header: bytes) -> None:
    head = OK + header + b"\r\n\r\n"
    assert read([head], "HEAD") == Read(200, b"", goes_on=True)
    assert read([head + b"x"], "HEAD") == Read(200, b"", goes_on=False)


# --- what is refused ---

BAD: Final = {
    "garbage": b"\x00\xff no http\r\n\r\n",
    "another protocol": b"220 mail.example\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "lines without CR": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "one line without CR": OK + b"X: y\nContent-Length: 0\r\n\r\n",
    "a blank line without CR": OK + b"Content-Length: 0\r\n\n",
    "a blank line behind a line without CR": OK + b"Content-Length: 0\n\r\n",
    "an empty line first": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "a folded line": OK + b"X: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "no name": OK + b": x\r\n\r\n",
    "a NUL in a value": OK + b"X: a\0b\r\n\r\n",
    "a NUL in the words": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "a CR in a value": OK + b"X: a\rb\r\n\r\n",
    "0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "099": b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a bare 101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "a length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "lengths in one": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a negative length": OK + b"Content-Length: -2\r\n\r\nok",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "a length in hex": OK + b"Content-Length: 0x2\r\n\r\nok",
    "a length with a bar": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "no length": OK + b"Content-Length:\r\n\r\nok",
    "a huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "a length and chunks": OK
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and a length": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks in chunks": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "packed": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "no coding": OK + b"Transfer-Encoding:\r\n\r\nok",
    "packed hints": b"HTTP/1.1 103 Early\r\nTransfer-Encoding: gzip\r\n\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "a packed 204": b"HTTP/1.1 204 None\r\nTransfer-Encoding: gzip\r\n\r\n",
    "almost chunks": OK + b"Transfer-Encoding: xchunked\r\n\r\nok",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no chunk": CHUNKED + b"nope\r\n",
    "a chunk with a sign": CHUNKED + b"+2\r\nok\r\n0\r\n\r\n",
    "a chunk with 0x": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "a chunk behind a blank": CHUNKED + b" 2\r\nok\r\n0\r\n\r\n",
    "a chunk without CR": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "a chunk with an LF in its extension": CHUNKED + b"2;a\nok\r\n0\r\n\r\n",
    "a chunk that is longer": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "a chunk that ends without CR": CHUNKED + b"2\r\nok\n0\r\n\r\n",
    "a huge chunk": CHUNKED + b"fffffffffffffffff\r\nok",
    "a folded trailer": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "a trailer without CR": CHUNKED + b"0\r\nX: y\n\r\n",
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "half a head": OK + b"Content-Le",
    "only a 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a short body": OK + b"Content-Length: 9\r\n\r\nhalf",
    "chunks that break off": CHUNKED + b"5\r\nhal",
    "chunks without the last": CHUNKED + b"2\r\nok\r\n",
    "trailers that break off": CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n",
}


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_answer_is_refused_however_it_is_cut(name: str) -> None:
    data = BAD[name]
    for pieces in ([data], [bytes([byte]) for byte in data]):
        problem = read(pieces)
        assert isinstance(problem, str)
        assert not any(word in problem for word in ("ok", "mail", "X:", "half"))


@pytest.mark.threat("T2")
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: y\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n\n\n",
    ],
)
def test_what_will_never_be_an_answer_is_refused_at_once(start: bytes) -> None:
    """Not only when the connection ends, which may be never."""
    assert isinstance(read([start], ends=False), str)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "without an answer"),
        ("only a 100", "without an answer"),
        ("half a status line", "in the middle of its answer"),
        ("half a head", "in the middle of its answer"),
        ("a short body", "in the middle of its answer"),
        ("chunks that break off", "in the middle of its answer"),
    ],
)
def test_whether_an_answer_had_begun_is_said(name: str, words: str) -> None:
    assert str(read([BAD[name]])).endswith(words)


@pytest.mark.parametrize("name", [name for name in BAD if not name.startswith(("half", "nothing", "only"))])
def test_no_part_of_what_is_no_answer_is_one(name: str) -> None:
    """Whatever is lost of it on its way."""
    data = BAD[name]
    for cut in range(len(data)):
        told = read([data[:cut]], ends=False)
        assert isinstance(told, str) or not told.goes_on


# --- what it costs ---


@pytest.mark.threat("T2")
@pytest.mark.parametrize(
    ("start", "shape"),
    [
        (b"HTTP/1.1 200 ", b"x"),
        (OK + b"X: ", b"x"),
        (OK, b"X: y\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nX: yyyyyyyyyyyyyyyy\r\n\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED, b"0"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
        (CHUNKED + b"0\r\nX: ", b"x"),
    ],
    ids=["words", "a value", "headers", "hints", "an extension", "zeros", "trailers", "a trailer"],
)
def test_heads_and_what_stands_between_chunks_have_an_end(start: bytes, shape: bytes) -> None:
    reader, fed = AnswerReader(), len(start)
    reader.feed(start)
    with pytest.raises(BadAnswer, match="16384 bytes"):
        while fed < 2 * MAX_HEAD:
            fed += len(shape)
            reader.feed(shape)
            if reader.problem is not None:
                reader.end()
    assert fed <= MAX_HEAD + len(CHUNKED) + 100


def test_a_head_that_comes_at_once_has_the_same_end() -> None:
    head = OK + b"X: " + b"x" * MAX_HEAD + b"\r\n\r\n"
    assert "16384" in str(read([head]))
    fits = OK + b"X: " + b"x" * (MAX_HEAD - len(OK) - 26) + b"\r\nContent-Length: 0\r\n\r\n"
    assert len(fits) <= MAX_HEAD
    assert read([fits]) == Read(200, b"", goes_on=True)


@pytest.mark.threat("T2")
@pytest.mark.parametrize(
    ("start", "begun"),
    [
        (b"", b"HTTP/1.1 200 "),
        (CHUNKED, b"1;"),
        (CHUNKED + b"1\r\nx", b"\r\n1;"),
        (CHUNKED + b"0\r\n", b"X: "),
    ],
    ids=["a head", "the first chunk", "another chunk", "a trailer"],
)
def test_up_to_16384_bytes_are_taken_of_a_head_and_between_chunks(start: bytes, begun: bytes) -> None:
    reader = AnswerReader()
    reader.feed(start)
    # The line of the last chunk counts with the trailers behind it.
    counted = len(begun) + (3 if start.endswith(b"0\r\n") else 0)
    reader.feed(begun + b"x" * (16_384 - counted))
    assert reader.problem is None
    with pytest.raises(BadAnswer, match="16384 bytes"):
        reader.feed(b"x")
        reader.end()


@pytest.mark.parametrize("nonsense", [b"nope\r\n", b"nope\r\n\r\n"])
def test_what_was_good_is_given_before_what_is_wrong(nonsense: bytes) -> None:
    """Its sender takes it for delivered."""
    reader = AnswerReader()
    assert reader.feed(CHUNKED + b"2\r\nok\r\n" + nonsense) == b"ok"
    assert (reader.status, reader.is_whole, reader.is_last) == (200, False, True)
    assert isinstance(reader.problem, BadAnswer)
    assert reader.feed(b"0\r\n\r\n") == b""
    assert not reader.is_whole
    with pytest.raises(BadAnswer, match="chunks"):
        reader.end()


def test_chunks_may_be_many() -> None:
    reader = AnswerReader()
    reader.feed(CHUNKED)
    for _ in range(MAX_HEAD):
        assert reader.feed(b"1;ext\r\nx\r\n") == b"x"
    reader.feed(b"0\r\n\r\n")
    assert reader.is_whole


def test_nothing_is_left_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for data, _ in GOOD.values():
            read([data])
        left = [thing for thing in gc.get_objects() if type(thing).__module__ == AnswerReader.__module__]
    finally:
        gc.enable()
    assert left == []


# --- headers ---


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999999", 999_999_999.0),
        ("1000000000", None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("1" * 400, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
@pytest.mark.contract("B3")
def test_retry_after_in_seconds_is_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds
    assert retry_after({}) is None


@pytest.mark.contract("B3")
@pytest.mark.parametrize(
    ("status", "wait"), [(200, None), (201, None), (299, None), (300, 7.0), (429, 7.0), (503, 7.0)]
)
def test_who_has_not_done_it_may_say_when_to_come_back(status: int, wait: float | None) -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 %d X\r\nRETRY-after: 7 \r\nContent-Length: 0\r\n\r\n" % status)
    assert reader.wait == wait
    assert reader.known_head is not None
    assert reader.known_head.wait == wait


def test_headers_are_found_in_any_spelling() -> None:
    headers = Headers([(b"X-One", b"a"), (b"x-one", b"b "), (b"Retry-After", b"\xe9")])
    assert headers["X-ONE"] == "a, b"
    assert headers.get("retry-after") == "é"
    assert headers.get("no", "?") == "?"
    assert ("x-One" in headers, "two" in headers) == (True, False)
    assert (list(headers), len(headers)) == (["x-one", "retry-after"], 2)
    assert headers.raw[0] == (b"X-One", b"a")


def test_headers_are_kept_as_they_came_and_trailers_are_none() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 100 Go\r\nX: hint\r\n\r\n")
    reader.feed(CHUNKED.replace(b"\r\n\r\n", b"\r\nx-KEY:  v\r\n\r\n") + b"0\r\nX: late\r\n\r\n")
    assert reader.raw == [(b"Transfer-Encoding", b"chunked"), (b"x-KEY", b"v")]


# --- heads that are known ---


def read_known(first: bytes, second: bytes, *, to_head: bool = False) -> bytes | None:
    """Return the body of a second answer if its head is known from the first."""
    reader = AnswerReader(to_head=to_head)
    reader.feed(first)
    assert reader.is_whole
    known = reader.known_head
    if known is None:
        return None
    assert (known.status, known.raw, known.wait) == (reader.status, reader.raw, reader.wait)
    return known.body_in(second)


def test_an_answer_with_a_head_that_was_read_is_known() -> None:
    head = OK + b"Date: Sun\r\nContent-Length: 2\r\n\r\n"
    assert read_known(head + b"ok", head + b"no") == b"no"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert read_known(empty, empty) == b""


CHANGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "date": lambda answer: answer.replace(b"Sun", b"Mon"),
    "status": lambda answer: answer.replace(b"200", b"201"),
    "length": lambda answer: answer.replace(b"Content-Length: 2", b"Content-Length: 3") + b"!",
    "header": lambda answer: answer.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"),
    "cut": lambda answer: answer[:-1],
    "more": lambda answer: answer + b"!",
    "hint": lambda answer: b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer,
    "end": lambda _: b"",
}


@pytest.mark.threat("T2")
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_the_same_to_the_byte_is_read(change: str) -> None:
    answer = OK + b"Date: Sun\r\nContent-Length: 2\r\n\r\nok"
    assert read_known(answer, answer) == b"ok"
    assert read_known(answer, CHANGES[change](answer)) is None


@pytest.mark.threat("T2")
@pytest.mark.parametrize("name", ["chunks", "an early hint", "1.0", "it closes"])
def test_a_head_that_says_not_all_is_never_known(name: str) -> None:
    data, _ = GOOD[name]
    assert read_known(data, data) is None


def test_the_answer_to_head_says_nothing_of_others() -> None:
    head = OK + b"Content-Length: 2\r\n\r\n"
    assert read_known(head, head + b"ok", to_head=True) is None
    assert read_known(head, head, to_head=True) is None


# --- against h11 ---

LINES: Final = [
    *(b"Content-Length: %s" % n for n in (b"0", b"2", b"02", b"3", b"2 ", b"+2", b"-1", b"2, 2", b"x", b"")),
    *(b"Transfer-Encoding: %s" % n for n in (b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"")),
    *(b"Connection: %s" % n for n in (b"close", b"keep-alive", b"x, CLOSE", b"upgrade")),
    *(b"Upgrade: x", b"X: y", b" folded", b"X : y", b"X", b"", b"X: \x7f\xff", b"X:\0", b"\xff: x"),
]
STATUS_LINES: Final = [
    *(b"HTTP/1.1 %d Words" % status for status in (200, 200, 200, 201, 204, 304, 100, 101, 99, 999, 1000)),
    *(b"HTTP/1.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 200"),
    *(b"HTTP/1.1  200 OK", b"HTTP/1.1 200 \xff\0", b"", b"junk"),
]
BODIES: Final = [
    *(
        b"",
        b"ok",
        b"ok\r\n",
        b"ok!",
        b"2\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
        b"0\r\n\r\n\r\n",
    ),
    *(
        b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"2;x=y\r\nok\r\n0\r\n\r\n",
        b"2\nok\n0\n\n",
        b"-2\r\n",
    ),
    *(b"2\r\nokok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\n\r", b"10000000000000000\r\n", b"2 \r\nok\r\n0\r\n\r\n"),
]
END: Final = st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r", b"\r\r\n"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    lines = [draw(st.sampled_from(STATUS_LINES)), *draw(st.lists(st.sampled_from(LINES), max_size=3))]
    return b"".join(line + draw(END) for line in [*lines, b""])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    data = b"".join(draw(st.lists(heads(), min_size=1, max_size=2))) + draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 2))
        put = draw(st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b"0", b":", b",", b"\xff", b"\r\n\r\n"]))
        data = data[:place] + put + data[place + length :]
    return data


@pytest.mark.threat("T2")
@given(data=answers(), method=st.sampled_from(["GET", "GET", "HEAD"]), cuts=st.lists(st.integers(0, 200)))
@example(data=GOOD["chunks"][0], method="GET", cuts=[])
@example(data=GOOD["length"][0], method="HEAD", cuts=[])
@example(data=BAD["packed"], method="HEAD", cuts=[])
def test_nothing_is_taken_that_h11_would_not_take(data: bytes, method: str, cuts: list[int]) -> None:
    """And what is taken is the same, whatever pieces it comes in."""
    ours, theirs = read([data], method), read_with_h11(data, method)
    if isinstance(ours, Read):
        assert isinstance(theirs, Read)
        assert ours[:2] == theirs[:2]
        assert theirs.goes_on or not ours.goes_on
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    cut_up = [data[start:end] for start, end in itertools.pairwise(places)]
    in_pieces = read(cut_up, method)
    assert isinstance(in_pieces, str) == isinstance(ours, str)
    if isinstance(ours, Read):
        assert in_pieces == ours


@pytest.mark.threat("T2")
@given(data=answers(), body=st.binary(max_size=4), add=st.sampled_from([b"", b"", b"!", b"\r\n"]))
@example(data=GOOD["length"][0], body=b"no", add=b"")
@example(data=GOOD["204"][0], body=b"", add=b"")
def test_what_is_known_is_what_would_have_been_read(data: bytes, body: bytes, add: bytes) -> None:
    reader = AnswerReader()
    try:
        reader.feed(data)
    except BadAnswer:
        return
    known = reader.known_head if reader.is_whole else None
    head, end, _ = data.rpartition(b"\r\n\r\n")
    for second in (data + add, head + end + body + add):
        found = None if known is None else known.body_in(second)
        if found is not None:
            assert read([second]) == read_with_h11(second) == Read(reader.status, found, goes_on=True)


@given(data=st.sampled_from([data for data, _ in GOOD.values()]), cuts=st.lists(st.integers(0, 100)))
def test_what_good_servers_write_is_taken_as_h11_takes_it(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert read(pieces) == read_with_h11(data)

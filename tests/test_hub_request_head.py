"""The head of a request, read by ourselves: never otherwise than h11 reads it, and nothing that h11 refuses.

Where the two differ we are the stricter ones: each such place is named, and held against what we say of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.test_hub_http import CHUNKED, GET, POST, REFUSED, SNIPPETS, UPGRADE, H, spoil
from trio_signal.hub._exchange import Fields, HttpError, Request
from trio_signal.hub._framing import Chunked
from trio_signal.hub._request_head import read_head


@dataclass(frozen=True)
class Meaning:
    """What a head says, as far as anything is done about it."""

    method: str
    target: str
    headers: dict[str, str]
    http_11: bool


def by_h11(head: bytes) -> Meaning | None:
    """Return what h11 takes from a head; None if it refuses it."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    try:
        event = server.next_event()
        if not isinstance(event, h11.Request):
            return None
        server.next_event()
    except h11.RemoteProtocolError:
        return None
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Meaning(event.method.decode(), event.target.decode(), headers, event.http_version == b"1.1")


def by_ourselves(head: bytes) -> Request | None:
    try:
        return read_head(head)
    except HttpError:
        return None


def cut(data: bytes) -> bytes | None:
    """Return the head as the connection cuts it off: it begins visibly and ends with its first empty line."""
    ends = [end for end in (data.find(b"\n\n") + 2, data.find(b"\n\r\n") + 3) if end > 2]
    return data[: min(ends)] if ends and 0x20 < data[0] < 0x7F else None


def assert_alike(head: bytes) -> None:
    ours, theirs = by_ourselves(head), by_h11(head)
    if ours is None:
        return
    assert theirs is not None, "h11 refuses it"
    # h11 gives the name of the coding in lower case; it has one meaning anyway.
    told = {
        name: text.lower() if name == "transfer-encoding" else text for name, text in ours.headers.items()
    }
    assert (ours.method, told, ours.http_11) == (theirs.method, theirs.headers, theirs.http_11)
    assert theirs.target.partition("?")[0] == ours.path
    assert head.partition(b" ")[2].partition(b" ")[2] == ours.fields.raw


NAMES: Final = st.sampled_from(
    [
        b"Host",
        b"host",
        b"X-A",
        b"X A",
        b"",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"X\xe4",
        b"A:",
    ]
)
VALUES: Final = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"h",
            b"1",
            b"01",
            b"+1",
            b"1, 1",
            b"chunked",
            b"CHUNKED",
            b"gzip, chunked",
            b"close",
            b" \t x \t ",
            b"\xb2",
        ]
    ),
)
LINES: Final = st.lists(
    st.tuples(NAMES, st.sampled_from([b":", b": ", b" :", b":\t"]), VALUES), min_size=0, max_size=5
).map(lambda lines: b"".join(b"%b%b%b\r\n" % line for line in lines))
FIRST: Final = st.tuples(
    st.sampled_from([b"GET", b"POST", b"PRI", b"CONNECT", b"get", b"G\xe4T", b"M-SEARCH", b""]),
    st.sampled_from([b" ", b"  ", b"\t"]),
    st.sampled_from([b"/", b"/a?b=%41", b"*", b"http://h/", b"/\x7f", b"/a#b", b"/\xe4", b"//h/", b""]),
    st.sampled_from(
        [b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.2", b" http/1.1", b" HTTP/1.10", b"", b" HTTP/1.1 "]
    ),
).map(b"".join)


def made(first: bytes, lines: bytes) -> bytes:
    """Return a head of its parts."""
    return first + b"\r\n" + lines + b"\r\n"


MADE: Final = st.builds(made, FIRST, LINES)
MUTATED: Final = st.builds(
    spoil,
    st.sampled_from([GET, POST, CHUNKED, UPGRADE]),
    st.lists(st.tuples(st.integers(0, 300), SNIPPETS, st.integers(0, 4)), max_size=4),
)


@pytest.mark.threat("T13")
@pytest.mark.contract("H7")
@given(data=st.one_of(MADE, MUTATED))
@example(data=b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: \xb2\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nHost:h\r\nX-A:\xa0\x85\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n")
@example(data=b"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n")
def test_whatever_we_take_h11_takes_for_the_same(data: bytes) -> None:
    head = cut(data)
    if head is not None:
        assert_alike(head)


@pytest.mark.threat("T13")
@pytest.mark.contract("H7")
@given(before=MADE, lines=LINES, first=FIRST, data=st.one_of(st.none(), MADE, MUTATED))
@example(before=GET, first=b"POST / HTTP/1.1", lines=b"Host: hub\r\n", data=None)
@example(before=GET, first=b"GET /\t HTTP/1.1", lines=b"Host: hub\r\n", data=None)
@example(before=GET, first=b"GET / HTTP/1.0", lines=b"Host: hub\r\n", data=None)
@example(before=b"GET / HTTP/1.0\r\n\r\n", first=b"GET / HTTP/1.1", lines=b"", data=None)
def test_what_is_known_of_the_head_before_changes_nothing(
    before: bytes, first: bytes, lines: bytes, data: bytes | None
) -> None:
    """Most of the second heads have the lines of the first."""
    head = cut(data or made(first, lines)) or b""
    for earlier in (cut(before), made(b"GET / HTTP/1.1", lines)):
        known = by_ourselves(earlier or b"")
        if known is not None:
            assert told(head, known.fields) == told(head, None)


def told(head: bytes, known: Fields | None) -> Request | tuple[int, bytes | object]:
    """Return a head's request, or how it is refused."""
    try:
        return read_head(head, known)
    except HttpError as error:
        return error.answer.status, error.answer.body


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused_elsewhere_has_no_other_meaning_here(fault: str) -> None:
    data, status = REFUSED[fault]
    head = cut(data)
    if head is not None:
        assert_alike(head)
        # What is wrong with some is not in their heads.
        assert by_ourselves(head) is not None or status_of(head) == status


def status_of(head: bytes) -> int:
    """Return the status with which a head is refused."""
    with pytest.raises(HttpError) as refused:
        read_head(head)
    return refused.value.answer.status


ONLY_HERE: Final = {
    "bare line feeds": (GET.replace(b"\r\n", b"\n"), 400),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
    "a control in a value": (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n", 400),
    "two equal lengths": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        400,
    ),
    "a list of equal lengths": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", 400),
    "length and coding": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "another version": (b"GET / HTTP/1.7\r\nHost: h\r\n\r\n", 505),
    "another form of target": (b"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "two authorizations": (b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400),
    "two origins": (b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nOrigin: a\r\n\r\n", 400),
    "many lines": (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 98 + b"\r\n", 431),
}


@pytest.mark.threat("T13")
@pytest.mark.parametrize("case", ONLY_HERE)
def test_what_h11_lets_pass_we_refuse(case: str) -> None:
    """If h11 should come to refuse one of these, it is not worth a line here any more."""
    head, status = ONLY_HERE[case]
    assert by_h11(head) is not None
    assert status_of(head) == status


#: Heads with so many of something, the most that are taken, and how one more is refused.
LIMITS: Final[dict[str, tuple[Callable[[int], bytes], int, int]]] = {
    "bytes of the target": (lambda count: b"GET /" + b"a" * (count - 1) + H + b"\r\n", 4096, 414),
    "bytes of path and query": (lambda count: b"GET /?" + b"a" * (count - 2) + H + b"\r\n", 4096, 414),
    "lines": (lambda count: b"GET /" + H + b"X: y\r\n" * (count - 3) + b"\r\n", 100, 431),
    "parameters": (lambda count: b"GET /?" + b"&".join([b"a=1"] * count) + H + b"\r\n", 16, 400),
    "parameters of nothing": (lambda count: b"GET /?" + b"&" * (count - 1) + H + b"\r\n", 16, 400),
    "digits of a length": (
        lambda count: b"POST /" + H + b"Content-Length: " + b"9" * count + b"\r\n\r\n",
        20,
        400,
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_head_may_have_so_much_and_no_more(case: str) -> None:
    made_with, most, status = LIMITS[case]
    read_head(made_with(most))
    assert status_of(made_with(most + 1)) == status


def test_endless_lines_are_told_before_anything_else_that_is_wrong() -> None:
    no_request = b"GET /\r\n" + b"X: y\r\n" * 98 + b"\r\n"
    assert status_of(no_request) == 400
    assert status_of(b"X: y\r\n" + no_request) == 431


@pytest.mark.threat("T13")
def test_a_value_holds_any_byte_but_a_control_other_than_the_tab() -> None:
    taken = {byte for byte in range(256) if by_ourselves(with_field(b"X: a%cb" % byte)) is not None}
    assert taken == {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}


def with_field(line: bytes) -> bytes:
    return b"POST /" + H + line + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (with_field(b"X: close"), True),
        (with_field(b"Connection: keep-alive"), True),
        (with_field(b"Connection: closed"), True),
        (with_field(b"Connection: close"), False),
        (with_field(b"Connection: foo, Close"), False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_who_does_not_say_otherwise_keeps_the_connection(head: bytes, stays: bool) -> None:
    assert read_head(head).fields.keeps_alive is stays


@pytest.mark.parametrize("coding", [b"chunked", b"CHUNKED", b" chunked\t"])
def test_of_the_codings_chunked_is_taken(coding: bytes) -> None:
    said = read_head(with_field(b"Transfer-Encoding:" + coding)).headers["transfer-encoding"]
    assert said.lower() == "chunked"


def test_a_head_is_told_in_full() -> None:
    request = read_head(
        b"M-SEARCH /a%20b?q=a+b&q=%C3%A9&=1 HTTP/1.0\r\nX-A:1\r\nx-a: \t2 3\t\r\nX-Empty:\r\n\r\n"
    )
    assert (request.method, request.path, request.http_11) == ("M-SEARCH", "/a%20b", False)
    assert request.query == {"q": ["a b", "é"], "": ["1"]}
    assert request.headers == {"x-a": "1, 2 3", "x-empty": ""}


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(1, 30), max_size=8),
    after=st.binary(max_size=20),
)
def test_chunks_are_put_together_however_they_come(
    pieces: list[bytes], cuts: list[int], after: bytes
) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" + after
    body, came, read = Chunked(), bytearray(), b""
    for size in (*cuts, len(data)):
        came += data[:size]
        data = data[size:]
        while not body.is_whole and (piece := body.take(came)):
            read += piece
        if body.is_whole:
            break
    assert read == b"".join(pieces)
    assert bytes(came) + data == after


@pytest.mark.threat("T13")
@pytest.mark.parametrize("end", [b"0\r\n\n", b"0\r\nX: y\n\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\r\n\n"])
def test_bare_line_feeds_do_not_end_the_chunks_as_they_do_for_h11(end: bytes) -> None:
    data = b"2\r\n{}\r\n" + end + b"GET / HTTP/1.1\r\n"
    server = h11.Connection(h11.SERVER)
    server.receive_data(CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + data)
    events = [server.next_event() for _ in range(3)]
    assert isinstance(events[-1], h11.EndOfMessage), "if h11 refuses it too, this is not needed any more"
    for place in range(1, len(data)):
        body, came = Chunked(), bytearray()
        with pytest.raises(HttpError) as refused:
            for piece in (data[:place], data[place:]):
                came += piece
                while body.take(came):
                    pass
        assert refused.value.answer.status == 400


def test_what_stands_behind_the_last_chunk_is_passed_over() -> None:
    data = b"2\r\n{}\r\n0\r\nX: y\r\nZ: z\r\n\r\n"
    for place in range(1, len(data)):
        body, came, read = Chunked(), bytearray(), b""
        for piece in (data[:place], data[place:] + b"GET"):
            came += piece
            while some := body.take(came):
                read += some
        assert (read, body.is_whole, bytes(came)) == (b"{}", True, b"GET")


@pytest.mark.threat("T13")
@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"x\r\n", 400),
        (b"-1\r\n", 400),
        (b"1\r\nab", 400),
        (b"1" * 21 + b"\r\n", 400),
        (b"1;" + b"a" * 20_000, 431),
    ],
)
def test_what_are_no_chunks_is_refused_without_a_word_of_them(said: bytes, status: int) -> None:
    body, came = Chunked(), bytearray(said)
    with pytest.raises(HttpError) as refused:
        while body.take(came):
            pass
    assert refused.value.answer.status == status
    assert refused.value.__cause__ is None


@pytest.mark.contract("H9")
def test_no_head_shows_its_secrets() -> None:
    request = read_head(
        b"GET /status?ticket=sesame HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sesame\r\n\r\n"
    )
    # What rich shows in the place of the repr.
    shown = [request.__rich_repr__(), request.fields.__rich_repr__()]
    assert "sesame" not in f"{request!r} {request.fields!r} {shown}"
    assert shown == [[("method", "GET"), ("path", "/status")], []]

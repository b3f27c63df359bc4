"""One HTTP connection of the hub's: what it takes, what it refuses, and what a peer can cost it at most."""

import itertools
import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import h11
import msgspec
import pytest
import trio
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_signal.hub._exchange import Fields
from trio_signal.hub._http import Answer, HttpConnection, HttpError, Request, problem
from trio_signal.testing import MemoryStream, memory_connection

LIMIT: Final = 100_000
BODY_TIMEOUT: Final = 60.0
KIB: Final = 1024

GET: Final = b"GET /status?since=5 HTTP/1.1\r\nHost: hub\r\n\r\n"
POST: Final = b"POST /v2/send HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\n\r\nhello"
CODED: Final = b"POST /v2/send HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED: Final = CODED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
UPGRADE: Final = (
    b"GET /websocket?ticket=abc HTTP/1.1\r\nHost: hub\r\nUpgrade: WebSocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Reply:
    """An answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """What a refusal says."""
        told: str = msgspec.json.decode(self.body)["error"]
        return told


@dataclass
class Serving:
    """A connection that is being served as the hub does it, and what came of it."""

    stream: trio.abc.Stream
    connection: HttpConnection
    answer: Answer
    requests: list[Request] = field(default_factory=list[Request])
    bodies: list[bytes] = field(default_factory=list[bytes])
    reading: bool = True
    went_on: bool = False
    ended_at: float | None = None

    async def run(self) -> None:
        """Answer each request until the connection ends; POST has its body read."""
        try:
            while (request := await self.connection.next_request()) is not None:
                self.requests.append(request)
                if request.method == "POST" and self.reading:
                    self.bodies.append(await self.connection.read_body(LIMIT, timeout=BODY_TIMEOUT))
                if not await self.connection.send(self.answer):
                    break
        except HttpError as error:
            self.went_on = await self.connection.send(error.answer, close=True)
        await self.connection.linger()
        await trio.aclose_forcefully(self.stream)
        self.ended_at = trio.current_time()


def link(window: int = 64 * KIB, **limits: Any) -> tuple[MemoryStream, HttpConnection]:
    """Return a peer's end and a connection on ours."""
    peer, ours = memory_connection(window)
    return peer, HttpConnection(ours, **limits)


@asynccontextmanager
async def serve(
    answer: Answer | None = None, *, window: int = 64 * KIB, reading: bool = True, **limits: Any
) -> AsyncGenerator[tuple[MemoryStream, Serving]]:
    """Serve one connection in memory; leaving the block waits until it has ended."""
    peer, ours = memory_connection(window)
    serving = Serving(ours, HttpConnection(ours, **limits), answer or Answer(200, b'{"ok":1}'))
    serving.reading = reading
    with trio.fail_after(86_400):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serving.run)
            yield peer, serving
    assert serving.ended_at is not None
    assert not serving.went_on


async def everything(peer: trio.abc.Stream) -> bytes:
    """Receive until the end of the connection, which must not be a reset."""
    received = bytearray()
    while data := await peer.receive_some(64 * KIB):
        received += data
    return bytes(received)


def replies(received: bytes, *methods: str) -> list[Reply]:
    """Read answers to requests with these methods; nothing may be left over."""
    read: list[Reply] = []
    for method in methods or ("GET",):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(received)
        head, body = client.next_event(), b""
        assert isinstance(head, h11.Response), head
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        headers = {name.decode(): value.decode() for name, value in head.headers}
        assert len(headers) == len(head.headers)
        read.append(Reply(head.status_code, headers, body))
        received = client.trailing_data[0]
    assert received == b""
    return read


async def exchange(data: bytes, *methods: str, **options: Any) -> list[Reply]:
    """Send it all, end our side, and read the answers."""
    async with serve(**options) as (peer, _):
        await peer.send_all(data)
        await peer.send_eof()
        return replies(await everything(peer), *methods)


async def trickle(peer: MemoryStream, data: bytes, *, every: float = 1.0) -> float:
    """Send one byte at a time until it is all sent or the other side is gone; return for how long."""
    start = trio.current_time()
    try:
        for index in range(len(data)):
            await peer.send_all(data[index : index + 1])
            await trio.sleep(every)
    except trio.BrokenResourceError:
        pass  # As many tests intend.
    return trio.current_time() - start


# --- what is taken ---


async def test_a_request_is_told_as_it_was_sent(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(
            b"GET /a%20b/c?since=5&epoch=a%2Bb&since=+7%C3%A9&flag&=x&& HTTP/1.1\r\n"
            b"Host:  hub:80 \r\nX-A: 1\r\n"
            b"x-a: 2\r\nX-Bytes: \xe4\t\xff\r\n\r\n"
        )
        await peer.send_eof()
        await everything(peer)
    (request,) = serving.requests
    assert (request.method, request.path, request.http_11) == ("GET", "/a%20b/c", True)
    assert request.query == {"since": ["5", " 7é"], "epoch": ["a+b"], "flag": [""], "": ["x"]}
    assert request.headers == {"host": "hub:80", "x-a": "1, 2", "x-bytes": "ä\tÿ"}
    assert not request.is_upgrade


async def test_each_answer_carries_the_headers_that_keep_browsers_and_caches_out(
    autojump_clock: MockClock,
) -> None:
    answer = Answer(201, [b"[1", b"", b",2]"], "text/x-test", (("Retry-After", "5"),))
    (reply,) = await exchange(GET, answer=answer)
    assert (reply.status, reply.body) == (201, b"[1,2]")
    assert reply.headers == {
        "server": "trio-signal-hub",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "content-type": "text/x-test",
        "content-length": "5",
        "retry-after": "5",
    }


@pytest.mark.parametrize(("close", "connection"), [(False, "Upgrade"), (True, "close, Upgrade")])
async def test_who_is_told_to_upgrade_is_told_so_hop_by_hop(
    close: bool, connection: str, autojump_clock: MockClock
) -> None:
    answer = problem(426, "this is a WebSocket", headers=(("Upgrade", "websocket"),))
    data = GET.replace(b"Host", b"Connection: close\r\nHost") if close else GET
    (reply,) = await exchange(data, answer=answer)
    assert (reply.headers["upgrade"], reply.headers["connection"]) == ("websocket", connection)


async def test_an_answer_without_content_says_nothing_about_it(autojump_clock: MockClock) -> None:
    """RFC 9110, 8.6: a Content-Length must not stand in a 204."""
    async with serve(Answer(204, headers=(("X-A", "b"),))) as (peer, _):
        await peer.send_all(GET + GET)
        await peer.send_eof()
        first, second = replies(await everything(peer), "OPTIONS", "OPTIONS")
    assert first == second
    assert first.headers["x-a"] == "b"
    assert not {"content-length", "content-type", "transfer-encoding"} & first.headers.keys()


@pytest.mark.threat("T14")
@pytest.mark.contract("H9")
def test_what_is_shown_of_requests_and_answers_holds_no_secrets() -> None:
    headers = {"authorization": "Bearer hidden"}
    fields = Fields(b"hidden", headers, http_11=True, keeps_alive=True)
    request = Request("GET", "/websocket", {"ticket": ["hidden"]}, headers, fields)
    assert repr(request) == "<Request GET /websocket>"
    assert repr(fields) == "<Fields>"
    assert "hidden" not in repr(Answer(200, b"hidden"))


SAMPLES: Final = {
    "get": (GET, b""),
    "post": (POST, b"hello"),
    "chunked": (CHUNKED, b"hello"),
    "chunked in capitals": (CHUNKED.replace(b"chunked", b"CHUNKED"), b"hello"),
    "trailers": (CHUNKED[:-2] + b"X-Sum: 1\r\n\r\n", b"hello"),
    "empty": (POST.replace(b"5", b"0")[:-5], b""),
    "no length": (POST.replace(b"Content-Length: 5\r\n", b"")[:-5], b""),
}


@pytest.mark.parametrize("sample", SAMPLES)
async def test_it_does_not_matter_in_what_pieces_a_request_comes(
    sample: str, autojump_clock: MockClock
) -> None:
    data, body = SAMPLES[sample]
    for size in (1, 2, 3, 7, len(data)):
        async with serve() as (peer, serving):
            for piece in [data[at : at + size] for at in range(0, len(data), size)]:
                await peer.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            await peer.send_eof()
            (reply,) = replies(await everything(peer), "POST")
        assert reply.status == 200
        [request] = serving.requests
        assert f"{request.method} {request.path}".encode() == data.split(b"?")[0].split(b" HTTP")[0]
        assert request.fields.raw == data[data.index(b"HTTP/1.1") : data.index(b"\r\n\r\n") + 4]
        assert serving.bodies in ([body], [])


async def test_requests_sent_ahead_are_answered_one_after_the_other(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(GET + POST + CHUNKED + GET + POST)
        await peer.send_eof()
        answered = replies(await everything(peer), "GET", "POST", "POST", "GET", "POST")
    assert [reply.status for reply in answered] == [200] * 5
    assert [request.method for request in serving.requests] == ["GET", "POST", "POST", "GET", "POST"]
    assert serving.bodies == [b"hello"] * 3


@pytest.mark.threat("T14")
async def test_what_a_client_says_again_is_told_again_and_what_is_long_is_not_kept(
    autojump_clock: MockClock,
) -> None:
    def head(target: str, **more: str) -> bytes:
        lines = "".join(f"{name}: {text}\r\n" for name, text in more.items())
        return f"GET {target} HTTP/1.1\r\nHost: hub\r\n{lines}\r\n".encode()

    long = "x" * 1024
    heads = [
        head("/a?b=1", Authorization="Bearer one"),
        head("/c?b=2", Authorization="Bearer one"),
        head("/a?b=1", Authorization="Bearer two"),
        head("/a?b=1", Authorization="Bearer one", Connection="keep-alive"),
        head("/a", Authorization=f"Bearer {long}"),
        head("/b", Authorization=f"Bearer {long}"),
    ]
    async with serve() as (peer, serving):
        for each in heads:
            await peer.send_all(each)
            await peer.receive_some()
        known = serving.connection._known
        await peer.aclose()
    said = [request.headers["authorization"][:10] for request in serving.requests]
    assert said == ["Bearer one"] * 2 + ["Bearer two", "Bearer one"] + ["Bearer xxx"] * 2
    assert [request.path for request in serving.requests] == ["/a", "/c", "/a", "/a", "/a", "/b"]
    assert [request.query for request in serving.requests[:3]] == [{"b": ["1"]}, {"b": ["2"]}, {"b": ["1"]}]
    first, second, *_ = serving.requests
    assert first.fields is second.fields
    assert known is serving.requests[3].fields


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", True),
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", True),
        (b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", True),
    ],
)
async def test_a_connection_stays_for_whoever_does_not_say_otherwise(
    head: bytes, stays: bool, autojump_clock: MockClock
) -> None:
    method = head.split()[0].decode()
    answer = problem(405, "not here") if method == "CONNECT" else Answer(200, b"body")
    async with serve(answer) as (peer, serving):
        await peer.send_all(head)
        received = await peer.receive_some()
        (reply,) = replies(bytes(received), method)
        assert reply.headers.get("connection") == (None if stays else "close")
        assert isinstance(answer.body, bytes)
        assert reply.headers["content-length"] == str(len(answer.body))
        assert reply.body == (b"" if method == "HEAD" else answer.body)
        if stays:
            await peer.send_all(GET)
            (second,) = replies(bytes(await peer.receive_some()))
            assert second.status == answer.status
        else:
            assert await peer.receive_some() == b""
        await peer.aclose()
    assert len(serving.requests) == 1 + stays
    assert serving.ended_at == 0


async def test_an_answer_may_end_the_connection(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(GET + GET)
    assert await connection.next_request() is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer_reads_to_the_end, peer)
        assert not await connection.send(Answer(200), close=True)
        await connection.linger()


async def peer_reads_to_the_end(peer: MemoryStream) -> None:
    (reply,) = replies(await everything(peer))
    assert reply.headers["connection"] == "close"
    await peer.aclose()


async def test_an_answer_can_come_before_any_request(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(b"GET / HT")
    await peer.send_eof()
    assert not await connection.send(problem(503, "full", headers=(("Retry-After", "7"),)))
    (reply,) = replies(bytes(await peer.receive_some()))
    assert (reply.status, reply.words, reply.headers["retry-after"]) == (503, "full", "7")
    assert reply.headers["connection"] == "close"


async def test_a_second_answer_to_one_request_is_not_sent(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(GET)
    assert await connection.next_request()
    assert await connection.send(Answer(200))
    assert not await connection.send(problem(500, "no"))
    assert len(replies(bytes(await peer.receive_some()))) == 1


# --- what is refused ---

H: Final = b" HTTP/1.1\r\nHost: h\r\n"

REFUSED: Final = {
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an empty line first": (b"\r\n" + GET, 400),
    "a space first": (b" " + GET, 400),
    "one word": (b"GET\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: h\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a lower-case protocol": (b"GET / http/1.1\r\nHost: h\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505),
    "a method that is none": (b"G(T /" + H + b"\r\n", 400),
    "absolute form": (b"GET http://h/" + H + b"\r\n", 400),
    "asterisk form": (b"OPTIONS *" + H + b"\r\n", 400),
    "authority form": (b"CONNECT h:80" + H + b"\r\n", 400),
    "a fragment": (b"GET /#top" + H + b"\r\n", 400),
    "a fragment in the query": (b"GET /?a#top" + H + b"\r\n", 400),
    "a target beyond ASCII": ("GET /ä".encode() + H + b"\r\n", 400),
    "NUL in the target": (b"GET /\0" + H + b"\r\n", 400),
    "percent and nothing": (b"GET /?a=%" + H + b"\r\n", 400),
    "percent and one digit": (b"GET /?a=%4" + H + b"\r\n", 400),
    "percent and no digits": (b"GET /?%zz=1" + H + b"\r\n", 400),
    "percent and no UTF-8": (b"GET /?a=%ff" + H + b"\r\n", 400),
    "a target too long": (b"GET /" + b"a" * 4096 + H + b"\r\n", 414),
    "17 parameters": (b"GET /?" + b"&" * 16 + H + b"\r\n", 400),
    "101 lines": (b"GET /" + H + b"a:\r\n" * 98 + b"\r\n", 431),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /" + H + b"Host: h\r\n\r\n", 400),
    "two authorizations": (b"GET /" + H + b"Authorization: a\r\nauthorization: b\r\n\r\n", 400),
    "two origins": (b"GET /" + H + b"Origin: a\r\nOrigin: a\r\n\r\n", 400),
    "two equal lengths": (b"POST /" + H + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    "two lengths": (b"POST /" + H + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
    "two lengths in one": (b"POST /" + H + b"Content-Length: 1, 1\r\n\r\nx", 400),
    "a negative length": (b"POST /" + H + b"Content-Length: -1\r\n\r\nx", 400),
    "a length with a sign": (b"POST /" + H + b"Content-Length: +1\r\n\r\nx", 400),
    "a length in hexadecimal": (b"POST /" + H + b"Content-Length: 0x1\r\n\r\nx", 400),
    "a length of many digits": (b"POST /" + H + b"Content-Length: " + b"1" * 30 + b"\r\n\r\nx", 400),
    "length and coding": (
        b"POST /" + H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "coding and length": (
        b"POST /" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another coding": (b"POST /" + H + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "two codings": (b"POST /" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "two codings in two lines": (
        b"POST /" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        501,
    ),
    "a coding with a control": (b"POST /" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "a folded line": (b"GET /" + H + b"X-A: 1\r\n 2\r\n\r\n", 400),
    "a first line that is folded": (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "a space before the colon": (b"GET /" + H + b"X-A : 1\r\n\r\n", 400),
    "no colon": (b"GET /" + H + b"X-A\r\n\r\n", 400),
    "no name": (b"GET /" + H + b": 1\r\n\r\n", 400),
    "NUL in a value": (b"GET /" + H + b"X-A: \0\r\n\r\n", 400),
    "a control in a value": (b"GET /" + H + b"X-A: a\x01b\r\n\r\n", 400),
    "DEL in a value": (b"GET /" + H + b"X-A: a\x7fb\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    "bare line feeds only": (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    "a bare carriage return": (b"GET /" + H + b"X-A: a\rb\r\n\r\n", 400),
    "an upgrade with a body": (UPGRADE[:-2] + b"Content-Length: 1\r\n\r\nx", 400),
    "the end within the head": (GET[:-2], 400),
    "the end within the first line": (b"GET /sta", 400),
    "a chunk that is none": (CHUNKED.replace(b"2\r\n", b"x\r\n"), 400),
    "a chunk longer than it says": (CHUNKED.replace(b"he\r\n", b"hex\r\n"), 400),
    "a chunk of 2^80 bytes": (CHUNKED.replace(b"2\r\n", b"1" * 21 + b"\r\n"), 400),
    "the end within a body": (POST[:-1], 400),
    "the end within a chunk": (CHUNKED[:-10], 400),
    "a trailer that is none": (CHUNKED[:-2] + b"X X\r\n\r\n", 400),
    "a body too large": (POST.replace(b"5", b"100001"), 413),
    "a body far too large": (POST.replace(b"5", b"9" * 20), 413),
    "a chunked body too large": (CHUNKED[:-5] + b"186a0\r\n" + b"a" * 100_000 + b"\r\n0\r\n\r\n", 413),
}


@pytest.mark.threat("T13")
@pytest.mark.contract("H7")
@pytest.mark.parametrize("fault", REFUSED)
async def test_what_is_wrong_is_refused_in_words_and_ends_the_connection(
    fault: str, autojump_clock: MockClock
) -> None:
    data, status = REFUSED[fault]
    for size in (1, len(data)):
        if size == 1 and len(data) > 10_000:
            continue
        async with serve() as (peer, serving):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_pieces, peer, data, size)
                (reply,) = replies(await everything(peer), "POST")
        assert reply.status == status
        assert reply.words
        assert reply.headers["connection"] == "close"
        assert reply.headers["content-type"] == "application/json"
        assert serving.ended_at == 0


async def send_pieces(peer: MemoryStream, data: bytes, size: int) -> None:
    """Send what is taken of it, piece by piece, then end our side."""
    try:
        for start in range(0, len(data), size):
            await peer.send_all(data[start : start + size])
        await peer.send_eof()
    except trio.BrokenResourceError:
        pass  # Refused early.


@pytest.mark.threat("T14")
@pytest.mark.contract("H9")
@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + H + b"Authorization Bearer hidden\r\n\r\n",
        b"GET /" + H + b"Authorization: Bearer hidden\x01\r\n\r\n",
        b"GET /" + H + b"Authorization: hidden\r\nAuthorization: hidden\r\n\r\n",
        b"GET /websocket?ticket=hidden%" + H + b"\r\n",
        b"hidden hidden hidden\r\n\r\n",
    ],
)
async def test_a_refusal_quotes_nothing_of_the_request(data: bytes, autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(data)
    with pytest.raises(HttpError) as refused:
        await connection.next_request()
    assert refused.value.answer.status == 400
    assert "hidden" not in repr(refused.value) + str(refused.value) + repr(refused.value.answer.body)
    assert refused.value.__cause__ is None


def test_a_refusal_carries_its_headers() -> None:
    refused = HttpError(401, "unauthorized", headers=(("WWW-Authenticate", "Bearer"),))
    assert refused.answer == problem(401, "unauthorized", headers=(("WWW-Authenticate", "Bearer"),))
    assert msgspec.json.decode(bytes(refused.answer.body)) == {"error": "unauthorized"}  # type: ignore[arg-type]


@pytest.mark.contract("H7")
@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b" ", b"\r\n", b"\xff", b"\0"])
async def test_what_cannot_become_http_is_refused_without_waiting_for_more(
    data: bytes, autojump_clock: MockClock
) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(data)
        (reply,) = replies(await everything(peer))
        assert trio.current_time() == 0
        await peer.aclose()
    assert reply.status == 400
    assert serving.ended_at == 0


@pytest.mark.threat("T13")
@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0", "a\N{EURO SIGN}"])
async def test_a_header_of_our_own_cannot_smuggle_another(value: str, autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(GET)
    assert await connection.next_request()
    with pytest.raises(ValueError, match="header|encode"):
        await connection.send(Answer(200, headers=(("X-A", value),)))


# --- bounds of a head ---


def head_of(size: int) -> bytes:
    """Return a request's head of exactly this size."""
    start = b"GET /" + H + b"X-A: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize(("size", "status"), [(16 * KIB, 200), (16 * KIB + 1, 431), (200 * KIB, 431)])
async def test_a_head_may_have_16_kib(size: int, status: int, autojump_clock: MockClock) -> None:
    async with serve() as (peer, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_pieces, peer, head_of(size), 1000)
            (reply,) = replies(await everything(peer))
    assert reply.status == status


@pytest.mark.parametrize(("length", "status"), [(4096, 200), (4097, 414), (15 * KIB, 414), (17 * KIB, 414)])
async def test_a_target_may_have_4096_bytes(length: int, status: int, autojump_clock: MockClock) -> None:
    (reply,) = await exchange(b"GET /" + b"a" * (length - 1) + H + b"\r\n")
    assert reply.status == status


async def test_a_head_may_have_100_lines_and_a_target_16_parameters(autojump_clock: MockClock) -> None:
    data = b"GET /?" + b"&".join(b"a%d=1" % n for n in range(16)) + H
    async with serve() as (peer, serving):
        await peer.send_all(data + b"a:\r\n" * 97 + b"\r\n")
        await peer.send_eof()
        assert [reply.status for reply in replies(await everything(peer))] == [200]
    assert len(serving.requests[0].query) == 16


@pytest.mark.contract("H7")
@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + H + b"a:\r\n" * 3900 + b"\r\n",
        b"GET /?" + b"a&" * 2000 + H + b"\r\n",
        b"GET /?" + b"&" * 4000 + H + b"\r\n",
    ],
)
async def test_what_is_in_a_head_is_counted_before_it_is_taken_apart(
    data: bytes, autojump_clock: MockClock
) -> None:
    """To parse each of these took longer than to answer ten requests."""
    peer, connection = link()
    await peer.send_all(data)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with pytest.raises(HttpError):
            await connection.next_request()
    finally:
        sys.setprofile(None)
    assert calls < 2000


@pytest.mark.contract("H7")
@pytest.mark.parametrize(
    ("start", "again", "status"),
    [
        (b"GET /" + H, b"X-A: b\r\n", 431),
        (b"GET /" + H + b"X-A: ", b"a", 431),
        (b"GET /", b"a", 414),
        (b"", b"A", 414),
        (b"GET /" + H, b"\xff", 431),
    ],
)
async def test_a_head_without_an_end_is_cut_off_at_once_and_never_kept(
    start: bytes, again: bytes, status: int, autojump_clock: MockClock
) -> None:
    async with serve() as (peer, serving):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, peer, start, again * 1000)
            (reply,) = replies(await everything(peer))
            # It talks on, and is let go after the stated time.
    assert reply.status == status
    assert serving.ended_at is not None
    assert serving.ended_at <= 1.7 + 5
    assert len(serving.connection.leftover()) <= 16 * KIB + 64 * KIB


async def flood(peer: MemoryStream, start: bytes, again: bytes) -> None:
    """Send for ever, at 10 pieces a second."""
    try:
        await peer.send_all(start)
        while True:
            await peer.send_all(again)
            await trio.sleep(0.1)
    except trio.BrokenResourceError:
        pass  # Cut off.


@pytest.mark.contract("H7")
async def test_a_head_that_comes_byte_by_byte_is_cut_off_after_10_s(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await trio.sleep(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, peer, b"GET /" + H + b"X: y\r\n" * 10)
            (reply,) = replies(await everything(peer))
            assert trio.current_time() == 13
    assert reply.status == 408
    assert "10 s" in reply.words
    assert serving.ended_at is not None
    assert serving.ended_at <= 13 + 5


async def test_a_slow_second_head_is_timed_from_its_own_first_byte(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(GET)
        await peer.receive_some()
        await trio.sleep(50)
        assert await trickle(peer, GET[:9]) == 9
        await peer.send_all(GET[9:])
        (reply,) = replies(bytes(await peer.receive_some()))
        assert reply.status == 200
        await peer.aclose()
    assert len(serving.requests) == 2


@pytest.mark.contract("H7")
async def test_who_says_nothing_after_connecting_is_let_go_after_10_s(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        assert await everything(peer) == b""
    assert serving.ended_at == 10


@pytest.mark.contract("H7")
async def test_who_says_nothing_after_a_request_is_let_go_after_60_s(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await trio.sleep(5)
        await peer.send_all(GET)
        assert len(replies(await everything(peer))) == 1
    assert serving.ended_at == 65


async def test_the_limits_are_options(autojump_clock: MockClock) -> None:
    async with serve(idle_timeout=2, head_timeout=3, head_limit=100) as (peer, serving):
        assert await everything(peer) == b""
    assert serving.ended_at == 2
    async with serve(idle_timeout=9, head_timeout=3, head_limit=100) as (peer, serving):
        await peer.send_all(GET)
        await peer.receive_some()
        await trio.sleep(8)
        await peer.send_all(b"G")
        (reply,) = replies(await everything(peer))
        assert trio.current_time() == 2 + 8 + 3
    assert reply.status == 408
    (reply,) = await exchange(head_of(101), head_limit=100)
    assert reply.status == 431


# --- bodies ---


async def read_one(data: bytes) -> tuple[bytes, HttpConnection]:
    """Read one request whole from a peer that has sent this."""
    peer, connection = link(window=1 << 20)
    await peer.send_all(data)
    assert await connection.next_request() is not None
    return await connection.read_body(LIMIT, timeout=BODY_TIMEOUT), connection


@pytest.mark.parametrize("size", [0, 1, 70_000, LIMIT])
async def test_a_body_may_be_as_large_as_the_limit(size: int, autojump_clock: MockClock) -> None:
    data = bytes(n % 251 for n in range(size))
    plain = b"POST /" + H + b"Content-Length: %d\r\n\r\n" % size + data
    assert (await read_one(plain))[0] == data
    coded = b"POST /" + H + b"Transfer-Encoding: chunked\r\n\r\n"
    for start in range(0, size, 9_973):
        piece = data[start : start + 9_973]
        coded += b"%x\r\n%b\r\n" % (len(piece), piece)
    assert (await read_one(coded + b"0\r\n\r\n"))[0] == data


async def test_a_body_is_read_once_and_what_follows_is_kept(autojump_clock: MockClock) -> None:
    for sample in (POST, CHUNKED):
        body, connection = await read_one(sample + GET + b"more")
        assert body == b"hello"
        assert connection.leftover() == GET + b"more"
        assert await connection.read_body(LIMIT, timeout=1) == b""


@pytest.mark.contract("H7")
@pytest.mark.parametrize("head", [POST[:-5].replace(b"5", b"50"), CODED + b"32\r\n"])
async def test_a_body_that_comes_byte_by_byte_is_cut_off_after_10_s(
    head: bytes, autojump_clock: MockClock
) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, peer, b"x" * 50)
            (reply,) = replies(await everything(peer), "POST")
            assert 10 <= trio.current_time() < 10.1
    assert reply.status == 408
    assert serving.ended_at is not None
    assert serving.ended_at <= 15.1


async def test_a_body_may_take_its_time_if_it_keeps_coming(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(POST[:-5].replace(b"5", b"1000000"))

    async def upload() -> None:
        for _ in range(50):
            await trio.sleep(1)
            await peer.send_all(b"x" * 20_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        assert await connection.next_request()
        assert len(await connection.read_body(1_000_000, timeout=60)) == 1_000_000
        assert trio.current_time() == 50


async def test_a_body_has_a_time_in_all(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(POST[:-5].replace(b"5", b"1000000"))

    async def upload() -> None:
        for _ in range(50):
            await trio.sleep(1)
            await peer.send_all(b"x" * 20_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        assert await connection.next_request()
        with pytest.raises(HttpError) as refused:
            await connection.read_body(1_000_000, timeout=30)
        assert trio.current_time() == 30
        nursery.cancel_scope.cancel()
    assert refused.value.answer.status == 408


EXPECT: Final = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_whoever_waits_for_it_is_told_to_go_on_when_the_body_is_wanted(
    autojump_clock: MockClock,
) -> None:
    peer, connection = link()
    await peer.send_all(EXPECT)
    assert await connection.next_request()
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(1):
        pytest.fail(f"got {await peer.receive_some()!r} too early")

    async def upload() -> None:
        assert await peer.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        assert await connection.read_body(LIMIT, timeout=60) == b"hello"
    assert await connection.send(Answer(200))


@pytest.mark.parametrize(
    ("data", "limit"),
    [(EXPECT + b"he", LIMIT), (EXPECT.replace(b"1.1", b"1.0") + b"hello", LIMIT), (EXPECT, 4)],
)
async def test_nobody_is_told_to_go_on_who_has_or_who_is_refused(
    data: bytes, limit: int, autojump_clock: MockClock
) -> None:
    peer, connection = link()
    await peer.send_all(data)
    assert await connection.next_request()
    status = 200
    with trio.move_on_after(1):
        try:
            await connection.read_body(limit, timeout=60)
        except HttpError as error:
            status = error.answer.status
    assert status == (413 if limit == 4 else 200)
    with trio.move_on_after(1):
        pytest.fail(f"got {await peer.receive_some()!r}")


@pytest.mark.contract("H7")
async def test_who_does_not_even_take_that_gets_nothing_behind_half_of_it(autojump_clock: MockClock) -> None:
    async with serve(window=10) as (peer, serving):
        await peer.send_all(EXPECT.replace(b" /", b" /v2/send"))
        await trio.sleep(100)
        assert await peer.receive_some() == b"HTTP/1.1 1"
    assert serving.ended_at == 30 + 10


async def test_who_is_refused_without_being_asked_for_the_body_need_not_send_it(
    autojump_clock: MockClock,
) -> None:
    async with serve(problem(401, "unauthorized"), reading=False) as (peer, serving):
        await peer.send_all(EXPECT)
        (reply,) = replies(await everything(peer), "POST")
        await peer.aclose()
    assert (reply.status, reply.headers["connection"]) == (401, "close")
    assert serving.ended_at == 0


async def test_a_body_of_tiny_chunks_lets_others_run(autojump_clock: MockClock) -> None:
    peer, connection = link(window=1 << 20)
    await peer.send_all(CODED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
    assert await connection.next_request()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert await connection.read_body(5000, timeout=60) == b"x" * 5000
        nursery.cancel_scope.cancel()
    assert turns > 1000


@pytest.mark.contract("H7")
@pytest.mark.parametrize("sample", [POST[:-5].replace(b"5", b"50"), CODED + b"32\r\n"])
async def test_what_comes_of_a_body_is_told_before_it_is_kept(
    sample: bytes, autojump_clock: MockClock
) -> None:
    peer, connection = link()
    came: list[int] = []

    def take(size: int) -> None:
        came.append(size)
        if sum(came) > 40:
            raise HttpError(429, "no room")

    await peer.send_all(sample)
    assert await connection.next_request()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle_fast, peer)
        with pytest.raises(HttpError):
            await connection.read_body(LIMIT, timeout=60, take=take)
        nursery.cancel_scope.cancel()
    assert came == [1] * 41


async def trickle_fast(peer: MemoryStream) -> None:
    await trickle(peer, b"x" * 50, every=0.1)


# --- answers ---


@pytest.mark.contract("H7", "H12")
async def test_an_answer_is_out_before_anybody_lingers(autojump_clock: MockClock) -> None:
    """What an answer holds is free then, whatever its peer does."""
    peer, connection = link()
    await peer.send_all(GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert await connection.next_request()
    assert not await connection.send(Answer(200))
    assert trio.current_time() == 0
    await connection.linger()
    assert trio.current_time() == 2


@pytest.mark.parametrize("sent", [b"", GET])
async def test_nobody_lingers_who_has_got_no_answer(sent: bytes, autojump_clock: MockClock) -> None:
    peer, connection = link(window=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.next_request)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    if sent:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, sent)
            assert await connection.next_request()
        assert not await connection.send(Answer(200, b"x" * 1000))
        assert trio.current_time() == 31
    before = trio.current_time()
    await connection.linger()
    assert trio.current_time() == before


@pytest.mark.contract("H7")
@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("size", [100, 1 << 20])
async def test_a_body_that_nobody_reads_does_not_cost_the_peer_its_answer(
    size: int, reading: bool, autojump_clock: MockClock
) -> None:
    async with serve(problem(401, "unauthorized"), reading=reading) as (peer, serving):
        async with trio.open_nursery() as nursery:
            data = b"POST /" + H + b"Content-Length: %d\r\n\r\n" % (size + LIMIT) + b"x" * (size + LIMIT)
            nursery.start_soon(send_pieces, peer, data, 1 << 14)
            (reply,) = replies(await everything(peer), "POST")
    assert reply.status == (413 if reading else 401)
    assert reply.headers["connection"] == "close"
    assert serving.ended_at == 0


@pytest.mark.contract("H7")
async def test_who_does_not_close_after_the_last_answer_is_closed_after_2_s(
    autojump_clock: MockClock,
) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert len(replies(await everything(peer))) == 1
        assert trio.current_time() == 0
    assert serving.ended_at == 2


@pytest.mark.contract("H7")
async def test_who_talks_on_after_the_last_answer_is_closed_after_5_s(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert 5 <= await trickle(peer, b"x" * 100) <= 6
    assert serving.ended_at == 5


@pytest.mark.contract("H7")
async def test_a_peer_that_does_not_read_is_let_go_after_30_s(autojump_clock: MockClock) -> None:
    async with serve(Answer(200, b"x" * (1 << 20))) as (peer, serving):
        await peer.send_all(GET)
    assert serving.ended_at == 30


@pytest.mark.contract("H7")
async def test_a_peer_that_reads_byte_by_byte_is_let_go_after_30_s(autojump_clock: MockClock) -> None:
    async with serve(Answer(200, b"x" * (1 << 20))) as (peer, serving):
        await peer.send_all(GET)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                if not await peer.receive_some(1):
                    raise trio.BrokenResourceError
                await trio.sleep(1)
                # What had arrived may still be read, for ever.
                if serving.ended_at is not None:
                    raise trio.BrokenResourceError
    assert serving.ended_at == 30


async def test_a_peer_that_reads_too_slowly_on_average_is_let_go(autojump_clock: MockClock) -> None:
    """It always takes 64 KiB within 30 s, and would hold an answer of 4 MiB for 20 minutes."""
    async with serve(Answer(200, b"x" * (4 << 20))) as (peer, serving):
        await peer.send_all(GET)
        while serving.ended_at is None:
            await trio.sleep(20)
            await peer.receive_some(64 * KIB)
    assert 30 < serving.ended_at <= 60


async def test_a_slow_peer_gets_a_long_answer_whole(autojump_clock: MockClock) -> None:
    pieces = [bytes([n % 251]) * (n * 7 % 1000) for n in range(3000)] + [b"y" * 300_000, b""]
    async with serve(Answer(200, pieces)) as (peer, _):
        await peer.send_all(GET)
        await peer.send_eof()
        received = bytearray()
        while data := await peer.receive_some(20_000):
            received += data
            await trio.sleep(1)
    (reply,) = replies(bytes(received))
    assert reply.body == b"".join(pieces)
    assert reply.headers["content-length"] == str(len(reply.body))


class Recorder(trio.abc.Stream):
    """Notes how much is written at once."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.sizes: list[int] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sizes.append(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_an_answer_is_written_in_pieces_that_can_be_timed(autojump_clock: MockClock) -> None:
    peer, ours = memory_connection(10 << 20)
    recorder = Recorder(ours)
    connection = HttpConnection(recorder)
    await peer.send_all(GET)
    assert await connection.next_request()
    assert await connection.send(Answer(200, [b"x" * (1 << 20), *[b"y"] * 100_000, b"z" * 70_000]))
    # The head, then 16 of 64 KiB; the small ones joined; two for the last.
    assert max(recorder.sizes) == 64 * KIB
    assert len(recorder.sizes) == 1 + 16 + 2 + 2
    await peer.send_all(GET)
    assert await connection.next_request()
    recorder.sizes.clear()
    assert await connection.send(Answer(200, b"small"))
    assert len(recorder.sizes) == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_peer_that_is_gone_is_no_error(reset: bool, autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(GET)
    assert await connection.next_request()
    peer.reset() if reset else peer.close()
    assert not await connection.send(Answer(200, b"x" * (1 << 20)))
    assert not await connection.send(Answer(200))
    assert await connection.next_request() is None


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sent", [b"", GET[:5], GET, POST[:-1], CHUNKED[:-9]])
async def test_a_peer_may_vanish_at_any_moment(sent: bytes, reset: bool, autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        peer.reset() if reset else peer.close()
    assert serving.ended_at == 0


async def test_our_own_end_may_be_closed_under_it(autojump_clock: MockClock) -> None:
    async with serve() as (peer, serving):
        await peer.send_all(GET[:5])
        await trio.testing.wait_all_tasks_blocked()
        await serving.stream.aclose()
    assert serving.ended_at == 0


# --- hanging up ---


@pytest.mark.parametrize("how", ["eof", "close", "reset"])
async def test_a_peer_that_hangs_up_while_we_work_is_noticed_at_once(
    how: str, autojump_clock: MockClock
) -> None:
    peer, connection = link()
    await peer.send_all(GET)
    assert await connection.next_request()

    async def leave() -> None:
        await trio.sleep(7)
        if how == "eof":
            await peer.send_eof()
        elif how == "close":
            await peer.aclose()
        else:
            peer.reset()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await connection.wait_hung_up()
        assert trio.current_time() == 7
    # Who has only ended its own side may still listen.
    assert await connection.send(Answer(200)) == (how == "eof")
    assert await connection.next_request() is None
    await connection.wait_hung_up()


async def test_what_comes_while_we_work_is_the_next_request(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(GET)
    assert await connection.next_request()
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, peer, POST[:4])
            await connection.wait_hung_up()
    assert scope.cancelled_caught
    assert await connection.send(Answer(200))
    await peer.send_all(POST[4:])
    request = await connection.next_request()
    assert request is not None
    assert request.method == "POST"
    assert await connection.read_body(LIMIT, timeout=5) == b"hello"


async def test_only_so_much_is_kept_of_what_comes_while_we_work(autojump_clock: MockClock) -> None:
    peer, connection = link(window=1000)
    await peer.send_all(GET)
    assert await connection.next_request()
    sent = 0
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.wait_hung_up)
            while True:
                await peer.send_all(b"x" * 1000)
                sent += 1000
    assert len(connection.leftover()) <= 2 * 64 * KIB
    assert sent <= 2 * 64 * KIB + 1000


# --- upgrades ---


async def test_an_upgrade_can_be_replayed_to_whoever_takes_it_over(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(UPGRADE + b"\x89\x80abcd")
    request = await connection.next_request()
    assert request is not None
    assert request.is_upgrade
    assert request.query == {"ticket": ["abc"]}
    assert UPGRADE.endswith(request.fields.raw)
    assert connection.leftover() == b"\x89\x80abcd"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"POST"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Upgrade: WebSocket", b"Upgrade: h2c"),
        (b"Upgrade: WebSocket\r\n", b""),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"keep-alive, Upgrade", b"keep-alive, Upgraded"),
    ],
)
async def test_what_lacks_a_part_of_an_upgrade_is_none(
    old: bytes, new: bytes, autojump_clock: MockClock
) -> None:
    peer, connection = link()
    await peer.send_all(UPGRADE.replace(old, new))
    request = await connection.next_request()
    assert request is not None
    assert not request.is_upgrade


async def test_an_upgrade_that_is_refused_leaves_the_connection_usable(autojump_clock: MockClock) -> None:
    peer, connection = link()
    await peer.send_all(UPGRADE + GET)
    assert await connection.next_request()
    assert await connection.send(problem(401, "unauthorized"))
    request = await connection.next_request()
    assert request is not None
    assert request.path == "/status"


# --- over TLS ---


async def test_it_works_over_tls(autojump_clock: MockClock) -> None:
    authority: Any = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    theirs, ours = memory_connection()
    peer = trio.SSLStream(theirs, client, server_hostname="127.0.0.1", https_compatible=True)
    stream = trio.SSLStream(ours, server, server_side=True, https_compatible=True)
    serving = Serving(stream, HttpConnection(stream), Answer(200, b"x" * 300_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving.run)
        await peer.send_all(POST + GET.replace(b"Host", b"Connection: close\r\nHost"))
        first, second = replies(await everything(peer), "POST", "GET")
    assert first.body == second.body == b"x" * 300_000
    assert second.headers["connection"] == "close"
    assert serving.bodies == [b"hello"]
    assert serving.ended_at == 2  # TLS has no half-close, so a peer that stays gets the whole time.


@pytest.mark.contract("H7")
async def test_tls_that_is_none_and_tls_that_never_starts_end_in_time(autojump_clock: MockClock) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority: Any = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for said, seconds in ((GET, 0), (b"", 10), (b"\x16\x03\x01", 10)):
        peer, ours = memory_connection()
        stream = trio.SSLStream(ours, context, server_side=True, https_compatible=True)
        serving = Serving(stream, HttpConnection(stream), Answer(200))
        start = trio.current_time()
        await peer.send_all(said)
        await serving.run()
        assert trio.current_time() - start == seconds
        assert serving.requests == []


# --- whatever comes ---


def spoil(data: bytes, edits: Sequence[tuple[int, bytes, int]]) -> bytes:
    """Replace some bytes of a request at some places."""
    for place, new, gone in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


SNIPPETS: Final = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b":",
            b"\0",
            b"%",
            b"0\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"Expect: 100-continue",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"HTTP/1.0",
            b"Upgrade: websocket\r\n",
            b"\t",
        ]
    ),
)
VALID: Final = st.lists(
    st.sampled_from([GET, POST, CHUNKED, UPGRADE, EXPECT + b"hello", GET.replace(b"GET", b"HEAD")]),
    max_size=4,
).map(b"".join)
MUTATED: Final = st.builds(
    spoil, VALID, st.lists(st.tuples(st.integers(0, 2000), SNIPPETS, st.integers(0, 4)), max_size=6)
)


@dataclass(frozen=True)
class Peer:
    """How a hostile peer sends what it sends."""

    data: bytes
    cuts: tuple[int, ...]
    pause: float
    then: str
    reads: bool


PEERS: Final = st.builds(
    Peer,
    data=st.one_of(st.binary(max_size=200), MUTATED, VALID),
    cuts=st.lists(st.integers(0, 600), max_size=5).map(lambda cuts: tuple(sorted(cuts))),
    pause=st.sampled_from([0.0, 0.5, 4.0, 11.0]),
    then=st.sampled_from(["eof", "close", "reset", "hang"]),
    reads=st.booleans(),
)


async def act(peer: MemoryStream, plan: Peer, received: bytearray) -> None:
    """Do what a plan says."""
    async with trio.open_nursery() as nursery:
        if plan.reads:
            nursery.start_soon(receive, peer, received)
        try:
            for start, end in itertools.pairwise((0, *plan.cuts, len(plan.data))):
                await peer.send_all(plan.data[start : max(start, end)])
                await trio.sleep(plan.pause)
            if plan.then == "eof":
                await peer.send_eof()
        except trio.BrokenResourceError:
            pass  # Refused.
        if plan.then in ("close", "reset"):
            peer.reset() if plan.then == "reset" else peer.close()


async def receive(peer: MemoryStream, received: bytearray) -> None:
    try:
        while data := await peer.receive_some():
            received += data
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # Reset, or closed by ourselves.


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.threat("T1")
@pytest.mark.contract("H7")
@settings(max_examples=400)
@given(plan=PEERS, window=st.sampled_from([16, 1000, 64 * KIB]), large=st.booleans())
@example(plan=Peer(b"", (), 0.0, "hang", reads=False), window=16, large=True)
@example(plan=Peer(GET, (3, 9), 11.0, "hang", reads=False), window=16, large=True)
def test_whatever_a_peer_does_the_connection_ends_in_bounded_time(
    plan: Peer, window: int, large: bool
) -> None:
    async def main() -> None:
        received = bytearray()
        answer = Answer(200, b"x" * (200_000 if large else 10))
        # What is sent at most, each request and answer with its whole time, and the end.
        with trio.fail_after(6 * (plan.pause + 10) + 6 * (60 + 30 + 15) + 60 + 5):
            async with serve(answer, window=window) as (peer, serving):
                await act(peer, plan, received)
        # Whatever was answered is HTTP.
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        if received and not any(request.method == "HEAD" for request in serving.requests[:1]):
            client.receive_data(bytes(received))
            head = client.next_event()
            assert head is h11.NEED_DATA or isinstance(head, h11.Response | h11.InformationalResponse)

    in_virtual_time(main)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
            st.binary(max_size=300),
            st.booleans(),
            st.dictionaries(
                st.text(max_size=5), st.lists(st.text(max_size=5), min_size=1, max_size=2), max_size=3
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    cuts=st.lists(st.integers(1, 300), max_size=4),
)
def test_whatever_a_client_says_in_proper_http_is_understood(
    requests: list[tuple[str, bytes, bool, dict[str, list[str]]]], cuts: list[int]
) -> None:
    from urllib.parse import urlencode

    data = b""
    for method, body, chunked, query in requests:
        client = h11.Connection(h11.CLIENT)
        framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
        target = "/p?" + urlencode(query, doseq=True)
        data += client.send(h11.Request(method=method, target=target, headers=[("Host", "x"), framing]))
        data += client.send(h11.Data(data=body)) + client.send(h11.EndOfMessage())

    async def main() -> None:
        peer, connection = link()

        async def say() -> None:
            rest = data
            for cut in cuts:
                await peer.send_all(rest[:cut])
                await trio.sleep(1)
                rest = rest[cut:]
            await peer.send_all(rest)
            await peer.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            for method, body, _, query in requests:
                request = await connection.next_request()
                assert request is not None
                assert (request.method, request.path, request.query) == (method, "/p", query)
                assert await connection.read_body(300, timeout=60) == body
                assert await connection.send(Answer(200, b"x"))
            assert await connection.next_request() is None

    in_virtual_time(main)

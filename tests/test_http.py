"""HTTP under sends and look-ups: what is reused, what is written and read, and what an error proves."""

import gc
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import h11
import httpx
import httpx2
import pytest
import trio
import trio.testing

from tests.scene import Dialler
from trio_signal import AnswerError, Certainty, CertificateError, LinkLost
from trio_signal._connections import Connections
from trio_signal._dial import open_stream, parse_url
from trio_signal._http import Request, Unanswered
from trio_signal.gateways._calls import Call
from trio_signal.gateways._clients import RequestWriter, certainty_of, nothing_has_left
from trio_signal.testing import (
    FakeGateway,
    MemoryStream,
    cut_body,
    hang,
    lost,
    memory_connection,
    open_fake_gateway,
    slow,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
LIMIT = 10_000
WINDOW = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    data: bytes = OK
    then: str = "stay"
    """``"stay"``, ``"end"``, ``"reset"``, or ``"hang"``: neither read nor write any more."""
    early: bool = False
    """Answer once the head has come."""


class Server:
    """Answers each request with the next of its answers, over connections in memory."""

    def __init__(self, nursery: trio.Nursery, *answers: Answer | bytes, window: int = WINDOW) -> None:
        self._nursery = nursery
        self._answers = [a if isinstance(a, Answer) else Answer(a) for a in answers]
        self._window = window
        self.requests: list[h11.Request] = []
        self.bodies: list[bytes] = []
        self.dialled = 0
        self.open = 0

    async def dial(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        ours, theirs = memory_connection(self._window)
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        self.open += 1
        try:
            await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The client is gone, as many tests intend.
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: MemoryStream) -> None:
        while True:
            parser = h11.Connection(h11.SERVER)
            request = await self._event(parser, stream)
            if not isinstance(request, h11.Request):
                return
            self.requests.append(request)
            answer = self._answers.pop(0) if self._answers else Answer()
            if answer.early:
                await stream.send_all(answer.data)
            if answer.early and answer.then == "hang":
                await trio.sleep_forever()
            if not answer.early or answer.then == "stay":
                await self._read_body(parser, stream)
            if not answer.early:
                await stream.send_all(answer.data)
            if not await self._go_on(answer, stream):
                return

    async def _read_body(self, parser: h11.Connection, stream: MemoryStream) -> None:
        body = b""
        while True:
            event = await self._event(parser, stream)
            if isinstance(event, h11.Data):
                body += event.data
                continue
            if isinstance(event, h11.EndOfMessage):
                self.bodies.append(body)
                return
            raise trio.BrokenResourceError("the body was cut off")

    async def _event(self, parser: h11.Connection, stream: MemoryStream) -> object:
        try:
            while (event := parser.next_event()) is h11.NEED_DATA:
                parser.receive_data(await stream.receive_some())
        except h11.RemoteProtocolError:
            return None
        return event

    async def _go_on(self, answer: Answer, stream: MemoryStream) -> bool:
        if answer.then == "hang":
            await trio.sleep_forever()
        if answer.then == "reset":
            stream.reset()
        return answer.then == "stay"


@dataclass(frozen=True)
class Whole:
    """An answer as the tests look at it."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """Asks over connections of ours, with requests of ours."""

    def __init__(self, connections: Connections, base_path: str) -> None:
        self._connections = connections
        self._writer = RequestWriter(parse_url(f"http://gateway.example:8080{base_path}"))
        self._headers = [("X-Key", "value")]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def get(self, path: str) -> Whole:
        return await self.request("GET", path)

    async def post(self, path: str, content: Any, headers: Mapping[str, str] | None = None) -> Whole:
        if isinstance(content, bytes):
            headers = {"Content-Length": str(len(content))}
        return await self.request("POST", path, content, headers)

    async def request(
        self, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None
    ) -> Whole:
        request = self._writer.write(Call(method, path, headers or {}, content), self._headers)
        answer = await self._connections.exchange(request, max_answer=LIMIT)
        return Whole(answer.status, answer.body)

    async def aclose(self) -> None:
        await self._connections.aclose()


def client_of(dial: Any, base_path: str = "", **options: Any) -> tuple[Client, Connections]:
    connections = Connections(dial, **options)
    return Client(connections, base_path), connections


class Pieces:
    """A body that is made as it is read; an iterator and no generator, so that nobody needs to close it."""

    def __init__(self, *pieces: bytes, pause: float = 0.0, then: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._pause = pause
        self._then = then

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(self._pause)
        if not self._pieces:
            raise self._then or StopAsyncIteration
        return self._pieces.pop(0)


def large_body(size: int = 1_000_000) -> dict[str, Any]:
    return {"content": Pieces(*[b"x" * 10_000] * (size // 10_000)), "headers": {"Content-Length": str(size)}}


class Broken(Exception):
    pass


async def get(client: Client, path: str = "/x") -> str:
    with trio.fail_after(60):
        return (await client.get(path)).text


# --- what is reused ---


async def test_one_connection_serves_one_request_after_the_other(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client, transport = client_of(server.dial)
    assert [await get(client) for _ in range(5)] == ["ok"] * 5
    assert (await client.post("/y", content=b"body")).status_code == 200
    assert server.dialled == 1
    assert server.bodies == [b""] * 5 + [b"body"]
    await transport.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert server.open == 0


async def test_closing_the_client_closes_what_is_idle(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    async with client:
        await get(client)
        assert server.open == 1
    await trio.testing.wait_all_tasks_blocked()
    assert server.open == 0


@pytest.mark.parametrize(("idle", "dialled"), [(0.1, 1), (19.9, 1), (20.1, 2), (3600, 2)])
async def test_a_connection_idle_for_over_20_s_is_not_reused(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, idle: float, dialled: int
) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    await get(client)
    await trio.sleep(idle)
    assert await get(client) == "ok"
    assert server.dialled == dialled
    await trio.testing.wait_all_tasks_blocked()
    assert server.open == 1, "the old one is closed"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["close", "1.0"],
)
async def test_what_the_gateway_will_close_is_not_reused(nursery: trio.Nursery, answer: bytes) -> None:
    server = Server(nursery, answer)
    client, _ = client_of(server.dial)
    assert [await get(client) for _ in range(2)] == ["ok", "ok"]
    assert server.dialled == 2


@pytest.mark.parametrize(
    "extra",
    [b"\r\n", b"garbage", b"HTTP/1.1 201 Created\r\nContent-Length: 19\r\n\r\n" + b'{"timestamp":"111"}'],
    ids=["a line end", "garbage", "another answer"],
)
async def test_bytes_behind_an_answer_are_not_the_next_one(nursery: trio.Nursery, extra: bytes) -> None:
    """Else the answer to one send would be taken for that to the next."""
    server = Server(nursery, OK + extra, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
    client, _ = client_of(server.dial)
    assert await get(client) == "ok"
    assert await get(client) == "second"


async def test_bytes_that_come_while_idle_are_not_the_next_answer(nursery: trio.Nursery) -> None:
    """A proxy that gives an idle connection up says 408 on it."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    told = trio.Event()
    count = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal count
        count += 1
        await stream.receive_some()
        await stream.send_all(OK)
        if count == 1:
            await told.wait()
            await stream.send_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    nursery.start_soon(trio.serve_listeners, serve, listeners)
    port = listeners[0].socket.getsockname()[1]
    client, transport = client_of(partial(trio.open_tcp_stream, "127.0.0.1", port))
    assert await get(client) == "ok"
    told.set()
    await wait_readable(transport)
    assert await get(client) == "ok"
    assert count == 2
    await transport.aclose()


async def wait_readable(transport: Connections) -> None:
    """Wait until something, if only the end, has come on the idle connection."""
    stream = transport._idle[-1].stream
    assert isinstance(stream, trio.SocketStream)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(stream.socket.fileno())


async def test_a_connection_that_the_peer_has_closed_is_not_reused() -> None:
    async with open_fake_gateway() as gateway:
        port = gateway.port or 0
        client, transport = client_of(partial(trio.open_tcp_stream, "127.0.0.1", port))
        assert (await client.get("/v1/health")).status_code == 204
        gateway.kill()
        await wait_readable(transport)
        await gateway.start()
        assert (await client.get("/v1/health")).status_code == 204
        await client.aclose()


async def test_nothing_is_reused_after_renew(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client, transport = client_of(server.dial)
    await get(client)
    await transport.renew()
    await trio.testing.wait_all_tasks_blocked()
    assert server.open == 0
    await get(client)
    assert server.dialled == 2
    await transport.renew()
    await transport.renew()


@pytest.mark.contract("O10")
async def test_renew_cuts_no_request_that_is_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script("GET /v1/health", slow(10))
        client, transport = client_of(lambda: gateway.connect("gateway", 80))
        got: list[int] = []

        async def ask() -> None:
            got.append((await client.get("/v1/health")).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(5)
            await transport.renew()
        assert got == [201]
        assert not transport._idle, "it belongs to the generation before"


async def test_requests_at_the_same_time_have_a_connection_each_and_one_is_kept(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    async with trio.open_nursery() as several:
        for _ in range(3):
            several.start_soon(get, client)
    await trio.testing.wait_all_tasks_blocked()
    assert (server.dialled, server.open) == (3, 1)
    await get(client)
    assert server.dialled == 3


# --- what is sent ---


async def test_the_base_path_is_on_the_wire_and_in_no_log(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    server = Server(nursery)
    client, _ = client_of(server.dial, base_path="/s3cret/base")
    await get(client, "/v1/about?x=1")
    assert server.requests[0].target == b"/s3cret/base/v1/about?x=1"
    assert "s3cret" not in caplog.text


async def test_a_body_goes_out_as_it_is_read(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)

    parts = [b"%03d" % n * 1000 for n in range(100)]
    length = {"Content-Length": "300000"}
    await client.post("/x", content=Pieces(*parts, pause=1), headers=length)
    await client.post("/x", content=Pieces(*parts, pause=1), headers=length)
    assert server.bodies == [b"".join(parts)] * 2
    assert server.dialled == 1, "a connection that was busy was not idle"


async def test_a_body_of_nothing_goes_out(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    assert (await client.post("/x", content=Pieces(), headers={"Content-Length": "0"})).text == "ok"
    assert server.bodies == [b""]


async def test_a_body_that_fails_closes_the_connection(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    with pytest.raises(Broken):
        await client.post("/x", content=Pieces(b"half", then=Broken()), headers={"Content-Length": "8"})
    await trio.testing.wait_all_tasks_blocked()
    assert (server.open, server.bodies) == (0, [])
    assert await get(client) == "ok"


@pytest.mark.parametrize("length", ["3", "5"])
async def test_a_body_of_another_length_than_said_is_an_error(nursery: trio.Nursery, length: str) -> None:
    server = Server(nursery)
    client, _ = client_of(server.dial)
    with pytest.raises(Unanswered, match="not as long"):
        await client.post("/x", content=Pieces(b"four"), headers={"Content-Length": length})
    await trio.testing.wait_all_tasks_blocked()
    assert (server.open, server.bodies) == (0, [])
    assert await get(client) == "ok"


# --- answers ---

GOOD = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
    "100 before it": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "several before it": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3
    + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("form", GOOD)
async def test_answers_of_every_form_are_read(nursery: trio.Nursery, form: str) -> None:
    server = Server(nursery, GOOD[form])
    client, _ = client_of(server.dial)
    assert [await get(client), await get(client)] == ["ok", "ok"]
    assert server.dialled == 1


async def test_an_answer_that_ends_with_the_connection_is_read(nursery: trio.Nursery) -> None:
    server = Server(nursery, Answer(b"HTTP/1.1 200 OK\r\n\r\nok", then="end"))
    client, _ = client_of(server.dial)
    assert [await get(client), await get(client)] == ["ok", "ok"]
    assert server.dialled == 2


@pytest.mark.parametrize(
    ("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")], ids=["204", "304", "HEAD"]
)
async def test_answers_without_a_body_end_with_their_head(
    nursery: trio.Nursery, status: int, method: str
) -> None:
    head = b"HTTP/1.1 %d Words\r\n" % status + (b"Content-Length: 9\r\n\r\n" if method == "HEAD" else b"\r\n")
    server = Server(nursery, head)
    client, _ = client_of(server.dial)
    answer = await client.request(method, "/x")
    assert (answer.status_code, answer.content) == (status, b"")
    assert await get(client) == "ok"
    assert server.dialled == 1


async def test_an_answer_in_one_byte_slices(nursery: trio.Nursery) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.split(1)
        client, _ = client_of(lambda: gateway.connect("gateway", 80))
        assert (await client.get("/v1/about")).json()["mode"] == "json-rpc"
        assert (await client.get("/v1/accounts")).json() == [gateway.account]
        assert len(gateway.requests) == 2


async def test_an_answer_as_large_as_the_limit_is_read(nursery: trio.Nursery) -> None:
    body = b"x" * LIMIT
    server = Server(nursery, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LIMIT + body)
    client, _ = client_of(server.dial)
    assert (await client.get("/x")).content == body


LONG = b"x" * (LIMIT + 1)
CHUNK = b"64\r\n" + b"x" * 100 + b"\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD: dict[str, tuple[Answer, type[Exception]]] = {
    "garbage": (Answer(b"\x00\xff no http\r\n\r\n", "end"), Unanswered),
    "another protocol": (Answer(b"220 mail.example\r\n", "end"), Unanswered),
    "nothing": (Answer(b"", "end"), Unanswered),
    "a reset": (Answer(b"", "reset"), Unanswered),
    "half a status line": (Answer(b"HTTP/1.1 2", "end"), Unanswered),
    "half a head": (Answer(b"HTTP/1.1 200 OK\r\nContent-Le", "end"), Unanswered),
    "an endless head": (
        Answer(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "hang"),
        Unanswered,
    ),
    "only a 100": (Answer(b"HTTP/1.1 100 Continue\r\n\r\n", "end"), Unanswered),
    "a 101": (Answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "end"), Unanswered),
    "a short body": (
        Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "end"),
        Unanswered,
    ),
    "a body cut by a reset": (
        Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "reset"),
        Unanswered,
    ),
    "chunks that break off": (
        Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "end"),
        Unanswered,
    ),
    "a bad chunk": (
        Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n", "end"),
        Unanswered,
    ),
    "two lengths": (
        Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"),
        Unanswered,
    ),
    "no number as length": (
        Answer(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok"),
        Unanswered,
    ),
    "too much": (Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n" + LONG, "hang"), AnswerError),
    "too much in chunks": (Answer(CHUNKED + CHUNK * 101, "hang"), AnswerError),
    "too much to the end": (Answer(b"HTTP/1.1 200 OK\r\n\r\n" + LONG, "hang"), AnswerError),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.contract("O5")
async def test_a_bad_answer_is_an_error_that_proves_nothing_about_the_request(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, case: str
) -> None:
    answer, kind = BAD[case]
    server = Server(nursery, answer, window=200_000)
    client, _ = client_of(server.dial)
    with trio.fail_after(1), pytest.raises(kind) as caught:
        await client.post("/x", content=b"message")
    assert certainty_of(caught.value) is Certainty.UNKNOWN
    assert len(str(caught.value)) < 300
    assert await get(client) == "ok"
    assert server.dialled == 2


# --- answers that come while the request is still being sent ---


@pytest.mark.parametrize("then", ["end", "stay"])
async def test_an_early_answer_is_read(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, then: str
) -> None:
    """Whether the gateway closes behind it or reads on."""
    server = Server(nursery, Answer(TOO_LARGE, then, early=True))
    client, _ = client_of(server.dial)
    with trio.fail_after(30):
        answer = await client.post("/x", **large_body())
    assert (answer.status_code, answer.text) == (413, "big")
    assert await get(client) == "ok"
    assert server.dialled == 2


async def test_an_early_answer_over_tcp_is_read(nursery: trio.Nursery) -> None:
    """The kernel answers what nobody reads with a reset, behind which the answer still stands."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def refuse(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        await stream.send_all(TOO_LARGE)
        await stream.aclose()

    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    port = listeners[0].socket.getsockname()[1]
    client, _ = client_of(partial(trio.open_tcp_stream, "127.0.0.1", port))
    with trio.fail_after(20):
        answer = await client.post("/x", **large_body(20_000_000))
    assert (answer.status_code, answer.text) == (413, "big")


async def test_a_connection_that_breaks_while_sending_proves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        client, _ = client_of(lambda: gateway.connect("gateway", 80))
        gateway.script_send(cut_body(50_000))
        with pytest.raises(Unanswered) as caught:
            await client.post("/v2/send", **large_body())
        assert certainty_of(caught.value) is Certainty.UNKNOWN
        assert (await client.get("/v1/health")).status_code == 204


# --- what an error proves ---


@pytest.mark.parametrize("error", [LinkLost("refused"), CertificateError("it has expired")])
@pytest.mark.contract("O5")
async def test_what_dialling_raises_proves_that_nothing_was_sent(error: Exception) -> None:
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    client, _ = client_of(dial)
    with pytest.raises(type(error)) as caught:
        await client.get("/x")
    assert caught.value is error
    assert certainty_of(error) is Certainty.NOT_SENT


@pytest.mark.parametrize("error", [OSError("no route"), trio.BrokenResourceError(), Broken("a proxy's own")])
@pytest.mark.contract("O5")
async def test_whatever_connecting_raises_proves_that_nothing_was_sent(error: Exception) -> None:
    """Nothing can have left before there is a stream, whatever ``connect=`` raises."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    client, _ = client_of(partial(open_stream, parse_url("http://gateway.example:8080"), connect, None))
    with pytest.raises(LinkLost) as caught:
        await client.get("/x")
    assert certainty_of(caught.value) is Certainty.NOT_SENT
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.contract("O5")
def test_which_errors_prove_that_nothing_has_left(library: ModuleType) -> None:
    proven = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
    kinds: dict[str, type[Exception]] = {
        name: kind
        for name, kind in vars(library).items()
        if isinstance(kind, type) and issubclass(kind, library.RequestError)
    }
    assert proven < set(kinds)
    assert {name for name, kind in kinds.items() if nothing_has_left(kind("words"))} == proven


def test_errors_of_anybody_else_prove_nothing() -> None:
    assert not nothing_has_left(OSError())
    assert not nothing_has_left(LinkLost("x"))


# --- cancellation ---


@pytest.mark.parametrize("answer", [hang(), slow(5), lost().after(5)], ids=["hang", "slow", "lost"])
async def test_a_cancelled_request_closes_its_connection_and_the_next_works(
    autojump_clock: trio.testing.MockClock, answer: Any
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        dialler = Dialler(gateway)
        client, _ = client_of(lambda: dialler.connect("gateway", 80))
        assert (await client.get("/v1/health")).status_code == 204
        gateway.script("GET /v1/about", answer)
        with trio.move_on_after(1) as scope:
            await client.get("/v1/about")
        assert scope.cancelled_caught
        assert (len(dialler.streams), dialler.left_open) == (1, 0)
        assert (await client.get("/v1/about")).status_code == 200


async def cancel_after(checkpoints: int, scope: trio.CancelScope) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel(reason="the test says so")


async def test_a_request_cancelled_at_any_checkpoint_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery)
    client, transport = client_of(server.dial)
    finished = 0
    for checkpoints in range(40):
        async with trio.open_nursery() as storm:
            storm.start_soon(cancel_after, checkpoints, storm.cancel_scope)
            answer = await client.post("/x", **large_body(100_000))
            assert answer.text == "ok"
            finished += 1
            storm.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == len(transport._idle)
        assert await get(client) == "ok"
    assert 0 < finished < 40


async def test_a_request_cancelled_while_an_old_connection_is_closed_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    finished = 0
    for checkpoints in range(20):
        server = Server(nursery)
        client, transport = client_of(server.dial, most_idle=2)
        async with trio.open_nursery() as both:
            both.start_soon(get, client)
            both.start_soon(get, client)
        await trio.sleep(15)
        await get(client)
        # One of the two is over 20 s old now, and the other is not.
        await trio.sleep(10)
        async with trio.open_nursery() as storm:
            storm.start_soon(cancel_after, checkpoints, storm.cancel_scope)
            assert await get(client) == "ok"
            finished += 1
            storm.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert server.dialled == 2
        assert server.open == len(transport._idle)
        await transport.aclose()
    assert 0 < finished < 20


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def storm(gateway: FakeGateway, client: Client, count: int) -> None:
    """Cancel so many requests, each a little later than the one before."""
    gateway.script("GET /v1/about", *([hang()] * count))
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        for n in range(count):
            scope = trio.CancelScope(deadline=trio.current_time() + n * 0.01)

            async def ask(scope: trio.CancelScope = scope) -> None:
                with scope:
                    await client.get("/v1/about")

            nursery.start_soon(ask)


@pytest.mark.parametrize("dialler", ["tcp", "memory"])
async def test_a_storm_of_cancelled_requests_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, dialler: str
) -> None:
    async with open_fake_gateway() as gateway:
        port = gateway.port or 0
        connect: Callable[..., Any] = trio.open_tcp_stream if dialler == "tcp" else gateway.connect
        client, _ = client_of(lambda: connect("127.0.0.1", port))
        assert (await client.get("/v1/health")).status_code == 204
        await trio.testing.wait_all_tasks_blocked()
        before = open_files(), trio.lowlevel.current_statistics().tasks_living
        await storm(gateway, client, 100)
        with trio.fail_after(5):
            assert (await client.get("/v1/health")).status_code == 204
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (open_files(), trio.lowlevel.current_statistics().tasks_living) == before
        await client.aclose()


def test_a_request_shows_nothing_of_what_it_holds() -> None:
    request = Request(b"POST /v2/send HTTP/1.1\r\nAuthorization: Bearer sesame\r\n\r\n", b"sesame", 6)
    # What rich shows in the place of the repr.
    assert f"{request!r} {request.__rich_repr__()}" == "<Request> []"

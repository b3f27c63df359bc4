"""Who carries requests: what is written, which connections are kept, what is told when it goes wrong."""

import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import h11
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.scene import WatchedStream
from tests.test_http import OK, Answer, Pieces, Server
from trio_signal import AnswerError, Certainty, LinkLost, Reason, RequestFailed
from trio_signal._connections import Connections
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal._errors import CertificateError, UnknownAccount
from trio_signal._http import Request, Unanswered, open_response
from trio_signal._outcomes import Failed, Sent
from trio_signal.gateways import SendResult
from trio_signal.gateways._calls import Call, json_call
from trio_signal.gateways._clients import (
    ForeignClient,
    Headers,
    OwnClient,
    RequestWriter,
    cause_of,
    certainty_of,
)
from trio_signal.gateways._requests import Requests

ADDRESS: Final = parse_url("http://gateway.example:8080/base")
KEY: Final[Headers] = [("X-Key", "value")]
HEAD: Final = (
    b"Host: gateway.example:8080\r\nAccept-Encoding: identity\r\nUser-Agent: trio-signal\r\nX-Key: value\r\n"
)
ASK: Final = Request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


# --- what is written ---


def test_a_request_is_written_as_it_should_be() -> None:
    writer = RequestWriter(ADDRESS)
    request = writer.write(json_call("POST", "/v2/send", {"a": 1}), KEY)
    assert request.head == (
        b"POST /base/v2/send HTTP/1.1\r\n"
        + HEAD
        + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    )
    assert (request.body, request.length, request.is_head) == (b'{"a":1}', 7, False)
    asked = writer.write(Call("GET", "/x", {"Accept": "text/plain"}), KEY)
    assert asked.head == b"GET /base/x HTTP/1.1\r\n" + HEAD + b"Accept: text/plain\r\n\r\n"
    assert (asked.body, asked.length, asked.is_head) == (b"", 0, False)


@pytest.mark.parametrize(
    ("method", "says"),
    [("GET", False), ("HEAD", False), ("DELETE", False), ("POST", True), ("PUT", True), ("PATCH", True)],
)
def test_who_expects_a_body_is_told_that_there_is_none(method: str, says: bool) -> None:
    request = RequestWriter(ADDRESS).write(Call(method, "/x"), KEY)
    assert (b"\r\nContent-Length: 0\r\n" in request.head) is says
    assert request.is_head is (method == "HEAD")


def test_the_callers_own_name_takes_the_place_of_ours() -> None:
    head = RequestWriter(ADDRESS).write(Call("GET", "/x"), [("user-AGENT", "mine")]).head
    assert head.lower().count(b"user-agent") == 1
    assert b"\r\nuser-AGENT: mine\r\n" in head


@pytest.mark.threat("T7")
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/receive/+4915?a=b%20c&d=~e,f;g:h@i!j$k'l(m)n*o[p]", None),
        ("/a b", "/a%20b"),
        ("/ü?ü", "/%C3%BC?%C3%BC"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/a#b", "/a%23b"),
        ("/x HTTP/1.1\r\nX: y\r\n\r\n", "/x%20HTTP/1.1%0D%0AX:%20y%0D%0A%0D%0A"),
    ],
)
def test_what_no_url_may_hold_is_quoted(path: str, target: str | None) -> None:
    line = RequestWriter(ADDRESS).write(Call("GET", path), KEY).head.partition(b"\r\n")[0]
    assert line == f"GET /base{target or path} HTTP/1.1".encode()


@pytest.mark.threat("T7")
@given(path=st.text(st.characters(exclude_categories=["Cs"])), body=st.none() | st.binary(max_size=20))
def test_no_path_says_more_than_a_path(path: str, body: bytes | None) -> None:
    call = Call("POST", f"/{path}", {} if body is None else {"Content-Length": str(len(body))}, body)
    request = RequestWriter(ADDRESS).write(call, KEY)
    assert isinstance(request.body, bytes)
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.head + request.body)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert event.target.startswith(b"/base/")
    assert [name for name, _ in event.headers] == [
        *(b"host", b"accept-encoding", b"user-agent", b"x-key", b"content-length")
    ]
    sent = b""
    while isinstance(event := server.next_event(), h11.Data):
        sent += event.data
    assert (isinstance(event, h11.EndOfMessage), sent) == (True, body or b"")
    assert server.trailing_data == (b"", False)


def test_other_headers_are_written_at_once_and_those_before_never_again() -> None:
    writer = RequestWriter(ADDRESS)
    call = Call("GET", "/x")
    old: Headers = [("Authorization", "Bearer old")]
    new: Headers = [("Authorization", "Bearer new")]
    first = writer.write(call, old).head
    assert writer.write(call, old).head == first
    assert b"old" in first
    again = writer.write(call, new).head
    assert again == first.replace(b"old", b"new")
    # Whatever is asked for, only so much is kept.
    for n in range(100):
        assert b" /base/x/%d HTTP" % n in writer.write(Call("GET", f"/x/{n}"), new).head
    assert len(writer._heads) <= 16
    assert not any(b"old" in head for head in writer._heads.values())


async def test_headers_are_the_same_list_until_they_change(autojump_clock: MockClock) -> None:
    fixed = Credentials({"X-Key": "value"}, "t0ken", None)
    assert fixed.known is not None
    assert await fixed.headers() is fixed.known
    assert fixed.known == [("X-Key", "value"), ("Authorization", "Bearer t0ken")]
    tokens = iter(["one", "two"])
    asked = Credentials((), lambda: next(tokens), None)
    before_all = asked.known
    assert before_all is None
    before = await asked.headers()
    assert before is await asked.headers()
    assert await asked.renew()
    assert await asked.headers() == [("Authorization", "Bearer two")]
    assert before == [("Authorization", "Bearer one")]


async def test_head_and_body_go_out_in_one_piece(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    writes: list[bytes] = []

    class Counted(WatchedStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            writes.append(bytes(data))
            await super().send_all(data)

    async def dial() -> trio.abc.Stream:
        return Counted(await server.dial())

    client = OwnClient(RequestWriter(ADDRESS), dial, most_idle=1)
    answer = await client.request(json_call("POST", "/v2/send", [1]), KEY, limit=60, max_answer=100)
    assert (answer.status, answer.wait, answer.body) == (200, None, b"ok")
    assert len(writes) == 1
    assert server.bodies == [b"[1]"]
    await client.aclose()


# --- which connections are kept ---


async def ask(connections: Connections, *, count: int = 1) -> None:
    """Make so many requests at the same time."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(lambda: connections.exchange(ASK, max_answer=10))


@pytest.mark.parametrize("most", [1, 2, 4])
async def test_as_many_are_kept_as_may_be_in_flight(nursery: trio.Nursery, most: int) -> None:
    server = Server(nursery)
    connections = Connections(server.dial, most_idle=most)
    await ask(connections, count=4)
    await wait_all_tasks_blocked()
    assert (server.dialled, server.open) == (4, most)
    await ask(connections, count=most)
    assert server.dialled == 4
    await connections.aclose()
    await wait_all_tasks_blocked()
    assert server.open == 0


async def test_the_one_used_last_is_used_next_and_the_others_grow_old(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery)
    connections = Connections(server.dial, most_idle=3)
    await ask(connections, count=3)
    for _ in range(30):
        await trio.sleep(1)
        await ask(connections)
    await wait_all_tasks_blocked()
    assert (server.dialled, server.open) == (3, 1)


async def test_after_the_end_nothing_is_sent(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    client = OwnClient(RequestWriter(ADDRESS), server.dial, most_idle=1)
    await client.aclose()
    with pytest.raises(LinkLost, match="closed") as caught:
        await client.request(Call("GET", "/x"), KEY, limit=60, max_answer=100)
    assert certainty_of(caught.value) is Certainty.NOT_SENT
    assert server.dialled == 0


async def test_what_ends_after_the_end_is_not_kept(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(nursery)
    connections = Connections(server.dial)
    done = trio.Event()

    async def run() -> None:
        request = Request(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", Pieces(b"ab", pause=5), 2
        )
        answer = await connections.exchange(request, max_answer=10)
        assert answer.body == b"ok"
        done.set()

    nursery.start_soon(run)
    await trio.sleep(6)
    await connections.aclose()
    await done.wait()
    await wait_all_tasks_blocked()
    assert (server.dialled, server.open) == (1, 0)


async def test_what_has_no_connection_by_the_end_is_not_sent(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery)

    async def dial_late() -> trio.abc.Stream:
        await trio.sleep(5)
        return await server.dial()

    client, done = OwnClient(RequestWriter(ADDRESS), dial_late, most_idle=1), trio.Event()

    async def run() -> None:
        with pytest.raises(LinkLost, match="closed") as caught:
            await client.request(Call("GET", "/x"), KEY, limit=60, max_answer=100)
        assert certainty_of(caught.value) is Certainty.NOT_SENT
        done.set()

    nursery.start_soon(run)
    await trio.sleep(1)
    await client.aclose()
    await done.wait()
    await wait_all_tasks_blocked()
    assert (server.dialled, server.open, server.requests) == (1, 0, [])


@pytest.mark.contract("O5")
@pytest.mark.parametrize(("limit", "ends"), [(60.0, 20.0), (10.0, 9.0)])
async def test_connecting_ends_before_the_request_does(
    autojump_clock: MockClock, limit: float, ends: float
) -> None:
    client = OwnClient(RequestWriter(ADDRESS), trio.sleep_forever, most_idle=1)
    with trio.fail_after(limit), pytest.raises(LinkLost, match="no connection within") as caught:
        await client.request(Call("GET", "/x"), KEY, limit=limit, max_answer=100)
    assert trio.current_time() == pytest.approx(ends)
    assert certainty_of(caught.value) is Certainty.NOT_SENT


# --- over TCP, where what a socket takes at once is written at once ---


@asynccontextmanager
async def over_tcp(serve: Callable[[trio.SocketStream], Any]) -> AsyncGenerator[Connections]:
    """Give connections to a server on a port."""
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(20):
            connections = Connections(partial(trio.open_tcp_stream, "127.0.0.1", port))
            yield connections
            await connections.aclose()
        nursery.cancel_scope.cancel()


async def answer_each(stream: trio.SocketStream) -> None:
    """Answer each request with how many bytes it had, or until the client is gone."""
    while data := bytes(await stream.receive_some()):
        head, _, body = data.partition(b"\r\n\r\n")
        size, length = len(body), int(head.partition(b"Content-Length: ")[2] or 0)
        while size < length:
            size += len(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n%09d" % size)


def sized(body: bytes) -> Request:
    return Request(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), body, len(body))


@pytest.mark.parametrize("size", [0, 1000, 100_000, 20_000_000])
async def test_bodies_of_every_size_go_out_over_tcp(size: int) -> None:
    async with over_tcp(answer_each) as connections:
        for _ in range(2):
            answer = await connections.exchange(sized(b"x" * size), max_answer=10)
            assert int(answer.body) == size


async def test_what_is_readable_for_nothing_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with over_tcp(answer_each) as connections:
        assert (await connections.exchange(sized(b"x"), max_answer=10)).status == 200

        def find_nothing(descriptor: int, size: int) -> bytes:
            monkeypatch.undo()
            raise BlockingIOError

        monkeypatch.setattr("os.read", find_nothing)
        assert int((await connections.exchange(sized(b"xy"), max_answer=10)).body) == 2


@pytest.mark.contract("O5")
async def test_a_reset_over_tcp_is_no_end_of_an_answer() -> None:
    """Not even of one that ends with the connection."""

    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nhal")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async with over_tcp(reset) as connections:
        with pytest.raises(Unanswered, match="broke") as caught:
            await connections.exchange(ASK, max_answer=10)
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_request_over_tcp_that_is_cancelled_closes_its_connection() -> None:
    came, gone = trio.Event(), trio.Event()

    async def wait(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        came.set()
        assert await stream.receive_some() == b""
        gone.set()

    async with over_tcp(wait) as connections:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(connections.exchange, ASK, max_answer=10))
            await came.wait()
            nursery.cancel_scope.cancel()
        await gone.wait()


# --- answers ---


@pytest.mark.contract("B3")
@pytest.mark.parametrize(
    ("status", "wait"), [(b"503 No", 7.0), (b"429 No", 7.0), (b"302 No", 7.0), (b"200 OK", None)]
)
async def test_who_refuses_may_say_when_to_come_back(
    nursery: trio.Nursery, status: bytes, wait: float | None
) -> None:
    server = Server(nursery, b"HTTP/1.1 %b\r\nretry-AFTER: 7\r\nContent-Length: 0\r\n\r\n" % status)
    client = OwnClient(RequestWriter(ADDRESS), server.dial, most_idle=1)
    answer = await client.request(Call("GET", "/x"), KEY, limit=60, max_answer=100)
    assert (answer.wait, answer.body) == (wait, b"")
    await client.aclose()


async def test_an_answer_that_is_too_long_is_an_error_with_its_status(nursery: trio.Nursery) -> None:
    server = Server(nursery, OK)
    client = OwnClient(RequestWriter(ADDRESS), server.dial, most_idle=1)
    with pytest.raises(AnswerError, match="over 1 bytes") as caught:
        await client.request(Call("GET", "/x"), KEY, limit=60, max_answer=1)
    assert caught.value.status == 200
    assert certainty_of(caught.value) is Certainty.UNKNOWN


SAME: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "expected", "dialled"),
    [
        ([SAME + b"ab", SAME + b"cd", SAME + b"ef"], ["ab", "cd", "ef"], 1),
        ([SAME + b"ab", SAME + b"cd" + SAME + b"no", SAME + b"ef"], ["ab", "cd", "ef"], 2),
        ([SAME + b"ab", SAME.replace(b"2\r", b"3\r") + b"cde", SAME + b"fg"], ["ab", "cde", "fg"], 1),
        ([SAME + b"ab", SAME.replace(b"OK", b"OK\r\nConnection: close") + b"cd"] * 2, ["ab", "cd"] * 2, 2),
        (
            [SAME + b"ab", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n"] * 2,
            ["ab", "c"] * 2,
            1,
        ),
        ([b"HTTP/1.1 102 Wait\r\n\r\n" + SAME + b"ab", SAME + b"cd"], ["ab", "cd"], 1),
    ],
    ids=["the same", "more behind", "another length", "close", "chunks", "a hint"],
)
async def test_answers_with_the_head_of_the_one_before_are_their_own(
    nursery: trio.Nursery, answers: list[bytes], expected: list[str], dialled: int
) -> None:
    server = Server(nursery, *answers)
    connections = Connections(server.dial)
    got = [(await connections.exchange(ASK, max_answer=10)).body.decode() for _ in answers]
    assert (got, server.dialled) == (expected, dialled)
    await connections.aclose()


async def test_a_known_head_changes_no_limit_and_no_answer_to_head(nursery: trio.Nursery) -> None:
    server = Server(nursery, SAME + b"ab", SAME, SAME + b"cd", SAME + b"ef")
    connections = Connections(server.dial)
    assert (await connections.exchange(ASK, max_answer=2)).body == b"ab"
    to_head = Request(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", is_head=True)
    assert (await connections.exchange(to_head, max_answer=2)).body == b""
    assert (await connections.exchange(ASK, max_answer=2)).body == b"cd"
    with pytest.raises(AnswerError, match="over 1 bytes"):
        await connections.exchange(ASK, max_answer=1)
    await wait_all_tasks_blocked()
    assert server.open == 0


async def test_a_cancelled_step_loses_no_piece(nursery: trio.Nursery) -> None:
    async with open_response(Server(nursery).dial, ASK, lambda _: None) as response:
        for _ in range(3):
            with trio.move_on_after(0):
                await anext(response)
        assert [piece async for piece in response] == [b"ok"]
        with pytest.raises(StopAsyncIteration):
            await anext(response)


async def test_what_was_good_is_given_before_what_is_wrong(nursery: trio.Nursery) -> None:
    """Its sender takes it for delivered."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for answer, good in ((b"2\r\nok\r\nnope\r\n", [b"ok"]), (b"nope\r\n", [])):
        given: list[bytes] = []
        server = Server(nursery, Answer(head + answer, then="hang"))
        async with open_response(server.dial, ASK, lambda _: None) as response:
            assert response.status == 200
            with trio.fail_after(5), pytest.raises(Unanswered, match="chunks"):
                async for piece in response:
                    given.append(piece)
        assert given == good


async def test_a_stream_that_was_closed_meanwhile_is_an_error(nursery: trio.Nursery) -> None:
    ours = await Server(nursery).dial()
    await ours.aclose()

    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    with pytest.raises(Unanswered, match="broke"):
        await Connections(dial).exchange(ASK, max_answer=10)


# --- what is told when it goes wrong ---


@pytest.mark.contract("O5")
def test_what_errors_prove() -> None:
    not_sent: list[Exception] = [LinkLost("x"), CertificateError("x"), UnknownAccount("x")]
    unknown: list[Exception] = [Unanswered("x"), AnswerError("x"), OSError("x"), httpx.ReadError("x")]
    assert {certainty_of(error) for error in not_sent} == {Certainty.NOT_SENT}
    assert {certainty_of(error) for error in unknown} == {Certainty.UNKNOWN}


def requests_to(connect: Callable[..., Any]) -> Requests:
    credentials = Credentials((), None, None)
    return Requests(
        ADDRESS, credentials, connect=connect, ssl_context=None, http_client=None, send_timeout=60
    )


@pytest.mark.contract("O5")
@pytest.mark.parametrize("then", ["end", "reset"])
async def test_an_answer_that_breaks_off_is_a_lost_link(nursery: trio.Nursery, then: str) -> None:
    """The application is told in our own words, as of every other trouble on the way."""
    server = Server(nursery, *[Answer(OK[:-1], then=then)] * 2)

    async def connect(host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("gateway.example", 8080)
        return await server.dial()

    def read(answer: Any) -> SendResult:
        pytest.fail(f"it came: {answer}")

    requests = requests_to(connect)
    result = await requests.send(lambda: json_call("POST", "/v2/send", []), read, limit=60)
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.certainty, result.retry) == (Certainty.UNKNOWN, False)
    error = result.outcome.error
    assert isinstance(error, LinkLost)
    assert error.reason is Reason.CONNECTION_LOST
    assert isinstance(error.__cause__, trio.BrokenResourceError) is (then == "reset")
    with pytest.raises(RequestFailed) as caught:
        await requests.ask(Call("GET", "/x"), limit=5)
    assert caught.value.certainty is Certainty.UNKNOWN
    assert isinstance(caught.value.error, LinkLost)
    await requests.aclose()


@pytest.mark.contract("O5")
async def test_what_prevented_a_connection_is_told_as_it_was(nursery: trio.Nursery) -> None:
    """The very error that opening the stream raised, with its own cause."""
    refused = ConnectionRefusedError("nobody")

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise refused

    requests = requests_to(connect)
    result = await requests.send(
        lambda: json_call("POST", "/v2/send", []), lambda _: SendResult(Sent(1)), limit=60
    )
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
    assert isinstance(result.outcome.error, LinkLost)
    assert result.outcome.error.__cause__ is refused
    with pytest.raises(LinkLost, match="cannot connect") as caught:
        await requests.look_ups.ask_for("/v1/accounts", list[str])
    assert caught.value.__cause__ is refused
    with pytest.raises(RequestFailed) as failed:
        await requests.ask(Call("GET", "/x"), limit=5)
    assert failed.value.error.__cause__ is refused


@pytest.mark.contract("O5", "O11")
async def test_credentials_that_never_come_prove_that_nothing_was_sent(autojump_clock: MockClock) -> None:
    requests = Requests(
        ADDRESS,
        Credentials((), trio.sleep_forever, None),
        connect=lambda host, port: pytest.fail(f"{host}:{port}"),
        ssl_context=None,
        http_client=None,
        send_timeout=10,
    )
    with trio.fail_after(10):
        result = await requests.send(
            lambda: json_call("POST", "/v2/send", []), lambda _: SendResult(Sent(1)), limit=10
        )
    assert trio.current_time() == pytest.approx(9)
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
    assert "token" in str(result.outcome.error)


@pytest.mark.contract("O9")
@pytest.mark.parametrize("is_foreign", [False, True], ids=["own", "foreign"])
async def test_a_send_that_is_cancelled_before_it_begins_sends_nothing(is_foreign: bool) -> None:
    asked: list[object] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201)

    async def connect(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        await trio.lowlevel.checkpoint()
        raise OSError

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        requests = Requests(
            ADDRESS,
            Credentials((), None, None),
            connect=connect,
            ssl_context=None,
            http_client=http if is_foreign else None,
            send_timeout=60,
        )
        with trio.CancelScope() as scope:
            scope.cancel()
            await requests.send(
                lambda: json_call("POST", "/v2/send", []), lambda _: SendResult(Sent(1)), limit=60
            )
        assert (scope.cancelled_caught, asked) == (True, [])


@pytest.mark.contract("O5")
async def test_a_send_that_is_cancelled_in_a_clients_nursery_counts_as_lost(
    autojump_clock: MockClock,
) -> None:
    """What leaves a nursery is a group then."""

    class Nursing:
        @asynccontextmanager
        async def stream(self, *_: object, **__: object) -> AsyncGenerator[None]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep(60)
                yield

    requests = Requests(
        ADDRESS,
        Credentials((), None, None),
        connect=trio.open_tcp_stream,
        ssl_context=None,
        http_client=Nursing(),
        send_timeout=60,
    )
    with trio.move_on_after(1) as scope:
        await requests.send(
            lambda: json_call("POST", "/v2/send", []), lambda _: SendResult(Sent(1)), limit=60
        )
    assert (scope.cancelled_caught, requests.lost_answers) == (True, 1)


def test_the_cause_behind_another_clients_error_is_told() -> None:
    lost = LinkLost("the true cause")
    outer = httpx.ConnectError("words")
    outer.__cause__ = RuntimeError()
    outer.__cause__.__context__ = lost
    assert cause_of(outer, ADDRESS) is lost
    assert cause_of(outer, ADDRESS, handled=lost) is outer
    assert cause_of(lost, ADDRESS) is lost
    plain = httpx.ReadError("words")
    assert cause_of(plain, ADDRESS) is plain


@pytest.mark.parametrize(("status", "wait"), [(503, 5.0), (300, 5.0), (200, None), (299, None)])
async def test_another_client_gets_all_that_belongs_to_a_request(status: int, wait: float | None) -> None:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, headers={"Retry-After": "5"}, stream=httpx.ByteStream(b"no"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        client = ForeignClient(http, ADDRESS)
        answer = await client.request(json_call("POST", "/x?y=z", [1]), KEY, limit=10, max_answer=100)
        assert (answer.status, answer.wait, answer.body) == (status, wait, b"no")
        await client.renew()
        await client.aclose()
        assert not http.is_closed, "it belongs to the caller"
    assert str(asked[0].url) == "http://gateway.example:8080/base/x?y=z"
    assert asked[0].headers["x-key"] == "value"
    assert asked[0].headers["accept-encoding"] == "identity"
    assert asked[0].content == b"[1]"
    assert asked[0].headers.get_list("content-length") == ["3"]
    assert asked[0].extensions["timeout"] == {"connect": 9.0, "read": 10.0, "write": 10.0, "pool": 9.0}


# --- what is loaded ---

SENDING: Final = """
import sys, trio
from trio_signal import ConnectionState, open_signal_client
from trio_signal.testing import open_fake_gateway

async def main():
    async with open_fake_gateway(port=None) as gateway:
        async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect) as signal:
            await signal.wait_state(ConnectionState.CONNECTED)
            await (await signal.send_message("+15550002", "hello")).wait()
    assert len(gateway.received) == 1
    print(*{"httpx", "httpcore", "anyio", "trio_signal.gateways.hub", "trio_signal.gateways.signal_cli"}
          & sys.modules.keys())

trio.run(main)
"""


def test_a_client_that_has_sent_has_loaded_no_other_http_client() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SENDING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr

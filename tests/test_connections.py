"""Connections that are kept between requests: when they end, grow old, or belong to somebody else too."""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.scene import WatchedStream
from tests.test_http import OK, Answer, Server
from trio_signal import Certainty, LinkLost, RequestFailed
from trio_signal._connections import Connections
from trio_signal._credentials import Credentials, Token
from trio_signal._dial import Knock, knock, parse_url
from trio_signal._http import Dial, Request
from trio_signal._outcomes import Failed, Sent
from trio_signal.gateways import SendResult
from trio_signal.gateways._calls import Call, json_call
from trio_signal.gateways._requests import Requests
from trio_signal.testing import memory_connection

ASK: Final = Request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
LAST: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Unclosable(WatchedStream):
    """Fails once it is closed."""

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await super().aclose()
        raise OSError("sesame")


def dialling(server: Server, kind: Callable[[trio.abc.Stream], trio.abc.Stream]) -> Dial:
    async def dial() -> trio.abc.Stream:
        return kind(await server.dial())

    return dial


# --- renewed ---


@pytest.mark.contract("O5")
async def test_nothing_is_sent_over_a_connection_that_became_an_old_one_while_it_was_listened_to(
    nursery: trio.Nursery,
) -> None:
    """As when the link is lost at that moment: what was made before it may lead nowhere."""
    server = Server(nursery, OK, OK)

    class Renewing(WatchedStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            if max_bytes == 1:
                await connections.renew()
            return await super().receive_some(max_bytes)

    dial = dialling(server, Renewing)

    connections = Connections(dial)
    for _ in range(2):
        assert (await connections.exchange(ASK, max_answer=10)).body == b"ok"
    assert (server.dialled, server.open) == (2, 1)
    await connections.aclose()


@pytest.mark.contract("O5")
async def test_nothing_is_sent_over_an_old_connection_while_the_others_are_closed(
    nursery: trio.Nursery,
) -> None:
    server = Server(nursery, *[OK] * 4)
    closing = trio.Event()

    class Slow(WatchedStream):
        async def aclose(self) -> None:
            closing.set()
            await super().aclose()

    dial = dialling(server, Slow)

    async def ask() -> None:
        await connections.exchange(ASK, max_answer=10)

    connections = Connections(dial, most_idle=2)
    async with trio.open_nursery() as both:
        both.start_soon(ask)
        both.start_soon(ask)
    async with trio.open_nursery() as both:
        both.start_soon(connections.renew)
        await closing.wait()
        await ask()
    assert (server.dialled, server.open) == (3, 1)
    await connections.aclose()


@pytest.mark.contract("O5")
async def test_a_connection_that_was_begun_before_it_is_renewed_is_not_kept(nursery: trio.Nursery) -> None:
    server = Server(nursery, OK, OK, OK)

    async def dial() -> trio.abc.Stream:
        stream = await server.dial()
        if server.dialled == 1:
            await connections.renew()
        return stream

    connections = Connections(dial)
    for _ in range(3):
        await connections.exchange(ASK, max_answer=10)
    assert (server.dialled, server.open) == (2, 1)
    await connections.aclose()


@pytest.mark.contract("C5")
@pytest.mark.parametrize("what", ["renew", "aclose"])
@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3])
async def test_all_are_closed_though_closing_is_cancelled(
    nursery: trio.Nursery, what: str, checkpoints: int
) -> None:
    server = Server(nursery, *[OK] * 4)
    connections = Connections(server.dial, most_idle=4)
    async with trio.open_nursery() as at_once:
        for _ in range(4):
            at_once.start_soon(partial(connections.exchange, ASK, max_answer=10))
    assert server.open == 4
    async with trio.open_nursery() as cancelled:
        cancelled.start_soon({"renew": connections.renew, "aclose": connections.aclose}[what])
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        cancelled.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert server.open == 0


@pytest.mark.contract("C5")
async def test_streams_that_will_not_be_hurried_are_waited_for_together(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, *[OK] * 4)

    class Slow(WatchedStream):
        async def aclose(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.9)
                await super().aclose()

    dial = dialling(server, Slow)

    connections = Connections(dial, most_idle=4)
    async with trio.open_nursery() as at_once:
        for _ in range(4):
            at_once.start_soon(partial(connections.exchange, ASK, max_answer=10))
    start = trio.current_time()
    with trio.move_on_after(0.1):
        await connections.aclose()
    assert trio.current_time() == pytest.approx(start + 0.9)
    await wait_all_tasks_blocked()
    assert server.open == 0


# --- ended, or written to, while nobody asks ---


@pytest.mark.contract("O5")
@pytest.mark.threat("T2")
@pytest.mark.parametrize("pair", [memory_stream_pair, memory_connection])
@pytest.mark.parametrize("with_more", [False, True])
async def test_what_comes_between_requests_is_no_answer(
    nursery: trio.Nursery, pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]], with_more: bool
) -> None:
    """Over any stream, also one whose receiving begins with a turn of others."""
    dialled = 0

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(OK)
        if dialled == 1 and with_more:
            await wait_all_tasks_blocked()
            await stream.send_all(OK.replace(b"ok", b"no"))
        elif dialled == 1:
            await wait_all_tasks_blocked()
            await stream.aclose()
        await trio.sleep_forever()

    async def dial() -> trio.abc.Stream:
        nonlocal dialled
        await trio.lowlevel.checkpoint()
        dialled += 1
        ours, theirs = pair()
        nursery.start_soon(serve, theirs)
        return ours

    connections = Connections(dial)
    for _ in range(2):
        assert (await connections.exchange(ASK, max_answer=10)).body == b"ok"
        await wait_all_tasks_blocked(0.01)
        await wait_all_tasks_blocked(0.01)
    assert dialled == 2
    await connections.aclose()
    nursery.cancel_scope.cancel()


@pytest.mark.contract("O5")
async def test_a_stream_that_fails_between_requests_is_not_used_again(nursery: trio.Nursery) -> None:
    server = Server(nursery, OK, OK)

    class Failing(WatchedStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            if max_bytes == 1:
                raise OSError("of its own")
            return await super().receive_some(max_bytes)

    dial = dialling(server, Failing)

    connections = Connections(dial)
    for _ in range(2):
        assert (await connections.exchange(ASK, max_answer=10)).body == b"ok"
    assert server.dialled == 2
    await connections.aclose()


@pytest.mark.contract("O9")
async def test_a_stream_that_makes_an_error_of_a_cancellation_does_not_hide_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, OK, OK)

    class Failing(WatchedStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            if max_bytes != 1:
                return await super().receive_some(max_bytes)
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("of its own")

    dial = dialling(server, Failing)

    connections = Connections(dial)
    await connections.exchange(ASK, max_answer=10)
    with trio.CancelScope() as scope:
        await connections.exchange(ASK, max_answer=10)
    assert scope.cancelled_caught
    assert len(server.requests) == 1
    await connections.aclose()


# --- streams of the caller's ---


def requests_over(
    dial: Callable[[], Awaitable[trio.abc.Stream]],
    url: str = "http://x.example",
    token: Token | None = None,
) -> Requests:
    async def connect(_: str, __: int) -> trio.abc.Stream:
        return await dial()

    return Requests(
        parse_url(url),
        Credentials((), token, None),
        connect=connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60,
    )


async def sent(
    requests: Requests, write: Callable[[], Call] = lambda: json_call("POST", "/v2/send", [])
) -> SendResult:
    return await requests.send(write, lambda _: SendResult(Sent(1)), limit=60)


@pytest.mark.contract("O5")
@pytest.mark.parametrize(
    "error",
    [
        trio.BrokenResourceError("x"),
        trio.ClosedResourceError("x"),
        OSError("x"),
        RuntimeError("x"),
        RuntimeError(),
    ],
)
async def test_whatever_goes_wrong_in_a_tls_handshake_nothing_was_sent(
    nursery: trio.Nursery, error: Exception
) -> None:
    server = Server(nursery)

    class Failing(Unclosable):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            await trio.lowlevel.checkpoint()
            raise error

    dial = dialling(server, Failing)

    result = await sent(requests_over(dial, "https://x.example"))
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
    assert "no TLS with https://x.example: " in str(result.outcome.error)
    await wait_all_tasks_blocked()
    assert server.open == 0


@pytest.mark.contract("O1", "O5")
async def test_a_stream_that_cannot_be_closed_takes_no_answer_with_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(nursery, Answer(LAST, then="end"))

    dial = dialling(server, Unclosable)
    with caplog.at_level("DEBUG"):
        assert (await sent(requests_over(dial))).outcome == Sent(1)
    assert "closing a stream failed with OSError" in caplog.text
    assert "sesame" not in caplog.text


@pytest.mark.contract("O1", "O9")
async def test_nor_does_a_cancellation_while_it_is_closed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, Answer(LAST, then="end"), Answer(LAST, then="end"))

    class Slow(WatchedStream):
        async def aclose(self) -> None:
            scope.cancel()
            with trio.CancelScope(shield=server.dialled == 2):
                await trio.sleep(0.5)
            await super().aclose()

    dial = dialling(server, Slow)

    for _ in range(2):
        results: list[SendResult] = []
        with trio.CancelScope() as scope:
            results.append(await sent(requests_over(dial)))
        assert [result.outcome for result in results] == [Sent(1)]


@asynccontextmanager
async def serving(port: list[int], *, instead: trio.Event | None = None) -> AsyncGenerator[list[bytes]]:
    """Answer requests on a port, or set an event instead; give what came."""
    came: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        while data := bytes(await stream.receive_some()):
            came.append(data)
            if instead is None:
                await stream.send_all(OK)
            else:
                instead.set()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        port.append(listeners[0].socket.getsockname()[1])
        yield came
        nursery.cancel_scope.cancel()


@pytest.mark.contract("O5")
@pytest.mark.parametrize("is_used_again", [False, True])
@pytest.mark.parametrize("form", [0, 1])
async def test_what_its_owner_has_closed_is_not_written_to(is_used_again: bool, form: int) -> None:
    """Its descriptor may belong to something else by now."""

    async def body() -> AsyncGenerator[bytes]:
        yield b"{}"

    calls = [
        lambda: json_call("POST", "/v2/send", []),
        lambda: Call("POST", "/v2/send", {"Content-Length": "2"}, body()),
    ]
    port: list[int] = []
    streams: list[trio.SocketStream] = []

    async def dial() -> trio.abc.Stream:
        streams.append(await trio.open_tcp_stream("127.0.0.1", *port))
        return streams[-1]

    async with serving(port) as came:
        requests = requests_over(dial)
        assert (await sent(requests)).outcome == Sent(1)
        descriptor = streams[0].socket.fileno()
        await streams[0].aclose()
        with ExitStack() as stack:
            others: list[socket.socket] = []
            while is_used_again and descriptor not in {other.fileno() for other in others}:
                assert len(others) < 100
                others += map(stack.enter_context, socket.socketpair())
            result = await sent(requests, calls[form])
            for other in others:
                other.setblocking(False)
                with pytest.raises(BlockingIOError):
                    other.recv(1)
        if is_used_again:
            assert isinstance(result.outcome, Failed)
            assert isinstance(result.outcome.error, LinkLost)
            assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
        else:
            assert result.outcome == Sent(1)
        assert len(came) == (1 if is_used_again else 2)
        await requests.aclose()


@pytest.mark.contract("O5")
async def test_what_its_owner_closes_while_an_answer_is_awaited_leaves_doubt() -> None:
    port: list[int] = []
    streams: list[trio.SocketStream] = []

    async def dial() -> trio.abc.Stream:
        streams.append(await trio.open_tcp_stream("127.0.0.1", *port))
        return streams[-1]

    async def close_soon() -> None:
        await has_come.wait()
        await streams[0].aclose()

    has_come = trio.Event()
    async with serving(port, instead=has_come), trio.open_nursery() as nursery:
        nursery.start_soon(close_soon)
        requests = requests_over(dial)
        result = await sent(requests)
        assert isinstance(result.outcome, Failed)
        assert (result.outcome.certainty, requests.lost_answers) == (Certainty.UNKNOWN, 1)


@pytest.mark.contract("O5")
async def test_a_stream_that_is_closed_from_the_start_takes_nothing() -> None:
    port: list[int] = []

    async def dial() -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", *port)
        await stream.aclose()
        return stream

    async with serving(port) as came:
        requests = requests_over(dial)
        result = await sent(requests)
        assert isinstance(result.outcome, Failed)
        assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
        assert (came, requests.lost_answers) == ([], 0)


@pytest.mark.contract("B7")
async def test_a_knock_raises_nothing_whatever_is_opened(nursery: trio.Nursery) -> None:
    server = Server(nursery)

    dial = dialling(server, Unclosable)

    async def connect(_: str, __: int) -> trio.abc.Stream:
        return await dial()

    assert await knock(parse_url("http://x.example"), connect) is Knock.ACCEPTED
    await wait_all_tasks_blocked()
    assert server.open == 0


# --- operations ---


@pytest.mark.contract("A1")
async def test_the_time_that_a_token_takes_is_taken_from_the_rest(autojump_clock: MockClock) -> None:
    async def token() -> str:
        await trio.sleep(3)
        return "sesame"

    async def dial() -> trio.abc.Stream:
        await trio.sleep_forever()

    requests = requests_over(dial, token=token)
    with pytest.raises(RequestFailed) as caught:
        await requests.ask(Call("GET", "/x"), limit=5)
    assert (caught.value.certainty, requests.lost_answers) == (Certainty.NOT_SENT, 0)
    assert trio.current_time() < 5
    start = trio.current_time()
    requests = requests_over(dial, token=token)
    result = await requests.send(
        lambda: json_call("POST", "/v2/send", []), lambda _: SendResult(Sent(1)), limit=5
    )
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.certainty, requests.lost_answers) == (Certainty.NOT_SENT, 0)
    assert trio.current_time() < start + 5


@pytest.mark.contract("O5", "A1")
async def test_what_was_never_asked_and_what_was_answered_at_length_are_no_lost_answers(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token() -> str:
        raise RuntimeError("no token")

    server = Server(nursery, OK)
    requests = requests_over(server.dial, token=token)
    with pytest.raises(RequestFailed) as caught:
        await requests.ask(Call("GET", "/x"), limit=5)
    assert (caught.value.certainty, requests.lost_answers) == (Certainty.NOT_SENT, 0)
    monkeypatch.setattr("trio_signal.gateways._requests._MAX_RESULT", 1)
    requests = requests_over(server.dial)
    with pytest.raises(RequestFailed) as caught:
        await requests.ask(Call("GET", "/x"), limit=5)
    assert (caught.value.certainty, requests.lost_answers) == (Certainty.UNKNOWN, 0)
    await requests.aclose()

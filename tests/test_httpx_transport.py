"""Our connections under an httpx.AsyncClient: what it is given for them, on the wire."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.scene import CONNECTED, PEER, Dialler, open_client, open_gateway
from tests.test_http import BAD, GOOD, OK, TOO_LARGE, Answer, Pieces, Server
from trio_signal import (
    AnswerError,
    Certainty,
    CertificateError,
    ConfigurationError,
    GatewayTransport,
    LinkLost,
)
from trio_signal.gateways._clients import certainty_of, nothing_has_left
from trio_signal.testing import hang, lost

URL: Final = "http://gateway.example:8080"


def client_on(dial: Any, **options: Any) -> httpx.AsyncClient:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("gateway.example", 8080)
        stream: trio.abc.Stream = await dial()
        return stream

    transport = GatewayTransport(f"{URL}/base", connect=connect, **options)
    return httpx.AsyncClient(transport=transport, base_url=URL, timeout=60)


async def test_it_serves_requests_of_every_form(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    async with client_on(server.dial) as client:
        answer = await client.get("/base/x y?a=ü", headers={"X-Key": "v"})
        assert (answer.status_code, answer.text, answer.headers["content-length"]) == (200, "ok", "2")
        for content in (b"whole", Pieces(b"in ", b"", b"chunks"), Pieces()):
            assert (await client.post("/base/y", content=content)).text == "ok"
        length = {"Content-Length": "6"}
        assert (await client.put("/y", content=Pieces(b"pie", b"ces"), headers=length)).text == "ok"
        assert (await client.request("HEAD", "/y")).status_code == 200
    assert server.requests[0].target == b"/base/x%20y?a=%C3%BC"
    assert (b"x-key", b"v") in list(server.requests[0].headers)
    assert server.bodies[:5] == [b"", b"whole", b"in chunks", b"", b"pieces"]
    assert server.dialled == 1
    await wait_all_tasks_blocked()
    assert server.open == 0


@pytest.mark.parametrize("form", GOOD)
async def test_answers_of_every_form_are_given(nursery: trio.Nursery, form: str) -> None:
    server = Server(nursery, GOOD[form])
    async with client_on(server.dial) as client:
        assert [(await client.get("/x")).text for _ in range(2)] == ["ok", "ok"]
    assert server.dialled == 1


async def test_hooks_auth_and_packed_answers_are_httpxs_own(nursery: trio.Nursery) -> None:
    packed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xcf\x06\x00G\xdd\xdcy\x02\x00\x00\x00"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    server = Server(nursery, head + packed)
    seen: list[str] = []

    async def hook(request: httpx.Request) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(request.url.path)

    async with client_on(server.dial) as client:
        client.event_hooks = {"request": [hook]}
        assert (await client.get("/x", auth=("user", "word"))).text == "ok"
    assert seen == ["/x"]
    assert b"authorization" in dict(server.requests[0].headers)


@pytest.mark.parametrize("most", [1, 3])
async def test_as_many_connections_are_kept_as_asked_for(nursery: trio.Nursery, most: int) -> None:
    server = Server(nursery)
    async with client_on(server.dial, max_idle=most) as client:
        async with trio.open_nursery() as several:
            for _ in range(3):
                several.start_soon(client.get, "/x")
        await wait_all_tasks_blocked()
        assert (server.dialled, server.open) == (3, most)


# --- what does not leave ---


@pytest.mark.threat("T7")
@pytest.mark.parametrize(
    "url", ["http://other.example:8080/", "http://gateway.example/", "https://gateway.example:8080/"]
)
async def test_nothing_goes_anywhere_else(nursery: trio.Nursery, url: str) -> None:
    server = Server(nursery)
    async with client_on(server.dial) as client:
        with pytest.raises(httpx.UnsupportedProtocol, match=URL) as caught:
            await client.get(url)
    assert nothing_has_left(caught.value)
    assert server.dialled == 0


@pytest.mark.threat("T7")
@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X": "a\nb"}},
        {"headers": {"X": "a\0"}},
        {"headers": {"X Y": "a"}},
        {"headers": {"X Y": "HTTP/1.1"}},
        {"headers": {"": "a"}},
        {"extensions": {"target": b"/x HTTP/1.1\r\nX: y"}},
        {"extensions": {"target": b"/x y"}},
        {"method": "GE T"},
        {"method": "GET:"},
        {"method": "GÉT"},
        {"headers": {"Content-Length": "+5"}, "content": b"hello"},
        {"headers": {"Content-Length": "5, 5"}, "content": b"hello"},
        {"headers": {"Content-Length": "5", "Transfer-Encoding": "chunked"}, "content": b"hello"},
        {"headers": {"Transfer-Encoding": "gzip"}, "content": Pieces(b"x")},
    ],
)
async def test_a_head_that_says_something_else_is_not_written(
    nursery: trio.Nursery, options: dict[str, Any]
) -> None:
    server = Server(nursery)
    async with client_on(server.dial) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.request(options.pop("method", "POST"), "/x", **options)
    assert server.dialled == 0


async def test_a_body_that_cannot_be_read_asynchronously_is_refused() -> None:
    class OnlySynchronous(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"

    async def connect(host: str, port: int) -> trio.abc.Stream:
        pytest.fail(f"{host}:{port} was dialled")

    transport = GatewayTransport(URL, connect=connect)
    request = httpx.Request("POST", URL, stream=OnlySynchronous())
    with pytest.raises(httpx.LocalProtocolError, match="asynchronously"):
        await transport.handle_async_request(request)


@pytest.mark.parametrize("length", ["3", "5"])
async def test_a_body_of_another_length_than_said_is_an_error(nursery: trio.Nursery, length: str) -> None:
    server = Server(nursery)
    async with client_on(server.dial) as client:
        with pytest.raises(httpx.LocalProtocolError, match="not as long"):
            await client.post("/x", content=Pieces(b"four"), headers={"Content-Length": length})
        await wait_all_tasks_blocked()
        assert (server.open, server.bodies) == (0, [])


def test_a_url_of_no_gateway_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="url"):
        GatewayTransport("ftp://x")


# --- what an error proves ---


@pytest.mark.contract("O5")
@pytest.mark.parametrize("case", BAD)
async def test_a_bad_answer_proves_nothing_about_the_request(
    autojump_clock: MockClock, nursery: trio.Nursery, case: str
) -> None:
    answer, kind = BAD[case]
    if kind is AnswerError:
        answer = Answer(answer.data.replace(b"10001", b"99999999999"), "hang")
    server = Server(nursery, answer, window=200_000)
    async with client_on(server.dial) as client:
        with trio.fail_after(120), pytest.raises(httpx.TransportError) as caught:
            await client.post("/x", content=b"message")
        assert certainty_of(caught.value) is Certainty.UNKNOWN
        expected = httpx.ReadTimeout if kind is AnswerError else httpx.RemoteProtocolError
        assert type(caught.value) is (httpx.ReadError if "reset" in case else expected)
        assert caught.value.request.url == f"{URL}/x"
        assert (await client.get("/x")).text == "ok"
    assert server.dialled == 2


@pytest.mark.contract("O5")
@pytest.mark.parametrize(
    "error", [LinkLost("refused"), CertificateError("it has expired"), OSError("no route")]
)
async def test_what_prevents_a_connection_is_a_connect_error(error: Exception) -> None:
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    async with client_on(dial) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            await client.get("/x")
    assert nothing_has_left(caught.value)
    assert isinstance(caught.value.__cause__, LinkLost)


@pytest.mark.contract("O5")
@pytest.mark.parametrize(("limit", "ends"), [(5.0, 5.0), (None, 20.0), (60.0, 20.0)])
async def test_connecting_has_its_limit(autojump_clock: MockClock, limit: float | None, ends: float) -> None:
    async with client_on(trio.sleep_forever) as client:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await client.get("/x", timeout=httpx.Timeout(None, connect=limit))
    assert trio.current_time() == ends
    assert nothing_has_left(caught.value)


@pytest.mark.threat("T2")
async def test_an_answer_may_be_so_long_and_no_longer(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_signal._httpx_transport._MAX_ANSWER", 1)
    async with client_on(Server(nursery).dial) as client:
        with pytest.raises(httpx.ReadError, match="over 1 bytes"):
            await client.get("/x")


@pytest.mark.contract("O5")
async def test_an_answer_has_its_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(nursery, Answer(OK[:-1], then="hang"))
    async with client_on(server.dial) as client:
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.post("/x", content=b"message", timeout=httpx.Timeout(None, read=7))
        assert trio.current_time() == 7
        assert certainty_of(caught.value) is Certainty.UNKNOWN
        await wait_all_tasks_blocked()
        assert server.open == 1, "it hangs, and the connection is closed on this side only"


@pytest.mark.contract("O5")
async def test_each_piece_of_a_body_has_its_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """And making it has none."""
    server = Server(nursery, OK, Answer(b"", then="hang", early=True))
    async with client_on(server.dial) as client:
        slow = Pieces(b"a", b"b", b"c", pause=100)
        answer = await client.post("/x", content=slow, timeout=httpx.Timeout(None, write=7, read=7))
        assert (answer.text, server.bodies) == ("ok", [b"abc"])
        start = trio.current_time()
        with pytest.raises(httpx.WriteTimeout) as caught:
            await client.post("/x", content=b"x" * 1_000_000, timeout=httpx.Timeout(None, write=7, read=3))
        assert trio.current_time() == start + 7
        assert certainty_of(caught.value) is Certainty.UNKNOWN


async def test_an_early_answer_is_read(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(nursery, Answer(TOO_LARGE, "end", early=True))
    async with client_on(server.dial) as client:
        answer = await client.post("/x", content=Pieces(*[b"x" * 10_000] * 100))
        assert (answer.status_code, answer.text) == (413, "big")


@pytest.mark.parametrize("answer", [hang(), lost().after(5)], ids=["hang", "lost"])
async def test_a_cancelled_request_closes_its_connection_and_the_next_works(
    autojump_clock: MockClock, answer: Any
) -> None:
    async with open_gateway() as gateway:
        dialler = Dialler(gateway)
        async with client_on(partial(dialler.connect, "gateway", 80)) as client:
            assert (await client.get("/v1/health")).status_code == 204
            gateway.script("GET /v1/about", answer)
            for _ in range(2):
                with trio.move_on_after(1):
                    await client.get("/v1/about")
            assert (await client.get("/v1/about")).status_code == 200
            assert dialler.left_open == 1
        assert dialler.left_open == 0


async def test_a_body_that_is_given_up_is_closed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    closed: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await trio.sleep_forever()
        finally:
            closed.append(True)

    async with client_on(Server(nursery).dial) as client:
        with trio.move_on_after(1):
            await client.post("/x", content=body())
        assert closed == [True]


@pytest.mark.parametrize("error", [trio.BrokenResourceError("x"), trio.ClosedResourceError("x")])
async def test_what_a_body_raises_is_its_own(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception
) -> None:
    """Not that of the connection, to which nothing has happened."""
    server = Server(nursery)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise error

    async with client_on(server.dial) as client:
        with trio.fail_after(100), pytest.raises(type(error)) as caught:
            await client.post("/x", content=pieces())
        assert caught.value is error


# --- under a client of ours ---


@pytest.mark.contract("O1", "O5")
async def test_a_client_of_ours_works_over_it(autojump_clock: MockClock) -> None:
    """Sends, operations and look-ups go through it; and an outage costs nothing that had not left."""
    async with open_gateway() as gateway:
        paths: list[str] = []

        async def hook(request: httpx.Request) -> None:
            await trio.lowlevel.checkpoint()
            paths.append(request.url.path)

        transport = GatewayTransport(gateway.url, connect=gateway.connect)
        async with (
            httpx.AsyncClient(transport=transport, event_hooks={"request": [hook]}) as http,
            open_client(gateway, http_client=http, rate_limit=None) as signal,
        ):
            await signal.wait_state(CONNECTED)
            sent = await (await signal.send_message(PEER, "one")).wait()
            assert sent.timestamp
            assert await signal.list_groups() == ()
            gateway.script_send(lost())
            lost_one = await signal.send_message(PEER, "two", id="two")
            with pytest.raises(Exception, match="unknown"):
                await lost_one.wait()
            gateway.kill()
            waits = await signal.send_message(PEER, "three")
            await trio.sleep(30)
            assert waits.outcome is None
            await gateway.start()
            assert (await waits.wait()).timestamp
        assert [send.message for send in gateway.received] == ["one", "two", "three"]
        assert {"/v1/about", "/v2/send"} < set(paths)

"""The fake gateway: every answer and every fault, in memory and on a port, seen from the client's end."""

import json
import math
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from trio_signal import testing
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    close_frame,
    envelopes,
    open_fake_gateway,
    server_frame,
)
from trio_signal.testing._door import lone_exception

ACCOUNT, PEER, OTHER = "+15550001", "+15550002", "+15550009"
GROUP = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
SEND = {"number": ACCOUNT, "recipients": [PEER], "message": "hi"}
UUID = "00000000-0000-4000-8000-000000000002"

REFUSED = "refused|all attempts to connect"

Dial = Callable[[], Awaitable[trio.abc.Stream]]


def dialler(gateway: FakeGateway, transport: str) -> Dial:
    async def in_memory() -> trio.abc.Stream:
        return await gateway.connect("127.0.0.1", 8080)

    async def by_port() -> trio.abc.Stream:
        return await trio.open_tcp_stream("127.0.0.1", gateway.port or 0)

    return in_memory if transport == "memory" else by_port


@pytest.fixture(params=["memory", "port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test that dials runs in memory and on a port."""
    kind: str = request.param
    return kind


class Wire:
    """The client's end of a connection, with nothing between the test and the bytes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.unread = b""

    async def more(self) -> bool:
        data = await self.stream.receive_some()
        self.unread += data
        return bool(data)

    async def take(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while len(self.unread) < size:
            assert await self.more(), f"the connection ended within {self.unread!r}"
        taken, self.unread = self.unread[:size], self.unread[size:]
        return taken

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame: its first byte and its payload."""
        first, size = await self.take(2)
        if size == 126:
            size = int.from_bytes(await self.take(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.take(8), "big")
        return first, await self.take(size)

    async def text(self) -> bytes:
        first, payload = await self.frame()
        assert first == 0x81
        return payload

    async def ends(self) -> bool:
        """Whether there is nothing more but the end of the stream."""
        await trio.lowlevel.checkpoint()
        return not self.unread and not await self.more()

    async def is_silent(self, seconds: float = 10) -> bool:
        with trio.move_on_after(seconds) as scope:
            await self.more()
        return scope.cancelled_caught

    async def put(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        await self.stream.send_all(server_frame(payload, opcode, final=final, mask=b"\x01\x02\x03\x04"))

    async def request(self, method: str, path: str, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: gateway"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(content)}"] if body is not None else []
        await self.stream.send_all("\r\n".join((*lines, "", "")).encode() + content)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self.unread:
            assert await self.more(), f"the connection ended within {self.unread!r}"
        head, self.unread = self.unread.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(status.split()[1]), headers, await self.take(int(headers.get("content-length", 0)))

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        await self.request(method, path, body, **headers)
        status, _, content = await self.answer()
        return status, content

    async def upgrade(self, account: str = ACCOUNT, **headers: str) -> None:
        wanted = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        await self.request("GET", f"/v1/receive/{account}", **(wanted | headers))


@asynccontextmanager
async def wire_to(gateway: FakeGateway, transport: str) -> AsyncGenerator[Wire]:
    async with await dialler(gateway, transport)() as stream:
        yield Wire(stream)


@asynccontextmanager
async def receiver(gateway: FakeGateway, transport: str, account: str = ACCOUNT) -> AsyncGenerator[Wire]:
    async with wire_to(gateway, transport) as wire:
        await wire.upgrade(account)
        assert (await wire.answer())[0] == 101
        yield wire


# --- what it answers ---


async def test_about_health_and_accounts(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(ACCOUNT, version="0.101", accounts=[ACCOUNT, OTHER]) as gateway:
        async with wire_to(gateway, transport) as wire:
            status, body = await wire.ask("GET", "/v1/about")
            assert (status, json.loads(body)["mode"], json.loads(body)["version"]) == (
                200,
                "json-rpc",
                "0.101",
            )
            assert await wire.ask("GET", "/v1/health") == (204, b"")
            assert await wire.ask("GET", "/v1/accounts") == (200, b'["+15550001","+15550009"]')
        assert [request.path for request in gateway.requests] == ["/v1/about", "/v1/health", "/v1/accounts"]


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/v1/receive/", 404, b"404 page not found"),
        ("GET", "/v1/receive/a/b", 404, b"404 page not found"),
        ("GET", "/", 404, b"404 page not found"),
        ("DELETE", "/v1/about", 404, b"404 page not found"),
        ("GET", "/v1/nothing/", 404, b"404 page not found"),
        ("GET", "/v1/about/", 301, b'<a href="/v1/about">Moved Permanently</a>.\n\n'),
        ("POST", "/v2/send/", 307, b""),
        ("GET", "/v1/groups/+15550001", 200, b"[]"),
        ("GET", "/v1/groups/+1999", 400, b'{"error":"Specified account does not exist"}'),
        ("GET", "/v1/identities/+1999", 500, b'{"error":"Specified account does not exist"}'),
        ("GET", "/v1/attachments", 200, b'["a.png"]'),
        ("GET", "/v1/attachments/a.png", 200, b"PNG"),
        ("GET", "/v1/attachments/b.png", 404, b'{"error":"No attachment with that id found"}'),
    ],
)
async def test_other_paths(
    method: str, path: str, status: int, body: bytes, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(ACCOUNT) as gateway, wire_to(gateway, transport) as wire:
        gateway.attachments["a.png"] = b"PNG"
        assert await wire.ask(method, path) == (status, body)


async def test_redirect_keeps_the_query(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await wire.request("GET", "/v1/about/?a=1")
        status, headers, _ = await wire.answer()
        assert (status, headers["location"]) == (301, "/v1/about?a=1")


async def test_a_mode_without_websocket_answers_a_list(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(mode="normal") as gateway, wire_to(gateway, transport) as wire:
        assert json.loads((await wire.ask("GET", "/v1/about"))[1])["mode"] == "normal"
        await wire.upgrade()
        assert (await wire.answer())[::2] == (200, b"[]")


async def test_base_path(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(base_path="/signal") as gateway, wire_to(gateway, transport) as wire:
        assert gateway.url.endswith("/signal")
        assert gateway.ws_url.endswith("/signal/v1/receive/+15550001")
        assert (await wire.ask("GET", "/signal/v1/health"))[0] == 204
        assert (await wire.ask("GET", "/v1/health"))[0] == 404
        assert (await wire.ask("GET", "/signalv1/health"))[0] == 404
        assert (await wire.ask("POST", "/signal/v2/send", SEND))[0] == 201


@pytest.mark.parametrize("base_path", ["signal", "/signal/", "/"])
async def test_a_wrong_base_path_is_an_error(base_path: str) -> None:
    with pytest.raises(ValueError, match="base_path must look like"):
        async with open_fake_gateway(base_path=base_path):
            pass


async def test_hidden_paths_and_a_required_header(transport: str, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {
        "hide": {"/v1/about": 403, "/v1/accounts": 404},
        "require_header": ("Authorization", "Bearer x"),
    }
    async with open_fake_gateway(**options) as gateway, wire_to(gateway, transport) as wire:
        assert (await wire.ask("GET", "/v1/health"))[0] == 401
        assert (await wire.ask("GET", "/v1/health", Authorization="Bearer y"))[0] == 401
        assert (await wire.ask("POST", "/v2/send", SEND))[0] == 401
        await wire.upgrade()
        assert (await wire.answer())[0] == 401
        assert (await wire.ask("GET", "/v1/about", Authorization="Bearer x"))[0] == 403
        assert (await wire.ask("GET", "/v1/accounts", Authorization="Bearer x"))[0] == 404
        assert (await wire.ask("POST", "/v2/send", SEND, Authorization="Bearer x"))[0] == 201
        await wire.upgrade(Authorization="Bearer x")
        assert (await wire.answer())[0] == 101
        assert len(gateway.received) == 1
        assert "Bearer" not in repr(gateway.requests) + repr(gateway.received)
    async with open_fake_gateway(hide=["/v1/about"]) as gateway, wire_to(gateway, transport) as wire:
        assert (await wire.ask("GET", "/v1/about"))[0] == 404


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Connection": "close"}, "'upgrade' token not found in 'Connection' header"),
        ({"Upgrade": "h2c"}, "'websocket' token not found in 'Upgrade' header"),
        ({"Sec_WebSocket_Version": "8"}, "unsupported version: 13 not found"),
        ({"Sec_WebSocket_Key": ""}, "'Sec-WebSocket-Key' header is missing or blank"),
    ],
)
async def test_bad_handshakes(
    headers: dict[str, str], problem: str, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await wire.upgrade(**headers)
        status, _, body = await wire.answer()
        assert status == 400
        assert body.startswith(b'Bad Request\n{"error":"websocket: ')
        assert problem in body.decode()


async def test_keep_alive_close_and_pipelining(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await wire.request("GET", "/v1/health")
        await wire.request("GET", "/v1/accounts")
        await wire.request("HEAD", "/v1/nothing")
        await wire.request("GET", "/v1/health", Connection="close")
        assert (await wire.answer())[0] == 204
        assert (await wire.answer())[0] == 200
        assert (await wire.take(20))[:12] == b"HTTP/1.1 404"
        while not wire.unread.endswith(b"Connection: close\r\n\r\n"):
            await wire.more()
        assert await wire.ends() is False
        wire.unread = b""
        assert await wire.ends()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (1 << 20), b"431 Request Header Fields Too Large"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400 Bad Request"),
    ],
    ids=["no HTTP", "no host", "endless head", "bad chunk"],
)
async def test_what_is_no_http_gets_an_answer_and_the_end(
    sent: bytes, status: bytes, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway:
        async with wire_to(gateway, transport) as wire, trio.open_nursery() as nursery:
            nursery.start_soon(send_though_it_breaks, wire.stream, sent)
            while b"\r\n\r\n" not in wire.unread:
                await wire.more()
            assert wire.unread.startswith(b"HTTP/1.1 " + status)
        async with wire_to(gateway, transport) as wire:
            assert (await wire.ask("GET", "/v1/health"))[0] == 204


async def send_though_it_breaks(stream: trio.abc.Stream, data: bytes) -> None:
    await trio.lowlevel.checkpoint()
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)


async def test_a_request_that_never_gets_whole_is_given_up(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        start = trio.current_time()
        await wire.stream.send_all(b"POST /v2/send HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        while await wire.more():
            pass
        assert wire.unread.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - start == pytest.approx(300)
        assert not gateway.received


async def test_an_idle_connection_is_kept(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await trio.sleep(86_400)
        assert (await wire.ask("GET", "/v1/health"))[0] == 204


async def test_expect_continue(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await wire.stream.send_all(
            b"POST /v2/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await wire.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.stream.send_all(b"{}")
        assert (await wire.answer())[0] == 400


async def test_httpx_on_the_port(autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/v1/accounts")).json() == [ACCOUNT]
        assert (await client.post("/v2/send", json=SEND)).json()["timestamp"].isdecimal()
        assert gateway.received[0].headers["content-type"] == "application/json"


# --- sends ---


@pytest.mark.parametrize(
    ("version", "array"),
    [("0.99", False), ("0.100", False), ("0.101", True), ("0.101.3", True), ("1.0", True), ("unset", True)],
)
async def test_both_forms_of_the_answer(
    version: str, array: bool, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway(version=version) as gateway, wire_to(gateway, transport) as wire:
        failed = [{"number": PEER, "uuid": UUID, "reason": "UNREGISTERED_FAILURE"}]
        gateway.script_send(testing.ok(), testing.partial(failed))
        first, second = [json.loads((await wire.ask("POST", "/v2/send", SEND))[1]) for _ in range(2)]
        stamps = [str(send.timestamp) for send in gateway.received]
        if array:
            assert first == [{"timestamp": stamps[0]}]
            assert second == [{"timestamp": stamps[1], "errors": {"recipients": failed}}]
        else:
            assert (first, second) == ({"timestamp": stamps[0]}, {"timestamp": stamps[1]})
        assert int(stamps[0]) < int(stamps[1])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"recipients": []}, "please provide at least one recipient"),
        ({"number": ""}, "please provide a valid number"),
        ({"number": "+1999"}, "Specified account does not exist"),
        ({"recipients": [PEER, "ada.01"]}, "phone numbers and usernames cannot be"),
        ({"recipients": [UUID, GROUP]}, "Groups and phone numbers cannot be"),
        ({"recipients": [GROUP, "ada.01"]}, "Groups and usernames cannot be"),
        ({"recipients": [GROUP, GROUP]}, "more than one group at once"),
        ({"base64_attachments": ["AAAA", "AA!A"]}, "illegal base64 data at input byte 2"),
        ({"base64_attachments": ["data:image/png;filename=a.png;base64,AAA"]}, "at input byte 3"),
        ({"recipients": PEER}, "invalid request"),
        ({"message": 5}, "invalid request"),
        ({"recipients": [5]}, "invalid request"),
        ({"recipients": {}}, "invalid request"),
    ],
)
async def test_what_a_send_is_refused_for(
    changes: dict[str, Any], problem: str, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        status, body = await wire.ask("POST", "/v2/send", SEND | changes)
        assert status == 400
        assert problem in json.loads(body)["error"]
        assert [(send.timestamp, send.answered) for send in gateway.received] == [(None, True)]


@pytest.mark.parametrize(
    "body", [b"[]", b'"text"', b"", b"{", b"[" * 100_000], ids=["list", "text", "none", "torn", "deep"]
)
async def test_a_send_that_is_no_object(body: bytes, transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await wire.request("POST", "/v2/send", body)
        status, headers, content = await wire.answer()
        assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert content == b'{"error":"Couldn\'t process request - invalid request"}'
        assert [(send.body, send.outcome, send.number) for send in gateway.received] == [({}, "invalid", "")]


async def test_a_body_that_fills_the_memory_is_refused(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, wire_to(gateway, "memory") as wire:
        await wire.stream.send_all(b"POST /v2/send HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_though_it_breaks, wire.stream, b"x" * (65 << 20))
            while b"\r\n\r\n" not in wire.unread:
                await wire.more()
        assert wire.unread.startswith(b"HTTP/1.1 413 ")
        assert not gateway.received


async def test_large_bodies_pass(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, wire_to(gateway, "memory") as wire:
        assert (await wire.ask("POST", "/v2/send", SEND | {"message": "x" * (10 << 20)}))[0] == 201
        assert len(gateway.received[0].message) == 10 << 20


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(SEND).encode() + b" trailing garbage",
        b' \n{"number":"+15550001","recipient":"+15550002","unknown":[1]}',
        json.dumps(SEND | {"recipients": [GROUP]}).encode(),
        json.dumps(SEND | {"base64_attachments": ["QUJD", "data:x/y;base64,QQ==", "QUJD\r\nQUJD"]}).encode(),
        json.dumps(SEND | {"message": None, "base64_attachments": None}).encode(),
        b'{"number":"+15550001","recipients":["+15550002"],"message":"\xff"}',
    ],
)
async def test_what_a_send_is_not_refused_for(body: bytes, transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        assert (await wire.ask("POST", "/v2/send", body))[0] == 201
        assert gateway.received[0].outcome == "ok"


async def test_a_send_is_recorded(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        await trio.sleep(7)
        await wire.ask("POST", "/v2/send", SEND, X_Mine="yes")
        await gateway.wait_received(1)
        (send,) = gateway.received
        assert (send.number, send.recipients, send.message) == (ACCOUNT, [PEER], "hi")
        assert (send.body, send.headers["x-mine"], send.answered) == (SEND, "yes", True)
        assert send.time == pytest.approx(7)
        assert send.timestamp == round((testing.START_TIME + 7) * 1000)
        assert testing.SendRequest({"recipient": PEER}, {}, 0, "ok").recipients == [PEER]
        assert testing.SendRequest({}, {}, 0, "ok").recipients == []


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (testing.rate_limited([""]), 429, b'"challenge_tokens":[""],"account":"+15550001"}'),
        (testing.rate_limited(None), 429, b'endpoint.","account":"+15550001"}'),
        (testing.error(400, "<a & b>"), 400, b'{"error":"\\u003ca \\u0026 b\\u003e"}'),
        (testing.error(503, "x", retry_after=7), 503, b'{"error":"x"}'),
        (testing.reply(502, "<html>", content_type="text/html"), 502, b"<html>"),
        (testing.daemon_down(), 500, b""),
    ],
)
async def test_scripted_answers(
    answer: SendAnswer, status: int, body: bytes, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script_send(answer)
        got = await wire.ask("POST", "/v2/send", SEND)
        assert (got[0], got[1][-len(body) :] if body else got[1]) == (status, body)
        assert (await wire.ask("POST", "/v2/send", SEND))[0] == 201
        assert [send.outcome for send in gateway.received] == [answer.kind, "ok"]
        assert gateway.received[0].answered
        assert gateway.received[0].timestamp is None


async def test_retry_after(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script_send(testing.rate_limited(retry_after="Sat, 21 Nov 2026 23:12:00 GMT"))
        await wire.request("POST", "/v2/send", SEND)
        assert (await wire.answer())[1]["retry-after"] == "Sat, 21 Nov 2026 23:12:00 GMT"


@pytest.mark.parametrize(
    ("answer", "sent"),
    [(testing.lost(), True), (testing.garbage(), True), (testing.raw(b"HTTP/1.1 201"), False)],
    ids=["lost", "garbage", "torn"],
)
async def test_answers_that_end_the_connection(
    answer: SendAnswer, sent: bool, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script_send(answer)
        await wire.request("POST", "/v2/send", SEND)
        while await wire.more():
            pass
        assert wire.unread == answer.data
        (send,) = gateway.received
        assert (send.answered, send.timestamp is not None, send.outcome) == (False, sent, answer.kind)


async def test_hang_never_answers(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.script_send(testing.hang())
        async with wire_to(gateway, transport) as wire:
            await wire.request("POST", "/v2/send", SEND)
            assert await wire.is_silent(1e6)
            assert gateway.statistics().sends_in_flight == 1
        await trio.testing.wait_all_tasks_blocked()
        assert gateway.statistics().sends_in_flight == 0
        assert not gateway.received[0].answered


async def test_cut_body_is_not_received(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script_send(testing.cut_body(after=10))
        await wire.stream.send_all(
            b"POST /v2/send HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n123456789"
        )
        assert await wire.is_silent()
        await wire.stream.send_all(b"0")
        assert await wire.ends()
        assert not gateway.received
        assert len(gateway.requests) == 1


async def test_endless_answer(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script_send(testing.endless(chunk=10, every=1))
        await wire.request("POST", "/v2/send", SEND)
        with trio.move_on_after(1000.5):
            while await wire.more():
                pass
        assert wire.unread.count(b"a\r\nxxxxxxxxxx\r\n") == 1001


async def test_slow_answers_and_sends_in_flight(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(answer_delay=1) as gateway:
        gateway.script_send(testing.slow(4), testing.slow(9, testing.rate_limited()), testing.ok())
        times: dict[int, float] = {}

        async def ask(at: int) -> None:
            async with wire_to(gateway, transport) as wire:
                await trio.sleep(at / 100)
                await wire.ask("POST", "/v2/send", SEND)
                times[at] = trio.current_time()

        async with trio.open_nursery() as nursery:
            for at in range(3):
                nursery.start_soon(ask, at)
        assert times == {0: pytest.approx(5), 1: pytest.approx(10.01), 2: pytest.approx(1.02)}
        assert gateway.statistics().most_sends_in_flight == 3


async def test_other_paths_can_be_scripted(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.script("GET /v1/groups/x", testing.reply(200, '[{"id":"g"}]').after(3), testing.lost())
        assert await wire.ask("GET", "/v1/groups/x") == (200, b'[{"id":"g"}]')
        assert trio.current_time() == pytest.approx(3)
        await wire.request("GET", "/v1/groups/x")
        assert await wire.ends()


# --- delivering ---


async def test_fan_out(transport: str, autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway() as gateway,
        receiver(gateway, transport) as one,
        receiver(gateway, transport, "%2B15550001?timeout=1&ignore_stories=true") as two,
        receiver(gateway, transport, OTHER) as other,
    ):
        await gateway.wait_consumers(2)
        await gateway.wait_connected(3)
        payload = gateway.deliver(text="both")
        elsewhere = gateway.deliver(text="other", account=OTHER)
        assert (await one.text(), await two.text(), await other.text()) == (payload, payload, elsewhere)
        assert await one.is_silent()
        stamp = json.loads(payload)["envelope"]["timestamp"]
        await gateway.wait_delivered()
        assert sorted(gateway.ledger) == [(stamp, 1), (stamp, 2), (stamp + 1, 3)]
        assert gateway.statistics().delivered == 3
        assert [(sock.number, sock.account) for sock in gateway.connections] == [
            (1, ACCOUNT),
            (2, ACCOUNT),
            (3, OTHER),
        ]
        assert repr(gateway.connections[2]) == "<ReceiveSocket 3 for +15550009>"


async def test_what_nobody_receives_is_lost(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.deliver(text="lost")
        async with receiver(gateway, transport, OTHER):
            gateway.deliver(text="lost too")
        async with receiver(gateway, transport) as wire:
            payload = gateway.deliver(text="here")
            assert await wire.text() == payload
        assert gateway.statistics().dropped_without_consumer == 2
        await gateway.wait_disconnected()
        assert gateway.connections == ()


async def test_anything_can_be_delivered(transport: str, autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway() as gateway,
        receiver(gateway, transport) as wire,
        receiver(gateway, transport, OTHER) as other,
    ):
        size = 3_000_000 if transport == "memory" else 100_000
        gateway.deliver_raw("[1]")
        gateway.deliver_raw(b"\xff\xfe")
        gateway.deliver_error("it <failed>")
        gateway.deliver_exception("ProtocolNoSessionException", "no session", sender=OTHER)
        gateway.deliver_raw(b"x" * size, to_all=True)
        assert [await wire.text() for _ in range(3)] == [
            b"[1]",
            b"\xff\xfe",
            b'{"error":"it \\u003cfailed\\u003e"}',
        ]
        undecryptable = json.loads(await wire.text())
        assert undecryptable["exception"] == {"message": "no session", "type": "ProtocolNoSessionException"}
        assert set(undecryptable) == {"envelope", "exception", "account"}
        assert len(await wire.text()) == size
        assert await other.text() == b'{"error":"it \\u003cfailed\\u003e"}'
        assert len(await other.text()) == size


async def test_envelopes_are_stamped_with_fresh_times(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport):
        first = json.loads(gateway.deliver(envelopes.typing()))["envelope"]
        second = json.loads(gateway.deliver(envelopes.edit("new", 5)))["envelope"]
        given = json.loads(gateway.deliver(envelopes.text("x", timestamp=77)))["envelope"]
    stamp = round(testing.START_TIME * 1000)
    assert first["timestamp"] == first["typingMessage"]["timestamp"] == stamp
    assert (first["serverReceivedTimestamp"], first["serverDeliveredTimestamp"]) == (stamp + 1, stamp + 2)
    assert second["editMessage"]["dataMessage"]["timestamp"] == second["timestamp"] == stamp + 1
    assert second["editMessage"]["targetSentTimestamp"] == 5
    assert given["timestamp"] == given["dataMessage"]["timestamp"] == 77


async def test_one_shot_faults_of_a_message(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        gateway.duplicate()
        twice = gateway.deliver(text="twice")
        gateway.fragment()
        pieces = gateway.deliver(text="in pieces")
        gateway.cut(after=5)
        torn = gateway.deliver(text="torn")
        assert [await wire.text(), await wire.text()] == [twice, twice]
        frames = [await wire.frame() for _ in range(4)]
        assert [first for first, _ in frames] == [0x01, 0x89, 0x00, 0x80]
        assert frames[0][1] + frames[2][1] + frames[3][1] == pieces
        assert await wire.take(5) == server_frame(torn)[:5]
        assert await wire.ends()
        assert len(gateway.ledger) == 3


async def test_split_writes_everything_in_slices(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, receiver(gateway, "memory") as wire:
        gateway.split(3)
        payload = gateway.deliver()
        reads = 0
        expected = server_frame(payload)
        while len(wire.unread) < len(expected):
            await wire.more()
            reads += 1
        assert wire.unread == expected
        assert reads > len(expected) / 10
        gateway.heal()
        wire.unread = b""
        gateway.deliver()
        await wire.more()
        assert len(wire.unread) == len(expected)


async def test_frames_of_ones_own_making(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        masked = server_frame(b"masked", mask=b"abcd")
        gateway.send_frame(masked)
        gateway.send_frame(server_frame(b"", 0x3))
        assert await wire.take(len(masked) + 2) == masked + b"\x83\x00"
        assert not gateway.ledger


# --- pings, stalls, half-open ---


async def test_pings_every_54_seconds_and_needs_no_pong(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        for number in range(1, 6):
            assert await wire.frame() == (0x89, b"")
            assert trio.current_time() == pytest.approx(54 * number)
        await wire.put(0xA)
        assert await wire.is_silent()
        assert gateway.statistics().pings_sent == 5
        assert gateway.statistics().pongs_received == 1


async def test_a_stalled_gateway_answers_pings_and_keeps_one_message(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        gateway.stall()
        kept = gateway.deliver(text="kept")
        gateway.deliver(text="lost")
        assert await wire.is_silent(200)
        await wire.put(0x9, b"alive?")
        assert await wire.frame() == (0x8A, b"alive?")
        async with wire_to(gateway, transport) as http:
            assert (await http.ask("POST", "/v2/send", SEND))[0] == 201
        async with receiver(gateway, transport) as late:
            gateway.deliver(text="for the late one")
            assert await late.is_silent(200)
            gateway.unstall()
            assert b"for the late one" in await late.text()
        frames = [await wire.frame() for _ in range(2)]
        assert (0x81, kept) in frames
        assert (0x89, b"") in frames
        assert gateway.statistics().lost_in_stall == 2


async def test_half_open(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        async with receiver(gateway, transport) as wire:
            gateway.half_open()
            gateway.deliver()
            await wire.put(0x9, b"anybody?")
            assert await wire.is_silent(100_000)
        assert [sock.is_half_open for sock in gateway.connections] == [True]
        assert gateway.statistics().lost_to_half_open == 1
        assert gateway.statistics().dropped_without_consumer == 0
        async with receiver(gateway, transport) as wire:
            await gateway.wait_connected(1)
            with trio.move_on_after(1) as scope:
                await gateway.wait_connected(2)
            assert scope.cancelled_caught
            payload = gateway.deliver()
            assert await wire.text() == payload
        gateway.drop()
        assert gateway.connections == ()


# --- ends ---


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1012, 4999, None])
async def test_close_with_any_code_or_none(
    code: int | None, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        payload = gateway.deliver(text="before")
        gateway.close(code, "" if code is None else "bye")
        gateway.deliver(text="after")
        assert await wire.text() == payload
        content = b"" if code is None else struct.pack("!H", code) + b"bye"
        assert await wire.frame() == (0x88, content)
        await wire.put(0x8, content)
        assert await wire.ends()
        assert trio.current_time() < 1
        assert gateway.statistics().dropped_without_consumer == 1


async def test_close_does_not_wait_for_ever_for_its_answer(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        gateway.close()
        assert await wire.frame() == (0x88, b"\x03\xe8")
        assert await wire.ends()
        assert trio.current_time() == pytest.approx(5)


async def test_what_was_delivered_before_a_close_can_be_waited_for(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, receiver(gateway, "memory"):
        gateway.deliver()
        gateway.close()
        await gateway.wait_delivered()
        assert len(gateway.ledger) == 1


async def test_drop_is_a_bare_end(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        gateway.drop()
        assert gateway.connections == ()
        assert await wire.ends()


async def test_drop_http_leaves_receive_sockets(transport: str, autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway() as gateway,
        receiver(gateway, transport) as wire,
        wire_to(gateway, transport) as http,
    ):
        assert (await http.ask("GET", "/v1/health"))[0] == 204
        gateway.drop_http()
        assert await http.ends()
        payload = gateway.deliver()
        assert await wire.text() == payload


async def test_reset(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        gateway.reset()
        with pytest.raises(trio.BrokenResourceError):
            await wire.more()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (server_frame(b"\x0f\xa0bye", 0x8, mask=b"mask"), close_frame(4000)),
        (server_frame(b"", 0x8, mask=b"mask"), close_frame(None)),
        (server_frame(b"unmasked"), close_frame(1002, "bad MASK")),
        (server_frame(b"x" * 513, mask=b"mask"), close_frame(1009)),
        (
            server_frame(b"x" * 300, final=False, mask=b"mask") + server_frame(b"x" * 300, 0, mask=b"mask"),
            close_frame(1009),
        ),
        (server_frame(b"", 0x0, mask=b"mask"), close_frame(1002, "continuation after FIN")),
        (server_frame(b"", 0x3, mask=b"mask"), close_frame(1002, "bad opcode 3")),
        (server_frame(b"", 0x9, final=False, mask=b"mask"), close_frame(1002, "FIN not set on control")),
        (server_frame(b"x" * 126, 0x9, mask=b"mask"), close_frame(1002, "len > 125 for control")),
        (b"\xc1\x80mask", close_frame(1002, "RSV set")),
        (
            server_frame(b"", final=False, mask=b"mask") + server_frame(b"", mask=b"mask"),
            close_frame(1002, "data before FIN"),
        ),
    ],
)
async def test_client_frames_that_end_the_connection(
    sent: bytes, answer: bytes, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        await wire.stream.send_all(sent)
        assert await wire.take(len(answer)) == answer
        assert await wire.ends()
        await gateway.wait_disconnected()


async def test_frames_may_come_byte_by_byte(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        text = server_frame(b"x" * 200, mask=b"mask")
        for byte in text + server_frame(b"now", 0x9, mask=b"mask"):
            await wire.stream.send_all(bytes([byte]))
        assert await wire.frame() == (0x8A, b"now")


async def test_client_text_is_ignored_and_pings_are_answered(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        await wire.put(0x1, b"x" * 300, final=False)
        await wire.put(0x9, b"y" * 125)
        await wire.put(0x0, b"x" * 212)
        await wire.put(0x2, b"x" * 512)
        assert await wire.frame() == (0x8A, b"y" * 125)
        assert await wire.is_silent()
        assert gateway.statistics().pings_received == 1


async def test_frames_that_come_with_the_handshake_are_read(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        ping = server_frame(b"early", 0x9, mask=b"mask")
        await wire.stream.send_all(
            b"GET /v1/receive/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + ping
        )
        assert (await wire.answer())[0] == 101
        assert await wire.frame() == (0x8A, b"early")


async def test_pongs_for_a_client_that_never_reads_do_not_pile_up(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, receiver(gateway, "memory") as wire:
        for _ in range(3000):
            await wire.put(0x9, b"z" * 125)
        await trio.testing.wait_all_tasks_blocked()
        assert gateway.statistics().pings_received == 3000
        pongs = 0
        with trio.move_on_after(1):
            while await wire.frame() == (0x8A, b"z" * 125):
                pongs += 1
        assert 500 < pongs < 600


# --- while connecting ---


@pytest.mark.parametrize("status", [401, 403, 429, 503, 599])
async def test_reject(status: int, transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.reject(status, retry_after=30)
        async with wire_to(gateway, transport) as wire:
            assert (await wire.ask("GET", "/v1/health"))[0] == 204
            await wire.upgrade()
            got, headers, body = await wire.answer()
            assert (got, headers["retry-after"], headers["content-type"]) == (status, "30", "text/html")
            assert str(status).encode() in body
            assert await wire.ends()
        async with receiver(gateway, transport):
            assert gateway.handshakes == 1


async def test_reject_as_a_gateway_in_another_mode(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as wire:
        gateway.reject(200, body="[]")
        await wire.upgrade()
        status, headers, body = await wire.answer()
        assert (status, headers["content-type"], body) == (200, "application/json; charset=utf-8", b"[]")


@pytest.mark.parametrize("kind", ["silence", "hang_up", "garbage"])
@pytest.mark.parametrize("times", [1, 3, None])
async def test_faults_in_the_handshake(
    kind: str, times: int | None, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway:
        getattr(gateway, kind)(times)
        for _ in range(times or 5):
            async with wire_to(gateway, transport) as wire:
                assert (await wire.ask("GET", "/v1/health"))[0] == 204
                await wire.upgrade()
                if kind == "silence":
                    assert await wire.is_silent(1e5)
                elif kind == "hang_up":
                    assert await wire.ends()
                else:
                    assert await wire.more()
                    assert not wire.unread.startswith(b"HTTP")
        if times is None:
            gateway.heal()
        async with receiver(gateway, transport):
            assert gateway.handshakes == 1


async def test_faults_for_http_and_for_any(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.hang_up(on="http")
        gateway.silence(on="any")
        async with wire_to(gateway, transport) as wire:
            await wire.request("GET", "/v1/health")
            assert await wire.ends()
        async with wire_to(gateway, transport) as wire:
            assert await wire.is_silent()
            await wire.request("GET", "/v1/health")
            assert await wire.is_silent()
        async with receiver(gateway, transport):
            assert len(gateway.requests) == 2


async def test_times_must_make_sense() -> None:
    async with open_fake_gateway(port=None) as gateway:
        with pytest.raises(ValueError, match="times must be at least 1"):
            gateway.silence(0)
        with pytest.raises(ValueError, match="times must be at least 1"):
            gateway.refuse(0)


async def test_refuse_some(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.refuse(2)
        for _ in range(2):
            with pytest.raises((OSError, trio.BrokenResourceError)):
                async with wire_to(gateway, transport) as wire:
                    await wire.more()
        async with wire_to(gateway, transport) as wire:
            assert (await wire.ask("GET", "/v1/health"))[0] == 204
        assert gateway.statistics().refused == 2


async def test_refuse_until_healed(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        port = gateway.port
        gateway.refuse(None)
        gateway.refuse(3)
        for _ in range(5):
            with pytest.raises(OSError, match=REFUSED):
                await dialler(gateway, transport)()
        payload = gateway.deliver()
        assert await wire.text() == payload
        gateway.heal()
        async with receiver(gateway, transport):
            assert gateway.port == port


async def test_stop_and_start(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, receiver(gateway, transport) as wire:
        port = gateway.port
        for _ in range(3):
            gateway.stop()
            gateway.stop()
            gateway.heal()
            with pytest.raises(OSError, match=REFUSED):
                await dialler(gateway, transport)()
            payload = gateway.deliver()
            assert await wire.text() == payload
            await gateway.start()
            await gateway.start()
            assert gateway.port == port
            async with receiver(gateway, transport):
                pass


async def test_refusal_outlasts_a_restart(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway:
        gateway.refuse(None)
        await gateway.restart()
        with pytest.raises(OSError, match=REFUSED):
            await dialler(gateway, transport)()
        gateway.heal()
        async with receiver(gateway, transport):
            pass


async def test_restart(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(answer_delay=60) as gateway:
        async with (
            receiver(gateway, transport) as wire,
            wire_to(gateway, transport) as sending,
            wire_to(gateway, transport) as idle,
            trio.open_nursery() as nursery,
        ):
            assert (await idle.ask("GET", "/v1/health"))[0] == 204
            await sending.request("POST", "/v2/send", SEND)
            await gateway.wait_received(1)
            nursery.start_soon(gateway.restart, 8)
            assert await wire.ends()
            assert await sending.ends()
            assert await idle.ends()
            assert trio.current_time() < 1
            with pytest.raises(OSError, match=REFUSED):
                await dialler(gateway, transport)()
            await trio.sleep(9)
            async with receiver(gateway, transport):
                await gateway.wait_handshakes(2)
        assert [(send.outcome, send.answered) for send in gateway.received] == [("ok", False)]
        assert gateway.statistics().sends_in_flight == 0


# --- signal-cli away ---


async def test_daemon_outage(transport: str, autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway(answer_delay=1) as gateway,
        receiver(gateway, transport) as wire,
        wire_to(gateway, transport) as flying,
        wire_to(gateway, transport) as http,
    ):
        await flying.request("POST", "/v2/send", SEND)
        await gateway.wait_received(1)
        gateway.daemon_outage(30)
        gateway.script_send(testing.rate_limited())
        assert await http.ask("POST", "/v2/send", SEND) == (500, b"")
        assert (await http.ask("POST", "/v2/send", b"{}"))[0] == 400
        assert (await http.ask("GET", "/v1/health"))[0] == 204
        gateway.deliver(text="lost")
        assert await wire.is_silent(29)
        await trio.sleep(2)
        assert (await http.ask("POST", "/v2/send", SEND))[0] == 429
        payload = gateway.deliver(text="back")
        assert await wire.text() == payload
        assert await flying.is_silent(1e4)
        assert gateway.statistics().dropped_daemon_down == 1


@pytest.mark.parametrize("seconds", [None, 31, math.inf])
async def test_the_gateway_exits_after_30_seconds_without_signal_cli(
    seconds: float | None, transport: str, autojump_clock: MockClock
) -> None:
    async with open_fake_gateway() as gateway:
        async with receiver(gateway, transport) as wire, wire_to(gateway, transport) as http:
            gateway.daemon_outage(seconds)
            assert await http.ask("POST", "/v2/send", SEND) == (500, b"")
            assert await wire.ends()
            assert await http.ends()
            assert trio.current_time() == pytest.approx(30.1)
        gateway.heal()
        with pytest.raises(OSError, match=REFUSED):
            await dialler(gateway, transport)()
        await gateway.start()
        async with wire_to(gateway, transport) as http:
            assert (await http.ask("POST", "/v2/send", SEND))[0] == 201


@pytest.mark.parametrize("end", ["daemon_return", "heal"])
async def test_an_outage_can_be_ended(end: str, transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway() as gateway, wire_to(gateway, transport) as http:
        gateway.daemon_outage()
        await trio.sleep(29)
        gateway.daemon_outage(20)
        await trio.sleep(5)
        getattr(gateway, end)()
        await trio.sleep(100)
        assert (await http.ask("POST", "/v2/send", SEND))[0] == 201


# --- the real gateway's own losses ---


async def test_a_burst_is_lost_but_for_its_first(transport: str, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(lose_bursts=True) as gateway, receiver(gateway, transport) as wire:
        await gateway.wait_connected()
        payloads = [gateway.deliver(text=str(number)) for number in range(10)]
        assert await wire.text() == payloads[0]
        assert await wire.is_silent()
        paced = gateway.deliver(text="later")
        assert await wire.text() == paced
        assert gateway.statistics().lost_in_burst == 9


async def test_other_numbers_displace(transport: str, autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway(lose_bursts=True) as gateway,
        receiver(gateway, transport) as wire,
        receiver(gateway, transport, OTHER) as other,
    ):
        await gateway.wait_connected(2)
        first = gateway.deliver(account=OTHER)
        gateway.deliver(text="displaced")
        assert await other.text() == first
        assert await wire.is_silent()
        assert gateway.statistics().dropped_without_consumer == 0


async def test_one_client_that_does_not_read_stops_everybody(autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway(lose_bursts=True, port=None) as gateway,
        receiver(gateway, "memory") as wire,
        receiver(gateway, "memory", OTHER) as stuck,
    ):
        await gateway.wait_connected(2)
        gateway.deliver_raw(b"x" * 1_000_000, account=OTHER)
        await trio.testing.wait_all_tasks_blocked()
        kept = gateway.deliver(text="kept")
        await trio.sleep(1)
        gateway.deliver(text="lost")
        assert await wire.is_silent(200)
        await wire.put(0x9, b"?")
        assert await wire.frame() == (0x8A, b"?")
        await stuck.stream.aclose()
        assert await wire.text() == kept


async def test_without_lose_bursts_nothing_is_lost_to_a_client_that_does_not_read(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_fake_gateway(port=None) as gateway,
        receiver(gateway, "memory") as wire,
        receiver(gateway, "memory") as stuck,
    ):
        payloads = [gateway.deliver(text="x" * 100_000) for _ in range(1000)]
        kept = 64 * 1024 * 1024 // len(server_frame(payloads[0])) + 1
        for payload in payloads[:kept]:
            assert await wire.text() == payload
        assert await stuck.text() == payloads[0]
        assert gateway.statistics().lost_to_full_queue == 2 * (1000 - kept)


# --- TLS ---


async def test_tls(transport: str, autojump_clock: MockClock) -> None:
    ca = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    with ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.tempfile() as path:
        server.load_cert_chain(path)
    client.load_verify_locations(cadata=ca.cert_pem.bytes().decode())
    async with open_fake_gateway(ssl_context=server) as gateway:
        assert gateway.url.startswith("https://")
        assert gateway.ws_url.startswith("wss://")
        plain = await dialler(gateway, transport)()
        async with trio.SSLStream(
            plain, client, server_hostname="127.0.0.1", https_compatible=True
        ) as stream:
            wire = Wire(stream)
            assert (await wire.ask("GET", "/v1/health"))[0] == 204
            await wire.upgrade()
            assert (await wire.answer())[0] == 101
            payload = gateway.deliver()
            assert await wire.text() == payload
            gateway.reset()
            with pytest.raises(trio.BrokenResourceError):
                await wire.more()
        plain = await dialler(gateway, transport)()
        stranger = trio.SSLStream(plain, ssl.create_default_context(), server_hostname="127.0.0.1")
        with pytest.raises(trio.BrokenResourceError):
            await stranger.do_handshake()
        await trio.aclose_forcefully(stranger)
        async with wire_to(gateway, transport) as wire:
            assert await wire.ends()
            assert trio.current_time() == pytest.approx(10)
        async with wire_to(gateway, transport) as wire:
            await wire.request("GET", "/v1/health")
            with suppress(trio.BrokenResourceError):
                while await wire.more():
                    pass
            assert not wire.unread.startswith(b"HTTP")
            await gateway.wait_disconnected()


# --- the context ---


async def test_leaving_closes_everything_at_once(transport: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with open_fake_gateway(answer_delay=1e9) as gateway:
            gateway.silence()
            wires = [Wire(await dialler(gateway, transport)()) for _ in range(5)]
            await wires[0].upgrade()
            await wires[1].upgrade()
            await wires[2].request("POST", "/v2/send", SEND)
            await wires[3].stream.send_all(b"GET /")
            await gateway.wait_requests(3)
            dial = dialler(gateway, transport)
        for wire in wires:
            nursery.start_soon(reads_to_an_end, wire)
        with pytest.raises(OSError, match=REFUSED):
            await dial()
    assert trio.current_time() == 0


async def reads_to_an_end(wire: Wire) -> None:
    async with wire.stream:
        with suppress(trio.BrokenResourceError):
            while await wire.more():
                pass


async def test_an_exception_of_the_body_comes_out_as_it_is(transport: str, autojump_clock: MockClock) -> None:
    cause = KeyError("cause")
    with pytest.raises(LookupError, match="mine") as caught:
        async with open_fake_gateway() as gateway, receiver(gateway, transport):
            raise LookupError("mine") from cause
    assert caught.value.__cause__ is cause
    group = ExceptionGroup("theirs", [ValueError()])
    with pytest.RaisesGroup(ValueError):
        async with open_fake_gateway():
            raise group


async def test_several_exceptions_stay_a_group() -> None:
    with pytest.RaisesGroup(ValueError, KeyError):
        async with lone_exception():
            await trio.lowlevel.checkpoint()
            raise ExceptionGroup("both", [ValueError(), KeyError()])


async def test_a_taken_port_is_an_error() -> None:
    async with open_fake_gateway() as gateway:
        with pytest.raises(OSError, match="in use"):
            async with open_fake_gateway(port=gateway.port):
                pass


async def test_ipv6(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(host="::1") as gateway:
        assert gateway.url == f"http://[::1]:{gateway.port}"
        async with await trio.open_tcp_stream("::1", gateway.port or 0) as stream:
            assert (await Wire(stream).ask("GET", "/v1/health"))[0] == 204
        await gateway.restart()


async def test_memory_only() -> None:
    async with open_fake_gateway(port=None) as gateway:
        assert gateway.port is None
        assert gateway.url == "http://127.0.0.1:8080"
        assert gateway.account == ACCOUNT


async def test_the_fixture(fake_gateway: FakeGateway, autojump_clock: MockClock) -> None:
    async with receiver(fake_gateway, "port") as wire, receiver(fake_gateway, "memory") as other:
        payload = fake_gateway.deliver()
        assert await wire.text() == await other.text() == payload
        await trio.sleep(3600)
        assert (await wire.frame()) == (0x89, b"")


# --- envelopes ---

PERSON: dict[str, Any] = {
    "targetAuthor": PEER,
    "targetAuthorNumber": PEER,
    "targetAuthorUuid": UUID,
    "targetSentTimestamp": 5,
}
TO_PEER = {"destination": PEER, "destinationNumber": PEER, "destinationUuid": UUID}
TO_NOBODY = dict.fromkeys(TO_PEER)
MENTION = {"name": ACCOUNT, "number": ACCOUNT, "uuid": f"{UUID[:-1]}1", "start": 0, "length": 1}
VOICE = envelopes.attachment("x", isVoiceNote=True)
AUTHOR = {"author": PEER, "authorNumber": PEER, "authorUuid": UUID}
QUOTE: dict[str, Any] = {"id": 5, **AUTHOR, "text": "hi", "attachments": []}
REACTION = {"emoji": "x", **PERSON, "isRemove": True}
VOTE: dict[str, Any] = {
    "author": PEER,
    "authorNumber": PEER,
    "authorUuid": UUID,
    "targetSentTimestamp": 5,
    "optionIndexes": [0, 1],
    "voteCount": 1,
}
OWN = envelopes.data_message("mine", timestamp=100)
OWN_IN_GROUP = envelopes.data_message("mine", timestamp=100, group="G=")
SENT_EDIT = {**TO_PEER, "editMessage": {"targetSentTimestamp": 5, "dataMessage": OWN}}
STORY = {"text": "s", "style": "DEFAULT", "backgroundColor": "#000000"}


@pytest.mark.parametrize(
    ("envelope", "content"),
    [
        (envelopes.text("a", group="G="), {"message": "a"}),
        (envelopes.mention("\ufffc hi", ACCOUNT, start=0), {"mentions": [MENTION]}),
        (
            envelopes.styled("b", ("BOLD", 0, 1)),
            {"textStyles": [{"style": "BOLD", "start": 0, "length": 1}]},
        ),
        (envelopes.with_attachments(), {"message": None, "attachments": [envelopes.attachment()]}),
        (envelopes.with_attachments(VOICE, message="m"), {"message": "m", "attachments": [VOICE]}),
        (envelopes.quote("answer", 5), {"message": "answer", "quote": QUOTE}),
        (envelopes.reaction("x", 5, remove=True), {"message": None, "reaction": REACTION}),
        (envelopes.remote_delete(5), {"remoteDelete": {"timestamp": 5}}),
        (
            envelopes.remote_delete(5, renamed=True),
            {"remoteDelete": {"timestamp": 5, "targetTimestamp": 5}},
        ),
        (envelopes.admin_delete(5, group="G="), {"adminDelete": PERSON}),
        (envelopes.sticker(), {"sticker": {"packId": "00aa", "stickerId": 1}}),
        (
            envelopes.group_update("G=", name=None),
            {"groupInfo": {"groupId": "G=", "groupName": None, "revision": 2, "type": "UPDATE"}},
        ),
        (
            envelopes.poll("?", "a", "b"),
            {"pollCreate": {"question": "?", "allowMultiple": True, "options": ["a", "b"]}},
        ),
        (envelopes.poll_vote(5, 0, 1), {"pollVote": VOTE}),
        (envelopes.poll_terminate(5), {"pollTerminate": {"targetSentTimestamp": 5}}),
        (envelopes.pin(5), {"pinMessage": {**PERSON, "pinDurationSeconds": -1}}),
        (envelopes.unpin(5), {"unpinMessage": PERSON}),
    ],
)
def test_envelopes_of_data_messages(envelope: dict[str, Any], content: dict[str, Any]) -> None:
    data = envelopes.stamped(envelope, 100)["dataMessage"]
    assert data["timestamp"] == 100
    assert data | content == data


@pytest.mark.parametrize(
    ("envelope", "content"),
    [
        (envelopes.envelope(), {}),
        (
            envelopes.edit("mine", 5),
            {"editMessage": {"targetSentTimestamp": 5, "dataMessage": OWN}},
        ),
        (
            envelopes.receipt(5, 6, kind="read"),
            {
                "receiptMessage": {
                    "when": 100,
                    "isDelivery": False,
                    "isRead": True,
                    "isViewed": False,
                    "timestamps": [5, 6],
                }
            },
        ),
        (
            envelopes.typing("STOPPED", group="G="),
            {"typingMessage": {"action": "STOPPED", "timestamp": 100, "groupId": "G="}},
        ),
        (
            envelopes.sync_sent("mine", account=ACCOUNT),
            {"syncMessage": {"sentMessage": {**TO_PEER, **OWN}}},
        ),
        (
            envelopes.sync_sent("mine", account=ACCOUNT, group="G="),
            {"syncMessage": {"sentMessage": {**TO_NOBODY, **OWN_IN_GROUP}}},
        ),
        (envelopes.sync_edit("mine", 5, account=ACCOUNT), {"syncMessage": {"sentMessage": SENT_EDIT}}),
        (envelopes.sync(account=ACCOUNT, type="CONTACTS_SYNC"), {"syncMessage": {"type": "CONTACTS_SYNC"}}),
        (
            envelopes.call(),
            {"callMessage": {"offerMessage": {"id": 1, "type": "AUDIO_CALL", "opaque": "AAAA"}}},
        ),
        (envelopes.call(busyMessage={"id": 2}), {"callMessage": {"busyMessage": {"id": 2}}}),
        (envelopes.story("s"), {"storyMessage": {"allowsReplies": True, "textAttachment": STORY}}),
        (
            envelopes.story(file=VOICE, group="G="),
            {"storyMessage": {"allowsReplies": True, "groupId": "G=", "fileAttachment": VOICE}},
        ),
    ],
)
def test_other_envelopes(envelope: dict[str, Any], content: dict[str, Any]) -> None:
    stamped = envelopes.stamped(envelope, 100)
    frame = envelopes.envelope(
        sender=envelope["source"],
        name=envelope["sourceName"],
        device=envelope["sourceDevice"],
        timestamp=100,
        **content,
    )
    assert list(stamped.items()) == list(frame.items())
    assert (frame["serverReceivedTimestamp"], frame["serverDeliveredTimestamp"]) == (101, 102)


# --- the memory connection itself ---


async def test_memory_streams_keep_trios_rules() -> None:
    async def pair() -> tuple[testing.MemoryStream, testing.MemoryStream]:
        await trio.lowlevel.checkpoint()
        return testing.memory_connection()

    async def clogged() -> tuple[testing.MemoryStream, testing.MemoryStream]:
        left, right = testing.memory_connection(10)
        await left.send_all(b"x" * 10)
        await right.send_all(b"x" * 10)
        return left, right

    await trio.testing.check_half_closeable_stream(pair, clogged)


async def test_a_full_window_stops_the_sender() -> None:
    left, right = testing.memory_connection()
    done = trio.Event()

    async def send() -> None:
        await left.send_all(b"x" * 100_000)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        assert len(await right.receive_some()) == 64 * 1024
        await trio.testing.wait_all_tasks_blocked()
        assert done.is_set()
        assert len(await right.receive_some()) == 100_000 - 64 * 1024


async def test_what_had_arrived_before_a_reset_can_be_read() -> None:
    left, right = testing.memory_connection()
    await left.send_all(b"last words")
    left.reset()
    assert await right.receive_some() == b"last words"
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"too late")
    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"mine is closed")
    with pytest.raises(trio.ClosedResourceError):
        await left.send_eof()


async def test_closing_with_unread_data_resets_as_tcp_does() -> None:
    left, right = testing.memory_connection()
    await left.send_all(b"never read")
    await right.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await left.receive_some()

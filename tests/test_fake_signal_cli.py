"""The fake of signal-cli's own daemon: its bytes, receive modes and faults, seen from the client's end."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_signal import testing
from trio_signal.testing import FakeGateway, SendAnswer, envelopes, open_fake_gateway
from trio_signal.testing._chunks import event

from .signal_cli_cases import Case, StreamCase, check_case, check_stream, load_cases, load_streams

ACCOUNT, PEER, OTHER = "+15550001", "+15550002", "+15550009"
GROUP_ID = base64.b64encode(bytes(range(32))).decode()
GROUP = "group." + base64.b64encode(GROUP_ID.encode()).decode()
HOST = "127.0.0.1:8080"
VERSIONS = ("0.13.19", "0.14.3", "0.14.4", "0.14.9")
SEND = {"account": ACCOUNT, "recipient": [PEER], "message": "hi"}


class Wire:
    """The client's end of a connection, with nothing between the test and the bytes."""

    def __init__(self, stream: trio.abc.Stream, host: str = HOST) -> None:
        self.stream = stream
        self.host = host
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

    async def until(self, mark: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        while mark not in self.unread:
            assert await self.more(), f"the connection ended within {self.unread!r}"
        found, self.unread = self.unread.split(mark, 1)
        return found

    async def ends(self) -> bool:
        """Whether there is nothing more but the end of the stream."""
        await trio.lowlevel.checkpoint()
        return not self.unread and not await self.more()

    async def is_silent(self, seconds: float) -> bool:
        with trio.move_on_after(seconds) as scope:
            await self.more()
        return scope.cancelled_caught

    async def head(self) -> list[str]:
        return (await self.until(b"\r\n\r\n")).decode().split("\r\n")

    async def answer(self) -> tuple[int, bytes]:
        status, *lines = await self.head()
        sizes = [line.partition(": ")[2] for line in lines if line.lower().startswith("content-length")]
        return int(status.split()[1]), await self.take(int(sizes[0]))

    async def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [] if body is None else [f"Content-Length: {len(body)}"]
        await self.stream.send_all("\r\n".join((*lines, "", "")).encode() + (body or b""))

    async def post(self, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.request("POST", "/api/v1/rpc", content, Content_Type="application/json", **headers)

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method and give its result, or its error in a list."""
        request = {"jsonrpc": "2.0", "method": method, "id": 1} | (
            {} if params is None else {"params": params}
        )
        await self.post(request)
        status, body = await self.answer()
        assert status == 200
        reply = json.loads(body)
        return reply["result"] if "result" in reply else [reply["error"]]

    # --- an event stream ---

    async def listen(self, account: str | None = ACCOUNT) -> None:
        """Ask for events, and wait until they can come."""
        query = "" if account is None else f"?account={account.replace('+', '%2B')}"
        await self.request("GET", f"/api/v1/events{query}")

    async def chunk(self) -> bytes:
        size = int(await self.until(b"\r\n"), 16)
        data = await self.take(size)
        assert await self.take(2) == b"\r\n"
        return data

    async def event(self) -> Any:
        """Read the next event, and pass over keep-alives."""
        text = b""
        while not text.endswith(b"\n\n"):
            text += await self.chunk()
            text = b"" if text == b":\n" else text
        assert text.startswith(b"event:receive\ndata:")
        return json.loads(text[19:-2])

    async def text(self) -> str:
        """The text of the next message."""
        text: str = (await self.event())["envelope"]["dataMessage"]["message"]
        return text


@asynccontextmanager
async def daemon(*, port: int | None = None, **options: Any) -> AsyncGenerator[FakeGateway]:
    async with open_fake_gateway(ACCOUNT, kind="signal-cli", port=port, **options) as gateway:
        yield gateway


@asynccontextmanager
async def wire_to(gateway: FakeGateway) -> AsyncGenerator[Wire]:
    async with await gateway.connect("127.0.0.1", 8080) as stream:
        yield Wire(stream)


@asynccontextmanager
async def listener(gateway: FakeGateway, account: str | None = ACCOUNT) -> AsyncGenerator[Wire]:
    """A client with an event stream whose head it has read."""
    async with wire_to(gateway) as wire:
        await wire.listen(account)
        assert (await wire.head())[0] == "HTTP/1.1 200 OK"
        yield wire


# --- the same cases as against the real daemon ---


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{version} {case.name}")
        for version in ("0.13.19", "0.14.9")
        for case in load_cases(version)
        if not case.network
    ],
)
async def test_answers_as_the_real_daemon(case: Case, version: str, autojump_clock: MockClock) -> None:
    async with daemon(version=version, accounts=[]) as gateway:
        stream = await gateway.connect("127.0.0.1", 8080)
        await check_case(stream, case, host=HOST, version=version)


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{version} {case.name}")
        for version in VERSIONS
        for case in load_streams(version)
    ],
)
async def test_streams_as_the_real_daemon(case: StreamCase, version: str, autojump_clock: MockClock) -> None:
    async with daemon(version=version, accounts=[]) as gateway:
        stream = await gateway.connect("127.0.0.1", 8080)
        await check_stream(stream, case, host=HOST, slack=0.01)


async def test_on_a_port(autojump_clock: MockClock) -> None:
    async with daemon(port=0) as gateway:
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.port or 0)
        async with stream:
            wire = Wire(stream, f"127.0.0.1:{gateway.port}")
            assert await wire.call("version") == {"version": "0.14.9"}
            await wire.listen()
            assert (await wire.head())[-1] == "Content-type: text/event-stream"
            gateway.deliver(text="over TCP")
            assert await wire.text() == "over TCP"


async def test_what_is_no_http(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        for sent, words in [
            (b"nonsense\r\n\r\n", b"Bad request line"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nNoColon\r\n\r\n", b"Header key contains illegal characters"),
        ]:
            async with wire_to(gateway) as wire:
                await wire.stream.send_all(sent)
                assert await wire.head() == [
                    "HTTP/1.1 400 Bad Request",
                    f"Content-Length: {len(words) + 24}",
                    "Content-Type: text/html",
                    "Connection: close",
                ]
                assert await wire.take(len(words) + 24) == b"<h1>400 Bad Request</h1>" + words
                assert await wire.ends()


# --- JSON-RPC ---


async def test_very_long_strings(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        request = b'{"jsonrpc":"2.0","method":"version","id":1,"params":{"x":["%b"]}}'
        await wire.post(request % (b"x" * 20_000_000))
        assert json.loads((await wire.answer())[1])["result"] == {"version": "0.14.9"}
        await wire.post(request % (b"x" * 20_000_001))
        assert json.loads((await wire.answer())[1]) == {
            "jsonrpc": "2.0",
            "error": {"code": -32603, "message": "An internal server error has occurred.", "data": None},
            "id": None,
        }
        await wire.post(request % (b"x" * 30_000_000))
        with pytest.raises(trio.BrokenResourceError):
            await wire.more()


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"[", "Unexpected end-of-input: expected close marker for Array"),
        (b'{"jsonrpc":', "Unexpected character"),
        (b"[" * 100_000, "Unexpected character"),
    ],
    ids=["open list", "torn", "deep"],
)
async def test_bad_json(sent: bytes, problem: str, autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        await wire.post(sent)
        error = json.loads((await wire.answer())[1])["error"]
        assert error["code"] == -32700
        assert error["message"].startswith(problem)


async def test_items_of_a_batch_that_are_no_requests(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        await wire.post(["x", True])
        errors = [reply["error"] for reply in json.loads((await wire.answer())[1])]
        assert [error["code"] for error in errors] == [-32600, -32600]
        assert "String value ('x')" in errors[0]["message"]
        assert "boolean value (true)" in errors[1]["message"]


async def test_one_account_need_not_be_named(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        assert (await wire.call("send", {"recipient": PEER, "message": "hi"}))["timestamp"] > 0
        assert gateway.received[0].number == ACCOUNT
        assert await wire.call("listGroups") == []
    async with daemon(accounts=[ACCOUNT, OTHER]) as gateway, wire_to(gateway) as wire:
        (error,) = await wire.call("send", {"recipient": PEER, "message": "hi"})
        assert error["code"] == -32602
        assert await wire.call("listAccounts") == [{"number": ACCOUNT}, {"number": OTHER}]
        assert [(send.outcome, send.timestamp) for send in gateway.received] == [("error", None)]


@pytest.mark.parametrize(
    ("params", "recipients"),
    [
        ({"recipient": PEER}, [PEER]),
        ({"recipients": [PEER, OTHER]}, [PEER, OTHER]),
        ({"groupId": GROUP_ID}, [GROUP]),
        ({"group-id": [GROUP_ID]}, [GROUP]),
        ({"username": "ada.01"}, ["ada.01"]),
        ({"recipient": ["u:ada.01", PEER], "groupIds": [GROUP_ID]}, ["ada.01", PEER, GROUP]),
    ],
)
async def test_whom_a_send_is_for(
    params: dict[str, Any], recipients: list[str], autojump_clock: MockClock
) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        result = await wire.call("send", {"account": ACCOUNT, "message": "hi"} | params)
        (send,) = gateway.received
        assert send.recipients == recipients
        assert (send.kind, send.message, send.number) == ("send", "hi", ACCOUNT)
        assert (send.outcome, send.answered, send.timestamp) == ("ok", True, result["timestamp"])
        assert {each["type"] for each in result["results"]} == {"SUCCESS"}
        assert len(result["results"]) == len(recipients)


async def test_results_name_everybody(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.groups[GROUP_ID] = testing.group(GROUP_ID, members=[ACCOUNT, PEER, OTHER])
        uuid = envelopes.uuid_of(PEER)
        result = await wire.call("send", SEND | {"recipient": [PEER, uuid], "username": "ada.01"})
        assert [each["recipientAddress"] for each in result["results"]] == [
            {"uuid": uuid, "number": PEER, "username": None},
            {"uuid": uuid, "number": None, "username": None},
            {"uuid": None, "number": None, "username": "ada.01"},
        ]
        result = await wire.call("send", {"account": ACCOUNT, "groupId": GROUP_ID, "message": "all"})
        assert [(each["recipientAddress"]["number"], each["groupId"]) for each in result["results"]] == [
            (PEER, GROUP_ID),
            (OTHER, GROUP_ID),
        ]


@pytest.mark.parametrize(
    ("method", "params", "problem"),
    [
        ("send", {"recipient": []}, "No recipients given"),
        ("send", {"message": ""}, "Sending empty message is not allowed"),
        ("send", {"mention": "3:1"}, "Invalid mention syntax (3:1) expected"),
        ("send", {"textStyles": ["0:1:BOLD", "BOLD"]}, "Invalid textStyle syntax (BOLD) expected"),
        ("send", {"text-style": ["0:1:LOUD"]}, "Invalid style: LOUD"),
        ("send", {"quoteTimestamp": 5}, "Quote author parameter is missing"),
        ("send", {"groupId": "no base64!"}, "Invalid group id: Failed to decode groupId"),
        ("remoteDelete", {"recipient": []}, "No recipients given"),
        ("sendReaction", {"recipient": []}, "No recipients given"),
        ("sendTyping", {"recipient": []}, "No recipients given"),
        ("sendReceipt", {"type": "eaten"}, "Unknown receipt type: eaten"),
        ("updateGroup", {"groupId": GROUP_ID}, "Failed to send to group: Group not found"),
        ("updateGroup", {"link": "half-open"}, "Invalid group link state: half-open"),
        ("updateGroup", {"setPermissionAddMember": "me"}, "Invalid group permission: me"),
        ("joinGroup", {"uri": "https://example.org"}, "Link is not a signal group invitation link"),
        ("getAttachment", {"id": "a.png"}, "Could not find attachment with ID: a.png"),
        ("submitRateLimitChallenge", {"challenge": "x"}, "Captcha rejected"),
    ],
)
async def test_what_a_call_is_refused_for(
    method: str, params: dict[str, Any], problem: str, autojump_clock: MockClock
) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.slow(60))
        (error,) = await wire.call(method, SEND | params)
        assert (error["code"], error["data"]) == (-1, None)
        assert error["message"].startswith(problem)
        assert [(send.outcome, send.timestamp) for send in gateway.received] in ([], [("invalid", None)])


async def test_everything_that_goes_with_a_text_is_seen(autojump_clock: MockClock) -> None:
    extras = {
        "attachments": ["data:image/png;filename=a.png;base64,AAAA"],
        "mention": ["0:1:+15550009"],
        "textStyle": "0:2:BOLD",
        "quoteTimestamp": 5,
        "quoteAuthor": PEER,
        "quoteMessage": "x",
        "editTimestamp": 7,
        "viewOnce": True,
        "previewUrl": "https://example.org",
        "previewTitle": "t",
        "previewDescription": "d",
        "previewImage": "data:image/png;base64,AAAA",
    }
    async with daemon() as gateway, wire_to(gateway) as wire:
        assert (await wire.call("send", SEND | extras))["results"]
        assert gateway.received[0].body == SEND | extras
        assert gateway.received[0].kind == "send"
        assert json.loads(gateway.requests[0].body)["params"] == SEND | extras


async def test_reactions_and_deletions_take_the_scripted_answers_too(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.ok(), testing.error(400, "no"), testing.ok())
        target = {"targetTimestamp": 5}
        reaction = {"emoji": "👍", "targetAuthor": PEER}
        assert (await wire.call("sendReaction", SEND | target | reaction))["timestamp"]
        assert (await wire.call("remoteDelete", SEND | target))[0]["message"] == "no"
        assert (await wire.call("send", SEND))["timestamp"]
        assert [(send.kind, send.outcome, send.message) for send in gateway.received] == [
            ("reaction", "ok", "👍"),
            ("remote_delete", "error", ""),
            ("send", "ok", "hi"),
        ]


# --- scripted answers ---


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (testing.error(400, "no such thing"), {"code": -1, "message": "no such thing", "data": None}),
        (testing.rpc_error(-3, "broken", {"x": 1}), {"code": -3, "message": "broken", "data": {"x": 1}}),
    ],
)
async def test_errors(answer: SendAnswer, error: dict[str, Any], autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(answer)
        assert await wire.call("send", SEND) == [error]
        assert (await wire.call("send", SEND))["timestamp"]


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (testing.rate_limited(["a"], retry_after=86_400), {"token": "a", "retryAfterSeconds": 86_400}),
        (testing.rate_limited([""]), {}),
        (testing.rate_limited(None, retry_after="5.0"), {"retryAfterSeconds": 5}),
    ],
)
async def test_a_rate_limit(answer: SendAnswer, more: dict[str, Any], autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(answer)
        (error,) = await wire.call("send", SEND)
        assert (error["code"], error["message"]) == (-5, "Failed to send message due to rate limiting")
        (result,) = error["data"]["response"]["results"]
        assert result.pop("recipientAddress")["number"] == PEER
        assert result == {"type": "RATE_LIMIT_FAILURE"} | more
        assert [send.timestamp for send in gateway.received] == [None]


async def test_a_partial_success(autojump_clock: MockClock) -> None:
    failed = [{"number": OTHER, "reason": "UNREGISTERED_FAILURE"}]
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.partial(failed))
        result = await wire.call("send", SEND | {"recipient": [PEER, OTHER]})
        assert [each["type"] for each in result["results"]] == ["SUCCESS", "UNREGISTERED_FAILURE"]
        assert result["timestamp"] == gateway.received[0].timestamp


@pytest.mark.parametrize(
    ("reasons", "code", "message"),
    [
        (["IDENTITY_FAILURE"] * 2, -4, "Failed to send message due to untrusted identities"),
        (["RATE_LIMIT_FAILURE"] * 2, -5, "Failed to send message due to rate limiting"),
        (["NETWORK_FAILURE", "IDENTITY_FAILURE"], -1, "Failed to send message"),
    ],
)
async def test_a_partial_success_that_is_none(
    reasons: list[str], code: int, message: str, autojump_clock: MockClock
) -> None:
    people = [PEER, OTHER]
    failed = [{"number": number, "reason": reason} for number, reason in zip(people, reasons, strict=True)]
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.partial(failed))
        (error,) = await wire.call("send", SEND | {"recipient": people})
        assert (error["code"], error["message"]) == (code, message)
        assert [each["type"] for each in error["data"]["response"]["results"]] == reasons


@pytest.mark.parametrize(
    ("answer", "is_sent"),
    [(testing.lost(), True), (testing.daemon_down(), False)],
    ids=["lost", "daemon down"],
)
async def test_a_lost_answer(answer: SendAnswer, is_sent: bool, autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(answer)
        await wire.post({"jsonrpc": "2.0", "method": "send", "params": SEND, "id": 1})
        assert await wire.ends()
        (send,) = gateway.received
        assert (send.timestamp is not None, send.answered) == (is_sent, False)


async def test_other_disasters(autojump_clock: MockClock) -> None:
    request = {"jsonrpc": "2.0", "method": "send", "params": SEND, "id": 1}
    async with daemon() as gateway:
        gateway.script_send(
            testing.hang(),
            testing.garbage(),
            testing.raw(b"HTTP/1.1 200 OK\r\n"),
            testing.error(503, "down"),
            testing.reply(502, "<html>", content_type="text/html"),
            testing.endless(chunk=4, every=1),
        )
        async with wire_to(gateway) as wire:
            await wire.post(request)
            assert await wire.is_silent(3600)
        async with wire_to(gateway) as wire:
            await wire.post(request)
            assert (await wire.take(2)) == b"\x00\x01"
        async with wire_to(gateway) as wire:
            await wire.post(request)
            assert await wire.take(17) == b"HTTP/1.1 200 OK\r\n"
            assert await wire.ends()
        async with wire_to(gateway) as wire:
            await wire.post(request)
            assert await wire.answer() == (503, b'{"error":"down"}')
            await wire.post(request)
            assert await wire.answer() == (502, b"<html>")
            await wire.post(request)
            assert (await wire.head())[0] == "HTTP/1.1 200 OK"
            assert [await wire.chunk() for _ in range(3)] == [b"xxxx"] * 3
        assert [send.outcome for send in gateway.received] == [
            "hang",
            "garbage",
            "raw",
            "error",
            "reply",
            "endless",
        ]


async def test_slow_sends_run_side_by_side(autojump_clock: MockClock) -> None:
    async with daemon(answer_delay=2) as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.slow(5), testing.ok())
        began = trio.current_time()
        await wire.post(
            [{"jsonrpc": "2.0", "method": "send", "params": SEND | {"message": m}, "id": m} for m in "ab"]
        )
        replies = json.loads((await wire.answer())[1])
        assert [reply["id"] for reply in replies] == ["b", "a"]
        assert trio.current_time() - began == pytest.approx(7)
        assert [send.message for send in gateway.received] == ["a", "b"]
        assert gateway.statistics().most_sends_in_flight == 2


async def test_a_disaster_takes_the_whole_batch(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.slow(5), testing.lost())
        await wire.post([{"jsonrpc": "2.0", "method": "send", "params": SEND, "id": at} for at in (1, 2)])
        assert await wire.ends()
        assert [send.answered for send in gateway.received] == [False, False]


async def test_a_body_is_cut(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.script_send(testing.cut_body(40))
        async with wire_to(gateway) as wire:
            assert await wire.call("version") == {"version": "0.14.9"}
            head = "POST /api/v1/rpc HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
            await wire.stream.send_all(f"{head}Content-Length: 500\r\n\r\n".encode())
            await wire.stream.send_all(b'{"jsonrpc":"2.0","method":"send","params":{"x"')
            assert await wire.ends()
        assert not gateway.received
        assert len(gateway.requests) == 2


async def test_any_method_can_be_scripted(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script("RPC register", testing.rpc_result({"ok": True}), testing.rpc_error(-6, "no"))
        gateway.script("RPC send", testing.rpc_result({"timestamp": 5}))
        gateway.script("RPC version", testing.slow(3))
        gateway.script("GET /api/v1/check", testing.reply(503, "x"), testing.hang())
        assert await wire.call("register", {"account": OTHER}) == {"ok": True}
        assert (await wire.call("register"))[0]["code"] == -6
        assert (await wire.call("register"))[0]["code"] == -32601
        assert await wire.call("send", SEND) == {"timestamp": 5}
        began = trio.current_time()
        assert await wire.call("version") == {"version": "0.14.9"}
        assert trio.current_time() - began == pytest.approx(3)
        await wire.request("GET", "/api/v1/check")
        assert await wire.answer() == (503, b"x")
        await wire.request("GET", "/api/v1/check")
        assert await wire.is_silent(100)


async def test_what_a_proxy_in_front_does(autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {
        "base_path": "/signal",
        "hide": ["/api/v1/check"],
        "require_header": ("Authorization", "Bearer x"),
    }
    async with daemon(**options) as gateway, wire_to(gateway) as wire:
        assert gateway.url == "http://127.0.0.1:8080/signal"
        for path, token, status in [
            ("/signal/api/v1/events", "y", 401),
            ("/signal/api/v1/check", "x", 404),
            ("/api/v1/rpc", "x", 404),
            ("/signal/api/v1/rpc", "x", 405),
        ]:
            await wire.request("GET", path, Authorization=f"Bearer {token}")
            assert (await wire.answer())[0] == status


@pytest.mark.parametrize(
    ("version", "host", "status"),
    [
        ("0.14.3", "example.org", 200),
        ("0.14.4", "example.org", 421),
        ("0.14.4", "127.0.0.1:8081", 421),
        ("0.14.4", "localhost:8080", 200),
        ("0.14.4", "[::1]:8080", 200),
        ("0.14.9", "127.0.0.1:8080", 200),
    ],
)
async def test_a_foreign_host(version: str, host: str, status: int, autojump_clock: MockClock) -> None:
    async with daemon(version=version) as gateway, wire_to(gateway) as wire:
        wire.host = host
        await wire.request("GET", "/api/v1/check")
        assert await wire.answer() == (status, b"")


async def test_bound_to_all_addresses_any_host_will_do(autojump_clock: MockClock) -> None:
    for version, status in [("0.14.4", 421), ("0.14.5", 200)]:
        async with daemon(version=version, host="0.0.0.0") as gateway, wire_to(gateway) as wire:
            wire.host = "signal.example"
            await wire.request("GET", "/api/v1/check")
            assert (await wire.answer())[0] == status


# --- events ---


async def test_the_bytes_of_an_event(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        payload = gateway.deliver(text='ä "quoted"')
        content = event(payload)
        assert await wire.until(b"\r\n") == b"%x" % len(content)
        assert await wire.take(len(content) + 2) == b"event:receive\ndata:" + payload + b"\n\n\r\n"
        frame = json.loads(payload)
        assert list(frame) == ["envelope", "account"]
        assert b'"account":"+15550001"' in payload
        assert "ä".encode() in payload


async def test_large_events_come_in_chunks_of_4096(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        payload = gateway.deliver(text="x" * 10_000)
        sizes: list[int] = []
        content = b""
        while not content.endswith(b"\n\n"):
            content += (piece := await wire.chunk())
            sizes.append(len(piece))
        assert content == event(payload)
        assert sizes == [4096, 4096, len(content) - 8192]


async def test_headers_are_held_back_until_there_is_something_to_write(autojump_clock: MockClock) -> None:
    async with daemon(version="0.14.3") as gateway, wire_to(gateway) as wire:
        await wire.listen()
        assert await wire.is_silent(14.9)
        assert (await wire.head())[0] == "HTTP/1.1 200 OK"
        assert trio.current_time() == pytest.approx(15, abs=0.01)
    async with daemon(version="0.14.3") as gateway, wire_to(gateway) as wire:
        await wire.listen()
        await gateway.wait_connected()
        gateway.deliver(text="early")
        assert len(await wire.head()) == 4
        assert await wire.text() == "early"


async def test_keep_alives_come_whatever_else_is_sent(autojump_clock: MockClock) -> None:
    async with daemon(keep_alive=10) as gateway, listener(gateway) as wire:
        for _ in range(3):
            await trio.sleep(9)
            gateway.deliver(text="x")
            assert b"data:" in await wire.chunk()
            assert await wire.chunk() == b":\n"
        assert gateway.statistics().pings_sent == 3


async def test_accounts_are_told_apart(autojump_clock: MockClock) -> None:
    async with (
        daemon(accounts=[ACCOUNT, OTHER]) as gateway,
        listener(gateway) as mine,
        listener(gateway, OTHER) as others,
        listener(gateway, None) as all_of_them,
    ):
        assert [sock.account for sock in gateway.connections] == [ACCOUNT, OTHER, ""]
        assert [sock.receives(OTHER) for sock in gateway.connections] == [False, True, True]
        await gateway.wait_consumers(2, account=OTHER)
        gateway.deliver(text="a")
        gateway.deliver(text="b", account=OTHER)
        assert await mine.text() == "a"
        assert await others.text() == "b"
        assert [await all_of_them.text(), await all_of_them.text()] == ["a", "b"]
        await gateway.wait_delivered()
        assert sorted(entry.connection for entry in gateway.ledger) == [1, 2, 3, 3]


async def test_delivering_raw_and_exceptions(autojump_clock: MockClock) -> None:
    async with daemon(accounts=[ACCOUNT, OTHER]) as gateway, listener(gateway, OTHER) as wire:
        gateway.deliver_raw("one\ntwo", account=OTHER)
        assert await wire.chunk() == b"event:receive\ndata:one\ndata:two\n\n"
        gateway.deliver_error("to all")
        assert await wire.chunk() == b'event:receive\ndata:{"error":"to all"}\n\n'
        gateway.deliver_exception(account=OTHER)
        frame = await wire.event()
        assert list(frame) == ["envelope", "exception", "account"]
        assert frame["exception"]["type"] == "UntrustedIdentityException"


# --- receive modes ---


@pytest.mark.parametrize("mode", ["on-connection", "manual"])
async def test_messages_wait_on_signals_server(mode: str, autojump_clock: MockClock) -> None:
    async with daemon(receive_mode=mode) as gateway:
        began = round(testing.START_TIME * 1000)
        for at in range(3):
            gateway.deliver(text=str(at))
            await trio.sleep(10)
        assert gateway.statistics().kept == 3
        async with listener(gateway) as wire:
            frames = [await wire.event() for _ in range(3)]
            stamps = [
                (each["envelope"]["serverReceivedTimestamp"], each["envelope"]["serverDeliveredTimestamp"])
                for each in frames
            ]
            assert stamps == [(began + at * 10_000, began + 30_000) for at in range(3)]
            assert [each["envelope"]["dataMessage"]["message"] for each in frames] == ["0", "1", "2"]
            gateway.deliver(text="live")
            assert await wire.text() == "live"
        assert gateway.statistics().dropped_without_consumer == 0
        assert len(gateway.ledger) == 4


async def test_on_start_loses_what_nobody_receives(autojump_clock: MockClock) -> None:
    async with daemon(receive_mode="on-start") as gateway:
        gateway.deliver(text="lost")
        assert gateway.statistics().dropped_without_consumer == 1
        async with listener(gateway) as wire:
            gateway.deliver(text="live")
            assert await wire.text() == "live"
        assert gateway.statistics().kept == 0


async def test_the_backlog_can_be_spaced(autojump_clock: MockClock) -> None:
    async with daemon(backlog_spacing=2) as gateway:
        for at in range(3):
            gateway.deliver(text=str(at))
        async with listener(gateway) as wire:
            began = trio.current_time()
            gateway.deliver(text="live")
            times: list[tuple[str, float]] = []
            for _ in range(4):
                text = await wire.text()
                times.append((text, round(trio.current_time() - began)))
            assert times == [("0", 0), ("1", 2), ("2", 4), ("live", 4)]


async def test_stamps_that_a_test_gives_are_kept(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.deliver(envelopes.text("x", timestamp=1000))
        await trio.sleep(5)
        async with listener(gateway) as wire:
            envelope = (await wire.event())["envelope"]
            assert (envelope["serverReceivedTimestamp"], envelope["serverDeliveredTimestamp"]) == (1001, 1002)


# --- clients that leave, or do not read ---


async def test_a_client_that_left_is_noticed_at_the_second_write(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway):
            pass
        await gateway.wait_disconnected()
        (stream,) = gateway.connections
        assert stream.is_half_open
        left = trio.current_time()
        await trio.sleep(1)
        gateway.deliver(text="into the void")
        await trio.sleep(0.1)
        assert gateway.statistics().lost_to_half_open == 1
        await trio.sleep(left + 14.9 - trio.current_time())
        assert len(gateway.connections) == 1
        await trio.sleep(0.2)
        assert not gateway.connections
        gateway.deliver(text="kept")
        assert gateway.statistics().kept == 1
        assert not gateway.ledger


async def test_without_messages_a_client_that_left_is_noticed_after_two_keep_alives(
    autojump_clock: MockClock,
) -> None:
    async with daemon() as gateway:
        async with listener(gateway):
            pass
        await trio.sleep(29.9)
        assert len(gateway.connections) == 1
        await trio.sleep(0.2)
        assert not gateway.connections


async def test_a_reset_is_noticed_at_the_first_write(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        stream = await gateway.connect("127.0.0.1", 8080)
        wire = Wire(stream)
        await wire.listen()
        await wire.head()
        stream.reset()
        await gateway.wait_disconnected()
        gateway.deliver(text="lost")
        gateway.deliver(text="kept")
        await trio.testing.wait_all_tasks_blocked()
        statistics = gateway.statistics()
        assert (statistics.lost_to_half_open, statistics.kept, statistics.connections) == (1, 1, 0)


async def test_a_new_stream_gets_what_the_dead_one_loses(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway):
            pass
        await gateway.wait_disconnected()
        async with listener(gateway) as wire:
            await gateway.wait_connected()
            gateway.deliver(text="a")
            assert await wire.text() == "a"
        assert gateway.statistics().lost_to_half_open == 1
        assert [entry.connection for entry in gateway.ledger] == [2]


async def test_a_cut_cable_is_never_noticed(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        gateway.half_open()
        gateway.deliver(text="lost")
        assert await wire.is_silent(3600)
        assert gateway.statistics().lost_to_half_open == 1
        assert len(gateway.connections) == 1
        gateway.drop()
        with pytest.raises(trio.BrokenResourceError):
            await wire.more()
        gateway.deliver(text="kept")
        assert gateway.statistics().kept == 1


async def test_a_cable_cut_while_a_client_does_not_read_holds_up_nobody(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as stuck:
        async with listener(gateway) as healthy:
            gateway.deliver(text="x" * 200_000)
            gateway.deliver(text="next")
            assert len(await healthy.text()) == 200_000
            gateway.connections[0].half_open()
            assert await healthy.text() == "next"
        assert await stuck.more()


async def test_a_client_that_leaves_without_reading_is_noticed_at_once(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway):
            gateway.deliver(text="x" * 200_000)
            gateway.deliver(text="kept")
            await trio.sleep(1)
        await trio.sleep(0.1)
        statistics = gateway.statistics()
        assert (statistics.connections, statistics.kept, statistics.lost_to_half_open) == (0, 1, 1)


async def test_what_a_drop_cuts_off_is_counted(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        gateway.deliver(text="x" * 200_000)
        await trio.sleep(1)
        gateway.drop()
        assert await wire.more()
        statistics = gateway.statistics()
        assert (statistics.lost_to_half_open, statistics.kept, statistics.delivered) == (1, 0, 0)


async def test_a_reader_that_does_not_read_stops_its_account_only(autojump_clock: MockClock) -> None:
    async with daemon(accounts=[ACCOUNT, OTHER]) as gateway, listener(gateway) as stuck:
        async with listener(gateway) as healthy, listener(gateway, OTHER) as other:
            big = "x" * 200_000
            gateway.deliver(text=big)
            for at in range(3):
                gateway.deliver(text=str(at))
                gateway.deliver(text=str(at), account=OTHER)
            assert [await other.text() for _ in range(3)] == ["0", "1", "2"]
            assert await healthy.text() == big
            assert await healthy.is_silent(600) is False  # keep-alives come all the same
            assert gateway.statistics().kept == 3
            assert await stuck.text() == big
            assert [await stuck.text() for _ in range(3)] == ["0", "1", "2"]
            assert [await healthy.text() for _ in range(3)] == ["0", "1", "2"]
            assert gateway.statistics().kept == 0


# --- the process ---


async def test_a_kill_ends_streams_without_their_last_chunk(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway) as wire, wire_to(gateway) as idle:
            gateway.kill()
            assert await wire.ends()
            assert await idle.ends()
        with pytest.raises(ConnectionRefusedError):
            await gateway.connect("127.0.0.1", 8080)
        gateway.deliver(text="kept")
        await gateway.start()
        async with listener(gateway) as wire:
            assert await wire.text() == "kept"


async def test_what_was_being_written_at_a_kill_is_written_again(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway):
            gateway.deliver(text="x" * 200_000)
            gateway.deliver(text="behind")
            await trio.sleep(1)
            assert gateway.statistics().kept == 1
            await gateway.restart(down_for=3)
        assert gateway.statistics().kept == 2
        async with listener(gateway) as wire:
            assert len(await wire.text()) == 200_000
            assert await wire.text() == "behind"


async def test_on_start_fetches_at_the_start(autojump_clock: MockClock) -> None:
    async with daemon(receive_mode="on-start") as gateway:
        gateway.kill()
        gateway.deliver(text="on the server")
        assert gateway.statistics().kept == 1
        await gateway.start()
        assert (gateway.statistics().kept, gateway.statistics().dropped_without_consumer) == (0, 1)


async def test_terminating_is_graceful(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.script_send(testing.slow(1.5))
        async with listener(gateway) as wire, wire_to(gateway) as sender, wire_to(gateway) as idle:
            await sender.post({"jsonrpc": "2.0", "method": "send", "params": SEND, "id": 1})
            await gateway.wait_received(1)
            gateway.terminate()
            assert await wire.take(5) == b"0\r\n\r\n"
            assert await wire.ends()
            with pytest.raises(ConnectionRefusedError):
                await gateway.connect("127.0.0.1", 8080)
            assert (await sender.answer())[0] == 200
            assert await sender.ends()
            assert await idle.ends()
            assert trio.current_time() == pytest.approx(1.5, abs=0.01)
        await gateway.start()
        async with listener(gateway):
            pass


async def test_terminating_waits_two_seconds_at_most(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.script_send(testing.hang())
        async with wire_to(gateway) as sender:
            await sender.post({"jsonrpc": "2.0", "method": "send", "params": SEND, "id": 1})
            await gateway.wait_received(1)
            gateway.terminate()
            assert await sender.ends()
            assert trio.current_time() == pytest.approx(2, abs=0.01)


async def test_an_outage_is_the_end_of_the_process(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        async with listener(gateway) as wire:
            gateway.daemon_outage(60)
            assert await wire.ends()
        await trio.sleep(59)
        with pytest.raises(ConnectionRefusedError):
            await gateway.connect("127.0.0.1", 8080)
        await trio.sleep(2)
        async with listener(gateway):
            gateway.daemon_outage()
        gateway.heal()
        async with listener(gateway):
            gateway.daemon_outage()
        gateway.daemon_return()
        async with listener(gateway):
            gateway.kill()
        gateway.heal()
        with pytest.raises(ConnectionRefusedError):
            await gateway.connect("127.0.0.1", 8080)


# --- faults in what is sent ---


async def test_pieces_cuts_and_doubles(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        gateway.fragment()
        payload = gateway.deliver(text="in pieces")
        pieces = [await wire.chunk() for _ in range(3)]
        assert b"".join(pieces) == event(payload)
        assert b'"in pieces"' not in b"".join(pieces[:1])
        gateway.duplicate()
        gateway.deliver(text="twice")
        assert [await wire.text(), await wire.text()] == ["twice", "twice"]
        gateway.split(3)
        gateway.deliver(text="slices")
        assert await wire.text() == "slices"
        gateway.split(None)
        gateway.cut(30)
        gateway.deliver(text="cut")
        assert len(await wire.take(30)) == 30
        assert await wire.ends()
        assert len(gateway.ledger) == 4
    assert gateway.statistics().kept == 0


async def test_bytes_of_ones_own(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        gateway.deliver(text="a")
        gateway.send_frame(testing.chunk(b"data:half an ev"))
        gateway.deliver(text="b")
        assert await wire.text() == "a"
        assert await wire.chunk() == b"data:half an ev"
        assert await wire.text() == "b"


async def test_a_stall_keeps_everything(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway) as wire:
        gateway.stall()
        gateway.deliver(text="a")
        gateway.deliver(text="b")
        assert await wire.is_silent(600)
        async with wire_to(gateway) as other:
            assert await other.call("version") == {"version": "0.14.9"}
        gateway.unstall()
        assert [await wire.text(), await wire.text()] == ["a", "b"]


async def test_what_makes_no_sense_here(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, listener(gateway):
        with pytest.raises(ValueError, match="event streams have no close frames"):
            gateway.close()
        with pytest.raises(ValueError, match="an event stream has no close frames"):
            gateway.connections[0].close()
        assert repr(gateway.connections[0]) == "<ReceiveSocket 1 for +15550001>"
    with pytest.raises(ValueError, match="lose_bursts is for the REST gateway"):
        async with daemon(lose_bursts=True):
            pass


async def test_faults_while_a_client_connects(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.reject(503, retry_after=5)
        gateway.hang_up()
        gateway.refuse()
        with pytest.raises(ConnectionRefusedError):
            await gateway.connect("127.0.0.1", 8080)
        async with wire_to(gateway) as wire:
            assert await wire.call("version") == {"version": "0.14.9"}
            await wire.listen()
            assert (await wire.answer())[0] == 503
        async with wire_to(gateway) as wire:
            await wire.listen()
            assert await wire.ends()
        async with listener(gateway) as wire, wire_to(gateway) as idle:
            await idle.call("version")
            gateway.drop_http()
            assert await idle.ends()
            gateway.reset()
            with pytest.raises(trio.BrokenResourceError):
                await wire.more()
        assert gateway.handshakes == 1


# --- versions of envelopes ---


def test_fields_of_older_and_newer_versions() -> None:
    voice = envelopes.attachment(isVoiceNote=True)
    message = envelopes.with_attachments(voice, message="x")
    deletion = envelopes.remote_delete(5, renamed=True)
    call = envelopes.group_call("era", group=GROUP_ID)

    def data(envelope: Mapping[str, Any], version: envelopes.EnvelopeVersion) -> dict[str, Any]:
        content: dict[str, Any] = envelopes.in_version(envelope, version)["dataMessage"]
        return content

    assert "isVoiceNote" not in data(message, "0.14")["attachments"][0]
    assert data(message, "0.14.9")["attachments"][0]["isVoiceNote"] is True
    assert data(envelopes.with_attachments(), "0.14.9")["attachments"][0]["isVoiceNote"] is False
    assert "isExpirationUpdate" not in data(message, "0.13")
    assert data(message, "0.14")["isExpirationUpdate"] is False
    assert data(message, "0.14.9")["hasProfileKey"] is False
    assert data(deletion, "0.13")["remoteDelete"] == {"timestamp": 5}
    assert data(deletion, "0.14.9")["remoteDelete"] == {"timestamp": 5, "targetTimestamp": 5}
    assert "groupCallUpdate" not in data(call, "0.14")
    assert data(call, "0.14.9")["groupCallUpdate"] == {"eraId": "era"}
    assert "pollCreate" not in data(envelopes.poll("?", "a"), "0.13")
    assert data(envelopes.quote("x", 1), "0.14.9")["quote"]["attachments"] == []


def test_versions_reach_into_edits_and_sync_messages() -> None:
    edited = envelopes.in_version(envelopes.edit("new", 5), "0.13")
    assert "isExpirationUpdate" not in edited["editMessage"]["dataMessage"]
    sent = envelopes.in_version(envelopes.sync_sent("x", account=ACCOUNT), "0.14.9")
    assert sent["syncMessage"]["sentMessage"]["isEndSession"] is False
    story = envelopes.in_version(envelopes.story(file=envelopes.attachment()), "0.14.9")
    assert story["storyMessage"]["fileAttachment"]["isVoiceNote"] is False


async def test_params_as_a_list_are_no_params(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        await wire.post({"jsonrpc": "2.0", "method": "listGroups", "params": [], "id": 1})
        error = json.loads((await wire.answer())[1])["error"]
        assert error["code"] == -32600
        assert error["message"].startswith("Cannot deserialize value of type `java.util.LinkedHashMap<")


async def test_the_one_account_is_known_for_scripted_answers_too(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, wire_to(gateway) as wire:
        gateway.script_send(testing.ok())
        assert (await wire.call("send", {"recipient": PEER, "message": "hi"}))["timestamp"]
        assert gateway.received[0].number == ACCOUNT

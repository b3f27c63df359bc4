"""signal-cli-rest-api as the client meets it: connecting, refusals, look-ups, headers, sends, secrets."""

import contextlib
import json
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
import trio
from trio.testing import MockClock

from tests.peers import Detour, Peer, answers, sends
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    EXACT,
    PEER,
    RECONNECTING,
    collect,
    connected,
    gaps_in,
    logged,
    open_client,
    open_gateway,
    outcome_of,
    record,
    settled,
    texts_in,
    wall_ms,
    wall_time,
)
from trio_signal import (
    AnswerError,
    Backoff,
    Certainty,
    Failed,
    GapReason,
    GatewayRefused,
    LinkLost,
    OutgoingAttachment,
    OutgoingMessage,
    Reason,
    Sent,
    SignalClient,
    StateChange,
    Undecodable,
    UnknownAccount,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal._attachments import check_attachments
from trio_signal._contents import Text
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal.gateways import Absence, SendResult
from trio_signal.gateways._requests import Requests
from trio_signal.gateways.rest import RestGateway
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    cut_body,
    daemon_down,
    endless,
    error,
    garbage,
    hang,
    lost,
    ok,
    open_fake_gateway,
    rate_limited,
    raw,
    reply,
    server_frame,
    slow,
)

ACCOUNT = "+15550001"
URL = "http://gateway.example:8080"
PONG = 10
RECEIVE = f"/v1/receive/{ACCOUNT}"


@contextlib.asynccontextmanager
async def watched(
    gateway: FakeGateway, nursery: trio.Nursery, **options: Any
) -> AsyncGenerator[tuple[SignalClient, list[StateChange]]]:
    """Open a client and note its changes of state from the first on."""
    changes: list[StateChange] = []
    async with open_client(gateway, **options) as signal:
        nursery.start_soon(record, signal.state_changes(), changes)
        yield signal, changes


async def runs(gateway: FakeGateway, **options: Any) -> None:
    """Run a client until it fails for good."""
    with trio.fail_after(300):
        async with open_client(gateway, **options):
            await trio.sleep_forever()


def route_to(gateway: FakeGateway, url: str = URL, **options: Any) -> RestGateway:
    """Make the gateway's client-side half alone."""
    address = parse_url(url)
    defaults: dict[str, Any] = {
        "connect": gateway.connect,
        "ssl_context": None,
        "http_client": None,
        "send_timeout": 60.0,
    }
    credentials = options.pop("credentials", None) or Credentials((), None, address.authorization)
    requests = Requests(address, credentials, **(defaults | options))
    return RestGateway(
        requests, gateway.account, ping_interval=10.0, pong_timeout=5.0, max_message_size=1 << 20
    )


def targets(gateway: FakeGateway) -> list[str]:
    return [request.target for request in gateway.requests]


def errors_of(changes: Iterable[StateChange]) -> list[Exception]:
    return [change.error for change in changes if change.error is not None]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return logged(caplog.records, logging.WARNING)


# --- peers that make no connection (contract B5) ---


@pytest.mark.parametrize("attempt_timeout", [20.0, 7.0])
@pytest.mark.contract("B5")
async def test_a_peer_that_does_not_answer_the_handshake_is_left_at_the_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery, attempt_timeout: float
) -> None:
    async with open_gateway() as gateway:
        gateway.silence(on="receive")
        async with watched(gateway, nursery, attempt_timeout=attempt_timeout) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert (changes[1].time, changes[1].reason) == (attempt_timeout, Reason.ATTEMPT_FAILED)
        text = str(changes[1].error)
        assert text == f"no connection within {attempt_timeout:g} s: in the WebSocket handshake"
        assert isinstance(changes[1].error, LinkLost)


@pytest.mark.contract("B5")
async def test_a_peer_that_accepts_and_says_nothing_to_anybody(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The look-ups are given up after a while, since a gateway may hang in one of them alone."""
    async with open_gateway() as gateway:
        gateway.silence(times=3, on="any")
        async with watched(gateway, nursery) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert changes[1].time == 20
        assert "no connection within 20 s" in str(changes[1].error)


@pytest.mark.contract("B5")
async def test_connecting_that_never_ends_is_left_at_the_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """As towards an address behind a firewall that drops everything."""
    async with open_gateway() as gateway:
        dialled: list[trio.CancelScope] = []

        async def connect(host: str, port: int) -> trio.abc.Stream:
            if len(dialled) >= 3:
                return await gateway.connect(host, port)
            with trio.CancelScope() as scope:
                dialled.append(scope)
                await trio.sleep_forever()
            raise AssertionError("nobody cancels this alone")

        async with watched(gateway, nursery, connect=connect) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert (changes[1].time, str(changes[1].error)) == (20, "no connection within 20 s: connecting")


@pytest.mark.contract("B5")
async def test_a_peer_that_never_answers_the_first_ping_is_left_at_the_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: sends()})
        async with watched(gateway, nursery, connect=detour.connect) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert changes[1].time == 20
        assert str(changes[1].error) == "no connection within 20 s: waiting for the first pong"
        assert {change.current for change in changes[:2]} == {RECONNECTING, DISCONNECTED}


@pytest.mark.contract("B5")
async def test_connected_is_not_said_before_the_pong(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(server_frame(b"{}"))
        await peer.read_frames(1)
        await trio.sleep(15)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await peer.read_frames()

    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: script})
        async with open_client(gateway, connect=detour.connect) as signal:
            await signal.wait_state(CONNECTED)
            assert trio.current_time() == 15
            await trio.sleep(9)
            assert signal.state is CONNECTED


@pytest.mark.parametrize("fault", [FakeGateway.hang_up, FakeGateway.garbage, FakeGateway.refuse])
@pytest.mark.parametrize("on", ["receive", "any"])
@pytest.mark.contract("B5", "C6")
async def test_a_failure_to_connect_is_noticed_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, fault: Callable[..., None], on: str
) -> None:
    async with open_gateway() as gateway:
        if fault is FakeGateway.refuse:
            gateway.refuse(1)
        else:
            fault(gateway, on=on)
        async with watched(gateway, nursery) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert (changes[1].time, changes[1].reason) == (0, Reason.ATTEMPT_FAILED)
        assert isinstance(changes[1].error, LinkLost)
        assert changes[-1].time <= 4


@pytest.mark.contract("B5", "C6")
async def test_a_peer_that_trickles_its_answer_forever_is_left_at_the_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    script = answers(b"HTTP/1.1 101 Switching Protocols\r\n", *[b"X: y\r\n"] * 100, between=1)
    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: script})
        async with watched(gateway, nursery, connect=detour.connect) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert changes[1].time == 20
        assert "handshake" in str(changes[1].error)


@pytest.mark.contract("C6")
async def test_minutes_of_refused_connections_at_the_start_are_ridden_out(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway does not listen before signal-cli is up, which takes minutes at times (measured)."""
    async with open_gateway() as gateway:
        gateway.stop()
        async with watched(gateway, nursery) as (signal, changes):
            message = await signal.send_message(PEER, "early")
            await trio.sleep(600)
            assert signal.state is not CONNECTED
            await gateway.start()
            with trio.fail_after(61):
                await signal.wait_state(CONNECTED)
            await message.wait()
        assert all("refused" in str(each) for each in errors_of(changes))
        assert [change.delay for change in changes if change.current is RECONNECTING][:8] == [
            0, 2, 4, 8, 16, 32, 60, 60,
        ]  # fmt: skip
        assert warnings_of(caplog) == []


# --- refusals (contract C6, B3) ---


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("token", [None, "stale"])
@pytest.mark.contract("C6")
async def test_a_refusal_without_somebody_to_ask_ends_the_client_bare(
    autojump_clock: MockClock, status: int, token: str | None
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, times=None)
        with pytest.raises(GatewayRefused) as caught:
            await runs(gateway, token=token)
        assert (caught.value.status, trio.current_time()) == (status, 0)
        assert "token=" in str(caught.value)


class Issuer:
    """Gives tokens and counts how often it is asked."""

    def __init__(self, *tokens: object, delay: float = 0.0) -> None:
        self._tokens = list(tokens)
        self._delay = delay
        self.asked = 0

    def _next(self) -> Any:
        self.asked += 1
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        if isinstance(token, Exception):
            raise token
        return token

    def sync(self) -> str:
        return self._next()  # type: ignore[no-any-return]

    async def later(self) -> str:
        await trio.sleep(self._delay)
        return self._next()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["sync", "later"])
@pytest.mark.contract("C6")
async def test_the_token_callable_is_asked_for_each_attempt(autojump_clock: MockClock, kind: str) -> None:
    issuer = Issuer("one", "two", "three", "four")
    async with open_gateway(require_header=("Authorization", "Bearer three")) as gateway:
        async with open_client(gateway, token=getattr(issuer, kind)) as signal:
            await signal.wait_state(CONNECTED)
            assert issuer.asked == 3
            await (await signal.send_message(PEER, "with the same token")).wait()
            assert issuer.asked == 3
            gateway.drop()
            await trio.sleep(10)
            assert issuer.asked == 4
        assert [r.headers["authorization"] for r in gateway.requests if r.path == RECEIVE] == [
            "Bearer one",
            "Bearer two",
            "Bearer three",
            "Bearer four",
        ]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.contract("C6")
async def test_a_refusal_with_somebody_to_ask_is_no_end(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, times=5)
        issuer = Issuer("token")
        async with watched(gateway, nursery, token=issuer.later) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert [c.reason for c in changes if c.current is DISCONNECTED][:5] == [Reason.REFUSED] * 5
        assert trio.current_time() == 2 + 4 + 8 + 16 + 32
        assert issuer.asked == 6


RUBBISH = [None, 5, b"bytes", "", "two words", "line\n", "ünicode", object()]


@pytest.mark.parametrize(
    "answer", [*RUBBISH, OSError("s3cret"), ValueError("s3cret"), WrongGatewayMode("s3cret")]
)
@pytest.mark.contract("C6")
async def test_a_token_callable_that_fails_is_a_failed_attempt_and_is_asked_again(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    async with open_gateway() as gateway:
        issuer = Issuer(answer, answer, "good")
        async with watched(gateway, nursery, token=issuer.sync) as (signal, changes):
            with trio.fail_after(10):
                await signal.wait_state(CONNECTED)
        first = changes[1]
        assert first.reason is Reason.ATTEMPT_FAILED
        assert "token callable" in str(first.error)
        assert "token callable" in warnings_of(caplog)[0]
        assert "s3cret" not in caplog.text + str(first.error)
        assert issuer.asked == 3


@pytest.mark.contract("B5", "C6")
async def test_a_token_callable_that_hangs_costs_one_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        issuer = Issuer("token", delay=1000)
        async with watched(gateway, nursery, token=issuer.later) as (signal, changes):
            await trio.sleep(19.9)
            issuer._delay = 0
            await signal.wait_state(CONNECTED)
        assert changes[1].time == 20
        assert str(changes[1].error) == "no connection within 20 s: asking for a token"


@pytest.mark.contract("C6", "O6")
async def test_a_send_that_is_refused_is_tried_again_with_a_new_token(autojump_clock: MockClock) -> None:
    issuer = Issuer("one", "two")
    async with open_gateway() as gateway, connected(gateway, token=issuer.later) as signal:
        gateway.reject(401, on="http")
        sent = await (await signal.send_message(PEER, "hello")).wait()
        assert isinstance(sent, Sent)
        assert [send.headers["authorization"] for send in gateway.received] == ["Bearer two"]
        assert gateway.handshakes == 1


@pytest.mark.contract("O6", "O11")
async def test_a_token_callable_that_hangs_does_not_hold_up_sending_for_ever(
    autojump_clock: MockClock,
) -> None:
    """A send has a time limit of its own, and asking for its token is a part of it."""
    issuer = Issuer("one", "two")
    async with open_gateway() as gateway, connected(gateway, token=issuer.later) as signal:
        gateway.reject(401, on="http")
        issuer._delay = math.inf
        message = await signal.send_message(PEER, "hello")
        with trio.fail_after(200):
            assert isinstance(await message.wait(), Sent)


@pytest.mark.contract("O6")
async def test_a_token_callable_that_fails_for_a_send_leaves_it_waiting(autojump_clock: MockClock) -> None:
    issuer = Issuer("one", OSError("no network"), "two")
    async with open_gateway() as gateway, connected(gateway, token=issuer.sync) as signal:
        gateway.reject(403, times=2, on="http")
        with trio.fail_after(100):
            assert isinstance(await (await signal.send_message(PEER, "hello")).wait(), Sent)
        assert issuer.asked == 3


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "path"), (200, "MODE=json-rpc"), (301, "301"), (302, "302"), (410, "410")]
)
@pytest.mark.contract("C6")
async def test_a_status_that_will_not_change_ends_the_client_before_the_first_connection(
    autojump_clock: MockClock, status: int, hint: str
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, times=None, body="[]" if status == 200 else None)
        with pytest.raises(LinkLost, match=hint) as caught:
            await runs(gateway)
        assert (caught.value.status, trio.current_time()) == (status, 0)


@pytest.mark.parametrize(
    ("asked", "slept"),
    [(0, 2), (1, 2), (30, 30), ("31", 31), (299, 299), (301, 300), (100_000, 300), ("soon", 2), (-5, 2)],
)
@pytest.mark.parametrize("on", ["receive", "http"])
@pytest.mark.contract("B3")
async def test_retry_after_lengthens_the_delay_up_to_its_cap(
    autojump_clock: MockClock, nursery: trio.Nursery, asked: Any, slept: float, on: Any
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(503, retry_after=asked, on=on)
        async with watched(gateway, nursery) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert changes[2].delay == slept
        assert trio.current_time() == slept


@pytest.mark.contract("B3", "C6")
async def test_retry_after_of_a_refusal_counts_where_somebody_can_be_asked(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.reject(401, retry_after=77)
        async with open_client(gateway, token=lambda: "token") as signal:
            await signal.wait_state(CONNECTED)
        assert trio.current_time() == 77


@pytest.mark.contract("B3")
async def test_retry_after_never_shortens(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with open_gateway() as gateway:
        gateway.reject(429, retry_after=1, times=6)
        async with watched(gateway, nursery) as (signal, changes):
            await signal.wait_state(CONNECTED)
        assert [c.delay for c in changes if c.current is RECONNECTING] == [0, 2, 4, 8, 16, 32, 60]


# --- asking what the gateway is ---


@pytest.mark.parametrize("mode", ["normal", "native"])
@pytest.mark.contract("C6")
async def test_the_wrong_mode_is_told_with_its_remedy(autojump_clock: MockClock, mode: str) -> None:
    async with open_gateway(mode=mode) as gateway:
        with pytest.raises(WrongGatewayMode, match="MODE=json-rpc") as caught:
            await runs(gateway)
        assert mode in str(caught.value)
        assert targets(gateway) == ["/v1/about"]
        assert trio.current_time() == 0


@pytest.mark.contract("C6")
async def test_the_wrong_mode_is_told_though_a_proxy_hides_about(autojump_clock: MockClock) -> None:
    async with open_gateway(mode="normal", hide=["/v1/about"]) as gateway:
        with pytest.raises(LinkLost, match="MODE=json-rpc"):
            await runs(gateway)


@pytest.mark.contract("C6")
async def test_an_account_that_is_not_there_is_told_with_its_remedy(autojump_clock: MockClock) -> None:
    async with open_gateway(accounts=["+15550008", "+15550009"]) as gateway:
        with pytest.raises(UnknownAccount, match="register or link") as caught:
            await runs(gateway)
        assert ACCOUNT in str(caught.value)
        assert "+15550008" not in str(caught.value), "other people's numbers are nobody's business"
        assert trio.current_time() == 0


@pytest.mark.parametrize("status", [404, 403, 401, 405, 301, 500, 501])
@pytest.mark.parametrize("path", ["/v1/about", "/v1/accounts"])
@pytest.mark.contract("C6")
async def test_a_path_that_a_proxy_hides_costs_one_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    async with open_gateway(hide={path: status}) as gateway, connected(gateway):
        (warning,) = warnings_of(caplog)
        assert path in warning
        assert str(status) in warning
        gateway.drop()
        await gateway.wait_handshakes(2)
        assert len(warnings_of(caplog)) == 1
        assert trio.current_time() <= 2


@pytest.mark.parametrize("path", ["/v1/about", "/v1/accounts"])
@pytest.mark.contract("C6", "B5")
async def test_a_look_up_that_hangs_costs_one_warning_and_a_few_seconds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """The gateway's /v1/accounts hangs while signal-cli does."""
    async with open_gateway() as gateway:
        gateway.script(f"GET {path}", hang())
        async with connected(gateway):
            assert trio.current_time() == 5
            (warning,) = warnings_of(caplog)
            assert path in warning


STRANGE = {
    "no JSON": reply(200, "<html>hello</html>", content_type="text/html"),
    "cut JSON": reply(200, '{"mode":'),
    "an empty body": reply(200, ""),
    "another shape": reply(200, '"text"'),
    "a number": reply(200, "5"),
    "null": reply(200, "null"),
    "mode is a number": reply(200, '{"mode":5}'),
    "a list of numbers": reply(200, "[1,2]"),
    "no UTF-8": raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff\xfe"),
    "deep": reply(200, "[" * 100_000),
    "no content": reply(204, ""),
}


@pytest.mark.parametrize("case", STRANGE)
@pytest.mark.parametrize("path", ["/v1/about", "/v1/accounts"])
@pytest.mark.contract("C6")
async def test_an_answer_that_is_not_the_gateways_costs_one_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, path: str, case: str
) -> None:
    async with open_gateway() as gateway:
        gateway.script(f"GET {path}", STRANGE[case])
        async with connected(gateway):
            assert trio.current_time() == 0
            assert len(warnings_of(caplog)) == 1


async def test_fields_that_are_new_or_missing_cost_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", reply(200, '{"more":[{}]}'), reply(200, '{"mode":null}'))
        async with connected(gateway):
            pass
        async with connected(gateway):
            pass
        assert warnings_of(caplog) == []


async def test_json_that_is_labelled_as_text_is_read(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", reply(200, '{"mode":"normal"}', content_type="text/plain"))
        with pytest.raises(WrongGatewayMode):
            await runs(gateway)
        gateway.script("GET /v1/accounts", reply(200, '["+1"]', content_type="application/octet-stream"))
        with pytest.raises(UnknownAccount):
            await runs(gateway)


@pytest.mark.contract("C6")
async def test_what_was_answered_once_is_not_asked_again(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway):
        for n in range(3):
            gateway.drop()
            await gateway.wait_handshakes(n + 2)
        assert targets(gateway) == ["/v1/about", "/v1/accounts", *[RECEIVE] * 4]


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
@pytest.mark.contract("C6")
async def test_a_look_up_that_failed_for_now_is_asked_again(autojump_clock: MockClock, status: int) -> None:
    async with open_gateway(mode="normal") as gateway:
        gateway.reject(status, times=2, on="http")
        with pytest.raises(WrongGatewayMode):
            await runs(gateway)
        assert targets(gateway) == ["/v1/about"] * 3


@pytest.mark.parametrize("answer", [lost(), garbage(), endless()], ids=["lost", "garbage", "endless"])
@pytest.mark.contract("C6")
async def test_a_look_up_without_a_whole_answer_is_survived(
    autojump_clock: MockClock, answer: SendAnswer
) -> None:
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", answer, answer)
        gateway.script("GET /v1/accounts", answer)
        with trio.fail_after(60):
            async with connected(gateway):
                pass


# --- headers, tokens, paths ---


@pytest.mark.parametrize("library", [None, httpx, httpx2])
async def test_headers_token_and_base_path_are_on_every_request(
    autojump_clock: MockClock, library: ModuleType | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_fake_gateway(base_path="/a/b%20c"))
        http = library and await stack.enter_async_context(library.AsyncClient(trust_env=False))
        signal = await stack.enter_async_context(
            open_signal_client(
                f"{gateway.url}/",
                gateway.account,
                headers=[("X-Api-Key", "one"), ("X-Api-Key", "two"), ("Cookie", "a=b; c=d")],
                token="t0ken",
                http_client=http,
            )
        )
        await signal.wait_state(CONNECTED)
        await (await signal.send_message(PEER, "hello")).wait()
        assert targets(gateway) == [
            f"/a/b%20c{path}" for path in ("/v1/about", "/v1/accounts", RECEIVE, "/v2/send")
        ]
        for request in gateway.requests:
            assert request.headers["x-api-key"] == "one, two"
            assert request.headers["cookie"] == "a=b; c=d"
            assert request.headers["authorization"] == "Bearer t0ken"
            assert request.headers["host"] == f"127.0.0.1:{gateway.port}"
            if request.path.endswith("receive"):
                assert request.headers["upgrade"] == "websocket"
        (send,) = gateway.received
        assert send.headers["content-type"] == "application/json"
        assert send.headers["accept-encoding"] == "identity"


async def test_user_and_password_of_the_url_go_with_every_request(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        url = "http://us%40er:p%3Ass@gateway.example:8080"
        async with open_signal_client(url, gateway.account, connect=gateway.connect) as signal:
            await signal.wait_state(CONNECTED)
            await (await signal.send_message(PEER, "hello")).wait()
        assert len(gateway.requests) == 4
        assert {r.headers["authorization"] for r in gateway.requests} == {"Basic dXNAZXI6cDpzcw=="}
        assert {r.headers["host"] for r in gateway.requests} == {"gateway.example:8080"}


async def test_an_address_of_ipv6_is_dialled_without_and_named_with_its_brackets(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        dialled: set[tuple[str, int]] = set()

        async def connect(host: str, port: int) -> trio.abc.Stream:
            dialled.add((host, port))
            return await gateway.connect(host, port)

        async with open_signal_client("ws://[2001:db8::1]", gateway.account, connect=connect) as signal:
            await signal.wait_state(CONNECTED)
            await (await signal.send_message(PEER, "hello")).wait()
        assert dialled == {("2001:db8::1", 80)}
        assert {r.headers["host"] for r in gateway.requests} == {"[2001:db8::1]"}


@pytest.mark.threat("T7")
async def test_the_account_is_quoted_in_the_path(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway):
        (socket,) = gateway.connections
        assert socket.account == ACCOUNT
        assert RECEIVE in targets(gateway)


@pytest.mark.threat("T6")
async def test_proxies_of_the_environment_are_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with open_gateway() as gateway, connected(gateway) as signal:
        await (await signal.send_message(PEER, "hello")).wait()


SECRETS = ("s3cret-path", "s3cret-token", "s3cret-header", "s3cret-user", "s3cret-word", "czNjcmV0")


@pytest.mark.threat("T14")
@pytest.mark.parametrize("library", [None, httpx, httpx2])
@pytest.mark.parametrize("way", ["token", "url"])
async def test_no_secret_is_shown_anywhere(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, library: ModuleType | None, way: str
) -> None:
    """Not at DEBUG level, of no logger, in no repr, error, change of state or figure, whatever goes wrong.

    A client of the caller's own logs the URLs that it is given, so the path is no secret there.
    """
    caplog.set_level(0)
    secrets = SECRETS[1:] if library else SECRETS
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_fake_gateway(base_path="/s3cret-path"))
        http = library and await stack.enter_async_context(library.AsyncClient(trust_env=False))
        url = gateway.url
        options: dict[str, Any] = {"http_client": http, "headers": {"X-Key": "s3cret-header"}}
        if way == "url":
            url = url.replace("http://", "http://s3cret-user:s3cret-word@")
        else:
            options["token"] = lambda: "s3cret-token"
        signal = await stack.enter_async_context(
            open_signal_client(url, gateway.account, backoff=EXACT, wall_clock=wall_time, **options)
        )
        changes: list[StateChange] = []
        background = await stack.enter_async_context(trio.open_nursery())
        background.start_soon(record, signal.state_changes(), changes)
        await signal.wait_state(CONNECTED)
        shown = [repr(signal)]
        for answer in (
            ok(),
            error(400, "no"),
            reply(404, "<html>"),
            lost(),
            garbage(),
            daemon_down(),
            raw(b"x" * 99),
        ):
            gateway.script_send(answer)
            message = await signal.send_message(PEER, "hello")
            with contextlib.suppress(Exception):
                await message.wait()
            shown += [repr(message), repr(message.outcome), *tree(getattr(message.outcome, "error", None))]
        for status in (503, 302, 404, *([401] if way == "token" else ())):
            gateway.reject(status)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            await signal.wait_state(CONNECTED)
        gateway.garbage()
        gateway.kill()
        await trio.sleep(20)
        shown.append(repr(signal.statistics()))
        await gateway.start()
        await signal.wait_state(CONNECTED)
        shown += [repr(change) for change in changes]
        for change in changes:
            shown += tree(change.error)
        background.cancel_scope.cancel()
    everything = "\n".join([*shown, caplog.text, *map(repr, caplog.records)])
    assert len(caplog.records) > 50
    assert [secret for secret in secrets if secret in everything] == []


def tree(problem: BaseException | None) -> list[str]:
    """All that an error says, its causes included."""
    if problem is None:
        return []
    below = tree(problem.__cause__) + tree(problem.__context__)
    return [str(problem), repr(problem), repr(problem.args), *getattr(problem, "__notes__", []), *below]


# --- losing the link and what is told of it ---


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000, None])
@pytest.mark.contract("C6", "R3")
async def test_every_close_code_is_followed_by_a_new_connection(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int | None
) -> None:
    async with open_gateway() as gateway:
        events: list[object] = []
        async with watched(gateway, nursery) as (signal, changes):
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            await trio.sleep(5)
            gateway.deliver(text="last")
            gateway.close(code, "be back soon" if code else "")
            closed = wall_ms()
            await gateway.wait_handshakes(2)
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="first")
            await settled()
        (lost_at,) = [c for c in changes if c.reason is Reason.CLOSED_BY_GATEWAY]
        assert lost_at.time == 5
        assert isinstance(lost_at.error, LinkLost)
        if code:
            assert lost_at.error.close_code == code
            assert str(code) in str(lost_at.error)
            assert "be back soon" in str(lost_at.error)
        assert texts_in(events) == ["last", "first"]
        (gap,) = gaps_in(events)
        assert (gap.reason, gap.since) == (GapReason.GATEWAY, closed)
        assert events.index(gap) == 1


@pytest.mark.contract("C6", "R3")
async def test_a_torn_frame_is_followed_by_a_new_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        events: list[object] = []
        async with watched(gateway, nursery) as (signal, changes):
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            gateway.cut(20)
            gateway.deliver(text="torn")
            await gateway.wait_handshakes(2)
            await signal.wait_state(CONNECTED)
            await settled()
        assert next(c.reason for c in changes if c.previous is CONNECTED) is Reason.CONNECTION_LOST
        assert len(gaps_in(events)) == 1
        assert texts_in(events) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (server_frame(b"x" * 2_000), 1009),
        (server_frame(b"\xff"), 1007),
        (server_frame(b"hi", mask=b"abcd"), 1002),
        (b"\xc1\x02hi", 1002),
    ],
    ids=["too large", "no UTF-8", "masked", "reserved bit"],
)
@pytest.mark.contract("R7", "R3")
async def test_a_violation_is_followed_by_a_new_connection_and_a_gap(
    autojump_clock: MockClock, nursery: trio.Nursery, bad: bytes, code: int
) -> None:
    async with open_gateway() as gateway:
        events: list[object] = []
        async with watched(gateway, nursery, max_message_size=1_000) as (signal, changes):
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="before")
            gateway.send_frame(bad)
            await gateway.wait_handshakes(2)
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await settled()
        (change,) = [c for c in changes if c.previous is CONNECTED and c.error]
        assert isinstance(change.error, LinkLost)
        assert (change.error.close_code, change.reason) == (code, Reason.CONNECTION_LOST)
        assert texts_in(events) == ["before", "after"]
        assert [gap.reason for gap in gaps_in(events)] == [GapReason.GATEWAY]


@pytest.mark.contract("R7")
async def test_no_message_tears_the_link(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        events: list[object] = []
        nursery.start_soon(collect, signal.events(), events)
        gateway.deliver_error("daemon trouble")
        gateway.deliver_exception()
        for data in (
            "",
            "null",
            "[]",
            "[1,2]",
            '"text"',
            "{",
            "{}",
            '{"envelope":null}',
            '{"envelope":[]}',
            "\x00",
        ):
            gateway.deliver_raw(data)
        gateway.send_frame(server_frame(b"\xff\x00", 2))
        gateway.fragment()
        gateway.deliver(text="in fragments, ünd with a ping between")
        gateway.split(1)
        gateway.deliver(text="in slices")
        gateway.split(None)
        await gateway.wait_delivered()
        await settled()
        assert (gateway.handshakes, signal.state) == (1, CONNECTED)
        assert len(events) == 15
        assert texts_in(events)[-2:] == ["in fragments, ünd with a ping between", "in slices"]
        assert gaps_in(events) == []
        assert any(isinstance(event, Undecodable) for event in events)


# --- sends: what became of them ---


@pytest.fixture(params=["own", "httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> ModuleType | None:
    return {"own": None, "httpx": httpx, "httpx2": httpx2}[request.param]


@contextlib.asynccontextmanager
async def route_over_tcp(
    gateway: FakeGateway, library: ModuleType | None, **options: Any
) -> AsyncGenerator[RestGateway]:
    """The client-side half over TCP, with each kind of HTTP client."""
    if library is None:
        route = route_to(gateway, gateway.url, connect=trio.open_tcp_stream, **options)
        try:
            yield route
        finally:
            await route.aclose()
        return
    async with library.AsyncClient(trust_env=False) as http:
        yield route_to(gateway, gateway.url, http_client=http, connect=trio.open_tcp_stream, **options)


def told(result: SendResult) -> str:
    if isinstance(result.outcome, Sent):
        return "sent"
    word = {Certainty.NOT_SENT: "not sent", Certainty.UNKNOWN: "unknown"}[result.outcome.certainty]
    return word + (", retry" if result.retry else "") + (", refused" if result.refused else "")


async def send_in_time(route: RestGateway, message: OutgoingMessage) -> SendResult:
    """Send as the send task does, which ends it when its time is over."""
    with trio.move_on_after(route.send_limit):
        return await route.send(message)
    return SendResult(Failed(LinkLost("no answer in time"), Certainty.UNKNOWN))


#: Clients with a pool leave what was not read to its end to the garbage collector; test_http watches our own.
LEFT_BY_CLIENTS = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")

OUTCOMES: dict[str, tuple[SendAnswer, str]] = {
    "ok": (ok(), "sent"),
    "labelled as text": (reply(201, '{"timestamp":"7"}', content_type="text/plain"), "sent"),
    "a list, as from 0.101 on": (reply(201, '[{"timestamp":"7"}]'), "sent"),
    "201 without sense": (reply(201, "<html>"), "unknown"),
    "200": (reply(200, '{"timestamp":"7"}'), "unknown"),
    "bad input": (error(400, "Specified account does not exist"), "not sent"),
    "labelled as text, bad input": (
        reply(
            400,
            '{"error":"Couldn\'t process request - invalid request"}',
            content_type="text/plain; charset=utf-8",
        ),
        "not sent",
    ),
    "some trouble": (error(400, "Failed to send message (IOException)"), "unknown"),
    "refused": (reply(401, "<html>", content_type="text/html"), "not sent, refused"),
    "forbidden": (reply(403, ""), "not sent, refused"),
    "a wrong path": (reply(404, "404 page not found", content_type="text/plain"), "not sent"),
    "a redirect": (reply(307, ""), "not sent"),
    "too large": (reply(413, "<html>"), "not sent"),
    "a time-out": (reply(408, ""), "unknown"),
    "a rate limit": (rate_limited(), "unknown"),
    "daemon down": (daemon_down(), "not sent, retry"),
    "an error with words": (error(500, "boom"), "unknown"),
    "a bad gateway": (reply(502, "<html>"), "unknown"),
    "no gateway": (reply(503, "<html>"), "not sent, retry"),
    "gateway time-out": (reply(504, "<html>"), "unknown"),
    "no answer": (lost(), "unknown"),
    "garbage": (garbage(), "unknown"),
    "never": (hang(), "unknown"),
    "endless": (endless(chunk=100_000), "unknown"),
    "endless and slow": (endless(chunk=10, every=1), "unknown"),
    "cut off": (cut_body(3), "unknown"),
    "half an answer": (
        raw(b'HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"timestamp":"7"}'),
        "unknown",
    ),
    "slow": (slow(50), "sent"),
}


@LEFT_BY_CLIENTS
@pytest.mark.parametrize("case", OUTCOMES)
@pytest.mark.contract("O5", "O6", "O11")
async def test_what_an_answer_means_is_the_same_with_every_client(
    autojump_clock: MockClock, library: ModuleType | None, case: str
) -> None:
    answer, meaning = OUTCOMES[case]
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        gateway.script_send(answer)
        with trio.fail_after(61):
            result = await send_in_time(route, OutgoingMessage(PEER, "hello"))
        assert told(result) == meaning, result
        assert told(await route.send(OutgoingMessage(PEER, "the next one"))) == "sent"


@pytest.mark.contract("O5", "O6")
async def test_a_refused_connection_proves_that_nothing_was_sent(
    autojump_clock: MockClock, library: ModuleType | None
) -> None:
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        gateway.stop()
        assert told(await route.send(OutgoingMessage(PEER, "hello"))) == "not sent, retry"
        await gateway.start()
        assert told(await route.send(OutgoingMessage(PEER, "hello"))) == "sent"


@pytest.mark.contract("O5", "O6", "O11")
async def test_connecting_that_never_ends_proves_that_nothing_was_sent(autojump_clock: MockClock) -> None:
    """The time limit ends it before there is a stream, so not a byte can have left."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    async with open_gateway() as gateway:
        result = await route_to(gateway, connect=connect).send(OutgoingMessage(PEER, "hello"))
        assert trio.current_time() == 20
        assert told(result) == "not sent, retry"


@pytest.mark.contract("O11")
async def test_the_time_limit_of_a_send_is_an_option(
    autojump_clock: MockClock, library: ModuleType | None
) -> None:
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library, send_timeout=3.0) as route:
        gateway.script_send(hang())
        result = await send_in_time(route, OutgoingMessage(PEER, "hello"))
        assert trio.current_time() == 3
        assert told(result) == "unknown"


@pytest.mark.contract("O6")
async def test_the_gateways_own_words_are_kept(autojump_clock: MockClock, library: ModuleType | None) -> None:
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        gateway.script_send(error(400, "Specified account does not exist"), rate_limited(retry_after=90))
        first = await route.send(OutgoingMessage(PEER, "hello"))
        assert isinstance(first.outcome, Failed)
        assert isinstance(first.outcome.error, AnswerError)
        assert (first.outcome.error.status, first.outcome.error.text) == (
            400,
            "Specified account does not exist",
        )
        second = await route.send(OutgoingMessage(PEER, "hello"))
        assert (second.rate_limited, second.retry_after, second.challenge_tokens) == (
            True,
            90.0,
            ("token-1",),
        )


# Files are read in a thread, which no virtual clock waits for: these tests run in real time and need little.


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_files_go_out_whole_with_every_client(
    library: ModuleType | None, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    message = OutgoingMessage(PEER, Text("hello", await checked(path, b"in memory")))
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        assert told(await route.send(message)) == "sent"
        (send,) = gateway.received
        assert len(send.body["base64_attachments"]) == 2
        assert int(send.headers["content-length"]) == len(json.dumps(send.body, separators=(",", ":")))


async def checked(*attachments: Any) -> tuple[OutgoingAttachment, ...]:
    return await check_attachments(attachments, limit=1 << 30)


@LEFT_BY_CLIENTS
@pytest.mark.parametrize(
    "answer", [cut_body(200_000), lost(), reply(413, "<html>")], ids=["cut", "lost", "413"]
)
@pytest.mark.contract("O5", "O6")
async def test_a_send_with_files_that_breaks_off_leaves_nothing_open(
    library: ModuleType | None, tmp_path: Path, answer: SendAnswer
) -> None:
    """A file that is left to the garbage collector is an error here, since warnings are."""
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(5_000_000))
    message = OutgoingMessage(PEER, Text("hello", await checked(path, path)))
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        gateway.script_send(answer)
        expected = "not sent" if answer.kind == "reply" else "unknown"
        assert told(await route.send(message)) == expected
        assert told(await route.send(OutgoingMessage(PEER, "the next one"))) == "sent"


@LEFT_BY_CLIENTS
@pytest.mark.parametrize("when", ["at once", "under way", "at the answer"])
@pytest.mark.contract("O9")
async def test_a_send_with_files_that_is_cancelled_leaves_nothing_open(
    library: ModuleType | None, tmp_path: Path, when: str
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(5_000_000))
    message = OutgoingMessage(PEER, Text("hello", await checked(path, path)))
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        gateway.script_send(hang())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(route.send, message)
            if when == "under way":
                await gateway.wait_requests(1)
            elif when == "at the answer":
                await gateway.wait_received(1)
            nursery.cancel_scope.cancel(reason="the test says so")
        gateway.heal()
        assert told(await route.send(OutgoingMessage(PEER, "the next one"))) == "sent"


@pytest.mark.contract("O5", "O6")
async def test_a_file_that_vanishes_fails_its_message_alone(
    library: ModuleType | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(1_000))
    message = OutgoingMessage(PEER, Text("hello", await checked(path)))
    path.unlink()
    async with open_fake_gateway() as gateway, route_over_tcp(gateway, library) as route:
        result = await route.send(message)
        assert told(result) == "not sent"
        assert isinstance(result.outcome, Failed)
        assert "attachment" in str(result.outcome.error)
        assert gateway.received == []
        assert told(await route.send(OutgoingMessage(PEER, "the next one"))) == "sent"


class OddClient:
    """Of httpx's shape, with errors of its own kind."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem
        self.closed = False

    @contextlib.asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncGenerator[httpx.Response]:
        await trio.lowlevel.checkpoint()
        self.fail()
        yield httpx.Response(200)

    def fail(self) -> None:
        raise self.problem

    async def aclose(self) -> None:
        self.closed = True


class ConnectTimeout(Exception):
    pass


@pytest.mark.parametrize(
    ("problem", "meaning"),
    [
        (httpx.ConnectError("x"), "not sent, retry"),
        (httpx2.ConnectTimeout("x"), "not sent, retry"),
        (httpx.PoolTimeout("x"), "not sent, retry"),
        (ConnectTimeout("y"), "not sent, retry"),
        (httpx.ReadTimeout("x"), "unknown"),
        (httpx2.WriteError("x"), "unknown"),
        (httpx.RemoteProtocolError("x"), "unknown"),
        (httpx.CloseError("x"), "unknown"),
        (RuntimeError("x"), "unknown"),
        (OSError("x"), "unknown"),
    ],
    ids=repr,
)
@pytest.mark.contract("O5")
async def test_errors_of_any_client_are_sorted_by_what_they_prove(
    autojump_clock: MockClock, problem: Exception, meaning: str
) -> None:
    async with open_gateway() as gateway:
        client = OddClient(problem)
        route = route_to(gateway, http_client=client)
        result = await route.send(OutgoingMessage(PEER, "hello"))
        assert told(result) == meaning
        assert isinstance(result.outcome, Failed)
        assert result.outcome.error is problem
        await route.aclose()
        assert not client.closed, "it belongs to the caller"


@pytest.mark.contract("C6")
async def test_errors_of_a_client_of_ones_own_do_not_end_the_client(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        async with watched(gateway, nursery, http_client=OddClient(RuntimeError("odd"))) as (signal, changes):
            await trio.sleep(30)
            assert signal.state is not CONNECTED
        assert isinstance(changes[1].error, LinkLost)
        assert "odd" in str(changes[1].error)


async def test_a_message_is_written_once_by_every_client_through_an_outage(
    autojump_clock: MockClock, library: ModuleType | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_fake_gateway())
        http = library and await stack.enter_async_context(library.AsyncClient(trust_env=False))
        signal = await stack.enter_async_context(
            open_signal_client(
                gateway.url,
                gateway.account,
                http_client=http,
                rate_limit=None,
                backoff=EXACT,
                wall_clock=wall_time,
            )
        )
        await signal.wait_state(CONNECTED)
        messages: list[OutgoingMessage] = []
        for n in range(30):
            if n == 10:
                gateway.daemon_outage(20)
            if n == 20:
                await gateway.restart(5)
            messages.append(await signal.send_message(PEER, str(n)))
            await trio.sleep(0.5)
        with trio.fail_after(300):
            for message in messages:
                await message.wait()
        accepted = [send.message for send in gateway.received if send.outcome == "ok"]
        assert accepted == [str(n) for n in range(30)]
        assert gateway.statistics().most_sends_in_flight == 1


# --- the client-side half alone ---


async def test_credentials_can_be_renewed_where_there_is_a_callable(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        fixed = route_to(gateway, credentials=Credentials((), "fixed", None))
        assert not fixed.can_renew_credentials
        assert not await fixed.renew_credentials()
        issuer = Issuer("one", OSError(), "two")
        asking = route_to(gateway, credentials=Credentials((), issuer.later, None))
        assert asking.can_renew_credentials
        assert [await asking.renew_credentials() for _ in range(3)] == [True, False, True]
        await fixed.aclose()
        await asking.aclose()


async def test_closing_closes_what_is_idle(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        route = route_to(gateway)
        assert told(await route.send(OutgoingMessage(PEER, "hello"))) == "sent"
        await settled()
        assert len(gateway._core.links) == 1
        await route.aclose()
        await settled()
        assert len(gateway._core.links) == 0


async def test_the_phase_names_what_connecting_is_busy_with(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        route = route_to(gateway)
        assert route.phase == "connecting"
        async with route.open_link(None) as link:
            assert route.phase == "waiting for the first pong"
            await link.probe()
            assert link.bytes_received > 100
            assert link.last_received == trio.current_time()
            assert link.absence == Absence(GapReason.GATEWAY, trio.current_time())
            await link.close()
        await route.aclose()


@pytest.mark.contract("O10", "O9")
async def test_a_new_link_cuts_no_send_that_is_under_way(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(30))
        message = await signal.send_message(PEER, "slow")
        await gateway.wait_received(1)
        for n in range(3):
            gateway.drop()
            await gateway.wait_handshakes(n + 2)
        assert message.outcome is None
        await message.wait()
        assert outcome_of(message) == "sent"
        assert len(gateway.received) == 1


async def test_nothing_of_an_earlier_connection_is_reused_after_a_reconnect(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        detour_times: list[float] = []

        async def connect(host: str, port: int) -> trio.abc.Stream:
            detour_times.append(trio.current_time())
            return await gateway.connect(host, port)

        async with connected(gateway, connect=connect) as signal:
            await (await signal.send_message(PEER, "one")).wait()
            assert len(detour_times) == 2
            await trio.sleep(5)
            gateway.drop()
            await gateway.wait_handshakes(2)
            await (await signal.send_message(PEER, "two")).wait()
            assert len(detour_times) == 4


@pytest.mark.contract("B2")
async def test_a_gateway_that_closes_at_once_is_not_dialled_in_a_hot_loop(autojump_clock: MockClock) -> None:
    async def accept_and_close(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await peer.stream.send_eof()
        await peer.read_frames()

    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        detour = Detour(nursery, gateway, dict.fromkeys(range(2, 1000), accept_and_close))
        async with open_client(gateway, connect=detour.connect, backoff=Backoff()):
            await trio.sleep(600)
        assert 5 < detour.count <= 41
        nursery.cancel_scope.cancel()


async def test_gaps_tell_the_time_of_day(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with open_gateway() as gateway:
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep(100)
            gateway.kill()
            await trio.sleep(3600)
            await gateway.start()
            await signal.wait_state(CONNECTED)
            await settled()
        (gap,) = gaps_in(events)
        # The last pong.
        assert gap.since == (EPOCH + 94) * 1000
        assert gap.until >= (EPOCH + 3700) * 1000


async def test_many_clients_of_one_gateway_do_not_meet(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    accounts = [f"+155501{n:02}" for n in range(10)]
    async with open_gateway(accounts=accounts) as gateway, contextlib.AsyncExitStack() as stack:
        got: dict[str, list[object]] = {account: [] for account in accounts}
        for account in accounts:
            opening = open_signal_client(URL, account, connect=gateway.connect, token=f"token-{account}")
            signal = await stack.enter_async_context(opening)
            nursery.start_soon(partial(collect, signal.events(), got[account]))
        await gateway.wait_connected(10)
        for account in accounts:
            gateway.deliver(text=f"for {account}", account=account)
        await gateway.wait_delivered()
        await settled()
        assert {account: texts_in(events) for account, events in got.items()} == {
            account: [f"for {account}"] for account in accounts
        }

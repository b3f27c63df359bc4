"""signal-cli's own daemon as the client meets it: connecting, recovery, sends, operations, files, secrets."""

import base64
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    EXACT,
    PEER,
    RECONNECTING,
    SYNCING,
    Dialler,
    check_accounted,
    collect,
    gaps_in,
    living_tasks,
    open_gateway,
    outcome_of,
    outcomes_of,
    record,
    send_all,
    settled,
    texts_at,
    texts_in,
    wait_done,
    wall_ms,
    wall_time,
)
from trio_signal import (
    AnswerError,
    Certainty,
    ConfigurationError,
    Failed,
    Gap,
    GapReason,
    GatewayRefused,
    LinkLost,
    OutgoingAttachment,
    OutgoingMessage,
    Reason,
    ReceivedMessage,
    RequestFailed,
    Sent,
    SignalClient,
    StateChange,
    Text,
    Undecodable,
    UnknownAccount,
    Unsupported,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal._attachments import check_attachments
from trio_signal._credentials import Credentials
from trio_signal._dial import parse_url
from trio_signal._operations import (
    CreateGroup,
    FinishLink,
    JoinGroup,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    SendReceipt,
    SendTyping,
    StartLink,
    SubmitRateLimitChallenge,
    UpdateContact,
    UpdateGroup,
)
from trio_signal._wire import group_recipient
from trio_signal.gateways import AttachmentRef
from trio_signal.gateways._kinds import ReceiveMode
from trio_signal.gateways._requests import Requests
from trio_signal.gateways.signal_cli import SignalCliGateway
from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    chunk,
    contact,
    cut_body,
    endless,
    error,
    garbage,
    group,
    hang,
    lost,
    ok,
    partial,
    rate_limited,
    raw,
    reply,
    rpc_error,
    rpc_result,
    slow,
)

ACCOUNT: Final = "+15550001"
OTHER: Final = "+15550009"
GROUP_ID: Final = base64.b64encode(bytes(range(32))).decode()
GROUP: Final = group_recipient(GROUP_ID)
RPC: Final = "/api/v1/rpc"


def daemon(**options: Any) -> AbstractAsyncContextManager[FakeGateway]:
    return open_gateway(kind="signal-cli", **options)


def client(fake: FakeGateway, **options: Any) -> AbstractAsyncContextManager[SignalClient]:
    defaults: dict[str, Any] = {
        "gateway": "signal-cli",
        "receive_mode": "on-connection",
        "connect": fake.connect,
        "wall_clock": wall_time,
        "backoff": EXACT,
    }
    return open_signal_client(fake.url, fake.account, **(defaults | options))


@asynccontextmanager
async def online(fake: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    """Open a client and wait until it is CONNECTED."""
    async with client(fake, **options) as signal:
        with trio.fail_after(60):
            await signal.wait_state(CONNECTED)
        yield signal


@asynccontextmanager
async def route_to(
    gateway: FakeGateway,
    *,
    account: str | None = ACCOUNT,
    connect: Callable[[str, int], Any] | None = None,
    headers: Mapping[str, str] = {},
) -> AsyncGenerator[SignalCliGateway]:
    """The gateway alone, without a client around it."""
    mode: ReceiveMode = "on-connection"
    requests = Requests(
        parse_url(gateway.url),
        Credentials(headers, None, None),
        connect=connect or gateway.connect,
        ssl_context=None,
        http_client=None,
        send_timeout=60.0,
    )
    route = SignalCliGateway(
        requests, account, receive_mode=mode, quiet_time=5, max_message_size=1 << 20, now=wall_ms
    )
    yield route
    await route.aclose()


# --- Connecting. ---


@pytest.mark.contract("C3")
@pytest.mark.parametrize("version", ["0.13.19", "0.14.3", "0.14.4", "0.14.9"])
async def test_old_and_new_daemons(autojump_clock: MockClock, version: str) -> None:
    async with daemon(version=version) as gateway, online(gateway) as signal:
        gateway.deliver(text="hello")
        message = await anext(signal.receive_messages())
        assert (message.text, message.account) == ("hello", ACCOUNT)
        sent = await signal.send_message(message.reply_to, "hi")
        assert (await sent.wait()).timestamp == gateway.received[0].timestamp
        assert gateway.received[0].recipients == [PEER]
    assert [request.path for request in gateway.requests] == ["/api/v1/events", RPC]


@pytest.mark.contract("B5")
async def test_headers_that_are_held_back_are_waited_for(autojump_clock: MockClock) -> None:
    changes: list[StateChange] = []
    async with (
        daemon(version="0.13.19") as gateway,
        client(gateway) as signal,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(record, signal.state_changes(), changes)
        await signal.wait_state(CONNECTED)
        # 15 s for the head, and 5 s without an event.
        assert trio.current_time() == 20
        nursery.cancel_scope.cancel()
    assert [(change.current, change.time) for change in changes] == [
        (RECONNECTING, 0),
        (SYNCING, 15),
        (CONNECTED, 20),
    ]


@pytest.mark.contract("B5")
async def test_a_daemon_that_says_nothing_is_noticed_after_36_s(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.silence()
        async with client(gateway) as signal:
            await signal.wait_state(RECONNECTING)
            await signal.wait_state(DISCONNECTED)
            assert trio.current_time() == 36
            assert "no connection within 36 s: waiting for the" in str(signal.statistics().last_error)


@pytest.mark.contract("C6")
async def test_an_account_that_the_daemon_does_not_have_is_told_at_once(autojump_clock: MockClock) -> None:
    async with daemon(accounts=[OTHER]) as gateway:
        with pytest.raises(UnknownAccount, match=r"\+15550001; link or register it on the daemon"):
            async with client(gateway):
                await trio.sleep_forever()
        assert trio.current_time() == 0


@pytest.mark.contract("C6")
async def test_another_kind_of_gateway_is_told_at_once(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        with pytest.raises(WrongGatewayMode, match='no signal-cli daemon at this path .* use gateway="auto"'):
            async with client(gateway):
                await trio.sleep_forever()


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_told_at_once(autojump_clock: MockClock, status: int) -> None:
    async with daemon() as gateway:
        gateway.reject(status)
        with pytest.raises(GatewayRefused) as caught:
            async with client(gateway):
                await trio.sleep_forever()
        assert caught.value.status == status


@pytest.mark.contract("C6", "B3")
async def test_a_proxy_without_a_daemon_is_asked_again_when_it_says(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        gateway.reject(503, retry_after=7)
        async with client(gateway) as signal:
            await signal.wait_state(SYNCING)
            assert trio.current_time() == 7


async def test_the_event_stream_never_goes_through_the_callers_http_client(
    autojump_clock: MockClock,
) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        answer = {"jsonrpc": "2.0", "result": {"timestamp": 7}, "id": json.loads(request.content)["id"]}

        async def body() -> AsyncGenerator[bytes]:
            yield json.dumps(answer).encode()

        return httpx.Response(200, content=body())

    async with (
        daemon() as gateway,
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        online(gateway, http_client=http) as signal,
    ):
        message = await signal.send_message(PEER, "hi")
        assert (await message.wait()).timestamp == 7
    assert seen == [RPC]
    assert [request.path for request in gateway.requests] == ["/api/v1/events"]


@pytest.mark.contract("C6")
async def test_every_account_of_a_daemon(autojump_clock: MockClock) -> None:
    async with daemon(accounts=[ACCOUNT, OTHER]) as gateway:
        async with route_to(gateway, account=None) as route, route.open_link(None) as link:
            events: list[Any] = []
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    while len(events) < 2:
                        events.extend(await link.receive())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(read)
                await link.probe()
                gateway.deliver(text="a", account=ACCOUNT)
                gateway.deliver(text="b", account=OTHER)
                await trio.sleep(60)
        assert [json.loads(event)["account"] for event in events] == [ACCOUNT, OTHER]
    assert gateway.requests[-1].target == "/api/v1/events"


# --- What was missed. ---


async def events_over(
    gateway: FakeGateway,
    scene: Callable[[SignalClient], Any],
    **options: Any,
) -> tuple[list[Any], list[StateChange]]:
    """All that a client gives, and goes through, while the scene is played to it."""
    events: list[Any] = []
    changes: list[StateChange] = []
    async with client(gateway, **options) as signal, trio.open_nursery() as nursery:
        nursery.start_soon(record, signal.state_changes(), changes)
        nursery.start_soon(collect, signal.events(), events)
        await signal.wait_state(CONNECTED)
        await scene(signal)
        await settled()
        nursery.cancel_scope.cancel()
    return events, changes


@pytest.mark.contract("R3", "R1", "C3")
async def test_what_waited_comes_without_a_gap_where_the_daemon_ended_it(autojump_clock: MockClock) -> None:
    async with daemon(backlog_spacing=1.0) as gateway:

        async def scene(signal: SignalClient) -> None:
            gateway.deliver(text="before")
            await gateway.wait_delivered()
            gateway.terminate()
            await signal.wait_state(DISCONNECTED)
            for number in range(4):
                gateway.deliver(text=f"missed {number}")
            await gateway.start()
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await gateway.wait_delivered()
            await settled()

        events, changes = await events_over(gateway, scene)
        assert gaps_in(events) == []
        assert texts_in(events) == ["before", *(f"missed {number}" for number in range(4)), "after"]
        assert [change.reason for change in changes if change.current is DISCONNECTED] == [
            Reason.CLOSED_BY_GATEWAY
        ]
        # CONNECTED only when the last of what waited is in the inbox, and 5 s quiet show that it was.
        synced = [change.time for change in changes if change.current is SYNCING][-1]
        up = [change.time for change in changes if change.current is CONNECTED][-1]
        assert up - synced >= 3 + 5


@pytest.mark.contract("R3", "R4")
@pytest.mark.parametrize("mode", ["on-start", "on-connection"])
async def test_a_cut_cable_is_noticed_and_what_was_written_into_it_is_in_a_gap(
    autojump_clock: MockClock, mode: ReceiveMode
) -> None:
    async with daemon(receive_mode=mode) as gateway:

        async def scene(signal: SignalClient) -> None:
            await trio.sleep(100)
            gateway.half_open()
            cut.append(wall_ms())
            await trio.sleep(1)
            gateway.deliver(text="written into a dead connection")
            await signal.wait_state(DISCONNECTED)
            noticed.append(trio.current_time())
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await gateway.wait_delivered()

        cut, noticed = list[int](), list[float]()
        events, changes = await events_over(gateway, scene, receive_mode=mode)
        assert texts_in(events) == ["after"]
        (gap,) = gaps_in(events)
        assert gap.reason is GapReason.GATEWAY
        assert gap.since <= cut[0] < cut[0] + 1000 <= gap.until
        lost_link = next(change for change in changes if change.current is DISCONNECTED)
        assert lost_link.reason is Reason.NO_ANSWER
        assert noticed[0] * 1000 + EPOCH * 1000 - gap.since == pytest.approx(40_000)


@pytest.mark.contract("R3")
@pytest.mark.parametrize("how", ["drop", "reset", "terminate", "kill"])
async def test_where_nothing_is_kept_each_absence_is_a_gap(autojump_clock: MockClock, how: str) -> None:
    async with daemon(receive_mode="on-start") as gateway:

        async def scene(signal: SignalClient) -> None:
            await trio.sleep(10)
            getattr(gateway, how)()
            await signal.wait_state(DISCONNECTED)
            if how in {"terminate", "kill"}:
                await trio.sleep(100)
                await gateway.start()
            else:
                gateway.deliver(text="lost")
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await gateway.wait_delivered()

        events, _ = await events_over(gateway, scene, receive_mode="on-start")
        assert [type(event) for event in events] == [Gap, ReceivedMessage]


@pytest.mark.contract("R3")
async def test_no_message_is_lost_without_a_gap_whatever_ends_the_stream(autojump_clock: MockClock) -> None:
    sent_at: dict[int, float] = {}
    async with daemon(backlog_spacing=0.5) as gateway:

        async def scene(signal: SignalClient) -> None:
            def deliver() -> None:
                envelope = json.loads(gateway.deliver(text="x"))["envelope"]
                sent_at[envelope["timestamp"]] = trio.current_time()

            for fault in ("drop", "reset", "half_open", "terminate", "kill", "cut"):
                await signal.wait_state(CONNECTED)
                await trio.sleep(7)
                deliver()
                await gateway.wait_delivered()
                if fault == "cut":
                    gateway.cut(30)
                else:
                    getattr(gateway, fault)()
                deliver()
                await trio.sleep(20)
                deliver()
                if fault in {"terminate", "kill"}:
                    await gateway.start()
                await trio.sleep(60)
            await signal.wait_state(CONNECTED)
            deliver()
            await gateway.wait_delivered()

        events, _ = await events_over(gateway, scene)
        check_accounted(sent_at, events)
        assert len(gaps_in(events)) >= 3


@pytest.mark.contract("B5")
@pytest.mark.parametrize("limit", [1, 4, 5, 6])
async def test_a_short_attempt_reaches_an_old_daemon(autojump_clock: MockClock, limit: float) -> None:
    async with daemon(version="0.13.19") as gateway, client(gateway, attempt_timeout=limit) as signal:
        await signal.wait_state(SYNCING)
        assert trio.current_time() == 15


async def settle(_: SignalClient) -> None:
    await settled()


@pytest.mark.contract("R3")
async def test_where_nothing_is_kept_a_first_connection_makes_no_gap(autojump_clock: MockClock) -> None:
    async with daemon(receive_mode="on-start") as gateway:
        gateway.refuse()
        gateway.silence()
        gateway.hang_up()
        gateway.garbage()
        gateway.reject(502)
        events, changes = await events_over(gateway, settle, receive_mode="on-start")
        assert events == []
        assert sum(change.current is RECONNECTING for change in changes) == 6


@pytest.mark.contract("R3")
@pytest.mark.parametrize(
    ("fault", "gaps"),
    [
        # The daemon got nothing.
        ({"refuse": ()}, 0),
        ({"reject": (503,)}, 0),
        # It may have given what waited to a request whose answer never came.
        ({"silence": ()}, 1),
        ({"garbage": ()}, 1),
        ({"reject": (502,)}, 1),
    ],
)
async def test_before_the_first_connection_only_a_request_that_arrived_can_lose_messages(
    autojump_clock: MockClock, fault: dict[str, tuple[int, ...]], gaps: int
) -> None:
    async with daemon() as gateway:
        for name, arguments in fault.items():
            getattr(gateway, name)(*arguments)
        events, changes = await events_over(gateway, settle)
        assert [type(event) for event in events] == [Gap] * gaps
        assert sum(change.current is RECONNECTING for change in changes) == 2


@pytest.mark.contract("R3")
async def test_a_first_connection_that_just_works_makes_no_gap(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        events, _ = await events_over(gateway, settle)
        assert events == []


@pytest.mark.contract("R7")
async def test_whatever_comes_costs_no_connection(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:

        async def scene(signal: SignalClient) -> None:
            for data in ("no json", "[]", '{"error":"x"}', "null", "[" * 3000, "x" * 3000):
                gateway.deliver_raw(data)
            gateway.deliver_exception()
            gateway.send_frame(chunk(b"event:other\ndata:{}\n\nevent:receive\n\nnonsense\n\n:\n"))
            gateway.deliver(text="still here")
            await gateway.wait_delivered()

        events, changes = await events_over(gateway, scene, max_message_size=2000)
        assert [type(event) for event in events] == [*[Undecodable] * 6, ReceivedMessage, ReceivedMessage]
        assert events[5].raw == b""
        assert "3000 bytes is over max_message_size" in events[5].reason
        assert [change.current for change in changes] == [RECONNECTING, SYNCING, CONNECTED]


@pytest.mark.contract("L3")
async def test_a_stalled_daemon_is_left_after_40_s(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway) as signal:
        gateway.stall()
        start = signal.statistics().last_received or 0.0
        await signal.wait_state(DISCONNECTED)
        assert trio.current_time() == start + 40


@pytest.mark.contract("C5")
async def test_leaving_closes_everything(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        before = living_tasks()
        dialler = Dialler(gateway)
        for state in (RECONNECTING, SYNCING, CONNECTED):
            async with client(gateway, connect=dialler.connect) as signal:
                await signal.wait_state(state)
                if state is CONNECTED:
                    await (await signal.send_message(PEER, "hi")).wait()
            await settled()
            assert dialler.left_open == 0
        # The daemon notices by its second keep-alive.
        await trio.sleep(31)
        assert living_tasks() == before
    assert len(dialler.streams) >= 3


@pytest.mark.contract("C5")
async def test_a_stream_that_ends_in_the_moment_of_leaving(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway):
        gateway.terminate()
    async with daemon() as gateway:
        with trio.CancelScope() as scope:
            async with online(gateway):
                gateway.reset()
                scope.cancel()
                await trio.lowlevel.checkpoint()


# --- Sends. ---


@pytest.mark.contract("O6", "O5")
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ok(), "sent"),
        (slow(30), "sent"),
        (partial([{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]), "failed: not_sent"),
        (partial([{"number": PEER, "reason": "IDENTITY_FAILURE"}]), "failed: not_sent"),
        (partial([{"number": PEER, "reason": "NETWORK_FAILURE"}]), "failed: unknown"),
        (rpc_error(-1, "Invalid group id"), "failed: not_sent"),
        (rpc_error(-1, "Failed to send message"), "failed: unknown"),
        (rpc_error(-3, "Connection closed!"), "failed: unknown"),
        (rpc_error(-32602, "Specified account does not exist"), "failed: not_sent"),
        (rpc_error(-32603, "Failed to send message: x (IOException)"), "failed: unknown"),
        (rpc_result({"unexpected": 1}), "failed: unknown"),
        (hang(), "failed: unknown"),
        (lost(), "failed: unknown"),
        (cut_body(10), "failed: unknown"),
        (garbage(), "failed: unknown"),
        (endless(chunk=60_000), "failed: unknown"),
        (raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]"), "failed: unknown"),
        (reply(200, "<html>", content_type="text/html"), "failed: unknown"),
        (reply(404, "no"), "failed: not_sent"),
        (reply(413, "too large"), "failed: not_sent"),
        (error(502, "bad gateway"), "failed: unknown"),
    ],
)
async def test_what_becomes_of_a_send(autojump_clock: MockClock, answer: SendAnswer, outcome: str) -> None:
    async with daemon() as gateway, online(gateway, rate_limit=None) as signal:
        gateway.script("RPC send", answer)
        message = await signal.send_message(PEER, "hi")
        await wait_done([message])
        assert outcome_of(message) == outcome
        # And the next one is not hurt by it.
        assert (await (await signal.send_message(PEER, "next")).wait()).timestamp


@pytest.mark.contract("O11")
async def test_a_daemon_that_never_answers_a_send(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway, send_timeout=20, settle_timeout=0) as signal:
        gateway.script_send(hang())
        start = trio.current_time()
        message = await signal.send_message(PEER, "hi")
        await wait_done([message])
        assert trio.current_time() - start == 20
        assert outcome_of(message) == "failed: unknown"


@pytest.mark.contract("O5", "O4")
async def test_what_cannot_have_left_is_tried_again_in_its_place(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway) as signal:
        gateway.refuse()
        gateway.script_send(error(503, "starting"))
        messages = await send_all(signal, ["one", "two"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent", "sent"]
        assert texts_at(gateway) == ["one", "one", "two"]
    requests = [json.loads(request.body) for request in gateway.requests if request.path == RPC]
    # Each attempt has an id of its own.
    assert len({request["id"] for request in requests}) == len(requests) == 3


@pytest.mark.contract("O6")
async def test_a_rate_limit_pauses_the_queue_and_tells_the_challenge(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway) as signal:
        gateway.script_send(rate_limited(["token-1"], retry_after=120))
        start = trio.current_time()
        messages = await send_all(signal, ["limited", "after"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert trio.current_time() - start == 120
        challenge = await anext(signal.events())
        assert getattr(challenge, "tokens", None) == ("token-1",)


@pytest.mark.contract("O6")
async def test_a_group_that_was_reached_in_part(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, online(gateway) as signal:
        gateway.groups[GROUP_ID] = group(GROUP_ID, members=[ACCOUNT, PEER, OTHER])
        gateway.script_send(
            partial([{"number": OTHER, "reason": "RATE_LIMIT_FAILURE", "token": "t", "retryAfterSeconds": 9}])
        )
        message = await signal.send_message(GROUP, "hi")
        outcome = await message.wait()
        (failed,) = outcome.failed
        assert (failed.recipient, failed.reason) == (OTHER, "RATE_LIMIT_FAILURE")
        assert (failed.retry_after, failed.challenge_token) == (9.0, "t")
        assert signal.statistics().paused_until == trio.current_time() + 9


async def test_messages_of_different_clients_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    async with daemon(answer_delay=10.0) as gateway, route_to(gateway) as route:
        start = trio.current_time()
        results: list[Any] = []

        async def send(text: str) -> None:
            async with route.turn():
                results.append(await route.send(OutgoingMessage(PEER, text)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "a")
            nursery.start_soon(send, "b")
        assert trio.current_time() - start == 10
        assert all(isinstance(result.outcome, Sent) for result in results)


async def test_a_message_says_whose_it_is(autojump_clock: MockClock) -> None:
    async with daemon(accounts=[ACCOUNT, OTHER]) as gateway:
        async with route_to(gateway, account=None) as route:
            await route.send(OutgoingMessage(PEER, "a", account=OTHER))
        async with route_to(gateway, account=ACCOUNT) as route:
            await route.send(OutgoingMessage(PEER, "b"))
        assert [request.number for request in gateway.received] == [OTHER, ACCOUNT]
        async with route_to(gateway, account="+15550008") as route:
            result = await route.send(OutgoingMessage(PEER, "c"))
        assert isinstance(result.outcome, Failed)
        assert result.outcome.certainty is Certainty.NOT_SENT
        assert "link or register it on the daemon" in str(result.outcome.error)


async def test_files_go_out_whole(mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a b+c.bin"
    path.write_bytes(bytes(range(256)) * 4000)
    files = await check_attachments([path, OutgoingAttachment(b"x", "50%.txt")], limit=10**8)
    async with daemon() as gateway, route_to(gateway) as route:
        result = await route.send(OutgoingMessage(PEER, Text("", files)))
        assert isinstance(result.outcome, Sent)
        first, second = gateway.received[0].body["attachments"]
    assert base64.b64decode(first.partition(",")[2]) == path.read_bytes()
    assert first.startswith("data:application/octet-stream;filename=a b%2Bc.bin;base64,")
    assert second == "data:text/plain;filename=50%25.txt;base64,eA=="


@pytest.mark.contract("O6")
@pytest.mark.parametrize("recipient", [PEER, "group.AAA"])
async def test_what_cannot_be_sent_like_this_leaves_nothing(
    autojump_clock: MockClock, recipient: str
) -> None:
    files = await check_attachments([b""], limit=10)
    async with daemon() as gateway, route_to(gateway) as route:
        result = await route.send(OutgoingMessage(recipient, Text("hi", files)))
        assert isinstance(result.outcome, Failed)
        assert result.outcome.certainty is Certainty.NOT_SENT
        assert isinstance(result.outcome.error, Unsupported)
        assert not result.retry
        assert gateway.requests == []


# --- Operations. ---


@pytest.mark.contract("A1", "A3")
async def test_operations_and_their_results(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        gateway.groups[GROUP_ID] = group(GROUP_ID, name="Team", members=[ACCOUNT, PEER], admins=[ACCOUNT])
        gateway.contacts[PEER] = contact(PEER, name="Ada")

        async def operate(operation: Any) -> Any:
            return await route.operate(operation, account=None, limit=10)

        (listed,) = await operate(ListGroups())
        assert (listed.id, listed.name, listed.admins) == (GROUP, "Team", (ACCOUNT,))
        assert set(listed.members) == {ACCOUNT, PEER}
        (person,) = await operate(ListContacts())
        assert (person.recipient, person.name) == (PEER, "Ada")
        assert await operate(ListAccounts()) == (ACCOUNT,)
        assert await operate(SendTyping(PEER)) is None
        assert await operate(SendReceipt(PEER, 5)) is None
        assert await operate(UpdateGroup(GROUP, name="New")) is None
        assert gateway.groups[GROUP_ID]["name"] == "New"
        made = await operate(CreateGroup("Other", (PEER,)))
        assert made.startswith("group.")
        assert len(gateway.groups) == 2
        assert await operate(JoinGroup(GROUP)) == GROUP
        uri = await operate(StartLink("bot"))
        assert uri.startswith("sgnl://")


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("answer", "certainty"),
    [
        (rpc_error(-6, "Captcha rejected"), Certainty.NOT_SENT),
        (rpc_error(-1, "Failed to send message"), Certainty.UNKNOWN),
        (rpc_error(-3, "Connection closed!"), Certainty.UNKNOWN),
        (hang(), Certainty.UNKNOWN),
        (lost(), Certainty.UNKNOWN),
        (garbage(), Certainty.UNKNOWN),
        (reply(401, ""), Certainty.NOT_SENT),
        (reply(200, "nonsense"), Certainty.UNKNOWN),
    ],
)
async def test_operations_that_fail(
    autojump_clock: MockClock, answer: SendAnswer, certainty: Certainty
) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        challenge = SubmitRateLimitChallenge("t", "signalcaptcha://x")
        gateway.script("RPC submitRateLimitChallenge", answer)
        start = trio.current_time()
        with pytest.raises(RequestFailed) as caught:
            await route.operate(challenge, account=ACCOUNT, limit=10)
        assert caught.value.certainty is certainty
        assert trio.current_time() - start <= 10
        # What only reads has changed nothing, however it ended.
        gateway.script("RPC listGroups", answer)
        with pytest.raises(RequestFailed) as caught:
            await route.operate(ListGroups(), account=ACCOUNT, limit=10)
        assert caught.value.certainty is Certainty.NOT_SENT


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("operation", "answer", "certainty"),
    [
        # 0.13.19 sets the timer, and then fails at the name on a linked device.
        (UpdateContact(PEER, expiration=60), rpc_error(-1, "not on linked devices"), Certainty.UNKNOWN),
        (UpdateContact(PEER, "Ada", 60), rpc_error(-1, "not on linked devices"), Certainty.UNKNOWN),
        (UpdateContact(PEER, "Ada"), rpc_error(-1, "not on linked devices"), Certainty.NOT_SENT),
        (UpdateContact(PEER, expiration=60), rpc_error(-32602, "no such account"), Certainty.NOT_SENT),
        (UpdateGroup(GROUP, expiration=60), rpc_error(-1, "no such group"), Certainty.NOT_SENT),
    ],
)
async def test_what_may_be_half_done_is_not_called_undone(
    autojump_clock: MockClock, operation: Operation[None], answer: SendAnswer, certainty: Certainty
) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        method = "updateContact" if isinstance(operation, UpdateContact) else "updateGroup"
        gateway.script(f"RPC {method}", answer)
        with pytest.raises(RequestFailed) as caught:
            await route.operate(operation, account=ACCOUNT, limit=10)
        assert caught.value.certainty is certainty
        assert isinstance(caught.value.error, AnswerError)


@pytest.mark.contract("A1")
async def test_a_result_of_another_form_is_unknown(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        gateway.script("RPC updateGroup", rpc_result({"no": "group"}))
        with pytest.raises(RequestFailed, match="cannot be read") as caught:
            await route.operate(CreateGroup("x", ()), account=None, limit=10)
        assert caught.value.certainty is Certainty.UNKNOWN


@pytest.mark.contract("A1")
async def test_operations_that_it_does_not_have_ask_nothing(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        with pytest.raises(Unsupported, match='gateway="rest"'):
            await route.operate(ListAttachments(), account=None, limit=10)
        assert gateway.requests == []


@pytest.mark.contract("A1")
async def test_linking_asks_for_no_account(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        gateway.script("RPC finishLink", rpc_result({"number": OTHER}))
        assert await route.operate(FinishLink("sgnl://x", "bot"), account=None, limit=10) == OTHER
        params = json.loads(gateway.requests[-1].body)["params"]
    assert params == {"deviceLinkUri": "sgnl://x", "deviceName": "bot"}


# --- Calls. ---


@pytest.mark.contract("A1")
async def test_any_method_can_be_called(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        assert await route.call("version", None, account=None, limit=10) == {"version": "0.14.9"}
        gateway.script("RPC trust", rpc_result(None))
        assert await route.call("trust", {"recipient": PEER}, account=None, limit=10) is None
        assert json.loads(gateway.requests[-1].body)["params"] == {"account": ACCOUNT, "recipient": PEER}
        gateway.script("RPC trust", rpc_result([1]))
        assert await route.call("trust", {"account": OTHER}, account=None, limit=10) == [1]
        assert json.loads(gateway.requests[-1].body)["params"] == {"account": OTHER}
        with pytest.raises(RequestFailed) as caught:
            await route.call("noSuchMethod", {}, account=None, limit=10)
        assert isinstance(caught.value.error, AnswerError)
        assert (caught.value.error.code, caught.value.certainty) == (-32601, Certainty.NOT_SENT)
        assert caught.value.error.text == "Method not implemented"


@pytest.mark.contract("A1")
async def test_a_call_that_is_none_asks_nothing(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        with pytest.raises(Unsupported, match='gateway="rest"'):
            await route.call("GET /v1/about", None, account=None, limit=10)
        with pytest.raises(ConfigurationError, match="no name of a method"):
            await route.call("list groups", None, account=None, limit=10)
        with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
            await route.call("trust", {"x": object()}, account=None, limit=10)
        assert gateway.requests == []


# --- Files that came. ---


async def download(
    route: SignalCliGateway, name: str = "x1.jpg", place: str = PEER, *, limit: float = 10, most: int = 10**9
) -> bytes:
    data = bytearray()
    async with route.download(AttachmentRef(name, place), account=None, limit=limit) as file:
        assert file.size is None
        async for piece in file:
            data += piece
            if len(data) >= most:
                break
    return bytes(data)


@pytest.mark.contract("A4")
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 70_000, 1_000_001])
async def test_a_file_comes_whole(autojump_clock: MockClock, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with daemon() as gateway, route_to(gateway) as route:
        gateway.attachments["x1.jpg"] = content
        assert await download(route) == content
        assert await download(route, place=GROUP) == content
        assert json.loads(gateway.requests[-1].body)["params"]["groupId"] == GROUP_ID


async def test_a_file_that_is_left_half_way(autojump_clock: MockClock) -> None:
    async with daemon() as gateway:
        dialler = Dialler(gateway)
        async with route_to(gateway, connect=dialler.connect) as route:
            gateway.attachments["x1.jpg"] = bytes(1_000_000)
            assert 0 < len(await download(route, most=1)) < 1_000_000
            assert dialler.left_open == 0


@pytest.mark.contract("A4", "A1")
async def test_a_file_that_is_not_there(autojump_clock: MockClock) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        with pytest.raises(RequestFailed, match="Could not find attachment") as caught:
            await download(route)
        assert caught.value.certainty is Certainty.NOT_SENT
        assert isinstance(caught.value.error, AnswerError)
        assert (caught.value.error.status, caught.value.error.code) == (404, -1)


ANSWER: Final = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"jsonrpc":"2.0","result":{"data":"'
)


@pytest.mark.contract("A4", "A1")
@pytest.mark.parametrize(
    "answer",
    [
        reply(200, '{"jsonrpc":"2.0","result":{"data":"YW!!"},"id":"r"}'),
        reply(200, '{"jsonrpc":"2.0","result":{"data":null},"id":"r"}'),
        reply(200, "x" * 200_000),
        reply(200, ""),
        reply(500, "no"),
        reply(204, ""),
        rpc_error(-32602, "Specified account does not exist"),
        raw(ANSWER + b"YWJj" * 1000),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + ANSWER.partition(b"\r\n\r\n")[2]),
        garbage(),
        lost(),
        hang(),
        endless(),
    ],
)
async def test_a_file_that_does_not_come(autojump_clock: MockClock, answer: SendAnswer) -> None:
    async with daemon() as gateway, route_to(gateway) as route:
        gateway.script("RPC getAttachment", answer)
        start = trio.current_time()
        with pytest.raises(RequestFailed) as caught:
            await download(route)
        assert caught.value.certainty is Certainty.NOT_SENT
        assert trio.current_time() - start <= 20


# --- Secrets. ---


@pytest.mark.contract("A1")
async def test_secrets_are_nowhere(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "hush-4711"
    seen = ""
    async with daemon(
        base_path=f"/{secret}", require_header=("Authorization", f"Bearer {secret}")
    ) as gateway:
        for headers in ({"Authorization": f"Bearer {secret}"}, {"Authorization": f"Bearer {secret}-wrong"}):
            async with route_to(gateway, headers=headers) as route:
                try:
                    async with route.open_link(None) as link:
                        with trio.move_on_after(1):
                            await link.receive()
                    await download(route)
                except (GatewayRefused, RequestFailed, LinkLost) as error_seen:
                    seen += "".join(traceback.format_exception(error_seen)) + repr(error_seen)
                seen += repr(await route.send(OutgoingMessage(PEER, "hi"))) + repr(route)
    assert gateway.received
    assert secret not in seen + caplog.text

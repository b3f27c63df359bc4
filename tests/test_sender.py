"""Sending, end to end: order, retries, limits, doubt, deadlines, withdrawal, the buffer's policies, files."""

import base64
import itertools
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    AnswerError,
    Backoff,
    BufferFull,
    Certainty,
    ChallengeRequired,
    ConfigurationError,
    Dropped,
    DropReason,
    Failed,
    MessageDropped,
    OutgoingAttachment,
    OutgoingMessage,
    Quote,
    RateLimit,
    RequestFailed,
    SendFailed,
    Sent,
    SignalClient,
)
from trio_signal.testing import (
    FakeGateway,
    FaultProxy,
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
    open_fault_proxy,
    partial,
    rate_limited,
    raw,
    slow,
)

from .scene import (
    CONNECTED,
    DISCONNECTED,
    PEER,
    check_ledger,
    collect,
    connected,
    logged,
    open_client,
    open_gateway,
    outcome_of,
    outcomes_of,
    send_all,
    settled,
    texts_at,
    wait_done,
)


def failure(message: OutgoingMessage) -> Failed:
    """Insist on a failure."""
    assert isinstance(message.outcome, Failed)
    return message.outcome


def times_at(gateway: FakeGateway) -> list[float]:
    """When each send came to the gateway, on Trio's clock."""
    return [send.time for send in gateway.received]


def apart(gateway: FakeGateway) -> list[float]:
    """Seconds between the sends that came to the gateway."""
    return [later - earlier for earlier, later in itertools.pairwise(times_at(gateway))]


# --- order and one at a time ---


@pytest.mark.contract("O1", "O4", "O7")
async def test_messages_leave_in_order_and_one_at_a_time(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.1) as gateway, connected(gateway, rate_limit=None) as signal:
        messages = await send_all(signal, [f"m{n}" for n in range(50)])
        await wait_done(messages)
        assert texts_at(gateway) == [f"m{n}" for n in range(50)]
        assert gateway.statistics().most_sends_in_flight == 1
        stamps = [message.outcome.timestamp for message in messages if isinstance(message.outcome, Sent)]
        assert stamps == [send.timestamp for send in gateway.received]
        check_ledger(signal, messages)


@pytest.mark.contract("O4", "O7")
async def test_messages_from_many_tasks_leave_one_at_a_time_and_in_the_order_accepted(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(answer_delay=0.05) as gateway, connected(gateway, rate_limit=None) as signal:
        accepted: list[OutgoingMessage] = []

        async def talk(who: int) -> None:
            for n in range(10):
                accepted.append(await signal.send_message(PEER, f"{who}-{n}"))
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            for who in range(8):
                nursery.start_soon(talk, who)
        await wait_done(accepted)
        assert texts_at(gateway) == [message.text for message in accepted]
        assert gateway.statistics().most_sends_in_flight == 1


@pytest.mark.contract("O4", "O10")
async def test_what_was_buffered_leaves_first_in_first_out_before_newer_messages(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(60)
        gateway.refuse(3)
        gateway.drop()
        await signal.wait_state(DISCONNECTED)
        old = await send_all(signal, [f"old{n}" for n in range(20)])
        assert signal.statistics().buffer.waiting + signal.statistics().in_flight == 20
        await signal.wait_state(CONNECTED)
        new = await send_all(signal, [f"new{n}" for n in range(5)])
        await wait_done(old + new)
        assert texts_at(gateway) == [message.text for message in old + new]
        assert trio.current_time() == 60 + 1 + 2 + 4 + 8
        check_ledger(signal, old + new)


@pytest.mark.contract("O4", "O7", "O10", "O1")
async def test_order_holds_over_many_reconnections(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.3) as gateway, connected(gateway, buffer_size=1000) as signal:
        messages: list[OutgoingMessage] = []

        async def talk() -> None:
            for n in range(200):
                messages.append(await signal.send_message(PEER, str(n)))
                await trio.sleep(0.5)

        async def break_it() -> None:
            for end in itertools.cycle(("close", "drop", "reset")):
                await trio.sleep(9)
                getattr(gateway, end)()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_it)
            await talk()
            await wait_done(messages)
            nursery.cancel_scope.cancel()
        assert outcomes_of(messages) == ["sent"] * 200
        assert texts_at(gateway) == [str(n) for n in range(200)]
        assert gateway.statistics().most_sends_in_flight == 1
        check_ledger(signal, messages)


@pytest.mark.contract("O10")
@pytest.mark.parametrize("end", ["close", "drop", "reset"])
async def test_losing_the_receive_link_does_not_cut_a_send_in_flight(
    autojump_clock: MockClock, end: str
) -> None:
    async with open_gateway(answer_delay=30) as gateway, connected(gateway) as signal:
        message = await signal.send_message(PEER, "slow")
        await gateway.wait_received(1)
        getattr(gateway, end)()
        await signal.wait_state(DISCONNECTED)
        assert message.outcome is None
        assert signal.statistics().in_flight
        sent = await message.wait()
        assert trio.current_time() == 30
        assert sent.timestamp == gateway.received[0].timestamp
        assert len(gateway.received) == 1


@pytest.mark.contract("O10")
async def test_a_waiting_message_is_attempted_within_a_second_after_connected(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for _ in range(10):
            gateway.refuse(2)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            message = await signal.send_message(PEER, "waits")
            await signal.wait_state(CONNECTED)
            start = trio.current_time()
            await message.wait()
            assert trio.current_time() - start <= 1
            await trio.sleep(40)


@pytest.mark.contract("O10")
async def test_nothing_is_sent_before_connected(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.silence(None)  # HTTP works, the receive socket does not
        async with open_client(gateway) as signal:
            message = await signal.send_message(PEER, "waits")
            await trio.sleep(100)
            assert message.outcome is None
            assert len(gateway.received) == 0
            gateway.heal()
            await message.wait()


# --- tried again, since nothing has left ---


@pytest.mark.contract("O5", "O6", "O4")
async def test_a_gateway_without_its_daemon_is_tried_again_in_place_until_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[daemon_down()] * 12)
        messages = await send_all(signal, ["one", "two", "three"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 3
        assert texts_at(gateway) == ["one"] * 13 + ["two", "three"]
        waits = apart(gateway)[:12]
        assert all(1 <= wait <= 60 for wait in waits)
        ceilings = [min(2.0**n, 60) for n in range(12)]
        assert all(wait <= max(1, ceiling) for wait, ceiling in zip(waits, ceilings, strict=True))
        check_ledger(signal, messages)


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize("answer", [daemon_down(), error(503, "no gateway"), error(503, "")])
async def test_what_proves_that_nothing_left_is_tried_again(
    autojump_clock: MockClock, answer: SendAnswer
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(answer, answer)
        message = await signal.send_message(PEER, "one")
        await message.wait()
        assert texts_at(gateway) == ["one"] * 3


@pytest.mark.contract("O6", "B3")
async def test_retry_after_lengthens_the_wait_between_attempts(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(error(503, retry_after=25), error(503, retry_after=100_000))
        await (await signal.send_message(PEER, "one")).wait()
        assert apart(gateway) == [25, 300]


@pytest.mark.contract("O6", "B3")
@pytest.mark.parametrize(("asked", "least"), [(None, 1), (100, 100)])
async def test_a_new_link_does_not_shorten_the_wait_between_attempts(
    autojump_clock: MockClock, asked: float | None, least: float
) -> None:
    quick = Backoff(initial=0.1, maximum=0.1, jitter=False)
    async with open_gateway() as gateway, connected(gateway, backoff=quick) as signal:
        gateway.script_send(*[error(503, retry_after=asked)] * 4)
        message = await signal.send_message(PEER, "one")
        for n in range(1, 5):
            await gateway.wait_received(n)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            await signal.wait_state(CONNECTED)
        await message.wait()
        assert min(apart(gateway)) >= least


@pytest.mark.contract("O5", "O6")
async def test_refused_connections_are_tried_again(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(40)  # the kept-alive HTTP connection is too old now
        gateway.refuse(4)
        messages = await send_all(signal, ["one", "two"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 2
        assert texts_at(gateway) == ["one", "two"]
        assert gateway.statistics().refused == 4


@pytest.mark.contract("O6", "C6")
async def test_refused_credentials_are_renewed_for_a_send(autojump_clock: MockClock) -> None:
    tokens = itertools.count()
    async with open_gateway() as gateway, connected(gateway, token=lambda: f"t{next(tokens)}") as signal:
        gateway.script_send(error(401, "expired"), error(403, "expired"))
        message = await signal.send_message(PEER, "one")
        await message.wait()
        used = [send.headers["authorization"] for send in gateway.received]
        assert len(set(used)) == 3


@pytest.mark.contract("O6", "C6")
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_that_cannot_be_renewed_fail_the_message_as_not_sent(
    autojump_clock: MockClock, status: int
) -> None:
    async with open_gateway() as gateway, connected(gateway, token="s3cr3t") as signal:
        gateway.script_send(error(status, "no"))
        refused, fine = await send_all(signal, ["one", "two"])
        await wait_done([refused, fine])
        assert outcomes_of([refused, fine]) == ["failed: not_sent", "sent"]
        assert "s3cr3t" not in str(failure(refused).error)


@pytest.mark.contract("O6")
async def test_a_token_callable_that_never_helps_does_not_hold_the_queue_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, token=lambda: "stale") as signal:
        gateway.script_send(*[error(401, "no")] * 4)
        messages = await send_all(signal, ["one", "two"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: not_sent", "sent"]


# --- doubt ---

DOUBT: dict[str, SendAnswer] = {
    "lost": lost(),
    "hang": hang(),
    "cut-at-0": cut_body(0),
    "cut-mid-body": cut_body(20),
    "garbage": garbage(),
    "endless": endless(),
    "half-an-answer": raw(b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"),
    "unreadable-201": raw(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
    "408": error(408, "too slow"),
    "429": rate_limited(None),
    "500": error(500, "oops"),
    "502": error(502, "bad gateway"),
    "504": error(504, "gateway time-out"),
    "400-network": error(400, "Failed to send message: Connection reset"),
}


@pytest.mark.contract("O1", "O2", "O5", "O6", "O11")
@pytest.mark.parametrize("what", DOUBT)
async def test_what_leaves_doubt_fails_as_unknown_and_is_never_sent_again(
    autojump_clock: MockClock, what: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(DOUBT[what])
        messages = await send_all(signal, ["doubtful", "next"])
        with trio.fail_after(200):
            with pytest.raises(SendFailed) as caught:
                await messages[0].wait()
            assert caught.value.certainty is Certainty.UNKNOWN
            await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        await trio.sleep(3600)
        assert [request.method for request in gateway.requests].count("POST") == 2
        assert texts_at(gateway)[-1] == "next"
        check_ledger(signal, messages)


@pytest.mark.contract("O11")
@pytest.mark.parametrize(("options", "limit"), [({}, 60), ({"send_timeout": 7}, 7)])
async def test_a_send_that_hangs_ends_by_its_own_time_out(
    autojump_clock: MockClock, options: dict[str, Any], limit: float
) -> None:
    async with open_gateway() as gateway, connected(gateway, **options) as signal:
        gateway.script_send(hang(), hang())
        messages = await send_all(signal, ["one", "two", "three"])
        await messages[2].wait()
        assert trio.current_time() == 2 * limit
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown"] * 2 + ["sent"]
        assert trio.current_time() == 2 * limit + 10  # for evidence
        assert gateway.statistics().most_sends_in_flight == 1
        assert signal.state is CONNECTED


@pytest.mark.contract("O5")
async def test_an_answer_that_trickles_is_cut_off_by_the_time_out(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(endless(chunk=1, every=1.0))
        message = await signal.send_message(PEER, "one")
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        assert trio.current_time() == 60 + 10  # for evidence


@pytest.mark.contract("O5", "O9")
async def test_a_gateway_that_dies_while_it_sends_leaves_doubt(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=5) as gateway, connected(gateway) as signal:
        messages = await send_all(signal, ["in flight", "waits"])
        await gateway.wait_received(1)
        await gateway.restart(down_for=20)
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert texts_at(gateway) == ["in flight", "waits"]
        check_ledger(signal, messages)


#: What a connection may come to that a dying gateway's kernel accepts, or a proxy before it.
LAST_BREATHS: dict[str, Callable[[FakeGateway], None]] = {
    "hangs up": lambda gateway: gateway.hang_up(3, on="http"),
    "says nothing": lambda gateway: gateway.silence(3, on="http"),
    "nonsense": lambda gateway: gateway.garbage(3, on="http"),
    "502": lambda gateway: gateway.reject(502, times=3, on="http"),
    "503": lambda gateway: gateway.reject(503, times=3, on="http"),
    "504": lambda gateway: gateway.reject(504, times=3, on="http"),
}


@pytest.mark.contract("O4", "O5", "O6")
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
@pytest.mark.parametrize("breath", LAST_BREATHS)
async def test_a_lost_answer_leaves_nothing_else_in_doubt(
    autojump_clock: MockClock,
    breath: str,
    kind: Literal["rest", "signal-cli"],
    delivery: Literal["at_most_once", "at_least_once"],
) -> None:
    async with open_gateway(kind=kind) as gateway, connected(gateway, delivery=delivery) as signal:
        gateway.script_send(lost().after(1))
        messages = await send_all(signal, ["in flight", "second", "third"])
        await gateway.wait_received(1)
        LAST_BREATHS[breath](gateway)
        await wait_done(messages)
        resent = ["in flight"] if delivery == "at_least_once" else []
        assert outcomes_of(messages) == ["sent" if resent else "failed: unknown", "sent", "sent"]
        assert texts_at(gateway) == ["in flight", *resent, "second", "third"]
        check_ledger(signal, messages)


@pytest.mark.contract("O5")
@pytest.mark.parametrize("status", [200, 204, 401, 404, 429, 500])
async def test_any_answer_of_its_own_shows_that_a_gateway_is_there(
    autojump_clock: MockClock, status: int
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(lost().after(1))
        messages = await send_all(signal, ["in flight", "second", "third"])
        await gateway.wait_received(1)
        gateway.reject(status, on="http")
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent"]
        assert apart(gateway) == [1, 0]


@pytest.mark.contract("O5", "O11")
async def test_a_gateway_that_does_not_say_that_it_is_there_uses_up_no_send_time_out(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, send_timeout=2) as signal:
        gateway.script_send(hang())
        messages = await send_all(signal, ["in flight", "second", "third"])
        await gateway.wait_received(1)
        gateway.silence(2, on="http")
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent"]


@pytest.mark.contract("O4", "O5", "O10")
@pytest.mark.parametrize("harm", ["hang_up", "silence"])
async def test_what_hides_whether_a_gateway_is_there_holds_nothing_up_for_ever(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(lost(), ok(), ok(), lost())
        gateway.script("GET /v1/health", *[lost() if harm == "hang_up" else hang()] * 6)
        messages = await send_all(signal, ["lost", "two", "three", "lost as well", "five"])
        with trio.fail_after(120):
            await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent", "failed: unknown", "sent"]
        assert texts_at(gateway) == ["lost", "two", "three", "lost as well", "five"]
        asked = [request.target for request in gateway.requests].count("/v1/health")
        # As soon as it is known that nobody answers, one question does for each answer that is lost.
        assert (asked, caplog.text.count("goes on unchecked")) == (6, 2)
        check_ledger(signal, messages)


@pytest.mark.contract("C5", "O5", "O8", "O12")
async def test_while_it_is_asked_whether_a_gateway_is_there_a_message_waits(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, close_timeout=0, settle_timeout=0) as signal:
            gateway.script_send(lost())
            gateway.script("GET /v1/health", hang(), hang())
            lost_one, expiring, withdrawn, last = await send_all(signal, ["a", "b", "c", "d"])
            late = await signal.send_message(PEER, "late", deadline=trio.current_time() + 1)
            await trio.sleep(0.5)
            assert outcome_of(lost_one) == "failed: unknown"
            assert expiring.withdraw()
            await trio.sleep(1)
            assert outcome_of(late) == "dropped: expired"
            await trio.sleep(6)
            assert withdrawn.withdraw()
            assert await signal.list_groups(timeout=1) == ()
        assert outcome_of(last) == "dropped: closed"
        assert texts_at(gateway) == ["a"]


@pytest.mark.contract("D1", "O5")
async def test_what_waits_for_a_sign_of_the_gateway_is_left_to_the_next_process(tmp_path: Path) -> None:
    async with open_fake_gateway(port=None) as gateway:
        options: dict[str, Any] = {"store": tmp_path / "bot.db", "settle_timeout": 0, "close_timeout": 0}
        async with connected(gateway, **options) as signal:
            gateway.script_send(lost())
            gateway.script("GET /v1/health", hang())
            messages = await send_all(signal, ["lost", "second", "third"])
            await gateway.wait_received(1)
            while [request.target for request in gateway.requests][-1] != "/v1/health":
                await gateway.wait_requests(len(gateway.requests) + 1)
        assert outcomes_of(messages) == ["failed: unknown", "pending", "pending"]
        async with connected(gateway, **options):
            await gateway.wait_received(3)
        assert texts_at(gateway) == ["lost", "second", "third"]


@pytest.mark.contract("O5", "O6")
async def test_nothing_leaves_in_a_pause_that_began_while_it_was_asked(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, max_in_flight=3, settle_timeout=0) as signal:
        gateway.script("GET /v1/health", ok().after(4))
        gateway.script_send(lost(), rate_limited(None).after(1), ok().after(2))
        messages = [await signal.send_message(f"+1555020{number}", f"{number}") for number in range(5)]
        await wait_done(messages)
        assert apart(gateway)[-2:] == [pytest.approx(61), pytest.approx(0)]


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_that_has_lost_a_gateway_leaves_one_message_in_doubt(
    autojump_clock: MockClock, status: int
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.reject(status, times=4, on="http")
        messages = await send_all(signal, list("abcd"))
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent", "sent"]


@pytest.mark.contract("B3", "O5")
async def test_retry_after_lengthens_the_wait_for_the_next_question(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(lost())
        gateway.script("GET /v1/health", error(503, retry_after=40), error(404, "x" * 1_100_000))
        messages = await send_all(signal, ["a", "b"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert apart(gateway) == [40]


@pytest.mark.contract("O4", "O5", "O7")
async def test_several_sends_ask_once_whether_a_gateway_is_there(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, max_in_flight=4) as signal:
        gateway.script_send(*[lost().after(1)] * 4)
        peers = [f"+1555020{number}" for number in range(8)]
        messages = [await signal.send_message(peer, peer) for peer in peers]
        await gateway.wait_received(4)
        gateway.hang_up(2, on="http")
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown"] * 4 + ["sent"] * 4
        asked = [request.time for request in gateway.requests if request.target == "/v1/health"]
        assert len(asked) == 3


@pytest.mark.contract("O5", "A1")
@pytest.mark.parametrize("answer", [lost(), hang(), error(504)])
@pytest.mark.parametrize("patience", [3, math.inf])
async def test_an_operation_whose_answer_was_lost_leaves_the_next_message_in_no_doubt(
    autojump_clock: MockClock, answer: SendAnswer, patience: float
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script(f"GET /v1/groups/{gateway.account}", answer)
        with trio.move_on_after(patience), pytest.raises(RequestFailed):
            await signal.list_groups(timeout=5)
        gateway.hang_up(on="http")
        await (await signal.send_message(PEER, "one")).wait()
        assert texts_at(gateway) == ["one"]


@asynccontextmanager
async def proxied(gateway: FakeGateway) -> AsyncGenerator[tuple[FaultProxy, SignalClient]]:
    """Connect a client to a gateway through a proxy that does harm to bytes."""
    async with open_fault_proxy("127.0.0.1", 8080, port=None, connect=gateway.connect) as proxy:
        async with connected(gateway, connect=proxy.connect) as signal:
            yield proxy, signal


@pytest.mark.contract("O5", "O9", "O11")
@pytest.mark.parametrize("harm", ["reset", "drop", "black_hole"])
async def test_a_way_to_the_gateway_that_breaks_while_it_sends_leaves_doubt(
    autojump_clock: MockClock, harm: str
) -> None:
    async with open_gateway(answer_delay=5) as gateway, proxied(gateway) as (proxy, signal):
        messages = await send_all(signal, ["in flight", "waits"])
        await gateway.wait_received(1)
        await trio.sleep(1)
        getattr(proxy, harm)()
        await trio.sleep(100)
        proxy.heal()
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert texts_at(gateway) == ["in flight", "waits"]


@pytest.mark.contract("O1", "O2", "O5")
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_wherever_the_bytes_of_a_send_are_cut_it_is_not_sent_twice(
    autojump_clock: MockClock, direction: Literal["up", "down"]
) -> None:
    seen: set[str] = set()
    async with open_gateway() as gateway, proxied(gateway) as (proxy, signal):
        for after in range(1, 400, 7):
            await signal.wait_state(CONNECTED)
            await trio.sleep(0.5)
            text = f"cut after {after}"
            posts = sum(request.path == "/v2/send" for request in gateway.requests)
            proxy.cut(after, direction)
            message = await signal.send_message(PEER, text)
            await wait_done([message])
            proxy.heal()
            seen.add(outcome_of(message))
            assert outcome_of(message) in {"failed: unknown", "sent"}
            assert texts_at(gateway).count(text) <= 1
            assert sum(request.path == "/v2/send" for request in gateway.requests) <= posts + 1
            if outcome_of(message) == "sent":
                assert text in texts_at(gateway)
    assert seen == {"failed: unknown", "sent"}


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("answer", "version", "outcome"),
    [
        (ok(), "0.100", "sent"),
        (ok(), "0.101", "sent"),
        (error(400, "Specified account does not exist"), "0.100", "failed: not_sent"),
        (error(400, "Couldn't process request - invalid request"), "0.100", "failed: not_sent"),
        (error(404, "page not found"), "0.100", "failed: not_sent"),
        (error(413, "too large"), "0.100", "failed: not_sent"),
        (partial([{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]), "0.101", "failed: not_sent"),
        (partial([{"number": PEER, "reason": "NETWORK_FAILURE"}]), "0.101", "failed: unknown"),
        (partial([{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]), "0.100", "sent"),
    ],
)
async def test_what_an_answer_means(
    autojump_clock: MockClock, answer: SendAnswer, version: str, outcome: str
) -> None:
    async with open_gateway(version=version) as gateway, connected(gateway) as signal:
        gateway.script_send(answer)
        message = await signal.send_message(PEER, "one")
        await wait_done([message])
        assert outcome_of(message) == outcome
        assert len(gateway.received) == 1
        if isinstance(message.outcome, Failed) and answer.text:
            assert isinstance(message.outcome.error, AnswerError)
            assert message.outcome.error.text == answer.text
        await (await signal.send_message(PEER, "two")).wait()


@pytest.mark.contract("O6")
async def test_members_of_a_group_who_did_not_get_it_are_named(autojump_clock: MockClock) -> None:
    group = "group." + base64.b64encode(base64.b64encode(bytes(32))).decode()
    async with open_gateway(version="0.101") as gateway, connected(gateway) as signal:
        gateway.script_send(
            partial([{"number": "+15550003", "uuid": "u-3", "reason": "UNREGISTERED_FAILURE"}])
        )
        sent = await (await signal.send_message(group, "hello all")).wait()
        assert [(who.recipient, who.reason) for who in sent.failed] == [("+15550003", "UNREGISTERED_FAILURE")]


# --- at_least_once ---


@pytest.mark.contract("O5", "O4")
@pytest.mark.parametrize("what", [name for name in DOUBT if name != "429"])
async def test_at_least_once_resends_in_place(autojump_clock: MockClock, what: str) -> None:
    async with open_gateway() as gateway, connected(gateway, delivery="at_least_once") as signal:
        gateway.script_send(DOUBT[what], DOUBT[what])
        messages = await send_all(signal, ["doubtful", "next"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 2
        seen = texts_at(gateway)
        assert seen == ["doubtful"] * (len(seen) - 1) + ["next"]
        assert gateway.statistics().most_sends_in_flight == 1


@pytest.mark.contract("O5", "O1")
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_at_least_once_gives_up_after_max_send_attempts(autojump_clock: MockClock, limit: int) -> None:
    options: dict[str, Any] = {"delivery": "at_least_once", "max_send_attempts": limit}
    async with open_gateway() as gateway, connected(gateway, **options) as signal:
        gateway.script_send(*[lost()] * limit)
        messages = await send_all(signal, ["doubtful", "next"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert texts_at(gateway) == ["doubtful"] * limit + ["next"]


@pytest.mark.contract("O5")
async def test_attempts_of_which_nothing_left_do_not_count_against_max_send_attempts(
    autojump_clock: MockClock,
) -> None:
    options: dict[str, Any] = {"delivery": "at_least_once", "max_send_attempts": 2}
    async with open_gateway() as gateway, connected(gateway, **options) as signal:
        gateway.script_send(*[daemon_down()] * 5, lost(), *[error(503)] * 5)
        message = await signal.send_message(PEER, "one")
        await message.wait()
        assert len(gateway.received) == 12


@pytest.mark.contract("O5", "O8", "O12")
@pytest.mark.parametrize("end", ["not_sent", "deadline", "withdrawn", "closed"])
async def test_a_doubt_is_told_whatever_comes_after_it(autojump_clock: MockClock, end: str) -> None:
    async with open_gateway() as gateway:
        gateway.script_send(lost(), error(400, "Specified account does not exist"))
        async with connected(gateway, delivery="at_least_once", close_timeout=0) as signal:
            deadline = trio.current_time() + 100 if end == "deadline" else float("inf")
            message = await signal.send_message(PEER, "one", deadline=deadline)
            await gateway.wait_received(1)
            await settled()
            if end != "not_sent":
                gateway.heal()
                gateway.refuse(None)
                gateway.drop()
            if end == "withdrawn":
                assert message.withdraw()
            if end != "closed":
                await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        check_ledger(signal, [message])


# --- rate limits of Signal ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize("tokens", [None, (), ("",)])
async def test_a_plain_rate_limit_pauses_the_queue_and_asks_for_nothing(
    autojump_clock: MockClock, tokens: tuple[str, ...] | None
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            gateway.script_send(rate_limited(tokens))
            messages = await send_all(signal, ["one", "two", "three"])
            await gateway.wait_received(1)
            await settled()
            assert signal.statistics().paused_until == 60
            await wait_done(messages)
            assert signal.statistics().paused_until is None
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent"]
        assert times_at(gateway) == [0, 60, 60]
        assert events == []


@pytest.mark.contract("O6")
async def test_a_challenge_is_told_once_and_with_its_tokens_only(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            gateway.script_send(rate_limited(("", "token-1", "token-2")))
            messages = await send_all(signal, ["one", "two"])
            await wait_done(messages)
            await settled()
        assert events == [ChallengeRequired(("token-1", "token-2"), gateway.account, 60)]
        error_ = failure(messages[0]).error
        assert isinstance(error_, AnswerError)
        assert error_.challenge_tokens == ("token-1", "token-2")


@pytest.mark.contract("O6")
async def test_the_pause_doubles_up_to_a_quarter_of_an_hour_and_a_success_resets_it(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[rate_limited(None)] * 7, ok(), rate_limited(None))
        messages = await send_all(signal, [str(n) for n in range(10)])
        await wait_done(messages)
        assert apart(gateway) == [60, 120, 240, 480, 900, 900, 900, 0, 60]
        assert outcomes_of(messages) == ["failed: unknown"] * 7 + ["sent", "failed: unknown", "sent"]


@pytest.mark.contract("O6")
@pytest.mark.parametrize(("asked", "pause"), [("5", 5), ("3600", 3600), ("soon", 60)])
async def test_retry_after_says_how_long_the_pause_is(
    autojump_clock: MockClock, asked: str, pause: float
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(rate_limited(None, retry_after=asked))
        await wait_done(await send_all(signal, ["one", "two"]))
        assert apart(gateway) == [pause]


@pytest.mark.contract("O6", "O10")
async def test_resume_sending_ends_the_pause(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(rate_limited(), rate_limited(), rate_limited())
        messages = await send_all(signal, ["one", "two", "three", "four"])
        await gateway.wait_received(2)
        await trio.sleep(10)
        assert signal.statistics().paused_until == 60 + 120
        signal.resume_sending()
        assert signal.statistics().paused_until is None
        await gateway.wait_received(3)
        assert trio.current_time() == 70
        await wait_done(messages)
        assert apart(gateway) == [60, 10, 60]  # resuming begins anew at 60 s


@pytest.mark.contract("O6")
async def test_a_pause_outlasts_a_reconnection(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(rate_limited(None))
        messages = await send_all(signal, ["one", "two"])
        await gateway.wait_received(1)
        await trio.sleep(10)
        gateway.drop()
        await wait_done(messages)
        assert apart(gateway) == [60]


@pytest.mark.contract("O6", "O5")
async def test_at_least_once_sends_a_limited_message_again_after_the_pause(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, delivery="at_least_once") as signal:
        gateway.script_send(rate_limited(None), rate_limited(None))
        messages = await send_all(signal, ["one", "two"])
        await wait_done(messages)
        assert texts_at(gateway) == ["one", "one", "one", "two"]
        assert apart(gateway) == [60, 120, 0]


@pytest.mark.contract("O6")
async def test_a_rate_limit_told_as_400_pauses_too(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(
            error(400, "Failed to send message due to rate limiting (Couldn't parse JSON for more details")
        )
        messages = await send_all(signal, ["one", "two"])
        await wait_done(messages)
        assert apart(gateway) == [60]
        assert outcomes_of(messages) == ["failed: unknown", "sent"]


# --- our own rate limit ---


async def test_by_default_a_hundred_leave_at_once_and_then_twenty_a_second(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, buffer_size=1000) as signal:
        await wait_done(await send_all(signal, [str(n) for n in range(200)]))
        times = times_at(gateway)
        assert times[:100] == [0] * 100
        for n, moment in enumerate(times[100:], start=1):
            assert moment == pytest.approx(n / 20)
        await trio.sleep(60)
        await wait_done(await send_all(signal, [str(n) for n in range(101)]))
        assert [round(t - trio.current_time(), 6) for t in times_at(gateway)[200:300]] == [-0.05] * 100


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 0), (RateLimit(2, per=1.0, burst=1), 29.5), (RateLimit(60, per=60.0, burst=10), 50)],
)
async def test_another_rate_limit_or_none(
    autojump_clock: MockClock, limit: RateLimit | None, expected: float
) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=limit) as signal:
        await wait_done(await send_all(signal, [str(n) for n in range(60)]))
        assert times_at(gateway)[-1] == pytest.approx(expected)


async def test_attempts_and_not_messages_are_what_is_limited(autojump_clock: MockClock) -> None:
    async with (
        open_gateway() as gateway,
        connected(gateway, rate_limit=RateLimit(1, per=100.0, burst=1)) as signal,
    ):
        gateway.script_send(daemon_down())
        await (await signal.send_message(PEER, "one")).wait()
        assert apart(gateway) == [pytest.approx(100)]


# --- deadlines ---


@pytest.mark.contract("O8", "O2")
async def test_a_message_that_expires_while_it_waits_is_never_sent(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway) as signal:
            now = trio.current_time()
            messages = [
                await signal.send_message(PEER, "first", deadline=now + 50),
                await signal.send_message(PEER, "second", deadline=now + 10),
                await signal.send_message(PEER, "third"),
                await signal.send_message(PEER, "fourth", deadline=now + 10_000),
            ]
            with pytest.raises(MessageDropped) as caught:
                await messages[1].wait()
            assert caught.value.reason is DropReason.EXPIRED
            assert trio.current_time() == 10
            assert outcomes_of(messages) == ["pending", "dropped: expired", "pending", "pending"]
            with pytest.raises(MessageDropped):
                await messages[0].wait()
            assert trio.current_time() == 50
            gateway.heal()
            await wait_done(messages)
            assert texts_at(gateway) == ["third", "fourth"]
            check_ledger(signal, messages)


@pytest.mark.contract("O8")
async def test_a_deadline_that_has_passed_already(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await signal.send_message(PEER, "late", deadline=trio.current_time())
        assert message.outcome == Dropped(DropReason.EXPIRED)
        await trio.sleep(5)
        assert len(gateway.received) == 0
        check_ledger(signal, [message])


@pytest.mark.contract("O8")
@pytest.mark.parametrize("why", ["retry", "pause", "rate-limit", "disconnected"])
async def test_a_message_that_expires_while_the_send_task_holds_it(
    autojump_clock: MockClock, why: str
) -> None:
    limit = RateLimit(1, per=1000.0, burst=1) if why == "rate-limit" else None
    async with open_gateway() as gateway, connected(gateway, rate_limit=limit) as signal:
        match why:
            case "retry":
                gateway.script_send(*[daemon_down()] * 100)
            case "pause":
                gateway.script_send(rate_limited(None))
                await wait_done(await send_all(signal, ["limited"]))
            case "rate-limit":
                await wait_done(await send_all(signal, ["uses the token"]))
            case _:
                gateway.refuse(None)
                gateway.drop()
                await signal.wait_state(DISCONNECTED)
        start = trio.current_time()
        message = await signal.send_message(PEER, "held", deadline=start + 20)
        behind = await signal.send_message(PEER, "behind", deadline=start + 10_000)
        await settled()
        assert signal.statistics().in_flight
        with pytest.raises(MessageDropped):
            await message.wait()
        assert trio.current_time() == start + 20
        seen = len([text for text in texts_at(gateway) if text == "held"])
        gateway.heal()
        signal.reconnect_now()
        await behind.wait()
        assert len([text for text in texts_at(gateway) if text == "held"]) == seen


@pytest.mark.contract("O8", "O1")
async def test_a_deadline_in_flight_has_no_say(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=30) as gateway, connected(gateway) as signal:
        message = await signal.send_message(PEER, "one", deadline=trio.current_time() + 5)
        await trio.sleep(10)
        assert message.outcome is None
        assert isinstance(await message.wait(), Sent)
        assert trio.current_time() == 30


@pytest.mark.contract("O8")
async def test_a_message_is_sent_right_up_to_its_deadline(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(10))
        messages = await send_all(signal, ["slow"])
        messages.append(await signal.send_message(PEER, "just in time", deadline=10.5))
        messages.append(await signal.send_message(PEER, "just too late", deadline=9.5))
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent", "sent", "dropped: expired"]


# --- withdrawal and cancelled waiting ---


@pytest.mark.contract("O12", "O2")
async def test_a_message_can_be_withdrawn_while_it_waits(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=10) as gateway, connected(gateway) as signal:
        messages = await send_all(signal, ["one", "two", "three"])
        await gateway.wait_received(1)
        assert not messages[0].withdraw()  # it is on its way
        assert messages[1].withdraw()
        assert not messages[1].withdraw()
        assert signal.statistics().buffer.waiting == 1
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent", "dropped: withdrawn", "sent"]
        assert not messages[0].withdraw()
        assert texts_at(gateway) == ["one", "three"]
        check_ledger(signal, messages)


@pytest.mark.contract("O12", "O9")
@pytest.mark.parametrize("why", ["retry", "disconnected"])
async def test_a_message_that_the_send_task_holds_can_be_withdrawn_and_the_next_one_goes_on(
    autojump_clock: MockClock, why: str
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        if why == "retry":
            gateway.script_send(daemon_down(), error(503, retry_after=200))
        else:
            gateway.refuse(None)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
        messages = await send_all(signal, ["one", "two"])
        await trio.sleep(20)
        assert messages[0].withdraw()
        await settled()
        assert (
            signal.statistics().buffer.waiting == 0
        )  # the send task has let go of it and taken the next one
        gateway.heal()
        signal.reconnect_now()
        start = trio.current_time()
        await wait_done(messages)
        assert outcomes_of(messages) == ["dropped: withdrawn", "sent"]
        check_ledger(signal, messages)
        # Its wait is about the gateway, so the next one waits it out; nothing else does.
        assert trio.current_time() - start <= (200 if why == "retry" else 0)


@pytest.mark.contract("O12")
async def test_cancelling_who_waits_for_an_outcome_does_nothing_to_the_message(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway(answer_delay=10) as gateway, connected(gateway) as signal:
        messages = await send_all(signal, ["one", "two"])
        for message in messages:
            with trio.move_on_after(3) as scope:
                await message.wait()
            assert scope.cancelled_caught
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent", "sent"]


@pytest.mark.contract("O12")
async def test_many_can_wait_for_one_outcome(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=1) as gateway, connected(gateway) as signal:
        message = await signal.send_message(PEER, "one")
        got: list[Sent] = []

        async def wait() -> None:
            got.append(await message.wait())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait)
        assert got == [message.outcome] * 10


# --- the buffer's policies, end to end ---


async def fill(signal: SignalClient, count: int) -> list[OutgoingMessage]:
    """One message for the send task to hold, and ``count`` that wait."""
    first = await signal.send_message(PEER, "held")
    await settled()
    return [first, *await send_all(signal, [f"m{n}" for n in range(count)])]


@pytest.mark.contract("O3", "O1")
async def test_drop_oldest(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_size=3) as signal:
            messages = await fill(signal, 5)
            words = ["pending"] + ["dropped: overflow"] * 2 + ["pending"] * 3
            assert outcomes_of(messages) == words
            assert signal.statistics().buffer.waiting == 3
            check_ledger(signal, messages)
            assert len([text for text in logged(caplog.records, logging.WARNING) if "overflow" in text]) == 2
            gateway.heal()
            await wait_done(messages)
            assert texts_at(gateway) == ["held", "m2", "m3", "m4"]


@pytest.mark.contract("O3")
async def test_every_drop_is_logged_without_what_it_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_size=1, close_timeout=0) as signal:
            held = await signal.send_message(PEER, "secret", id="closed")
            await settled()
            await signal.send_message(PEER, "secret", id="overflowed")
            (await signal.send_message(PEER, "secret", id="withdrawn")).withdraw()
            expired = await signal.send_message(PEER, "secret", id="expired", deadline=5)
            await wait_done([expired])
        assert outcome_of(held) == "dropped: closed"
        for word in ("overflow", "withdrawn", "expired", "closed"):
            assert [text for text in logged(caplog.records, logging.INFO) if f"dropped: {word}" in text]
        assert "secret" not in caplog.text
        assert PEER not in caplog.text


@pytest.mark.contract("O3", "O1")
async def test_drop_newest(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_size=3, overflow="drop_newest") as signal:
            messages = await fill(signal, 5)
            assert outcomes_of(messages) == ["pending"] * 4 + ["dropped: overflow"] * 2
            check_ledger(signal, messages)
            gateway.heal()
            await wait_done(messages)
            assert texts_at(gateway) == ["held", "m0", "m1", "m2"]


@pytest.mark.contract("O3", "O1")
async def test_error(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_size=3, overflow="error") as signal:
            messages = await fill(signal, 3)
            for _ in range(2):
                with pytest.raises(BufferFull):
                    await signal.send_message(PEER, "too many")
            check_ledger(signal, messages)
            assert messages[2].withdraw()
            messages.append(await signal.send_message(PEER, "fits now"))
            gateway.heal()
            await wait_done(messages)
            assert texts_at(gateway) == ["held", "m0", "m2", "fits now"]


@pytest.mark.contract("O3", "O4")
async def test_wait(autojump_clock: MockClock) -> None:
    async with (
        open_gateway(answer_delay=1) as gateway,
        connected(gateway, buffer_size=2, overflow="wait") as signal,
    ):
        accepted: list[tuple[float, OutgoingMessage]] = []
        for n in range(6):
            message = await signal.send_message(PEER, f"m{n}")
            accepted.append((trio.current_time(), message))
        assert [round(moment) for moment, _ in accepted] == [0, 0, 0, 1, 2, 3]
        await wait_done(message for _, message in accepted)
        assert texts_at(gateway) == [f"m{n}" for n in range(6)]


@pytest.mark.contract("O3", "O12")
async def test_cancelling_who_waits_for_room_accepts_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_size=1, overflow="wait") as signal:
            messages = await fill(signal, 1)
            with trio.move_on_after(5) as scope:
                await signal.send_message(PEER, "never accepted")
            assert scope.cancelled_caught
            check_ledger(signal, messages)
            gateway.heal()
            await wait_done(messages)
            messages.append(await signal.send_message(PEER, "last"))
            await wait_done(messages)
            assert texts_at(gateway) == ["held", "m0", "last"]


@pytest.mark.contract("O3")
async def test_the_buffer_is_bounded_in_bytes_too(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, buffer_bytes=10_000, rate_limit=None) as signal:
            messages = await fill(signal, 0)
            messages += [await signal.send_message(PEER, str(n) * 3000) for n in range(5)]
            assert (
                outcomes_of(messages) == ["pending"] + ["dropped: overflow"] * 3 + ["pending"] * 2
                or outcomes_of(messages) == ["pending"] + ["dropped: overflow"] * 2 + ["pending"] * 3
            )
            assert signal.statistics().buffer.waiting_bytes <= 10_000
            big = await signal.send_message(PEER, "", attachments=[bytes(9000)])
            assert big.outcome is None
            assert outcomes_of(messages) == ["pending"] + ["dropped: overflow"] * 5
            check_ledger(signal, [*messages, big])


@pytest.mark.contract("O3", "O1", "O4")
async def test_a_hundred_wait_by_default_and_the_oldest_go_first(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway) as signal:
            messages = await fill(signal, 250)
            assert signal.statistics().buffer.waiting == 100
            assert outcomes_of(messages).count("dropped: overflow") == 150
            gateway.heal()
            await wait_done(messages)
            assert texts_at(gateway) == ["held", *[f"m{n}" for n in range(150, 250)]]
            check_ledger(signal, messages)


# --- attachments, quotes, styles ---
#
# Files are read in threads, so these tests stop the clock (mock_clock) and do not let it jump: it would jump
# over the thread, and time limits would strike.


def files_at(gateway: FakeGateway, n: int = -1) -> list[tuple[str, bytes]]:
    """Give head and contents of each attachment of a send that came to the gateway."""
    found: list[tuple[str, bytes]] = []
    for item in gateway.received[n].body["base64_attachments"]:
        head, _, data = item.partition(",")
        found.append((head, base64.b64decode(data, validate=True)))
    return found


SIZES = [0, 1, 2, 3, 767, 3 * 256 * 1024 - 1, 3 * 256 * 1024, 3 * 256 * 1024 + 1, 2_000_003]


@pytest.mark.parametrize("size", SIZES)
async def test_attachments_arrive_byte_for_byte(mock_clock: MockClock, tmp_path: Path, size: int) -> None:
    content = bytes(n * 7 % 251 for n in range(size))
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    async with open_gateway() as gateway, connected(gateway) as signal:
        message = await signal.send_message(
            PEER, "see", attachments=[path, content, OutgoingAttachment(content, "notes.txt")]
        )
        await message.wait()
        assert files_at(gateway) == [
            ("data:image/png;filename=picture.png;base64", content),
            ("data:application/octet-stream;base64", content),
            ("data:text/plain;filename=notes.txt;base64", content),
        ]
        assert texts_at(gateway) == ["see"]


async def test_a_path_may_be_text_and_a_file_needs_no_words(mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "ünïcode name.jpeg"
    path.write_bytes(b"\xff\xd8")
    async with open_gateway() as gateway, connected(gateway) as signal:
        await (await signal.send_message(PEER, attachments=[str(path)])).wait()
        assert files_at(gateway) == [(f"data:image/jpeg;filename={path.name};base64", b"\xff\xd8")]
        assert texts_at(gateway) == [""]


@pytest.mark.contract("O5", "O4")
@pytest.mark.parametrize("harm", ["vanished", "grown", "shrunk", "became-a-folder"])
async def test_a_file_that_changed_while_the_message_waited_fails_it_as_not_sent(
    mock_clock: MockClock, tmp_path: Path, harm: str
) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(b"x" * 1000)
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway) as signal:
            messages = [await signal.send_message(PEER, "with file", attachments=[path])]
            messages += await send_all(signal, ["next"])
            await settled()
            match harm:
                case "vanished":
                    path.unlink()
                case "grown":
                    path.write_bytes(b"x" * 1001)
                case "shrunk":
                    path.write_bytes(b"x" * 999)
                case _:
                    path.unlink()
                    path.mkdir()
            gateway.heal()
            signal.reconnect_now()
            await wait_done(messages)
            assert outcomes_of(messages) == ["failed: not_sent", "sent"]
            assert "report.pdf" in str(failure(messages[0]).error)
            assert texts_at(gateway) == ["next"]


async def test_a_file_is_read_anew_for_each_attempt(mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(daemon_down(), error(503))
        message = await signal.send_message(PEER, attachments=[path])
        for n in (1, 2):
            await gateway.wait_received(n)
            await settled()
            mock_clock.jump(5)
        await message.wait()
        assert [files_at(gateway, n)[0][1] for n in range(3)] == [b"12345"] * 3


async def test_the_total_size_of_attachments_is_limited(mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(600))
    async with (
        open_gateway() as gateway,
        connected(gateway, max_attachment_bytes=1000) as signal,
    ):
        with pytest.raises(ConfigurationError, match="max_attachment_bytes"):
            await signal.send_message(PEER, attachments=[path, bytes(401)])
        await (await signal.send_message(PEER, attachments=[path, bytes(400)])).wait()
        assert [len(data) for _, data in files_at(gateway)] == [600, 400]


async def test_a_send_with_a_large_file_can_be_cut_by_the_gateway(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(cut_body(1_000_000))
        messages = [await signal.send_message(PEER, attachments=[bytes(3_000_000)])]
        messages += await send_all(signal, ["next"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]


async def test_a_gateway_that_stops_reading_a_large_file_does_not_hold_the_send_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.silence(1, on="http")
        messages = [await signal.send_message(PEER, attachments=[bytes(1_000_000)])]
        messages += await send_all(signal, ["next"])
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]


async def test_quote_and_style_reach_the_gateway(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.deliver(text="quoted", timestamp=1_795_302_000_123)
        received = await anext(signal.receive_messages())
        await (await signal.send_message(PEER, "**yes**", quote=received, styled=True)).wait()
        await (await signal.send_message(PEER, "no", quote=Quote(5, "+15550003", "text"))).wait()
        await (await signal.send_message(PEER, "plain")).wait()
        one, two, three = (send.body for send in gateway.received)
        assert (one["quote_timestamp"], one["quote_author"], one["quote_message"]) == (
            1_795_302_000_123,
            PEER,
            "quoted",
        )
        assert one["text_mode"] == "styled"
        assert (two["quote_timestamp"], two["quote_author"], two["quote_message"]) == (5, "+15550003", "text")
        assert "text_mode" not in two
        assert set(three) == {"number", "recipients", "message"}


@pytest.mark.parametrize(
    "text", ["ä" * 1000, "\x00\x01\n\t", '"\\', "\U0001d518\U0001f3f3\ufe0f\u200d\U0001f308", "x" * 500_000]
)
async def test_any_text_arrives_as_it_is(autojump_clock: MockClock, text: str) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await (await signal.send_message(PEER, text)).wait()
        assert texts_at(gateway) == [text]


# --- ids, statistics ---


@pytest.mark.contract("O1")
async def test_a_message_has_the_callers_id_or_one_of_its_own(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        named = await signal.send_message(PEER, "one", id="order-66")
        others = await send_all(signal, ["two", "three"])
        assert named.id == "order-66"
        assert len({named.id, *(message.id for message in others)}) == 3
        assert "order-66" in repr(named)


@pytest.mark.contract("O1")
async def test_the_books_balance_at_every_moment(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.2) as gateway:
        answers: list[Callable[[], SendAnswer]] = [
            ok,
            lost,
            daemon_down,
            lambda: error(400, "x"),
            lambda: slow(3),
        ]
        gateway.script_send(*(make() for _ in range(20) for make in answers))
        messages: list[OutgoingMessage] = []
        async with open_client(gateway, buffer_size=5, close_timeout=1) as signal:
            for n in range(100):
                deadline = trio.current_time() + 2 if n % 7 == 0 else float("inf")
                messages.append(await signal.send_message(PEER, str(n), deadline=deadline))
                if n % 11 == 0:
                    messages[-1].withdraw()
                if n % 30 == 29:
                    gateway.drop()
                await trio.sleep(0.3)
                check_ledger(signal, messages)
        check_ledger(signal, messages)
        assert signal.statistics().buffer.outgoing.pending == 0
        # Nothing but what was tried again for good reason reached the gateway twice.
        retried = {send.message for send in gateway.received if send.outcome == "daemon_down"}
        seen = texts_at(gateway)
        assert {text for text in seen if seen.count(text) > 1} <= retried


@pytest.mark.contract("O9", "O1", "O2")
@pytest.mark.parametrize("seconds", [0, 0.05, 0.1, 0.15, 0.5, 0.9, 1.0, 1.05, 3, 61])
async def test_cancelled_at_any_moment_every_message_has_one_outcome(
    autojump_clock: MockClock, seconds: float
) -> None:
    async with open_gateway(answer_delay=0.1) as gateway:
        gateway.script_send(ok(), daemon_down(), ok(), hang(), ok(), rate_limited())
        messages: list[OutgoingMessage] = []
        signal: SignalClient | None = None
        with trio.move_on_after(seconds):
            async with open_client(gateway) as signal:
                await signal.wait_state(CONNECTED)
                messages += await send_all(signal, [str(n) for n in range(10)])
                await trio.sleep_forever()
        assert signal is not None
        check_ledger(signal, messages)
        assert "pending" not in outcomes_of(messages)
        assert outcomes_of(messages).count("failed: unknown") <= 3
        for message in messages:
            if isinstance(message.outcome, Dropped):
                tried = [send for send in gateway.received if send.message == message.text]
                assert all(send.outcome == "daemon_down" for send in tried)

"""Who has the turn at a gateway that bears one request at a time, and what a time limit proves."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    AnswerError,
    Backoff,
    Certainty,
    ConnectionState,
    LinkLost,
    RequestFailed,
    Sent,
    SignalClient,
    open_signal_client,
)
from trio_signal.testing import FakeGateway, hang, open_fake_gateway, reply, slow

PEER = "+15550002"
EXACT = Backoff(jitter=False)
Kind = Literal["rest", "signal-cli"]


@asynccontextmanager
async def connected(there: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    defaults: dict[str, Any] = {"connect": there.connect, "backoff": EXACT, "receive": False}
    async with open_signal_client(there.url, there.account, **(defaults | options)) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        yield signal


# --- turns ---


@pytest.mark.contract("O7", "O10")
async def test_a_message_that_waited_for_its_turn_does_not_leave_into_a_link_that_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway, connected(gateway, receive=True) as signal:
        gateway.script("GET /v1/groups/+15550001", slow(20, reply(200, "[]")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signal.list_groups)
            await gateway.wait_requests(4)
            message = await signal.send_message(PEER, "hello")
            await trio.sleep(1)
            gateway.refuse(None)
            gateway.drop()
        await trio.sleep(10)
        assert signal.state is not ConnectionState.CONNECTED
        assert (message.outcome, len(gateway.received)) == (None, 0)
        gateway.heal()
        assert isinstance(await message.wait(), Sent)


@pytest.mark.contract("O7", "O8")
async def test_a_message_that_expires_while_something_else_has_the_turn_is_not_sent_late(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway, connected(gateway) as signal:
        gateway.script("GET /v1/groups/+15550001", slow(20, reply(200, "[]")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signal.list_groups)
            await gateway.wait_requests(4)
            late = await signal.send_message(PEER, "late", deadline=trio.current_time() + 5)
            withdrawn = await signal.send_message(PEER, "withdrawn")
            good = await signal.send_message(PEER, "good")
            await trio.sleep(6)
            assert withdrawn.withdraw()
        await good.wait()
        assert [send.message for send in gateway.received] == ["good"]
        assert str(late.outcome) == "Dropped(reason=<DropReason.EXPIRED: 'expired'>)"


@pytest.mark.contract("O7")
async def test_looking_for_the_account_is_a_request_like_any_other(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script("GET /v1/accounts", slow(3, reply(200, '["+15550001"]')))
        async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect) as signal:
            await gateway.wait_requests(2)
            assert await signal.list_groups() == ()
            asked = [request.path for request in gateway.requests]
            assert asked[:2] == ["/v1/about", "/v1/accounts"]
            assert "/v1/groups/+15550001" in asked[2:]
            assert trio.current_time() >= 3


# --- what a limit proves ---


class Blackhole:
    """A way to a gateway on which, for a while, connecting takes for ever."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self.is_open = True

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Connect, or wait for ever."""
        if not self.is_open:
            await trio.sleep_forever()
        return await self._gateway.connect(host, port)


@pytest.mark.contract("O5", "O6", "O11")
@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_a_time_limit_that_ends_before_there_was_a_connection_proves_that_nothing_left(
    autojump_clock: MockClock, kind: Kind
) -> None:
    async with open_fake_gateway(kind=kind, port=None) as gateway:
        way = Blackhole(gateway)
        async with connected(gateway, connect=way.connect, send_timeout=5, ping_interval=1000) as signal:
            await trio.sleep(60)
            way.is_open = False
            message = await signal.send_message(PEER, "hello")
            await trio.sleep(30)
            assert message.outcome is None
            with pytest.raises(RequestFailed) as caught:
                await signal.list_groups(timeout=3)
            assert caught.value.certainty is Certainty.NOT_SENT
            way.is_open = True
            assert isinstance(await message.wait(), Sent)
            assert len(gateway.received) == 1


@pytest.mark.contract("A1")
async def test_a_token_that_does_not_come_in_time_proves_it_too(autojump_clock: MockClock) -> None:
    async def token() -> str:
        await trio.sleep_forever()

    async with (
        open_fake_gateway(port=None) as gateway,
        open_signal_client(
            gateway.url, gateway.account, gateway="rest", connect=gateway.connect, token=token
        ) as signal,
    ):
        with pytest.raises(RequestFailed) as caught:
            await signal.create_group("x", [], timeout=3)
        assert caught.value.certainty is Certainty.NOT_SENT
        assert gateway.statistics().requests == 0


@pytest.mark.contract("A1")
async def test_an_error_names_its_own_cause_and_not_what_the_caller_was_handling(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway, connected(gateway) as signal:
        path = "POST /v1/groups/+15550001"
        gateway.script(path, reply(413, '{"error":"too large"}'))
        gateway.script(path, hang())
        with pytest.raises(RequestFailed) as caught:
            await signal.create_group("first", [])
        assert isinstance(caught.value.error, AnswerError)
        try:
            raise caught.value
        except RequestFailed:
            with pytest.raises(RequestFailed) as again:
                await signal.create_group("second", [], timeout=3)
        assert isinstance(again.value.error, LinkLost)
        assert again.value.certainty is Certainty.UNKNOWN


@pytest.mark.contract("A1")
@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_what_is_asked_stands_in_no_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, kind: Kind
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_fake_gateway(kind=kind, port=None) as gateway, connected(gateway) as signal:
        what = (
            "version" if kind == "signal-cli" else "POST /v1/register/+15550001/verify/SECRETPIN?token=SECRET"
        )
        with pytest.raises(RequestFailed) if kind == "rest" else trio.CancelScope():
            await signal.call(what)
        await (await signal.send_message(PEER, "hello")).wait()
        if kind == "rest":
            assert gateway.requests[-2].target == what.partition(" ")[2]
    assert "was sent as" in caplog.text
    assert "SECRET" not in caplog.text
    assert "15550001" not in caplog.text

"""Clients that only send: they take nobody's messages, and know all the same whether the gateway is there."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Backoff,
    ConfigurationError,
    ConnectionState,
    GatewayRefused,
    LinkLost,
    Reason,
    Sent,
    SignalClient,
    UnknownAccount,
    open_signal_client,
)
from trio_signal.hub import serve_hub
from trio_signal.testing import FakeGateway, open_fake_gateway

from .hubs import open_hub

PEER = "+15550002"
EXACT = Backoff(jitter=False)
Kind = Literal["rest", "signal-cli"]


@asynccontextmanager
async def open_sender(there: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    defaults: dict[str, Any] = {"connect": there.connect, "backoff": EXACT, "receive": False}
    async with open_signal_client(there.url, there.account, **(defaults | options)) as signal:
        yield signal


@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_it_sends_and_opens_no_stream_of_messages(autojump_clock: MockClock, kind: Kind) -> None:
    async with open_fake_gateway(kind=kind, port=None) as gateway, open_sender(gateway) as signal:
        message = await signal.send_message(PEER, "the cellar is wet")
        assert isinstance(await message.wait(), Sent)
        await trio.sleep(120)
        assert signal.state is ConnectionState.CONNECTED
        assert gateway.handshakes == 0
        assert await signal.list_groups() == ()


async def test_what_waits_at_the_daemon_goes_on_waiting(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(kind="signal-cli", port=None) as gateway:
        gateway.deliver(text="for the bot")
        async with open_sender(gateway) as signal:
            await (await signal.send_message(PEER, "hello")).wait()
        assert gateway.statistics().kept == 1
        async with open_sender(gateway, receive=True, receive_mode="on-connection") as bot:
            async for message in bot.receive_messages():
                assert message.text == "for the bot"
                break


@pytest.mark.contract("L4", "O4")
@pytest.mark.parametrize("kind", ["rest", "signal-cli"])
async def test_an_outage_is_noticed_and_survived(autojump_clock: MockClock, kind: Kind) -> None:
    async with open_fake_gateway(kind=kind, port=None) as gateway, open_sender(gateway) as signal:
        changes = signal.state_changes()
        await signal.wait_state(ConnectionState.CONNECTED)
        gateway.kill()
        died = trio.current_time()
        await signal.wait_state(ConnectionState.DISCONNECTED)
        assert trio.current_time() - died <= 15
        messages = [await signal.send_message(PEER, f"{number}") for number in range(3)]
        await trio.sleep(60)
        await gateway.start()
        for message in messages:
            await message.wait()
        assert [send.message for send in gateway.received] == ["0", "1", "2"]
        reasons = [(await anext(changes)).reason for _ in range(4)]
        assert reasons[3] is Reason.NO_ANSWER
        assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("L4")
async def test_a_gateway_that_says_nothing_is_left(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(kind="signal-cli", port=None) as gateway, open_sender(gateway) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        gateway.silence(1, on="any")
        with trio.fail_after(15.01):
            await signal.wait_state(ConnectionState.DISCONNECTED)
        assert "within 5 s" in str(signal.statistics().last_error)


@pytest.mark.contract("C6")
async def test_what_is_wrong_for_good_ends_it(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, accounts=["+15550009"]) as gateway:
        with pytest.raises(UnknownAccount):
            async with open_sender(gateway):
                await trio.sleep_forever()
    async with open_fake_gateway(kind="signal-cli", port=None, require_header=("X-Key", "1")) as gateway:
        with pytest.raises(GatewayRefused, match="HTTP 401"):
            async with open_sender(gateway, gateway="signal-cli"):
                await trio.sleep_forever()
    async with open_fake_gateway(port=None) as gateway:
        with pytest.raises(LinkLost, match="/api/v1/check with HTTP 404"):
            async with open_sender(gateway, gateway="signal-cli"):
                await trio.sleep_forever()


async def test_on_a_hub(autojump_clock: MockClock) -> None:
    async with open_hub(secured=False) as scene:

        async def dial(_host: str, _port: int) -> trio.abc.Stream:
            return await scene.dial()

        async with open_signal_client(
            f"http://{scene.host}", scene.gateway.account, connect=dial, receive=False
        ) as signal:
            assert isinstance(await (await signal.send_message(PEER, "hello")).wait(), Sent)
            await trio.sleep(60)
            assert signal.state is ConnectionState.CONNECTED
            assert len(scene.hub.connections) == 0


async def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match="^receive: "):
        async with open_signal_client("http://127.0.0.1", PEER, receive="no"):  # type: ignore[arg-type]
            pytest.fail("the block must not begin")


async def test_a_challenge_is_told_all_the_same(autojump_clock: MockClock) -> None:
    from trio_signal import ChallengeRequired
    from trio_signal.testing import rate_limited

    async with open_fake_gateway(kind="signal-cli", port=None) as gateway, open_sender(gateway) as signal:
        gateway.script_send(rate_limited(("solve-me",)))
        await signal.send_message(PEER, "hello")
        async for event in signal.events():
            assert isinstance(event, ChallengeRequired)
            assert event.tokens == ("solve-me",)
            break


async def test_a_hub_has_nothing_to_hand_out_on_such_a_client(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, open_sender(gateway) as signal:
        with pytest.raises(ConfigurationError, match=r"^signal: .*receive=False"):
            await serve_hub(signal, port=0)

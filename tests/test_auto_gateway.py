"""``gateway="auto"``: a hub where it says that it is one, a REST gateway everywhere else."""

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.hub_peer import ACCOUNT, EPOCH, Line, answer, hello, message, refuses, says, scripted
from tests.hubs import limits, open_hub
from tests.scene import (
    CONNECTED,
    EXACT,
    PEER,
    connected,
    gaps_in,
    logged,
    open_client,
    open_gateway,
    record,
    saved,
    settled,
    texts_at,
    texts_in,
    wall_ms,
    wall_time,
)
from trio_signal import (
    ConfigurationError,
    Cursor,
    GapReason,
    GatewayRefused,
    LinkLost,
    Reason,
    SignalClient,
    StateChange,
    UnknownAccount,
    WrongGatewayMode,
    open_signal_client,
)
from trio_signal.testing import hang, reply


async def take(signal: SignalClient, count: int) -> list[Any]:
    events = signal.events()
    return [await anext(events) for _ in range(count)]


async def test_it_is_what_one_gets_without_asking(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene:
        assert scene.listener is not None
        async with open_signal_client(
            "http://127.0.0.1:8080",
            ACCOUNT,
            connect=scene.listener.connect,
            token=scene.token(),
            wall_clock=wall_time,
        ) as signal:
            await signal.wait_state(CONNECTED)
            scene.gateway.deliver(text="hello")
            (received,) = await take(signal, 1)
            assert saved(signal.cursor).position == (scene.hub.log.epoch, 1)
            await (await signal.send_message(received.reply_to, "answer")).wait()
            assert texts_at(scene.gateway) == ["answer"]


async def test_a_gateway_is_asked_once_what_it_is(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.drop()
        await gateway.wait_handshakes(2)
        await settled()
        assert [request.target for request in gateway.requests].count("/v1/about") == 1
        assert saved(signal.cursor).position is None


@pytest.mark.contract("C6")
async def test_a_hub_is_asked_once_what_it_is(autojump_clock: MockClock) -> None:
    scripts = says(hello(7), close=1000), says(hello(7))
    async with scripted(*scripts) as hub, hub.client(gateway="auto") as signal:
        await signal.wait_state(CONNECTED)
        await trio.sleep(30)
        await signal.wait_state(CONNECTED)
        asked = [head.split(b" ")[1] for head in hub.heads]
        assert asked == [
            b"/v1/about",
            b"/status",
            b"/websocket",
            f"/websocket?since=7&epoch={EPOCH}".encode(),
        ]


@pytest.mark.contract("C6")
async def test_a_gateway_that_hides_what_it_is_is_taken_for_a_rest_gateway(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", hang())
        async with connected(gateway) as signal:
            gateway.deliver(text="hello")
            assert texts_in(await take(signal, 1)) == ["hello"]
        assert len(logged(caplog.records, logging.WARNING)) == 1


@pytest.mark.contract("C6")
@pytest.mark.parametrize("mode", ['"json-rpc"', '"json-rpc-native"', "null"])
async def test_a_gateways_own_modes_are_a_rest_gateways(autojump_clock: MockClock, mode: str) -> None:
    async with open_gateway() as gateway:
        gateway.script("GET /v1/about", reply(200, f'{{"mode":{mode}}}'))
        async with connected(gateway):
            pass


@pytest.mark.contract("C6")
async def test_a_wrong_mode_is_named_as_before(autojump_clock: MockClock) -> None:
    async with open_gateway(mode="normal") as gateway:
        with trio.fail_after(60), pytest.raises(WrongGatewayMode, match="MODE=json-rpc"):
            async with open_client(gateway):
                await trio.sleep_forever()


@pytest.mark.contract("C6", "B3")
async def test_a_hub_that_cannot_be_asked_now_is_asked_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    changes: list[StateChange] = []
    async with scripted(says(hello(7))) as hub:
        hub.about = answer(503, Retry_After=20)
        async with hub.client(gateway="auto") as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(10)
            hub.about = answer(200, {"mode": "trio-signal-hub"})
            await signal.wait_state(CONNECTED)
            assert trio.current_time() == 20
            assert changes[1].reason is Reason.ATTEMPT_FAILED
            assert isinstance(changes[1].error, LinkLost)


async def test_a_token_callable_is_asked_once_for_each_attempt(autojump_clock: MockClock) -> None:
    asked: list[float] = []

    def token() -> str:
        asked.append(trio.current_time())
        return "t"

    scripts = refuses(503), refuses(503), says(hello(7))
    async with scripted(*scripts) as hub, hub.client(gateway="auto", token=token) as signal:
        await signal.wait_state(CONNECTED)
        assert len(asked) == 3


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_hub_that_did_not_tell_what_it_is_is_asked_again(
    autojump_clock: MockClock, status: int
) -> None:
    def token() -> str:
        if trio.current_time() >= 3:
            hub.about = answer(200, {"mode": "trio-signal-hub"})
        return "t"

    async with scripted(hub_only) as hub:
        hub.about = answer(status)
        async with hub.client(gateway="auto", token=token) as signal:
            await signal.wait_state(CONNECTED)
            assert hub.targets[-1] == "/websocket"


@pytest.mark.contract("C6")
async def test_a_hub_that_wants_credentials_before_it_tells_says_so(autojump_clock: MockClock) -> None:
    async with scripted(hub_only) as hub:
        hub.about = answer(401)
        with trio.fail_after(60), pytest.raises(GatewayRefused, match="HTTP 401"):
            async with hub.client(gateway="auto"):
                await trio.sleep_forever()


@pytest.mark.contract("C6")
async def test_a_path_at_which_there_is_nothing_ends_the_client(autojump_clock: MockClock) -> None:
    async with scripted(refuses(404)) as hub:
        hub.about = answer(404)
        with trio.fail_after(60), pytest.raises(LinkLost, match="path of the URL"):
            async with hub.client(gateway="auto"):
                await trio.sleep_forever()


async def hub_only(line: Line) -> None:
    """Have nothing at the path of a REST gateway."""
    script = says(hello(7)) if line.target.startswith("/websocket") else refuses(404)
    await script(line)


@pytest.mark.contract("C6")
async def test_a_hub_of_another_account_is_told(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(7))) as hub:
        hub.status = answer(200, {"account": "+15559999"})
        with trio.fail_after(60), pytest.raises(UnknownAccount):
            async with hub.client(gateway="auto"):
                await trio.sleep_forever()


# --- A cursor goes with the account, not with the kind of gateway. ---


@pytest.mark.contract("R3", "R5")
async def test_a_cursor_of_a_hub_is_a_time_to_a_rest_gateway(autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    cursor = Cursor(wall_ms() - 60_000, EPOCH, 7)
    async with open_gateway() as gateway, open_client(gateway, cursor=cursor) as signal:
        assert signal.cursor == cursor
        await signal.wait_state(CONNECTED)
        (gap,) = gaps_in(await take(signal, 1))
        assert (gap.reason, gap.since, gap.first) == (GapReason.GATEWAY, cursor.time, None)
        assert saved(signal.cursor).position is None
        assert saved(signal.cursor).time >= gap.until


@pytest.mark.contract("R3", "R5")
async def test_a_cursor_of_a_rest_gateway_is_a_time_to_a_hub(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as direct:
        gateway.deliver(text="one")
        await take(direct, 1)
        cursor = saved(direct.cursor)
    await trio.sleep(60)
    async with scripted(says(hello(7), message(8))) as hub, hub.client(cursor=cursor) as signal:
        gap, first = await take(signal, 2)
        assert (gap.reason, gap.since) == (GapReason.GATEWAY, cursor.time)
        assert texts_in([first]) == ["m8"]
        assert saved(signal.cursor).position == (EPOCH, 8)


@pytest.mark.parametrize("gateway", ["hubs", "", None, "HUB", 5])
async def test_a_kind_that_there_is_not_is_named(autojump_clock: MockClock, gateway: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^gateway: .*'auto', 'rest', 'signal-cli', 'hub'"):
        async with open_signal_client("http://127.0.0.1", PEER, gateway=gateway, backoff=EXACT):
            pass

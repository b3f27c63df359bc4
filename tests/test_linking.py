"""Linking a gateway to somebody's phone, and asking a gateway without a client."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from trio_signal import Certainty, ConfigurationError, RequestFailed, Unsupported
from trio_signal._asking import open_gateway as open_route
from trio_signal._linking import link_device
from trio_signal._operations import ListAccounts, ListGroups
from trio_signal.testing import FakeGateway, error, hang, reply, rpc_error, rpc_result

from .scene import Dialler, open_gateway

OWN: Final = "+15550001"
RAW: Final = "GET /v1/qrcodelink/raw"


@pytest.fixture(params=["rest", "signal-cli"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def dialled(kind: str) -> AsyncGenerator[tuple[FakeGateway, Dialler]]:
    """Open a gateway, and see in the end that nothing is left open and nobody has listened."""
    async with open_gateway(kind=kind) as gateway:
        dialler = Dialler(gateway)
        yield gateway, dialler
        assert dialler.left_open == 0
        assert gateway.handshakes == 0


def methods(gateway: FakeGateway) -> list[str]:
    """Return what was asked for: methods, or else paths."""
    return [
        json.loads(request.body)["method"] if request.path == "/api/v1/rpc" else request.path
        for request in gateway.requests
    ]


@pytest.mark.contract("A1")
@pytest.mark.parametrize("given", ["auto", "its-own"])
async def test_a_gateway_is_linked(kind: str, given: str, autojump_clock: MockClock) -> None:
    uris: list[str] = []
    choice: Any = "auto" if given == "auto" else kind
    async with dialled(kind) as (gateway, dialler):
        if kind == "signal-cli":
            gateway.script("RPC finishLink", rpc_result({"number": OWN, "uuid": None}))
        number = await link_device(
            gateway.url, "my bot", on_uri=uris.append, gateway=choice, connect=dialler.connect
        )
        asked = [method for method in methods(gateway) if "about" not in method]
        assert asked == (["/v1/qrcodelink/raw"] if kind == "rest" else ["startLink", "finishLink"])
    # The REST gateway does not tell.
    assert number == (None if kind == "rest" else OWN)
    assert len(uris) == 1
    assert uris[0].startswith("sgnl://linkdevice?")


async def test_the_phone_knows_the_device_by_its_name(kind: str, autojump_clock: MockClock) -> None:
    async with dialled(kind) as (gateway, dialler):
        await link_device(gateway.url, "my bot", on_uri=str, connect=dialler.connect)
        last = gateway.requests[-1]
        assert "my%20bot" in last.target or b"my bot" in last.body


async def test_the_callback_may_be_async(kind: str, autojump_clock: MockClock) -> None:
    shown: list[str] = []

    async def show(uri: str) -> None:
        await trio.sleep(1)
        shown.append(uri)

    async with dialled(kind) as (gateway, dialler):
        await link_device(gateway.url, "my bot", on_uri=show, connect=dialler.connect)
    assert len(shown) == 1


async def test_what_the_callback_raises_ends_it(kind: str, autojump_clock: MockClock) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    async with dialled(kind) as (gateway, dialler):
        with pytest.raises(ZeroDivisionError):
            await link_device(gateway.url, "my bot", on_uri=fail, connect=dialler.connect)
        assert "finishLink" not in methods(gateway)


@pytest.mark.contract("A1")
async def test_a_code_that_nobody_scans_is_given_up(autojump_clock: MockClock) -> None:
    async with dialled("signal-cli") as (gateway, dialler):
        gateway.script("RPC finishLink", hang())
        start = trio.current_time()
        with pytest.raises(RequestFailed) as caught:
            await link_device(gateway.url, "my bot", on_uri=str, connect=dialler.connect, timeout=30)
        assert caught.value.certainty is Certainty.UNKNOWN
        assert round(trio.current_time() - start, 3) == 30


@pytest.mark.contract("A1")
async def test_what_the_gateway_says_is_passed_on(kind: str, autojump_clock: MockClock) -> None:
    async with dialled(kind) as (gateway, dialler):
        gateway.script(RAW, error(400, "Please provide a name for the device"))
        gateway.script("RPC startLink", rpc_error(-3, "Link request error: Connection closed!"))
        with pytest.raises(RequestFailed, match=r"name for the device|Connection closed!"):
            await link_device(gateway.url, "my bot", on_uri=never, connect=dialler.connect)


def never(_: str) -> None:
    pytest.fail("there is nothing to show")


@pytest.mark.contract("A1")
async def test_cancelled_it_leaves_nothing_open(kind: str, autojump_clock: MockClock) -> None:
    async with dialled(kind) as (gateway, dialler):
        gateway.script(RAW, hang())
        gateway.script("RPC finishLink", hang())
        with trio.move_on_after(10) as scope:
            await link_device(gateway.url, "my bot", on_uri=str, connect=dialler.connect)
        assert scope.cancelled_caught


@pytest.mark.contract("A1")
async def test_a_hub_links_nothing(autojump_clock: MockClock) -> None:
    async with dialled("rest") as (gateway, dialler):
        with pytest.raises(Unsupported, match="own URL"):
            await link_device(gateway.url, "my bot", on_uri=never, gateway="hub", connect=dialler.connect)
        assert not gateway.requests


WRONG: Final[list[tuple[str, dict[str, Any]]]] = [
    ("url", {"url": "gateway"}),
    ("device_name", {"device_name": None}),
    ("device_name", {"device_name": " "}),
    ("on_uri", {"on_uri": None}),
    ("gateway", {"gateway": "signald"}),
    ("headers", {"headers": "X"}),
    ("token", {"token": 5}),
    ("ssl_context", {"ssl_context": True}),
    ("connect", {"connect": 5}),
    ("timeout", {"timeout": 0}),
]


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("argument", "wrong"), WRONG, ids=[f"{n}-{name}" for n, (name, _) in enumerate(WRONG)]
)
async def test_a_wrong_argument_is_named_and_nothing_is_asked(
    argument: str, wrong: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with dialled("rest") as (gateway, dialler):
        right: dict[str, Any] = {
            "url": gateway.url,
            "device_name": "my bot",
            "on_uri": never,
            "connect": dialler.connect,
        }
        with pytest.raises(ConfigurationError) as caught:
            await link_device(**(right | wrong))
        assert caught.value.argument == argument
        assert not dialler.streams


# --- A gateway for who only asks. ---


async def test_what_kind_it_is_is_found_out_at_once(kind: str, autojump_clock: MockClock) -> None:
    async with dialled(kind) as (gateway, dialler):
        async with open_route(gateway.url, account=OWN, connect=dialler.connect) as route:
            assert await route.operate(ListAccounts(), account=None, limit=5) == (OWN,)
            assert await route.operate(ListGroups(), account=OWN, limit=5) == ()


async def test_with_a_kind_nothing_is_asked_at_once(autojump_clock: MockClock) -> None:
    async with dialled("rest") as (gateway, dialler):
        async with open_route(gateway.url, gateway="rest", connect=dialler.connect):
            pass
        assert not gateway.requests


async def test_a_token_goes_with_what_is_asked(autojump_clock: MockClock) -> None:
    async with dialled("rest") as (gateway, dialler):
        async with open_route(gateway.url, token=lambda: "secret", connect=dialler.connect) as route:
            await route.operate(ListAccounts(), account=None, limit=5)
        assert {request.headers["authorization"] for request in gateway.requests} == {"Bearer secret"}


@pytest.mark.contract("A1")
@pytest.mark.parametrize("away", ["down", "unreachable", "busy"])
async def test_what_cannot_be_asked_what_it_is_fails(away: str, autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        connect = gateway.connect if away != "unreachable" else endless
        if away == "down":
            gateway.kill()
        if away == "busy":
            gateway.script("GET /v1/about", reply(503, ""))
        start = trio.current_time()
        with pytest.raises(RequestFailed) as caught:
            async with open_route(gateway.url, connect=connect, timeout=7):
                pytest.fail("nobody was there")
        assert caught.value.certainty is Certainty.NOT_SENT
        # The rest of the time is kept for the answer.
        assert trio.current_time() - start == pytest.approx(0.9 * 7 if away == "unreachable" else 0)


async def endless(_: str, __: int) -> trio.abc.Stream:
    await trio.sleep_forever()
    raise AssertionError


async def test_the_account_is_checked(autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with open_route("http://127.0.0.1:1", account="Ada"):
            pytest.fail("it was taken")
    assert caught.value.argument == "account"

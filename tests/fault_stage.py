"""A gateway of each kind for one cell of the fault matrix, and the middlebox in front of it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import trio

from tests.fault_kinds import Kind
from tests.fault_wire import Middlebox, Names
from tests.hubs import KEY
from tests.scene import CONNECTED, wall_time
from trio_signal import open_signal_client
from trio_signal.hub import Authenticator, Hub, HubLimits, serve_hub
from trio_signal.testing import FakeGateway, open_fake_gateway


@asynccontextmanager
async def open_stage(
    kind: Kind, names: Names, name: str, random: Random
) -> AsyncGenerator[tuple[FakeGateway, Middlebox]]:
    """Open a gateway and a middlebox, known by a name. Of a hub the gateway is the one behind it."""
    async with _gateway(kind) as (gateway, port), trio.open_nursery() as nursery:
        names.boxes[name] = box = Middlebox(name, port, nursery, random, greets=kind == "hub")
        try:
            yield gateway, box
        finally:
            box.shut()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _gateway(kind: Kind) -> AsyncGenerator[tuple[FakeGateway, int]]:
    options: dict[str, Any] = {"start_time": wall_time()}
    if kind == "hub":
        async with open_fake_gateway(port=None, **options) as gateway, _hub(gateway) as hub:
            yield gateway, hub.address[1]
    else:
        async with open_fake_gateway(kind=kind, receive_mode="on-connection", **options) as gateway:
            assert gateway.port is not None
            yield gateway, gateway.port


@asynccontextmanager
async def _hub(gateway: FakeGateway) -> AsyncGenerator[Hub]:
    """Open a hub whose own way to its gateway is memory, since that is not what is under test."""
    key = Authenticator(KEY, clock=wall_time)
    async with (
        open_signal_client(
            gateway.url,
            gateway.account,
            gateway="rest",
            connect=gateway.connect,
            wall_clock=wall_time,
            rate_limit=None,
            close_timeout=0,
        ) as signal,
        trio.open_nursery() as nursery,
    ):
        await signal.wait_state(CONNECTED)
        # No heartbeat comes at the moment at which a client gives up waiting for its pong.
        limits = HubLimits(heartbeat_interval=20)
        serve = partial(serve_hub, signal, key=key, limits=limits, wall_clock=wall_time)
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()

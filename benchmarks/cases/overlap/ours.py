"""Incidents of a link between trio_signal and its own fake gateway, on a virtual clock."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio
from trio.testing import MockClock

from trio_signal import (
    Backoff,
    ConnectionState,
    Gap,
    ReceivedMessage,
    SignalClient,
    StateChange,
    open_signal_client,
)
from trio_signal.gateways.rest import RestGateway
from trio_signal.testing import START_TIME, FakeGateway, FaultProxy, open_fake_gateway, open_fault_proxy

from ...contender import Gateway, Measurement, Params, Work

#: Seconds between two messages.
_PACE: Final = 0.25

#: When it happens at the earliest, how long before that messages begin to come, and how long after it all is
#: over, in seconds.
_WHEN: Final = 40.0
_BEFORE: Final = 3.0
_AFTER: Final = 90.0


def run(_gateway: Gateway, params: Params) -> Measurement:
    """Live through the incidents; the old link is closed once the new one stands."""
    figures: dict[str, float] = {}
    for kind in _KINDS:
        worlds = [_live(kind, seed) for seed in range(params["incidents"])]
        for name in ("lost", "gaps", "away"):
            figures[f"{kind}_{name}"] = sum(getattr(world, name) for world in worlds) / len(worlds)
    return Measurement(figures, Work.of([]))


def without(gateway: Gateway, params: Params) -> Measurement:
    """Live through the incidents; the old link is closed before the new one is made."""
    RestGateway.allows_overlap = False  # type: ignore[method-assign, assignment]  # in a process of its own
    return run(gateway, params)


@dataclass
class _World:
    """One client and what happens to it."""

    random: Random
    gateway: FakeGateway
    old: FaultProxy
    new: FaultProxy
    emitted: int = 0
    received: set[str | None] = field(default_factory=set[str | None])
    gaps: int = 0
    away: float = 0.0
    is_old: bool = True

    @property
    def lost(self) -> int:
        """How many messages never came."""
        return self.emitted - len(self.received)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Dial by the way of the day."""
        return await (self.old if self.is_old else self.new).connect(host, port)


def _live(kind: str, seed: int) -> _World:
    return trio.run(_run, kind, seed, clock=MockClock(autojump_threshold=0))


async def _run(kind: str, seed: int) -> _World:
    async with (
        _open_world(Random(seed)) as world,
        open_signal_client(
            world.gateway.url,
            world.gateway.account,
            connect=world.connect,
            backoff=Backoff(random=Random(seed)),
            wall_clock=lambda: START_TIME + trio.current_time(),
        ) as client,
        trio.open_nursery() as nursery,
    ):
        await client.wait_state(ConnectionState.CONNECTED)
        nursery.start_soon(_take, world, client)
        nursery.start_soon(_watch, world, client)
        # The gateway sends a ping each 54 s; when the last one came decides when a stall is noticed.
        when = _WHEN + world.random.uniform(0, 54)
        await trio.sleep_until(when - _BEFORE)
        nursery.start_soon(_pace, world, when + _AFTER)
        await trio.sleep_until(when)
        await _KINDS[kind](world)
        await trio.sleep_until(when + _AFTER + 5)
        nursery.cancel_scope.cancel()
    return world


@asynccontextmanager
async def _open_world(random: Random) -> AsyncGenerator[_World]:
    async with (
        open_fake_gateway(port=None) as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as old,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as new,
    ):
        yield _World(random, gateway, old, new)


async def _take(world: _World, client: SignalClient) -> None:
    async for event in client.events():
        world.gaps += isinstance(event, Gap)
        if isinstance(event, ReceivedMessage):
            world.received.add(event.text)


async def _watch(world: _World, client: SignalClient) -> None:
    lost: StateChange | None = None
    async for change in client.state_changes():
        if change.previous is ConnectionState.CONNECTED:
            lost = change
        elif change.current is ConnectionState.CONNECTED and lost is not None:
            world.away += change.time - lost.time


async def _pace(world: _World, end: float) -> None:
    while True:
        world.gateway.deliver(text=str(world.emitted))
        world.emitted += 1
        await trio.sleep(_PACE)
        if trio.current_time() >= end:
            return


async def _pause(world: _World) -> None:
    world.old.black_hole()
    await trio.sleep(world.random.uniform(16, 30))
    world.old.heal()


async def _pause_old(world: _World) -> None:
    world.is_old = False
    await _pause(world)


async def _die(world: _World) -> None:
    world.is_old = False
    world.old.black_hole()
    await trio.lowlevel.checkpoint()


async def _stall(world: _World) -> None:
    world.gateway.stall()
    await trio.sleep(70)
    world.gateway.unstall()


_KINDS: Final[Mapping[str, Callable[[_World], Awaitable[None]]]] = {
    "path": _pause,
    "link": _pause_old,
    "dead": _die,
    "stall": _stall,
}

"""Broadcasting with trio_signal's hub."""

import time
from dataclasses import replace
from functools import partial
from typing import Final

import trio
import trio.testing

from trio_signal import ConnectionState, open_signal_client
from trio_signal.hub import ConnectionManager, HubLimits, MessageLog, serve_hub
from trio_signal.hub._protocol import text_frame

from ...contender import Gateway, Measurement, Params
from ...traffic import ACCOUNT, broadcasts
from .phases import Phases
from .quiet import Quiet

#: After so many deliveries others get a turn, as the hub does it with what comes from the gateway.
_TURN: Final = 256


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast with ``ConnectionManager.broadcast()``, beside a client that is connected to the gateway."""
    phases = Phases(gateway, params)
    measurement = trio.run(_run, gateway, phases, HubLimits(max_connections=phases.clients))
    append = _time_append(broadcasts(len(phases.messages)))
    return replace(measurement, figures={**measurement.figures, "append": append})


def idle(gateway: Gateway, params: Params) -> Measurement:
    """Have the hub tell each client where the log ends, and ping it."""
    quiet = Quiet(gateway, params)
    limits = HubLimits(max_connections=quiet.clients, heartbeat_interval=quiet.beat)
    return trio.run(_run, gateway, quiet, limits)


async def _run(gateway: Gateway, phases: Phases | Quiet, limits: HubLimits) -> Measurement:
    texts = broadcasts(len(phases.messages))
    async with open_signal_client(gateway.url, ACCOUNT) as signal, trio.open_nursery() as nursery:
        await signal.wait_state(ConnectionState.CONNECTED)
        hub = await nursery.start(partial(serve_hub, signal, limits=limits))
        await trio.to_thread.run_sync(phases.attend, hub.address[1])
        await trio.testing.wait_all_tasks_blocked()
        for part, pause in phases:
            await _broadcast(hub.connections, texts[part], pause)
            await trio.to_thread.run_sync(phases.wait)
        nursery.cancel_scope.cancel()
    return phases.measurement()


async def _broadcast(manager: ConnectionManager, texts: list[tuple[int, bytes]], pause: float) -> None:
    work = 0
    await trio.lowlevel.checkpoint()
    for stamp, envelope in texts:
        manager.broadcast(envelope, timestamp=stamp)
        work += len(manager)
        if pause or work >= _TURN:
            await trio.sleep(pause)
            work = 0


def _time_append(texts: list[tuple[int, bytes]]) -> float:
    """Return how many µs of CPU it takes to number, keep and encode a text that is sent to nobody."""
    log, repeats = MessageLog(), 20
    started = time.process_time()
    for _ in range(repeats):
        for stamp, envelope in texts:
            text_frame(log.append(envelope, timestamp=stamp).body)
    return (time.process_time() - started) / (repeats * len(texts)) * 1e6

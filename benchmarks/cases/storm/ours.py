"""The storm at trio_signal's hub."""

import time
from functools import partial

import trio

from trio_signal import ConnectionState, open_signal_client
from trio_signal.hub import HubLimits, MessageLog, serve_hub

from ...contender import Gateway, Measurement, Params
from ...traffic import ACCOUNT, broadcasts
from .weather import Weather


def run(gateway: Gateway, params: Params) -> Measurement:
    """Broadcast on schedule, whoever asks meanwhile."""
    weather = Weather(gateway, params)
    limits = HubLimits(
        max_connections=weather.live + params["clients"],
        max_pending=params["clients"],
        recovery_rate=1e6,
        recovery_burst=1_000_000,
        max_recoveries=4 * params["clients"],
    )
    return trio.run(_run, gateway, weather, limits)


async def _run(gateway: Gateway, weather: Weather, limits: HubLimits) -> Measurement:
    texts = broadcasts(len(weather.messages))
    log = MessageLog(max_messages=len(texts))
    async with open_signal_client(gateway.url, ACCOUNT) as signal, trio.open_nursery() as nursery:
        await signal.wait_state(ConnectionState.CONNECTED)
        hub = await nursery.start(partial(serve_hub, signal, log=log, limits=limits))
        for stamp, envelope in texts[: weather.missed]:
            hub.connections.broadcast(envelope, timestamp=stamp)
        await trio.to_thread.run_sync(weather.attend, hub.address[1])
        for number, due in weather.schedule(hub.address[1]):
            await trio.sleep(max(0.0, due - time.time()))
            stamp, envelope = texts[number]
            hub.connections.broadcast(envelope, timestamp=stamp)
        measurement = await trio.to_thread.run_sync(weather.measurement)
        nursery.cancel_scope.cancel()
    return measurement

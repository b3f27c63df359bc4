"""Reconnecting with trio-websocket in a hand-written loop: connect, read, sleep, again."""

import json
import statistics
from typing import Any

import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT


def run(gateway: Gateway, params: Params) -> Measurement:
    """Go through the outages, woken by a cancelled sleep."""
    return trio.run(_run, gateway, params)


class _Receiver:
    """Reads for as long as it is let, over any number of connections."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._send, self.messages = trio.open_memory_channel[tuple[float, Any]](100)
        self.is_connected = trio.Event()
        self.is_asleep = trio.Event()
        self._sleep = trio.CancelScope()

    async def run(self) -> None:
        """Connect, read, sleep, again."""
        while True:
            try:
                await self._read()
            except (OSError, HandshakeError, ConnectionClosed):
                with trio.CancelScope() as self._sleep:
                    self.is_asleep.set()
                    await trio.sleep(60)

    def wake(self) -> None:
        """End the present sleep."""
        self.is_asleep = trio.Event()
        self._sleep.cancel()

    async def _read(self) -> None:
        gateway, resource = self._gateway, f"/v1/receive/{ACCOUNT}"
        async with open_websocket(gateway.host, gateway.port, resource, use_ssl=False) as websocket:
            connected = trio.current_time()
            self.is_connected.set()
            while True:
                message = json.loads(await websocket.get_message())
                await self._send.send((connected, message))


async def _run(gateway: Gateway, params: Params) -> Measurement:
    items: list[Item] = []
    connected: list[float] = []
    first: list[float] = []
    outages = params["outages"]
    gateway.order("prepare", outages)
    receiver = _Receiver(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        await receiver.is_connected.wait()
        watch = Stopwatch()
        for _ in range(outages):
            await trio.to_thread.run_sync(gateway.order, "outage", params["down"])
            await receiver.is_asleep.wait()
            returned = trio.current_time()
            receiver.wake()
            opened, message = await receiver.messages.receive()
            first.append(trio.current_time() - returned)
            connected.append(opened - returned)
            envelope = message["envelope"]
            data = envelope["dataMessage"]
            group = data.get("groupInfo")
            group_id = group["groupId"] if group else None
            items.append((data["timestamp"], envelope["sourceNumber"], group_id, data["message"]))
        watch.stop()
        nursery.cancel_scope.cancel()
    figures = {
        "connected": statistics.median(connected) * 1e3,
        "message": statistics.median(first) * 1e3,
        "cpu": watch.cpu_seconds / outages * 1e6,
    }
    return Measurement(figures, Work.of(items))

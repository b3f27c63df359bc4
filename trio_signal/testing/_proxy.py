"""A proxy that does harm to the bytes between a client and a gateway, below HTTP and WebSocket."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

import trio

from ._door import Door, lone_exception
from ._streams import MemoryStream, Transport, end_at_once

Direction = Literal["up", "down"]
"""Up is from the client to the gateway."""

Connect = Callable[[str, int], Awaitable[Transport]]

_CHUNK = 16 * 1024
_IN_TRANSIT = 64
_CONNECT_DEADLINE = 10.0
_MEMORY_PORT = 8081


class _Flow:
    """One direction, over all connections."""

    def __init__(self) -> None:
        self.bytes = 0
        self.hole: trio.Event | None = None
        self.cut_after: int | None = None

    async def pass_hole(self) -> None:
        """Wait while nothing gets through."""
        await trio.lowlevel.checkpoint()
        while self.hole is not None:
            await self.hole.wait()

    def heal(self) -> None:
        hole, self.hole, self.cut_after = self.hole, None, None
        if hole is not None:
            hole.set()

    def admit(self, data: bytes) -> bytes:
        """Shorten ``data`` where the cut comes within."""
        if self.cut_after is not None:
            data = data[: self.cut_after]
            self.cut_after -= len(data)
        return data

    @property
    def is_cut(self) -> bool:
        return self.cut_after == 0


class _Pair:
    """The two connections that one client needs: its own and the one to the gateway."""

    def __init__(self, client: Transport) -> None:
        self.client = client
        self.gateway: Transport | None = None
        self.scope = trio.CancelScope()

    def end(self, *, reset: bool = False) -> None:
        end_at_once(self.client, reset=reset)
        if self.gateway is not None:
            end_at_once(self.gateway, reset=reset)
        self.scope.cancel()


class FaultProxy:
    """A TCP-level proxy in front of any gateway, made by `open_fault_proxy`.

    Every setting applies at once to the connections that are open, as well as to new ones.
    """

    def __init__(self, target: Callable[[], Awaitable[Transport]], host: str) -> None:
        self.latency = 0.0
        """Seconds that bytes take, each way; those on the way do not wait for each other."""
        self.slice_size: int | None = None
        """Bytes that are passed on in one write at most; 1 for one-byte slices, None for as they come."""
        self._target = target
        self._host = host
        self._pairs: dict[_Pair, None] = {}  # in order of arrival, so that one run is like the other
        self._flows: dict[Direction, _Flow] = {"up": _Flow(), "down": _Flow()}
        self.door: Door
        """Where clients come in. For the proxy's own use."""

    @property
    def port(self) -> int | None:
        """The TCP port; None when it is reached in memory only."""
        return self.door.port

    @property
    def url(self) -> str:
        """The base URL to give to a client in place of the gateway's; a base path is the caller's to add."""
        return f"http://{self._host}:{self.port or _MEMORY_PORT}"

    @property
    def bytes_up(self) -> int:
        """Bytes passed on to the gateway."""
        return self._flows["up"].bytes

    @property
    def bytes_down(self) -> int:
        """Bytes passed on to clients."""
        return self._flows["down"].bytes

    @property
    def connections(self) -> int:
        """Connections of clients that are open now."""
        return len(self._pairs)

    async def connect(self, host: str, port: int) -> MemoryStream:
        """Open one connection to the proxy in memory. A checkpoint.

        Raises:
            ConnectionRefusedError: the proxy is told to refuse.
        """
        return await self.door.connect(host, port)

    def black_hole(self, direction: Direction | Literal["both"] = "both") -> None:
        """Let nothing through in ``direction``, not even an end, until `heal`.

        Then what was sent meanwhile arrives, since TCP sends again. New connections are accepted, and as dead
        as the others.
        """
        for flow in self._chosen(direction):
            if flow.hole is None:
                flow.hole = trio.Event()

    def cut(self, after: int, direction: Direction = "down") -> None:
        """End every connection, both ends of it, once ``after`` more bytes have passed in ``direction``."""
        if after < 0:
            raise ValueError(f"after must be 0 or more bytes, not {after}")
        if after == 0:
            self.drop()
        else:
            self._flows[direction].cut_after = after

    def drop(self) -> None:
        """End every connection at once, without a reset. What was on the way is lost."""
        for pair in tuple(self._pairs):
            pair.end()

    def reset(self) -> None:
        """Reset every connection at once, towards both sides."""
        for pair in tuple(self._pairs):
            pair.end(reset=True)

    def refuse(self, times: int | None = None) -> None:
        """Refuse new connections until `heal`, or only the next ``times``; see `FakeGateway.refuse`."""
        self.door.refuse(times)

    def heal(self) -> None:
        """End every fault; `latency` and `slice_size` go back to none."""
        self.latency, self.slice_size = 0.0, None
        self.door.heal()
        for flow in self._flows.values():
            flow.heal()

    async def serve(self, client: Transport) -> None:
        """Carry one client's connection. For the proxy's own use."""
        pair = _Pair(client)
        self._pairs[pair] = None
        try:
            await trio.lowlevel.checkpoint()
            # Where the gateway refuses, the client sees its connection end, as behind any TCP forwarder.
            with pair.scope, suppress(OSError):
                await self._carry(pair)
        finally:
            del self._pairs[pair]
            pair.end()

    async def _carry(self, pair: _Pair) -> None:
        with trio.move_on_after(_CONNECT_DEADLINE):
            pair.gateway = await self._target()
        if pair.gateway is None:
            await trio.lowlevel.checkpoint()
            return
        async with trio.open_nursery() as nursery:
            for source, sink, flow in (
                (pair.client, pair.gateway, self._flows["up"]),
                (pair.gateway, pair.client, self._flows["down"]),
            ):
                writing, reading = trio.open_memory_channel[tuple[float, bytes]](_IN_TRANSIT)
                nursery.start_soon(self._read, pair, source, flow, writing)
                nursery.start_soon(self._write, pair, sink, flow, reading)

    async def _read(
        self,
        pair: _Pair,
        source: Transport,
        flow: _Flow,
        onward: trio.MemorySendChannel[tuple[float, bytes]],
    ) -> None:
        await trio.lowlevel.checkpoint()
        try:
            while True:
                await flow.pass_hole()
                data = bytes(await source.receive_some(_CHUNK))
                await onward.send((trio.current_time() + self.latency, data))
                if not data:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await flow.pass_hole()
            pair.end(reset=True)

    async def _write(
        self,
        pair: _Pair,
        sink: Transport,
        flow: _Flow,
        onward: trio.MemoryReceiveChannel[tuple[float, bytes]],
    ) -> None:
        await trio.lowlevel.checkpoint()
        try:
            while True:
                due, data = await onward.receive()
                await trio.sleep_until(due)
                await flow.pass_hole()
                if not data:
                    await sink.send_eof()
                    return
                await self._write_slices(sink, flow, data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pair.end(reset=True)

    async def _write_slices(self, sink: Transport, flow: _Flow, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        size = self.slice_size or len(data)
        for at in range(0, len(data), size):
            await flow.pass_hole()
            admitted = flow.admit(data[at : at + size])
            await sink.send_all(admitted)
            flow.bytes += len(admitted)
            if flow.is_cut:
                flow.cut_after = None
                self.drop()
                return

    def _chosen(self, direction: Direction | Literal["both"]) -> list[_Flow]:
        return [flow for name, flow in self._flows.items() if direction in (name, "both")]


@asynccontextmanager
async def open_fault_proxy(
    target_host: str,
    target_port: int,
    *,
    host: str = "127.0.0.1",
    port: int | None = 0,
    connect: Connect | None = None,
) -> AsyncGenerator[FaultProxy]:
    """Run a `FaultProxy` for the length of an ``async with``; leaving it closes everything at once.

    Args:
        target_host: the gateway's host: an IP address, where the test runs under a virtual clock.
        target_port: the gateway's port.
        host: the IP address to listen on.
        port: the TCP port, 0 for any; None for memory only, reached through `FaultProxy.connect`.
        connect: how to reach the gateway, such as `FakeGateway.connect`; default: TCP.

    Raises:
        OSError: it cannot listen there.
    """
    dial: Connect = connect or trio.open_tcp_stream
    async with lone_exception(), trio.open_nursery() as nursery:
        proxy = FaultProxy(lambda: dial(target_host, target_port), host)
        proxy.door = Door(proxy.serve, nursery, host=host, port=port)
        proxy.door.open()
        try:
            yield proxy
        finally:
            proxy.door.shut()
            proxy.drop()
            nursery.cancel_scope.cancel()

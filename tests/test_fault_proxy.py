"""The fault proxy: what it does to the bytes between a client and a gateway, in memory and by port."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_signal.testing import (
    FakeGateway,
    FaultProxy,
    MemoryStream,
    memory_connection,
    open_fake_gateway,
    open_fault_proxy,
)

REFUSED = "refused|all attempts to connect"


class Far:
    """The far side of a proxy: it keeps the ends of the connections that are dialled to it."""

    def __init__(self) -> None:
        self.streams: list[MemoryStream] = []
        self.reachable = True

    async def connect(self, host: str, port: int) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise ConnectionRefusedError(f"{host}:{port}")
        near, far = memory_connection()
        self.streams.append(far)
        return near


@asynccontextmanager
async def proxied(transport: str) -> AsyncGenerator[tuple[FaultProxy, Far, MemoryStream | trio.SocketStream]]:
    """Open a proxy in front of a `Far`, and one connection through it."""
    far = Far()
    port = None if transport == "memory" else 0
    async with (
        open_fault_proxy("127.0.0.1", 1, port=port, connect=far.connect) as proxy,
        await dial(proxy, transport) as stream,
    ):
        while not far.streams:
            await trio.testing.wait_all_tasks_blocked()
        yield proxy, far, stream


async def dial(proxy: FaultProxy, transport: str) -> MemoryStream | trio.SocketStream:
    if transport == "memory":
        return await proxy.connect("127.0.0.1", 8081)
    return await trio.open_tcp_stream("127.0.0.1", proxy.port or 0)


@pytest.fixture(params=["memory", "port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test that dials runs in memory and by port."""
    kind: str = request.param
    return kind


async def arrives(stream: trio.abc.Stream, expected: bytes, seconds: float = 1) -> bool:
    """Whether exactly ``expected`` comes within ``seconds``, and nothing else by then."""
    data = b""
    with trio.move_on_after(seconds):
        while chunk := await stream.receive_some():
            data += chunk
    return data == expected


async def ended(stream: trio.abc.Stream, seconds: float = 1) -> bool:
    with trio.fail_after(seconds):
        return await stream.receive_some() == b""


async def test_passes_bytes_and_ends_both_ways(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        await stream.send_all(b"up")
        await far.streams[0].send_all(b"down!")
        assert await arrives(far.streams[0], b"up")
        assert await arrives(stream, b"down!")
        assert (proxy.bytes_up, proxy.bytes_down, proxy.connections) == (2, 5, 1)
        await stream.send_eof()
        assert await ended(far.streams[0])
        await far.streams[0].send_all(b"still here")
        assert await arrives(stream, b"still here")
        await far.streams[0].aclose()
        assert await ended(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.connections == 0


async def test_latency_delays_each_way_without_adding_up(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.latency = 5
        start = trio.current_time()
        for at in range(3):
            await trio.sleep_until(start + at)
            await stream.send_all(b"x")
        for at in range(3):
            assert await far.streams[0].receive_some() == b"x"
            assert trio.current_time() - start == pytest.approx(5 + at)


async def test_one_byte_slices(autojump_clock: MockClock) -> None:
    async with proxied("memory") as (proxy, far, stream):
        proxy.slice_size = 1
        await stream.send_all(b"x" * 100)
        reads = 0
        received = b""
        while len(received) < 100:
            received += await far.streams[0].receive_some()
            reads += 1
        assert received == b"x" * 100
        assert reads > 30


@pytest.mark.parametrize("direction", ["up", "down", "both"])
async def test_black_hole(direction: str, transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        match direction:
            case "up":
                proxy.black_hole("up")
            case "down":
                proxy.black_hole("down")
            case _:
                proxy.black_hole()
        proxy.black_hole("up" if direction == "up" else "down")  # twice is once
        await stream.send_all(b"ping")
        await far.streams[0].send_all(b"pong")
        assert await arrives(far.streams[0], b"ping" if direction == "down" else b"", 1e6)
        assert await arrives(stream, b"pong" if direction == "up" else b"", 1e6)
        proxy.heal()
        assert await arrives(far.streams[0], b"" if direction == "down" else b"ping")
        assert await arrives(stream, b"" if direction == "up" else b"pong")


async def test_a_black_hole_hides_ends_and_resets(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.black_hole()
        await stream.aclose()
        assert await arrives(far.streams[0], b"", 1e6)
        assert proxy.connections == 1
        async with await dial(proxy, transport) as late:
            await late.send_all(b"dead too")
            assert await arrives(late, b"", 1e6)
        proxy.heal()
        assert await ended(far.streams[0])


async def test_a_reset_waits_for_the_end_of_a_black_hole(autojump_clock: MockClock) -> None:
    async with proxied("memory") as (proxy, far, stream):
        proxy.black_hole()
        assert isinstance(stream, MemoryStream)
        stream.reset()
        assert await arrives(far.streams[0], b"", 1000)
        proxy.heal()
        with pytest.raises(trio.BrokenResourceError):
            await far.streams[0].receive_some()


@pytest.mark.parametrize("after", [0, 1, 7])
async def test_cut(after: int, transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.cut(after)
        if after:
            await stream.send_all(b"does not count")
            await far.streams[0].send_all(b"0123")
            await far.streams[0].send_all(b"456789")
        assert await arrives(stream, b"0123456789"[:after])
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.connections == 0
        async with await dial(proxy, transport) as again:
            await again.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert await arrives(far.streams[1], b"x")


async def test_cut_up(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.cut(3, "up")
        await far.streams[0].send_all(b"does not count")
        await stream.send_all(b"012345")
        assert await arrives(far.streams[0], b"012")
        with pytest.raises(ValueError, match="after must be 0 or more"):
            proxy.cut(-1)


async def test_drop_and_reset(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.drop()
        assert await ended(stream)
        assert await ended(far.streams[0])
        async with await dial(proxy, transport) as again:
            await trio.sleep(1)
            proxy.reset()
            for end in (again, far.streams[1]):
                with pytest.raises(trio.BrokenResourceError):
                    await end.receive_some()


async def test_a_reset_on_one_side_reaches_the_other(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (_proxy, far, stream):
        far.streams[0].reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_refuse(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, stream):
        proxy.refuse()
        with pytest.raises(OSError, match=REFUSED):
            await dial(proxy, transport)
        await stream.send_all(b"open ones stay")
        assert await arrives(far.streams[0], b"open ones stay")
        proxy.heal()
        await (await dial(proxy, transport)).aclose()


async def test_a_gateway_that_refuses(transport: str, autojump_clock: MockClock) -> None:
    async with proxied(transport) as (proxy, far, _stream):
        far.reachable = False
        async with await dial(proxy, transport) as refused:
            assert await ended(refused)
        far.reachable = True
        async with await dial(proxy, transport) as again:
            assert await arrives(again, b"")


async def test_a_gateway_that_never_accepts(autojump_clock: MockClock) -> None:
    async def never(host: str, port: int) -> MemoryStream:
        await trio.sleep_forever()
        raise AssertionError

    async with (
        open_fault_proxy("127.0.0.1", 1, port=None, connect=never) as proxy,
        await proxy.connect("", 0) as stream,
    ):
        assert await ended(stream, 11)
        assert trio.current_time() == pytest.approx(10)


async def test_back_pressure_reaches_the_sender(autojump_clock: MockClock) -> None:
    async with proxied("memory") as (proxy, _far, stream):
        sent = 0
        with trio.move_on_after(10):
            while True:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        assert proxy.bytes_up <= 65536
        assert sent < 3_000_000


async def test_leaving_closes_everything_at_once(transport: str, autojump_clock: MockClock) -> None:
    async with open_fault_proxy("127.0.0.1", 1, connect=Far().connect) as proxy:
        stream = await dial(proxy, transport)
        await stream.send_all(b"x")
        await trio.sleep(1)
        proxy.black_hole()
    assert await ended(stream)
    await stream.aclose()
    with pytest.raises(OSError, match=REFUSED):
        await dial(proxy, transport)


async def test_in_front_of_a_gateway_by_tcp(autojump_clock: MockClock) -> None:
    async with (
        open_fake_gateway() as gateway,
        open_fault_proxy("127.0.0.1", gateway.port or 0) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        proxy.latency = 1
        proxy.slice_size = 1
        assert (await client.get("/v1/accounts")).json() == [gateway.account]
        assert trio.current_time() == pytest.approx(2)


async def test_the_fixture(
    fault_proxy: FaultProxy, fake_gateway: FakeGateway, autojump_clock: MockClock
) -> None:
    async with httpx.AsyncClient(base_url=fault_proxy.url) as client:
        assert (await client.get("/v1/health")).status_code == 204
    assert len(fake_gateway.requests) == 1
    assert fault_proxy.bytes_up > 0

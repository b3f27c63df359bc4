"""A gateway behind a hub whose HTTP answers are written byte by byte, and what a file comes as.

Its WebSocket is the fake gateway's.
"""

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import trio

from tests.hubs import Scene, Visitor, serving
from tests.scene import connected, open_gateway
from trio_signal.testing import FakeGateway, MemoryStream, memory_connection

ACCOUNT: Final = "+15550001"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came, and when."""

    method: str
    path: str
    body: bytes
    time: float = field(default_factory=trio.current_time)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


#: Answers one request by writing to the stream; the connection ends afterwards.
Script: TypeAlias = Callable[[MemoryStream], Awaitable[None]]


def answer(status: int, value: Any = None, *, after: float = 0.0) -> Script:
    """Answer with JSON."""

    async def write(stream: MemoryStream) -> None:
        await trio.sleep(after)
        body = b"" if value is None else json.dumps(value).encode()
        await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (status, len(body)))
        await stream.send_all(b"Connection: close\r\nContent-Type: application/json\r\n\r\n" + body)

    return write


def bytes_(*pieces: bytes | float) -> Script:
    """Write these bytes; a number is a pause in seconds."""

    async def write(stream: MemoryStream) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                await stream.send_all(piece)
            else:
                await trio.sleep(piece)

    return write


async def hang(_: MemoryStream) -> None:
    """Say nothing until the other side has enough."""
    await trio.sleep_forever()


async def lose(_: MemoryStream) -> None:
    """End the connection instead of an answer."""


class Upstream:
    """What the hub's client is connected to."""

    def __init__(self, gateway: FakeGateway, nursery: trio.Nursery) -> None:
        self._gateway = gateway
        self._nursery = nursery
        self.asked: list[Asked] = []
        self.scripts: dict[str, deque[Script]] = {}
        self.refuses = False
        self.at_once = self.most_at_once = 0

    def script(self, path: str, *scripts: Script) -> None:
        """Answer the next requests to a path like this."""
        self.scripts.setdefault(path, deque()).extend(scripts)

    def asked_at(self, prefix: str) -> list[Asked]:
        """Return the requests to paths that begin so."""
        return [asked for asked in self.asked if asked.path.startswith(prefix)]

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise ConnectionRefusedError("the gateway is away")
        ours, theirs = memory_connection()
        self._nursery.start_soon(self._serve, theirs, host, port)
        return ours

    async def _serve(self, stream: MemoryStream, host: str, port: int) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                data = bytearray()
                while (end := data.find(b"\r\n\r\n")) < 0:
                    data += await _some(stream)
                head = bytes(data[:end]).decode("latin-1")
                if "upgrade: websocket" in head.lower():
                    await _join(stream, await self._gateway.connect(host, port), bytes(data))
                    return
                size = next(
                    (int(line[15:]) for line in head.lower().split("\r\n") if line[:15] == _LENGTH), 0
                )
                while len(data) < end + 4 + size:
                    data += await _some(stream)
                method, target, _ = head.partition("\r\n")[0].split(" ")
                await self._answer(stream, Asked(method, target, bytes(data[end + 4 :])))

    async def _answer(self, stream: MemoryStream, asked: Asked) -> None:
        self.asked.append(asked)
        path = asked.path.partition("?")[0]
        scripts = self.scripts.get(path)
        write = scripts.popleft() if scripts else _USUAL.get(path, answer(204))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_end, stream, nursery.cancel_scope)
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await write(stream)
                nursery.cancel_scope.cancel()
        finally:
            self.at_once -= 1


_LENGTH: Final = "content-length:"
_USUAL: Final = {
    "/v1/about": answer(200, {"mode": "json-rpc", "version": "0.101"}),
    "/v1/accounts": answer(200, [ACCOUNT]),
    "/v2/send": answer(201, [{"timestamp": "17"}]),
}


async def _some(stream: MemoryStream) -> bytes:
    data = bytes(await stream.receive_some())
    if not data:
        raise trio.BrokenResourceError("it has ended")
    return data


async def _wait_end(stream: MemoryStream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    scope.cancel()


async def _join(one: MemoryStream, other: MemoryStream, first: bytes) -> None:
    """Pass everything on in both directions until either ends."""
    await other.send_all(first)

    async def pass_on(source: MemoryStream, sink: MemoryStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some():
                await sink.send_all(data)
        scope.cancel()

    async with other, trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, one, other, nursery.cancel_scope)
        nursery.start_soon(pass_on, other, one, nursery.cancel_scope)


@asynccontextmanager
async def open_hub_on_upstream(
    client: dict[str, Any] | None = None, **options: Any
) -> AsyncGenerator[tuple[Scene, Upstream]]:
    """Open a hub in memory, on the virtual clock, whose gateway answers as a test says."""
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        upstream = Upstream(gateway, nursery)
        more: dict[str, Any] = {"connect": upstream.connect} | (client or {})
        async with (
            connected(gateway, **more) as signal,
            serving(gateway, signal, **options) as scene,
        ):
            yield scene, upstream
        nursery.cancel_scope.cancel()


async def head_of(visitor: Visitor) -> tuple[int, dict[str, str]]:
    """Read the head of an answer."""
    while (end := visitor.buffer.find(b"\r\n\r\n")) < 0:
        assert await visitor.more(), "the connection ended before an answer"
    first, *lines = bytes(visitor.buffer[:end]).decode("latin-1").split("\r\n")
    del visitor.buffer[: end + 4]
    pairs = [line.partition(": ") for line in lines]
    return int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}


async def chunks_of(visitor: Visitor) -> tuple[bytes, bool]:
    """Read a body in chunks; return what came of it, and whether it came to its end."""
    body = bytearray()
    while True:
        while (end := visitor.buffer.find(b"\r\n")) < 0:
            if not await visitor.more():
                return bytes(body), False
        size = int(visitor.buffer[:end], 16)
        while len(visitor.buffer) < end + size + 4:
            if not await visitor.more():
                return bytes(body + visitor.buffer[end + 2 :]), False
        body += visitor.buffer[end + 2 : end + 2 + size]
        assert visitor.buffer[end + 2 + size : end + 4 + size] == b"\r\n"
        del visitor.buffer[: end + 4 + size]
        if not size:
            return bytes(body), True

"""A hub on a fake gateway, in memory or on a real port, and peers that write any bytes at it."""

import base64
import json
import math
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

import trio
from trio.testing import MockClock

from tests.scene import connected, open_gateway, wall_time
from trio_signal import SignalClient, open_signal_client
from trio_signal.hub import Authenticator, Hub, HubLimits, MessageLog, make_token, serve_hub
from trio_signal.testing import (
    FakeGateway,
    MemoryListener,
    MemoryStream,
    memory_connection,
    open_fake_gateway,
    server_frame,
)
from trio_signal.testing._frames import Opcode
from trio_signal.testing._streams import WINDOW, Transport, end_at_once

#: An invented secret, and who the tests say they are.
KEY: Final = b"an invented secret, long enough for every kind of signature that there is"
SOMEBODY: Final = "somebody"

MASK: Final = b"\x11\x22\x33\x44"

PING: Final = server_frame(b"", Opcode.PING, mask=MASK)


class Listener(MemoryListener):
    """A listener in memory whose connections hold as many bytes on their way as a test says."""

    async def dial(self, window: int) -> MemoryStream:
        """Open one connection. A checkpoint."""
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_connection(window)
        try:
            self._door.send_nowait(theirs)
        except trio.BrokenResourceError:
            raise ConnectionRefusedError("nobody listens any more") from None
        return ours


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What a refusal says; each is a JSON object with these words."""
        words = self.json["error"]
        assert isinstance(words, str)
        return words


@dataclass(frozen=True, slots=True)
class Frame:
    """A WebSocket frame from the hub."""

    opcode: Opcode
    payload: bytes

    @property
    def json(self) -> Any:
        assert self.opcode is Opcode.TEXT
        return json.loads(self.payload)

    @property
    def code(self) -> int:
        """The code of a close frame, 1005 if it has none."""
        assert self.opcode is Opcode.CLOSE
        return int(struct.unpack("!H", self.payload[:2])[0]) if self.payload else 1005


def frames_in(buffer: bytearray) -> Iterator[Frame]:
    """Take the whole frames off a buffer, strictly: a server's are unmasked, and the hub splits none."""
    while len(buffer) >= 2:
        assert buffer[0] & 0xF0 == 0x80, f"not the start of a frame: {bytes(buffer[:20])!r}"
        size, start = buffer[1], 2
        assert size < 128, "masked"
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return
        frame = Frame(Opcode(buffer[0] & 0x0F), bytes(buffer[start : start + size]))
        del buffer[: start + size]
        yield frame


def masked(payload: bytes = b"", opcode: int = Opcode.TEXT, *, final: bool = True) -> bytes:
    """Build a frame as a client sends it."""
    return server_frame(payload, opcode, final=final, mask=MASK)


class Visitor:
    """The client's end of one connection to a hub: any bytes out, answers and frames in."""

    def __init__(self, stream: trio.abc.Stream, host: str, token: str | None) -> None:
        self.stream = stream
        self.host = host
        self.token = token
        self.upgraded = False
        self.buffer = bytearray()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def write(self, *parts: bytes) -> None:
        await self.stream.send_all(b"".join(parts))

    async def more(self, size: int | None = None) -> bool:
        """Read once; False at the end, however the connection ended."""
        try:
            data = await self.stream.receive_some(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self.buffer += data
        return bool(data)

    async def rest(self) -> bytes:
        """Read to the end of the connection and return what was not read before."""
        while await self.more():
            pass
        rest = bytes(self.buffer)
        self.buffer.clear()
        return rest

    # --- HTTP ---

    def head(self, target: str, method: str = "GET", **headers: Any) -> bytes:
        """Return a request's head. Underscores in a header's name are hyphens; None leaves it out."""
        given: dict[str, Any] = {
            "host": self.host,
            "authorization": f"Bearer {self.token}" if self.token else None,
        }
        given |= {name.lower().replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in given.items() if value is not None]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def ask(self, target: str, method: str = "GET", body: bytes | None = None, **headers: Any) -> Reply:
        """Send a request and read the answer."""
        if body is not None:
            headers = {"content_type": "application/json", "content_length": str(len(body))} | headers
        await self.write(self.head(target, method, **headers), body or b"")
        return await self.reply(bodiless=method == "HEAD")

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Read one answer."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            assert await self.more(), f"the connection ended before an answer: {bytes(self.buffer)!r}"
        first, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        pairs = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in pairs}
        assert len(headers) == len(pairs), f"a header is given twice: {lines}"
        status = int(first.split(" ")[1])
        size = 0 if bodiless else int(headers.get("content-length", "0"))
        while len(self.buffer) < size:
            assert await self.more(), "the connection ended within an answer"
        body = bytes(self.buffer[:size])
        del self.buffer[:size]
        return Reply(status, headers, body)

    # --- WebSocket ---

    def handshake(self, target: str = "/websocket", **headers: Any) -> bytes:
        """Return the head of a request for a WebSocket."""
        upgrade: dict[str, Any] = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(b"0123456789abcdef").decode(),
        }
        given = {name.lower().replace("_", "-"): value for name, value in headers.items()}
        return self.head(target, **(upgrade | given))

    async def upgrade(self, target: str = "/websocket", **headers: Any) -> Reply:
        """Ask for a WebSocket and read the answer."""
        await self.write(self.handshake(target, **headers))
        return await self.reply()

    async def open(self, target: str = "/websocket", **headers: Any) -> Any:
        """Open a WebSocket and return the hello."""
        reply = await self.upgrade(target, **headers)
        assert reply.status == 101, reply
        self.upgraded = True
        hello = await self.told()
        assert hello["type"] == "hello"
        return hello

    async def frame(self) -> Frame | None:
        """Read one frame; None at the end of the connection, which must not come within a frame."""
        while True:
            for frame in frames_in(self.buffer):
                return frame
            if not await self.more():
                assert not self.buffer, "the connection ended within a frame"
                return None

    async def told(self) -> Any:
        """Read the next JSON frame; pings are answered on the way."""
        while True:
            frame = await self.frame()
            assert frame is not None, "the connection has ended"
            if frame.opcode is not Opcode.PING:
                return frame.json
            await self.write(masked(frame.payload, Opcode.PONG))

    async def close_code(self) -> int | None:
        """Read to the end and return the code of the close frame, if there was one as the last frame."""
        code = None
        while frame := await self.frame():
            assert code is None, "something follows the close frame"
            if frame.opcode is Opcode.CLOSE:
                code = frame.code
        return code

    def vanish(self, *, reset: bool = False) -> None:
        """End the connection at once, without a word of WebSocket's."""
        assert isinstance(self.stream, MemoryStream | trio.SocketStream)
        end_at_once(self.stream, reset=reset)


@dataclass
class Subscriber:
    """A well-behaved WebSocket client, which takes in everything until the connection ends.

    Attributes:
        got: what came with or without a number, but for hello and heartbeats.
        beats: when a heartbeat came, and the head that it told.
        code: the close code; None if the connection ended without.
    """

    visitor: Visitor
    hello: Any
    got: list[Any] = field(default_factory=list[Any])
    beats: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    pings: int = 0
    code: int | None = None
    ended_at: float = math.inf
    ended: trio.Event = field(default_factory=trio.Event)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    @property
    def numbers(self) -> list[int]:
        """The numbers that came, in the order in which they came."""
        return [frame["sequence_number"] for frame in self.got if "sequence_number" in frame]

    @property
    def data(self) -> list[Any]:
        """What the messages hold."""
        return [frame["data"] for frame in self.got if frame["type"] == "message"]

    async def run(self) -> None:
        while frame := await self.visitor.frame():
            await self._take(frame)
            self.changed.unpark_all()
        self.ended_at = trio.current_time()
        await trio.aclose_forcefully(self.visitor.stream)
        self.ended.set()
        self.changed.unpark_all()

    async def wait_for(self, count: int) -> None:
        """Wait until so many numbers have come."""
        while len(self.numbers) < count:
            assert not self.ended.is_set(), f"it ended with {self.numbers} ({self.code})"
            await self.changed.park()

    async def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.pings += 1
            await self._answer(masked(frame.payload, Opcode.PONG))
        elif frame.opcode is Opcode.CLOSE:
            self.code = frame.code
            await self._answer(masked(frame.payload, Opcode.CLOSE))
        elif frame.json["type"] == "heartbeat":
            self.beats.append((trio.current_time(), frame.json["head"]))
        else:
            assert self.code is None, "something follows the close frame"
            self.got.append(frame.json)

    async def _answer(self, data: bytes) -> None:
        # If the hub has gone, what it sent before is still to be read.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.visitor.write(data)


class Scene:
    """A hub, the client it reads from, and the gateway behind both."""

    def __init__(
        self,
        gateway: FakeGateway,
        signal: SignalClient,
        hub: Hub,
        nursery: trio.Nursery,
        listener: Listener | None,
        clock: Callable[[], float],
        *,
        secured: bool,
    ) -> None:
        self.gateway = gateway
        self.signal = signal
        self.hub = hub
        self.nursery = nursery
        self.listener = listener
        self.finished = trio.Event()
        self.visitors: list[Visitor] = []
        self._clock = clock
        self._secured = secured

    @property
    def host(self) -> str:
        """What a request's Host is."""
        return "127.0.0.1:8080" if self.listener else "{}:{}".format(*self.hub.address)

    def token(self, subject: str = SOMEBODY, *, ttl: float = 30 * 86_400, key: bytes = KEY) -> str:
        return make_token(key, subject, ttl=ttl, clock=self._clock)

    def tell(self, count: int = 1) -> list[int]:
        """Broadcast so many messages and return their numbers; each holds {"n": number}."""
        numbers: list[int] = []
        for _ in range(count):
            data = b'{"n":%d}' % (self.hub.log.head + 1)
            numbers.append(self.hub.connections.broadcast(data).sequence)
        return numbers

    async def dial(self, *, window: int = WINDOW) -> Transport:
        """Open a connection."""
        if self.listener is not None:
            return await self.listener.dial(window)
        return await trio.open_tcp_stream(*self.hub.address)

    async def visit(
        self, *, token: str | None = "", window: int = WINDOW, stream: trio.abc.Stream | None = None
    ) -> Visitor:
        """Open a connection for a visitor with a token: a valid one unless another or None is given."""
        shown = (self.token() if self._secured else None) if token == "" else token
        visitor = Visitor(stream or await self.dial(window=window), self.host, shown)
        self.visitors.append(visitor)
        return visitor

    async def ask(self, target: str, method: str = "GET", **more: Any) -> Reply:
        """Ask something on a connection of its own, with a valid token."""
        async with await self.visit() as visitor:
            return await visitor.ask(target, method, **more)

    async def messages(self, since: int, **more: object) -> Any:
        """Recover over HTTP."""
        query = "".join(f"&{name}={value}" for name, value in more.items())
        reply = await self.ask(f"/websocket/messages?since={since}{query}")
        assert reply.status == 200, reply
        return reply.json

    async def subscribe(
        self, target: str = "/websocket", *, token: str | None = "", stream: trio.abc.Stream | None = None
    ) -> Subscriber:
        """Open a WebSocket that takes in everything, in the background."""
        visitor = await self.visit(token=token, stream=stream)
        subscriber = Subscriber(visitor, await visitor.open(target))
        self.nursery.start_soon(subscriber.run)
        return subscriber


@asynccontextmanager
async def serving(
    gateway: FakeGateway,
    signal: SignalClient,
    *,
    real: bool = False,
    secured: bool = True,
    clock: Callable[[], float] = wall_time,
    listeners: Sequence[trio.abc.Listener[Any]] | None = None,
    **options: Any,
) -> AsyncGenerator[Scene]:
    """Serve a hub for a client that there is already, and cancel it at the end if it is still there."""
    listener = None if real or listeners else Listener()
    finished = trio.Event()
    if secured:
        options.setdefault("key", Authenticator(KEY, clock=clock))

    async def serve(**started: Any) -> None:
        try:
            await serve_hub(
                signal,
                listeners=[listener] if listener else listeners,
                wall_clock=clock,
                **started,
                **options,
            )
        finally:
            finished.set()

    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve)
        scene = Scene(gateway, signal, hub, nursery, listener, clock, secured=secured)
        scene.finished = finished
        try:
            yield scene
        finally:
            for visitor in scene.visitors:
                await trio.aclose_forcefully(visitor.stream)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_hub(**options: Any) -> AsyncGenerator[Scene]:
    """Open a hub in memory, with a fake gateway behind it, on the virtual clock."""
    async with (
        open_gateway() as gateway,
        connected(gateway) as signal,
        serving(gateway, signal, **options) as scene,
    ):
        yield scene


@asynccontextmanager
async def open_real_hub(**options: Any) -> AsyncGenerator[Scene]:
    """Open a hub on a port of 127.0.0.1, as its gateway is. Nothing must depend on how fast anything is."""
    clock = trio.lowlevel.current_clock()
    assert not isinstance(clock, MockClock) or math.isinf(clock.autojump_threshold), (
        "kernels know nothing of virtual clocks"
    )
    async with (
        open_fake_gateway() as gateway,
        open_signal_client(gateway.url, gateway.account) as signal,
        serving(gateway, signal, real=True, clock=time.time, **options) as scene,
    ):
        await gateway.wait_connected()
        yield scene
        for visitor in scene.visitors:
            await trio.aclose_forcefully(visitor.stream)
        # Cancelled before it has noticed, the hub would say goodbye to them, which takes real time.
        await until(lambda: not scene.hub.connections.connections)


async def gone(scene: Scene, *, left: int = 0) -> None:
    """Wait until no more than so many WebSockets are open, looking ten times a second."""
    while len(scene.hub.connections) > left:  # noqa: ASYNC110  (nothing tells when one is forgotten)
        await trio.sleep(0.1)


async def until(condition: Callable[[], object]) -> None:
    """Let everybody run until this holds, where no clock shows how far a kernel has come."""
    given_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < given_up, "it does not come about"
        await trio.lowlevel.checkpoint()


def limits(**changes: Any) -> HubLimits:
    """Limits under which no recovery is refused unless the test says so."""
    generous: dict[str, Any] = {"recovery_rate": 1e6, "recovery_burst": 1_000_000}
    return HubLimits(**(generous | changes))


def small_log(**options: Any) -> MessageLog:
    """A log on Trio's clock."""
    return MessageLog(clock=trio.current_time, **options)


def trusting(context: ssl.SSLContext, stream: trio.abc.Stream, host: str = "127.0.0.1") -> trio.abc.Stream:
    """Return the client's side of TLS on a stream."""
    return trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)


def fail_on(records: Sequence[Any], words: Sequence[str]) -> None:
    """Fail if anything logged holds one of these secrets."""
    for record in records:
        text = f"{record.getMessage()} {record.exc_text or ''} {record.args!r}"
        for word in words:
            assert word not in text, f"{record.name} logged a secret"

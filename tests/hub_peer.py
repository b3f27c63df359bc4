"""A hub scripted frame by frame, where a real one is too well-behaved."""

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import trio

from tests import scene
from tests.peers import Peer
from tests.scene import EXACT, wall_time
from trio_signal import SignalClient, open_signal_client
from trio_signal.testing import MemoryStream, close_frame, memory_connection, server_frame
from trio_signal.testing._frames import Opcode

ACCOUNT: Final = "+15550001"
URL: Final = "http://127.0.0.1:8090"
EPOCH: Final = "epoch-1"

#: When everything happens that names no time, in milliseconds since the epoch.
START: Final = int(scene.EPOCH * 1000)


def as_json(kind: str, **fields: Any) -> bytes:
    """Encode a frame of the hub's."""
    return json.dumps({"type": kind} | fields).encode()


def envelope(text: str, timestamp: int = 1) -> dict[str, Any]:
    """What the gateway would have sent."""
    inner = {
        "source": "+15550002",
        "sourceNumber": "+15550002",
        "timestamp": timestamp,
        "dataMessage": {"message": text},
    }
    return {"envelope": inner, "account": ACCOUNT}


def hello(head: int = 0, oldest: int = 1, epoch: str = EPOCH, **more: Any) -> bytes:
    return as_json("hello", epoch=epoch, head=head, oldest=oldest, heartbeat_interval=15, **more)


def message(number: int, **more: Any) -> bytes:
    """Message n says "m<n>"."""
    fields = {"sequence_number": number, "timestamp": START, "data": envelope(f"m{number}", number)}
    return as_json("message", **(fields | more))


def hole(first: int | None, last: int | None, reason: str = "overwritten") -> bytes:
    return as_json("gap", reason=reason, first=first, last=last)


def heartbeat(head: int) -> bytes:
    return as_json("heartbeat", head=head)


def answer(status: int, body: object = b"", **headers: object) -> bytes:
    """An HTTP answer, whole; what is not bytes is JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(payload)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


class Line(Peer):
    """The hub's end of one WebSocket."""

    def __init__(self, stream: MemoryStream) -> None:
        super().__init__(stream)
        self.target = ""
        self._turn = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Send, after whatever another task is sending."""
        async with self._turn:
            await self.stream.send_all(data)

    async def open(self, *frames: bytes) -> None:
        """Accept the handshake, with these frames right behind it."""
        await self.write(self.switching() + b"".join(map(server_frame, frames)))

    async def tell(self, *frames: bytes) -> None:
        await self.write(b"".join(map(server_frame, frames)))

    async def close(self, code: int | None) -> None:
        await self.write(close_frame(code))

    async def serve(self) -> None:
        """Answer pings and the goodbye, until the client leaves."""
        seen = len(self.frames)
        while True:
            await self.read_frames(seen + 1)
            if len(self.frames) == seen:
                return
            for frame in self.frames[seen:]:
                if frame.opcode is Opcode.PING:
                    await self.write(server_frame(frame.payload, Opcode.PONG))
                elif frame.opcode is Opcode.CLOSE:
                    await self.write(close_frame(1000))
            seen = len(self.frames)


Script = Callable[[Line], Awaitable[None]]


def says(*frames: bytes, close: int | None = None) -> Script:
    """Open the WebSocket, say this, and stay; or close with this code after ten seconds."""

    async def script(line: Line) -> None:
        await line.open(*frames)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.serve)
            if close is not None:
                await trio.sleep(10)
                await line.close(close)

    return script


def refuses(status: int, **headers: object) -> Script:
    """Answer the handshake with this status."""

    async def script(line: Line) -> None:
        await line.stream.send_all(answer(status, {"error": "no"}, **headers))
        await line.stream.send_eof()
        await line.read_frames()

    return script


class ScriptedHub:
    """Answers as it is told to.

    Args:
        nursery: where its connections run.
        scripts: what the first, second … WebSocket meets, and every one after the last what the last meets.

    Attributes:
        about: the answer to ``GET /v1/about``.
        status: the answer to ``GET /status``.
        sends: the answers to ``POST /v2/send``; None hangs up in place of an answer; then 201.
        targets: what WebSockets asked for.
        times: when, on Trio's clock.
        heads: the requests' heads.
        letters: the bodies of the sends.
    """

    def __init__(self, nursery: trio.Nursery, *scripts: Script) -> None:
        self._nursery = nursery
        self._scripts = scripts
        self.about = answer(200, {"mode": "trio-signal-hub", "version": "0"})
        self.status = answer(200, {"account": ACCOUNT})
        self.sends: deque[bytes | None] = deque()
        self.targets: list[str] = []
        self.times: list[float] = []
        self.heads: list[bytes] = []
        self.letters: list[dict[str, Any]] = []
        self.lines: list[Line] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a connection, as ``connect=`` asks for."""
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_connection()
        self._nursery.start_soon(self._serve, Line(theirs))
        return ours

    def client(self, **options: Any) -> AbstractAsyncContextManager[SignalClient]:
        """Open a client on it."""
        defaults: dict[str, Any] = {
            "gateway": "hub",
            "connect": self.connect,
            "wall_clock": wall_time,
            "backoff": EXACT,
        }
        return open_signal_client(URL, ACCOUNT, **(defaults | options))

    async def _serve(self, line: Line) -> None:
        try:
            while await self._answer(line):
                line.head = b""
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The client has left, which is what many of these tests want it to do.

    async def _answer(self, line: Line) -> bool:
        """Answer one request; False when the connection is used up."""
        await line.read_head()
        self.heads.append(line.head)
        line.target = line.head.split(b" ", 2)[1].decode()
        path = line.target.partition("?")[0].removeprefix("/base")
        if path == "/v1/about":
            await line.stream.send_all(self.about)
        elif path == "/status":
            await line.stream.send_all(self.status)
        elif path == "/api/v1/check":
            await line.stream.send_all(answer(404))
        elif path == "/v2/send":
            return await self._take_letter(line)
        else:
            self.targets.append(line.target)
            self.times.append(trio.current_time())
            self.lines.append(line)
            await self._scripts[min(len(self.targets), len(self._scripts)) - 1](line)
            return False
        return True

    async def _take_letter(self, line: Line) -> bool:
        head, _, body = line.head.partition(b"\r\n\r\n")
        size = next(
            int(part.split(b":")[1]) for part in head.lower().split(b"\r\n") if b"content-length" in part
        )
        while len(body) < size:
            body += await line.stream.receive_some()
        self.letters.append(json.loads(body))
        reply = self.sends.popleft() if self.sends else answer(201, [{"timestamp": str(len(self.letters))}])
        if reply is None:
            await line.stream.send_eof()
            return False
        await line.stream.send_all(reply)
        return b"connection: close" not in reply.lower()


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncGenerator[ScriptedHub]:
    """Open a scripted hub for at most a day by Trio's clock."""
    with trio.fail_after(86_400):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            yield ScriptedHub(nursery, *scripts)
            nursery.cancel_scope.cancel()

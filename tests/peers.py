"""A gateway's end of a connection scripted byte by byte, where the fake gateway is too well-behaved."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping

import trio

from trio_signal.testing import FakeGateway, MemoryStream, memory_connection
from trio_signal.testing._frames import ClientFrame, FrameReader

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WINDOW = 64 * 1024


class Peer:
    """The gateway's end of one connection."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.head = b""
        self.frames: list[ClientFrame] = []
        self._reader = FrameReader(limit=1 << 20)

    async def read_head(self) -> None:
        """Take in the client's request up to its blank line."""
        while b"\r\n\r\n" not in self.head:
            data = await self.stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the client hung up in the handshake")
            self.head += data

    def switching(self) -> bytes:
        """The 101 that answers the handshake."""
        found = re.search(rb"(?i)sec-websocket-key: (\S+)", self.head)
        assert found
        accept = base64.b64encode(hashlib.sha1(found[1] + _GUID, usedforsecurity=False).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    async def accept(self, extra: bytes = b"") -> None:
        """Answer the handshake, with these bytes right behind."""
        await self.read_head()
        await self.stream.send_all(self.switching() + extra)

    async def read_frames(self, count: int | None = None) -> None:
        """Take in what the client sends: so many frames, or all until it ends the connection."""
        while count is None or len(self.frames) < count:
            data = await self.stream.receive_some()
            if not data:
                return
            self.frames.extend(self._reader.feed(data))


Script = Callable[[Peer], Awaitable[None]]


class Dialled:
    """Our end of a connection whose other end follows a script."""

    def __init__(self, nursery: trio.Nursery, script: Script, *, window: int = WINDOW) -> None:
        self.stream, theirs = memory_connection(window)
        self.peer = Peer(theirs)
        self.finished = trio.Event()
        nursery.start_soon(self._run, script)

    async def _run(self, script: Script) -> None:
        try:
            await script(self.peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The client has left, which is what many of these tests want it to do.
        finally:
            self.finished.set()


def sends(*parts: bytes, then: str = "stay") -> Script:
    """Accept the handshake, with these bytes right behind it."""

    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(parts))
        await leave(peer, then)

    return script


def answers(*parts: bytes, then: str = "stay", between: float = 0.0) -> Script:
    """Read the handshake and answer with these bytes instead of a 101."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        for part in parts:
            await peer.stream.send_all(part)
            if between:
                await trio.sleep(between)
        await leave(peer, then)

    return script


async def leave(peer: Peer, how: str) -> None:
    """End the connection, or do not, and take in what else comes."""
    if how == "end":
        await peer.stream.send_eof()
    elif how == "reset":
        peer.stream.reset()
    await peer.read_frames()


class Detour:
    """Leads some connections to a scripted peer and all others to the fake gateway.

    Args:
        nursery: where the scripts run.
        gateway: where the others go.
        scripts: what the n-th connection meets, counted from 1.
    """

    def __init__(self, nursery: trio.Nursery, gateway: FakeGateway, scripts: Mapping[int, Script]) -> None:
        self._nursery = nursery
        self._gateway = gateway
        self._scripts = scripts
        self.count = 0
        self.times: list[float] = []
        self.peers: dict[int, Peer] = {}

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a connection, as ``connect=`` asks for."""
        self.count += 1
        self.times.append(trio.current_time())
        script = self._scripts.get(self.count)
        if script is None:
            return await self._gateway.connect(host, port)
        await trio.lowlevel.checkpoint()
        dialled = Dialled(self._nursery, script)
        self.peers[self.count] = dialled.peer
        return dialled.stream

"""The hot paths, each with a workload that is always the same, for `tests.instructions` to count.

Run under Callgrind, this tells it where a workload begins and ends by calls of `os.ctermid()`, a function
of the C library that nobody else calls, at which Callgrind writes down what it has counted since the last
one. Both ends of each connection are in this process, so a figure holds the bare other side too.
"""

import base64
import gc
import hashlib
import itertools
import math
import os
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Final

import msgspec
import trio

from benchmarks import traffic
from trio_signal import ConnectionState, EventStream, ReceivedMessage, Sent, SignalClient, open_signal_client
from trio_signal.hub import Hub, HubLimits, serve_hub

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_KEY: Final = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")
_WEBSOCKET_ID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE: Final = (
    b"GET /websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

_READ: Final = 64 * 1024
_CLIENTS: Final = 100
_KEPT: Final = 500
_ASKED: Final = 50

#: How many broadcasts fit into the buffers of a socket that nobody reads from, with room to spare.
_UNREAD: Final = 10


#: How many items of each path are measured, in this order; twice as many are measured too.
COUNTS: Final = {
    "reference": 200,
    "decode": 1_000,
    "receive": 1_000,
    "send": 60,
    "recovery": 60,
    "broadcast": 40,
}

#: How often `os.ctermid()` is called for each: before so many, before twice as many, and at the end.
MARKS: Final = 3

#: Does it so many times.
HotPath = Callable[[int], Awaitable[None]]


class StandingClock(trio.abc.Clock):
    """Time stands still, so that nothing happens by itself, however slow this is."""

    def start_clock(self) -> None:
        """See :class:`trio.abc.Clock`."""

    def current_time(self) -> float:
        """See :class:`trio.abc.Clock`."""
        return 1.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See :class:`trio.abc.Clock`."""
        return 0.0 if deadline <= 1.0 else math.inf


class Gateway:
    """The bare other side of a client: it answers what a client asks, and writes what it is told to."""

    def __init__(self) -> None:
        self._sent = 0
        self._receivers: Final[list[trio.SocketStream]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        while (request := await _read_request(stream)) is not None:
            path = request.split(b" ", 2)[1]
            if key := _KEY.search(request):
                accept = hashlib.sha1(key[1].strip() + _WEBSOCKET_ID, usedforsecurity=False).digest()
                await stream.send_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + _HEAD_END
                )
                self._receivers.append(stream)
                await _answer_pings(stream)
                return
            await stream.send_all(self._answer(path))

    def _answer(self, path: bytes) -> bytes:
        status, body = b"200 OK", b"{}"
        if path == b"/v1/about":
            body = b'{"versions":["v1","v2"],"build":2,"mode":"json-rpc","version":"0.101"}'
        elif path == b"/v1/accounts":
            body = msgspec.json.encode([traffic.ACCOUNT])
        elif path == b"/v2/send":
            self._sent += 1
            status, body = b"201 Created", b'{"timestamp":"%d"}' % traffic.timestamp(self._sent)
        return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            status,
            len(body),
            body,
        )

    async def tell(self, frames: bytes) -> None:
        """Write frames to whoever connected last."""
        await self._receivers[-1].send_all(frames)


async def _read_request(stream: trio.SocketStream) -> bytes | None:
    request = b""
    while True:
        head, end, body = request.partition(_HEAD_END)
        length = _LENGTH.search(head)
        if end and len(body) >= int(length[1] if length else 0):
            return request
        data = await stream.receive_some(_READ)
        if not data:
            return None
        request += data


async def _answer_pings(stream: trio.SocketStream) -> None:
    """Answer what a client's frames ask, which are short: pings, and at the end a close frame."""
    buffer = bytearray()
    while data := await stream.receive_some(_READ):
        buffer += data
        while len(buffer) >= 6 and len(buffer) >= (size := 6 + (buffer[1] & 0x7F)):
            mask, payload = buffer[2:6], buffer[6:size]
            answered = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
            opcode = buffer[0] + 1 if buffer[0] == 0x89 else buffer[0]
            del buffer[:size]
            await stream.send_all(bytes([opcode, len(answered)]) + answered)


@cache
def _envelopes() -> list[bytes]:
    """Return some as they come from a gateway."""
    return [envelope for _, envelope in traffic.broadcasts(_KEPT)]


async def _reference(count: int) -> None:
    """Do what all paths do, by the plain libraries alone: what it costs tells this Python and machine."""
    ours, theirs = socket.socketpair()
    envelope = _envelopes()[0]
    decoder = msgspec.json.Decoder(dict[str, object])
    with ours, theirs:
        ours.setblocking(False)
        for _ in range(count):
            theirs.send(envelope)
            await trio.lowlevel.wait_readable(ours)
            data = ours.recv(_READ)
            with trio.move_on_after(60):
                await trio.lowlevel.checkpoint()
            decoder.decode(data)
            str(data, "utf-8").split('","')


async def _decode(count: int) -> None:
    from trio_signal._decoding import decode_frame

    await trio.lowlevel.checkpoint()
    for envelope in itertools.islice(itertools.cycle(_envelopes()), count):
        assert isinstance(decode_frame(envelope), ReceivedMessage)


async def _send(signal: SignalClient, count: int) -> None:
    for recipient, text in traffic.outgoing(count):
        message = await signal.send_message(recipient, text)
        assert isinstance(await message.wait(), Sent)


class _Receiving:
    """Messages that never come twice: the client would drop them."""

    def __init__(self, gateway: Gateway, events: EventStream, most: int) -> None:
        self._gateway: Final = gateway
        self._events: Final = events
        self._frames: Final = [frame for _, frame in traffic.frames(most)]
        self._next = 0

    async def __call__(self, count: int) -> None:
        frames = b"".join(self._frames[self._next : self._next + count])
        self._next += count
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gateway.tell, frames)
            async for event in self._events:
                assert isinstance(event, ReceivedMessage)
                count -= 1
                if not count:
                    break


class _Broadcasting:
    def __init__(self, hub: Hub, clients: list[socket.socket]) -> None:
        self._hub: Final = hub
        self._clients: Final = clients
        self._envelope: Final = _envelopes()[0]

    async def __call__(self, count: int) -> None:
        await trio.lowlevel.checkpoint()
        for number in range(count):
            self._hub.connections.broadcast(self._envelope, timestamp=traffic.timestamp(number))
            if number % _UNREAD == 0:
                for client in self._clients:
                    client.recv(_READ)


async def _recover(hub: Hub, count: int) -> None:
    """Ask for the last messages; one is new each time, so that no answer was built before."""
    with socket.create_connection(hub.address) as client:
        client.setblocking(False)
        for number in range(count):
            hub.log.append(b'{"envelope":{}}', timestamp=traffic.timestamp(number))
            since = hub.log.head - _ASKED
            client.send(b"GET /websocket/messages?since=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % since)
            await trio.lowlevel.wait_readable(client)
            assert client.recv(_READ).endswith(b'"more":false}')


@asynccontextmanager
async def _paths() -> AsyncGenerator[dict[str, HotPath]]:
    gateway = Gateway()
    limits = HubLimits(recovery_rate=1e6, recovery_burst=1_000_000)
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(partial(trio.serve_listeners, gateway.serve, [listener]))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with (
            _connected(url) as upstream,
            trio.open_nursery() as hubs,
        ):
            hub: Hub = await hubs.start(partial(serve_hub, upstream, limits=limits))
            for number, envelope in enumerate(_envelopes()):
                hub.connections.broadcast(envelope, timestamp=traffic.timestamp(number))
            async with _connected(url) as signal:
                clients = [await _subscribe(hub) for _ in range(_CLIENTS)]
                yield {
                    "reference": _reference,
                    "decode": _decode,
                    "receive": _Receiving(gateway, signal.events(), 4 * COUNTS["receive"]),
                    "send": partial(_send, signal),
                    "recovery": partial(_recover, hub),
                    "broadcast": _Broadcasting(hub, clients),
                }
                for client in clients:
                    client.close()
            hubs.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[SignalClient]:
    async with open_signal_client(url, traffic.ACCOUNT, gateway="rest", rate_limit=None) as signal:
        await signal.wait_state(ConnectionState.CONNECTED)
        yield signal


async def _subscribe(hub: Hub) -> socket.socket:
    """Connect to the hub, and return once it has said hello."""
    client = socket.create_connection(hub.address)
    client.setblocking(False)
    client.send(_UPGRADE)
    received = b""
    while b'"connection_id"' not in received:
        await trio.lowlevel.wait_readable(client)
        received += client.recv(_READ)
    return client


async def measure() -> None:
    """Run each path so many times, and twice as many, and mark where they begin and end."""
    async with _paths() as paths:
        # A collection visits all that there is, and so says nothing about a path.
        gc.collect()
        gc.disable()
        for name, most in COUNTS.items():
            await paths[name](most // 2)
            for count in (most, 2 * most):
                os.ctermid()
                await paths[name](count)
            os.ctermid()


if __name__ == "__main__":
    trio.run(measure, clock=StandingClock())

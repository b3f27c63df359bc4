"""A name and a middlebox for each client under test: what is between it and its gateway, on real sockets.

`trio_signal.testing.FaultProxy` harms bytes without reading them. This one reads along, so that a fault can
strike at a chosen moment of a conversation: when the name is looked up, when a connection is accepted, when
the request of the receive link or of a send has come, when what follows the link's answer comes back.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from enum import StrEnum
from random import Random
from typing import Any, Final

import trio

from trio_signal.testing._door import Door
from trio_signal.testing._streams import Transport, end_at_once

HOST: Final = "127.0.0.1"

_CHUNK: Final = 64 * 1024
#: How long everything is on its way, in seconds of Trio's clock: what is on its way can be lost.
_TRANSIT: Final = 0.05

#: Of how many bytes each comes alone where they come one at a time.
_ALONE: Final = 100
_BLANK_LINE: Final = b"\r\n\r\n"

#: In place of bytes for the client: the connection ends.
END: Final = b"<end>"
RESET: Final = b"<reset>"


class Moment(StrEnum):
    """Where a conversation between a client and its gateway may stand."""

    NAME = "the name is looked up"
    QUESTION = "the first question has come: what are you?"
    ACCEPT = "a connection was accepted"
    LINK = "the request for the receive link has come"
    FIRST = "what follows the link's answer has come back"
    SEND = "the request of a send has come"


#: What is done when the moment has come: to the wire, with what has come and is not yet passed on.
Strike = Callable[["Wire | None", bytes], Awaitable[None]]


class Names(trio.abc.HostnameResolver):
    """Looks names up for one run of Trio. No other name server is ever asked."""

    def __init__(self) -> None:
        self.boxes: dict[str, Middlebox] = {}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        await self.boxes[(host or b"").decode()].look_up()
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (HOST, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


class Middlebox:
    """All that is between one client and its gateway.

    Attributes:
        name: the host name by which the client knows its gateway.
        greets: whether the gateway opens a link with more than a head: a hub says hello.
        wires: the connections that are open, in the order in which they came.
        unknown: whether the name is not known at present.
        holes: in which directions nothing gets through at present, "up" or "down".
        delays: by how much pieces are delayed at present, in seconds; one is drawn for each.
        answers: what the next requests for the receive link get in place of the gateway's answers.
    """

    def __init__(
        self, name: str, target: int, nursery: trio.Nursery, random: Random, *, greets: bool
    ) -> None:
        self.name: Final = name
        self.greets: Final = greets
        self.target: Final = target
        self.random: Final = random
        self.door: Final = Door(self._serve, nursery, host=HOST, port=0)
        self.door.open()
        self.wires: dict[Wire, None] = {}
        self.unknown = False
        self.holes: set[str] = set()
        self.delays: tuple[float, ...] = ()
        self.answers: list[bytes] = []
        self._healed = trio.Event()
        self._waiting: tuple[frozenset[Moment], Strike] | None = None

    @property
    def url(self) -> str:
        """Where the client finds its gateway."""
        return f"http://{self.name}:{self.door.port}"

    @property
    def link(self) -> "Wire":
        """The newest connection that is a receive link."""
        return [wire for wire in self.wires if wire.is_link][-1]

    def arm(self, strike: Strike, *moments: Moment) -> None:
        """Strike once, at the first of these moments."""
        self._waiting = frozenset(moments), strike

    def end_all(self) -> None:
        """End every connection, as when the process behind it dies."""
        for wire in tuple(self.wires):
            wire.end()

    def heal(self) -> None:
        """End all that lasts."""
        self.unknown, self.delays = False, ()
        self.holes.clear()
        self._healed.set()
        self._healed = trio.Event()
        self.door.heal()

    def shut(self) -> None:
        """End everything for good."""
        self.door.shut()
        self.end_all()

    async def look_up(self) -> None:
        """Find the address for the name."""
        await trio.lowlevel.checkpoint()
        await self.moment(Moment.NAME, None, b"")
        while self.holes:
            await self._healed.wait()
        if self.unknown:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def moment(self, moment: Moment, wire: "Wire | None", data: bytes) -> None:
        """Strike if this is the moment."""
        if self._waiting is not None and moment in self._waiting[0]:
            strike, self._waiting = self._waiting[1], None
            await strike(wire, data)

    async def passes(self, direction: str) -> None:
        """Wait until something gets through in this direction."""
        while direction in self.holes:
            await self._healed.wait()

    async def _serve(self, client: Transport) -> None:
        assert isinstance(client, trio.SocketStream)
        await self.passes("up")
        wire = Wire(self, client)
        self.wires[wire] = None
        try:
            with wire.scope:
                await wire.run()
        finally:
            del self.wires[wire]
            wire.end()


class Wire:
    """One connection of the client's, and the one to the gateway behind it.

    Attributes:
        is_link: whether it is a receive link, or was asked to become one.
        alter: what is done to the next bytes from the gateway: it gives those that pass in their place. What
            it gives last may be `END` or `RESET`.
        torn: whether bytes pass one at a time, but for the long rest of what has a short beginning.
    """

    def __init__(self, box: Middlebox, client: trio.SocketStream) -> None:
        self.box: Final = box
        self.client: Final = client
        self.gateway: trio.SocketStream | None = None
        self.scope: Final = trio.CancelScope()
        self.is_link = False
        self.alter: Callable[[bytes], list[bytes]] | None = None
        self.torn = False
        self._forgotten = self._has_left = False
        self._silent = False
        self._saying: Final = trio.Lock()
        self._head_is_over = False

    def end(self, *, reset: bool = False) -> None:
        """End it at once on both sides."""
        end_at_once(self.client, reset=reset)
        if self.gateway is not None:
            end_at_once(self.gateway)
        self.scope.cancel()

    def be_silent(self) -> None:
        """Give nothing back any more and take nothing on, as a peer that is frozen."""
        self._silent = True

    def forget(self) -> None:
        """Let the other side lose the connection without a word: only what comes next is answered, by RST."""
        self._forgotten = True
        self._leave_gateway()

    async def say(self, data: bytes) -> None:
        """Write something to the client that the gateway never said."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send(self.client, data)

    async def answer(self, data: bytes) -> None:
        """Give an answer in place of the gateway's, and end the connection."""
        await self.say(data)
        await self.bow_out()

    async def bow_out(self) -> None:
        """End our half, and the rest when the client has ended its own, or after a second."""
        self._leave_gateway()
        await trio.sleep(_TRANSIT)
        self.scope.deadline = trio.current_time() + 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await self.client.send_eof()

    def _leave_gateway(self) -> None:
        self._has_left = True
        if self.gateway is not None:
            end_at_once(self.gateway)

    async def run(self) -> None:
        """Carry it until it ends."""
        await self.box.moment(Moment.ACCEPT, self, b"")
        async with trio.open_nursery() as nursery:
            if not self._has_left:
                # Where the gateway refuses, the client sees its connection end, as behind any forwarder.
                with suppress(OSError):
                    self.gateway = await trio.open_tcp_stream(HOST, self.box.target)
                    nursery.start_soon(self._guarded, self._carry_down)
            if self.gateway is not None or self._has_left:
                await self._guarded(self._carry_up)
            nursery.cancel_scope.cancel()

    async def _guarded(self, carry: Callable[[], Awaitable[None]]) -> None:
        try:
            await carry()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            if self._has_left:
                # It is the gateway's end that is closed, of which the client was told what it is to know.
                await trio.sleep_forever()
            await self.box.passes("down")
            self.end(reset=True)

    async def _carry_up(self) -> None:
        while data := await self._next_up():
            if self._forgotten:
                self.end(reset=True)
            if not self._has_left and self.gateway is not None:
                await self._stay_silent()
                await self._pass_on(self.gateway, "up", data)
        await self.box.passes("up")
        await self._stay_silent()
        self.end()

    async def _next_up(self) -> bytes:
        """Give a request whole, or what comes on a link."""
        data = await self._receive(self.client)
        if self.is_link or not data:
            return data
        while not _is_whole(data):
            more = await self._receive(self.client)
            if not more:
                return data
            data += more
        # A gateway that looks at the name by which it is asked has none that we invent.
        data = data.replace(self.box.url[7:].encode(), f"{HOST}:{self.box.target}".encode())
        for moment in _moments(data):
            self.is_link |= moment is Moment.LINK
            await self.box.moment(moment, self, data)
        if self.is_link and self.box.answers:
            await self.answer(self.box.answers.pop(0))
        return data

    async def _carry_down(self) -> None:
        gateway = self.gateway
        assert gateway is not None
        while data := await self._receive(gateway):
            for piece in await self._split(gateway, data):
                await self._stay_silent()
                alter, self.alter = self.alter, None
                for part in [piece] if alter is None else alter(piece):
                    await self._give(part)
        await self.box.passes("down")
        await self._stay_silent()
        await self.bow_out()

    async def _give(self, part: bytes) -> None:
        if part in (RESET, END):
            if part == END:
                await self.bow_out()
            else:
                self.end(reset=True)
            await trio.sleep_forever()
        await self._pass_on(self.client, "down", part)

    async def _split(self, gateway: trio.SocketStream, data: bytes) -> list[bytes]:
        """Part the answer that opens a link from what follows, which is a moment of its own."""
        if not self.is_link or self._head_is_over:
            return [data]
        while (at := _end_of_opening(data, with_hello=self.box.greets)) is None:
            more = await self._receive(gateway)
            if not more:
                return [data]
            data += more
        self._head_is_over = True
        alter, self.alter = self.alter, None
        for part in [data[:at]] if alter is None else alter(data[:at]):
            await self._stay_silent()
            await self._give(part)
        rest = data[at:] or await self._receive(gateway)
        await self.box.moment(Moment.FIRST, self, rest)
        return [rest] if rest else []

    async def _receive(self, source: trio.SocketStream) -> bytes:
        direction = "up" if source is self.client else "down"
        await self.box.passes(direction)
        data = bytes(await source.receive_some(_CHUNK))
        await self.box.passes(direction)
        return data

    async def _stay_silent(self) -> None:
        if self._silent:
            await trio.sleep_forever()

    async def _pass_on(self, sink: trio.SocketStream, direction: str, data: bytes) -> None:
        await trio.sleep(_TRANSIT)
        alone = min(len(data), _ALONE) if self.torn else 0
        for piece in [*(data[at : at + 1] for at in range(alone)), data[alone:]]:
            if self.box.delays:
                await trio.sleep(self.box.random.choice(self.box.delays))
            await self.box.passes(direction)
            await self._send(sink, piece)

    async def _send(self, sink: trio.SocketStream, data: bytes) -> None:
        # To the client there are two who write: who passes on, and who says what the gateway never said.
        async with self._saying if sink is self.client else nullcontext():
            await sink.send_all(data)


def _is_whole(request: bytes) -> bool:
    head, blank, body = request.partition(_BLANK_LINE)
    sizes = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank) and len(body) >= int(sizes[0] if sizes else b"0")


def _moments(request: bytes) -> Iterator[Moment]:
    """Say what a request begins."""
    method, path, _ = request.split(b" ", 2)
    if path.startswith((b"/v1/receive/", b"/websocket", b"/api/v1/events")):
        yield Moment.LINK
    elif method == b"POST":
        yield Moment.SEND
    else:
        yield Moment.QUESTION


def _end_of_opening(data: bytes, *, with_hello: bool) -> int | None:
    """Return where what opens a link is over: its head, on a hub its hello too; None if that has not come."""
    at = data.find(_BLANK_LINE) + len(_BLANK_LINE)
    if at < len(_BLANK_LINE):
        return None
    if not with_hello or b" 101 " not in data[:20]:
        return at
    if len(data) < at + 4:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    return start + size if len(data) >= start + size else None

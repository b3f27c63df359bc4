"""A receive socket: the gateway's side of one WebSocket on /v1/receive/{number}."""

import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import trio

from ._frames import ClientFrame, ClientViolation, FrameReader, Opcode, close_frame, server_frame
from ._link import Link
from ._records import LedgerEntry, Records

MAX_QUEUED = 64 << 20
"""Bytes waiting for one client; more are lost and counted. The real gateway has no queue at all."""
_MAX_CONTROL_QUEUED = 64
_CLOSE_WAIT = 5.0
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Bytes to write to one receive socket, and what comes of them."""

    data: bytes
    timestamp: int | None = None
    message: bool = False
    """Written to its last byte, it goes into the ledger."""
    then: Literal["", "end", "close"] = ""
    """Afterwards end the connection, or wait for the client to answer the close frame that this was."""


@dataclass
class Room:
    """What all receive sockets of one gateway share."""

    records: Records
    ping_period: float
    write_lock: trio.Lock | None
    """The gateway's one write lock (``lose_bursts``): a client that does not read stops everybody."""
    sockets: "list[ReceiveSocket]" = field(default_factory=list)
    stalled: bool = False


class _Queue:
    def __init__(self) -> None:
        self.items: deque[Outgoing] = deque()
        self.size = 0
        self.busy = False
        self._filled = trio.lowlevel.ParkingLot()

    def put(self, item: Outgoing) -> None:
        self.items.append(item)
        self.size += len(item.data)
        self._filled.unpark_all()

    async def take(self) -> Outgoing:
        await trio.lowlevel.checkpoint()
        while not self.items:
            await self._filled.park()
        self.busy = True
        item = self.items.popleft()
        self.size -= len(item.data)
        return item

    def done(self) -> None:
        """Say that what was taken last has been written."""
        self.busy = False

    @property
    def idle(self) -> bool:
        return not (self.busy or self.items)


class ReceiveSocket:
    """One client that receives; `FakeGateway.connections` has those that are open."""

    def __init__(
        self, room: Room, link: Link, *, number: int, account: str, headers: Mapping[str, str]
    ) -> None:
        self.number = number
        """1 for the gateway's first receive socket, and so on."""
        self.account = account
        """The number in the path of the handshake, decoded."""
        self.headers = headers
        """Of the handshake, names in lower case."""
        self.opened = trio.current_time()
        """`trio.current_time` of the handshake."""
        self.is_half_open = False
        self.is_closing = False
        """Whether a close frame is on its way, in either direction."""
        self._room = room
        self._link = link
        self._messages = _Queue()
        self._control = _Queue()
        self._held: Sequence[Outgoing] = ()
        self._tasks = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<ReceiveSocket {self.number} for {self.account}>"

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame after what is queued, and end the connection at the answer, or after 5 s.

        Args:
            code: any number, also one that must not be sent; None for a close frame without a code.
            reason: at most 123 bytes for the frame to be legal.
        """
        self.is_closing = True
        self._messages.put(Outgoing(close_frame(code, reason), then="close"))
        self._room.records.changed()

    def drop(self) -> None:
        """End the connection at once without a close frame, as a gateway that dies; the queue is lost."""
        self._leave()
        self._link.end()

    def reset(self) -> None:
        """End the connection at once with a TCP reset."""
        self._leave()
        self._link.end(reset=True)

    def half_open(self) -> None:
        """From now on nothing is read and nothing written, and no end is sent: as if the cable were cut.

        The gateway goes on counting the connection as open, as measured, until `drop` or `reset`, or its own
        end.
        """
        self.is_half_open = True
        self._tasks.cancel()
        self._room.records.changed()

    def send_frame(self, data: bytes) -> None:
        """Write these bytes as they are, after what is queued: a frame of one's own making, or none."""
        self._messages.put(Outgoing(data))

    @property
    def is_idle(self) -> bool:
        """Whether all that was queued has been written."""
        return self._messages.idle and self._control.idle

    def is_on(self, link: Link) -> bool:
        """Whether this socket uses ``link``. For the gateway's own use."""
        return self._link is link

    def offer(self, items: Sequence[Outgoing]) -> None:
        """Take the frames of one message, or lose them and count that. For the gateway's own use."""
        counters = self._room.records.counters
        if self.is_half_open:
            counters.lost_to_half_open += 1
        elif self._room.stalled and self._held:
            counters.lost_in_stall += 1
        elif self._room.stalled:
            self._held = items
        elif self._room.write_lock is not None and not self._messages.idle:
            counters.lost_in_burst += 1
        elif self._messages.size >= MAX_QUEUED:
            counters.lost_to_full_queue += 1
        else:
            self._put(items)

    def release(self) -> None:
        """Write the one message that was held during a stall. For the gateway's own use."""
        held, self._held = self._held, ()
        self._put(held)

    async def run(self, rest: bytes) -> None:
        """Serve the socket until it ends; ``rest`` came behind the handshake. For the gateway's own use."""
        try:
            with self._tasks:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._write_messages)
                    nursery.start_soon(self._guard, self._write_control)
                    nursery.start_soon(self._guard, self._ping)
                    nursery.start_soon(self._guard, partial(self._read, rest))
            if self.is_half_open:
                await trio.sleep_forever()
        finally:
            self._leave()

    def _put(self, items: Sequence[Outgoing]) -> None:
        for item in items:
            self._messages.put(item)

    def _leave(self) -> None:
        if self in self._room.sockets:
            self._room.sockets.remove(self)
            self._room.records.changed()

    async def _guard(self, loop: Callable[[], Awaitable[None]]) -> None:
        # However the connection ended, there is nothing more to do than to stop all that is done on it.
        await trio.lowlevel.checkpoint()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await loop()
        self._tasks.cancel()

    async def _write_messages(self) -> None:
        lock: AbstractAsyncContextManager[object] = self._room.write_lock or nullcontext()
        while True:
            item = await self._messages.take()
            if item.data:  # What is for another number is thrown away before the lock.
                async with lock:
                    await self._link.send(item.data)
            self._messages.done()
            self._written(item)
            if item.then == "end":
                return
            if item.then == "close":
                self._link.scope.deadline = trio.current_time() + _CLOSE_WAIT

    async def _write_control(self) -> None:
        # Apart from the messages: the gateway's library answers pings and closes even while a writer is
        # stuck.
        while True:
            item = await self._control.take()
            await self._link.send(item.data)
            self._control.done()
            self._room.records.changed()
            if item.then == "end":
                return

    def _written(self, item: Outgoing) -> None:
        if item.message:
            self._room.records.ledger.append(LedgerEntry(item.timestamp, self.number))
        self._room.records.changed()

    async def _ping(self) -> None:
        records = self._room.records
        while True:
            await trio.sleep(self._room.ping_period)
            await records.until(lambda: not self._room.stalled)
            self._messages.put(Outgoing(server_frame(b"", Opcode.PING)))
            records.counters.pings_sent += 1

    async def _read(self, rest: bytes) -> None:
        reader = FrameReader()
        data = rest
        while True:
            try:
                for frame in reader.feed(data):
                    if self._handle(frame):
                        return
            except ClientViolation as violation:
                self._answer_close(close_frame(violation.code, violation.reason))
                await trio.sleep_forever()
            data = bytes(await self._link.stream.receive_some(_CHUNK))
            if not data:
                return

    def _handle(self, frame: ClientFrame) -> bool:
        """Act on a client's frame; True when the connection is over."""
        counters = self._room.records.counters
        if frame.opcode == Opcode.PING:
            counters.pings_received += 1
            if len(self._control.items) < _MAX_CONTROL_QUEUED:
                self._control.put(Outgoing(server_frame(frame.payload, Opcode.PONG)))
        elif frame.opcode == Opcode.PONG:
            counters.pongs_received += 1
        elif frame.opcode == Opcode.CLOSE:
            if self.is_closing:
                return True
            self._answer_close(_echo(frame.payload))
        self._room.records.changed()
        return False

    def _answer_close(self, frame: bytes) -> None:
        self.is_closing = True
        self._control.put(Outgoing(frame, then="end"))
        self._link.scope.deadline = trio.current_time() + _CLOSE_WAIT


def _echo(payload: bytes) -> bytes:
    """The gateway answers a close frame with the same code and no reason."""
    return close_frame(struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None)

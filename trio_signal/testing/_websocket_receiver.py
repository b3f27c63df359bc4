"""A receive socket on the REST gateway: its side of one WebSocket on /v1/receive/{number}."""

import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import trio

from ._frames import ClientFrame, ClientViolation, FrameReader, Opcode, close_frame, server_frame
from ._link import Link
from ._socket import MAX_QUEUED, Outgoing, OutgoingQueue, ReceiveSocket, Room

_MAX_CONTROL_QUEUED = 64
_CLOSE_WAIT = 5.0
_CHUNK = 4096


class WebSocketReceiver(ReceiveSocket):
    """One WebSocket."""

    def __init__(
        self, room: Room, link: Link, *, number: int, account: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(room, link, number=number, account=account, headers=headers)
        self._control = OutgoingQueue()
        self._held: Sequence[Outgoing] = ()

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame: see `ReceiveSocket.close`."""
        self.is_closing = True
        self._messages.put(Outgoing(close_frame(code, reason), then="close"))
        self._room.records.changed()

    @property
    def is_idle(self) -> bool:
        """Whether all that was queued has been written."""
        return self._messages.idle and self._control.idle

    def offer(self, items: Sequence[Outgoing]) -> None:
        """Take the frames of one message, or lose them and count that."""
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
        """Write the one message that was held during a stall."""
        held, self._held = self._held, ()
        self._put(held)

    def _loops(self, rest: bytes, /) -> Sequence[Callable[[], Awaitable[None]]]:
        return (self._write_messages, self._write_control, self._ping, partial(self._read, rest))

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

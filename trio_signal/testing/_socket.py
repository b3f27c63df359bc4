"""What all that receive have in common: WebSockets on the REST gateway, event streams on signal-cli."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import trio

from ._link import Link
from ._records import LedgerEntry, Records

MAX_QUEUED = 64 << 20
"""Bytes waiting for one client; more are lost and counted. The real gateway has no queue at all."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Bytes to write to one receive socket, and what comes of them."""

    data: bytes
    timestamp: int | None = None
    message: bool = False
    """Written to its last byte, it goes into the ledger."""
    then: Literal["", "end", "close"] = ""
    """Afterwards end the connection, or wait for the client to answer the close frame that this was."""
    done: Callable[[], None] | None = None
    """Called when it has been written, or was lost; not when the connection ended meanwhile."""


@dataclass
class Room:
    """What all receive sockets of one gateway share."""

    records: Records
    ping_period: float
    """Seconds between pings, or between an event stream's keep-alives."""
    write_lock: trio.Lock | None
    """The gateway's one write lock (``lose_bursts``): a client that does not read stops everybody."""
    sockets: "list[ReceiveSocket]" = field(default_factory=list)
    stalled: bool = False


class OutgoingQueue:
    """What waits to be written to one client."""

    def __init__(self) -> None:
        self.items: deque[Outgoing] = deque()
        self.size = 0
        self.busy = False
        self._filled = trio.lowlevel.ParkingLot()

    def put(self, item: Outgoing) -> None:
        """Queue ``item``."""
        self.items.append(item)
        self.size += len(item.data)
        self._filled.unpark_all()

    async def take(self) -> Outgoing:
        """Wait for the next item and take it; `done` has to follow. A checkpoint; cancelling loses none."""
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
        """Whether nothing waits and nothing is being written."""
        return not (self.busy or self.items)


class ReceiveSocket(ABC):
    """One client that receives; `FakeGateway.connections` has those that are open.

    It is a WebSocket on the REST gateway and a stream of Server-Sent Events on signal-cli.
    """

    def __init__(
        self, room: Room, link: Link, *, number: int, account: str, headers: Mapping[str, str]
    ) -> None:
        self.number = number
        """1 for the gateway's first receive socket, and so on."""
        self.account = account
        """The account that the request named, decoded; empty for an event stream of every account."""
        self.headers = headers
        """Of the request, names in lower case."""
        self.opened = trio.current_time()
        """`trio.current_time` of the request."""
        self.is_half_open = False
        """Whether it is open only in the gateway's eyes: by `half_open`, or since a stream's client left."""
        self.is_closing = False
        """Whether a close frame is on its way, in either direction."""
        self._is_cut = False
        self._room = room
        self._link = link
        self._messages = OutgoingQueue()
        self._tasks = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<ReceiveSocket {self.number} for {self.account or 'every account'}>"

    @abstractmethod
    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame after what is queued, and end the connection at the answer, or after 5 s.

        Args:
            code: any number, also one that must not be sent; None for a close frame without a code.
            reason: at most 123 bytes for the frame to be legal.

        Raises:
            ValueError: an event stream has no close frames.
        """

    def drop(self) -> None:
        """End the connection at once without a farewell, as a gateway that dies; the queue is lost."""
        self._leave()
        # What could not be delivered before an end makes that end a reset.
        self._link.end(reset=self._is_cut)

    def reset(self) -> None:
        """End the connection at once with a TCP reset."""
        self._leave()
        self._link.end(reset=True)

    def half_open(self) -> None:
        """From now on nothing is read and nothing written, and no end is sent: as if the cable were cut.

        The gateway goes on counting the connection as open, as measured, until `drop` or `reset`, or its own
        end.
        """
        self.is_half_open = self._is_cut = True
        self._tasks.cancel()
        self._room.records.changed()

    def send_frame(self, data: bytes) -> None:
        """Write these bytes as they are, after what is queued: a frame of one's own making, or none."""
        self._messages.put(Outgoing(data))

    @property
    def is_idle(self) -> bool:
        """Whether all that was queued has been written."""
        return self._messages.idle

    def is_on(self, link: Link) -> bool:
        """Whether this socket uses ``link``. For the gateway's own use."""
        return self._link is link

    def receives(self, account: str) -> bool:
        """Whether messages for ``account`` come here."""
        return account == self.account

    @abstractmethod
    def offer(self, items: Sequence[Outgoing]) -> None:
        """Take the pieces of one message, or lose them and count that. For the gateway's own use."""

    def release(self) -> None:  # noqa: B027 - only a WebSocket keeps something
        """Go on after a stall. For the gateway's own use."""

    async def run(self, rest: bytes) -> None:
        """Serve the client until it ends; ``rest`` is what it sent already. For the gateway's own use."""
        try:
            with self._tasks:
                async with trio.open_nursery() as nursery:
                    for loop in self._loops(rest):
                        nursery.start_soon(self._guard, loop)
            if self._is_cut:
                await trio.sleep_forever()
        finally:
            self._leave()

    @abstractmethod
    def _loops(self, rest: bytes, /) -> Sequence[Callable[[], Awaitable[None]]]:
        """The tasks that serve the client; when one ends, all do."""

    def _put(self, items: Sequence[Outgoing]) -> None:
        for item in items:
            self._messages.put(item)

    def _written(self, item: Outgoing) -> None:
        if item.message:
            self._room.records.ledger.append(LedgerEntry(item.timestamp, self.number))
        self._room.records.changed()

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

"""A stream of Server-Sent Events, the daemon's side: GET /api/v1/events.

The daemon writes to such a connection and never reads from it. So it learns that a client has gone only when
a write fails: the first one after the client's end succeeds (the kernel takes it, the answer to it is a
reset), the second one fails. With a keep-alive each 15 s that takes up to 30 s, in which messages are lost.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import trio

from ._chunks import KEEP_ALIVE, LAST_CHUNK, chunked
from ._link import Link
from ._socket import Outgoing, ReceiveSocket, Room


class EventStream(ReceiveSocket):
    """One response to GET /api/v1/events."""

    def __init__(
        self,
        room: Room,
        link: Link,
        *,
        number: int,
        account: str,
        headers: Mapping[str, str],
        accounts: Sequence[str],
        on_leave: Callable[["EventStream", int], None],
    ) -> None:
        super().__init__(room, link, number=number, account=account, headers=headers)
        self._accounts = frozenset(accounts)
        self._on_leave = on_leave
        self._held_head = b""
        self._writing: Outgoing | None = None
        self._writes_swallowed: int | None = None
        """How many writes more succeed although the client has gone; None while it is there."""

    def hold_back(self, head: bytes) -> None:
        """Write ``head`` together with what comes first, as up to 0.14.3. For the gateway's own use."""
        self._held_head = head

    def receives(self, account: str) -> bool:
        """Whether messages for ``account`` come here."""
        return account in self._accounts

    def close(self, code: int | None = 1000, reason: str = "") -> None:  # noqa: ARG002 - the base's own
        """Do nothing but raise: see `ReceiveSocket.close`.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "an event stream has no close frames: use drop(), reset() or FakeGateway.terminate()"
        )

    def half_open(self) -> None:
        """Leave it open and dead: see `ReceiveSocket.half_open`. Nothing waits for it any more."""
        super().half_open()
        self._give_up()

    def finish(self) -> None:
        """End the response properly, as a daemon does that is told to stop. For the gateway's own use."""
        self.is_closing = True
        self._messages.put(Outgoing(LAST_CHUNK, then="end"))

    def offer(self, items: Sequence[Outgoing]) -> None:
        """Take the pieces of one event. What goes into a cut cable is lost and counted."""
        if self._is_cut:
            self._lose(items)
        else:
            self._put(items)

    def _loops(self, _rest: bytes, /) -> Sequence[Callable[[], Awaitable[None]]]:
        return (self._write, self._keep_alive, self._watch)

    async def _write(self) -> None:
        while True:
            item = self._writing = await self._messages.take()
            await self._write_item(replace(item, data=self._held_head + item.data))
            self._held_head, self._writing = b"", None
            self._messages.done()
            if item.done is not None:
                item.done()
            self._room.records.changed()
            if item.then == "end":
                self._link.end()

    async def _write_item(self, item: Outgoing) -> None:
        if self._writes_swallowed is None:
            await self._link.send(item.data)
            self._written(item)
            return
        await trio.lowlevel.checkpoint()
        if self._writes_swallowed == 0:
            raise trio.BrokenResourceError("the client has gone")
        self._writes_swallowed -= 1
        self._room.records.counters.lost_to_half_open += item.message

    async def _keep_alive(self) -> None:
        room = self._room
        while True:
            await trio.sleep(room.ping_period)
            await room.records.until(lambda: not room.stalled)
            written = trio.Event()
            self._messages.put(Outgoing(chunked(KEEP_ALIVE), done=written.set))
            room.records.counters.pings_sent += 1
            await written.wait()

    async def _watch(self) -> None:
        """Learn, for the test's sake alone, that the client has gone."""
        try:
            await self._link.drain()
            self._writes_swallowed = 1
        except trio.BrokenResourceError:
            self._writes_swallowed = 0
        self.is_half_open = True
        self._room.records.changed()
        await trio.sleep_forever()

    def _lose(self, items: Sequence[Outgoing]) -> None:
        for item in items:
            self._room.records.counters.lost_to_half_open += item.message
            if item.done is not None:
                item.done()

    def _leave(self) -> None:
        super()._leave()
        self._give_up()

    def _give_up(self) -> None:
        """Lose what has not been written, and let nobody wait for it."""
        unwritten = list(self._messages.items) + ([] if self._writing is None else [self._writing])
        self._messages.items.clear()
        self._writing = None
        self._on_leave(self, sum(item.message for item in unwritten))

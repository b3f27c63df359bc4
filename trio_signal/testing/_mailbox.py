"""Where messages wait for signal-cli's event streams: Signal's server, and the daemon's receive threads.

Each account has one thread, which hands each message to all streams of the account, one message after the
other: a client that does not read stops it. Without a stream messages stay on Signal's server, but in the
mode on-start the thread fetches and loses them.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import trio

from ._config import Config
from ._event_stream import EventStream
from ._records import Records
from ._socket import Outgoing, Room


@dataclass
class Letter:
    """One message on its way."""

    payload: bytes
    """The JSON, as it is when it is delivered at once."""
    timestamp: int | None = None
    frame: Mapping[str, Any] | None = None
    """What ``payload`` is made from, if its ``serverDeliveredTimestamp`` is to be that of the delivery."""
    to_all: bool = False
    kept: bool = False
    """Whether it had to wait on Signal's server."""

    def content(self, now: int) -> bytes:
        """Return the JSON, delivered at ``now`` (milliseconds since the epoch)."""
        if self.frame is None:
            return self.payload
        envelope = {**self.frame["envelope"], "serverDeliveredTimestamp": now}
        return java_json({**self.frame, "envelope": envelope})


class PostOffice:
    """The mailboxes of all accounts."""

    def __init__(
        self,
        config: Config,
        room: Room,
        nursery: trio.Nursery,
        *,
        frames: Callable[[bytes, int | None], list[Outgoing]],
        now: Callable[[], float],
    ) -> None:
        self.keeps = config.receive_mode != "on-start"
        self.spacing = config.backlog_spacing
        self.room = room
        self.nursery = nursery
        self.is_running = True
        self._frames = frames
        self._now = now
        self._boxes: dict[str, Mailbox] = {}

    @property
    def records(self) -> Records:
        """The gateway's records."""
        return self.room.records

    @property
    def kept(self) -> int:
        """Messages that have not been handed to anybody."""
        return sum(len(box.waiting) for box in self._boxes.values())

    @property
    def is_settled(self) -> bool:
        """Whether all that can be delivered has been."""
        return all(box.is_settled for box in self._boxes.values())

    def put(self, account: str, letter: Letter) -> None:
        """Let a message for ``account`` arrive at Signal's server."""
        if account not in self._boxes:
            self._boxes[account] = Mailbox(account, self)
        self._boxes[account].put(letter)

    def streams(self, account: str, *, everybody: bool = False) -> list[EventStream]:
        """Return the event streams of ``account``, in order of opening."""
        streams = [sock for sock in self.room.sockets if isinstance(sock, EventStream)]
        return [each for each in streams if not each.is_closing and (everybody or each.receives(account))]

    def pieces(self, letter: Letter) -> list[Outgoing]:
        """Build what is written for ``letter`` now, faults included."""
        return self._frames(letter.content(round(self._now() * 1000)), letter.timestamp)

    def go_on(self) -> None:
        """Deliver what can be delivered now: a stream has come, or a stall has ended."""
        for box in self._boxes.values():
            box.pump()

    def left(self, stream: EventStream, unwritten: int) -> None:
        """Note that ``stream`` has ended with so many messages unwritten; a process that ends keeps them."""
        if self.is_running:
            self.records.counters.lost_to_half_open += unwritten
        for box in self._boxes.values():
            box.handed_over(stream)

    def crash(self) -> None:
        """Stop, as when the process ends: what is being written will be written again by the next one."""
        self.is_running = False
        for box in self._boxes.values():
            box.take_back()

    def restart(self) -> None:
        """Go on after a `crash`."""
        self.is_running = True
        self.go_on()


class Mailbox:
    """What has come for one account, and the daemon's receive thread for it."""

    def __init__(self, account: str, office: PostOffice) -> None:
        self.account = account
        self.waiting: deque[Letter] = deque()
        self._office = office
        self._current: Letter | None = None
        self._takers: set[EventStream] = set()
        self._resting = False
        self._pumping = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is being written, and nothing waits that could be."""
        return self._current is None and not (self.waiting and self._office.streams(self.account))

    def put(self, letter: Letter) -> None:
        """Add a message behind those that wait."""
        office = self._office
        letter.kept = not office.is_running or not office.streams(self.account)
        self.waiting.append(letter)
        self.pump()

    def pump(self) -> None:
        """Hand over messages until one has to be waited for."""
        if self._pumping:
            return
        self._pumping = True
        while self._is_ready():
            self._hand_out(self.waiting.popleft())
        self._pumping = False
        self._office.records.changed()

    def handed_over(self, stream: EventStream) -> None:
        """Note that ``stream`` has taken the current message, or has ended."""
        if stream not in self._takers:
            return
        self._takers.remove(stream)
        if not self._takers:
            self._current = None
            self._rest()
            self.pump()

    def take_back(self) -> None:
        """Put back the message that is being written."""
        if self._current is not None:
            self.waiting.appendleft(self._current)
        self._current = None
        self._takers.clear()
        for letter in self.waiting:
            letter.kept = True

    def _is_ready(self) -> bool:
        office = self._office
        if not self.waiting or self._current is not None or self._resting:
            return False
        if not office.is_running or office.room.stalled:
            return False
        return not office.keeps or bool(office.streams(self.account, everybody=self.waiting[0].to_all))

    def _hand_out(self, letter: Letter) -> None:
        streams = self._office.streams(self.account, everybody=letter.to_all)
        if not streams:
            self._office.records.counters.dropped_without_consumer += 1
            return
        self._current, self._takers = letter, set(streams)
        *first, last = self._office.pieces(letter)
        for stream in streams:
            stream.offer([*first, replace(last, done=self._done(stream))])

    def _done(self, stream: EventStream) -> Callable[[], None]:
        return lambda: self.handed_over(stream)

    def _rest(self) -> None:
        if self._office.spacing and self.waiting and self.waiting[0].kept:
            self._resting = True
            self._office.nursery.start_soon(self._wake)

    async def _wake(self) -> None:
        await trio.sleep(self._office.spacing)
        self._resting = False
        self.pump()


def java_json(value: object) -> bytes:
    """Write JSON as signal-cli does: no spaces, nothing escaped but what has to be."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

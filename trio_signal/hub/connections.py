"""Who is connected, and what each of them has been handed (contract H1, H2, H7, H8).

Theory of operation
===================

A message is numbered, stored and handed to every connected client in one synchronous
step: nothing else runs in between, so a client is told of a message either by that step
or by reading it from the log, never by both and never by neither. Where the log is kept on
disk there are two such steps: one numbers the message and gives it to the disk, and once it
is there, :meth:`ConnectionManager.publish` makes it visible in the log and hands it to every
client. A connection is

- *live*: it has everything up to the log's head, and is handed each new message as it comes;
- *catching up*: it is handed pages of the log, as fast as it takes them, until it has come to
  the head; in the same step it turns live.

New messages are not queued for a connection that catches up, for they are in the log; so one
that is far behind costs no memory. A live one whose socket is full has a queue of bounded
length; when that overflows the connection is closed and its client comes back for the rest.
No function here waits.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final, Protocol

from .._continuity import Gap
from .._errors import SignalError
from . import _protocol
from ._connection import CloseCode, Connection, ConnectionFigures, Outlet, figures_of
from ._pages import LogEntry, Page
from .log import MessageLog

__all__ = ["CloseCode", "Connection", "ConnectionFigures", "ConnectionManager", "UnknownConnection"]

#: How much of the log a client that catches up is handed at once, in bytes.
_PAGE: Final = 64 * 1024


class UnknownConnection(SignalError, LookupError):
    """No connection of that id is open; it may have ended a moment ago."""


class KeepsDrafts(Protocol):
    """What has the log on disk, and says what of it may be seen: :class:`trio_signal.hub._kept.KeptLog`."""

    def check_room(self) -> None:
        """Make sure that there is room for another draft; raises :class:`StoreError` if not."""
        ...

    def keep(self, draft: LogEntry, *, time: int) -> LogEntry:
        """Have a draft written that came at ``time`` (milliseconds since the epoch), and return it."""
        ...

    def publish(self) -> LogEntry | None:
        """Make the next entry that is on disk visible and return it; None if there is none."""
        ...


class ConnectionManager:
    """Everybody who is connected to one log.

    All methods are synchronous and never wait.

    Args:
        log: what numbers and keeps the messages.
        wall: the time of day in milliseconds since the epoch.
        on_slow: told of each connection that is closed because it was too slow.
        kept: what has the log on disk; None for a log in memory alone.
    """

    def __init__(
        self,
        log: MessageLog,
        *,
        wall: Callable[[], int],
        on_slow: Callable[[Connection], None] | None = None,
        kept: KeepsDrafts | None = None,
    ) -> None:
        self.log: Final = log
        self._kept: Final = kept
        self._wall: Final = wall
        self._on_slow: Final = on_slow
        self._all: Final[dict[str, Connection]] = {}
        self._live: Final[dict[Outlet, Connection]] = {}
        #: Frames that are to be written together; None while each is written for itself.
        self._gathered: list[bytes] | None = None
        self.delivered = 0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Everybody who is connected, the oldest first."""
        return tuple(self._all.values())

    def broadcast(self, data: bytes | str, *, timestamp: int | None = None) -> LogEntry:
        """Number a message, store it, and hand it to everybody, all in one step (contract H1, H8).

        Stored even with nobody connected: whoever comes later can have it. With a store on disk
        the message has its number at once, and everybody is handed it when it has been written.

        Args:
            data: the gateway's frame. What is no JSON is carried as a JSON string of its text.
            timestamp: when it came, in milliseconds since the epoch; now by default.

        Raises:
            StoreError: too much waits for the disk already; the message has no number. Never
                without a store.
        """
        if self._kept is not None:
            self._kept.check_room()
        return self.take_in(data, timestamp=timestamp)

    def broadcast_gap(self, gap: Gap, *, timestamp: int | None = None) -> LogEntry:
        """Number an absence from the gateway, store it, and hand it to everybody, as a message is."""
        if self._kept is not None:
            self._kept.check_room()
        return self.take_in_gap(gap, timestamp=timestamp)

    def take_in(self, data: bytes | str, *, timestamp: int | None = None) -> LogEntry:
        """Do as :meth:`broadcast`, however much waits for the disk: what the client has taken must go on."""
        payload = _protocol.as_json(data)
        if self._kept is None:
            when = self._wall() if timestamp is None else timestamp
            return self._hand_out(self.log.append(payload, timestamp=when))
        now = self._wall()
        draft = self.log.draft(payload, timestamp=now if timestamp is None else timestamp)
        return self._kept.keep(draft, time=now)

    def take_in_gap(self, gap: Gap, *, timestamp: int | None = None) -> LogEntry:
        """Do as :meth:`broadcast_gap`, however much waits for the disk."""
        now = self._wall()
        when = now if timestamp is None else timestamp
        if self._kept is None:
            return self._hand_out(self.log.append_gap(gap, timestamp=when))
        return self._kept.keep(self.log.draft_gap(gap, timestamp=when), time=now)

    @contextmanager
    def one_write(self) -> Generator[None]:
        """Hand out all that is numbered or published in the block at its end, with one write for each client.

        Nothing may wait in the block: it is the one step in which messages are numbered, stored and handed
        out (contract H1).
        """
        frames: list[bytes] = []
        self._gathered = frames
        try:
            yield
        finally:
            self._gathered = None
            if frames:
                self._write_all(frames)

    def publish(self) -> LogEntry | None:
        """Hand the next entry that is on disk by now to everybody; None if there is none."""
        entry = None if self._kept is None else self._kept.publish()
        return None if entry is None else self._hand_out(entry)

    def send_message(self, connection_id: str, data: bytes | str) -> int:
        """Send something to one client alone: neither numbered by the log nor stored.

        Returns:
            Its number in that connection's own count, from 1.

        Raises:
            UnknownConnection: there is no such connection.
        """
        connection = self._all.get(connection_id)
        if connection is None:
            raise UnknownConnection(f"no connection {connection_id!r} is open")
        connection.sequence += 1
        payload = _protocol.direct(connection.sequence, self._wall(), _protocol.as_json(data))
        self._push(connection, _protocol.text_frame(payload))
        return connection.sequence

    def get_messages_since(self, since: int, *, epoch: str | None = None, limit: int | None = None) -> Page:
        """Return what came after message ``since``; see :meth:`MessageLog.since`."""
        return self.log.since(since, epoch=epoch, limit=limit)

    def connect(
        self,
        outlet: Outlet,
        *,
        subject: str,
        remote: str,
        heartbeat_interval: float,
        since: int | None = None,
        epoch: str | None = None,
    ) -> Connection:
        """Register a client and say hello to it, in one step.

        Without ``since`` it is live from the head on. With it, it catches up by
        :meth:`next_page`; if the log cannot give all, it is told of the hole first.
        """
        log = self.log
        head = log.head
        position = head if since is None else since
        connection = Connection(
            outlet, position, epoch, subject=subject, remote=remote, connected_at=self._wall()
        )
        hello = _protocol.hello(log.epoch, head, log.oldest, heartbeat_interval, connection.id)
        self._all[connection.id] = connection
        if since is None:
            self._turn_live(connection)
        self._push(connection, _protocol.text_frame(hello))
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Forget a client. Idempotent."""
        self._all.pop(connection.id, None)
        self._live.pop(connection.outlet, None)
        connection.is_live = False

    def next_page(self, connection: Connection) -> bytes:
        """Return the next frames, joined, for a client that catches up.

        Nothing, in the very step in which the client has everything: from then on it is live.
        """
        page = self.log.since(connection.position, epoch=connection.epoch, max_bytes=_PAGE)
        # Only the first page can belong to another epoch; from there on the position is one of ours.
        connection.epoch = None
        frames = [] if page.gap is None else [_protocol.text_frame(_protocol.hole(page.gap))]
        frames += [_protocol.text_frame(entry.body) for entry in page.messages]
        if page.messages:
            connection.position = page.messages[-1].sequence
        elif page.gap is not None:
            connection.position = page.oldest - 1
        else:
            self._turn_live(connection)
        self.delivered += len(page.messages)
        return b"".join(frames)

    def heartbeat(self, ping: bytes, *, among: Iterable[Connection] | None = None) -> int:
        """Tell live clients the head, and send all a ping frame. Return how many were live.

        Args:
            ping: the frame.
            among: to whom, as far as they are connected; to everybody by default.
        """
        beat = _protocol.text_frame(_protocol.heartbeat(self.log.head)) + ping
        live = 0
        for connection in self.connections if among is None else among:
            if connection.is_live:
                live += 1
                self._push(connection, beat)
            elif connection.id in self._all:
                # It would take the head for the sign of a hole. A ping without room is no reason to end it.
                connection.outlet.push(ping)
        return live

    def figures(self) -> list[ConnectionFigures]:
        """Return the figures of every connection, the oldest first."""
        head = self.log.head
        return [figures_of(connection, head) for connection in self._all.values()]

    def _turn_live(self, connection: Connection) -> None:
        connection.is_live = True
        self._live[connection.outlet] = connection

    def _hand_out(self, entry: LogEntry) -> LogEntry:
        frame = _protocol.text_frame(entry.body)
        if self._gathered is None:
            self._write_all([frame])
        else:
            self._gathered.append(frame)
        return entry

    def _write_all(self, frames: list[bytes]) -> None:
        """Write frames to every live client."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        size = len(data)
        slow: list[Outlet] = []
        # Each delivery goes through here, so the common case makes no other call than the one to the system.
        for outlet in self._live:
            # Not called as a method, for which CPython would search the type first.
            write = outlet.write
            try:
                taken = write(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                # Broken, as its reader learns too. Until then there is nobody to write to.
                continue
            if taken < size and not outlet.keep(frames, taken):
                slow.append(outlet)
        self.delivered += (len(self._live) - len(slow)) * len(frames)
        for outlet in slow:
            self._give_up(self._live[outlet])

    def _push(self, connection: Connection, frame: bytes) -> None:
        if not connection.outlet.push(frame):
            self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        """Close a client that takes nothing any more; it is told to come back and recover (contract H7)."""
        self.disconnect(connection)
        connection.outlet.end(CloseCode.TOO_SLOW, "too slow: come back and recover", flush=False)
        if self._on_slow is not None:
            self._on_slow(connection)

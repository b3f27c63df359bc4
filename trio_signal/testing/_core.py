"""The state of one fake gateway, which its connections share."""

import json
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from ._account_state import AccountState
from ._answers import SendAnswer, daemon_down, error, ok
from ._chunks import event_frame, torn_event
from ._config import Config
from ._dial_faults import DialFaults
from ._door import Door
from ._event_stream import EventStream
from ._frames import fragmented, server_frame
from ._link import Link
from ._mailbox import Letter, PostOffice, java_json
from ._records import Records, SendRequest
from ._socket import Outgoing, ReceiveSocket, Room
from ._streams import Transport
from ._websocket_receiver import WebSocketReceiver

EXIT_AFTER = 30.1
"""Seconds without signal-cli after which the gateway gives up and exits (measured)."""
STOP_GRACE = 2.0
"""Seconds that signal-cli gives to requests in work when it is told to stop."""


class Core:
    """Accounts, signal-cli's state, receive sockets, scripted answers and faults of one gateway."""

    def __init__(self, config: Config, nursery: trio.Nursery) -> None:
        self.config = config
        self.nursery = nursery
        self.records = Records()
        self.links: dict[Link, None] = {}  # in order of arrival, so that one run is like the other
        period = config.keep_alive if config.is_signal_cli else config.ping_period
        self.room = Room(self.records, period, trio.Lock() if config.lose_bursts else None)
        self.office = PostOffice(config, self.room, nursery, frames=self._frames, now=self.now)
        self.state = AccountState()
        self.dial_faults = DialFaults()
        self.scripts: deque[SendAnswer] = deque()
        self.other_scripts: dict[str, deque[SendAnswer]] = {}
        self.attachments: dict[str, bytes] = {}
        self.door: Door
        self.slice_size: int | None = None
        self.cut_next: int | None = None
        self.fragment_next = False
        self.duplicates = 0
        self.daemon_up = True
        self._in_flight: dict[SendRequest, trio.Event] = {}
        self._outage = trio.CancelScope()
        self._opened = trio.current_time()
        self._last_timestamp = 0

    # --- time ---

    def now(self) -> float:
        """Seconds since the epoch by the gateway's clock, which Trio's clock drives."""
        return self.config.start_time + trio.current_time() - self._opened

    def next_timestamp(self) -> int:
        """Milliseconds since the epoch, each later than the one before."""
        self._last_timestamp = max(self._last_timestamp + 1, round(self.now() * 1000))
        return self._last_timestamp

    # --- connections ---

    def new_link(self, transport: Transport) -> Link:
        """Note a connection that came in."""
        link = Link(transport, self.slice_size)
        self.links[link] = None
        return link

    def new_socket(self, link: Link, account: str, headers: Mapping[str, str]) -> ReceiveSocket:
        """Note a receive socket whose handshake is being answered: it is a consumer from now on."""
        self.records.counters.handshakes += 1
        number = self.records.counters.handshakes
        sock = WebSocketReceiver(self.room, link, number=number, account=account, headers=headers)
        self.room.sockets.append(sock)
        self.records.changed()
        return sock

    def new_stream(self, link: Link, account: str, headers: Mapping[str, str]) -> EventStream:
        """Note an event stream that is being opened; empty ``account`` for all."""
        self.records.counters.handshakes += 1
        stream = EventStream(
            self.room,
            link,
            number=self.records.counters.handshakes,
            account=account,
            headers=headers,
            accounts=(account,) if account else self.config.accounts,
            on_leave=self.office.left,
        )
        self.room.sockets.append(stream)
        self.records.changed()
        return stream

    def end_all(self) -> None:
        """End every connection, as when the process dies: no close frame, no answer."""
        for sock in tuple(self.room.sockets):
            sock.drop()
        for link in self.links:
            link.end()

    def end_http(self) -> None:
        """End every connection that is no receive socket."""
        for link in self.links:
            if not any(sock.is_on(link) for sock in self.room.sockets):
                link.end()

    def set_slice_size(self, size: int | None) -> None:
        """Have every connection, open or to come, write in slices."""
        self.slice_size = size
        for link in self.links:
            link.slice_size = size

    def heal(self) -> None:
        """End every lasting fault and forget those that wait."""
        self.door.heal()
        self.dial_faults.heal()
        self.scripts.clear()
        self.other_scripts.clear()
        self.set_slice_size(None)
        self.cut_next, self.fragment_next, self.duplicates = None, False, 0
        if not self.daemon_up and (self.door.is_open or self.config.is_signal_cli):
            self.daemon_back()
        self.unstall()

    def unstall(self) -> None:
        """Let every receive socket write the one message that it kept."""
        self.room.stalled = False
        for sock in self.room.sockets:
            sock.release()
        self.office.go_on()
        self.records.changed()

    # --- delivering ---

    def consumers(self, account: str | None) -> Sequence[ReceiveSocket]:
        """Receive sockets of ``account`` (of any for None) that are not closing."""
        return [
            sock
            for sock in self.room.sockets
            if not sock.is_closing and (account is None or sock.receives(account))
        ]

    def deliver(
        self, frame: Mapping[str, Any], *, account: str, timestamp: int | None, restamp: bool
    ) -> bytes:
        """Let signal-cli have a message, as ``frame`` says, and return its JSON.

        Args:
            frame: the whole of it, with ``envelope`` and ``account``.
            account: the receiving account.
            timestamp: of the envelope, for the ledger.
            restamp: whether a message that has to wait gets the time of its delivery.
        """
        if not self.config.is_signal_cli:
            payload = json.dumps(frame).encode()
            self.fan_out(payload, account=account, timestamp=timestamp)
            return payload
        payload = java_json(frame)
        letter = Letter(payload, timestamp, frame if restamp else None)
        self.office.put(account, letter)
        return payload

    def deliver_raw(self, payload: bytes, *, account: str | None) -> None:
        """Give ``payload`` as it is to who receives for ``account``, or to all (None)."""
        if self.config.is_signal_cli:
            self.office.put(account or self.config.account, Letter(payload, to_all=account is None))
        else:
            self.fan_out(payload, account=account)

    def fan_out(self, payload: bytes, *, account: str | None, timestamp: int | None = None) -> None:
        """Give a message to all who receive for ``account``, or to all; lose it if nobody does."""
        if not self.daemon_up:
            self.records.counters.dropped_daemon_down += 1
            return
        consumers = self.consumers(account)
        if not consumers:
            self.records.counters.dropped_without_consumer += 1
        else:
            items = self._frames(payload, timestamp)
            for sock in consumers:
                sock.offer(items)
        if self.config.lose_bursts:
            self._displace(account)

    def _displace(self, account: str | None) -> None:
        """Hand other numbers' consumers what they will throw away: it keeps their writers busy (measured)."""
        for sock in self.room.sockets:
            if account not in (None, sock.account):
                sock.offer([Outgoing(b"")])

    def _frames(self, payload: bytes, timestamp: int | None) -> list[Outgoing]:
        in_pieces, whole = (
            (torn_event, event_frame) if self.config.is_signal_cli else (fragmented, server_frame)
        )
        if self.cut_next is not None:
            after, self.cut_next = self.cut_next, None
            return [Outgoing(whole(payload)[:after], then="end")]
        build, self.fragment_next = (in_pieces if self.fragment_next else whole), False
        item = Outgoing(build(payload), timestamp, message=True)
        if self.duplicates:
            self.duplicates -= 1
            return [item, item]
        return [item]

    # --- sending, and the way to signal-cli ---

    def next_answer(self, send: SendRequest) -> SendAnswer:
        """What ``send``, which the gateway itself found to be well, gets."""
        if not self.daemon_up:
            return daemon_down()
        if self.scripts:
            return self.scripts.popleft()
        if send.number not in self.config.accounts:
            return error(400, "Specified account does not exist")
        return ok()

    @contextmanager
    def flight(self, send: SendRequest) -> Generator[trio.Event]:
        """Count ``send`` as in flight; the event is set when signal-cli goes away meanwhile."""
        lost = self._in_flight[send] = trio.Event()
        counters = self.records.counters
        counters.most_sends_in_flight = max(counters.most_sends_in_flight, len(self._in_flight))
        try:
            yield lost
        finally:
            del self._in_flight[send]

    @property
    def sends_in_flight(self) -> int:
        """Sends that wait for signal-cli now."""
        return len(self._in_flight)

    def daemon_lost(self, seconds: float | None) -> None:
        """Take signal-cli away; the REST gateway exits when that lasts over `EXIT_AFTER`.

        signal-cli's own daemon is gone itself, with all its connections.
        """
        self._outage.cancel()
        self._outage = trio.CancelScope()
        self.daemon_up = False
        if self.config.is_signal_cli:
            self._end_process()
            if seconds is None:
                return
        else:
            for lost in self._in_flight.values():
                lost.set()
        self.nursery.start_soon(self._outlast, self._outage, seconds)

    def daemon_back(self) -> None:
        """Bring signal-cli back."""
        self._outage.cancel()
        self.daemon_up = True
        if self.config.is_signal_cli:
            self.open()

    def open(self) -> None:
        """Listen, with signal-cli there.

        Raises:
            OSError: the port was taken meanwhile.
        """
        self.door.open()
        self.office.restart()

    def die(self) -> None:
        """End the gateway's process: every connection ends, new ones are refused."""
        self._outage.cancel()
        if self.config.is_signal_cli:
            self.daemon_up = True  # What has ended for good is not merely away, and does not heal.
        self._end_process()

    def stop_gracefully(self) -> None:
        """End signal-cli as SIGTERM does: streams get their last chunk, requests in work `STOP_GRACE`."""
        self._outage.cancel()
        self.door.close()
        self.office.crash()
        for stream in self.office.streams("", everybody=True):
            stream.finish()
        self.nursery.start_soon(self._linger, tuple(self.links))

    def _end_process(self) -> None:
        self.door.close()
        self.office.crash()
        self.end_all()

    async def _linger(self, links: Sequence[Link]) -> None:
        with trio.move_on_after(STOP_GRACE):
            await self.records.until(lambda: not any(link.is_busy and link in self.links for link in links))
        for link in links:
            link.end()

    async def _outlast(self, scope: trio.CancelScope, seconds: float | None) -> None:
        with scope:
            if seconds is None or (seconds > EXIT_AFTER and not self.config.is_signal_cli):
                await trio.sleep(EXIT_AFTER)
                self.die()
            else:
                await trio.sleep(seconds)
                self.daemon_back()

"""The fake gateway's public face: what bot authors use in their tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from . import envelopes
from ._answers import go_json
from ._core import Core
from ._faults import Faults
from ._records import HttpRequest, LedgerEntry, SendRequest, Statistics
from ._socket import ReceiveSocket
from ._streams import MemoryStream

_MEMORY_PORT = 8080


_SERVER_STAMPS = {"serverReceivedTimestamp", "serverDeliveredTimestamp"}


class FakeGateway(Faults):
    """A gateway as measured, with every fault that was seen or is to be feared.

    It is a signal-cli-rest-api in json-rpc mode, or signal-cli's own daemon (``kind="signal-cli"``). Made by
    `open_fake_gateway`. Clients reach it at `url` over TCP, or in memory through `connect`.
    """

    def __init__(self, core: Core, host: str) -> None:
        super().__init__(core)
        self._host = host

    # --- where and what it is ---

    @property
    def account(self) -> str:
        """The account that `deliver` delivers to."""
        return self._core.config.account

    @property
    def port(self) -> int | None:
        """The TCP port; None when it is reached in memory only. It stays the same over `stop` and `start`."""
        return self._core.door.port

    @property
    def url(self) -> str:
        """The base URL for HTTP, base path included."""
        return self._url("http")

    @property
    def ws_url(self) -> str:
        """The URL of the receive socket of `account`."""
        return f"{self._url('ws')}/v1/receive/{self.account}"

    async def connect(self, host: str, port: int) -> MemoryStream:
        """Open one connection in memory; the arguments only go into the error's text. A checkpoint.

        Raises:
            ConnectionRefusedError: the gateway is down, or told to refuse.
        """
        return await self._core.door.connect(host, port)

    # --- what it has seen ---

    @property
    def received(self) -> Sequence[SendRequest]:
        """All that was sent into chats and came in whole, reactions and deletions too, in order."""
        return self._core.records.received

    @property
    def requests(self) -> Sequence[HttpRequest]:
        """Every HTTP request, handshakes and event streams included."""
        return self._core.records.requests

    @property
    def connections(self) -> Sequence[ReceiveSocket]:
        """The receive sockets or event streams open now, in order of opening, half-open ones included."""
        return tuple(self._core.room.sockets)

    @property
    def handshakes(self) -> int:
        """Receive sockets or event streams opened so far."""
        return self._core.records.counters.handshakes

    @property
    def ledger(self) -> Sequence[LedgerEntry]:
        """Each message frame whose last byte was written, in order: what a client has to account for.

        On a real port "written" means handed to the kernel, which a reset or a dead client can still take
        away.
        """
        return self._core.records.ledger

    @property
    def attachments(self) -> dict[str, bytes]:
        """What GET /v1/attachments/{id} or ``getAttachment`` gives; put in what a client is to find."""
        return self._core.attachments

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The groups by internal id (base64), as signal-cli lists them: see `group` for making one."""
        return self._core.state.groups

    @property
    def contacts(self) -> dict[str, dict[str, Any]]:
        """The contacts by number or UUID, as signal-cli lists them: see `contact`."""
        return self._core.state.contacts

    @property
    def profiles(self) -> dict[str, dict[str, Any]]:
        """What the accounts have set as their profiles: ``givenName``, ``about``, ``hasAvatar``."""
        return self._core.state.profiles

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        core = self._core
        return Statistics(
            **vars(core.records.counters),
            connections=len(core.room.sockets),
            requests=len(core.records.requests),
            refused=core.door.refused,
            sends=len(core.records.received),
            sends_in_flight=core.sends_in_flight,
            delivered=len(core.records.ledger),
            kept=core.office.kept,
        )

    # --- waiting; all are checkpoints, and cancelling them only ends the waiting ---

    async def wait_connected(self, count: int = 1) -> None:
        """Wait until ``count`` receive sockets are open that are neither half-open nor closing."""
        await self._core.records.until(lambda: len(self._live(None)) >= count)

    async def wait_consumers(self, count: int = 1, *, account: str | None = None) -> None:
        """Wait until ``count`` such sockets are open for ``account`` (default: the gateway's own)."""
        wanted = account or self.account
        await self._core.records.until(lambda: len(self._live(wanted)) >= count)

    async def wait_handshakes(self, count: int) -> None:
        """Wait until ``count`` receive sockets have been opened in all."""
        await self._core.records.until(lambda: self.handshakes >= count)

    async def wait_disconnected(self) -> None:
        """Wait until no receive socket is open but half-open ones."""
        room = self._core.room
        await self._core.records.until(lambda: all(sock.is_half_open for sock in room.sockets))

    async def wait_received(self, count: int) -> None:
        """Wait until ``count`` sends have come in, in all."""
        await self._core.records.until(lambda: len(self.received) >= count)

    async def wait_requests(self, count: int) -> None:
        """Wait until ``count`` HTTP requests have come in, in all."""
        await self._core.records.until(lambda: len(self.requests) >= count)

    async def wait_delivered(self) -> None:
        """Wait until all that was delivered has been written to the sockets that are still open."""
        room = self._core.room
        office = self._core.office
        await self._core.records.until(
            lambda: office.is_settled and all(sock.is_idle or sock.is_half_open for sock in room.sockets)
        )

    # --- delivering ---

    def deliver(
        self,
        envelope: Mapping[str, Any] | None = None,
        /,
        *,
        text: str | None = "hi",
        sender: str = envelopes.PEER,
        group: str | None = None,
        timestamp: int | None = None,
        account: str | None = None,
        **more: Any,
    ) -> bytes:
        """Deliver a message to all who receive for ``account``, as signal-cli does, and return its JSON.

        If nobody does, it is lost for good, as with the real gateway; `Statistics.dropped_without_consumer`
        counts it. signal-cli itself, unless ``on-start``, leaves it on Signal's server (`Statistics.kept`)
        and delivers it to the next event stream, with the time of that as its ``serverDeliveredTimestamp``.

        Args:
            envelope: made with `trio_signal.testing.envelopes`; default: a text message
                made from ``text``, ``sender``, ``group`` and ``more``, which count for nothing otherwise.
            text: its text.
            sender: the sender's number.
            group: the internal id (base64) of the group it is for.
            timestamp: milliseconds since the epoch; default: a fresh one, later than all before.
            account: the receiving account; default: the gateway's own.
            more: other fields of the data message.
        """
        stamp = timestamp or self._core.next_timestamp()
        if envelope is None:
            envelope = envelopes.text(text, sender=sender, group=group, **more)
        return self._deliver(envelope, stamp, account)

    def deliver_raw(self, data: bytes | str, *, account: str | None = None, to_all: bool = False) -> bytes:
        """Deliver the content of a text frame as it is, to who receives for ``account``, or to everybody.

        On signal-cli it is the data of an event; each line of it becomes a field of its own.
        """
        payload = data.encode() if isinstance(data, str) else data
        self._core.deliver_raw(payload, account=None if to_all else account or self.account)
        return payload

    def deliver_error(self, text: str) -> bytes:
        """Deliver ``{"error": text}`` to everybody, whatever their number, as a daemon's error becomes.

        signal-cli itself never does that.
        """
        return self.deliver_raw(go_json({"error": text}), to_all=True)

    def deliver_exception(
        self,
        type: str = "UntrustedIdentityException",  # noqa: A002 - signal-cli's own word
        message: str | None = "untrusted identity",
        *,
        sender: str = envelopes.PEER,
        account: str | None = None,
    ) -> bytes:
        """Deliver what a message becomes that cannot be decrypted: an envelope without content."""
        failed = {"exception": {"message": message, "type": type}}
        return self._deliver(
            envelopes.envelope(sender=sender), self._core.next_timestamp(), account, **failed
        )

    # --- the process ---

    def stop(self) -> None:
        """Stop listening: connects are refused until `start`. What is connected stays so."""
        self._core.door.close()

    async def start(self) -> None:
        """Listen again on the same port, with signal-cli there. A checkpoint.

        Raises:
            OSError: the port was taken meanwhile.
        """
        await trio.lowlevel.checkpoint()
        self._core.daemon_back()
        self._core.open()

    def terminate(self) -> None:
        """End as by SIGTERM. The REST gateway does not know it: see `kill`.

        signal-cli refuses new connections, ends each event stream with its last chunk, answers what is in
        work (for up to 2 s), and is gone (measured). A message that is being written is written again by the
        next process.
        """
        if self._core.config.is_signal_cli:
            self._core.stop_gracefully()
        else:
            self._core.die()

    def kill(self) -> None:
        """Die as the real gateway does by any signal: connections get a bare end, new ones are refused.

        What signal-cli has left on Signal's server stays there, and what it was writing is written again.
        """
        self._core.die()

    async def restart(self, down_for: float = 0.0) -> None:
        """Die, and be back after ``down_for`` seconds. A checkpoint; cancelled while down, it stays down."""
        self.kill()
        await trio.sleep(down_for)
        await self.start()

    def _deliver(self, envelope: Mapping[str, Any], stamp: int, account: str | None, **more: Any) -> bytes:
        own = {key: envelope[key] for key in _SERVER_STAMPS if envelope.get(key) is not None}
        complete = envelopes.stamped(envelope, stamp)
        on_server = self._core.config.is_signal_cli and envelope.keys() >= _SERVER_STAMPS
        if on_server:
            now = round(self._core.now() * 1000)
            complete |= dict.fromkeys(_SERVER_STAMPS, now) | own
        receiver = account or self.account
        return self._core.deliver(
            {"envelope": complete, **more, "account": receiver},
            account=receiver,
            timestamp=complete.get("timestamp"),
            restamp=on_server and "serverDeliveredTimestamp" not in own,
        )

    def _live(self, account: str | None) -> Sequence[ReceiveSocket]:
        return [sock for sock in self._core.consumers(account) if not sock.is_half_open]

    def _url(self, scheme: str) -> str:
        config = self._core.config
        secure = "s" if config.ssl_context is not None else ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}{secure}://{host}:{self.port or _MEMORY_PORT}{config.base_path}"

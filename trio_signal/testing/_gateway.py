"""The fake gateway's public face: what bot authors use in their tests."""

import json
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import trio

from . import envelopes
from ._answers import go_json
from ._core import Config, Core
from ._door import Door, lone_exception
from ._faults import Faults
from ._records import HttpRequest, LedgerEntry, SendRequest, Statistics
from ._serve import serve
from ._socket import ReceiveSocket
from ._streams import MemoryStream

START_TIME = 1_795_302_674.0
"""When a fake gateway's clock starts, in seconds since the epoch: that of the recordings."""

_MEMORY_PORT = 8080


class FakeGateway(Faults):
    """A signal-cli-rest-api in json-rpc mode, as measured, with every fault that was seen or is to be feared.

    Made by `open_fake_gateway`. Clients reach it at `url` over TCP, or in memory through `connect`.
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
        """Every POST /v2/send whose whole body came in, in order of arrival."""
        return self._core.records.received

    @property
    def requests(self) -> Sequence[HttpRequest]:
        """Every HTTP request, handshakes included."""
        return self._core.records.requests

    @property
    def connections(self) -> Sequence[ReceiveSocket]:
        """The receive sockets open now, in order of opening; half-open ones are among them."""
        return tuple(self._core.room.sockets)

    @property
    def handshakes(self) -> int:
        """Receive sockets opened so far."""
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
        """What GET /v1/attachments/{id} gives; put in what a client is to find."""
        return self._core.attachments

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
        await self._core.records.until(
            lambda: all(sock.is_idle or sock.is_half_open for sock in room.sockets)
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
        counts it.

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
        complete = envelopes.stamped(envelope, stamp)
        receiver = account or self.account
        payload = json.dumps({"envelope": complete, "account": receiver}).encode()
        self._core.fan_out(payload, account=receiver, timestamp=complete.get("timestamp"))
        return payload

    def deliver_raw(self, data: bytes | str, *, account: str | None = None, to_all: bool = False) -> bytes:
        """Deliver the content of a text frame as it is, to who receives for ``account``, or to everybody."""
        payload = data.encode() if isinstance(data, str) else data
        self._core.fan_out(payload, account=None if to_all else account or self.account)
        return payload

    def deliver_error(self, text: str) -> bytes:
        """Deliver ``{"error": text}`` to everybody, whatever their number, as a daemon's error becomes."""
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
        stamp = self._core.next_timestamp()
        receiver = account or self.account
        frame = {
            "envelope": envelopes.envelope(sender=sender, timestamp=stamp),
            "exception": {"message": message, "type": type},
            "account": receiver,
        }
        payload = json.dumps(frame).encode()
        self._core.fan_out(payload, account=receiver, timestamp=stamp)
        return payload

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
        self._core.door.open()

    def kill(self) -> None:
        """Die as the real gateway does by any signal: connections get a bare end, new ones are refused."""
        self._core.die()

    async def restart(self, down_for: float = 0.0) -> None:
        """Die, and be back after ``down_for`` seconds. A checkpoint; cancelled while down, it stays down."""
        self.kill()
        await trio.sleep(down_for)
        await self.start()

    def _live(self, account: str | None) -> Sequence[ReceiveSocket]:
        return [sock for sock in self._core.consumers(account) if not sock.is_half_open]

    def _url(self, scheme: str) -> str:
        config = self._core.config
        secure = "s" if config.ssl_context is not None else ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}{secure}://{host}:{self.port or _MEMORY_PORT}{config.base_path}"


@asynccontextmanager
async def open_fake_gateway(
    account: str = "+15550001",
    *,
    version: str = "0.100",
    accounts: Iterable[str] | None = None,
    mode: str = "json-rpc",
    host: str = "127.0.0.1",
    port: int | None = 0,
    ssl_context: ssl.SSLContext | None = None,
    base_path: str = "",
    answer_delay: float = 0.0,
    ping_period: float = 54.0,
    lose_bursts: bool = False,
    hide: Iterable[str] = (),
    require_header: tuple[str, str] | None = None,
    start_time: float = START_TIME,
) -> AsyncGenerator[FakeGateway]:
    """Run a fake signal-cli-rest-api for the length of an ``async with``.

    It uses Trio's clock only, so that a test under pytest-trio's ``autojump_clock`` needs no real time and
    gets the same timestamps each time. Leaving the context closes everything at once.

    Under a virtual clock send what is larger than about 100 kB through `FakeGateway.connect`: TCP takes real
    time for it, in which the clock jumps and deadlines pass.

    Args:
        account: the number that `FakeGateway.deliver` delivers to.
        version: what /v1/about says. Up to ``0.100`` /v2/send answers an object, from ``0.101`` on an array.
        accounts: what /v1/accounts lists, and who may send; default: ``account`` alone.
        mode: what /v1/about says; in any mode but ``"json-rpc"`` the receive path answers 200 with a list, no
            WebSocket.
        host: the address to listen on: an IP address, not a name, since looking that up takes a thread and
            real time.
        port: the TCP port, 0 for any; None for memory only, reached through `FakeGateway.connect`.
        ssl_context: serve TLS with it, in memory too.
        base_path: a path in front of all others, such as ``"/signal"``.
        answer_delay: seconds that signal-cli takes for a send.
        ping_period: seconds between the gateway's pings on each receive socket.
        lose_bursts: lose what the real gateway loses: messages that come while a writer is busy (section 4 of
            the measurements), and those that come between the 101 and the registering of the consumer; and
            have one client that does not read stop delivery to all.
        hide: paths that a proxy in front hides: 404, or the status that a mapping gives.
        require_header: name and value of a header without which everything is answered with 401.
        start_time: the gateway's wall clock at the start, in seconds since the epoch.

    Raises:
        OSError: it cannot listen there.
        ValueError: ``base_path`` does not start with a slash, or ends with one.
    """
    if base_path and (not base_path.startswith("/") or base_path.endswith("/")):
        raise ValueError(f"base_path must look like '/signal', not {base_path!r}")
    config = Config(
        account=account,
        accounts=(account,) if accounts is None else tuple(accounts),
        version=version,
        mode=mode,
        base_path=base_path,
        answer_delay=answer_delay,
        ping_period=ping_period,
        lose_bursts=lose_bursts,
        hide=_hidden(hide),
        require_header=require_header,
        ssl_context=ssl_context,
        start_time=start_time,
    )
    async with lone_exception(), trio.open_nursery() as nursery:
        core = Core(config, nursery)
        core.door = Door(partial(serve, core), nursery, host=host, port=port)
        core.door.open()
        try:
            yield FakeGateway(core, host)
        finally:
            core.door.shut()
            core.end_all()
            nursery.cancel_scope.cancel()


def _hidden(paths: Iterable[str]) -> dict[str, int]:
    if isinstance(paths, Mapping):
        return dict(cast(Mapping[str, int], paths))
    return dict.fromkeys(paths, 404)

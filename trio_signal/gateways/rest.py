"""signal-cli-rest-api in json-rpc mode: messages come over a WebSocket, sends go over HTTP.

Wire facts here were measured against releases 0.100 and head of 2026-08
(``bbernhard/signal-cli-rest-api``).
"""

import logging
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec
import trio

from .._continuity import GapReason
from .._credentials import Credentials
from .._dial import Address, Connect, open_stream
from .._errors import (
    TRANSIENT_STATUSES,
    AnswerError,
    GatewayError,
    LinkLost,
    Reason,
    UnknownAccount,
    WrongGatewayMode,
)
from .._http import StreamTransport, nothing_has_left, retry_after
from .._outgoing import Certainty, Failed, OutgoingMessage
from .._websocket import WebSocketLink, open_websocket
from . import SendResult
from ._rest_answers import Content, LocalFileError, encode_body, read_answer

_logger: Final = logging.getLogger("trio_signal.gateway")

#: The gateway pings each receive socket every 54 s, whether or not it has anything to deliver; one that stops while
#: it still answers our own pings has stopped delivering to everybody (contract L3).
STALL_LIMIT: Final = 65.0

#: After this many connections without any ping of the gateway's, something between us eats them.
_UNPINGED_LIMIT: Final = 3

#: A look-up that takes longer than this is skipped with a warning: /v1/accounts hangs while signal-cli does.
_LOOKUP_LIMIT: Final = 5.0

#: Read no more of an answer than this, in bytes.
_MAX_ANSWER: Final = 1024 * 1024

_MODES: Final = frozenset({"json-rpc", "json-rpc-native"})


class RestGateway:
    """A gateway of the kind signal-cli-rest-api. See :class:`trio_signal.gateways.Gateway`.

    Args:
        address: where it is.
        account: whose messages.
        credentials: what goes with each request.
        connect: opens TCP.
        ssl_context: for https; the system's authorities by default.
        http_client: an ``httpx.AsyncClient`` or anything of its shape; own one by default.
        ping_interval: silence before we ping, in seconds (contract L1).
        pong_timeout: silence after that before the link counts as dead, in seconds.
        send_timeout: how long a send may take, in seconds (contract O11).
        max_message_size: the largest WebSocket message taken, in bytes.
    """

    def __init__(
        self,
        address: Address,
        account: str,
        credentials: Credentials,
        *,
        connect: Connect,
        ssl_context: ssl.SSLContext | None,
        http_client: Any | None,
        ping_interval: float,
        pong_timeout: float,
        send_timeout: float,
        max_message_size: int,
    ) -> None:
        self._address = address
        self._account = account
        self._credentials = credentials
        self._connect = connect
        self._ssl_context = ssl_context
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._send_timeout = send_timeout
        self._max_message_size = max_message_size
        self._transport = StreamTransport(self._open_stream, base_path=address.path, max_answer=_MAX_ANSWER)
        self._own_client: httpx.AsyncClient | None = None
        # Only our own transport puts the base path in front by itself, where no log of httpx's shows it.
        self._base = str(address) + ("" if http_client is None else address.path)
        if http_client is None:
            # A proxy named in the environment would put another transport in the place of ours.
            http_client = self._own_client = httpx.AsyncClient(transport=self._transport, trust_env=False)
        self._http: Any = http_client
        self._asked_mode = False
        self._asked_accounts = False
        self._stall_watch = _StallWatch()
        self.phase = "connecting"

    @asynccontextmanager
    async def open_link(self) -> AsyncIterator["RestLink"]:
        """See :meth:`trio_signal.gateways.Gateway.open_link`."""
        self.phase = "asking for a token"
        await self._transport.renew()
        # A callable is asked for each attempt; a token that has expired meanwhile would only be refused.
        await self._credentials.renew()
        await self._check()
        headers = [(n.encode(), v.encode("latin-1")) for n, v in await self._credentials.headers()]
        self.phase = "connecting"
        stream = await self._open_stream()
        self.phase = "in the WebSocket handshake"
        resource = f"{self._address.path}/v1/receive/{quote(self._account, safe='+')}"
        async with open_websocket(
            stream,
            host=self._address.host_header,
            resource=resource,
            headers=headers,
            max_message_size=self._max_message_size,
        ) as socket:
            self.phase = "waiting for the first pong"
            yield RestLink(socket, self._stall_watch, self._ping_interval, self._pong_timeout)

    async def send(self, message: OutgoingMessage) -> SendResult:
        """See :meth:`trio_signal.gateways.Gateway.send`."""
        result: SendResult | None = None
        with trio.move_on_after(self._send_timeout):
            result = await self._attempt(message)
        if result is None:
            error = LinkLost(f"the gateway did not answer a send within {self._send_timeout:g} s")
            result = SendResult(Failed(error, Certainty.UNKNOWN))
        return result

    @property
    def can_renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.can_renew_credentials`."""
        return self._credentials.can_renew

    async def renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.renew_credentials`."""
        try:
            return await self._credentials.renew()
        except LinkLost:
            # It has been logged; there are no new credentials.
            return False

    async def aclose(self) -> None:
        """See :meth:`trio_signal.gateways.Gateway.aclose`."""
        if self._own_client is not None:
            await self._own_client.aclose()
        await trio.lowlevel.checkpoint()

    async def _open_stream(self) -> trio.abc.Stream:
        return await open_stream(self._address, self._connect, self._ssl_context)

    async def _attempt(self, message: OutgoingMessage) -> SendResult:
        try:
            headers, content = encode_body(message, self._account)
            status, wait, body = await self._request("POST", "/v2/send", headers, content)
        except LocalFileError as error:
            # The end of the JSON never left us, and the gateway acts on nothing less.
            return SendResult(Failed(error, Certainty.NOT_SENT))
        except Exception as error:  # noqa: BLE001  (any client of httpx's shape may be given, with errors of its own)
            if nothing_has_left(error) or isinstance(error, LinkLost):
                return SendResult(Failed(_cause(error), Certainty.NOT_SENT), retry=True)
            return SendResult(Failed(_cause(error), Certainty.UNKNOWN))
        return read_answer(status, body, recipient=message.recipient, wait=wait)

    async def _request(
        self, method: str, path: str, headers: dict[str, str], content: Content | None = None
    ) -> tuple[int, float | None, bytes]:
        """Return status, Retry-After and body."""
        sent = [*await self._credentials.headers(), ("Accept-Encoding", "identity"), *headers.items()]
        body = bytearray()
        async with self._http.stream(
            method,
            self._base + path,
            headers=sent,
            content=content,
            timeout=self._send_timeout,
            follow_redirects=False,
        ) as response:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _MAX_ANSWER:
                    raise AnswerError(f"the gateway's answer is over {_MAX_ANSWER} bytes", status=response.status_code)
        return response.status_code, retry_after(response.headers), bytes(body)

    async def _check(self) -> None:
        """Ask once whether this gateway can serve this account at all."""
        if not self._asked_mode:
            about = await self._look_up("/v1/about")
            mode = about.get("mode") if isinstance(about, dict) else None
            if isinstance(mode, str) and mode not in _MODES:
                raise WrongGatewayMode(
                    f"{self._address} runs in mode {mode!r}, which delivers nothing over a WebSocket; "
                    "start it with MODE=json-rpc"
                )
            self._asked_mode = True
        if not self._asked_accounts:
            accounts = await self._look_up("/v1/accounts")
            if isinstance(accounts, list) and self._account not in accounts:
                raise UnknownAccount(
                    f"{self._address} does not have the account {self._account} (it has {len(accounts)}); "
                    "register or link it there, or give another number"
                )
            self._asked_accounts = True

    async def _look_up(self, path: str) -> object:
        """Return decoded JSON, or None with a warning where something hides it."""
        self.phase = f"asking for {path}"
        status: int | None = None
        body = b""
        with trio.move_on_after(_LOOKUP_LIMIT):
            try:
                status, wait, body = await self._request("GET", path, {})
            except Exception as error:
                cause = _cause(error)
                raise (cause if isinstance(cause, GatewayError) else LinkLost(f"{path}: {cause}")) from error
        if status is None:
            _logger.warning("%s did not answer %s within %g s; going on unchecked", self._address, path, _LOOKUP_LIMIT)
            return None
        if status in TRANSIENT_STATUSES and status != 500:
            raise LinkLost(f"{self._address} answered {path} with HTTP {status}", status=status, retry_after=wait)
        try:
            if status == 200:
                return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        _logger.warning("%s hides %s (HTTP %d); going on unchecked", self._address, path, status)
        return None


def _cause(error: Exception) -> Exception:
    """Return our own error from behind an HTTP client's, or that one itself."""
    return error.__cause__ if isinstance(error.__cause__, GatewayError) else error


class _StallWatch:
    """Whether the lack of the gateway's own pings may be believed (contract L3)."""

    def __init__(self) -> None:
        self._seen_any = False
        self._unpinged = 0

    def deadline(self, opened: float, last_ping: float | None) -> float:
        """Return when a link counts as stalled, on Trio's clock."""
        if last_ping is not None:
            self._seen_any = True
            return last_ping + STALL_LIMIT
        if not self._seen_any and self._unpinged >= _UNPINGED_LIMIT:
            return math.inf
        return opened + STALL_LIMIT

    def is_stalled(self) -> bool:
        """Judge a link whose deadline has passed."""
        if not self._seen_any:
            self._unpinged += 1
            if self._unpinged >= _UNPINGED_LIMIT:
                _logger.warning(
                    "%d connections had no ping of the gateway's; something between us eats them, "
                    "so a stalled gateway cannot be noticed by that sign any more",
                    self._unpinged,
                )
                return False
        return True


class RestLink:
    """The receive socket of a REST gateway. See :class:`trio_signal.gateways.Link`."""

    def __init__(self, socket: WebSocketLink, stall_watch: _StallWatch, ping_interval: float, pong_timeout: float) -> None:
        self._socket = socket
        self._stall_watch = stall_watch
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._opened = self._last_frame = trio.current_time()
        self._stalled = False

    @property
    def bytes_received(self) -> int:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.bytes_received

    @property
    def last_received(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return self._socket.stream.last_received

    @property
    def absence(self) -> tuple[GapReason, float]:
        """See :class:`trio_signal.gateways.Link`."""
        if self._stalled:
            # A ping of the gateway's own shows that its writer still moved; a pong to ours shows nothing.
            return GapReason.STALLED, max(self._last_frame, self._socket.stream.last_pong_sent or self._opened)
        return GapReason.GATEWAY, self.last_received

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.ping()

    async def receive(self) -> list[str | bytes]:
        """See :class:`trio_signal.gateways.Link`."""
        frames = await self._socket.receive()
        self._last_frame = trio.current_time()
        return frames

    async def close(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        await self._socket.close()

    async def watch(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        while True:
            stalled_at = self._stall_watch.deadline(self._opened, self._socket.stream.last_pong_sent)
            await trio.sleep_until(min(self.last_received + self._ping_interval, stalled_at))
            # Bytes may have come while we slept, so look again instead of believing the alarm clock.
            now = trio.current_time()
            stalled_at = self._stall_watch.deadline(self._opened, self._socket.stream.last_pong_sent)
            if now >= stalled_at and self._stall_watch.is_stalled():
                self._stalled = True
                raise LinkLost(
                    f"the gateway answers, but has sent no ping of its own for {STALL_LIMIT:g} s, so it delivers nothing",
                    reason=Reason.GATEWAY_STALLED,
                )
            if now >= self.last_received + self._ping_interval:
                await self._ping_or_fail()

    async def _ping_or_fail(self) -> None:
        limit = self.last_received + self._ping_interval + self._pong_timeout
        with trio.move_on_at(limit):
            await self._socket.ping()
        # Any byte counts as life, the pong or another.
        if trio.current_time() >= self.last_received + self._ping_interval + self._pong_timeout:
            silence = self._ping_interval + self._pong_timeout
            raise LinkLost(f"nothing came for {silence:g} s, not even a pong", reason=Reason.NO_ANSWER)

"""signal-cli-rest-api in json-rpc mode: messages come over a WebSocket, sends go over HTTP.

Wire facts here were measured against releases 0.100 and head of 2026-08
(``bbernhard/signal-cli-rest-api``).
"""

import logging
import math
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import trio

from .._credentials import Credentials
from .._dial import Address, Connect, bad_certificate, open_stream
from .._errors import (
    TRANSIENT_STATUSES,
    AnswerError,
    GatewayError,
    LinkLost,
    UnknownAccount,
    WrongGatewayMode,
)
from .._http import StreamTransport, nothing_has_left, retry_after
from .._outgoing import Certainty, Failed, OutgoingMessage
from .._websocket import open_websocket
from . import SendResult
from ._rest_answers import Content, LocalFileError, encode_body, read_answer
from ._rest_link import RestLink, StallWatch

_logger: Final = logging.getLogger("trio_signal.gateway")

#: A look-up that takes longer than this is skipped with a warning: /v1/accounts hangs while signal-cli does.
_LOOKUP_LIMIT: Final = 5.0

#: Read no more of an answer than this, in bytes.
_MAX_ANSWER: Final = 1024 * 1024

_MODES: Final = frozenset({"json-rpc", "json-rpc-native"})


_T = TypeVar("_T")


class _About(msgspec.Struct):
    mode: str | None = None


class _Answer(NamedTuple):
    status: int
    wait: float | None
    body: bytes


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
        self._stall_watch = StallWatch()
        self.phase = "connecting"
        self._lookup: trio.CancelScope | None = None

    @asynccontextmanager
    async def open_link(self) -> AsyncGenerator[RestLink]:
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
        renewed = False
        # The attempt that follows asks again and says what is wrong.
        with suppress(LinkLost):
            renewed = await self._credentials.renew()
        await trio.lowlevel.checkpoint()
        return renewed

    async def aclose(self) -> None:
        """See :meth:`trio_signal.gateways.Gateway.aclose`."""
        if self._own_client is not None:
            await self._own_client.aclose()
        await trio.lowlevel.checkpoint()

    def _note_tls(self) -> None:
        self.phase = "in the TLS handshake"

    async def _open_stream(self) -> trio.abc.Stream:
        scope, phase = self._lookup, self.phase
        if scope is not None:
            # A look-up's limit is for an answer on a connection that stands: one that does not come about is
            # no gateway that hides something, and the attempt's own deadline deals with it.
            scope.deadline, self.phase = math.inf, "connecting"
        stream = await open_stream(self._address, self._connect, self._ssl_context, on_tls=self._note_tls)
        if scope is not None:
            scope.deadline, self.phase = trio.current_time() + _LOOKUP_LIMIT, phase
        return stream

    async def _attempt(self, message: OutgoingMessage) -> SendResult:
        try:
            headers, content = encode_body(message, self._account)
            async with aclosing(content) if not isinstance(content, bytes) else nullcontext():
                answer = await self._request("POST", "/v2/send", headers, content)
        except LocalFileError as error:
            # The end of the JSON never left us, and the gateway acts on nothing less.
            await trio.lowlevel.checkpoint()
            return SendResult(Failed(error, Certainty.NOT_SENT))
        # Any client of httpx's shape may be given, with errors of its own.
        except Exception as error:  # noqa: BLE001
            await trio.lowlevel.checkpoint()
            if nothing_has_left(error) or isinstance(error, LinkLost):
                return SendResult(Failed(self._cause(error), Certainty.NOT_SENT), retry=True)
            return SendResult(Failed(self._cause(error), Certainty.UNKNOWN))
        return read_answer(answer.status, answer.body, recipient=message.recipient, wait=answer.wait)

    async def _request(
        self, method: str, path: str, headers: dict[str, str], content: Content | None = None
    ) -> _Answer:
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
                    raise AnswerError(
                        f"the gateway's answer is over {_MAX_ANSWER} bytes", status=response.status_code
                    )
        return _Answer(response.status_code, retry_after(response.headers), bytes(body))

    async def _check(self) -> None:
        """Ask once whether this gateway can serve this account at all. A checkpoint."""
        await trio.lowlevel.checkpoint()
        if not self._asked_mode:
            about = await self._look_up("/v1/about", _About)
            if about is not None and about.mode is not None and about.mode not in _MODES:
                raise WrongGatewayMode(
                    f"{self._address} runs in mode {about.mode!r}, which delivers nothing over a WebSocket; "
                    "start it with MODE=json-rpc"
                )
            self._asked_mode = True
        if not self._asked_accounts:
            accounts = await self._look_up("/v1/accounts", list[str])
            if accounts is not None and self._account not in accounts:
                raise UnknownAccount(
                    f"{self._address} does not have the account {self._account} (it has {len(accounts)}); "
                    "register or link it there, or give another number"
                )
            self._asked_accounts = True

    async def _look_up(self, path: str, form: type[_T]) -> _T | None:
        """Return what is there, or None with a warning where something hides it."""
        self.phase = f"asking for {path}"
        answer: _Answer | None = None
        self._lookup = trio.CancelScope(deadline=trio.current_time() + _LOOKUP_LIMIT)
        with self._lookup:
            try:
                answer = await self._request("GET", path, {})
            except Exception as error:
                cause = self._cause(error)
                raise (cause if isinstance(cause, GatewayError) else LinkLost(f"{path}: {cause}")) from error
            finally:
                self._lookup = None
        # A 500 is the gateway's own trouble with that one question; the others are a proxy's and will pass.
        if answer is not None and answer.status in TRANSIENT_STATUSES - {500}:
            raise LinkLost(
                f"{self._address} answered {path} with HTTP {answer.status}",
                status=answer.status,
                retry_after=answer.wait,
            )
        found = _decode(answer.body, form) if answer is not None and answer.status == 200 else None
        if found is None:
            told = f"within {_LOOKUP_LIMIT:g} s" if answer is None else f"readably (HTTP {answer.status})"
            _logger.warning("%s does not answer %s %s; going on unchecked", self._address, path, told)
        return found

    def _cause(self, error: Exception) -> Exception:
        """Return what is behind an HTTP client's error where that says more, or that one itself."""
        # A client of the caller's may hide the cause with "from None"; the context still has it.
        behind = error.__cause__ or error.__context__
        while behind is not None:
            if isinstance(behind, GatewayError):
                return behind
            if isinstance(behind, ssl.SSLCertVerificationError):
                return bad_certificate(self._address, behind)
            behind = behind.__cause__ or behind.__context__
        return error


def _decode(body: bytes, form: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The caller says so.
        return None

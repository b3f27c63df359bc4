"""What the gateways that take sends over HTTP have in common: streams, requests, look-ups, credentials."""

import abc
import logging
import math
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any, Final, NamedTuple, TypeVar

import httpx
import msgspec
import trio

from .._continuity import Cursor
from .._credentials import Credentials
from .._dial import Address, Connect, bad_certificate, open_stream
from .._errors import TRANSIENT_STATUSES, AnswerError, GatewayError, LinkLost
from .._http import StreamTransport, nothing_has_left, retry_after
from .._outgoing import Certainty, Failed, OutgoingMessage
from . import Link, SendResult
from ._rest_answers import Content, LocalFileError, encode_body

_logger: Final = logging.getLogger("trio_signal.gateway")

#: A look-up that takes longer than this is skipped with a warning: /v1/accounts hangs while signal-cli does.
_LOOKUP_LIMIT: Final = 5.0

#: Read no more of an answer than this, in bytes.
_MAX_ANSWER: Final = 1024 * 1024

#: What a hub calls itself where a gateway tells its mode.
HUB_MODE: Final = "trio-signal-hub"

_T = TypeVar("_T")


class About(msgspec.Struct):
    """What a gateway says of itself."""

    mode: str | None = None


class Answer(NamedTuple):
    """An HTTP answer, whole."""

    status: int
    wait: float | None
    body: bytes


#: Says what an answer to a send means: takes status, body, ``recipient=`` and ``wait=``.
ReadAnswer = Callable[..., SendResult]


class Requests:
    """Streams and HTTP requests to one address, with its credentials.

    Args:
        address: where it is.
        credentials: what goes with each request.
        connect: opens TCP.
        ssl_context: for https; the system's authorities by default.
        http_client: an ``httpx.AsyncClient`` or anything of its shape; own one by default.
        send_timeout: how long a send may take, in seconds (contract O11).

    Attributes:
        address: where it is.
        credentials: what goes with each request.
        phase: what connecting is busy with.
        status: the answer to the last look-up; None if there was none.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        connect: Connect,
        ssl_context: ssl.SSLContext | None,
        http_client: Any | None,
        send_timeout: float,
    ) -> None:
        self.address: Final = address
        self.credentials: Final = credentials
        self.phase = "connecting"
        self.status: int | None = None
        self._connect = connect
        self._ssl_context = ssl_context
        self._send_timeout = send_timeout
        self._transport = StreamTransport(self.open_stream, base_path=address.path, max_answer=_MAX_ANSWER)
        self._own_client: httpx.AsyncClient | None = None
        # Only our own transport puts the base path in front by itself, where no log of httpx's shows it.
        self._base = str(address) + ("" if http_client is None else address.path)
        if http_client is None:
            # A proxy named in the environment would put another transport in the place of ours.
            http_client = self._own_client = httpx.AsyncClient(transport=self._transport, trust_env=False)
        self._http: Any = http_client
        self._lookup: trio.CancelScope | None = None
        self._about: About | None = None
        self._asked_about = False

    async def begin(self) -> None:
        """Begin an attempt: nothing of the last one is used again, a token is asked for anew. A checkpoint.

        Raises:
            LinkLost: the token callable failed.
        """
        self.phase = "asking for a token"
        await self._transport.renew()
        # A callable is asked for each attempt; a token that has expired meanwhile would only be refused.
        await self.credentials.renew()

    async def handshake_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what goes with a WebSocket handshake. A checkpoint."""
        headers = await self.credentials.headers()
        return [(name.encode(), value.encode("latin-1")) for name, value in headers]

    async def open_stream(self) -> trio.abc.Stream:
        """Open TCP, and TLS if the address says so. A checkpoint; see :func:`open_stream`."""
        scope, phase = self._lookup, self.phase
        if scope is not None:
            # A look-up's limit is for an answer on a connection that stands: one that does not come about is
            # no gateway that hides something, and the attempt's own deadline deals with it.
            scope.deadline, self.phase = math.inf, "connecting"
        stream = await open_stream(self.address, self._connect, self._ssl_context, on_tls=self._note_tls)
        if scope is not None:
            scope.deadline, self.phase = trio.current_time() + _LOOKUP_LIMIT, phase
        return stream

    async def about(self) -> About | None:
        """Return what the gateway says of itself, asked once; None where something hides it. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
        """
        await trio.lowlevel.checkpoint()
        if not self._asked_about:
            self._about = await self.look_up("/v1/about", About)
            self._asked_about = True
        return self._about

    def ask_anew(self) -> None:
        """Let the next :meth:`about` ask again if nothing is known yet."""
        self._asked_about = self._about is not None

    async def look_up(self, path: str, form: type[_T]) -> _T | None:
        """Return what is at a path, or None with a warning where something hides it. A checkpoint.

        Raises:
            LinkLost: it could not be asked for now.
        """
        self.phase, self.status = f"asking for {path}", None
        answer: Answer | None = None
        self._lookup = trio.CancelScope(deadline=trio.current_time() + _LOOKUP_LIMIT)
        with self._lookup:
            try:
                answer = await self._request("GET", path, {}, limit=self._send_timeout)
            except Exception as error:
                cause = self._cause(error)
                raise (cause if isinstance(cause, GatewayError) else LinkLost(f"{path}: {cause}")) from error
            finally:
                self._lookup = None
        self.status = answer.status if answer is not None else None
        # A 500 is the gateway's own trouble with that one question; the others are a proxy's and will pass.
        if answer is not None and answer.status in TRANSIENT_STATUSES - {500}:
            raise LinkLost(
                f"{self.address} answered {path} with HTTP {answer.status}",
                status=answer.status,
                retry_after=answer.wait,
            )
        found = _decode(answer.body, form) if answer is not None and answer.status == 200 else None
        if found is None:
            told = f"within {_LOOKUP_LIMIT:g} s" if answer is None else f"readably (HTTP {answer.status})"
            _logger.warning("%s does not answer %s %s; going on unchecked", self.address, path, told)
        return found

    async def send(
        self, message: OutgoingMessage, account: str, read: ReadAnswer, *, patience: float = 0.0
    ) -> SendResult:
        """Attempt one message. See :meth:`trio_signal.gateways.Gateway.send`.

        Args:
            message: what to send.
            account: whose it is.
            read: says what an answer means.
            patience: how much longer than the time limit of a send it may take, in seconds.
        """
        result: SendResult | None = None
        limit = self._send_timeout + patience
        with trio.move_on_after(limit):
            result = await self._attempt(message, account, read, limit)
        if result is None:
            error = LinkLost(f"the gateway did not answer a send within {limit:g} s")
            result = SendResult(Failed(error, Certainty.UNKNOWN))
        return result

    async def aclose(self) -> None:
        """Close what is open between sends. A checkpoint."""
        if self._own_client is not None:
            await self._own_client.aclose()
        await trio.lowlevel.checkpoint()

    def _note_tls(self) -> None:
        self.phase = "in the TLS handshake"

    async def _attempt(
        self, message: OutgoingMessage, account: str, read: ReadAnswer, limit: float
    ) -> SendResult:
        try:
            headers, content = encode_body(message, account)
            async with aclosing(content) if not isinstance(content, bytes) else nullcontext():
                answer = await self._request("POST", "/v2/send", headers, content, limit=limit)
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
        return read(answer.status, answer.body, recipient=message.recipient, wait=answer.wait)

    async def _request(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: Content | None = None,
        *,
        limit: float,
    ) -> Answer:
        sent = [*await self.credentials.headers(), ("Accept-Encoding", "identity"), *headers.items()]
        body = bytearray()
        async with self._http.stream(
            method,
            self._base + path,
            headers=sent,
            content=content,
            timeout=limit,
            follow_redirects=False,
        ) as response:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _MAX_ANSWER:
                    raise AnswerError(
                        f"the gateway's answer is over {_MAX_ANSWER} bytes", status=response.status_code
                    )
        return Answer(response.status_code, retry_after(response.headers), bytes(body))

    def _cause(self, error: Exception) -> Exception:
        """Return what is behind an HTTP client's error where that says more, or that one itself."""
        # A client of the caller's may hide the cause with "from None"; the context still has it.
        behind = error.__cause__ or error.__context__
        while behind is not None:
            if isinstance(behind, GatewayError):
                return behind
            if isinstance(behind, ssl.SSLCertVerificationError):
                return bad_certificate(self.address, behind)
            behind = behind.__cause__ or behind.__context__
        return error


class HttpGateway(abc.ABC):
    """A gateway that takes sends over HTTP. See :class:`trio_signal.gateways.Gateway`.

    Args:
        requests: how to reach it.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests: Final = requests

    @property
    def phase(self) -> str:
        """See :meth:`trio_signal.gateways.Gateway.phase`."""
        return self._requests.phase

    @asynccontextmanager
    async def open_link(self, resume: Cursor | None) -> AsyncGenerator[Link]:
        """See :meth:`trio_signal.gateways.Gateway.open_link`."""
        await self._requests.begin()
        async with self.connect(resume) as link:
            yield link

    @abc.abstractmethod
    def connect(self, resume: Cursor | None) -> AbstractAsyncContextManager[Link]:
        """Connect, with an attempt begun already. See :meth:`trio_signal.gateways.Gateway.open_link`."""

    @abc.abstractmethod
    async def send(self, message: OutgoingMessage) -> SendResult:
        """See :meth:`trio_signal.gateways.Gateway.send`."""

    @property
    def can_renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.can_renew_credentials`."""
        return self._requests.credentials.can_renew

    async def renew_credentials(self) -> bool:
        """See :meth:`trio_signal.gateways.Gateway.renew_credentials`."""
        renewed = False
        # The attempt that follows asks again and says what is wrong.
        with suppress(LinkLost):
            renewed = await self._requests.credentials.renew()
        await trio.lowlevel.checkpoint()
        return renewed

    async def aclose(self) -> None:
        """See :meth:`trio_signal.gateways.Gateway.aclose`."""
        await self._requests.aclose()


def _decode(body: bytes, form: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The caller says so.
        return None

"""Who carries requests to a gateway: we ourselves, or an HTTP client of the caller's."""

import ssl
from collections.abc import Coroutine
from typing import Any, Final, Protocol
from urllib.parse import quote

import trio

from .._connections import Answer, Connections
from .._dial import Address, bad_certificate
from .._errors import AnswerError, Certainty, GatewayError, LinkLost, PermanentError
from .._http import DIAL_LIMIT, Dial, Request
from .._http_answers import retry_after
from ._calls import JSON, Call

#: What goes with a request beside its own headers.
Headers = list[tuple[str, str]]

#: What a URL may hold as it is. A percent sign is one of those that quote something.
_SAFE: Final = "/?:@!$&'()*+,;=~%[]"

#: Some that stand before gateways refuse whoever does not name itself.
_USER_AGENT: Final = ("User-Agent", "trio-signal")

#: We unpack nothing.
_UNPACKED: Final = ("Accept-Encoding", "identity")

#: A request of these without a body says so, since its method expects one.
_EXPECTS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

#: Connecting, waiting for a connection in a pool, and asking for credentials end before the whole does, after
#: this share of its time: what was not sent by then was certainly not sent.
FIRST_SHARE: Final = 0.9

#: How httpx and its successor name the errors that come before a byte of the request can have left.
_BEFORE_ANYTHING_LEFT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
)

#: So many heads are kept, for the paths that are asked for again and again.
_MOST_HEADS: Final = 16


class Client(Protocol):
    """What carries requests."""

    def request(
        self, call: Call, headers: Headers, *, limit: float, max_answer: int
    ) -> Coroutine[Any, Any, Answer]:
        """Make a request and read the answer. A checkpoint; cancelled, nobody knows whether it arrived.

        Args:
            call: the request.
            headers: what goes with it.
            limit: for how long the caller waits, in seconds; connecting gets less.
            max_answer: the most bytes of the answer's body that are read.

        Raises:
            Exception: there is no answer; see :func:`certainty_of`.
        """
        ...

    async def renew(self) -> None:
        """Reuse no connection made before now. A checkpoint."""
        ...

    async def aclose(self) -> None:
        """Close what is open between requests. A checkpoint."""
        ...


class RequestWriter:
    """Writes requests to one address. The beginning of a head is made once for each path and credentials.

    Args:
        address: where they go.
    """

    def __init__(self, address: Address) -> None:
        self._address: Final = address
        self._headers: Headers = []
        self._heads: Final[dict[tuple[str, str, bool], bytes]] = {}

    def write(self, call: Call, headers: Headers) -> Request:
        """Return the bytes of a request. The same list of headers must hold the same headers again."""
        if headers is not self._headers:
            self._headers = headers
            self._heads.clear()
        method, more, body = call.method, call.headers, call.body
        is_json = more is JSON
        key = method, call.path, is_json
        head = self._heads.get(key) or self._begin(*key)
        if is_json and type(body) is bytes:
            length = len(body)
            return Request(b"%bContent-Length: %d\r\n\r\n" % (head, length), body, length, method == "HEAD")
        lines = [f"{name}: {value}\r\n" for name, value in more.items() if not is_json]
        if body is None:
            body = b""
            lines += ["Content-Length: 0\r\n"] if method in _EXPECTS_BODY else []
        length = len(body) if isinstance(body, bytes) else int(more["Content-Length"])
        return Request(head + "".join([*lines, "\r\n"]).encode("latin-1"), body, length, method == "HEAD")

    def _begin(self, method: str, path: str, is_json: bool) -> bytes:  # noqa: FBT001  (part of a key)
        """Write what a head begins with, and keep it."""
        named = any(name.lower() == "user-agent" for name, _ in self._headers)
        pairs = [
            _UNPACKED,
            *([] if named else [_USER_AGENT]),
            *self._headers,
            *(JSON.items() if is_json else ()),
        ]
        lines = [
            f"{method} {self._address.path}{quote(path, safe=_SAFE)} HTTP/1.1",
            f"Host: {self._address.host_header}",
            *(f"{name}: {value}" for name, value in pairs),
        ]
        head = "\r\n".join([*lines, ""]).encode("latin-1")
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[method, path, is_json] = head
        return head


class OwnClient:
    """Carries requests over connections of ours. See :class:`Client`.

    Args:
        writer: writes them.
        dial: opens a stream to the gateway.
        most_idle: how many connections are kept between requests.
    """

    def __init__(self, writer: RequestWriter, dial: Dial, *, most_idle: int) -> None:
        self._writer: Final = writer
        self._connections: Final = Connections(dial, most_idle=most_idle)

    def request(
        self, call: Call, headers: Headers, *, limit: float, max_answer: int
    ) -> Coroutine[Any, Any, Answer]:
        """See :meth:`Client.request`."""
        return self._connections.exchange(
            self._writer.write(call, headers),
            max_answer=max_answer,
            dial_limit=min(FIRST_SHARE * limit, DIAL_LIMIT),
        )

    async def renew(self) -> None:
        """See :meth:`Client.renew`."""
        await self._connections.renew()

    async def aclose(self) -> None:
        """See :meth:`Client.aclose`."""
        await self._connections.aclose()


class ForeignClient:
    """Carries requests through an ``httpx.AsyncClient``, or anything of its shape. See :class:`Client`.

    Args:
        http: that client; it is not closed.
        address: where the requests go.
    """

    def __init__(self, http: Any, address: Address) -> None:
        self._http: Final = http
        self._address: Final = address

    async def request(self, call: Call, headers: Headers, *, limit: float, max_answer: int) -> Answer:
        """See :meth:`Client.request`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        body = bytearray()
        first = FIRST_SHARE * limit
        async with self._http.stream(
            call.method,
            f"{self._address}{self._address.path}{call.path}",
            headers=[*headers, _UNPACKED, *call.headers.items(), *_length(call)],
            content=call.body,
            timeout=(first, limit, limit, first),
            follow_redirects=False,
        ) as response:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > max_answer:
                    raise AnswerError(
                        f"the gateway's answer is over {max_answer} bytes", status=response.status_code
                    )
        status = response.status_code
        return Answer(status, bytes(body), None if 200 <= status < 300 else retry_after(response.headers))

    async def renew(self) -> None:
        """See :meth:`Client.renew`. Its connections are the caller's."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See :meth:`Client.aclose`. It belongs to the caller."""
        await trio.lowlevel.checkpoint()


def _length(call: Call) -> Headers:
    """Return what says how long a request's body is, where its headers do not."""
    body = call.body
    if not isinstance(body, bytes) or "Content-Length" in call.headers:
        return []
    return [("Content-Length", str(len(body)))]


def nothing_has_left(error: Exception) -> bool:
    """Say whether an HTTP client's error proves that the gateway got nothing.

    By name, so that it holds for any client of httpx's shape.
    """
    return any(kind.__name__ in _BEFORE_ANYTHING_LEFT for kind in type(error).__mro__)


def certainty_of(error: Exception) -> Certainty:
    """Say whether a request that failed like this may have arrived."""
    unsent = nothing_has_left(error) or isinstance(error, LinkLost | PermanentError)
    return Certainty.NOT_SENT if unsent else Certainty.UNKNOWN


def cause_of(error: Exception, address: Address, handled: BaseException | None = None) -> Exception:
    """Return what is behind an HTTP client's error where that says more, or that one itself.

    Args:
        error: the error.
        address: who was asked.
        handled: what the caller was handling already, which Python puts behind each error that follows.
    """
    if isinstance(error, GatewayError):
        return error
    # A client of the caller's may hide the cause with "from None"; the context still has it.
    behind = error.__cause__ or error.__context__
    while behind is not None and behind is not handled:
        if isinstance(behind, GatewayError):
            return behind
        if isinstance(behind, ssl.SSLCertVerificationError):
            return bad_certificate(address, behind)
        behind = behind.__cause__ or behind.__context__
    return error

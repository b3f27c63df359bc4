"""HTTP/1.1 as the gateway speaks it: requests parsed with h11, answers in the byte order of Go's server."""

import math
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import h11
import trio

from ._records import HttpRequest

MAX_HEAD = 1 << 20
"""Bytes of a request's head; Go's default."""
MAX_BODY = 64 << 20
"""Bytes of a request's body. The real gateway has no limit; a fake should not fill the memory of a test."""
REQUEST_DEADLINE = 300.0
"""Seconds from a request's first byte to its last."""

_CHUNK = 64 * 1024


class BadRequest(Exception):
    """What came is not HTTP; answered as Go's server does."""

    def __init__(self, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(f"{status} {status.phrase}")
        self.status = status

    def render(self) -> bytes:
        """Return Go's answer, byte for byte."""
        line = f"{self.status} {self.status.phrase}"
        return (
            f"HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{line}"
        ).encode()


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer, before it has a date."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Those the handler sets, in the order written (Go sorts them by name)."""
    body: bytes = b""
    sniffed: str | None = None
    """The Content-Type that Go guesses when the handler set none; it comes after Content-Length."""

    def render(self, date: float, *, close: bool = False, head_only: bool = False) -> bytes:
        """Return the bytes on the wire.

        Args:
            date: seconds since the epoch, for the Date header.
            close: whether the connection ends after it.
            head_only: leave the body out, as for a HEAD request.
        """
        lines = [f"HTTP/1.1 {self.status} {phrase_of(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Date: {formatdate(date, usegmt=True)}")
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.sniffed is not None:
            lines.append(f"Content-Type: {self.sniffed}")
        if close:
            lines.append("Connection: close")
        return "\r\n".join((*lines, "", "")).encode() + (b"" if head_only else self.body)


class Rendered(Protocol):
    """Any answer that can be written."""

    def render(self, date: float, *, close: bool = False, head_only: bool = False) -> bytes:
        """Return the bytes on the wire: see `Response.render`."""
        ...


class RequestReader:
    """Reads one request after the other from a stream.

    Each request goes through an h11 connection of its own, since the answers are not written through h11: a
    fake has to write what h11 would refuse to.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._rest = b""
        self._request = h11.Connection(h11.SERVER)
        self._due = math.inf
        self._parts: list[bytes] = []
        self.keep_alive = True

    async def head(self) -> HttpRequest | None:
        """Read the next request's head; None at the end of the connection.

        A checkpoint; cancelled in the middle, the connection is of no more use.

        Raises:
            BadRequest: no HTTP, too large, or not whole within `REQUEST_DEADLINE`.
            trio.BrokenResourceError: the connection was reset.
        """
        self._request = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._due = math.inf
        if self._rest:
            self._take(self._rest)
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        request = _request(event)
        self.keep_alive = _keeps_alive(event, request)
        return request

    async def body(self) -> bytes:
        """Read the body of the request whose head was read last. A checkpoint.

        Raises:
            BadRequest: as for `head`, or the body is over `MAX_BODY`.
            trio.BrokenResourceError: the connection was reset.
        """
        if self._request.they_are_waiting_for_100_continue:
            await self._stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts, self._parts = self._parts, []
        size = sum(map(len, parts))
        while isinstance(event := await self._next_event(), h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_BODY:
                raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._rest = self._request.trailing_data[0]
        return b"".join(parts)

    async def body_up_to(self, enough: int) -> bytes:
        """Read until ``enough`` bytes of the body have come, or all of it; `body` gives them again.

        A checkpoint.
        """
        await trio.lowlevel.checkpoint()
        size = 0
        while size < enough and isinstance(event := await self._next_event(), h11.Data):
            self._parts.append(bytes(event.data))
            size += len(event.data)
        return b"".join(self._parts)

    @property
    def rest(self) -> bytes:
        """What came after the request: the start of the next one, or of the WebSocket's frames."""
        return self._rest

    def _take(self, data: bytes) -> None:
        if data and self._due == math.inf:
            self._due = trio.current_time() + REQUEST_DEADLINE
        self._request.receive_data(data)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                event = self._request.next_event()
            except h11.RemoteProtocolError as error:
                raise BadRequest(HTTPStatus(error.error_status_hint)) from error
            if isinstance(event, h11.Event) or event is h11.PAUSED:
                return event
            with trio.move_on_at(self._due) as scope:
                self._take(bytes(await self._stream.receive_some(_CHUNK)))
            if scope.cancelled_caught:
                raise BadRequest(HTTPStatus.REQUEST_TIMEOUT)


def _request(event: h11.Request) -> HttpRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return HttpRequest(
        method=event.method.decode("latin-1"),
        target=event.target.decode("latin-1"),
        headers=headers,
        time=trio.current_time(),
    )


def _keeps_alive(event: h11.Request, request: HttpRequest) -> bool:
    wanted = {token.strip().lower() for token in request.headers.get("connection", "").split(",")}
    return bytes(event.http_version) >= b"1.1" and "close" not in wanted


def phrase_of(status: int) -> str:
    """Return the words that belong to an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"

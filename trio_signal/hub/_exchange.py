"""What is said over HTTP: requests, as their heads tell them, and answers. Pure."""

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_ALWAYS: Final = (
    "Server: trio-signal-hub\r\n"
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)

HeaderPairs = tuple[tuple[str, str], ...]


class Fields(msgspec.Struct, frozen=True, gc=False):
    """What a request's head says behind its target: all that clients repeat with each request.

    Attributes:
        raw: the very bytes that came, from the version to the empty line at the end.
        headers: by lower-case name; repeated ones joined with a comma.
        http_11: whether it is HTTP/1.1 and not 1.0.
        keeps_alive: whether the peer may send another request on this connection.
    """

    raw: bytes
    headers: Mapping[str, str]
    http_11: bool
    keeps_alive: bool

    def __repr__(self) -> str:
        """Show nothing: headers hold secrets."""
        return "<Fields>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Tell rich, whose tracebacks show locals through this, no more than `repr()` tells."""
        return []


class Request(msgspec.Struct, frozen=True, gc=False):
    """The head of a request.

    Attributes:
        method: as sent; methods are case-sensitive.
        path: as sent, percent-encoded or not, without the query; begins with a slash.
        query: the decoded parameters, in the order sent; a plus sign is a space. Values may hold anything.
        headers: by lower-case name; repeated ones joined with a comma.
        fields: those headers, and what else stands behind the target.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    fields: Fields

    def __repr__(self) -> str:
        """Show method and path; query and headers hold secrets."""
        return f"<Request {self.method} {self.path}>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Tell rich no more than `repr()` tells."""
        return [("method", self.method), ("path", self.path)]

    @property
    def http_11(self) -> bool:
        """Whether it is HTTP/1.1 and not 1.0."""
        return self.fields.http_11

    @property
    def waits_to_send(self) -> bool:
        """Whether the peer sends the body only once it was told to go on."""
        return self.http_11 and "100-continue" in tokens(self.headers.get("expect", ""))

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return (
            self.method == "GET"
            and self.http_11
            and self.headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in tokens(self.headers.get("connection", ""))
        )


class StreamBroken(Exception):
    """What was being sent has no rest."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that is sent as it comes.

    Attributes:
        size: how many bytes it will be; None where nobody knows.
        pieces: gives them; raises :class:`StreamBroken`.
    """

    size: int | None
    pieces: AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, without the headers that each one carries.

    Attributes:
        status: the HTTP status.
        body: whole, or in pieces, which are sent without being joined first, or as it comes.
        content_type: of the body.
        headers: more of them.
        wire: all of it as a connection that goes on gets it, if that was made beforehand.
    """

    status: int
    body: bytes | Sequence[bytes] | Stream = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: HeaderPairs = ()
    wire: Sequence[bytes] = field(default=(), repr=False)


def problem(status: int, words: str, *, headers: HeaderPairs = ()) -> Answer:
    """Return the answer that refuses a request and says why in one sentence."""
    return Answer(status, msgspec.json.encode({"error": words}), headers=headers)


class HttpError(Exception):
    """A request is refused.

    Attributes:
        answer: what to tell the peer.
    """

    def __init__(self, status: int, words: str, *, headers: HeaderPairs = ()) -> None:
        super().__init__(f"HTTP {status}: {words}")
        self.answer: Final = problem(status, words, headers=headers)


def render_head(answer: Answer, length: int | None, *, close: bool) -> bytes:
    """Return the head of an answer as it goes over the wire.

    Args:
        answer: its body is not looked at.
        length: of the body, in bytes; None sends it in chunks.
        close: whether the connection ends after it.

    Raises:
        ValueError: a header of the answer's own holds what would end it.
    """
    # Most answers have no headers of their own, and those that have may hold what nobody should keep.
    start = (_plain_start if answer.headers else _known_start)(
        answer.status, answer.content_type, answer.headers, ("close",) if close else ()
    )
    if answer.status == HTTPStatus.NO_CONTENT:
        return start + b"\r\n"
    if length is None:
        return start + b"Transfer-Encoding: chunked\r\n\r\n"
    return b"%bContent-Length: %d\r\n\r\n" % (start, length)


def _plain_start(status: int, content_type: str, headers: HeaderPairs, hops: tuple[str, ...]) -> bytes:
    own = [*headers]
    if status != HTTPStatus.NO_CONTENT:
        own.append(("Content-Type", content_type))
    # RFC 9110, 7.8: who tells what to upgrade to names that header here too.
    if status == HTTPStatus.UPGRADE_REQUIRED:
        hops = (*hops, "Upgrade")
    if hops:
        own.append(("Connection", ", ".join(hops)))
    if not all(map(str.isprintable, chain.from_iterable(own))):
        raise ValueError("a header of an answer holds a line end or another control")
    lines = "".join(f"{name}: {value}\r\n" for name, value in own)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{_ALWAYS}{lines}".encode("latin-1")


_known_start: Final = lru_cache(maxsize=64)(_plain_start)


def decoded(text: str, where: str) -> str:
    """Return what some percent-encoded text says.

    Raises:
        HttpError: it is no such text (400), and where it stands.
    """
    if "%" not in text:
        return text
    if not _BAD_PERCENT.search(text):
        with suppress(UnicodeDecodeError):
            return unquote_to_bytes(text).decode()
    raise HttpError(400, f"the {where} is not percent-encoded UTF-8")


def tokens(value: str) -> set[str]:
    """Return what a header lists, in lower case."""
    return {token.strip().lower() for token in value.split(",")}

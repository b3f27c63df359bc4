"""What is said over HTTP: requests, as their heads tell them, and answers. Pure.

What proxies disagree on (bare line feeds, folded lines, repeated lengths) is refused here,
before anybody gives it a meaning; what is left has been parsed by h11.
"""

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import Final
from urllib.parse import unquote_to_bytes

import h11
import msgspec

#: The most bytes of a request's target.
MOST_TARGET: Final = 4096

#: The most lines of a head, and parameters of a target: each costs more than its bytes.
_MOST_LINES: Final = 100
_MOST_PARAMETERS: Final = 16

#: Controls, line ends other than CR LF, and folded lines: each parser reads them in a way of its own.
_AMBIGUOUS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n|\n[ \t]")

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

#: Which of two would hold is anybody's guess.
_SINGLE: Final = frozenset({"host", "authorization", "content-length", "origin"})

_ALWAYS: Final = (
    "Server: trio-signal-hub\r\n"
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)

HeaderPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """The head of a request.

    Attributes:
        method: as sent; methods are case-sensitive.
        path: as sent, percent-encoded or not, without the query; begins with a slash.
        query: the decoded parameters, in the order sent; a plus sign is a space. Values may hold anything.
        headers: by lower-case name; repeated ones joined with a comma.
        raw_head: the very bytes that came, the empty line at the end included.
        http_11: whether it is HTTP/1.1 and not 1.0.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    raw_head: bytes
    http_11: bool

    def __repr__(self) -> str:
        """Show method and path; query and headers hold secrets."""
        return f"<Request {self.method} {self.path}>"

    @property
    def keeps_alive(self) -> bool:
        """Whether the peer may send another request on this connection."""
        return self.http_11 and "close" not in _tokens(self.headers.get("connection", ""))

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return (
            self.method == "GET"
            and self.http_11
            and self.headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in _tokens(self.headers.get("connection", ""))
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
    """

    status: int
    body: bytes | Sequence[bytes] | Stream = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: HeaderPairs = ()


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
    own = [*answer.headers]
    if answer.status != HTTPStatus.NO_CONTENT:
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        own += [("Content-Type", answer.content_type), framing]
    # RFC 9110, 7.8: who tells what to upgrade to names that header here too.
    hops = ["close"] * close + ["Upgrade"] * (answer.status == HTTPStatus.UPGRADE_REQUIRED)
    if hops:
        own.append(("Connection", ", ".join(hops)))
    if not all(map(str.isprintable, chain.from_iterable(own))):
        raise ValueError("a header of an answer holds a line end or another control")
    lines = "".join(f"{name}: {value}\r\n" for name, value in own)
    status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    return f"{status}{_ALWAYS}{lines}\r\n".encode("latin-1")


def check_head(head: bytes) -> None:
    """Refuse a head that two parsers may read in two ways, or of many lines. To be called before h11 gets it.

    Raises:
        HttpError: it is such a one (400, 431).
    """
    if head.count(b"\n") > _MOST_LINES:
        raise HttpError(431, f"the request's head has over {_MOST_LINES} lines")
    if _AMBIGUOUS.search(head):
        raise HttpError(400, "the request's head holds controls, bare line ends or folded lines")


def read_head(event: h11.Request, head: bytes) -> Request:
    """Return the request of a head, as h11 parsed it and as it came.

    Raises:
        HttpError: we do not serve that (400, 414, 505).
    """
    if event.http_version not in (b"1.0", b"1.1"):
        raise HttpError(505, "this is HTTP/1.1")
    http_11 = event.http_version == b"1.1"
    path, query = _split_target(event.target)
    headers = _headers(head)
    _check_framing(headers, http_11=http_11)
    return Request(event.method.decode("ascii"), path, query, headers, head, http_11)


def _split_target(target: bytes) -> tuple[str, dict[str, list[str]]]:
    """Split a target into its path and its parameters. h11 has seen to it that it is visible ASCII."""
    if len(target) > MOST_TARGET:
        raise HttpError(414, f"the target is over {MOST_TARGET} bytes")
    path, _, query = target.decode("ascii").partition("?")
    if not path.startswith("/") or "#" in path or "#" in query:
        raise HttpError(400, "the target is not a path")
    if query.count("&") >= _MOST_PARAMETERS:
        raise HttpError(400, f"the query has over {_MOST_PARAMETERS} parameters")
    parameters: dict[str, list[str]] = {}
    for parameter in filter(None, query.split("&")):
        name, _, value = (decoded(part.replace("+", " "), "query") for part in parameter.partition("="))
        parameters.setdefault(name, []).append(value)
    return path, parameters


def decoded(text: str, where: str) -> str:
    """Return what some percent-encoded text says.

    Raises:
        HttpError: it is no such text (400), and where it stands.
    """
    if not _BAD_PERCENT.search(text):
        with suppress(UnicodeDecodeError):
            return unquote_to_bytes(text).decode()
    raise HttpError(400, f"the {where} is not percent-encoded UTF-8")


def _headers(head: bytes) -> dict[str, str]:
    """Read the headers of a head that h11 found to be valid."""
    headers: dict[str, str] = {}
    for line in head[:-4].split(b"\r\n")[1:]:
        raw_name, _, raw_value = line.partition(b":")
        name, value = raw_name.decode("ascii").lower(), raw_value.strip(b" \t").decode("latin-1")
        if name in headers and name in _SINGLE:
            raise HttpError(400, f"the header {name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _check_framing(headers: Mapping[str, str], *, http_11: bool) -> None:
    """Refuse what one server takes for the end of a request and the next one does not."""
    if not headers.get("content-length", "0").isdecimal():
        raise HttpError(400, "the Content-Length is not one number")
    if "transfer-encoding" in headers and ("content-length" in headers or not http_11):
        raise HttpError(400, "the body's length is given in two ways, or in one that HTTP/1.0 does not know")


def _tokens(value: str) -> set[str]:
    return {token.strip().lower() for token in value.split(",")}

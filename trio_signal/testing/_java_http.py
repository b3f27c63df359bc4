"""Answers in the byte order of Java's own HTTP server, which signal-cli uses."""

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from ._http import BadRequest, phrase_of

_UNKNOWN_TO_JAVA = frozenset({HTTPStatus.MISDIRECTED_REQUEST})
"""Statuses that get no words in the status line."""


@dataclass(frozen=True, kw_only=True)
class JavaResponse:
    """An answer of the daemon."""

    status: int = 200
    body: bytes = b""
    """JSON, or nothing."""

    def render(self, date: float, *, close: bool = False, head_only: bool = False) -> bytes:  # noqa: ARG002
        """Return the bytes on the wire; that the connection ends is not said in them.

        Args:
            date: seconds since the epoch, for the Date header.
            close: whether the connection ends after it.
            head_only: leave out the body, and with it the Content-length.
        """
        lines = [_status_line(self.status), f"Date: {formatdate(date, usegmt=True)}"]
        if self.body:
            lines.append("Content-type: application/json")
        if not head_only:
            lines.append(f"Content-length: {len(self.body)}")
        return "\r\n".join((*lines, "", "")).encode() + (b"" if head_only else self.body)


def stream_head(date: float) -> bytes:
    """Return the head of an event stream."""
    lines = (
        _status_line(200),
        f"Date: {formatdate(date, usegmt=True)}",
        "Transfer-encoding: chunked",
        "Content-type: text/event-stream",
    )
    return "\r\n".join((*lines, "", "")).encode()


def server_refusal(status: int, words: str) -> bytes:
    """Return what the server answers by itself, also to HEAD, before it ends the connection."""
    body = f"<h1>{status} {phrase_of(status)}</h1>{words}"
    lines = (
        _status_line(status),
        f"Content-Length: {len(body)}",
        "Content-Type: text/html",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", body)).encode()


def bad_request(error: BadRequest) -> bytes:
    """Return what the server answers to what is no HTTP; of its words those that were measured."""
    in_header = "header" in str(error.__cause__)
    words = "Header key contains illegal characters" if in_header else "Bad request line"
    return server_refusal(HTTPStatus.BAD_REQUEST, words)


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {'' if status in _UNKNOWN_TO_JAVA else phrase_of(status)}"

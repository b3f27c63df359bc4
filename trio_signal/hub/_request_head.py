"""The head of a request, read strictly. Pure.

What proxies disagree on (bare line feeds, folded lines, repeated lengths) is refused before anybody
gives it a meaning, and what is left has one meaning only, the one that h11 gives it too. Bytes are
checked for the head as a whole: to look at each line would cost more than all the rest.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ._exchange import Fields, HttpError, Request, decoded, tokens

#: The most bytes of a request's target.
MOST_TARGET: Final = 4096

#: The most lines of a head, and parameters of a target: each costs more than its bytes.
_MOST_LINES: Final = 100
_MOST_PARAMETERS: Final = 16

#: As many digits as any length has that means something.
_MOST_DIGITS: Final = 20

#: What may stand in a head beside line ends: no control but the tab.
_TEXT: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

_NAME: Final = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_START: Final = re.compile(rf"({_NAME}) ([!-~]+) ".encode())
_VERSION: Final = re.compile(r"HTTP/([0-9]\.[0-9])")
_NAMES: Final = re.compile(rf"(?:{_NAME}:)*")

#: Which of two would hold is anybody's guess.
_SINGLE: Final = frozenset({"host", "authorization", "content-length", "origin"})


def read_head(head: bytes, known: Fields | None = None) -> Request:
    """Return the request of a head, which ends with its first empty line.

    Args:
        head: all of it.
        known: the fields of a request before; of the same bytes they are not read again.

    Raises:
        HttpError: it is none, two parsers may read it in two ways, or we do not serve that
            (400, 414, 431, 501, 505).
    """
    start = _START.match(head)
    if start is None:
        _check_text(head)
        raise _no_request()
    raw = head[start.end() :]
    # What stands before them is of visible characters alone, so that they mean now what they meant then.
    if known is None or raw != known.raw:
        _check_text(head)
        known = _read_fields(raw)
    method, target = start.groups()
    path, query = _split_target(target.decode())
    return Request(method.decode(), path, query, known.headers, known)


def _no_request() -> HttpError:
    return HttpError(400, "the first line is no request")


def _check_text(head: bytes) -> None:
    """Refuse controls, line ends other than CR LF, and folded lines: no two parsers read them alike."""
    lines = head.count(b"\n")
    if lines > _MOST_LINES:
        raise HttpError(431, f"the request's head has over {_MOST_LINES} lines")
    # As many pairs as there are of each, and nothing else: then each stands in its pair.
    paired = head.translate(None, _TEXT) == b"\r\n" * lines and head.count(b"\r\n") == lines
    if not paired or b"\n " in head or b"\n\t" in head:
        raise HttpError(400, "the request's head holds controls, bare line ends or folded lines")


def _split_target(target: str) -> tuple[str, dict[str, list[str]]]:
    """Split a target, which is visible ASCII, into its path and its parameters."""
    if len(target) > MOST_TARGET:
        raise HttpError(414, f"the target is over {MOST_TARGET} bytes")
    path, _, query = target.partition("?")
    if not path.startswith("/") or "#" in target:
        raise HttpError(400, "the target is not a path")
    if query.count("&") >= _MOST_PARAMETERS:
        raise HttpError(400, f"the query has over {_MOST_PARAMETERS} parameters")
    parameters: dict[str, list[str]] = {}
    for parameter in query.replace("+", " ").split("&"):
        name, _, value = parameter.partition("=")
        if "%" in parameter:
            name, value = decoded(name, "query"), decoded(value, "query")
        if parameter:
            parameters.setdefault(name, []).append(value)
    return path, parameters


def _read_fields(raw: bytes) -> Fields:
    version, *lines = raw[:-4].decode("latin-1").split("\r\n")
    found = _VERSION.fullmatch(version)
    if found is None:
        raise _no_request()
    if found[1] not in ("1.1", "1.0"):
        raise HttpError(505, "this is HTTP/1.1")
    http_11, headers = found[1] == "1.1", _read_headers(lines)
    _check_framing(headers, http_11=http_11)
    keeps_alive = http_11 and "close" not in tokens(headers.get("connection", ""))
    return Fields(raw, headers, http_11, keeps_alive)


def _read_headers(lines: Iterable[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon:
            raise _bad_field()
        if name in headers:
            if name in _SINGLE:
                raise HttpError(400, f"the header {name} is given twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if not _NAMES.fullmatch(":".join((*headers, ""))):
        raise _bad_field()
    return headers


def _bad_field() -> HttpError:
    return HttpError(400, "a line of the request's head is no header")


def _check_framing(headers: Mapping[str, str], *, http_11: bool) -> None:
    """Refuse what one server takes for the end of a request and the next one does not."""
    if http_11 and "host" not in headers:
        raise HttpError(400, "the Host is missing")
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if length is not None and not (length.isdecimal() and len(length) <= _MOST_DIGITS):
        raise HttpError(400, "the Content-Length is not one number")
    if coding is None:
        return
    if length is not None or not http_11:
        raise HttpError(400, "the body's length is given in two ways, or in one that HTTP/1.0 does not know")
    if coding.lower() != "chunked":
        raise HttpError(501, "of the transfer codings only chunked is understood")

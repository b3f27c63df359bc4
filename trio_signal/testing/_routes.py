"""What the gateway answers to each path, in the order of checks of the real one."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from ._answers import JSON_TYPE, error_response, go_json
from ._core import Core
from ._dial_faults import proxy_response
from ._http import Response
from ._records import HttpRequest
from ._rest_operations import is_operation

SEND = "/v2/send"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NOT_A_WEBSOCKET = "websocket: the client is not using the websocket protocol: "
_UNKNOWN_ACCOUNT = "Specified account does not exist"

NOT_FOUND = Response(status=404, headers=(("Content-Type", "text/plain"),), body=b"404 page not found")


@dataclass(frozen=True)
class Upgrade:
    """A handshake that succeeds: always, whatever the number (measured)."""

    account: str
    key: str

    def render(self) -> bytes:
        """Return the 101, byte for byte."""
        digest = hashlib.sha1(self.key.encode() + _GUID, usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()


def is_handshake(request: HttpRequest) -> bool:
    """Whether ``request`` asks for a WebSocket."""
    return "websocket" in _tokens(request, "upgrade")


def path_of(core: Core, request: HttpRequest) -> str:
    """Return the path behind the base path if ``request`` gets as far as the gateway, else ``""``."""
    return inside(core, request) if barrier(core, request) is None else ""


def route(core: Core, request: HttpRequest) -> Response | Upgrade:
    """Answer everything but POST /v2/send."""
    if (stopped := barrier(core, request)) is not None:
        return stopped
    path = inside(core, request)
    answer = _find(core, request, path)
    if answer is None and len(path) > 1 and path.endswith("/"):
        return _redirect(request, path) if _exists(core, request, path[:-1]) else NOT_FOUND
    return answer or NOT_FOUND


def barrier(core: Core, request: HttpRequest) -> Response | None:
    """What a proxy in front of the gateway refuses: no credentials, a hidden path, another base path."""
    wanted = core.config.require_header
    if wanted is not None and request.headers.get(wanted[0].lower()) != wanted[1]:
        return proxy_response(401, headers={"WWW-Authenticate": "Bearer"})
    path = inside(core, request)
    if path in core.config.hide:
        return proxy_response(core.config.hide[path])
    return None if path else NOT_FOUND


def inside(core: Core, request: HttpRequest) -> str:
    """The path behind the base path, or an empty string."""
    base = core.config.base_path
    return request.path.removeprefix(base) if request.path.startswith(f"{base}/") else ""


def _exists(core: Core, request: HttpRequest, path: str) -> bool:
    if (request.method, path) == ("POST", SEND) or is_operation(request.method, path):
        return True
    return _find(core, request, path) is not None


def _find(core: Core, request: HttpRequest, path: str) -> Response | Upgrade | None:
    if request.method != "GET":
        return None
    if (fixed := _FIXED.get(path)) is not None:
        return fixed(core)
    head, _, last = path.rpartition("/")
    if not last or head not in _WITH_NAME:
        return None
    return _WITH_NAME[head](core, request, unquote(last))


def _about(core: Core) -> Response:
    body = {
        "versions": ["v1", "v2"],
        "build": 2,
        "mode": core.config.mode,
        "version": core.config.version,
        "capabilities": {SEND[1:]: ["quotes", "mentions"]},
    }
    return _json(body)


def _health(_core: Core) -> Response:
    return Response(status=204)


def _accounts(core: Core) -> Response:
    return _json(list(core.config.accounts))


def _attachments(core: Core) -> Response:
    return _json(list(core.attachments))


_FIXED: dict[str, Callable[[Core], Response]] = {
    "/v1/about": _about,
    "/v1/health": _health,
    "/v1/accounts": _accounts,
    "/v1/attachments": _attachments,
}


def _attachment(core: Core, _request: HttpRequest, name: str) -> Response:
    if name not in core.attachments:
        return error_response(404, "No attachment with that id found")
    return Response(
        status=200, headers=(("Content-Type", "application/octet-stream"),), body=core.attachments[name]
    )


def _listing(core: Core, _request: HttpRequest, account: str) -> Response:
    return _json([]) if account in core.config.accounts else error_response(400, _UNKNOWN_ACCOUNT)


def _identities(core: Core, _request: HttpRequest, account: str) -> Response:
    return _json([]) if account in core.config.accounts else error_response(500, _UNKNOWN_ACCOUNT)


def _receive(core: Core, request: HttpRequest, account: str) -> Response | Upgrade:
    if core.config.mode != "json-rpc":
        return _json([])
    problem = _handshake_problem(request)
    if problem is None:
        return Upgrade(account, request.headers["sec-websocket-key"])
    return Response(
        status=400,
        headers=(
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Sec-Websocket-Version", "13"),
            ("X-Content-Type-Options", "nosniff"),
        ),
        body=b"Bad Request\n" + go_json({"error": problem}),
    )


_WITH_NAME: dict[str, Callable[[Core, HttpRequest, str], Response | Upgrade]] = {
    "/v1/receive": _receive,
    "/v1/attachments": _attachment,
    "/v1/devices": _listing,
    "/v1/identities": _identities,
}


def _handshake_problem(request: HttpRequest) -> str | None:
    """The first of these was recorded; the others are the texts of the same library."""
    if "upgrade" not in _tokens(request, "connection"):
        return f"{_NOT_A_WEBSOCKET}'upgrade' token not found in 'Connection' header"
    if not is_handshake(request):
        return f"{_NOT_A_WEBSOCKET}'websocket' token not found in 'Upgrade' header"
    if "13" not in _tokens(request, "sec-websocket-version"):
        return "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header"
    if not request.headers.get("sec-websocket-key"):
        return "websocket: not a websocket handshake: 'Sec-WebSocket-Key' header is missing or blank"
    return None


def _redirect(request: HttpRequest, path: str) -> Response:
    _, mark, query = request.target.partition("?")
    location = f"{path[:-1]}{mark}{query}"
    if request.method != "GET":
        return Response(status=307, headers=(("Location", location),))
    return Response(
        status=301,
        headers=(("Content-Type", "text/html; charset=utf-8"), ("Location", location)),
        body=f'<a href="{location}">Moved Permanently</a>.\n\n'.encode(),
    )


def _json(value: object) -> Response:
    return Response(status=200, headers=(JSON_TYPE,), body=go_json(value))


def _tokens(request: HttpRequest, name: str) -> set[str]:
    return {token.strip().lower() for token in request.headers.get(name, "").split(",")}

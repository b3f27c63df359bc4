"""What goes into a chat through the REST gateway: /v2/send, reactions and deletions for everybody.

The shapes are those of the gateway's ``api.go``, whose code has the last word over its documentation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ._answers import JSON_TYPE, SendAnswer, error_response, go_json
from ._http import Response
from ._records import SendKind
from ._sends import INVALID, parse_object, parse_send, refusal_of

_SEND = "/v2/send"
_OTHERS: Mapping[str, tuple[SendKind, tuple[str, ...]]] = {
    "reactions": ("reaction", ("POST", "DELETE")),
    "remote-delete": ("remote_delete", ("DELETE",)),
}
_PATH = re.compile(r"/v1/([a-z-]+)/([^/]+)")
_STRINGS = ("recipient", "reaction", "target_author")
_WANTED: Mapping[tuple[SendKind, str], tuple[str, ...]] = {
    ("reaction", "POST"): ("recipient", "reaction", "target_author", "timestamp"),
    ("reaction", "DELETE"): ("recipient", "target_author", "timestamp"),
    ("remote_delete", "DELETE"): ("recipient", "timestamp"),
}
"""What must not be missing, in the order of the checks."""


@dataclass(frozen=True)
class Sending:
    """Which of the three a request is."""

    kind: SendKind
    method: str
    number: str = ""
    """The account in the path."""

    def response(self, answer: SendAnswer, timestamp: int, account: str, *, array: bool) -> Response:
        """Build the HTTP answer: see `SendAnswer.response`.

        Reactions and deletions know no 429: a rate limit is an error like any other there.
        """
        if self.kind == "send":
            return answer.response(timestamp, account, array=array)
        if answer.kind == "rate_limited":
            return error_response(400, answer.text)
        if answer.kind not in {"ok", "partial"}:
            return answer.response(timestamp, account, array=array)
        if self.kind == "reaction":
            return Response(status=204)
        return Response(status=201, headers=(JSON_TYPE,), body=go_json({"timestamp": str(timestamp)}))


def sending_of(method: str, path: str) -> Sending | None:
    """Return what a request sends, or None; ``path`` is empty if it does not get to the gateway."""
    if (method, path) == ("POST", _SEND):
        return Sending("send", method)
    found = _PATH.fullmatch(path)
    if found is None or found[1] not in _OTHERS:
        return None
    kind, methods = _OTHERS[found[1]]
    return Sending(kind, method, unquote(found[2])) if method in methods else None


def parse_sending(raw: bytes, sending: Sending) -> tuple[dict[str, Any] | None, Response | None]:
    """Return the JSON object that was sent, and the 400 that the gateway itself gives to it, if any."""
    if sending.kind == "send":
        body = parse_send(raw)
        return body, refusal_of(body)
    body = parse_object(raw)
    if body is None or not _is_well_typed(body):
        return None, INVALID
    for name in _WANTED[sending.kind, sending.method]:
        if not body.get(name):
            return body, error_response(400, f"Couldn't process request - {name} missing")
    return body, None


def _is_well_typed(body: Mapping[str, Any]) -> bool:
    stamp = body.get("timestamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int | None):
        return False
    return all(isinstance(body.get(name), str | None) for name in _STRINGS)

"""POST /v2/send: the checks that the gateway makes itself, before anything reaches signal-cli."""

import binascii
import json
import re
from base64 import b64decode
from typing import Any, Literal, cast

from ._answers import error_response, go_json
from ._http import Response

INVALID = Response(
    status=400,
    body=go_json({"error": "Couldn't process request - invalid request"}),
    sniffed="text/plain; charset=utf-8",
)
"""What is answered to any body that is no JSON object of the right types."""
_MIXED = (
    "Signal Messenger {} and {} cannot be specified together in one request! "
    "Please split them up into multiple REST API calls."
)
_SEVERAL_GROUPS = (
    "A signal message cannot be sent to more than one group at once! "
    "Please use multiple REST API calls for that."
)
_STRINGS = ("number", "message", "recipient", "sticker", "quote_author", "quote_message", "text_mode")
_LISTS = ("recipients", "base64_attachments")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/\r\n]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GROUP_BYTES = 32


def parse_send(raw: bytes) -> dict[str, Any] | None:
    """Return the body of a send, or None where Go's decoder fails; a field of a wrong type is a failure."""
    body = parse_object(raw)
    return body if body is not None and _is_well_typed(body) else None


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a body starts with, as Go's decoder reads it, or None where that fails.

    What follows the object is ignored, and so is the Content-Type (both measured).
    """
    try:
        parsed, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8", errors="replace").lstrip(" \t\r\n"))
    except (json.JSONDecodeError, RecursionError):
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def refusal_of(body: dict[str, Any] | None) -> Response | None:
    """Return the 400 that the gateway itself gives to a send, or None when it goes on to signal-cli."""
    if body is None:
        return INVALID
    recipients: list[str] = body.get("recipients") or ([body["recipient"]] if body.get("recipient") else [])
    if not recipients:
        return error_response(400, "Couldn't process request - please provide at least one recipient")
    if not body.get("number"):
        return error_response(400, "Couldn't process request - please provide a valid number")
    problem = _mixed(recipients) or _bad_attachment(body.get("base64_attachments") or [])
    return None if problem is None else error_response(400, problem)


def _is_well_typed(body: dict[str, Any]) -> bool:
    if not all(isinstance(body.get(name), str | None) for name in _STRINGS):
        return False
    return all(body.get(name) is None or _are_strings(body[name]) for name in _LISTS)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast(list[object], value))


def _kind(recipient: str) -> Literal["group", "number", "username"]:
    if recipient.startswith("group."):
        return "group" if _is_group(recipient.removeprefix("group.")) else "username"
    return "number" if recipient.startswith("+") or _UUID.fullmatch(recipient) else "username"


def _is_group(encoded: str) -> bool:
    """Whether this is base64 of base64 of 32 bytes; all else goes to signal-cli as a username (recorded)."""
    try:
        return len(b64decode(b64decode(encoded, validate=True), validate=True)) == _GROUP_BYTES
    except (binascii.Error, ValueError):
        return False


def _mixed(recipients: list[str]) -> str | None:
    kinds = [_kind(recipient) for recipient in recipients]
    groups, numbers, usernames = (kind in kinds for kind in ("group", "number", "username"))
    if groups and numbers:
        return _MIXED.format("Groups", "phone numbers")
    if groups and usernames:
        return _MIXED.format("Groups", "usernames")
    if numbers and usernames:
        return _MIXED.format("phone numbers", "usernames")
    return _SEVERAL_GROUPS if kinds.count("group") > 1 else None


def _bad_attachment(attachments: list[str]) -> str | None:
    for attachment in attachments:
        data = attachment.rpartition(";base64,")[2] if attachment.startswith("data:") else attachment
        content = data.rstrip("=")
        wrong = _NOT_BASE64.search(content)
        if wrong is not None:
            return f"illegal base64 data at input byte {wrong.start()}"
        if len(re.sub(r"[\r\n]", "", data)) % 4:
            return f"illegal base64 data at input byte {len(data)}"
    return None

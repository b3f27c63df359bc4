"""What a request says beside its path, read strictly. Pure; each refuses with :class:`HttpError`."""

import base64
import binascii
import re
from typing import Final

from .._continuity import MAX_EPOCH
from ._exchange import HttpError, Request

#: What a 426 must name.
UPGRADE: Final = ("Upgrade", "websocket")

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def single(request: Request, name: str) -> str | None:
    """Return a parameter that may be given once; None without it."""
    values = request.query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise HttpError(422, f"{name}: give it once")
    return values[0]


def number(request: Request, name: str) -> int | None:
    """Return a parameter that is a whole number; None without it."""
    value = single(request, name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise HttpError(422, f"{name}: give a whole number from 0 on")
    return int(value)


def epoch_of(request: Request) -> str | None:
    """Return the epoch that a client gives back; None without it."""
    epoch = single(request, "epoch")
    if epoch is not None and not 0 < len(epoch) <= MAX_EPOCH:
        raise HttpError(422, f"epoch: give 1 to {MAX_EPOCH} characters, or leave it out")
    return epoch


def handshake_key(request: Request) -> str:
    """Return the key of a request for a WebSocket, and refuse before the upgrade what cannot become one."""
    if request.headers.get("sec-websocket-version") != "13":
        version = ("Sec-WebSocket-Version", "13")
        raise HttpError(426, "only WebSocket version 13 is spoken", headers=(UPGRADE, version))
    key = request.headers.get("sec-websocket-key", "")
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size != 16:
        raise HttpError(400, "Sec-WebSocket-Key: give 16 bytes in base64")
    return key

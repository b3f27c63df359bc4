"""What each frame of the hub looks like, and how it is put on a WebSocket. Pure.

Every frame is one JSON object with a ``type``; its fields are described in ``docs/hub-protocol.md``, and
whoever reads them ignores those it does not know. What the gateway sent is never encoded anew: its bytes are
spliced into the object, after :func:`as_json` has made sure that they cannot break it.
"""

import struct
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from .._continuity import Gap
from ._pages import Hole, Page

#: What is nested deeper is passed on as text: how deep a client's decoder goes is not ours to know, and often
#: depends on how deep its caller stands. The frames of a gateway are nested about 10 deep.
_MAX_DEPTH: Final = 64

_encode: Final = msgspec.json.encode
_decode: Final = msgspec.json.decode

# RFC 6455 5.2: the only fragment of a text message; above 125 bytes a longer form of the length follows.
_FINAL_TEXT: Final = 0x81
_LENGTH_IN_2_BYTES: Final = 126
_LENGTH_IN_8_BYTES: Final = 127
_HEAD_WITH_2_BYTES: Final = struct.Struct(">BBH")


def message(sequence: int, timestamp: int, data: bytes) -> bytes:
    """Encode a numbered message.

    Args:
        sequence: its number.
        timestamp: when the hub took it, in milliseconds since the epoch.
        data: valid JSON, spliced in unchanged.
    """
    return b'{"type":"message","sequence_number":%d,"timestamp":%d,"data":%b}' % (sequence, timestamp, data)


def direct(connection_sequence: int, timestamp: int, data: bytes) -> bytes:
    """Encode a message to one connection alone, which is neither numbered for all nor kept.

    Args:
        connection_sequence: its number on that connection.
        timestamp: when it was sent, in milliseconds since the epoch.
        data: valid JSON, spliced in unchanged.
    """
    return b'{"type":"direct","connection_sequence":%d,"timestamp":%d,"data":%b}' % (
        connection_sequence,
        timestamp,
        data,
    )


def gap(sequence: int, timestamp: int, absence: Gap) -> bytes:
    """Encode an absence of the hub from its gateway, numbered like a message.

    Args:
        sequence: its number.
        timestamp: when the hub noted it, in milliseconds since the epoch.
        absence: what is known of it. Numbers in it would be another gateway's; they are left out.
    """
    fields: dict[str, object] = {
        "type": "gap",
        "sequence_number": sequence,
        "timestamp": timestamp,
        "reason": absence.reason,
        "since": absence.since,
        "until": absence.until,
    }
    if absence.count is not None:
        fields["count"] = absence.count
    return _encode(fields)


def hole(missing: Hole) -> bytes:
    """Encode what a client lacks and the log cannot give any more; it has no number of its own."""
    return _encode({"type": "gap", **_hole_fields(missing)})


def hello(epoch: str, head: int, oldest: int, heartbeat_interval: float, connection_id: str) -> bytes:
    """Encode the first frame of a connection.

    Args:
        epoch: the name of the log's numbering.
        head: the last number given out.
        oldest: the first number kept.
        heartbeat_interval: seconds between two heartbeats.
        connection_id: this connection's own name.
    """
    return _encode(
        {
            "type": "hello",
            "epoch": epoch,
            "head": head,
            "oldest": oldest,
            "heartbeat_interval": heartbeat_interval,
            "connection_id": connection_id,
        }
    )


def heartbeat(head: int) -> bytes:
    """Encode a sign of life that says which number the client should have come to."""
    return b'{"type":"heartbeat","head":%d}' % head


def token_expiring(expires_in: float) -> bytes:
    """Encode the notice that the token has expired and the connection is closed in ``expires_in`` seconds."""
    return _encode({"type": "token_expiring", "expires_in": expires_in})


def goodbye(retry_after: float) -> bytes:
    """Encode the notice that the hub shuts down; come back in ``retry_after`` seconds."""
    return _encode({"type": "goodbye", "retry_after": retry_after})


def recovery(page: Page) -> list[bytes]:
    """Return the pieces of the answer to ``GET /websocket/messages``; joined they are one JSON object.

    The pieces are the log's own bytes, so an answer that waits for a slow client costs no second copy.
    """
    pieces = [b'{"messages":[']
    for entry in page.messages:
        pieces += (entry.body, b",")
    if page.messages:
        pieces.pop()
    rest = {
        "epoch": page.epoch,
        "head": page.head,
        "oldest": page.oldest,
        "gap": None if page.gap is None else _hole_fields(page.gap),
        "more": page.more,
    }
    pieces.append(b"]," + _encode(rest)[1:])
    return pieces


def as_json(frame: str | bytes) -> bytes:
    """Return the gateway's frame as JSON that any client can decode. Never raises.

    An object, array, number, true, false or null comes back unchanged. Everything else is passed
    on as a JSON string of the frame's text, with what is no UTF-8 replaced: what is no JSON, what
    decoders disagree about (lone surrogates, NaN, numbers beyond a double), what is nested too
    deeply, and also a JSON string, so that whoever finds a string takes its text for the frame.
    """
    data = frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
    try:
        value: Any = _decode(data)
    except (ValueError, RecursionError):  # ValueError: msgspec's own errors, and UnicodeDecodeError
        return _encode(data.decode("utf-8", "replace"))
    if isinstance(value, str) or (data.count(b"[") + data.count(b"{") > _MAX_DEPTH and _is_deep(value)):
        return _encode(data.decode())
    return data


def text_frame(payload: bytes) -> bytes:
    """Return a server's WebSocket frame: text, final, unmasked (RFC 6455 5.2).

    Args:
        payload: valid UTF-8.
    """
    size = len(payload)
    if size < _LENGTH_IN_2_BYTES:
        return bytes((_FINAL_TEXT, size)) + payload
    if size < 1 << 16:
        return _HEAD_WITH_2_BYTES.pack(_FINAL_TEXT, _LENGTH_IN_2_BYTES, size) + payload
    return bytes((_FINAL_TEXT, _LENGTH_IN_8_BYTES)) + size.to_bytes(8, "big") + payload


def _hole_fields(missing: Hole) -> dict[str, object]:
    return {"reason": missing.reason, "first": missing.first, "last": missing.last}


def _is_deep(container: Any) -> bool:
    """Say whether arrays and objects are nested over the limit, looking at one level after another."""
    level: list[Any] = [container]
    for _ in range(_MAX_DEPTH):
        level = [child for item in level for child in _children(item) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(container: Any) -> Iterable[object]:
    return cast(dict[str, object], container).values() if isinstance(container, dict) else container

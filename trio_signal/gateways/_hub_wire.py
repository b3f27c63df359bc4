"""A hub's frames as typed objects: what each kind holds, as far as a client needs it. Pure.

Fields that are not known here are ignored. Where a frame cannot be read, the result is None
and the caller says so: nothing that comes over the wire raises.
"""

from typing import Annotated, Final, TypeVar

import msgspec

from .._continuity import MAX_EPOCH, MAX_NUMBER
from .._envelopes import Undecodable

#: How often a hub says that it lives if it does not tell, in seconds.
HEARTBEAT: Final = 20.0

#: The kinds that are read here; any other is from a newer hub.
_KINDS: Final = frozenset({"hello", "message", "gap", "heartbeat", "token_expiring", "goodbye", "direct"})

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EPOCH)]

_T = TypeVar("_T")


class Frame(msgspec.Struct, gc=False):
    """What is decoded of every frame: all of a message, and what the others are."""

    type: str
    sequence_number: Number | None = None
    timestamp: Number | None = None
    data: msgspec.Raw = msgspec.Raw()


class Hello(msgspec.Struct, gc=False):
    """The first frame of a link."""

    epoch: Name
    head: Number
    oldest: Number
    heartbeat_interval: float = HEARTBEAT


class GapNotice(msgspec.Struct, gc=False):
    """Something is missing: between two times where it has a number of its own, else these numbers."""

    reason: str = ""
    since: Number | None = None
    until: Number | None = None
    first: Number | None = None
    last: Number | None = None
    count: Number | None = None


class Heartbeat(msgspec.Struct, gc=False):
    """The head, behind everything that was sent before."""

    head: Number


class Goodbye(msgspec.Struct, gc=False):
    """The hub shuts down; come back in so many seconds."""

    retry_after: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _Kind(msgspec.Struct, gc=False):
    type: str


_decode_frame: Final = msgspec.json.Decoder(Frame).decode


def read_frame(frame: str | bytes) -> Frame | None:
    """Decode what all frames have in common."""
    try:
        return _decode_frame(frame)
    except (ValueError, RecursionError):  # ValueError: msgspec's own errors, and UnicodeDecodeError
        return None


def read_as(frame: str | bytes, form: type[_T]) -> _T | None:
    """Decode the rest of a frame as what its type says it is."""
    try:
        return msgspec.json.decode(frame, type=form)
    except (ValueError, RecursionError):
        return None


def is_of_newer_kind(frame: str | bytes) -> bool:
    """Say of a frame that cannot be read whether it has a type that is not known, and so other fields."""
    kind = read_as(frame, _Kind)
    return kind is not None and kind.type not in _KINDS


def content(data: msgspec.Raw, frame: str | bytes) -> str | bytes | Undecodable:
    """Return the gateway's frame: as it is, or the text of a JSON string where it was no JSON."""
    raw = bytes(data)
    if not raw:
        return undecodable(frame, "a message of the hub's without data")
    if raw[:1] != b'"':
        return raw
    text = read_as(raw, str)
    return Undecodable(raw, "text of the hub's that cannot be read") if text is None else text


def undecodable(frame: str | bytes, reason: str) -> Undecodable:
    """Return a frame as one that is given to the application as it came."""
    raw = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    return Undecodable(raw, reason)

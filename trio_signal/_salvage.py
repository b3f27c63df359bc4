"""Decoding a frame so that a field of an unexpected type costs that field and not the message.

The fast path is one strict decode of the whole frame. Only a frame that fails it is taken apart, object by
object, into raw parts: whatever is wrong inside a part (a type, a number out of range, bytes that are not
UTF-8) stays there.
"""

from functools import cache
from typing import Final, TypeGuard, TypeVar, get_args, get_origin

import msgspec

from ._wire import Frame, GroupInfo, Wire

_WireT = TypeVar("_WireT", bound=Wire)

#: Decodes one frame whose every field is of its type; raises as :func:`salvage` does where one is not.
decode_strictly: Final = msgspec.json.Decoder(Frame).decode
_split_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_split_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

#: A list of more items than this, with one among them that is not as it should be, is nobody's message.
_MAX_ITEMS: Final = 10_000


def salvage(raw: bytes) -> Frame:
    """Decode one frame that cannot be decoded strictly.

    What is not of the expected shape is None in the result, and all the rest is kept.

    Never a checkpoint.

    Raises:
        msgspec.ValidationError: It is JSON, but not an object.
        msgspec.DecodeError: It is not JSON.
        UnicodeDecodeError: It is not UTF-8.
        RecursionError: It is nested too deeply.
    """
    return _from_parts(Frame, _split_object(raw))


def _from_parts(shape: type[_WireT], parts: dict[str, msgspec.Raw]) -> _WireT:
    """Build a shape from those of its fields that can be understood."""
    known = {name: _salvage(wanted, parts[key]) for name, key, wanted in _fields(shape) if key in parts}
    return shape(**known)


@cache
def _fields(shape: type[Wire]) -> tuple[tuple[str, str, object], ...]:
    """Give name, name on the wire and type of each field. Resolving annotations is slow: it is done once."""
    return tuple((field.name, field.encode_name, field.type) for field in msgspec.structs.fields(shape))


def _salvage(wanted: object, part: msgspec.Raw) -> object:
    """Decode one field leniently (`"12"` is an int); failing that, give what is understood in it, or None."""
    try:
        return msgspec.json.decode(part, type=wanted, strict=False)
    except ValueError:
        inner = get_args(wanted)[0]  # every field is `X | None`
    if _is_shape(inner):
        return _salvage_shape(inner, part)
    if get_origin(inner) is tuple and _is_shape(item := get_args(inner)[0]):
        return _salvage_items(item, part)
    # A list of plain values is kept whole or not at all: a place in it can have a meaning (a poll's options).
    return None


def _is_shape(wanted: object) -> TypeGuard[type[Wire]]:
    return isinstance(wanted, type) and issubclass(wanted, Wire)


def _salvage_shape(shape: type[Wire], part: msgspec.Raw) -> Wire | None:
    try:
        return _from_parts(shape, _split_object(part))
    except ValueError:
        # A message to a group that is not understood must not pass for a direct one and be answered as such.
        return GroupInfo() if shape is GroupInfo else None


def _salvage_items(shape: type[Wire], part: msgspec.Raw) -> tuple[Wire, ...] | None:
    try:
        items = _split_array(part)
    except ValueError:
        return None
    if len(items) > _MAX_ITEMS:
        return None
    salvaged = (_salvage_shape(shape, item) for item in items)
    return tuple(item for item in salvaged if item is not None)

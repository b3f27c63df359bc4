"""From the bytes of a frame to a received message, whatever the bytes are. Pure; nothing is a checkpoint."""

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from ._envelopes import Decoded, ReceivedMessage, Undecodable
from ._salvage import decode_strictly, salvage
from ._wire import Frame

#: Decodes what nearly everything is that comes: a message whose every field is of its type. Its frame must be
#: put into it.
_decode_message: Final = msgspec.json.Decoder(ReceivedMessage).decode


def decode_frame(data: bytes | str, /) -> Decoded:
    """Decode one frame of a gateway, as it came over the WebSocket or as the data of a Server-Sent Event.

    Never a checkpoint and never raises. Every JSON object that has an `envelope` object is a message: unknown
    fields are ignored, and a field of an unexpected type is None and costs nothing but itself.
    """
    raw = data if type(data) is bytes else _as_bytes(data)
    try:
        try:
            frame = decode_strictly(raw)
        except ValueError:  # msgspec's errors and UnicodeDecodeError are ValueErrors
            frame = salvage(raw)
    except (ValueError, RecursionError) as error:
        return Undecodable(raw, _reason(error))
    return _event(frame, raw)


def decode_frames(frames: Sequence[bytes], /) -> list[Decoded]:
    """Decode the frames of one read. As :func:`decode_frame` of each, which takes longer."""
    try:
        messages: list[Decoded] = list(map(_decode_message, frames))
    except (ValueError, RecursionError):
        return list(map(decode_frame, frames))
    # They are frozen, but nobody has seen them yet.
    deque(map(force_setattr, messages, repeat("raw"), frames), maxlen=0)
    return messages


def _event(frame: Frame, raw: bytes) -> Decoded:
    if frame.envelope is not None:
        return ReceivedMessage(frame.account, frame.envelope, frame.exception, raw)
    if frame.error is not None:
        return Undecodable(raw, "an error frame", frame.error)
    return Undecodable(raw, "no envelope object")


def _as_bytes(data: bytes | str) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return "not a JSON object"
    return f"not JSON: {error}"  # msgspec's own words name the kind of mistake and the byte, but no content

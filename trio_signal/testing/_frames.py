"""WebSocket frames: what the fake gateway writes, byte for byte, and how it reads what a client sends."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

READ_LIMIT = 512
"""Bytes that a client's message may have; the gateway closes with 1009 above it (measured)."""

_MAX_CONTROL = 125


class Opcode(IntEnum):
    """Frame types of RFC 6455, section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def server_frame(
    payload: bytes, opcode: int = Opcode.TEXT, *, final: bool = True, mask: bytes | None = None
) -> bytes:
    """Build one frame as a server sends it: unmasked, with the shortest length form.

    Args:
        payload: the content; for text it need not be valid UTF-8, for a control frame not short: faults are
            built from it too.
        opcode: the frame type.
        final: the FIN bit.
        mask: four bytes; makes it a masked frame, which no server may send.
    """
    flag = 0x80 if mask else 0
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    return head + mask + _masked(payload, mask) if mask else head + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Build a close frame; ``code`` None gives an empty one. Any code will do, 1006 too."""
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return server_frame(payload, Opcode.CLOSE)


def fragmented(payload: bytes, parts: int = 3) -> bytes:
    """Build one text message as ``parts`` frames, with a ping between the first two."""
    size = max(1, -(-len(payload) // parts))
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    frames = [
        server_frame(piece, Opcode.TEXT if at == 0 else Opcode.CONTINUATION, final=at == len(pieces) - 1)
        for at, piece in enumerate(pieces)
    ]
    return frames[0] + server_frame(b"between", Opcode.PING) + b"".join(frames[1:])


@dataclass(frozen=True, slots=True)
class ClientFrame:
    """One frame from a client, unmasked."""

    opcode: Opcode
    payload: bytes


class ClientViolation(Exception):
    """The client broke the protocol; the gateway closes with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class FrameReader:
    """Splits what a client sends into frames, with the checks of the gateway's library (gorilla 1.5.0)."""

    def __init__(self, limit: int = READ_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._in_message = False
        self._length = 0

    def feed(self, data: bytes) -> Iterator[ClientFrame]:
        """Take ``data`` and give the frames that are now whole.

        Raises:
            ClientViolation: what arrived cannot be a client's frame, or is larger than the gateway reads.
        """
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> ClientFrame | None:
        if len(self._buffer) < 2:
            return None
        final, opcode = bool(self._buffer[0] & 0x80), self._buffer[0] & 0x0F
        size = self._buffer[1] & 0x7F
        self._check_head(opcode, size, final=final)
        start = {126: 4, 127: 10}.get(size, 2)
        if len(self._buffer) < start:
            return None
        if size > _MAX_CONTROL:
            size = int.from_bytes(self._buffer[2:start], "big")
        if not opcode & 8:
            self._check_size(size)
        end = start + 4 + size
        if len(self._buffer) < end:
            return None
        payload = _masked(self._buffer[start + 4 : end], self._buffer[start : start + 4])
        del self._buffer[:end]
        self._note(opcode, size, final=final)
        return ClientFrame(Opcode(opcode), payload)

    def _check_head(self, opcode: int, size: int, *, final: bool) -> None:
        wrong: list[str] = []
        if self._buffer[0] & 0x70:
            wrong.append("RSV set")
        if opcode not in Opcode.__members__.values():
            wrong.append(f"bad opcode {opcode}")
        elif opcode & 8:
            if size > _MAX_CONTROL:
                wrong.append("len > 125 for control")
            if not final:
                wrong.append("FIN not set on control")
        elif (opcode == Opcode.CONTINUATION) != self._in_message:
            wrong.append("data before FIN" if self._in_message else "continuation after FIN")
        if not self._buffer[1] & 0x80:
            wrong.append("bad MASK")
        if wrong:
            raise ClientViolation(1002, ", ".join(wrong))

    def _check_size(self, size: int) -> None:
        if self._length + size > self._limit:
            raise ClientViolation(1009, "")

    def _note(self, opcode: int, size: int, *, final: bool) -> None:
        if opcode & 8:
            return
        self._in_message = not final
        self._length = 0 if final else self._length + size


def _masked(data: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    size = len(data)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")

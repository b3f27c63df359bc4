"""WebSocket messages cut out of what a gateway sends, a whole read at a time. Pure.

Of the frames of RFC 6455, section 5.2, all that carry messages end here: what is checked here is checked
nowhere else. The control frames (ping, pong, close) are whole when they are handed on, to whoever answers
them. Both keep their order, and nothing that stands behind a close frame or a violation is given.

A message in one frame of 126 to 65,535 bytes is what a gateway nearly always sends. A short loop does these;
all else takes the general way, which is some ten times as long.
"""

import codecs
import struct
from typing import Final

#: How the general head of a frame is read. The length is in these bits, or one of these forms follows.
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
#: This bit is set in the opcode of each control frame; these have at most so many bytes.
_CONTROL: Final = 0x8
_MAX_CONTROL: Final = 125

#: How a final, unmasked text frame begins whose length is in the two bytes that follow.
_USUAL: Final = 0x81 << 8 | _TWO_BYTES
_USUAL_SIZE: Final = 4
_usual_head: Final = struct.Struct("!HH").unpack_from

#: How much text is decoded at once to see if it is UTF-8, in bytes: decoded it can take four times its room.
_PIECE: Final = 128 * 1024
#: How many texts are looked at together. More of them no longer fit into the processor's nearest cache.
_TOGETHER: Final = 16
_utf8: Final = codecs.getincrementaldecoder("utf-8")

PROTOCOL_ERROR: Final = 1002
NOT_UTF8: Final = 1007
TOO_LARGE: Final = 1009

_NOT_UTF8: Final = "text that is not UTF-8"


class FrameViolation(Exception):
    """The other side broke the protocol.

    Attributes:
        code: the close code that says how.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code: Final = code


class FrameSplitter:
    """Cuts what a server sends into messages and control frames. Never waits.

    Holds no more than one message and what was fed last, and takes time in proportion to what is fed,
    however small the pieces are.

    Args:
        max_message_size: the largest message taken, in bytes. A larger one is refused as soon as that is
            certain, before its content has come.

    Attributes:
        violation: how the other side broke the protocol; None as long as it has not.
        is_closed: whether a close frame has come.
        control: the control frames that were not taken yet, as they came.
    """

    def __init__(self, max_message_size: int) -> None:
        self._max_size: Final = max_message_size
        self.violation: FrameViolation | None = None
        self.is_closed = False
        self.control: Final = bytearray()
        #: A frame that has not come whole, and how many bytes it has (or its head, as far as is known).
        self._rest = bytearray()
        self._needed = 0
        #: The message of which some frames have come, and what checks it if it is text.
        self._fragments: bytearray | None = None
        self._checker: codecs.IncrementalDecoder | None = None
        #: What :meth:`feed` is about to give, and how many of these are known to be proper.
        self._messages: list[bytes] = []
        self._checked = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the messages that are whole now. Text is UTF-8.

        After a violation or a close frame nothing more is given.
        """
        if self.violation is not None or self.is_closed:
            return []
        self._messages = messages = list[bytes]()
        self._checked = 0
        try:
            self._split(data)
        except FrameViolation as violation:
            self.violation = violation
        try:
            self._check_texts()
        except FrameViolation as violation:
            # It stands before the other.
            self.violation = violation
        self._messages = []
        return messages

    def take_control(self) -> bytes:
        """Return the control frames that have come since this was called last, as they came."""
        control = bytes(self.control)
        self.control.clear()
        return control

    def _split(self, data: bytes) -> None:
        at = self._finish(data) if self._rest else 0
        size, give = len(data), self._messages.append
        last, shortest, longest = size - _USUAL_SIZE, _MAX_CONTROL + 1, self._max_size
        while at < size and not self.is_closed:
            if self._fragments is None:
                while at <= last:
                    first, length = _usual_head(data, at)
                    end = at + _USUAL_SIZE + length
                    if first != _USUAL or not shortest <= length <= longest or end > size:
                        break
                    give(data[at + _USUAL_SIZE : end])
                    at = end
            if at < size:
                at = self._take(data, at)

    def _finish(self, data: bytes) -> int:
        """Go on with the frame that was begun; return where the next one begins."""
        at = 0
        while self._rest and at < len(data):
            upto = at + self._needed - len(self._rest)
            self._rest += data[at:upto]
            at = min(upto, len(data))
            if len(self._rest) == self._needed:
                begun, self._rest = self._rest, bytearray()
                self._take(begun, 0)
        return at

    def _take(self, data: bytes | bytearray, at: int) -> int:
        """Take the frame that begins there, or keep what has come of it; return where the next one begins."""
        head, size = self._measure(data, at)
        end = at + head + size
        if len(data) < end:
            self._rest, self._needed = bytearray(memoryview(data)[at:]), head + size
            return len(data)
        if data[at] & _CONTROL:
            self._pass_on(data, at, end)
        else:
            self._take_data(data[at], bytes(memoryview(data)[at + head : end]))
        return end

    def _measure(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        """Return how many bytes a frame's head and content have; of the content none before all is known.

        Raises:
            FrameViolation: there is no such frame, or none in this place.
        """
        available = len(data) - at
        if available < 2:
            return 2, 0
        self._check_head(data[at], data[at + 1])
        length, head = data[at + 1] & _LENGTH, 2
        if length == _TWO_BYTES:
            length, head = int.from_bytes(data[at + 2 : at + 4]), 4
        elif length == _EIGHT_BYTES:
            length, head = int.from_bytes(data[at + 2 : at + 10]), 10
        if available < head:
            return head, 0
        if length <= {2: -1, 4: _MAX_CONTROL, 10: 0xFFFF}[head] or length >> 63:
            raise FrameViolation(PROTOCOL_ERROR, "a frame's length in another form than the shortest")
        if not data[at] & _CONTROL and length + len(self._fragments or b"") > self._max_size:
            raise FrameViolation(TOO_LARGE, f"over {self._max_size} bytes")
        return head, length

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED:
            problem = "a reserved bit is set"
        elif opcode not in _OPCODES:
            problem = f"a frame of unknown kind {opcode}"
        elif opcode & _CONTROL and not first & _FINAL:
            problem = "a control frame in fragments"
        elif opcode & _CONTROL and second & _LENGTH > _MAX_CONTROL:
            problem = "a control frame that is too long"
        elif second & _MASKED:
            problem = "a masked frame"
        elif opcode == _CONTINUATION and self._fragments is None:
            problem = "the continuation of no message"
        elif opcode in (_TEXT, _BINARY) and self._fragments is not None:
            problem = "a message within another"
        else:
            return
        raise FrameViolation(PROTOCOL_ERROR, problem)

    def _pass_on(self, data: bytes | bytearray, at: int, end: int) -> None:
        self._check_texts()
        self.control.extend(memoryview(data)[at:end])
        self.is_closed = data[at] & _OPCODE == _CLOSE

    def _take_data(self, first: int, content: bytes) -> None:
        """Take the content of a frame that has its place here."""
        opcode, is_last = first & _OPCODE, bool(first & _FINAL)
        if opcode == _TEXT and is_last:
            self._messages.append(content)
            return
        self._check_texts()
        message = self._fragments
        if message is None:
            message = self._fragments = bytearray()
            self._checker = _utf8() if opcode == _TEXT else None
        message += content
        if self._checker is not None:
            _check(self._checker, content, is_last=is_last)
        if is_last:
            self._messages.append(bytes(message))
            self._checked = len(self._messages)
            self._fragments = self._checker = None

    def _check_texts(self) -> None:
        """Make sure that the messages since the last check are UTF-8, which all are to be.

        Raises:
            FrameViolation: one is not. That and what stands behind it is not given.
        """
        messages, since = self._messages, self._checked
        self._checked = len(messages)
        for at in range(since, len(messages), _TOGETHER):
            texts = messages[at : at + _TOGETHER]
            # No character reaches over a line end, so together they are UTF-8 if and only if each is.
            if not _is_utf8(b"\n".join(texts)):
                good = next(number for number, text in enumerate(texts) if not _is_utf8(text))
                del messages[at + good :]
                self._checked = len(messages)
                raise FrameViolation(NOT_UTF8, _NOT_UTF8)


def _is_utf8(text: bytes) -> bool:
    try:
        if len(text) <= _PIECE:
            text.decode()
        else:
            _check(_utf8(), text, is_last=True)
    except (UnicodeDecodeError, FrameViolation):
        return False
    return True


def _check(checker: codecs.IncrementalDecoder, text: bytes, *, is_last: bool) -> None:
    """Make sure that text goes on as UTF-8."""
    view = memoryview(text)
    try:
        for at in range(0, len(text), _PIECE):
            checker.decode(view[at : at + _PIECE])
        checker.decode(b"", is_last)
    except UnicodeDecodeError:
        raise FrameViolation(NOT_UTF8, _NOT_UTF8) from None

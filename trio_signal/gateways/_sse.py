"""Reads a stream of Server-Sent Events, as signal-cli writes them. Pure.

The rules are those of the HTML standard ("Server-sent events", interpretation of an event
stream): a line ends with CR, LF or CRLF; a line is ``name:value`` with one optional space
after the colon; a blank line ends an event; the values of several ``data`` lines are joined
with LF; the last ``event`` line tells the event's name. A line that begins with a colon is a
comment: signal-cli writes lone ones to show that it lives, and no blank line after them. A
byte order mark at the beginning is skipped.

What differs: only events named ``receive`` are given, their data stays bytes whether or not it
is UTF-8, and an event with more than `max_event` bytes of data is not kept, only measured.

Each byte is looked at a fixed number of times, however the stream is cut into reads: the part of
a line that came is never searched again. Between two reads at most `max_event` bytes and a few
dozen are held.
"""

from typing import Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 0x0D
_LF: Final = 0x0A

#: What is kept of a line that is too long, in bytes: enough to see its name, and that an event is not ours.
_HEAD: Final = 32


class Oversize(NamedTuple):
    """Stands for an event that was not kept: `size` is how many bytes of data it had."""

    size: int


class EventParser:
    """Takes a stream apart into its ``receive`` events. Never waits and never raises.

    Args:
        max_event: how many bytes of data an event may have to be kept.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._at_start = True  # what may be the byte order mark is in _line until it is known
        self._after_cr = False  # an LF that comes next belongs to it
        self._line = bytearray()  # the line that has not ended yet
        self._cut = 0  # how many more bytes that line had
        self._data = bytearray()  # each value with an LF behind it; nothing if there are too many
        self._data_size = 0  # how long _data is, or would be
        self._finished = 0  # how many bytes the lines of the open event had
        self._is_ours = False

    @property
    def rest(self) -> int:
        """How many bytes of an event came that has not ended: kept or not, without line ends and comments."""
        if self._line.startswith(b":"):
            return self._finished
        return self._finished + len(self._line) + self._cut

    def feed(self, data: bytes) -> list[bytes | Oversize]:
        """Take the next part of the stream; give the data of the ``receive`` events that ended in it.

        Never a checkpoint.
        """
        data = self._trim_start(data)
        events: list[bytes | Oversize] = []
        if not data:
            return events
        lines = data.splitlines()  # bytes, unlike str, are split at CR, LF and CRLF only
        last = data[-1]
        self._after_cr = last == _CR
        begun = b"" if last in {_CR, _LF} else lines.pop()
        if lines and self._line:
            self._line += lines[0]
            self._end_line(bytes(self._line), self._cut, events)
            self._line.clear()
            self._cut = 0
            del lines[0]
        for line in lines:
            self._end_line(line, 0, events)
        self._line += begun
        self._cut_line()
        return events

    def _trim_start(self, data: bytes) -> bytes:
        """Leave out the byte order mark, and an LF that is the second half of a line end."""
        if self._after_cr and data:
            self._after_cr = False
            return data.removeprefix(b"\n")
        if not self._at_start:
            return data
        data = bytes(self._line) + data
        self._line.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._line += data
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _cut_line(self) -> None:
        """Forget what is too long of the line that has not ended.

        If it is data, the event is over the limit whatever follows: what stands before a value is shorter
        than _HEAD.
        """
        if len(self._line) > max(self._max_event - self._data_size, 0) + _HEAD:
            self._cut += len(self._line) - _HEAD
            del self._line[_HEAD:]

    def _end_line(self, line: bytes, cut: int, events: list[bytes | Oversize]) -> None:
        """Take a whole line, of which `cut` bytes at the end are missing."""
        if not line:
            self._end_event(events)
            return
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment, which may stand anywhere
        self._finished += len(line) + cut
        if name == b"data":
            self._add(value.removeprefix(b" "), cut)
        elif name == b"event":
            self._is_ours = value.removeprefix(b" ") == b"receive"

    def _add(self, value: bytes, cut: int) -> None:
        self._data_size += len(value) + cut + 1
        if self._data_size - 1 > self._max_event:
            self._data.clear()
        else:
            self._data += value
            self._data += b"\n"

    def _end_event(self, events: list[bytes | Oversize]) -> None:
        size = self._data_size - 1
        if size >= 0 and self._is_ours:
            events.append(bytes(memoryview(self._data)[:size]) if size <= self._max_event else Oversize(size))
        self._data.clear()
        self._data_size = 0
        self._finished = 0
        self._is_ours = False

"""HTTP/1.1 answers, out of bytes. Pure.

httptools reads each head and the chunks of a body, in llhttp's strict mode, and is given exactly one head at
a time: so bodies of a known length are counted here, and what comes behind an answer is seen. What it takes
although it makes no sense in an answer is refused here. Nothing that came is repeated in an error, since
messages belong in no log.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import httptools

#: The most bytes of an answer's heads, the informational ones before it included, and of what stands between
#: two pieces of a body in chunks.
MAX_HEAD: Final = 16 * 1024

_BLANK_LINE: Final = b"\r\n\r\n"
_ANY_BLANK_LINE: Final = re.compile(rb"\n\r?\n")

#: What the head of an answer begins with; llhttp takes other versions too, and empty lines before it.
_VERSIONS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_OLD: Final = _VERSIONS[1]

#: How a body in chunks ends, as long as nothing stands behind it.
_LAST_LINE: Final = re.compile(rb"[^\r\n]\r\n\r\n", re.DOTALL)

_BODILESS: Final = frozenset({204, 304})


class BadAnswer(Exception):
    """What came is no HTTP answer, or not a whole one."""


class Headers(Mapping[str, str]):
    """The headers of an answer; names in any case, the values of one name joined by commas.

    Attributes:
        raw: names and values as they came, which tells one server from another.
    """

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self.raw: Final = list(raw)
        self._joined: Final[dict[str, str]] = {}
        for raw_name, raw_value in self.raw:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
            self._joined[name] = f"{self._joined[name]}, {value}" if name in self._joined else value

    def __getitem__(self, name: str) -> str:
        """Return what a header says."""
        return self._joined[name.lower()]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in small letters."""
        return iter(self._joined)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._joined)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read a Retry-After header given in seconds; a date or nonsense counts as none."""
    value = headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


class KnownHead:
    """A head that was read before, of an answer whose body has a length and whose connection goes on.

    What begins with the very same bytes means the very same, and need not be read again: in what one gateway
    answers to sends, hardly anything changes but the date, once a second.

    Attributes:
        status: the HTTP status.
        raw: the headers, as they came.
        wait: see :class:`AnswerReader`.
    """

    __slots__ = ("_head", "_size", "raw", "status", "wait")

    def __init__(self, reader: "AnswerReader", head: bytes, length: int) -> None:
        self.status: Final = reader.status
        self.raw: Final = reader.raw
        self.wait: Final = reader.wait
        self._head: Final = head
        self._size: Final = len(head) + length

    def body_in(self, data: bytes) -> bytes | None:
        """Return the body of an answer if this is its head and ``data`` is all of it, and nothing more."""
        if len(data) == self._size and data.startswith(self._head):
            return data[len(self._head) :]
        return None


class AnswerReader:
    """Reads one answer, whatever pieces it comes in.

    Args:
        to_head: whether it answers a HEAD request, so that its head is all of it.

    Attributes:
        status: the HTTP status; 0 until the head is whole.
        raw: the headers, as they came.
        is_whole: whether all of it has come.
        is_last: whether the connection is of no more use: it ends with this answer, or something stands
            behind it that would be taken for the next one.
        problem: why nothing more can be read of a body of which something may have been given.
    """

    def __init__(self, *, to_head: bool = False) -> None:
        self.status = 0
        self.raw: list[tuple[bytes, bytes]] = []
        self.is_whole = self.is_last = False
        self.problem: BadAnswer | None = None
        self._to_head: Final = to_head
        self._unread: bytes = b""
        self._size = 0
        #: How much of the body is to come; None where it ends with the connection.
        self._left: int | None = None
        self._chunks: _Chunks | None = None
        self._head = b""
        self._length: int | None = None

    @property
    def known_head(self) -> KnownHead | None:
        """The head of an answer that is whole, if the next one can be known by it."""
        # What came before it, or as chunks, is no part of it.
        if self.is_last or self._to_head or self._length is None or self._size != len(self._head):
            return None
        return KnownHead(self, self._head, self._length)

    @property
    def wait(self) -> float | None:
        """For how long nobody is to ask again, in seconds, if it says so and did not go well."""
        return None if 200 <= self.status < 300 else retry_after(Headers(self.raw))

    def feed(self, data: bytes) -> bytes:
        """Read what has come, and return what there is of the body, up to a problem if there is one.

        Raises:
            BadAnswer: it is no answer, and there is no use in reading on.
        """
        if not self.status:
            data = self._read_heads(data)
            if not self.status:
                return b""
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.is_whole, self.problem = self._chunks.is_whole, self._chunks.problem
            self.is_last |= self._chunks.is_last
            return data
        if self._left is None:
            return data
        if len(data) > self._left:
            data, self.is_last = data[: self._left], True
        self._left -= len(data)
        self.is_whole = not self._left
        return data

    def end(self) -> None:
        """Take note that nothing more comes.

        Raises:
            BadAnswer: something is missing.
        """
        if self.problem is not None:
            raise self.problem
        if self.status and self._left is None:
            self.is_whole = self.is_last = True
        elif not self.is_whole:
            part = "in the middle of its answer" if self.status or self._unread else "without an answer"
            raise BadAnswer(f"the gateway ended the connection {part}")

    def _read_heads(self, data: bytes) -> bytes:
        """Read up to the end of the answer's own head, if it is there, and return what follows."""
        start = max(len(self._unread) - len(_BLANK_LINE), 0)
        data, self._unread = self._unread + data, b""
        while not self.status:
            end = data.find(_BLANK_LINE, start) + len(_BLANK_LINE)
            if end < len(_BLANK_LINE):
                # httptools would say so too, but only of what it is given.
                if _ANY_BLANK_LINE.search(data, start):
                    raise BadAnswer("the lines of an answer do not end as those of HTTP")
                _limit(self._size + len(data))
                self._unread = data
                return b""
            self._size += end
            _limit(self._size)
            self._read_head(data[:end])
            data, start = data[end:], 0
        return data

    def _read_head(self, head: bytes) -> None:
        """Read one whole head, which may be that of an informational answer before the answer itself."""
        found = _Head()
        parser = httptools.HttpResponseParser(found)
        _parse(parser, head, "what came is no answer in HTTP/1.1")
        status = parser.get_status_code()
        if not head.startswith(_VERSIONS) or b"\0" in head or status < 100 or status == 101:
            raise BadAnswer("what came is no answer to a request in HTTP/1.1")
        self._note_framing(head, found.raw)
        if status >= 200:
            self.status, self.raw = status, found.raw
            if self._to_head or status in _BODILESS:
                self._left, self._chunks = 0, None
            self._head, self._length = head, self._left if self._chunks is None else None

    def _note_framing(self, head: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Find out where the body ends. llhttp has refused two lengths, and a length beside chunks."""
        length = coding = None
        is_old = self.is_last = head.startswith(_OLD)
        for name, value in headers:
            field = name.lower()
            if field == b"content-length":
                length = int(value)
            elif field == b"transfer-encoding":
                coding = value if coding is None else b"several"
            elif field == b"connection":
                self.is_last |= b"close" in {token.strip() for token in value.lower().split(b",")}
        self._left, self._chunks = length, None
        if coding is not None:
            if coding.strip().lower() != b"chunked" or is_old:
                raise BadAnswer("the answer has a transfer coding other than chunks")
            self._left, self._chunks = 0, _Chunks(head)


class _Head:
    """Collects the headers that httptools finds."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.raw.append((name, value))


class _Chunks:
    """Reads a body in chunks. What stands behind the last one is read over: no header may come so late.

    Args:
        head: the answer's head, without which httptools reads no body.
    """

    def __init__(self, head: bytes) -> None:
        self.is_whole = self.is_last = False
        self.problem: BadAnswer | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.feed_data(head)

    def feed(self, data: bytes) -> bytes:
        """Read what has come, and return what there is of the body, up to a problem if there is one."""
        if self._parser is None:
            self.is_last |= bool(data)
            return b""
        self._tail = (self._tail + data[-5:])[-5:]
        try:
            _parse(self._parser, data, "the chunks of the answer are none")
            self._size = 0 if self._pieces else self._size + len(data)
            if not self.is_whole:
                _limit(self._size)
        except BadAnswer as error:
            # What stands behind the last chunk is nobody's answer.
            self.is_last = True
            self.problem = None if self.is_whole else error
        if self.is_whole or self.problem is not None:
            # The parser knows us as we knew it: nothing is left to the garbage collector.
            self._parser = None
            self.is_last |= not _LAST_LINE.fullmatch(self._tail)
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    # What httptools calls.

    def on_message_begin(self) -> None:
        # Another answer stands behind this one.
        self.is_last |= self.is_whole

    def on_body(self, piece: bytes) -> None:
        if not self.is_whole:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.is_whole = True


def _parse(parser: httptools.HttpResponseParser, data: bytes, problem: str) -> None:
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        raise BadAnswer(problem) from None


def _limit(size: int) -> None:
    if size > MAX_HEAD:
        raise BadAnswer(f"more than {MAX_HEAD} bytes came where a head or a chunk should end")

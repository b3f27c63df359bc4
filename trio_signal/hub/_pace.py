"""How an answer goes out: in few writes, each small enough to be timed. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

#: The most bytes of one write.
PIECE: Final = 64 * 1024

#: What a peer must take or give on average, in bytes a second, once its time to start with is over.
LEAST_RATE: Final = 16 * 1024


class Pace:
    """How fast a peer takes one answer. The time in which there is nothing to take is not counted.

    Args:
        patience: seconds for which it may take nothing.
    """

    def __init__(self, patience: float) -> None:
        self._patience: Final = patience
        self._earned = 0.0

    def limit(self) -> float:
        """Return how long the next piece may take, in seconds."""
        return max(0.0, self._patience + min(0.0, self._earned))

    def note(self, size: int, seconds: float) -> None:
        """Note that it has taken so many bytes in so many seconds."""
        self._earned += size / LEAST_RATE - seconds


def chunk(piece: bytes) -> list[bytes]:
    """Frame a piece. One without bytes is left out, since that would be the last chunk."""
    return [b"%x\r\n" % len(piece), piece, b"\r\n"] if piece else []


def packed(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces and split large ones, so that there are few writes, each small enough to be timed."""
    parts = [head, *pieces]
    ends = list(accumulate(map(len, parts)))
    first = sent = 0
    while first < len(parts):
        last = max(first + 1, bisect_right(ends, sent + PIECE, lo=first))
        joined = b"".join(parts[first:last])
        for start in range(0, len(joined), PIECE):
            yield joined[start : start + PIECE]
        first, sent = last, ends[last - 1]

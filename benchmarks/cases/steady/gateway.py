"""A gateway that never runs out of messages, and hangs up when told to. Standard library only."""

from collections.abc import Callable
from itertools import islice
from typing import Final

from ... import traffic
from ...connections import Connection
from ...contender import Item, Work
from ...generators import Generator

_FRAMES_PER_WRITE: Final = 64

#: More than anybody takes.
_MANY: Final = 1 << 40


class Endless(Generator):
    """Makes its frames while it writes them.

    Its orders are ``flow COUNT``, to write so many in a thread of its own, and ``drop``, to end the
    WebSocket; from the first ``drop`` on each new one gets a message.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frames: Final = traffic.frames(_MANY)
        self._count = 0
        self._sum = 0
        self._has_dropped = False

    @property
    def work(self) -> Work:
        """How many were written, and the sum of their timestamps: there are too many for a digest."""
        return Work(self._count, str(self._sum))

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | {"flow": self._flow, "drop": self._drop}

    def _flow(self, count: int) -> None:
        receiver = self._connection()
        while count > 0:
            piece = list(islice(self._frames, min(count, _FRAMES_PER_WRITE)))
            self._note(piece)
            receiver.write(b"".join(frame for _, frame in piece))
            count -= len(piece)

    def _drop(self) -> None:
        receiver = self._connection()
        self._has_dropped = True
        self._connected.clear()
        receiver.drop()

    def _opened(self, connection: Connection) -> None:
        super()._opened(connection)
        if self._has_dropped:
            piece = list(islice(self._frames, 1))
            self._note(piece)
            connection.write(piece[0][1])

    def _note(self, piece: list[tuple[Item, bytes]]) -> None:
        self._count += len(piece)
        self._sum += sum(stamp or 0 for (stamp, *_), _ in piece)

"""Answers to those who were away, each built once for all who ask for the same while the log stands still.

Who lost the hub at one moment comes back with the same number: after an outage that is everybody.
"""

from dataclasses import replace
from typing import Final

from . import _protocol
from ._exchange import Answer, render_head
from ._pace import packed
from .connections import ConnectionManager

#: The most answers that are kept, and the most bytes that they may have.
_MOST: Final = 16
_MOST_BYTES: Final = 4 * 1024 * 1024


class Recovered:
    """Gives the answers to ``GET /websocket/messages``. Its method is synchronous, so never a checkpoint.

    Args:
        connections: has the log.
    """

    def __init__(self, connections: ConnectionManager) -> None:
        self._connections: Final = connections
        #: What was kept when they were built: the first number and the last, of which numbering.
        self._mark = (0, 0, "")
        self._built: Final[dict[tuple[int, str | None, int | None], tuple[Answer, int]]] = {}
        self._bytes = 0

    def since(self, since: int, epoch: str | None, limit: int | None) -> tuple[Answer, int]:
        """Return the answer, and how many messages it has; see :meth:`MessageLog.since`."""
        log = self._connections.log
        mark = (log.oldest, log.head, log.epoch)
        if mark != self._mark:
            self._forget()
            self._mark = mark
        built = self._built.get((since, epoch, limit))
        return built or self._build(since, epoch, limit)

    def _build(self, since: int, epoch: str | None, limit: int | None) -> tuple[Answer, int]:
        page = self._connections.get_messages_since(since, epoch=epoch, limit=limit)
        pieces, count = _protocol.recovery(page), len(page.messages)
        size = sum(map(len, pieces))
        if size > _MOST_BYTES:
            # These are the log's own bytes: to wait for a slow client costs no second copy.
            return Answer(200, pieces), count
        answer = Answer(200, pieces)
        # As it will be written, so that nobody has to join or split it again.
        wire = [*packed(render_head(answer, size, close=False), pieces)]
        built = replace(answer, wire=wire), count
        if len(self._built) == _MOST or self._bytes + size > _MOST_BYTES:
            self._forget()
        self._built[since, epoch, limit] = built
        self._bytes += size
        return built

    def _forget(self) -> None:
        self._built.clear()
        self._bytes = 0

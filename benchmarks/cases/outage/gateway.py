"""A gateway that is killed while it is sent to, and keeps the books. Standard library only."""

import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from ... import traffic
from ...connections import Connection, answer, start
from ...contender import Work
from ...generators import Generator
from .ledger import Verdict, offered

#: How long it takes to answer a send, in seconds. It notes what has arrived before.
_TIME: Final = 0.01


class MortalGateway(Generator):
    """Notes each message that arrives, and answers a moment later, unless it has died meanwhile.

    Its orders are ``outage_in COUNT BEGIN DOWN``: so many messages will be offered, and it is away from BEGIN
    on, for DOWN ms; and ``sent``, ``failed``, ``unknown``, each with the numbers of which the sender was told
    that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._offered = 0
        self._arrived: Final[list[tuple[str, int]]] = []
        self._told: Final[dict[str, set[int]]] = {}

    @property
    def work(self) -> Work:
        """What was offered. What became of it is among the figures."""
        return offered(self._offered)

    @property
    def figures(self) -> dict[str, float]:
        """How many were lost, came twice, overtook others, or came although the sender was told otherwise."""
        times = Counter(number for _, number in self._arrived)
        lost = set(range(self._offered)) - times.keys()
        believed = self._told.get(Verdict.SENT.value, set())
        return {
            "lost": float(len(lost)),
            "silent": float(len(lost & believed)),
            "twice": float(sum(count - 1 for count in times.values())),
            "wrong": float(len(times.keys() & self._told.get(Verdict.FAILED.value, set()))),
            "disorder": float(self._inversions()),
        }

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        verdicts: dict[str, Callable[..., None]] = {
            verdict.value: self._note(verdict.value) for verdict in Verdict
        }
        return super()._orders | verdicts | {"outage_in": self._plan}

    def _plan(self, count: int, begin: int, down: int) -> None:
        self._offered = count
        start(self._die_and_return, begin / 1000, down / 1000)

    def _die_and_return(self, begin: float, down: float) -> None:
        # Stopped meanwhile, it is called off, or does not end.
        if self._stopped.wait(begin):
            return
        self._leave()
        if not self._stopped.wait(down):
            self._come_back()

    def _note(self, verdict: str) -> Callable[..., None]:
        def note(*numbers: int) -> None:
            self._told[verdict] = set(numbers)

        return note

    def _take(self, connection: Connection, body: bytes) -> None:
        message = json.loads(body)
        number = int(message["message"].partition(" ")[0])
        self._arrived.append((message["recipients"][0], number))
        start(self._answer, connection, number)

    def _answer(self, connection: Connection, number: int) -> None:
        time.sleep(_TIME)
        sent = b'[{"timestamp":"%d"}]' % traffic.timestamp(number)
        # It may have died meanwhile.
        with contextlib.suppress(OSError):
            connection.write(answer(b"201 Created", sent))

    def _inversions(self) -> int:
        """Count how often the next to arrive in a conversation was an earlier one, each taken once."""
        conversations: defaultdict[str, list[int]] = defaultdict(list)
        for recipient, number in dict.fromkeys(self._arrived):
            conversations[recipient].append(number)
        return sum(
            later < earlier for numbers in conversations.values() for earlier, later in pairwise(numbers)
        )

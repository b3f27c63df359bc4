"""A gateway that counts what is sent to it up to a number. Standard library only."""

import json
from collections.abc import Callable

from ... import traffic
from ...connections import Connection
from ...contender import Item, Work
from ...generators import Generator

#: How many people are written to.
PEOPLE = 40


class Counter(Generator):
    """Its order ``count NUMBER`` says how many of the sends from then on are taken down."""

    def __init__(self) -> None:
        super().__init__()
        self._items: list[Item] = []
        self._open = 0

    @property
    def work(self) -> Work:
        """What was sent, as far as it was to be taken down."""
        return Work.of(self._items)

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | {"count": self._expect}

    def _expect(self, number: int) -> None:
        self._open = number

    def _take(self, connection: Connection, body: bytes) -> None:
        if self._open:
            self._open -= 1
            message = json.loads(body)
            self._items.append((None, message["recipients"][0], None, message["message"]))
        super()._take(connection, body)


def texts(count: int) -> list[Item]:
    """Return the first so many messages that are sent, again and again to all people in turn."""
    return [(None, traffic.number(place % PEOPLE), None, f"{place} hello") for place in range(count)]

"""A gateway that writes messages of any size. Standard library only."""

import json
from collections.abc import Callable

from ... import traffic
from ...contender import Item, Work
from ...generators import Generator
from ...wires import WebSocketWire

#: What a text is made of.
LETTER = "x"


class Writer(Generator):
    """Its order ``write COUNT SIZE`` has it write so many messages with a text of so many bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._items: list[Item] = []

    @property
    def work(self) -> Work:
        """What was written, the text told by its size."""
        return Work.of(self._items)

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | {"write": self._write}

    def _write(self, count: int, size: int) -> None:
        for _ in range(count):
            stamp = traffic.timestamp(len(self._items))
            self._items.append((stamp, traffic.number(0), None, str(size)))
            self._connection().write(_frame(stamp, size))


def _frame(stamp: int, size: int) -> bytes:
    envelope = {
        "source": traffic.number(0),
        "sourceNumber": traffic.number(0),
        "sourceDevice": 1,
        "timestamp": stamp,
        "dataMessage": {"timestamp": stamp, "message": LETTER * size},
    }
    payload = json.dumps({"envelope": envelope, "account": traffic.ACCOUNT}).encode()
    return WebSocketWire().encode(payload)

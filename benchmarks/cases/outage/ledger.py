"""What is offered during an outage, and what everybody was told of it. Standard library only."""

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ...contender import Gateway, Measurement, Params, Work
from ...traffic import by_conversation, outgoing_to

#: How many people are written to, in turn.
PEOPLE: Final = 5


class Verdict(enum.Enum):
    """What a sender is told of a message in the end; the value is the order by which it passes that on."""

    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Ledger:
    """Keeps what is offered, and what the sender was told of it.

    Args:
        gateway: takes the orders.
        params: how many a second for how many ms: ``rate``, ``sending``; and the outage: ``begin``, ``down``.

    Attributes:
        due: the messages, each with the seconds after the start at which it is due: number, recipient, text.
    """

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self._gateway: Final = gateway
        self._params: Final = params
        each = params["rate"] * params["sending"] // 1000 // PEOPLE
        self._items: Final = outgoing_to(PEOPLE, each)
        turns = [message for turn in zip(*self._items, strict=True) for message in turn]
        self.due: Final = [
            (number / params["rate"], number, recipient, text)
            for number, (recipient, text) in enumerate(turns)
        ]
        self._told: Final[dict[Verdict, list[int]]] = {verdict: [] for verdict in Verdict}
        self._started = 0.0
        self._latest = 0.0

    def begin(self) -> None:
        """Order the outage; from now on messages are due."""
        self._gateway.order("outage_in", len(self.due), self._params["begin"], self._params["down"])
        self._started = time.perf_counter()

    def note(self, number: int, verdict: Verdict, accepted: float) -> None:
        """Note what the sender was told of a message that it gave away at this time of ``perf_counter()``."""
        self._told[verdict].append(number)
        self._latest = max(self._latest, time.perf_counter() - accepted)

    def measurement(self) -> Measurement:
        """Pass on what the sender was told, and sum up. Blocks for a moment."""
        for verdict, numbers in self._told.items():
            self._gateway.order(verdict.value, *numbers)
        figures = {"latency": self._latest, "unknown": float(len(self._told[Verdict.UNKNOWN]))}
        return Measurement(figures, offered(len(self.due)))


def offered(count: int) -> Work:
    """Sum up what is offered."""
    people = outgoing_to(PEOPLE, count // PEOPLE)
    return Work.of(by_conversation((None, who, None, text) for person in people for who, text in person))


async def offer_with_asyncio(ledger: Ledger, send: Callable[[str, str], Awaitable[Verdict]]) -> None:
    """Offer each message when it is due, in a task of its own, and wait for all of them."""

    async def offer(number: int, recipient: str, text: str) -> None:
        accepted = time.perf_counter()
        ledger.note(number, await send(recipient, text), accepted)

    ledger.begin()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for due, number, recipient, text in ledger.due:
            await asyncio.sleep(started + due - time.perf_counter())
            tasks.create_task(offer(number, recipient, text))

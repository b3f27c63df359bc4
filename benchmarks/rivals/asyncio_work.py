"""The cases' work for those on asyncio, who bring only what it is done with. Standard library only."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..cases.receive.orders import Orders, as_it_is
from ..contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ..traffic import by_conversation, outgoing, outgoing_to

#: Sends this text to this recipient and returns the timestamp that the gateway gave it.
Send = Callable[[str, str], Awaitable[int]]

#: Takes what was handled.
Take = Callable[[Item], None]


class Intake:
    """What a handler has taken, in order.

    Attributes:
        watch: it is stopped by what completes what is waited for.
        items: what was taken.
    """

    def __init__(self) -> None:
        self.watch: Final = Stopwatch()
        self.items: Final[list[Item]] = []
        self._wanted = 0
        self._reached: Final = asyncio.Event()

    def take(self, item: Item) -> None:
        """Note what was handled."""
        self.items.append(item)
        if len(self.items) == self._wanted:
            self.watch.stop()
            self._reached.set()

    def expect(self, count: int) -> None:
        """Say how many more are to come, before they are ordered."""
        self._wanted += count
        self._reached.clear()

    async def complete(self) -> None:
        """Wait until all that is expected was taken."""
        await self._reached.wait()


class Reception:
    """What a handler receives: :class:`~benchmarks.cases.receive.orders.Orders` for those who are called.

    The messages are prepared when this is made, before anybody connects.

    Args:
        gateway: what they come from.
        params: how many, and how fast.
    """

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self._orders: Final = Orders(gateway, params, as_it_is)
        self._taken: Final = self._orders.taken
        self._pieces: Final = iter(self._orders)
        self._due = 0
        self._error: Exception | None = None
        self._complete: Final = asyncio.Event()

    def take(self, item: Item) -> None:
        """Note what was handled."""
        self._taken.append(item)
        if len(self._taken) == self._due:
            self._order()

    async def measure(self) -> Measurement:
        """Have the messages written to a peer that has been started.

        Raises:
            RuntimeError: the generator did not obey.
        """
        self._order()
        await self._complete.wait()
        if self._error is not None:
            raise self._error
        return self._orders.measurement()

    def _order(self) -> None:
        """End a piece, and order what is next. Called by a handler, whose peer would swallow an error."""
        try:
            self._due = next(self._pieces, 0)
        except (RuntimeError, OSError) as error:
            self._due, self._error = 0, error
        if not self._due:
            self._complete.set()


async def converse(gateway: Gateway, params: Params, intake: Intake) -> Measurement:
    """Have the conversations led with a peer that has been started and takes what it has answered."""
    people = params["people"]
    for each in (params["warm"], params["each"]):
        intake.expect(people * each)
        intake.watch.start()
        gateway.order("converse", each)
        await intake.complete()
    figures = intake.watch.figures(people * params["each"])
    return Measurement(figures, Work.of(by_conversation(intake.items)))


async def send_one_by_one(send: Send, params: Params) -> Measurement:
    """Send one message after the other."""
    items: list[Item] = []
    watch = Stopwatch()
    for number, (recipient, text) in enumerate(outgoing(params["warm"] + params["count"])):
        if number == params["warm"]:
            watch.start()
        items.append((await send(recipient, text), recipient, None, text))
    watch.stop()
    return Measurement(watch.figures(params["count"]), Work.of(by_conversation(items)))  # noqa: ASYNC910


async def send_at_once(send: Send, params: Params) -> Measurement:
    """Send to many people at once, to each one message after the other."""
    items: list[Item] = []

    async def send_to_one(messages: list[tuple[str, str]]) -> None:  # noqa: ASYNC910
        for recipient, text in messages:
            items.append((await send(recipient, text), recipient, None, text))

    watch = Stopwatch()
    people, warm = params["people"], params["warm"]
    to_each = outgoing_to(people, warm + params["each"])
    await asyncio.gather(*(send_to_one(messages[:warm]) for messages in to_each))
    watch.start()
    await asyncio.gather(*(send_to_one(messages[warm:]) for messages in to_each))
    watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))

"""What the generator is told where messages are received, and what comes of it. Standard library only."""

from collections.abc import Callable, Iterator
from typing import Final, Generic

from ...contender import Gateway, Item, Measurement, Params, T, Takings


class Orders(Generic[T]):
    """The messages are prepared when this is made, before anybody connects.

    Args:
        gateway: what they come from.
        params: how many, and how fast.
        read: makes an item of what is taken.

    Attributes:
        gateway: what they come from.
        taken: the present piece so far. Whoever takes something appends it.
    """

    def __init__(self, gateway: Gateway, params: Params, read: Callable[[T], Item]) -> None:
        self.gateway: Final = gateway
        self._params: Final = params
        self._takings: Final = Takings(read)
        self.taken: Final = self._takings.taken
        self._all: Final = params["warm"] + params["count"]
        gateway.order("prepare", self._all)

    def __iter__(self) -> Iterator[int]:
        """Have some written, to warm up and then to measure; yield how many of them to take, piece by piece.

        All are written at once, or one every ``interval`` microseconds if the case has that; those are one
        piece, since after a pause some would come together. Take them, and only then ask for what is next.
        """
        for count in (self._params["warm"], self._params["count"]):
            if "interval" in self._params:
                self.gateway.order("pace", count, self._params["interval"])
                yield from self._takings.pieces(count, size=self._all)
            else:
                self.gateway.order("blast", count)
                yield from self._takings.pieces(count)

    def measurement(self) -> Measurement:
        """Return what it came to."""
        return self._takings.measurement(self._params["count"])


def as_it_is(item: Item) -> Item:
    """Read what is an item already."""
    return item

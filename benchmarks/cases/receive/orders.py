"""What the generator is told where messages are received. Standard library only."""

from collections.abc import Iterator
from typing import Final

from ...contender import Gateway, Params


class Orders:
    """The messages are prepared when this is made, before anybody connects.

    Attributes:
        gateway: what they come from.
        total: how many there are, those to warm up included.
    """

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self.gateway: Final = gateway
        self.total: Final = params["warm"] + params["count"]
        self._params: Final = params
        gateway.order("prepare", self.total)

    def __iter__(self) -> Iterator[int]:
        """Have some written, to warm up and then to measure, and yield how many they are.

        All at once, or one every ``interval`` microseconds if the case has that. Take them, and only then
        ask for what is next.
        """
        for count in (self._params["warm"], self._params["count"]):
            if "interval" in self._params:
                self.gateway.order("pace", count, self._params["interval"])
            else:
                self.gateway.order("blast", count)
            yield count

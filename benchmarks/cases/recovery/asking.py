"""What all contenders are asked, and how it is measured. Standard library only."""

from typing import Final

from ...contender import Gateway, Measurement, Params, Stopwatch, Work
from ...traffic import hub_item, hub_messages
from . import SIZES


class Asking:
    """All requests to one contender."""

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self._gateway: Final = gateway
        self._params: Final = params

    def run(self, port: int) -> Measurement:
        """Have the generator ask. Blocks until all is answered, so it belongs in a thread."""
        figures: dict[str, float] = {}
        for size in SIZES:
            figures |= self._measure(port, size)
        return Measurement(figures, self._work())

    def _measure(self, port: int, size: int) -> dict[str, float]:
        connections, since, count = self._params["connections"], max(SIZES) - size, self._count(size)
        self._gateway.order("ask", port, connections, since, self._params["warm"])
        watch = Stopwatch()
        self._gateway.order("ask", port, connections, since, count)
        watch.stop()
        return {f"{name}_{size}": value for name, value in watch.figures(count).items()}

    def _count(self, size: int) -> int:
        return self._params["large" if size == max(SIZES) else "requests"]

    def _work(self) -> Work:
        """Sum up the answers as the generator does."""
        messages = hub_messages(max(SIZES))
        work = Work(0, "")
        for size in SIZES:
            items = [hub_item(message) for message in messages[len(messages) - size :]]
            for count in (self._params["warm"], self._count(size)):
                work = work.then(count, items)
        return work

"""What every contender broadcasts, and what of it is measured. Standard library only."""

from collections.abc import Iterator
from typing import Final

from ...contender import Gateway, Measurement, Params, Stopwatch
from ...traffic import broadcast_work, hub_messages


class Phases:
    """Three of them: to warm up, without a pause for rate and CPU, and with pauses for the spread.

    Attributes:
        messages: all that is broadcast, as the clients are to get it.
    """

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self._gateway: Final = gateway
        self._params: Final = params
        self._watch: Final = Stopwatch()
        self.messages: Final = hub_messages(params["warm"] + params["count"] + params["paced"])

    def __iter__(self) -> Iterator[tuple[slice, float]]:
        """Yield which messages are next, and how many seconds to pause after each.

        When they are broadcast, :meth:`wait`, and only then ask for what is next.
        """
        warm, count = self._params["warm"], self._params["count"]
        self._gateway.order("watch", warm)
        yield slice(warm), 0.0
        self._gateway.order("watch", warm + count)
        self._watch.start()
        yield slice(warm, warm + count), 0.0
        self._watch.stop()
        self._gateway.order("time", len(self.messages))
        yield slice(warm + count, None), self._params["pause"] / 1000

    def wait(self) -> None:
        """Wait until every client has what was broadcast. Blocks, so it belongs in a thread."""
        self._gateway.order("watched")

    def measurement(self, **more: float) -> Measurement:
        """Sum up what was measured, with more figures if there are."""
        clients, count = self._params["clients"], self._params["count"]
        figures = self._watch.figures(clients * count) | more
        return Measurement(figures, broadcast_work(self.messages, clients))

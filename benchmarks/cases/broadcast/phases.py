"""What every contender broadcasts, and what of it is measured. Standard library only."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from ...contender import Gateway, Measurement, Params
from ...traffic import broadcast_work, hub_messages
from ...wires import WEBSOCKET

#: Connections that are opened by one order, which then is obeyed in time.
_AT_ONCE: Final = 500


class Phases:
    """Three of them: to warm up, without a pause for rate and CPU, and with pauses for the spread.

    Args:
        gateway: takes the orders.
        params: ``clients``, and how many messages in each phase: ``warm``, ``count`` and ``paced``; the
            third, and its ``pause`` in ms, can be left out.
        wire: what the clients speak.
        cpu: tells the server's seconds of CPU, user and system.

    Attributes:
        clients: how many attend.
        beat: seconds between two heartbeats; 0 for none.
        messages: all that is broadcast, as the clients are to get it.
    """

    def __init__(
        self,
        gateway: Gateway,
        params: Params,
        *,
        wire: int = WEBSOCKET,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._gateway: Final = gateway
        self.clients: Final = params["clients"]
        self.beat: Final = 0.0
        self._warm, self._count, self._paced = params["warm"], params["count"], params.get("paced", 0)
        self._pause: Final = params.get("pause", 0) / 1000
        self._wire: Final = wire
        self._cpu: Final = cpu
        self._figures: dict[str, float] = {}
        self.messages: Final = hub_messages(self._warm + self._count + self._paced)

    def attend(self, port: int) -> None:
        """Have all clients connect. Blocks until they are, so it belongs in a thread."""
        self._gateway.order("gather", self._wire, len(self.messages))
        order_attendance(self._gateway, port, self.clients)

    def __iter__(self) -> Iterator[tuple[slice, float]]:
        """Yield which messages are next, and how many seconds to pause after each.

        When they are broadcast, :meth:`wait`, and only then ask for what is next.
        """
        warm, until = self._warm, self._warm + self._count
        self._gateway.order("watch", warm)
        yield slice(warm), 0.0
        self._gateway.order("watch", until)
        clock, cpu = time.perf_counter(), self._cpu()
        yield slice(warm, until), 0.0
        seconds, deliveries = time.perf_counter() - clock, self.clients * self._count
        self._figures = {"rate": deliveries / seconds, "cpu": (self._cpu() - cpu) / deliveries * 1e6}
        if self._paced:
            self._gateway.order("time", len(self.messages))
            yield slice(until, None), self._pause

    def wait(self) -> None:
        """Wait until every client has what was broadcast. Blocks, so it belongs in a thread."""
        self._gateway.order("watched")

    def measurement(self, **more: float) -> Measurement:
        """Sum up what was measured, with more figures if there are."""
        return Measurement(self._figures | more, broadcast_work(self.messages, self.clients))


def order_attendance(gateway: Gateway, port: int, clients: int) -> None:
    """Have so many more clients connect. Blocks until they are."""
    for begun in range(0, clients, _AT_ONCE):
        gateway.order("attend", port, min(_AT_ONCE, clients - begun))

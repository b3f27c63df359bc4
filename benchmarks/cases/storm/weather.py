"""What happens in the storm, and when. Standard library only."""

import threading
import time
from collections.abc import Iterator
from typing import Final

from ...contender import Gateway, Measurement, Params, Work
from ...crowd import joined
from ...traffic import broadcast_work, hub_item, hub_messages
from ..broadcast.phases import order_attendance

#: Seconds from the order to the first live message.
_START: Final = 0.1


class Weather:
    """The schedule of the live messages, and the storm between them.

    Attributes:
        missed: how many messages there are before anybody attends.
        live: how many attend.
        messages: all, first those that are missed.
    """

    def __init__(self, gateway: Gateway, params: Params) -> None:
        self._gateway: Final = gateway
        self._pause, self._calm = params["pause"], params["calm"]
        self._clients: Final = params["clients"]
        self._storm = threading.Thread()
        self._failure: RuntimeError | None = None
        self.missed, self.live = params["missed"], params["live"]
        self.messages: Final = hub_messages(self.missed + params["count"])

    def attend(self, port: int) -> None:
        """Have the live clients connect. Blocks until they are."""
        self._gateway.order("gather", 0, len(self.messages), self.missed)
        order_attendance(self._gateway, port, self.live)

    def schedule(self, port: int) -> Iterator[tuple[int, float]]:
        """Yield each live message's number in :attr:`messages` and when it is due, by ``time.time()``.

        The storm has been ordered when the first of them is yielded.
        """
        start = time.time() + _START
        self._gateway.order("time", len(self.messages) - self.missed)
        self._gateway.order("schedule", round(start * 1e6), self._pause * 1000)
        self._storm = threading.Thread(target=self._brew, args=(port, start + self._calm / 1000), daemon=True)
        self._storm.start()
        for number in range(self.missed, len(self.messages)):
            yield number, start + (number - self.missed) * self._pause / 1000

    def measurement(self) -> Measurement:
        """Wait until all is over, and sum it up. Blocks, so it belongs in a thread.

        Raises:
            RuntimeError: the storm failed.
        """
        self._storm.join()
        if self._failure is not None:
            raise self._failure
        self._gateway.order("watched")
        attended = broadcast_work(self.messages[self.missed :], self.live)
        asked = Work(0, "").then(self._clients, map(hub_item, self.messages[: self.missed]))
        return Measurement({}, joined(attended, asked))

    def _brew(self, port: int, when: float) -> None:
        time.sleep(max(0.0, when - time.time()))
        try:
            self._gateway.order("storm", port, self._clients, self.missed)
        except RuntimeError as error:
            self._failure = error

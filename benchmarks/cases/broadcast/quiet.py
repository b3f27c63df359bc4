"""Many connections on which nothing happens: what they cost. Standard library only."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from ...contender import Gateway, Measurement, Params
from ...traffic import broadcast_work, hub_messages
from ..program import resident
from .phases import order_attendance

#: Descriptors for everything beside the connections.
_OTHER_FILES: Final = 100


class Quiet:
    """Is used as :class:`~benchmarks.cases.broadcast.phases.Phases` is; all that is broadcast is one text.

    Some clients attend first, so that what the server loads and makes once is not counted; then all others;
    then nothing but heartbeats happens for a while; and at the end each must get the text, which proves that
    it was there all the time.

    Args:
        gateway: takes the orders.
        params: ``warm`` and ``clients``, how many attend; ``beat``, the time between two heartbeats, and
            ``idle``, the time in which nothing else happens, in ms.
        cpu: tells the server's seconds of CPU, user and system.
        memory: tells how many bytes of the server are in memory.

    Attributes:
        clients: all that attend.
        beat: seconds between two heartbeats.
        messages: all that is broadcast.
    """

    def __init__(
        self,
        gateway: Gateway,
        params: Params,
        *,
        cpu: Callable[[], float] = time.process_time,
        memory: Callable[[], int] = resident,
    ) -> None:
        self._gateway: Final = gateway
        self._warm, self._many = params["warm"], params["clients"]
        self._idle: Final = params["idle"]
        self._cpu: Final = cpu
        self._memory: Final = memory
        self._figures: dict[str, float] = {}
        self.clients: Final = self._warm + self._many
        self.beat: Final = params["beat"] / 1000
        self.messages: Final = hub_messages(1)
        check_files(self.clients + _OTHER_FILES)

    def attend(self, port: int) -> None:
        """Have all clients connect, and wait. Blocks all that time, so it belongs in a thread."""
        self._gateway.order("gather", 0, 1)
        order_attendance(self._gateway, port, self._warm)
        before = self._settled()
        order_attendance(self._gateway, port, self._many)
        memory = (self._settled() - before) / self._many / 1024
        clock, cpu = time.perf_counter(), self._cpu()
        self._gateway.order("idle", self._idle)
        time.sleep(self._idle / 1000)
        cpu = (self._cpu() - cpu) / (time.perf_counter() - clock)
        self._gateway.order("watched")
        self._figures = {"memory": memory, "idle": cpu * 100}

    def __iter__(self) -> Iterator[tuple[slice, float]]:
        """Yield what is to be broadcast, once, and how long to pause behind it."""
        self._gateway.order("watch", 1)
        yield slice(1), 0.0

    def wait(self) -> None:
        """Wait until every client has it. Blocks."""
        self._gateway.order("watched")

    def measurement(self, **more: float) -> Measurement:
        """Sum up what was measured, with more figures if there are."""
        return Measurement(self._figures | more, broadcast_work(self.messages, self.clients))

    def _settled(self) -> int:
        """Return how much is in memory once there is no garbage in it."""
        gc.collect()
        return self._memory()


def check_files(wanted: int) -> None:
    """Make sure that this process may open so many files; raises :exc:`RuntimeError` if not."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (not everywhere)

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        raise RuntimeError(f"this machine allows {allowed} open files, and {wanted} are needed (ulimit -n)")

"""Takes turns at a gateway that bears only so many requests at once."""

from types import TracebackType
from typing import Final

import trio


class Turn:
    """What is held around a request; first come, first served.

    Args:
        places: how many requests there may be at once; infinity for any number.
    """

    def __init__(self, places: float) -> None:
        self._free = places
        self._waiting: Final = trio.lowlevel.ParkingLot()

    def take_nowait(self) -> bool:
        """Take a place if there is one at once, and say whether there was. Not a checkpoint."""
        if self._free < 1:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:  # noqa: ASYNC910  (as said)
        """Wait for a place. A checkpoint unless there is one at once; cancelled, there was none."""
        if not self.take_nowait():
            # Whoever releases hands the place over: nobody can take it in between.
            await self._waiting.park()

    def release(self) -> None:
        """Give the place to who has waited longest."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

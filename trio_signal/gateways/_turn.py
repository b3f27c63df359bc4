"""Takes turns at a gateway that bears only so many requests at once."""

from types import TracebackType
from typing import Final

import trio


class Turn:
    """What is held around a request; first come, first served.

    Args:
        places: how many requests there may be at once.
    """

    def __init__(self, places: int) -> None:
        self._places: Final = trio.Semaphore(places, max_value=places)

    async def acquire(self) -> None:  # noqa: ASYNC910  (as said)
        """Wait for a place. A checkpoint unless there is one at once; cancelled, there was none."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._places.acquire()

    def release(self) -> None:
        """Give the place to who has waited longest."""
        self._places.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

"""When what waits expires, the earliest first (contract O8). Pure."""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: So few deadlines of what has left are not worth looking for.
_SMALL: Final = 16


class Deadlines(Generic[T]):
    """The deadlines of what waits somewhere, in a heap.

    What leaves early stays in here until its turn or until those who left are the most of it: so each
    deadline costs O(log n) in the long run, and nothing is ever searched.

    Args:
        is_waiting: says whether something still waits, ending it first if its time has come. It adds nothing.
    """

    def __init__(self, is_waiting: Callable[[T], bool]) -> None:
        self._is_waiting: Final = is_waiting
        # The number keeps two of one moment in order, and them themselves from being compared.
        self._heap: list[tuple[float, int, T]] = []
        self._numbers: Final = itertools.count()

    def __len__(self) -> int:
        """Count the deadlines that are kept, whether or not anything still waits for them."""
        return len(self._heap)

    @property
    def earliest(self) -> float:
        """When to :meth:`look` again at the latest; infinity without a deadline."""
        return self._heap[0][0] if self._heap else math.inf

    def add(self, deadline: float, item: T) -> None:
        """Keep the deadline of something that begins to wait; infinity is none."""
        if deadline != math.inf:
            heapq.heappush(self._heap, (deadline, next(self._numbers), item))

    def look(self, waiting: int) -> None:
        """End what has passed its deadline, and forget the deadlines of what has left.

        Args:
            waiting: how many wait, with or without a deadline. Little more than twice as many are kept.
        """
        while self._heap and not self._is_waiting(self._heap[0][2]):
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * waiting + _SMALL:
            self._heap = [entry for entry in self._heap if self._is_waiting(entry[2])]
            heapq.heapify(self._heap)

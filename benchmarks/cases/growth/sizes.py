"""The sizes at which is measured, and what is made of the costs. Standard library only."""

import math
from collections.abc import Mapping
from typing import Final

#: Clients of the hub.
CLIENTS: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 10_000)

#: Messages that wait to be sent.
WAITING: Final = (100, 1_000, 10_000, 100_000, 1_000_000)

#: Messages that the hub's log keeps.
LOG: Final = (500, 5_000, 50_000, 500_000)

#: Bytes of text in a message.
MESSAGE: Final = tuple(1024 * 4**power for power in range(7))

#: How much larger a size is than another if growth between them is more than chance.
_FAR: Final = 10


def up_to(most: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return those that are not larger than this."""
    return tuple(size for size in sizes if size <= most)


def doubling(costs: Mapping[int, float]) -> float:
    """Return by how much cost grows with a doubling where it grows most.

    That is looked for between sizes that are ten times apart, or the first and the last where none are: from
    one size to the next, what else the machine does weighs as much as what is measured.

    Raises:
        ValueError: there are not two sizes.
    """
    sizes = sorted(costs)
    if len(sizes) < 2:
        raise ValueError("cost cannot be seen to grow at one size")
    stretches = [
        (less, more)
        for place, less in enumerate(sizes)
        if (more := next((size for size in sizes[place:] if size >= _FAR * less), None))
    ]
    return max(
        math.pow(costs[more] / costs[less], 1 / math.log2(more / less))
        for less, more in stretches or [(sizes[0], sizes[-1])]
    )

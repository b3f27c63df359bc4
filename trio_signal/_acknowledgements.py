"""What the application has taken and not acknowledged yet. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from ._continuity import Position
from ._errors import ConfigurationError, TooManyUnacknowledged


@dataclass(slots=True)
class _Taken:
    event: object | None
    size: int
    time: int
    position: Position | None


class Acknowledgements:
    """Knows how far everything taken has been acknowledged, in whatever order that comes.

    What is acknowledged above a hole waits, and is counted, until the hole is closed: so
    it is bounded in number; and in bytes, since an event is kept until it is acknowledged.

    Args:
        max_items: the most events from the oldest that is not acknowledged on.
        max_bytes: the most bytes that those not acknowledged may cost.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items: Final = max_items
        self._max_bytes: Final = max_bytes
        self._taken: Final[deque[_Taken]] = deque()
        # By identity: equal events may have come twice, and each is acknowledged by itself.
        self._open: Final[dict[int, _Taken]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """How many events are not acknowledged."""
        return len(self._open)

    @property
    def has_room(self) -> bool:
        """Whether another event may be taken."""
        return not self._taken or (len(self._taken) < self._max_items and self._bytes < self._max_bytes)

    def check_room(self) -> None:
        """Make sure that another event may be taken.

        Raises:
            TooManyUnacknowledged: the bound is reached.
        """
        if not self.has_room:
            raise TooManyUnacknowledged(len(self._taken))

    def add(self, event: object, *, size: int, time: int, position: Position | None) -> None:
        """Note that an event was taken.

        Args:
            event: it itself.
            size: what it costs, in bytes.
            time: when it came, in milliseconds since the epoch.
            position: the place behind it.
        """
        taken = _Taken(event, size, time, position)
        self._taken.append(taken)
        self._open[id(event)] = taken
        self._bytes += size

    def acknowledge(self, event: object, position: Position | None) -> Position | None:
        """Note that the application is done with an event.

        Args:
            event: it itself.
            position: the place up to which everything was acknowledged before.

        Returns:
            The place up to which everything is acknowledged now.

        Raises:
            ConfigurationError: it is none that was taken and not acknowledged.
        """
        taken = self._open.pop(id(event), None)
        if taken is None:
            raise ConfigurationError(
                "event", "it was not taken from this client, or has been acknowledged before"
            )
        taken.event = None
        self._bytes -= taken.size
        while self._taken and self._taken[0].event is None:
            position = self._taken.popleft().position
        return position

    def advance(self, position: Position) -> bool:
        """Note that what was taken last reaches up to here; False if all is acknowledged."""
        if self._taken:
            self._taken[-1].position = position
        return bool(self._taken)

    @property
    def oldest(self) -> int | None:
        """When the oldest event that is not acknowledged came; None without one."""
        return self._taken[0].time if self._taken else None

"""Which conversations are being written to, and what waits behind them (contract O4). Pure.

A message whose conversation is busy is put aside, so that others may leave before it. As soon as
its conversation is free, what is aside goes first: it is older than anything that comes after.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: What is aside for one conversation, oldest first; anything can be taken out of it at once.
_Lane = OrderedDict[T, None]


class Lanes(Generic[T]):
    """Keeps the order inside each conversation while several are written to at once. All in O(1)."""

    def __init__(self) -> None:
        #: The busy conversations, and those that have just become free with something aside. None: nothing
        #: was ever aside.
        self._lanes: dict[Hashable, _Lane[T] | None] = {}
        self._free: deque[Hashable] = deque()
        #: All that is aside, oldest first, and in which lane it is.
        self._aside: OrderedDict[T, _Lane[T]] = OrderedDict()

    def __len__(self) -> int:
        """Count what is aside."""
        return len(self._aside)

    def begin(self, conversation: Hashable) -> bool:
        """Make a conversation busy if it is not; say whether it was free."""
        if conversation in self._lanes:
            return False
        self._lanes[conversation] = None
        return True

    def occupy(self, conversation: Hashable, item: T) -> bool:
        """Make a conversation busy with an item, or put the item aside if it is; say which."""
        if self.begin(conversation):
            return True
        lane = self._lanes[conversation]
        if lane is None:
            lane = self._lanes[conversation] = OrderedDict()
        lane[item] = None
        self._aside[item] = lane
        return False

    def leave(self, conversation: Hashable) -> None:
        """Note that nothing of a busy conversation is being written any more."""
        if self._lanes[conversation]:
            self._free.append(conversation)
        else:
            del self._lanes[conversation]

    def take(self) -> T | None:
        """Take the oldest item of a conversation that has become free, which is busy again with it."""
        while self._free:
            lane = self._lanes[conversation := self._free.popleft()]
            if lane:
                item, _ = lane.popitem(last=False)
                del self._aside[item]
                return item
            del self._lanes[conversation]
        return None

    def take_oldest(self) -> T | None:
        """Take the oldest item of all that are aside, whatever its conversation does."""
        oldest = next(iter(self._aside), None)
        if oldest is not None:
            self.forget(oldest)
        return oldest

    def forget(self, item: T) -> None:
        """Take out an item if it is aside."""
        if item in self._aside:
            del self._aside.pop(item)[item]

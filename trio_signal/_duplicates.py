"""Which messages have come before (contract R6). Pure."""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import Final, TypeVar

from ._envelopes import Decoded, DuplicateKey, MessageKind, ReceivedMessage, data_kind

_T = TypeVar("_T")

#: How many keys are remembered.
_SIZE: Final = 10_000

#: So many new origins come before those are looked for of which no key is remembered any more.
_SPARE: Final = 1_000

#: An integer that stands for a key has the timestamp in these bits, if it fits, and its origin in those from
#: the other place on. Between them is room, so that the keys' hashes differ where a set looks first: Python
#: takes integers modulo 2**61 - 1 for that, and with no room those of all origins would be side by side.
_TIMESTAMP_BITS: Final = 63
_ORIGIN_PLACE: Final = 104

#: The value of a member of an enum takes a while.
_MESSAGE: Final = MessageKind.MESSAGE
_MESSAGE_NAME: Final = _MESSAGE.value


class DuplicateFilter:
    """Remembers the last ``size`` keys, and with the oldest of them what came in one with it.

    O(1) for each, memory bounded.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._size: Final = max(1, size)
        self._count = 0
        #: The keys in their order, as they came in one.
        self._order: Final[deque[Sequence[Hashable]]] = deque()
        #: None is in it for good: keys that are new do not have to be looked through for it.
        self._seen: Final[set[Hashable]] = {None}

    def is_new(self, key: Hashable) -> bool:
        """Remember the key, which is not None; say whether it was unknown until now."""
        return self._are_new((key,))

    def new_of(self, items: Sequence[_T], keys: Sequence[Hashable | None]) -> Sequence[_T]:
        """Return the items whose keys were unknown until now, in their order, and remember these.

        An item whose key is None is always new.
        """
        if self._are_new(keys):
            return items
        return [item for item, key in zip(items, keys, strict=True) if key is None or self.is_new(key)]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._seen

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Hashable]:
        return chain.from_iterable(self._order)

    def _are_new(self, keys: Sequence[Hashable]) -> bool:
        """Remember the keys if all were unknown and no two are the same, else none; say which it was."""
        seen, order = self._seen, self._order
        if not keys:
            return True
        if not seen.isdisjoint(keys):
            return False
        known = len(seen)
        seen.update(keys)
        if len(seen) < known + len(keys):
            seen.difference_update(keys)
            return False
        # A list would keep the room in which it has grown.
        order.append(tuple(keys))
        self._count += len(keys)
        while self._count - len(order[0]) >= self._size:
            forgotten = order.popleft()
            self._count -= len(forgotten)
            seen.difference_update(forgotten)
        return True


class MessageFilter:
    """Remembers which messages have come.

    A key is a tuple with four texts, and ten thousand of them do not stay in a processor's cache. So all of
    it but the timestamp, the *origin*, is kept once under a number, and what is remembered of a message is
    one integer made of both.

    Args:
        size: how many of the last messages are remembered.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._filter: Final = DuplicateFilter(size)
        self._origins: Final[dict[Hashable, int]] = {}
        self._forget_at = _SPARE
        self._last_number = 0

    def new_of(self, events: Sequence[Decoded]) -> Sequence[Decoded]:
        """Return those that have not come before, in their order, and remember them.

        What cannot be told apart has no key and is always new.
        """
        if len(self._origins) >= self._forget_at:
            self._forget_origins()
        return self._filter.new_of(events, self._keys(events))

    def _keys(self, events: Sequence[Decoded]) -> list[int | DuplicateKey | None]:
        """Return what is remembered of each; None where it cannot be told apart."""
        number_of = self._origins.get
        keys: list[int | DuplicateKey | None] = []
        add = keys.append
        for event in events:
            if type(event) is not ReceivedMessage:
                add(None)
                continue
            # As _shortened() of the key, laid out for what nearly everything is that comes.
            envelope = event.envelope
            data = envelope.data_message
            sender = envelope.source_uuid or envelope.source_number
            if (
                data is None
                or not sender
                or event.exception is not None
                or envelope.sync_message is not None
                or envelope.typing_message is not None
                or envelope.story_message is not None
                or (timestamp := data.timestamp) is None
                or timestamp >> _TIMESTAMP_BITS
            ):
                add(self._shortened(event.duplicate_key))
                continue
            kind, group = data_kind(data), data.group_info
            origin = (
                event.account,
                sender,
                envelope.source_device,
                _MESSAGE_NAME if kind is _MESSAGE else kind.value,
                None if group is None else group.id,
            )
            number = number_of(origin)
            # An origin that is not known may have names which are too long to be kept.
            add(self._shortened(event.duplicate_key) if number is None else number | timestamp)
        return keys

    def _shortened(self, key: DuplicateKey | None) -> int | DuplicateKey | None:
        """Return the integer that stands for a key which has an origin and a timestamp; else the key."""
        if key is None or len(key) != 6:
            return key
        account, sender, device, timestamp, kind, place = key
        if not isinstance(timestamp, int) or timestamp >> _TIMESTAMP_BITS:
            return key
        return self._number((account, sender, device, kind, place)) | timestamp

    def _number(self, origin: Hashable) -> int:
        number = self._origins.get(origin)
        if number is None:
            self._last_number += 1
            number = self._origins[origin] = self._last_number << _ORIGIN_PLACE
        return number

    def _forget_origins(self) -> None:
        """Forget the origins of which no key is remembered."""
        used = {key >> _ORIGIN_PLACE << _ORIGIN_PLACE for key in self._filter if isinstance(key, int)}
        for origin in [origin for origin, number in self._origins.items() if number not in used]:
            del self._origins[origin]
        self._forget_at = len(self._origins) + _SPARE

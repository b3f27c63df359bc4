"""What all clients share, and how much of it one may have."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

import trio

from .._ratelimit import RateLimit, TokenBucket

#: Subjects whose rate is remembered. Until one is forgotten, so many others have come that its own is over.
_KNOWN_SUBJECTS: Final = 1000

#: How much of each body is not counted, in bytes: the number of connections bounds that.
_UNCOUNTED: Final = 64 * 1024

#: How many messages that wait are handed out together, and how many bytes of them before the last: enough
#: that what a write costs by itself is little, and no more than a thousand clients take in a few ms.
_BURST: Final = 64
_BURST_BYTES: Final = 16 * 1024


class Places:
    """Bounds how many things are done at once (contract H12), for all and for each subject.

    Args:
        at_once: how many in all.
        parts: into how many parts that is divided; one subject may have one.
    """

    def __init__(self, *, at_once: int, parts: int) -> None:
        self._at_once: Final = at_once
        self._own_at_once: Final = -(-at_once // parts)
        self._taken: Final[dict[Hashable, str]] = {}

    def has_room(self, subject: str) -> bool:
        """Whether another thing may be done for the subject."""
        subjects = list(self._taken.values())
        return len(subjects) < self._at_once and subjects.count(subject) < self._own_at_once

    def begin(self, who: Hashable, subject: str) -> None:
        """Count one for the subject until :meth:`end` is called with the same ``who``."""
        self._taken[who] = subject

    def end(self, who: Hashable) -> None:
        """Count that one no longer, if there is one."""
        self._taken.pop(who, None)


class Recoveries(Places):
    """Bounds recoveries in rate too (contract H12), for all and for each subject.

    Args:
        rate: how many in a second.
        burst: how many at once after a quiet time.
        at_once: how many answers may be on their way.
        parts: into how many parts each of these is divided; one subject may have one.
    """

    def __init__(self, *, rate: float, burst: int, at_once: int, parts: int) -> None:
        super().__init__(at_once=at_once, parts=parts)
        now = trio.current_time()
        self._all: Final = TokenBucket(RateLimit(rate, burst=burst), now)
        self._own_limit: Final = RateLimit(rate / parts, burst=-(-burst // parts))
        self._own: Final[OrderedDict[str, TokenBucket]] = OrderedDict()

    def take(self, subject: str) -> float:
        """Let the subject recover once more and return 0; otherwise return when to ask again, in seconds."""
        now = trio.current_time()
        own = self._own.get(subject) or TokenBucket(self._own_limit, now)
        wait = max(self._all.delay(now), own.delay(now))
        if wait == 0:
            self._all.take(now)
            own.take(now)
            self._own[subject] = own
            self._own.move_to_end(subject)
            if len(self._own) > _KNOWN_SUBJECTS:
                self._own.popitem(last=False)
        return wait


@dataclass(slots=True)
class _Queue:
    turn: trio.Lock = field(default_factory=trio.Lock)
    people: int = 0


class Turns:
    """Has each of several do one thing at a time, in the order of asking."""

    def __init__(self) -> None:
        self._queues: Final[dict[Hashable, _Queue]] = {}

    async def wait(self, who: Hashable) -> None:
        """Wait for a turn, which :meth:`end` ends. A checkpoint; cancelled, there is none."""
        queue = self._queues.setdefault(who, _Queue())
        queue.people += 1
        taken = False
        try:
            await queue.turn.acquire()
            taken = True
        finally:
            if not taken:
                self._leave(who, queue)

    def end(self, who: Hashable) -> None:
        """Give the turn to the next. To be called by the task that has it."""
        queue = self._queues[who]
        queue.turn.release()
        self._leave(who, queue)

    def _leave(self, who: Hashable, queue: _Queue) -> None:
        queue.people -= 1
        if not queue.people:
            del self._queues[who]


class Memory:
    """Bounds what the bodies of all requests take together.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = size


class Share:
    """What one body takes of the memory for all.

    Args:
        memory: what it takes it from.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory: Final = memory
        self._came = self._taken = 0

    def take(self, size: int) -> bool:
        """Count what has come, in bytes; return False if there is no room for it."""
        self._came += size
        more = max(0, self._came - _UNCOUNTED) - self._taken
        if more > self._memory.left:
            return False
        self._memory.left -= more
        self._taken += more
        return True

    def give_back(self) -> None:
        """Count none of it any longer."""
        self._memory.left += self._taken
        self._taken = 0


class Burst:
    """Bounds what is handed out to all clients together.

    Args:
        most: how many messages there may be; never more than 64, nor much more than 16 KiB of them.

    Attributes:
        messages: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = min(most, _BURST)
        self._size = 0
        self.messages = 0

    @property
    def has_room(self) -> bool:
        """Whether another one may be taken."""
        return self.messages < self._most and self._size < _BURST_BYTES

    def add(self, size: int) -> None:
        """Count another one, of so many bytes."""
        self.messages += 1
        self._size += size

"""What all clients share, and how much of it one may have."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import trio

from .._ratelimit import RateLimit, TokenBucket

#: Subjects whose rate is remembered. Until one is forgotten, so many others have come that its own is over.
_KNOWN_SUBJECTS: Final = 1000

#: How much of each body is not counted, in bytes: the number of connections bounds that.
_UNCOUNTED: Final = 64 * 1024


class Recoveries:
    """Bounds recoveries in rate and in number (contract H12), for all and for each subject.

    Args:
        rate: how many in a second.
        burst: how many at once after a quiet time.
        at_once: how many answers may be on their way.
        parts: into how many parts each of these is divided; one subject may have one.
    """

    def __init__(self, *, rate: float, burst: int, at_once: int, parts: int) -> None:
        now = trio.current_time()
        self._all: Final = TokenBucket(RateLimit(rate, burst=burst), now)
        self._own_limit: Final = RateLimit(rate / parts, burst=-(-burst // parts))
        self._own: Final[OrderedDict[str, TokenBucket]] = OrderedDict()
        self._at_once: Final = at_once
        self._own_at_once: Final = -(-at_once // parts)
        self._answering: Final[dict[Hashable, str]] = {}

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

    def has_room(self, subject: str) -> bool:
        """Whether another answer to the subject may be on its way."""
        subjects = list(self._answering.values())
        return len(subjects) < self._at_once and subjects.count(subject) < self._own_at_once

    def begin(self, who: Hashable, subject: str) -> None:
        """Count an answer to the subject until :meth:`end` is called with the same ``who``."""
        self._answering[who] = subject

    def end(self, who: Hashable) -> None:
        """Count that answer no longer, if there is one."""
        self._answering.pop(who, None)


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

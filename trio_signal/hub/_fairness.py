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


#: How many pass in one turn of the scheduler, at 0.05 ms each: so many that a turn costs little beside them,
#: so few that live messages wait for 2 ms only. Who writes so many bytes takes a place more.
_IN_A_TURN: Final = 32
_LIKE_ONE: Final = 8 * 1024

#: How many of those who have waited pass in any turn, whatever they write.
_LEAST: Final = 4


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
        self._by_subject: Final[dict[str, int]] = {}

    def has_room(self, subject: str) -> bool:
        """Whether another thing may be done for the subject."""
        return len(self._taken) < self._at_once and self._by_subject.get(subject, 0) < self._own_at_once

    def begin(self, who: Hashable, subject: str) -> None:
        """Count one for the subject until :meth:`end` is called with the same ``who``, who has none yet."""
        self._taken[who] = subject
        self._by_subject[subject] = self._by_subject.get(subject, 0) + 1

    def end(self, who: Hashable) -> None:
        """Count that one no longer, if there is one."""
        subject = self._taken.pop(who, None)
        if subject is not None:
            self._by_subject[subject] -= 1
            if not self._by_subject[subject]:
                del self._by_subject[subject]


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
        self._has_one_part: Final = parts == 1
        self._all: Final = TokenBucket(RateLimit(rate, burst=burst), now)
        self._own_limit: Final = RateLimit(rate / parts, burst=-(-burst // parts))
        self._own: Final[OrderedDict[str, TokenBucket]] = OrderedDict()

    def take(self, subject: str) -> float:
        """Let the subject recover once more and return 0; otherwise return when to ask again, in seconds."""
        now = trio.current_time()
        if self._has_one_part:
            # Then its own is the same as that of all.
            wait = self._all.delay(now)
            if wait == 0:
                self._all.take(now)
            return wait
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


class Turnstile:
    """Lets only so much through in one turn of the scheduler, and has the others wait for the next, in order.

    After an outage everybody is there at one moment. To serve them all in the same turn would hold up
    whatever else is due in it, the live messages above all.
    """

    def __init__(self) -> None:
        self._left: int = _IN_A_TURN
        self._passed: int = 0
        # Whether more wait than the next turn has room for.
        self._is_crowded = False
        self._waiting: Final = trio.lowlevel.ParkingLot()
        self._turner: Final = trio.lowlevel.ParkingLot()
        self._is_turning = False

    def passes(self) -> bool:
        """Pass now, if there is room in this turn; otherwise :meth:`wait`."""
        if self._left <= 0 or self._is_crowded:
            return False
        self._left -= 1
        self._passed += 1
        # Soon enough that those who are few never come to its end before the next turn begins.
        if self._left <= _IN_A_TURN // 2:
            self._begin_to_turn()
        return True

    def count(self, size: int) -> None:
        """Count what somebody who has passed writes, in bytes, beside himself."""
        # A long answer that goes out by itself would otherwise keep everybody waiting for many turns.
        self._left = max(self._left - size // _LIKE_ONE, -_IN_A_TURN)

    async def wait(self) -> None:
        """Pass in a later turn. A checkpoint; cancelled, one has not passed."""
        # What is written may have used up all the room since somebody passed last.
        self._begin_to_turn()
        await self._waiting.park()

    async def turn(self) -> None:
        """Make room in each turn in which it is wanted, until cancelled."""
        places = passed = 0.0
        while True:
            if self._is_turning:
                await trio.lowlevel.checkpoint()
            else:
                await self._turner.park()
            # What those took who passed last tells how many have room.
            places = places / 2 + _IN_A_TURN - self._left
            passed = passed / 2 + self._passed
            room = round(_IN_A_TURN * passed / places) if places else 0
            released = len(self._waiting.unpark(count=max(_LEAST, room)))
            self._left = _IN_A_TURN - released
            self._passed = released
            self._is_crowded = bool(self._waiting)
            self._is_turning = released > 0

    def _begin_to_turn(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            self._turner.unpark()


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

"""Make before break: a link that is not believed in any more goes on until another has taken its place.

Theory of operation
===================

Silence proves nothing. A link whose pong is late may be dead, or slow; nobody can tell before it is
too late, and what a slow one had on its way is lost by closing it. Where the gateway gives each of
several sockets a copy of everything (``Gateway.allows_overlap``), a link that is given up on suspicion
(contract L1, L3) is therefore kept open beside the making of the next one. The state says nothing of
it: the truth about a suspect link is DISCONNECTED, at once (L4), and the backoff is what it always is.

::

    old   m1 m2 ··silence·····┐ suspicion          m3 m4 m5   pong   closed
    new                       └ sleep, dial, pong ▶ SYNCING:  m5 m6 held back ▶ CONNECTED
                                                └▶ ping on the old one ─┘

What the application gets has to be in order (R1) and whole, or told to be missing in the right place
(R3). Both sockets carry the same stream, the old one from further back, and nothing says where in the
old one the new one began. So:

1. What comes on the old link goes into the inbox at once; what comes on the new one is held back, since
   what the old one has yet to give is older. Letting both in would put old messages behind new ones;
   dropping what comes late would lose what was saved; sorting by the senders' timestamps would be wrong,
   for that is not the order of arrival.
2. That the old link gave a byte proves only that it *was* alive when that was written. So it is asked: a
   ping, sent when the new link has had its first pong and the gateway therefore counts us as a listener
   there. A socket keeps its order, so all that was written to the old one before is here when the pong is,
   and what is written after it is on the new one too. Then nothing is missed, there is no gap, and the
   duplicate filter passes over what both have given.
3. An old link that has not shown life since the suspicion when the new one answers is not waited for: it is
   closed, and the gap is reported as without any of this. Nearly all links that are suspected are dead, and
   waiting would only keep the queue of what is to be sent from moving on. One that did show life is waited
   for :data:`_PATIENCE` seconds, in the state SYNCING; one that does not answer in time is closed,
   and what it may still have had stands in the gap, in front of what the new link gave.
4. The gap of an overlap that fails begins where it would have begun anyway, at the last sign of life before
   the suspicion, though messages may have come since: how late they were, nobody knows. The cursor waits
   there too, until it is settled.
5. In a stall (L3) the gateway answers pings and loses messages inside itself, so neither byte nor pong proves
   anything, and there is a gap in any case. It stands before the first message that the old link
   gives after it, since what was lost came before that; from there on the old link is like one that was
   silent, and its doubt is settled in the same way.

If the new link ends while something of its is held back, the overlap is over (gap, then what was held
back), as it is when more is held back than is kept, when the old link ends by itself, and
:data:`LONGEST` seconds after the suspicion. Only a link that was CONNECTED is kept, and becoming
CONNECTED ends the overlap, so there is never more than one old link.

What has no identity (an error of the gateway's own, which comes to everybody) may come twice.
"""

from collections.abc import Sequence
from typing import Final

import trio

from ._envelopes import Undecodable
from ._receiver import Receiver
from .gateways import Link, Numbered

#: The longest that a suspect link is kept beside the making of another, in seconds.
LONGEST: Final = 60.0

#: How long an old link that has shown life may take to answer, in seconds: what makes any link suspect.
_PATIENCE: Final = 15.0

#: The most that is held back; more ends the waiting.
_MOST_ITEMS: Final = 1_000
_MOST_BYTES: Final = 8 * 1024 * 1024

#: What an item costs beside its content, roughly, in bytes.
_OVERHEAD: Final = 512

#: Within so many turns of Trio's what came before a pong has been taken in: the receiving task either has it
#: in hand, and runs in this turn, or takes one more to fetch it from the stream.
_TURNS: Final = 3

_Items = Sequence[str | bytes | Undecodable | Numbered]


class Overlap:
    """An old link in doubt, and what a new one gives meanwhile. The absence of the old one is open.

    Args:
        link: the old one.
        receiver: takes in what comes.
        has_stalled: the gateway answered there, but delivered nothing.

    Attributes:
        link: the old one.
        over: set when it has no say any more and is to be closed.
    """

    def __init__(self, link: Link, receiver: Receiver, *, has_stalled: bool) -> None:
        self.link: Final = link
        self.over: Final = trio.Event()
        self._receiver: Final = receiver
        self._has_stalled: Final = has_stalled
        self._has_delivered = False
        self._since: Final = trio.current_time()
        self._held: list[str | bytes | Undecodable | Numbered] = []
        self._held_bytes = 0
        receiver.doubt_absence()

    @property
    def is_holding(self) -> bool:
        """Whether something of a new link is held back."""
        return bool(self._held)

    def take_in(self, items: _Items) -> None:
        """Take in what came on the old link."""
        if self._has_stalled and not self._has_delivered:
            self._receiver.split_absence()
        self._has_delivered = True
        self._receiver.take_in(items)

    def hold(self, items: _Items) -> bool:
        """Hold back what came on the new link; say whether there is room for more."""
        self._held.extend(items)
        self._held_bytes += sum(_size(item) for item in items)
        return len(self._held) < _MOST_ITEMS and self._held_bytes < _MOST_BYTES

    async def has_caught_up(self) -> bool:
        """Say whether all that the gateway wrote to the old link until now was taken in.

        A checkpoint. Waits for that link's answer, within its limit, if it has shown life. Cancelling is
        safe; the old link may break by it.
        """
        await trio.lowlevel.checkpoint()
        has_answered = False
        if self._shows_life and not self.over.is_set():
            with trio.move_on_after(_PATIENCE):
                async with trio.open_nursery() as race:
                    race.start_soon(self._stop_when_over, race.cancel_scope)
                    await self.link.probe()
                    for _ in range(_TURNS):
                        await trio.lowlevel.checkpoint()
                    has_answered = True
                    race.cancel_scope.cancel()
        return has_answered and not self.over.is_set()

    def end(self, *, is_whole: bool) -> None:
        """Let the old link have no say any more, and let in what was held back. Idempotent.

        Args:
            is_whole: it has given all that the new one has not, so that nothing was missed.
        """
        if self.over.is_set():
            return
        self.over.set()
        self._receiver.settle_absence(was_missed=not is_whole)
        if self._held:
            self._receiver.take_in(self._held)

    @property
    def _shows_life(self) -> bool:
        # A gateway that stalls answers pings all the same.
        return self._has_delivered if self._has_stalled else self.link.last_received > self._since

    async def _stop_when_over(self, scope: trio.CancelScope) -> None:
        await self.over.wait()
        scope.cancel(reason="the old link has ended")


def _size(item: str | bytes | Undecodable | Numbered) -> int:
    return _OVERHEAD + (len(item) if isinstance(item, str | bytes) else 0)

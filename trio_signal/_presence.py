"""Whether a gateway is still there after the answer to a request was lost (contract O5).

A connection may be accepted, and bytes taken, for a process that is about to end or stands still: its kernel
does that. One end of a gateway is to leave no more in doubt than what was under way. So it is asked for
something harmless before anything else is risked.
"""

import logging
import math
from random import Random
from typing import Final

import trio

from ._errors import LinkLost
from ._states import Backoff
from .gateways import Gateway

_logger: Final = logging.getLogger("trio_signal.sender")

#: Between two questions in vain: 1 s doubling to 60 s.
_RETRY: Final = Backoff(floor=1.0)

#: So often in a row it is asked in vain while the link stands: then something hides the answer.
_QUESTIONS: Final = 5


class Presence:
    """Asks whether the gateway is there, one task at a time.

    Args:
        gateway: whom to ask.
        source: where the jitter between questions comes from; a shared one by default.

    Attributes:
        ask_at: when it is asked again, on Trio's clock; minus infinity unless it was asked in vain.
    """

    def __init__(self, gateway: Gateway, source: Random | None) -> None:
        self._gateway: Final = gateway
        self._source: Final = source
        self._asking: Final = trio.Lock()
        #: How many answers were lost when it was there last, and how often it was asked in vain since.
        self._outlived = self._questions = 0
        self.ask_at = -math.inf

    @property
    def is_in_doubt(self) -> bool:
        """Whether an answer was lost and nothing has shown since that the gateway is there."""
        return self._gateway.lost_answers > self._outlived

    def note_sign(self) -> None:
        """Note that it has just shown that it is there."""
        self._trust(self._gateway.lost_answers)

    async def make_sure(self) -> None:
        """Ask, unless another task has asked meanwhile. A checkpoint; cancelling is safe.

        Afterwards what was in doubt is so no longer, or it is not to be asked again before :attr:`ask_at`.
        """
        async with self._asking:
            lost = self._gateway.lost_answers
            if lost == self._outlived or self.ask_at > trio.current_time():
                return
            try:
                await self._gateway.ask_health()
            except LinkLost as error:
                # Unless it has shown meanwhile that it is there.
                if self._outlived < lost:
                    self._note_silence(error)
            else:
                # What was lost since then is in doubt.
                self._trust(max(self._outlived, lost))

    def _note_silence(self, error: LinkLost) -> None:
        self._questions += 1
        if self._questions < _QUESTIONS:
            delay = _RETRY.delay(self._questions, retry_after=error.retry_after, source=self._source)
            self.ask_at = trio.current_time() + delay
            _logger.info("nothing is sent for %.1f s: %s", delay, error)
        else:
            _logger.warning("sending goes on unchecked: %s", error)
            self._outlived, self.ask_at = self._gateway.lost_answers, -math.inf

    def _trust(self, lost: int) -> None:
        self._outlived, self._questions, self.ask_at = lost, 0, -math.inf

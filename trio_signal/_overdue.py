"""Time limits for what a task does again and again.

A cancel scope for each request costs nearly as much as the request: it is made, put into Trio's list of
deadlines and taken out again. So each task keeps one over many requests, without a deadline, and one more
task looks after all of them. That sleeps until the first may take too long, and finds then, nearly always,
that it was answered long ago.
"""

import math
from typing import Final

import msgspec
import trio

from ._clock import bound_clock


class Limited(msgspec.Struct, eq=False):
    """What one task does again and again.

    Attributes:
        due: when it takes too long, on Trio's clock; infinity while nothing is done that may.
        is_over: whether it has taken too long, and its scope was cancelled: that must be left before the next
            checkpoint.
        scope: that one.
    """

    due: float = math.inf
    is_over: bool = False
    scope: trio.CancelScope | None = None


class Overdue:
    """Cancels what takes too long."""

    def __init__(self) -> None:
        self._clock: Final = bound_clock()
        self._limited: Final[list[Limited]] = []
        self._looks_at = math.inf
        self._news = trio.Event()

    def add(self) -> Limited:
        """Return one more to look after."""
        limited = Limited()
        self._limited.append(limited)
        return limited

    def scope(self, limited: Limited) -> trio.CancelScope:
        """Return the scope in which it is done from now on."""
        limited.is_over = False
        limited.scope = trio.CancelScope()
        return limited.scope

    def begin(self, limited: Limited, seconds: float) -> None:
        """Cancel its scope after so many seconds, unless its ``due`` is set to infinity before."""
        limited.due = due = self._clock() + seconds
        if due < self._looks_at:
            self._looks_at = due
            self._news.set()

    async def run(self) -> None:
        """Look after them; return never. Cancelling is safe."""
        while True:
            self._look()
            news = self._news = trio.Event()
            with trio.move_on_at(self._looks_at):
                await news.wait()

    def _look(self) -> None:
        now, self._looks_at = trio.current_time(), math.inf
        for limited in self._limited:
            if limited.due <= now and limited.scope is not None:
                limited.due, limited.is_over = math.inf, True
                limited.scope.cancel(reason="it took too long")
            self._looks_at = min(self._looks_at, limited.due)

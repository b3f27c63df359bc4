"""A server's clients, as a contender that is a server orders them. Standard library only.

The orders, each with numbers:

- ``gather WIRE COUNT [SKIPPED]``: say what the audience speaks (:data:`~benchmarks.wires.WIRES`), and that it
  will get so many of :func:`~benchmarks.traffic.hub_messages` but for the first few. Before anybody attends.
- ``attend PORT CLIENTS``: open so many more connections.
- ``watch COUNT``: read until each has got so many messages in all. ``time COUNT``: the same, noting when each
  came, so it is for messages with a pause between them. ``idle MS``: read for so many milliseconds. These
  three are confirmed at once, and ``watched`` when the last of them has ended.
- ``ask PORT CONNECTIONS SINCE COUNT``: over so many connections ask what came since this number, so many
  times in all.
- ``storm PORT CLIENTS COUNT``: so many clients at once, each of which asks for the first so many messages.
- ``schedule START_US INTERVAL_US``: the first message that is timed is due at this time, in microseconds
  since the epoch, and each one behind it so much later than the one before.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from .askers import Askers
from .audience import Audience
from .contender import Work
from .traffic import hub_messages
from .wires import WIRES

#: These orders are confirmed before they are done: whoever gave them is to write meanwhile.
CONFIRMED_FIRST: Final = frozenset({"watch", "time", "idle"})

#: Seconds to wait for the end of what is being watched.
_WATCH_LIMIT: Final = 22.0


class Crowd:
    """An audience, and those who ask.

    Args:
        host: where all servers are.
    """

    def __init__(self, host: str) -> None:
        self._host: Final = host
        self._audience: Audience | None = None
        self._askers: Final = Askers()
        self._schedule: tuple[float, float] | None = None
        self._is_idle: Final = threading.Event()

    @property
    def orders(self) -> dict[str, Callable[..., None]]:
        """What it obeys, each with whole numbers. They block until they are done.

        Raises:
            OSError: the server refused, or broke off.
            ValueError: it answered something else than it should.
            RuntimeError: there is no audience yet.
        """
        return {
            "gather": self._gather,
            "attend": self._attend,
            "watch": self._watch,
            "time": self._time,
            "idle": self._be_idle,
            "watched": self._wait,
            "ask": self._ask,
            "storm": self._storm,
            "schedule": self._note_schedule,
        }

    def expect(self) -> None:
        """Make ``watched`` wait for the end of what is ordered next."""
        self._is_idle.clear()

    def close(self) -> None:
        """Hang up on the server."""
        if self._audience is not None:
            self._audience.close()

    @property
    def has_served(self) -> bool:
        """Whether anybody has attended or asked."""
        return self._audience is not None or self._askers.work.count > 0

    @property
    def work(self) -> Work:
        """What came: to the audience, and, behind it, to those who asked."""
        if self._audience is None:
            return self._askers.work
        attended, asked = self._audience.work, self._askers.work
        return attended if asked.count == 0 else joined(attended, asked)

    @property
    def figures(self) -> dict[str, float]:
        """What the clients alone can measure."""
        figures = {} if self._audience is None else self._audience.figures
        return figures | self._askers.figures | self._delays()

    def _gather(self, wire: int, count: int, skipped: int = 0) -> None:
        self._audience = Audience(WIRES[wire], hub_messages(count)[skipped:])

    @property
    def _gathered(self) -> Audience:
        if self._audience is None:
            raise RuntimeError("no audience was gathered")
        return self._audience

    def _attend(self, port: int, clients: int) -> None:
        self._gathered.attend(self._host, port, clients)

    def _watch(self, count: int) -> None:
        self._until_idle(partial(self._gathered.watch, count))

    def _time(self, count: int) -> None:
        self._until_idle(partial(self._gathered.time, count))

    def _be_idle(self, milliseconds: int) -> None:
        self._until_idle(partial(self._gathered.idle, milliseconds / 1000))

    def _until_idle(self, read: Callable[[], None]) -> None:
        try:
            read()
        finally:
            self._is_idle.set()

    def _ask(self, port: int, connections: int, since: int, count: int) -> None:
        self._askers.ask(self._host, port, connections, since, count)

    def _storm(self, port: int, clients: int, count: int) -> None:
        self._askers.storm(self._host, port, clients, count)

    def _wait(self) -> None:
        if not self._is_idle.wait(_WATCH_LIMIT):
            raise RuntimeError(f"what is watched did not end within {_WATCH_LIMIT:g} s")

    def _note_schedule(self, start: int, interval: int) -> None:
        self._schedule = start / 1e6, interval / 1e6

    def _delays(self) -> dict[str, float]:
        if self._schedule is None or self._audience is None:
            return {}
        return delays(self._audience.arrivals, *self._schedule, storm=self._askers.storm_times)


def delays(
    arrivals: Iterable[Sequence[float]], start: float, interval: float, *, storm: tuple[float, float] | None
) -> dict[str, float]:
    """Return the 99th percentile of the delays of messages that were due on a schedule, in ms.

    Args:
        arrivals: when each message came, for each client, in seconds.
        start: when the first was due.
        interval: from there to each next one.
        storm: when a storm began and ended, if there was one.

    Returns:
        ``live`` of those that were due during the storm, ``quiet`` of all others, each if there were any.
    """
    found: dict[str, list[float]] = {"live": [], "quiet": []}
    for times in arrivals:
        for number, came in enumerate(times):
            due = start + number * interval
            is_live = storm is not None and storm[0] <= due <= storm[1]
            found["live" if is_live else "quiet"].append(came - due)
    return {name: sorted(some)[len(some) * 99 // 100] * 1e3 for name, some in found.items() if some}


def joined(attended: Work, asked: Work) -> Work:
    """Sum up what an audience got and what those who asked got."""
    return Work(attended.count + asked.count, f"{attended.digest}+{asked.digest}")

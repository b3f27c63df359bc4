"""What a contender gets and gives. Standard library only, so that it adds nothing to any contender."""

import hashlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Self, TypeVar

#: Seconds to wait for the generator to obey an order.
_ORDER_LIMIT: Final = 25.0

#: How large a case is: counts, and times in milliseconds.
Params = Mapping[str, int]

#: One message, received or sent: timestamp, the other person, group, text.
Item = tuple[int | None, str | None, str | None, str | None]

T = TypeVar("T")

#: How much is taken before it is summed up.
PIECE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the generator is.

    Attributes:
        host: its address.
        port: where it is a gateway.
        control_port: where it takes orders.
    """

    host: str
    port: int
    control_port: int

    @property
    def url(self) -> str:
        """The gateway's URL."""
        return f"http://{self.host}:{self.port}"

    def order(self, command: str, *numbers: int) -> None:
        """Tell the generator to do something: an order of :mod:`~benchmarks.generators`, with its numbers.

        Blocks for a moment; under Trio an order that takes long belongs in a thread.

        Raises:
            RuntimeError: the generator did not confirm it.
        """
        with socket.create_connection((self.host, self.control_port), timeout=_ORDER_LIMIT) as control:
            order = " ".join((command, *map(str, numbers)))
            control.sendall(f"{order}\n".encode())
            answer = control.recv(4096).decode(errors="replace").strip()
            if answer != "ok":
                raise RuntimeError(f"the generator did not obey: {order}: {answer}")


@dataclass(frozen=True, slots=True)
class Work:
    """What was done: how many messages, and a digest of their contents in order."""

    count: int
    digest: str

    @staticmethod
    def of(items: Iterable[Item]) -> "Work":
        """Sum up what went over the wire."""
        tally = Tally()
        tally.add(items)
        return tally.work

    def then(self, count: int, items: Iterable[Item]) -> Self:
        """Sum up this, and behind it the same items so many times."""
        return replace(
            self,
            count=self.count + count,
            digest=Work.of([(count, self.digest, None, None), *items]).digest,
        )


class Tally:
    """Sums up what goes over the wire while it goes, and keeps none of it."""

    def __init__(self) -> None:
        self._count = 0
        self._digest: Final = hashlib.sha256()

    def add(self, items: Iterable[Item]) -> None:
        """Add what came next."""
        told = list(map(repr, items))
        self._count += len(told)
        self._digest.update("".join(told).encode())

    @property
    def work(self) -> Work:
        """All that was added."""
        return Work(self._count, self._digest.hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one contender came to.

    Attributes:
        figures: by the names of the case's metrics.
        work: what it has done, by its own account.
    """

    figures: Mapping[str, float]
    work: Work


#: What a contender is: it does the work once and says what that came to.
Run = Callable[[Gateway, Params], Measurement]

#: One that needs a program, which it starts and ends itself: it gets the command too.
ProgramRun = Callable[[Gateway, Params, tuple[str, ...]], Measurement]


class Stopwatch:
    """Measures seconds on the clock, and seconds of CPU (user and system) of this process. Made running.

    Attributes:
        seconds: how long it has run, until it was stopped last.
        cpu_seconds: how much CPU that took.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.start()

    def start(self) -> None:
        """Start anew."""
        self.seconds = self.cpu_seconds = 0.0
        self.go_on()

    def go_on(self) -> None:
        """Go on after a stop. What went by since then does not count."""
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Add the time since the start, or since it went on."""
        clock, cpu = self._started
        self.seconds += time.perf_counter() - clock
        self.cpu_seconds += time.process_time() - cpu

    def figures(self, count: int) -> dict[str, float]:
        """Give the figures of a case that counts messages: how many a second, and CPU in µs for each."""
        return {"rate": count / self.seconds, "cpu": self.cpu_seconds / count * 1e6}


class Takings(Generic[T]):
    """What is taken while a watch runs, of which no more is kept than a piece.

    A contender that kept everything would be measured growing: pages of memory touched for the first time,
    and texts that are in no cache. So the watch stops after each piece, which is summed up and forgotten.

    Args:
        read: makes an item of what is taken.

    Attributes:
        taken: the piece so far. Whoever takes something appends it.
        watch: measures the taking.
    """

    def __init__(self, read: Callable[[T], Item]) -> None:
        self._read: Final = read
        self._tally: Final = Tally()
        self.taken: Final[list[T]] = []
        self.watch: Final = Stopwatch()

    def pieces(self, count: int, size: int = PIECE) -> Iterator[int]:
        """Start the watch anew; yield how many to take next, ``size`` at most, until it is so many in all."""
        self.watch.start()
        for done in range(0, count, size):
            self.watch.go_on()
            yield min(size, count - done)
            self.watch.stop()
            self._sum_up()

    def measurement(self, count: int) -> Measurement:
        """Return the figures of what was taken last, so many, and all the work, with what came too much."""
        self._sum_up()
        return Measurement(self.watch.figures(count), self._tally.work)

    def _sum_up(self) -> None:
        self._tally.add(map(self._read, self.taken))
        self.taken.clear()

"""What a contender gets and gives. Standard library only, so that it adds nothing to any contender."""

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

#: Seconds to wait for the generator to obey an order.
_ORDER_LIMIT: Final = 25.0

#: How large a case is: counts, and times in milliseconds.
Params = Mapping[str, int]

#: One message, received or sent: timestamp, the other person, group, text.
Item = tuple[int | None, str | None, str | None, str | None]


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

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Sum up what went over the wire."""
        listed = list(items)
        return cls(len(listed), hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16])

    def then(self, count: int, items: Iterable[Item]) -> Self:
        """Sum up this, and behind it the same items so many times."""
        return replace(
            self,
            count=self.count + count,
            digest=Work.of([(count, self.digest, None, None), *items]).digest,
        )


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
    """Measures seconds on the clock, and seconds of CPU (user and system) of this process. Made running."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.start()

    def start(self) -> None:
        """Start anew."""
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Take the time since the start."""
        clock, cpu = self._started
        self.seconds, self.cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu

    def figures(self, count: int) -> dict[str, float]:
        """Give the figures of a case that counts messages: how many a second, and CPU in µs for each."""
        return {"rate": count / self.seconds, "cpu": self.cpu_seconds / count * 1e6}

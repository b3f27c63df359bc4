"""Ten thousand clients lose one server together; by the real ``Backoff`` they do not come back together.

Nothing here waits: each client is a real ``ReconnectionManager``, and a heap of events moves one clock.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from trio_signal import Backoff, ConnectionState, ReconnectionManager

CLIENTS = 10_000
#: All of them lose the server within so many seconds.
CUT = 0.05
#: The window in which arrivals are counted, in seconds.
WINDOW = 0.1
#: The most arrivals in any window after an outage of so many seconds.
MOST = {0.0: 1500, 5.0: 500, 45.0: 100, 300.0: 100}


@dataclass
class Herd:
    """How everybody came back.

    Attributes:
        arrivals: when each client was connected again, the earliest first, in seconds after the cut.
        in_vain: how many attempts met no server.
    """

    arrivals: list[float]
    in_vain: int

    @property
    def peak(self) -> int:
        """How many came back in the busiest window."""
        return busiest(self.arrivals, WINDOW)


def busiest(times: list[float], window: float) -> int:
    """Return how many of the sorted times fall into the busiest window."""
    return max(bisect_left(times, time + window) - i for i, time in enumerate(times))


class Client:
    """One client that was connected for long when it lost the server."""

    def __init__(self, backoff: Backoff) -> None:
        self.manager = ReconnectionManager(backoff, clock=lambda: 0.0)

    def next_attempt(self) -> float:
        """Begin an attempt and return how long it sleeps before it dials."""
        self.manager.transition(ConnectionState.RECONNECTING)
        return self.manager.backoff.delay(self.manager.attempt_count)

    def failed(self) -> None:
        self.manager.transition(ConnectionState.DISCONNECTED)

    def succeeded(self) -> None:
        self.manager.transition(ConnectionState.CONNECTED)


def stampede(backoff: Backoff, outage: float, random: Random, *, clients: int = CLIENTS) -> Herd:
    """Cut all clients at once and let them come back to a server that is away for ``outage`` seconds."""
    herd = Herd([], 0)
    dials: list[tuple[float, int]] = []
    everybody = [Client(backoff) for _ in range(clients)]
    for number, client in enumerate(everybody):
        dials.append((random.uniform(0, CUT) + client.next_attempt(), number))
    heapq.heapify(dials)
    while dials:
        time, number = dials[0]
        if time >= outage:
            everybody[number].succeeded()
            herd.arrivals.append(time)
            heapq.heappop(dials)
        else:
            herd.in_vain += 1
            everybody[number].failed()
            heapq.heapreplace(dials, (time + everybody[number].next_attempt(), number))
    return herd


def problem_with(herd: Herd, outage: float) -> str | None:
    """Say what is wrong with how they came back, if anything is."""
    if len(herd.arrivals) != CLIENTS:
        return f"{CLIENTS - len(herd.arrivals)} clients never came back"
    if herd.peak > MOST[outage]:
        return f"{herd.peak} arrivals within {WINDOW:g} s after an outage of {outage:g} s, not {MOST[outage]}"
    # Nobody waits longer than the largest ceiling, once the server is there.
    if herd.arrivals[-1] > outage + CUT + Backoff().maximum:
        return f"somebody was back only {herd.arrivals[-1] - outage:.1f} s after the server"
    return None


@pytest.mark.contract("B1", "B6")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("outage", [0.0, 5.0, 45.0])
def test_ten_thousand_clients_do_not_come_back_as_a_herd(outage: float, seed: int) -> None:
    random = Random(seed)
    assert problem_with(stampede(Backoff(random=random), outage, random), outage) is None


@pytest.mark.contract("B1", "B6")
def test_nor_do_they_after_five_minutes() -> None:
    random = Random(2026)
    herd = stampede(Backoff(random=random), 300.0, random)
    assert problem_with(herd, 300.0) is None
    # Few attempts in vain, too: on average one in twenty seconds, and not fewer than one a minute.
    assert 300 / 60 <= herd.in_vain / CLIENTS <= 300 / 20


@pytest.mark.contract("B6")
def test_one_seed_brings_everybody_back_at_the_same_moments() -> None:
    first, again, other = (
        stampede(Backoff(random=random), 5.0, random, clients=200).arrivals
        for random in map(Random, (1, 1, 2))
    )
    assert first == again != other


# --- That it would be seen. ---


@pytest.mark.parametrize(
    "backoff",
    [
        pytest.param(Backoff(jitter=False), id="no jitter"),
        pytest.param(Backoff(floor=4.0, maximum=4.0, random=Random(1)), id="a floor as high as the ceiling"),
        pytest.param(Backoff(maximum=2.0, floor=1.9, random=Random(1)), id="hardly any room to draw from"),
    ],
)
def test_clients_that_hardly_jitter_are_seen_to_be_a_herd(backoff: Backoff) -> None:
    problem = problem_with(stampede(backoff, 5.0, Random(1)), 5.0)
    assert problem is not None
    assert "arrivals within 0.1 s" in problem


def test_the_same_random_source_in_every_process_is_seen_to_be_a_herd() -> None:
    random = Random(1)
    alike = [stampede(Backoff(random=Random(7)), 5.0, random, clients=1).arrivals[0] for _ in range(CLIENTS)]
    assert problem_with(Herd(sorted(alike), 0), 5.0) is not None


def test_who_never_comes_back_is_missed() -> None:
    assert problem_with(Herd([6.0], 0), 5.0) == "9999 clients never came back"
    assert (
        problem_with(Herd([*range(5, 10_005)], 0), 5.0) == "somebody was back only 9999.0 s after the server"
    )


def test_the_busiest_window_is_found() -> None:
    assert busiest([0.0, 0.01, 0.02, 0.5, 0.55], 0.1) == 3


# --- The long form. ---


def soak(count: int) -> Iterator[str | None]:
    """Run so many herds, each from its own seed; yield None for each that is well, else what is wrong."""
    outages = sorted(MOST)
    for seed in range(count):
        random = Random(seed)
        outage = outages[seed % len(outages)]
        problem = problem_with(stampede(Backoff(random=random), outage, random), outage)
        yield problem and f"seed {seed}: {problem}"

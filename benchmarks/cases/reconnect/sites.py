"""Many gateways on ports that follow one another, each away once. Standard library only."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ... import traffic
from ...connections import Connection, start
from ...contender import Gateway, Item, Params, Work
from ...generators import Generator

#: What the outages are called.
NAMES: Final = ("short", "middle", "long")

#: How many gateways there are for each of them.
MOST: Final = 20

#: By how much outages of one name are shorter and longer than it says. Who waits 1, 2, 4, … s between
#: attempts would otherwise find the gateway there at once each time, or have just missed it each time.
_SPREAD: Final = 0.2

#: Where the first port is looked for, and how often: below those that systems give to whoever connects,
#: since a port is nobody's while its gateway is away.
_PORTS: Final = range(20_000, 30_000)
_TRIES: Final = 100

#: Seconds to wait until a client is connected.
_LIMIT: Final = 20.0


class Site(Generator):
    """One of them: it writes one message to the client that has come back.

    Args:
        message: that message, and its frame.
        port: where it listens.

    Attributes:
        took: after how many seconds the client was back; None while it is not.
        item: the message, once it was written.
        more_orders: what it obeys beside.
    """

    def __init__(self, message: tuple[Item, bytes], port: int) -> None:
        super().__init__(port)
        self._message: Final = message
        self._returned: float | None = None
        self._is_visited: Final = threading.Event()
        self.took: float | None = None
        self.item: Item | None = None
        self.more_orders: Final[dict[str, Callable[..., None]]] = {}

    def wait_connected(self) -> None:
        """Wait for the client.

        Raises:
            RuntimeError: it has not connected in time.
        """
        if not self._is_visited.wait(_LIMIT):
            raise RuntimeError("a client has not connected")

    def be_away(self, seconds: float) -> None:
        """Drop the client, refuse connections for so long, listen again."""
        self._leave()
        time.sleep(seconds)
        self._returned = time.perf_counter()
        self._come_back()

    @property
    def _orders(self) -> dict[str, Callable[..., None]]:
        return super()._orders | self.more_orders

    def _opened(self, connection: Connection) -> None:
        super()._opened(connection)
        self._is_visited.set()
        if self._returned is not None and self.took is None:
            self.took = time.perf_counter() - self._returned
            self.item, frame = self._message
            connection.write(frame)


class Sites:
    """All of them; the address is the first one's.

    Its order is ``outages CLIENTS MS MS MS``: once there is a client at so many of each name, be away for
    about so long each. The end of that is not waited for.
    """

    def __init__(self) -> None:
        self._sites: Final = _neighbours(list(traffic.frames(len(NAMES) * MOST)))
        self._sites[0].more_orders["outages"] = self._be_away
        self.address: Final = self._sites[0].address

    def start(self) -> None:
        """Begin to serve."""
        for site in self._sites:
            site.start()

    def stop(self) -> None:
        """End every connection and listen no more."""
        for site in self._sites:
            site.stop()

    @property
    def work(self) -> Work:
        """What was written."""
        return Work.of(site.item for site in self._sites if site.item is not None)

    @property
    def figures(self) -> dict[str, float]:
        """After how many seconds half of the clients were back."""
        took = {
            name: [
                site.took for site in self._sites[place * MOST : (place + 1) * MOST] if site.took is not None
            ]
            for place, name in enumerate(NAMES)
        }
        return {name: statistics.median(times) for name, times in took.items() if times}

    def _be_away(self, clients: int, *milliseconds: int) -> None:
        for place, away in enumerate(milliseconds):
            visited = self._sites[place * MOST :][:clients]
            for number, site in enumerate(visited):
                site.wait_connected()
                part = (number + 0.5) / clients
                start(site.be_away, away / 1000 * (1 - _SPREAD + 2 * _SPREAD * part))


def sites(gateway: Gateway, params: Params) -> list[Gateway]:
    """Return those that there is to be a client at."""
    return [
        replace(gateway, port=gateway.port + place * MOST + number)
        for place in range(len(NAMES))
        for number in range(params["clients"])
    ]


def order_outages(gateway: Gateway, params: Params) -> None:
    """Have each of them go away, once all clients are connected. Blocks until they are."""
    gateway.order("outages", params["clients"], *(params[name] for name in NAMES))


def in_order(items: list[Item]) -> list[Item]:
    """Sort what has come, at different gateways, by when it was to come."""
    return sorted(items, key=lambda item: item[0] or 0)


def _neighbours(messages: list[tuple[Item, bytes]]) -> list[Site]:
    """Return a gateway for each of these, on ports that follow one another."""
    for _ in range(_TRIES):
        first = random.choice(_PORTS)
        sites: list[Site] = []
        try:
            for place, message in enumerate(messages):
                sites.append(Site(message, first + place))
        except OSError:  # it is taken
            for site in sites:
                site.stop()
        else:
            return sites
    raise OSError("there are no ports that follow one another")

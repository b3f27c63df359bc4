"""Logs of the hub, ever larger."""

import time

from trio_signal.hub import MessageLog

from ...contender import Gateway, Measurement, Params, Work
from ...traffic import broadcasts
from .sizes import LOG, doubling, up_to

#: Different texts; each log keeps them again and again.
_TEXTS = 256

#: Nothing expires, and nothing goes for its size.
_MOST_BYTES = 1 << 40


def run(_gateway: Gateway, params: Params) -> Measurement:
    """Fill each log twice, reading its end now and then."""
    costs = {size: _cost(size, params["read"]) for size in up_to(params["most"], LOG)}
    figures = {f"cost_{size}": cost for size, cost in costs.items()}
    return Measurement(figures | {"doubling": doubling(costs)}, Work.of([]))


def _cost(size: int, read: int) -> float:
    texts = broadcasts(_TEXTS)
    log = MessageLog(max_messages=size, max_bytes=_MOST_BYTES)
    started = time.process_time()
    for number in range(1, 2 * size + 1):
        stamp, text = texts[number % _TEXTS]
        log.append(text, timestamp=stamp)
        if number % 100 == 0 and len(log.since(number - read).messages) != read:
            raise AssertionError("the log did not keep what it should")
    return (time.process_time() - started) * 1e3

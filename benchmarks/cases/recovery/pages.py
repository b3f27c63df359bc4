"""The answers that are given, and how long it takes to build one. Standard library only."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ...contender import Measurement
from ...traffic import hub_messages

#: How often an answer is built to see how long that takes.
_REPEATS: Final = 20


def page(since: int, count: int) -> dict[str, Any]:
    """Return the answer of a hub that has sent so many messages."""
    messages = [json.loads(message) for message in hub_messages(count)[since:]]
    return {"messages": messages, "epoch": "epoch", "head": count, "oldest": 1, "gap": None, "more": False}


def dumped(answer: Any) -> bytes:
    """Encode as the standard library does."""
    return json.dumps(answer).encode()


def ready(sizes: tuple[int, ...]) -> dict[int, bytes]:
    """Return the answers of these sizes as bytes, by what is asked for."""
    count = max(sizes)
    return {count - size: dumped(page(count - size, count)) for size in sizes}


def with_build(measurement: Measurement, build: Callable[[], object]) -> Measurement:
    """Add how many µs of CPU it takes to build an answer."""
    build()
    started = time.process_time()
    for _ in range(_REPEATS):
        build()
    taken = (time.process_time() - started) / _REPEATS * 1e6
    return replace(measurement, figures={**measurement.figures, "build": taken})

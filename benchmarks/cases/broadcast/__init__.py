"""One text to everybody who is connected."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_NOTES: Final = (
    "{count} texts of 620 to 970 bytes, one after the other without a pause, to {clients} clients, "
    "after {warm} to warm up; the clients are raw sockets in one loop and compare every byte. All write "
    "the same bytes: the hub numbers, keeps and encodes each text, the others have it ready. The hub "
    "gives other tasks a turn after 256 deliveries, as it does with what comes from a gateway; the floor "
    "never does, the others do after each text. CPU is the server's. The spread, from the first client "
    "that has a text to the last, is the median of {paced} more with {pause} ms between them. What share "
    "of its own CPU the audience used tells whether it is what was measured."
)

_METRICS: Final = (
    Metric("rate", "deliveries/s", more_is_better=True),
    Metric("cpu", "CPU us/delivery", more_is_better=False),
    Metric("spread", "ms from first to last", more_is_better=False),
    Metric("append", "CPU us to number, keep, encode", more_is_better=False, is_common=False),
    Metric("busy", "% of a CPU that the audience used", more_is_better=False),
)

_OURS, _FLOOR = "trio_signal hub", "floor: non-blocking sends"

_HERE: Final = "benchmarks.cases.broadcast"
_CONTENDERS: Final = (
    Contender("aiohttp server", f"{_HERE}.aiohttp_server:run", peer="aiohttp"),
    Contender(_OURS, f"{_HERE}.ours:run"),
    Contender("node ws", f"{_HERE}.node_server:run", peer="node-ws"),
    Contender("picows", f"{_HERE}.picows_server:run", peer="picows"),
    Contender("trio-websocket loop", f"{_HERE}.trio_websocket_server:run"),
    Contender(_FLOOR, f"{_HERE}.floor:run"),
)


def _goals(to_others: float, to_floor: float) -> tuple[Goal, ...]:
    return (
        Goal("rate", _OURS, "aiohttp server", at_least=to_others),
        Goal("rate", _OURS, "node ws", at_least=to_others),
        Goal("rate", _OURS, "picows", at_least=0.85),
        Goal("rate", _OURS, _FLOOR, at_least=to_floor),
        Goal("rate", _OURS, "trio-websocket loop", at_least=5.0),
        Goal("append", _OURS, at_most=2.0),
    )


CASES: Final = (
    Case(
        name="broadcast",
        title="one text to everybody who is connected, 100 clients: deliveries a second",
        notes=_NOTES,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline="aiohttp server",
        subject=_OURS,
        full={"clients": 100, "warm": 50, "count": 2_000, "paced": 60, "pause": 10},
        quick={"clients": 100, "warm": 20, "count": 400, "paced": 30, "pause": 10},
        limit=60.0,
        goals=_goals(1.2, 0.85),
    ),
    Case(
        name="broadcast_1000",
        title="one text to everybody who is connected, 1,000 clients: deliveries a second",
        notes=_NOTES,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline="aiohttp server",
        subject=_OURS,
        full={"clients": 1_000, "warm": 5, "count": 200, "paced": 30, "pause": 100},
        quick={"clients": 1_000, "warm": 5, "count": 40, "paced": 10, "pause": 100},
        limit=60.0,
        goals=(*_goals(1.1, 0.7), Goal("spread", _OURS, _FLOOR, at_most=1.3)),
    ),
)

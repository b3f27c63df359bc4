"""One text to everybody who is connected."""

from typing import Final

from ...harness import Case, Contender, Metric

CASE: Final = Case(
    name="broadcast",
    title="one text to everybody who is connected: deliveries a second",
    notes=(
        "{count} texts of 620 to 970 bytes, one after the other without a pause, to {clients} clients, "
        "after {warm} to warm up; the clients are raw sockets in one loop and count whole frames. All write "
        "the same bytes: the hub numbers, keeps and encodes each text, the others have it ready. CPU is the "
        "server's. The spread, from the first client that has a text to the last, is the median of {paced} "
        "more with {pause} ms between them."
    ),
    metrics=(
        Metric("rate", "deliveries/s", more_is_better=True),
        Metric("cpu", "CPU us/delivery", more_is_better=False),
        Metric("spread", "ms from first to last", more_is_better=False),
        Metric("append", "CPU us to number, keep, encode", more_is_better=False, is_common=False),
    ),
    contenders=(
        Contender("aiohttp server", "benchmarks.cases.broadcast.aiohttp_server:run"),
        Contender("trio_signal hub", "benchmarks.cases.broadcast.ours:run"),
        Contender("websockets broadcast()", "benchmarks.cases.broadcast.websockets_server:run"),
        Contender("floor: non-blocking sends", "benchmarks.cases.broadcast.floor:run"),
    ),
    baseline="aiohttp server",
    subject="trio_signal hub",
    full={"clients": 1_000, "warm": 5, "count": 60, "paced": 30, "pause": 50},
    quick={"clients": 100, "warm": 20, "count": 400, "paced": 30, "pause": 10},
    limit=60.0,
)

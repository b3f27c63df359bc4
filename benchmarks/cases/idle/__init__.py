"""Many who are connected while nothing happens."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_SERVERS: Final = "benchmarks.cases.broadcast"

CASE: Final = Case(
    name="idle",
    title="many who are connected while nothing happens: memory and CPU",
    notes=(
        "{clients} clients connect, after {warm} others for whom the server loads what it needs; what its "
        "memory has grown by is divided among them. Then nothing is sent for {idle} ms but a heartbeat to "
        "each every {beat} ms, which the clients answer. In the end each must still get a text."
    ),
    metrics=(
        Metric("memory", "KiB for each connection", more_is_better=False),
        Metric("idle", "% of a CPU while nothing happens", more_is_better=False),
    ),
    contenders=(
        Contender("aiohttp server", f"{_SERVERS}.aiohttp_server:idle", peer="aiohttp"),
        Contender("trio_signal hub", f"{_SERVERS}.ours:idle"),
        Contender("node ws", f"{_SERVERS}.node_server:idle", peer="node-ws"),
        Contender("picows", f"{_SERVERS}.picows_server:idle", peer="picows"),
        Contender("trio-websocket alone", f"{_SERVERS}.trio_websocket_server:idle"),
    ),
    baseline="aiohttp server",
    subject="trio_signal hub",
    full={"clients": 10_000, "warm": 50, "beat": 20_000, "idle": 20_000},
    quick={"clients": 500, "warm": 50, "beat": 1_000, "idle": 1_000},
    limit=180.0,
    goals=(
        Goal("memory", "trio_signal hub", at_most=20.0),
        Goal("idle", "trio_signal hub", at_most=10.0),
    ),
)

"""Texts that wait together, to everybody who is connected."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

#: How many texts wait together.
BURST: Final = 16

_NOTES: Final = (
    "{count} texts of 620 to 970 bytes to {clients} clients, 16 at a time without a pause between, after "
    "{warm} to warm up. The hub numbers, keeps and encodes each and writes what waits; nats-server is given "
    "16 by one publisher and distributes them as it sees fit; the floor has each 16 joined and writes them "
    "once for each client, which is also what the audience can take. CPU is the server's; nats-server's "
    "publisher is not in it."
)

_METRICS: Final = (
    Metric("rate", "deliveries/s", more_is_better=True),
    Metric("cpu", "CPU us/delivery", more_is_better=False),
    Metric("busy", "% of a CPU that the audience used", more_is_better=False),
)

_HERE: Final = "benchmarks.cases.bursts"
_CONTENDERS: Final = (
    Contender("nats-server", f"{_HERE}.nats_server:run", peer="nats-server"),
    Contender("trio_signal hub", f"{_HERE}.ours:run"),
    Contender("floor: joined sends", f"{_HERE}.floor:run"),
)

_GOALS: Final = (Goal("rate", "trio_signal hub", "nats-server", at_least=1.0),)

CASES: Final = (
    Case(
        name="bursts",
        title="16 texts that wait together, to 100 clients: deliveries a second",
        notes=_NOTES,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline="nats-server",
        subject="trio_signal hub",
        full={"clients": 100, "warm": 160, "count": 4_800},
        quick={"clients": 100, "warm": 160, "count": 1_600},
        limit=60.0,
        goals=_GOALS,
    ),
    Case(
        name="bursts_1000",
        title="16 texts that wait together, to 1,000 clients: deliveries a second",
        notes=_NOTES,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline="nats-server",
        subject="trio_signal hub",
        full={"clients": 1_000, "warm": 16, "count": 480},
        quick={"clients": 1_000, "warm": 16, "count": 160},
        limit=60.0,
        goals=_GOALS,
    ),
)

"""Live messages while a crowd comes back for what it missed."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_HERE: Final = "benchmarks.cases.storm"

CASE: Final = Case(
    name="storm",
    title="live messages while a crowd comes back at once for what it missed",
    notes=(
        "{live} clients are sent a text every {pause} ms, {count} in all; {calm} ms after the first of them "
        "{clients} more connect at once, and each asks over HTTP for the {missed} messages that it missed. "
        "The delay of a live text counts from when it was due until the kernel has it for its client, so "
        "that it counts too if the server had no time to send it. Latencies are the clients'; the hub's "
        "limits, which would make most come again later, are raised."
    ),
    metrics=(
        Metric("live", "ms of delay in the storm, 99th percentile", more_is_better=False),
        Metric("quiet", "ms of delay before and after, 99th percentile", more_is_better=False),
        Metric("storm", "answers/s in the storm", more_is_better=True),
        Metric("recovered", "ms to an answer, median", more_is_better=False),
    ),
    contenders=(
        Contender("aiohttp + json.dumps", f"{_HERE}.aiohttp_server:run", peer="aiohttp"),
        Contender("trio_signal hub", f"{_HERE}.ours:run"),
    ),
    baseline="aiohttp + json.dumps",
    subject="trio_signal hub",
    full={"live": 100, "pause": 5, "count": 800, "calm": 500, "clients": 2_000, "missed": 100},
    quick={"live": 50, "pause": 5, "count": 300, "calm": 300, "clients": 300, "missed": 100},
    limit=60.0,
    goals=(Goal("live", "trio_signal hub", at_most=50.0),),
    cannot={"node ws, nats-server": "They keep nothing of what they have sent, so nobody can ask for it."},
)

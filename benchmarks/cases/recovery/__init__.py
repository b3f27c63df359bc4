"""What a client missed, over HTTP."""

from typing import Final

from ...harness import Case, Contender, Metric

#: How many messages an answer has.
SIZES: Final = (0, 50, 500)

CASE: Final = Case(
    name="recovery",
    title="GET /websocket/messages?since=N: answers a second",
    notes=(
        "Answers of 0, 50 and 500 messages of 620 to 970 bytes, each asked for {requests} times (the largest "
        "{large} times) over {connections} connections that are kept alive, one request at a time on each, "
        "after {warm} to warm up; the clients are raw sockets in one loop. All give the same messages; the "
        "hub's rate limit is raised. CPU is the server's, latency the clients'."
    ),
    metrics=tuple(
        metric
        for size in SIZES
        for metric in (
            Metric(f"rate_{size}", f"answers of {size}/s", more_is_better=True),
            Metric(f"cpu_{size}", f"CPU us/answer of {size}", more_is_better=False),
            Metric(f"p99_{size}", f"ms, 99th percentile, of {size}", more_is_better=False),
        )
    ),
    contenders=(
        Contender("aiohttp + json.dumps", "benchmarks.cases.recovery.aiohttp_server:with_json"),
        Contender("trio_signal hub", "benchmarks.cases.recovery.ours:run"),
        Contender("aiohttp + msgspec", "benchmarks.cases.recovery.aiohttp_server:with_msgspec"),
    ),
    baseline="aiohttp + json.dumps",
    subject="trio_signal hub",
    full={"connections": 8, "warm": 50, "requests": 2_000, "large": 300},
    quick={"connections": 8, "warm": 10, "requests": 400, "large": 40},
    limit=60.0,
)

"""What a client missed, over HTTP."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

#: How many messages an answer has.
SIZES: Final = (0, 50, 1_000)

_HERE: Final = "benchmarks.cases.recovery"
_OURS, _UVICORN, _JSON = "trio_signal hub", "uvicorn + Starlette, ready", "aiohttp + json.dumps"

CASE: Final = Case(
    name="recovery",
    title="GET /websocket/messages?since=N: answers a second",
    notes=(
        "Answers of 0, 50 and 1,000 messages of 620 to 970 bytes, each asked for {requests} times (the "
        "largest {large} times) over {connections} connections that are kept alive, one request at a time on "
        "each, after {warm} to warm up; the clients are raw sockets in one loop. All give the same messages; "
        "the hub's rate limit is raised. Those called ready have each answer as bytes beforehand, so that "
        "only HTTP is left to do; the floor has even the heads, and is what the clients can ask for. "
        "CPU is the server's, latency the clients'. To build an answer is measured alone, without HTTP."
    ),
    metrics=(
        *(
            metric
            for size in SIZES
            for metric in (
                Metric(f"rate_{size}", f"answers of {size:,}/s", more_is_better=True),
                Metric(f"cpu_{size}", f"CPU us/answer of {size:,}", more_is_better=False),
                Metric(f"p99_{size}", f"ms, 99th percentile, of {size:,}", more_is_better=False),
            )
        ),
        Metric(
            "build", f"CPU us to build an answer of {max(SIZES):,}", more_is_better=False, is_common=False
        ),
    ),
    contenders=(
        Contender(_JSON, f"{_HERE}.aiohttp_server:with_json", peer="aiohttp"),
        Contender(_OURS, f"{_HERE}.ours:run"),
        Contender("aiohttp, ready", f"{_HERE}.aiohttp_server:ready", peer="aiohttp"),
        Contender(_UVICORN, f"{_HERE}.uvicorn_server:run", peer="uvicorn"),
        Contender("floor: ready answers", f"{_HERE}.floor:run"),
    ),
    baseline=_JSON,
    subject=_OURS,
    full={"connections": 8, "warm": 50, "requests": 5_000, "large": 300},
    quick={"connections": 8, "warm": 10, "requests": 800, "large": 40},
    limit=60.0,
    goals=(
        Goal("build", _OURS, _JSON, at_most=0.05),
        *(Goal(f"rate_{size}", _OURS, _UVICORN, at_least=1.3) for size in SIZES[:2]),
    ),
    cannot={"node ws, nats-server": "They keep nothing of what they have sent, so nobody can ask for it."},
)

"""Sending to many people at once."""

from typing import Final

from ...case import Case, Contender, Metric

_OURS: Final = "trio_signal, max_in_flight"

CASE: Final = Case(
    name="sends_many",
    title="many messages in flight, to each person one after the other: sends a second",
    notes=(
        "{people} tasks, one for each person, of which each sends {each} texts one after the other, after "
        "{warm} to warm up; each answer is read for its timestamp. trio_signal with max_in_flight={people} "
        "and rate_limit=None, all else by default. signal-client's limit of 50 requests a second is lifted. "
        "The floor shows what the generator can answer."
    ),
    metrics=(
        Metric("rate", "sends/s", more_is_better=True),
        Metric("cpu", "CPU us/send", more_is_better=False),
    ),
    contenders=(
        Contender("httpx on Trio", "benchmarks.cases.sends_many.plain:run"),
        Contender(_OURS, "benchmarks.cases.sends_many.ours:run"),
        Contender("aiohttp", "benchmarks.rivals.aiohttp_peer:send_many", peer="aiohttp"),
        Contender("signalbot", "benchmarks.rivals.signalbot_peer:send_many", peer="signalbot"),
        Contender("signal-client", "benchmarks.rivals.signal_client_peer:send_many", peer="signal-client"),
        Contender(
            "signal-cli-rest-api-client",
            "benchmarks.rivals.rest_api_client_peer:send_many",
            peer="signal-cli-rest-api-client",
        ),
        Contender("floor: non-blocking sockets", "benchmarks.cases.sends_many.floor:run"),
    ),
    baseline="httpx on Trio",
    subject=_OURS,
    full={"people": 32, "warm": 10, "each": 100},
    quick={"people": 32, "warm": 3, "each": 20},
    limit=90.0,
    cannot={"pysignalclirestapi": "its calls block, one after the other; see the case send"},
)

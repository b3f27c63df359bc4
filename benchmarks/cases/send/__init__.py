"""Sending, one message in flight."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal send_message()"
_PEERS: Final = ("signalbot", "signal-client", "signal-cli-rest-api-client", "pysignalclirestapi")

CASE: Final = Case(
    name="send",
    title="one message in flight, until its outcome is known: sends a second",
    notes=(
        "{count} texts of about 80 characters, one after the other, after {warm} to warm up; each answer is "
        "read for its timestamp. With trio_signal each goes through the buffer and the send task to its "
        "outcome, beside the open WebSocket; rate_limit=None, all else by default. signal-client's limit of "
        "50 requests a second is lifted; pysignalclirestapi, which is slow, gets a fifth of the messages."
    ),
    metrics=(
        Metric("rate", "sends/s", more_is_better=True),
        Metric("cpu", "CPU us/send", more_is_better=False),
    ),
    contenders=(
        Contender("httpx on Trio", "benchmarks.cases.send.plain:run"),
        Contender(_OURS, "benchmarks.cases.send.ours:run"),
        Contender("aiohttp", "benchmarks.rivals.aiohttp_peer:send", peer="aiohttp"),
        Contender("signalbot", "benchmarks.rivals.signalbot_peer:send", peer="signalbot"),
        Contender("signal-client", "benchmarks.rivals.signal_client_peer:send", peer="signal-client"),
        Contender(
            "signal-cli-rest-api-client",
            "benchmarks.rivals.rest_api_client_peer:send",
            peer="signal-cli-rest-api-client",
        ),
        Contender(
            "pysignalclirestapi",
            "benchmarks.rivals.pysignalclirestapi_peer:send",
            peer="pysignalclirestapi",
            fewer=5,
        ),
        Contender("floor: blocking socket", "benchmarks.cases.send.floor:run"),
    ),
    baseline="httpx on Trio",
    subject=_OURS,
    full={"warm": 100, "count": 4_000},
    quick={"warm": 50, "count": 400},
    limit=60.0,
    goals=(
        Goal("cpu", _OURS, to="signalbot", at_most=0.5),
        Goal("cpu", _OURS, to="aiohttp", at_most=0.8),
        Goal("cpu", _OURS, to="httpx on Trio", at_most=0.3),
        *(Goal("rate", _OURS, to=peer, at_least=2) for peer in _PEERS),
    ),
)

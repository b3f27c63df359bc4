"""One message at a time, so that each costs its own wake-up."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal events()"
_PLAIN: Final = "trio-websocket, not decoded"

CASE: Final = Case(
    name="paced",
    title="one message at a time: CPU for each",
    notes=(
        "{count} envelopes as in the case receive, one every {interval} us, after {warm} to warm up. Each "
        "is read by its own call of the system. trio-websocket's texts are taken and not looked at, which is "
        "the least that it can cost; json.loads and what trio_signal does come on top of that. signal-client "
        "gets an eighth of the messages, since it cannot keep up with more."
    ),
    metrics=(
        Metric("cpu", "CPU us/message", more_is_better=False),
        Metric("rate", "messages/s, as paced", more_is_better=True),
    ),
    contenders=(
        Contender(_PLAIN, "benchmarks.cases.receive.plain:run_undecoded"),
        Contender("trio-websocket + json.loads", "benchmarks.cases.receive.plain:run"),
        Contender(_OURS, "benchmarks.cases.receive.ours:events"),
        Contender("signalbot", "benchmarks.rivals.signalbot_peer:receive", peer="signalbot"),
        Contender(
            "signal-client",
            "benchmarks.rivals.signal_client_peer:receive",
            peer="signal-client",
            # It writes the whole memory of its duplicate filter for each message.
            fewer=8,
        ),
        Contender(
            "signal-cli-rest-api-client",
            "benchmarks.rivals.rest_api_client_peer:receive",
            peer="signal-cli-rest-api-client",
        ),
        Contender("floor: blocking socket + msgspec", "benchmarks.cases.receive.floor:run"),
    ),
    baseline=_PLAIN,
    subject=_OURS,
    full={"warm": 500, "count": 8_000, "interval": 500},
    quick={"warm": 200, "count": 2_000, "interval": 500},
    limit=90.0,
    goals=(Goal("cpu", _OURS, to=_PLAIN, at_most=0.85),),
    cannot={"pysignalclirestapi": "it cannot keep receiving; see the case receive"},
)

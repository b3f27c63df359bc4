"""Answering messages."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal"
_PLAIN: Final = "trio-websocket + httpx"

_METRICS: Final = (
    Metric("rate", "echoes/s", more_is_better=True),
    Metric("cpu", "CPU us/echo", more_is_better=False),
)
_CONTENDERS: Final = (
    Contender(_PLAIN, "benchmarks.cases.echo.plain:run"),
    Contender(_OURS, "benchmarks.cases.echo.ours:run"),
    Contender("signalbot", "benchmarks.rivals.signalbot_peer:echo", peer="signalbot"),
    Contender("signal-client", "benchmarks.rivals.signal_client_peer:echo", peer="signal-client"),
    Contender(
        "signal-cli-rest-api-client",
        "benchmarks.rivals.rest_api_client_peer:echo",
        peer="signal-cli-rest-api-client",
    ),
)
_CANNOT: Final = {"pysignalclirestapi": "it cannot keep receiving; see the case receive"}
_WHAT: Final = (
    "Each message of 550 to 900 bytes is answered to its sender with its own text; the next of the same "
    "person comes when that answer has been accepted. {each} from each of {people}, after {warm} to warm up. "
    "trio_signal with rate_limit=None. signalbot runs three handlers at a time, signal-client four; the "
    "latter's limit of 50 requests a second is lifted. "
)

CASES: Final = (
    Case(
        name="echo",
        title="one conversation, one message at a time: echoes a second",
        notes=_WHAT,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline=_PLAIN,
        subject=_OURS,
        full={"people": 1, "warm": 100, "each": 2_000},
        quick={"people": 1, "warm": 50, "each": 400},
        limit=60.0,
        goals=(Goal("rate", _OURS, to="signalbot", at_least=2),),
        cannot=_CANNOT,
    ),
    Case(
        name="echo_many",
        title="many conversations at once, in order inside each: echoes a second",
        notes=_WHAT + "trio_signal with max_in_flight={people}; the plain libraries with a task for each "
        "message, as signal-cli-rest-api-client.",
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline=_PLAIN,
        subject=_OURS,
        full={"people": 32, "warm": 10, "each": 300},
        quick={"people": 32, "warm": 2, "each": 20},
        limit=60.0,
        goals=(Goal("rate", _OURS, to="signalbot", at_least=3),),
        cannot=_CANNOT,
    ),
)

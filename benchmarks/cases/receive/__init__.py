"""A burst of messages to the application's loop."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal events()"

CASE: Final = Case(
    name="receive",
    title="a burst to the application's loop: messages a second",
    notes=(
        "{count} envelopes of 550 to 900 bytes, half to groups, after {warm} to warm up. For each message "
        "the loop reads sender, group, timestamp and text. trio_signal also types every other field, drops "
        "duplicates, keeps the cursor and bounds the inbox; all with default settings. "
        "signal-cli-rest-api-client gives plain dicts; the queue between signalbot's socket and its handlers "
        "has no bound; signal-client's limit of 50 requests a second is lifted, and it gets a thirtieth of "
        "the messages, since each takes it about a millisecond."
    ),
    metrics=(
        Metric("rate", "messages/s", more_is_better=True),
        Metric("cpu", "CPU us/message", more_is_better=False),
    ),
    contenders=(
        Contender("trio-websocket + json.loads", "benchmarks.cases.receive.plain:run"),
        Contender("trio_signal receive_messages()", "benchmarks.cases.receive.ours:receive_messages"),
        Contender(_OURS, "benchmarks.cases.receive.ours:events"),
        Contender("signalbot", "benchmarks.rivals.signalbot_peer:receive", peer="signalbot"),
        Contender(
            "signal-client",
            "benchmarks.rivals.signal_client_peer:receive",
            peer="signal-client",
            # It writes the whole memory of its duplicate filter for each message.
            fewer=30,
        ),
        Contender(
            "signal-cli-rest-api-client",
            "benchmarks.rivals.rest_api_client_peer:receive",
            peer="signal-cli-rest-api-client",
        ),
        Contender("floor: blocking socket + msgspec", "benchmarks.cases.receive.floor:run"),
    ),
    baseline="trio-websocket + json.loads",
    subject=_OURS,
    full={"warm": 2_000, "count": 60_000},
    quick={"warm": 500, "count": 10_000},
    limit=60.0,
    goals=(
        Goal("rate", _OURS, to="signalbot", at_least=6),
        Goal("rate", _OURS, to="signal-cli-rest-api-client", at_least=1.5),
        Goal("rate", _OURS, to="trio-websocket + json.loads", at_least=6),
        Goal("rate", _OURS, to="floor: blocking socket + msgspec", at_least=0.5),
    ),
    cannot={
        "pysignalclirestapi": (
            "receiving is a blocking call that connects, waits for a number of messages or for silence, and "
            "hangs up; what comes between two calls is lost"
        ),
    },
)

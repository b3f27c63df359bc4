"""Sending through an outage: what is lost, what comes twice, and what overtakes."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal"

_NOTES: Final = (
    "{rate} messages a second for {sending} ms to five people in turn, each given away when it is due, in a "
    "task of its own. After {begin} ms the gateway dies, for {down} ms: every connection ends, those with a "
    "send in flight too, and new ones are refused. It notes what arrives and answers 10 ms later. At the end "
    "the sender tells what it was told of each message. Overtaken is a message that came before one that was "
    "given away earlier to the same person. trio_signal runs without a limit of its rate and with room for "
    "all messages, signal-client without its limit too. Only trio_signal can say that it does not know: "
    "after {settle} ms without evidence."
)

_METRICS: Final = (
    Metric("lost", "messages that never came", more_is_better=False),
    Metric("silent", "of these, told as sent", more_is_better=False),
    Metric("twice", "messages that came again", more_is_better=False),
    Metric("disorder", "messages that were overtaken", more_is_better=False),
    Metric("wrong", "messages that came, told as failed", more_is_better=False),
    Metric("unknown", "messages told as unknown", more_is_better=False),
    Metric("latency", "s until the last was told of", more_is_better=False),
)

_CONTENDERS: Final = (
    Contender("signalbot", "benchmarks.rivals.signalbot_life:outage", peer="signalbot"),
    Contender(_OURS, "benchmarks.cases.outage.ours:run"),
    Contender("signal-client", "benchmarks.rivals.signal_client_life:outage", peer="signal-client"),
)

_GOALS: Final = (
    Goal("lost", _OURS, at_most=0.0),
    Goal("twice", _OURS, at_most=0.0),
    Goal("disorder", _OURS, at_most=0.0),
    Goal("wrong", _OURS, at_most=0.0),
    # What was in flight at the kill: one, since that is how many are at a time.
    Goal("unknown", _OURS, at_most=1.0),
)


def _case(name: str, seconds: int) -> Case:
    return Case(
        name=name,
        title=f"50 messages a second through an outage of {seconds} s",
        notes=_NOTES,
        metrics=_METRICS,
        contenders=_CONTENDERS,
        baseline="signalbot",
        subject=_OURS,
        full={"rate": 50, "sending": 10_000, "begin": 3_000, "down": seconds * 1000, "settle": 10_000},
        quick={
            "rate": 50,
            "sending": 2_000 + seconds * 500,
            "begin": 1_000,
            "down": seconds * 400,
            "settle": 10_000,
        },
        limit=60.0,
        goals=_GOALS,
        cannot={
            "signal-cli-rest-api-client": "It tries nothing again and does not reconnect.",
            "pysignalclirestapi": "It tries nothing again and does not reconnect.",
        },
        generator="benchmarks.cases.outage.gateway:MortalGateway",
    )


CASES: Final = (_case("outage", 3), _case("outage_6s", 6))

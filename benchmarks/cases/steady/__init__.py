"""Memory over many messages and many reconnections."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS: Final = "trio_signal"

CASE: Final = Case(
    name="steady",
    title="memory over many messages and many reconnections",
    notes=(
        "{messages} messages, each with a timestamp of its own, as fast as they are taken; then {reconnects} "
        "reconnections, each after the gateway has dropped the connection, with a message and a gap each. "
        "What is resident at the end of either, above what it was after the first tenth. The process's own "
        "garbage is collected before each look."
    ),
    metrics=(
        Metric("messages", "KiB more after the messages", more_is_better=False),
        Metric("reconnects", "KiB more after the reconnections", more_is_better=False),
        Metric("files", "files more after the reconnections", more_is_better=False),
        Metric("rss", "MiB resident at the end", more_is_better=False),
        Metric("rate", "messages/s", more_is_better=True),
        Metric("each", "ms/reconnection", more_is_better=False),
    ),
    contenders=(Contender(_OURS, "benchmarks.cases.steady.ours:run"),),
    baseline=_OURS,
    full={"messages": 10_000_000, "reconnects": 10_000},
    quick={"messages": 500_000, "reconnects": 3_000},
    limit=900.0,
    goals=(
        Goal("messages", _OURS, at_most=1024.0),
        Goal("reconnects", _OURS, at_most=2048.0),
        Goal("files", _OURS, at_most=0.0),
    ),
    generator="benchmarks.cases.steady.gateway:Endless",
)

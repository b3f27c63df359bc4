"""A burst of messages to the application's loop."""

from typing import Final

from ...harness import Case, Contender, Metric

CASE: Final = Case(
    name="receive",
    title="a burst to the application's loop: messages a second",
    notes=(
        "{count} envelopes of 550 to 900 bytes, half to groups, after {warm} to warm up. For each message "
        "the loop reads sender, group, timestamp and text. trio_signal also types every other field, drops "
        "duplicates, keeps the cursor and bounds the inbox; all with default settings."
    ),
    metrics=(
        Metric("rate", "messages/s", more_is_better=True),
        Metric("cpu", "CPU us/message", more_is_better=False),
    ),
    contenders=(
        Contender("trio-websocket + json.loads", "benchmarks.cases.receive.plain:run"),
        Contender("trio_signal receive_messages()", "benchmarks.cases.receive.ours:receive_messages"),
        Contender("trio_signal events()", "benchmarks.cases.receive.ours:events"),
        Contender("floor: blocking socket + msgspec", "benchmarks.cases.receive.floor:run"),
    ),
    baseline="trio-websocket + json.loads",
    full={"warm": 2_000, "count": 40_000},
    quick={"warm": 500, "count": 8_000},
)

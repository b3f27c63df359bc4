"""Sending, one message in flight."""

from typing import Final

from ...harness import Case, Contender, Metric

CASE: Final = Case(
    name="send",
    title="one message in flight, until its outcome is known: sends a second",
    notes=(
        "{count} texts of about 80 characters, one after the other, after {warm} to warm up; each answer is "
        "read for its timestamp. With trio_signal each goes through the buffer and the send task to its "
        "outcome, beside the open WebSocket; rate_limit=None, all else by default."
    ),
    metrics=(
        Metric("rate", "sends/s", more_is_better=True),
        Metric("cpu", "CPU us/send", more_is_better=False),
    ),
    contenders=(
        Contender("httpx on Trio", "benchmarks.cases.send.plain:run"),
        Contender("trio_signal send_message()", "benchmarks.cases.send.ours:run"),
        Contender("floor: blocking socket", "benchmarks.cases.send.floor:run"),
    ),
    baseline="httpx on Trio",
    full={"warm": 100, "count": 1_500},
    quick={"warm": 50, "count": 400},
)

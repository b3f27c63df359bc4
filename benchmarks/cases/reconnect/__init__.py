"""Coming back after an outage, without the backoff's sleep."""

from typing import Final

from ...harness import Case, Contender, Metric

CASE: Final = Case(
    name="reconnect",
    title="from the gateway's return to CONNECTED and to the first message",
    notes=(
        "The median of {outages} outages of {down} ms in each process. Both sleep 60 s after a loss and are "
        "woken the moment the gateway is back (trio_signal by reconnect_now()), so that no sleep is in the "
        "figures; the gateway writes one message to each new WebSocket. trio_signal is CONNECTED when a ping "
        "has been answered and the gap reported, the plain loop when the handshake is over. CPU is of a "
        "whole outage, the loss included."
    ),
    metrics=(
        Metric("connected", "ms to CONNECTED", more_is_better=False),
        Metric("message", "ms to the first message", more_is_better=False),
        Metric("cpu", "CPU us/outage", more_is_better=False),
    ),
    contenders=(
        Contender("trio-websocket in a loop", "benchmarks.cases.reconnect.plain:run"),
        Contender("trio_signal", "benchmarks.cases.reconnect.ours:run"),
    ),
    baseline="trio-websocket in a loop",
    full={"outages": 20, "down": 50},
    quick={"outages": 5, "down": 20},
)

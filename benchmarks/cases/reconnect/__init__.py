"""Coming back after an outage: the attempt alone, and all of it with everybody's own backoff."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_HERE: Final = "benchmarks.cases.reconnect"

_RECONNECT: Final = Case(
    name="reconnect",
    title="from the gateway's return to CONNECTED and to the first message, no sleep included",
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
        Contender("trio-websocket in a loop", f"{_HERE}.plain:run"),
        Contender("trio_signal", f"{_HERE}.ours:run"),
    ),
    baseline="trio-websocket in a loop",
    full={"outages": 20, "down": 50},
    quick={"outages": 5, "down": 20},
)

_COMEBACK: Final = Case(
    name="comeback",
    title="from the gateway's return to the WebSocket, with everybody's own settings",
    notes=(
        "The median of {clients} clients in one process for each length, each at a gateway of its own, "
        "which goes away once: every connection ends, new ones are refused. The lengths are spread evenly "
        "from 20 % below {short}, {middle} and {long} ms to 20 % above, since signalbot and signal-client "
        "wait 1, 2, 4, 8, … s between attempts and would all come just in time or just too late; trio_signal "
        "sleeps at random and knocks meanwhile. The gateway takes the time from listening again to the "
        "handshake and writes a message then, which the client has to take."
    ),
    metrics=(
        Metric("short", "s after the short outage", more_is_better=False),
        Metric("middle", "s after the middle outage", more_is_better=False),
        Metric("long", "s after the long outage", more_is_better=False),
    ),
    contenders=(
        Contender("signalbot", "benchmarks.rivals.signalbot_life:come_back", peer="signalbot"),
        Contender("trio_signal", f"{_HERE}.return_of_ours:run"),
        Contender("signal-client", "benchmarks.rivals.signal_client_life:come_back", peer="signal-client"),
    ),
    baseline="signalbot",
    subject="trio_signal",
    full={"clients": 20, "short": 3_000, "middle": 10_000, "long": 60_000},
    quick={"clients": 10, "short": 3_000, "middle": 6_000, "long": 10_000},
    limit=150.0,
    goals=tuple(
        Goal(metric, "trio_signal", peer, at_most=1.0)
        for metric in ("short", "middle", "long")
        for peer in ("signalbot", "signal-client")
    ),
    cannot={
        "signal-cli-rest-api-client": "It does not reconnect: the stream of events just ends.",
        "pysignalclirestapi": "It does not reconnect: receiving raises an error, and the program ends.",
    },
    generator=f"{_HERE}.sites:Sites",
)

CASES: Final = (_RECONNECT, _COMEBACK)

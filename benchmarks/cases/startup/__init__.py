"""From the start of a process to its WebSocket, and what it weighs then."""

from typing import Final

from ...case import Case, Contender, Goal, Metric

_OURS, _FOUNDATIONS = "trio_signal", "trio-websocket by hand"
_HERE: Final = "benchmarks.cases.startup.starting"

CASE: Final = Case(
    name="startup",
    title="from the start of a process to its WebSocket",
    notes=(
        "The median of {starts} starts of the smallest program that receives, each in a fresh interpreter "
        "with compiled modules on disk, until the gateway has answered its handshake; CPU and memory are "
        "taken {settle} ms later. The import is that of the library by name, which for trio_signal loads "
        "nothing yet; with names, that of what the program uses. The program by hand imports trio, "
        "trio-websocket and msgspec and does nothing but connect and read."
    ),
    metrics=(
        Metric("start", "ms to the WebSocket", more_is_better=False),
        Metric("cpu", "CPU ms", more_is_better=False),
        Metric("import", "ms to import the library", more_is_better=False),
        Metric("names", "ms to import it with names", more_is_better=False),
        # Only Linux tells it of another process.
        Metric("rss", "MiB resident", more_is_better=False, is_common=False),
    ),
    contenders=(
        Contender("signalbot", f"{_HERE}:signalbot", peer="signalbot"),
        Contender(_OURS, f"{_HERE}:ours"),
        Contender(_FOUNDATIONS, f"{_HERE}:foundations"),
        Contender("signal-client", f"{_HERE}:signal_client", peer="signal-client"),
        Contender(
            "signal-cli-rest-api-client", f"{_HERE}:rest_api_client", peer="signal-cli-rest-api-client"
        ),
    ),
    baseline="signalbot",
    subject=_OURS,
    full={"starts": 7, "settle": 300},
    quick={"starts": 3, "settle": 200},
    limit=60.0,
    goals=(
        Goal("start", _OURS, "signalbot", at_most=0.6),
        Goal("import", _OURS, _FOUNDATIONS, at_most=1.15),
        Goal("rss", _OURS, "signalbot", at_most=0.6),
    ),
    cannot={"pysignalclirestapi": "It receives by a call that connects, takes what has come and hangs up."},
    generator=f"{_HERE}:Threshold",
)

"""What trio_signal is compared with, each in its own place at pinned versions. Standard library only."""

from typing import Final

from .environment import Environment
from .peer import Peer, PeerMissing, Prepared, Program, bring
from .programs import PROGRAMS

#: Each has a list of all its packages, with their versions and checksums, beside this file.
_ENVIRONMENTS: Final = (
    "signalbot",
    "signal-client",
    "signal-cli-rest-api-client",
    "pysignalclirestapi",
    "aiohttp",
    "picows",
    "uvicorn",
)

_ALL: Final[tuple[Peer, ...]] = (*map(Environment.named, _ENVIRONMENTS), *PROGRAMS)

PEERS: Final = {peer.name: peer for peer in _ALL}

__all__ = ["PEERS", "Environment", "Peer", "PeerMissing", "Prepared", "Program", "bring"]

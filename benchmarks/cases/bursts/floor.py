"""Bursts with ``send()`` on non-blocking sockets: one write of joined frames for each client."""

from ...contender import Gateway, Measurement, Params
from ...wires import WEBSOCKET, WIRES
from ..broadcast.floor import accept, write_to_all
from ..broadcast.phases import Phases
from . import BURST


def run(gateway: Gateway, params: Params) -> Measurement:
    """Write the frames of each burst at once to one socket after the other."""
    phases, encode = Phases(gateway, params), WIRES[WEBSOCKET].encode
    sockets = accept(gateway.host, params["clients"], phases.attend)
    for part, _ in phases:
        texts = phases.messages[part]
        for start in range(0, len(texts), BURST):
            write_to_all(sockets, b"".join([encode(text) for text in texts[start : start + BURST]]))
        phases.wait()
    for sock in sockets:
        sock.close()
    return phases.measurement()

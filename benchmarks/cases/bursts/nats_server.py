"""Bursts with nats-server, which is a program of its own and also writes together what waits.

Standard library only.
"""

import socket
import time
from typing import Final

from ...contender import Gateway, Measurement, Params
from ...wires import NATS
from ..broadcast.phases import Phases
from ..program import running
from . import BURST

#: Seconds in which nats-server has to listen.
_PATIENCE: Final = 5.0


def run(gateway: Gateway, params: Params, program: tuple[str, ...]) -> Measurement:
    """Publish each burst with one write. The CPU is nats-server's own."""
    port = _free_port(gateway.host)
    with running((*program, "--addr", gateway.host, "--port", str(port))) as server:
        phases = Phases(gateway, params, wire=NATS, cpu=server.cpu)
        with _connected(gateway.host, port) as publisher:
            phases.attend(port)
            for part, _ in phases:
                _publish(publisher, phases.messages[part])
                phases.wait()
    return phases.measurement()


def _publish(publisher: socket.socket, texts: list[bytes]) -> None:
    for start in range(0, len(texts), BURST):
        burst = [b"PUB broadcast %d\r\n%b\r\n" % (len(text), text) for text in texts[start : start + BURST]]
        publisher.sendall(b"".join(burst))


def _connected(host: str, port: int) -> socket.socket:
    """Return a connection of a publisher, as soon as nats-server listens."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            publisher = socket.create_connection((host, port), timeout=_PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            publisher.sendall(b'CONNECT {"verbose":false,"pedantic":false,"name":"publisher"}\r\n')
            return publisher


def _free_port(host: str) -> int:
    """Return a port that was free a moment ago; nats-server cannot be asked for any."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port

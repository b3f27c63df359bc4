"""Broadcasting with ``send()`` on non-blocking sockets: what is left when all else is taken away."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from ...contender import Gateway, Measurement, Params
from ...wires import WEBSOCKET, WIRES
from .phases import Phases

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    # To the one key that the generator's clients send.
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
)


def run(gateway: Gateway, params: Params) -> Measurement:
    """Write one frame to one socket after the other."""
    phases = Phases(gateway, params)
    sockets = accept(gateway.host, params["clients"], phases.attend)
    for part, pause in phases:
        _broadcast(sockets, phases.messages[part], pause)
        phases.wait()
    for sock in sockets:
        sock.close()
    return phases.measurement()


def accept(host: str, clients: int, attend: Callable[[int], None]) -> list[socket.socket]:
    """Serve WebSockets' handshakes while so many clients attend to a port, and return their sockets."""
    with socket.create_server((host, 0), backlog=16) as listener:
        attending = threading.Thread(target=attend, args=(listener.getsockname()[1],))
        attending.start()
        sockets = [_accept(listener) for _ in range(clients)]
        attending.join()
    return sockets


def write_to_all(sockets: list[socket.socket], data: bytes) -> None:
    """Write the same to each, without waiting unless one is full."""
    for sock in sockets:
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            # The socket is full, which is rare: wait for it.
            sock.setblocking(True)
            sock.sendall(data[sent:])
            sock.setblocking(False)


def _accept(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(4096)
    sock.sendall(_SWITCHING)
    sock.setblocking(False)
    return sock


def _broadcast(sockets: list[socket.socket], messages: list[bytes], pause: float) -> None:
    for message in messages:
        write_to_all(sockets, WIRES[WEBSOCKET].encode(message))
        if pause:
            time.sleep(pause)

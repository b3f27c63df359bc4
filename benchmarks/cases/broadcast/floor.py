"""Broadcasting with ``send()`` on non-blocking sockets: what is left when all else is taken away."""

import socket
import threading
import time
from typing import Final

from ...contender import Gateway, Measurement, Params
from .phases import Phases

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    # To the one key that the generator's clients send.
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
)


def run(gateway: Gateway, params: Params) -> Measurement:
    """Write one frame to one socket after the other."""
    clients, phases = params["clients"], Phases(gateway, params)
    with socket.create_server((gateway.host, 0), backlog=16) as listener:
        order = threading.Thread(target=gateway.order, args=("attend", listener.getsockname()[1], clients))
        order.start()
        sockets = [_accept(listener) for _ in range(clients)]
        order.join()
    for part, pause in phases:
        _broadcast(sockets, phases.messages[part], pause)
        phases.wait()
    for sock in sockets:
        sock.close()
    return phases.measurement()


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
        frame = b"\x81\x7e" + len(message).to_bytes(2, "big") + message
        for sock in sockets:
            try:
                sent = sock.send(frame)
            except BlockingIOError:
                sent = 0
            if sent < len(frame):
                # The socket is full, which is rare: wait for it.
                sock.setblocking(True)
                sock.sendall(frame[sent:])
                sock.setblocking(False)
        time.sleep(pause)

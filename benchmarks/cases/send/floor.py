"""Sending with one blocking socket and no HTTP library: what is left when all else is taken away."""

import socket

import msgspec

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing


def run(gateway: Gateway, params: Params) -> Measurement:
    """Write each request in one piece and read its answer."""
    items: list[Item] = []
    warm, count = params["warm"], params["count"]
    watch = Stopwatch()
    with socket.create_connection((gateway.host, gateway.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, (recipient, text) in enumerate(outgoing(warm + count)):
            if number == warm:
                watch.start()
            items.append((_send(sock, recipient, text), recipient, None, text))
        watch.stop()
    return Measurement(watch.figures(count), Work.of(by_conversation(items)))


def _send(sock: socket.socket, recipient: str, text: str) -> int:
    """Return the timestamp that the answer gives."""
    body = msgspec.json.encode({"number": ACCOUNT, "recipients": [recipient], "message": text})
    sock.sendall(
        b"POST /v2/send HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    # The generator writes an answer in one piece, and it is short.
    head, _, answer = sock.recv(4096).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 201 "):
        raise ConnectionError("the send was refused")
    return int(msgspec.json.decode(answer)[0]["timestamp"])

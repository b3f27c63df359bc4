"""Sending to many people over non-blocking sockets in one loop: what the generator can answer."""

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec

from ...contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from ...traffic import ACCOUNT, by_conversation, outgoing_to


def run(gateway: Gateway, params: Params) -> Measurement:
    """Write each request in one piece, on a connection for each person, and read its answer."""
    items: list[Item] = []
    people, warm, watch = params["people"], params["warm"], Stopwatch()
    to_each = outgoing_to(people, warm + params["each"])
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        sockets = [stack.enter_context(_connect(gateway)) for _ in to_each]
        for part in (slice(warm), slice(warm, None)):
            watch.start()
            for sock, messages in zip(sockets, to_each, strict=True):
                sending = _send(sock, messages[part], items)
                next(sending)
                selector.register(sock, selectors.EVENT_READ, sending)
            while selector.get_map():
                for key, _ in selector.select():
                    if next(key.data, None) is None:
                        selector.unregister(key.fileobj)
            watch.stop()
    return Measurement(watch.figures(people * params["each"]), Work.of(by_conversation(items)))


def _connect(gateway: Gateway) -> socket.socket:
    sock = socket.create_connection((gateway.host, gateway.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _send(sock: socket.socket, messages: list[tuple[str, str]], items: list[Item]) -> Iterator[bool]:
    """Yield whenever an answer has to be waited for."""
    for recipient, text in messages:
        body = msgspec.json.encode({"number": ACCOUNT, "recipients": [recipient], "message": text})
        sock.sendall(
            b"POST /v2/send HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        yield True
        # The generator writes an answer in one piece, and it is short.
        head, _, answer = sock.recv(4096).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201 "):
            raise ConnectionError("the send was refused")
        items.append((int(msgspec.json.decode(answer)[0]["timestamp"]), recipient, None, text))

"""Receiving with one blocking socket and trio_signal's decoder: what is left when all else is taken away."""

import socket
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from trio_signal._wire import Frame

from ...contender import Gateway, Item, Measurement, Params
from ...traffic import ACCOUNT
from .orders import Orders, as_it_is

_READ: Final = 64 * 1024

_decode: Final = msgspec.json.Decoder(Frame).decode


def run(gateway: Gateway, params: Params) -> Measurement:
    """Take the messages from the socket."""
    orders = Orders(gateway, params, as_it_is)
    with socket.create_connection((gateway.host, gateway.port)) as sock:
        frames = _frames(sock, _shake_hands(sock))
        for count in orders:
            _take(frames, orders.taken, count)
    return orders.measurement()


def _take(frames: Iterator[bytes], taken: list[Item], count: int) -> None:
    for frame in islice(frames, count):
        envelope = _decode(frame).envelope
        if envelope is None or (data := envelope.data_message) is None:
            raise ValueError("not a message")
        group = data.group_info
        taken.append((data.timestamp, envelope.source_number, group.id if group else None, data.message))


def _shake_hands(sock: socket.socket) -> bytes:
    """Return what came behind the handshake's answer."""
    sock.sendall(
        f"GET /v1/receive/{ACCOUNT} HTTP/1.1\r\nHost: gateway\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _read(sock)
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError("the handshake was refused")
    return rest


def _frames(sock: socket.socket, buffer: bytes) -> Iterator[bytes]:
    """Yield the payloads of unmasked frames of 126 to 65535 bytes, which all of them are here."""
    start = 0
    while True:
        while len(buffer) - start < 4 or len(buffer) < (
            end := start + 4 + int.from_bytes(buffer[start + 2 : start + 4])
        ):
            buffer, start = buffer[start:] + _read(sock), 0
        yield buffer[start + 4 : end]
        start = end


def _read(sock: socket.socket) -> bytes:
    data = sock.recv(_READ)
    if not data:
        raise EOFError("the generator hung up")
    return data

"""What a client sends on its WebSocket: checked, answered where that is due, and looked at no further. Pure.

A client of the hub needs to send pings, pongs and one close frame. Whole pings and pongs are read here, and
as long as nothing else comes a client costs no parser. With the first byte of anything else (a message, a
fragment, a close frame, a frame that has not come whole, nonsense) wsproto takes over, for good, since it
alone knows then where the next frame begins.
"""

from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

# RFC 6455 5.2: the first two bytes of control frames, which a client masks and nobody may split.
_PING: Final = 0x89
_PONG: Final = 0x8A
_MASKED: Final = 0x80
_MOST_CONTROL: Final = 125
_HEAD: Final = 2 + 4

#: The largest message that is taken, in bytes (of a text: characters); none is looked at.
_MAX_MESSAGE: Final = 4096

#: The close code for one that is larger: RFC 6455 7.4.1.
_TOO_LARGE: Final = 1009


class Incoming:
    """Reads one client's side of its WebSocket.

    Attributes:
        ended: whether nothing more is read: the client has closed, or broken the rules.
        broke_rules: whether it sent what must not be sent, or a message that is too large.
    """

    __slots__ = ("_size", "_wsproto", "broke_rules", "ended")

    def __init__(self) -> None:
        self._wsproto: Connection | None = None
        self._size = 0
        self.ended = self.broke_rules = False

    def take(self, data: bytes) -> bytes:
        """Read what has come and return the frames that answer it. Never raises."""
        if self._wsproto is not None:
            return self._parse(self._wsproto, data)
        answers = bytearray()
        rest = _cut_controls(data, answers)
        if rest:
            self._wsproto = Connection(ConnectionType.SERVER)
            answers += self._parse(self._wsproto, rest)
        return bytes(answers)

    def close(self, code: int, reason: str) -> bytes:
        """Return our close frame. From now on nothing is answered; the client's own is waited for."""
        self._wsproto = self._wsproto or Connection(ConnectionType.SERVER)
        return self._wsproto.send(CloseConnection(code, reason))

    def _parse(self, wsproto: Connection, data: bytes) -> bytes:
        answers = b""
        wsproto.receive_data(data)
        for event in wsproto.events():
            if isinstance(event, CloseConnection):
                self.ended = True
                if wsproto.state is ConnectionState.REMOTE_CLOSING:
                    return answers + wsproto.send(event.response())
                # In any other state it is no frame of the client's, but says that the rules were broken.
                self.broke_rules = wsproto.state is not ConnectionState.CLOSED
                return answers
            if wsproto.state is not ConnectionState.OPEN:
                continue
            if isinstance(event, Ping):
                answers += wsproto.send(event.response())
            elif isinstance(event, TextMessage | BytesMessage):
                self._size += len(event.data)
                if self._size > _MAX_MESSAGE:
                    self.ended = self.broke_rules = True
                    words = f"no message may have more than {_MAX_MESSAGE} bytes"
                    return answers + wsproto.send(CloseConnection(_TOO_LARGE, words))
                self._size *= not event.message_finished
        return answers


def _cut_controls(data: bytes, answers: bytearray) -> bytes:
    """Take the whole pings and pongs off the front, and append the answers; return the rest."""
    start = 0
    while len(data) - start >= _HEAD and data[start] in (_PING, _PONG):
        size = data[start + 1] - _MASKED
        end = start + _HEAD + size
        if not 0 <= size <= _MOST_CONTROL or end > len(data):
            break
        if data[start] == _PING:
            payload = _unmasked(data[start + _HEAD : end], data[start + 2 : start + _HEAD])
            answers += bytes((_PONG, size)) + payload
        start = end
    return data[start:]


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

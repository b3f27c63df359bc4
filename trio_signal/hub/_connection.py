"""One client that is connected: what is known of it, and what it is written to by."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol


class Write(Protocol):
    """Writes at once and returns how many bytes were taken.

    Never waits. Raises :exc:`OSError` if nothing was taken, :exc:`BlockingIOError` if that may change.
    """

    def __call__(self, data: bytes, /) -> int:
        """Do so."""
        ...


class Outlet(Protocol):
    """Where a connection's frames go."""

    @property
    def write(self) -> Write:
        """Writes to the client; takes nothing while something is queued."""
        ...

    def keep(self, frames: Sequence[bytes], taken: int) -> bool:
        """Queue the rest of frames of which so many bytes have left; False without room for all of it."""
        ...

    def push(self, frame: bytes) -> bool:
        """Write a frame or queue it; False if there is no room. Never waits, never fails."""
        ...

    def end(self, code: int, reason: str, *, flush: bool = True) -> None:
        """Close the connection soon, with this close code; give up what is queued unless ``flush``."""
        ...

    @property
    def last_received(self) -> float:
        """When the last bytes came from the client, on Trio's clock."""
        ...

    @property
    def queued(self) -> int:
        """How many frames wait for the socket."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How many bytes they have."""
        ...


class CloseCode:
    """WebSocket close codes that the hub uses of itself (documented in ``docs/hub-protocol.md``)."""

    ABUSE: Final = 1008  #: the client sent what no client needs to send
    GOING_DOWN: Final = 1012  #: the hub restarts: come back after ``retry_after``
    TOKEN_EXPIRED: Final = 4001  #: come back with a new token
    TOO_SLOW: Final = 4008  #: come back and recover
    NO_ANSWER: Final = 4009  #: nothing came from the client for too long, not even a pong


class Connection:
    """One client of the hub.

    Attributes:
        id: names it, at random.
        subject: who it is, as its token says.
        remote: its address.
        connected_at: when it came, in milliseconds since the epoch.
        sequence: how many direct messages it was handed; the count of this connection alone.
        is_live: whether it has everything up to the log's head.
        position: up to where it has been handed the log, while it catches up.
        epoch: which numbering its position is of, if it is not certainly ours.
        outlet: where its frames go.
    """

    # There may be thousands.
    __slots__ = (
        "connected_at",
        "epoch",
        "id",
        "is_live",
        "outlet",
        "position",
        "remote",
        "sequence",
        "subject",
    )

    def __init__(
        self,
        outlet: Outlet,
        position: int,
        epoch: str | None,
        *,
        subject: str,
        remote: str,
        connected_at: int,
    ) -> None:
        self.id: Final = secrets.token_hex(8)
        self.subject: Final = subject
        self.remote: Final = remote
        self.connected_at: Final = connected_at
        self.sequence = 0
        self.is_live = False
        self.outlet: Final = outlet
        self.position = position
        self.epoch = epoch

    def __repr__(self) -> str:
        """Show the id."""
        return f"<Connection {self.id}>"


@dataclass(frozen=True, slots=True)
class ConnectionFigures:
    """One connection at one moment.

    Attributes:
        id: names it.
        subject: who it is.
        connected: when it came, in milliseconds since the epoch.
        sequence: the last message of the log that it was handed.
        lag: how many messages it has not taken yet: those after ``sequence``, and what is queued.
        queued: how many frames wait for its socket.
        queued_bytes: how many bytes they have.
        remote: its address.
    """

    id: str
    subject: str
    connected: int
    sequence: int
    lag: int
    queued: int
    queued_bytes: int
    remote: str


def figures_of(connection: Connection, head: int) -> ConnectionFigures:
    """Return the figures of a connection while ``head`` is the last number that anybody has seen."""
    outlet = connection.outlet
    sequence = head if connection.is_live else connection.position
    return ConnectionFigures(
        id=connection.id,
        subject=connection.subject,
        connected=connection.connected_at,
        sequence=sequence,
        lag=max(0, head - sequence) + outlet.queued,
        queued=outlet.queued,
        queued_bytes=outlet.queued_bytes,
        remote=connection.remote,
    )

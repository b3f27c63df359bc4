"""A client at one moment. Pure."""

from dataclasses import dataclass

from ._buffer import BufferStatistics
from ._inbox import InboxStatistics
from ._receiver import ReceiveStatistics
from ._states import ConnectionState


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A client at one moment. All true within ``ping_interval + pong_timeout`` of any failure of the link.

    Attributes:
        state: the connection's state.
        since: when it was entered, on Trio's clock.
        generation: how many attempts to connect there have been in all.
        attempt: how many since the link was last stable; 0 while CONNECTED.
        next_attempt: when the present sleep ends, on Trio's clock; None while there is none.
        last_error: what ended or prevented a connection last.
        last_received: when the last bytes came on the present link, on Trio's clock; None without a link.
        bytes_received: how many have come on the present link.
        buffer: the outgoing buffer and the ledger of all messages.
        in_flight: how many messages the send task holds, ``max_in_flight`` at most.
        settling: how many messages wait beside the queue for evidence that they went out.
        paused_until: when a pause for a rate limit ends, on Trio's clock; None without one.
        inbox: what has arrived and not been taken.
        receiving: what has come in.
    """

    state: ConnectionState
    since: float
    generation: int
    attempt: int
    next_attempt: float | None
    last_error: Exception | None
    last_received: float | None
    bytes_received: int
    buffer: BufferStatistics
    in_flight: int
    settling: int
    paused_until: float | None
    inbox: InboxStatistics
    receiving: ReceiveStatistics

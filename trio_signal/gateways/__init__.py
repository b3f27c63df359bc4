"""The ways to reach Signal, one file each, behind the small protocol below.

The supervisor asks a gateway for a link and keeps it while it lasts; the send task
hands it one message at a time. A gateway decides what answers mean; it never decides
when to try again.
"""

import enum
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .._continuity import Cursor, Gap, GapReason, Position
from .._envelopes import Undecodable
from .._outgoing import Failed, OutgoingMessage, Sent


@dataclass(frozen=True, slots=True)
class SendResult:
    """What one attempt to send came to.

    Attributes:
        outcome: what the message's outcome is, unless it is tried again.
        retry: nothing has left and the fault will pass: try the same message again.
        refused: HTTP 401 or 403: nothing has left, and other credentials are needed.
        rate_limited: Signal wants a pause; the queue waits.
        retry_after: how long the gateway asked us to wait, in seconds, if it did.
        challenge_tokens: what a person must solve, without empty ones.
    """

    outcome: Sent | Failed
    retry: bool = False
    refused: bool = False
    rate_limited: bool = False
    retry_after: float | None = None
    challenge_tokens: tuple[str, ...] = ()


class Note(enum.Enum):
    """Something that a link tells without giving anything to the application."""

    REACHED = "reached"  #: everything up to here has been given
    DUPLICATE = "duplicate"  #: a message came again and was dropped


class Numbered(NamedTuple):
    """What comes over a link of a gateway that numbers its messages and knows what we have missed.

    Attributes:
        item: a frame to be decoded, or what needs no decoding.
        position: the place behind it; None for what has no number.
        time: up to when everything has come with this, in milliseconds since the epoch.
    """

    item: str | bytes | Gap | Undecodable | Note
    position: Position | None
    time: int


class Link(Protocol):
    """An open way for messages to come in."""

    async def probe(self) -> None:
        """Wait until the other side answers; cancelled by the attempt's deadline. A checkpoint.

        If the link ends instead, :meth:`receive` says so, and this waits until it is cancelled.
        """
        ...

    async def receive(self) -> list[str | bytes] | list[Numbered]:
        """Wait for what comes and return all that is there. A checkpoint; cancelling loses nothing.

        Raises:
            LinkLost: the link has ended.
        """
        ...

    async def synchronise(self) -> None:
        """Wait until everything that we have missed was received, or told to be lost. Cancelling is safe.

        If the link ends instead, :meth:`receive` or :meth:`watch` says so, and this waits until it is
        cancelled.
        """
        ...

    async def watch(self) -> None:
        """Watch over the link for as long as it lives; return never. Cancelling is safe.

        Raises:
            LinkLost: it is dead, or delivers nothing any more.
        """
        ...

    async def close(self) -> None:
        """Say goodbye; cancelled by the caller's deadline. A checkpoint."""
        ...

    @property
    def bytes_received(self) -> int:
        """How many bytes have come."""
        ...

    @property
    def last_received(self) -> float:
        """When the last bytes came, on Trio's clock."""
        ...

    @property
    def absence(self) -> tuple[GapReason, float] | None:
        """What kind of gap follows this link's end, and from when on, on Trio's clock.

        None if the gateway keeps what comes meanwhile: the next link gives it, or says that it is lost.
        """
        ...


class Gateway(Protocol):
    """A way to reach Signal."""

    @property
    def phase(self) -> str:
        """What connecting is busy with, to name it if the time for it runs out."""
        ...

    def open_link(self, resume: Cursor | None) -> AbstractAsyncContextManager[Link]:
        """Connect; entering raises what prevented it. No time limit of its own.

        Args:
            resume: how far the application has come, or what waits for it; None at the very start.

        Raises:
            LinkLost: it failed for now.
            GatewayRefused: the credentials were refused.
            PermanentError: it can never succeed like this.
        """
        ...

    async def send(self, message: OutgoingMessage) -> SendResult:
        """Attempt one message. Never raises but when cancelled; then nobody knows what became of it."""
        ...

    @property
    def can_renew_credentials(self) -> bool:
        """Whether there is somebody to ask for other credentials."""
        ...

    async def renew_credentials(self) -> bool:
        """Ask for new credentials; False if none could be had. A checkpoint."""
        ...

    async def aclose(self) -> None:
        """Close what is open between sends. A checkpoint."""
        ...

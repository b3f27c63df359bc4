"""The ways to reach Signal, one file each, behind the small protocol below.

The supervisor asks a gateway for a link and keeps it while it lasts; the send task
hands it one message at a time. A gateway decides what answers mean; it never decides
when to try again.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from .._continuity import GapReason
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


class Link(Protocol):
    """An open way for messages to come in."""

    async def probe(self) -> None:
        """Wait until the other side answers; cancelled by the attempt's deadline. A checkpoint.

        If the link ends instead, :meth:`receive` says so, and this waits until it is cancelled.
        """
        ...

    async def receive(self) -> list[str | bytes]:
        """Wait for frames and return all that are there. A checkpoint; cancelling loses none.

        Raises:
            LinkLost: the link has ended.
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
    def absence(self) -> tuple[GapReason, float]:
        """What kind of gap follows this link's end, and from when on, on Trio's clock."""
        ...


class Gateway(Protocol):
    """A way to reach Signal.

    Attributes:
        phase: what connecting is busy with, to name it if the time for it runs out.
    """

    phase: str

    def open_link(self) -> AbstractAsyncContextManager[Link]:
        """Connect; entering raises what prevented it. No time limit of its own.

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

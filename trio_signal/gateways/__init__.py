"""The ways to reach Signal, one file each, behind the small protocol below.

The supervisor asks a gateway for a link and keeps it while it lasts; the send task
hands it one message at a time. A gateway decides what answers mean; it never decides
when to try again.
"""

import enum
import math
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from .._continuity import Cursor, Gap, GapReason, Position
from .._envelopes import Undecodable
from .._operations import Operation, R_co
from .._outcomes import Failed, Sent
from .._outgoing import OutgoingMessage
from ._turn import Turn


class SendResult(msgspec.Struct, frozen=True):
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


class Absence(NamedTuple):
    """What is missed once a link has ended.

    Attributes:
        reason: what kind of gap it is.
        since: from when on, on Trio's clock.
        lasts: for how long from then on messages may be lost, in seconds; 0 where none are, infinity where
            all are that come before the next link.
    """

    reason: GapReason
    since: float
    lasts: float = math.inf


class Download(Protocol):
    """A file that is coming in."""

    @property
    def size(self) -> int | None:
        """How many bytes it will be, where the gateway tells."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give its bytes, piece by piece. Each step is a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class AttachmentRef:
    """A file that came with a message.

    Attributes:
        id: what the gateway calls it.
        place: whom to ask for on signal-cli: the group or the person that it came from, as a recipient.
    """

    id: str
    place: str


class Link(Protocol):
    """An open way for messages to come in."""

    @property
    def patience(self) -> float:
        """How much longer than an attempt's time limit :meth:`probe` may take, in seconds."""
        ...

    async def probe(self) -> None:
        """Wait until the other side answers; cancelled by the attempt's deadline. A checkpoint.

        If the link ends instead, :meth:`receive` says so, and this waits until it is cancelled.
        """
        ...

    def receive(self) -> Coroutine[Any, Any, Sequence[str | bytes | Undecodable | Numbered]]:
        """Wait for what comes and return all that is there. A checkpoint; cancelling loses nothing.

        Frames are given as they came, and what was too large to keep as what it is.

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

    async def heard(self, since: float) -> None:
        """Wait until bytes have come since a moment of Trio's clock, if only a sign of life. A checkpoint.

        What came by then has been given, and :meth:`receive` was called again. Cancelling is safe. If the
        link ends instead, this waits until it is cancelled.
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
    def absence(self) -> Absence | None:
        """What is missed once this link has ended, as far as is known by now.

        None if the gateway numbers messages: the next link gives what was missed, or says that it is lost.
        """
        ...


class Gateway(Protocol):
    """A way to reach Signal."""

    @property
    def phase(self) -> str:
        """What connecting is busy with, to name it if the time for it runs out."""
        ...

    @property
    def allows_overlap(self) -> bool:
        """Whether each of several links open at once gets everything, so that the next may be made first."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether many clients may have it, who must not come back all at once."""
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

    @property
    def lost_answers(self) -> int:
        """How many requests ended without an answer of its own, though they may have arrived."""
        ...

    async def ask_health(self) -> None:
        """Ask, at the cost of next to nothing, whether it is there. A checkpoint; cancelling is safe.

        It takes 5 seconds at most.

        Raises:
            LinkLost: there was no answer, or only that of a proxy.
        """
        ...

    @property
    def send_limit(self) -> float:
        """How long :meth:`send` may take, in seconds; whoever calls it sees to that."""
        ...

    def send(self, message: OutgoingMessage) -> Coroutine[Any, Any, SendResult]:
        """Attempt one message. Never raises but when cancelled; then nobody knows what became of it.

        It has no time limit of its own but for what comes before the request, which ends before
        :attr:`send_limit` has passed: who is cancelled then has nearly always written it.
        """
        ...

    def turn(self) -> Turn:
        """Return what is taken before :meth:`send` and released after it.

        It has only so many places where the gateway bears only so many requests at once.
        """
        ...

    async def operate(self, operation: Operation[R_co], *, account: str | None, limit: float) -> R_co:
        """Carry out an operation, once. A checkpoint; cancelled, nobody knows whether it was done.

        Args:
            operation: what to do.
            account: for whom; None where the operation needs no account.
            limit: how long it may take, in seconds.

        Raises:
            RequestFailed: it failed; its certainty says whether it may have been done.
            Unsupported: this gateway cannot do it.
        """
        ...

    async def call(self, what: str, body: object, *, account: str | None, limit: float) -> Any:
        """Ask for anything in the gateway's own words. As :meth:`operate`.

        Args:
            what: ``"METHOD /path"``, or the name of a JSON-RPC method.
            body: the JSON body, or the parameters; None for none.
            account: put among the parameters of a JSON-RPC method that do not name another.
            limit: how long it may take, in seconds.

        Returns:
            The JSON that came, decoded; None for an empty answer, bytes for what is no JSON.
        """
        ...

    def download(
        self, ref: AttachmentRef, *, account: str | None, limit: float
    ) -> AbstractAsyncContextManager[Download]:
        """Open a file that came with a message, on a connection of its own. As :meth:`operate`.

        Args:
            ref: which file.
            account: whose message it came with.
            limit: how long the gateway may say nothing, in seconds.
        """
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

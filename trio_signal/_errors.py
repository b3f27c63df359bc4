"""What can go wrong, sorted by what the caller can do about it.

::

    SignalError
    ├── ConfigurationError      an argument is wrong: change the call (also a ValueError)
    ├── InvalidTransition       a state machine was asked for an illegal change (also a ValueError)
    ├── BufferFull              overflow="error" and no room: wait, or drop something yourself
    ├── ClientClosed            the client's ``async with`` has been left: open a new one
    ├── ObserverLagged          a reader of state changes fell too far behind: read faster
    ├── TooManyUnacknowledged   acknowledge what was taken before taking more
    ├── MessageDropped          what ``OutgoingMessage.wait()`` raises for ``Dropped``
    ├── SendFailed              what ``OutgoingMessage.wait()`` raises for ``Failed``
    ├── StoreError              the store on disk: the message says what to do; nothing was overwritten
    │   ├── StoreInUse          another process, or another client of this one, has it open
    │   ├── StoreDamaged        it cannot be read: move it away, or bring a copy back
    │   ├── StoreTooNew         a newer trio_signal has written it: upgrade
    │   ├── StoreForeign        it is another account's, or another program's: name another file
    │   └── StoreFull           the disk is full: make room and call again
    ├── RecordedError           an error that an earlier process met, as its store has kept it
    └── GatewayError            the gateway, or the way to it
        ├── LinkLost            the connection ended or could not be made: it is retried
        ├── GatewayRefused      HTTP 401 or 403: give other credentials
        ├── AnswerError         the gateway answered a send with an error
        ├── RequestFailed       an operation failed; ``certainty`` says whether it may have been done
        └── PermanentError      retrying cannot help: change what the message says
            ├── WrongGatewayMode
            ├── UnknownAccount
            ├── Unsupported     this gateway cannot do that: the message names one that can
            └── CertificateError

The client itself raises only what the caller can do something about. Transient
trouble is retried and shows up in ``state_changes()`` and ``statistics()``.
"""

import enum
import ssl
from dataclasses import dataclass
from typing import Final, cast


class SignalError(Exception):
    """The root of everything that trio_signal raises."""


class ConfigurationError(SignalError, ValueError):
    """An argument is wrong. The message names it and says what to pass instead."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}")
        self.argument = argument


class InvalidTransition(SignalError, ValueError):
    """An illegal change of state was asked for; nothing has changed."""


class BufferFull(SignalError):
    """The outgoing buffer has no room and its overflow policy is ``"error"``."""


class ClientClosed(SignalError):
    """The client has been closed, so it takes no more messages."""

    def __init__(self, what: str = "the client has been closed and takes no more messages") -> None:
        super().__init__(what)


class ObserverLagged(SignalError):
    """A reader of state changes fell behind so far that changes were discarded.

    Attributes:
        missed: how many changes this reader will never see. Its next read
            continues with the oldest change that is still kept.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(f"{missed} state changes were discarded before they were read; read them faster")
        self.missed = missed


class TooManyUnacknowledged(SignalError):
    """Too many events were taken and not acknowledged; what was to be taken next waits.

    Attributes:
        count: how many have been taken since the oldest that is not acknowledged, itself included.
    """

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} events have been taken since the oldest one that is not acknowledged; "
            "acknowledge it, or open the client with a larger inbox_size or inbox_bytes"
        )
        self.count = count


class StoreError(SignalError):
    """The store on disk cannot be used, or could not be written. What it held is as it was."""


class StoreInUse(StoreError):
    """The store is open already, in another process or in another client of this one."""


class StoreDamaged(StoreError):
    """The store cannot be read. Nothing of it was changed."""


class StoreTooNew(StoreError):
    """The store was written by a newer version."""


class StoreForeign(StoreError):
    """The store belongs to another account, or the file to another program."""


class StoreFull(StoreError):
    """The disk has no room. What was accepted before stays."""


class Reason(enum.StrEnum):
    """Why the state changed."""

    START = "start"  #: the client's first attempt
    RETRY = "retry"  #: another attempt, after a failed one or a loss
    LINK_UP = "link_up"  #: the connection stands and has answered a ping
    SYNCHRONISED = "synchronised"  #: what was missed is in the inbox, or reported there as a gap
    ATTEMPT_FAILED = "attempt_failed"  #: no connection could be made
    REFUSED = "refused"  #: HTTP 401 or 403
    CLOSED_BY_GATEWAY = "closed_by_gateway"  #: a close frame came
    CONNECTION_LOST = "connection_lost"  #: the connection ended without a close frame
    NO_ANSWER = "no_answer"  #: nothing came, not even a pong
    GATEWAY_STALLED = (
        "gateway_stalled"  #: pongs came, but no ping of the gateway's own, no heartbeat of the hub's
    )
    HOLE = "hole"  #: a numbered message did not come: the hub is asked for it again
    TOO_SLOW = "too_slow"  #: the hub had more for us than it queues: the rest is fetched again
    TOKEN_EXPIRED = "token_expired"  # noqa: S105  #: the hub wants a new token
    GOING_DOWN = "going_down"  #: the hub shuts down and said when to come back
    PERMANENT = "permanent"  #: retrying cannot help
    CLIENT_CLOSED = "client_closed"  #: the client's scope was left


class GatewayError(SignalError):
    """Something about the gateway or the way to it."""


class LinkLost(GatewayError):
    """The connection to the gateway ended or could not be made.

    Attributes:
        reason: what kind of end it was.
        status: the HTTP status that refused the connection, if one did.
        retry_after: what the gateway asked us to wait, in seconds.
        close_code: the WebSocket close code, if there was one.
        nobody_listens: the host is there and refused the connection, since no program listens at that place.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason = Reason.ATTEMPT_FAILED,
        status: int | None = None,
        retry_after: float | None = None,
        close_code: int | None = None,
        nobody_listens: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.close_code = close_code
        self.nobody_listens = nobody_listens


class GatewayRefused(GatewayError):
    """The gateway, or a proxy before it, refused our credentials (HTTP 401 or 403).

    Attributes:
        status: 401 or 403.
        retry_after: what the other side asked us to wait, in seconds.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Certainty(enum.StrEnum):
    """Whether a failed message may have gone out all the same."""

    NOT_SENT = "not_sent"  #: nobody got it: sending it again is safe
    UNKNOWN = "unknown"  #: it may have been delivered: sending it again may repeat it


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One member of a group that a message, sent to the others, did not reach.

    Attributes:
        recipient: the number, or else the UUID or username.
        reason: signal-cli's word for it, such as ``"UNREGISTERED_FAILURE"``.
        retry_after: after how long Signal would take it, in seconds, where it said so.
        challenge_token: what a person must solve first, where Signal wants that.
    """

    recipient: str
    reason: str
    retry_after: float | None = None
    challenge_token: str | None = None


class RecordedError(SignalError):
    """An error that an earlier process met, as the store has kept it.

    Attributes:
        kind: the name of its class there, such as ``"AnswerError"``.
        failed: whom the message did not reach and why, where the gateway told.
    """

    def __init__(self, text: str, kind: str, *, failed: tuple[FailedRecipient, ...] = ()) -> None:
        super().__init__(text)
        self.kind = kind
        self.failed = failed


class AnswerError(GatewayError):
    """The gateway answered a send with an error.

    Attributes:
        status: the HTTP status, None where no whole answer came.
        code: signal-cli's JSON-RPC error code, where it gave one.
        text: the gateway's own words, shortened to 500 characters.
        challenge_tokens: what to solve before sending again, empty for a plain limit.
        failed: whom it did not reach and why, where the gateway told.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | None = None,
        text: str = "",
        challenge_tokens: tuple[str, ...] = (),
        failed: tuple[FailedRecipient, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.text = text
        self.challenge_tokens = challenge_tokens
        self.failed = failed


class RequestFailed(GatewayError):
    """An operation failed; it was not tried again.

    Attributes:
        error: what went wrong: an :class:`AnswerError` with the gateway's words, or a :class:`LinkLost`.
        certainty: a :class:`Certainty`; ``"not_sent"`` means that nothing was done, ``"unknown"`` that it
            may have been.
    """

    def __init__(self, error: Exception, certainty: Certainty) -> None:
        hint = "nothing was done" if certainty is Certainty.NOT_SENT else "whether it was done is unknown"
        super().__init__(f"{error} ({hint})")
        self.error = error
        self.certainty = certainty


class PermanentError(GatewayError):
    """Trying again cannot help. The message says what to change."""


class WrongGatewayMode(PermanentError):
    """The gateway runs in a mode that cannot deliver messages over a WebSocket."""


class UnknownAccount(PermanentError):
    """The gateway does not have this account."""


class Unsupported(PermanentError):
    """The gateway that we talk to cannot do this. The message names one that can."""


class CertificateError(PermanentError):
    """The gateway's TLS certificate does not verify."""


class Remedy(enum.Enum):
    """What to do about an error."""

    RETRY = "retry"
    RENEW_CREDENTIALS = "renew_credentials"
    GIVE_UP = "give_up"


#: HTTP statuses that a later attempt may not meet (contract C6).
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSED_STATUSES: Final = frozenset({401, 403})


def remedy_for_status(status: int) -> Remedy:
    """Say what to do about an HTTP status that is not the expected one.

    A status of neither list (a 404 from a wrong base path, a redirect, the 200
    with which a gateway in normal mode answers a WebSocket handshake) will be
    the same next time.
    """
    if status in REFUSED_STATUSES:
        return Remedy.RENEW_CREDENTIALS
    return Remedy.RETRY if status in TRANSIENT_STATUSES or status >= 500 else Remedy.GIVE_UP


def remedy_for(error: BaseException) -> Remedy:
    """Sort an error that ended or prevented a connection (contract C6).

    Pure: looks at the error and at what caused it, nothing else. What is not
    known to be hopeless is retried, since the cost of a needless attempt is
    small and that of giving up a working account is not.
    """
    for link in _chain(error):
        if isinstance(link, GatewayRefused):
            return Remedy.RENEW_CREDENTIALS
        if isinstance(link, PermanentError | ssl.SSLCertVerificationError | ConfigurationError):
            return Remedy.GIVE_UP
        if isinstance(link, LinkLost) and link.status is not None:
            return remedy_for_status(link.status)
    return Remedy.RETRY


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, outermost first, but none that was hidden by ``from None``."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


def told(error: Exception) -> Exception:
    """Pick from an error, perhaps a group of several, the one that says most to whoever reconnects."""
    if not isinstance(error, ExceptionGroup):
        return error
    leaves = [told(leaf) for leaf in cast("ExceptionGroup[Exception]", error).exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, GatewayError)), leaves[0])


def _is_wrapped(error: BaseException, other: BaseException | None) -> bool:
    """Say whether the other is a group of nothing but this error: then each would keep the other alive."""
    while isinstance(other, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", other)
        other = group.exceptions[0] if len(group.exceptions) == 1 else None
    return other is error


def forget_frames(error: BaseException, *, handled: BaseException | None) -> None:
    """Take from an error, and from all that is behind it, the frames that it came through.

    Whoever keeps the error would keep with them whatever was there: of a connection, all that it had. Nor
    does the error lead to itself any more, as it does where it was raised out of a group of nothing else.

    Args:
        error: what is kept.
        handled: what was being handled already before it was raised, since Trio may be run in an ``except``
            block. It is somebody else's and stays as it is, and is the context of none of them any more.
    """
    todo: list[BaseException | None] = [error]
    seen = {id(handled)}
    while todo:
        if (each := todo.pop()) is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        if each.__context__ is handled or _is_wrapped(each, each.__context__):
            each.__context__ = None
        if _is_wrapped(each, each.__cause__):
            each.__cause__ = None
        todo += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions

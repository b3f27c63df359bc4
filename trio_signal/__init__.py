"""Keep a Signal messenger account's traffic alive across network failures.

The public names, nothing else. Start with :func:`open_signal_client`.
"""

from ._attachments import OutgoingAttachment
from ._buffer import BufferStatistics, MessageBuffer
from ._client import ClientStatistics, SignalClient, open_signal_client
from ._continuity import Cursor, Gap, GapReason
from ._envelopes import MessageKind, ReceivedMessage, Undecodable
from ._errors import (
    AnswerError,
    BufferFull,
    CertificateError,
    ClientClosed,
    ConfigurationError,
    GatewayError,
    GatewayRefused,
    InvalidTransition,
    LinkLost,
    ObserverLagged,
    PermanentError,
    Reason,
    SignalError,
    TooManyUnacknowledged,
    UnknownAccount,
    WrongGatewayMode,
)
from ._inbox import ChallengeRequired, InboxStatistics
from ._outgoing import (
    Certainty,
    Dropped,
    DropReason,
    Failed,
    FailedRecipient,
    MessageDropped,
    Outcome,
    OutgoingMessage,
    OutgoingStatistics,
    Quote,
    SendFailed,
    Sent,
)
from ._ratelimit import RateLimit
from ._receiver import ReceiveStatistics
from ._states import VALID_TRANSITIONS, Backoff, ConnectionState, ReconnectionManager
from ._status import StateChange, StateChanges
from ._streams import EventStream, MessageStream

__version__ = "0.1.0"

__all__ = [
    "VALID_TRANSITIONS",
    "AnswerError",
    "Backoff",
    "BufferFull",
    "BufferStatistics",
    "Certainty",
    "CertificateError",
    "ChallengeRequired",
    "ClientClosed",
    "ClientStatistics",
    "ConfigurationError",
    "ConnectionState",
    "Cursor",
    "DropReason",
    "Dropped",
    "EventStream",
    "Failed",
    "FailedRecipient",
    "Gap",
    "GapReason",
    "GatewayError",
    "GatewayRefused",
    "InboxStatistics",
    "InvalidTransition",
    "LinkLost",
    "MessageBuffer",
    "MessageDropped",
    "MessageKind",
    "MessageStream",
    "ObserverLagged",
    "Outcome",
    "OutgoingAttachment",
    "OutgoingMessage",
    "OutgoingStatistics",
    "PermanentError",
    "Quote",
    "RateLimit",
    "Reason",
    "ReceiveStatistics",
    "ReceivedMessage",
    "ReconnectionManager",
    "SendFailed",
    "Sent",
    "SignalClient",
    "SignalError",
    "StateChange",
    "StateChanges",
    "TooManyUnacknowledged",
    "Undecodable",
    "UnknownAccount",
    "WrongGatewayMode",
    "open_signal_client",
]

"""Keep a Signal messenger account's traffic alive across network failures.

The public names, nothing else. Start with :func:`open_signal_client`.
"""

from ._attachments import OutgoingAttachment
from ._buffer import BufferStatistics, MessageBuffer
from ._client import SignalClient
from ._contents import LinkPreview, Mention, Quote, Reaction, RemoteDelete, Target, Text
from ._continuity import Cursor, Gap, GapReason
from ._envelopes import MessageKind, ReceivedMessage, Undecodable
from ._errors import (
    AnswerError,
    BufferFull,
    Certainty,
    CertificateError,
    ClientClosed,
    ConfigurationError,
    FailedRecipient,
    GatewayError,
    GatewayRefused,
    InvalidTransition,
    LinkLost,
    ObserverLagged,
    PermanentError,
    Reason,
    RecordedError,
    RequestFailed,
    SignalError,
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreInUse,
    StoreTooNew,
    TooManyUnacknowledged,
    UnknownAccount,
    Unsupported,
    WrongGatewayMode,
)
from ._inbox import ChallengeRequired, InboxStatistics, MessageSettled
from ._linking import link_device
from ._opening import open_signal_client
from ._operations import Contact, Group, GroupPermissions
from ._outcomes import (
    Dropped,
    DropReason,
    Failed,
    MessageDropped,
    Outcome,
    OutgoingStatistics,
    SendFailed,
    Sent,
)
from ._outgoing import OutgoingMessage
from ._ratelimit import RateLimit
from ._receiver import ReceiveStatistics
from ._states import VALID_TRANSITIONS, Backoff, ConnectionState, ReconnectionManager
from ._statistics import ClientStatistics
from ._status import StateChange, StateChanges
from ._streams import EventStream, MessageStream
from ._wire import Attachment
from .store import Store

__version__ = "0.1.0"

__all__ = [
    "VALID_TRANSITIONS",
    "AnswerError",
    "Attachment",
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
    "Contact",
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
    "Group",
    "GroupPermissions",
    "InboxStatistics",
    "InvalidTransition",
    "LinkLost",
    "LinkPreview",
    "Mention",
    "MessageBuffer",
    "MessageDropped",
    "MessageKind",
    "MessageSettled",
    "MessageStream",
    "ObserverLagged",
    "Outcome",
    "OutgoingAttachment",
    "OutgoingMessage",
    "OutgoingStatistics",
    "PermanentError",
    "Quote",
    "RateLimit",
    "Reaction",
    "Reason",
    "ReceiveStatistics",
    "ReceivedMessage",
    "ReconnectionManager",
    "RecordedError",
    "RemoteDelete",
    "RequestFailed",
    "SendFailed",
    "Sent",
    "SignalClient",
    "SignalError",
    "StateChange",
    "StateChanges",
    "Store",
    "StoreDamaged",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreInUse",
    "StoreTooNew",
    "Target",
    "Text",
    "TooManyUnacknowledged",
    "Undecodable",
    "UnknownAccount",
    "Unsupported",
    "WrongGatewayMode",
    "link_device",
    "open_signal_client",
]

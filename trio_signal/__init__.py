"""Keep a Signal messenger account's traffic alive across network failures.

The public names, nothing else. Start with :func:`open_signal_client`.

What stands behind a name is loaded when the name is first used, so that nobody pays for what is not used.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
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
    from ._events import ChallengeRequired, MessageSettled
    from ._httpx_transport import GatewayTransport
    from ._inbox import EventStream, InboxStatistics
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
    from ._streams import MessageStream
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
    "GatewayTransport",
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

#: Where each name comes from. The imports above say the same to type checkers.
_MODULES: typing.Final = {
    "OutgoingAttachment": "_attachments",
    "BufferStatistics": "_buffer",
    "MessageBuffer": "_buffer",
    "SignalClient": "_client",
    "LinkPreview": "_contents",
    "Mention": "_contents",
    "Quote": "_contents",
    "Reaction": "_contents",
    "RemoteDelete": "_contents",
    "Target": "_contents",
    "Text": "_contents",
    "Cursor": "_continuity",
    "Gap": "_continuity",
    "GapReason": "_continuity",
    "MessageKind": "_envelopes",
    "ReceivedMessage": "_envelopes",
    "Undecodable": "_envelopes",
    "AnswerError": "_errors",
    "BufferFull": "_errors",
    "Certainty": "_errors",
    "CertificateError": "_errors",
    "ClientClosed": "_errors",
    "ConfigurationError": "_errors",
    "FailedRecipient": "_errors",
    "GatewayError": "_errors",
    "GatewayRefused": "_errors",
    "InvalidTransition": "_errors",
    "LinkLost": "_errors",
    "ObserverLagged": "_errors",
    "PermanentError": "_errors",
    "Reason": "_errors",
    "RecordedError": "_errors",
    "RequestFailed": "_errors",
    "SignalError": "_errors",
    "StoreDamaged": "_errors",
    "StoreError": "_errors",
    "StoreForeign": "_errors",
    "StoreFull": "_errors",
    "StoreInUse": "_errors",
    "StoreTooNew": "_errors",
    "TooManyUnacknowledged": "_errors",
    "UnknownAccount": "_errors",
    "Unsupported": "_errors",
    "WrongGatewayMode": "_errors",
    "GatewayTransport": "_httpx_transport",
    "ChallengeRequired": "_inbox",
    "InboxStatistics": "_inbox",
    "MessageSettled": "_inbox",
    "link_device": "_linking",
    "open_signal_client": "_opening",
    "Contact": "_operations",
    "Group": "_operations",
    "GroupPermissions": "_operations",
    "DropReason": "_outcomes",
    "Dropped": "_outcomes",
    "Failed": "_outcomes",
    "MessageDropped": "_outcomes",
    "Outcome": "_outcomes",
    "OutgoingStatistics": "_outcomes",
    "SendFailed": "_outcomes",
    "Sent": "_outcomes",
    "OutgoingMessage": "_outgoing",
    "RateLimit": "_ratelimit",
    "ReceiveStatistics": "_receiver",
    "Backoff": "_states",
    "ConnectionState": "_states",
    "ReconnectionManager": "_states",
    "VALID_TRANSITIONS": "_states",
    "ClientStatistics": "_statistics",
    "StateChange": "_status",
    "StateChanges": "_status",
    "EventStream": "_streams",
    "MessageStream": "_streams",
    "Attachment": "_wire",
    "Store": "store",
}

# A type checker would take any name for one of ours if it saw this.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load what a public name stands for, once."""
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f".{module}", __name__), name)
        return value


def __dir__() -> list[str]:
    """List the names that are there, loaded or not."""
    return sorted({*globals(), *__all__})

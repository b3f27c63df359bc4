"""Broadcast and recovery for many clients of one Signal account (extra ``[hub]``).

::

    async with open_signal_client("http://127.0.0.1:8080", "+15550100") as signal:
        async with trio.open_nursery() as nursery:
            hub = await nursery.start(serve_hub, signal)
            print(hub.url)

The wire format stands in ``docs/hub-protocol.md``.
"""

from ._hub import Hub, HubLimits
from ._pages import Hole, LogEntry, Page
from .auth import Authenticator, Identity, Tickets, Unauthorized, make_token, read_key_file
from .connections import CloseCode, Connection, ConnectionFigures, ConnectionManager, UnknownConnection
from .log import LogStatistics, MessageLog
from .server import serve_hub

__all__ = [
    "Authenticator",
    "CloseCode",
    "Connection",
    "ConnectionFigures",
    "ConnectionManager",
    "Hole",
    "Hub",
    "HubLimits",
    "Identity",
    "LogEntry",
    "LogStatistics",
    "MessageLog",
    "Page",
    "Tickets",
    "Unauthorized",
    "UnknownConnection",
    "make_token",
    "read_key_file",
    "serve_hub",
]

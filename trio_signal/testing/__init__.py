"""Fake gateways for tests of bots and of this library: real bytes, every fault, no real time.

::

    from trio_signal import open_signal_client
    from trio_signal.testing import open_fake_gateway

    async def test_my_bot(autojump_clock):
        async with open_fake_gateway(port=None) as gateway:
            async with open_signal_client(gateway.url, gateway.account, connect=gateway.connect) as signal:
                await gateway.wait_connected()
                gateway.deliver(text="hello")
                ...

`FakeGateway` behaves as the real gateway was measured to behave: signal-cli-rest-api, or with
``kind="signal-cli"`` signal-cli's own daemon; its methods make the faults. Answers for
`FakeGateway.script_send` are made with the functions `ok`, `hang`, `lost`, `rate_limited` and so on; messages
of every kind with those of `trio_signal.testing.envelopes`. `open_fault_proxy` does harm to the bytes between
any client and any gateway.
"""

from . import envelopes
from ._account_state import contact, group
from ._answers import (
    SendAnswer,
    cut_body,
    daemon_down,
    endless,
    error,
    garbage,
    hang,
    lost,
    ok,
    partial,
    rate_limited,
    raw,
    reply,
    rpc_error,
    rpc_result,
    slow,
)
from ._chunks import chunk
from ._frames import close_frame, fragmented, server_frame
from ._gateway import FakeGateway
from ._listener import MemoryListener
from ._opening import START_TIME, open_fake_gateway
from ._proxy import FaultProxy, open_fault_proxy
from ._records import HttpRequest, LedgerEntry, SendRequest, Statistics
from ._socket import ReceiveSocket
from ._streams import MemoryStream, memory_connection

__all__ = [
    "START_TIME",
    "FakeGateway",
    "FaultProxy",
    "HttpRequest",
    "LedgerEntry",
    "MemoryListener",
    "MemoryStream",
    "ReceiveSocket",
    "SendAnswer",
    "SendRequest",
    "Statistics",
    "chunk",
    "close_frame",
    "contact",
    "cut_body",
    "daemon_down",
    "endless",
    "envelopes",
    "error",
    "fragmented",
    "garbage",
    "group",
    "hang",
    "lost",
    "memory_connection",
    "ok",
    "open_fake_gateway",
    "open_fault_proxy",
    "partial",
    "rate_limited",
    "raw",
    "reply",
    "rpc_error",
    "rpc_result",
    "server_frame",
    "slow",
]

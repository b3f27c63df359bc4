"""How a fake gateway is opened."""

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import trio

from ._config import Config, GatewayKind, ReceiveMode
from ._core import Core
from ._door import Door, lone_exception
from ._gateway import FakeGateway
from ._serve import serve

START_TIME = 1_795_302_674.0
"""When a fake gateway's clock starts, in seconds since the epoch: that of the recordings."""


_VERSIONS: Mapping[GatewayKind, str] = {"rest": "0.100", "signal-cli": "0.14.9"}


@asynccontextmanager
async def open_fake_gateway(
    account: str = "+15550001",
    *,
    kind: GatewayKind = "rest",
    version: str | None = None,
    receive_mode: ReceiveMode = "on-connection",
    accounts: Iterable[str] | None = None,
    mode: str = "json-rpc",
    host: str = "127.0.0.1",
    port: int | None = 0,
    ssl_context: ssl.SSLContext | None = None,
    base_path: str = "",
    answer_delay: float = 0.0,
    ping_period: float = 54.0,
    keep_alive: float = 15.0,
    backlog_spacing: float = 0.0,
    lose_bursts: bool = False,
    hide: Iterable[str] = (),
    require_header: tuple[str, str] | None = None,
    start_time: float = START_TIME,
) -> AsyncGenerator[FakeGateway]:
    """Run a fake signal-cli-rest-api, or a fake signal-cli, for the length of an ``async with``.

    It uses Trio's clock only, so that a test under pytest-trio's ``autojump_clock`` needs no real time and
    gets the same timestamps each time. Leaving the context closes everything at once.

    Under a virtual clock send what is larger than about 100 kB through `FakeGateway.connect`: TCP takes real
    time for it, in which the clock jumps and deadlines pass.

    Args:
        account: the number that `FakeGateway.deliver` delivers to.
        kind: ``"rest"``, or ``"signal-cli"`` for signal-cli's own daemon: JSON-RPC and Server-Sent Events.
        version: what the gateway says; default ``0.100``, of signal-cli ``0.14.9``. Up to ``0.100`` /v2/send
            answers an object, from ``0.101`` on an array. Up to ``0.14.3`` signal-cli holds the headers of an
            event stream back until there is something to write, from ``0.14.4`` on it answers a foreign Host
            header with 421.
        receive_mode: of signal-cli: whether it fetches messages while nobody listens, and loses them
            (``"on-start"``), or leaves them on Signal's server (the others, which are alike over HTTP).
        accounts: what the gateway lists, and who may send; default: ``account`` alone.
        mode: what /v1/about says; in any mode but ``"json-rpc"`` the receive path answers 200 with a list, no
            WebSocket.
        host: the address to listen on: an IP address, not a name, since looking that up takes a thread and
            real time.
        port: the TCP port, 0 for any; None for memory only, reached through `FakeGateway.connect`.
        ssl_context: serve TLS with it, in memory too.
        base_path: a path in front of all others, such as ``"/signal"``.
        answer_delay: seconds that signal-cli takes for a send.
        ping_period: seconds between the REST gateway's pings on each receive socket.
        keep_alive: seconds between signal-cli's comments on each event stream.
        backlog_spacing: seconds between messages that had to wait, when signal-cli delivers them at last.
        lose_bursts: lose what the real gateway loses: messages that come while a writer is busy (section 4 of
            the measurements), and those that come between the 101 and the registering of the consumer; and
            have one client that does not read stop delivery to all.
        hide: paths that a proxy in front hides: 404, or the status that a mapping gives.
        require_header: name and value of a header without which everything is answered with 401.
        start_time: the gateway's wall clock at the start, in seconds since the epoch.

    Raises:
        OSError: it cannot listen there.
        ValueError: ``base_path`` does not start with a slash, or ends with one; or ``lose_bursts`` for
            signal-cli, which loses none.
    """
    if base_path and (not base_path.startswith("/") or base_path.endswith("/")):
        raise ValueError(f"base_path must look like '/signal', not {base_path!r}")
    if lose_bursts and kind == "signal-cli":
        raise ValueError("signal-cli loses no bursts: lose_bursts is for the REST gateway")
    config = Config(
        kind=kind,
        account=account,
        accounts=(account,) if accounts is None else tuple(accounts),
        version=_VERSIONS[kind] if version is None else version,
        mode=mode,
        receive_mode=receive_mode,
        host=host,
        base_path=base_path,
        answer_delay=answer_delay,
        ping_period=ping_period,
        keep_alive=keep_alive,
        backlog_spacing=backlog_spacing,
        lose_bursts=lose_bursts,
        hide=_hidden(hide),
        require_header=require_header,
        ssl_context=ssl_context,
        start_time=start_time,
    )
    async with lone_exception(), trio.open_nursery() as nursery:
        core = Core(config, nursery)
        core.door = Door(partial(serve, core), nursery, host=host, port=port)
        core.door.open()
        try:
            yield FakeGateway(core, host)
        finally:
            core.door.shut()
            core.end_all()
            nursery.cancel_scope.cancel()


def _hidden(paths: Iterable[str]) -> dict[str, int]:
    if isinstance(paths, Mapping):
        return dict(cast(Mapping[str, int], paths))
    return dict.fromkeys(paths, 404)

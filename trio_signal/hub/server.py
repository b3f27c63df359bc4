"""``serve_hub()``: one port, behind it the log and everybody who is connected to it.

::

    serve_hub                               for nursery.start(); gives a Hub
     ├─ pump           client's events -> number, store, hand out: one synchronous step each
     ├─ offer          with a store on disk: hands out what has come to the disk
     ├─ status board   history and rates
     ├─ heartbeats     tells the head, drops who is silent
     ├─ turns          lets through who asks while many do
     └─ door           accepts connections
         └─ one task for each connection: requests, or a WebSocket session

Whatever one connection does ends with that connection. The pump never waits for any of them.
"""

import ipaddress
import logging
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import nullcontext, suppress
from random import Random
from typing import Any, Final

import trio

from .._checks import check_type
from .._client import SignalClient
from .._errors import ConfigurationError
from .._events import MessageSettled
from .._receiver import WallClock
from ._door import Door
from ._guard import Guard
from ._hub import Hub, HubLimits
from ._kept import kept_log
from ._origins import Origins
from ._routes import Routes
from .auth import Authenticator, Tickets
from .connections import CloseCode
from .log import MessageLog

_logger: Final = logging.getLogger("trio_signal.hub")

#: How long connections may take to end after a shutdown has begun, in seconds.
_LAST_ACTS: Final = 5.0


async def serve_hub(
    signal: SignalClient,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    key: Authenticator | None = None,
    ssl_context: ssl.SSLContext | None = None,
    log: MessageLog | None = None,
    allowed_origins: Collection[str] = (),
    limits: HubLimits | None = None,
    listeners: Sequence[trio.abc.Listener[Any]] | None = None,
    wall_clock: Callable[[], float] = time.time,
    random: Random | None = None,
    on_settled: Callable[[MessageSettled], Awaitable[bool]] | None = None,
    task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a client's messages to many: for ``hub = await nursery.start(serve_hub, signal)``.

    The hub reads ``signal.events()`` alone; nothing else should read from that client. If that was
    opened with ``acknowledge=True``, the hub acknowledges what it has taken.
    Runs until :meth:`Hub.shutdown`, until the client is closed, or until it is cancelled; then
    every client has been told when to come back, and every socket is closed.

    Args:
        signal: the one client of the gateway.
        host: the address to listen on.
        port: the port; 0 for any free one.
        key: checks tokens. Without it everybody who reaches the port may read and send, so it
            must be on loopback then, and requests must name it so (which keeps out web pages
            that have a name of their own point at this machine).
        ssl_context: for TLS.
        log: what numbers and keeps the messages; by default 500 for 900 s in memory. If the client has a
            store, it goes on where the log in the store ended, and must be new.
        allowed_origins: web pages beside the hub's own that may use it, as ``https://host:port``.
        limits: how much of everything.
        listeners: where connections come from instead of ``host`` and ``port``.
        wall_clock: tells the time of day in seconds since the epoch.
        random: spreads those who are told to come back later; one of its own by default.
        on_settled: called with what became of each message that an earlier process had accepted into the
            store, and awaited: nothing more is taken meanwhile. It returns whether somebody was told. If
            the client was opened with ``acknowledge=True``, the next process tells what nobody was told,
            and what a kill came before. It raises nothing.
        task_status: gets the :class:`Hub` once it listens.

    Raises:
        ConfigurationError: an argument is wrong, or another hub serves this client and its store; it is
            named. Nothing was started.
        OSError: the port cannot be listened on.
    """
    if not signal.receives:
        raise ConfigurationError(
            "signal", "it was opened with receive=False, so there is nothing to hand out"
        )
    if signal.account is None:
        raise ConfigurationError("signal", "a hub serves one account; open the client with its number")
    check_type("key", key, Authenticator)
    check_type("ssl_context", ssl_context, ssl.SSLContext)
    check_type("log", log, MessageLog)
    check_type("limits", limits, HubLimits)
    for address in [host] if listeners is None else _addresses(listeners):
        if key is None and not _is_loopback(address):
            raise ConfigurationError(
                "key",
                f"without one the hub listens on loopback only, not on {address}; give a key or 127.0.0.1",
            )
    limits = limits or HubLimits()
    origins = Origins(allowed_origins, loopback_only=key is None)
    keeper = signal.keeper
    kept = None if keeper is None else kept_log(keeper, log, wall=WallClock(wall_clock).now())
    if kept is not None:
        log = kept.log
    with nullcontext() if kept is None else kept.claimed():
        if listeners is None:
            listeners = await trio.open_tcp_listeners(port, host=host)
        try:
            hub = Hub(
                signal,
                signal.account,
                log or MessageLog(clock=trio.current_time),
                # In memory any port will do, but a URL with port 0 is none.
                address=next(iter(_addresses(listeners).items()), (host, port or 80)),
                scheme="http" if ssl_context is None else "https",
                wall_clock=wall_clock,
                random=random or Random(),  # noqa: S311  (spreads load, guards nothing)
                kept=kept,
                on_settled=on_settled,
            )
            tickets = Tickets(clock=trio.current_time)
            guard = Guard(hub, limits, key=key, tickets=tickets, wall_clock=wall_clock)
            routes = Routes(hub, limits, guard, origins)
            door = Door(
                routes.serve,
                ssl_context,
                hub.counters,
                max_pending=limits.max_pending,
                max_admitted=limits.max_connections,
            )
            _check_descriptors(limits)
            if key is None:
                _logger.warning("the hub has no key: everybody on this machine may read and send")
            await _run(
                hub, door, listeners, limits, lambda: task_status.started(hub), turn=routes.turnstile.turn
            )
        finally:
            for listener in listeners:
                with suppress(OSError):
                    await trio.aclose_forcefully(listener)


def _check_descriptors(limits: HubLimits) -> None:
    """Say so at the start where connections could use up the descriptors that everything else needs too."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (not everywhere)

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < limits.descriptors:
        _logger.warning(
            "this process may open %d files, the hub may need %d; raise it (ulimit -n), or lower its limits",
            most,
            limits.descriptors,
        )


async def _run(
    hub: Hub,
    door: Door,
    listeners: Sequence[trio.abc.Listener[Any]],
    limits: HubLimits,
    on_started: Callable[[], None],
    *,
    turn: Callable[[], Awaitable[None]],
) -> None:
    async with trio.open_nursery() as tasks:
        tasks.start_soon(hub.board.follow)
        tasks.start_soon(hub.beat, limits.heartbeat_interval)
        tasks.start_soon(hub.watch_lateness)
        tasks.start_soon(door.dismiss_silent)
        tasks.start_soon(turn)
        async with trio.open_nursery() as visitors:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(door.accept, listeners, visitors)
                accepting.start_soon(_pump, hub)
                accepting.start_soon(hub.offer)
                on_started()
                await hub.wait_shutdown()
                accepting.cancel_scope.cancel(reason="the hub shuts down")
            for listener in listeners:
                await listener.aclose()
            visitors.cancel_scope.deadline = trio.current_time() + _LAST_ACTS
            door.close_idle()
            for connection in hub.connections.connections:
                connection.outlet.end(CloseCode.GOING_DOWN, "the hub goes down")
        tasks.cancel_scope.cancel(reason="the hub has shut down")


async def _pump(hub: Hub) -> None:
    await hub.pump()
    # The client was closed: nothing will come any more.
    hub.shutdown()


def _addresses(listeners: Sequence[trio.abc.Listener[Any]]) -> dict[str, int]:
    """Return the addresses, with their ports, on which others reach us over a network."""
    sockets = [listener.socket for listener in listeners if isinstance(listener, trio.SocketListener)]
    inet = [each.getsockname() for each in sockets if each.family in (socket.AF_INET, socket.AF_INET6)]
    return {str(name[0]): int(name[1]) for name in inet}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

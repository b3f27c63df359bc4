"""``open_signal_client()``: the nursery, its tasks, and the object that stands for them.

::

    async with open_signal_client(...)            client nursery: lives until the scope is left
     ├─ send task          buffer -> slots -> gateway.send()     the slots are outside every connection
     └─ supervisor         loop: sleep, dial, sync, serve, note why it ended
         └─ connection nursery  (one per attempt, cancelled as a whole)
             ├─ receive task    frames -> continuity -> inbox    owned by the client, survives the connection
             └─ heartbeat

Background tasks never raise through the user's frame: the client keeps the first
permanent failure, cancels, and raises it bare once everything has ended.
"""

import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from ._buffer import MessageBuffer, Overflow
from ._checks import check_choice, check_count, check_positive, check_type
from ._client import SignalClient
from ._continuity import Cursor
from ._credentials import Credentials, Headers, Token
from ._dial import Connect, knock, parse_url
from ._errors import ConfigurationError
from ._inbox import Inbox
from ._journal import Journal, MemoryJournal
from ._outgoing import Delivery
from ._probe import Probe
from ._ratelimit import RateLimit, TokenBucket
from ._receiver import WallClock
from ._recipients import check_number
from ._states import Backoff
from .gateways._kinds import GatewayKind, ReceiveMode
from .gateways._requests import Requests
from .gateways.auto import make_gateway

if TYPE_CHECKING:
    from .store import Store

_DEFAULT_RATE_LIMIT: Final = RateLimit(20, per=1.0, burst=100)

#: More sends at once than any gateway bears; such a number is a mistake.
_MAX_IN_FLIGHT: Final = 256


@asynccontextmanager
async def open_signal_client(
    url: str,
    account: str | None,
    *,
    gateway: GatewayKind = "auto",
    receive_mode: ReceiveMode = "on-start",
    quiet_time: float = 5.0,
    receive: bool = True,
    buffer_size: int = 100,
    buffer_bytes: int = 16 * 1024 * 1024,
    overflow: Overflow = "drop_oldest",
    max_in_flight: int = 1,
    delivery: Delivery = "at_most_once",
    max_send_attempts: int = 10,
    backoff: Backoff | None = None,
    probe_interval: float | None = 0.5,
    rate_limit: RateLimit | None = _DEFAULT_RATE_LIMIT,
    settle_timeout: float = 10.0,
    close_timeout: float = 10.0,
    attempt_timeout: float = 20.0,
    send_timeout: float = 60.0,
    ping_interval: float = 10.0,
    pong_timeout: float = 5.0,
    headers: Headers = (),
    token: Token | None = None,
    ssl_context: ssl.SSLContext | None = None,
    http_client: Any | None = None,
    connect: Connect | None = None,
    inbox_size: int = 10_000,
    inbox_bytes: int = 64 * 1024 * 1024,
    max_message_size: int = 16 * 1024 * 1024,
    max_attachment_bytes: int = 100 * 1024 * 1024,
    cursor: Cursor | None = None,
    acknowledge: bool = False,
    store: "str | os.PathLike[str] | Store | None" = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncGenerator[SignalClient]:
    """Keep a Signal account's traffic alive while the block runs.

    Gives a :class:`SignalClient` at once, without waiting for a connection; use
    ``await signal.wait_state(ConnectionState.CONNECTED)`` to wait for one. Messages
    sent before are buffered.

    Leaving the block normally takes no more messages and goes on sending for up to
    ``close_timeout``; leaving it by an exception or a cancellation closes at once. Then
    every socket is closed, every task has ended, and every message has its outcome: what is
    in flight ``Failed("unknown")``, what waited ``Dropped("closed")``. With a store, what waited
    stays accepted instead, and the next process sends it.

    Args:
        url: the gateway or the hub, as ``http://host:8080``, https, ws or wss, with a base path if
            there is one. ``user:password@`` becomes an Authorization header.
        account: the number that the gateway is linked to, with + and country code. None serves every
            account of a signal-cli daemon: messages say which in ``.account``, sending needs ``account=``.
        gateway: what kind it is: ``"rest"`` for a signal-cli-rest-api, ``"signal-cli"`` for signal-cli's
            own daemon, ``"hub"`` for a trio_signal hub; ``"auto"`` asks it.
        receive_mode: with which ``--receive-mode`` signal-cli's daemon was started. The default is the
            daemon's own and the safe one: every absence is reported as a gap. With ``"on-connection"`` or
            ``"manual"`` messages wait on Signal's server while we are away, and come while SYNCING.
        quiet_time: with one of these, that is over when nothing came for so long, in seconds, or as soon as
            what comes was sent after we had connected. No other gateway uses it.
        receive: False opens no stream of messages, for a program that only sends: it takes nobody's messages
            from signal-cli's daemon. Whether the gateway is there is then asked every ``ping_interval``.
            A cursor is neither used nor moved.
        buffer_size: the most messages that wait to be sent.
        buffer_bytes: the most bytes that they may take.
        overflow: what happens when the buffer is full; see :class:`MessageBuffer`.
        max_in_flight: how many messages are sent at once, 256 at most. Order is kept inside each
            conversation: of one recipient's messages (for one account) the next leaves only when the one
            before has its outcome, or waits for evidence beside the queue. A message that is to be tried
            again holds back its own conversation, and one of these places; a pause for a rate limit holds
            back all. Leave it at 1 on a signal-cli-rest-api, which crashes when it is asked for several
            things at once. A person's number and UUID count as two recipients.
        delivery: ``"at_most_once"`` never sends anything twice: where an answer is lost, the
            outcome is ``Failed("unknown")``. ``"at_least_once"`` sends such a message again, in
            its place, so that **people may receive it twice**; the gateway has no key by which
            it could notice. Choose it for alerts, not for payments.
        max_send_attempts: with ``"at_least_once"``, how many attempts with unknown result one
            message gets before it ends as ``Failed("unknown")``.
        settle_timeout: how long a message whose answer was lost waits for evidence that it went out all the
            same, in seconds; 0 for not at all. A delivery, read or viewed receipt from a person it was for is
            such evidence, if nothing else can have caused it; then the outcome is ``Sent``. Meanwhile the
            queue goes on; with ``"at_least_once"`` it waits, and the message is sent again only without
            evidence. Another device of the account causes no wrong proof, since Signal reports what it sends.
            **Another program that sends through the same account and gateway does: set 0 then.** Groups,
            usernames, a hub and ``receive=False`` know no evidence, and neither does a gateway whose clock
            differs: there the outcome is ``Failed("unknown")`` as ever.
        backoff: how long to wait between attempts to connect.
        probe_interval: how often, in seconds, a wait before an attempt is used to see whether somebody
            listens again, after an attempt that nobody listened to: a TCP connection that is closed at once.
            The first that is taken ends the wait. None for never. A hub is never probed, since its many
            clients would come back at once.
        rate_limit: how fast messages may leave; None for no limit.
        close_timeout: how long leaving the block may go on sending, in seconds.
        attempt_timeout: one attempt's time from name look-up to the first pong, or a hub's hello, in
            seconds. signal-cli's daemon gets 16 s more: before 0.14.4 it answers after 15.
        send_timeout: how long the gateway may take to answer a send, in seconds; it has no
            time limit of its own and can hang for ever. A hub gets 45 s more: each send waits for
            its turn there.
        ping_interval: silence after which we ping, in seconds.
        pong_timeout: silence after that which ends the connection, in seconds.
        headers: sent with every HTTP request and with the WebSocket handshake.
        token: a bearer token, or a callable (async or not) that is asked for one before each
            connection and after each refusal.
        ssl_context: for https, to trust an authority of your own.
        http_client: an ``httpx.AsyncClient``, or one of its shape (``httpx2``), to send with. It
            is not closed. What is received, and attachments, do not go through it.
        connect: opens the byte stream to (host, port), for proxies and tests; TCP by default.
        inbox_size: the most events kept for the application, and with ``acknowledge`` the most that
            it may take from the oldest that it has not acknowledged on.
        inbox_bytes: the most bytes that they may take.
        max_message_size: the largest message taken from the WebSocket, in bytes; a larger one
            closes the connection (1009).
        max_attachment_bytes: the most that the attachments of one message may be together.
        cursor: where an earlier process had come (:attr:`SignalClient.cursor`). A hub gives what
            came since then; what it no longer has, and all that came while a gateway without
            memory was alone, is reported as a gap. A store knows it by itself; this is for the
            first time with one.
        acknowledge: move the cursor over an event when :meth:`SignalClient.acknowledge` is called
            for it, instead of when it is taken.
        store: a file (or :class:`Store`) that keeps accepted messages, the cursor, and a hub's log over a
            kill of the process; see there how safely. What waits when the block is left stays in it, and the
            next process sends it; what an earlier one has left comes as :class:`MessageSettled` in
            :meth:`SignalClient.events` when it has its outcome.
        wall_clock: tells the time of day in seconds since the epoch.

    Raises:
        ConfigurationError: an argument is wrong; it is named. Nothing was started.
        StoreError: the store cannot be used, and what to do. Nothing was started, and nothing changed in it.
        PermanentError: before the first connection: the gateway can never serve this
            account, and what to change. Raised where the block is left, after cancelling it.
        GatewayRefused: before the first connection: the credentials are refused and there is
            no ``token`` callable to ask for others.
        LinkLost: before the first connection: the gateway refused it with a status that
            will not change (such as 404 for a wrong path).
    """
    address = parse_url(url)
    check_choice("gateway", gateway, GatewayKind)
    check_choice("receive_mode", receive_mode, ReceiveMode)
    if account is not None:
        check_number("account", account)
    elif gateway not in {"auto", "signal-cli"}:
        raise ConfigurationError("account", 'give a number; only gateway="signal-cli" serves all accounts')
    check_choice("delivery", delivery, Delivery)
    check_count("max_attachment_bytes", max_attachment_bytes)
    check_type("backoff", backoff, Backoff)
    check_type("rate_limit", rate_limit, RateLimit)
    check_type("ssl_context", ssl_context, ssl.SSLContext)
    check_type("cursor", cursor, Cursor)
    if http_client is not None and not callable(getattr(http_client, "stream", None)):
        raise ConfigurationError("http_client", "it has no stream() as httpx.AsyncClient has")
    for name, option in (("connect", connect), ("wall_clock", wall_clock)):
        if option is not None and not callable(option):
            raise ConfigurationError(name, f"{type(option).__name__} cannot be called")
    check_positive("close_timeout", close_timeout, zero=True)
    check_positive("settle_timeout", settle_timeout, zero=True)
    check_type("acknowledge", acknowledge, bool)
    check_type("receive", receive, bool, optional=False)
    wall = WallClock(wall_clock)
    requests = Requests(
        address,
        Credentials(headers, token, address.authorization),
        connect=connect or trio.open_tcp_stream,
        ssl_context=ssl_context,
        http_client=http_client,
        send_timeout=check_positive("send_timeout", send_timeout),
        max_in_flight=_check_in_flight(max_in_flight),
    )
    route = make_gateway(
        gateway,
        requests,
        account,
        ping_interval=check_positive("ping_interval", ping_interval),
        pong_timeout=check_positive("pong_timeout", pong_timeout),
        max_message_size=check_count("max_message_size", max_message_size),
        receive_mode=receive_mode,
        quiet_time=check_positive("quiet_time", quiet_time),
        receive=receive,
        now=wall.now,
    )
    if probe_interval is not None:
        check_positive("probe_interval", probe_interval)
    check_count("max_send_attempts", max_send_attempts)
    check_positive("attempt_timeout", attempt_timeout)
    async with _open_journal(store, account, cursor, wall, receives=receive) as journal:
        reached = journal.cursor
        client = SignalClient(
            route,
            account,
            buffer=MessageBuffer(
                buffer_size, max_bytes=buffer_bytes, overflow=overflow, restored=journal.waiting
            ),
            inbox=Inbox(
                inbox_size,
                inbox_bytes,
                acknowledge=acknowledge,
                position=reached.position if reached is not None else None,
            ),
            journal=journal,
            backoff=backoff or Backoff(),
            bucket=TokenBucket(rate_limit, trio.current_time()) if rate_limit else None,
            max_in_flight=max_in_flight,
            delivery=delivery,
            max_send_attempts=max_send_attempts,
            attempt_timeout=attempt_timeout,
            send_timeout=send_timeout,
            receives=receive,
            max_attachment_bytes=max_attachment_bytes,
            wall=wall,
            settle_timeout=settle_timeout,
            probe=None
            if probe_interval is None
            else Probe(partial(knock, address, connect or trio.open_tcp_stream), probe_interval),
        )
        async with client.running(close_timeout):
            yield client


def _check_in_flight(count: int) -> int:
    if check_count("max_in_flight", count) > _MAX_IN_FLIGHT:
        raise ConfigurationError("max_in_flight", f"{count} is over {_MAX_IN_FLIGHT}")
    return count


def _open_journal(
    store: object, account: str | None, cursor: Cursor | None, wall: WallClock, *, receives: bool
) -> AbstractAsyncContextManager[Journal]:
    """Open the store, or where there is none, what forgets.

    Raises:
        ConfigurationError: it is neither a store nor a path.
    """
    if store is None:
        return nullcontext(MemoryJournal(cursor if receives else None))
    from .store import as_store, open_journal  # noqa: PLC0415  (SQLite is loaded by who uses it)

    return open_journal(cast("Store", as_store(store)), account, cursor, wall, receives=receives)

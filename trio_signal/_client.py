"""``open_signal_client()``: the nursery, its tasks, and the object that stands for them.

::

    async with open_signal_client(...)            client nursery: lives until the scope is left
     ├─ send task          buffer -> slot -> gateway.send()      the slot is outside every connection
     └─ supervisor         loop: sleep, dial, sync, serve, note why it ended
         └─ connection nursery  (one per attempt, cancelled as a whole)
             ├─ receive task    frames -> continuity -> inbox    owned by the client, survives the connection
             └─ heartbeat

Background tasks never raise through the user's frame: the client keeps the first
permanent failure, cancels, and raises it bare once everything has ended.
"""

import math
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import trio

from ._attachments import AttachmentLike, check_attachments
from ._buffer import BufferStatistics, MessageBuffer, Overflow
from ._checks import check_choice, check_count, check_positive, check_type
from ._continuity import Cursor, cursor_at
from ._credentials import Credentials, Headers, Token
from ._dial import Connect, parse_url
from ._envelopes import MessageKind, ReceivedMessage
from ._errors import ClientClosed, ConfigurationError, ObserverLagged, Reason
from ._inbox import ChallengeRequired, Event, Inbox, InboxStatistics
from ._journal import Journal, MemoryJournal
from ._outgoing import Delivery, DropReason, OutgoingMessage, Quote, on_done
from ._ratelimit import RateLimit, TokenBucket
from ._receiver import Receiver, ReceiveStatistics, WallClock
from ._recipients import check_number
from ._sender import Sender
from ._states import Backoff, ConnectionState, ReconnectionManager
from ._status import StateChanges, StateLog
from ._streams import DEFAULT_KINDS, EventStream, MessageStream
from ._supervisor import Supervisor
from .gateways import Gateway
from .gateways._requests import Requests
from .gateways.auto import GatewayKind, make_gateway

#: Seconds for closing what is left after everything was cancelled.
_LAST_ACTS: Final = 1.0

_DEFAULT_RATE_LIMIT: Final = RateLimit(20, per=1.0, burst=100)


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A client at one moment. All true within ``ping_interval + pong_timeout`` of any failure of the link.

    Attributes:
        state: the connection's state.
        since: when it was entered, on Trio's clock.
        generation: how many attempts to connect there have been in all.
        attempt: how many since the link was last stable; 0 while CONNECTED.
        next_attempt: when the present sleep ends, on Trio's clock; None while there is none.
        last_error: what ended or prevented a connection last.
        last_received: when the last bytes came on the present link, on Trio's clock; None without a link.
        bytes_received: how many have come on the present link.
        buffer: the outgoing buffer and the ledger of all messages.
        in_flight: whether the send task holds a message.
        paused_until: when a pause for a rate limit ends, on Trio's clock; None without one.
        inbox: what has arrived and not been taken.
        receiving: what has come in.
    """

    state: ConnectionState
    since: float
    generation: int
    attempt: int
    next_attempt: float | None
    last_error: Exception | None
    last_received: float | None
    bytes_received: int
    buffer: BufferStatistics
    in_flight: bool
    paused_until: float | None
    inbox: InboxStatistics
    receiving: ReceiveStatistics


@asynccontextmanager
async def open_signal_client(
    url: str,
    account: str,
    *,
    gateway: GatewayKind = "auto",
    buffer_size: int = 100,
    buffer_bytes: int = 16 * 1024 * 1024,
    overflow: Overflow = "drop_oldest",
    delivery: Delivery = "at_most_once",
    max_send_attempts: int = 10,
    backoff: Backoff | None = None,
    rate_limit: RateLimit | None = _DEFAULT_RATE_LIMIT,
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
    wall_clock: Callable[[], float] = time.time,
) -> AsyncGenerator["SignalClient"]:
    """Keep a Signal account's traffic alive while the block runs.

    Gives a :class:`SignalClient` at once, without waiting for a connection; use
    ``await signal.wait_state(ConnectionState.CONNECTED)`` to wait for one. Messages
    sent before are buffered.

    Leaving the block normally takes no more messages and goes on sending for up to
    ``close_timeout``; leaving it by an exception or a cancellation closes at once. Then
    every socket is closed, every task has ended, and every message has its outcome: the
    one in flight ``Failed("unknown")``, what waited ``Dropped("closed")``.

    Args:
        url: the gateway or the hub, as ``http://host:8080``, https, ws or wss, with a base path if
            there is one. ``user:password@`` becomes an Authorization header.
        account: the number that the gateway is linked to, with + and country code.
        gateway: what kind it is: ``"rest"`` for a signal-cli-rest-api, ``"hub"`` for a trio_signal
            hub; ``"auto"`` asks it.
        buffer_size: the most messages that wait to be sent.
        buffer_bytes: the most bytes that they may take.
        overflow: what happens when the buffer is full; see :class:`MessageBuffer`.
        delivery: ``"at_most_once"`` never sends anything twice: where an answer is lost, the
            outcome is ``Failed("unknown")``. ``"at_least_once"`` sends such a message again, in
            its place, so that **people may receive it twice**; the gateway has no key by which
            it could notice. Choose it for alerts, not for payments.
        max_send_attempts: with ``"at_least_once"``, how many attempts with unknown result one
            message gets before it ends as ``Failed("unknown")``.
        backoff: how long to wait between attempts to connect.
        rate_limit: how fast messages may leave; None for no limit.
        close_timeout: how long leaving the block may go on sending, in seconds.
        attempt_timeout: one attempt's time from name look-up to the first pong, or a hub's hello, in
            seconds.
        send_timeout: how long the gateway may take to answer a send, in seconds; it has no
            time limit of its own and can hang for ever. A hub gets 30 s more: each send waits for
            its turn there.
        ping_interval: silence after which we ping, in seconds.
        pong_timeout: silence after that which ends the connection, in seconds.
        headers: sent with every HTTP request and with the WebSocket handshake.
        token: a bearer token, or a callable (async or not) that is asked for one before each
            connection and after each refusal.
        ssl_context: for https, to trust an authority of your own.
        http_client: an ``httpx.AsyncClient``, or one of its shape (``httpx2``), to send with. It
            is not closed. The WebSocket does not go through it.
        connect: opens the byte stream to (host, port), for proxies and tests; TCP by default.
        inbox_size: the most events kept for the application, and with ``acknowledge`` the most that
            it may take from the oldest that it has not acknowledged on.
        inbox_bytes: the most bytes that they may take.
        max_message_size: the largest message taken from the WebSocket, in bytes; a larger one
            closes the connection (1009).
        max_attachment_bytes: the most that the attachments of one message may be together.
        cursor: where an earlier process had come (:attr:`SignalClient.cursor`). A hub gives what
            came since then; what it no longer has, and all that came while a gateway without
            memory was alone, is reported as a gap.
        acknowledge: move the cursor over an event when :meth:`SignalClient.acknowledge` is called
            for it, instead of when it is taken.
        wall_clock: tells the time of day in seconds since the epoch.

    Raises:
        ConfigurationError: an argument is wrong; it is named. Nothing was started.
        PermanentError: before the first connection: the gateway can never serve this
            account, and what to change. Raised where the block is left, after cancelling it.
        GatewayRefused: before the first connection: the credentials are refused and there is
            no ``token`` callable to ask for others.
        LinkLost: before the first connection: the gateway refused it with a status that
            will not change (such as 404 for a wrong path).
    """
    address = parse_url(url)
    account = check_number("account", account)
    check_choice("gateway", gateway, GatewayKind)
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
    check_type("acknowledge", acknowledge, bool)
    wall = WallClock(wall_clock)
    requests = Requests(
        address,
        Credentials(headers, token, address.authorization),
        connect=connect or trio.open_tcp_stream,
        ssl_context=ssl_context,
        http_client=http_client,
        send_timeout=check_positive("send_timeout", send_timeout),
    )
    route = make_gateway(
        gateway,
        requests,
        account,
        ping_interval=check_positive("ping_interval", ping_interval),
        pong_timeout=check_positive("pong_timeout", pong_timeout),
        max_message_size=check_count("max_message_size", max_message_size),
        now=wall.now,
    )
    client = SignalClient(
        route,
        account,
        buffer=MessageBuffer(buffer_size, max_bytes=buffer_bytes, overflow=overflow),
        inbox=Inbox(
            inbox_size,
            inbox_bytes,
            acknowledge=acknowledge,
            position=cursor.position if cursor is not None else None,
        ),
        journal=MemoryJournal(cursor),
        backoff=backoff or Backoff(),
        bucket=TokenBucket(rate_limit, trio.current_time()) if rate_limit else None,
        delivery=delivery,
        max_send_attempts=check_count("max_send_attempts", max_send_attempts),
        attempt_timeout=check_positive("attempt_timeout", attempt_timeout),
        max_attachment_bytes=max_attachment_bytes,
        wall=wall,
    )
    async with _running(client, route, close_timeout):
        yield client


@asynccontextmanager
async def _running(client: "SignalClient", route: Gateway, close_timeout: float) -> AsyncGenerator[None]:
    """Run a client's tasks while the block runs, then close it in order."""
    problem: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._supervise, nursery.cancel_scope)
            nursery.start_soon(client._sender.run)
            try:
                yield
            except Exception as error:  # noqa: BLE001  (raised again below, the very same object)
                problem = error
            else:
                await client._finish(close_timeout)
            nursery.cancel_scope.cancel(reason="the client's block was left")
    except BaseExceptionGroup as group:
        # SystemExit, Ctrl-C, or a group that a cancellation is part of. Our tasks raise nothing, so it is
        # the block's own and leaves as it would without us.
        problem = _the_one_that_matters(group)
    finally:
        client._settle_the_rest()
        with trio.move_on_after(_LAST_ACTS, shield=True):
            await route.aclose()
    if problem is not None:
        if client._failure is not None:
            problem.add_note(f"the Signal client had failed as well: {client._failure}")
        raise problem
    if client._failure is not None:
        raise client._failure


def _the_one_that_matters(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the only member that is more than a cancellation; the whole group if there are more or none."""
    members = [error for error in group.exceptions if not _is_only_cancelled(error)]
    return members[0] if len(members) == 1 else group


def _is_only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


class SignalClient:
    """A Signal account that is kept reachable. Made by :func:`open_signal_client`."""

    def __init__(
        self,
        route: Gateway,
        account: str,
        *,
        buffer: MessageBuffer,
        inbox: Inbox,
        journal: Journal,
        backoff: Backoff,
        bucket: TokenBucket | None,
        delivery: Delivery,
        max_send_attempts: int,
        attempt_timeout: float,
        max_attachment_bytes: int,
        wall: WallClock,
    ) -> None:
        self.account: Final = account
        self._buffer: Final = buffer
        self._inbox: Final = inbox
        self._journal: Final = journal
        self._wall: Final = wall
        self._max_attachment_bytes: Final = max_attachment_bytes
        self._status: Final = StateLog(ReconnectionManager(backoff, clock=trio.current_time))
        self._receiver: Final = Receiver(inbox, journal, wall)
        self._supervisor: Final = Supervisor(
            route, self._status, self._receiver, wall, attempt_timeout=attempt_timeout
        )
        self._sender: Final = Sender(
            buffer,
            route,
            self._status,
            bucket,
            delivery=delivery,
            max_attempts=max_send_attempts,
            source=backoff.random,
            on_challenge=self._challenged,
        )
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        """Show the state."""
        return f"<SignalClient {self.state.name}>"

    async def send_message(
        self,
        recipient: str,
        text: str = "",
        *,
        attachments: Iterable[AttachmentLike] = (),
        quote: ReceivedMessage | Quote | None = None,
        styled: bool = False,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept a message into the buffer and return it; sending is the client's business.

        Does not wait for a connection or for the outcome: for that,
        ``await message.wait()``. A checkpoint. With ``overflow="wait"`` it waits for room.
        Cancelled, the message was not accepted.

        Args:
            recipient: a number (``+15550100``), a group (``group.…=``), a UUID or a username;
                ``message.reply_to`` of a received message is always one of them.
            text: what to say; may be empty only with an attachment.
            attachments: paths, bytes, or :class:`OutgoingAttachment`. Paths are looked at now and
                read when it is sent.
            quote: the received message that this one answers.
            styled: read ``*italic*``, ``**bold**``, ``~strike~``, ``||spoiler||`` and backticks as styles.
            deadline: drop the message if it still waits then; a moment on Trio's clock, as in
                ``trio.current_time() + 60``.
            id: a name of your own for the message.

        Raises:
            ConfigurationError: an argument is wrong; it is named.
            BufferFull: ``overflow="error"`` and no room.
            ClientClosed: the client's block was left.
        """
        files = await check_attachments(attachments, limit=self._max_attachment_bytes)
        message = OutgoingMessage(
            recipient,
            text,
            attachments=files,
            quote=_as_quote(quote),
            styled=styled,
            id=id,
            deadline=deadline,
        )
        await self._journal.accept(message)
        on_done(message, self._journal.settle)
        entered = False
        try:
            await self._buffer.put(message)
            entered = True
        finally:
            if not entered:
                self._journal.forget(message)
        return message

    def receive_messages(self, *, kinds: Collection[MessageKind] = DEFAULT_KINDS) -> "MessageStream":
        """Return an iterator over received messages that survives every loss of the connection.

        By default it gives what somebody wrote, so that it is safe to answer everything:
        reactions, receipts, typing and the like are passed over, and so is a message whose
        sender is not told. Gaps are logged as warnings. Several loops, of either kind,
        compete for the items of one inbox. The iterator ends when the client is closed.

        With ``acknowledge=True`` what is given must be acknowledged; what is passed over counts
        as acknowledged by itself.

        Args:
            kinds: which kinds to give.
        """
        try:
            # A lone kind is a str too, whose letters would be taken for kinds.
            chosen = frozenset(map(MessageKind, kinds))
        except (ValueError, TypeError):
            raise ConfigurationError("kinds", f"{kinds!r} is no collection of MessageKind") from None
        return MessageStream(self.events(), chosen)

    def events(self) -> "EventStream":
        """Return an iterator over everything that arrives, with each gap in its place.

        Gives :class:`ReceivedMessage` of every kind, :class:`Gap`, :class:`Undecodable` and
        :class:`ChallengeRequired`. Ends when the client is closed.
        """
        return EventStream(self._inbox, self._taken)

    def acknowledge(self, event: Event) -> None:
        """Say that the application is done with an event, so that :attr:`cursor` may move over it.

        For a client opened with ``acknowledge=True``. The cursor moves over an event once it and
        all that were taken before it are acknowledged, so several loops may do so in any order.
        Not a checkpoint. It works after the client was closed too.

        Args:
            event: the very object that an iterator gave.

        Raises:
            ConfigurationError: the client was opened without ``acknowledge=True``; or this object
                was not given by it, or has been acknowledged before.
        """
        self._inbox.acknowledge(event)
        self._taken()

    @property
    def state(self) -> ConnectionState:
        """The connection's state at this moment."""
        return self._status.state

    def state_changes(self) -> StateChanges:
        """Return an iterator over every change of state from now on, none merged, none missed."""
        return self._status.follow()

    async def wait_state(self, *states: ConnectionState) -> ConnectionState:
        """Wait until the client is in, or has passed through, one of these states.

        A checkpoint. Cancelling is safe. No time limit: put it under ``trio.fail_after``.

        Returns:
            The state that ended the wait.

        Raises:
            ClientClosed: the client was closed before.
        """
        changes = self.state_changes()
        state = self.state
        await trio.lowlevel.checkpoint()
        if state in states:
            return state
        while True:  # noqa: ASYNC913  (anext is a checkpoint)
            try:
                change = await anext(changes)
            except StopAsyncIteration:
                raise ClientClosed("the client was closed before it got into that state") from None
            except ObserverLagged:
                continue
            if change.current in states:
                return change.current

    def reconnect_now(self) -> None:
        """End the present wait before an attempt to connect; without one, do nothing.

        For when you know better: the network is back, the gateway was started.
        """
        self._supervisor.hurry()

    def resume_sending(self) -> None:
        """End a pause for a rate limit, for instance after its challenge was solved."""
        self._sender.resume()

    @property
    def cursor(self) -> Cursor | None:
        """How far the application has come; give it to the next process as ``cursor=``.

        None until there has been a connection. It moves only as events are taken, or with
        ``acknowledge=True`` as they are acknowledged.
        """
        if (oldest := self._inbox.oldest) is not None:
            return cursor_at(oldest, self._inbox.position)
        if (absent_since := self._receiver.absent_since) is not None:
            return Cursor(absent_since)
        if (resume := self._receiver.resume) is not None:
            return resume
        link = self._supervisor.link
        return Cursor(self._wall.at(link.last_received)) if link else self._journal.cursor

    def statistics(self) -> ClientStatistics:
        """Return the present figures."""
        link = self._supervisor.link
        return ClientStatistics(
            state=self.state,
            since=self._status.since,
            generation=self._status.generation,
            attempt=self._status.manager.attempt_count,
            next_attempt=self._supervisor.next_attempt,
            last_error=self._status.last_error,
            last_received=link.last_received if link else None,
            bytes_received=link.bytes_received if link else 0,
            buffer=self._buffer.statistics(),
            in_flight=self._sender.slot is not None,
            paused_until=self._sender.paused_until,
            inbox=self._inbox.statistics(),
            receiving=self._receiver.statistics(),
        )

    def _challenged(self, tokens: tuple[str, ...], pause: float) -> None:
        self._inbox.put([ChallengeRequired(tokens, self.account, pause)], time=self._wall.now())

    def _taken(self) -> None:
        """Write down how far the application has come (contract R5)."""
        if (cursor := self.cursor) is not None:
            self._journal.advance(cursor)

    async def _supervise(self, everything: trio.CancelScope) -> None:
        self._failure = await self._supervisor.run()
        if self._failure is not None:
            everything.cancel(reason="the Signal client has failed for good")

    async def _finish(self, close_timeout: float) -> None:
        """Take no more, send what waits, say goodbye."""
        self._buffer.close()
        with trio.move_on_after(close_timeout):
            await self._sender.finished.wait()
        await self._supervisor.say_goodbye()

    def _settle_the_rest(self) -> None:
        """Give everything its outcome and end every iterator. The tasks have ended."""
        self._sender.abandon()
        self._buffer.close()
        self._buffer.drop_all(DropReason.CLOSED)
        if self.state is not ConnectionState.DISCONNECTED:
            self._status.change(ConnectionState.DISCONNECTED, Reason.CLIENT_CLOSED)
        self._status.close()
        self._inbox.close()


def _as_quote(quote: ReceivedMessage | Quote | None) -> Quote | None:
    if not isinstance(quote, ReceivedMessage):
        check_type("quote", quote, Quote)
        return quote
    if quote.sender is None or quote.timestamp is None:
        raise ConfigurationError(
            "quote", "this message does not say who wrote it and when, so it cannot be quoted"
        )
    return Quote(quote.timestamp, quote.sender, quote.text or "")

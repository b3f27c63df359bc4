"""The object that stands for a client: what an application calls, and what it can see."""

import math
from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final, cast

import trio

from ._account import AccountOperations
from ._buffer import MessageBuffer
from ._contents import Content
from ._continuity import Cursor, cursor_at
from ._envelopes import MessageKind
from ._errors import ClientClosed, ConfigurationError, ObserverLagged, Reason
from ._events import ChallengeRequired, Event, MessageSettled
from ._inbox import EventStream, Inbox
from ._journal import Book, Journal
from ._outcomes import DropReason
from ._outgoing import Delivery, OutgoingMessage, is_new
from ._probe import Probe
from ._ratelimit import TokenBucket
from ._receiver import Receiver, WallClock
from ._sender import Sender
from ._settling import Settler
from ._states import Backoff, ConnectionState, ReconnectionManager
from ._statistics import ClientStatistics
from ._status import StateChanges, StateLog
from ._streams import DEFAULT_KINDS, MessageStream
from ._supervisor import Supervisor
from .gateways import Gateway

#: Seconds for closing what is left after everything was cancelled.
_LAST_ACTS: Final = 1.0


class SignalClient(AccountOperations):
    """A Signal account that is kept reachable. Made by :func:`open_signal_client`."""

    def __init__(
        self,
        route: Gateway,
        account: str | None,
        *,
        buffer: MessageBuffer,
        inbox: Inbox,
        journal: Journal,
        backoff: Backoff,
        bucket: TokenBucket | None,
        max_in_flight: int,
        delivery: Delivery,
        max_send_attempts: int,
        attempt_timeout: float,
        send_timeout: float,
        receives: bool,
        max_attachment_bytes: int,
        wall: WallClock,
        settle_timeout: float,
        probe: Probe | None,
    ) -> None:
        super().__init__(route, account, send_timeout, max_attachment_bytes=max_attachment_bytes)
        #: The writer of the client's store, for a hub on top of it; None without a store.
        self.keeper: Final = journal.keeper
        #: Whether it was opened to receive; if not, nothing is ever given but challenges, and what became of
        #: messages of an earlier process.
        self.receives: Final = receives
        self._buffer: Final = buffer
        self._inbox: Final = inbox
        self._journal: Final = journal
        self._book: Final = journal.book
        self._wall: Final = wall
        self._status: Final = StateLog(ReconnectionManager(backoff, clock=trio.current_time))
        waits_for_evidence = settle_timeout if receives else 0.0
        self._settler: Final = Settler(
            wall,
            timeout=waits_for_evidence,
            has_one_account=account is not None,
            # Others send through a hub as well, and its own client settles what is sent through it.
            is_possible=lambda: not self._receiver.has_numbers,
            is_listening=self._is_listening,
            heard=self._heard,
        )
        self._status.listen(self._settler.wake_up)
        self._receiver: Final = Receiver(inbox, journal, wall, self._settler if waits_for_evidence else None)
        self._supervisor: Final = Supervisor(
            route, self._status, self._receiver, wall, attempt_timeout=attempt_timeout, probe=probe
        )
        self._sender: Final = Sender(
            buffer,
            route,
            self._status,
            bucket,
            journal=journal,
            settler=self._settler,
            max_in_flight=max_in_flight,
            delivery=delivery,
            max_attempts=max_send_attempts,
            source=backoff.random,
            on_challenge=self._challenged,
        )
        self._failure: Exception | None = None

    @asynccontextmanager
    async def running(self, close_timeout: float) -> AsyncGenerator[None]:
        """Run the client's tasks while the block runs, then close it in order: :func:`open_signal_client`.

        Args:
            close_timeout: how long leaving the block may go on sending, in seconds.
        """
        problem: BaseException | None = None
        in_order = False
        self._take_over()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._supervise, nursery.cancel_scope)
                nursery.start_soon(self._sender.run)
                nursery.start_soon(self._settler.run)
                nursery.start_soon(self._journal.run, lambda: self.cursor)
                try:
                    yield
                except Exception as error:  # noqa: BLE001  (raised again below, the very same object)
                    problem = error
                else:
                    in_order = True
                    await self._finish(close_timeout)
                nursery.cancel_scope.cancel(reason="the client's block was left")
        except BaseExceptionGroup as group:
            # SystemExit, Ctrl-C, or a group that a cancellation is part of. Our tasks raise nothing, so it is
            # the block's own and leaves as it would without us.
            problem = _the_one_that_matters(group)
        finally:
            self._settle_the_rest()
            with trio.move_on_after(_LAST_ACTS, shield=True):
                await self._journal.aclose(in_order=in_order)
            with trio.move_on_after(_LAST_ACTS, shield=True):
                await self._route.aclose()
        if problem is not None:
            if self._failure is not None:
                problem.add_note(f"the Signal client had failed as well: {self._failure}")
            raise problem
        if self._failure is not None:
            raise self._failure

    def __repr__(self) -> str:
        """Show the state."""
        return f"<SignalClient {self.state.name}>"

    async def _accept(
        self,
        recipient: str,
        content: Content,
        *,
        account: str | None = None,
        deadline: float = math.inf,
        id: str | None = None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept anything that goes through the buffer. As :meth:`send_message`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._book is not None:
            return await self._accept_in_writing(
                self._book, recipient, content, account=account, deadline=deadline, id=id
            )
        message = OutgoingMessage(
            recipient, content, account=self.account_for(account), id=id, deadline=deadline
        )
        # Nothing after it is accepted: whoever is accepted first is told so first.
        if not self._buffer.hand_over(message):
            await self._buffer.put(message)
        return message  # noqa: ASYNC910  (documented: no turn is given for what the send task has at once)

    async def _accept_in_writing(
        self,
        book: Book,
        recipient: str,
        content: Content,
        *,
        account: str | None,
        deadline: float,
        id: str | None,  # noqa: A002  (the public name is fixed)
    ) -> OutgoingMessage:
        """Accept a message once it is written down, upon which it enters the buffer. A checkpoint."""
        prepared = await book.prepare(content)
        is_written = False
        try:
            message = OutgoingMessage(
                recipient, prepared, account=self.account_for(account), id=id, deadline=deadline
            )
            if await self._buffer.admit(message):
                await self._write_down(book, message)
                is_written = True
        finally:
            if not is_written:
                book.discard(prepared)
        return message

    async def _write_down(self, book: Book, message: OutgoingMessage) -> None:
        """Have a message that has room written down, upon which it enters the buffer."""
        try:
            await book.accept(message, self._buffer.enter)
        finally:
            if is_new(message):
                self._buffer.release(message)

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
        :class:`ChallengeRequired`; with a store, also :class:`MessageSettled` for each message that an
        earlier process had accepted. Ends when the client is closed.
        """
        # Without a store there is nobody to tell: the cursor is worked out when it is asked for.
        return EventStream(self._inbox, self._done_with if self._journal.survives else None)

    def acknowledge(self, event: Event) -> None:
        """Say that the application is done with an event, so that :attr:`cursor` may move over it.

        For a client opened with ``acknowledge=True``. The cursor moves over an event once it and
        all that were taken before it are acknowledged, so several loops may do so in any order.
        Not a checkpoint. It works after the client was closed too, but is not written to a store any more.

        Args:
            event: the very object that an iterator gave.

        Raises:
            ConfigurationError: the client was opened without ``acknowledge=True``; or this object
                was not given by it, or has been acknowledged before.
        """
        self._inbox.acknowledge(event)
        self._done_with(event)

    @property
    def acknowledges(self) -> bool:
        """Whether it was opened with ``acknowledge=True``."""
        return self._inbox.acknowledges

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
            in_flight=len(self._sender.in_flight),
            settling=self._settler.waiting,
            paused_until=self._sender.paused_until,
            inbox=self._inbox.statistics(),
            receiving=self._receiver.statistics(),
        )

    def _challenged(self, account: str | None, tokens: tuple[str, ...], pause: float) -> None:
        self._inbox.add(ChallengeRequired(tokens, account, pause), time=self._covered_until())

    def _is_listening(self, since: float) -> bool:
        """Say whether everything is heard, and bytes have come since a moment of Trio's clock."""
        link = self._supervisor.link
        return self._receiver.absent_since is None and link is not None and link.last_received >= since

    async def _heard(self, since: float) -> None:
        """Wait until bytes have come since a moment of Trio's clock, on a link on which nothing is missed."""
        link = self._supervisor.link
        if link is None or self._receiver.absent_since is not None:
            # Another link is a change of state, and so is the end of an absence, if it is not told as missed.
            await trio.sleep_forever()
        await link.heard(since)

    def _note_settled(self, event: MessageSettled) -> None:
        self._inbox.add(event, time=self._covered_until())

    def _covered_until(self) -> int:
        """Return the time for an event of our own, which moves the cursor over no absence while it waits."""
        now = self._wall.now()
        return now if (cursor := self.cursor) is None else min(now, cursor.time)

    def _may_send(self) -> AbstractContextManager[None]:
        return self._settler.aside()

    def _done_with(self, event: Event) -> None:
        """Write down that an event is, and how far the application has come (contract R5)."""
        self._journal.done_with(event)
        self._done_so_far()

    def _done_so_far(self) -> None:
        if (cursor := self.cursor) is not None:
            self._journal.advance(cursor)

    def _take_over(self) -> None:
        """Go on with what an earlier process has left."""
        for restored in self._journal.restore(self._note_settled):
            self._sender.take_over(restored)

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
        """Give everything its outcome, or leave it to the next process, and end every iterator.

        The tasks have ended.
        """
        self._sender.abandon(leave=self._journal.survives)
        self._settler.abandon()
        self._buffer.close()
        if self._journal.survives:
            self._buffer.leave_all()
            self._done_so_far()
        else:
            self._buffer.drop_all(DropReason.CLOSED)
        if self.state is not ConnectionState.DISCONNECTED:
            self._status.change(ConnectionState.DISCONNECTED, Reason.CLIENT_CLOSED)
        self._status.close()
        self._inbox.close()
        self._closed = True


def _the_one_that_matters(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the only member that is more than a cancellation; the whole group if there are more or none."""
    members = [error for error in group.exceptions if not _is_only_cancelled(error)]
    return members[0] if len(members) == 1 else group


def _is_only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)

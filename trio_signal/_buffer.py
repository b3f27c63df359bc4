"""The outgoing buffer: a bounded memory channel with an overflow policy (contract O3)."""

import logging
import math
from dataclasses import dataclass
from typing import Final, Literal

import trio

from ._checks import check_choice, check_count
from ._deadlines import Deadlines
from ._errors import BufferFull, ClientClosed, ConfigurationError
from ._lanes import Lanes
from ._outcomes import DropReason, Failed, Ledger, Outcome, OutgoingStatistics, Sent
from ._outgoing import (
    OutgoingMessage,
    conversation_of,
    drop,
    enter_buffer,
    hold,
    is_held,
    is_new,
    is_past_deadline,
    is_waiting,
    leave_to_next,
    on_decided,
    on_done,
    was_in_buffer,
)
from ._waiters import Waiters

_logger: Final = logging.getLogger("trio_signal.buffer")

Overflow = Literal["drop_oldest", "drop_newest", "error", "wait"]

#: Look at no more messages of busy conversations in one go.
_MAX_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The buffer at one moment.

    Attributes:
        waiting: live messages in it.
        waiting_bytes: what they cost, in bytes.
        max_size: the most messages it holds.
        max_bytes: the most bytes it holds.
        outgoing: the ledger of all messages it ever accepted.
    """

    waiting: int
    waiting_bytes: int
    max_size: int
    max_bytes: int
    outgoing: OutgoingStatistics


class MessageBuffer:
    """A first-in, first-out buffer of outgoing messages, bounded in number and bytes.

    All but :meth:`put` and the ways to take are synchronous and work without Trio running, but for
    messages with a deadline, which is a moment of Trio's clock.
    A message that was withdrawn or has expired while it waited counts no more and is
    passed over when its turn comes.

    Whoever sends several at once takes with :meth:`take_in_turn`: of each conversation one at a time.
    What is passed over meanwhile waits on as a part of the buffer. Either all take like this, or nobody.

    Args:
        max_size: the most live messages it holds.
        max_bytes: the most they may cost together, in bytes (text, attachments given
            as bytes, and about 512 for each message).
        overflow: what happens to a message for which there is no room:
            ``"drop_oldest"`` drops from the front until it fits, ``"drop_newest"`` drops
            it, ``"error"`` raises :class:`BufferFull`, ``"wait"`` makes :meth:`put` wait
            (and :meth:`enqueue`, which cannot wait, raise :class:`BufferFull`).
        restored: how many messages an earlier process leaves to it, beyond all bounds.
    """

    def __init__(
        self,
        max_size: int = 100,
        *,
        max_bytes: int = 16 * 1024 * 1024,
        overflow: Overflow = "drop_oldest",
        restored: int = 0,
    ) -> None:
        check_choice("overflow", overflow, Overflow)
        self.max_size: Final = check_count("buffer_size", max_size)
        self.max_bytes: Final = check_count("buffer_bytes", max_bytes)
        self.overflow: Final[Overflow] = overflow
        # Dead messages (withdrawn, expired) stay in the channel until their turn or until it is full. With
        # room for as many dead as live ones, clearing them out costs O(1) a message in the long run.
        self._capacity: Final = 2 * (max_size + restored)
        self._send, self._receive = trio.open_memory_channel[OutgoingMessage](self._capacity)
        #: Who waits gets what comes, or None when the buffer is closed; nothing is queued then.
        self._takers: Final = Waiters[OutgoingMessage | None]()
        #: How many are in the channel, live or dead.
        self._queued = 0
        #: What was taken out of it, before its conversation was free.
        self._lanes: Final = Lanes[OutgoingMessage]()
        self._takes_turns = False
        self._live = 0
        self._bytes = 0
        # What has room but is not written down yet, so is not in the buffer.
        self._promised = 0
        self._promised_bytes = 0
        self._deadlines: Final = Deadlines[OutgoingMessage](is_waiting)
        self._ledger = Ledger()
        self._turn = trio.StrictFIFOLock()
        #: Made by whoever waits for room.
        self._changed: trio.Event | None = None
        self._closed = False

    def __len__(self) -> int:
        """Count the live messages."""
        self._deadlines.look(self._live)
        return self._live

    def is_empty(self) -> bool:
        """Say whether no live message waits."""
        return len(self) == 0

    def enqueue(
        self,
        recipient: str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002  (the name is the caller's)
        deadline: float = math.inf,
    ) -> OutgoingMessage:
        """Add a message at the end; the overflow policy makes room.

        Args:
            recipient: a number, a group, a UUID or a username.
            text: what to say.
            id: a name of your own for the message; a random one by default.
            deadline: drop it if it still waits then, on Trio's clock.

        Raises:
            ConfigurationError: an argument is wrong, or the message alone is over ``max_bytes``.
            BufferFull: there is no room, by policy ``"error"`` or ``"wait"``.
        """
        message = OutgoingMessage(recipient, text, id=id, deadline=deadline)
        self.put_nowait(message)
        return message

    def dequeue(self) -> OutgoingMessage | None:
        """Take the oldest live message, or return None when there is none."""
        while (message := self._take_oldest()) is not None:
            if is_waiting(message):
                return self._taken(message)
        return None

    def drain(self) -> list[OutgoingMessage]:
        """Take all live messages, oldest first, and leave the buffer empty."""
        return list(iter(self.dequeue, None))

    def statistics(self) -> BufferStatistics:
        """Return what it holds and what became of everything it accepted."""
        waiting = len(self)
        return BufferStatistics(
            waiting, self._bytes, self.max_size, self.max_bytes, self._ledger.statistics()
        )

    def put_nowait(self, message: OutgoingMessage) -> None:
        """Accept a message, which must be new, making room as the policy says.

        Raises:
            BufferFull: there is no room, by policy ``"error"`` or ``"wait"``.
            ClientClosed: the buffer was closed.
        """
        if self._admit_nowait(message):
            self.enter(message)

    async def put(self, message: OutgoingMessage) -> None:
        """Accept a message; with policy ``"wait"``, wait for room, in turn.

        A checkpoint. Cancelling while waiting leaves the message unaccepted.

        Raises:
            BufferFull: as :meth:`put_nowait`, by policy ``"error"``.
            ClientClosed: the buffer was closed, perhaps while waiting.
        """
        await trio.lowlevel.checkpoint()
        if self._is_welcome(message):
            self._take_in(message)
        elif await self.admit(message):
            self.enter(message)

    def hand_over(self, message: OutgoingMessage) -> bool:
        """Accept a message if somebody waits to take just such a one; say whether it is so.

        If not, nothing was done: see :meth:`put`. Not a checkpoint.
        """
        return not self._queued and self._is_welcome(message) and self._give(message)

    async def admit(self, message: OutgoingMessage) -> bool:
        """Promise a message its room, so that it can be written down before it is accepted.

        What was promised must be given to :meth:`enter` or to :meth:`release`. A checkpoint, unless there is
        room at once. Cancelling while waiting leaves the message unaccepted.

        Returns:
            Whether there is room. False: it was accepted and dropped at once, by policy
            ``"drop_newest"`` or because its deadline has passed.

        Raises:
            BufferFull: as :meth:`put_nowait`, by policy ``"error"``.
            ClientClosed: the buffer was closed, perhaps while waiting.
        """
        if self._is_welcome(message):
            return self._promise(message)  # noqa: ASYNC910  (as said)
        await trio.lowlevel.checkpoint()
        if self.overflow in ("error", "drop_newest"):
            return self._admit_nowait(message)
        async with self._turn:
            self._check(message)
            while not (self._is_late(message) or self._can_promise(message)):
                # Room comes when something leaves, and when the next message in the buffer expires.
                with trio.move_on_at(min(message.deadline, self._deadlines.earliest)):
                    await self._wait_for_change()
                self._check(message)
            return is_new(message) and self._promise(message)

    def enter(self, message: OutgoingMessage) -> None:
        """Take in a message that has been promised its room. Never waits.

        Raises:
            ClientClosed: the buffer was closed since; release the room.
        """
        if self._closed:
            raise _closed()
        self.release(message)
        if not self._is_late(message):
            self._take_in(message)

    def release(self, message: OutgoingMessage) -> None:
        """Take the promise back."""
        self._promised -= 1
        self._promised_bytes -= message.size
        if self._changed is not None:
            self._notify()

    def restore(self, message: OutgoingMessage) -> None:
        """Take in a message that an earlier process has accepted, whatever room there is."""
        if self._queued or not self._give(message):
            self._accept(message)
            self._append(message)

    async def take(self) -> OutgoingMessage:
        """Wait for the oldest live message and take it.

        A checkpoint. Cancelling is safe: a message is either still in the buffer or returned.

        Raises:
            trio.EndOfChannel: the buffer was closed and is empty.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if (message := self.dequeue()) is not None:
                return message
            if self._closed:
                raise trio.EndOfChannel
            given = await self._takers.wait()
            # It may have expired or been withdrawn since it was given.
            if given is not None and is_held(given):
                return given

    async def take_in_turn(self, done: OutgoingMessage | None = None) -> OutgoingMessage:
        """Wait for the oldest live message of a conversation that is free, and take it.

        Its conversation is busy then, until it is given back as ``done``. A checkpoint unless there is one at
        once. Cancelling is safe: a message is either still in the buffer or returned.

        Args:
            done: taken in turn before; its conversation is free from now on.

        Raises:
            trio.EndOfChannel: the buffer was closed, and what is left in it belongs to busy conversations.
        """
        message = self.next_in_turn(done)
        while message is None:
            if self._queued:
                await trio.lowlevel.checkpoint()
                message = self.next_in_turn()
            elif self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.EndOfChannel
            else:
                given = await self._takers.wait()
                # It may have expired or been withdrawn since it was given.
                message = given if given is None or is_held(given) else self.next_in_turn(given)
        return message  # noqa: ASYNC910  (as said)

    def next_in_turn(self, done: OutgoingMessage | None = None) -> OutgoingMessage | None:
        """Take the oldest live message of a conversation that is free, if there is one at once.

        Args:
            done: taken in turn before; its conversation is free from now on.
        """
        self._takes_turns = True
        if done is not None:
            self._lanes.leave(conversation_of(done))
        # What is aside is older than anything in the channel.
        while (message := self._lanes.take()) is not None:
            if is_waiting(message):
                return self._taken(message)
            self._lanes.leave(conversation_of(message))
        for _ in range(min(self._queued, _MAX_AT_ONCE)):
            message = self._receive_next()
            if is_waiting(message) and self._lanes.occupy(conversation_of(message), message):
                return self._taken(message)
        return None

    def close(self) -> None:
        """Accept nothing more. What waits can still be taken. Idempotent."""
        self._closed = True
        while self._takers.give(None):
            pass
        self._notify()

    def drop_all(self, reason: DropReason) -> None:
        """Give every waiting message the outcome ``Dropped(reason)``."""
        for message in self.drain():
            drop(message, reason)

    def leave_all(self) -> None:
        """Leave every waiting message to the next process."""
        for message in self.drain():
            leave_to_next(message)

    def take_over(self, message: OutgoingMessage) -> None:
        """Count a message as accepted that an earlier process has accepted and begun to send."""
        self._accept(message)

    def _check(self, message: OutgoingMessage) -> None:
        if self._closed:
            raise _closed()
        if not is_new(message):
            raise ConfigurationError("message", "it was withdrawn or has been in a buffer; make a new one")
        if message.size > self.max_bytes:
            raise ConfigurationError(
                "text",
                f"the message takes {message.size} bytes, which is over the whole buffer's {self.max_bytes}",
            )

    def _admit_nowait(self, message: OutgoingMessage) -> bool:
        """Promise a message its room, or drop it, or refuse it. Not for those who wait for room."""
        self._check(message)
        if self._is_late(message):
            return False
        if self._can_promise(message):
            return self._promise(message)
        if self.overflow == "drop_newest":
            self._accept(message)
            drop(message, DropReason.OVERFLOW)
            return False
        raise BufferFull(f"{self._live} messages ({self._bytes} bytes) wait already, and there is no room")

    def _is_welcome(self, message: OutgoingMessage) -> bool:
        """Say whether there is room for a message at once, and nobody waits for room before it."""
        return (
            not self._closed
            and not self._turn.locked()
            and is_new(message)
            and not is_past_deadline(message)
            and self._can_promise(message)
        )

    def _can_promise(self, message: OutgoingMessage) -> bool:
        if self.overflow == "drop_oldest":
            # The oldest make room for it, but what is on its way in must be bounded too.
            live, size = 0, 0
        else:
            self._deadlines.look(self._live)
            live, size = self._live, self._bytes
        return (
            live + self._promised < self.max_size
            and size + self._promised_bytes + message.size <= self.max_bytes
        )

    def _promise(self, message: OutgoingMessage) -> bool:
        self._promised += 1
        self._promised_bytes += message.size
        return True

    def _fits(self, message: OutgoingMessage) -> bool:
        self._deadlines.look(self._live)
        return self._live < self.max_size and self._bytes + message.size <= self.max_bytes

    def _is_late(self, message: OutgoingMessage) -> bool:
        """Accept and drop a message whose deadline has passed; it must not push out another one."""
        if not is_past_deadline(message):
            return False
        self._accept(message)
        drop(message, DropReason.EXPIRED)
        return True

    def _drop_oldest(self) -> None:
        """Drop the oldest live message, which is known to exist."""
        while (message := self._take_oldest()) is not None and not drop(message, DropReason.OVERFLOW):
            pass

    def _accept(self, message: OutgoingMessage) -> None:
        """Take responsibility for a message: from here on it ends in an outcome."""
        self._ledger.accepted += 1
        on_decided(message, self._decided)
        on_done(message, self._told)

    def _take_in(self, message: OutgoingMessage) -> None:
        """Accept a message that may come in: who waits has it then, or it goes to the end."""
        if not self._queued and self._give(message):
            return
        # By policy "drop_oldest" only now: nothing is to be dropped for a message that then does not come.
        while not self._fits(message) and self.overflow == "drop_oldest":
            self._drop_oldest()
        self._accept(message)
        self._append(message)

    def _give(self, message: OutgoingMessage) -> bool:
        """Accept a message if somebody waits to take just such a one; say whether it is so.

        Who waits has it now, though his task runs later. In between it must not count as being in the
        buffer, or making room for the next one would look for it there in vain.
        """
        conversation = conversation_of(message) if self._takes_turns else None
        if conversation is not None and not self._lanes.begin(conversation):
            return False
        if not self._takers.give(message):
            if conversation is not None:
                self._lanes.leave(conversation)
            return False
        self._ledger.accepted += 1
        on_done(message, self._told)
        hold(message)
        return True

    def _append(self, message: OutgoingMessage) -> None:
        enter_buffer(message)
        self._live += 1
        self._bytes += message.size
        self._deadlines.add(message.deadline, message)
        if self._queued == self._capacity:
            self._clear_out()
        if not self._queued and self._takes_turns and self._takers:
            # He waits for another conversation than this one, which is busy, and must get the next.
            self._lanes.occupy(conversation_of(message), message)
        else:
            self._queue(message)

    def _clear_out(self) -> None:
        """Take the dead messages out of a channel that is full of them, keeping the order."""
        waiting = [m for m in (self._receive_next() for _ in range(self._queued)) if is_waiting(m)]
        for message in waiting:
            self._queue(message)

    def _queue(self, message: OutgoingMessage) -> None:
        self._send.send_nowait(message)
        self._queued += 1

    def _take_oldest(self) -> OutgoingMessage | None:
        oldest = self._lanes.take_oldest()
        return self._receive_next() if oldest is None and self._queued else oldest

    def _receive_next(self) -> OutgoingMessage:
        """Take what is next in the channel, which is not empty."""
        self._queued -= 1
        return self._receive.receive_nowait()

    def _taken(self, message: OutgoingMessage) -> OutgoingMessage:
        self._leave(message)
        hold(message)
        return message

    def _leave(self, message: OutgoingMessage) -> None:
        self._live -= 1
        self._bytes -= message.size
        if self._changed is not None:
            self._notify()

    def _decided(self, message: OutgoingMessage) -> None:
        if was_in_buffer(message):
            self._lanes.forget(message)
            self._leave(message)

    def _told(self, message: OutgoingMessage, outcome: Outcome) -> None:
        """Book the outcome of a message, wherever it was."""
        self._ledger.enter(outcome)
        _log(message.id, outcome)

    async def _wait_for_change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def _closed() -> ClientClosed:
    return ClientClosed("the client has been closed and takes no more messages")


def _log(message_id: str, outcome: Outcome) -> None:
    if isinstance(outcome, Sent):
        _logger.debug("message %s was sent as %d", message_id, outcome.timestamp)
    elif isinstance(outcome, Failed):
        _logger.warning("message %s failed (%s): %s", message_id, outcome.certainty, outcome.error)
    else:
        level = logging.INFO if outcome.reason is DropReason.WITHDRAWN else logging.WARNING
        _logger.log(level, "message %s was dropped: %s", message_id, outcome.reason)

"""The Server-Sent Events of signal-cli's daemon as a link.

Theory of operation
===================

What the daemon hands over counts for it as delivered: it deletes its copy of a message, whatever becomes of
the bytes. So the question at each end is what it may have written that nobody has read.

- While nobody listens: with the receive mode ``on-start`` everything that comes; with ``on-connection`` and
  ``manual`` nothing, since messages wait on Signal's server.
- Between the moment when a connection died and the moment when the daemon notices that: everything, in each
  mode. It notices by a write that fails: at the second keep-alive (30 s) where its own machine gets an
  answer, and where none comes when TCP gives the connection up, on Linux after some 15 minutes (measured).
- Nothing, if the daemon ended the response itself, with its last chunk. A proxy's end looks the same but
  for how the response's head is spelled. A connection that is closed without a last chunk is no such end: it
  may be that of a forwarder alone. So a daemon that was killed gets a gap that it did not need.
- What waited, too, if a request for events may have come to the daemon and its answer not to us: of such an
  attempt the same holds as of a connection that died, even of the very first.

The response is read by :meth:`EventLink.receive` alone, its head included, since the daemon may hold that
back for 15 s (before 0.14.4) and events may come with it.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final
from urllib.parse import quote

import trio

from .._continuity import GapReason
from .._envelopes import Undecodable
from .._errors import GatewayError, LinkLost, Reason
from .._http import Unanswered
from . import Absence
from ._backlog import Backlog
from ._calls import Call
from ._event_answers import WORDY_STATUSES, has_left_all, is_the_daemons, read_refusal
from ._requests import Requests
from ._sse import EventParser, Oversize

#: The daemon writes something every 15 s; nothing for so long, in seconds, and it is dead (contract L3).
SILENCE_LIMIT: Final = 40.0

#: How much longer than an attempt elsewhere the response's head may take, in seconds (contract B5): by itself
#: more than the 15 s of a daemon before 0.14.4, however short an attempt may be.
_PATIENCE: Final = 16.0

#: For how long at most the daemon goes on writing into a connection that is dead, in seconds: Linux gives one
#: up 955 s after the last byte that came through (measured), at the worst after some 1,075.
_UNNOTICED: Final = 1100.0

#: How long the words of a refusal are waited for, in seconds, and how many bytes of them are read.
_WORDS_LIMIT: Final = 5.0
_MAX_WORDS: Final = 4096


class EventLink:
    """The daemon's stream of events. See :class:`trio_signal.gateways.Link`.

    Args:
        requests: how to reach the daemon.
        account: whose messages; None for those of all accounts.
        stack: where what is opened is put; whoever made it closes it.
        keeps: whether messages wait on Signal's server while nobody listens.
        quiet_time: after how long without an event nothing is waiting any more, in seconds.
        max_event: the largest event that is kept, in bytes.
        now: tells the time in milliseconds since the epoch.
    """

    def __init__(
        self,
        requests: Requests,
        account: str | None,
        stack: AsyncExitStack,
        *,
        keeps: bool,
        quiet_time: float,
        max_event: int,
        now: Callable[[], int],
    ) -> None:
        self._requests: Final = requests
        self._account: Final = account
        self._stack: Final = stack
        self._keeps: Final = keeps
        self._quiet_time: Final = quiet_time
        self._now: Final = now
        self._parser: Final = EventParser(max_event)
        self._pieces: AsyncIterator[bytes] | None = None
        self._end: GatewayError | None = None
        self._is_nothing_lost = self._is_direct = False
        self._has_daemon_ended = False
        self._bytes_received = 0
        self._last_received = self._covered = trio.current_time()
        self._answered: Final = trio.Event()
        #: Set when all that came has been given, if anybody waits for that; see :meth:`heard`.
        self._all_given: trio.Event | None = None
        self._backlog = self._new_backlog()
        self._is_syncing = keeps
        self._synchronised: Final = trio.Event()

    @property
    def patience(self) -> float:
        """See :class:`trio_signal.gateways.Link`. Before 0.14.4 the head comes after 15 s."""
        return _PATIENCE

    @property
    def bytes_received(self) -> int:
        """See :class:`trio_signal.gateways.Link`."""
        return self._bytes_received

    @property
    def last_received(self) -> float:
        """See :class:`trio_signal.gateways.Link`."""
        return self._last_received

    @property
    def absence(self) -> Absence | None:
        """See :class:`trio_signal.gateways.Link`. None after an attempt that cannot have lost anything."""
        if self._is_nothing_lost:
            return None
        lasts = math.inf
        if self._keeps:
            # A message of which only a part has come is lost: the daemon takes it for delivered.
            lasts = 0.0 if self._has_daemon_ended and not self._parser.rest else _UNNOTICED
        return Absence(GapReason.GATEWAY, self._covered, lasts)

    async def probe(self) -> None:
        """See :class:`trio_signal.gateways.Link`. The response's head is the answer."""
        await self._answered.wait()

    async def receive(self) -> list[bytes | Undecodable]:
        """See :class:`trio_signal.gateways.Link`. Cancelled while it waits, it has ended the link.

        What had come whole by then was given before.
        """
        await trio.lowlevel.checkpoint()
        if self._end is not None:
            raise self._end
        if self._pieces is None:
            self._pieces = await self._open()
        if self._backlog.is_over:
            # Only now is everything that was given in the inbox (contract C3).
            self._synchronised.set()
        events: list[bytes | Undecodable] = []
        while not events:
            events = self._read(await self._next_piece(self._pieces))
        return events

    async def synchronise(self) -> None:
        """See :class:`trio_signal.gateways.Link`. See :class:`Backlog` for what ends it."""
        await trio.lowlevel.checkpoint()
        while self._is_syncing and not self._synchronised.is_set():
            ends_at = self._backlog.ends_at
            if trio.current_time() >= ends_at:
                break
            with trio.move_on_at(ends_at):
                await self._synchronised.wait()
        self._is_syncing = False

    async def watch(self) -> None:
        """See :class:`trio_signal.gateways.Link`."""
        while True:
            await trio.sleep_until(self._last_received + SILENCE_LIMIT)
            if trio.current_time() >= self._last_received + SILENCE_LIMIT:
                raise LinkLost(
                    f"nothing came for {SILENCE_LIMIT:g} s, not even a keep-alive", reason=Reason.NO_ANSWER
                )

    async def heard(self, since: float) -> None:
        """See :class:`trio_signal.gateways.Link`. A keep-alive is enough."""
        await trio.lowlevel.checkpoint()
        while self._last_received < since:
            if self._all_given is None:
                self._all_given = trio.Event()
            await self._all_given.wait()

    async def close(self) -> None:
        """See :class:`trio_signal.gateways.Link`. There is no goodbye: leaving the link closes the response.

        Closed here, it would break under :meth:`receive` and look like an end of the other side's.
        """
        await trio.lowlevel.checkpoint()

    async def _open(self) -> AsyncIterator[bytes]:
        """Ask for the events and wait for the response's head. A checkpoint.

        Raises:
            GatewayError: there are none; see :meth:`trio_signal.gateways.Gateway.open_link`.
        """
        self._end = LinkLost("asking for events was cancelled", reason=Reason.CONNECTION_LOST)
        # Nobody has been asked for anything yet.
        self._is_nothing_lost = True
        target = "/api/v1/events" + ("" if self._account is None else f"?account={quote(self._account)}")
        call = Call("GET", target, {"Accept": "text/event-stream"})
        opening = self._requests.stream(call, self._note_bytes, self._note_dialled)
        try:
            response = await self._stack.enter_async_context(opening)
        except Unanswered as error:
            raise self._lost(error) from error
        address, status, headers = self._requests.address, response.status, response.headers
        self._is_nothing_lost |= has_left_all(status, headers)
        words = await _words(response) if status in WORDY_STATUSES else None
        refusal = read_refusal(address, self._account, status, headers, words)
        if refusal is not None:
            raise refusal
        self._is_nothing_lost = False
        self._is_direct = is_the_daemons(address, headers)
        self._end = None
        self._backlog = self._new_backlog()
        self._answered.set()
        return response

    async def _next_piece(self, pieces: AsyncIterator[bytes]) -> bytes:
        """Wait for more of the response. A checkpoint.

        Raises:
            LinkLost: it has ended.
        """
        if self._all_given is not None:
            self._all_given.set()
            self._all_given = None
        # It stands if this is cancelled: what is torn cannot be read on.
        self._end = LinkLost("reading events was cancelled", reason=Reason.CONNECTION_LOST)
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            self._has_daemon_ended = self._is_direct
            self._end = LinkLost("the daemon has ended the stream", reason=Reason.CLOSED_BY_GATEWAY)
        except Unanswered as error:
            end = self._end = self._lost(error)
            end.__cause__ = error
        else:
            self._end = None
            return piece
        raise self._end

    def _read(self, piece: bytes) -> list[bytes | Undecodable]:
        events = self._parser.feed(piece)
        if not self._parser.rest:
            self._covered = self._last_received
        if self._is_syncing:
            for event in events:
                self._backlog.take(None if isinstance(event, Oversize) else event, trio.current_time())
        return [_undecodable(event) if isinstance(event, Oversize) else event for event in events]

    def _new_backlog(self) -> Backlog:
        return Backlog(
            trio.current_time(), self._now(), quiet_time=self._quiet_time, serves_all=self._account is None
        )

    def _note_dialled(self) -> None:
        # From now on the daemon may give messages to the request. Where nothing is kept all of them are
        # missing already, since the link before; where there was none, nothing is.
        self._is_nothing_lost = not self._keeps

    def _note_bytes(self, count: int) -> None:
        if count:
            self._bytes_received += count
            self._last_received = trio.current_time()

    def _lost(self, error: Unanswered) -> LinkLost:
        reason = Reason.CONNECTION_LOST if self._answered.is_set() else Reason.ATTEMPT_FAILED
        return LinkLost(f"the stream of events broke: {error}", reason=reason)


async def _words(pieces: AsyncIterator[bytes]) -> bytes | None:
    """Return the beginning of a refusal's body; None if it does not come. A checkpoint."""
    await trio.lowlevel.checkpoint()
    words = b""
    with trio.move_on_after(_WORDS_LIMIT), suppress(Unanswered):
        async for piece in pieces:
            words += piece
            if len(words) > _MAX_WORDS:
                break
        return words
    return None


def _undecodable(event: Oversize) -> Undecodable:
    return Undecodable(b"", f"an event of {event.size} bytes is over max_message_size")

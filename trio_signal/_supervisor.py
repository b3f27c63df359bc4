"""The reconnect supervisor: sleep, dial, sync, serve, note why it ended, again."""

import logging
import math
import ssl
import sys
from collections.abc import Sequence
from typing import Final

import trio

from ._envelopes import Undecodable
from ._errors import GatewayError, LinkLost, Reason, Remedy, forget_frames, remedy_for, told
from ._overlap import LONGEST, Overlap
from ._probe import Probe
from ._receiver import Receiver, WallClock
from ._states import ConnectionState
from ._status import StateLog
from .gateways import Gateway, Link, Numbered

_logger: Final = logging.getLogger("trio_signal.supervisor")

#: Seconds for the goodbye of a WebSocket at the end.
_GOODBYE: Final = 1.0

#: Ends that are only suspected: nothing came, or nothing that counts.
_SUSPICIONS: Final = frozenset({Reason.NO_ANSWER, Reason.GATEWAY_STALLED})


class Supervisor:
    """Keeps a link to the gateway, whatever happens to it.

    Each round of :meth:`run` is one generation: everything that belongs to a connection
    lives inside its own nursery and has ended before the next round begins, so an old
    connection cannot touch the state or the inbox (contract C4). The exception is a link that is only
    suspected to be dead: see :mod:`._overlap`. It has no say in the state either.

    Args:
        gateway: how to connect.
        status: where changes of state are made.
        receiver: takes in what comes.
        wall: tells the time of day.
        attempt_timeout: the deadline of one attempt, in seconds (contract B5).
        probe: notices, while we sleep, that the gateway is back; None for sleeping on.
    """

    def __init__(
        self,
        gateway: Gateway,
        status: StateLog,
        receiver: Receiver,
        wall: WallClock,
        *,
        attempt_timeout: float,
        probe: Probe | None,
    ) -> None:
        self._gateway: Final = gateway
        self._status: Final = status
        self._receiver: Final = receiver
        self._wall: Final = wall
        self._attempt_timeout: Final = attempt_timeout
        self._probe: Final = probe
        self._hurry = trio.Event()
        self._connected_before = False
        self._closing = False
        self._overlap: Overlap | None = None
        self.link: Link | None = None
        self.next_attempt: float | None = None

    async def run(self) -> Exception | None:
        """Connect again and again. Cancelling is safe and closes the connection at once.

        Returns:
            A failure that cannot be mended by trying again, and only while no connection
            has ever stood; or None after :meth:`say_goodbye`.
        """
        async with trio.open_nursery() as links:
            failure = await self._go_round(links)
            links.cancel_scope.cancel()
        return failure

    async def _go_round(self, links: trio.Nursery) -> Exception | None:
        """Make one connection after the other, each in a task of ``links``; as :meth:`run`."""
        reason, delay, error = Reason.START, 0.0, None
        while True:
            self._status.change(ConnectionState.RECONNECTING, reason, delay=delay)
            await self._sleep(delay, error)
            verdict = _Verdict()
            links.start_soon(self._connect_and_serve, verdict)
            error = await verdict.wait()
            if self._closing:
                return None
            remedy = self._judge(error)
            hopeless = remedy is Remedy.GIVE_UP and not self._connected_before
            self._status.change(ConnectionState.DISCONNECTED, _reason(error, remedy), error=error)
            if hopeless:
                return error
            reason, delay = Reason.RETRY, self._delay(error, remedy)

    def hurry(self) -> None:
        """End the present sleep before an attempt, if there is one (contract B4)."""
        self._hurry.set()

    async def say_goodbye(self) -> None:
        """Close the connection politely, within a second, and make no other. A checkpoint."""
        self._closing = True
        old = self._overlap.link if self._overlap is not None else None
        with trio.move_on_after(_GOODBYE):
            async with trio.open_nursery() as nursery:
                for link in (self.link, old):
                    if link is not None:
                        nursery.start_soon(link.close)
        await trio.lowlevel.checkpoint()

    async def _sleep(self, delay: float, error: Exception | None) -> None:
        """Sleep before an attempt, or until there is reason to hurry. A checkpoint.

        Args:
            delay: for how long, in seconds.
            error: why there is no connection now.
        """
        self._hurry = trio.Event()
        self.next_attempt = trio.current_time() + delay
        with trio.move_on_after(delay):
            async with trio.open_nursery() as nursery:
                self._start_knocking(nursery, error)
                await self._hurry.wait()
                nursery.cancel_scope.cancel(reason="the sleep before an attempt was ended")
        self.next_attempt = None

    def _start_knocking(self, nursery: trio.Nursery, error: Exception | None) -> None:
        if self._probe is None or self._gateway.is_shared:
            return
        unheard = isinstance(error, LinkLost) and error.nobody_listens
        if self._probe.is_due(self._status.manager.attempt_count, nobody_listens=unheard):
            nursery.start_soon(self._knock, self._probe)

    async def _knock(self, probe: Probe) -> None:
        if await probe.wait():
            self.hurry()

    async def _connect_and_serve(self, verdict: "_Verdict") -> None:
        """Make one connection and keep it while it lasts; tell why it ended, or is taken for dead."""
        error: Exception | None = None
        handled = sys.exception()
        await trio.lowlevel.checkpoint()
        # Entering a link is nothing but checkpoints, which flake8-async cannot see through the protocol.
        started = trio.current_time()
        with trio.CancelScope(deadline=started + self._attempt_timeout) as attempt:  # noqa: ASYNC912
            try:
                async with self._gateway.open_link(self._receiver.resume) as link:
                    await self._serve(link, attempt, verdict)
            # Whatever ends a connection, the answer is the next one. It may come together with a
            # cancellation, which goes its own way.
            except* Exception as caught:  # noqa: BLE001
                error = self._noted(told(caught), handled)
        limit = attempt.deadline - started
        verdict.tell(error or LinkLost(f"no connection within {limit:g} s: {self._gateway.phase}"))

    async def _serve(self, link: Link, attempt: trio.CancelScope, verdict: "_Verdict") -> None:
        if not self._gateway.allows_overlap:
            # Another kind of gateway has taken the old one's place.
            self._end_overlap()
        self.link = link
        self._receiver.begin(link)
        try:
            async with trio.open_nursery() as nursery:
                # Receiving starts before the probe: its pong may stand behind messages.
                nursery.start_soon(self._receive, link)
                attempt.deadline += link.patience
                await link.probe()
                attempt.deadline = math.inf
                self._status.change(ConnectionState.SYNCING, Reason.LINK_UP)
                nursery.start_soon(self._watch, link, verdict)
                await link.synchronise()
                if self._overlap is not None:
                    self._end_overlap(is_whole=await self._overlap.has_caught_up())
                # A gateway that keeps nothing for us is up to date as soon as we have said so.
                self._receiver.report_absence()
                self._connected_before = True
                self._status.change(ConnectionState.CONNECTED, Reason.SYNCHRONISED)
        finally:
            self._leave(link)

    async def _receive(self, link: Link) -> None:
        """Take in what comes over a link until it ends, by raising :class:`LinkLost`. Cancelling is safe."""
        receive, take_in = link.receive, self._receiver.take_in
        while True:
            items = await receive()
            if link is self.link and self._overlap is None:
                take_in(items)
            else:
                self._take_in_beside(link, items)

    def _take_in_beside(self, link: Link, items: Sequence[str | bytes | Undecodable | Numbered]) -> None:
        """Take in what came while there are two links, or on one that is none any more."""
        overlap = self._overlap
        if link is not self.link:
            # One that was given up for good has no say, though it may have had something in hand.
            if overlap is not None and overlap.link is link:
                overlap.take_in(items)
        elif overlap is not None and not overlap.hold(items):
            self._end_overlap()

    async def _watch(self, link: Link, verdict: "_Verdict") -> None:  # noqa: ASYNC910  (watch() is one)
        """Watch over a link, and let it go on for a while where its end is only suspected."""
        suspicion: LinkLost | None = None
        try:
            await link.watch()
        except LinkLost as error:
            if not self._may_go_on(error):
                raise
            suspicion = error
        if suspicion is not None:
            await self._go_on(link, suspicion, verdict)
            raise suspicion

    def _may_go_on(self, error: LinkLost) -> bool:
        is_up = self._status.state is ConnectionState.CONNECTED and not self._closing
        return is_up and error.reason in _SUSPICIONS and self._gateway.allows_overlap

    async def _go_on(self, link: Link, error: LinkLost, verdict: "_Verdict") -> None:
        """Give a link up, but keep it open until another has taken its place, or it has ended."""
        self._leave(link)
        stalled = error.reason is Reason.GATEWAY_STALLED
        overlap = self._overlap = Overlap(link, self._receiver, has_stalled=stalled)
        verdict.tell(error)
        try:
            with trio.move_on_after(LONGEST):
                await overlap.over.wait()
        finally:
            if self._overlap is overlap:
                self._end_overlap()

    def _leave(self, link: Link) -> None:
        """Note that the present link is none any more, and what is missed from now on."""
        if self.link is not link:
            return
        self.link = None
        if self._overlap is not None and self._overlap.is_holding:
            self._end_overlap()
        if (absence := link.absence) is not None:
            self._receiver.begin_absence(absence.reason, self._wall.at(absence.since), absence.lasts)

    def _end_overlap(self, *, is_whole: bool = False) -> None:
        overlap, self._overlap = self._overlap, None
        if overlap is not None:
            overlap.end(is_whole=is_whole)

    def _noted(self, error: Exception, handled: BaseException | None) -> Exception:
        if not isinstance(error, GatewayError | OSError | trio.BrokenResourceError | ssl.SSLError):
            # Not an end that is known: it is survived like the others, but somebody should see it.
            _logger.error("unexpected error in a connection", exc_info=error)
        # The history of states keeps many of them.
        forget_frames(error, handled=handled)
        return error

    def _judge(self, error: Exception) -> Remedy:
        """Sort the error; refused credentials are permanent unless there is somebody to ask for others."""
        remedy = remedy_for(error)
        cannot_renew = remedy is Remedy.RENEW_CREDENTIALS and not self._gateway.can_renew_credentials
        return Remedy.GIVE_UP if cannot_renew else remedy

    def _delay(self, error: Exception, remedy: Remedy) -> float:
        manager = self._status.manager
        if remedy is Remedy.GIVE_UP:
            _logger.error("this will not pass by itself, trying on all the same: %s", error)
            return manager.backoff.maximum
        wait = getattr(error, "retry_after", None)
        return manager.backoff.delay(manager.attempt_count + 1, retry_after=wait)


class _Verdict:
    """Why a connection ended, or is taken for dead, whichever is told first."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._told: Final = trio.Event()

    def tell(self, error: Exception) -> None:
        """Let the next attempt begin, unless it has."""
        self._error = self._error or error
        self._told.set()

    async def wait(self) -> Exception:
        """Wait until it is told. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while self._error is None:
            await self._told.wait()
        return self._error


def _reason(error: Exception, remedy: Remedy) -> Reason:
    if remedy is Remedy.RENEW_CREDENTIALS:
        return Reason.REFUSED
    if remedy is Remedy.GIVE_UP:
        return Reason.PERMANENT
    return error.reason if isinstance(error, LinkLost) else Reason.ATTEMPT_FAILED

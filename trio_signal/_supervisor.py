"""The reconnect supervisor: sleep, dial, sync, serve, note why it ended, again."""

import logging
import math
import ssl
from typing import Final

import trio

from ._errors import GatewayError, LinkLost, Reason, Remedy, remedy_for, told
from ._receiver import Receiver, WallClock
from ._states import ConnectionState
from ._status import StateLog
from .gateways import Gateway, Link

_logger: Final = logging.getLogger("trio_signal.supervisor")

#: Seconds for the goodbye of a WebSocket at the end.
_GOODBYE: Final = 1.0


class Supervisor:
    """Keeps a link to the gateway, whatever happens to it.

    Each round of :meth:`run` is one generation: everything that belongs to a connection
    lives inside its own nursery and has ended before the next round begins, so an old
    connection cannot touch the state or the inbox (contract C4).

    Args:
        gateway: how to connect.
        status: where changes of state are made.
        receiver: takes in what comes.
        wall: tells the time of day.
        attempt_timeout: the deadline of one attempt, in seconds (contract B5).
    """

    def __init__(
        self,
        gateway: Gateway,
        status: StateLog,
        receiver: Receiver,
        wall: WallClock,
        *,
        attempt_timeout: float,
    ) -> None:
        self._gateway: Final = gateway
        self._status: Final = status
        self._receiver: Final = receiver
        self._wall: Final = wall
        self._attempt_timeout: Final = attempt_timeout
        self._hurry = trio.Event()
        self._connected_before = False
        self._closing = False
        self.link: Link | None = None
        self.next_attempt: float | None = None

    async def run(self) -> Exception | None:
        """Connect again and again. Cancelling is safe and closes the connection at once.

        Returns:
            A failure that cannot be mended by trying again, and only while no connection
            has ever stood; or None after :meth:`say_goodbye`.
        """
        reason, delay = Reason.START, 0.0
        while True:
            self._status.change(ConnectionState.RECONNECTING, reason, delay=delay)
            await self._sleep(delay)
            error = await self._connect_and_serve()
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
        await trio.lowlevel.checkpoint()
        if self.link is not None:
            with trio.move_on_after(_GOODBYE):
                await self.link.close()

    async def _sleep(self, delay: float) -> None:
        self._hurry = trio.Event()
        self.next_attempt = trio.current_time() + delay
        with trio.move_on_after(delay):
            await self._hurry.wait()
        self.next_attempt = None

    async def _connect_and_serve(self) -> Exception:
        """Make one connection and keep it while it lasts; return why it ended."""
        error: Exception | None = None
        await trio.lowlevel.checkpoint()
        # Entering a link is nothing but checkpoints, which flake8-async cannot see through the protocol.
        started = trio.current_time()
        with trio.CancelScope(deadline=started + self._attempt_timeout) as attempt:  # noqa: ASYNC912
            try:
                async with self._gateway.open_link(self._receiver.resume) as link:
                    await self._serve(link, attempt)
            # Whatever ends a connection, the answer is the next one. It may come together with a
            # cancellation, which goes its own way.
            except* Exception as caught:  # noqa: BLE001
                error = self._noted(told(caught))
        limit = attempt.deadline - started
        return error or LinkLost(f"no connection within {limit:g} s: {self._gateway.phase}")

    async def _serve(self, link: Link, attempt: trio.CancelScope) -> None:
        self.link = link
        self._receiver.begin(link)
        try:
            async with trio.open_nursery() as nursery:
                # Receiving starts before the probe: its pong may stand behind messages.
                nursery.start_soon(self._receiver.run, link)
                attempt.deadline += link.patience
                await link.probe()
                attempt.deadline = math.inf
                self._status.change(ConnectionState.SYNCING, Reason.LINK_UP)
                nursery.start_soon(link.watch)
                await link.synchronise()
                # A gateway that keeps nothing for us is up to date as soon as we have said so.
                self._receiver.report_absence()
                self._connected_before = True
                self._status.change(ConnectionState.CONNECTED, Reason.SYNCHRONISED)
        finally:
            if (absence := link.absence) is not None:
                self._receiver.begin_absence(absence.reason, self._wall.at(absence.since), absence.lasts)
            self.link = None

    def _noted(self, error: Exception) -> Exception:
        if not isinstance(error, GatewayError | OSError | trio.BrokenResourceError | ssl.SSLError):
            # Not an end that is known: it is survived like the others, but somebody should see it.
            _logger.error("unexpected error in a connection", exc_info=error)
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


def _reason(error: Exception, remedy: Remedy) -> Reason:
    if remedy is Remedy.RENEW_CREDENTIALS:
        return Reason.REFUSED
    if remedy is Remedy.GIVE_UP:
        return Reason.PERMANENT
    return error.reason if isinstance(error, LinkLost) else Reason.ATTEMPT_FAILED

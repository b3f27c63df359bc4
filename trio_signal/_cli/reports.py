"""What the daemon tells: one structlog event for each thing that happens, without text unless asked for."""

import os
import signal
from typing import TYPE_CHECKING, Final

from structlog.typing import FilteringBoundLogger

from .. import __version__
from .._client import SignalClient
from .._continuity import Gap
from .._dial import parse_url
from .._envelopes import ReceivedMessage, Undecodable
from .._errors import ConfigurationError, FailedRecipient, StoreError
from .._events import ChallengeRequired, Event, MessageSettled
from .._outcomes import DropReason, Failed, Outcome, Sent
from .._states import Backoff, ConnectionState
from .._status import StateChange
from .text import iso

if TYPE_CHECKING:
    # It needs an extra that a daemon without a hub does not.
    from ..hub import Hub


class Reports:
    """Tells events. All methods are synchronous and never fail.

    Args:
        log: where they go.
        show_text: whether received text is told.
    """

    def __init__(self, log: FilteringBoundLogger, *, show_text: bool) -> None:
        self._log: Final = log
        self._show_text: Final = show_text

    def started(
        self,
        *,
        gateway: str,
        account: str | None,
        backoff: Backoff,
        buffer_size: int,
        overflow: str,
        delivery: str,
    ) -> None:
        """Tell what runs; of the gateway's URL neither path nor password."""
        self._log.info(
            "daemon_started",
            connection_resilience="enabled",
            reconnection_backoff=f"exponential_{backoff.initial:g}s_to_{backoff.maximum:g}s",
            reconnection_jitter=backoff.jitter,
            message_buffer_size=buffer_size,
            overflow=overflow,
            delivery=delivery,
            gateway=str(parse_url(gateway)),
            account=account,
            version=__version__,
        )

    def store_opened(self, path: str | os.PathLike[str], *, durability: str, taken_over: int) -> None:
        """Tell where is kept what must survive, and how many messages an earlier process has left in it."""
        self._log.info(
            "store_opened", path=os.fspath(path), durability=durability, messages_taken_over=taken_over
        )

    def store_failed(self, problem: StoreError, line: int) -> None:
        """Tell that a line of the input waits, since what it says cannot be kept."""
        self._log.error(
            "store_failed", line=line, error=str(problem), consequence="no input is read until it works"
        )

    def change(self, change: StateChange) -> None:
        """Tell a change of state, and the attempt that begins with it, if one does."""
        delay = None if change.delay is None else round(change.delay, 3)
        tell = self._log.info if change.error is None else self._log.warning
        tell(
            "connection_status_changed",
            previous=change.previous.value,
            current=change.current.value,
            reason=change.reason.value,
            attempt=change.attempt,
            delay=delay,
            error=None if change.error is None else str(change.error),
        )
        if change.current is ConnectionState.RECONNECTING:
            self._log.info("reconnection_attempt", attempt=change.attempt, delay=delay)

    def changes_missed(self, count: int) -> None:
        """Tell that changes of state came faster than they could be told."""
        self._log.error("connection_status_missed", changes=count)

    def event(self, event: Event) -> None:
        """Tell what arrived."""
        match event:
            case ReceivedMessage():
                self._message(event)
            case Gap():
                self._gap(event)
            case Undecodable():
                self._log.warning("undecodable", reason=event.reason, error=event.error, size=len(event.raw))
            case ChallengeRequired():
                self._challenge(event)
            case MessageSettled():
                self.settled(event)

    def settled(self, event: MessageSettled) -> None:
        """Tell what became of a message that an earlier process had accepted."""
        self.outcome(event.message_id, event.outcome)

    def kept(self, message_id: str) -> None:
        """Tell of a message that waits in the store for the next process."""
        self._log.info("message_kept", id=message_id)

    def outcome(self, message_id: str | None, outcome: Outcome) -> None:
        """Tell what became of a message that was to be sent."""
        if isinstance(outcome, Sent):
            failed = [_who(recipient) for recipient in outcome.failed] or None
            self._log.info(
                "outcome", id=message_id, outcome="sent", message_timestamp=outcome.timestamp, failed=failed
            )
        elif isinstance(outcome, Failed):
            certainty, error = outcome.certainty.value, str(outcome.error)
            self._log.warning("outcome", id=message_id, outcome="failed", certainty=certainty, error=error)
        else:
            self._log.warning("outcome", id=message_id, outcome="dropped", reason=outcome.reason.value)

    def not_accepted(self, message_id: str | None) -> None:
        """Tell of a message that was read, but was not taken on before the end."""
        self._log.warning("outcome", id=message_id, outcome="dropped", reason=DropReason.CLOSED.value)

    def line_skipped(self, number: int, problem: Exception, message_id: str | None = None) -> None:
        """Tell that a line of the input is not sent, and why."""
        words = str(problem)
        if isinstance(problem, ConfigurationError) and problem.argument == "recipient":
            # The library's sentence repeats the value, which can be anything that was piped in by mistake.
            words = "its recipient is no number (+15550100), group (group.…=), UUID or username (ada.01)"
        self._log.warning("line_skipped", line=number, id=message_id, problem=words)

    def input_ended(self, error: OSError | None = None) -> None:
        """Tell that no more messages to send will come."""
        if error is None:
            self._log.info("input_ended")
        else:
            self._log.warning("input_failed", error=error.strerror or str(error))

    def hub_started(self, hub: "Hub", *, has_key: bool) -> None:
        """Tell where clients can connect, and whether they need a token."""
        host, port = hub.address
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._log.info("hub_started", address=address, page=f"{hub.url}/", key=has_key)
        if not has_key:
            self._log.warning("hub_without_key", consequence="everybody on this machine may read and send")

    def hub_stopped(self, hub: "Hub") -> None:
        """Tell what the hub has done. All its clients are gone."""
        counters = hub.counters
        self._log.info(
            "hub_stopped",
            numbered=hub.log.head,
            delivered=hub.connections.delivered,
            connections=counters.accepted_connections,
            websockets=counters.websockets_opened,
            recoveries=counters.recoveries,
            sends=sum(counters.sends.values()),
            refused=sum(counters.refused.values()),
        )

    def stopping(self, caught: signal.Signals, *, pending: int, within: float) -> None:
        """Tell that what waits is still sent, and for how long."""
        self._log.info("daemon_stopping", signal=caught.name, pending=pending, within=within)

    def cancelled(self, caught: signal.Signals) -> None:
        """Tell that what waits is given up."""
        self._log.warning("daemon_cancelled", signal=caught.name)

    def stopped(self, client: SignalClient, *, unsent: int, uptime: float) -> None:
        """Tell the ledger: ``accepted = sent + dropped + failed + pending``, and what came in."""
        statistics = client.statistics()
        outgoing, receiving = statistics.buffer.outgoing, statistics.receiving
        self._log.info(
            "daemon_stopped",
            accepted=outgoing.accepted,
            sent=outgoing.sent,
            dropped=sum(outgoing.dropped.values()),
            failed=sum(outgoing.failed.values()),
            pending=outgoing.pending,
            received=receiving.received,
            undecodable=receiving.undecodable,
            duplicates=receiving.duplicates,
            gaps=receiving.gaps,
            unsent=unsent,
            uptime=round(uptime, 3),
        )

    def _message(self, message: ReceivedMessage) -> None:
        text = {"text": message.text} if self._show_text else {}
        self._log.info(
            "message_received",
            message_timestamp=message.timestamp,
            kind=message.kind.value,
            sender=message.sender,
            group=message.group is not None,
            **text,
        )

    def _gap(self, gap: Gap) -> None:
        since, until = iso(gap.since), iso(gap.until)
        self._log.warning(
            "gap",
            reason=gap.reason.value,
            since=since,
            until=until,
            count=gap.count,
            first=gap.first,
            last=gap.last,
        )

    def _challenge(self, challenge: ChallengeRequired) -> None:
        # These tokens are no secret of ours: they name what a person has to solve.
        self._log.warning(
            "challenge_required",
            account=challenge.account,
            tokens=list(challenge.tokens),
            paused_for=challenge.paused_for,
        )


def _who(failed: FailedRecipient) -> dict[str, str]:
    return {"recipient": failed.recipient, "reason": failed.reason}

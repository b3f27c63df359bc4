"""``GET /metrics``: the hub's figures as Prometheus text.

No label names a client or the account: the first would grow without bound, the second is nobody's
business. Every label's values come from a small fixed set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .. import __version__
from .._client import SignalClient
from .._continuity import GapReason
from .._errors import Certainty
from .._states import ConnectionState
from .._statistics import ClientStatistics
from ._status import HubCounters, StatusBoard
from .connections import ConnectionFigures
from .log import MessageLog

#: The Content-Type of what :func:`metrics` returns.
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_PREFIX: Final = "trio_signal_hub_"


def metrics(
    signal: SignalClient,
    log: MessageLog,
    board: StatusBoard,
    figures: Sequence[ConnectionFigures],
    counters: HubCounters,
) -> bytes:
    """Return all figures in Prometheus' text format. Must be called inside ``trio.run()``.

    Args:
        signal: the hub's own client.
        log: where its messages are kept.
        board: what was counted on the way from the gateway to the clients.
        figures: the hub's clients.
        counters: what the server has counted.
    """
    # No registry: the global one belongs to the process and may hold others' metrics, and the figures are
    # those of this moment.
    return generate_latest(_HubCollector(signal, log, board, figures, counters))


@dataclass(frozen=True, slots=True)
class _HubCollector(Collector):
    signal: SignalClient
    log: MessageLog
    board: StatusBoard
    figures: Sequence[ConnectionFigures]
    counters: HubCounters

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        client = self.signal.statistics()
        yield InfoMetricFamily("trio_signal_hub", "The hub's version.", {"version": __version__})
        yield from _link(client)
        yield from _receiving(client, self.board)
        yield from _sending(client)
        yield from _log(self.log, self.board)
        yield from _clients(self.figures, self.board, self.counters)
        yield from _requests(self.counters)


def _link(client: ClientStatistics) -> Iterator[Metric]:
    now = trio.current_time()
    yield _by(
        GaugeMetricFamily,
        "link_state",
        "1 for the state that the link to the gateway is in, 0 for the others.",
        "state",
        {state.value: int(state is client.state) for state in ConnectionState},
    )
    yield _gauge("link_state_seconds", "How long the link has been in its state.", now - client.since)
    yield _counter("link_attempts", "Attempts to connect to the gateway.", client.generation)
    if client.last_received is not None:
        yield _gauge(
            "gateway_silence_seconds",
            "How long ago the last bytes came from the gateway; absent without a connection.",
            now - client.last_received,
        )


def _receiving(client: ClientStatistics, board: StatusBoard) -> Iterator[Metric]:
    received = client.receiving
    yield _counter("received_messages", "Messages numbered and stored, undecodable ones too.", board.received)
    yield _counter("undecodable_messages", "Frames that could not be understood.", received.undecodable)
    yield _counter("duplicate_messages", "Messages that came twice and were dropped.", received.duplicates)
    yield _by(
        CounterMetricFamily,
        "gaps",
        "Absences that were numbered and told to the clients, by reason.",
        "reason",
        {reason.value: board.gap_counts[reason] for reason in GapReason},
    )
    yield _gauge("inbox_messages", "Messages that wait to be numbered.", client.inbox.waiting)
    yield _gauge("inbox_bytes", "What they take.", client.inbox.waiting_bytes)
    yield _counter("inbox_overflowed_messages", "Messages without room in it.", client.inbox.overflowed)
    yield _gauge(
        "reader_longest_pause_seconds",
        "The longest that the task which reads the gateway was held up, since the start.",
        board.longest_pause,
    )


def _sending(client: ClientStatistics) -> Iterator[Metric]:
    buffer, outgoing = client.buffer, client.buffer.outgoing
    yield _counter("send_accepted_messages", "Messages accepted for sending.", outgoing.accepted)
    yield _by(
        CounterMetricFamily,
        "send_outcomes",
        "What became of accepted messages: not_sent and unknown are failures.",
        "outcome",
        {
            "sent": outgoing.sent,
            "dropped": sum(outgoing.dropped.values()),
            "not_sent": outgoing.failed.get(Certainty.NOT_SENT, 0),
            "unknown": outgoing.failed.get(Certainty.UNKNOWN, 0),
        },
    )
    yield _gauge("send_pending_messages", "Accepted messages without an outcome.", outgoing.pending)
    yield _gauge("send_waiting_messages", "Messages in the outgoing buffer.", buffer.waiting)
    yield _gauge("send_waiting_bytes", "What they take.", buffer.waiting_bytes)
    yield _gauge(
        "send_paused", "1 while sending pauses for a rate limit.", int(client.paused_until is not None)
    )


def _log(log: MessageLog, board: StatusBoard) -> Iterator[Metric]:
    kept = log.statistics()
    yield _gauge("log_head", "The last number given.", kept.head)
    yield _gauge("log_oldest", "The first number kept.", kept.oldest)
    yield _gauge("log_messages", "Entries kept.", kept.messages)
    yield _gauge("log_bytes", "What they take.", kept.bytes)
    yield _gauge("log_covered_seconds", "How far back everything that came is kept.", kept.seconds_covered)
    yield _gauge(
        "log_writable", "1 if messages can be written, 0 if nothing is handed out.", int(board.log_writable)
    )
    yield _gauge("log_draft_messages", "Messages that wait for the disk.", log.drafts)
    yield _counter("log_overwritten_messages", "Entries that went for lack of room.", kept.overwritten)
    yield _counter("log_expired_messages", "Entries that went for their age.", kept.expired)


def _clients(
    figures: Sequence[ConnectionFigures], board: StatusBoard, counters: HubCounters
) -> Iterator[Metric]:
    yield _gauge("websockets", "Connected clients.", len(figures))
    yield _gauge(
        "websocket_lag_messages_max",
        "How far the client furthest behind is behind the head.",
        max((client.lag for client in figures), default=0),
    )
    yield _gauge("queued_messages", "Frames that wait for full sockets.", sum(c.queued for c in figures))
    yield _gauge("queued_bytes", "What they take.", sum(c.queued_bytes for c in figures))
    yield _counter("delivered_messages", "Frames handed to clients.", board.delivered)
    yield _counter("heartbeats", "Heartbeat frames handed to clients.", counters.heartbeats)
    yield _counter("websockets_opened", "WebSockets that got their hello.", counters.websockets_opened)
    yield _by(
        CounterMetricFamily,
        "websockets_closed",
        "Connections that the hub ended, by cause.",
        "cause",
        {
            "slow": counters.closed_slow,
            "dead": counters.closed_dead,
            "expired": counters.closed_expired,
            "abusive": counters.closed_abusive,
        },
    )


def _requests(counters: HubCounters) -> Iterator[Metric]:
    yield _counter("connections_accepted", "TCP connections taken.", counters.accepted_connections)
    yield _by(
        CounterMetricFamily, "refused_requests", "Requests refused, by status.", "status", counters.refused
    )
    yield _by(
        CounterMetricFamily,
        "send_answers",
        "Answers to texts, reactions and deletions, by status.",
        "status",
        counters.sends,
    )
    yield _by(
        CounterMetricFamily,
        "operation_answers",
        "Answers to operations, by status.",
        "status",
        counters.operations,
    )
    yield _by(
        CounterMetricFamily,
        "download_answers",
        "Answers to who asked for a file, by status.",
        "status",
        counters.downloads,
    )
    yield _counter("recoveries", "Recovery calls answered.", counters.recoveries)
    yield _counter("recovered_messages", "Messages in the answers.", counters.recovered_messages)
    yield _counter("recoveries_limited", "Recovery calls answered 429.", counters.recoveries_limited)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    """Make a counter; the format adds ``_total`` to its name."""
    return CounterMetricFamily(_PREFIX + name, text, value)


def _by(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float] | Mapping[int, float],
) -> Metric:
    """Make a metric with one label."""
    metric = family(_PREFIX + name, text, labels=[label])
    for key, value in values.items():
        metric.add_metric([str(key)], value)
    return metric

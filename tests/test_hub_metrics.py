"""The hub's figures as Prometheus text, read back by Prometheus' own parser."""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import trio
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

import trio_signal
from trio_signal import Gap, GapReason, SignalClient
from trio_signal.hub._metrics import CONTENT_TYPE, metrics
from trio_signal.hub._status import HubCounters, StatusBoard
from trio_signal.hub.connections import ConnectionFigures
from trio_signal.hub.log import MessageLog
from trio_signal.testing import lost, ok, rate_limited

from .scene import CONNECTED, connected, open_client, open_gateway, send_all, settled, wait_done, wall_time

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Scene:
    """What the figures are taken from."""

    def __init__(self, signal: SignalClient, **log: Any) -> None:
        self.signal = signal
        self.log = MessageLog(clock=trio.current_time, **log)
        self.delivered = 0
        self.board = StatusBoard(signal, self.log, wall_clock=wall_time, delivered=lambda: self.delivered)
        self.counters = HubCounters()
        self.clients: list[ConnectionFigures] = []

    def text(self) -> str:
        """Scrape once."""
        return metrics(self.signal, self.log, self.board, self.clients, self.counters).decode()

    def samples(self) -> Samples:
        """Scrape once, through the parser."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Give one sample by its name without the prefix."""
        return self.samples()[f"trio_signal_hub_{name}", frozenset(labels.items())]


def families(text: str) -> list[Metric]:
    """Parse Prometheus text."""
    return list(text_string_to_metric_families(text))


def client(n: int, *, lag: int = 0, queued: int = 0) -> ConnectionFigures:
    """Make up a client with a telling name and address."""
    return ConnectionFigures(
        f"id-{n}", f"subject-{n}", 1_000, 7, lag, queued, 100 * queued, f"203.0.113.{n % 250}"
    )


# --- the form ---


async def test_every_metric_has_the_prefix_a_type_a_help_line_and_a_unit_of_the_standard(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        scene.counters.refused[404] += 1
        scene.counters.sends[201] += 1
        scene.counters.operations[200] += 1
        scene.counters.downloads[404] += 1
        text = scene.text()
        found = families(text)
        assert len(found) > 35
        assert len({family.name for family in found}) == len(found)
        for family in found:
            assert re.fullmatch(r"trio_signal_hub(_[a-z]+)+", family.name), family.name
            assert family.documentation.endswith("."), family.name
            assert family.type in {"counter", "gauge"}
            assert family.samples, family.name
            # Prometheus' base units: no milliseconds, no kilobytes.
            assert not re.search(r"_(ms|millis|milliseconds|minutes|kb|mb|kilobytes)\b", family.name)
            suffix = "_total" if family.type == "counter" else ""
            assert {sample.name for sample in family.samples} == {family.name + suffix}
        assert text.endswith("\n")


async def test_the_content_type_is_that_of_the_text(autojump_clock: MockClock) -> None:
    assert CONTENT_TYPE == prometheus_client.CONTENT_TYPE_LATEST
    assert CONTENT_TYPE.startswith("text/plain; version=")


async def test_nobody_else_in_the_process_is_touched(autojump_clock: MockClock) -> None:
    """No sample of ours in the global registry, none of its in ours, and no thread."""
    before = prometheus_client.generate_latest()
    threads = threading.active_count()
    async with open_gateway() as gateway, connected(gateway) as signal:
        text = Scene(signal).text()
        # Two hubs in one process do not meet either.
        assert Scene(signal).text() == text
    assert b"trio_signal" not in prometheus_client.generate_latest()
    assert b"trio_signal" not in before
    assert "python_info" not in text
    assert "process_" not in text
    assert threading.active_count() == threads


async def test_labels_name_neither_clients_nor_the_account_and_do_not_grow(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        few = len(scene.samples())
        scene.clients = [client(n, lag=n) for n in range(1_000)]
        await wait_done(await send_all(signal, ["a private word"]))
        text = scene.text()
        assert len(scene.samples()) == few
        for secret in (
            gateway.account,
            gateway.account.strip("+"),
            "id-",
            "subject-",
            "203.0.113",
            "private",
        ):
            assert secret not in text


async def test_every_metric_is_in_the_documents_and_no_other(autojump_clock: MockClock) -> None:
    text = (Path(__file__).parents[1] / "docs" / "hub.md").read_text(encoding="utf-8")
    table = text.partition("| what to watch |")[2].partition("A start for alarms")[0]
    documented = re.findall(
        r"`([a-z_]+)(?:\{[^`]*\})?`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))
    )
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        scene.counters.refused[404] += 1
        scene.counters.sends[201] += 1
        scene.counters.operations[200] += 1
        scene.counters.downloads[404] += 1
        names = {name.removeprefix("trio_signal_hub_") for name, _ in scene.samples()}
    assert set(documented) == names
    assert len(documented) == len(names)


# --- the figures ---


async def test_the_link(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        scene = Scene(signal)
        assert scene.value("info", version=trio_signal.__version__) == 1
        assert scene.value("link_state", state="disconnected") == 1
        assert "trio_signal_hub_gateway_silence_seconds" not in scene.text()
        await signal.wait_state(CONNECTED)
        await trio.sleep(7)
        states = {s: scene.value("link_state", state=s) for s in ("disconnected", "reconnecting", "syncing")}
        assert set(states.values()) == {0}
        assert scene.value("link_state", state="connected") == 1
        assert scene.value("link_state_seconds") == 7
        assert scene.value("gateway_silence_seconds") == 7
        assert scene.value("link_attempts_total") == 1
        gateway.refuse(None)
        gateway.drop()
        await trio.sleep(4)
        assert scene.value("link_state", state="connected") == 0
        assert scene.value("link_state", state="reconnecting") == 1
        assert scene.value("link_attempts_total") == 3


async def test_what_comes_in(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        gateway.deliver_raw(b"[]")
        gateway.deliver(text="hi", timestamp=5)
        gateway.deliver(text="hi", timestamp=5)
        await gateway.wait_delivered()
        await settled()
        scene.board.note_received(3)
        scene.board.note_gap(4, Gap(GapReason.GATEWAY, 1, 2))
        assert scene.value("received_messages_total") == 3
        assert scene.value("undecodable_messages_total") == 1
        assert scene.value("duplicate_messages_total") == 1
        assert scene.value("inbox_messages") == 2
        assert scene.value("inbox_bytes") > 0
        assert scene.value("inbox_overflowed_messages_total") == 0
        assert {r.value: scene.value("gaps_total", reason=r.value) for r in GapReason} == {
            **dict.fromkeys((r.value for r in GapReason), 0),
            "gateway": 1,
        }


async def test_an_inbox_that_overflows(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_size=1) as signal:
        scene = Scene(signal)
        for _ in range(4):
            gateway.deliver()
        await gateway.wait_delivered()
        await settled()
        assert scene.value("inbox_overflowed_messages_total") == 3


@pytest.mark.contract("H11")
async def test_the_longest_pause_of_the_reader_is_a_metric(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        assert scene.value("reader_longest_pause_seconds") == 0
        scene.board.note_pause(0.25)
        scene.board.note_pause(0.125)
        assert scene.value("reader_longest_pause_seconds") == 0.25


async def test_what_goes_out(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, buffer_size=2) as signal:
        scene = Scene(signal)
        gateway.script_send(ok(), lost(), rate_limited(None))
        await wait_done(await send_all(signal, ["sent"]))
        assert scene.value("send_paused") == 0
        await wait_done(await send_all(signal, ["unknown"]))
        await wait_done(await send_all(signal, ["limited"]))
        # The first one is in the send task's hands, where it waits for the end of the pause.
        await send_all(signal, ["held"])
        await settled()
        await send_all(signal, ["dropped", "waits", "too"])
        outcomes = {o: scene.value("send_outcomes_total", outcome=o) for o in ("sent", "dropped", "not_sent")}
        assert outcomes == {"sent": 1, "dropped": 1, "not_sent": 0}
        assert scene.value("send_outcomes_total", outcome="unknown") == 2
        assert scene.value("send_accepted_messages_total") == 7
        assert scene.value("send_pending_messages") == 3
        assert scene.value("send_waiting_messages") == 2
        assert scene.value("send_waiting_bytes") == signal.statistics().buffer.waiting_bytes > 0
        assert scene.value("send_paused") == 1


@pytest.mark.contract("H6")
async def test_what_the_log_keeps_and_how_many_seconds_it_covers(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal, max_messages=3, max_age=60.0)
        await trio.sleep(10)
        assert scene.value("log_covered_seconds") == 10
        for _ in range(5):
            scene.log.append(b"{}", timestamp=0)
        assert scene.value("log_head") == 5
        assert scene.value("log_oldest") == 3
        assert scene.value("log_messages") == 3
        assert scene.value("log_bytes") == scene.log.statistics().bytes > 0
        assert scene.value("log_overwritten_messages_total") == 2
        assert scene.value("log_expired_messages_total") == 0
        assert scene.value("log_covered_seconds") == 0
        await trio.sleep(61)
        assert scene.value("log_messages") == 0
        assert scene.value("log_oldest") == 6
        assert scene.value("log_expired_messages_total") == 3
        assert scene.value("log_covered_seconds") == 60


async def test_the_clients(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        assert scene.value("websockets") == 0
        assert scene.value("websocket_lag_messages_max") == 0
        scene.clients = [client(1, lag=3, queued=2), client(2, lag=40, queued=5), client(3)]
        scene.delivered = 12
        counters = scene.counters
        counters.heartbeats, counters.websockets_opened = 4, 9
        counters.closed_slow, counters.closed_dead, counters.closed_expired, counters.closed_abusive = (
            1,
            2,
            3,
            4,
        )
        assert scene.value("websockets") == 3
        assert scene.value("websocket_lag_messages_max") == 40
        assert scene.value("queued_messages") == 7
        assert scene.value("queued_bytes") == 700
        assert scene.value("delivered_messages_total") == 12
        assert scene.value("heartbeats_total") == 4
        assert scene.value("websockets_opened_total") == 9
        causes = ("slow", "dead", "expired", "abusive")
        assert [scene.value("websockets_closed_total", cause=cause) for cause in causes] == [1, 2, 3, 4]


async def test_the_requests(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        scene = Scene(signal)
        scene.counters.accepted_connections = 30
        scene.counters.refused.update({401: 5, 404: 1})
        scene.counters.sends.update({201: 7, 504: 2})
        scene.counters.recoveries = 11
        scene.counters.recovered_messages = 1234
        scene.counters.recoveries_limited = 6
        assert scene.value("connections_accepted_total") == 30
        assert scene.value("refused_requests_total", status="401") == 5
        assert scene.value("refused_requests_total", status="404") == 1
        assert scene.value("send_answers_total", status="201") == 7
        assert scene.value("send_answers_total", status="504") == 2
        assert scene.value("recoveries_total") == 11
        assert scene.value("recovered_messages_total") == 1234
        assert scene.value("recoveries_limited_total") == 6

"""What a hub shows of itself: history, rates, gaps, readiness."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_signal
from trio_signal import Gap, GapReason, SignalClient
from trio_signal.hub._status import RateHistory, StatusBoard
from trio_signal.hub.connections import ConnectionFigures
from trio_signal.hub.log import MessageLog
from trio_signal.testing import error as refusal
from trio_signal.testing import hang, lost, ok, rate_limited

from .scene import (
    CONNECTED,
    EPOCH,
    connected,
    open_client,
    open_gateway,
    send_all,
    settled,
    wait_done,
    wall_ms,
    wall_time,
)


def new_log(**options: Any) -> MessageLog:
    """Make a log on Trio's clock."""
    return MessageLog(clock=trio.current_time, **options)


def new_board(signal: SignalClient, log: MessageLog | None = None, **options: Any) -> StatusBoard:
    """Make a board for a client, on the virtual clocks."""
    settings: dict[str, Any] = {"wall_clock": wall_time, "delivered": lambda: 0}
    return StatusBoard(signal, log or new_log(), **(settings | options))


@asynccontextmanager
async def following(
    signal: SignalClient, log: MessageLog | None = None, **options: Any
) -> AsyncGenerator[StatusBoard]:
    """Make a board for a client and let it follow while the block runs."""
    board = new_board(signal, log, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.follow)
        yield board
        nursery.cancel_scope.cancel()


def shown(board: StatusBoard, *connections: ConnectionFigures) -> dict[str, Any]:
    """Give the snapshot as its reader gets it: through JSON."""
    snapshot: dict[str, Any] = json.loads(json.dumps(board.snapshot(connections), allow_nan=False))
    return snapshot


def figures(n: int, *, lag: int = 0) -> ConnectionFigures:
    """Make up a client."""
    return ConnectionFigures(f"c{n}", f"bot {n}", 1_000 + n, 7, lag, 1, 20, "127.0.0.1")


def ms(seconds: float) -> int:
    """Turn a moment of Trio's clock into what the wall clock showed then."""
    return int((EPOCH + seconds) * 1000)


# --- rates ---


def test_growth_is_booked_in_the_interval_in_which_it_came() -> None:
    history = RateHistory(100, 0.0, interval=10, length=4)
    assert history.counts(100, 0) == [0, 0, 0, 0]
    assert history.counts(103, 9.9) == [0, 0, 0, 3]
    history.sample(105, 10)
    assert history.counts(106, 15) == [0, 0, 5, 1]
    history.sample(106, 20)
    history.sample(116, 30)
    assert history.counts(117, 30) == [5, 1, 10, 1]
    history.sample(117, 40)
    assert history.counts(117, 40) == [1, 10, 1, 0]


def test_a_late_sample_leaves_the_later_intervals_where_they_are() -> None:
    history = RateHistory(0, 5.0, interval=10, length=6)
    # The interval that began at 5 is finished at 37 only, and two more have passed since.
    assert history.counts(9, 37) == [0, 0, 9, 0, 0, 0]
    # The next still ends at 45.
    assert history.counts(10, 44.9) == [0, 0, 9, 0, 0, 1]
    assert history.counts(10, 45) == [0, 9, 0, 0, 1, 0]


def test_a_pause_of_years_costs_nothing_and_leaves_nothing() -> None:
    history = RateHistory(0, 0.0, interval=10, length=5)
    history.sample(4, 10)
    assert history.counts(4, 1e9) == [0] * 5
    assert history.counts(5, 1e9) == [0, 0, 0, 0, 1]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=40),
    st.integers(2, 8),
)
def test_rates_agree_with_counting_each_arrival(steps: list[tuple[int, int]], length: int) -> None:
    """Sampled at each arrival, every count is that of a naive model which knows all arrivals."""
    history, total, now = RateHistory(0, 0.0, interval=10, length=length), 0, 0
    arrivals: list[tuple[int, int]] = []
    for count, wait in steps:
        now += wait
        history.sample(total, now)
        total += count
        arrivals.append((now // 10, count))
    buckets = [now // 10 - back for back in reversed(range(length))]
    assert history.counts(total, now) == [
        sum(count for bucket, count in arrivals if bucket == wanted) for wanted in buckets
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=30))
def test_nothing_is_counted_twice_or_lost_however_seldom_it_is_sampled(
    steps: list[tuple[int, float]],
) -> None:
    history = RateHistory(0, 0.0, interval=10, length=1_000)
    totals = list(accumulate((count for count, _ in steps), initial=0))
    times = list(accumulate((wait for _, wait in steps), initial=0.0))
    for total, now in zip(totals, times, strict=True):
        counts = history.counts(total, now)
        assert len(counts) == 1_000
        assert sum(counts) == total


# --- the history of states ---


async def test_the_history_tells_each_change_with_the_time_of_day(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal, following(signal) as board:
        await signal.wait_state(CONNECTED)
        await trio.sleep(40)
        gateway.refuse(1)
        gateway.drop()
        await trio.sleep(5)
        status = shown(board)
    assert [(c["state"], c["reason"], c["attempt"], c["delay"]) for c in status["history"]] == [
        ("RECONNECTING", "start", 1, 0.0),
        ("SYNCING", "link_up", 1, None),
        ("CONNECTED", "synchronised", 1, None),
        ("DISCONNECTED", "connection_lost", 0, None),
        ("RECONNECTING", "retry", 1, 1.0),
        ("DISCONNECTED", "attempt_failed", 1, None),
        ("RECONNECTING", "retry", 2, 2.0),
        ("SYNCING", "link_up", 2, None),
        ("CONNECTED", "synchronised", 2, None),
    ]
    assert [c["time"] for c in status["history"]] == [
        *[ms(0)] * 3,
        *[ms(40)] * 2,
        *[ms(41)] * 2,
        *[ms(43)] * 2,
    ]
    assert (status["state"], status["since"], status["now"]) == ("CONNECTED", ms(43), ms(45))
    assert (status["attempt"], status["next_attempt"]) == (0, None)
    assert "refused" in status["last_error"]


async def test_while_it_waits_the_next_attempt_has_a_time(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal, following(signal) as board:
        await signal.wait_state(CONNECTED)
        await trio.sleep(40)
        gateway.refuse(None)
        gateway.drop()
        await trio.sleep(5)
        status = shown(board)
        # Lost at 40, tried at 41 and at 43, and then again at 47.
        assert (status["state"], status["attempt"]) == ("RECONNECTING", 3)
        assert (status["since"], status["next_attempt"]) == (ms(43), ms(47))


async def test_the_history_is_bounded_and_keeps_the_newest(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal, following(signal) as board:
        gateway.refuse(None)
        await trio.sleep(7_200)
        status = shown(board)
        assert len(status["history"]) == 200
        assert status["history"][-1]["attempt"] == status["attempt"] > 100
        times = [change["time"] for change in status["history"]]
        assert times == sorted(times)


async def test_changes_before_the_first_turn_of_the_follower_are_in_the_history(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        board = new_board(signal)
        await signal.wait_state(CONNECTED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.follow)
            await settled()
            assert [c["state"] for c in shown(board)["history"]] == ["RECONNECTING", "SYNCING", "CONNECTED"]
            nursery.cancel_scope.cancel()


async def test_a_follower_far_behind_says_so_and_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        board = new_board(signal)
        gateway.refuse(None)
        await trio.sleep(60_000)
        assert signal.statistics().generation > 900
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.follow)
            await settled()
            assert len(shown(board)["history"]) == 200
            nursery.cancel_scope.cancel()
    warnings = [r for r in caplog.records if r.name == "trio_signal.hub.status"]
    assert [r.levelno for r in warnings] == [logging.WARNING]
    assert "the history of states lacks" in warnings[0].getMessage()


async def test_following_outlives_the_client(autojump_clock: MockClock) -> None:
    """A hub that shuts down still shows its page while it says goodbye."""
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        async with connected(gateway) as signal:
            board = new_board(signal)
            nursery.start_soon(board.follow)
            await settled()
        board.note_received(3)
        await trio.sleep(25)
        status = shown(board)
        assert (status["history"][-1]["state"], status["history"][-1]["reason"]) == (
            "DISCONNECTED",
            "client_closed",
        )
        assert status["rates"]["received"][-3:] == [3, 0, 0]
        assert {task.name for task in nursery.child_tasks} == {"trio_signal.hub._status.StatusBoard.follow"}
        nursery.cancel_scope.cancel()


# --- what it counts ---


async def test_rates_of_what_was_received_sent_and_delivered(autojump_clock: MockClock) -> None:
    delivered = 30
    async with (
        open_gateway() as gateway,
        connected(gateway) as signal,
        following(signal, delivered=lambda: delivered) as board,
    ):
        await trio.sleep(5)
        board.note_received()
        board.note_received(2)
        delivered += 12
        await wait_done(await send_all(signal, ["one", "two"]))
        await trio.sleep(10)
        board.note_received()
        await wait_done(await send_all(signal, ["three"]))
        rates = shown(board)["rates"]
        assert rates["interval"] == 10
        assert rates["received"] == [*[0] * 58, 3, 1]
        assert rates["sent"] == [*[0] * 58, 2, 1]
        assert rates["delivered"] == [*[0] * 58, 12, 0]
        await trio.sleep(580)
        assert shown(board)["rates"]["received"][:2] == [3, 1]
        # Ten minutes later nothing of it is left.
        await trio.sleep(20)
        assert set(shown(board)["rates"]["received"]) == {0}
        assert (board.received, board.delivered) == (4, 42)


async def test_what_was_sent_before_the_board_was_made_is_no_rate(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await wait_done(await send_all(signal, ["one", "two"]))
        async with following(signal) as board:
            status = shown(board)
            assert set(status["rates"]["sent"]) == {0}
            assert status["buffer"]["sent"] == 2


async def test_gaps_are_listed_with_their_number_and_their_time(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        await trio.sleep(3)
        board.note_gap(17, Gap(GapReason.GATEWAY, ms(1), ms(2)))
        assert shown(board)["gaps"] == [
            {"time": ms(3), "sequence_number": 17, "reason": "gateway", "since": ms(1), "until": ms(2)}
        ]
        for number in range(18, 118):
            board.note_gap(number, Gap(GapReason.OVERFLOW, 5, 6))
        assert [gap["sequence_number"] for gap in shown(board)["gaps"]] == list(range(68, 118))
        assert board.gap_counts == {GapReason.GATEWAY: 1, GapReason.OVERFLOW: 100}


@pytest.mark.contract("H11")
async def test_the_longest_pause_stays(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        assert board.longest_pause == 0
        for seconds in (0.001, 0.25, 0.125):
            board.note_pause(seconds)
        assert board.longest_pause == 0.25


async def test_the_buffer_accounts_for_every_message(autojump_clock: MockClock) -> None:
    async with (
        open_gateway() as gateway,
        connected(gateway, buffer_size=3, send_timeout=7) as signal,
        following(signal) as board,
    ):
        gateway.script_send(ok(), lost(), refusal(400, "User is not registered"), hang())
        await wait_done(await send_all(signal, ["sent", "unknown", "not sent"]))
        hanging = await signal.send_message("+15550101", "in flight")
        await gateway.wait_received(4)
        await send_all(signal, ["dropped", "two", "three", "four"])
        buffer = shown(board)["buffer"]
        held = signal.statistics().buffer.waiting_bytes
        assert buffer == {
            "waiting": 3,
            "max_messages": 3,
            "bytes": held,
            "max_bytes": 16 * 1024 * 1024,
            "in_flight": True,
            "paused_until": None,
            "accepted": 8,
            "sent": 1,
            "dropped": 1,
            "failed": 1,
            "unknown": 1,
            "pending": 4,
        }
        assert hanging.outcome is None


async def test_a_pause_for_a_rate_limit_has_an_end(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        await trio.sleep(2)
        gateway.script_send(rate_limited(None))
        await send_all(signal, ["one", "two"])
        await gateway.wait_received(1)
        await settled()
        assert shown(board)["buffer"]["paused_until"] == ms(62)


@pytest.mark.contract("H6")
async def test_the_log_is_shown_with_what_it_covers(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        log = new_log(max_messages=2, max_age=60.0, max_bytes=10_000, epoch="e1")
        async with following(signal, log) as board:
            await trio.sleep(5)
            log.append(b"{}", timestamp=wall_ms())
            assert shown(board)["log"] == {
                "epoch": "e1",
                "head": 1,
                "oldest": 1,
                "messages": 1,
                "bytes": log.statistics().bytes,
                "max_messages": 2,
                "max_bytes": 10_000,
                "max_age": 60.0,
                "seconds_covered": 5.0,
                "writable": True,
            }
            for _ in range(2):
                log.append(b"{}", timestamp=wall_ms())
            await trio.sleep(7)
            assert shown(board)["log"]["oldest"] == 2
            assert shown(board)["log"]["seconds_covered"] == 7


async def test_the_clients_are_shown_oldest_first(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        status = shown(board, figures(2), figures(1, lag=9))
        assert status["connection_count"] == 2
        assert status["connections"] == [
            {
                "id": "c1",
                "subject": "bot 1",
                "connected": 1001,
                "sequence": 7,
                "lag": 9,
                "queued": 1,
                "queued_bytes": 20,
                "remote": "127.0.0.1",
            },
            {
                "id": "c2",
                "subject": "bot 2",
                "connected": 1002,
                "sequence": 7,
                "lag": 0,
                "queued": 1,
                "queued_bytes": 20,
                "remote": "127.0.0.1",
            },
        ]


async def test_of_a_thousand_clients_those_furthest_behind_are_shown(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        status = shown(board, *(figures(n, lag=n % 500) for n in range(1_000)))
        assert status["connection_count"] == 1_000
        assert sorted(client["lag"] for client in status["connections"]) == sorted([*range(450, 500)] * 2)
        assert [c["connected"] for c in status["connections"]] == sorted(
            c["connected"] for c in status["connections"]
        )


async def test_the_status_names_the_account_and_the_version_and_no_message(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        log = new_log()
        async with following(signal, log) as board:
            gateway.deliver(text="a private word")
            log.append(b'{"text":"a private word"}', timestamp=wall_ms())
            await wait_done(await send_all(signal, ["another private word"]))
            status = shown(board)
            assert (status["account"], status["version"]) == (gateway.account, trio_signal.__version__)
            assert status["last_error"] is None
            assert "private" not in json.dumps(status)


# --- ready or not ---


def judged(board: StatusBoard) -> dict[str, object]:
    """Give for each part True, or the sentence that says what is wrong."""
    checks = board.readiness()
    assert list(checks) == ["link", "gateway", "log"]
    return cast("dict[str, object]", checks)


async def test_a_hub_with_a_link_to_a_gateway_that_answers_is_ready(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        for _ in range(100):
            assert judged(board) == {"link": True, "gateway": True, "log": True}
            # Odd steps, so that it is looked at in every part of the client's own ping interval.
            await trio.sleep(3.7)


async def test_a_hub_without_a_link_says_so(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        await trio.sleep(40)
        gateway.refuse(None)
        gateway.drop()
        await trio.sleep(5)
        assert judged(board) == {
            "link": "the link is RECONNECTING",
            "gateway": "there is no connection to the gateway",
            "log": True,
        }
        gateway.heal()
        await signal.wait_state(CONNECTED)
        assert judged(board) == {"link": True, "gateway": True, "log": True}


async def test_a_gateway_that_says_nothing_is_not_answering(autojump_clock: MockClock) -> None:
    """A client that pings seldom is still CONNECTED when the hub cannot vouch for its gateway any more."""
    async with open_gateway() as gateway, connected(gateway, ping_interval=40) as signal:
        async with following(signal) as board:
            gateway.half_open()
            await trio.sleep(20)
            assert judged(board)["gateway"] is True
            await trio.sleep(10)
            assert judged(board) == {
                "link": True,
                "gateway": "nothing has come from the gateway for 30 s",
                "log": True,
            }


async def test_a_log_that_cannot_be_written_makes_the_hub_unready(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        answers = [True, False]
        board = new_board(signal, log_writable=lambda: answers.pop(0))
        assert judged(board)["log"] is True
        assert judged(board)["log"] == "the log cannot be written"


async def test_a_dead_gateway_makes_the_hub_unready_within_fifteen_seconds(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal, following(signal) as board:
        await trio.sleep(33)
        gateway.refuse(None)
        gateway.half_open()
        await trio.sleep(15.1)
        assert judged(board)["link"] == "the link is RECONNECTING"

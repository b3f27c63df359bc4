"""The connection's states as seen from outside: flows, reasons, backoff, observers, gaps."""

import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    VALID_TRANSITIONS,
    Backoff,
    ConfigurationError,
    ConnectionState,
    Cursor,
    Gap,
    GapReason,
    GatewayRefused,
    LinkLost,
    ObserverLagged,
    Reason,
    ReceivedMessage,
    SignalClient,
    StateChange,
    StateChanges,
)
from trio_signal.testing import FakeGateway, close_frame, server_frame

from .scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    RECONNECTING,
    SYNCING,
    WatchedStream,
    check_gaps,
    check_history,
    closing_within,
    collect,
    connected,
    gaps_in,
    logged,
    open_client,
    open_gateway,
    record,
    saved,
    settled,
    texts_in,
    tolerate,
    wall_ms,
)


async def history_of(signal: SignalClient, length: int) -> list[StateChange]:
    """Wait for the next changes of state."""
    changes = signal.state_changes()
    return [await anext(changes) for _ in range(length)]


async def wait_generation(signal: SignalClient, generation: int, state: ConnectionState = CONNECTED) -> None:
    """Wait until the connection of this number enters a state."""
    async for change in signal.state_changes():
        if change.current is state and change.generation == generation:
            return


def steps(changes: list[StateChange]) -> list[tuple[str, Reason]]:
    return [(change.current.name, change.reason) for change in changes]


def sleeps(changes: list[StateChange]) -> list[float | None]:
    return [change.delay for change in changes if change.current is RECONNECTING]


def dials(changes: list[StateChange]) -> list[float]:
    """When each attempt went off, on Trio's clock."""
    return [change.time + (change.delay or 0) for change in changes if change.current is RECONNECTING]


async def test_the_history_keeps_nothing_of_a_lost_connection_alive(autojump_clock: MockClock) -> None:
    opened: list[weakref.ref[trio.abc.Stream]] = []
    async with open_gateway() as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            stream = WatchedStream(await gateway.connect(host, port))
            opened.append(weakref.ref(stream))
            return stream

        async with connected(gateway, connect=connect) as signal:
            changes = signal.state_changes()
            gateway.drop()
            lost, *_ = [await anext(changes) for _ in range(4)]
            assert isinstance(lost.error, LinkLost)
            assert str(lost.error) == str(signal.statistics().last_error)
            gc.collect()
            assert [stream() is not None for stream in opened] == [False] * (len(opened) - 1) + [True]


async def test_an_error_that_is_kept_does_not_lead_to_itself(autojump_clock: MockClock) -> None:
    """It was raised out of groups of nurseries; such a circle stays until a whole collection comes."""
    async with open_gateway() as gateway, connected(gateway) as signal:
        changes = signal.state_changes()
        for way in (gateway.drop, gateway.half_open):
            way()
            lost, *_ = [await anext(changes) for _ in range(4)]
            assert lost.error is not None
            assert [*_behind(lost.error)].count(lost.error) == 1


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and all that it leads to, as often as it does."""
    if error is not None:
        yield error
        yield from _behind(error.__cause__)
        yield from _behind(error.__context__)
        if isinstance(error, BaseExceptionGroup):
            for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
                yield from _behind(each)


@pytest.mark.contract("C6")
def test_an_error_that_trio_is_run_to_mend_stays_as_it_is_and_is_no_reason_to_give_up() -> None:
    """Python puts what is handled around Trio behind each error that is raised below."""
    lost: list[Exception] = []

    async def connect_at_the_second_try() -> None:
        async with open_gateway() as gateway:

            async def connect(host: str, port: int) -> trio.abc.Stream:
                if not lost:
                    lost.append(ConnectionRefusedError("nobody listens"))
                    raise lost[0]
                return await gateway.connect(host, port)

            async with connected(gateway, connect=connect):
                pass

    handled = ConfigurationError("url", "so another one is tried")
    try:
        raise handled
    except ConfigurationError:
        frames = handled.__traceback__
        trio.run(connect_at_the_second_try, clock=MockClock(autojump_threshold=0))
    assert frames is not None
    assert handled.__traceback__ is frames
    assert lost[0].__traceback__ is None
    assert lost[0].__context__ is None


# --- flows ---


@pytest.mark.contract("C1", "C2")
async def test_the_first_connection(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        first, second, third = await history_of(signal, 3)
        assert (first.previous, first.current, first.reason) == (DISCONNECTED, RECONNECTING, Reason.START)
        assert (second.previous, second.current, second.reason) == (RECONNECTING, SYNCING, Reason.LINK_UP)
        assert (third.previous, third.current, third.reason) == (SYNCING, CONNECTED, Reason.SYNCHRONISED)
        assert [change.attempt for change in (first, second, third)] == [1, 1, 1]
        assert [change.generation for change in (first, second, third)] == [1, 1, 1]
        assert [change.delay for change in (first, second, third)] == [0, None, None]
        assert trio.current_time() == 0


@pytest.mark.contract("C1", "C2", "B1")
async def test_a_stable_connection_is_lost_and_made_again(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(100)
        changes = signal.state_changes()
        gateway.drop()
        history = [await anext(changes) for _ in range(4)]
        assert steps(history) == [
            ("DISCONNECTED", Reason.CONNECTION_LOST),
            ("RECONNECTING", Reason.RETRY),
            ("SYNCING", Reason.LINK_UP),
            ("CONNECTED", Reason.SYNCHRONISED),
        ]
        assert [(change.time, change.attempt, change.generation) for change in history] == [
            (100, 0, 1),
            (100, 1, 2),
            (101, 1, 2),
            (101, 1, 2),
        ]
        assert isinstance(history[0].error, LinkLost)
        assert all(change.error is None for change in history[1:])


@pytest.mark.contract("C1", "B1")
async def test_three_attempts_sleep_one_two_and_four_seconds_the_successful_one_included(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(100)
        changes = signal.state_changes()
        gateway.refuse(2)
        gateway.drop()
        history = [await anext(changes) for _ in range(8)]
        assert steps(history) == [
            ("DISCONNECTED", Reason.CONNECTION_LOST),
            ("RECONNECTING", Reason.RETRY),
            ("DISCONNECTED", Reason.ATTEMPT_FAILED),
            ("RECONNECTING", Reason.RETRY),
            ("DISCONNECTED", Reason.ATTEMPT_FAILED),
            ("RECONNECTING", Reason.RETRY),
            ("SYNCING", Reason.LINK_UP),
            ("CONNECTED", Reason.SYNCHRONISED),
        ]
        assert sleeps(history) == [1, 2, 4]
        assert [change.attempt for change in history] == [0, 1, 1, 2, 2, 3, 3, 3]
        assert trio.current_time() == 100 + 1 + 2 + 4
        assert signal.statistics().attempt == 0


@pytest.mark.contract("B1")
async def test_the_sleeps_double_up_to_a_minute_and_the_first_dial_does_not_sleep(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway) as signal:
            history = await history_of(signal, 2 * 12)
            assert sleeps(history) == [0, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]
            assert [c.attempt for c in history if c.current is RECONNECTING] == list(range(1, 13))
            assert dials(history) == list(itertools.accumulate(sleeps(history)))


@pytest.mark.contract("B1")
async def test_after_a_stable_connection_the_sleeps_are_one_two_four_up_to_a_minute(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(60)
        changes = signal.state_changes()
        gateway.refuse(None)
        gateway.drop()
        history = [await anext(changes) for _ in range(2 * 10)]
        assert sleeps(history) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


@pytest.mark.contract("B1", "B6")
async def test_jitter_sleeps_a_random_part_that_one_seed_gives_again(autojump_clock: MockClock) -> None:
    async def run(seed: int) -> list[float]:
        async with open_gateway() as gateway:
            gateway.refuse(None)
            async with open_client(gateway, backoff=Backoff(random=Random(seed)), close_timeout=0) as signal:
                history = await history_of(signal, 2 * 30)
                assert dials(history) == sorted(dials(history))
                return [delay or 0.0 for delay in sleeps(history)]

    one, again, other = await run(1), await run(1), await run(2)
    assert one == again
    assert one != other
    for delays in (one, other):
        assert delays[0] == 0
        for n, delay in enumerate(delays[1:], start=2):
            assert 0.25 <= delay <= min(2.0 ** (n - 1), 60)
        assert len(set(delays)) > 20


@pytest.mark.contract("B2")
@pytest.mark.parametrize(("lasts", "counts_on"), [(0.0, True), (29.0, True), (31.0, False)])
async def test_only_a_stable_connection_forgets_the_attempts_before(
    autojump_clock: MockClock, lasts: float, counts_on: bool
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(100)
        changes = signal.state_changes()
        gateway.refuse(3)
        gateway.drop()
        while (await anext(changes)).current is not CONNECTED:
            pass
        await trio.sleep(lasts)
        gateway.drop()
        history = [await anext(changes) for _ in range(4)]
        assert (history[1].attempt, history[1].delay) == ((5, 16) if counts_on else (1, 1))


@pytest.mark.contract("B2")
@pytest.mark.parametrize("seed", range(5))
async def test_a_gateway_that_accepts_and_closes_at_once_is_not_hammered(
    autojump_clock: MockClock, seed: int
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        async with open_client(gateway, backoff=Backoff(random=Random(seed))) as signal:
            changes: list[StateChange] = []
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(_close_each_at_once, gateway)
            await trio.sleep(3600)
            at = dials(changes)
            for moment in at:
                assert sum(moment <= other < moment + 600 for other in at) <= 40
            assert signal.statistics().generation > 60
        check_history(changes)
        nursery.cancel_scope.cancel()


async def _close_each_at_once(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_handshakes(gateway.handshakes + 1)
        await settled()
        gateway.close(1001)


@pytest.mark.contract("B3")
@pytest.mark.parametrize(
    ("asked", "slept"),
    [("10", 10), ("0", 2), ("1", 2), ("300", 300), ("86400", 300), ("-5", 2), ("soon", 2)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_lengthens_a_sleep_and_never_shortens_it(
    autojump_clock: MockClock, status: int, asked: str, slept: float
) -> None:
    async with open_gateway() as gateway:
        gateway.reject(status, retry_after=asked)
        async with open_client(gateway) as signal:
            history = await history_of(signal, 5)
            assert sleeps(history) == [0, slept]
            assert trio.current_time() == slept


@pytest.mark.contract("B3")
async def test_retry_after_counts_once_and_for_refusals_too(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.reject(503, retry_after=50)
        gateway.reject(401, retry_after=70)
        gateway.reject(503)
        async with open_client(gateway, token=lambda: "t") as signal:
            assert sleeps(await history_of(signal, 9)) == [0, 50, 70, 8]


@pytest.mark.contract("B4")
async def test_reconnect_now_ends_one_sleep(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(100)
        changes = signal.state_changes()
        gateway.refuse(6)
        gateway.drop()
        for _ in range(2 * 6):
            await anext(changes)  # up to the sleep of 32 s
        start = trio.current_time()
        assert signal.statistics().next_attempt == start + 32
        await trio.sleep(5)
        signal.reconnect_now()
        signal.reconnect_now()
        failed = await anext(changes)
        assert (failed.current, failed.time) == (DISCONNECTED, start + 5)
        await trio.sleep(59)
        assert signal.statistics().next_attempt == start + 5 + 60  # the second call did not reach over
        assert signal.state is RECONNECTING
        signal.reconnect_now()
        await signal.wait_state(CONNECTED)
        assert trio.current_time() == start + 5 + 59
        assert signal.statistics().next_attempt is None


@pytest.mark.contract("B4")
async def test_reconnect_now_does_nothing_without_a_sleep(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        signal.reconnect_now()
        await trio.sleep(60)
        changes = signal.state_changes()
        gateway.drop()
        assert sleeps([await anext(changes) for _ in range(4)]) == [1]
        gateway.silence(times=1)
        gateway.drop()
        for _ in range(2):
            await anext(changes)
        await trio.sleep(3)  # the attempt is under way
        signal.reconnect_now()
        failed = await anext(changes)
        assert failed.reason is Reason.ATTEMPT_FAILED
        assert (await anext(changes)).delay == 4


@pytest.mark.contract("B4", "C5")
async def test_a_sleep_is_cancelled_with_the_client(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        with closing_within(200), trio.move_on_after(200):
            async with open_client(gateway):
                await trio.sleep_forever()
        assert trio.current_time() == 200


@pytest.mark.contract("B5")
async def test_an_attempt_has_one_deadline_and_tells_what_it_was_busy_with(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.silence()
        async with open_client(gateway, attempt_timeout=20) as signal:
            history = await history_of(signal, 2)
            assert history[1].time == 20
            assert isinstance(history[1].error, LinkLost)
            assert "WebSocket handshake" in str(history[1].error)
            assert history[1].reason is Reason.ATTEMPT_FAILED
            await signal.wait_state(CONNECTED)
            # An attempt's deadline must not end the connection that it made.
            await trio.sleep(100)
            assert signal.statistics().generation == 2


# --- every kind of end ---


def _cut_a_message(gateway: FakeGateway) -> None:
    gateway.cut(9)
    gateway.deliver()


END: dict[str, tuple[Callable[[FakeGateway], object], Reason]] = {
    "close-1000": (lambda gateway: gateway.close(1000), Reason.CLOSED_BY_GATEWAY),
    "close-1001": (lambda gateway: gateway.close(1001, "going away"), Reason.CLOSED_BY_GATEWAY),
    "close-1008": (lambda gateway: gateway.close(1008), Reason.CLOSED_BY_GATEWAY),
    "close-1011": (lambda gateway: gateway.close(1011), Reason.CLOSED_BY_GATEWAY),
    "close-1012": (lambda gateway: gateway.close(1012), Reason.CLOSED_BY_GATEWAY),
    "close-4403": (lambda gateway: gateway.close(4403), Reason.CLOSED_BY_GATEWAY),
    "close-without-code": (lambda gateway: gateway.close(None), Reason.CLOSED_BY_GATEWAY),
    "drop": (lambda gateway: gateway.drop(), Reason.CONNECTION_LOST),
    "reset": (lambda gateway: gateway.reset(), Reason.CONNECTION_LOST),
    "kill": (lambda gateway: gateway.kill(), Reason.CONNECTION_LOST),
    "half-open": (lambda gateway: gateway.half_open(), Reason.NO_ANSWER),
    "stall": (lambda gateway: gateway.stall(), Reason.GATEWAY_STALLED),
    "cut": (_cut_a_message, Reason.CONNECTION_LOST),
}


@pytest.mark.contract("C6", "C1", "C4", "L4", "R3", "R4")
@pytest.mark.parametrize("end", END)
async def test_every_kind_of_end_is_noticed_named_and_followed_by_a_reconnection_and_one_gap(
    autojump_clock: MockClock, end: str
) -> None:
    act, reason = END[end]
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        events: list[Any] = []
        async with open_client(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            await trio.sleep(60)
            gateway.deliver(text="before")
            await settled()
            act(gateway)
            start = trio.current_time()
            with trio.fail_after(80):
                await signal.wait_state(DISCONNECTED)
            noticed = trio.current_time() - start
            assert noticed <= (65 if end == "stall" else 15 if end == "half-open" else 0)
            gateway.heal()
            await gateway.start()
            with trio.fail_after(10):
                await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await gateway.wait_delivered()
            await settled()
        lost = next(change for change in changes if change.current is DISCONNECTED)
        assert lost.reason is reason
        assert texts_in(events) == ["before", "after"]
        (gap,) = gaps_in(events)
        assert gap.reason == (GapReason.STALLED if end == "stall" else GapReason.GATEWAY)
        assert gap.since <= (EPOCH + start) * 1000
        assert gap.until >= (EPOCH + start + noticed) * 1000
        assert [type(event) for event in events] == [ReceivedMessage, Gap, ReceivedMessage]
        check_history(changes)


@pytest.mark.contract("C6", "B1")
@pytest.mark.parametrize(
    "fault", ["refuse", "hang_up", "garbage", "silence", "reject-500", "reject-503", "accept-and-drop"]
)
async def test_whatever_goes_wrong_in_an_attempt_goes_back_to_disconnected_and_on(
    autojump_clock: MockClock, fault: str
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        async with open_client(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await signal.wait_state(CONNECTED)
            await trio.sleep(60)
            match fault:
                case "refuse":
                    gateway.refuse(3)
                case "accept-and-drop":
                    gateway.send_frame(close_frame(1001))
                    nursery.start_soon(_drop_three, gateway)
                case _ if fault.startswith("reject"):
                    gateway.reject(int(fault[-3:]), times=3)
                case _:
                    getattr(gateway, fault)(3)
            gateway.drop()
            with trio.fail_after(3 * 20 + 1 + 2 + 4 + 8 + 1):
                await wait_generation(signal, 5)
        check_history(changes)
        assert sleeps(changes) == [0, 1, 2, 4, 8]


async def _drop_three(gateway: FakeGateway) -> None:
    for n in range(2, 5):
        await gateway.wait_handshakes(n)
        gateway.drop()


@pytest.mark.contract("C6")
async def test_refused_credentials_are_told_as_such_and_retried_after_the_first_connection(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, token="t") as signal:
        await trio.sleep(60)
        changes = signal.state_changes()
        gateway.reject(401)
        gateway.drop()
        history = [await anext(changes) for _ in range(6)]
        assert isinstance(history[2].error, GatewayRefused)
        assert sleeps(history) == [1, 60]
        assert [change.current for change in history[-2:]] == [SYNCING, CONNECTED]


# --- observers ---


@pytest.mark.contract("C2")
async def test_every_observer_gets_every_change_however_slow_it_reads(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        fast: list[StateChange] = []
        slow: list[StateChange] = []
        async with open_client(gateway) as signal:
            late_reader = signal.state_changes()
            nursery.start_soon(record, signal.state_changes(), fast)
            nursery.start_soon(_read_slowly, signal.state_changes(), slow)
            for _ in range(20):
                await signal.wait_state(CONNECTED)
                gateway.drop()
                await signal.wait_state(DISCONNECTED)
            newcomer = signal.state_changes()
        late = [change async for change in late_reader]
        await settled()
        assert fast == late
        check_history(fast)
        assert (await anext(newcomer)).time >= fast[-3].time
        await trio.sleep(1000)
        assert slow == fast


async def _read_slowly(changes: StateChanges, into: list[StateChange]) -> None:
    async for change in changes:
        into.append(change)
        await trio.sleep(7)


@pytest.mark.contract("C2")
async def test_an_observer_over_a_thousand_changes_behind_is_told_and_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        gateway.refuse(None)
        fast: list[StateChange] = []
        async with open_client(gateway, close_timeout=0) as signal:
            nursery.start_soon(record, signal.state_changes(), fast)
            exactly, behind = signal.state_changes(), signal.state_changes()
            await wait_generation(signal, 450, RECONNECTING)
            await settled()
            held = await anext(exactly)
            assert held == fast[0]
            await wait_generation(signal, 650, RECONNECTING)
            await settled()
            seen: list[Any] = []
            total = len(fast)
            nursery.start_soon(tolerate, behind, seen)
            await settled()
        error, *rest = seen
        assert isinstance(error, ObserverLagged)
        assert error.missed == total - 1000
        assert rest == fast[error.missed :]
        with pytest.raises(ObserverLagged) as lagged:
            await anext(exactly)
        assert lagged.value.missed == len(fast) - 1000 - 1
        assert (await anext(exactly)) == fast[len(fast) - 1000]


@pytest.mark.contract("C2")
async def test_cancelling_an_observer_misses_nothing(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(60)
        changes = signal.state_changes()
        seen: list[StateChange] = []
        gateway.refuse(5)
        gateway.drop()
        while not seen or seen[-1].current is not CONNECTED:
            with trio.move_on_after(0.3):
                seen.append(await anext(changes))
        assert len(seen) == 2 * 6 + 2
        assert sleeps(seen) == [1, 2, 4, 8, 16, 32]


@pytest.mark.contract("C2")
async def test_an_observer_may_act_on_the_client_at_each_change(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal, trio.open_nursery() as nursery:
        gateway.refuse(5)

        async def impatient() -> None:
            async for change in signal.state_changes():
                if change.current is RECONNECTING:
                    signal.reconnect_now()

        nursery.start_soon(impatient)
        await signal.wait_state(CONNECTED)
        assert trio.current_time() == 0
        assert signal.statistics().generation == 6
        nursery.cancel_scope.cancel()


# --- generations ---


@pytest.mark.contract("C4")
async def test_an_old_connection_has_no_say(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        events: list[Any] = []
        async with open_client(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            (old,) = gateway.connections
            gateway.half_open()
            await signal.wait_state(DISCONNECTED)
            await signal.wait_state(CONNECTED)
            await settled()
            before = len(changes)
            old.send_frame(server_frame(b'{"envelope":{"source":"+15550002","timestamp":1}}'))
            old.reset()
            await trio.sleep(30)
            assert len(changes) == before
            assert texts_in(events) == []
            assert signal.statistics().generation == 2
            assert len(gateway.connections) == 1
        check_history(changes)


@pytest.mark.contract("C4")
async def test_there_is_never_more_than_one_receive_socket(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(gateway.connections))
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with connected(gateway) as signal:
                for end in ("close", "drop", "reset", "close"):
                    getattr(gateway, end)()
                    await signal.wait_state(DISCONNECTED)
                    await signal.wait_state(CONNECTED)
                    await trio.sleep(40)
            nursery.cancel_scope.cancel()
        assert most == 1


# --- gaps ---


@pytest.mark.contract("R3", "R4", "C3")
async def test_one_gap_for_each_absence_in_its_place_and_none_for_the_first_connection(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        gateway.refuse(3)
        async with open_client(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            for n in range(3):
                await signal.wait_state(CONNECTED)
                gateway.deliver(text=f"m{n}")
                await settled()
                await trio.sleep(100)
                if n:
                    gateway.refuse(n)
                gateway.drop()
                await signal.wait_state(DISCONNECTED)
                gateway.deliver(text="lost")
            await signal.wait_state(CONNECTED)
            await settled()
        assert [type(event) for event in events] == [ReceivedMessage, Gap] * 3
        assert texts_in(events) == ["m0", "m1", "m2"]
        assert [gap.reason for gap in gaps_in(events)] == ["gateway"] * 3
        # Each round sleeps 1, 1 + 2, 1 + 2 + 4 s; the last sign of life before is a pong, up to 10 s old.
        lengths = [round((gap.until - gap.since) / 1000) for gap in gaps_in(events)]
        assert [length - sleep for length, sleep in zip(lengths, [1, 3, 7], strict=True)] == pytest.approx(
            [0, 0, 0], abs=10
        )
        check_gaps(gaps_in(events))


@pytest.mark.contract("R3", "R4")
async def test_a_gap_reaches_from_the_last_sign_of_life_to_the_first(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep(100)
            gateway.deliver(text="last")
            await settled()
            last = wall_ms()
            gateway.half_open()
            gateway.refuse(None)
            await trio.sleep(1000)
            gateway.heal()
            await signal.wait_state(CONNECTED)
            first = wall_ms()
            await settled()
        (gap,) = gaps_in(events)
        assert (gap.since, gap.until) == (last, first)
        assert (gap.first, gap.last, gap.count) == (None, None, None)


@pytest.mark.contract("R3")
async def test_failed_attempts_make_one_gap_of_it_and_not_several(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        events: list[Any] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep(100)
            since = wall_ms()
            gateway.refuse(4)
            gateway.silence(2)
            gateway.hang_up(2)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            await signal.wait_state(CONNECTED)
            await settled()
        (gap,) = gaps_in(events)
        assert gap.until - gap.since >= (1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60) * 1000
        assert since - 10_000 <= gap.since <= since
        assert signal.statistics().receiving.gaps == 1


@pytest.mark.contract("R3", "R5")
async def test_a_cursor_of_an_earlier_process_makes_a_gap_before_the_first_message(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            gateway.deliver(text="one")
            assert (await anext(signal.receive_messages())).text == "one"
            await trio.sleep(50)
        cursor = saved(signal.cursor)
        left = wall_ms()
        gateway.deliver(text="lost")
        await trio.sleep(500)
        async with connected(gateway, cursor=cursor) as signal:
            gateway.deliver(text="two")
            events = signal.events()
            gap, two = await anext(events), await anext(events)
        assert isinstance(gap, Gap)
        assert gap.reason == "gateway"
        assert (gap.since, gap.until) == (cursor.time, left + 500_000)
        assert left - 11_000 <= cursor.time <= left
        assert texts_in([two]) == ["two"]


@pytest.mark.contract("R3", "R5")
async def test_the_cursor_of_a_process_that_never_connected_stays_what_it_was(
    autojump_clock: MockClock,
) -> None:
    before = Cursor(int(EPOCH * 1000) - 3_600_000)
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, cursor=before, close_timeout=0) as signal:
            await trio.sleep(100)
            assert signal.cursor == before
        assert signal.cursor == before
        gateway.heal()
        async with connected(gateway, cursor=signal.cursor) as signal:
            gap = await anext(signal.events())
            assert isinstance(gap, Gap)
            assert gap.since == before.time


async def test_a_clock_that_is_set_back_makes_no_gap_that_ends_before_it_began(
    autojump_clock: MockClock,
) -> None:
    shift = 0.0
    async with open_gateway() as gateway:
        async with connected(gateway, wall_clock=lambda: EPOCH + trio.current_time() - shift) as signal:
            await trio.sleep(100)
            gateway.drop()
            await signal.wait_state(DISCONNECTED)
            shift = 3600.0
            gap = await anext(signal.events())
            assert isinstance(gap, Gap)
            assert gap.since <= gap.until


# --- what is logged ---


async def test_a_long_outage_does_not_flood_the_log_with_errors(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, connected(gateway):
        gateway.refuse(None)
        gateway.drop()
        await trio.sleep(3600)
        assert logged(caplog.records, logging.ERROR) == []


def test_the_table_of_changes_is_what_the_contract_says() -> None:
    assert {
        (DISCONNECTED, RECONNECTING),
        (RECONNECTING, SYNCING),
        (RECONNECTING, CONNECTED),
        (RECONNECTING, DISCONNECTED),
        (SYNCING, CONNECTED),
        (SYNCING, DISCONNECTED),
        (CONNECTED, DISCONNECTED),
        (CONNECTED, SYNCING),
    } == VALID_TRANSITIONS


@pytest.mark.contract("C1", "C2", "C4", "R3")
@pytest.mark.parametrize("seed", range(10))
async def test_no_schedule_of_faults_makes_an_illegal_change(autojump_clock: MockClock, seed: int) -> None:
    rng = Random(seed)
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        acts: list[Callable[[], object]] = [partial(act, gateway) for act, _ in END.values()]
        acts += [
            lambda: gateway.refuse(rng.randint(1, 4)),
            lambda: gateway.silence(rng.randint(1, 2)),
            lambda: gateway.reject(rng.choice([408, 429, 500, 503]), retry_after=rng.randint(0, 9)),
            lambda: gateway.hang_up(rng.randint(1, 3), on="any"),
            lambda: gateway.garbage(on="any"),
            gateway.heal,
            lambda: gateway.deliver(text="hi"),
        ]
        changes: list[StateChange] = []
        events: list[Any] = []
        async with open_client(gateway, backoff=Backoff(random=Random(seed))) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            for _ in range(60):
                rng.choice(acts)()
                await trio.sleep(rng.choice([0, 0.1, 1, 10, 40]))
                if rng.random() < 0.3:
                    await gateway.start()
            gateway.heal()
            await gateway.start()
            with trio.fail_after(200):
                await signal.wait_state(CONNECTED)
        check_history(changes)
        check_gaps(gaps_in(events))
        assert changes[-1].reason is Reason.CLIENT_CLOSED

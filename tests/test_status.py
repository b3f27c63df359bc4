import logging
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_signal import (
    ConnectionState,
    InvalidTransition,
    LinkLost,
    ObserverLagged,
    Reason,
    ReconnectionManager,
    StateChange,
    StateChanges,
)
from trio_signal._status import KEPT_CHANGES, StateLog

DISCONNECTED, RECONNECTING, SYNCING, CONNECTED = ConnectionState


def new_log() -> StateLog:
    return StateLog(ReconnectionManager(clock=trio.current_time))


def change_once(log: StateLog) -> None:
    """Make some legal change."""
    if log.state is DISCONNECTED:
        log.change(RECONNECTING, Reason.RETRY, delay=0.0)
    else:
        log.change(DISCONNECTED, Reason.ATTEMPT_FAILED)


async def read(changes: StateChanges, seen: list[StateChange]) -> None:
    seen += [change async for change in changes]


def run(main: Callable[..., Awaitable[object]], *args: object) -> None:
    """Run on a clock that jumps."""
    trio.run(main, *args, clock=MockClock(autojump_threshold=0))


@pytest.mark.contract("C2")
async def test_every_change_is_told_with_all_that_belongs_to_it(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()
    start = trio.current_time()
    refused, lost = LinkLost("refused"), LinkLost("gone", reason=Reason.CONNECTION_LOST)
    assert (log.state, log.generation, log.since, log.last_error) == (DISCONNECTED, 0, start, None)

    log.change(RECONNECTING, Reason.START, delay=0.0)
    await trio.sleep(1)
    log.change(DISCONNECTED, Reason.ATTEMPT_FAILED, error=refused)
    log.change(RECONNECTING, Reason.RETRY, delay=2.5)
    await trio.sleep(2.5)
    log.change(SYNCING, Reason.LINK_UP)
    assert log.last_error is refused
    log.change(CONNECTED, Reason.SYNCHRONISED)
    await trio.sleep(5)
    log.change(DISCONNECTED, Reason.CONNECTION_LOST, error=lost)
    log.change(RECONNECTING, Reason.RETRY, delay=4.0)
    assert (log.state, log.generation, log.since - start, log.last_error) == (RECONNECTING, 3, 8.5, lost)
    log.close()

    seen: list[StateChange] = []
    await read(changes, seen)
    assert seen == [
        StateChange(DISCONNECTED, RECONNECTING, Reason.START, 1, 0.0, start, 1, None),
        StateChange(RECONNECTING, DISCONNECTED, Reason.ATTEMPT_FAILED, 1, None, start + 1, 1, refused),
        StateChange(DISCONNECTED, RECONNECTING, Reason.RETRY, 2, 2.5, start + 1, 2, None),
        StateChange(RECONNECTING, SYNCING, Reason.LINK_UP, 2, None, start + 3.5, 2, None),
        # The count is 0 now; the change still belongs to the attempt that succeeded.
        StateChange(SYNCING, CONNECTED, Reason.SYNCHRONISED, 2, None, start + 3.5, 2, None),
        # It was not stable yet, so the counting goes on.
        StateChange(CONNECTED, DISCONNECTED, Reason.CONNECTION_LOST, 2, None, start + 8.5, 2, lost),
        StateChange(DISCONNECTED, RECONNECTING, Reason.RETRY, 3, 4.0, start + 8.5, 3, None),
    ]


@pytest.mark.contract("C2")
async def test_the_loss_of_a_stable_link_belongs_to_no_attempt(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()
    log.change(RECONNECTING, Reason.START, delay=0.0)
    log.change(SYNCING, Reason.LINK_UP)
    log.change(CONNECTED, Reason.SYNCHRONISED)
    await trio.sleep(30)
    log.change(DISCONNECTED, Reason.CLOSED_BY_GATEWAY)
    log.change(RECONNECTING, Reason.RETRY, delay=1.0)
    assert [(await anext(changes)).attempt for _ in range(5)] == [1, 1, 1, 0, 1]


@pytest.mark.contract("C2")
async def test_observers_see_what_comes_after_they_began(autojump_clock: MockClock) -> None:
    log = new_log()
    seen: list[list[StateChange]] = [[], [], []]
    async with trio.open_nursery() as nursery:
        for n, observed in enumerate(seen):
            nursery.start_soon(read, log.follow(), observed)
            if n == 1:
                # A burst without a checkpoint in between: nothing is merged.
                for _ in range(6):
                    change_once(log)
            await wait_all_tasks_blocked()
            change_once(log)
        log.close()
    assert [len(observed) for observed in seen] == [9, 8, 1]
    assert seen[0][1:] == seen[1]
    assert seen[0][-1:] == seen[2]
    assert all(a.current is b.previous for a, b in zip(seen[0], seen[0][1:], strict=False))


@pytest.mark.contract("C2")
async def test_an_observer_a_thousand_changes_behind_misses_none(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()
    for _ in range(KEPT_CHANGES):
        change_once(log)
    log.close()
    seen: list[StateChange] = []
    await read(changes, seen)
    assert len(seen) == KEPT_CHANGES == 1000
    assert seen[0].previous is DISCONNECTED


@pytest.mark.contract("C2")
@pytest.mark.parametrize("behind", [1, 7, 2500])
async def test_an_observer_further_behind_is_told_how_many_it_missed(
    behind: int, autojump_clock: MockClock
) -> None:
    log = new_log()
    changes = log.follow()
    everything: list[StateChange] = []
    log.listen(everything.append)
    change_once(log)
    assert await anext(changes) is everything[0]
    for _ in range(KEPT_CHANGES + behind):
        change_once(log)
    with assert_checkpoints(), pytest.raises(ObserverLagged) as caught:
        await anext(changes)
    assert caught.value.missed == behind
    seen: list[StateChange] = []
    log.close()
    await read(changes, seen)
    assert seen == everything[1 + behind :]


@given(
    st.lists(st.sampled_from(["change", "change", "change", "follow", "read", "close"]), max_size=60),
    st.data(),
)
@pytest.mark.contract("C2")
def test_any_schedule_of_changing_and_reading_agrees_with_the_whole_history(
    ops: list[str], data: st.DataObject
) -> None:
    kept = 3

    async def main() -> None:
        log = new_log()
        history: list[StateChange] = []
        log.listen(history.append)
        observers: list[StateChanges] = []
        following: list[int] = []
        closed = False
        for op in ops:
            if op == "change":
                change_once(log)
            elif op == "close":
                log.close()
                closed = True
            elif op == "follow":
                observers.append(log.follow())
                following.append(len(history))
            elif observers:
                n = data.draw(st.integers(0, len(observers) - 1))
                behind = len(history) - following[n]
                if behind > kept:
                    with pytest.raises(ObserverLagged) as caught:
                        await anext(observers[n])
                    assert caught.value.missed == behind - kept
                    following[n] += behind - kept
                elif behind:
                    assert await anext(observers[n]) is history[following[n]]
                    following[n] += 1
                elif closed:
                    with pytest.raises(StopAsyncIteration):
                        await anext(observers[n])
                else:
                    with trio.move_on_after(1) as scope:
                        await anext(observers[n])
                    assert scope.cancelled_caught

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio_signal._status.KEPT_CHANGES", kept)
        run(main)


@pytest.mark.contract("C2")
async def test_a_cancelled_observer_misses_nothing(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()
    with trio.move_on_after(1) as scope:
        await anext(changes)
    assert scope.cancelled_caught
    change_once(log)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(changes)
    assert scope.cancelled_caught
    with assert_checkpoints():
        assert (await anext(changes)).current is RECONNECTING


@pytest.mark.contract("C2")
async def test_an_observer_is_told_in_the_same_moment_without_polling(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()

    async def later() -> None:
        await trio.sleep(1234.5)
        change_once(log)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        change = await anext(changes)
        assert trio.current_time() == change.time == log.since


@pytest.mark.contract("C1")
async def test_an_illegal_change_changes_nothing_and_is_told_to_nobody(autojump_clock: MockClock) -> None:
    log = new_log()
    changes = log.follow()
    heard: list[StateChange] = []
    log.listen(heard.append)
    await trio.sleep(5)
    for to in (DISCONNECTED, SYNCING, CONNECTED):
        with pytest.raises(InvalidTransition):
            log.change(to, Reason.RETRY, error=LinkLost("x"))
    assert (log.state, log.generation, log.last_error, heard) == (DISCONNECTED, 0, None, [])
    assert log.since == trio.current_time() - 5
    log.close()
    log.close()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


async def test_listeners_are_called_at_once_in_their_order_and_see_the_new_state(
    autojump_clock: MockClock,
) -> None:
    log = new_log()
    heard: list[tuple[str, ConnectionState, ConnectionState]] = []

    def hear(name: str, change: StateChange) -> None:
        heard.append((name, change.current, log.state))

    for name in "ab":
        log.listen(partial(hear, name))
    change_once(log)
    assert heard == [("a", RECONNECTING, RECONNECTING), ("b", RECONNECTING, RECONNECTING)]


async def test_each_change_is_logged(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(logging.INFO, "trio_signal.status")
    log = new_log()
    log.change(RECONNECTING, Reason.START, delay=0.0)
    assert [r.getMessage() for r in caplog.records] == ["DISCONNECTED -> RECONNECTING (start)"]


async def test_an_observer_is_its_own_iterator(autojump_clock: MockClock) -> None:
    changes = new_log().follow()
    assert aiter(changes) is changes

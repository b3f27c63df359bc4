"""Tasks that wait to be given something."""

import signal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal._waiters import Waiters


async def test_each_gets_one_thing_in_the_order_of_waiting(
    autojump_clock: MockClock,
) -> None:
    waiters = Waiters[str]()
    got: list[tuple[int, str]] = []

    async def wait(number: int) -> None:
        got.append((number, await waiters.wait()))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        assert [waiters.give(thing) for thing in ("a", "b")] == [True, True]
        assert waiters
        await wait_all_tasks_blocked()
        assert sorted(got) == [(0, "a"), (1, "b")]
        assert waiters.give("c")
    assert (2, "c") in got
    assert not waiters
    assert not waiters.give("d")


async def test_who_is_cancelled_gets_nothing_and_who_has_been_given_something_has_it(
    autojump_clock: MockClock,
) -> None:
    waiters = Waiters[str]()
    got: list[str] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await waiters.wait())

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(2)]
        for scope in scopes:
            nursery.start_soon(wait, scope)
            await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert waiters.give("a")
        # It has it already, though it has not run since.
        scopes[1].cancel()
    assert got == ["a"]
    assert [scope.cancelled_caught for scope in scopes] == [True, False]
    with trio.CancelScope() as cancelled:
        cancelled.cancel()
        await waiters.wait()
    assert cancelled.cancelled_caught
    assert not waiters


@pytest.mark.contract("C5")
def test_ctrl_c_while_a_task_begins_to_wait_leaves_nobody_behind() -> None:
    class Interrupted(dict[trio.lowlevel.Task, list[str]]):
        def __setitem__(self, task: trio.lowlevel.Task, given: list[str]) -> None:
            super().__setitem__(task, given)
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        waiters = Waiters[str]()
        waiters._tasks = Interrupted()  # type: ignore[misc]
        with pytest.raises(KeyboardInterrupt):
            await waiters.wait()
        # Nobody is woken who waits for something else.
        assert not waiters.give("a")
        await trio.lowlevel.checkpoint()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)

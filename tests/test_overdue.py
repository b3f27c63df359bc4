"""Time limits that one task looks after for several: each is for one thing, and nothing else is cancelled."""

import pytest
import trio
from trio.testing import MockClock

from trio_signal import OutgoingMessage
from trio_signal._overdue import Limited, Overdue
from trio_signal.testing import hang, slow

from .scene import (
    PEER,
    check_ledger,
    connected,
    open_gateway,
    outcomes_of,
    send_all,
    settled,
    texts_at,
    wait_done,
)


class Doer:
    """Does one thing after the other, each with the same limit, and notes when it was done or given up."""

    def __init__(self, overdue: Overdue, limit: float) -> None:
        self.overdue = overdue
        self.limit = limit
        self.done: list[float] = []
        self.given_up: list[float] = []

    async def do(self, *seconds: float) -> None:
        """Take so many seconds for each."""
        limited = self.overdue.add()
        left = [*seconds]
        while left:
            with self.overdue.scope(limited):
                await self._go_on(limited, left)
            if limited.is_over:
                self.given_up.append(trio.current_time())

    async def _go_on(self, limited: Limited, left: list[float]) -> None:
        while left:
            self.overdue.begin(limited, self.limit)
            await trio.sleep(left.pop(0))
            limited.due = float("inf")
            self.done.append(trio.current_time())
            # What is done between has no limit.
            await trio.sleep(100)


async def test_each_has_the_whole_limit_for_itself(autojump_clock: MockClock) -> None:
    overdue = Overdue()
    first, second = Doer(overdue, 10), Doer(overdue, 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(overdue.run)
        async with trio.open_nursery() as doers:
            doers.start_soon(first.do, 9, 9, 11, 9, 1000, 9)
            await trio.sleep(1)
            # Sooner over than what is waited for.
            doers.start_soon(second.do, 2, 4, 4, 1)
        nursery.cancel_scope.cancel()
    assert first.done == [9, 118, 237, 356]
    assert first.given_up == [228, 347]
    assert second.done == [3, 110]
    assert second.given_up == [106, 109]


async def test_what_is_done_in_time_wakes_nobody(autojump_clock: MockClock) -> None:
    overdue, looks = Overdue(), 0

    class Count(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            nonlocal looks
            looks += "Overdue.run" in task.name

    async with trio.open_nursery() as nursery:
        nursery.start_soon(overdue.run)
        limited = overdue.add()
        with overdue.scope(limited):
            trio.lowlevel.add_instrument(counter := Count())
            for _ in range(1000):
                overdue.begin(limited, 60)
                await trio.sleep(0.1)
                limited.due = float("inf")
                await trio.lowlevel.checkpoint()
            await trio.sleep(1000)
            trio.lowlevel.remove_instrument(counter)
        nursery.cancel_scope.cancel()
    assert not limited.is_over
    # At the start, when the first of all might have been over, and the next that was under way then.
    assert looks <= 5


@pytest.mark.contract("O11")
async def test_the_limit_is_for_each_send_and_not_for_several(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, send_timeout=10) as signal:
        gateway.script_send(*[slow(9)] * 5)
        messages = await send_all(signal, [f"m{n}" for n in range(5)])
        await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 5
        assert trio.current_time() == pytest.approx(45)


@pytest.mark.contract("O4", "O11")
async def test_one_that_hangs_ends_alone_and_its_place_serves_the_next(autojump_clock: MockClock) -> None:
    options = {"rate_limit": None, "max_in_flight": 2, "send_timeout": 10, "settle_timeout": 0}
    async with open_gateway() as gateway, connected(gateway, **options) as signal:
        gateway.script_send(hang(), slow(9), slow(9), hang(), slow(9))
        names = ["a0", "b0", "b1", "a1", "b2"]
        messages: list[OutgoingMessage] = []
        for name in names:
            recipient = PEER if name[0] == "a" else "+15550003"
            messages.append(await signal.send_message(recipient, name))
            await settled()
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent", "sent", "failed: unknown", "sent"]
        check_ledger(signal, messages)


@pytest.mark.contract("O1", "O11")
async def test_an_answer_at_the_very_moment_counts_or_is_unknown_and_the_next_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway, rate_limit=None, send_timeout=10) as signal:
        gateway.script_send(*[slow(10)] * 20)
        messages = await send_all(signal, [f"m{n}" for n in range(21)])
        await wait_done(messages)
        assert {*outcomes_of(messages[:20])} <= {"sent", "failed: unknown"}
        assert outcomes_of(messages[20:]) == ["sent"]
        assert texts_at(gateway) == [f"m{n}" for n in range(21)]
        check_ledger(signal, messages)

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from trio_signal import (
    ChallengeRequired,
    ConfigurationError,
    Gap,
    GapReason,
    InboxStatistics,
    MessageSettled,
    ReceivedMessage,
    Sent,
    Undecodable,
)
from trio_signal._continuity import Position
from trio_signal._decoding import decode_frame
from trio_signal._envelopes import Decoded
from trio_signal._events import Event
from trio_signal._inbox import EventStream, Inbox

#: What an item costs beside its raw bytes.
COST = 512


def message(n: int, size: int = 60) -> ReceivedMessage:
    raw = f'{{"envelope":{{"timestamp":{n}}},"account":"+15550001"}}'.ljust(size).encode()
    decoded = decode_frame(raw)
    assert isinstance(decoded, ReceivedMessage)
    return decoded


def undecodable(n: int, size: int = 60) -> Undecodable:
    return Undecodable(f"nonsense {n}".ljust(size).encode(), "no JSON")


def challenge(n: int) -> ChallengeRequired:
    return ChallengeRequired((f"token-{n}",), "+15550001", 60.0)


def put(inbox: Inbox, items: Iterable[Event], *, time: int) -> None:
    """Put items in, frames that follow each other in one."""
    for is_frame, group in groupby(items, lambda item: isinstance(item, ReceivedMessage | Undecodable)):
        if is_frame:
            inbox.put(cast("list[Decoded]", [*group]), time=time)
        else:
            for item in group:
                inbox.add(item, time=time)


def cost(item: Event) -> int:
    return COST + (len(item.raw) if isinstance(item, ReceivedMessage | Undecodable) else 0)


@dataclass
class Model:
    """A list, with the rules in plain words."""

    max_items: int
    max_bytes: int
    items: list[Event] = field(default_factory=list[Event])
    times: list[int] = field(default_factory=list[int])
    overflowed: int = 0

    @property
    def bytes(self) -> int:
        return sum(map(cost, self.items))

    def put(self, item: Event, time: int) -> None:
        room = len(self.items) < self.max_items and self.bytes + cost(item) <= self.max_bytes
        another = any(isinstance(waiting, ChallengeRequired) for waiting in self.items)
        if room or not self.items or (isinstance(item, ChallengeRequired) and not another):
            self.items.append(item)
            self.times.append(time)
        elif not isinstance(item, ChallengeRequired):
            self.lose(item, time)

    def lose(self, item: Event, time: int) -> None:
        self.overflowed += 1
        since, until, count = (item.since, item.until, None) if isinstance(item, Gap) else (time, time, 1)
        last = self.items[-1]
        if isinstance(last, Gap) and last.reason == "overflow":
            known = None if count is None or last.count is None else last.count + count
            self.items[-1] = Gap(last.reason, min(last.since, since), max(last.until, until), count=known)
        else:
            self.items.append(Gap(GapReason.OVERFLOW, since, until, count=count))
            self.times.append(time)

    def take(self) -> Event:
        self.times.pop(0)
        return self.items.pop(0)

    @property
    def oldest(self) -> int | None:
        if not self.items:
            return None
        first = self.items[0]
        return first.since if isinstance(first, Gap) else self.times[0]


class Arrival(NamedTuple):
    """One item to be put: its kind, and its size or, of a gap, how long it was."""

    kind: str
    size: int


ARRIVALS = st.builds(
    Arrival,
    st.sampled_from(["message", "message", "message", "undecodable", "gap", "challenge"]),
    st.integers(60, 400),
)


class Run:
    """One inbox, its model, and whoever takes from it."""

    def __init__(self, inbox: Inbox, model: Model, nursery: trio.Nursery) -> None:
        self.inbox = inbox
        self.model = model
        self.nursery = nursery
        self.time = 1000
        self.count = 0
        self.takers: list[trio.CancelScope] = []
        self.ended = 0

    def put(self, arrivals: list[Arrival]) -> None:
        self.time += 7
        items = [self.make(arrival) for arrival in arrivals]
        for item in items:
            self.model.put(item, self.time)
        put(self.inbox, items, time=self.time)

    def make(self, arrival: Arrival) -> Event:
        self.count += 1
        if arrival.kind == "message":
            return message(self.count, arrival.size)
        if arrival.kind == "undecodable":
            return undecodable(self.count, arrival.size)
        if arrival.kind == "gap":
            return Gap(GapReason.GATEWAY, self.time - arrival.size, self.time)
        return challenge(self.count)

    async def taker(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    item = await self.inbox.take()
                except trio.EndOfChannel:
                    self.ended += 1
                    return
                # Nothing runs between the taking and this line, so the model is never ahead or behind.
                assert item == self.model.take()

    def check(self) -> None:
        model = self.model
        assert self.inbox.statistics() == InboxStatistics(
            len(model.items), model.bytes, model.max_items, model.max_bytes, model.overflowed
        )
        assert self.inbox.oldest == model.oldest
        # A gap before and after a challenge may come on top.
        assert len(model.items) <= model.max_items + 3
        assert model.bytes <= max([model.max_bytes, *map(cost, model.items)]) + 3 * COST

    async def do(self, op: str) -> None:
        if op == "taker":
            self.takers.append(trio.CancelScope())
            self.nursery.start_soon(self.taker, self.takers[-1])
        elif op == "cancel" and self.takers:
            self.takers.pop(0).cancel()
            await wait_all_tasks_blocked()
        elif op == "take" and self.model.items and not self.takers:
            item = await self.inbox.take()
            assert item == self.model.take()
        elif op == "settle":
            await wait_all_tasks_blocked()
            assert not (self.takers and self.model.items), "somebody waits beside an item"
        else:
            await trio.lowlevel.checkpoint()


OPS = st.one_of(
    st.lists(ARRIVALS, max_size=5),
    st.sampled_from(["taker", "cancel", "settle", "checkpoint", "take", "take"]),
)


@given(st.lists(OPS, max_size=40), st.integers(1, 4), st.sampled_from([1, 700, 1500, 10**6]))
@pytest.mark.contract("R8", "R4")
def test_any_interleaving_agrees_with_a_list(
    ops: list[list[Arrival] | str], max_items: int, max_bytes: int
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            run = Run(Inbox(max_items, max_bytes), Model(max_items, max_bytes), nursery)
            for op in ops:
                if isinstance(op, str):
                    await run.do(op)
                else:
                    run.put(op)
                run.check()
            run.inbox.close()
            # What is there can still be taken after the closing, by somebody new too.
            await run.do("taker")
            await wait_all_tasks_blocked()
            run.check()
            assert run.model.items == []
            assert run.ended >= len(run.takers)

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- Overflow ---


@pytest.mark.contract("R8", "R4")
async def test_what_has_no_room_becomes_one_gap_in_its_place(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=2)
    put(inbox, [message(n) for n in range(3)], time=100)
    put(inbox, [message(3)], time=200)
    put(inbox, [message(4), undecodable(5)], time=350)
    assert inbox.statistics().overflowed == 4
    assert [await inbox.take() for _ in range(2)] == [message(0), message(1)]
    # The gap is still there and still the last, but there is room again.
    put(inbox, [message(6)], time=400)
    assert inbox.oldest == 100
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 100, 350, count=4)
    assert await inbox.take() == message(6)
    assert inbox.oldest is None


@pytest.mark.contract("R3", "R8")
async def test_an_absence_that_has_no_room_widens_the_gap_and_nobody_knows_the_count(
    autojump_clock: MockClock,
) -> None:
    inbox = Inbox(max_items=1)
    put(inbox, [message(0), message(1)], time=100)
    put(inbox, [Gap(GapReason.GATEWAY, 150, 300)], time=300)
    put(inbox, [message(2)], time=310)
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 100, 310, count=None)


@pytest.mark.contract("R3", "R8")
async def test_an_absence_reported_to_a_full_inbox_is_told_with_its_own_times(
    autojump_clock: MockClock,
) -> None:
    inbox = Inbox(max_items=1)
    put(inbox, [message(0)], time=100)
    put(inbox, [Gap(GapReason.GATEWAY, 150, 300)], time=300)
    await inbox.take()
    assert inbox.oldest == 150
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 150, 300, count=None)


@pytest.mark.contract("R8")
async def test_the_bytes_are_bounded_too(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_bytes=2000)
    put(inbox, [message(0, 900), message(1, 900), message(2, 60)], time=5)
    assert inbox.statistics().waiting_bytes == COST + 900 + COST
    assert await inbox.take() == message(0, 900)
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 5, 5, count=2)


@pytest.mark.contract("R8")
@pytest.mark.parametrize(("max_bytes", "overflowed"), [(3 * (COST + 60), 0), (3 * (COST + 60) - 1, 1)])
@pytest.mark.parametrize("together", [True, False])
def test_what_fills_it_to_the_byte_is_let_in(max_bytes: int, overflowed: int, together: bool) -> None:
    inbox = Inbox(max_bytes=max_bytes)
    items = [message(n) for n in range(3)]
    if together:
        inbox.put(items, time=5)
    else:
        for item in items:
            inbox.add(item, time=5)
    assert inbox.statistics().overflowed == overflowed
    put(inbox, [message(3)], time=5)
    assert inbox.statistics().overflowed == overflowed + 1


@pytest.mark.contract("R8")
async def test_one_item_larger_than_everything_is_let_in_alone(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_bytes=1000)
    put(inbox, [message(0, 5000), message(1)], time=5)
    assert await inbox.take() == message(0, 5000)
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 5, 5, count=1)


@pytest.mark.contract("O6", "R8")
async def test_a_challenge_is_told_however_full_it_is_but_only_once(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put(inbox, [message(0), message(1), challenge(2), challenge(3), message(4)], time=5)
    inbox.close()
    assert await all_items(inbox) == [
        message(0),
        Gap(GapReason.OVERFLOW, 5, 5, count=1),
        challenge(2),
        Gap(GapReason.OVERFLOW, 5, 5, count=1),
    ]
    assert inbox.statistics().overflowed == 2


async def all_items(inbox: Inbox) -> list[Event]:
    """Take until the inbox is closed and empty."""
    items: list[Event] = []
    while True:
        try:
            items.append(await inbox.take())
        except trio.EndOfChannel:
            return items


# --- Numbers (contract R4, R5) ---


def at(sequence: int, epoch: str = "e") -> Position:
    return Position(epoch, sequence)


def put_numbered(inbox: Inbox, *numbers: int, epoch: str = "e") -> None:
    for n in numbers:
        inbox.add(message(n), time=10 * n, position=at(n, epoch))


@pytest.mark.contract("R5")
async def test_the_position_is_behind_what_was_taken(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    assert inbox.position is None
    inbox.advance(at(7))
    put_numbered(inbox, 8, 9)
    put(inbox, [challenge(1)], time=95)
    places = [inbox.position]
    for _ in range(3):
        await inbox.take()
        places.append(inbox.position)
    assert places == [at(7), at(8), at(9), at(9)]
    inbox.advance(at(12))
    assert inbox.position == at(12)


@pytest.mark.contract("R5")
async def test_a_place_reached_while_something_waits_is_behind_that(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    inbox.advance(at(7))
    put_numbered(inbox, 8)
    inbox.advance(at(20))
    assert inbox.position == at(7)
    await inbox.take()
    assert inbox.position == at(20)


@pytest.mark.contract("R5")
@pytest.mark.parametrize("item", [message(9), challenge(9)], ids=["a message", "a challenge"])
async def test_what_has_no_number_does_not_take_the_position_back(
    autojump_clock: MockClock, item: Event
) -> None:
    inbox = Inbox(position=at(3))
    inbox.advance(at(7))
    put(inbox, [item], time=5)
    assert inbox.position == at(7)
    await inbox.take()
    assert inbox.position == at(7)


@pytest.mark.contract("R4", "R5", "R8")
async def test_an_overflow_names_the_numbers_that_it_stands_for(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1, 2, 3)
    inbox.add(Gap(GapReason.OVERWRITTEN, 31, 50, first=4, last=6), time=50, position=at(6))
    put_numbered(inbox, 7)
    await inbox.take()
    assert inbox.position == at(1)
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 20, 70, first=2, last=7)
    assert inbox.position == at(7)


@pytest.mark.contract("R4", "R8")
async def test_a_loss_that_has_no_room_begins_where_the_loss_began(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1)
    inbox.add(Gap(GapReason.EXPIRED, 11, 50, first=2, last=6), time=50, position=at(6))
    put_numbered(inbox, 7)
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 11, 70, first=2, last=7)


@pytest.mark.contract("R4", "R8")
async def test_numbers_of_two_numberings_make_no_range(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1, 2)
    inbox.add(Gap(GapReason.EPOCH_CHANGED, 20, 25), time=25, position=at(0, "new"))
    put_numbered(inbox, 1, 2, epoch="new")
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 10, 25)
    assert inbox.position == at(2, "new")


@pytest.mark.contract("R8")
async def test_what_has_no_number_is_counted_and_widens_no_range(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1, 2)
    put(inbox, [undecodable(9)], time=29)
    put_numbered(inbox, 3)
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 20, 30, first=2, last=3, count=3)
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1)
    put(inbox, [undecodable(9)], time=15)
    put_numbered(inbox, 2)
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 15, 20, count=2)
    assert inbox.position == at(2)


@pytest.mark.contract("R4", "R8")
@pytest.mark.parametrize(
    ("gap", "position"),
    [
        (Gap(GapReason.EPOCH_CHANGED, 20, 25), at(1, "new")),
        (Gap(GapReason.GATEWAY, 20, 25), None),
        (Gap(GapReason.EPOCH_CHANGED, 20, 25), at(9)),
    ],
)
async def test_a_loss_without_numbers_gets_none_and_takes_those_of_others(
    autojump_clock: MockClock, gap: Gap, position: Position | None
) -> None:
    for before in ([1], [1, 2]):
        inbox = Inbox(max_items=1)
        put_numbered(inbox, *before)
        inbox.add(gap, time=25, position=position)
        await inbox.take()
        assert await inbox.take() == Gap(GapReason.OVERFLOW, 20, 25)


@pytest.mark.contract("R4", "R8")
async def test_a_loss_that_has_a_number_of_its_own_keeps_it(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put_numbered(inbox, 1)
    inbox.add(Gap(GapReason.GATEWAY, 12, 18), time=20, position=at(2))
    put_numbered(inbox, 3)
    await inbox.take()
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 12, 30, first=2, last=3)


@pytest.mark.contract("R5")
async def test_it_begins_where_another_process_was(autojump_clock: MockClock) -> None:
    inbox = Inbox(position=at(7, "old"))
    put(inbox, [challenge(1)], time=5)
    inbox.add(Gap(GapReason.EPOCH_CHANGED, 1, 9), time=9, position=at(0))
    places = [inbox.position]
    for _ in range(2):
        await inbox.take()
        places.append(inbox.position)
    assert places == [at(7, "old"), at(7, "old"), at(0)]


@pytest.mark.contract("R5")
async def test_where_numbers_end_the_place_ends_behind_the_last(autojump_clock: MockClock) -> None:
    inbox = Inbox(position=at(7))
    put_numbered(inbox, 8)
    inbox.leave_numbers()
    put(inbox, [message(9)], time=90)
    places = [inbox.position]
    for _ in range(2):
        await inbox.take()
        places.append(inbox.position)
    assert places == [at(7), at(8), None]
    inbox = Inbox(position=at(7))
    inbox.leave_numbers()
    assert inbox.position is None


def test_the_oldest_of_a_gap_is_when_it_began() -> None:
    inbox = Inbox()
    put(inbox, [Gap(GapReason.GATEWAY, 50, 99)], time=100)
    assert inbox.oldest == 50


async def test_the_oldest_follows_a_gap_that_is_widened_backwards(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    put(inbox, [message(0), message(1)], time=1007)
    put(inbox, [Gap(GapReason.GATEWAY, 947, 1007)], time=1007)
    await inbox.take()
    assert inbox.oldest == 947
    assert await inbox.take() == Gap(GapReason.OVERFLOW, 947, 1007)


@pytest.mark.contract("R8")
def test_by_default_it_holds_ten_thousand_items_of_sixty_four_mebibytes() -> None:
    assert Inbox().statistics() == InboxStatistics(0, 0, 10_000, 64 * 1024 * 1024, 0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0,), "inbox_size"),
        ((-1,), "inbox_size"),
        ((1.5,), "inbox_size"),
        (("1",), "inbox_size"),
        ((1, 0), "inbox_bytes"),
        ((1, None), "inbox_bytes"),
    ],
)
def test_a_wrong_option_is_refused_by_name(arguments: tuple[Any, ...], name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
        Inbox(*arguments)
    assert caught.value.argument == name


# --- Taking ---


async def test_a_task_that_waits_is_woken_by_whatever_comes(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    taken: list[Event] = []

    async def taker() -> None:
        taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        put(inbox, [message(0), undecodable(1)], time=5)
        await wait_all_tasks_blocked()
        assert len(taken) == 2
        put(inbox, [], time=6)
        put(inbox, [Gap(GapReason.GATEWAY, 1, 2)], time=7)
    assert taken == [message(0), undecodable(1), Gap(GapReason.GATEWAY, 1, 2)]


@pytest.mark.contract("R8")
async def test_a_gap_for_what_has_no_room_wakes_a_task_of_its_own(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=1)
    taken: list[Event] = []

    async def taker() -> None:
        taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        for _ in range(2):
            nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        put(inbox, [message(0), message(1)], time=5)
    assert taken == [message(0), Gap(GapReason.OVERFLOW, 5, 5, count=1)]


async def test_an_item_that_another_task_took_first_leaves_the_woken_one_waiting(
    autojump_clock: MockClock,
) -> None:
    inbox = Inbox()
    taken: list[Event] = []

    async def taker() -> None:
        taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(taker)
        await wait_all_tasks_blocked()
        put(inbox, [message(0)], time=5)
        # As in the middle of a turn: this task takes the item before the one that was woken runs.
        inbox._left_in_turn = 1
        assert await inbox.take() == message(0)
        await wait_all_tasks_blocked()
        assert taken == []
        put(inbox, [message(1)], time=6)
    assert taken == [message(1)]


async def test_a_cancelled_take_leaves_the_item_there(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    put(inbox, map(message, range(3)), time=5)
    await inbox.take()
    for _ in range(2):
        # The first time in the middle of a turn, the second at the beginning of one.
        with trio.CancelScope() as scope:
            scope.cancel()
            await inbox.take()
        assert scope.cancelled_caught
        inbox._left_in_turn = 0
    assert await inbox.take() == message(1)


async def test_cancelling_a_task_that_waits_takes_nothing_from_the_others(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    taken: list[tuple[int, Event]] = []
    scopes = [trio.CancelScope() for _ in range(3)]

    async def taker(n: int) -> None:
        with scopes[n]:
            taken.append((n, await inbox.take()))

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(taker, n)
            await wait_all_tasks_blocked()
        # Woken and cancelled in the same tick: the first in the row has been given its turn already.
        put(inbox, [message(0)], time=5)
        scopes[0].cancel()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        put(inbox, [message(1)], time=5)
    assert taken == [(0, message(0)), (2, message(1))]


async def test_an_item_that_comes_while_a_cancelled_task_leaves_wakes_the_next(
    autojump_clock: MockClock,
) -> None:
    inbox = Inbox()
    taken: list[Event] = []

    async def taker(scope: trio.CancelScope) -> None:
        with scope:
            taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        for n in range(3):
            scope = trio.CancelScope()
            nursery.start_soon(taker, scope)
            await wait_all_tasks_blocked()
            # It waits no more, and has not run since.
            scope.cancel()
            put(inbox, [message(n)], time=5)
            nursery.start_soon(taker, trio.CancelScope())
            await wait_all_tasks_blocked()
            assert taken == [message(each) for each in range(n + 1)]
        nursery.start_soon(taker, trio.CancelScope())
        await wait_all_tasks_blocked()
        put(inbox, [message(3)], time=5)
    assert taken[3] == message(3)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_loop_over_many_items_gives_others_a_turn_after_each_thousand(
    autojump_clock: MockClock, waits: bool, is_stream: bool
) -> None:
    """Whether they were there before, or came while it waited."""
    inbox = Inbox()
    items = [message(n) for n in range(5000)]
    taken: list[Event] = []
    #: How many had been taken each time that the loop let others go on.
    turns: list[int] = []

    class Turns(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.coro.cr_code is loop.__code__:
                turns.append(len(taken))

    async def loop() -> None:
        stream = EventStream(inbox, None)
        for _ in range(5000):
            taken.append(await (anext(stream) if is_stream else inbox.take()))

    instrument = Turns()
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            if not waits:
                put(inbox, items, time=5)
            nursery.start_soon(loop)
            if waits:
                await wait_all_tasks_blocked()
                put(inbox, items, time=5)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert taken == items
    assert turns == [0, 1000, 2000, 3000, 4000, 5000]


@pytest.mark.parametrize("acknowledge", [False, True])
@pytest.mark.parametrize("keeps_account", [False, True])
async def test_a_stream_gives_what_is_there_without_a_checkpoint_but_notices_a_cancellation(
    autojump_clock: MockClock, acknowledge: bool, keeps_account: bool
) -> None:
    """After 32 events at the latest."""
    inbox = Inbox(acknowledge=acknowledge)
    put(inbox, map(message, range(100)), time=5)
    stream = EventStream(inbox, (lambda _: None) if keeps_account else None)
    with assert_checkpoints():
        await anext(stream)
    with assert_no_checkpoints():
        # Of the 99 that are left of the turn; with the 96th it looks, and with each 32nd.
        for _ in range(3):
            await anext(stream)
    await anext(stream)
    taken = 5
    with trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(40):
            await anext(stream)
            taken += 1
    assert scope.cancelled_caught
    assert 5 < taken < 5 + 32
    assert await anext(stream) == message(taken)


@pytest.mark.contract("R5")
@pytest.mark.parametrize("waits", [False, True])
async def test_each_event_that_a_stream_gives_is_counted_as_done_with(
    autojump_clock: MockClock, waits: bool
) -> None:
    inbox, done, given = Inbox(), list[Event](), list[Event]()
    stream = EventStream(inbox, done.append)

    async def loop() -> None:
        for n in range(40):
            given.append(await anext(stream))
            assert done == [message(each) for each in range(n + 1)]

    async with trio.open_nursery() as nursery:
        if waits:
            nursery.start_soon(loop)
            await wait_all_tasks_blocked()
        put(inbox, map(message, range(40)), time=5)
        if not waits:
            nursery.start_soon(loop)
    assert given == done
    inbox.close()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize("acknowledge", [False, True])
async def test_what_is_taken_in_turn_is_the_same_and_a_cancellation_is_noticed(
    autojump_clock: MockClock, acknowledge: bool
) -> None:
    """A loop needs no checkpoint for each item, but is never far from one."""
    inbox = Inbox(acknowledge=acknowledge)
    put(inbox, map(message, range(5000)), time=5)
    taken: list[Event] = []
    calls = 0
    with trio.CancelScope() as scope:
        while len(taken) < 4000:
            item = inbox.take_in_turn()
            if item is None:
                item = await inbox.take()
                calls += 1
            taken.append(item)
    assert taken == list(map(message, range(4000)))
    assert 4000 // 32 <= calls <= 4000 // 32 + 5
    assert inbox.statistics().waiting == 1000
    with trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(40):
            taken.append(inbox.take_in_turn() or await inbox.take())
    assert scope.cancelled_caught
    assert taken == list(map(message, range(len(taken))))
    assert len(taken) < 4000 + 33


async def test_the_first_take_is_a_checkpoint_and_so_is_one_that_finds_the_end(
    autojump_clock: MockClock,
) -> None:
    inbox = Inbox()
    put(inbox, [message(0)], time=5)
    with assert_checkpoints():
        await inbox.take()
    inbox.close()
    with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
        await inbox.take()


async def test_closing_ends_everybody_who_waits_and_is_idempotent(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    ended: list[int] = []

    async def taker(n: int) -> None:
        with pytest.raises(trio.EndOfChannel):
            await inbox.take()
        ended.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(taker, n)
        await wait_all_tasks_blocked()
        inbox.close()
        inbox.close()
    assert sorted(ended) == [0, 1, 2]


@pytest.mark.contract("R8", "D1")
async def test_what_became_of_a_message_is_told_however_full_it_is(autojump_clock: MockClock) -> None:
    """No gap could stand for it; there are no more than an earlier process had accepted."""
    inbox = Inbox(1)
    settled = [MessageSettled(f"id-{n}", "+15550100", None, Sent(n)) for n in range(5)]
    put(inbox, settled, time=1)
    assert inbox.statistics().overflowed == 0
    assert [await inbox.take() for _ in settled] == settled

import itertools
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_signal import ConfigurationError, Gap, GapReason
from trio_signal.hub import _protocol
from trio_signal.hub._pages import Hole, LogEntry, Page
from trio_signal.hub.log import LogStatistics, MessageLog
from trio_signal.store._batch import LogPast, LogRow

EXPIRED, OVERWRITTEN, EPOCH_CHANGED = GapReason.EXPIRED, GapReason.OVERWRITTEN, GapReason.EPOCH_CHANGED

AGE = 100.0
ANOTHER_NUMBERING = Hole(EPOCH_CHANGED, None, None)


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def data_for(sequence: int, size: int) -> bytes:
    """Return JSON that makes the body of this number ``size`` bytes long."""
    frame = len(_protocol.message(sequence, 0, b""))
    return b'"' + b"x" * (size - frame - 2) + b'"'


def numbers(page: Page) -> list[int]:
    return [entry.sequence for entry in page.messages]


def overhead() -> int:
    log = MessageLog()
    return -len(log.append(b"1", timestamp=0).body) + log.statistics().bytes


OVERHEAD = overhead()


class NaiveLog:
    """Everything that ever came, in a list. What is kept is worked out anew each time, by definition."""

    def __init__(self, *, max_messages: int, max_age: float, max_bytes: int, start: float) -> None:
        self.max_messages = max_messages
        self.max_age = max_age
        self.max_bytes = max_bytes
        self.start = self.now = start
        self.came: list[LogEntry] = []

    def bytes_of(self, first: int, last: int) -> int:
        return sum(len(entry.body) + OVERHEAD for entry in self.came[first - 1 : last])

    def has_room(self, number: int, head: int) -> bool:
        """Say whether the number is kept while ``head`` is the last one, however old it is."""
        return head - number < self.max_messages and self.bytes_of(number, head) <= self.max_bytes

    def is_kept(self, number: int) -> bool:
        young = self.now - self.came[number - 1].time <= self.max_age
        return young and self.has_room(number, len(self.came))

    @property
    def oldest(self) -> int:
        return next((n for n in range(1, len(self.came) + 1) if self.is_kept(n)), len(self.came) + 1)

    def why_lost(self, number: int) -> GapReason:
        """Say what came first: the message that took its room, or its age."""
        for pusher in range(number, len(self.came) + 1):
            if not self.has_room(number, pusher):
                age = self.came[pusher - 1].time - self.came[number - 1].time
                return OVERWRITTEN if age <= self.max_age else EXPIRED
        return EXPIRED

    def seconds_covered(self) -> float:
        lost = [entry.time for entry in self.came if not self.is_kept(entry.sequence)]
        return min(self.max_age, self.now - max([self.start, *lost]))

    def hole(self, sequence: int, *, same_epoch: bool) -> Hole | None:
        if not same_epoch or sequence > len(self.came):
            return ANOTHER_NUMBERING
        if sequence < self.oldest - 1:
            return Hole(self.why_lost(self.oldest - 1), sequence + 1, self.oldest - 1)
        return None

    def since(
        self,
        sequence: int,
        *,
        same_epoch: bool = True,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> tuple[list[LogEntry], Hole | None, bool]:
        hole = self.hole(sequence, same_epoch=same_epoch)
        kept = self.came[self.oldest - 1 :]
        wanted = kept if hole else [entry for entry in kept if entry.sequence > sequence]
        given = wanted if limit is None else wanted[:limit]
        while max_bytes is not None and len(given) > 1 and sum(len(e.body) for e in given) > max_bytes:
            given = given[:-1]
        return given, hole, len(given) < len(wanted)


# --- the log against the list, exhaustively ---


def expiries(capacity: int, appended: int) -> Iterator[int]:
    """Yield how many of the first numbers are to be too old: none, and each that changes what is kept."""
    yield 0
    yield from range(max(1, appended - capacity), appended + 1)


@pytest.mark.contract("H4", "H5", "H6")
def test_every_small_log_agrees_with_a_list() -> None:
    combinations = 0
    for capacity, appended in itertools.product(range(1, 9), range(25)):
        for expired in expiries(capacity, appended):
            clock = Clock(0.0)
            log = MessageLog(max_messages=capacity, max_age=AGE, epoch="e", clock=clock)
            naive = NaiveLog(max_messages=capacity, max_age=AGE, max_bytes=1 << 60, start=0.0)
            for number in range(1, appended + 1):
                clock.now = float(number)
                naive.came.append(log.append(b"1", timestamp=0))
            clock.now = naive.now = AGE + expired + 0.5
            assert log.oldest == naive.oldest
            assert log.seconds_covered == naive.seconds_covered()
            for cursor, epoch in itertools.product(range(appended + 4), ("e", "another", None)):
                everything, hole, _ = naive.since(cursor, same_epoch=epoch != "another")
                for limit in (None, 1, 3):
                    page = log.since(cursor, epoch=epoch, limit=limit)
                    given = everything[:limit]
                    assert page.messages == tuple(given)
                    assert page.gap == hole
                    assert page.more == (len(given) < len(everything))
                    assert (page.epoch, page.head, page.oldest) == ("e", appended, naive.oldest)
                    combinations += 1
    assert combinations >= 100_000


@pytest.mark.contract("H4", "H5", "H6")
def test_every_small_log_bounded_in_bytes_agrees_with_a_list() -> None:
    """Bodies of one to three units, of which three may be too large alone, and pages of one to four."""
    unit, combinations = 400, 0
    for sizes in itertools.chain.from_iterable(itertools.product((1, 2, 3), repeat=n) for n in range(6)):
        for room in (2, 3, 4, 6):
            log = MessageLog(max_bytes=room * unit, clock=Clock())
            naive = NaiveLog(max_messages=500, max_age=900.0, max_bytes=room * unit, start=1_000.0)
            naive.now = 1_000.0
            for number, size in enumerate(sizes, 1):
                naive.came.append(log.append(data_for(number, size * unit - OVERHEAD), timestamp=0))
            assert log.statistics().bytes == naive.bytes_of(naive.oldest, len(sizes)) <= room * unit
            for cursor, page_size in itertools.product(range(len(sizes) + 2), (None, 1, 2, 4)):
                max_bytes = None if page_size is None else page_size * (unit - OVERHEAD)
                page = log.since(cursor, max_bytes=max_bytes)
                assert (list(page.messages), page.gap, page.more) == naive.since(cursor, max_bytes=max_bytes)
                assert page.oldest == naive.oldest
                combinations += 1
    assert combinations >= 20_000


# --- the log against the list, at random ---


class LogMachine(RuleBasedStateMachine):
    """A log, the list beside it, and a reader that pages along behind."""

    @initialize(
        max_messages=st.integers(1, 12),
        max_bytes=st.sampled_from([300, 1_000, 3_000, 1 << 30]),
        max_age=st.sampled_from([1.0, 60.0, 900.0]),
    )
    def make(self, max_messages: int, max_bytes: int, max_age: float) -> None:
        self.clock = Clock()
        self.log = MessageLog(
            max_messages=max_messages, max_bytes=max_bytes, max_age=max_age, clock=self.clock
        )
        self.naive = NaiveLog(
            max_messages=max_messages, max_age=max_age, max_bytes=max_bytes, start=self.clock.now
        )
        self.position = 0
        self.had: list[int] = []

    def note(self, entry: LogEntry) -> None:
        self.naive.came.append(entry)
        assert entry.sequence == len(self.naive.came) == self.log.head
        assert entry.time == self.naive.now
        assert json.loads(entry.body)["sequence_number"] == entry.sequence

    @rule(size=st.integers(0, 1_200))
    def append(self, size: int) -> None:
        self.note(self.log.append(b'"' + b"x" * size + b'"', timestamp=0))

    @rule(count=st.integers(2, 15))
    def burst(self, count: int) -> None:
        for _ in range(count):
            self.append(size=1)

    @rule(since=st.integers(0, 1 << 50), count=st.none() | st.integers(0, 9))
    def absence(self, since: int, count: int | None) -> None:
        gap = Gap(GapReason.GATEWAY, since, since + 1, count=count)
        self.note(self.log.append_gap(gap, timestamp=since + 1))

    @rule(seconds=st.sampled_from([0.25, 1.0, 1.25, 59.75, 60.0, 450.0, 899.75, 900.0, 5_000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.naive.now = max(self.naive.now, self.clock.now)

    @rule(seconds=st.sampled_from([0.25, 60.0, 1_000.0]))
    def clock_goes_back(self, seconds: float) -> None:
        self.clock.now -= seconds

    @rule(
        cursor=st.integers(0, 40) | st.integers(0, 1 << 70),
        epoch=st.sampled_from(["mine", "", "another", None]),
        limit=st.none() | st.integers(1, 20),
        max_bytes=st.none() | st.integers(0, 5_000),
    )
    def read(self, cursor: int, epoch: str | None, limit: int | None, max_bytes: int | None) -> None:
        given = self.log.epoch if epoch == "mine" else epoch
        page = self.log.since(cursor, epoch=given, limit=limit, max_bytes=max_bytes)
        same = epoch in {"mine", None}
        expected = self.naive.since(cursor, same_epoch=same, limit=limit, max_bytes=max_bytes)
        assert (list(page.messages), page.gap, page.more) == expected
        assert (page.epoch, page.head) == (self.log.epoch, len(self.naive.came))
        assert page.oldest == self.naive.oldest

    @rule(limit=st.none() | st.integers(1, 4), max_bytes=st.none() | st.integers(0, 1_500))
    def turn_the_page(self, limit: int | None, max_bytes: int | None) -> None:
        self.next_page(limit, max_bytes)

    def next_page(self, limit: int | None = None, max_bytes: int | None = None) -> Page:
        page = self.log.since(self.position, epoch=self.log.epoch, limit=limit, max_bytes=max_bytes)
        if page.gap is not None:
            first, last = page.gap.first, page.gap.last
            assert first == self.position + 1
            assert last is not None
            self.had += range(first, last + 1)
        self.had += numbers(page)
        self.position = self.had[-1] if self.had else 0
        assert page.more == (self.position < self.log.head)
        return page

    @invariant()
    def the_reader_missed_nothing_untold(self) -> None:
        assert self.had == list(range(1, self.position + 1))

    @invariant()
    def the_figures_are_true(self) -> None:
        naive, oldest = self.naive, self.naive.oldest
        lost = [naive.why_lost(number) for number in range(1, oldest)]
        assert self.log.statistics() == LogStatistics(
            epoch=self.log.epoch,
            head=len(naive.came),
            oldest=oldest,
            messages=len(naive.came) + 1 - oldest,
            bytes=naive.bytes_of(oldest, len(naive.came)),
            max_messages=naive.max_messages,
            max_bytes=naive.max_bytes,
            max_age=naive.max_age,
            seconds_covered=naive.seconds_covered(),
            overwritten=lost.count(OVERWRITTEN),
            expired=lost.count(EXPIRED),
        )

    def teardown(self) -> None:
        pages = 0
        while self.next_page(limit=2).more:
            pages += 1
            assert pages <= self.naive.max_messages
        assert self.had == list(range(1, self.log.head + 1))


def as_test(machine: type[RuleBasedStateMachine]) -> Any:
    machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
    return machine.TestCase


TestLogMachine = pytest.mark.contract("H1", "H4", "H5", "H6")(as_test(LogMachine))


# --- the recovery table ---


class World(NamedTuple):
    log: MessageLog
    clock: Clock


def appended(count: int, *, max_messages: int = 20, max_bytes: int = 1 << 30, pause: float = 1.0) -> World:
    """Make a log and append ``count`` messages, each ``pause`` seconds after the one before."""
    clock = Clock()
    log = MessageLog(max_messages=max_messages, max_bytes=max_bytes, max_age=AGE, epoch="e", clock=clock)
    for number in range(1, count + 1):
        clock.now += pause
        log.append(data_for(number, 300), timestamp=0)
    return World(log, clock)


def new() -> World:
    return appended(0)


def whole() -> World:
    return appended(5)


def exactly_full() -> World:
    return appended(5, max_messages=5)


def wrapped() -> World:
    return appended(12, max_messages=5)


def wrapped_often() -> World:
    return appended(1_003, max_messages=5)


def one_slot() -> World:
    return appended(3, max_messages=1)


def short_of_bytes() -> World:
    return appended(9, max_bytes=4 * (300 + OVERHEAD))


def partly_expired() -> World:
    world = appended(10)
    world.clock.now += AGE - 6  # number 4 is 100 s old: kept; number 3 is 101 s old
    return world


def all_expired() -> World:
    world = whole()
    world.clock.now += AGE + 1
    return world


def expired_and_refilled() -> World:
    world = all_expired()
    for _ in range(3):
        world.log.append(b"1", timestamp=0)
    return world


def wrapped_then_expired() -> World:
    world = wrapped()
    world.clock.now += AGE - 2  # of 8 to 12, 8 and 9 go
    return world


def expired_then_wrapped() -> World:
    world = all_expired()
    for _ in range(7):
        world.log.append(b"1", timestamp=0)
    world.log.append(data_for(13, 400), timestamp=0)
    for _ in range(20):
        world.log.append(b"1", timestamp=0)
    return world


def last_one_too_large() -> World:
    world = appended(4, max_bytes=1_500)
    world.log.append(data_for(5, 1_501), timestamp=0)
    return world


def after_one_too_large() -> World:
    world = last_one_too_large()
    world.log.append(b"1", timestamp=0)
    world.log.append(b"1", timestamp=0)
    return world


OWN = "its own"  # the epoch is given and is that of the log
NOTHING = (1, 0)
GONE_5 = Hole(EXPIRED, 1, 5)
A_BILLION, HUGE = 10**9, 10**40

# world, since, epoch, limit -> the numbers given, as first and last, the hole, more
RECOVERIES: list[tuple[Any, int, str | None, int | None, tuple[int, int], Hole | None, bool]] = [
    # a new log: head 0, oldest 1
    (new, 0, OWN, None, NOTHING, None, False),
    (new, 0, None, None, NOTHING, None, False),
    (new, 0, "old", None, NOTHING, ANOTHER_NUMBERING, False),
    (new, 0, "", None, NOTHING, ANOTHER_NUMBERING, False),
    (new, 1, OWN, None, NOTHING, ANOTHER_NUMBERING, False),
    (new, 1, None, None, NOTHING, ANOTHER_NUMBERING, False),
    (new, A_BILLION, OWN, None, NOTHING, ANOTHER_NUMBERING, False),
    # nothing has gone: head 5, oldest 1
    (whole, 0, OWN, None, (1, 5), None, False),  # oldest - 1
    (whole, 0, None, None, (1, 5), None, False),
    (whole, 1, OWN, None, (2, 5), None, False),  # oldest
    (whole, 3, OWN, None, (4, 5), None, False),
    (whole, 4, OWN, None, (5, 5), None, False),  # head - 1
    (whole, 5, OWN, None, NOTHING, None, False),  # head
    (whole, 5, None, None, NOTHING, None, False),
    (whole, 6, OWN, None, (1, 5), ANOTHER_NUMBERING, False),  # head + 1
    (whole, 6, None, None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, HUGE, OWN, None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, HUGE, None, None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, 0, "old", None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, 3, "old", None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, 3, "", None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, 3, "E", None, (1, 5), ANOTHER_NUMBERING, False),  # the name is compared exactly
    (whole, 5, "old", None, (1, 5), ANOTHER_NUMBERING, False),
    (whole, 6, "old", None, (1, 5), ANOTHER_NUMBERING, False),
    # pages
    (whole, 0, OWN, 1, (1, 1), None, True),
    (whole, 0, OWN, 4, (1, 4), None, True),
    (whole, 0, OWN, 5, (1, 5), None, False),
    (whole, 0, OWN, 6, (1, 5), None, False),
    (whole, 0, OWN, HUGE, (1, 5), None, False),
    (whole, 4, OWN, 1, (5, 5), None, False),
    (whole, 3, OWN, 1, (4, 4), None, True),
    (whole, 5, OWN, 1, NOTHING, None, False),
    (whole, 6, OWN, 2, (1, 2), ANOTHER_NUMBERING, True),
    (whole, 3, "old", 2, (1, 2), ANOTHER_NUMBERING, True),
    # as many as there is room for: head 5, oldest 1
    (exactly_full, 0, OWN, None, (1, 5), None, False),
    (exactly_full, 4, OWN, None, (5, 5), None, False),
    (exactly_full, 5, OWN, None, NOTHING, None, False),
    # the ring has wrapped: head 12, oldest 8
    (wrapped, 0, OWN, None, (8, 12), Hole(OVERWRITTEN, 1, 7), False),
    (wrapped, 0, None, None, (8, 12), Hole(OVERWRITTEN, 1, 7), False),
    (wrapped, 6, OWN, None, (8, 12), Hole(OVERWRITTEN, 7, 7), False),  # oldest - 2
    (wrapped, 6, None, None, (8, 12), Hole(OVERWRITTEN, 7, 7), False),
    (wrapped, 7, OWN, None, (8, 12), None, False),  # oldest - 1
    (wrapped, 8, OWN, None, (9, 12), None, False),  # oldest
    (wrapped, 9, OWN, None, (10, 12), None, False),  # the page begins where the ring does
    (wrapped, 11, OWN, None, (12, 12), None, False),
    (wrapped, 12, OWN, None, NOTHING, None, False),
    (wrapped, 13, OWN, None, (8, 12), ANOTHER_NUMBERING, False),
    (wrapped, 7, "old", None, (8, 12), ANOTHER_NUMBERING, False),
    (wrapped, 0, OWN, 2, (8, 9), Hole(OVERWRITTEN, 1, 7), True),  # a page across the end of the ring
    (wrapped, 0, OWN, 3, (8, 10), Hole(OVERWRITTEN, 1, 7), True),
    (wrapped, 9, OWN, 3, (10, 12), None, False),
    (wrapped_often, 997, OWN, None, (999, 1003), Hole(OVERWRITTEN, 998, 998), False),
    (wrapped_often, 998, OWN, None, (999, 1003), None, False),
    (wrapped_often, 1004, OWN, None, (999, 1003), ANOTHER_NUMBERING, False),
    (one_slot, 1, OWN, None, (3, 3), Hole(OVERWRITTEN, 2, 2), False),
    (one_slot, 2, OWN, None, (3, 3), None, False),
    (one_slot, 3, OWN, None, NOTHING, None, False),
    # bytes: head 9, oldest 6
    (short_of_bytes, 4, OWN, None, (6, 9), Hole(OVERWRITTEN, 5, 5), False),
    (short_of_bytes, 5, OWN, None, (6, 9), None, False),
    # age: head 10, oldest 4
    (partly_expired, 0, OWN, None, (4, 10), Hole(EXPIRED, 1, 3), False),
    (partly_expired, 2, OWN, None, (4, 10), Hole(EXPIRED, 3, 3), False),
    (partly_expired, 3, OWN, None, (4, 10), None, False),
    (partly_expired, 4, OWN, None, (5, 10), None, False),
    (partly_expired, 10, OWN, None, NOTHING, None, False),
    (partly_expired, 0, OWN, 1, (4, 4), Hole(EXPIRED, 1, 3), True),
    (partly_expired, 0, "old", None, (4, 10), ANOTHER_NUMBERING, False),
    # all has expired: head 5, oldest 6
    (all_expired, 0, OWN, None, NOTHING, GONE_5, False),
    (all_expired, 0, None, None, NOTHING, GONE_5, False),
    (all_expired, 0, OWN, 1, NOTHING, GONE_5, False),
    (all_expired, 4, OWN, None, NOTHING, Hole(EXPIRED, 5, 5), False),
    (all_expired, 5, OWN, None, NOTHING, None, False),  # head: complete, although nothing is kept
    (all_expired, 5, None, None, NOTHING, None, False),
    (all_expired, 6, OWN, None, NOTHING, ANOTHER_NUMBERING, False),
    (all_expired, 5, "old", None, NOTHING, ANOTHER_NUMBERING, False),
    (expired_and_refilled, 4, OWN, None, (6, 8), Hole(EXPIRED, 5, 5), False),
    (expired_and_refilled, 5, OWN, None, (6, 8), None, False),
    # the reason is that of the newest one missing
    (wrapped_then_expired, 0, OWN, None, (10, 12), Hole(EXPIRED, 1, 9), False),
    (wrapped_then_expired, 6, OWN, None, (10, 12), Hole(EXPIRED, 7, 9), False),
    (expired_then_wrapped, 0, OWN, None, (14, 33), Hole(OVERWRITTEN, 1, 13), False),
    (expired_then_wrapped, 13, OWN, None, (14, 33), None, False),
    # a message that is larger than all the room: head 5, oldest 6
    (last_one_too_large, 0, OWN, None, NOTHING, Hole(OVERWRITTEN, 1, 5), False),
    (last_one_too_large, 4, OWN, None, NOTHING, Hole(OVERWRITTEN, 5, 5), False),
    (last_one_too_large, 5, OWN, None, NOTHING, None, False),
    (after_one_too_large, 4, OWN, None, (6, 7), Hole(OVERWRITTEN, 5, 5), False),
    (after_one_too_large, 5, OWN, None, (6, 7), None, False),
]


def row_id(row: tuple[Any, ...]) -> str:
    world, since, epoch, limit = row[:4]
    named = {OWN: "", None: "-no_epoch", "": "-empty_epoch"}.get(epoch, f"-epoch_{epoch}")
    return f"{world.__name__}-{since if since < HUGE else 'huge'}{named}" + (
        "" if limit is None else f"-limit_{limit if limit < HUGE else 'huge'}"
    )


@pytest.mark.parametrize(
    ("make", "since", "epoch", "limit", "given", "hole", "more"), RECOVERIES, ids=map(row_id, RECOVERIES)
)
@pytest.mark.contract("H4", "H5", "R4")
def test_recovery(
    make: Any,
    since: int,
    epoch: str | None,
    limit: int | None,
    given: tuple[int, int],
    hole: Hole | None,
    more: bool,
) -> None:
    log = cast(World, make()).log
    page = log.since(since, epoch="e" if epoch == OWN else epoch, limit=limit)
    assert (page.gap, page.more, page.epoch) == (hole, more, "e")
    assert numbers(page) == list(range(given[0], given[1] + 1))
    assert (page.head, page.oldest) == (log.head, log.oldest)


def test_the_recovery_table_is_long_enough() -> None:
    assert len(RECOVERIES) >= 60


@pytest.mark.parametrize("since", [-1, -(10**40)])
@pytest.mark.contract("H5")
def test_a_negative_number_is_refused(since: int) -> None:
    with pytest.raises(ValueError, match="a sequence number is 0 or more, not -1"):
        whole().log.since(since)


@pytest.mark.parametrize("limit", [0, -1])
@pytest.mark.contract("H5")
def test_a_page_of_nothing_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"a page has at least one message, not {limit}"):
        whole().log.since(0, limit=limit)


@pytest.mark.contract("H5", "H3")
def test_a_reader_of_another_epoch_goes_on_in_this_one() -> None:
    log = wrapped().log
    page = log.since(3, epoch="old", limit=2)
    assert (page.gap, page.more) == (ANOTHER_NUMBERING, True)
    page = log.since(page.messages[-1].sequence, epoch=page.epoch)
    assert (page.gap, numbers(page)) == (None, [10, 11, 12])


@pytest.mark.contract("H4")
def test_the_bodies_of_a_page_stay_within_its_bytes_but_one_is_always_given() -> None:
    log = whole().log
    for max_bytes, count in [(0, 1), (1, 1), (299, 1), (300, 1), (599, 1), (600, 2), (1_499, 4), (1_500, 5)]:
        page = log.since(0, max_bytes=max_bytes)
        assert numbers(page) == list(range(1, count + 1))
        assert page.more == (count < 5)
    assert numbers(log.since(3, limit=1, max_bytes=10_000)) == [4]
    assert numbers(log.since(0, limit=3, max_bytes=600)) == [1, 2]
    assert numbers(log.since(5, max_bytes=0)) == []


@pytest.mark.contract("H4", "H5")
def test_what_is_overwritten_between_two_pages_is_a_hole_on_the_second() -> None:
    log = appended(10, max_messages=10).log
    first = log.since(0, epoch="e", limit=3)
    assert (numbers(first), first.gap, first.more) == ([1, 2, 3], None, True)
    for _ in range(6):
        log.append(b"1", timestamp=0)
    second = log.since(3, epoch="e", limit=3)
    assert (numbers(second), second.gap) == ([7, 8, 9], Hole(OVERWRITTEN, 4, 6))


# --- numbers, epochs, entries ---


@pytest.mark.contract("H1")
def test_messages_and_gaps_share_one_counter_and_carry_their_number_inside() -> None:
    log = MessageLog(clock=Clock(7.0))
    first = log.append(b'{"envelope":{}}', timestamp=11)
    second = log.append_gap(Gap(GapReason.GATEWAY, 5, 9), timestamp=12)
    third = log.append(b"null", timestamp=13)
    assert [first.sequence, second.sequence, third.sequence] == [1, 2, 3]
    assert first == LogEntry(
        1, 7.0, b'{"type":"message","sequence_number":1,"timestamp":11,"data":{"envelope":{}}}'
    )
    assert json.loads(second.body) == {
        "type": "gap",
        "sequence_number": 2,
        "timestamp": 12,
        "reason": "gateway",
        "since": 5,
        "until": 9,
    }
    assert log.since(0).messages == (first, second, third)
    assert log.since(1).messages[0] is second


@pytest.mark.contract("H3")
def test_each_log_has_an_epoch_of_its_own_that_stays() -> None:
    logs = [MessageLog(max_messages=1) for _ in range(1_000)]
    epochs = {log.epoch for log in logs}
    assert len(epochs) == 1_000
    # Fit for a URL as it is, and nobody guesses it.
    assert all(re.fullmatch(r"[\w-]{16,}", epoch, re.ASCII) for epoch in epochs)
    before = logs[0].epoch
    logs[0].append(b"1", timestamp=0)
    assert logs[0].epoch == logs[0].since(0).epoch == before


@pytest.mark.parametrize("epoch", ["e", "e" * 200])
@pytest.mark.contract("H3")
def test_an_epoch_that_is_given_is_the_epoch(epoch: str) -> None:
    log = MessageLog(epoch=epoch)
    assert log.epoch == log.since(0).epoch == log.statistics().epoch == epoch


@pytest.mark.contract("H3")
def test_a_restarted_log_does_not_pass_for_the_old_one() -> None:
    old, again = MessageLog(), MessageLog()
    for log in (old, again):
        for _ in range(5):
            log.append(b"1", timestamp=0)
    page = again.since(3, epoch=old.epoch)
    assert page.gap == ANOTHER_NUMBERING
    assert numbers(page) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_messages": 0}, "max_messages: 0 is not a whole number, 1 or more"),
        ({"max_messages": 1.5}, "max_messages: 1.5 is not a whole number, 1 or more"),
        ({"max_bytes": 0}, "max_bytes: 0 is not a whole number, 1 or more"),
        ({"max_age": 0}, "max_age: 0 is not a number over 0"),
        ({"max_age": float("nan")}, "max_age: nan is not a number over 0"),
        ({"max_age": float("inf")}, "max_age: inf is not a number over 0"),
        ({"epoch": ""}, "epoch: '' is not a text of 1 to 200 characters"),
        ({"epoch": "e" * 201}, "' is not a text of 1 to 200 characters"),
        ({"epoch": 5}, "epoch: 5 is not a text of 1 to 200 characters"),
    ],
)
def test_a_log_that_could_not_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        MessageLog(**options)


@pytest.mark.contract("H6")
def test_by_default_the_last_500_messages_of_15_minutes_are_kept() -> None:
    clock = Clock()
    log = MessageLog(clock=clock)
    for _ in range(501):
        log.append(b"1", timestamp=0)
    assert numbers(log.since(0)) == list(range(2, 502))
    clock.now += 900.0
    assert len(log.since(0).messages) == 500
    clock.now += 0.001
    assert log.since(0).messages == ()
    figures = log.statistics()
    assert (figures.max_messages, figures.max_age, figures.max_bytes) == (500, 900.0, 64 * 1024 * 1024)


def test_without_a_clock_of_ones_own_time_passes_monotonically() -> None:
    log = MessageLog()
    entries = [log.append(b"1", timestamp=0) for _ in range(100)]
    times = [entry.time for entry in entries]
    assert times == sorted(times)
    assert 0.0 <= log.seconds_covered < 300.0


# --- expiry ---


READINGS: dict[str, Callable[[MessageLog], int]] = {
    "oldest": lambda log: log.oldest,
    "since": lambda log: log.since(0).oldest,
    "statistics": lambda log: log.statistics().oldest,
    "seconds_covered": lambda log: (log.seconds_covered, log._oldest)[1],
    "append": lambda log: (log.append(b"1", timestamp=0), log._oldest)[1],
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.contract("H6")
def test_expiry_holds_at_the_moment_of_reading_however_one_reads(reading: str) -> None:
    log, clock = appended(2, pause=1.0)
    clock.now = 1_001.0 + AGE
    assert READINGS[reading](log) == 1  # exactly as old as allowed
    log, clock = appended(2, pause=1.0)
    clock.now = 1_001.0 + AGE + 0.001
    assert READINGS[reading](log) == 2
    log, clock = appended(2, pause=1.0)
    clock.now = 1_000_000.0
    assert READINGS[reading](log) == 3


@pytest.mark.contract("H6")
def test_a_clock_that_goes_back_makes_nothing_younger_or_older() -> None:
    clock = Clock()
    log = MessageLog(max_age=AGE, clock=clock)
    log.append(b"1", timestamp=0)
    clock.now -= 5_000.0
    late = log.append(b"2", timestamp=0)
    assert late.time == 1_000.0
    assert log.seconds_covered == 0.0
    clock.now = 1_000.0 + AGE
    assert numbers(log.since(0)) == [1, 2]
    clock.now = 1_000.5 + AGE
    assert numbers(log.since(0)) == []
    clock.now = 0.0
    assert numbers(log.since(0)) == []  # what has expired does not come back


@pytest.mark.contract("H6")
def test_what_is_gone_is_let_go_of() -> None:
    log, clock = wrapped()
    clock.now += AGE + 1
    assert log.statistics().bytes == 0
    assert {entry.body for entry in log._ring} == {b""}


# --- bytes ---


@pytest.mark.contract("H6")
def test_the_bytes_are_bounded_at_every_step() -> None:
    log = MessageLog(max_bytes=5_000)
    sizes = [10, 4_000, 10, 10, 2_500, 4_600, 1, 6_000, 1, 1, 4_700, 2_000, 2_000]
    for size in sizes:
        entry = log.append(b'"' + b"x" * size + b'"', timestamp=0)
        figures, kept = log.statistics(), log.since(0).messages
        assert figures.bytes == sum(len(e.body) + OVERHEAD for e in kept) <= 5_000
        assert figures.messages == len(kept)
        assert (entry in kept) == (size < 4_750)
    assert log.statistics().overwritten + len(log.since(0).messages) == len(sizes)


@pytest.mark.contract("H6")
def test_an_entry_of_exactly_the_room_is_kept_and_of_one_byte_more_is_not() -> None:
    log = MessageLog(max_bytes=1_000)
    log.append(b"1", timestamp=0)
    log.append(data_for(2, 1_000 - OVERHEAD), timestamp=0)
    assert numbers(log.since(1)) == [2]
    assert log.statistics().bytes == 1_000
    large = log.append(data_for(3, 1_001 - OVERHEAD), timestamp=0)
    assert large.sequence == log.head == 3  # it has its number, and whoever is connected gets it
    assert (log.oldest, log.statistics().bytes, log.since(3).gap) == (4, 0, None)
    assert log.since(2).gap == Hole(OVERWRITTEN, 3, 3)


def test_what_an_entry_is_said_to_cost_is_about_what_it_costs() -> None:
    count = 5_000
    log = MessageLog(max_messages=count)
    tracemalloc.start()
    try:
        for number in range(count):
            log.append(b'{"envelope":{"timestamp":%d}}' % number, timestamp=1_700_000_000_000 + number)
        real, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 < log.statistics().bytes / real < 1.6


# --- coverage ---


def covered(world: World) -> float:
    return world.log.seconds_covered


@pytest.mark.contract("H6")
def test_a_new_log_covers_the_time_since_it_was_made() -> None:
    world = new()
    assert covered(world) == 0.0
    world.clock.now += 30.0
    assert covered(world) == 30.0
    world.log.append(b"1", timestamp=0)
    assert covered(world) == 30.0
    world.clock.now += AGE
    assert covered(world) == AGE


@pytest.mark.contract("H6")
def test_an_expired_message_takes_nothing_from_what_is_covered() -> None:
    world = partly_expired()
    assert covered(world) == AGE
    assert covered(all_expired()) == AGE


@pytest.mark.contract("H6")
def test_an_overwritten_message_ends_what_is_covered() -> None:
    world = wrapped()  # 7 was the last to go; it came 5 s before 12, which came just now
    assert covered(world) == 5.0
    world.clock.now += 2.5
    assert covered(world) == 7.5
    world.log.append(b"1", timestamp=0)  # 8 goes
    assert covered(world) == 6.5
    world.clock.now += AGE
    assert covered(world) == AGE


@pytest.mark.contract("H6")
def test_an_overwritten_and_then_an_expired_message() -> None:
    world = wrapped_then_expired()
    assert covered(world) == AGE
    world.log.append(b"1", timestamp=0)
    world.log.append(b"1", timestamp=0)
    world.log.append(b"1", timestamp=0)  # 10, which came 100 s ago, is overwritten
    assert world.log.since(9).gap == Hole(OVERWRITTEN, 10, 10)
    assert covered(world) == AGE
    world.log.append(b"1", timestamp=0)
    assert covered(world) == AGE - 1.0


@pytest.mark.contract("H6")
def test_a_message_too_large_to_keep_ends_what_is_covered() -> None:
    world = last_one_too_large()
    assert covered(world) == 0.0
    world.clock.now += 3.0
    assert covered(world) == 3.0
    assert world.log.statistics().seconds_covered == 3.0


@pytest.mark.contract("H6")
def test_who_was_away_for_less_than_what_is_covered_misses_nothing() -> None:
    """For every moment of leaving: covered means complete, and not covered means that something is gone."""
    clock = Clock()
    log = MessageLog(max_messages=6, max_age=8.5, clock=clock)
    left: dict[float, int] = {}
    for pause in (0.5, 1, 1, 0.5, 3, 1, 1, 0.25, 0.25, 2, 9, 1, 0.5, 0.5, 0.5, 0.5, 4, 0.5, 0.5, 0.5):
        left[clock.now + pause / 2] = log.head
        clock.now += pause
        log.append(b"1", timestamp=0)
        for when, position in left.items():
            # Who left before anything that is gone came, lacks it; a number that is older lacks nobody.
            if clock.now - when < log.seconds_covered:
                assert log.since(position).gap is None
            elif clock.now - when <= 8.5:
                assert log.since(position).gap is not None


# --- drafts: numbered, and not to be seen before they are on disk ---


def seen(log: MessageLog) -> tuple[Any, ...]:
    """Everything that anybody can learn of a log."""
    page, figures = log.since(0), log.statistics()
    return log.head, log.oldest, log.epoch, page, log.since(log.head), figures


@pytest.mark.contract("H1")
def test_a_draft_has_its_number_and_nobody_sees_it() -> None:
    log, clock = whole()
    before = seen(log)
    first = log.draft(b'{"a":1}', timestamp=11)
    second = log.draft_gap(Gap(GapReason.GATEWAY, 5, 9), timestamp=12)
    assert (first.sequence, second.sequence) == (6, 7)
    assert first.body == b'{"type":"message","sequence_number":6,"timestamp":11,"data":{"a":1}}'
    assert json.loads(second.body)["sequence_number"] == 7
    assert seen(log) == before
    assert log.since(6).gap == log.since(7).gap == ANOTHER_NUMBERING
    assert log.drafts == 2
    assert log.draft_bytes == len(first.body) + len(second.body) + 2 * OVERHEAD
    clock.now += 5.0
    published = log.publish(7)
    assert [entry.body for entry in published] == [first.body, second.body]
    assert log.since(5).messages == published
    assert (log.head, log.drafts, log.draft_bytes) == (7, 0, 0)


@pytest.mark.contract("H1")
def test_drafts_become_visible_in_their_order_as_far_as_they_may() -> None:
    log = MessageLog(clock=Clock())
    assert log.publish(5) == ()
    bodies = [log.draft(b"%d" % n, timestamp=0).body for n in range(5)]
    assert log.publish(0) == ()
    assert [entry.sequence for entry in log.publish(2)] == [1, 2]
    assert log.publish(1) == ()
    assert (log.head, log.drafts) == (2, 3)
    assert log.draft(b"5", timestamp=0).sequence == 6
    assert [entry.sequence for entry in log.publish(99)] == [3, 4, 5, 6]
    assert [entry.body for entry in log.since(0).messages][:5] == bodies


@pytest.mark.contract("H1")
def test_nothing_overtakes_a_draft() -> None:
    log = MessageLog(clock=Clock())
    log.draft(b"1", timestamp=0)
    with pytest.raises(ValueError, match="1 drafts come before it"):
        log.append(b"2", timestamp=0)
    with pytest.raises(ValueError, match="1 drafts come before it"):
        log.append_gap(Gap(GapReason.GATEWAY, 0, 1), timestamp=0)
    log.publish(1)
    assert log.append(b"2", timestamp=0).sequence == 2


@pytest.mark.contract("H6")
def test_an_entry_ages_from_when_it_could_be_seen() -> None:
    """Otherwise who was away for less than what is covered would lack what came while the disk was full."""
    log, clock = new()
    log.draft(b"1", timestamp=0)
    clock.now += 10 * AGE
    [entry] = log.publish(1)
    assert entry.time == clock.now
    clock.now += AGE
    assert numbers(log.since(0)) == [1]
    clock.now += 0.5
    assert numbers(log.since(0)) == []


@pytest.mark.contract("H4")
def test_what_a_restart_may_ask_for_is_no_more_than_the_log_keeps() -> None:
    log, clock = appended(4, max_messages=5)
    assert log.oldest_with(5) == 1
    assert log.oldest_with(6) == 2
    assert log.oldest_with(9) == 5
    clock.now += AGE - 1.5  # 1 and 2 are too old
    assert log.oldest_with(5) == 3
    assert log.oldest_with(9) == 5
    clock.now += AGE
    assert log.oldest_with(5) == 5, "nothing but the new one"


# --- a past ---

WALL = 1_700_000_000_000


def rows(*ages: float, first: int = 1) -> tuple[LogRow, ...]:
    """Make entries that came so many seconds before WALL."""
    return tuple(
        LogRow(number, WALL - round(age * 1000), _protocol.message(number, 0, b"%d" % number))
        for number, age in enumerate(ages, first)
    )


def resumed(
    *ages: float,
    first: int = 1,
    continues: bool = True,
    wall: int = WALL,
    head: int | None = None,
    **options: Any,
) -> World:
    clock = Clock()
    given_: dict[str, Any] = {"max_age": AGE, "clock": clock}
    log = MessageLog(**(given_ | options))
    kept = rows(*ages, first=first)
    end = first + len(ages) - 1 if head is None else head
    log.resume(LogPast("old", end, kept, continues), wall=wall)
    return World(log, clock)


@pytest.mark.contract("H3", "H4", "H6")
def test_a_log_goes_on_where_its_past_ended() -> None:
    log, clock = resumed(30, 20, 10, first=7)
    assert (log.epoch, log.head, log.oldest, log.is_new) == ("old", 9, 7, False)
    assert [entry.body for entry in log.since(6, epoch="old").messages] == [
        r.body for r in rows(0, 0, 0, first=7)
    ]
    assert log.since(6, epoch="old").gap is None
    assert log.since(3, epoch="old").gap == Hole(EXPIRED, 4, 6)
    assert log.append(b"1", timestamp=0).sequence == 10
    clock.now += AGE - 30
    assert log.oldest == 7
    clock.now += 0.5
    assert log.oldest == 8
    assert log.statistics().expired == 1


@pytest.mark.contract("H3")
def test_what_may_lack_something_goes_on_under_a_new_name_and_keeps_what_there_is() -> None:
    for epoch in (None, "old"):
        log, clock = resumed(30, 20, 10, first=7, continues=False, epoch=epoch)
        assert log.epoch != "old"
        assert len(log.epoch) >= 16
        page = log.since(9, epoch="old")
        assert (page.gap, numbers(page), page.epoch) == (ANOTHER_NUMBERING, [7, 8, 9], log.epoch)
        assert log.append(b"1", timestamp=0).sequence == 10
        assert covered(World(log, clock)) == 0.0, "nobody knows what was offered last"


@pytest.mark.contract("H3")
def test_the_name_in_the_store_is_the_name() -> None:
    assert resumed(1.0, epoch="mine").log.epoch == "old"


@pytest.mark.contract("H4", "H5")
@pytest.mark.parametrize("continues", [True, False])
def test_a_past_of_which_nothing_is_kept_still_counts(continues: bool) -> None:
    log, clock = resumed(head=41, continues=continues)
    assert (log.head, log.oldest, log.since(41).gap) == (41, 42, None)
    assert log.since(40).gap == Hole(EXPIRED, 41, 41)
    assert covered(World(log, clock)) == 0.0
    assert log.append(b"1", timestamp=0).sequence == 42
    assert numbers(log.since(41)) == [42]


@pytest.mark.contract("H3")
def test_a_past_in_which_nothing_was_numbered_is_as_good_as_none() -> None:
    log, _ = resumed()
    assert (log.epoch, log.head, log.oldest, log.is_new) == ("old", 0, 1, True)


@pytest.mark.parametrize("number", ["append", "draft"])
def test_a_log_with_something_in_it_takes_no_past(number: str) -> None:
    log = MessageLog()
    getattr(log, number)(b"1", timestamp=0)
    with pytest.raises(ConfigurationError, match="log: one that goes on from a store must be new"):
        log.resume(LogPast("old", 1, rows(1), continues=True), wall=WALL)
    assert log.epoch != "old"


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((300, 200, 50, 0), (50, 0)),  # what is too old has gone while nobody was there
        ((300, 200), ()),
        ((100, 100.001), (100, 100)),  # nothing counts as older than what came before it
        ((101, 50, 99), (50, 50)),
        ((-500, -10, -90), (0, 0, 0)),  # the clock was set back since: never negative
        ((-500, 40), (0, 0)),
        ((40, -500, 30), (40, 0, 0)),  # it was wrong for a while
    ],
)
@pytest.mark.contract("H6")
def test_ages_over_a_restart_are_told_by_the_time_of_day(
    ages: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    log, clock = resumed(*ages)
    entries = log.since(0).messages
    assert [round(clock.now - entry.time, 6) for entry in entries] == list(expected)
    assert log.head == len(ages)
    assert log.statistics().expired == len(ages) - len(expected)
    clock.now += AGE + 1
    assert log.since(0).messages == (), "nothing lives longer than max_age from here"


@pytest.mark.contract("H6")
def test_the_log_s_clock_may_be_younger_than_what_it_keeps() -> None:
    clock = Clock(0.0)
    log = MessageLog(max_age=AGE, clock=clock)
    log.resume(LogPast("old", 2, rows(90, 10), continues=True), wall=WALL)
    assert numbers(log.since(0)) == [1, 2]
    clock.now = 10.5
    assert numbers(log.since(0)) == [2]


@pytest.mark.contract("H6")
@pytest.mark.parametrize("passed", [500.0, -500.0])
def test_what_a_log_takes_over_counts_from_then_and_not_from_when_it_was_made(passed: float) -> None:
    """Opening a large store takes a while. A clock that went back shows what it showed."""
    clock = Clock()
    log = MessageLog(max_age=AGE, clock=clock)
    clock.now += passed
    now = max(clock.now, 1_000.0)
    log.resume(LogPast("old", 2, rows(90, 10), continues=True), wall=WALL)
    assert [entry.time for entry in log.since(0).messages] == [now - 90, now - 10]
    assert covered(World(log, clock)) == 90.0
    clock.now = now + 10.5
    assert numbers(log.since(0)) == [2]


@pytest.mark.parametrize(
    ("options", "expected", "reason"),
    [
        ({"max_messages": 3}, [8, 9, 10], OVERWRITTEN),
        ({"max_messages": 1}, [10], OVERWRITTEN),
        ({"max_messages": 10}, list(range(1, 11)), None),
        ({"max_bytes": 3 * (OVERHEAD + 70)}, [8, 9, 10], OVERWRITTEN),
        ({"max_bytes": 1}, [], OVERWRITTEN),
        ({"max_age": 4.5}, [7, 8, 9, 10], EXPIRED),
        ({"max_age": 0.5}, [], EXPIRED),
    ],
)
@pytest.mark.contract("H4", "H6")
def test_bounds_that_were_changed_between_the_runs_hold(
    options: dict[str, Any], expected: list[int], reason: GapReason | None
) -> None:
    log, _ = resumed(*range(10, 0, -1), **options)
    page = log.since(0, epoch="old")
    assert numbers(page) == expected
    assert (page.head, page.oldest) == (10, 11 - len(expected))
    assert page.gap == (None if reason is None else Hole(reason, 1, 10 - len(expected)))
    assert log.statistics().bytes == sum(len(entry.body) + OVERHEAD for entry in page.messages)
    assert log.append(b"1", timestamp=0).sequence == 11


@pytest.mark.contract("R4")
def test_why_something_is_gone_is_guessed_from_what_is_left() -> None:
    assert resumed(3, 2, 1, first=5, max_messages=3).log.since(0).gap == Hole(OVERWRITTEN, 1, 4)
    assert resumed(3, 2, 1, first=5, max_messages=4).log.since(0).gap == Hole(EXPIRED, 1, 4)


@pytest.mark.contract("H6")
def test_what_a_resumed_log_covers() -> None:
    assert covered(resumed(30, 20, 10)) == 30.0
    assert covered(resumed(30, 20, 10, first=7)) == 30.0
    assert covered(resumed(30, 20, 10, max_messages=2)) == 30.0
    assert covered(resumed(200, 150)) == AGE, "nothing came since"
    assert covered(resumed(200, 150, continues=False)) == 0.0, "nobody knows whether anything did"
    assert covered(resumed()) == 0.0


# --- any history of runs ---


class Restarts(RuleBasedStateMachine):
    """A log that is killed again and again, and the disk behind it, which is behind by some drafts."""

    @initialize()
    def begin(self) -> None:
        self.wall = WALL
        #: What is on disk: the name of the numbering, and entries.
        self.epoch: str | None = None
        self.disk: list[LogRow] = []
        self.head = 0
        #: What was given to the disk and is not there yet.
        self.underway: list[tuple[LogRow, int]] = []
        #: What anybody was ever offered.
        self.offered: dict[tuple[str, int], bytes] = {}
        self.start(10, continues=True)

    def start(self, max_messages: int, *, continues: bool) -> None:
        self.clock = Clock(0.0)
        self.log = MessageLog(max_messages=max_messages, max_age=AGE, clock=self.clock)
        self.max_messages = max_messages
        self.underway = []
        if self.epoch is not None:
            past = LogPast(self.epoch, self.head, tuple(self.disk), continues)
            self.log.resume(past, wall=self.wall)
            assert (self.log.epoch == self.epoch) == continues
            assert self.log.head == self.head
        self.reader = (self.log.epoch, self.log.head)

    @rule(gap=st.booleans(), count=st.integers(1, 4))
    def number(self, gap: bool, count: int) -> None:
        for _ in range(count):
            if gap:
                draft = self.log.draft_gap(Gap(GapReason.GATEWAY, 0, 1), timestamp=self.wall)
            else:
                draft = self.log.draft(b'"%d"' % self.wall, timestamp=self.wall)
            oldest = self.log.oldest_with(draft.sequence)
            self.underway.append((LogRow(draft.sequence, self.wall, draft.body), oldest))

    @rule(count=st.integers(1, 8), offer=st.booleans())
    def commit(self, count: int, offer: bool) -> None:
        done, self.underway = self.underway[:count], self.underway[count:]
        if done:
            self.epoch = self.log.epoch
            self.head = done[-1][0].sequence
            self.disk = [
                row for row in [*self.disk, *(row for row, _ in done)] if row.sequence >= done[-1][1]
            ]
        if offer:
            self.log.publish(self.head)

    @rule(seconds=st.sampled_from([1, 30, 100, 101]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds
        self.wall += 1000 * seconds

    @rule(seconds=st.sampled_from([-5_000, -50, 50]))
    def set_the_clock(self, seconds: int) -> None:
        self.wall += 1000 * seconds

    @rule(max_messages=st.sampled_from([1, 3, 10]), continues=st.sampled_from([True, True, False]))
    def kill(self, max_messages: int, continues: bool) -> None:
        self.start(max_messages, continues=continues)

    @invariant()
    def equal_numbers_are_equal_messages(self) -> None:
        page = self.log.since(0)
        assert page.head == self.log.head <= self.head
        for entry in page.messages:
            assert json.loads(entry.body)["sequence_number"] == entry.sequence
            assert self.offered.setdefault((page.epoch, entry.sequence), entry.body) == entry.body
            assert -AGE <= entry.time - self.clock.now <= 0
        assert len(page.messages) <= self.max_messages
        assert numbers(page) == list(range(page.oldest, page.head + 1))

    @invariant()
    def a_reader_within_one_run_misses_nothing_untold(self) -> None:
        epoch, had = self.reader
        page = self.log.since(had, epoch=epoch)
        told = had if page.gap is None else (page.gap.last or 0)
        assert [*numbers(page), page.head][0] == (told + 1 if page.messages else told)
        self.reader = (page.epoch, page.head)


TestRestarts = pytest.mark.contract("H1", "H3", "H6")(as_test(Restarts))


# --- no scan ---


class CountingList(list[LogEntry]):
    touched = 0

    def __getitem__(self, index: Any) -> Any:
        found = cast(object, super().__getitem__(index))
        self.touched += 1 if isinstance(found, LogEntry) else len(cast(list[LogEntry], found))
        return found

    def __iter__(self) -> Iterator[LogEntry]:
        raise AssertionError("a scan")


@pytest.mark.parametrize("size", [10, 10_000])
@pytest.mark.contract("H4")
def test_a_look_up_touches_what_it_gives_and_nothing_else(size: int) -> None:
    log = appended(0, max_messages=size).log
    for _ in range(size + size // 3):
        log.append(b"1", timestamp=0)
    ring = CountingList(log._ring)
    vars(log)["_ring"] = ring

    def touched(action: Any) -> int:
        before = ring.touched
        action()
        return ring.touched - before

    for cursor in (0, log.oldest - 2, log.oldest - 1, log.oldest, log.head - 2, log.head - 1, log.head + 1):
        assert (
            touched(lambda cursor=cursor: log.since(cursor, limit=1)) == 2
        )  # one to see whether it is too old
        assert touched(lambda cursor=cursor: log.since(cursor, max_bytes=1)) <= 4
    assert touched(lambda: log.since(log.head, limit=1)) == 1
    assert touched(lambda: log.since(log.head - 3)) == 4
    assert touched(lambda: log.append(b"1", timestamp=0)) <= 3
    assert touched(log.statistics) == 1
    assert len(ring) == size

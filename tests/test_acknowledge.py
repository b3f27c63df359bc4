"""Acknowledge mode: the cursor moves over what the application is done with, and over nothing else."""

import itertools
import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.hub_peer import EPOCH, ScriptedHub, hello, hole, message, says, scripted
from tests.scene import connected, open_gateway, saved, settled, texts_in, wall_ms
from trio_signal import (
    ConfigurationError,
    Cursor,
    Gap,
    GapReason,
    InboxStatistics,
    ReceivedMessage,
    SignalClient,
    TooManyUnacknowledged,
    Undecodable,
)
from trio_signal._acknowledgements import Acknowledgements
from trio_signal._continuity import Position
from trio_signal._decoding import decode_frame
from trio_signal._events import Event
from trio_signal._inbox import EventStream, Inbox
from trio_signal._streams import DEFAULT_KINDS, MessageStream
from trio_signal.testing import FakeGateway, envelopes


def at(sequence: int) -> Position:
    return Position(EPOCH, sequence)


# --- The bookkeeping, against a list. ---


@pytest.mark.contract("R5")
def test_every_order_of_acknowledging_moves_over_what_is_done_without_a_hole() -> None:
    for count in range(1, 7):
        for order in itertools.permutations(range(1, count + 1)):
            check_order(count, order)


def check_order(count: int, order: tuple[int, ...]) -> None:
    taken = Acknowledgements(count, 10**6)
    events = {number: object() for number in range(1, count + 1)}
    for number, event in events.items():
        taken.check_room()
        taken.add(event, size=1, time=100 + number, position=at(number))
    position, done = at(0), set[int]()
    for number in order:
        position = taken.acknowledge(events[number], position) or position
        done.add(number)
        oldest = min(set(events) - done, default=count + 1)
        assert position == at(oldest - 1), (count, order)
        assert taken.oldest == (100 + oldest if oldest <= count else None)
        assert len(taken) == count - len(done)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 5))
@pytest.mark.contract("R5")
def test_any_mixture_of_taking_and_acknowledging_agrees_with_a_list(
    steps: list[tuple[bool, int]], limit: int
) -> None:
    taken = Acknowledgements(limit, 10**6)
    events: list[object] = []
    done: list[bool] = []
    position: Position | None = at(0)
    for take, which in steps:
        below = next((n for n, is_done in enumerate(done) if not is_done), len(done))
        full = len(events) - below >= limit
        if take and full:
            with pytest.raises(TooManyUnacknowledged) as caught:
                taken.check_room()
            assert caught.value.count == len(events) - below
        elif take:
            taken.check_room()
            events.append(object())
            done.append(False)
            taken.add(events[-1], size=1, time=len(events), position=at(len(events)))
        elif events and not done[index := which % len(events)]:
            position = taken.acknowledge(events[index], position)
            done[index] = True
        elif events:
            with pytest.raises(ConfigurationError, match="acknowledged before"):
                taken.acknowledge(events[which % len(events)], position)
        below = next((n for n, is_done in enumerate(done) if not is_done), len(done))
        assert position == at(below)
        assert len(taken) == done.count(False)
        assert taken.oldest == (below + 1 if below < len(events) else None)


def test_equal_events_are_acknowledged_one_by_one() -> None:
    one, same = Gap(GapReason.GATEWAY, 1, 2), Gap(GapReason.GATEWAY, 1, 2)
    taken = Acknowledgements(5, 1000)
    taken.add(one, size=1, time=1, position=at(1))
    taken.add(same, size=1, time=1, position=at(2))
    assert taken.acknowledge(same, at(0)) == at(0)
    with pytest.raises(ConfigurationError):
        taken.acknowledge(same, at(0))
    assert taken.acknowledge(one, at(0)) == at(2)


def test_an_event_is_kept_no_longer_than_until_it_is_acknowledged() -> None:
    taken = Acknowledgements(5, 100)
    events = [object() for _ in range(3)]
    for number, event in enumerate(events):
        taken.add(event, size=60, time=1, position=at(number))
    with pytest.raises(TooManyUnacknowledged, match="3 events") as caught:
        taken.check_room()
    assert caught.value.count == 3
    taken.acknowledge(events[1], None)
    taken.acknowledge(events[2], None)
    taken.check_room()  # 60 bytes are held, and two places behind a hole


@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, False), (101, False)])
def test_the_bytes_held_have_a_bound_of_their_own(size: int, fits: bool) -> None:
    taken = Acknowledgements(5, 100)
    taken.check_room()  # one is let in whatever it costs
    taken.add(object(), size=size, time=1, position=None)
    if fits:
        taken.check_room()
    else:
        with pytest.raises(TooManyUnacknowledged):
            taken.check_room()


# --- The inbox. ---


def undecodable(number: int, size: int = 10) -> Undecodable:
    return Undecodable(b"%d" % number + b" " * size, "strange")


def numbered(inbox: Inbox, *numbers: int) -> list[Undecodable]:
    events = [undecodable(number) for number in numbers]
    for number, event in zip(numbers, events, strict=True):
        inbox.add(event, time=10 * number, position=at(number))
    return events


@pytest.mark.contract("R5")
async def test_taking_moves_nothing_and_acknowledging_does(autojump_clock: MockClock) -> None:
    inbox = Inbox(acknowledge=True)
    inbox.advance(at(0))
    events = numbered(inbox, 1, 2, 3)
    places = [(inbox.position, inbox.oldest)]
    for _ in events:
        await inbox.take()
        places.append((inbox.position, inbox.oldest))
    for event in events:
        inbox.acknowledge(event)
        places.append((inbox.position, inbox.oldest))
    assert places == [(at(0), 10)] * 4 + [(at(1), 20), (at(2), 30), (at(3), None)]
    assert inbox.statistics().unacknowledged == 0


@pytest.mark.contract("R5")
async def test_a_place_reached_without_an_event_belongs_to_the_last_event(autojump_clock: MockClock) -> None:
    inbox = Inbox(acknowledge=True)
    inbox.advance(at(0))
    first, second = numbered(inbox, 1, 2)
    inbox.advance(at(5))
    assert inbox.position == at(0)
    await inbox.take()
    await inbox.take()
    inbox.advance(at(6))
    inbox.acknowledge(first)
    assert inbox.position == at(1)
    inbox.acknowledge(second)
    assert inbox.position == at(6)
    inbox.advance(at(7))
    assert inbox.position == at(7)


@pytest.mark.contract("R5")
async def test_an_event_without_a_number_is_done_with_by_itself(autojump_clock: MockClock) -> None:
    inbox = Inbox(acknowledge=True)
    (first,) = numbered(inbox, 1)
    direct = undecodable(99)
    inbox.add(direct, time=11)
    (second,) = numbered(inbox, 2)
    for _ in range(3):
        await inbox.take()
    places: list[Position | None] = []
    for event in (direct, first, second):
        inbox.acknowledge(event)
        places.append(inbox.position)
    assert places == [None, at(1), at(2)]


@pytest.mark.contract("R5", "R8")
async def test_too_many_unacknowledged_are_an_error_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    inbox = Inbox(max_items=2, acknowledge=True)
    one, two = numbered(inbox, 1, 2)
    await inbox.take()
    await inbox.take()
    (three,) = numbered(inbox, 3)
    for _ in range(3):
        with pytest.raises(TooManyUnacknowledged, match=r"2 events.*acknowledge.*inbox_size"):
            await inbox.take()
    inbox.acknowledge(two)
    with pytest.raises(TooManyUnacknowledged):
        await inbox.take()
    inbox.acknowledge(one)
    assert await inbox.take() is three
    assert inbox.statistics() == InboxStatistics(0, 0, 2, 64 * 1024 * 1024, 0, 1)


@pytest.mark.contract("R3", "R8")
async def test_a_task_that_waits_gets_what_another_had_no_room_for(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    inbox = Inbox(max_items=1, acknowledge=True)
    taken: list[tuple[float, Event]] = []

    async def take_one() -> None:
        item = await inbox.take()
        taken.append((trio.current_time(), item))

    async def have_no_room() -> None:
        with pytest.raises(TooManyUnacknowledged):
            await inbox.take()

    (one,) = numbered(inbox, 1)
    await inbox.take()
    nursery.start_soon(have_no_room)
    await trio.sleep(1)
    nursery.start_soon(take_one)
    await trio.sleep(1)
    (two,) = numbered(inbox, 2)
    await trio.sleep(1)
    inbox.acknowledge(one)
    await trio.sleep(1)
    assert taken == [(3, two)]


@pytest.mark.contract("R3")
async def test_room_for_several_wakes_several(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    inbox = Inbox(max_items=2, acknowledge=True)
    taken: list[Event] = []

    async def take_one() -> None:
        taken.append(await inbox.take())

    async def have_no_room() -> None:
        with pytest.raises(TooManyUnacknowledged):
            await inbox.take()

    one, two = numbered(inbox, 1, 2)
    await inbox.take()
    await inbox.take()
    for task in (have_no_room, have_no_room, take_one, take_one):
        nursery.start_soon(task)
        await trio.sleep(1)
    waiting = numbered(inbox, 3, 4)
    await trio.sleep(1)
    # Behind the first it makes no room, and who waits is left in peace.
    inbox.acknowledge(two)
    await trio.sleep(1)
    inbox.acknowledge(one)
    await trio.sleep(1)
    assert taken == list(waiting)


def test_without_the_mode_there_is_nothing_to_acknowledge() -> None:
    inbox = Inbox()
    assert not inbox.acknowledges
    with pytest.raises(ConfigurationError, match="acknowledge=True"):
        inbox.acknowledge(undecodable(1))


# --- The client, on a hub and on a REST gateway. ---


async def take(signal: SignalClient, count: int) -> list[Any]:
    events = signal.events()
    return [await anext(events) for _ in range(count)]


@pytest.mark.contract("R5")
async def test_the_cursor_waits_for_the_acknowledgement(autojump_clock: MockClock) -> None:
    frames = hello(7), *(message(n) for n in range(8, 12))
    async with scripted(says(*frames)) as hub, hub.client(acknowledge=True) as signal:
        one, two, three, four = await take(signal, 4)
        places = [saved(signal.cursor).sequence]
        for event in (two, one, four, three):
            signal.acknowledge(event)
            places.append(saved(signal.cursor).sequence)
            assert signal._journal.cursor == signal.cursor
        assert places == [7, 7, 9, 9, 11]
        assert signal.statistics().inbox.unacknowledged == 0


@pytest.mark.contract("R5", "R1")
async def test_several_loops_acknowledge_in_any_order(autojump_clock: MockClock) -> None:
    frames = hello(0), *(message(n) for n in range(1, 41))
    async with scripted(says(*frames)) as hub, hub.client(acknowledge=True) as signal:
        seen: list[int] = []

        async def loop(pause: float) -> None:
            async for received in signal.receive_messages():
                await trio.sleep(pause)
                signal.acknowledge(received)
                seen.append(saved(signal.cursor).sequence or 0)

        async with trio.open_nursery() as nursery:
            for pause in (0.1, 0.7, 1.3):
                nursery.start_soon(loop, pause)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        assert len(seen) == 40
        assert seen == sorted(seen)
        assert seen[-1] == 40


@pytest.mark.contract("R5")
async def test_what_was_taken_and_not_acknowledged_comes_again_to_the_next_process(
    autojump_clock: MockClock,
) -> None:
    scripts = (
        says(hello(7), message(8), message(9), message(10)),
        says(hello(10), message(9), message(10)),
    )
    async with scripted(*scripts) as hub:
        async with hub.client(acknowledge=True) as signal:
            first, _, third = await take(signal, 3)
            signal.acknowledge(third)
            signal.acknowledge(first)
        cursor = saved(signal.cursor)
        assert cursor.position == (EPOCH, 8)
        async with hub.client(cursor=cursor, acknowledge=True) as signal:
            assert texts_in(await take(signal, 2)) == ["m9", "m10"]
        assert hub.targets[1] == f"/websocket?since=8&epoch={EPOCH}"


@pytest.mark.contract("R5")
async def test_a_lost_link_brings_nothing_that_is_not_acknowledged_again(autojump_clock: MockClock) -> None:
    scripts = says(hello(7), message(8), message(9), close=1000), says(hello(10), message(10))
    async with scripted(*scripts) as hub, hub.client(acknowledge=True) as signal:
        events = await take(signal, 3)
        assert texts_in(events) == ["m8", "m9", "m10"]
        assert hub.targets[1] == f"/websocket?since=9&epoch={EPOCH}"
        for event in events:
            signal.acknowledge(event)
        assert saved(signal.cursor).sequence == 10


@pytest.mark.contract("R5")
async def test_it_can_be_acknowledged_after_the_block_was_left(autojump_clock: MockClock) -> None:
    async with scripted(says(hello(7), message(8))) as hub:
        async with hub.client(acknowledge=True) as signal:
            (event,) = await take(signal, 1)
        assert saved(signal.cursor).sequence == 7
        signal.acknowledge(event)
        assert saved(signal.cursor).sequence == 8


@pytest.mark.contract("R5")
async def test_what_receive_messages_passes_over_is_acknowledged_by_itself(autojump_clock: MockClock) -> None:
    typing = {
        "envelope": {"sourceNumber": "+15550002", "timestamp": 5, "typingMessage": {"action": "STARTED"}}
    }
    frames = (
        hello(7),
        message(8, data=typing),
        message(9, data="nonsense"),
        message(10),
        message(11, data=typing),
        message(12),
    )
    async with scripted(says(*frames)) as hub, hub.client(acknowledge=True) as signal:
        messages = signal.receive_messages()
        first = await anext(messages)
        assert saved(signal.cursor).sequence == 9
        second = await anext(messages)
        assert saved(signal.cursor).sequence == 9
        signal.acknowledge(first)
        assert saved(signal.cursor).sequence == 11
        signal.acknowledge(second)
        assert saved(signal.cursor).sequence == 12


@pytest.mark.contract("R5", "R3")
async def test_a_gap_is_acknowledged_as_everything_else(autojump_clock: MockClock) -> None:
    cursor = Cursor(wall_ms(), EPOCH, 3)
    frames = hello(7), hole(4, 6), message(7)
    async with scripted(says(*frames)) as hub:
        async with hub.client(acknowledge=True, cursor=cursor) as signal:
            gap, last = await take(signal, 2)
            assert isinstance(gap, Gap)
            signal.acknowledge(last)
            assert saved(signal.cursor).sequence == 3
            signal.acknowledge(gap)
            assert saved(signal.cursor).sequence == 7


@pytest.mark.contract("R5", "R8")
async def test_who_never_acknowledges_is_told(autojump_clock: MockClock) -> None:
    frames = hello(0), *(message(n) for n in range(1, 6))
    async with scripted(says(*frames)) as hub, hub.client(acknowledge=True, inbox_size=5) as signal:
        events = await take(signal, 5)
        await hub.lines[0].tell(message(6))
        await settled()
        with pytest.raises(TooManyUnacknowledged):
            await anext(signal.receive_messages())
        for event in events:
            signal.acknowledge(event)
        assert texts_in(await take(signal, 1)) == ["m6"]


@pytest.mark.parametrize("acknowledge", [True, False])
async def test_what_was_not_given_or_is_done_is_refused_by_name(
    autojump_clock: MockClock, acknowledge: bool
) -> None:
    async with scripted(says(hello(7), message(8))) as hub, hub.client(acknowledge=acknowledge) as signal:
        (event,) = await take(signal, 1)
        assert isinstance(event, ReceivedMessage)
        if acknowledge:
            signal.acknowledge(event)
        for wrong in (event, Gap(GapReason.GATEWAY, 1, 2)):
            with pytest.raises(ConfigurationError) as caught:
                signal.acknowledge(wrong)
            assert caught.value.argument == ("event" if acknowledge else "acknowledge")


async def test_the_option_is_a_bool(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    hub = ScriptedHub(nursery, says(hello()))
    with pytest.raises(ConfigurationError, match="^acknowledge: "):
        async with hub.client(acknowledge="yes"):
            pass


def told_by(gateway: FakeGateway, count: int) -> list[str]:
    texts = [f"m{n}" for n in range(count)]
    for text in texts:
        gateway.deliver(text=text)
    return texts


@pytest.mark.contract("R5", "R3")
async def test_on_a_rest_gateway_the_time_waits_for_the_acknowledgement(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, acknowledge=True) as signal:
        came: list[int] = []
        for n in range(3):
            await trio.sleep(100)
            gateway.deliver(text=f"m{n}")
            await settled()
            came.append(wall_ms())
        events = await take(signal, 3)
        assert signal.cursor == Cursor(came[0])
        signal.acknowledge(events[1])
        assert signal.cursor == Cursor(came[0])
        signal.acknowledge(events[0])
        assert signal.cursor == Cursor(came[2])
        signal.acknowledge(events[2])
        assert saved(signal.cursor).time >= came[2]
        assert signal._journal.cursor == signal.cursor


@pytest.mark.contract("R5", "R3")
async def test_what_a_rest_client_did_not_acknowledge_is_in_the_next_ones_gap(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway, acknowledge=True) as signal:
            await trio.sleep(100)
            told_by(gateway, 2)
            await settled()
            came = wall_ms()
            await take(signal, 2)
            await trio.sleep(100)
        async with connected(gateway, cursor=signal.cursor) as signal:
            (gap,) = await take(signal, 1)
            assert isinstance(gap, Gap)
            assert gap.since <= came <= gap.until


@pytest.mark.contract("R5")
async def test_a_challenge_and_receipts_do_not_hold_the_cursor_of_a_bot(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, acknowledge=True) as signal:
        gateway.deliver(envelopes.typing())
        gateway.deliver_error("Failed")
        gateway.deliver(text="hello")
        received = await anext(signal.receive_messages())
        assert signal.statistics().inbox.unacknowledged == 1
        signal.acknowledge(received)
        assert signal.statistics().inbox.unacknowledged == 0


@given(st.lists(st.sampled_from(["put", "take", "acknowledge", "reach"]), max_size=60), st.booleans())
@pytest.mark.contract("R5", "R8")
def test_the_position_is_always_behind_all_that_is_done_with(steps: list[str], acknowledge: bool) -> None:
    """With and without acknowledging: the model keeps each item and the place behind it in a list."""

    async def main() -> None:
        inbox = Inbox(1000, acknowledge=acknowledge)
        items: list[tuple[Event, int]] = []
        taken: list[Event] = []
        done = 0
        inbox.advance(at(0))
        for number, step in enumerate(steps, start=1):
            if step == "put":
                (event,) = numbered(inbox, number)
                items.append((event, number))
            elif step == "reach":
                inbox.advance(at(number))
                if items:
                    items[-1] = (items[-1][0], number)
                else:
                    done = number
            elif step == "take" and len(taken) < len(items):
                taken.append(await inbox.take())
                if not acknowledge:
                    taken.pop()
                    done = items.pop(0)[1]
            elif step == "acknowledge" and taken:
                inbox.acknowledge(taken.pop(0))
                done = items.pop(0)[1]
            assert inbox.position == at(done)

    trio.run(main)


@pytest.mark.contract("R5")
def test_how_far_the_last_one_reaches_is_said_once_all_before_it_are_acknowledged() -> None:
    taken, events = Acknowledgements(10, 1000), [object() for _ in range(3)]
    assert not taken.advance(Position(EPOCH, 9))
    for number, event in enumerate(events, 1):
        taken.add(event, size=1, time=number, position=Position(EPOCH, number))
    assert taken.advance(Position(EPOCH, 9))
    reached = [taken.acknowledge(event, None) for event in events]
    assert reached == [Position(EPOCH, 1), Position(EPOCH, 2), Position(EPOCH, 9)]


@pytest.mark.contract("R5")
@pytest.mark.parametrize("keeps_account", [True, False])
async def test_what_a_loop_passes_over_is_done_with_as_if_it_were_acknowledged(
    autojump_clock: MockClock, keeps_account: bool
) -> None:
    inbox, done = Inbox(acknowledge=True), list[Event]()
    gap = Gap(GapReason.GATEWAY, 1, 2)
    message = decode_frame(json.dumps({"account": "+15550001", "envelope": envelopes.text("hello")}))
    assert isinstance(message, ReceivedMessage)
    for event in (gap, message):
        inbox.add(event, time=5)
    loop = MessageStream(EventStream(inbox, done.append if keeps_account else None), DEFAULT_KINDS)
    assert await anext(loop) is message
    assert done == ([gap] if keeps_account else [])
    assert inbox.statistics().unacknowledged == 1

"""Make before break: a suspect link goes on until another has taken its place (``_overlap.py``)."""

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peers import Detour, Peer
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    RECONNECTING,
    SYNCING,
    WatchedStream,
    check_gaps,
    collect,
    connected,
    gaps_in,
    living_tasks,
    open_gateway,
    record,
    saved,
    settled,
    texts_in,
)
from tests.simulation import run_world
from tests.test_cancellation import cancelled_at
from trio_signal import (
    Backoff,
    ConnectionState,
    Gap,
    GapReason,
    Reason,
    ReceivedMessage,
    SignalClient,
    StateChange,
)
from trio_signal.gateways.rest import RestGateway
from trio_signal.testing import FakeGateway, FaultProxy, close_frame, open_fault_proxy, server_frame

pytestmark = pytest.mark.contract("L5")

CLOSE, PING, PONG = 8, 9, 10

#: How long trouble lasts in a world, and how late what comes through it may be, in seconds: a gap begins when
#: the last byte came, and that was no later than when it had left.
TROUBLE, LATE = 200.0, 42.0

#: Each loss is the first one: a link counts as stable at once.
ALWAYS_STABLE = Backoff(jitter=False, stable_after=0)


@dataclass
class Scene:
    """A client whose first link goes through ``old`` and whose later ones go through ``new``."""

    gateway: FakeGateway
    old: FaultProxy
    new: FaultProxy
    client: SignalClient = field(init=False)
    events: list[Any] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)
    streams: list[WatchedStream] = field(default_factory=list)
    has_moved: bool = False

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Dial, as ``connect=`` asks for."""
        way = self.new if self.has_moved else self.old
        self.streams.append(WatchedStream(await way.connect(host, port)))
        return self.streams[-1]

    @property
    def steps(self) -> list[tuple[float, str]]:
        """When each state was entered, without the first connection's."""
        return [(change.time, change.current.name) for change in self.changes]

    def state(self) -> ConnectionState:
        """The client's state at this moment."""
        return self.client.state

    async def talk(self, count: int, *, first: int = 0, every: float = 1.0) -> None:
        """Deliver messages named by numbers, one each second."""
        for number in range(first, first + count):
            self.gateway.deliver(text=str(number))
            await trio.sleep(every)


@asynccontextmanager
async def scene(**options: Any) -> AsyncGenerator[Scene]:
    """Open one, CONNECTED at the moment 0, with later dials leading elsewhere."""
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as old,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as new,
        trio.open_nursery() as nursery,
    ):
        it = Scene(gateway, old, new)
        async with connected(gateway, connect=it.connect, backoff=ALWAYS_STABLE, **options) as client:
            it.client, it.has_moved = client, True
            nursery.start_soon(record, client.state_changes(), it.changes)
            nursery.start_soon(collect, client.events(), it.events)
            yield it
            await settled()
        await settled()
        nursery.cancel_scope.cancel()


def numbers(count: int, first: int = 0) -> list[str]:
    return [str(number) for number in range(first, first + count)]


#: From the last byte to the suspicion, and then to the new link, which sleeps 1 s.
SUSPECT, AGAIN = 15.0, 16.0


# --- a link that was only late ---


@pytest.mark.contract("R1", "R3", "C3", "L4")
async def test_what_a_late_link_still_had_is_delivered_in_order_and_there_is_no_gap(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it:
        it.old.black_hole()
        await it.talk(15)
        await trio.sleep_until(15.5)
        assert it.state() is RECONNECTING
        assert it.client.statistics().last_received is None
        it.old.heal()
        await settled()
        assert texts_in(it.events) == numbers(15)
        await it.talk(1, first=15)
        assert it.state() is CONNECTED
        await it.talk(5, first=16)
        assert it.events == [event for event in it.events if isinstance(event, ReceivedMessage)]
        assert texts_in(it.events) == numbers(21)
        assert it.client.statistics().receiving.gaps == 0
        assert it.steps == [
            (SUSPECT, "DISCONNECTED"),
            (SUSPECT, "RECONNECTING"),
            (AGAIN, "SYNCING"),
            (AGAIN, "CONNECTED"),
        ]
        assert it.changes[0].reason is Reason.NO_ANSWER
        assert it.changes[1].delay == 1, "the backoff is what it always is"
        assert it.client.statistics().generation == 2
        assert len(it.gateway.connections) == 1, "the old one was closed"


@pytest.mark.parametrize("pause", [15.5, 16.0, 18.0, 21.0, 26.0, 34.0])
@pytest.mark.contract("R1", "R3")
async def test_a_path_that_pauses_costs_nothing(autojump_clock: MockClock, pause: float) -> None:
    """Old and new link take the same way: what is on it comes when it goes on."""
    async with scene() as it, trio.open_nursery() as nursery:
        it.has_moved = False
        nursery.start_soon(it.talk, 60)
        await trio.sleep(0.5)
        it.old.black_hole()
        await trio.sleep(pause)
        it.old.heal()
        await trio.sleep_until(80)
        assert (texts_in(it.events), gaps_in(it.events)) == (numbers(60), [])
        assert (DISCONNECTED in {change.current for change in it.changes}) == (pause > SUSPECT)


@pytest.mark.contract("R1", "R6")
async def test_the_new_link_is_held_back_until_the_old_one_has_caught_up(autojump_clock: MockClock) -> None:
    """The old one is 2.5 s late for good: what comes new first must not come before what it still has."""
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.latency = 2.5
        await it.talk(5, every=0.1)
        await trio.sleep_until(16.1)
        await it.talk(10, first=5, every=0.1)
        assert (it.state(), texts_in(it.events)) == (SYNCING, [])
        await trio.sleep_until(17.95)
        assert texts_in(it.events) == numbers(4), "those that only the old one has come first"
        await trio.sleep_until(30)
        assert (texts_in(it.events), gaps_in(it.events)) == (numbers(15), [])
        assert it.steps[2:] == [(16, "SYNCING"), (21, "CONNECTED")], "a ping on the old link took 5 s"
        assert it.client.statistics().receiving.duplicates == 10


@pytest.mark.contract("R1", "R6")
async def test_what_came_before_the_answer_of_the_old_link_is_taken_in_before_it_is_believed(
    autojump_clock: MockClock,
) -> None:
    """Frames and pong come in one piece, in whatever order Trio then runs its tasks."""
    for _ in range(15):
        async with scene() as it:
            it.old.black_hole()
            await trio.sleep(15.1)
            it.old.heal()
            await settled()
            it.old.black_hole("down")
            await it.talk(3, every=0)
            await trio.sleep(1)
            await it.talk(3, first=3, every=0)
            it.old.heal()
            await settled()
            assert it.state() is CONNECTED
            assert (texts_in(it.events), gaps_in(it.events)) == (numbers(6), [])


# --- a link that was dead after all ---


@pytest.mark.contract("R3", "R4", "L1")
async def test_a_dead_link_is_not_waited_for_and_the_gap_is_as_it_always_was(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it:
        it.old.black_hole()
        await it.talk(17)
        await it.talk(3, first=17)
        (gap, *rest) = it.events
        assert gap == Gap(GapReason.GATEWAY, int(EPOCH * 1000), int((EPOCH + AGAIN) * 1000))
        assert texts_in(rest) == [*numbers(3, 17)] or texts_in(rest) == numbers(4, 16)
        assert [when for when, name in it.steps if name == "CONNECTED"] == [AGAIN]
        it.old.heal()
        await trio.sleep(10)
        assert it.events == [gap, *rest], "a link that was given up has no say"


@pytest.mark.contract("R1", "R3", "R4", "C3", "C4")
async def test_a_link_that_shows_life_and_then_dies_leaves_the_gap_behind_what_it_gave(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it:
        await trio.sleep(5)
        it.gateway.deliver(text="0")
        await settled()
        it.old.black_hole()
        await it.talk(3, first=1)
        await trio.sleep_until(20.1)
        it.old.heal()
        await settled()
        assert texts_in(it.events) == numbers(4)
        it.old.black_hole()
        await it.talk(1, first=4, every=1.5)
        await it.talk(2, first=5)
        assert it.state() is SYNCING
        assert texts_in(it.events) == numbers(4)
        await trio.sleep_until(21 + 15 + 0.1)
        assert it.state() is CONNECTED
        it.old.heal()
        await it.talk(2, first=7)
        assert [getattr(event, "text", "gap") for event in it.events] == [
            *numbers(4),
            "gap",
            *numbers(4, 5),
        ], "4 was lost on the old link"
        (gap,) = gaps_in(it.events)
        assert gap == Gap(GapReason.GATEWAY, int((EPOCH + 5) * 1000), int((EPOCH + 36) * 1000))


@pytest.mark.parametrize("end", ["drop", "reset"])
@pytest.mark.contract("R3")
async def test_an_old_link_that_ends_by_itself_leaves_a_gap(autojump_clock: MockClock, end: str) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        getattr(it.old, end)()
        await trio.sleep(2)
        assert [(gap.since, gap.until) for gap in gaps_in(it.events)] == [
            (int(EPOCH * 1000), int((EPOCH + AGAIN) * 1000))
        ]
        assert it.state() is CONNECTED


@pytest.mark.contract("R3")
async def test_an_old_link_that_ends_while_it_is_waited_for(autojump_clock: MockClock) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.black_hole()
        await trio.sleep_until(18)
        it.gateway.deliver(text="held back")
        await settled()
        assert (it.state(), it.events) == (SYNCING, [])
        it.old.drop()
        await settled()
        assert it.state() is CONNECTED
        assert [type(event) for event in it.events] == [Gap, ReceivedMessage]


@pytest.mark.contract("R1", "R3")
async def test_a_new_link_that_ends_while_it_is_held_back_ends_the_overlap(autojump_clock: MockClock) -> None:
    """What it gave must not get lost, and cannot wait for what the old one may yet give."""
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.black_hole()
        it.gateway.deliver(text="0")
        await trio.sleep_until(18)
        it.gateway.deliver(text="1")
        await settled()
        it.new.drop()
        await settled()
        it.old.heal()
        await trio.sleep_until(19.5)
        await it.talk(2, first=2)
        await trio.sleep(5)
        assert [getattr(event, "text", "gap") for event in it.events] == ["gap", "1", "gap", "3"]
        check_gaps(gaps_in(it.events))


@pytest.mark.contract("R3")
async def test_a_new_link_that_ends_before_it_gave_anything_leaves_the_old_one_its_chance(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.black_hole("down")
        await it.talk(1)
        await trio.sleep_until(18)
        it.new.drop()
        await settled()
        assert it.state() is not CONNECTED
        it.old.heal()
        await it.talk(5, first=1)
        assert it.state() is CONNECTED
        assert (texts_in(it.events), gaps_in(it.events)) == (numbers(6), [])


@pytest.mark.contract("R3", "B1")
async def test_while_no_new_link_can_be_made_the_old_one_gives_for_a_minute(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it, trio.open_nursery() as nursery:
        it.new.refuse()
        it.old.black_hole()
        nursery.start_soon(it.talk, 120)
        await trio.sleep(20.5)
        it.old.heal()
        await trio.sleep_until(100.5)
        assert it.state() is not CONNECTED
        assert texts_in(it.events) in (numbers(75), numbers(76)), "a minute from the suspicion on"
        assert it.old.connections == 0
        assert [change.delay for change in it.changes if change.delay is not None] == [1, 2, 4, 8, 16, 32, 60]
        it.new.heal()
        await it.client.wait_state(CONNECTED)
        await settled()
        (gap,) = gaps_in(it.events)
        assert gap.since == EPOCH * 1000
        assert texts_in(it.events[:-1]) == numbers(len(it.events) - 1)


@pytest.mark.contract("R8")
async def test_no_more_is_held_back_than_there_is_room_for(autojump_clock: MockClock) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.black_hole()
        await trio.sleep_until(17)
        await it.talk(999, every=0)
        await settled()
        assert (it.state(), it.events) == (SYNCING, [])
        await it.talk(1, first=999, every=0)
        await settled()
        assert it.state() is CONNECTED
        assert isinstance(it.events[0], Gap)
        assert texts_in(it.events) == numbers(1000)


@pytest.mark.contract("R8")
async def test_large_messages_are_held_back_up_to_a_sum(autojump_clock: MockClock) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        it.old.black_hole()
        await trio.sleep_until(17)
        for _ in range(9):
            it.gateway.deliver(text="x" * 1_000_000)
            await trio.sleep(0.1)
        assert it.state() is CONNECTED
        assert len(texts_in(it.events)) == 9


# --- a gateway that stalls ---


async def _stalled(it: Scene) -> float:
    """Let the gateway stall and the client suspect it; return when."""
    await it.talk(1)
    await trio.sleep_until(100)
    it.gateway.stall()
    await it.talk(5, first=1)
    await it.client.wait_state(DISCONNECTED)
    return trio.current_time()


@pytest.mark.contract("L3", "R1", "R3", "R4")
async def test_a_stall_that_ends_meanwhile_has_its_gap_before_what_the_old_link_gives(
    autojump_clock: MockClock,
) -> None:
    async with scene() as it:
        when = await _stalled(it)
        await trio.sleep(0.4)
        it.gateway.unstall()
        await it.talk(2, first=6)
        await it.talk(2, first=8)
        assert [getattr(event, "text", "gap") for event in it.events] == ["0", "gap", "1", *numbers(4, 6)]
        (gap,) = gaps_in(it.events)
        assert gap.reason is GapReason.STALLED
        assert gap.until == pytest.approx((EPOCH + when + 0.4) * 1000, abs=2)
        assert it.state() is CONNECTED


@pytest.mark.contract("L3", "R3", "R4")
async def test_a_pong_proves_nothing_of_a_gateway_that_stalls(autojump_clock: MockClock) -> None:
    async with scene() as it:
        when = await _stalled(it)
        await trio.sleep(2)
        assert it.state() is CONNECTED
        assert [type(event) for event in it.events] == [ReceivedMessage, Gap]
        assert it.steps[-1] == (when + 1, "CONNECTED")


@pytest.mark.contract("L3", "R3", "R4")
async def test_an_old_link_that_dies_after_the_stall_leaves_a_second_gap(autojump_clock: MockClock) -> None:
    async with scene() as it:
        when = await _stalled(it)
        await trio.sleep(0.4)
        it.gateway.unstall()
        await settled()
        it.old.black_hole()
        it.gateway.deliver(text="lost")
        await trio.sleep(20)
        await it.talk(1, first=9)
        assert [getattr(event, "text", event) for event in it.events[2:]] == [
            "1",
            Gap(GapReason.GATEWAY, _ms(when + 0.4), _ms(when + 1 + 15)),
            "9",
        ]
        check_gaps(gaps_in(it.events))


def _ms(moment: float) -> int:
    return int((EPOCH + moment) * 1000)


# --- what the rest of the client sees of it ---


@pytest.mark.contract("R5")
async def test_the_cursor_waits_at_the_suspicion_until_it_is_settled(autojump_clock: MockClock) -> None:
    """A process that ends meanwhile must hand on that something may be missing."""
    async with scene() as it:
        await trio.sleep(5)
        it.gateway.deliver(text="0")
        await settled()
        it.old.black_hole()
        await it.talk(3, first=1)
        await trio.sleep_until(20.1)
        it.old.heal()
        await settled()
        assert texts_in(it.events) == numbers(4)
        assert saved(it.client.cursor).time == (EPOCH + 5) * 1000
        it.gateway.deliver(text="4")
        assert saved(it.client.cursor).time == (EPOCH + 5) * 1000
        await settled()
        await trio.sleep(2)
        assert it.state() is CONNECTED
        assert saved(it.client.cursor).time >= (EPOCH + 21) * 1000


@pytest.mark.contract("C4", "L4")
async def test_figures_are_those_of_the_new_link(autojump_clock: MockClock) -> None:
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        it.old.heal()
        await settled()
        assert it.client.statistics().last_received is None
        assert it.client.statistics().bytes_received == 0
        it.old.black_hole()
        await trio.sleep_until(20)
        it.old.heal()
        assert it.client.statistics().last_received == AGAIN


@pytest.mark.contract("C4", "L1")
async def test_there_are_never_three_sockets(autojump_clock: MockClock) -> None:
    """One suspicion follows the other; each time the older link has been closed before."""
    most = 0

    async def watch(it: Scene) -> None:
        nonlocal most
        while True:
            most = max(most, it.old.connections + it.new.connections)
            await trio.sleep(0.05)

    async with scene() as it, trio.open_nursery() as nursery:
        # The connection for requests is idle beside them.
        it.has_moved = False
        nursery.start_soon(watch, it)
        for _ in range(10):
            it.old.black_hole()
            await trio.sleep(15.5)
            it.old.heal()
            await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert len([change for change in it.changes if change.reason is Reason.NO_ANSWER]) == 10
    assert most <= 3


@pytest.mark.contract("C4")
async def test_without_leave_of_the_gateway_a_suspect_link_is_closed_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestGateway, "allows_overlap", False)
    async with scene() as it:
        it.old.black_hole()
        await trio.sleep(15.1)
        await settled()
        assert it.streams[1].closed, "the first one is for requests"


@pytest.mark.contract("C4", "R3")
async def test_signal_cli_s_daemon_has_one_stream_at_a_time(autojump_clock: MockClock) -> None:
    """Two would take its messages from each other's next absence: what both have, waits for nobody."""
    async with (
        open_gateway(kind="signal-cli") as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
    ):
        streams = list[WatchedStream]()

        async def connect(host: str, port: int) -> trio.abc.Stream:
            streams.append(WatchedStream(await proxy.connect(host, port)))
            return streams[-1]

        async with connected(gateway, connect=connect) as signal:
            await trio.sleep(50)
            open_before = [stream for stream in streams if not stream.closed]
            proxy.black_hole()
            await signal.wait_state(DISCONNECTED)
            await settled()
            assert signal.statistics().last_error is not None
            assert [stream.closed for stream in open_before] == [True] * len(open_before)


# --- leaving ---


@pytest.mark.contract("C5")
async def test_a_goodbye_is_said_on_both(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    closes: list[tuple[float, bytes]] = []

    async def answer_pings(peer: Peer) -> None:
        await peer.accept()
        seen = 0
        while True:
            await peer.read_frames(seen + 1)
            for frame in peer.frames[seen:]:
                if frame.opcode == CLOSE:
                    closes.append((trio.current_time(), frame.payload))
                    await peer.stream.send_all(close_frame(1000))
                    return
                await peer.stream.send_all(server_frame(frame.payload, PONG))
            seen = len(peer.frames)

    async def late(peer: Peer) -> None:
        """Answer the first ping, be silent, show life at 15.5 s, and leave the ping after that alone."""
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await trio.sleep_until(15.5)
        await peer.stream.send_all(server_frame(b"", PING))
        while not any(frame.opcode == CLOSE for frame in peer.frames):
            await peer.read_frames(len(peer.frames) + 1)
        closes.append((trio.current_time(), peer.frames[-1].payload))
        await peer.stream.send_all(close_frame(1000))

    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: late, 3: answer_pings})
        async with connected(gateway, connect=detour.connect, backoff=ALWAYS_STABLE) as signal:
            await trio.sleep_until(18)
            assert signal.state is SYNCING
        await settled()
    assert closes == [(18, b"\x03\xe8")] * 2


async def _come_and_go(gateway: FakeGateway, proxy: FaultProxy) -> None:
    """Open a client, have it suspect a link that goes on, wait for both, and leave."""
    async with connected(gateway, connect=proxy.connect, backoff=ALWAYS_STABLE):
        proxy.black_hole()
        gateway.deliver()
        await trio.sleep(15.5)
        proxy.heal()
        proxy.latency = 0.1
        await trio.sleep(1)
        gateway.deliver()
        await trio.sleep(5)


@pytest.mark.contract("C5", "O9")
async def test_cancelled_at_every_step_nothing_is_left(autojump_clock: MockClock) -> None:
    step, came_to_an_end = 1, False
    while not came_to_an_end:
        tasks = living_tasks()
        async with (
            open_gateway() as gateway,
            open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
        ):
            came_to_an_end = not await cancelled_at(
                step, partial(_come_and_go, gateway, proxy), of_any_task=True
            )
            proxy.heal()
            await trio.sleep(1)
            assert (gateway.connections, proxy.connections) == ((), 0), step
        await settled()
        assert living_tasks() == tasks, step
        step += 19
    assert step > 300


@pytest.mark.parametrize("moment", [15.0, 15.5, 16.0, 17.0, 30.9, 40.0])
@pytest.mark.parametrize("shows_life", [False, True])
@pytest.mark.parametrize("leave", ["normally", "by cancellation", "by an exception"])
@pytest.mark.contract("C5")
async def test_leaving_closes_both_within_two_seconds(
    autojump_clock: MockClock, moment: float, shows_life: bool, leave: str
) -> None:
    tasks = living_tasks()
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as old,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as new,
    ):
        dials, streams, left = [old, old, new], list[WatchedStream](), 0.0

        async def connect(host: str, port: int) -> trio.abc.Stream:
            way = dials.pop(0) if len(dials) > 1 else dials[0]
            streams.append(WatchedStream(await way.connect(host, port)))
            return streams[-1]

        with trio.CancelScope() as scope:
            try:
                async with connected(gateway, connect=connect):
                    old.black_hole()
                    await trio.sleep(15)
                    await settled()
                    if shows_life:
                        old.heal()
                        await settled()
                        old.black_hole()
                    await trio.sleep_until(moment)
                    left = trio.current_time()
                    if leave == "by cancellation":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    if leave == "by an exception":
                        raise KeyError(leave)
            except KeyError:
                pass
        assert trio.current_time() - left <= (2 if leave == "normally" else 0)
        assert all(stream.closed for stream in streams)
    await settled()
    assert living_tasks() == tasks


# --- any schedule ---


@dataclass
class World:
    """One client behind a proxy that does harm, and what came of it."""

    random: Random
    emitted: list[float] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)

    @property
    def suspicions(self) -> int:
        """How often a link was taken for dead."""
        return sum(change.reason is Reason.NO_ANSWER for change in self.changes)


async def _live(seed: int) -> World:
    world = World(Random(seed))
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
        trio.open_nursery() as nursery,
    ):
        backoff = Backoff(random=Random(seed))
        async with connected(gateway, connect=proxy.connect, backoff=backoff, close_timeout=0) as client:
            nursery.start_soon(record, client.state_changes(), world.changes)
            nursery.start_soon(collect, client.events(), world.events)
            async with trio.open_nursery() as actors:
                actors.start_soon(_correspond, world, gateway)
                actors.start_soon(_harm, world, proxy)
            proxy.heal()
            await trio.sleep(100)
            assert client.state is CONNECTED
            _emit(world, gateway)
            await trio.sleep(1)
            assert len(gateway.connections) == 1, "no old socket is left"
        await settled()
    return world


def _emit(world: World, gateway: FakeGateway) -> None:
    world.emitted.append(trio.current_time())
    gateway.deliver(text=str(len(world.emitted) - 1))


async def _correspond(world: World, gateway: FakeGateway) -> None:
    mean = world.random.choice((1.0, 4.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(world.random.expovariate(1 / mean))
        _emit(world, gateway)


async def _harm(world: World, proxy: FaultProxy) -> None:
    random = world.random
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.uniform(0, 30))
        proxy.black_hole(random.choice(("up", "down", "both", "both")))
        await trio.sleep(random.uniform(3, 40))
        proxy.heal()
        proxy.latency = random.choice((0.0, 0.0, 0.3, 2.0))
        if random.random() < 0.2:
            getattr(proxy, random.choice(("drop", "reset")))()


def _check_world(world: World) -> str | None:
    """Say which message came twice, out of order, or is missing without a gap in its place; or None."""
    expected, gaps = 0, list[Gap]()
    for event in world.events:
        if isinstance(event, Gap):
            gaps.append(event)
            continue
        number = int(event.text)
        if number < expected:
            return f"{number} came again or out of order"
        for lost in range(expected, number):
            moment = (EPOCH + world.emitted[lost]) * 1000
            if not any(gap.since - LATE * 1000 <= moment <= gap.until for gap in gaps):
                return f"{lost}, of {world.emitted[lost]:.2f} s, is missing without a gap in its place"
        expected, gaps = number + 1, []
    return None if expected == len(world.emitted) else "the last one did not come"


def _verdict(seed: int) -> str | None:
    problem = _check_world(run_world(_live, seed))
    return f"seed {seed}: {problem}" if problem else None


def soak(count: int) -> Iterator[str | None]:
    """Give one item for each of so many worlds: None, or what went wrong there."""
    return map(_verdict, range(count))


@pytest.mark.contract("R1", "R3", "C3", "C4")
def test_in_any_schedule_each_message_comes_once_or_stands_in_a_gap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_signal")
    assert [problem for problem in soak(10) if problem] == []


@pytest.mark.contract("R3")
def test_fewer_are_lost_than_without(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_signal")

    def lost() -> tuple[int, int]:
        worlds = [run_world(_live, seed) for seed in range(5)]
        return (
            sum(len(world.emitted) - len(texts_in(world.events)) for world in worlds),
            sum(world.suspicions for world in worlds),
        )

    with_it = lost()
    monkeypatch.setattr(RestGateway, "allows_overlap", False)
    without = lost()
    assert with_it[1] > 5
    assert 0 < 2 * with_it[0] < without[0], (with_it, without)

"""What comes while a new link is being made: once, in order, behind the gap (contract R2, C3)."""

import itertools
import math

import pytest
import trio

from trio_signal import ConnectionState, Gap, GapReason, ReceivedMessage, open_signal_client
from trio_signal._inbox import Inbox
from trio_signal._journal import MemoryJournal
from trio_signal._receiver import Receiver, WallClock
from trio_signal.testing import FakeGateway, open_fake_gateway

AWAY, STALLED = GapReason.GATEWAY, GapReason.STALLED


async def _deliver_as_soon_as_there_is_a_consumer(gateway: FakeGateway, count: int) -> None:
    await gateway.wait_consumers()
    for number in range(count):
        gateway.deliver(text=str(number))
        await trio.lowlevel.checkpoint()


@pytest.mark.contract("R2", "C3")
@pytest.mark.parametrize("count", [1, 2, 50])
async def test_messages_that_come_before_the_first_pong_stand_behind_the_gap(
    autojump_clock: trio.abc.Clock, count: int
) -> None:
    async with (
        open_fake_gateway(port=None) as gateway,
        open_signal_client(
            gateway.url, gateway.account, connect=gateway.connect, wall_clock=trio.current_time
        ) as signal,
    ):
        await signal.wait_state(ConnectionState.CONNECTED)
        changes = signal.state_changes()
        gateway.drop()
        while (await anext(changes)).current is not ConnectionState.RECONNECTING:
            pass
        await gateway.wait_disconnected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver_as_soon_as_there_is_a_consumer, gateway, count)
            nursery.start_soon(signal.wait_state, ConnectionState.CONNECTED)
        events = signal.events()
        gap = await anext(events)
        assert isinstance(gap, Gap)
        messages = [await anext(events) for _ in range(count)]
        assert [m.text for m in messages if isinstance(m, ReceivedMessage)] == [str(n) for n in range(count)]
        assert signal.statistics().receiving.gaps == 1
        assert signal.statistics().inbox.waiting == 0


# --- Absences that last for a while only, or were none ---


async def told(*absences: tuple[GapReason, int, float]) -> list[tuple[GapReason, int, int]]:
    """Return the gaps that are told at second 100 after these absences (reason, since in ms, seconds)."""
    inbox = Inbox(100, 10_000)
    receiver = Receiver(inbox, MemoryJournal(), WallClock(lambda: 100.0))
    for reason, since, lasts in absences:
        receiver.begin_absence(reason, since, lasts)
    receiver.report_absence()
    receiver.report_absence()
    gaps: list[tuple[GapReason, int, int]] = []
    for _ in range(inbox.statistics().waiting):
        event = await inbox.take()
        assert isinstance(event, Gap)
        gaps.append((event.reason, event.since, event.until))
    assert receiver.statistics().gaps == len(gaps)
    return gaps


@pytest.mark.contract("R3", "R4")
@pytest.mark.parametrize(
    ("absences", "gaps"),
    [
        ([(AWAY, 1000, math.inf)], [(AWAY, 1000, 100_000)]),
        ([(AWAY, 1000, 30.0)], [(AWAY, 1000, 31_000)]),
        ([(AWAY, 90_000, 30.0)], [(AWAY, 90_000, 100_000)]),
        ([(AWAY, 1000, 0.0)], []),
        # Several ends of the daemon's own, one after the other, are no absence between them.
        ([(AWAY, 1000, 0.0), (AWAY, 5000, 0.0)], []),
        ([(AWAY, 1000, 0.0), (AWAY, 5000, 2.0)], [(AWAY, 1000, 7000)]),
        ([(AWAY, 1000, 2.0), (AWAY, 9000, 0.0)], [(AWAY, 1000, 3000)]),
        ([(AWAY, 1000, 2.0), (AWAY, 9000, 3.0)], [(AWAY, 1000, 12_000)]),
        ([(AWAY, 1000, 60.0), (AWAY, 9000, 3.0)], [(AWAY, 1000, 61_000)]),
        ([(STALLED, 1000, math.inf), (AWAY, 9000, math.inf)], [(STALLED, 1000, 100_000)]),
    ],
    ids=itertools.count(),
)
async def test_absences_become_one_gap_that_covers_what_may_be_lost(
    absences: list[tuple[GapReason, int, float]], gaps: list[tuple[GapReason, int, int]]
) -> None:
    assert await told(*absences) == gaps

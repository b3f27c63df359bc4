"""Does the client know if its link is alive? Pings, silence, stalls, a consumer that does not read."""

import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.peers import Detour, Peer
from tests.scene import (
    CONNECTED,
    EPOCH,
    SYNCING,
    closing_within,
    collect,
    connected,
    gaps_in,
    logged,
    open_client,
    open_gateway,
    record,
    settled,
    texts_in,
    wall_ms,
)
from trio_signal import Gap, GapReason, Reason, StateChange
from trio_signal.gateways._rest_link import StallWatch
from trio_signal.testing import FakeGateway, close_frame, open_fault_proxy, server_frame

PING, PONG = 9, 10


def lost(changes: list[StateChange]) -> list[tuple[float, Reason]]:
    """When the link was lost, and why."""
    return [(c.time, c.reason) for c in changes if c.previous is CONNECTED and c.current is not SYNCING]


# --- pings ---


@pytest.mark.contract("L1")
async def test_after_ten_silent_seconds_we_ping(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway):
        pings: list[int] = []
        for moment in (0, 9.9, 10.1, 19.9, 20.1, 30.1):
            await trio.sleep_until(moment)
            pings.append(gateway.statistics().pings_received)
        assert pings == [1, 1, 2, 2, 3, 4], "the first one belongs to the handshake"


@pytest.mark.contract("L1")
async def test_whatever_comes_puts_the_next_ping_off(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for _ in range(100):
            await trio.sleep(9.5)
            gateway.deliver(text="still here")
        await settled()
        assert gateway.statistics().pings_received == 1
        assert signal.statistics().receiving.received == 100
        assert gateway.handshakes == 1


@pytest.mark.contract("L1")
async def test_a_sent_byte_is_no_sign_of_life(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.half_open()
        for second in range(15):
            assert signal.state is CONNECTED, second
            message = await signal.send_message("+15550002", "over HTTP all is well")
            await message.wait()
            await trio.sleep(1)
        await settled()
        assert signal.state is not CONNECTED


@pytest.mark.contract("L1")
async def test_any_byte_counts_as_life_and_not_only_a_pong(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A peer that answers no ping but sends a byte each 14 s lives; once it falls silent it is dropped."""
    last: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        for byte in server_frame(b"cut")[:3]:
            await trio.sleep(14)
            await peer.stream.send_all(bytes([byte]))
        last.append(trio.current_time())
        await peer.read_frames()

    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: script})
        changes: list[StateChange] = []
        async with connected(gateway, connect=detour.connect) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep_until(56.9)
            assert (signal.state, lost(changes)) == (CONNECTED, [])
            await trio.sleep(10)
            assert lost(changes) == [(last[0] + 15, Reason.NO_ANSWER)]
            assert signal.state is CONNECTED


@pytest.mark.parametrize(("interval", "patience"), [(10.0, 5.0), (1.0, 0.5), (30.0, 25.0)])
@pytest.mark.contract("L1", "L4")
async def test_a_dead_link_is_dropped_without_a_closing_handshake(
    autojump_clock: MockClock, nursery: trio.Nursery, interval: float, patience: float
) -> None:
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        async with connected(gateway, ping_interval=interval, pong_timeout=patience) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(3)
            last = signal.statistics().last_received
            gateway.half_open()
            await gateway.wait_handshakes(2)
            assert last is not None
            ((when, why),) = lost(changes)
            assert when == pytest.approx(last + interval + patience)
            assert why is Reason.NO_ANSWER
            assert "nothing came" in str(changes[0].error)


@pytest.mark.contract("L1")
async def test_a_link_to_a_quiet_gateway_lasts(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        await trio.sleep(4 * 3600 + 1)
        assert signal.state is CONNECTED
        assert gateway.handshakes == 1
        assert gateway.statistics().pongs_received == 4 * 3600 // 54


# --- every failure of the link, and how soon it is known ---


def _close(gateway: FakeGateway) -> None:
    gateway.close(1001, "going away")


FAILURES: dict[str, tuple[Callable[[FakeGateway], None], Reason, float]] = {
    "close frame": (_close, Reason.CLOSED_BY_GATEWAY, 0),
    "empty close frame": (lambda gateway: gateway.close(None), Reason.CLOSED_BY_GATEWAY, 0),
    "drop": (FakeGateway.drop, Reason.CONNECTION_LOST, 0),
    "reset": (FakeGateway.reset, Reason.CONNECTION_LOST, 0),
    "kill": (FakeGateway.kill, Reason.CONNECTION_LOST, 0),
    "half open": (FakeGateway.half_open, Reason.NO_ANSWER, 15),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.contract("L4", "C6", "R3")
async def test_the_truth_is_told_soon_after_any_failure(
    autojump_clock: MockClock, nursery: trio.Nursery, case: str
) -> None:
    fail, reason, within = FAILURES[case]
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep(103)
            gateway.refuse(None)
            fail(gateway)
            failed_at, failed_ms = trio.current_time(), wall_ms()
            await trio.sleep(within)
            await settled()
            figures = signal.statistics()
            assert figures.state is signal.state is not CONNECTED
            assert figures.generation == 1 + figures.attempt >= 2
            assert (figures.last_received, figures.bytes_received) == (None, 0)
            assert figures.next_attempt is not None
            assert figures.next_attempt > trio.current_time()
            assert figures.last_error is not None
            ((when, why),) = lost(changes)
            assert when <= failed_at + within
            assert why is reason
            gateway.heal()
            await gateway.start()
            await gateway.wait_connected()
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="after")
            await gateway.wait_delivered()
            await settled()
        (gap,) = gaps_in(events)
        assert gap.reason is GapReason.GATEWAY
        assert gap.since <= failed_ms <= gap.until
        assert texts_in(events) == ["after"]


@pytest.mark.parametrize("direction", ["up", "down", "both"])
@pytest.mark.contract("L1", "L4")
async def test_a_black_hole_is_noticed_within_fifteen_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery, direction: str
) -> None:
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
    ):
        changes: list[StateChange] = []
        async with connected(gateway, connect=proxy.connect) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(20)
            proxy.black_hole(direction)  # type: ignore[arg-type]
            await trio.sleep(15)
            await settled()
            assert signal.state is not CONNECTED
            assert lost(changes)[0][1] is Reason.NO_ANSWER
            await trio.sleep(600)
            assert len(lost(changes)) == 1
            assert {c.reason for c in changes[1:] if c.error} == {Reason.ATTEMPT_FAILED}
            proxy.heal()
            with trio.fail_after(200):
                await signal.wait_state(CONNECTED)


@pytest.mark.contract("L4")
async def test_a_link_that_trickles_is_alive(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A slow line is no dead one: each byte takes its time, and a message a minute."""
    async with (
        open_gateway() as gateway,
        open_fault_proxy("gateway", 8080, port=None, connect=gateway.connect) as proxy,
    ):
        proxy.latency = 2.0
        async with connected(gateway, connect=proxy.connect) as signal:
            proxy.slice_size = 1
            for _ in range(10):
                gateway.deliver(text="slowly")
                await trio.sleep(30)
            assert signal.statistics().receiving.received == 10
            assert gateway.handshakes == 1


# --- a consumer that does not read ---


@pytest.mark.contract("L2")
async def test_a_consumer_that_stops_reading_for_an_hour_loses_no_connection(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for second in range(3600):
            gateway.deliver(text=str(second))
            await trio.sleep(1)
        figures = gateway.statistics()
        assert (signal.state, gateway.handshakes) == (CONNECTED, 1)
        assert figures.pongs_received == figures.pings_sent == 3600 // 54
        assert signal.statistics().inbox.waiting == 3600
        events = signal.events()
        got = [await anext(events) for _ in range(3600)]
        assert texts_in(got) == [str(second) for second in range(3600)]


@pytest.mark.contract("L2", "R8")
async def test_a_full_inbox_holds_up_neither_reading_nor_pongs(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, inbox_size=10) as signal:
        for _ in range(3600):
            gateway.deliver()
            await trio.sleep(1)
        assert gateway.handshakes == 1
        assert gateway.statistics().pongs_received == 3600 // 54
        events = signal.events()
        got = [await anext(events) for _ in range(11)]
        assert isinstance(got[-1], Gap)
        assert (got[-1].reason, got[-1].count) == (GapReason.OVERFLOW, 3590)


@pytest.mark.contract("L2")
async def test_a_close_is_answered_though_nobody_reads(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Frames by the thousand, then a ping and a close frame: both are answered at once."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await peer.stream.send_all(
            server_frame(b"{}") * 5_000 + server_frame(b"now", PING) + close_frame(1001)
        )
        await peer.read_frames()

    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: script})
        async with connected(gateway, connect=detour.connect) as signal:
            with closing_within(0):
                await settled()
            assert [frame.opcode for frame in detour.peers[2].frames] == [PING, PONG, 8]
            assert signal.statistics().inbox.waiting >= 5_000


# --- a gateway that answers but delivers nothing ---


@pytest.mark.contract("L3", "R4")
async def test_a_stalled_gateway_is_left_and_the_gap_begins_at_the_last_sign_of_delivery(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep_until(80)
            gateway.deliver(text="the last one")
            await trio.sleep_until(100)
            gateway.stall()
            for _ in range(4):
                gateway.deliver(text="kept or lost")
            await trio.sleep_until(54 + 64.9)
            assert signal.state is CONNECTED, "it goes on answering our pings, so only its own are a sign"
            await trio.sleep_until(54 + 65.1)
            assert lost(changes) == [(54 + 65, Reason.GATEWAY_STALLED)]
            gateway.unstall()
            await signal.wait_state(CONNECTED)
            await settled()
        (gap,) = gaps_in(events)
        assert gap.reason is GapReason.STALLED
        assert gap.since == (EPOCH + 80) * 1000
        # The old link is still there to give what the gateway's writer held, behind what was lost before.
        assert gap.until == pytest.approx((EPOCH + 54 + 65.1) * 1000, abs=2)
        assert [getattr(event, "text", "gap") for event in events] == ["the last one", "gap", "kept or lost"]


@pytest.mark.contract("L3", "R4")
async def test_without_a_message_the_gap_begins_at_the_gateways_last_ping(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep_until(2 * 54 + 1)
            gateway.stall()
            await gateway.wait_handshakes(2)
            gateway.unstall()
            await signal.wait_state(CONNECTED)
            await settled()
            (gap,) = gaps_in(events)
            assert (gap.reason, gap.since) == (GapReason.STALLED, (EPOCH + 2 * 54) * 1000)


@pytest.mark.contract("L3", "R4")
async def test_a_gateway_that_is_stalled_from_the_start(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """No ping ever and no message: the gap begins with the connection."""
    async with open_gateway() as gateway:
        events: list[object] = []
        async with connected(gateway) as signal:
            gateway.stall()
            nursery.start_soon(collect, signal.events(), events)
            await trio.sleep_until(70)
            assert [(gap.reason, gap.since) for gap in gaps_in(events)] == [(GapReason.STALLED, EPOCH * 1000)]


@pytest.mark.contract("L3", "R4")
async def test_a_gateway_whose_pings_do_not_arrive_is_not_stalled_while_its_messages_do(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway(ping_period=math.inf) as gateway:
        changes: list[StateChange] = []
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            for _ in range(60):
                await trio.sleep(10)
                gateway.deliver(text="still here")
            await trio.sleep(10.9)
            assert (lost(changes), gaps_in(events), gateway.handshakes) == ([], [], 1)
            await trio.sleep(5)
            assert lost(changes) == [(611, Reason.GATEWAY_STALLED)]
            (gap,) = gaps_in(events)
            assert (gap.reason, gap.since) == (GapReason.STALLED, (EPOCH + 600) * 1000)


@pytest.mark.parametrize("every", [0.5, 54.0])
@pytest.mark.contract("L3", "R3")
async def test_a_stall_over_a_ping_is_noticed_however_many_messages_came_before_it(
    autojump_clock: MockClock, nursery: trio.Nursery, every: float
) -> None:
    """A message just before the stall says no more than one long ago: the next ping is late all the same."""
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        events: list[object] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            while trio.current_time() < 107:
                gateway.deliver(text="before")
                await trio.sleep(every)
            gateway.stall()
            for _ in range(60):
                gateway.deliver(text="kept or lost")
                await trio.sleep(0.5)
            gateway.unstall()
            await trio.sleep(10)
            assert lost(changes) == [(54 + 65, Reason.GATEWAY_STALLED)]
            assert gaps_in(events)[0].reason is GapReason.STALLED


@pytest.mark.contract("L3")
async def test_three_connections_without_a_ping_disarm_the_watch_with_one_warning(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway(ping_period=math.inf) as gateway:
        changes: list[StateChange] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(2 * 3600)
            assert signal.state is CONNECTED
            assert [reason for _, reason in lost(changes)] == [Reason.GATEWAY_STALLED] * 2
            assert gateway.handshakes == 3
            warnings = [text for text in logged(caplog.records, 30) if "ping" in text]
            assert len(warnings) == 1
            # Later connections are watched no longer either.
            gateway.drop()
            await trio.sleep(2 * 3600)
            assert (signal.state, gateway.handshakes) == (CONNECTED, 4)
            assert [text for text in logged(caplog.records, 30) if "ping" in text] == warnings


@pytest.mark.contract("L3")
async def test_a_ping_after_all_arms_the_watch_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway(ping_period=math.inf) as gateway, connected(gateway) as signal:
        await trio.sleep(3600)
        assert gateway.handshakes == 3
        gateway.send_frame(server_frame(b"", PING))
        await settled()
        await trio.sleep(64)
        assert (signal.state, gateway.handshakes) == (CONNECTED, 3)
        await trio.sleep(5)
        assert gateway.handshakes == 4


@pytest.mark.contract("L3")
async def test_connections_that_end_early_prove_nothing_about_pings(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for n in range(10):
            await trio.sleep(50)
            gateway.drop()
            await gateway.wait_handshakes(n + 2)
        await signal.wait_state(CONNECTED)
        await trio.sleep(60)
        gateway.stall()
        await trio.sleep(70)
        assert gateway.handshakes == 12


def test_the_watch_believes_a_lack_of_pings_unless_there_never_were_any() -> None:
    watch = StallWatch()
    assert watch.deadline(100, None, 100) == 165
    assert [watch.is_stalled() for _ in range(3)] == [True, True, False]
    assert watch.deadline(100, None, 900) == math.inf
    assert watch.deadline(100, 200, 100) == 265
    assert watch.deadline(300, None, 300) == 365
    assert all(watch.is_stalled() for _ in range(10))


@pytest.mark.contract("L3", "L4")
async def test_a_stalled_gateway_that_is_not_healed_is_tried_again_and_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_gateway() as gateway:
        changes: list[StateChange] = []
        async with connected(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(60)
            gateway.stall()
            await trio.sleep(3600)
            reasons = {reason for _, reason in lost(changes)}
            assert reasons == {Reason.GATEWAY_STALLED}
            assert 40 <= gateway.handshakes <= 60
            gateway.unstall()
            await trio.sleep(120)
            assert signal.state is CONNECTED


@pytest.mark.parametrize("end", ["close frame", "end of stream"])
@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.contract("R3")
async def test_messages_written_with_the_handshake_and_its_end_are_not_lost(
    autojump_clock: MockClock, nursery: trio.Nursery, count: int, end: str
) -> None:
    """The gateway ends at once: what it had written to us still reaches the application.

    Which task comes first is drawn by Trio, so once is not enough.
    """

    async def script(peer: Peer) -> None:
        frames = b"".join(server_frame(b'{"envelope":{"n":%d}}' % n) for n in range(count))
        await peer.accept(frames + (close_frame(1001) if end == "close frame" else b""))
        await peer.stream.send_eof()
        await peer.read_frames()

    received: list[int] = []
    for _ in range(20):
        async with open_gateway() as gateway:
            detour = Detour(nursery, gateway, {2: script})
            async with open_client(gateway, connect=detour.connect) as signal:
                await signal.wait_state(CONNECTED)
                assert detour.count == 3
                await settled()
                received.append(signal.statistics().receiving.received)
    assert received == [count] * 20


@pytest.mark.contract("R3")
async def test_messages_before_the_first_pong_are_not_lost(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A gateway that never answers our ping is left at the deadline; what it delivered until then counts."""

    async def script(peer: Peer) -> None:
        await peer.accept(server_frame(b'{"envelope":{"n":1}}'))
        await trio.sleep(5)
        await peer.stream.send_all(server_frame(b'{"envelope":{"n":2}}'))
        await peer.read_frames()

    async with open_gateway() as gateway:
        detour = Detour(nursery, gateway, {2: script})
        async with open_client(gateway, connect=detour.connect) as signal:
            await signal.wait_state(CONNECTED)
            assert detour.times == [0, 0, 22]
            events = signal.events()
            got = [await anext(events) for _ in range(3)]
            assert [getattr(event, "raw", None) for event in got[:2]] == [
                b'{"envelope":{"n":1}}',
                b'{"envelope":{"n":2}}',
            ]
            (gap,) = gaps_in(got)
            assert (gap.since, gap.until) == ((EPOCH + 5) * 1000, (EPOCH + 22) * 1000)

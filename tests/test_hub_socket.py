"""One client's WebSocket: hello, catching up, live, the end of its token, goodbye."""

import json
import logging
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from tests.hubs import (
    Frame,
    Scene,
    Subscriber,
    Visitor,
    frames_in,
    gone,
    limits,
    masked,
    open_hub,
    open_real_hub,
    small_log,
    until,
)
from tests.scene import closing_within, living_tasks, logged, settled, wall_time
from trio_signal.hub import MessageLog
from trio_signal.testing._frames import Opcode

#: Enough that a page of 64 KiB holds few of them.
LARGE = b'"%b"' % (b"x" * 30_000)


# --- hello, live ---


@pytest.mark.contract("H2")
async def test_the_hello_comes_first_and_tells_where_the_log_stands(autojump_clock: MockClock) -> None:
    log = small_log(max_messages=3, epoch="an epoch")
    async with open_hub(log=log, limits=limits(heartbeat_interval=7)) as scene:
        scene.tell(5)
        subscriber = await scene.subscribe()
        [connection] = scene.hub.connections.connections
        assert subscriber.hello == {
            "type": "hello",
            "epoch": "an epoch",
            "head": 5,
            "oldest": 3,
            "heartbeat_interval": 7,
            "connection_id": connection.id,
        }
        scene.tell(2)
        await subscriber.wait_for(2)
        assert subscriber.numbers == [6, 7]
        assert scene.hub.counters.websockets_opened == 1


@pytest.mark.contract("H1", "H8")
async def test_what_the_gateway_delivers_comes_to_everybody_with_one_number(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene:
        subscribers = [await scene.subscribe() for _ in range(5)]
        for text in ("one", "two"):
            scene.gateway.deliver(text=text)
        for subscriber in subscribers:
            await subscriber.wait_for(2)
            assert subscriber.got == subscribers[0].got
        assert [entry["data"]["envelope"]["dataMessage"]["message"] for entry in subscribers[0].got] == [
            "one",
            "two",
        ]
        recovered = await scene.messages(0)
        assert recovered["messages"] == subscribers[0].got


async def test_an_ordinary_websocket_library_gets_along_with_the_hub(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=10)) as scene, trio.open_nursery() as nursery:
        scene.tell(2)
        socket = await trio_websocket.wrap_client_stream(
            nursery,
            cast(Any, await scene.dial()),
            "hub.example",
            "/websocket?since=1",
            extra_headers=[(b"Authorization", f"Bearer {scene.token()}".encode())],
        )
        told = [json.loads(await socket.get_message()) for _ in range(362)]
        scene.tell()
        assert [frame["type"] for frame in told] == ["hello", "message", *["heartbeat"] * 360]
        assert trio.current_time() == pytest.approx(3600, abs=10)
        assert json.loads(await socket.get_message())["sequence_number"] == 3
        await socket.aclose(1000, "enough")
        await settled()
        assert scene.hub.connections.connections == ()
        assert socket.closed is not None


@pytest.mark.contract("H2")
async def test_a_direct_message_reaches_one_client_and_has_its_own_count(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        one, other = await scene.subscribe(), await scene.subscribe()
        for number in (1, 2):
            assert scene.hub.connections.send_message(one.hello["connection_id"], '{"hi":1}') == number
        scene.tell()
        await one.wait_for(1)
        await other.wait_for(1)
        assert [(frame["type"], frame.get("connection_sequence")) for frame in one.got] == [
            ("direct", 1),
            ("direct", 2),
            ("message", None),
        ]
        assert [frame["type"] for frame in other.got] == ["message"]
        assert [figures.sequence for figures in scene.hub.statistics()] == [1, 1]
        assert (await scene.messages(0))["head"] == 1


# --- catching up and going over to live ---


@dataclass(eq=False)
class TellAtStep(trio.abc.Instrument):
    """Broadcasts a message just before the n-th step of any task."""

    scene: Scene
    step: int
    steps: int = 0
    told: list[int] = field(default_factory=list[int])

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.told = self.scene.tell()


@pytest.mark.contract("H1", "H2", "R1", "R2")
async def test_a_broadcast_at_any_moment_of_connecting_comes_once_and_in_its_place(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(limits=limits(), log=small_log(max_messages=5000)) as scene:
        for _ in range(5):
            scene.hub.connections.broadcast(LARGE)
        step, went_live = 0, 0
        while True:
            step += 1
            since = scene.hub.log.head - 5
            instrument = TellAtStep(scene, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                subscriber = await scene.subscribe(f"/websocket?since={since}&epoch={scene.hub.log.epoch}")
                await subscriber.wait_for(5)
                await settled()
            finally:
                trio.lowlevel.remove_instrument(instrument)
            if not instrument.told:
                break
            await subscriber.wait_for(6)
            scene.tell()
            await subscriber.wait_for(7)
            assert subscriber.numbers == list(range(since + 1, since + 8))
            assert all("sequence_number" in frame for frame in subscriber.got), "no hole"
            went_live += instrument.told[0] > subscriber.hello["head"]
            await trio.aclose_forcefully(subscriber.visitor.stream)
            await settled()
        assert step > 20
        assert went_live > 10, "some must come after the hello for this to prove anything"


@pytest.mark.contract("H2", "R3", "R4")
async def test_the_ring_overtakes_a_client_that_catches_up_slowly_and_it_is_told_in_place(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(limits=limits(), log=small_log(max_messages=10)) as scene:
        for _ in range(10):
            scene.hub.connections.broadcast(LARGE)
        visitor = await scene.visit(window=1024)
        await visitor.open("/websocket?since=0")
        reached, holes = 0, list[tuple[int, int]]()
        while reached < 60:
            frame = await visitor.told()
            if frame["type"] == "gap":
                assert frame["reason"] == "overwritten"
                assert frame["first"] == reached + 1
                holes.append((frame["first"], frame["last"]))
                reached = frame["last"]
                continue
            assert frame["sequence_number"] == reached + 1
            reached += 1
            for _ in range(5 if scene.hub.log.head < 60 else 0):
                scene.hub.connections.broadcast(LARGE)
        assert holes
        scene.tell()
        assert (await visitor.told())["sequence_number"] == 61


@pytest.mark.contract("H2", "H7")
async def test_a_client_catches_up_at_its_own_pace_and_costs_no_queue(autojump_clock: MockClock) -> None:
    """A page takes ten seconds here, all of them several minutes; others are as fast as ever."""
    async with open_hub(limits=limits(max_queue=20), log=small_log(max_messages=1000)) as scene:
        for _ in range(50):
            scene.hub.connections.broadcast(LARGE)
        other = await scene.subscribe()
        visitor = await scene.visit(window=4096)
        subscriber = Subscriber(visitor, await visitor.open("/websocket?since=0"))
        longest = 0
        while len(subscriber.numbers) < 50:
            await trio.sleep(1)
            await visitor.more(6000)
            for frame in frames_in(visitor.buffer):
                await subscriber._take(frame)
            longest = max(longest, *(figures.queued for figures in scene.hub.statistics()))
            scene.hub.connections.broadcast(b"1")
            await settled()
            assert len(other.numbers) == scene.hub.log.head - 50
        assert subscriber.numbers == list(range(1, subscriber.numbers[-1] + 1))
        assert subscriber.pings > 5, "it is asked for signs of life meanwhile"
        assert subscriber.beats == [], "a head would look like a hole"
        assert trio.current_time() > 200
        assert longest < 5
        scene.nursery.start_soon(subscriber.run)
        await subscriber.wait_for(scene.hub.log.head)
        await trio.sleep(16)
        assert subscriber.beats[-1][1] == scene.hub.log.head


@pytest.mark.contract("H2", "H7")
async def test_a_message_larger_than_the_queue_is_still_caught_up_with(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_queue_bytes=1000, heartbeat_interval=1)) as scene:
        scene.hub.connections.broadcast(LARGE)
        visitor = await scene.visit(window=1024)
        await visitor.open("/websocket?since=0")
        await trio.sleep(5)
        assert (await visitor.told())["sequence_number"] == 1


# --- heartbeats and signs of life ---


@pytest.mark.contract("H2")
async def test_heartbeats_come_on_time_and_carry_the_head(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=10)) as scene:
        start = trio.current_time()
        subscriber = await scene.subscribe()
        await trio.sleep(5)
        for _ in range(6):
            await trio.sleep(10)
            scene.tell(2)
        assert subscriber.beats == [(start + 10 * n, 2 * (n - 1)) for n in range(1, 7)]
        assert scene.hub.counters.heartbeats == 6


@pytest.mark.contract("H2")
async def test_a_heartbeat_counts_only_where_it_is_handed_out(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=10)) as scene:
        for _ in range(10):
            scene.hub.connections.broadcast(LARGE)
        await scene.subscribe()
        catching_up = await scene.visit(window=1024)
        await catching_up.open("/websocket?since=0")
        await trio.sleep(25)
        assert scene.hub.counters.heartbeats == 2


@pytest.mark.contract("H7")
async def test_pongs_alone_keep_a_client_for_hours(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=15)) as scene:
        subscriber = await scene.subscribe()
        await trio.sleep(7200)
        assert not subscriber.ended.is_set()
        assert subscriber.pings >= 7200 // 15 - 1


@pytest.mark.contract("H7")
@pytest.mark.parametrize("interval", [1, 15, 60])
async def test_who_sends_no_sign_of_life_is_ended(autojump_clock: MockClock, interval: float) -> None:
    async with open_hub(limits=limits(heartbeat_interval=interval)) as scene:
        witness = await scene.subscribe()
        visitor = await scene.visit()
        await visitor.open()
        opened = trio.current_time()
        # It reads everything, but answers no ping.
        assert await visitor.close_code() == 4009
        lasted = trio.current_time() - opened
        assert 2 * interval + 5 <= lasted <= 2 * interval + 5 + 2.5
        assert scene.hub.counters.closed_dead == 1
        await settled()
        assert [figures.id for figures in scene.hub.statistics()] == [witness.hello["connection_id"]]


@pytest.mark.contract("H7")
async def test_any_byte_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=15)) as scene:
        visitor = await scene.visit()
        await visitor.open()
        one_long_frame = masked(b"x" * 1000)
        for byte in one_long_frame[:60]:
            await trio.sleep(30)
            await visitor.write(bytes([byte]))
        assert len(scene.hub.statistics()) == 1


# --- the end of a token (H9) ---


@pytest.mark.contract("H9")
async def test_an_expired_token_is_told_and_25_s_later_the_connection_ends(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        subscriber = await scene.subscribe(token=scene.token(ttl=100))
        expires_at = trio.current_time() + 100
        await trio.sleep(99.9)
        assert subscriber.got == []
        await trio.sleep(0.2)
        assert subscriber.got == [{"type": "token_expiring", "expires_in": 25}]
        scene.tell()
        await subscriber.ended.wait()
        assert subscriber.code == 4001
        assert trio.current_time() == pytest.approx(expires_at + 25, abs=0.1)
        assert subscriber.numbers == [1], "until then it goes on as ever"
        assert [frame["type"] for frame in subscriber.got] == ["token_expiring", "message"]
        assert scene.hub.counters.closed_expired == 1


@pytest.mark.contract("H9")
async def test_a_ticket_ends_when_the_token_does_that_it_was_given_for(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(token=scene.token("a browser", ttl=100))
        ticket = (await visitor.ask("/websocket/ticket", "POST")).json["ticket"]
        start = trio.current_time()
        subscriber = await scene.subscribe(f"/websocket?ticket={ticket}", token=None)
        assert [figures.subject for figures in scene.hub.statistics()] == ["a browser"]
        await subscriber.ended.wait()
        assert subscriber.code == 4001
        assert trio.current_time() == pytest.approx(start + 125, abs=1)


@pytest.mark.contract("H9")
@pytest.mark.parametrize("age", [1, 20, 29])
async def test_who_comes_within_the_leeway_still_has_the_whole_grace(
    autojump_clock: MockClock, age: float
) -> None:
    async with open_hub() as scene:
        token = scene.token(ttl=10)
        await trio.sleep(10 + age)
        start = trio.current_time()
        subscriber = await scene.subscribe(token=token)
        await settled()
        assert subscriber.got == [{"type": "token_expiring", "expires_in": 25}]
        await subscriber.ended.wait()
        assert subscriber.code == 4001
        assert trio.current_time() == pytest.approx(start + 25, abs=0.1)


@pytest.mark.contract("H9")
async def test_a_ticket_is_good_for_nothing_once_the_token_is_not(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        token = scene.token(ttl=10)
        await trio.sleep(10 + 29)
        visitor = await scene.visit(token=token)
        early, late = [(await visitor.ask("/websocket/ticket", "POST")).json["ticket"] for _ in range(2)]
        browser = await scene.visit(token=None)
        assert (await browser.upgrade(f"/websocket?ticket={early}")).status == 101
        await trio.sleep(2)
        browser = await scene.visit(token=None)
        assert (await browser.upgrade(f"/websocket?ticket={late}")).status == 401


@pytest.mark.contract("H9")
async def test_without_a_key_nothing_expires(autojump_clock: MockClock) -> None:
    async with open_hub(secured=False, limits=limits(heartbeat_interval=3600)) as scene:
        subscriber = await scene.subscribe()
        assert [figures.subject for figures in scene.hub.statistics()] == ["anybody"]
        await trio.sleep(7200)
        assert subscriber.got == []
        assert not subscriber.ended.is_set()


@pytest.mark.contract("H9")
async def test_a_token_ends_for_who_still_catches_up_too(autojump_clock: MockClock) -> None:
    async with open_hub(log=small_log(max_age=86_400)) as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(LARGE)
        visitor = await scene.visit(token=scene.token(ttl=100), window=4096)
        subscriber = Subscriber(visitor, await visitor.open("/websocket?since=0"))
        start = trio.current_time()
        while await visitor.more():
            for frame in frames_in(visitor.buffer):
                await subscriber._take(frame)
            await trio.sleep(0.4)
        assert [frame for frame in subscriber.got if frame["type"] == "token_expiring"]
        assert trio.current_time() == pytest.approx(start + 125, abs=3)
        assert 20 < len(subscriber.numbers) < 100
        assert scene.hub.counters.closed_expired == 1


@pytest.mark.contract("H9", "H10")
async def test_a_grace_that_is_over_during_the_goodbye_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(heartbeat_interval=3600)) as scene:
        visitor = await scene.visit(token=scene.token(ttl=10), window=512)
        await visitor.open()
        await trio.sleep(10 + 25 - 0.5)
        scene.tell(100)
        await settled()
        scene.hub.shutdown()
        with closing_within(2.5):
            await scene.finished.wait()
        assert scene.hub.counters.closed_expired == 0


# --- slow clients (H7) ---


@pytest.mark.contract("H7", "H11")
async def test_a_slow_client_delays_nobody_and_comes_back_for_everything(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(limits=limits(max_queue=50), log=small_log(max_messages=1000)) as scene:
        quick = await scene.subscribe()
        visitor = await scene.visit(window=2000)
        slow = Subscriber(visitor, await visitor.open())
        start = trio.current_time()
        most = 0
        while len(scene.hub.statistics()) == 2:
            scene.tell(5)
            await settled()
            most = max(most, *(figures.queued for figures in scene.hub.statistics()))
            assert quick.numbers[-1] == scene.hub.log.head
        assert trio.current_time() == start, "nobody waited for anything"
        assert most <= 50

        await slow.run()
        await settled()
        assert scene.hub.counters.closed_slow == 1
        assert scene.hub.counters.closed_abusive == 0
        assert slow.code == 4008
        assert slow.numbers == list(range(1, slow.numbers[-1] + 1)), "and no frame was cut"
        assert {frame["type"] for frame in slow.got} == {"message"}, "no goodbye: the hub stays"
        have = slow.numbers[-1]
        assert have < scene.hub.log.head
        recovered = await scene.messages(have, epoch=slow.hello["epoch"])
        assert [m["sequence_number"] for m in recovered["messages"]] == list(
            range(have + 1, scene.hub.log.head + 1)
        )
        again = await scene.subscribe(f"/websocket?since={have}&epoch={slow.hello['epoch']}")
        await again.wait_for(scene.hub.log.head - have)
        assert again.got == recovered["messages"]
    [warning] = logged(caplog.records, logging.WARNING)
    assert "takes nothing any more" in warning


@pytest.mark.contract("H7")
async def test_a_client_that_takes_nothing_at_all_is_ended_within_30_s(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        witness = await scene.subscribe()
        visitor = await scene.visit(window=1024)
        await visitor.open()
        start = trio.current_time()
        scene.tell(30)
        await gone(scene, left=1)
        assert trio.current_time() - start <= 30 + 2.5
        await witness.wait_for(30)


@pytest.mark.contract("H7")
async def test_on_a_socket_of_the_kernels_a_slow_client_can_parse_all_up_to_its_close_frame(
    mock_clock: MockClock,
) -> None:
    async with open_real_hub(limits=limits(max_queue=10), log=small_log(max_messages=10_000)) as scene:
        quick = await scene.subscribe()
        visitor = await scene.visit()
        slow = Subscriber(visitor, await visitor.open())
        while len(scene.hub.statistics()) == 2:
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 100_000))
            await quick.wait_for(scene.hub.log.head)
        await slow.run()
        assert slow.code == 4008
        have = len(slow.numbers)
        assert slow.numbers == list(range(1, have + 1))
        assert quick.numbers == list(range(1, scene.hub.log.head + 1))
        again = await scene.subscribe(f"/websocket?since={have}")
        await again.wait_for(scene.hub.log.head - have)
        assert again.numbers == list(range(have + 1, scene.hub.log.head + 1))


# --- idle and busy, on sockets of the kernel's ---


async def test_an_idle_client_is_one_task(mock_clock: MockClock) -> None:
    async with open_real_hub() as scene:
        await settled()
        before = living_tasks()
        visitors = [await scene.visit() for _ in range(10)]
        for visitor in visitors:
            await visitor.open()
        await until(lambda: living_tasks() == before + 10)
        for _ in range(3):
            scene.tell()
            for visitor in visitors:
                await visitor.write(masked(b"", Opcode.PONG), masked(b"!", Opcode.PING))
                assert (await visitor.told())["sequence_number"] == scene.hub.log.head
                pong = await visitor.frame()
                assert pong == Frame(Opcode.PONG, b"!")
        await settled()
        assert living_tasks() == before + 10


@pytest.mark.contract("H1", "H7")
async def test_who_could_not_take_it_all_is_idle_again_when_it_has(mock_clock: MockClock) -> None:
    async with open_real_hub(limits=limits(max_queue=100_000, max_queue_bytes=1 << 30)) as scene:
        visitor = await scene.visit()
        await visitor.open()
        await settled()
        before, reached = living_tasks(), 0
        for _ in range(3):
            while not scene.hub.statistics()[0].queued:
                scene.hub.connections.broadcast(b'"%b"' % (b"x" * 100_000))
            await visitor.write(masked(b"while it is busy", Opcode.PING))
            scene.tell(3)
            await until(lambda: living_tasks() > before)
            pongs = 0
            while reached < scene.hub.log.head or not pongs:
                frame = await visitor.frame()
                assert frame is not None
                if frame.opcode is Opcode.PONG:
                    pongs += 1
                else:
                    reached += 1
                    assert frame.json["sequence_number"] == reached
            await until(lambda: living_tasks() == before)
            [reached] = scene.tell()
            assert (await visitor.told())["sequence_number"] == reached
        assert scene.hub.statistics()[0].queued_bytes == 0


@pytest.mark.contract("H9")
async def test_a_token_ends_for_who_is_idle(mock_clock: MockClock) -> None:
    async with open_real_hub(limits=limits(heartbeat_interval=3600)) as scene:
        subscriber = await scene.subscribe(token=scene.token(ttl=10))
        await settled()
        mock_clock.jump(12)
        await until(lambda: subscriber.got)
        assert subscriber.got == [{"type": "token_expiring", "expires_in": 25}]
        scene.tell()
        await subscriber.wait_for(1)
        await settled()
        mock_clock.jump(25)
        await subscriber.ended.wait()
        assert subscriber.code == 4001
        assert scene.hub.counters.closed_expired == 1


@pytest.mark.contract("H2", "H7")
async def test_a_client_catches_up_at_its_own_pace_and_is_live_then(mock_clock: MockClock) -> None:
    async with open_real_hub(log=small_log(max_messages=1000)) as scene:
        await settled()
        before = living_tasks()
        for _ in range(400):
            scene.hub.connections.broadcast(LARGE)
        visitor = await scene.visit()
        await visitor.open("/websocket?since=0")
        await settled()
        [connection] = scene.hub.connections.connections
        assert [connection.is_live] == [False], "12 MB do not fit into a socket"
        for number in range(1, 401):
            assert (await visitor.told())["sequence_number"] == number
        await until(lambda: living_tasks() == before + 1)
        assert [connection.is_live] == [True]
        scene.tell()
        assert (await visitor.told())["sequence_number"] == 401


# --- goodbye (H10) ---


@pytest.mark.contract("H10")
async def test_at_the_end_each_client_is_told_when_to_come_back(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(shutdown_spread=20)) as scene:
        subscribers = [await scene.subscribe() for _ in range(60)]
        scene.tell(3)
        scene.hub.shutdown()
        with closing_within(2.5):
            await scene.finished.wait()
        waits: list[float] = []
        for subscriber in subscribers:
            await subscriber.ended.wait()
            assert subscriber.code == 1012
            assert subscriber.numbers == [1, 2, 3], "what was queued went out before"
            assert set(subscriber.got[-1]) == {"type", "retry_after"}
            assert subscriber.got[-1]["type"] == "goodbye"
            waits.append(subscriber.got[-1]["retry_after"])
        assert all(0 <= wait <= 20 for wait in waits)
        assert min(waits) < 5
        assert max(waits) > 15
        assert len(set(waits)) > 50, "spread, so that they do not all come at once"


@pytest.mark.contract("H10")
async def test_who_catches_up_gets_a_goodbye_between_two_messages(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for _ in range(50):
            scene.hub.connections.broadcast(LARGE)
        visitor = await scene.visit(window=1024)
        subscriber = Subscriber(visitor, await visitor.open("/websocket?since=0"))
        scene.hub.shutdown()
        await subscriber.run()
        assert subscriber.code == 1012
        assert subscriber.got[-1]["type"] == "goodbye"
        assert subscriber.numbers == list(range(1, len(subscriber.got)))
        assert 0 < len(subscriber.numbers) < 50
        await scene.finished.wait()


@pytest.mark.contract("H10")
async def test_who_does_not_read_its_goodbye_holds_the_end_up_by_seconds_only(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene:
        stuck = await scene.visit(window=1024)
        await stuck.open()
        polite = await scene.subscribe()
        scene.tell(100)
        scene.hub.shutdown()
        with closing_within(2.5):
            await scene.finished.wait()
        assert polite.code == 1012


# --- the client leaves ---


@pytest.mark.contract("H7")
@pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
async def test_a_client_that_closes_gets_its_close_frame_back(
    autojump_clock: MockClock, code: int | None
) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        await visitor.open()
        payload = b"" if code is None else code.to_bytes(2, "big") + b"bye"
        await visitor.write(masked(payload, Opcode.CLOSE))
        with closing_within(0.1):
            assert await visitor.close_code() == (code or 1005)
        await settled()
        assert scene.hub.statistics() == []
        scene.tell()
        assert scene.hub.connections.delivered == 0


async def leave(visitor: Visitor, how: str) -> None:
    """Leave without a word."""
    if how == "half":
        assert isinstance(visitor.stream, trio.abc.HalfCloseableStream)
        await visitor.stream.send_eof()
    else:
        visitor.vanish(reset=how == "reset")


@pytest.mark.contract("H7")
@pytest.mark.parametrize("how", ["end", "reset", "half"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a full queue"])
async def test_a_client_that_goes_without_a_word_is_forgotten_at_once(
    autojump_clock: MockClock, how: str, busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(window=1024)
        await visitor.open()
        if busy:
            scene.tell(100)
            await settled()
        await leave(visitor, how)
        with closing_within(2.5):
            await gone(scene)
    assert logged(caplog.records, logging.WARNING) == []


@pytest.mark.contract("H7")
@pytest.mark.parametrize("how", ["end", "reset", "half", "garbage"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a full queue"])
async def test_the_same_on_a_socket_of_the_kernels(
    how: str, busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_real_hub(limits=limits(max_queue=100_000, max_queue_bytes=1 << 30)) as scene:
        visitor = await scene.visit()
        await visitor.open()
        while busy and not scene.hub.statistics()[0].queued:
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 300_000))
        if how == "garbage":
            await visitor.write(b"\xff" * 100)
        else:
            await leave(visitor, how)
        await until(lambda: not scene.hub.statistics())
    assert logged(caplog.records, logging.WARNING) == []


async def test_what_clients_say_is_read_and_passed_over(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        await visitor.open()
        await visitor.write(masked(b'{"type":"message","sequence_number":99,"data":{}}'), masked(b"\x00", 2))
        await visitor.write(masked(b"in two ", final=False), masked(b"x", Opcode.PING), masked(b"parts", 0))
        frame = await visitor.frame()
        assert frame is not None
        assert (frame.opcode, frame.payload) == (Opcode.PONG, b"x")
        scene.tell()
        assert (await visitor.told())["sequence_number"] == 1
        assert scene.hub.log.head == 1


# --- the handshake ---

ODD_HEADERS: dict[str, dict[str, Any]] = {
    "subprotocols beyond ASCII": {"sec_websocket_protocol": "gr\xfc\xdfe"},
    "extensions beyond ASCII": {"sec_websocket_extensions": "\xff"},
    "extensions that are none": {"sec_websocket_extensions": ";;;=,"},
    "a compression that is not spoken": {
        "sec_websocket_extensions": "permessage-deflate; client_max_window_bits"
    },
    "a host beyond ASCII": {"host": "\xe9t\xe9"},
    "a host that is no name": {"host": "xn--\xff"},
    "more than one connection option": {"connection": "keep-alive, Upgrade"},
    "a name in capitals": {"upgrade": "WebSocket"},
    "subprotocols": {"sec_websocket_protocol": "a, b"},
}


@pytest.mark.contract("H7")
@pytest.mark.parametrize("odd", ODD_HEADERS)
async def test_a_handshake_with_odd_headers_works(
    autojump_clock: MockClock, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        reply = await visitor.upgrade("/websocket?since=0", **ODD_HEADERS[odd])
        assert reply.status == 101
        assert "sec-websocket-extensions" not in reply.headers
        assert "sec-websocket-protocol" not in reply.headers
        assert (await visitor.told())["type"] == "hello"
    assert logged(caplog.records, logging.WARNING) == []


@pytest.mark.contract("H7")
async def test_connection_options_may_be_in_two_headers(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        await visitor.write(visitor.handshake()[:-2], b"Connection: keep-alive\r\n\r\n")
        assert (await visitor.reply()).status == 101


@pytest.mark.contract("H7")
@pytest.mark.parametrize("count", [1, 2, 100])
async def test_bytes_right_behind_the_upgrade_are_frames(autojump_clock: MockClock, count: int) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        pings = [masked(b"%d" % number, Opcode.PING) for number in range(count)]
        await visitor.write(visitor.handshake(), *pings)
        assert (await visitor.reply()).status == 101
        pongs: list[bytes] = []
        while len(pongs) < count:
            frame = await visitor.frame()
            assert frame is not None
            if frame.opcode is Opcode.PONG:
                pongs.append(frame.payload)
        assert pongs == [b"%d" % number for number in range(count)]


@pytest.mark.contract("H7")
@pytest.mark.parametrize("resets", [False, True])
async def test_who_does_not_take_the_handshakes_answer_is_ended(
    autojump_clock: MockClock, resets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as scene:
        await settled()
        before, start = living_tasks(), trio.current_time()
        visitor = await scene.visit(window=10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.write, visitor.handshake())
            await settled()
            assert living_tasks() > before
            if resets:
                visitor.vanish(reset=True)
            while living_tasks() > before:  # noqa: ASYNC110  (nothing tells when a task has ended)
                await trio.sleep(0.1)
        assert trio.current_time() - start == pytest.approx(0 if resets else 10, abs=0.2)
        assert scene.hub.counters.websockets_opened == 0
    assert logged(caplog.records, logging.WARNING) == []


async def test_the_wall_clock_of_the_messages_is_the_hubs(autojump_clock: MockClock) -> None:
    async with open_hub(log=MessageLog(clock=trio.current_time)) as scene:
        await trio.sleep(5)
        subscriber = await scene.subscribe()
        scene.tell()
        await subscriber.wait_for(1)
        assert subscriber.got[0]["timestamp"] == int(wall_time() * 1000)

"""Who was away gets exactly what it missed, or is told what it cannot get, over HTTP and WebSocket."""

from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import Scene, Subscriber, Visitor, gone, limits, open_hub, open_real_hub, serving, small_log
from tests.scene import connected, open_gateway, settled
from trio_signal.hub import CloseCode


def numbers(recovered: Any) -> list[int]:
    return [message["sequence_number"] for message in recovered["messages"]]


async def leave(scene: Scene, subscriber: Subscriber) -> None:
    """Go away, and wait until the hub knows."""
    subscriber.visitor.vanish()
    await gone(scene)


# --- the scenario that decides (S6) ---


@pytest.mark.contract("H1", "H4", "H5")
@pytest.mark.parametrize("how", ["http", "websocket"])
async def test_what_came_with_nobody_connected_is_got_by_who_comes_back(
    autojump_clock: MockClock, how: str
) -> None:
    async with open_hub() as scene:
        first = await scene.subscribe()
        for text in ("1", "2", "3"):
            scene.gateway.deliver(text=text)
        await first.wait_for(3)
        assert first.numbers == [1, 2, 3]
        await leave(scene, first)
        assert scene.hub.statistics() == []

        for text in ("4", "5", "6"):
            scene.gateway.deliver(text=text)
        await settled()

        epoch = first.hello["epoch"]
        if how == "http":
            second = await scene.subscribe()
            recovered = await scene.messages(3, epoch=epoch)
            assert recovered["gap"] is None
            got = recovered["messages"]
        else:
            second = await scene.subscribe(f"/websocket?since=3&epoch={epoch}")
            await second.wait_for(3)
            got = second.got
        assert second.hello["connection_id"] != first.hello["connection_id"]
        assert [message["sequence_number"] for message in got] == [4, 5, 6]
        assert [message["data"]["envelope"]["dataMessage"]["message"] for message in got] == ["4", "5", "6"]
        scene.gateway.deliver(text="7")
        await second.wait_for(1 if how == "http" else 4)
        assert second.numbers[-1] == 7


@pytest.mark.contract("H1", "H4")
async def test_the_same_on_a_port() -> None:
    async with open_real_hub() as scene:
        first = await scene.subscribe()
        scene.tell(3)
        await first.wait_for(3)
        first.visitor.vanish()
        await first.ended.wait()
        scene.tell(3)
        assert numbers(await scene.messages(3, epoch=first.hello["epoch"])) == [4, 5, 6]
        second = await scene.subscribe(f"/websocket?since=3&epoch={first.hello['epoch']}")
        await second.wait_for(3)
        assert second.numbers == [4, 5, 6]


# --- boundaries over the WebSocket (H2, H5) ---

BOUNDARIES: dict[int, tuple[Any, list[int]]] = {
    # a log of 9 messages that keeps 4: oldest is 6, head is 9
    0: (("overwritten", 1, 5), [6, 7, 8, 9]),
    4: (("overwritten", 5, 5), [6, 7, 8, 9]),
    5: (None, [6, 7, 8, 9]),
    6: (None, [7, 8, 9]),
    8: (None, [9]),
    9: (None, []),
    10: (("epoch_changed", None, None), [6, 7, 8, 9]),
}


@pytest.mark.contract("H2", "H3", "H5", "R4")
@pytest.mark.parametrize("epoch", ["ours", "none", "another"])
async def test_every_boundary_of_streaming_what_is_missing(autojump_clock: MockClock, epoch: str) -> None:
    given = {"ours": "&epoch=an%20epoch", "none": "", "another": "&epoch=x"}[epoch]
    async with open_hub(log=small_log(max_messages=4, epoch="an epoch"), limits=limits()) as scene:
        scene.tell(9)
        for since, expectation in BOUNDARIES.items():
            gap, expected = BOUNDARIES[10] if epoch == "another" else expectation
            async with await scene.visit() as visitor:
                hello = await visitor.open(f"/websocket?since={since}{given}")
                assert (hello["head"], hello["oldest"]) == (9, 6)
                if gap is not None:
                    told = await visitor.told()
                    assert told == {"type": "gap", "reason": gap[0], "first": gap[1], "last": gap[2]}, since
                assert [(await visitor.told())["sequence_number"] for _ in expected] == expected
                # Nothing else comes before what is sent to this connection alone.
                await settled()
                scene.hub.connections.send_message(hello["connection_id"], "1")
                assert (await visitor.told())["type"] == "direct"


@pytest.mark.contract("H2", "H5", "H6")
async def test_what_has_expired_is_told_to_who_streams(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell(3)
        await trio.sleep(901)
        empty = await scene.subscribe("/websocket?since=1")
        complete = await scene.subscribe(f"/websocket?since=3&epoch={scene.hub.log.epoch}")
        await settled()
        assert empty.got == [{"type": "gap", "reason": "expired", "first": 2, "last": 3}]
        assert complete.got == []
        scene.tell()
        await empty.wait_for(1)
        await complete.wait_for(1)
        assert empty.numbers == complete.numbers == [4]


# --- recovering over HTTP beside a live socket (R2) ---


class Merger:
    """A client that subscribes first, holds live messages back, fetches, merges and then releases."""

    def __init__(self, scene: Scene, have: int, epoch: str) -> None:
        self.scene = scene
        self.have = have
        self.epoch = epoch
        self.released: list[int] = []

    async def run(self, until: int) -> None:
        live = await self.scene.subscribe()
        missing = live.hello["head"] - self.have
        while missing > 0:
            page = await self.scene.messages(self.have, epoch=self.epoch, limit=3)
            assert page["gap"] is None
            for number in numbers(page):
                assert number == self.have + 1
                self.released.append(number)
                self.have = number
            missing = live.hello["head"] - self.have
            await trio.sleep(0.05)
        while self.have < until:
            await live.wait_for(1)
            for number in [number for number in live.numbers if number > self.have]:
                assert number == self.have + 1, "a hole"
                self.released.append(number)
                self.have = number
            if self.have < until:
                await live.changed.park()


@pytest.mark.contract("R2", "H4")
@pytest.mark.parametrize("seed", range(5))
async def test_fetching_beside_a_live_socket_gives_each_message_once(
    autojump_clock: MockClock, seed: int
) -> None:
    random = Random(seed)
    async with open_hub(limits=limits(), log=small_log(max_messages=1000)) as scene:
        scene.tell(20)
        mergers = [Merger(scene, random.randrange(20), scene.hub.log.epoch) for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for merger in mergers:
                nursery.start_soon(merger.run, 100)
                await trio.sleep(random.uniform(0, 0.05))
                scene.tell(random.randrange(3))
            while scene.hub.log.head < 100:
                await trio.sleep(random.uniform(0, 0.1))
                scene.tell()
        for merger in mergers:
            assert merger.released == list(range(merger.released[0], 101))


# --- a hub that starts anew (H3) ---


@pytest.mark.contract("H3", "H5", "R4")
async def test_a_hub_that_lost_its_past_has_a_new_epoch_and_says_so(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        async with serving(gateway, signal) as scene:
            before = await scene.subscribe()
            scene.tell(5)
            await before.wait_for(5)
        async with serving(gateway, signal) as scene:
            scene.tell(7)
            epoch = before.hello["epoch"]
            assert scene.hub.log.epoch != epoch
            after = await scene.subscribe(f"/websocket?since=5&epoch={epoch}")
            await after.wait_for(7)
            assert after.got[0] == {"type": "gap", "reason": "epoch_changed", "first": None, "last": None}
            assert after.numbers == [1, 2, 3, 4, 5, 6, 7]
            recovered = await scene.messages(5, epoch=epoch)
            assert recovered["gap"]["reason"] == "epoch_changed"
            assert recovered["epoch"] == scene.hub.log.epoch
            assert numbers(recovered) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.contract("H3", "H10")
async def test_a_log_that_outlives_its_hub_goes_on_where_it_was(autojump_clock: MockClock) -> None:
    log = small_log()
    async with open_gateway() as gateway, connected(gateway) as signal:
        async with serving(gateway, signal, log=log) as scene:
            before = await scene.subscribe()
            scene.tell(3)
            scene.hub.shutdown()
            await scene.finished.wait()
            await before.ended.wait()
            assert before.code == CloseCode.GOING_DOWN
        gateway.deliver(text="while there was no hub")
        async with serving(gateway, signal, log=log) as scene:
            after = await scene.subscribe(f"/websocket?since=3&epoch={before.hello['epoch']}")
            await after.wait_for(1)
            scene.tell()
            await after.wait_for(2)
            assert before.numbers + after.numbers == [1, 2, 3, 4, 5]
            assert after.got[0]["data"]["envelope"]["dataMessage"]["message"] == "while there was no hub"


# --- a storm of clients that come back (H12) ---


@pytest.mark.contract("H12", "H2", "R1")
async def test_after_a_storm_everybody_has_everything(autojump_clock: MockClock) -> None:
    """All lose their connection at once and come back as they are told to; none misses or doubles any."""
    few = limits(recovery_rate=10, recovery_burst=5, heartbeat_interval=5)
    async with open_hub(limits=few, log=small_log(max_messages=2000)) as scene:
        got: list[list[int]] = [[] for _ in range(30)]
        refused = 0

        async def come_back(index: int) -> None:
            nonlocal refused
            while True:
                visitor = await scene.visit(token=scene.token(f"client {index}"))
                target = f"/websocket?since={len(got[index])}&epoch={scene.hub.log.epoch}"
                reply = await visitor.upgrade(target)
                if reply.status == 429:
                    refused += 1
                    await trio.aclose_forcefully(visitor.stream)
                    await trio.sleep(int(reply.headers["retry-after"]))
                    continue
                await follow(visitor, got[index])
                return

        async with trio.open_nursery() as nursery:
            live = await scene.subscribe()
            for _ in range(2):
                for index in range(30):
                    nursery.start_soon(come_back, index)
                for _ in range(100):
                    await trio.sleep(0.2)
                    scene.tell()
                head = scene.hub.log.head
                with trio.fail_after(60):
                    while min(map(len, got)) < head:  # noqa: ASYNC110
                        await trio.sleep(1)
                assert all(numbers == list(range(1, head + 1)) for numbers in got)
                assert live.numbers == list(range(1, head + 1))
                for visitor in scene.visitors:
                    if visitor is not live.visitor:
                        visitor.vanish(reset=True)
                await gone(scene, left=1)
        assert refused > 20


async def follow(visitor: Visitor, into: list[int]) -> None:
    """Append the numbers that come until the connection ends."""
    subscriber = Subscriber(visitor, await visitor.told())
    while frame := await visitor.frame():
        await subscriber._take(frame)
        into += subscriber.numbers
        subscriber.got.clear()

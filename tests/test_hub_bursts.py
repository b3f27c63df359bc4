"""What waits at the hub together is handed out together; of thousands a few at a time get their heartbeat."""

import json
from itertools import chain
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import Scene, frames_in, limits, open_hub, small_log
from tests.scene import settled
from tests.shelf import Shelf
from trio_signal import Gap, GapReason
from trio_signal._decoding import decode_frame
from trio_signal.hub import _hub
from trio_signal.testing._frames import Opcode


def numbers(write: bytes) -> list[int]:
    """The numbers of the messages that were written together."""
    told = [frame.json for frame in frames_in(bytearray(write)) if frame.opcode is Opcode.TEXT]
    return [frame["sequence_number"] for frame in told if "sequence_number" in frame]


def attend(scene: Scene) -> Shelf:
    """Be connected, live, as one of its clients."""
    shelf = Shelf(last_received=trio.current_time())
    scene.hub.connections.connect(shelf, subject="somebody", remote="192.0.2.1", heartbeat_interval=20)
    return shelf


def writes_of(shelf: Shelf) -> list[list[int]]:
    """The numbers of the messages in each write that has any."""
    assert shelf.ending is None, "nobody is too slow"
    return [written for write in shelf.frames if (written := numbers(write))]


def arrive(scene: Scene, *items: str | Gap) -> None:
    """Have these in the client's inbox at once: texts of messages, and gaps."""
    for item in items:
        event = item if isinstance(item, Gap) else decode_frame(json.dumps({"envelope": {"x": item}}))
        scene.signal._inbox.add(event, time=0)


@pytest.mark.contract("H1", "H11")
async def test_what_waits_at_the_pump_is_one_write_for_each_client(autojump_clock: MockClock) -> None:
    async with open_hub(log=small_log(max_messages=1000)) as scene:
        shelves = [attend(scene) for _ in range(3)]
        arrive(scene, *map(str, range(500)))
        await settled()
        first, *others = [writes_of(shelf) for shelf in shelves]
        assert [*chain(*first)] == list(range(1, 501))
        assert others == [first, first]
        assert len(first) <= 500 / 16
        assert max(map(len, first)) <= 64
        assert scene.hub.connections.delivered == 1500


@pytest.mark.contract("H11")
async def test_what_is_written_together_is_bounded_in_bytes(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        shelf = attend(scene)
        arrive(scene, *["x" * 10_000] * 20)
        await settled()
        written = writes_of(shelf)
        assert [*chain(*written)] == list(range(1, 21))
        assert max(map(len, written)) == 2


@pytest.mark.contract("H1")
async def test_gaps_and_messages_that_wait_keep_their_order(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        shelf = attend(scene)
        arrive(scene, "one", "two", Gap(GapReason.GATEWAY, 1, 2), "three")
        await settled()
        assert [*chain(*writes_of(shelf))] == [1, 2, 3, 4]
        entries: list[Any] = [json.loads(entry.body) for entry in scene.hub.log.since(0).messages]
        assert [entry["type"] for entry in entries] == ["message", "message", "gap", "message"]
        assert (scene.hub.board.received, scene.hub.board.gap_counts.total()) == (3, 1)


@pytest.mark.contract("H2")
async def test_of_many_clients_not_all_get_their_heartbeat_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hub, "_BEATS", 4)
    async with open_hub(limits=limits(heartbeat_interval=10)) as scene:
        start = trio.current_time()
        subscribers = [await scene.subscribe() for _ in range(10)]
        await trio.sleep(35)
        for place, subscriber in enumerate(subscribers):
            late = place // 4 * 0.02
            assert [time - start for time, _ in subscriber.beats] == pytest.approx(
                [10 + late, 20 + late, 30 + late], abs=1e-6
            )
            assert subscriber.pings == 3
        assert scene.hub.counters.heartbeats == 30

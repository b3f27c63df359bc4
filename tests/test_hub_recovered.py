"""Answers to who was away: built once for all who ask the same, never given when they are no longer true."""

import json
from typing import Any, Final

import pytest
from trio.testing import MockClock

from tests.hubs import open_hub
from trio_signal.hub import MessageLog
from trio_signal.hub._exchange import Answer, Stream
from trio_signal.hub._recovered import Recovered
from trio_signal.hub.connections import ConnectionManager

KIB: Final = 1024


class Scene:
    """A log whose clock a test sets, and what answers from it."""

    def __init__(self, **limits: Any) -> None:
        self.now = 0.0
        self.log = MessageLog(clock=lambda: self.now, **limits)
        self.recovered = Recovered(ConnectionManager(self.log, wall=lambda: 0))

    def tell(self, count: int = 1, size: int = 10) -> None:
        for _ in range(count):
            self.log.append(b'"%b"' % (b"x" * size), timestamp=0)

    def ask(self, since: int, epoch: str | None = None, limit: int | None = None) -> tuple[Answer, Any]:
        answer, count = self.recovered.since(since, epoch, limit)
        assert not isinstance(answer.body, bytes | Stream)
        assert answer.status == 200
        page = json.loads(b"".join(answer.body))
        assert len(page["messages"]) == count
        return answer, page


def numbers(page: Any) -> list[int]:
    return [message["sequence_number"] for message in page["messages"]]


def test_who_asks_the_same_gets_the_very_same() -> None:
    scene = Scene()
    scene.tell(5)
    first, page = scene.ask(2)
    assert numbers(page) == [3, 4, 5]
    assert scene.ask(2)[0] is first
    assert scene.ask(2, scene.log.epoch)[0] is not first
    assert scene.ask(2, "another")[1]["gap"]["reason"] == "epoch_changed"
    assert numbers(scene.ask(2, limit=1)[1]) == [3]
    assert numbers(scene.ask(3)[1]) == [4, 5]
    assert scene.ask(2)[0] is first


@pytest.mark.contract("H4", "H5")
def test_a_message_or_its_end_makes_another_answer() -> None:
    scene = Scene(max_messages=3, max_age=100.0)
    scene.tell(3)
    assert numbers(scene.ask(0)[1]) == [1, 2, 3]
    scene.tell()
    page = scene.ask(0)[1]
    assert (numbers(page), page["gap"]) == ([2, 3, 4], {"reason": "overwritten", "first": 1, "last": 1})
    scene.now = 101.0
    page = scene.ask(0)[1]
    assert (numbers(page), page["gap"]) == ([], {"reason": "expired", "first": 1, "last": 4})
    assert (page["head"], page["oldest"]) == (4, 5)


def test_a_draft_makes_none() -> None:
    scene = Scene()
    scene.tell()
    first, _ = scene.ask(0)
    scene.log.draft(b"1", timestamp=0)
    assert scene.ask(0)[0] is first
    scene.log.publish(2)
    assert numbers(scene.ask(0)[1]) == [1, 2]


def test_what_is_kept_is_bounded_in_number_and_bytes() -> None:
    scene = Scene(max_messages=10_000)
    scene.tell(100)
    first, _ = scene.ask(0)
    for limit in range(1, 16):
        scene.ask(0, limit=limit)
    assert scene.ask(0)[0] is first
    scene.ask(0, limit=16)
    assert scene.ask(0)[0] is not first
    scene.tell(30, 100 * KIB)
    first, _ = scene.ask(0)
    assert scene.ask(0)[0] is first
    scene.ask(1)
    assert scene.ask(0)[0] is not first


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("over", [0, 1])
def test_what_is_kept_has_4_mib_and_not_a_byte_more(count: int, over: int) -> None:
    """That is one answer, or two together. Each time the log goes on there is all of the room again."""

    def ask(scene: Scene) -> list[Answer]:
        return [scene.ask(number, limit=1)[0] for number in range(count)]

    bare = Scene()
    bare.tell(count + 1, size=0)
    size = 4 * KIB * KIB + over - sum(map(size_of, ask(bare)))
    scene = Scene()
    scene.tell(size=size // count)
    if count == 2:
        scene.tell(size=size - size // count)
    for _ in range(3):
        scene.tell()
        answers = ask(scene)
        assert sum(map(size_of, answers)) == 4 * KIB * KIB + over
        if count == 2:
            assert scene.ask(1, limit=1)[0] is answers[1]
        assert (scene.ask(0, limit=1)[0] is answers[0]) == (over == 0)


def size_of(answer: Answer) -> int:
    assert isinstance(answer.body, list)
    return sum(map(len, answer.body))


def test_a_very_long_answer_is_the_logs_own_bytes() -> None:
    scene = Scene()
    scene.tell(50, 100 * KIB)
    first, _ = scene.ask(0)
    assert scene.ask(0)[0] is not first
    body = scene.log.since(0).messages[7].body
    assert not isinstance(first.body, bytes | Stream)
    assert any(piece is body for piece in first.body)


def test_a_long_answer_is_kept_as_it_is_written() -> None:
    scene = Scene()
    scene.tell(300, KIB)
    answer, _ = scene.ask(0)
    assert max(map(len, answer.wire)) <= 64 * KIB
    assert len(answer.wire) == 5
    head, _, body = b"".join(answer.wire).partition(b"\r\n\r\n")
    assert isinstance(answer.body, list)
    assert body == b"".join(answer.body)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\nContent-Length: %d" % len(body))
    assert b"Connection" not in head


@pytest.mark.contract("H4")
async def test_the_same_on_the_wire(autojump_clock: MockClock) -> None:
    async with open_hub() as scene, await scene.visit() as visitor:
        scene.tell(3)
        first = await visitor.ask("/websocket/messages?since=1")
        assert numbers(first.json) == [2, 3]
        assert (await visitor.ask("/websocket/messages?since=1")).body == first.body
        scene.tell()
        assert numbers((await visitor.ask("/websocket/messages?since=1")).json) == [2, 3, 4]
        assert scene.hub.counters.recovered_messages == 2 + 2 + 3


@pytest.mark.contract("H4")
async def test_what_was_made_beforehand_is_for_who_stays_and_wants_the_body(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene, await scene.visit() as visitor:
        scene.tell(3)
        target = "/websocket/messages?since=1"
        first = await visitor.ask(target)
        assert "connection" not in first.headers
        asked = await visitor.ask(target, "HEAD")
        assert asked.headers["content-length"] == first.headers["content-length"]
        assert visitor.buffer == b""
        last = await visitor.ask(target, connection="close")
        assert (last.headers["connection"], last.body) == ("close", first.body)

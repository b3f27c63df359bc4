"""What all clients of a hub share: nobody takes it from the others, and each gets back what it gave."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.hubs import Scene, Visitor, limits, open_hub, serving
from tests.scene import open_client, open_gateway, settled
from trio_signal.hub._fairness import Memory, Recoveries, Share, Turns, Turnstile
from trio_signal.testing import daemon_down, hang

RECOVERY: Final = "/websocket/messages?since=0"
KIB: Final = 1024


def letter(size: int = 0) -> bytes:
    """Return the body of a send with a text of so many bytes."""
    return json.dumps({"recipients": ["+15550002"], "message": "hi" + "x" * size}).encode()


async def visit(scene: Scene, subject: str, *, window: int = 64 * KIB) -> Visitor:
    return await scene.visit(token=scene.token(subject), window=window)


async def status(scene: Scene, subject: str, target: str = RECOVERY) -> int:
    """Ask once on a connection of its own, and return the status at once."""
    async with await visit(scene, subject) as visitor:
        before = trio.current_time()
        reply = await visitor.ask(target)
        assert trio.current_time() == before
        return reply.status


def announce(visitor: Visitor, **framing: Any) -> bytes:
    """Return the head of a send."""
    return visitor.head("/v2/send", "POST", content_type="application/json", **framing)


# --- recoveries: how many at once ---


@pytest.mark.contract("H12")
async def test_who_has_got_its_answer_and_does_not_close_keeps_out_nobody(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_recoveries=4)) as scene:
        scene.tell(5)
        for _ in range(20):
            visitor = await visit(scene, "one of many in a storm")
            assert (await visitor.ask(RECOVERY, connection="close")).status == 200
        assert await status(scene, "somebody else") == 200
        assert trio.current_time() == 0


@pytest.mark.contract("H7", "H12")
async def test_slow_readers_of_one_subject_leave_room_for_others(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_recoveries=16)) as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 10_000))
        for _ in range(20):
            greedy = await visit(scene, "greedy", window=KIB)
            await greedy.write(greedy.head(RECOVERY))
        await settled()
        assert scene.hub.counters.recoveries == 4
        assert await status(scene, "greedy") == 429
        assert await status(scene, "modest") == 200
        # For what is streamed at its reader's pace over its own WebSocket there is no number to run out of.
        for subject in ("greedy", "modest"):
            socket = await visit(scene, subject)
            assert (await socket.open("/websocket?since=0"))["head"] == 100


@pytest.mark.contract("H12")
async def test_without_a_key_there_is_nobody_to_leave_room_for(autojump_clock: MockClock) -> None:
    async with open_hub(secured=False, limits=limits(max_recoveries=4)) as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 10_000))
        for _ in range(4):
            slow = await scene.visit(window=KIB)
            await slow.write(slow.head(RECOVERY))
        await settled()
        assert scene.hub.counters.recoveries == 4
        assert (await scene.ask(RECOVERY)).status == 429


@pytest.mark.contract("H12")
async def test_a_reader_that_is_gone_gives_its_place_back(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_recoveries=4)) as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 10_000))
        for _ in range(5):
            visitor = await visit(scene, "restless", window=KIB)
            await visitor.write(visitor.head(RECOVERY))
            await settled()
            assert await status(scene, "restless") == 429
            visitor.vanish(reset=True)
            await settled()
        assert await status(scene, "restless") == 200


# --- recoveries: how often ---


@pytest.mark.contract("H12")
async def test_one_subject_may_recover_at_a_quarter_of_the_rate(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(recovery_rate=8, recovery_burst=20)) as scene:
        greedy = [await status(scene, "greedy") for _ in range(20)]
        assert greedy == [200] * 5 + [429] * 15
        assert await status(scene, "greedy", "/websocket?since=0") == 426, "which is not yet a recovery"
        modest = [await status(scene, "modest") for _ in range(5)]
        assert modest == [200] * 5
        socket = await visit(scene, "greedy")
        assert (await socket.upgrade("/websocket?since=0")).status == 429
        await trio.sleep(1)
        assert [await status(scene, "greedy") for _ in range(3)] == [200, 200, 429]
        assert scene.hub.counters.recoveries_limited == 17


@pytest.mark.contract("H12")
@given(
    parts=st.integers(1, 6),
    burst=st.integers(1, 40),
    visits=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.01, 0.5])), max_size=300),
)
def test_neither_all_nor_one_have_more_than_is_theirs(
    parts: int, burst: int, visits: list[tuple[str, float]]
) -> None:
    async def main() -> None:
        recoveries = Recoveries(rate=20, burst=burst, at_once=1, parts=parts)
        taken: dict[str, int] = dict.fromkeys("abcdefgh", 0)
        for subject, pause in visits:
            await trio.sleep(pause)
            now = trio.current_time()
            own = burst / parts + 1 + now * 20 / parts
            wait = recoveries.take(subject)
            if wait == 0:
                taken[subject] += 1
                assert taken[subject] <= own + 1e-6
                assert sum(taken.values()) <= burst + now * 20 + 1e-6
            else:
                assert wait <= parts / 20 + 1e-6
                # Whoever has had little is refused only where all together have had much.
                assert taken[subject] + 1 > burst / parts or sum(taken.values()) + 1 > burst

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_only_so_many_subjects_are_remembered(autojump_clock: MockClock) -> None:
    """The one forgotten is the one that has not come for longest."""
    recoveries = Recoveries(rate=1e-9, burst=8000, at_once=1, parts=4000)
    refused = [recoveries.take(name) > 0 for name in ("early", "late", "late", "early", "late", "early")]
    assert refused == [False] * 4 + [True] * 2
    for number in range(999):
        assert recoveries.take(f"subject {number}") == 0
    assert recoveries.take("early") > 0, "it came once more after the other"
    assert recoveries.take("late") == 0, "forgotten"


# --- how many pass in one turn of the scheduler ---


class Passers:
    """Many who pass a turnstile, and somebody who has a turn whenever there is one."""

    def __init__(self) -> None:
        self.turnstile = Turnstile()
        self.passed: list[int] = []
        self.most = self.waited = 0

    async def run(self, count: int, size: int = 0, times: int = 1) -> None:
        """Have so many pass at once, each of whom writes so many bytes behind it."""
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.turnstile.turn)
                nursery.start_soon(self._watch)
                async with trio.open_nursery() as passers:
                    for number in range(count):
                        passers.start_soon(self._pass, number, size, times)
                nursery.cancel_scope.cancel()

    async def _pass(self, number: int, size: int, times: int) -> None:
        for _ in range(times):
            if not self.turnstile.passes():
                self.waited += 1
                await self.turnstile.wait()
            self.passed.append(number)
            self.turnstile.count(size)
            await trio.lowlevel.checkpoint()

    async def _watch(self) -> None:
        while True:
            before = len(self.passed)
            await trio.lowlevel.checkpoint()
            self.most = max(self.most, len(self.passed) - before)


async def test_those_who_are_few_never_wait(autojump_clock: MockClock) -> None:
    passers = Passers()
    await passers.run(8, times=500)
    assert passers.waited == 0
    assert len(passers.passed) == 4000


@pytest.mark.contract("H12")
@pytest.mark.parametrize(("size", "most"), [(0, 2 * 64), (8 * KIB, 2 * 32), (64 * KIB, 2 * 8)])
async def test_of_a_crowd_only_so_many_pass_in_one_turn(
    size: int, most: int, autojump_clock: MockClock
) -> None:
    passers = Passers()
    await passers.run(600, size, times=3)
    assert 4 <= passers.most <= most
    assert len(passers.passed) == 1800
    assert passers.waited > 1000


@pytest.mark.contract("H12")
async def test_who_waits_is_overtaken_by_nobody(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    went: list[int] = []

    async def go(number: int) -> None:
        await turnstile.wait()
        went.append(number)
        turnstile.count(64 * KIB)

    while turnstile.passes():
        turnstile.count(64 * KIB)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(go, number)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(turnstile.turn)
        await trio.lowlevel.checkpoint()
        while len(went) < 80:
            # While there is a queue, who comes stands behind it.
            assert not turnstile.passes()
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(went) == [*range(100)]
    # Those who are let through together run in any order.
    assert all(abs(number - place) < 10 for place, number in enumerate(went))


@pytest.mark.contract("H12")
async def test_nobody_waits_for_ever_where_writing_alone_has_used_up_the_room(
    autojump_clock: MockClock,
) -> None:
    turnstile = Turnstile()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.turn)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            assert turnstile.passes()
            turnstile.count(1024 * KIB)
            assert not turnstile.passes()
            with trio.fail_after(1):
                await turnstile.wait()
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_who_goes_away_while_waiting_keeps_out_nobody(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    while turnstile.passes():
        pass
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(turnstile.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.turn)
        with trio.fail_after(1):
            await turnstile.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert turnstile.passes()
        nursery.cancel_scope.cancel()


@pytest.mark.contract("H12")
async def test_a_crowd_that_asks_at_once_leaves_turns_to_others(autojump_clock: MockClock) -> None:
    most = 0
    async with open_hub(
        limits=limits(recovery_rate=1e6, recovery_burst=10_000, max_recoveries=1000)
    ) as scene:
        scene.tell(20)
        crowd = [await visit(scene, "crowd") for _ in range(120)]
        async with trio.open_nursery() as nursery:
            replies: list[int] = []

            async def ask(visitor: Visitor) -> None:
                replies.append((await visitor.ask(RECOVERY)).status)

            for visitor in crowd:
                nursery.start_soon(ask, visitor)
            while len(replies) < 120:
                before = scene.hub.counters.recoveries
                await trio.lowlevel.checkpoint()
                most = max(most, scene.hub.counters.recoveries - before)
        assert replies == [200] * 120
        assert 4 <= most <= 64
        for visitor in crowd:
            await trio.aclose_forcefully(visitor.stream)


# --- the memory that bodies take ---


@pytest.mark.contract("H7")
async def test_announcing_a_large_body_keeps_out_nobody(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for framing in ({"content_length": 16 * KIB * KIB}, {"transfer_encoding": "chunked"}):
            for _ in range(10):
                visitor = await visit(scene, "greedy")
                await visitor.write(announce(visitor, **framing))
        await settled()
        for size in (0, 1_000_000):
            assert (await scene.ask("/v2/send", "POST", body=letter(size))).status == 201
        assert trio.current_time() < 1


@pytest.mark.contract("H7")
async def test_small_messages_get_through_whatever_large_ones_wait(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_send_total=100 * KIB)) as scene:
        slow = await visit(scene, "slow")
        await slow.write(announce(slow, content_length=200 * KIB), b" " * (164 * KIB))
        await settled()
        for size, expected in ((0, 201), (63 * KIB, 201), (65 * KIB, 429)):
            assert (await scene.ask("/v2/send", "POST", body=letter(size))).status == expected
        slow.vanish()
        await settled()
        assert (await scene.ask("/v2/send", "POST", body=letter(65 * KIB))).status == 201


@pytest.mark.contract("H7")
async def test_a_body_counts_until_the_client_has_its_message(autojump_clock: MockClock) -> None:
    """What waits for the gateway is within the client's limits."""
    async with open_hub(limits=limits(max_send_total=100 * KIB)) as scene:
        scene.gateway.script_send(*[daemon_down()] * 100)
        for _ in range(3):
            visitor = await visit(scene, "sender")
            body = letter(150 * KIB)
            await visitor.write(announce(visitor, content_length=len(body)), body)
            await settled()
        assert scene.signal.statistics().buffer.outgoing.accepted == 3


@pytest.mark.contract("H7", "O3")
async def test_a_body_counts_while_the_client_has_no_room_for_its_message(autojump_clock: MockClock) -> None:
    async with (
        open_gateway() as gateway,
        open_client(gateway, overflow="wait", buffer_size=1) as signal,
        serving(gateway, signal, limits=limits(max_send_total=100 * KIB)) as scene,
    ):
        gateway.refuse(None)
        statuses: list[int] = []

        async def post() -> None:
            async with await visit(scene, "sender") as visitor:
                statuses.append((await visitor.ask("/v2/send", "POST", body=letter(150 * KIB))).status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(post)
                await settled()
            assert statuses == [429] * 2, "one is being sent, one is in the buffer, one stands before it"
            await trio.sleep(25)
        assert sorted(statuses) == [429] * 2 + [503] * 3
        gateway.heal()
        await trio.sleep(120)
        assert (await scene.ask("/v2/send", "POST", body=letter(150 * KIB))).status == 201


@pytest.mark.contract("H7")
@given(
    size=st.integers(0, 300_000),
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 120_000) | st.none()), max_size=60),
)
def test_no_more_is_taken_than_there_is_and_all_of_it_comes_back(
    size: int, steps: list[tuple[int, int | None]]
) -> None:
    memory = Memory(size)
    shares = [Share(memory) for _ in range(5)]
    came = [0] * 5
    for which, amount in steps:
        if amount is None:
            shares[which].give_back()
            shares[which], came[which] = Share(memory), 0
        elif shares[which].take(amount):
            came[which] += amount
        else:
            # It is over for that one.
            assert sum(max(0, n - 64 * KIB) for n in came) + amount > size
            shares[which].give_back()
            shares[which], came[which] = Share(memory), 0
        assert memory.left == size - sum(max(0, n - 64 * KIB) for n in came)
        assert memory.left >= 0
    for share in shares:
        share.give_back()
        share.give_back()
    assert memory.left == size


# --- tickets ---


@pytest.mark.contract("H9")
async def test_a_ticket_is_used_up_by_who_gets_in(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        ticket = (await scene.ask("/websocket/ticket", "POST")).json["ticket"]
        target = f"/websocket?ticket={ticket}"
        visitor = await scene.visit(token=None)
        for query in ("&since=x", "&epoch=", "&ticket=again"):
            assert (await visitor.upgrade(target + query)).status == 422
        assert (await visitor.upgrade(target, sec_websocket_version="12")).status == 426
        assert (await visitor.upgrade(target, sec_websocket_key="short")).status == 400
        assert (await visitor.upgrade(target)).status == 101
        assert (await (await scene.visit(token=None)).upgrade(target)).status == 401


# --- web pages that name no origin ---


@asynccontextmanager
async def a_page_allowed(*, secured: bool) -> AsyncGenerator[Scene]:
    async with open_hub(secured=secured, allowed_origins=["https://friend.example"]) as scene:
        yield scene


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_cannot_ask_as_if_for_an_image(
    secured: bool, site: str, autojump_clock: MockClock
) -> None:
    async with a_page_allowed(secured=secured) as scene:
        visitor = await scene.visit()
        for target in (RECOVERY, "/status", "/healthz", "/", "/nothing", "/page/page.js"):
            for mode in ("no-cors", "cors", "websocket", None):
                reply = await visitor.ask(target, sec_fetch_site=site, sec_fetch_mode=mode)
                assert reply.status == 403
        assert (await visitor.ask(RECOVERY, sec_fetch_site=site, sec_fetch_mode="navigate")).status == 403
        assert (await visitor.upgrade(sec_fetch_site=site)).status == 403
        assert scene.hub.counters.recoveries == 0


@pytest.mark.parametrize("secured", [False, True])
async def test_whom_a_browser_says_to_be_welcome_is_welcome(secured: bool, autojump_clock: MockClock) -> None:
    async with a_page_allowed(secured=secured) as scene:
        visitor = await scene.visit()
        for site in ("same-origin", "none", None):
            assert (await visitor.ask(RECOVERY, sec_fetch_site=site)).status == 200
        followed = await visitor.ask("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
        assert followed.status == 200
        for origin in ("https://friend.example", f"http://{scene.host}"):
            # Browsers do not agree on what site a WebSocket's page is of; the origin they all tell.
            reply = await visitor.ask(RECOVERY, origin=origin, sec_fetch_site="cross-site")
            assert reply.status == 200
        foreign = await visitor.ask(RECOVERY, origin="https://evil.example", sec_fetch_site="same-origin")
        assert foreign.status == 403


# --- sends under way at a shutdown ---


@pytest.mark.contract("H10", "O6")
async def test_who_waits_for_an_outcome_at_a_shutdown_is_told_what_is_known(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene:
        scene.gateway.script_send(hang())
        visitors = [await visit(scene, f"sender {number}") for number in range(3)]
        for visitor in visitors:
            body = letter()
            await visitor.write(announce(visitor, content_length=len(body)), body)
            await settled()
        scene.hub.shutdown()
        replies = [await visitor.reply() for visitor in visitors]
        assert [(reply.status, reply.json["certainty"]) for reply in replies] == [
            (504, "unknown"),
            (503, "not_sent"),
            (503, "not_sent"),
        ]
        assert {reply.headers["connection"] for reply in replies} == {"close"}
        assert trio.current_time() == 4
        for visitor in visitors:
            assert await visitor.rest() == b""
            await visitor.stream.aclose()
        await scene.finished.wait()
        assert trio.current_time() < 5
        assert len(scene.gateway.received) == 1


@pytest.mark.contract("H10")
async def test_what_is_sent_in_time_at_a_shutdown_is_told_as_sent(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.gateway.script_send(daemon_down())
        visitor = await visit(scene, "sender")
        body = letter()
        await visitor.write(announce(visitor, content_length=len(body)), body)
        await settled()
        scene.hub.shutdown()
        assert (await visitor.reply()).status == 201
        assert trio.current_time() < 4


# --- turns ---


async def test_each_has_its_turn_in_the_order_of_asking_and_nothing_is_left(
    autojump_clock: MockClock,
) -> None:
    turns, order = Turns(), list[str]()

    async def have(who: str, name: str) -> None:
        await turns.wait(who)
        order.append(f"{name} at {trio.current_time():g}")
        await trio.sleep(1)
        turns.end(who)

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(have, "greedy", f"greedy {n}")
            await settled()
        nursery.start_soon(have, "modest", "modest")
        with trio.move_on_after(0.5) as given_up:
            await turns.wait("greedy")
        assert given_up.cancelled_caught
    assert order == ["greedy 0 at 0", "modest at 0", "greedy 1 at 1", "greedy 2 at 2"]
    assert not turns._queues

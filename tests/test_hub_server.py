"""``serve_hub()``: what it refuses, how it runs, and how it ends, by a shutdown or at any checkpoint."""

import json
import logging
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.hubs import (
    KEY,
    Scene,
    Visitor,
    limits,
    open_hub,
    open_real_hub,
    serving,
    small_log,
)
from tests.scene import (
    closing_within,
    connected,
    living_tasks,
    logged,
    open_gateway,
    settled,
    texts_at,
    wall_time,
)
from tests.test_cancellation import cancelled_at, sweep
from trio_signal import ConfigurationError, SignalClient
from trio_signal.hub import Authenticator, HubLimits, make_token, serve_hub
from trio_signal.testing import MemoryListener, ok, slow


def letter(text: str = "hi") -> bytes:
    return json.dumps({"message": text, "recipients": ["+15550002"]}).encode()


# --- what is refused ---


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
async def test_without_a_key_it_listens_on_loopback_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        for host in ("0.0.0.0", "", "::", "192.0.2.1", "hub.example", "127.0.0.1.example"):
            with pytest.raises(ConfigurationError, match="loopback") as caught:
                await serve_hub(signal, host=host)
            assert caught.value.argument == "key"
        assert logged(caplog.records, logging.WARNING) == []
    async with open_hub(secured=False):
        [warning] = logged(caplog.records, logging.WARNING)
        assert "no key" in warning, "and says so"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("key", "a secret"),
        ("key", KEY),
        ("ssl_context", True),
        ("log", []),
        ("limits", {"max_connections": 1}),
        ("allowed_origins", "https://board.example"),
        ("allowed_origins", ["board.example"]),
        ("allowed_origins", ["https://board.example/"]),
        ("allowed_origins", ["*"]),
        ("allowed_origins", [None]),
    ],
)
async def test_a_wrong_argument_is_named_and_nothing_is_started(
    autojump_clock: MockClock, option: str, value: Any
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        before = living_tasks()
        options: dict[str, Any] = {"key": Authenticator(KEY), option: value}
        with pytest.raises(ConfigurationError) as caught:
            await serve_hub(signal, **options)
        assert caught.value.argument == option
        assert "secret" not in str(caught.value)
        assert living_tasks() == before


@pytest.mark.parametrize("name", HubLimits.__dataclass_fields__)
def test_each_limit_is_checked(name: str) -> None:
    wrong: Any
    for wrong in (-1, "1", None, float("nan")):
        with pytest.raises(ConfigurationError, match=name):
            HubLimits(**{name: wrong})
    if name != "shutdown_spread":
        with pytest.raises(ConfigurationError, match=name):
            HubLimits(**{name: 0})
    assert HubLimits(shutdown_spread=0).shutdown_spread == 0


# --- the pump (H11) ---


@pytest.mark.contract("H11")
async def test_the_pump_waits_for_no_client(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_queue=1000)) as scene:
        stuck = [await scene.visit(window=256) for _ in range(5)]
        for visitor in stuck:
            await visitor.open()
        quick = await scene.subscribe()
        start = trio.current_time()
        for number in range(500):
            scene.gateway.deliver(text=str(number))
        await quick.wait_for(500)
        assert trio.current_time() == start
        assert all(figures.sequence == 500 for figures in scene.hub.statistics())
        assert scene.hub.board.longest_pause > 0
        assert b"\ntrio_signal_hub_reader_longest_pause_seconds " in scene.hub.metrics()


@pytest.mark.contract("H11")
async def test_others_get_their_turn_while_there_is_much_to_hand_out(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        # All of it waits in the client's inbox before the hub is there.
        for number in range(2000):
            gateway.deliver(text=str(number))
        await settled()
        assert signal.statistics().inbox.waiting == 2000
        async with serving(gateway, signal, log=small_log(max_messages=2000)) as scene:
            turns = [scene.hub.log.head]
            while scene.hub.log.head < 2000:
                await trio.lowlevel.checkpoint()
                turns.append(scene.hub.log.head)
            steps = [later - earlier for earlier, later in pairwise(turns)]
            # One turn of ours may stand between two of the pump's.
            assert max(steps) <= 2 * 256


@pytest.mark.contract("H11")
async def test_what_holds_up_every_task_holds_up_the_pump(mock_clock: MockClock) -> None:
    async with open_real_hub() as scene:
        await settled()
        mock_clock.jump(1.75)
        await settled()
        assert scene.hub.board.longest_pause == pytest.approx(0.75)
        mock_clock.jump(1.25)
        await settled()
        assert scene.hub.board.longest_pause == pytest.approx(0.75), "the longest one"


@pytest.mark.contract("H7")
async def test_it_says_so_if_connections_could_use_up_all_descriptors(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(limits=limits(max_connections=10)):
        assert logged(caplog.records, logging.WARNING) == []
    async with open_hub(limits=limits(max_connections=10**9)):
        [warning] = logged(caplog.records, logging.WARNING)
        assert "1000000336" in warning


# --- shutdown (H10) ---


@pytest.mark.contract("H10")
async def test_a_send_under_way_gets_its_answer(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.gateway.script_send(slow(3))
        visitor, waiting = await scene.visit(), await scene.visit()
        for sender, text in ((visitor, "first"), (waiting, "second")):
            body = letter(text)
            head = sender.head("/v2/send", "POST", content_type="application/json", content_length=len(body))
            await sender.write(head, body)
            await settled()
        scene.hub.shutdown()
        for sender in (visitor, waiting):
            reply = await sender.reply()
            assert reply.status == 201
            assert reply.headers["connection"] == "close"
            assert await sender.rest() == b""
            sender.vanish()
        with closing_within(0.1):
            await scene.finished.wait()
        assert texts_at(scene.gateway) == ["first", "second"]


@pytest.mark.contract("H10")
async def test_a_send_that_takes_too_long_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.gateway.script_send(slow(50), ok())
        senders = [await scene.visit() for _ in range(2)]
        for sender in senders:
            body = letter()
            head = sender.head("/v2/send", "POST", content_type="application/json", content_length=len(body))
            await sender.write(head, body)
            await settled()
        scene.hub.shutdown()
        with closing_within(5):
            await scene.finished.wait()
        under_way, waiting = [await sender.reply() for sender in senders]
        assert (under_way.status, under_way.json["certainty"]) == (504, "unknown")
        assert (waiting.status, waiting.json["certainty"]) == (503, "not_sent")
        await trio.sleep(100)
        assert len(scene.gateway.received) == 1, "what still waited was taken back"


@pytest.mark.contract("H10")
async def test_nobody_is_let_in_any_more(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        idle = await scene.visit()
        await idle.ask("/healthz")
        begun = await scene.visit()
        await begun.write(b"GET /healthz HTTP/1.1\r\n")
        await settled()
        scene.hub.shutdown()
        scene.hub.shutdown()
        assert scene.hub.stopping
        with closing_within(0.1):
            await scene.finished.wait()
        assert await idle.rest() == await begun.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await scene.dial()


@pytest.mark.contract("H10")
async def test_on_a_port_nobody_is_let_in_any_more() -> None:
    async with open_real_hub() as scene:
        subscriber = await scene.subscribe()
        scene.hub.shutdown()
        await scene.finished.wait()
        await subscriber.ended.wait()
        assert subscriber.code == 1012
        assert [frame["type"] for frame in subscriber.got] == ["goodbye"]
        with pytest.raises(OSError, match="all attempts"):
            await scene.dial()


@pytest.mark.contract("H10")
async def test_who_comes_at_the_very_moment_is_told_to_come_back_or_nothing(
    autojump_clock: MockClock,
) -> None:
    statuses: set[int | None] = set()
    for turns in range(8):
        async with open_hub() as scene:
            visitor, sender, prober = [await scene.visit() for _ in range(3)]
            await settled()
            scene.hub.shutdown()
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            send = sender.head("/v2/send", "POST", content_type="application/json", content_length=2)
            with suppress(trio.BrokenResourceError):
                await visitor.write(visitor.handshake())
                await sender.write(send)
                await prober.write(prober.head("/readyz"))
            for asker in (visitor, sender, prober):
                answer = await asker.rest()
                statuses.add(int(answer.split(b" ")[1]) if answer else None)
            await scene.finished.wait()
            assert scene.hub.counters.websockets_opened == 0
    assert statuses == {503, None}


@pytest.mark.contract("H10")
async def test_when_its_client_is_closed_the_hub_ends_in_order(autojump_clock: MockClock) -> None:
    leave = trio.Event()

    async def be_client(given: trio.MemorySendChannel[SignalClient]) -> None:
        async with connected(gateway) as signal:
            given.send_nowait(signal)
            await leave.wait()

    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[SignalClient](1)
        nursery.start_soon(be_client, send)
        async with serving(gateway, await receive.receive()) as scene:
            subscriber = await scene.subscribe()
            gateway.deliver(text="the last")
            await subscriber.wait_for(1)
            leave.set()
            with closing_within(2.5):
                await scene.finished.wait()
            await subscriber.ended.wait()
            assert subscriber.code == 1012
            assert subscriber.numbers == [1]


@pytest.mark.contract("R5", "H1")
async def test_what_its_client_must_have_acknowledged_it_acknowledges(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, acknowledge=True, inbox_size=3) as signal:
        async with serving(gateway, signal, secured=False) as scene:
            subscriber = await scene.subscribe()
            for n in range(10):
                gateway.deliver(text=f"text {n}")
                await settled()
            await subscriber.wait_for(10)
            assert subscriber.numbers == list(range(1, 11))
            assert signal.statistics().inbox.unacknowledged == 0


@pytest.mark.contract("H10")
async def test_cancelled_it_says_goodbye_all_the_same(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        before = living_tasks()
        listener, key = MemoryListener(), Authenticator(KEY, clock=wall_time)
        token = make_token(KEY, "somebody", ttl=100, clock=wall_time)
        visitors: list[Visitor] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(serve_hub, signal, listeners=[listener], key=key, wall_clock=wall_time)
            )
            for _ in range(20):
                visitor = Visitor(await listener.connect(), "127.0.0.1", token)
                await visitor.open()
                visitors.append(visitor)
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - cancelled <= 0.25
        for visitor in visitors:
            assert (await visitor.told())["type"] == "goodbye"
            assert await visitor.close_code() == 1012
        assert living_tasks() == before


# --- cancelled anywhere ---


@pytest.mark.contract("H10")
@pytest.mark.parametrize("orderly", [False, True], ids=["while it runs", "while it shuts down"])
async def test_it_can_be_cancelled_at_any_checkpoint(
    autojump_clock: MockClock, orderly: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ends: set[int | None] = set()
    async with open_gateway() as gateway, connected(gateway) as signal:
        await settled()
        before = living_tasks()

        async def play(step: int) -> bool:
            listeners = [MemoryListener(), MemoryListener()]
            visitors: list[Visitor] = []

            async def use() -> None:
                async with serving(gateway, signal, listeners=listeners) as scene:
                    await _use(scene, listeners, visitors)
                    if orderly:
                        scene.hub.shutdown()
                        await scene.finished.wait()

            came_that_far = await cancelled_at(step, use, of_any_task=True)
            with trio.fail_after(3):
                for visitor in visitors:
                    ends.add(await visitor.close_code() if visitor.upgraded else None)
                    await visitor.rest()
                while living_tasks() > before:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            for listener in listeners:
                with pytest.raises(ConnectionRefusedError):
                    await listener.connect()
            return came_that_far

        assert await sweep(play) > 50
    assert 1012 in ends
    assert logged(caplog.records, logging.ERROR) == []


async def _use(scene: Scene, listeners: list[MemoryListener], visitors: list[Visitor]) -> None:
    """Have somebody live, somebody catching up, and somebody who asks."""
    for listener in (listeners[0], listeners[1], listeners[0]):
        visitors.append(Visitor(await listener.connect(), scene.host, scene.token()))
    live, late, asker = visitors
    await live.open()
    scene.tell(3)
    await late.open("/websocket?since=0")
    assert (await asker.ask("/websocket/messages?since=0")).status == 200
    assert (await asker.ask("/v2/send", "POST", letter())).status == 201
    await late.told()

"""A client on a real hub, in memory: what it missed, in order, once, or a gap in its place."""

import functools
import json
import random
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.hubs import KEY, Scene, limits, open_hub, serving, small_log
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EXACT,
    PEER,
    RECONNECTING,
    check_history,
    check_ledger,
    collect,
    connected,
    open_gateway,
    outcome_of,
    outcomes_of,
    record,
    saved,
    send_all,
    settled,
    texts_at,
    texts_in,
    wait_done,
    wall_ms,
    wall_time,
)
from tests.test_cancellation import cancelled_at, sweep
from trio_signal import (
    Backoff,
    Certainty,
    ChallengeRequired,
    Cursor,
    Dropped,
    DropReason,
    Failed,
    Gap,
    GapReason,
    GatewayRefused,
    OutgoingMessage,
    Reason,
    ReceivedMessage,
    Sent,
    SignalClient,
    StateChange,
    UnknownAccount,
    open_signal_client,
)
from trio_signal._dial import Connect
from trio_signal.hub import make_token
from trio_signal.testing import (
    FakeGateway,
    FaultProxy,
    MemoryListener,
    MemoryStream,
    daemon_down,
    error,
    hang,
    lost,
    open_fault_proxy,
    partial,
    rate_limited,
    slow,
)

URL = "http://127.0.0.1:8080"
ACCOUNT = "+15550001"

Opening = AbstractAsyncContextManager[SignalClient]


def client_at(connect: Connect, url: str = URL, account: str = ACCOUNT, **options: Any) -> Opening:
    """Open a client on whichever hub is reached so."""
    defaults: dict[str, Any] = {
        "gateway": "hub",
        "connect": connect,
        "wall_clock": wall_time,
        "backoff": EXACT,
        "token": lambda: make_token(KEY, "somebody", ttl=30 * 86_400, clock=wall_time),
    }
    return open_signal_client(url, account, **(defaults | options))


def client_of(scene: Scene, **options: Any) -> Opening:
    """Open a client on a hub."""
    assert scene.listener is not None
    return client_at(options.pop("connect", scene.listener.connect), **options)


@asynccontextmanager
async def up(scene: Scene, **options: Any) -> AsyncGenerator[SignalClient]:
    """Open a client on a hub and wait until it is connected."""
    async with client_of(scene, **options) as signal:
        with trio.fail_after(60):
            await signal.wait_state(CONNECTED)
        yield signal


@asynccontextmanager
async def through_a_proxy(scene: Scene, **options: Any) -> AsyncGenerator[tuple[SignalClient, FaultProxy]]:
    """Open a connected client with a proxy between it and the hub."""
    assert scene.listener is not None
    async with open_fault_proxy("127.0.0.1", 8080, port=None, connect=scene.listener.connect) as proxy:
        async with up(scene, connect=proxy.connect, **options) as signal:
            yield signal, proxy


async def take(signal: SignalClient, count: int) -> list[Any]:
    """Take events from the inbox."""
    events, taken = signal.events(), list[Any]()
    with trio.fail_after(300):
        await trio.lowlevel.checkpoint()
        while len(taken) < count:
            taken.append(await anext(events))
    return taken


def deliver(scene: Scene, *texts: str) -> list[str]:
    """Have the gateway deliver messages to the hub."""
    for text in texts:
        scene.gateway.deliver(text=text)
    return list(texts)


def words(start: int, count: int) -> list[str]:
    return [f"m{n}" for n in range(start, start + count)]


async def lose(signal: SignalClient) -> None:
    """Wait until a client has noticed that its link is gone."""
    async for change in signal.state_changes():
        if change.current is DISCONNECTED:
            return


# --- What was missed. ---


@pytest.mark.contract("R1", "R2", "H2")
@pytest.mark.parametrize("away", [0, 1, 7, 400])
async def test_a_client_that_was_away_gets_exactly_what_it_missed(
    autojump_clock: MockClock, away: int
) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        expected = deliver(scene, *words(0, 3))
        await settled()
        proxy.refuse()
        proxy.drop()
        await lose(signal)
        expected += deliver(scene, *words(3, away))
        await trio.sleep(100)
        proxy.heal()
        await signal.wait_state(CONNECTED)
        expected += deliver(scene, "end")
        assert texts_in(await take(signal, len(expected))) == expected
        figures = signal.statistics().receiving
        assert (figures.received, figures.duplicates, figures.gaps) == (len(expected), 0, 0)


@pytest.mark.contract("R5", "H3")
@pytest.mark.parametrize("taken", [0, 1, 4, 5])
async def test_a_new_process_resumes_behind_what_the_last_one_took(
    autojump_clock: MockClock, taken: int
) -> None:
    async with open_hub(limits=limits()) as scene:
        async with up(scene) as signal:
            texts = deliver(scene, *words(0, 5))
            await settled()
            await take(signal, taken)
            cursor = saved(signal.cursor)
        assert cursor == signal.cursor
        assert (cursor.epoch, cursor.sequence) == (scene.hub.log.epoch, taken)
        texts += deliver(scene, "between")
        # As a program would store it.
        again = Cursor(
            **json.loads(json.dumps({"time": cursor.time, "epoch": cursor.epoch, "sequence": taken}))
        )
        async with up(scene, cursor=again) as signal:
            texts += deliver(scene, "after")
            assert texts_in(await take(signal, len(texts) - taken)) == texts[taken:]
            assert signal.statistics().receiving.gaps == 0


@pytest.mark.contract("C3", "R2", "H2")
async def test_connected_is_told_when_everything_missed_is_in_the_inbox(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        cursor = saved(signal.cursor)
        deliver(scene, *words(0, 300))
        await settled()
        # So slow a line that the rest keeps coming while the first of it is being sent.
        proxy.latency, proxy.slice_size = 1.0, 500
        waiting: list[int] = []

        async with client_of(scene, connect=proxy.connect, cursor=cursor) as late:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(note_what_waits, late, waiting)
                for n in range(10):
                    await trio.sleep(0.5)
                    deliver(scene, f"n{n}")
                await late.wait_state(CONNECTED)
                await settled()
                tasks.cancel_scope.cancel()
            assert waiting[0] >= 300
            assert texts_in(await take(late, 310)) == [*words(0, 300), *(f"n{n}" for n in range(10))]


async def note_what_waits(signal: SignalClient, waiting: list[int]) -> None:
    async for change in signal.state_changes():
        if change.current is CONNECTED:
            waiting.append(signal.statistics().inbox.waiting)


@pytest.mark.contract("R4", "R3", "H5")
async def test_what_was_overwritten_is_a_gap_in_its_place(autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {"limits": limits(), "log": small_log(max_messages=5)}
    async with open_hub(**options) as scene, through_a_proxy(scene) as (signal, proxy):
        deliver(scene, "first")
        await settled()
        before = wall_ms()
        await trio.sleep(10)
        proxy.refuse()
        proxy.drop()
        await lose(signal)
        for text in words(2, 9):
            deliver(scene, text)
            await trio.sleep(1)
        proxy.heal()
        await signal.wait_state(CONNECTED)
        first, gap, *rest = await take(signal, 7)
        assert texts_in([first, *rest]) == ["first", *words(6, 5)]
        # From the last message that came to the first that was kept.
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.first, gap.last) == ("overwritten", 2, 5)
        assert gap.since == before
        assert before + 10_000 <= gap.until <= before + 15_000


@pytest.mark.contract("R4", "R3", "C3", "H6")
async def test_what_has_expired_is_a_gap_even_if_nothing_follows(autojump_clock: MockClock) -> None:
    log = small_log(max_age=60)
    async with open_hub(limits=limits(), log=log) as scene, through_a_proxy(scene) as (signal, proxy):
        deliver(scene, "first")
        await settled()
        before = wall_ms()
        proxy.refuse()
        proxy.drop()
        await lose(signal)
        deliver(scene, "lost", "lost too")
        await trio.sleep(600)
        proxy.heal()
        await signal.wait_state(CONNECTED)
        first, gap = await take(signal, 2)
        assert texts_in([first]) == ["first"]
        assert gap == Gap(GapReason.EXPIRED, before, gap.until, first=2, last=3)
        assert gap.until == wall_ms() - round(1000 * (trio.current_time() - signal.statistics().since))
        assert saved(signal.cursor).sequence == 3


@pytest.mark.contract("R3", "R4", "H1")
async def test_an_absence_of_the_hub_reaches_a_client_that_was_away_itself(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene:
        async with up(scene) as present, through_a_proxy(scene) as (absent, proxy):
            deliver(scene, "before")
            await settled()
            proxy.refuse()
            proxy.drop()
            await lose(absent)
            scene.gateway.drop()
            await scene.gateway.wait_handshakes(2)
            await settled()
            deliver(scene, "after")
            proxy.heal()
            for signal in (present, absent):
                before, gap, after = await take(signal, 3)
                assert texts_in([before, after]) == ["before", "after"]
                assert isinstance(gap, Gap)
                assert gap.reason is GapReason.GATEWAY
                assert signal.statistics().receiving.gaps == 1
            assert saved(present.cursor).position == saved(absent.cursor).position


@pytest.mark.contract("R7")
async def test_whatever_the_gateway_sends_comes_through_the_hub_as_it_came(autojump_clock: MockClock) -> None:
    frames = [
        b"oops",
        b"",
        b"[1, 2]",
        b'"text"',
        b'{"envelope": {"source": ',
        b'{"envelope": null}',
        b'{"envelope": {"timestamp": "\\ud800"}}',
        '{"envelope": {"sourceNumber": "+15550002", "timestamp": 5}, "ä": 1.50}'.encode(),
    ]
    async with open_gateway() as gateway:
        async with connected(gateway) as direct, connected(gateway) as upstream:
            async with serving(gateway, upstream, limits=limits()) as scene, up(scene) as behind:
                for frame in frames:
                    gateway.deliver_raw(frame)
                gateway.deliver(text="end")
                for one, other in zip(
                    await take(direct, len(frames) + 1), await take(behind, len(frames) + 1), strict=True
                ):
                    assert type(one) is type(other)
                    assert one.raw == other.raw


@pytest.mark.contract("R1", "R8", "L2")
async def test_a_burst_arrives_whole(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, up(scene) as signal:
        got: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, signal.events(), got)
            numbers: list[int] = []
            for _ in range(50):
                numbers += scene.tell(100)
                await settled()
            nursery.cancel_scope.cancel()
        assert [json.loads(event.raw)["n"] for event in got] == numbers
        assert signal.statistics().generation == 1


async def test_a_message_to_one_client_alone(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, up(scene) as one, up(scene) as other:
        ids = [connection.id for connection in scene.hub.connections.connections]
        scene.hub.connections.send_message(ids[0], b'{"envelope":{"timestamp":1},"account":"+1"}')
        deliver(scene, "for all")
        first, second = await take(one, 2)
        assert isinstance(first, ReceivedMessage)
        assert texts_in([second]) == texts_in(await take(other, 1)) == ["for all"]


# --- Restarts. ---


@dataclass
class Place:
    """Where clients find whichever hub there is at the moment."""

    listener: MemoryListener | None = None

    async def connect(self, host: str, port: int) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if self.listener is None:
            raise ConnectionRefusedError("no hub")
        return await self.listener.connect(host, port)


@asynccontextmanager
async def a_hub_at(
    place: Place, gateway: FakeGateway, upstream: SignalClient, **options: Any
) -> AsyncGenerator[Scene]:
    """Serve a hub for a while; whoever connects meanwhile finds it."""
    options.setdefault("limits", limits())
    async with serving(gateway, upstream, **options) as scene:
        place.listener = scene.listener
        try:
            yield scene
        finally:
            place.listener = None


@pytest.mark.contract("R4", "R3", "H3")
@pytest.mark.parametrize("orderly", [True, False])
async def test_a_hub_that_restarts_is_a_gap_and_then_everything_it_has(
    autojump_clock: MockClock, nursery: trio.Nursery, orderly: bool
) -> None:
    place, changes = Place(), list[StateChange]()
    async with (
        open_gateway() as gateway,
        connected(gateway) as upstream,
        client_at(place.connect) as signal,
    ):
        nursery.start_soon(record, signal.state_changes(), changes)
        async with a_hub_at(place, gateway, upstream) as scene:
            await signal.wait_state(CONNECTED)
            deliver(scene, *words(0, 3))
            await settled()
            await trio.sleep(62)
            last_heartbeat = wall_ms() - 2000
            if orderly:
                scene.hub.shutdown()
                await scene.finished.wait()
        async with a_hub_at(place, gateway, upstream) as scene:
            # It has more than the old one had, so the numbers alone would look right.
            deliver(scene, *words(3, 5))
            await settled()
            kept = wall_ms()
            await trio.sleep(60)
            events = await take(signal, signal.statistics().inbox.waiting)
            assert texts_in(events) == words(0, 8)
            assert events[3] == Gap(GapReason.EPOCH_CHANGED, last_heartbeat, kept)
            assert saved(signal.cursor).position == (scene.hub.log.epoch, 5)
    end = next(change for change in changes if change.previous is CONNECTED)
    assert end.reason is Reason.GOING_DOWN
    check_history(changes)


@pytest.mark.contract("H10", "B3")
async def test_a_shutdown_says_when_to_come_back(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with open_hub(limits=limits(shutdown_spread=40.0)) as scene:
        changes: list[StateChange] = []
        async with up(scene) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await trio.sleep(60)
            scene.hub.shutdown()
            await lose(signal)
            await settled()
            end, again = changes[:2]
            assert end.reason is Reason.GOING_DOWN
            asked = getattr(end.error, "retry_after", None)
            assert asked is not None
            assert again.delay == max(1.0, asked)


@pytest.mark.contract("H3", "R4")
async def test_a_cursor_of_another_hub_is_a_gap_and_then_everything_kept(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene:
        texts = deliver(scene, *words(0, 4))
        await settled()
        cursor = Cursor(wall_ms() - 5000, "another", 2)
        async with up(scene, cursor=cursor) as signal:
            gap, *rest = await take(signal, 5)
            assert gap == Gap(GapReason.EPOCH_CHANGED, cursor.time, wall_ms())
            assert texts_in(rest) == texts


# --- Being sent away. ---


@pytest.mark.contract("H9", "C6")
async def test_an_expired_token_is_replaced_without_a_loss(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_hub(limits=limits()) as scene:
        changes: list[StateChange] = []
        asked: list[float] = []

        async def fresh() -> str:
            await trio.lowlevel.checkpoint()
            asked.append(trio.current_time())
            return scene.token(ttl=100)

        async with up(scene, token=fresh) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            expected: list[str] = []
            for n in range(60):
                expected += deliver(scene, f"m{n}")
                await trio.sleep(10)
            events = await take(signal, 60)
            assert texts_in(events) == expected
            assert {c.reason for c in changes if c.current is DISCONNECTED} == {Reason.TOKEN_EXPIRED}
            assert len(asked) == 1 + sum(change.current is RECONNECTING for change in changes) >= 4


@pytest.mark.contract("H9", "C6")
@pytest.mark.parametrize("token", ["nonsense", None, "expired", "other-key"])
async def test_a_token_that_does_not_count_ends_a_client_without_another(
    autojump_clock: MockClock, token: str | None
) -> None:
    async with open_hub(limits=limits()) as scene:
        shown = {
            "expired": make_token(KEY, "somebody", ttl=10, clock=lambda: wall_time() - 500),
            "other-key": scene.token(key=b"another key of more than thirty-two bytes"),
        }.get(token or "", token)
        with trio.fail_after(60), pytest.raises(GatewayRefused, match="HTTP 401"):
            async with client_of(scene, token=shown):
                await trio.sleep_forever()


@pytest.mark.contract("H7", "R1")
async def test_a_client_that_was_too_slow_comes_back_and_recovers(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_hub(limits=limits(max_queue=20)) as scene:
        async with through_a_proxy(scene) as (signal, proxy):
            changes: list[StateChange] = []
            nursery.start_soon(record, signal.state_changes(), changes)
            proxy.black_hole("down")
            expected = [text * 100 for text in words(0, 400)]
            for text in expected:
                deliver(scene, text)
                await settled()
            proxy.heal()
            assert texts_in(await take(signal, 400)) == expected
            assert [c.reason for c in changes if c.current is DISCONNECTED] == [Reason.TOO_SLOW]


@pytest.mark.contract("H12", "B3")
async def test_a_storm_of_recoveries_is_waited_out(autojump_clock: MockClock) -> None:
    narrow = limits(recovery_rate=0.2, recovery_burst=1)
    async with open_hub(limits=narrow) as scene:
        cursors: list[Cursor] = []
        for _ in range(5):
            async with up(scene) as signal:
                cursors.append(saved(signal.cursor))
        texts = deliver(scene, *words(0, 3))
        await settled()
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(client_of(scene, cursor=cursor, backoff=Backoff()))
                for cursor in cursors
            ]
            for signal in clients:
                assert texts_in(await take(signal, 3)) == texts
        assert scene.hub.counters.recoveries_limited > 0


@pytest.mark.contract("C6")
async def test_a_hub_that_is_full_is_waited_for(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_connections=1)) as scene:
        async with up(scene):
            async with client_of(scene) as second:
                await trio.sleep(20)
                assert second.state is not CONNECTED
                assert getattr(second.statistics().last_error, "status", None) == 503
        async with up(scene):
            pass


@pytest.mark.contract("C6")
async def test_a_hub_of_another_account(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene:
        with trio.fail_after(60), pytest.raises(UnknownAccount):
            async with client_of(scene, account="+15559999"):
                await trio.sleep_forever()


@pytest.mark.contract("L1", "R1")
async def test_a_line_that_goes_dead_is_noticed_and_costs_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        changes: list[StateChange] = []
        nursery.start_soon(record, signal.state_changes(), changes)
        expected = deliver(scene, "one")
        await settled()
        await trio.sleep(3)
        proxy.black_hole()
        start = trio.current_time()
        expected += deliver(scene, "two")
        await lose(signal)
        assert trio.current_time() - start <= 15
        proxy.heal()
        expected += deliver(scene, "three")
        assert texts_in(await take(signal, 3)) == expected
        assert changes[0].reason is Reason.NO_ANSWER


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_slices_make_no_difference(autojump_clock: MockClock, size: int) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        proxy.slice_size = size
        texts = deliver(scene, *words(0, 5))
        assert texts_in(await take(signal, 5)) == texts
        message = await signal.send_message(PEER, "out")
        await message.wait()


async def test_a_hub_behind_tls(autojump_clock: MockClock) -> None:
    authority: Any = trustme.CA()  # its annotations are not complete
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with open_hub(limits=limits(), ssl_context=server) as scene:
        async with up(scene, url="https://127.0.0.1:8080", ssl_context=client) as signal:
            deliver(scene, "safe")
            assert texts_in(await take(signal, 1)) == ["safe"]
            await (await signal.send_message(PEER, "out")).wait()
            assert texts_at(scene.gateway) == ["out"]


async def test_a_hub_without_a_key_needs_no_token(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(), secured=False) as scene, up(scene, token=None) as signal:
        deliver(scene, "open")
        assert texts_in(await take(signal, 1)) == ["open"]


# --- Sending through the hub. ---


@pytest.mark.contract("O1", "O6")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "sent"),
        (error(400, "Specified account does not exist"), "failed: not_sent"),
        (error(400, "Failed to send: socket closed"), "failed: unknown"),
        (lost(), "failed: unknown"),
        (hang(), "failed: unknown"),
        (slow(20), "sent"),
        (daemon_down(), "sent"),
    ],
    ids=["ok", "refused", "doubtful", "lost", "hangs", "slow", "down"],
)
async def test_the_outcome_at_the_hub_is_the_outcome_here(
    autojump_clock: MockClock, script: Any, expected: str
) -> None:
    async with open_gateway() as gateway, connected(gateway, send_timeout=40.0) as upstream:
        async with serving(gateway, upstream, limits=limits()) as scene, up(scene) as signal:
            if script is not None:
                gateway.script_send(script)
            messages = await send_all(signal, ["one", "two"])
            with trio.fail_after(300):
                await wait_done(messages)
            assert outcomes_of(messages) == [expected, "sent"]
            check_ledger(signal, messages)
            assert texts_at(gateway)[-1] == "two"


@pytest.mark.contract("O6")
async def test_a_group_that_some_did_not_get_names_them(autojump_clock: MockClock) -> None:
    async with open_gateway(version="0.101") as gateway, connected(gateway) as upstream:
        async with serving(gateway, upstream, limits=limits()) as scene, up(scene) as signal:
            gateway.script_send(partial([{"number": "+15550009", "reason": "UNREGISTERED_FAILURE"}]))
            message = await signal.send_message("group.QUFFQ0F3UUZCZ2M9", "all")
            sent = await message.wait()
        assert [(failed.recipient, failed.reason) for failed in sent.failed] == [
            ("+15550009", "UNREGISTERED_FAILURE")
        ]


@pytest.mark.contract("O6")
async def test_signals_limit_comes_through_with_its_challenge(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, up(scene) as signal:
        scene.gateway.script_send(rate_limited(("solve me",)))
        (message,) = await send_all(signal, ["one"])
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        (challenge,) = await take(signal, 1)
        assert isinstance(challenge, ChallengeRequired)
        assert challenge.tokens == ("solve me",)


@pytest.mark.contract("O4", "O10", "O5")
async def test_sends_go_out_once_and_in_order_over_reconnections(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        messages: list[OutgoingMessage] = []
        for n in range(60):
            messages += await send_all(signal, [f"s{n:02}"])
            if n % 10 == 5:
                proxy.refuse(2)
                proxy.drop()
            await trio.sleep(0.5)
        with trio.fail_after(3600):
            await wait_done(messages)
        arrived = texts_at(scene.gateway)
        assert arrived == sorted(set(arrived))
        sent = [m.text for m in messages if isinstance(m.outcome, Sent)]
        assert set(sent) <= set(arrived)
        assert len(sent) > 50
        check_ledger(signal, messages)


@pytest.mark.contract("O5")
async def test_an_answer_that_is_lost_on_the_way_is_unknown_and_not_sent_again(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(limits=limits()) as scene, through_a_proxy(scene) as (signal, proxy):
        scene.gateway.script_send(slow(5))
        (message,) = await send_all(signal, ["once"])
        await scene.gateway.wait_received(1)
        proxy.drop()
        await wait_done([message])
        assert outcome_of(message) == "failed: unknown"
        await signal.wait_state(CONNECTED)
        await trio.sleep(120)
        assert texts_at(scene.gateway) == ["once"]


@pytest.mark.contract("O4", "O6")
async def test_a_hub_whose_gateway_is_away_keeps_the_order(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, up(scene) as signal:
        scene.gateway.refuse(None)
        scene.gateway.drop()
        await lose(scene.signal)
        messages = await send_all(signal, words(0, 3))
        await trio.sleep(120)
        assert outcomes_of(messages) == ["pending"] * 3
        scene.gateway.heal()
        with trio.fail_after(300):
            await wait_done(messages)
        assert outcomes_of(messages) == ["sent"] * 3
        assert texts_at(scene.gateway) == words(0, 3)


async def test_everything_a_message_can_have_goes_through(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, up(scene) as signal:
        deliver(scene, "question")
        (question,) = await take(signal, 1)
        message = await signal.send_message(
            question.reply_to, "**bold**", attachments=[b"some bytes"], quote=question, styled=True
        )
        await message.wait()
        (sent,) = scene.gateway.received
        assert sent.message == "**bold**"
        assert sent.body["text_mode"] == "styled"
        assert sent.body["quote_timestamp"] == question.timestamp
        assert len(sent.body["base64_attachments"]) == 1


# --- Two at once, and cancellation. ---


@pytest.mark.contract("R1", "H1")
async def test_everybody_gets_the_same_in_the_same_order(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits()) as scene, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(up(scene)) for _ in range(5)]
        got: list[list[Any]] = [[] for _ in clients]
        async with trio.open_nursery() as nursery:
            for signal, events in zip(clients, got, strict=True):
                nursery.start_soon(functools.partial(collect, signal.events(), events))
            texts: list[str] = []
            for n in range(100):
                texts += deliver(scene, f"m{n}")
                await trio.sleep(0.1)
            await settled()
            nursery.cancel_scope.cancel()
        assert [texts_in(events) for events in got] == [texts] * 5


@pytest.mark.contract("C5", "O1", "O9")
async def test_a_client_of_a_hub_can_be_cancelled_anywhere(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=0.01) as gateway, connected(gateway) as upstream:
        async with serving(gateway, upstream, limits=limits()) as scene:

            async def play(step: int) -> bool:
                messages: list[OutgoingMessage] = []

                async def use() -> None:
                    async with client_of(scene) as signal:
                        for number in range(2):
                            messages.append(await signal.send_message(PEER, f"{step} {number}"))
                        await signal.wait_state(CONNECTED)
                        deliver(scene, f"hello {step}")
                        async for message in signal.receive_messages():
                            assert message.text == f"hello {step}"
                            break

                came_that_far = await cancelled_at(step, use, of_any_task=True)
                with trio.fail_after(5):
                    while scene.hub.connections.connections:  # noqa: ASYNC110  (nothing tells it)
                        await trio.sleep(0.1)
                for message in messages:
                    check_end(message, gateway)
                return came_that_far

            assert await sweep(play) > 100


def check_end(message: OutgoingMessage, gateway: FakeGateway) -> None:
    arrived = texts_at(gateway)
    assert arrived.count(message.text) <= 1
    outcome = message.outcome
    if isinstance(outcome, Sent):
        assert message.text in arrived
    elif isinstance(outcome, Dropped):
        assert outcome.reason is DropReason.CLOSED
        assert message.text not in arrived
    else:
        assert isinstance(outcome, Failed)
        assert outcome.certainty is Certainty.UNKNOWN


# --- Everything at once, from a seed. ---


@pytest.mark.contract("R1", "R3", "R4", "R5", "C1", "C4")
@pytest.mark.parametrize("seed", range(25))
async def test_no_schedule_of_trouble_loses_a_message_untold(autojump_clock: MockClock, seed: int) -> None:
    """A hub that restarts, a line that breaks, a process that starts again, one log of everything got."""
    rng = random.Random(seed)
    place, events = Place(), list[Any]()
    numbered: dict[str, list[str]] = {}
    cursor: Cursor | None = None
    async with open_gateway() as gateway, connected(gateway) as upstream:
        for _ in range(rng.randint(1, 3)):
            log = small_log(max_messages=rng.choice([3, 10, 500]), max_age=rng.choice([30, 900]))
            async with a_hub_at(place, gateway, upstream, log=log) as scene:
                texts = numbered.setdefault(log.epoch, [])
                for _ in range(rng.randint(1, 3)):
                    cursor = await live_through(rng, scene, place, cursor, events, texts)
                    say(rng, scene, texts)
    check_told(events, numbered, cursor)


def say(rng: random.Random, scene: Scene, texts: list[str]) -> None:
    """Broadcast some messages, each of which says which it is."""
    for _ in range(rng.choice([0, 1, 2, 6])):
        text = f"{scene.hub.log.epoch} {len(texts) + 1}"
        texts.append(text)
        frame = {"envelope": {"sourceNumber": PEER, "timestamp": 1, "dataMessage": {"message": text}}}
        entry = scene.hub.connections.broadcast(json.dumps(frame | {"account": "+15550001"}).encode())
        assert entry.sequence == len(texts)


async def live_through(
    rng: random.Random,
    scene: Scene,
    place: Place,
    cursor: Cursor | None,
    events: list[Any],
    texts: list[str],
) -> Cursor:
    """One process with trouble on its line; returns the cursor that it leaves behind."""
    changes: list[StateChange] = []
    async with open_fault_proxy("127.0.0.1", 8080, port=None, connect=place.connect) as proxy:
        size = rng.choice([2, 10_000])
        options: dict[str, Any] = {"cursor": cursor, "inbox_size": size, "connect": proxy.connect}
        async with client_of(scene, backoff=Backoff(random=rng), **options) as signal:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record, signal.state_changes(), changes)
                if cursor is None:
                    await signal.wait_state(CONNECTED)
                for _ in range(rng.randint(3, 12)):
                    say(rng, scene, texts)
                    await trouble(rng, proxy)
                    for _ in range(rng.randint(0, signal.statistics().inbox.waiting)):
                        events.append(await anext(signal.events()))
                proxy.heal()
                if rng.random() < 0.5:
                    await signal.wait_state(CONNECTED)
                nursery.cancel_scope.cancel()
        check_history(changes)
        return saved(signal.cursor)


async def trouble(rng: random.Random, proxy: FaultProxy) -> None:
    what = rng.choice(["drop", "reset", "hole", "cut", "slow", "wait", "wait", "refuse"])
    if what == "drop":
        proxy.drop()
    elif what == "reset":
        proxy.reset()
    elif what == "hole":
        proxy.black_hole(rng.choice(["up", "down", "both"]))
        await trio.sleep(rng.choice([1, 30]))
        proxy.heal()
    elif what == "cut":
        proxy.cut(rng.randint(1, 2000))
    elif what == "slow":
        proxy.slice_size, proxy.latency = rng.choice([(1, 0.0), (None, 2.0)])
    elif what == "refuse":
        proxy.refuse(rng.randint(1, 3))
        proxy.drop()
    await trio.sleep(rng.choice([0.0, 0.1, 5.0, 40.0]))


def check_told(events: Sequence[Any], numbered: dict[str, list[str]], cursor: Cursor | None) -> None:
    """Each number came once and in order, or the gaps in its place stand for it and for nothing else."""
    everything = [text for texts in numbered.values() for text in texts]
    at, gaps = 0, list[Gap]()
    for event in events:
        if isinstance(event, Gap):
            gaps.append(event)
            continue
        assert isinstance(event, ReceivedMessage)
        assert event.text in everything[at:], f"{event.text} came behind {everything[:at][-1:]}"
        place = everything.index(event.text)
        check_missing(everything[at:place], gaps)
        at, gaps = place + 1, []
    # What is behind the last message that was taken is told up to the cursor, and not further.
    position = saved(cursor).position
    assert position is not None
    reached = everything.index(f"{position.epoch} {position.sequence}") + 1 if position.sequence else at
    check_missing(everything[at:reached], gaps)


def check_missing(missing: list[str], gaps: list[Gap]) -> None:
    if all(gap.first is not None for gap in gaps):
        told = [n for gap in gaps for n in range(gap.first or 0, (gap.last or 0) + 1)]
        assert [int(text.split()[1]) for text in missing] == told, f"{missing} and {gaps}"

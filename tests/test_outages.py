"""Long and strange outages on a virtual clock, and what is left open after many connections on real ports."""

import gc
import itertools
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import (
    Backoff,
    ObserverLagged,
    OutgoingMessage,
    RateLimit,
    SignalClient,
    StateChange,
    open_signal_client,
)
from trio_signal.testing import FakeGateway, open_fake_gateway

from .scene import (
    CONNECTED,
    DISCONNECTED,
    PEER,
    RECONNECTING,
    check_accounted,
    check_history,
    check_ledger,
    collect,
    connected,
    gaps_in,
    living_tasks,
    open_client,
    open_gateway,
    outcomes_of,
    record,
    send_all,
    settled,
    texts_at,
    texts_in,
    tolerate,
    wait_done,
)

LENGTHS = {"1 s": 1, "10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600, "12 h": 12 * 3600}


class Correspondent:
    """Writes to the account and remembers what and when."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self.sent_at: dict[int, float] = {}

    def write(self) -> None:
        stamp = 1_795_302_674_000 + len(self.sent_at) + 1
        self.sent_at[stamp] = trio.current_time()
        self._gateway.deliver(text=str(stamp), timestamp=stamp)

    async def chat(self, every: float) -> None:
        while True:
            self.write()
            await trio.sleep(every)


# --- one outage ---


@pytest.mark.contract("O1", "O2", "O3", "O4", "R1", "R3", "C1", "C2", "B1")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", ["refused", "killed", "half-open", "silent", "unavailable"])
async def test_everything_is_accounted_for_after_an_outage(
    autojump_clock: MockClock, kind: str, length: str
) -> None:
    seconds = LENGTHS[length]
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        events: list[Any] = []
        peer = Correspondent(gateway)
        async with open_client(gateway, rate_limit=None) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            nursery.start_soon(peer.chat, max(0.3, seconds / 100))
            await trio.sleep(60.1)
            before = await send_all(signal, [f"before{n}" for n in range(5)])
            await wait_done(before)
            _begin_outage(gateway, kind)
            await trio.sleep(seconds / 2)
            # The outgoing buffer is filled to the brim; one more is in the send task's hands.
            waiting = [await signal.send_message(PEER, "held")]
            await settled()
            waiting += await send_all(signal, [f"during{n}" for n in range(100)])
            await trio.sleep(seconds / 2)
            gateway.heal()
            await gateway.start()
            healed = trio.current_time()
            with trio.fail_after(60 + 20 + 15 + 1):
                while signal.state is not CONNECTED:
                    await signal.wait_state(CONNECTED)
                await wait_done(waiting)
            assert trio.current_time() <= healed + 60 + 20 + 15
            after = await send_all(signal, [f"after{n}" for n in range(5)])
            await wait_done(after)
            await trio.sleep(20)
            messages = before + waiting + after
            check_ledger(signal, messages)
            check_history(changes)
            words = outcomes_of(messages)
            # A link that is dead and not yet noticed costs at most what was being sent.
            assert words.count("sent") >= len(words) - 1
            assert set(words) <= {"sent", "failed: unknown"}
            sent = [message.text for message, word in zip(messages, words, strict=True) if word == "sent"]
            assert [text for text in texts_at(gateway) if text in set(sent)] == sent
            assert len(set(texts_at(gateway))) == len(texts_at(gateway))
            check_accounted(dict(peer.sent_at), events)
            assert len(gaps_in(events)) == len([c for c in changes if c.current is CONNECTED]) - 1 >= 1
            nursery.cancel_scope.cancel()


def _begin_outage(gateway: FakeGateway, kind: str) -> None:
    match kind:
        case "refused":
            gateway.refuse(None)
            gateway.drop()
        case "killed":
            gateway.kill()
        case "half-open":
            gateway.half_open()
            gateway.refuse(None)
        case "silent":
            gateway.drop()
            gateway.silence(None, on="any")
        case _:
            gateway.reject(503, times=None, on="any")
            gateway.close(1012)


@pytest.mark.contract("O6", "O1", "O5", "R3")
@pytest.mark.parametrize("seconds", [5, 29, 40, 600])
async def test_an_outage_of_the_daemon_behind_the_gateway(autojump_clock: MockClock, seconds: float) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        events: list[Any] = []
        peer = Correspondent(gateway)
        async with open_client(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            await trio.sleep(60.1)
            peer.write()
            await settled()
            gateway.daemon_outage(seconds)
            messages = await send_all(signal, ["one", "two", "three"])
            await trio.sleep(seconds)
            if seconds > 30.1:
                await gateway.start()  # the gateway has given up and was started again
            with trio.fail_after(130):
                await wait_done(messages)
            await signal.wait_state(CONNECTED)
            peer.write()
            await trio.sleep(1)
        assert outcomes_of(messages) == ["sent"] * 3
        assert [send.message for send in gateway.received if send.outcome == "ok"] == ["one", "two", "three"]
        check_history(changes)
        lost = [change for change in changes[:-1] if change.current is DISCONNECTED]
        # Up to 30 s the gateway keeps the receive socket open, so that there is nothing to notice.
        assert bool(lost) == (seconds > 30.1)
        assert bool(gaps_in(events)) == (seconds > 30.1)
        check_accounted(peer.sent_at, events)


@pytest.mark.contract("O5", "O11", "O1")
async def test_a_send_in_flight_when_the_daemon_goes_is_never_answered(autojump_clock: MockClock) -> None:
    async with open_gateway(answer_delay=2) as gateway, connected(gateway) as signal:
        messages = await send_all(signal, ["in flight", "next"])
        await gateway.wait_received(1)
        await trio.sleep(1)
        gateway.daemon_outage(4)
        await messages[1].wait()
        assert trio.current_time() == 60 + 2
        await wait_done(messages)
        assert outcomes_of(messages) == ["failed: unknown", "sent"]
        assert trio.current_time() == 60 + 10  # for evidence


# --- flapping ---


async def _accept_and_close(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_handshakes(gateway.handshakes + 1)
        gateway.close(1001)


async def _accept_and_drop(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_handshakes(gateway.handshakes + 1)
        gateway.drop()


def _after(seconds: float) -> Callable[[FakeGateway], Awaitable[None]]:
    async def close_after(gateway: FakeGateway) -> None:
        while True:
            await gateway.wait_connected()
            await trio.sleep(seconds)
            gateway.drop()

    return close_after


async def _alternate(gateway: FakeGateway) -> None:
    for lasts in itertools.cycle((0, 31, 0, 0, 5)):
        await gateway.wait_connected()
        await trio.sleep(lasts)
        gateway.close(1012)


async def _one_message_then_the_end(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_handshakes(gateway.handshakes + 1)
        await settled()
        gateway.deliver(text="hi")
        gateway.close(1000)


async def _half_open(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_connected()
        gateway.half_open()


async def _refuse_and_accept(gateway: FakeGateway) -> None:
    while True:
        gateway.refuse(3)
        gateway.drop()
        await gateway.wait_handshakes(gateway.handshakes + 1)
        await trio.sleep(0.5)


async def _restart(gateway: FakeGateway) -> None:
    while True:
        await gateway.wait_connected()
        await gateway.restart(down_for=3)


PATTERNS: dict[str, Callable[[FakeGateway], Awaitable[None]]] = {
    "accepts-and-closes": _accept_and_close,
    "accepts-and-drops": _accept_and_drop,
    "lasts-1-s": _after(1),
    "lasts-29-s": _after(29.9),
    "lasts-30-s": _after(30),
    "alternates": _alternate,
    "one-message": _one_message_then_the_end,
    "half-open": _half_open,
    "refuses-three": _refuse_and_accept,
    "restarts": _restart,
}


def check_rate(changes: list[StateChange]) -> None:
    """At most 40 attempts in any ten minutes in which no connection was stable, and 80 in any at all (B2)."""
    at = [change.time + (change.delay or 0) for change in changes if change.current is RECONNECTING]
    stable = [
        before.time
        for before, after in itertools.pairwise(changes)
        if before.current is CONNECTED and after.time - before.time >= 30
    ]
    for first, beyond in zip(at, at[40:], strict=False):
        assert beyond - first >= 600 or any(first - 30 < moment < beyond for moment in stable)
    for first, beyond in zip(at, at[80:], strict=False):
        assert beyond - first >= 600


@pytest.mark.contract("B2", "C1", "C2", "R3", "R1", "O1", "O4")
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_two_hours_of_a_gateway_that_flaps(autojump_clock: MockClock, pattern: str) -> None:
    async with open_gateway() as gateway:
        await _flap(gateway, 2 * 3600, seed=1, only=pattern)


@pytest.mark.contract("B2", "C1", "C2", "C4", "R3", "R1", "O1", "O2", "O4", "O7")
async def test_a_day_of_a_gateway_that_flaps_in_one_way_after_the_other(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        await _flap(gateway, 24 * 3600, seed=2)


async def _flap(gateway: FakeGateway, seconds: float, *, seed: int, only: str | None = None) -> None:
    rng = random.Random(seed)
    changes: list[StateChange] = []
    events: list[Any] = []
    messages: list[OutgoingMessage] = []
    peer = Correspondent(gateway)
    backoff = Backoff(random=random.Random(seed))
    async with (
        trio.open_nursery() as nursery,
        open_client(gateway, backoff=backoff, inbox_size=100_000) as signal,
    ):
        follower = signal.state_changes()
        nursery.start_soon(record, follower, changes)
        nursery.start_soon(collect, signal.events(), events)
        await signal.wait_state(CONNECTED)  # what is written before is not missed
        nursery.start_soon(peer.chat, 20)
        nursery.start_soon(_talk, signal, messages, 120)
        while trio.current_time() < seconds:
            gateway.drop()
            with trio.move_on_after(rng.uniform(60, 3600)):
                await PATTERNS[only or rng.choice(list(PATTERNS))](gateway)
        gateway.heal()
        await gateway.start()
        nursery.cancel_scope.deadline = trio.current_time() + 200
        await trio.sleep(150)
        assert signal.state is CONNECTED
        await settled()
        check_ledger(signal, messages)
        check_history(changes)
        check_rate(changes)
        check_accounted(dict(peer.sent_at), events)
        assert len(changes) > seconds / 60
        assert gateway.statistics().most_sends_in_flight <= 1
        assert set(outcomes_of(messages[:-2])) <= {"sent", "failed: unknown"}
        sent = [m.text for m in messages if m.outcome is not None and outcomes_of([m]) == ["sent"]]
        seen = texts_at(gateway)
        assert len(set(seen)) == len(seen)
        assert [text for text in seen if text in set(sent)] == sent
        nursery.cancel_scope.cancel()


async def _talk(signal: SignalClient, messages: list[OutgoingMessage], every: float) -> None:
    for n in itertools.count():
        messages.append(await signal.send_message(PEER, str(n)))
        await trio.sleep(every)


@pytest.mark.contract("B2", "O1", "R3")
@pytest.mark.parametrize("down_for", [0, 0.1, 5])
async def test_a_storm_of_restarts(autojump_clock: MockClock, down_for: float) -> None:
    async with open_gateway(answer_delay=0.05) as gateway, trio.open_nursery() as nursery:
        changes: list[StateChange] = []
        events: list[Any] = []
        messages: list[OutgoingMessage] = []
        peer = Correspondent(gateway)
        async with open_client(gateway) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            nursery.start_soon(collect, signal.events(), events)
            await signal.wait_state(CONNECTED)
            for _ in range(100):
                peer.write()
                messages += await send_all(signal, [f"{len(messages)}"])
                await trio.sleep(0.02)
                await gateway.restart(down_for=down_for)
            with trio.fail_after(200):
                await signal.wait_state(CONNECTED)
                await wait_done(messages)
                peer.write()
                await trio.sleep(1)
            check_ledger(signal, messages)
        check_history(changes)
        check_rate(changes)
        check_accounted(peer.sent_at, events)
        assert set(outcomes_of(messages)) <= {"sent", "failed: unknown", "dropped: overflow"}
        assert texts_in(events)[-1] == str(max(peer.sent_at))


# --- observers of a long outage ---


@pytest.mark.contract("C2")
async def test_an_observer_that_slept_through_a_day_of_failures_is_told(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        gateway.refuse(None)
        seen: list[Any] = []
        async with open_client(gateway, close_timeout=0) as signal:
            sleeper = signal.state_changes()
            await trio.sleep(24 * 3600)
            nursery.start_soon(tolerate, sleeper, seen)
            await settled()
            assert isinstance(seen[0], ObserverLagged)
            assert seen[0].missed > 1000
            assert len(seen) == 1001
            assert seen[-1].current is RECONNECTING
            # 86,400 s are 1,446 attempts at 0, 2, 6, 14, 30, 62, 122, 182, … s; each is two changes.
            assert seen[0].missed + 1000 == 2 * signal.statistics().generation - 1


@pytest.mark.contract("O3", "O8")
async def test_a_day_of_sending_into_nowhere_uses_bounded_memory(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        gateway.refuse(None)
        async with open_client(gateway, close_timeout=0) as signal:
            messages: list[OutgoingMessage] = []
            for n in range(24 * 60):
                deadline = trio.current_time() + (600 if n % 2 else 86_400 * 2)
                messages.append(await signal.send_message(PEER, str(n), deadline=deadline))
                await trio.sleep(60)
            assert signal.statistics().buffer.waiting <= 100
            check_ledger(signal, messages)
        check_ledger(signal, messages)


# --- what is left open ---


def open_files() -> int:
    """Count this process's open files."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.contract("C4", "C5")
async def test_two_hundred_reconnections_on_real_ports_leave_no_file_and_no_task_behind() -> None:
    at_once = Backoff(initial=0.001, maximum=0.001, jitter=False)
    async with open_fake_gateway() as gateway:
        tasks_before, files_before = living_tasks(), open_files()
        options: dict[str, Any] = {"backoff": at_once, "rate_limit": RateLimit(10_000, burst=10_000)}
        async with open_signal_client(gateway.url, gateway.account, **options) as signal:
            await _reconnect(gateway, signal, range(20))
            tasks, files = living_tasks(), open_files()
            await _reconnect(gateway, signal, range(20, 220))
            assert signal.statistics().generation >= 220
            # One each that stayed behind would be 200 more; a connection that is just being made is a few.
            assert living_tasks() <= tasks + 20
            assert open_files() <= files + 20
        await settled()
        assert living_tasks() == tasks_before
        assert open_files() == files_before


async def _reconnect(gateway: FakeGateway, signal: SignalClient, rounds: range) -> None:
    for n in rounds:
        with trio.fail_after(20):
            await gateway.wait_handshakes(n + 1)
            await gateway.wait_connected()
            message = await signal.send_message(PEER, str(n))
            await message.wait()
            match n % 4:
                case 0:
                    gateway.drop()
                case 1:
                    gateway.reset()
                case 2:
                    gateway.close(1001)
                case _:
                    gateway.kill()
                    await gateway.start()


async def test_a_hundred_clients_on_real_ports_leave_no_file_and_no_task_behind() -> None:
    async with open_fake_gateway() as gateway:
        async with open_signal_client(gateway.url, gateway.account) as signal:
            await signal.wait_state(CONNECTED)
        await settled()
        tasks, files = living_tasks(), open_files()
        for n in range(100):
            with trio.CancelScope() as scope:
                async with open_signal_client(gateway.url, gateway.account, close_timeout=0) as signal:
                    await signal.send_message(PEER, "hi")
                    for _ in range(n):  # each lets the client come a little further
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        with trio.fail_after(10):
            await gateway.wait_disconnected()
        await settled()
        assert living_tasks() == tasks
        assert open_files() == files

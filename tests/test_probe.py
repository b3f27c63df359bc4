"""Noticing that a gateway is back while we sleep before the next attempt, and how fast it is reached then."""

import errno
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_signal import (
    Backoff,
    ConfigurationError,
    LinkLost,
    SignalClient,
    StateChange,
    open_signal_client,
)
from trio_signal._dial import Connect, Knock, knock, open_stream, parse_url
from trio_signal._probe import Probe
from trio_signal.testing import FakeGateway

from .hubs import open_hub
from .scene import (
    CONNECTED,
    EXACT,
    RECONNECTING,
    Dialler,
    WatchedStream,
    connected,
    open_gateway,
    record,
    settled,
    wall_time,
)
from .test_hub_client import client_at, up

ADDRESS = parse_url("http://127.0.0.1:8080")

#: Rounding, in seconds.
A_TICK = 0.001

#: How long bytes take there and back, in seconds.
ROUND_TRIP = 0.2


def refusal(number: int = errno.ECONNREFUSED) -> OSError:
    return OSError(number, "for some reason")


def failing(*errors: Exception) -> Connect:
    """Return what fails to connect, by one error or as Trio does where a name has several addresses."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if len(errors) == 1:
            raise errors[0]
        raise OSError("all attempts failed") from ExceptionGroup("all attempts failed", errors)

    return connect


class Knocks:
    """Answers knocks as it is told, the last answer for ever, and notes when they came."""

    def __init__(self, *answers: Knock) -> None:
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.times: list[float] = []

    async def __call__(self) -> Knock:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        return next(self._answers)


# --- one knock ---


async def test_a_knock_opens_and_closes_with_nothing_written(autojump_clock: MockClock) -> None:
    opened: list[WatchedStream] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        assert (host, port) == ("127.0.0.1", 8080)
        ours, theirs = memory_stream_pair()
        opened.extend((WatchedStream(ours), WatchedStream(theirs)))
        return opened[0]

    assert await knock(ADDRESS, connect) is Knock.ACCEPTED
    assert opened[0].closed
    assert await opened[1].receive_some() == b""


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        ([refusal()], Knock.REFUSED),
        ([refusal(), refusal()], Knock.REFUSED),
        ([refusal(errno.ENOENT)], Knock.REFUSED),
        ([refusal(), refusal(errno.ETIMEDOUT)], Knock.UNKNOWN),
        ([refusal(errno.ENETUNREACH)], Knock.UNKNOWN),
        ([OSError("nobody knows this name")], Knock.UNKNOWN),
        ([ValueError("a proxy's own error")], Knock.UNKNOWN),
    ],
)
async def test_a_refused_knock_is_told_from_other_trouble(errors: list[Exception], found: Knock) -> None:
    connect = failing(*errors)
    assert await knock(ADDRESS, connect) is found
    with pytest.raises(LinkLost) as caught:
        await open_stream(ADDRESS, connect, None)
    assert caught.value.nobody_listens is (found is Knock.REFUSED)


async def test_the_kernel_refuses_a_knock_at_a_port_that_nobody_listens_at() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        address = parse_url(f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert await knock(address, trio.open_tcp_stream) is Knock.REFUSED
        taken.listen()
        assert await knock(address, trio.open_tcp_stream) is Knock.ACCEPTED


async def test_a_knock_waits_a_second_and_no_longer(autojump_clock: MockClock) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()

    assert await knock(ADDRESS, connect) is Knock.UNKNOWN
    assert trio.current_time() == 1


# --- when there are knocks ---


async def test_knocks_come_one_interval_apart_and_rarer_the_longer_nobody_listens(
    autojump_clock: MockClock,
) -> None:
    knocks = Knocks(Knock.REFUSED)
    probe = Probe(knocks, 0.5)
    assert not probe.is_due(1, nobody_listens=False)
    assert probe.is_due(2, nobody_listens=True)
    with trio.move_on_after(3600):
        await probe.wait()
    gaps = [later - earlier for earlier, later in itertools.pairwise([0, *knocks.times])]
    assert gaps[:60] == pytest.approx([0.5] * 60)
    for gap, since in zip(gaps, [0, *knocks.times], strict=False):
        assert gap == pytest.approx(max(0.5, since / 60))
    assert len(knocks.times) < 400


async def test_only_a_place_where_nobody_listens_is_knocked_at(autojump_clock: MockClock) -> None:
    probe = Probe(Knocks(Knock.REFUSED), 0.5)
    assert not probe.is_due(1, nobody_listens=False)
    assert not probe.is_due(2, nobody_listens=False)
    assert probe.is_due(3, nobody_listens=True)
    assert not probe.is_due(4, nobody_listens=False)


async def test_a_knock_that_finds_something_else_ends_the_knocking(autojump_clock: MockClock) -> None:
    knocks = Knocks(Knock.REFUSED, Knock.UNKNOWN)
    assert not await Probe(knocks, 0.5).wait()
    assert knocks.times == [0.5, 1.0]


@pytest.mark.contract("B2", "B7")
async def test_accepted_knocks_in_vain_are_followed_by_ever_longer_rests(autojump_clock: MockClock) -> None:
    probe = Probe(Knocks(Knock.ACCEPTED), 0.5)
    due: list[bool] = []
    for attempt in range(2, 20):
        due.append(probe.is_due(attempt, nobody_listens=True))
        assert not due[-1] or await probe.wait()
    assert [index for index, is_due in enumerate(due) if is_due] == [0, 2, 5, 10]
    # A connection that has lasted makes up for all of them.
    assert not probe.is_due(1, nobody_listens=False)
    assert probe.is_due(2, nobody_listens=True)


# --- in a client ---


class Wires:
    """Opens streams and cuts them."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._streams: list[trio.abc.Stream] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open one."""
        self._streams.append(await self._connect(host, port))
        return self._streams[-1]

    async def cut(self) -> None:
        """Cut all that are open."""
        while self._streams:
            await trio.aclose_forcefully(self._streams.pop())


class Away:
    """A gateway that goes away and comes back, and when each state of its client began."""

    def __init__(self, gateway: FakeGateway, signal: SignalClient) -> None:
        self.gateway = gateway
        self.signal = signal
        self.changes: list[StateChange] = []

    async def go(self, seconds: float) -> float:
        """Be away for so long; return how many seconds after the return the client is CONNECTED."""
        self.gateway.kill()
        await trio.sleep(seconds)
        await self.gateway.start()
        back = trio.current_time()
        with trio.fail_after(120):
            await self.signal.wait_state(CONNECTED)
        return trio.current_time() - back

    @property
    def attempts(self) -> int:
        return sum(change.current is RECONNECTING for change in self.changes)


@asynccontextmanager
async def on(gateway: FakeGateway, kind: Any, **options: Any) -> AsyncGenerator[SignalClient]:
    """Open a client that is told what kind of gateway there is, and wait until it is CONNECTED."""
    opening = open_signal_client(
        gateway.url, gateway.account, gateway=kind, wall_clock=wall_time, backoff=EXACT, **options
    )
    async with opening as signal:
        with trio.fail_after(30):
            await signal.wait_state(CONNECTED)
        yield signal


def jittered(seed: int) -> Backoff:
    return Backoff(random=Random(seed))


@pytest.mark.contract("B7")
@pytest.mark.parametrize(("seconds", "limit"), [(3, 0.5), (10, 0.5), (60, 1.0)])
async def test_a_return_is_noticed_at_once_however_long_the_sleep(
    seconds: float, limit: float, autojump_clock: MockClock
) -> None:
    for seed in range(10):
        async with (
            open_gateway() as gateway,
            connected(gateway, backoff=jittered(seed), probe_interval=0.5) as signal,
        ):
            await trio.sleep(100)
            assert await Away(gateway, signal).go(seconds) <= limit + A_TICK


@pytest.mark.contract("B7")
@pytest.mark.parametrize("kind", ["rest", "signal-cli", "auto"])
async def test_knocks_are_no_attempts(kind: str, autojump_clock: MockClock) -> None:
    async with open_gateway(kind=kind if kind != "auto" else "rest") as gateway:
        dialler = Dialler(gateway)
        async with (
            on(gateway, kind, connect=dialler.connect, probe_interval=0.5) as signal,
            trio.open_nursery() as nursery,
        ):
            away = Away(gateway, signal)
            nursery.start_soon(record, signal.state_changes(), away.changes)
            await trio.sleep(100)
            refused = gateway.statistics().refused
            # Without knocks attempts go off 1, 3, 7, 15 and 31 s after the loss.
            assert await away.go(20) <= 0.5 + A_TICK
            assert away.attempts == 5
            assert gateway.statistics().refused - refused > 20
            assert signal.statistics().attempt == 0
            nursery.cancel_scope.cancel()
        assert dialler.left_open == 0


@pytest.mark.contract("B7")
async def test_who_only_sends_notices_a_return_too(autojump_clock: MockClock) -> None:
    async with (
        open_gateway() as gateway,
        on(gateway, "rest", connect=gateway.connect, probe_interval=0.5, receive=False) as signal,
    ):
        await trio.sleep(100)
        # Without a stream of messages the loss itself is noticed by the next look, 10 s later at most.
        assert await Away(gateway, signal).go(40) <= 0.5 + A_TICK


@pytest.mark.contract("B7")
async def test_without_an_interval_nothing_is_knocked_at(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, probe_interval=None) as signal:
        await trio.sleep(100)
        refused = gateway.statistics().refused
        assert await Away(gateway, signal).go(20) == pytest.approx(11)
        assert gateway.statistics().refused - refused == 4


@pytest.mark.contract("B7")
async def test_a_gateway_that_answers_is_left_to_the_backoff(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, probe_interval=0.5) as signal:
        await trio.sleep(100)
        gateway.reject(503, times=None)
        gateway.drop()
        with trio.fail_after(60):
            while signal.statistics().attempt < 4:
                await anext(signal.state_changes())
        # Attempts went off 1, 3 and 7 s after the loss; the next one does after 15.
        assert trio.current_time() == 107
        seen = len(gateway.requests)
        await trio.sleep(7.9)
        assert len(gateway.requests) == seen


@pytest.mark.contract("B7", "B2")
@pytest.mark.parametrize("seed", range(8))
async def test_a_gateway_that_takes_knocks_only_sees_no_more_attempts(
    seed: int, autojump_clock: MockClock
) -> None:
    turns = itertools.count()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        """Refuse each attempt and take each knock."""
        await trio.lowlevel.checkpoint()
        if state and state[0].state is RECONNECTING and state[0].statistics().next_attempt is None:
            next(turns)
            raise refusal()
        return memory_stream_pair()[0]

    state: list[SignalClient] = []
    async with open_signal_client(
        "http://127.0.0.1:1", "+15550001", gateway="rest", connect=connect, backoff=jittered(seed)
    ) as signal:
        state.append(signal)
        await trio.sleep(600)
    assert 10 < next(turns) <= 40


@pytest.mark.contract("B4", "B7")
async def test_reconnect_now_and_the_end_of_the_client_wait_for_no_knock(autojump_clock: MockClock) -> None:
    dialled: list[float] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        """Refuse the attempts and let the knocks hang."""
        dialled.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(dialled) not in (3, 5):
            raise refusal()
        await trio.sleep_forever()

    async with open_signal_client(
        "http://127.0.0.1:1", "+15550001", gateway="rest", connect=connect, backoff=Backoff(jitter=False)
    ) as signal:
        # The first attempt, a knock, and one that hangs.
        await trio.sleep(0.7 + 0.5)
        assert dialled[:2] == [0, 0.5]
        signal.reconnect_now()
        await settled()
        started = trio.current_time()
        await trio.sleep(0.6)
    assert trio.current_time() == pytest.approx(started + 0.6)


@pytest.mark.contract("B7")
async def test_a_hub_is_never_knocked_at(autojump_clock: MockClock) -> None:
    dialled: list[float] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        dialled.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise refusal()

    async with client_at(connect):
        await trio.sleep(20)
    assert dialled == [0, 2, 6, 14]


@pytest.mark.contract("B7")
async def test_what_has_turned_out_to_be_a_hub_is_not_knocked_at(autojump_clock: MockClock) -> None:
    dialled: list[float] = []
    async with open_hub() as scene:
        listener = scene.listener
        assert listener is not None

        async def connect(host: str, port: int) -> trio.abc.Stream:
            dialled.append(trio.current_time())
            if is_gone:
                await trio.lowlevel.checkpoint()
                raise refusal()
            return await listener.connect(host, port)

        is_gone = False
        streams = Wires(connect)
        async with up(scene, gateway="auto", connect=streams.connect):
            await trio.sleep(100)
            is_gone = True
            dialled.clear()
            await streams.cut()
            await trio.sleep(20)
    assert dialled == [101, 103, 107, 115]


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "1", True])
async def test_an_interval_is_a_positive_number_of_seconds(interval: Any) -> None:
    with pytest.raises(ConfigurationError, match="probe_interval"):
        async with open_signal_client("http://127.0.0.1:1", "+15550001", probe_interval=interval):
            pass


# --- how many round trips a connection takes ---


class Distant(WatchedStream):
    """A stream over which bytes take half a round trip, in each direction."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(ROUND_TRIP / 2)
        await super().send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await super().receive_some(max_bytes)
        await trio.sleep(ROUND_TRIP / 2)
        return data


@pytest.mark.contract("B8")
@pytest.mark.parametrize("kind", ["rest", "signal-cli", "auto"])
async def test_a_connection_is_back_one_round_trip_after_its_handshake(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_gateway(kind=kind if kind != "auto" else "rest") as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            await trio.sleep(ROUND_TRIP)
            return Distant(await gateway.connect(host, port))

        async with on(gateway, kind, connect=connect) as signal:
            await trio.sleep(100)
            changes = signal.state_changes()
            gateway.drop()
            handshakes = gateway.statistics().handshakes
            attempt = up_at = 0.0
            async for change in changes:
                attempt = change.time + change.delay if change.delay is not None else attempt
                if change.current is CONNECTED:
                    up_at = change.time
                    break
            assert gateway.statistics().handshakes == handshakes + 1
            gateway.deliver(text="first")
            # TCP, the handshake, and a ping with its pong; signal-cli's events need no ping.
            assert up_at - attempt == pytest.approx((2 if kind == "signal-cli" else 3) * ROUND_TRIP)
            assert (await anext(signal.receive_messages())).text == "first"


@pytest.mark.contract("B8")
async def test_messages_do_not_wait_for_the_pong(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            await trio.sleep(ROUND_TRIP)
            return Distant(await gateway.connect(host, port))

        async with connected(gateway, connect=connect) as signal, trio.open_nursery() as nursery:
            await trio.sleep(100)
            gateway.drop()
            lost_at = trio.current_time()
            nursery.start_soon(deliver_when_connected, gateway)
            assert (await anext(signal.receive_messages())).text == "first"
            # The loss, a sleep of one second, TCP, and the handshake, in whose wake it comes.
            assert trio.current_time() - lost_at <= 1 + 3 * ROUND_TRIP + A_TICK
            assert signal.state is RECONNECTING


async def deliver_when_connected(gateway: FakeGateway) -> None:
    """Deliver a message as soon as somebody listens again."""
    await gateway.wait_disconnected()
    await gateway.wait_connected()
    gateway.deliver(text="first")

"""What a hostile client costs: its own connection, within a stated time, and nobody else anything."""

import logging
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.hubs import (
    PING,
    Scene,
    Subscriber,
    Visitor,
    gone,
    limits,
    masked,
    open_hub,
    open_real_hub,
    small_log,
    trusting,
)
from tests.scene import closing_within, living_tasks, logged, settled
from trio_signal.testing import server_frame
from trio_signal.testing._frames import Opcode

INTERVAL: Final = 20.0

#: How long the end of a connection may take once the hub has decided on it, in seconds.
GOODBYE: Final = 2.5

#: How long the hub listens to who was answered and told to close, in seconds.
LINGER: Final = 5.0

#: How long a connection lasts without a sign of life, in seconds.
DEAD: Final = 2 * INTERVAL + 5 + GOODBYE


class Witnesses:
    """Two ordinary clients and a gateway that goes on delivering, all the time."""

    def __init__(self, scene: Scene, subscribers: list[Subscriber], already: int) -> None:
        self.scene = scene
        self.subscribers = subscribers
        self.already = already
        self.late: list[float] = []

    async def deliver(self) -> None:
        """Deliver a message each second, and look whether everybody has it without any delay."""
        while True:
            await trio.sleep(1)
            self.scene.gateway.deliver(text="still there?")
            await settled()
            head = self.scene.hub.log.head
            if any(subscriber.numbers[-1] != head for subscriber in self.subscribers):
                self.late.append(trio.current_time())

    def check(self, since: float) -> None:
        """They got every message in order, at once, and every heartbeat on time, up to now."""
        assert self.late == []
        head = self.scene.hub.log.head
        for subscriber in self.subscribers:
            assert not subscriber.ended.is_set()
            assert subscriber.numbers == list(range(self.already + 1, head + 1))
            times = [time for time, _ in subscriber.beats]
            assert all(later - earlier == INTERVAL for earlier, later in pairwise(times))
            assert len(times) >= (trio.current_time() - since) // INTERVAL


@asynccontextmanager
async def unharmed(
    scene: Scene, caplog: pytest.LogCaptureFixture, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Witnesses]:
    """While the block runs, and after it, everybody else is served as if nothing had happened."""
    already = scene.hub.log.head
    streams = [await scene.dial() for _ in range(2)]
    witnesses = Witnesses(
        scene,
        [await scene.subscribe(stream=trusting(tls, stream) if tls else stream) for stream in streams],
        already,
    )
    since = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(witnesses.deliver)
        yield witnesses
        await trio.sleep(INTERVAL + 1)
        nursery.cancel_scope.cancel()
    witnesses.check(since)
    assert {figures.id for figures in scene.hub.statistics()} == {
        subscriber.hello["connection_id"] for subscriber in witnesses.subscribers
    }
    assert len(scene.hub.connections) == 2
    stream = await scene.dial()
    async with await scene.visit(stream=trusting(tls, stream) if tls else stream) as visitor:
        assert (await visitor.ask("/readyz")).status == 200
        recovered = await visitor.ask(f"/websocket/messages?since={already}")
        assert recovered.json["messages"] == witnesses.subscribers[0].got
    assert logged(caplog.records, logging.ERROR) == []


# --- one hostile client each ---


@dataclass(frozen=True)
class Attack:
    """What a client does, and what it may cost.

    Attributes:
        act: does it; returns when there is no more to do.
        within: seconds after which the connection is over at the latest.
        code: the close code or the HTTP status that it gets; None for an end without a word.
        opened: whether it is done on an open WebSocket.
        counted: whether it counts as abuse.
    """

    act: Callable[[Visitor], Awaitable[None]]
    within: float
    code: int | None
    opened: bool = True
    counted: bool = True


async def endless(visitor: Visitor, *parts: bytes, pause: float = 0.0) -> None:
    """Write the same again and again until the hub has had enough."""
    while True:
        await visitor.write(*parts)
        if pause:
            await trio.sleep(pause)


def writes(*parts: bytes) -> Callable[[Visitor], Awaitable[None]]:
    """Write something and do nothing more."""

    async def act(visitor: Visitor) -> None:
        await visitor.write(*parts)

    return act


def floods(*parts: bytes, first: bytes = b"", pause: float = 0.0) -> Callable[[Visitor], Awaitable[None]]:
    """Write the same for ever."""

    async def act(visitor: Visitor) -> None:
        await visitor.write(first)
        await endless(visitor, *parts, pause=pause)

    return act


async def close_then_more(visitor: Visitor) -> None:
    await visitor.write(
        masked(struct.pack("!H", 1000), Opcode.CLOSE), masked(b"more"), PING, b"\x00\xff" * 50
    )
    await endless(visitor, PING)


async def byte_by_byte(visitor: Visitor, data: bytes) -> None:
    for byte in data:
        await visitor.write(bytes([byte]))
        await trio.sleep(1)


async def slow_head(visitor: Visitor) -> None:
    await byte_by_byte(visitor, visitor.head("/healthz", x_padding="x" * 1000))


async def slow_body(visitor: Visitor) -> None:
    await visitor.write(
        visitor.head("/v2/send", "POST", content_type="application/json", content_length=1000)
    )
    await byte_by_byte(visitor, b" " * 1000)


async def endless_head(visitor: Visitor) -> None:
    await visitor.write(visitor.head("/healthz")[:-2])
    await endless(visitor, b"X-Header: more of the same\r\n")


async def endless_target(visitor: Visitor) -> None:
    await visitor.write(b"GET /")
    await endless(visitor, b"x" * 100)


async def endless_body(visitor: Visitor) -> None:
    await visitor.write(
        visitor.head("/v2/send", "POST", content_type="application/json", transfer_encoding="chunked")
    )
    await endless(visitor, b"10000\r\n" + b"x" * 65536 + b"\r\n")


async def nothing(_: Visitor) -> None:
    """Say nothing, answer nothing, but read."""


async def half_a_frame_and_gone(visitor: Visitor) -> None:
    await visitor.write(masked(b"x" * 100)[:50])
    visitor.vanish(reset=True)


async def gone_in_the_handshake(visitor: Visitor) -> None:
    await visitor.write(visitor.handshake()[:-2])
    visitor.vanish()


def frame(first: int, second: int, rest: bytes = b"") -> Callable[[Visitor], Awaitable[None]]:
    return writes(bytes((first, second)) + rest + b"\x11\x22\x33\x44" * 10)


ATTACKS: Final[dict[str, Attack]] = {
    # --- bytes that are no WebSocket ---
    "unmasked": Attack(writes(server_frame(b"hello")), 1, None),
    "unmasked ping": Attack(writes(server_frame(b"", Opcode.PING)), 1, None),
    "reserved bit 1": Attack(frame(0xC1, 0x80), 1, None),
    "reserved bit 2": Attack(frame(0xA1, 0x80), 1, None),
    "reserved bit 3": Attack(frame(0x91, 0x80), 1, None),
    "reserved opcode 3": Attack(frame(0x83, 0x80), 1, None),
    "reserved opcode 11": Attack(frame(0x8B, 0x80), 1, None),
    "continuation of nothing": Attack(writes(masked(b"x", Opcode.CONTINUATION)), 1, None),
    "text within a text": Attack(writes(masked(b"x", final=False), masked(b"y")), 1, None),
    "fragmented ping": Attack(writes(masked(b"x", Opcode.PING, final=False)), 1, None),
    "long ping": Attack(writes(masked(b"x" * 126, Opcode.PING)), 1, None),
    "length in a longer form": Attack(frame(0x81, 0xFE, b"\x00\x05"), 1, None),
    "length over 63 bits": Attack(frame(0x81, 0xFF, b"\xff" * 8), 1, None),
    "no UTF-8": Attack(writes(masked(b"\xff\xfe")), 1, None),
    "half a character": Attack(writes(masked(b"\xe2\x82")), 1, None),
    "zeros": Attack(floods(b"\x00" * 100), 1, None),
    "ones": Attack(floods(b"\xff" * 100), 1, None),
    "HTTP": Attack(writes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1, None),
    # --- close frames ---
    "close with one byte": Attack(writes(masked(b"\x03", Opcode.CLOSE)), 1, None),
    "close with a code that must not be sent": Attack(writes(masked(b"\x03\xee", Opcode.CLOSE)), 1, None),
    "close with code 0": Attack(writes(masked(b"\x00\x00", Opcode.CLOSE)), 1, None),
    "close with a reason that is no UTF-8": Attack(writes(masked(b"\x03\xe8\xff", Opcode.CLOSE)), 1, None),
    "close, then more": Attack(close_then_more, 1, 1000, counted=False),
    # --- too much ---
    "huge frame": Attack(writes(masked(b"x" * 5000)), 1, 1009),
    "huge announced length": Attack(
        frame(0x82, 0xFF, b"\x00\x00\x00\xff\xff\xff\xff\xff"), DEAD, 4009, counted=False
    ),
    "huge announced length, and bytes": Attack(
        floods(b"x" * 1000, first=b"\x82\xff\x00\x00\x00\xff\xff\xff\xff\xff\x11\x22\x33\x44"), 1, 1009
    ),
    "fragments for ever": Attack(
        floods(masked(b"x" * 10, 0, final=False), first=masked(final=False)), 1, 1009
    ),
    "empty fragments for ever": Attack(
        floods(masked(b"", 0, final=False), first=masked(final=False)), GOODBYE, 1008
    ),
    "messages for ever": Attack(floods(masked(b"x" * 1000)), GOODBYE, 1008),
    "empty messages for ever": Attack(floods(masked()), GOODBYE, 1008),
    "pings for ever": Attack(floods(masked(b"x" * 100, Opcode.PING)), GOODBYE, 1008),
    "pongs for ever": Attack(floods(masked(b"x" * 100, Opcode.PONG)), GOODBYE, 1008),
    # --- too little ---
    "no pong": Attack(nothing, DEAD, 4009, counted=False),
    "vanished": Attack(half_a_frame_and_gone, 1, None, counted=False),
    # --- before the upgrade ---
    "nothing at all": Attack(nothing, 10, None, opened=False),
    "one byte": Attack(writes(b"G"), 10 + LINGER, 408, opened=False),
    "a head at a byte a second": Attack(slow_head, 10 + LINGER, 408, opened=False),
    "a body at a byte a second": Attack(slow_body, 10 + LINGER, 408, opened=False),
    "a head without an end": Attack(endless_head, LINGER, 431, opened=False),
    "a target without an end": Attack(endless_target, LINGER, 414, opened=False),
    "a body without an end": Attack(endless_body, LINGER, 413, opened=False),
    "no HTTP": Attack(floods(b"\x16\x03\x01" * 30), LINGER, 400, opened=False),
    "gone in the handshake": Attack(gone_in_the_handshake, 1, None, opened=False),
}


@pytest.mark.threat("T9")
@pytest.mark.contract("H7", "H11")
@pytest.mark.parametrize("name", ATTACKS)
async def test_it_costs_this_connection_only_and_within_a_stated_time(
    autojump_clock: MockClock, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    attack = ATTACKS[name]
    async with open_hub(limits=limits(max_send_bytes=1 << 20)) as scene:
        async with unharmed(scene, caplog):
            await trio.sleep(0.5)
            visitor = await scene.visit()
            if attack.opened:
                await visitor.open()
            start = trio.current_time()
            code = await under(attack, visitor)
            lasted = trio.current_time() - start
            assert code == attack.code
            assert lasted <= attack.within
        assert scene.hub.counters.closed_abusive == (attack.opened and attack.counted)
        assert scene.hub.counters.closed_dead == (attack.code == 4009)


async def under(attack: Attack, visitor: Visitor) -> int | None:
    """Attack, read all along, and return what was said at the end, once it is over."""
    said: list[int | None] = []

    async def read() -> None:
        if attack.opened:
            said.append(await visitor.close_code())
        else:
            said.append(await _status(visitor))
        over.set()
        nursery.cancel_scope.cancel()

    over = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        # The hub ends it, which is what this is about.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await attack.act(visitor)
        await over.wait()
    return said[0]


async def _status(visitor: Visitor) -> int | None:
    """Read to the end of the connection and return the status of the answer, if there was one."""
    rest = await visitor.rest()
    return int(rest.split(b" ")[1]) if rest else None


# --- clients that do not read ---


async def all_over(before: int) -> None:
    """Wait until there are no more tasks than there were, looking ten times a second."""
    while living_tasks() > before:  # noqa: ASYNC110  (nothing tells when a task has ended)
        await trio.sleep(0.1)


@pytest.mark.contract("H7", "H11")
async def test_who_has_vanished_without_a_word_is_forgotten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing comes from it any more, and nothing that is sent to it comes back as an error."""
    async with open_hub() as scene, unharmed(scene, caplog):
        await (await scene.visit()).open()
        with closing_within(DEAD):
            await gone(scene, left=2)
        assert scene.hub.counters.closed_dead == 1


@pytest.mark.contract("H7", "H11")
@pytest.mark.parametrize("target", ["/websocket", "/websocket?since=0"])
async def test_who_reads_a_byte_a_second_is_sent_away(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    async with open_hub() as scene:
        scene.tell(500)
        async with unharmed(scene, caplog):
            visitor = await scene.visit(window=2048)
            await visitor.open(target)
            with closing_within(DEAD):
                while await visitor.more(1):
                    await trio.sleep(1)
                    if len(scene.hub.connections) == 2:
                        break


@pytest.mark.threat("T9")
@pytest.mark.contract("H7", "H11")
async def test_who_does_not_read_while_much_comes_is_sent_away_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(limits=limits(max_queue_bytes=100_000)) as scene, unharmed(scene, caplog):
        before = living_tasks()
        stuck = await scene.visit(window=2048)
        await stuck.open()
        most = 0
        while len(scene.hub.connections) > 2:
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 900))
            most = max(most, *(figures.queued_bytes for figures in scene.hub.statistics()))
            await settled()
        assert 50_000 < most <= 100_000
        with closing_within(GOODBYE):
            await all_over(before)
        assert scene.hub.counters.closed_slow == 1


@pytest.mark.contract("H7", "H11")
async def test_the_same_on_sockets_of_the_kernels(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_real_hub(limits=limits(max_queue=20), log=small_log(max_messages=10_000)) as scene:
        witnesses = [await scene.subscribe() for _ in range(2)]
        before = living_tasks()
        stuck = await scene.visit()
        await stuck.open()
        while len(scene.hub.connections) > 2:
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 100_000))
            for witness in witnesses:
                await witness.wait_for(scene.hub.log.head)
        start = trio.current_time()
        while living_tasks() > before:
            mock_clock.jump(0.5)
            await settled()
        assert trio.current_time() - start <= GOODBYE
        expected = scene.hub.log.head + 1
        scene.gateway.deliver(text="and on")
        for witness in witnesses:
            await witness.wait_for(expected)
            assert witness.numbers == list(range(1, expected + 1))
    assert logged(caplog.records, logging.ERROR) == []


@pytest.mark.contract("H7", "H12")
async def test_who_reads_a_recovery_slowly_gets_no_more_time_than_that(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub() as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 5_000))
        async with unharmed(scene, caplog):
            visitor = await scene.visit(window=2048)
            await visitor.write(visitor.head("/websocket/messages?since=0"))
            # 30 s, and what is on its way then is still read.
            with closing_within(30 + 1 + 2048 / 100):
                while await visitor.more(100):  # noqa: ASYNC110
                    await trio.sleep(1)


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


def client_context(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_context(authority: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


TLS_NONSENSE: Final[dict[str, tuple[bytes, float]]] = {
    "garbage": (b"\xff" * 1000, 1),
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    "nothing": (b"", 10),
    "half a hello": (b"\x16\x03\x01\x02\x00\x01", 10),
    "an alert": (b"\x15\x03\x03\x00\x02\x02\x28", 1),
}


@pytest.mark.contract("H7", "H11")
@pytest.mark.parametrize("name", TLS_NONSENSE)
async def test_a_handshake_that_is_none_costs_this_connection_only(
    autojump_clock: MockClock, authority: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, within = TLS_NONSENSE[name]
    async with open_hub(ssl_context=server_context(authority)) as scene:
        async with unharmed(scene, caplog, tls=client_context(authority)):
            visitor = await scene.visit()
            await visitor.write(data)
            with closing_within(within):
                await visitor.rest()


@pytest.mark.contract("H7", "H11")
async def test_a_tls_client_that_stops_reading_costs_its_connection_only(
    autojump_clock: MockClock, authority: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tls = client_context(authority)
    async with open_hub(ssl_context=server_context(authority), limits=limits(max_queue=50)) as scene:
        async with unharmed(scene, caplog, tls=tls):
            before = living_tasks()
            stuck = await scene.visit(stream=trusting(tls, await scene.dial(window=4096)))
            await stuck.open()
            while len(scene.hub.connections) > 2:
                scene.tell(10)
                await settled()
            with closing_within(GOODBYE):
                await all_over(before)


# --- many ---


async def crowd(scene: Scene, count: int) -> list[Visitor]:
    """Open so many connections, as fast as the listener takes them."""
    visitors: list[Visitor] = []
    for _ in range(count):
        visitors.append(await scene.visit())
        if len(visitors) % 50 == 0:
            await settled()
    return visitors


@pytest.mark.threat("T8")
@pytest.mark.contract("H7")
async def test_a_thousand_connections_that_say_nothing_keep_nobody_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(limits=limits(max_pending=100)) as scene, unharmed(scene, caplog):
        before = living_tasks()
        visitors = await crowd(scene, 1100)
        assert living_tasks() - before <= 100
        assert (await scene.messages(0))["gap"] is None, "who has a token gets in between them"
        oldest = visitors[:1000]
        with closing_within(1):
            for visitor in oldest:
                assert not await visitor.more()
        assert living_tasks() - before <= 100
        await trio.sleep(11)
        assert living_tasks() == before


@pytest.mark.contract("H7")
async def test_a_thousand_connections_over_the_limit_are_told_to_come_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(limits=limits(max_connections=30, max_pending=100)) as scene:
        async with unharmed(scene, caplog):
            inside = [await scene.subscribe() for _ in range(28)]
            before = living_tasks()
            waits: set[str] = set()
            for _ in range(50):
                for visitor in await crowd(scene, 20):
                    refused = await visitor.upgrade()
                    assert refused.status == 503
                    waits.add(refused.headers["retry-after"])
                assert living_tasks() - before <= 100
                assert len(scene.hub.connections) == 30
            assert len(waits) > 1, "not all at the same moment"
            assert (await scene.ask("/healthz")).status == 200
            assert not any(subscriber.ended.is_set() for subscriber in inside)
            # One leaves, one may come.
            inside.pop().visitor.vanish()
            await settled()
            newcomer = await scene.subscribe()
            for subscriber in (*inside, newcomer):
                subscriber.visitor.vanish()
        assert scene.hub.counters.refused[503] == 1000

"""A fake gateway, a hub and its clients on a virtual clock, with faults drawn from a seed.

The sibling of :mod:`tests.simulation`, whose seeds, faults of the gateway and
:class:`Violation` it shares. What the hub gave out is written down where it is numbered;
what each client got or was told is compared with that, number by number.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

import msgspec
import trio

from trio_signal import (
    Backoff,
    ConnectionState,
    Cursor,
    Gap,
    GapReason,
    OutgoingMessage,
    ReceivedMessage,
    SignalClient,
    open_signal_client,
)
from trio_signal.hub import Authenticator, Hub, HubLimits, LogEntry, MessageLog, make_token, serve_hub
from trio_signal.testing import FakeGateway, MemoryListener, MemoryStream, open_fake_gateway

from .simulation import Violation, check_outcome, living_sockets, run_world

#: How long the trouble lasts, in virtual seconds, and how long everything then has to come right again.
TROUBLE: Final = 150.0
PEACE: Final = 600.0

KEY: Final = b"a key of at least thirty-two bytes"

LETTERS_TO: Final = ("+15550002", "+15550003")


@dataclass
class Truth:
    """What one log gave out: the text of the message, or the gap, behind each number."""

    epoch: str
    entries: list[str | tuple[int, int]] = field(default_factory=list)


class RecordingLog(MessageLog):
    """A log that also writes down what it numbers."""

    def __init__(self, world: "World", **options: Any) -> None:
        super().__init__(**options)
        self.truth = Truth(self.epoch)
        world.truths[self.epoch] = self.truth

    def append(self, data: bytes, *, timestamp: int) -> LogEntry:
        entry = super().append(data, timestamp=timestamp)
        self._record(entry, _text(data))
        return entry

    def append_gap(self, gap: Gap, *, timestamp: int) -> LogEntry:
        entry = super().append_gap(gap, timestamp=timestamp)
        self._record(entry, (gap.since, gap.until))
        return entry

    def _record(self, entry: LogEntry, what: str | tuple[int, int]) -> None:
        self.truth.entries.append(what)
        assert entry.sequence == len(self.truth.entries)


class Wire(trio.abc.Stream):
    """A client's connection to the hub that can go dead without a sign."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.is_dead = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_dead:
            await trio.lowlevel.checkpoint()
            return
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self.stream.receive_some(max_bytes)
        if self.is_dead:
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        if self.is_dead:
            # The end of a dead line reaches nobody either; the hub has to notice by itself.
            await trio.lowlevel.checkpoint()
            return
        await self.stream.aclose()


@dataclass
class Listener:
    """One who comes to the hub, leaves, and comes back with a cursor."""

    name: str
    random: Random
    client: SignalClient | None = None
    wires: list[Wire] = field(default_factory=list)
    #: In order of arrival; None stands for a beginning without a cursor.
    events: list[Any] = field(default_factory=list)
    cursor: Cursor | None = None
    letters: list[OutgoingMessage] = field(default_factory=list)
    stays: bool = False
    leave: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass
class World:
    """What happened in one run."""

    seed: int
    random: Random
    gateway: FakeGateway
    listeners: list[Listener]
    key: Authenticator | None
    token_lifetime: float
    log_options: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    truths: dict[str, Truth] = field(default_factory=dict)
    emitted: int = 0
    hub: Hub | None = None
    door: MemoryListener = field(default_factory=MemoryListener)
    server: trio.CancelScope = field(default_factory=trio.CancelScope)
    process: trio.CancelScope = field(default_factory=trio.CancelScope)
    downtime: float = 0.0
    over: bool = False

    def check(self, condition: bool, promise: str) -> None:
        """Stop the run unless a promise holds."""
        if not condition:
            again = f"see it again: python -m tests.hub_simulation {self.seed}"
            raise Violation("\n".join([f"seed {self.seed}: {promise}", *self.faults, again]))

    def note(self, fault: str) -> None:
        """Write a fault down."""
        self.faults.append(f"{trio.current_time():8.2f} {fault}")

    async def connect(self, listener: Listener, host: str, port: int) -> Wire:
        wire = Wire(await self.door.connect(host, port))
        listener.wires.append(wire)
        return wire

    def token(self) -> str:
        return make_token(KEY, "listener", ttl=self.token_lifetime, clock=trio.current_time)


def run_seed(seed: int) -> World:
    """Run one simulation on its own virtual clock.

    Raises:
        Violation: a promise of the contract was broken.
    """
    return run_world(_simulate, seed)


async def _simulate(seed: int) -> World:
    random = Random(seed)
    async with open_fake_gateway(port=None, answer_delay=random.choice((0.0, 0.05, 0.5))) as gateway:
        world = World(
            seed,
            random,
            gateway,
            [Listener(f"listener-{n}", Random(f"{seed}-{n}")) for n in range(3)],
            Authenticator(KEY, leeway=0, clock=trio.current_time) if random.random() < 0.5 else None,
            random.choice((20.0, 3600.0)),
            {"max_messages": random.choice((5, 50, 500)), "max_age": random.choice((20.0, 900.0))},
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_hub, world)
            for listener in world.listeners:
                nursery.start_soon(_listen, world, listener)
            async with trio.open_nursery() as actors:
                actors.start_soon(_correspond, world)
                actors.start_soon(_break_things, world)
            await _come_to_rest(world)
            nursery.cancel_scope.cancel()
    for listener in world.listeners:
        _check_receiving(world, listener)
    _check_sending(world)
    return world


# --- The programs. ---


async def _run_hub(world: World) -> None:
    while True:
        with trio.CancelScope() as world.process:
            async with open_signal_client(
                world.gateway.url,
                world.gateway.account,
                connect=world.gateway.connect,
                backoff=Backoff(random=Random(world.seed)),
                wall_clock=trio.current_time,
                close_timeout=1.0,
            ) as client:
                log = RecordingLog(world, clock=trio.current_time, **world.log_options)
                while True:
                    await _serve(world, client, log)
                    await trio.sleep(world.downtime)
        await trio.sleep(world.downtime)


async def _serve(world: World, client: SignalClient, log: MessageLog) -> None:
    world.door = MemoryListener()
    with trio.CancelScope() as world.server:
        async with trio.open_nursery() as nursery:
            world.hub = await nursery.start(
                partial(
                    serve_hub,
                    client,
                    key=world.key,
                    log=log,
                    listeners=[world.door],
                    limits=HubLimits(max_queue=world.random.choice((4, 1000)), heartbeat_interval=5.0),
                    wall_clock=trio.current_time,
                    random=Random(world.seed),
                )
            )
    world.hub = None


async def _listen(world: World, listener: Listener) -> None:
    random = listener.random
    while True:
        if listener.cursor is None:
            listener.events.append(None)
        with trio.CancelScope() as listener.leave:
            async with open_signal_client(
                "http://127.0.0.1",
                world.gateway.account,
                gateway="hub",
                cursor=listener.cursor,
                connect=partial(world.connect, listener),
                token=None if world.key is None else world.token,
                inbox_size=random.choice((3, 10_000)),
                backoff=Backoff(random=random),
                wall_clock=trio.current_time,
                send_timeout=60.0,
                close_timeout=random.choice((0.0, 5.0)),
            ) as client:
                listener.client = client
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_take, listener, client)
                    nursery.start_soon(_write, world, listener, client)
                    await trio.sleep(random.choice((20.0, 60.0, 1e9)))
                    if not listener.stays:
                        nursery.cancel_scope.cancel()
                    await trio.sleep_forever()
        listener.client = None
        if not listener.stays:
            world.note(f"{listener.name} is away")
            await trio.sleep(random.choice((0.0, 5.0, 40.0)))


async def _take(listener: Listener, client: SignalClient) -> None:
    pause = listener.random.choice((0.0, 0.0, 1.0))
    async for event in client.events():
        listener.events.append(event)
        listener.cursor = client.cursor
        if pause and not listener.stays:
            await trio.sleep(listener.random.uniform(0, pause))


async def _write(world: World, listener: Listener, client: SignalClient) -> None:
    random = listener.random
    mean = random.choice((2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.expovariate(1 / mean))
        text = f"{listener.name}-{len(listener.letters)}"
        listener.letters.append(await client.send_message(random.choice(LETTERS_TO), text))


async def _correspond(world: World) -> None:
    mean = world.random.choice((0.5, 2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(world.random.expovariate(1 / mean))
        _emit(world)


def _emit(world: World) -> str:
    text = f"in-{world.emitted}"
    world.emitted += 1
    world.gateway.deliver(text=text)
    return text


# --- What goes wrong. ---

Fault = Callable[[World], Awaitable[None] | None]


async def _break_things(world: World) -> None:
    mean = world.random.choice((3.0, 10.0, 40.0))
    while True:
        await trio.sleep(world.random.expovariate(1 / mean))
        if trio.current_time() >= TROUBLE:
            return
        name = world.random.choice(sorted(FAULTS))
        world.note(name)
        doing = FAULTS[name](world)
        if doing is not None:
            await doing


def _nonsense(world: World) -> None:
    world.gateway.deliver_raw(world.random.choice(('{"a":', "[1]", "null", '"in-x"', "{}")))


def _burst(world: World) -> None:
    for _ in range(world.random.choice((2, 20, 200))):
        _emit(world)


def _down_for(world: World) -> None:
    world.downtime = world.random.choice((0.0, 1.0, 30.0))


def _restart_server(world: World) -> None:
    _down_for(world)
    world.server.cancel()


def _shut_down(world: World) -> None:
    _down_for(world)
    if world.hub is not None:
        world.hub.shutdown()


def _kill_process(world: World) -> None:
    _down_for(world)
    world.process.cancel()


def _on_a_wire(harm: Callable[[Wire], None]) -> Fault:
    def fault(world: World) -> None:
        listener = world.random.choice(world.listeners)
        for wire in listener.wires[-2:]:
            harm(wire)

    return fault


def _die(wire: Wire) -> None:
    wire.is_dead = True


async def _stranger(world: World, data: bytes, seconds: float) -> None:
    """Somebody connects, writes this and reads nothing."""
    try:
        stream = await world.door.connect()
        await stream.send_all(data)
        await trio.sleep(seconds)
        stream.close()
    except OSError:
        world.note("(the stranger found nobody there)")
    except trio.BrokenResourceError:
        world.note("(the stranger was thrown out)")


async def _who_does_not_read(world: World) -> None:
    token = f"Authorization: Bearer {world.token()}\r\n" if world.key else ""
    head = (
        f"GET /websocket?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{token}\r\n"
    )
    await _stranger(world, head.encode(), 40.0)


async def _who_talks_nonsense(world: World) -> None:
    await _stranger(world, world.random.randbytes(world.random.choice((10, 3000))), 1.0)


FAULTS: Final[dict[str, Fault]] = {
    "gateway_drop": lambda w: w.gateway.drop(),
    "gateway_close": lambda w: w.gateway.close(1001),
    "gateway_half_open": lambda w: w.gateway.half_open(),
    "gateway_restart": lambda w: w.gateway.restart(w.random.choice((0.5, 20.0))),
    "gateway_duplicate": lambda w: w.gateway.duplicate(2),
    "gateway_nonsense": _nonsense,
    "burst": _burst,
    "server_restart": _restart_server,
    "hub_shutdown": _shut_down,
    "hub_killed": _kill_process,
    "wire_reset": _on_a_wire(lambda wire: wire.stream.reset()),
    "wire_closed": _on_a_wire(lambda wire: wire.stream.close()),
    "wire_dead": _on_a_wire(_die),
    "who_does_not_read": _who_does_not_read,
    "who_talks_nonsense": _who_talks_nonsense,
}


async def _come_to_rest(world: World) -> None:
    """Mend everything and see that everybody catches up (O10, R3)."""
    world.note("everything is mended")
    world.downtime = 0.0
    world.gateway.heal()
    await world.gateway.start()
    for listener in world.listeners:
        listener.stays = True
    deadline = trio.current_time() + PEACE
    while not all(_has_all(world, listener) for listener in world.listeners):
        world.check(trio.current_time() < deadline, f"O10: not at rest {PEACE:g} s after the trouble")
        await trio.sleep(10)
    last = _emit(world)
    await trio.sleep(20)
    for listener in world.listeners:
        texts = [event.text for event in listener.events if isinstance(event, ReceivedMessage)]
        world.check(texts[-1:] == [last], f"R3: {listener.name} did not get a message over a sound link")
    # Fewer where a token has just run out.
    world.check(world.hub is not None and len(world.hub.connections) <= 3, "H7: a connection was left open")


def _has_all(world: World, listener: Listener) -> bool:
    client, hub = listener.client, world.hub
    if client is None or hub is None or client.state is not ConnectionState.CONNECTED:
        return False
    figures, cursor = client.statistics(), client.cursor
    idle = figures.buffer.waiting == 0 and not figures.in_flight and figures.inbox.waiting == 0
    upstream = hub.signal.statistics()
    settled = upstream.inbox.waiting == 0 and len(living_sockets(world.gateway)) == 1
    return idle and settled and cursor is not None and cursor.sequence == hub.log.head


# --- The promises. ---


def _text(data: bytes) -> str:
    """Return the text of a gateway's frame; what has none is told apart by its bytes."""
    try:
        found: Any = msgspec.json.decode(data)
        return str(found["envelope"]["dataMessage"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def _check_receiving(world: World, listener: Listener) -> None:
    """Each number is received once, in order, or stands in a gap in its place (R1, R2, R3, H1 to H5)."""
    places = {
        text: (epoch, number)
        for epoch, truth in world.truths.items()
        for number, text in enumerate(truth.entries, start=1)
        if isinstance(text, str) and text
    }
    at: tuple[str, int] | None = None
    last = 0
    gaps: list[Gap] = []
    for event in listener.events:
        if event is None:
            at, gaps = None, []
        elif isinstance(event, Gap):
            gaps.append(event)
        elif isinstance(event, ReceivedMessage) and event.text is not None:
            world.check(
                event.text in places, f"H1: {listener.name} got {event.text}, which was never numbered"
            )
            here = places[event.text]
            emitted = int(event.text.split("-")[1])
            if at is not None:
                _check_step(world, listener, at, here, gaps)
                unnumbered = [n for n in range(last + 1, emitted) if f"in-{n}" not in places]
                world.check(
                    not unnumbered or bool(gaps),
                    f"R3: nobody told {listener.name} that the hub was away for {unnumbered}",
                )
            at, gaps, last = here, [], emitted


def _check_step(
    world: World, listener: Listener, at: tuple[str, int], here: tuple[str, int], gaps: list[Gap]
) -> None:
    if at[0] != here[0]:
        told = any(gap.reason is GapReason.EPOCH_CHANGED for gap in gaps)
        world.check(told, f"H3: {listener.name} went from {at} to {here} without being told")
        return
    world.check(here[1] > at[1], f"R1: {listener.name} went from {at} back to {here}")
    entries = world.truths[here[0]].entries
    for number in range(at[1] + 1, here[1]):
        entry = entries[number - 1]
        covered = any((gap.first or 0) <= number <= (gap.last or -1) for gap in gaps)
        # An absence of the hub's is a number of its own; what is no message has no text to be told by.
        in_place = isinstance(entry, tuple) and any((gap.since, gap.until) == entry for gap in gaps)
        world.check(
            covered or in_place or entry == "" or any(gap.reason is GapReason.EPOCH_CHANGED for gap in gaps),
            f"R3: {listener.name} lacks {number} ({entry}) between {at} and {here}, told {gaps}",
        )


def _check_sending(world: World) -> None:
    arrivals: dict[str, int] = defaultdict(int)
    orders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for request in world.gateway.received:
        if request.timestamp is not None:
            name, _, number = request.message.rpartition("-")
            arrivals[request.message] += 1
            orders[name, request.recipients[0]].append(int(number))
    for who, order in orders.items():
        world.check(order == sorted(order), f"O4: out of order, {who}: {order}")
    for listener in world.listeners:
        for letter in listener.letters:
            world.check(letter.outcome is not None, f"O1: {letter} has no outcome")
            check_outcome(world, letter, arrivals[letter.text], at_least_once=False)


def main() -> None:
    """Run the seeds given on the command line and tell their story."""
    import sys

    for seed in map(int, sys.argv[1:]):
        print("\n".join(run_seed(seed).faults))  # noqa: T201


if __name__ == "__main__":
    main()

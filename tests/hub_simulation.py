"""The whole on a virtual clock: a fake gateway, a hub and three clients of it, with faults drawn from a seed.

The sibling of :mod:`tests.simulation`, whose worlds of one client it goes beyond: the hub, and some of its
clients, have a store on the disk, and each of them is killed and comes back with what was on the disk at
that moment. What the hub gave out is written down where it becomes visible; what each client got or was told
is compared with that, number by number, over all its lives.

A world that breaks a promise is run again with fewer and fewer faults, and the shortest schedule that still
breaks one is told: see :func:`run_seed`.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import msgspec
import trio

from trio_signal import (
    Backoff,
    Certainty,
    ConnectionState,
    Cursor,
    Failed,
    Gap,
    GapReason,
    MessageSettled,
    Outcome,
    OutgoingMessage,
    ReceivedMessage,
    SignalClient,
    StoreError,
    StoreFull,
    open_signal_client,
)
from trio_signal._errors import told as cause_of
from trio_signal._outgoing import on_done
from trio_signal.hub import Authenticator, Hub, HubLimits, LogEntry, MessageLog, make_token, serve_hub
from trio_signal.store import _open
from trio_signal.store._batch import LogPast
from trio_signal.store._keeper import _apply
from trio_signal.store._keeper import _close as _close_with
from trio_signal.testing import FakeGateway, MemoryListener, MemoryStream, open_fake_gateway

from . import simulation
from .schedules import Step, draw, parse, shrink
from .simulation import Violation, check_fate, living_sockets, run_world
from .stores import KilledStore

#: How long the trouble lasts, in virtual seconds, and how long everything then has to come right again.
TROUBLE: Final = 60.0
PEACE: Final = 900.0

KEY: Final = b"a key of at least thirty-two bytes"

LETTERS_TO: Final = ("+15550002", "+15550003")


@dataclass
class Truth:
    """What one log gave out: the text of the message, or the gap, behind each number."""

    entries: list[str | tuple[int, int]] = field(default_factory=list)


class RecordingLog(MessageLog):
    """A log that also writes down what becomes visible in it."""

    def __init__(self, world: "World", **options: Any) -> None:
        self._world = world
        super().__init__(**options)

    def resume(self, past: LogPast, *, wall: int) -> None:
        super().resume(past, wall=wall)
        world, truth = self._world, self._truth
        for row in past.rows if past.continues else ():
            if row.sequence <= len(truth.entries):
                same = truth.entries[row.sequence - 1] == _content(row.body)
                world.check(same, f"H3: {row.sequence} is another message after the restart")
            else:
                # On the disk when the process was killed and not offered yet, or gone again without that.
                truth.entries += [""] * (row.sequence - 1 - len(truth.entries))
                truth.entries.append(_content(row.body))
        offered = len(truth.entries)
        world.check(self.head >= offered, f"H1: the log goes on at {self.head}, but {offered} was offered")
        truth.entries += [""] * (self.head - offered)

    def _keep(self, body: bytes, came: float | None = None) -> LogEntry:
        entry = super()._keep(body, came)
        if came is None:
            self._truth.entries.append(_content(body))
            assert entry.sequence == len(self._truth.entries)
        return entry

    @property
    def _truth(self) -> Truth:
        return self._world.truths[self.epoch]


class Disk:
    """Runs what a store writes; it takes its time, and may be full."""

    def __init__(self, latency: float) -> None:
        self._latency: Final = latency
        self.is_full = False

    async def __call__(self, work: Callable[[], None]) -> None:
        await trio.sleep(self._latency)
        if self.is_full:
            self._write_nothing(work)
        else:
            work()
        # It is on the disk, and nobody knows yet.
        await trio.sleep(self._latency)

    def _write_nothing(self, work: Callable[[], None]) -> None:
        """Do of it what a full disk lets be done: a file can always be closed."""
        assert isinstance(work, partial)
        if work.func is _close_with:
            work.args[0].close(clean=False)
        elif work.func not in {_apply, _open}:
            work()
            return
        raise StoreFull("no room")


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
    #: What survives when it is killed; without one it remembers its cursor, as a careful program does.
    kept: KilledStore | None
    client: SignalClient | None = None
    wires: list[Wire] = field(default_factory=list)
    #: In order of arrival; None stands for a beginning without a cursor, KILLED for the end of a life.
    events: list[Any] = field(default_factory=list)
    cursor: Cursor | None = None
    letters: list[OutgoingMessage] = field(default_factory=list)
    #: What it was told of each message, in all its lives.
    told: defaultdict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    written: int = 0
    lives: int = 0
    stays: bool = False
    leave: trio.CancelScope = field(default_factory=trio.CancelScope)


#: Stands among a listener's events.
KILLED: Final = "killed"


@dataclass
class World:
    """What happened in one run."""

    seed: int
    steps: tuple[Step, ...]
    #: For the fault that is at work; each has its own numbers.
    random: Random
    gateway: FakeGateway
    listeners: list[Listener]
    #: What survives when the hub's process is killed.
    kept: KilledStore | None
    disk: Disk
    key: Authenticator | None
    token_lifetime: float
    log_options: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    truths: defaultdict[str, Truth] = field(default_factory=lambda: defaultdict(Truth))
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
            steps = " ".join(map(str, self.steps))
            again = f"see it again: python -m tests.hub_simulation {self.seed} '{steps}'"
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
        Violation: a promise of the contract was broken; with the shortest schedule that shows it.
    """
    try:
        return run_schedule(seed, None)
    except Exception as failure:
        steps = shrink(_steps(seed), lambda steps: _fails(seed, steps), tries=60)
        try:
            run_schedule(seed, steps)
        except Exception as shorter:
            raise shorter from failure
        raise


def run_schedule(seed: int, steps: tuple[Step, ...] | None) -> World:
    """Run the world of a seed with another schedule of faults than its own."""
    # In memory where there is such a folder: a disk's own time is nothing that a virtual clock could show.
    memory = "/dev/shm"  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:  # noqa: PTH112
        schedule = _steps(seed) if steps is None else steps
        try:
            return run_world(partial(_simulate, steps=schedule, folder=Path(folder)), seed)
        except ExceptionGroup as group:
            raise cause_of(group) from group


def _steps(seed: int) -> tuple[Step, ...]:
    random = Random(f"{seed}-schedule")
    return draw(random, FAULTS, mean=random.choice((3.0, 10.0, 30.0)), until=TROUBLE)


def _fails(seed: int, steps: tuple[Step, ...]) -> bool:
    try:
        run_schedule(seed, steps)
    except Exception:  # noqa: BLE001  (whatever it is, it is what is looked for)
        return True
    return False


async def _simulate(seed: int, steps: tuple[Step, ...], folder: Path) -> World:
    random = Random(seed)
    disk = Disk(random.choice((0.0, 0.002, 0.2)))

    def store(name: str) -> KilledStore | None:
        (folder / name).mkdir()
        return KilledStore(folder / name, run=disk) if random.random() < 0.7 else None

    async with open_fake_gateway(port=None, answer_delay=random.choice((0.0, 0.05, 0.5))) as gateway:
        world = World(
            seed,
            steps,
            random,
            gateway,
            [Listener(name, Random(f"{seed}-{name}"), store(name)) for name in ("one", "two", "three")],
            store("hub"),
            disk,
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
    random = Random(f"{world.seed}-hub")
    while True:
        with trio.CancelScope() as world.process:
            try:
                await _run_hub_process(world, random)
            except StoreError as error:
                world.note(f"(the hub does not start: {error})")
        await trio.sleep(max(world.downtime, 0.1))


async def _run_hub_process(world: World, random: Random) -> None:
    async with open_signal_client(
        world.gateway.url,
        world.gateway.account,
        connect=world.gateway.connect,
        backoff=Backoff(random=random),
        wall_clock=trio.current_time,
        close_timeout=1.0,
        max_in_flight=_in_flight(world, "hub"),
        store=None if world.kept is None else world.kept.store,
    ) as client:
        log = RecordingLog(world, clock=trio.current_time, **world.log_options)
        while True:
            await _serve(world, client, log, random)
            await trio.sleep(world.downtime)


def _in_flight(world: World, who: str) -> int:
    """Say how many messages a client sends at once: for half of them it is one."""
    return Random(f"{world.seed}-{who} in flight").choice((1, 1, 2, 8))


async def _serve(world: World, client: SignalClient, log: MessageLog, random: Random) -> None:
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
                    limits=HubLimits(max_queue=random.choice((4, 1000)), heartbeat_interval=5.0),
                    wall_clock=trio.current_time,
                    random=random,
                )
            )
    world.hub = None


async def _listen(world: World, listener: Listener) -> None:
    while True:
        if listener.cursor is None and listener.kept is None:
            listener.events.append(None)
        with trio.CancelScope() as listener.leave:
            try:
                await _live(world, listener)
            except StoreError as error:
                world.note(f"({listener.name} does not start: {error})")
        listener.client = None
        if world.disk.is_full:
            # How far it came could not be written down, so the last of it comes again.
            listener.events.append(KILLED)
        pause = 0.1 if listener.stays else listener.random.choice((0.1, 5.0, 40.0))
        world.note(f"{listener.name} is away")
        await trio.sleep(pause)


async def _live(world: World, listener: Listener) -> None:
    """Be there for a while."""
    random = listener.random
    listener.lives += 1
    async with open_signal_client(
        "http://127.0.0.1",
        world.gateway.account,
        gateway="hub",
        cursor=None if listener.kept else listener.cursor,
        store=listener.kept.store if listener.kept else None,
        connect=partial(world.connect, listener),
        token=None if world.key is None else world.token,
        inbox_size=random.choice((3, 10_000)),
        backoff=Backoff(random=random),
        wall_clock=trio.current_time,
        send_timeout=60.0,
        close_timeout=random.choice((0.0, 5.0)),
        max_in_flight=_in_flight(world, listener.name),
    ) as client:
        listener.client = client
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_take, listener, client)
            nursery.start_soon(_write, world, listener, client)
            await trio.sleep(random.choice((20.0, 60.0, 1e9)))
            if not listener.stays:
                nursery.cancel_scope.cancel()
            await trio.sleep_forever()


async def _take(listener: Listener, client: SignalClient) -> None:
    pause = listener.random.choice((0.0, 0.0, 1.0))
    async for event in client.events():
        listener.events.append(event)
        if isinstance(event, MessageSettled):
            listener.told[event.message_id].append(event.outcome)
        listener.cursor = client.cursor
        if pause and not listener.stays:
            await trio.sleep(listener.random.uniform(0, pause))


async def _write(world: World, listener: Listener, client: SignalClient) -> None:
    random = listener.random
    mean = random.choice((2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.expovariate(1 / mean))
        if trio.current_time() >= TROUBLE:
            # What is written while everybody comes to rest may have no outcome yet at the end.
            return
        text = f"{listener.name}-{listener.written}"
        listener.written += 1
        try:
            letter = await client.send_message(random.choice(LETTERS_TO), text, id=text)
        except StoreFull:
            continue
        listener.letters.append(letter)
        life = listener.lives

        def tell(message: OutgoingMessage, outcome: Outcome, life: int = life) -> None:
            # Who was killed hears nothing any more; what closes in its stead does so in another file.
            if listener.kept is None or life == listener.lives:
                listener.told[message.id].append(outcome)

        if (outcome := letter.outcome) is not None:
            tell(letter, outcome)
        else:
            on_done(letter, tell)


async def _correspond(world: World) -> None:
    random = Random(f"{world.seed}-people")
    mean = random.choice((0.5, 2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.expovariate(1 / mean))
        _emit(world)


def _emit(world: World) -> str:
    text = f"in-{world.emitted}"
    world.emitted += 1
    world.gateway.deliver(text=text)
    return text


# --- What goes wrong. ---

Fault = Callable[[World], Awaitable[None] | None]


async def _break_things(world: World) -> None:
    for step in world.steps:
        await trio.sleep_until(max(step.time, trio.current_time()))
        world.note(step.fault)
        world.random = Random(step.seed)
        doing = FAULTS[step.fault](world)
        if doing is not None:
            await doing
    await trio.sleep_until(TROUBLE)


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
    if world.kept is not None:
        world.kept.kill()
    world.process.cancel()


def _lose_the_store(world: World) -> None:
    """Somebody deletes the hub's file while it is down; it begins anew, under another name."""
    _kill_process(world)
    if world.kept is not None:
        world.kept.lose()


def _kill_a_listener(world: World) -> None:
    listener = world.random.choice(world.listeners)
    if listener.client is None:
        return
    if listener.kept is not None:
        listener.kept.kill()
        listener.events.append(KILLED)
        listener.lives += 1
    listener.leave.cancel()


async def _fill_the_disk(world: World) -> None:
    world.disk.is_full = True
    await trio.sleep(world.random.choice((1.0, 20.0)))
    world.disk.is_full = False


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


_OWN_FAULTS: Final[dict[str, Fault]] = {
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
    "listener_killed": _kill_a_listener,
    "store_lost": _lose_the_store,
    "disk_full": _fill_the_disk,
}

FAULTS: Final[dict[str, Fault]] = _OWN_FAULTS | {
    name: cast("Fault", simulation.FAULTS[name])
    for name in ("lost_answer", "limited", "bad_send", "hang_send", "cut_body", "slow_send")
}


async def _come_to_rest(world: World) -> None:
    """Mend everything and see that everybody catches up (O10, R3)."""
    world.note("everything is mended")
    world.downtime = 0.0
    world.disk.is_full = False
    world.gateway.heal()
    await world.gateway.start()
    for listener in world.listeners:
        listener.stays = True
    deadline = trio.current_time() + PEACE
    while True:
        await trio.sleep(10)
        if all(_has_all(world, listener) for listener in world.listeners):
            break
        world.check(trio.current_time() < deadline, f"O10: not at rest {PEACE:g} s after the trouble")
        if world.hub is not None:
            world.hub.signal.resume_sending()
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


def _content(body: bytes) -> str | tuple[int, int]:
    """Return the text behind a number, or when the hub was away; empty if there is no text."""
    found: Any = msgspec.json.decode(body)
    if found["type"] == "gap":
        return found["since"], found["until"]
    try:
        return str(found["data"]["envelope"]["dataMessage"]["message"])
    except (KeyError, TypeError):
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
    replays = False
    for event in listener.events:
        if event is None:
            at, gaps = None, []
        elif event is KILLED:
            # What it had taken at the last moment was not written down, and comes again.
            replays = True
        elif isinstance(event, Gap):
            gaps.append(event)
        elif isinstance(event, ReceivedMessage) and event.text is not None:
            world.check(
                event.text in places, f"H1: {listener.name} got {event.text}, which was never numbered"
            )
            here = places[event.text]
            emitted = int(event.text.split("-")[1])
            again = replays and at is not None and at[0] == here[0] and here[1] <= at[1]
            if at is not None and not again:
                _check_step(world, listener, at, here, gaps)
                unnumbered = [n for n in range(last + 1, emitted) if f"in-{n}" not in places]
                world.check(
                    not unnumbered or bool(gaps),
                    f"R3: nobody told {listener.name} that the hub was away for {unnumbered}",
                )
            at, gaps, last, replays = here, [], emitted, False


def _check_step(
    world: World, listener: Listener, at: tuple[str, int], here: tuple[str, int], gaps: list[Gap]
) -> None:
    if at[0] != here[0]:
        # Where the inbox was full, the change is part of what had no room, which then names no numbers (R8).
        told = any(
            gap.reason is GapReason.EPOCH_CHANGED or (gap.reason is GapReason.OVERFLOW and gap.first is None)
            for gap in gaps
        )
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
    for text, times in arrivals.items():
        world.check(times == 1, f"O5: {text} was sent {times} times")
    for listener in world.listeners:
        for letter in listener.letters:
            told = listener.told[letter.id]
            world.check(bool(told), f"O1, D1: {listener.name} was told nothing of {letter}")
            same = {_gist(outcome) for outcome in told}
            if any(step.fault == "disk_full" for step in world.steps):
                # It could not be written down, so that a later process does not know.
                same.discard(Certainty.UNKNOWN)
            world.check(len(same) <= 1, f"O1: {listener.name} was told {told} of {letter}")
            for outcome in told:
                check_fate(world, letter.text, outcome, arrivals[letter.text], at_least_once=False)


def _gist(outcome: Outcome) -> object:
    """Return what must be the same each time; an error may be told in other words."""
    return outcome.certainty if isinstance(outcome, Failed) else outcome


def main() -> None:
    """Run a seed given on the command line, perhaps with another schedule, and tell its story."""
    import sys

    seeds = sys.argv[1:]
    if len(seeds) == 2 and not seeds[1].isdigit():
        print("\n".join(run_schedule(int(seeds[0]), parse(seeds[1])).faults))  # noqa: T201
        return
    for seed in map(int, seeds):
        print("\n".join(run_schedule(seed, None).faults))  # noqa: T201


if __name__ == "__main__":
    main()

"""One client and one fake gateway on a virtual clock, with faults drawn from a seed.

Everything random comes from the seed, Trio's own scheduling included, so that a seed that
fails once fails always. :func:`run_seed` runs one and raises :class:`Violation` with the
whole story when a promise was broken.
"""

import logging
import math
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, Literal, Protocol, TypeVar, get_args

import pytest
import trio
import trio._core._run as trio_scheduler
import trio.testing

from trio_signal import (
    VALID_TRANSITIONS,
    Backoff,
    Certainty,
    ConnectionState,
    Dropped,
    Failed,
    Gap,
    Outcome,
    OutgoingMessage,
    RateLimit,
    ReceivedMessage,
    Sent,
    SignalClient,
    StateChange,
    open_signal_client,
)
from trio_signal import testing as answers
from trio_signal._errors import told
from trio_signal.gateways._kinds import ReceiveMode
from trio_signal.testing import START_TIME, FakeGateway, ReceiveSocket, open_fake_gateway

#: How long the trouble lasts, in virtual seconds, and how long everything then has to come right again.
TROUBLE: Final = 150.0
PEACE: Final = 4800.0

PEOPLE: Final = ("+15550002", "+15550003", "group.QUFFQ0F3UUZCZ2M9")

Overflow = Literal["drop_oldest", "drop_newest", "wait"]
Delivery = Literal["at_most_once", "at_least_once"]


_WorldT = TypeVar("_WorldT")


class Violation(AssertionError):
    """A promise was broken; the text says which, and how to see it again."""


@dataclass
class World:
    """What happened in one run."""

    seed: int
    random: Random
    gateway: FakeGateway
    client: SignalClient = field(init=False)
    faults: list[str] = field(default_factory=list)
    accepted: list[OutgoingMessage] = field(default_factory=list)
    emitted: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)
    peak_buffer: int = 0
    max_in_flight: int = 1
    #: The gateway loses what comes to it now without a sign that anybody could see (facts: sections 4 to 6).
    gateway_loses: bool = False
    lost_inside: set[int] = field(default_factory=set)
    #: The command that sees it again.
    again: str = "python -m tests.simulation"

    def check(self, condition: bool, promise: str) -> None:
        """Stop the run unless a promise holds."""
        if not condition:
            story = "\n".join([*self.faults, *map(repr, self.changes[-12:])])
            raise Violation(f"seed {self.seed}: {promise}\n{story}\nsee it again: {self.again} {self.seed}")

    def note(self, fault: str) -> None:
        """Write a fault down."""
        self.faults.append(f"{trio.current_time():8.2f} {fault}")


Fault = Callable[[World], Awaitable[None] | None]


def run_seed(seed: int) -> World:
    """Run one simulation on its own virtual clock.

    Raises:
        Violation: a promise of the contract was broken.
    """
    return run_world(_simulate, seed)


def run_signal_cli_seed(seed: int) -> World:
    """As :func:`run_seed`, with signal-cli's own daemon."""
    return run_world(_simulate_signal_cli, seed)


def run_world(simulate: Callable[[int], Awaitable[_WorldT]], seed: int) -> _WorldT:
    """Run a simulation in which everything random comes from the seed."""
    with pytest.MonkeyPatch.context() as patch:
        # Trio has no public way yet; Hypothesis switches the same two through a plug-in of Trio's.
        patch.setattr(trio_scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio_scheduler, "_r", Random(seed))
        return trio.run(simulate, seed, clock=trio.testing.MockClock(autojump_threshold=0))


def first_failure(run: Callable[[int], object], seeds: int, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Run many seeds on both cores of a small machine; return what went wrong first, or None.

    Args:
        run: runs one seed; a function of a module, since other processes call it.
        seeds: how many, from 0 on.
        monkeypatch: the test's own.
    """
    # The other tests measure what is covered; tracing would only make these worlds three times as slow.
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.delenv(name)
    # Spawned, not forked: a forked child would inherit the state of pytest and of coverage half way.
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
        outcomes = pool.imap(partial(_failure, run), range(seeds), chunksize=max(1, min(25, seeds // 8)))
        return next(filter(None, outcomes), None)


def _failure(run: Callable[[int], object], seed: int) -> str | None:
    """Run one seed; give what went wrong as text, since not every exception can cross processes."""
    logging.getLogger("trio_signal").setLevel(logging.CRITICAL)
    try:
        run(seed)
    except Exception as error:  # noqa: BLE001  (whatever it was, the parent fails with it)
        cause = told(error)
        kind = "" if isinstance(cause, Violation) else f"seed {seed}: {type(cause).__name__}: "
        return f"{kind}{cause}"
    return None


async def _simulate(seed: int) -> World:
    random = Random(seed)
    async with open_fake_gateway(
        port=None,
        version=random.choice(("0.100", "0.101")),
        answer_delay=random.choice((0.0, 0.05, 0.5)),
        ping_period=random.choice((54.0, 54.0, 1e9)),
    ) as gateway:
        return await _live(World(seed, random, gateway), FAULTS, {})


async def _simulate_signal_cli(seed: int) -> World:
    random = Random(seed)
    mode: ReceiveMode = random.choice(get_args(ReceiveMode))
    async with open_fake_gateway(
        kind="signal-cli",
        port=None,
        version=random.choice(("0.13.19", "0.14.9")),
        receive_mode=mode,
        answer_delay=random.choice((0.0, 0.05, 0.5)),
        backlog_spacing=random.choice((0.0, 0.3)),
    ) as gateway:
        world = World(seed, random, gateway, again="python -m tests.simulation --signal-cli")
        await _live(world, CLI_FAULTS, {"receive_mode": random.choice(("on-start", mode))})
        if mode != "on-start":
            _check_recovery(world)
        return world


async def _live(world: World, faults: Mapping[str, Fault], options: dict[str, Any]) -> World:
    """Open a client on a gateway, live through everything, and see that the promises were kept."""
    random, gateway, seed = world.random, world.gateway, world.seed
    delivery: Delivery = random.choice(get_args(Delivery))
    overflow: Overflow = random.choice(get_args(Overflow))
    world.max_in_flight = Random(f"in flight {seed}").choice((1, 1, 2, 8))
    async with open_signal_client(
        gateway.url,
        gateway.account,
        connect=gateway.connect,
        buffer_size=random.choice((1, 3, 20, 100)),
        overflow=overflow,
        max_in_flight=world.max_in_flight,
        delivery=delivery,
        inbox_size=random.choice((3, 10_000)),
        backoff=Backoff(random=Random(seed)),
        rate_limit=random.choice((None, RateLimit(20, per=1.0, burst=100), RateLimit(1, per=1.0, burst=2))),
        close_timeout=random.choice((0.0, 10.0)),
        send_timeout=random.choice((5.0, 60.0)),
        wall_clock=lambda: START_TIME + trio.current_time(),
        **options,
    ) as client:
        world.client = client
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_states, world)
            nursery.start_soon(_consume, world)
            with trio.fail_after(60):
                await client.wait_state(ConnectionState.CONNECTED)
            async with trio.open_nursery() as actors:
                actors.start_soon(_write, world)
                actors.start_soon(_correspond, world)
                actors.start_soon(_confirm, world)
                actors.start_soon(_use_the_phone, world)
                actors.start_soon(_break_things, world, faults)
            await _come_to_rest(world)
            nursery.cancel_scope.cancel()
        # Some leave with messages still waiting.
        for _ in range(random.choice((0, 3))):
            await _accept(world, trio.current_time() + 1)
    await _check_closed(world)
    _check_sending(world, at_least_once=delivery == "at_least_once")
    _check_receiving(world)
    return world


# --- The people and the programs. ---


async def _watch_states(world: World) -> None:  # noqa: ASYNC910  (each step is a checkpoint)
    # The iterator is made before the first change can happen.
    async for change in world.client.state_changes():
        world.changes.append(change)


async def _consume(world: World) -> None:
    pause = world.random.choice((0.0, 0.0, 2.0))
    async for event in world.client.events():
        world.events.append(event)
        if pause:
            await trio.sleep(world.random.uniform(0, pause))


async def _write(world: World) -> None:  # noqa: ASYNC910
    random = world.random
    mean = random.choice((0.5, 2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.expovariate(1 / mean))
        deadline = trio.current_time() + random.choice((1.0, 30.0)) if random.random() < 0.1 else math.inf
        await _accept(world, deadline)


async def _accept(world: World, deadline: float) -> None:
    random = world.random
    # Under "wait" an outage would hold the writer up for as long; a person gives up sooner.
    with trio.move_on_after(5):
        message = await world.client.send_message(
            random.choice(PEOPLE), f"out-{len(world.accepted)}-{random.getrandbits(30)}", deadline=deadline
        )
        world.accepted.append(message)
        if random.random() < 0.05:
            message.withdraw()
    buffer = world.client.statistics().buffer
    world.peak_buffer = max(world.peak_buffer, buffer.waiting)
    world.check(buffer.waiting <= buffer.max_size, "O3: the buffer holds more than it may")
    _check_ledger(world)


async def _correspond(world: World) -> None:  # noqa: ASYNC910
    random = world.random
    mean = random.choice((0.5, 2.0, 10.0))
    while trio.current_time() < TROUBLE:
        await trio.sleep(random.expovariate(1 / mean))
        _emit(world)


async def _confirm(world: World) -> None:  # noqa: ASYNC910
    """Send receipts for what arrived, as people's apps do: at once, or when they are switched on again."""
    random, chance, seen = world.random, world.random.choice((0.0, 0.5, 1.0)), 0
    async with trio.open_nursery() as receipts:
        while trio.current_time() < TROUBLE:
            await trio.sleep(0.3)
            arrived = world.gateway.received[seen:]
            seen += len(arrived)
            for request in arrived:
                if request.timestamp is None or random.random() >= chance:
                    continue
                to = request.recipients[0]
                for person in (to,) if to.startswith("+") else PEOPLE[:2]:
                    receipts.start_soon(_deliver_receipt, world, request.timestamp, person)


async def _use_the_phone(world: World) -> None:  # noqa: ASYNC910
    """Write to the same people from another device of the account, which Signal reports to all the others."""
    random, mean = world.random, world.random.choice((2.0, 10.0, 1e9))
    async with trio.open_nursery() as receipts:
        while trio.current_time() < TROUBLE:
            await trio.sleep(min(random.expovariate(1 / mean), TROUBLE))
            if world.gateway_loses:
                continue  # Nobody could tell that the report of it is lost.
            stamp, person = int((START_TIME + trio.current_time()) * 1000), random.choice(PEOPLE[:2])
            report = answers.envelopes.sync_sent(
                None, account=world.gateway.account, recipient=person, timestamp=stamp
            )
            world.gateway.deliver(report)
            receipts.start_soon(_deliver_receipt, world, stamp, person)


async def _deliver_receipt(world: World, stamp: int, person: str) -> None:
    await trio.sleep(world.random.choice((0.05, 1.0, 8.0)))
    world.gateway.deliver(answers.envelopes.receipt(stamp, sender=person))


def _emit(world: World) -> None:
    text = f"in-{len(world.emitted)}"
    if world.gateway_loses:
        world.lost_inside.add(len(world.emitted))
    world.emitted.append(text)
    world.gateway.deliver(text=text)


async def _break_things(world: World, faults: Mapping[str, Fault]) -> None:
    random = world.random
    mean = random.choice((5.0, 20.0, 60.0))
    while True:
        await trio.sleep(random.expovariate(1 / mean))
        if trio.current_time() >= TROUBLE:
            return
        name = random.choice(sorted(faults))
        world.note(name)
        doing = faults[name](world)
        if doing is not None:
            await doing


def _script(*make: Callable[[], Any]) -> Fault:
    def fault(world: World) -> None:
        world.gateway.script_send(*(world.random.choice(make)() for _ in range(world.random.randint(1, 3))))

    return fault


def _burst(world: World) -> None:
    for _ in range(world.random.choice((2, 20, 300))):
        _emit(world)


async def _stall(world: World) -> None:
    world.gateway.stall()
    world.gateway_loses = True
    await trio.sleep(world.random.choice((10.0, 120.0)))
    world.gateway.unstall()
    world.gateway_loses = False


async def _outage(world: World) -> None:
    seconds = world.random.choice((3.0, 20.0, 40.0))
    world.gateway.daemon_outage(seconds)
    world.gateway_loses = True
    await trio.sleep(seconds + 1)
    await world.gateway.start()
    world.gateway_loses = False


async def _restart(world: World) -> None:
    await world.gateway.restart(world.random.choice((0.0, 0.5, 5.0, 60.0)))


async def _stop(world: World) -> None:
    world.gateway.stop()
    world.gateway.drop()
    await trio.sleep(world.random.choice((1.0, 30.0)))
    await world.gateway.start()


async def _burst_while_down(world: World) -> None:
    world.gateway.kill()
    _burst(world)
    await trio.sleep(world.random.choice((0.1, 10.0)))
    _burst(world)
    await world.gateway.start()
    _burst(world)


def _at_next_connect(fault: Callable[[World, int], None]) -> Fault:
    """Make a fault that the client meets when it connects anew, which it then must."""

    def run(world: World) -> None:
        fault(world, world.random.randint(1, 4))
        world.gateway.drop()

    return run


def _reject(world: World, times: int) -> None:
    status = world.random.choice((401, 403, 408, 429, 500, 502, 503, 504, 404, 200))
    world.gateway.reject(status, retry_after=world.random.choice((None, 5, 100_000)), times=times)


def _cut(world: World) -> None:
    world.gateway.cut(world.random.randint(0, 300))
    _emit(world)


def _nonsense(world: World) -> None:
    world.gateway.deliver_raw(world.random.choice(('{"a":', "[1]", "null", "{}")))


def _error_frame(world: World) -> None:
    world.gateway.deliver_error("scripted")


def _exception(world: World) -> None:
    world.gateway.deliver_exception()


FAULTS: Final[dict[str, Fault]] = {
    "refuse": _at_next_connect(lambda w, times: w.gateway.refuse(times)),
    "reject": _at_next_connect(_reject),
    "silence": _at_next_connect(lambda w, times: w.gateway.silence(times)),
    "hang_up": _at_next_connect(lambda w, times: w.gateway.hang_up(times)),
    "garbage": _at_next_connect(lambda w, times: w.gateway.garbage(times)),
    "close": lambda w: w.gateway.close(w.random.choice((None, 1000, 1001, 1011, 1012, 4000))),
    "drop": lambda w: w.gateway.drop(),
    "reset": lambda w: w.gateway.reset(),
    "half_open": lambda w: w.gateway.half_open(),
    "stall": _stall,
    "cut": _cut,
    "fragment": lambda w: w.gateway.fragment(),
    "duplicate": lambda w: w.gateway.duplicate(w.random.randint(1, 4)),
    "split": lambda w: w.gateway.split(w.random.choice((16, 100, None))),
    "nonsense": _nonsense,
    "error_frame": _error_frame,
    "exception": _exception,
    "broken_frame": lambda w: w.gateway.send_frame(
        w.random.choice((b"\xf1\x00", b"\x81\x81aaaaa", b"\x81\x01\xff"))
    ),
    "burst": _burst,
    "burst_while_down": _burst_while_down,
    "outage": _outage,
    "restart": _restart,
    "stop": _stop,
    "hang_send": _script(answers.hang),
    "lost_answer": _script(answers.lost),
    "cut_body": _script(answers.cut_body),
    "limited": _script(answers.rate_limited),
    "bad_send": _script(
        answers.daemon_down,
        lambda: answers.error(400, "scripted failure"),
        lambda: answers.error(400, "Specified account does not exist"),
        lambda: answers.error(503, "no gateway"),
        lambda: answers.error(502, "bad gateway"),
    ),
    "garbage_answer": _script(answers.garbage),
    "slow_send": _script(lambda: answers.slow(3.0)),
}


async def _held_up(world: World) -> None:
    """Have the daemon deliver nothing for a while; signal-cli loses nothing by it."""
    world.gateway.stall()
    await trio.sleep(world.random.choice((10.0, 35.0, 120.0)))
    world.gateway.unstall()


def _terminate(world: World) -> None:
    world.gateway.terminate()


def _break_a_chunk(world: World) -> None:
    world.gateway.send_frame(world.random.choice((b"zz\r\n", b"5\r\nab")))


#: What can happen to signal-cli's own daemon: it has no WebSocket, and no daemon behind it.
CLI_FAULTS: Final[dict[str, Fault]] = {
    name: fault
    for name, fault in FAULTS.items()
    if name not in {"close", "stall", "error_frame", "broken_frame", "outage"}
} | {
    "held_up": _held_up,
    "terminate": _terminate,
    "broken_chunk": _break_a_chunk,
    "rpc_error": _script(
        lambda: answers.rpc_error(-32603, "Failed to send message: reset (IOException)"),
        lambda: answers.rpc_error(-32602, "Specified account does not exist"),
        lambda: answers.rpc_error(-3, "Connection closed!"),
        lambda: answers.rpc_error(-1, "Invalid group id"),
    ),
}


async def _come_to_rest(world: World) -> None:
    """Mend everything and see that the client mends itself (O10, R3)."""
    world.note("everything is mended")
    gateway, client = world.gateway, world.client
    gateway.heal()
    await gateway.start()
    deadline = trio.current_time() + PEACE
    while trio.current_time() < deadline:
        await trio.sleep(30)
        client.resume_sending()
        statistics = client.statistics()
        idle = statistics.buffer.waiting == 0 and not statistics.in_flight and statistics.inbox.waiting == 0
        idle = idle and gateway.statistics().kept == 0
        if client.state is ConnectionState.CONNECTED and idle and len(living_sockets(gateway)) == 1:
            break
    else:
        world.check(False, f"O10: not at rest {PEACE:g} s after the trouble: {client.statistics()}")
    _emit(world)
    last = world.emitted[-1]
    await trio.sleep(10)
    received = [e.text for e in world.events if isinstance(e, ReceivedMessage)]
    world.check(received[-1:] == [last], "R3: a message over a sound link did not arrive")


def living_sockets(gateway: FakeGateway) -> list[ReceiveSocket]:
    """Return the open receive sockets without the half-open ones, whose end never reaches the gateway."""
    return [connection for connection in gateway.connections if not connection.is_half_open]


# --- The promises. ---


def _check_ledger(world: World) -> None:
    outgoing = world.client.statistics().buffer.outgoing
    open_ones = sum(message.outcome is None for message in world.accepted)
    world.check(outgoing.pending == open_ones, f"O1: {open_ones} have no outcome, the ledger says {outgoing}")
    world.check(
        outgoing.accepted == len(world.accepted), f"O1: {len(world.accepted)} were accepted: {outgoing}"
    )


async def _check_closed(world: World) -> None:
    _check_ledger(world)
    world.check(
        all(m.outcome is not None for m in world.accepted), "C5: a message has no outcome after the end"
    )
    world.check(world.client.state is ConnectionState.DISCONNECTED, "C5: not DISCONNECTED after the end")
    await trio.sleep(1)
    world.check(not living_sockets(world.gateway), "C5: a socket is still open after the end")
    for before, after in zip(world.changes, world.changes[1:], strict=False):
        world.check(before.current is after.previous, "C2: a change was missed or merged")
        world.check(before.time <= after.time and before.generation <= after.generation, "C4: out of order")
    for change in world.changes:
        world.check((change.previous, change.current) in VALID_TRANSITIONS, f"C1: illegal {change}")


def _check_sending(world: World, *, at_least_once: bool) -> None:
    most = world.gateway.statistics().most_sends_in_flight
    world.check(most <= world.max_in_flight, f"O7: {most} sends at once")
    arrivals: dict[str, int] = defaultdict(int)
    orders: dict[str, list[int]] = defaultdict(list)
    for request in world.gateway.received:
        if request.timestamp is not None:
            arrivals[request.message] += 1
            orders[request.recipients[0]].append(int(request.message.split("-")[1]))
    for recipient, order in orders.items():
        world.check(order == sorted(order), f"O4: out of order to {recipient}: {order}")
    for message in world.accepted:
        check_fate(world, message, message.outcome, arrivals[message.text], at_least_once=at_least_once)


class Judge(Protocol):
    """What stops a run when a promise is broken."""

    def check(self, condition: bool, promise: str) -> None:
        """Stop the run unless a promise holds."""
        ...


def check_fate(
    world: Judge, message: object, outcome: Outcome | None, arrived: int, *, at_least_once: bool
) -> None:
    """See that a message arrived as often as its outcome says (O1, O5)."""
    if not at_least_once:
        world.check(arrived <= 1, f"O5: {message} was sent {arrived} times")
    if isinstance(outcome, Sent):
        world.check(arrived >= 1, f"O1: {message} never arrived")
    elif isinstance(outcome, Dropped) or (
        isinstance(outcome, Failed) and outcome.certainty is Certainty.NOT_SENT
    ):
        world.check(arrived == 0, f"O1: {message} arrived {arrived} times all the same")


def _check_receiving(world: World) -> None:
    """Each message that was emitted is received once, in order, or stands in a gap (R1, R3, R8)."""
    expected = 0
    gap_since_last = False
    for event in world.events:
        if isinstance(event, Gap):
            gap_since_last = True
            world.check(event.since <= event.until, f"R4: a gap that ends before it begins: {event}")
        if not isinstance(event, ReceivedMessage) or event.text is None:
            continue
        number = int(event.text.split("-")[1])
        world.check(number >= expected, f"R1: in-{number} came again or out of order")
        missing = sorted(set(range(expected, number)) - world.lost_inside)
        world.check(
            not missing or gap_since_last, f"R3: in-{missing} are missing without a gap in their place"
        )
        expected, gap_since_last = number + 1, False
    world.check(expected == len(world.emitted), "R3: the last message did not arrive")


def _check_recovery(world: World) -> None:
    """See that nothing was lost but what the daemon wrote into a connection that was dead (R3)."""
    received = sum(isinstance(event, ReceivedMessage) and event.text is not None for event in world.events)
    if any(f.split()[1] in {"cut", "reset", "broken_chunk"} for f in world.faults):
        return  # The daemon has written more than could be read.
    overflowed = world.client.statistics().inbox.overflowed
    missing = len(world.emitted) - received - overflowed
    lost = world.gateway.statistics().lost_to_half_open
    world.check(missing <= lost, f"R3: {missing} are missing, and the daemon lost only {lost}")


def main() -> None:
    """Run the seeds given on the command line and tell their story."""
    import sys

    run = run_signal_cli_seed if "--signal-cli" in sys.argv else run_seed
    for seed in map(int, filter(str.isdecimal, sys.argv[1:])):
        print("\n".join(run(seed).faults))  # noqa: T201


if __name__ == "__main__":
    main()

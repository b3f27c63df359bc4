"""A hub and many clients, all cut at once, again and again, while messages pass.

In memory and on a virtual clock, or on sockets of 127.0.0.1: ``python -m tests.storm`` (2,000 clients, 20
cuts). Everything is one process and one thread: hub, gateway and all clients share one core. So that it
is the hub's for the most part, only some of so many clients are ours; the others are lean ones, which
write and read bare frames but come back by the same :class:`Backoff`.
"""

import argparse
import json
import math
import queue
import resource
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

import trio

from tests.hubs import Reply, Scene, Visitor, frames_in, masked, serving
from trio_signal import (
    Backoff,
    ConnectionState,
    Gap,
    GapReason,
    ObserverLagged,
    ReceivedMessage,
    SignalClient,
    open_signal_client,
)
from trio_signal.hub import HubLimits, MessageLog
from trio_signal.testing import envelopes, open_fake_gateway
from trio_signal.testing._frames import Opcode
from trio_signal.testing._streams import Transport, end_at_once

T = TypeVar("T")

#: How long everybody may take to be back, or to have everything, in seconds.
PATIENCE: Final = 300.0

#: What a hub says of its own absence. On a busy machine it may miss its gateway's pings; nothing is lost by
#: that here, since no message comes from there.
_OF_THE_HUB: Final = frozenset({GapReason.GATEWAY, GapReason.STALLED})

#: How many clients there are on real sockets, and how many of them are ours.
_CLIENTS: Final = 2000
OURS: Final = 300

#: How many clients dial at the same moment in the beginning, which is not what is tested.
_AT_ONCE: Final = 50


class Line(trio.abc.Stream):
    """A connection that can be cut as a network cuts it: both ends see it broken."""

    def __init__(self, stream: Transport) -> None:
        self._stream = stream
        self.is_closed = False
        self.is_cut = False

    def cut(self, *, reset: bool) -> None:
        """Cut it at once; the other end gets RST or FIN."""
        if not self.is_closed:
            self.is_closed = self.is_cut = True
            end_at_once(self._stream, reset=reset)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._unless_cut(self._stream.send_all(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._unless_cut(self._stream.wait_send_all_might_not_block())

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._unless_cut(self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        self.is_closed = True
        await self._stream.aclose()

    async def _unless_cut(self, doing: Awaitable[T]) -> T:
        try:
            return await doing
        except trio.ClosedResourceError:
            if not self.is_cut:
                raise
            raise trio.BrokenResourceError("the line was cut") from None


@dataclass
class Rider:
    """One client in the storm.

    Attributes:
        is_lean: it is none of ours, but bare frames.
        taken: how many messages it got, which is the number of the one that is due.
        position: of a lean one: the last number it got.
        told_of_hub: how often it was told that the hub itself had been without its gateway.
        wrong: what it got in the place of another.
        cut_at: when it lost its connection, while it has not come back.
        back_after: how long each absence lasted, in seconds.
    """

    number: int
    is_lean: bool = False
    taken: int = 0
    position: int = 0
    told_of_hub: int = 0
    wrong: list[str] = field(default_factory=list[str])
    lines: list[Line] = field(default_factory=list[Line])
    cut_at: float | None = None
    is_connected: bool = False
    back_after: list[float] = field(default_factory=list[float])


class Storm:
    """Many clients on one hub.

    Args:
        scene: the hub.
        dial: opens a connection to it.
        tell: has the hub hand out a message with such a text.
        clients: how many there are.
        lean: how many of them are lean ones.
        random: what is cut when, and each client's jitter.
        backoff: makes the policy of a client, with its source of jitter.
    """

    def __init__(
        self,
        scene: Scene,
        dial: Callable[[], Awaitable[Transport]],
        tell: Callable[[str], object],
        *,
        clients: int,
        lean: int = 0,
        random: Random,
        backoff: Callable[[Random], Backoff],
    ) -> None:
        self._scene: Final = scene
        self._dial: Final = dial
        self._tell_hub: Final = tell
        self._random: Final = random
        self._backoff: Final = backoff
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._connected = 0
        self._up_to_date = 0
        self.riders: Final = [Rider(number, number < lean) for number in range(clients)]
        self.told = 0

    async def ride(self, cuts: int, after_cut: Callable[[str | None], None]) -> None:
        """Bring everybody up, cut everybody so many times, and see that everybody has everything.

        Args:
            cuts: how many.
            after_cut: is told of each once everybody is back, and what is wrong, if anything is.
        """
        async with trio.open_nursery() as nursery:
            for rider in self.riders:
                nursery.start_soon(self._run_lean if rider.is_lean else self._run, rider)
                if rider.number % _AT_ONCE == _AT_ONCE - 1:
                    await self._wait_connected(rider.number + 1)
            await self._wait_connected(len(self.riders))
            for cut in range(cuts):
                await self._tell(3)
                self._cut(reset=bool(cut % 2))
                await self._tell(3)
                if cut % 4 == 3:
                    # And once more, while they are coming back.
                    await trio.sleep(self._random.uniform(0.3, 1.5))
                    self._cut(reset=True)
                    await self._tell(2)
                await self._wait_connected(len(self.riders))
                await self._wait(lambda: self._up_to_date == len(self.riders))
                after_cut(self.problem())
            nursery.cancel_scope.cancel()

    def problem(self) -> str | None:
        """Say what somebody missed, got twice or got in another order."""
        for rider in self.riders:
            if rider.wrong:
                return f"client {rider.number} got {rider.wrong[0]} instead of message {rider.taken}"
            if rider.taken != self.told:
                return f"client {rider.number} has {rider.taken} of {self.told} messages"
        return None

    def back_after(self, part: float) -> float:
        """Return within how many seconds such a part of all absences was over."""
        times = sorted(time for rider in self.riders for time in rider.back_after)
        return times[min(len(times) - 1, int(part * len(times)))]

    # --- What happens to everybody. ---

    async def _tell(self, count: int) -> None:
        for _ in range(count):
            self._tell_hub(str(self.told))
            self.told += 1
            self._up_to_date = 0
            await trio.sleep(self._random.uniform(0.0, 0.2))

    def _cut(self, *, reset: bool) -> None:
        for rider in self.riders:
            if rider.cut_at is None:
                rider.cut_at = trio.current_time()
            for line in rider.lines:
                line.cut(reset=reset)
            rider.lines.clear()
            self._note_state(rider, is_connected=False)

    async def _wait_connected(self, count: int) -> None:
        await self._wait(lambda: self._connected >= count)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(PATIENCE):
            while not condition():
                await self._changed.park()
            return
        behind = sum(rider.taken < self.told for rider in self.riders)
        raise TimeoutError(
            f"after {PATIENCE:g} s {self._connected} of {len(self.riders)} are there, {behind} lack messages"
        )

    # --- One client. ---

    async def _run(self, rider: Rider) -> None:
        random = Random(f"{rider.number} {self._random.random()}")
        token = self._scene.token(f"client {rider.number}")
        async with (
            open_signal_client(
                f"http://{self._scene.host}",
                self._scene.gateway.account,
                gateway="hub",
                token=lambda: token,
                connect=partial(self._connect, rider),
                backoff=self._backoff(random),
            ) as signal,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._follow, rider, signal)
            async for event in signal.events():
                self._take(rider, event)

    async def _connect(self, rider: Rider, _host: str, _port: int) -> Line:
        line = Line(await self._dial())
        rider.lines = [old for old in rider.lines if not old.is_closed] + [line]
        return line

    async def _follow(self, rider: Rider, signal: SignalClient) -> None:
        changes = signal.state_changes()
        while True:
            try:
                change = await anext(changes)
            except (StopAsyncIteration, ObserverLagged):
                return
            # What was so before the cut and is only read now says nothing about the time after it.
            if rider.cut_at is None or change.time > rider.cut_at:
                self._note_state(rider, is_connected=change.current is ConnectionState.CONNECTED)

    def _note_state(self, rider: Rider, *, is_connected: bool) -> None:
        if is_connected and rider.cut_at is not None:
            rider.back_after.append(trio.current_time() - rider.cut_at)
            rider.cut_at = None
        self._connected += is_connected - rider.is_connected
        rider.is_connected = is_connected
        self._changed.unpark_all()

    def _take(self, rider: Rider, event: object) -> None:
        if isinstance(event, Gap) and event.reason in _OF_THE_HUB:
            rider.told_of_hub += 1
        else:
            self._note_taken(rider, event.text if isinstance(event, ReceivedMessage) else None, event)

    def _note_taken(self, rider: Rider, text: str | None, what: object) -> None:
        if text == str(rider.taken):
            rider.taken += 1
        else:
            rider.wrong.append(repr(what))
        if rider.taken == self.told:
            self._up_to_date += 1
            self._changed.unpark_all()

    # --- One lean client. ---

    async def _run_lean(self, rider: Rider) -> None:
        policy = self._backoff(Random(f"{rider.number} {self._random.random()}"))
        token = self._scene.token(f"client {rider.number}")
        attempt = 0
        while True:
            attempt += 1
            retry_after: float | None = None
            # Whatever breaks off, the answer is the next attempt.
            with suppress(trio.BrokenResourceError, OSError):
                line = await self._connect(rider, self._scene.host, 0)
                async with Visitor(line, self._scene.host, token) as visitor:
                    query = f"?since={rider.position}&epoch={self._scene.hub.log.epoch}"
                    reply = await _upgrade(visitor, query)
                    if reply is not None and reply.status == 101:
                        attempt = 0
                        await self._stay(rider, visitor)
                    elif reply is not None:
                        retry_after = float(reply.headers["retry-after"])
            self._note_state(rider, is_connected=False)
            await trio.sleep(policy.delay(attempt + 1, retry_after=retry_after))

    async def _stay(self, rider: Rider, visitor: Visitor) -> None:
        """Take in what comes until the connection ends, be it in the middle of a frame."""
        head = math.inf
        while True:
            for frame in frames_in(visitor.buffer):
                if frame.opcode is Opcode.PING:
                    await visitor.write(masked(frame.payload, Opcode.PONG))
                elif frame.opcode is Opcode.TEXT and frame.json["type"] == "hello":
                    head = frame.json["head"]
                elif frame.opcode is Opcode.TEXT and frame.json["type"] != "heartbeat":
                    self._take_frame(rider, frame.json)
            if rider.position >= head:
                self._note_state(rider, is_connected=True)
            if not await visitor.more():
                return

    def _take_frame(self, rider: Rider, frame: Any) -> None:
        rider.position = frame.get("sequence_number", rider.position)
        if frame["type"] == "gap" and frame["reason"] in _OF_THE_HUB:
            rider.told_of_hub += 1
        else:
            self._note_taken(rider, _text(frame), frame)


async def _upgrade(visitor: Visitor, query: str) -> Reply | None:
    """Ask for a WebSocket; None if the hub hung up instead, as it does when too many knock at once."""
    await visitor.write(visitor.handshake(f"/websocket{query}"))
    while b"\r\n\r\n" not in visitor.buffer:
        if not await visitor.more():
            return None
    # A refusal has a body, in which it may hang up too.
    with suppress(AssertionError):
        return await visitor.reply()
    return None


def _text(frame: Any) -> str | None:
    """Return the text of a message as the hub hands it on; None if it is something else."""
    if frame["type"] != "message":
        return None
    text: str | None = frame["data"]["envelope"]["dataMessage"]["message"]
    return text


# --- On real sockets. ---


@dataclass(frozen=True, slots=True)
class Figures:
    """What a storm was like.

    Attributes:
        clients: how many there were.
        absences: how often one of them was cut off and came back.
        messages: how many each of them got.
        half: within how many seconds half of the absences were over.
        p99: within how many seconds 99 % of the absences were over.
        longest: the longest absence, in seconds.
    """

    clients: int
    absences: int
    messages: int
    half: float
    p99: float
    longest: float


async def real_storm(
    clients: int, cuts: int, after_cut: Callable[[str | None], None], *, ours: int = OURS, seed: int = 0
) -> Figures:
    """Run a storm on sockets of 127.0.0.1.

    Args:
        clients: how many there are.
        cuts: how often all of them are cut off.
        after_cut: is told of each cut once everybody is back, and what is wrong, if anything is.
        ours: how many are our own clients; the others are lean ones.
        seed: decides what is cut when, and each client's jitter.

    Raises:
        TimeoutError: somebody did not come back, or lacks something.
    """
    _allow_files(2 * clients + 1000)
    async with (
        open_fake_gateway() as gateway,
        open_signal_client(gateway.url, gateway.account) as signal,
    ):
        await gateway.wait_connected()
        limits = HubLimits(max_connections=2 * clients)
        log = MessageLog(max_messages=10_000)
        async with serving(gateway, signal, real=True, clock=time.time, limits=limits, log=log) as scene:
            # Each cut meets them as if they had been up for long: what is measured is the storm, and not
            # that a link which does not last makes its client wait longer each time (contract B2).
            storm = Storm(
                scene,
                scene.dial,
                lambda text: scene.hub.connections.broadcast(_envelope(text)),
                clients=clients,
                lean=max(0, clients - ours),
                random=Random(seed),
                backoff=_as_if_stable,
            )
            await storm.ride(cuts, after_cut)
    absences = sum(len(rider.back_after) for rider in storm.riders)
    parts = (storm.back_after(part) for part in (0.5, 0.99, 1.0))
    return Figures(clients, absences, storm.told, *parts)


def _envelope(text: str) -> bytes:
    """Return a message as a gateway writes it."""
    envelope = envelopes.stamped(envelopes.text(text), int(time.time() * 1000))
    return json.dumps({"envelope": envelope, "account": "+15550001"}).encode()


def _as_if_stable(random: Random) -> Backoff:
    return Backoff(random=random, stable_after=0.0)


def soak(count: int) -> Iterator[str | None]:
    """Cut 2,000 clients so many times; yield None for each cut after which all is well, else what is not."""
    told: queue.SimpleQueue[str | bool | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            trio.run(real_storm, _CLIENTS, count, told.put)
        except Exception as error:  # noqa: BLE001  (told to whoever iterates)
            told.put(f"{type(error).__name__}: {error}")
        finally:
            told.put(True)

    thread = threading.Thread(target=run)
    thread.start()
    while not isinstance(problem := told.get(), bool):
        yield problem
    thread.join()


def _allow_files(count: int) -> None:
    """Let this process have so many open files, as far as its user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a storm and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm")
    parser.add_argument("--clients", type=int, default=_CLIENTS)
    parser.add_argument("--ours", type=int, default=OURS, help="so many are our own clients (%(default)s)")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    def after_cut(problem: str | None) -> None:
        print(problem or "all well", flush=True)  # noqa: T201

    run = partial(real_storm, given.clients, given.cuts, after_cut, ours=given.ours, seed=given.seed)
    figures = trio.run(run)
    memory = resource.getrusage(resource.RUSAGE_SELF)
    seconds = memory.ru_utime + memory.ru_stime
    print(f"{figures}\n{memory.ru_maxrss / 1024:.0f} MiB, {seconds:.0f} s of processor time")  # noqa: T201


if __name__ == "__main__":
    main()

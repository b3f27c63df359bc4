"""One cell of the fault matrix: one fault in one phase of a connection to one gateway, seen by a user."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

import trio

from tests.fault_kinds import FAULTS, KINDS, MAX_MESSAGE, Fault, Hit, Kind, Lasts, Phase
from tests.fault_stage import open_stage
from tests.fault_wire import Middlebox, Names, Wire
from tests.hubs import KEY
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EPOCH,
    PEER,
    check_history,
    check_ledger,
    gaps_in,
    outcome_of,
    texts_at,
    texts_in,
    wait_done,
    wall_time,
)
from trio_signal import (
    Backoff,
    OutgoingMessage,
    ReceivedMessage,
    Sent,
    SignalClient,
    StateChange,
    Undecodable,
    open_signal_client,
)
from trio_signal._errors import told
from trio_signal.hub import make_token
from trio_signal.testing import FakeGateway

#: How long a cell may take, in seconds of Trio's clock: what is slow is no failure.
_PATIENCE: Final = 1000.0

#: How long a fault lasts that nobody can notice, in seconds of Trio's clock.
_UNNOTICED: Final = 60.0

#: All time limits are as they come, so that the table tells what a user sees who has changed none.
_OPTIONS: Final[dict[str, Any]] = {
    "gateway": "auto",
    "receive_mode": "on-connection",
    "max_message_size": MAX_MESSAGE,
    "backoff": Backoff(jitter=False),
    "rate_limit": None,
    "wall_clock": wall_time,
    "token": lambda: make_token(KEY, "somebody", ttl=86_400, clock=wall_time),
}


class Cell(NamedTuple):
    """Which cell it is."""

    fault: Fault
    phase: Phase
    kind: Kind

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.phase}, {self.kind}"


def all_cells() -> list[Cell]:
    """Return the whole matrix."""
    return [Cell(fault, phase, kind) for kind in KINDS for fault in FAULTS for phase in Phase]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the user of a client saw.

    Attributes:
        words: of the states, the gaps and what became of the message.
        seconds: from the fault until all was well again, on Trio's clock.
        failure: which promise was broken; None if none was.
    """

    words: str
    seconds: float
    failure: str | None = None


@dataclass
class Story:
    """What has happened in a cell so far. Times are on Trio's clock."""

    cell: Cell
    box: Middlebox
    gateway: FakeGateway
    random: Random | None
    changes: list[StateChange] = field(default_factory=list[StateChange])
    events: list[Any] = field(default_factory=list[Any])
    news: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    written: dict[int, float] = field(default_factory=dict[int, float])
    struck: float | None = None

    def write(self) -> int:
        """Have somebody write to the account."""
        stamp = 1_795_302_674_000 + len(self.written) + 1
        self.written[stamp] = trio.current_time()
        self.gateway.deliver(text=str(stamp), timestamp=stamp)
        return stamp

    async def follow(self, source: Any, into: list[Any]) -> None:
        """Take note of what an iterator gives."""
        async for item in source:
            into.append(item)
            self.news.unpark_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the client told makes this true."""
        while not condition():
            await self.news.park()

    async def strike(self, wire: Wire | None, _: bytes) -> None:
        """Let the fault happen; at random within the phase if there is a source for that."""
        if self.random is not None:
            await trio.sleep(self.random.choice((0, 0.01, 0.1, 0.5, 1)))
        self.struck = trio.current_time()
        self.news.unpark_all()
        await self.cell.fault.strike(
            Hit(self.cell.kind, self.cell.phase, self.box, self.gateway, wire, self.random)
        )

    @property
    def since(self) -> list[StateChange]:
        """The changes of state since the fault."""
        assert self.struck is not None
        return [change for change in self.changes if change.time >= self.struck]

    def has_lost(self) -> bool:
        return any(change.current is DISCONNECTED for change in self.since)

    def has_failed_to_connect(self) -> bool:
        return any(
            change.previous is not CONNECTED and change.current is DISCONNECTED for change in self.since
        )

    def has_received(self, stamp: int) -> bool:
        return str(stamp) in texts_in(self.events)


async def run_cell(cell: Cell, names: Names, name: str, random: Random | None = None) -> Seen:
    """Run one cell and say what was seen; never raises for what goes wrong in it.

    Args:
        cell: which.
        names: where its name is put.
        name: its name.
        random: moves the moment of the fault within the phase.
    """
    stories: list[Story] = []
    try:
        with trio.fail_after(_PATIENCE):
            source = random or Random(str(cell))
            async with open_stage(cell.kind, names, name, source) as (gateway, box):
                story = Story(cell, box, gateway, random)
                stories.append(story)
                return await _play(story)
    except Exception as error:  # noqa: BLE001  (the matrix goes on, and tells)
        return Seen("FAILED", 0.0, "\n    ".join([f"{cell}: {_told(error)}", *_history(stories)]))


async def _play(story: Story) -> Seen:
    if story.cell.phase is Phase.LOOK_UP:
        story.box.arm(story.strike, *story.cell.fault.moments(Phase.LOOK_UP))
    async with trio.open_nursery() as nursery:
        async with open_signal_client(story.box.url, "+15550001", **_OPTIONS) as signal:
            nursery.start_soon(story.follow, signal.state_changes(), story.changes)
            nursery.start_soon(story.follow, signal.events(), story.events)
            sent = await _settle_in(story, signal)
            sent += await _meet(story, signal)
            await _outlast(story, signal, *sent)
            if story.cell.phase is Phase.IDLE:
                sent.append(await signal.send_message(PEER, "message"))
            await wait_done(sent)
            seconds = await _come_to_rest(story, signal)
            words = _words(story, sent[-1])
            sent.append(await signal.send_message(PEER, "last"))
            await wait_done(sent)
            check_ledger(signal, sent)
    _check(story, sent)
    return Seen(words, seconds)


async def _settle_in(story: Story, signal: SignalClient) -> list[OutgoingMessage]:
    """Connect, and have one message go each way; for a fault in the first look-up do nothing of that."""
    if story.cell.phase is Phase.LOOK_UP:
        return []
    await story.until(lambda: signal.state is CONNECTED)
    first = [await signal.send_message(PEER, "first")]
    stamp = story.write()
    await wait_done(first)
    await story.until(lambda: story.has_received(stamp))
    return first


async def _meet(story: Story, signal: SignalClient) -> list[OutgoingMessage]:
    """Let the fault meet the client in its phase, with a message to be sent unless that is to be idle."""
    phase, box = story.cell.phase, story.box
    if phase is Phase.IDLE:
        # It is on its way when the fault strikes.
        story.write()
        await story.strike(box.link, b"")
        return []
    if phase in {Phase.CONNECT, Phase.HANDSHAKE, Phase.SYNCING}:
        await _part(story, signal)
    if phase is not Phase.LOOK_UP:
        box.arm(story.strike, *story.cell.fault.moments(phase))
    message = await signal.send_message(PEER, "message")
    await story.until(lambda: story.struck is not None)
    if phase is Phase.SEND:
        story.write()
    return [message]


async def _come_to_rest(story: Story, signal: SignalClient) -> float:
    """Wait until a message comes in again, and tell how long after the fault all was well."""
    assert story.struck is not None
    done = trio.current_time()
    while True:
        await story.until(lambda: signal.state is CONNECTED)
        stamp, lost = story.write(), len(story.since)
        while not story.has_received(stamp) and len(story.since) == lost:
            await story.news.park()
        if story.has_received(stamp):
            break
    connected = [change.time for change in story.since if change.current is CONNECTED]
    return max([done, *connected]) - story.struck


async def _part(story: Story, signal: SignalClient) -> None:
    """End the link from the far side, and have somebody write while the client is away."""
    match story.cell.kind:
        case "hub":
            story.box.link.end()
        case "rest":
            story.gateway.drop()
        case "signal-cli":
            # It is started anew: it has said goodbye, so nothing is missed by that.
            story.gateway.terminate()
    await story.until(lambda: signal.state is not CONNECTED)
    await story.gateway.start()
    story.write()


async def _outlast(story: Story, signal: SignalClient, *message: OutgoingMessage) -> None:
    """Wait as long as the fault lasts, and end it."""
    cell = story.cell
    has_daemon_ended = cell.kind == "signal-cli" and cell.fault.ends_daemon
    lasts = Lasts.UNTIL_RETRIED if has_daemon_ended else cell.fault.lasts
    match lasts:
        case Lasts.UNTIL_RETRIED:
            await story.until(story.has_failed_to_connect)
        case Lasts.UNTIL_NOTICED if cell.phase is Phase.SEND:
            await wait_done(message)
        case Lasts.UNTIL_NOTICED:
            with trio.move_on_after(_UNNOTICED if _is_unnoticed(cell) else _PATIENCE):
                await story.until(story.has_lost)
        case Lasts.UNTIL_DONE:
            await story.until(lambda: signal.state is CONNECTED)
            await wait_done(message)
        case Lasts.ONCE:
            pass
    story.box.heal()
    if has_daemon_ended:
        await story.gateway.start()


def _is_unnoticed(cell: Cell) -> bool:
    """Whether nothing tells: who listens to a stream of events writes nothing that could get lost."""
    return (
        cell.kind == "signal-cli"
        and cell.fault.name == "black hole up"
        and cell.phase in {Phase.SYNCING, Phase.IDLE}
    )


def _words(story: Story, message: OutgoingMessage) -> str:
    """Say what the user saw, in words that do not depend on how fast anything was."""
    lost = [change.reason.value for change in story.since if change.current is DISCONNECTED]
    undisturbed = "stays connected" if story.cell.phase in {Phase.IDLE, Phase.SEND} else "connects"
    words = [" then ".join(dict.fromkeys(lost)) or undisturbed]
    if gaps_in(story.events):
        words.append("gap")
    if any(isinstance(event, Undecodable) for event in story.events):
        words.append("raw event")
    outcome = outcome_of(message)
    if outcome != "sent":
        outcome += ", arrived" if "message" in texts_at(story.gateway) else ", did not arrive"
    return "; ".join([*words, outcome])


def _check(story: Story, sent: list[OutgoingMessage]) -> None:
    """Hold everything that happened against the contract."""
    check_history(story.changes)
    _check_received(story)
    arrived = texts_at(story.gateway)
    assert len(set(arrived)) == len(arrived), f"written twice: {arrived}"
    accepted = [message.text for message in sent]
    known = [text for text in arrived if not (text == "message" and outcome_of(sent[-2]) != "sent")]
    assert known == [text for text in accepted if text in known], f"out of order: {arrived}"
    for message in sent:
        outcome = outcome_of(message)
        if isinstance(message.outcome, Sent):
            stamps = [send.timestamp for send in story.gateway.received if send.message == message.text]
            assert stamps == [message.outcome.timestamp], f"{message.text} is said to be sent, but {stamps}"
        else:
            assert message.text == "message", f"{message.text}: {outcome}"
            assert story.cell.phase is Phase.SEND, f"nothing of it had left: {outcome}"
            assert outcome == "failed: unknown", outcome
    if story.cell.kind == "hub":
        assert not gaps_in(story.events), "a hub keeps everything"


def _check_received(story: Story) -> None:
    """Each message that was written arrived once and in order, or a gap in its place names it (R1, R3)."""
    stamps = [int(text) for text in texts_in(story.events) if text is not None]
    assert stamps == sorted(set(stamps)), f"received: {stamps}"
    missing = sorted(set(story.written) - set(stamps))
    for stamp in missing:
        at = int((EPOCH + story.written[stamp]) * 1000)
        behind = [n for n, text in enumerate(map(_text, story.events)) if text is not None and text > stamp]
        before = story.events[: min(behind, default=None)]
        assert any(gap.since <= at <= gap.until for gap in gaps_in(before)), f"{stamp} was lost without a gap"


def _text(event: object) -> int | None:
    return int(event.text or "0") if isinstance(event, ReceivedMessage) else None


def _told(error: Exception) -> str:
    leaf = told(error)
    return f"{type(leaf).__name__}: {leaf}"


def _history(stories: list[Story]) -> Iterator[str]:
    """Tell what happened, for whoever looks for the reason."""
    for story in stories:
        yield f"struck at {story.struck}"
        for change in story.changes:
            yield f"{change.time:8.2f} {change.current} ({change.reason}) {change.error or ''}"
        yield f"events: {story.events}"
        yield f"at the gateway: {texts_at(story.gateway)}"

"""The acts of the demo: what is broken, why that matters, and what came of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from .._client import SignalClient
from .._envelopes import ReceivedMessage
from .._outcomes import Dropped, Failed, Sent
from .._states import ConnectionState
from .._status import StateChanges
from ..testing import lost
from .stage import Stage, outcome_of

#: Seconds in which nothing is broken, so that one can see that all is well again.
_CALM: Final = 1.2

#: Alerts that come up during the restart: more than the buffer holds.
_BURST: Final = 14


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that is broken.

    Attributes:
        name: what the summary calls it, in at most 15 characters.
        title: what it is.
        why: why it matters, at most three lines of 76 characters.
        play: does it, waits until it is over, and returns what came of it.
    """

    name: str
    title: str
    why: str
    play: Callable[[Stage], Awaitable[str]]


async def _all_is_well(stage: Stage) -> str:
    await trio.sleep(2.5)
    return f"{len(stage.record.heard)} messages heard, {len(stage.record.letters)} answered"


async def _drop(stage: Stage) -> str:
    changes, gaps = stage.client.state_changes(), len(stage.record.gaps)
    await stage.gateway.wait_delivered()
    stage.tell("the gateway ends the connection without a goodbye")
    stage.gateway.drop()
    took = await _back(changes)
    await trio.sleep(_CALM)
    return f"connected again after {took:.1f} s, and told of {len(stage.record.gaps) - gaps} gap"


async def _twice_and_garbage(stage: Stage) -> str:
    before = stage.client.statistics().receiving
    stage.tell("the next two messages come twice")
    stage.gateway.duplicate(2)
    await trio.sleep(_CALM / 2)
    stage.gateway.deliver_raw('{"envelope": half a mes')
    await trio.sleep(_CALM / 2)
    after = stage.client.statistics().receiving
    copies, unreadable = after.duplicates - before.duplicates, after.undecodable - before.undecodable
    return f"{copies} copies dropped, {unreadable} unreadable frame told; the link held"


async def _restart(stage: Stage) -> str:
    await quiet(stage)
    changes, generation = stage.client.state_changes(), stage.client.statistics().generation
    stage.tell("the gateway is killed")
    stage.gateway.kill()
    stage.resume()
    await trio.sleep(0.5)
    stage.tell(f"{_BURST} alerts are due, and the gateway is not there")
    alerts = await stage.alert(_BURST)
    await trio.sleep(3.0)
    stage.tell("the gateway is started again")
    await stage.gateway.start()
    await _back(changes)
    for alert in alerts:
        await outcome_of(alert)
    attempts = stage.client.statistics().generation - generation
    await trio.sleep(_CALM)
    sent = sum(isinstance(alert.outcome, Sent) for alert in alerts)
    dropped = sum(isinstance(alert.outcome, Dropped) for alert in alerts)
    return f"{attempts} attempts; {sent} alerts left in order, {dropped} made room for them"


async def _dead_line(stage: Stage) -> str:
    changes = stage.client.state_changes()
    await stage.gateway.wait_delivered()
    began = trio.current_time()
    stage.tell("the line is cut")
    stage.gateway.half_open()
    noticed = await _until(changes, ConnectionState.DISCONNECTED) - began
    await _until(changes, ConnectionState.CONNECTED)
    await trio.sleep(_CALM)
    return f"noticed after {noticed:.1f} s of silence"


async def _lost_answer(stage: Stage) -> str:
    await quiet(stage)
    stage.tell("the gateway will take the next message, and lose its answer")
    stage.gateway.script_send(lost())
    stage.resume()
    [letter] = await stage.alert(1)
    await outcome_of(letter)
    await trio.sleep(_CALM)
    doubtful = sum(isinstance(letter.outcome, Failed) for letter in stage.record.letters)
    return f"{doubtful} message is 'unknown', and was not sent a second time"


async def _signal_cli_away(stage: Stage) -> str:
    await quiet(stage)
    stage.tell("signal-cli is away, and 5 alerts are due")
    stage.gateway.daemon_outage(1.5)
    alerts = await stage.alert(5)
    for alert in alerts:
        await outcome_of(alert)
    stage.tell("signal-cli was back, and the alerts have left")
    stage.resume()
    await trio.sleep(_CALM)
    sent = sum(isinstance(alert.outcome, Sent) for alert in alerts)
    return f"{sent} of {len(alerts)} alerts left in order once it was back"


async def _away(stage: Stage) -> str:
    record = stage.record
    stage.tell("a second client comes to the hub, hears two messages and leaves")
    async with stage.visit() as second:
        await second.wait_state(ConnectionState.CONNECTED)
        await _hear(second, 2)
        stage.hush()
        cursor = second.cursor
    await quiet(stage)
    heard = len(record.heard)
    stage.resume()
    await trio.sleep(2.0)
    await quiet(stage)
    record.missed += record.heard[heard:]
    stage.tell(f"{len(record.missed)} messages passed meanwhile; it comes back with its cursor")
    async with stage.visit(cursor=cursor) as second:
        record.caught_up += await _hear(second, len(record.missed))
        # One more, live again: what comes twice would show here at the latest.
        record.missed.append(stage.say("Welcome back."))
        record.caught_up += await _hear(second, 1)
    stage.resume()
    return f"given exactly the {len(record.missed) - 1} it had missed, then live again"


async def _hear(client: SignalClient, count: int) -> list[int]:
    """Take messages, and return their timestamps; anything else counts as one that no message has."""
    stamps: list[int] = []
    await trio.lowlevel.checkpoint()
    async for event in client.events():
        stamps.append((event.timestamp or 0) if isinstance(event, ReceivedMessage) else -1)
        if len(stamps) == count:
            break
    return stamps


ACTS: Final = (
    Act(
        "all is well",
        "All is well",
        "A correspondent writes, a bot answers. Nothing is broken yet.",
        _all_is_well,
    ),
    Act(
        "drop",
        "The connection drops",
        "The gateway keeps nothing for a client that is away, so what is written now\n"
        "is lost for good. The client cannot bring it back; it tells from when to when\n"
        "messages may be missing: a gap, in its place among the messages.",
        _drop,
    ),
    Act(
        "copies, garbage",
        "Messages come twice, and one is garbage",
        "Copies are dropped and counted. What cannot be read is handed over raw. The\n"
        "connection survives both, and so does the bot's loop.",
        _twice_and_garbage,
    ),
    Act(
        "restart, burst",
        "The gateway restarts, and a burst of alerts is due meanwhile",
        f"What cannot leave waits in order, in a buffer of 10. {_BURST} alerts do not fit,\n"
        "so the oldest make room, and each of those is told as dropped. The attempts\n"
        "to connect come 1, 2, ... s apart, so that nobody is overrun.",
        _restart,
    ),
    Act(
        "dead line",
        "The line goes dead",
        "No error, no goodbye: simply silence, as when a cable is cut or a router\n"
        "forgets. The client pings, and does not wait for ever for the answer.",
        _dead_line,
    ),
    Act(
        "lost answer",
        "The answer to a send is lost",
        "The gateway took the message, and the connection broke before it said so. Did\n"
        "it leave? Nobody can know. The outcome says so, and nothing is sent twice\n"
        "that was not asked for.",
        _lost_answer,
    ),
    Act(
        "signal-cli away",
        "signal-cli is away, behind a gateway that answers",
        "Each send gets an error that proves that nothing left. So the first message\n"
        "is tried again in its place, and the others wait behind it.",
        _signal_cli_away,
    ),
    Act(
        "away from hub",
        "A second client is away, and misses nothing",
        "The bot hears through a hub, which numbers and keeps what passes. Whoever was\n"
        "away says which number it had last, and is given the rest, then what is live:\n"
        "nothing missing, nothing twice.",
        _away,
    ),
)


async def quiet(stage: Stage) -> None:
    """Have nothing under way in either direction."""
    stage.hush()
    await stage.gateway.wait_delivered()
    await trio.sleep(0.2)
    await stage.settled()


async def _back(changes: StateChanges) -> float:
    """Wait until the link was lost and is there again; return how long it was away, in seconds."""
    lost_at = await _until(changes, ConnectionState.DISCONNECTED)
    return await _until(changes, ConnectionState.CONNECTED) - lost_at


async def _until(changes: StateChanges, state: ConnectionState) -> float:
    """Wait for a state, and return when it was entered."""
    async for change in changes:
        if change.current is state:
            return change.time
    raise AssertionError(f"the client ended before it was {state.name}")

"""A client on a fake gateway in memory, on a virtual clock, and what can be asked about both from outside."""

import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_signal import (
    VALID_TRANSITIONS,
    Backoff,
    Certainty,
    ConnectionState,
    Cursor,
    Dropped,
    DropReason,
    Failed,
    Gap,
    OutgoingMessage,
    ReceivedMessage,
    Sent,
    SignalClient,
    StateChange,
    StateChanges,
    open_signal_client,
)
from trio_signal.testing import FakeGateway, open_fake_gateway

#: What the wall clock of gateway and client shows when Trio's shows 0, in seconds since the epoch.
EPOCH: Final = 1_795_302_674.0

#: Who the tests write to.
PEER: Final = "+15550002"

#: Sleeps exactly 1, 2, 4, 8, 16, 32, 60, 60, … seconds.
EXACT: Final = Backoff(jitter=False)

CONNECTED: Final = ConnectionState.CONNECTED
DISCONNECTED: Final = ConnectionState.DISCONNECTED
RECONNECTING: Final = ConnectionState.RECONNECTING
SYNCING: Final = ConnectionState.SYNCING


def wall_time() -> float:
    """Seconds since the epoch, driven by Trio's clock, so that gaps have virtual lengths."""
    return EPOCH + trio.current_time()


def wall_ms() -> int:
    """Milliseconds since the epoch, as gaps and cursors have them."""
    return int(wall_time() * 1000)


@asynccontextmanager
async def open_gateway(**options: Any) -> AsyncGenerator[FakeGateway]:
    """Open a fake gateway that is reached in memory only, for at most three days by Trio's clock."""
    # pytest-trio takes the clock from the test's own arguments only, so forgetting it must be noticed here.
    assert isinstance(trio.lowlevel.current_clock(), MockClock), (
        "the test must take autojump_clock or mock_clock"
    )
    start = EPOCH + trio.current_time()
    # Whatever waits in vain fails in seconds of real time instead of hanging.
    with trio.fail_after(3 * 86_400):
        async with open_fake_gateway(port=None, start_time=start, **options) as gateway:
            yield gateway


def open_client(gateway: FakeGateway, **options: Any) -> AbstractAsyncContextManager[SignalClient]:
    """Open a client on ``gateway``, without jitter and probes unless ``backoff`` and the like are given."""
    defaults: dict[str, Any] = {
        "connect": gateway.connect,
        "wall_clock": wall_time,
        "backoff": EXACT,
        "probe_interval": None,
    }
    return open_signal_client(gateway.url, gateway.account, **(defaults | options))


@asynccontextmanager
async def connected(gateway: FakeGateway, **options: Any) -> AsyncGenerator[SignalClient]:
    """Open a client and wait until it is CONNECTED."""
    async with open_client(gateway, **options) as signal:
        with trio.fail_after(30):
            await signal.wait_state(CONNECTED)
        yield signal


class Dialler:
    """Opens streams to a gateway in memory and knows which of them have not been closed."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self.streams: list[WatchedStream] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open one and take note of it."""
        stream = WatchedStream(await self._gateway.connect(host, port))
        self.streams.append(stream)
        return stream

    @property
    def left_open(self) -> int:
        """How many nobody has closed."""
        return sum(not stream.closed for stream in self.streams)


class WatchedStream(trio.abc.Stream):
    """Passes everything through and knows whether it was closed."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self._stream.aclose()


async def settled() -> None:
    """Let everything happen that needs no time."""
    await wait_all_tasks_blocked()


async def collect(source: Any, into: list[Any]) -> None:
    """Append what an iterator gives until it ends."""
    async for item in source:
        into.append(item)


async def record(changes: StateChanges, into: list[StateChange]) -> None:
    """Append each change of state until the client is closed."""
    await collect(changes, into)


async def tolerate(source: AsyncIterator[Any], into: list[Any]) -> None:
    """Append what an iterator gives, and what it raises, until it ends."""
    while True:
        try:
            into.append(await anext(source))
        except StopAsyncIteration:
            return
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            into.append(error)


async def send_all(signal: SignalClient, texts: Iterable[str], **options: Any) -> list[OutgoingMessage]:
    """Send texts to the peer, in order, and return the messages without waiting for their outcomes."""
    return [await signal.send_message(PEER, text, **options) for text in texts]


async def wait_done(messages: Iterable[OutgoingMessage]) -> None:
    """Wait until each message has an outcome, whichever."""
    done: list[Any] = []
    for message in messages:
        await tolerate(_once(message), done)


async def _once(message: OutgoingMessage) -> AsyncIterator[Any]:
    yield await message.wait()


def outcome_of(message: OutgoingMessage) -> str:
    """Say in a word what became of a message."""
    match message.outcome:
        case None:
            return "pending"
        case Sent():
            return "sent"
        case Dropped(reason=reason):
            return f"dropped: {reason}"
        case Failed(certainty=certainty):
            return f"failed: {certainty}"


def outcomes_of(messages: Iterable[OutgoingMessage]) -> list[str]:
    """Say in a word what became of each message."""
    return [outcome_of(message) for message in messages]


def texts_at(gateway: FakeGateway) -> list[str]:
    """Give the texts of all sends that came to the gateway whole, in the order of arrival."""
    return [send.message for send in gateway.received]


def texts_in(events: Iterable[object]) -> list[str | None]:
    """Give the texts of the received messages among events."""
    return [event.text for event in events if isinstance(event, ReceivedMessage)]


def gaps_in(events: Iterable[object]) -> list[Gap]:
    """Give the gaps among events."""
    return [event for event in events if isinstance(event, Gap)]


def check_ledger(signal: SignalClient, messages: Sequence[OutgoingMessage]) -> None:
    """Hold the client's own books against the outcomes of all messages that it ever accepted (O1)."""
    books = signal.statistics().buffer.outgoing
    words = outcomes_of(messages)
    assert books.accepted == len(messages)
    assert books.sent == words.count("sent")
    assert books.pending == words.count("pending")
    for reason in DropReason:
        assert books.dropped.get(reason, 0) == words.count(f"dropped: {reason}")
    for certainty in Certainty:
        assert books.failed.get(certainty, 0) == words.count(f"failed: {certainty}")


def check_history(changes: Sequence[StateChange]) -> None:
    """Hold a whole history of changes, from the first on, against the table (C1, C2, C4)."""
    state, time, generation = DISCONNECTED, 0.0, 0
    for change in changes:
        assert change.previous is state
        assert (change.previous, change.current) in VALID_TRANSITIONS
        assert change.time >= time
        generation += change.current is RECONNECTING
        assert change.generation == generation
        state, time = change.current, change.time


def check_gaps(gaps: Sequence[Gap]) -> None:
    """Gaps do not run backwards and come in the order of time."""
    for gap in gaps:
        assert gap.since <= gap.until
    for earlier, later in itertools.pairwise(gaps):
        assert earlier.until <= later.since


def check_accounted(sent_at: dict[int, float], events: Sequence[object]) -> None:
    """Each message ever written arrived once and in order, or a gap in its place names it (R1, R3).

    Args:
        sent_at: timestamp of each message that was written, and when, on Trio's clock.
        events: all that the application got.
    """
    check_gaps(gaps_in(events))
    arrived = [event.timestamp for event in events if isinstance(event, ReceivedMessage)]
    stamps = [stamp for stamp in arrived if stamp in sent_at]
    assert stamps == sorted(set(stamps))
    missing = sorted(set(sent_at) - set(stamps))
    # Between which messages each gap stands is what it says about its place in the stream.
    place = 0
    for event in events:
        if isinstance(event, ReceivedMessage) and event.timestamp in sent_at:
            while missing and missing[0] < event.timestamp:
                pytest.fail(f"message {missing[0]} of {sent_at[missing[0]]} s was lost without a gap")
            place = event.timestamp
        elif isinstance(event, Gap):
            covered = [s for s in missing if s > place and event.since <= _ms(sent_at[s]) <= event.until]
            missing = [s for s in missing if s not in set(covered)]
    assert [(stamp, sent_at[stamp]) for stamp in missing] == []


def _ms(moment: float) -> int:
    return int((EPOCH + moment) * 1000)


@contextmanager
def closing_within(seconds: float) -> Generator[None]:
    """Fail if leaving the block takes longer, on Trio's clock."""
    start = trio.current_time()
    yield
    assert trio.current_time() - start <= seconds


def living_tasks() -> int:
    """Count the tasks of the whole run, Trio's own included."""
    return trio.lowlevel.current_statistics().tasks_living


def logged(records: Iterable[logging.LogRecord], level: int) -> list[str]:
    """Give the messages of this level or above."""
    return [record.getMessage() for record in records if record.levelno >= level]


def saved(cursor: Cursor | None) -> Cursor:
    """Insist on a cursor."""
    assert cursor is not None
    return cursor

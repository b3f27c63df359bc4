"""Put the demo together, and run it."""

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio
from rich.console import Console

from .._cli.exits import Exit, complain
from .._cli.interrupt import exit_code, run_until_signal
from .._cli.library_log import library_log
from .._opening import open_signal_client
from .._states import Backoff
from .._statistics import ClientStatistics
from ..hub import HubLimits, serve_hub
from ..testing import FakeGateway, MemoryListener, open_fake_gateway
from .acts import ACTS, Act, quiet
from .audit import ClientSide, GatewaySide, audit
from .frame import LiveView
from .plain import PlainView
from .record import Note, Record
from .stage import Stage
from .summary import Summary

#: The longest that the demo may take, in seconds, however slow the machine.
_LIMIT: Final = 58.0

#: Seconds that signal-cli takes for a send. The real one takes some 50 ms, which is too fast to watch.
_SEND_TIME: Final = 0.1

#: The defaults are 1 to 60 s; an audience has less time.
_BACKOFF: Final = Backoff(initial=1.0, maximum=2.0, jitter=False, stable_after=1.0)

_LIMITS: Final = HubLimits(shutdown_spread=0.0)


class View(Protocol):
    """A way to show the demo."""

    def begin(self, number: int, total: int, act: Act) -> None:
        """Show that an act begins."""
        ...

    def note(self, note: Note) -> None:
        """Show a line of the story."""
        ...

    def end(self, stage: Stage, result: str) -> None:
        """Show what came of an act."""
        ...

    async def run(self, stage: Stage) -> None:
        """Keep the picture up to date until cancelled."""
        ...


async def run_demo(console: Console | None = None, *, live: bool | None = None, port: int | None = 0) -> int:
    """Play all acts, print the summary, and return the exit code: 1 if the two sides do not agree.

    A checkpoint. Only in the main thread: a signal ends it at once.

    Args:
        console: where to show it; standard output by default.
        live: redraw one frame; by default where standard output is a terminal that can do that.
        port: where the gateway listens, 0 for a free one, None for in memory only.
    """
    console = console or Console()
    if live is None:
        live = sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal
    demo = _Demo(console, LiveView(console) if live else PlainView(console), port)
    console.print("trio-signal demo: a bot, a correspondent, a gateway that fails. Half a minute.")
    with library_log(logging.NullHandler(), logging.CRITICAL):
        caught = await run_until_signal(demo.run)
    if caught is not None:
        console.print("\nEnded before its time.")
        return exit_code(caught)
    if demo.summary is None:
        complain(f"the demo was not over after {_LIMIT:g} s; is this machine very busy?")
        return Exit.FAILED
    demo.summary.print(console)
    return Exit.OK if demo.summary.balances else Exit.FAILED


class _Demo:
    def __init__(self, console: Console, view: View, port: int | None) -> None:
        self._console: Final = console
        self._view: Final = view
        self._port: Final = port
        self.summary: Summary | None = None

    async def run(self) -> None:
        """Play. A checkpoint; cancelling ends everything at once."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(_LIMIT):
            start, opened = time.time(), trio.current_time()
            async with open_fake_gateway(
                port=self._port, answer_delay=_SEND_TIME, start_time=start
            ) as gateway:
                record = Record(self._view.note)
                # The people outlive the client: they end by themselves once it has closed.
                async with trio.open_nursery() as people:
                    # One clock for both sides, so that the two can be compared to the millisecond.
                    wall_clock = partial(_clock, start - opened)
                    books = await self._play(gateway, record, wall_clock, people)
            self.summary = _summary(gateway, record, books)

    async def _play(
        self,
        gateway: FakeGateway,
        record: Record,
        wall_clock: Callable[[], float],
        people: trio.Nursery,
    ) -> ClientStatistics:
        listener = MemoryListener() if self._port is None else None
        async with (
            open_signal_client(
                gateway.url,
                gateway.account,
                buffer_size=10,
                backoff=_BACKOFF,
                ping_interval=1.0,
                pong_timeout=1.0,
                send_timeout=5.0,
                wall_clock=wall_clock,
                connect=gateway.connect if self._port is None else None,
            ) as client,
            trio.open_nursery() as services,
        ):
            hub = await services.start(
                partial(
                    serve_hub,
                    client,
                    limits=_LIMITS,
                    listeners=None if listener is None else [listener],
                    wall_clock=wall_clock,
                )
            )
            if listener is None:
                self._console.print(f"Its page, for as long as this runs: {hub.url}", highlight=False)
            visit = partial(
                open_signal_client,
                hub.url,
                gateway.account,
                gateway="hub",
                backoff=_BACKOFF,
                wall_clock=wall_clock,
                connect=None if listener is None else listener.connect,
            )
            async with visit() as bot:
                stage = Stage(gateway, client, bot, visit, record)
                people.start_soon(stage.follow, client.state_changes())
                people.start_soon(stage.answer, bot.events())
                async with trio.open_nursery() as actors:
                    actors.start_soon(self._view.run, stage)
                    actors.start_soon(stage.converse)
                    await self._play_acts(stage)
                    actors.cancel_scope.cancel(reason="all acts have been played")
            hub.shutdown()
        return client.statistics()

    async def _play_acts(self, stage: Stage) -> None:
        for number, act in enumerate(ACTS, start=1):
            self._view.begin(number, len(ACTS), act)
            result = await act.play(stage)
            stage.record.results[act.name] = result
            self._view.end(stage, result)
        await quiet(stage)


def _summary(gateway: FakeGateway, record: Record, books: ClientStatistics) -> Summary:
    """Lay the two sides beside each other, now that nothing moves any more."""
    ours = ClientSide(
        books=books.buffer.outgoing,
        letters=[(letter.text, letter.outcome) for letter in record.letters],
        heard=record.heard,
        missed=record.missed,
        caught_up=record.caught_up,
        gaps=[(gap.since, gap.until) for gap in record.gaps],
        duplicates=books.receiving.duplicates,
    )
    theirs = GatewaySide(
        sent=[(send.message, send.timestamp) for send in gateway.received if send.timestamp is not None],
        said=record.said,
        written=[entry.timestamp for entry in gateway.ledger if entry.timestamp is not None],
        most_at_once=gateway.statistics().most_sends_in_flight,
    )
    checks = audit(ours, theirs)
    return Summary(record=record, ours=ours, theirs=theirs, checks=checks)


def _clock(offset: float) -> float:
    """Return the time of day by Trio's clock, in seconds since the epoch."""
    return offset + trio.current_time()

"""The demo as one frame of text that is redrawn in place, at most 80 columns wide."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio
from rich.console import Console, Group, OverflowMethod
from rich.live import Live
from rich.text import Text

from .._states import ConnectionState
from .._statistics import ClientStatistics
from .acts import ACTS, Act
from .record import Note
from .stage import Stage

#: Seconds between two frames: the countdown shows tenths.
_FRAME: Final = 0.1

_WIDTH: Final = 80

#: Lines of a frame that are not the story, and the most that the story gets.
_FIXED: Final = 14
_STORY: Final = 9

#: A terminal that knows this shows what comes between the two at once; the others ignore it.
_BEGIN_UPDATE, _END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"

_COLORS: Final = {
    ConnectionState.CONNECTED: "bold green",
    ConnectionState.SYNCING: "bold cyan",
    ConnectionState.RECONNECTING: "bold yellow",
    ConnectionState.DISCONNECTED: "bold red",
}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The few signs that not every terminal has."""

    full: str
    empty: str
    rule: str
    light: str
    overflow: OverflowMethod


_UNICODE: Final = Glyphs(full="\u2588", empty="\u2591", rule="\u2500", light="\u25cf", overflow="ellipsis")
_ASCII: Final = Glyphs(full="#", empty=".", rule="-", light="*", overflow="crop")


class LiveView:
    """Redraws the frame ten times a second.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console: Final = console
        self._glyphs: Final = _UNICODE if console.encoding.lower().startswith("utf") else _ASCII
        self._act: tuple[int, Act] = (0, ACTS[0])

    def begin(self, number: int, total: int, act: Act) -> None:
        """Announce an act."""
        del total
        self._act = (number, act)

    def note(self, note: Note) -> None:
        """Take note that the story goes on; the next frame shows it."""

    def end(self, stage: Stage, result: str) -> None:
        """Take note that an act is over; the summary shows its result."""
        del stage, result

    async def run(self, stage: Stage) -> None:
        """Draw until cancelled; then the frame is gone and the cursor back."""
        with Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        ) as live:
            while True:
                self._console.file.write(_BEGIN_UPDATE)
                live.update(self.frame(stage), refresh=True)
                self._console.file.write(_END_UPDATE)
                self._console.file.flush()
                await trio.sleep(_FRAME)

    def frame(self, stage: Stage) -> Group:
        """Return the frame for this moment."""
        statistics = stage.client.statistics()
        lines = [
            self._head(stage),
            self._rule(),
            *self._what(),
            Text(),
            self._link(statistics),
            self._buffer(statistics),
            _sending(statistics),
            _receiving(stage, statistics),
            self._rule(),
            *self._story(stage.record.notes),
        ]
        return Group(*map(self._cut, lines))

    def _cut(self, line: Text) -> Text:
        line.truncate(min(_WIDTH, self._console.width), overflow=self._glyphs.overflow)
        line.no_wrap = True
        return line

    def _rule(self) -> Text:
        return Text(self._glyphs.rule * _WIDTH, style="dim")

    def _head(self, stage: Stage) -> Text:
        number, _ = self._act
        text = Text.assemble(("trio-signal demo", "bold"), f"   act {number} of {len(ACTS)}  ")
        text.append(self._glyphs.full * number, style="bold")
        text.append(self._glyphs.empty * (len(ACTS) - number))
        text.append(f"{stage.record.elapsed:.0f} s, Ctrl-C ends it".rjust(_WIDTH - text.cell_len))
        return text

    def _what(self) -> list[Text]:
        _, act = self._act
        why = act.why.splitlines()
        return [Text(act.title, style="bold"), *map(Text, why), *(Text() for _ in range(3 - len(why)))]

    def _link(self, statistics: ClientStatistics) -> Text:
        state = statistics.state
        text = Text.assemble("link       ", (f"{self._glyphs.light} {state.name:<13}", _COLORS[state]))
        if statistics.next_attempt is not None:
            left = max(0.0, statistics.next_attempt - trio.current_time())
            whole = max(left, statistics.next_attempt - statistics.since)
            text.append(f"attempt {statistics.attempt} in {left:.1f} s  ")
            text.append(self._bar(round(10 * left / whole) if whole else 0, 10))
        elif state is ConnectionState.RECONNECTING:
            text.append(f"attempt {statistics.attempt}: dialling")
        elif state is ConnectionState.CONNECTED:
            text.append(f"for {trio.current_time() - statistics.since:.0f} s")
        return text

    def _buffer(self, statistics: ClientStatistics) -> Text:
        waiting, room = statistics.buffer.waiting, statistics.buffer.max_size
        style = "bold red" if waiting == room else "bold yellow" if waiting else ""
        text = Text.assemble(
            "buffer     ", (self._bar(waiting, room), style), f" {waiting} of {room} waiting"
        )
        if statistics.in_flight:
            text.append(", 1 in hand")
        return text

    def _bar(self, full: int, room: int) -> str:
        return self._glyphs.full * full + self._glyphs.empty * (room - full)

    def _story(self, notes: list[Note]) -> Iterable[Text]:
        room = max(1, min(_STORY, self._console.height - _FIXED))
        shown = [_told(note) for note in notes[-room:]]
        return [*shown, *(Text() for _ in range(room - len(shown)))]


def _sending(statistics: ClientStatistics) -> Text:
    outgoing = statistics.buffer.outgoing
    dropped, failed = sum(outgoing.dropped.values()), sum(outgoing.failed.values())
    return Text.assemble(
        f"sending    accepted {outgoing.accepted} = ",
        (f"sent {outgoing.sent}", "green"),
        " + ",
        (f"dropped {dropped}", "yellow" if dropped else ""),
        " + ",
        (f"failed {failed}", "red" if failed else ""),
        f" + pending {outgoing.pending}",
    )


def _receiving(stage: Stage, statistics: ClientStatistics) -> Text:
    gaps = len(stage.record.gaps)
    return Text.assemble(
        f"receiving  heard {len(stage.record.heard)}, duplicates {statistics.receiving.duplicates}, ",
        f"unreadable {stage.record.unreadable}, ",
        (f"gaps {gaps}", "yellow" if gaps else ""),
    )


def _told(note: Note) -> Text:
    return Text.assemble(
        (f"{note.time:5.1f} s  ", "dim"), f"{note.about:<5} ", (note.text, "red" if note.bad else "")
    )

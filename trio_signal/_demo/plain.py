"""The demo as plain lines, for what is no terminal or a very simple one."""

from typing import Final

import trio
from rich.console import Console

from .acts import Act
from .record import Note
from .stage import Stage


class PlainView:
    """Prints each line of the story as it happens.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console: Final = console

    def begin(self, number: int, total: int, act: Act) -> None:
        """Announce an act."""
        self._print(f"\nACT {number} of {total}: {act.title}")
        for line in act.why.splitlines():
            self._print(f"  {line}")

    def note(self, note: Note) -> None:
        """Print a line of the story."""
        self._print(f"{note.time:6.1f} s  {note.about:<5} {note.text}")

    def end(self, stage: Stage, result: str) -> None:
        """Print what came of an act, and the counters."""
        statistics = stage.client.statistics()
        outgoing, receiving = statistics.buffer.outgoing, statistics.receiving
        dropped, failed = sum(outgoing.dropped.values()), sum(outgoing.failed.values())
        self._print(f"{stage.record.elapsed:6.1f} s  ----- {result}")
        self._print(
            f"          ----- accepted {outgoing.accepted} = sent {outgoing.sent} + dropped {dropped}"
            f" + failed {failed} + pending {outgoing.pending}"
        )
        self._print(
            f"          ----- heard {len(stage.record.heard)}, duplicates {receiving.duplicates},"
            f" unreadable {stage.record.unreadable}, gaps {len(stage.record.gaps)}"
        )

    async def run(self, stage: Stage) -> None:
        """Nothing needs to be redrawn here. A checkpoint; never returns."""
        del stage
        await trio.sleep_forever()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

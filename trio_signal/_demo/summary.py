"""What the demo ends with: what came of each act, the ledger, the gaps, and whether both sides agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from .._continuity import Gap
from .acts import ACTS
from .audit import Check, ClientSide, GatewaySide
from .record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The end of the story.

    Attributes:
        record: what happened.
        ours: the client's side.
        theirs: the gateway's side.
        checks: whether the two agree.
    """

    record: Record
    ours: ClientSide
    theirs: GatewaySide
    checks: Sequence[Check]

    @property
    def balances(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def print(self, console: Console) -> None:
        """Print it, at most 80 columns wide."""
        for line in (*self._acts(), *self._ledger(), *self._gaps(), *self._verdict()):
            console.print(line, highlight=False, soft_wrap=True)

    def _acts(self) -> list[Text]:
        lines = [Text("\nWhat was broken, and what came of it", style="bold")]
        for number, act in enumerate(ACTS, start=1):
            result = self.record.results.get(act.name, "not played")
            lines.append(Text(f" {number}. {act.name:<16}{result}"))
        return lines

    def _ledger(self) -> list[Text]:
        books, theirs = self.ours.books, self.theirs
        dropped, failed = sum(books.dropped.values()), sum(books.failed.values())
        why = [f"{count} {reason.value}" for reason, count in (*books.dropped.items(), *books.failed.items())]
        missed = len(set(theirs.said) - set(self.ours.heard))
        total = f"accepted {books.accepted} = sent {books.sent} + dropped {dropped} + failed {failed}"
        arrived = f"received {len(self.ours.heard)}, duplicates {self.ours.duplicates}"
        lines = (
            f"client   {total} + pending {books.pending}",
            f"         of which not sent: {', '.join(why) or 'none'}",
            f"gateway  passed {len(theirs.sent)} on to Signal",
            f"client   {arrived}, unreadable {self.record.unreadable}, gaps {len(self.record.gaps)}",
            f"gateway  the correspondent wrote {len(theirs.said)}, of which {missed} met nobody there",
        )
        return [Text("\nThe ledger", style="bold"), *(Text(f" {line}") for line in lines)]

    def _gaps(self) -> list[Text]:
        lines = [Text("\nThe gaps, in which messages may be missing", style="bold")]
        return lines + [self._gap(number, gap) for number, gap in enumerate(self.record.gaps, start=1)]

    def _gap(self, number: int, gap: Gap) -> Text:
        missed = [stamp for stamp in self.theirs.said if stamp not in self.ours.heard]
        inside = sum(gap.since <= stamp <= gap.until for stamp in missed)
        length = (gap.until - gap.since) / 1000
        between = f"{_clock(gap.since)} to {_clock(gap.until)} ({length:.1f} s)"
        return Text(f" {number}. {between}: {inside} were in fact missed")

    def _verdict(self) -> list[Text]:
        lines = [Text("\nBoth sides compared", style="bold")]
        for check in self.checks:
            word, style = (" ok   ", "green") if check.ok else (" FAIL ", "bold red")
            lines.append(Text.assemble((word, style), check.sentence))
        if self.balances:
            end = Text("\nThe ledger balances: nothing was lost untold, nothing was sent twice.")
            end.stylize("bold green")
        else:
            end = Text("\nThe ledger does NOT balance. This is a bug in trio_signal; please report it.")
            end.stylize("bold red")
        return [*lines, end]


def _clock(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone()
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"

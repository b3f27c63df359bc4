"""Does what the client says agree with what the gateway saw? Pure.

Neither side's books are believed: the client's are compared with the messages that the
bot holds in its hands, and those with the gateway's own list of what it was asked to send
and what it wrote to our socket.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .._errors import Certainty
from .._outcomes import Dropped, Failed, Outcome, OutgoingStatistics, Sent

#: How far the clocks of the two sides may differ by rounding, in milliseconds.
_ROUNDING = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide:
    """What the client and its user have.

    Attributes:
        books: the client's own ledger.
        letters: the text and the outcome of each message, in the order in which they were accepted.
        heard: the timestamps received, in order.
        gaps: each absence as (since, until), in milliseconds since the epoch.
        duplicates: how many messages the client says it dropped since they had come before.
        missed: the timestamps of what passed while the hub's second client was away.
        caught_up: the timestamps of what that client was given when it was back, in order.
    """

    books: OutgoingStatistics
    letters: Sequence[tuple[str, Outcome | None]]
    heard: Sequence[int]
    gaps: Sequence[tuple[int, int]]
    duplicates: int
    missed: Sequence[int] = ()
    caught_up: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySide:
    """What the gateway and the correspondent have.

    Attributes:
        sent: the text and the timestamp of each message that Signal got, in order.
        said: the timestamps of what the correspondent wrote.
        written: the timestamps of what was written to our sockets, in order, copies too.
        most_at_once: the most sends that were ever in flight together.
    """

    sent: Sequence[tuple[str, int]]
    said: Sequence[int]
    written: Sequence[int]
    most_at_once: int


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, as a sentence that says so."""

    ok: bool
    sentence: str


def audit(ours: ClientSide, theirs: GatewaySide) -> tuple[Check, ...]:
    """Compare both sides."""
    return (*_sending(ours, theirs), *_receiving(ours, theirs))


def _sending(ours: ClientSide, theirs: GatewaySide) -> list[Check]:
    sent = {text: outcome.timestamp for text, outcome in ours.letters if isinstance(outcome, Sent)}
    unknown = [text for text, outcome in ours.letters if _may_have_left(outcome)]
    arrived = Counter(text for text, _ in theirs.sent)
    order = {text: place for place, (text, _) in enumerate(ours.letters)}
    places = [order.get(text, -1) for text, _ in theirs.sent]
    return [
        Check(
            _books(ours.letters) == ours.books and ours.books.pending == 0,
            f"each of {len(ours.letters)} accepted messages has exactly one outcome",
        ),
        Check(
            sent.items() <= set(theirs.sent) and all(arrived[text] == 1 for text in sent),
            f"each of {len(sent)} sent messages reached Signal once, under the same timestamp",
        ),
        Check(
            set(arrived) <= {*sent, *unknown} and max(arrived.values(), default=0) <= 1,
            f"besides, Signal got {len(arrived) - len(sent)} of {len(unknown)} 'unknown' ones; nothing twice",
        ),
        Check(
            all(earlier < later for earlier, later in pairwise(places)),
            "they left in the order in which they were accepted",
        ),
        Check(theirs.most_at_once <= 1, "never were two sends in flight at once"),
    ]


def _receiving(ours: ClientSide, theirs: GatewaySide) -> list[Check]:
    heard, written = set(ours.heard), set(theirs.written)
    missed = [stamp for stamp in theirs.said if stamp not in heard]
    unwritten = len(missed) - len(written - heard)
    copies = len(theirs.written) - len(written)
    in_order = all(earlier < later for earlier, later in pairwise(ours.heard))
    return [
        Check(
            all(_in_a_gap(stamp, ours.gaps) for stamp in written - heard),
            f"each of {len(written)} messages written to our socket was received or lies in a gap",
        ),
        Check(
            in_order and heard <= set(theirs.said),
            f"each of {len(heard)} received messages was given once, in order",
        ),
        Check(ours.duplicates == copies, f"the {copies} that came a second time were dropped and counted"),
        Check(
            all(_in_a_gap(stamp, ours.gaps) for stamp in missed),
            f"each of {unwritten} said while nobody was there lies in a gap that was told",
        ),
        Check(
            ours.caught_up == ours.missed,
            f"a client away from the hub got all {len(ours.missed)} that passed, in order, once",
        ),
    ]


def _books(letters: Sequence[tuple[str, Outcome | None]]) -> OutgoingStatistics:
    """Count outcomes by hand."""
    outcomes = [outcome for _, outcome in letters]
    return OutgoingStatistics(
        accepted=len(letters),
        sent=sum(isinstance(outcome, Sent) for outcome in outcomes),
        dropped=dict(Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Dropped))),
        failed=dict(Counter(outcome.certainty for outcome in outcomes if isinstance(outcome, Failed))),
    )


def _may_have_left(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Failed) and outcome.certainty is Certainty.UNKNOWN


def _in_a_gap(stamp: int, gaps: Sequence[tuple[int, int]]) -> bool:
    return any(since - _ROUNDING <= stamp <= until + _ROUNDING for since, until in gaps)

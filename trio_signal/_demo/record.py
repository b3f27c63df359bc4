"""What happened in the demo, as the bot saw it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from .._continuity import Gap
from .._outgoing import OutgoingMessage


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the story.

    Attributes:
        time: seconds since the demo began.
        about: what it concerns: ``demo``, ``link``, ``send``, ``recv``, ``gap`` or ``hub``.
        text: the line.
        bad: whether something went wrong.
    """

    time: float
    about: str
    text: str
    bad: bool = False


@dataclass(slots=True)
class Record:
    """Everything that the bot and the correspondent did and saw; the gateway keeps its own.

    Attributes:
        told: is called with each note.
        said: the timestamps of what the correspondent wrote, in order.
        heard: the timestamps of what the bot received, in order.
        gaps: the gaps that the bot was told of.
        missed: the timestamps of what the hub passed on while the second client was away.
        caught_up: the timestamps of what that client was given after it came back, in order.
        unreadable: how many frames were no messages.
        letters: what the bot sent, in the order in which the client accepted it.
        notes: the story.
        results: what came of each act, by its name.
    """

    told: Callable[[Note], None]
    said: list[int] = field(default_factory=list[int])
    heard: list[int] = field(default_factory=list[int])
    gaps: list[Gap] = field(default_factory=list[Gap])
    missed: list[int] = field(default_factory=list[int])
    caught_up: list[int] = field(default_factory=list[int])
    unreadable: int = 0
    letters: list[OutgoingMessage] = field(default_factory=list[OutgoingMessage])
    notes: list[Note] = field(default_factory=list[Note])
    results: dict[str, str] = field(default_factory=dict[str, str])
    began: float = field(default_factory=trio.current_time)

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return trio.current_time() - self.began

    def note(self, about: str, text: str, *, bad: bool = False) -> None:
        """Add a line to the story."""
        note = Note(self.elapsed, about, text, bad)
        self.notes.append(note)
        self.told(note)

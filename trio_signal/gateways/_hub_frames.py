"""What a hub's frames say, and the rule of its numbers. Pure.

Theory of operation
===================

A hub numbers what it hands out, without a hole, within one *epoch*. A link begins with
``hello``, which tells the epoch, the *head* (the last number given out) and the oldest
number kept. From there on each numbered frame has the number after the one before it:

- the next number: it is handed on, and our position moves there;
- a number that we have passed: a duplicate, dropped;
- any other: a *hole*. Something between us and the hub's log is broken, so the link is
  given up; the next one asks for what came after our position.

The hub never passes over a number silently: it says ``gap`` with the numbers that it
cannot give any more. A heartbeat tells the head behind everything that was sent before
it, so a head that is not our position is a hole too, or one that is less than the hello told.

If the epoch is not the one that our position belongs to, or our position is over the
head, everything that we know of the numbering is void: that is a gap of its own, which
we note by ourselves. Then we are *adrift*: we take what the hub still has from wherever
it begins.

A gap ends where the first frame behind it begins, in time as well, so it is kept open
until that frame comes, and handed on with it; or handed on at once where none can follow.

We are synchronised once our position is the head that the hello told.
"""

from typing import Final, NamedTuple

from .._continuity import Cursor, Gap, GapReason, Position
from .._envelopes import Undecodable
from .._errors import LinkLost, Reason, WrongGatewayMode
from . import Note, Numbered
from ._hub_wire import (
    HEARTBEAT,
    Frame,
    GapNotice,
    Goodbye,
    Heartbeat,
    Hello,
    content,
    is_of_newer_kind,
    read_as,
    read_frame,
    undecodable,
)

#: Within what a hub's heartbeat interval is believed, in seconds.
_SHORTEST: Final = 1.0
_LONGEST: Final = 600.0

_REASONS: Final = {reason.value: reason for reason in GapReason}

#: How the hub ends a link by itself.
_ENDS: Final = {
    1012: (Reason.GOING_DOWN, "the hub shuts down"),
    4001: (Reason.TOKEN_EXPIRED, "the token has expired; the hub wants another"),
    4008: (Reason.TOO_SLOW, "the hub had more for us than it queues"),
}


class _OpenGap(NamedTuple):
    """A gap that is not handed on yet, since it is not known when it ends."""

    reason: GapReason
    since: int
    first: int | None
    last: int | None


class HubFrames:
    """Reads the frames of one link, from the first on. Never waits.

    Args:
        resume: where to go on; None to begin with what comes from now on.

    Attributes:
        heartbeat_interval: how often the hub says that it lives, in seconds.
    """

    def __init__(self, resume: Cursor | None) -> None:
        self._resume: Final = resume
        self._position: Position | None = None
        #: Up to when everything up to the position came, in milliseconds since the epoch.
        self._time = 0
        self._head = 0
        self._gap: _OpenGap | None = None
        self._knows_of_epoch = False
        self._goodbye: Goodbye | None = None
        self.heartbeat_interval = HEARTBEAT

    @property
    def position(self) -> Position | None:
        """The place behind all that was read; None before the hello."""
        return self._position

    @property
    def _adrift(self) -> bool:
        return self._gap is not None and self._gap.first is None

    @property
    def is_synchronised(self) -> bool:
        """Whether everything up to the head that the hello told was read."""
        return self._position is not None and self._gap is None and self._position.sequence >= self._head

    def read(self, frame: str | bytes, now: int) -> list[Numbered]:
        """Say what a frame gives to the application.

        Args:
            frame: as it came.
            now: the present time, in milliseconds since the epoch.

        Raises:
            WrongGatewayMode: the first frame is no hello, so this is no hub.
            LinkLost: the hub left something out.
        """
        known, position = read_frame(frame), self._position
        if position is None:
            is_hello = known is not None and known.type == "hello"
            return self._greet(read_as(frame, Hello) if is_hello else None, now)
        if known is None:
            return [] if is_of_newer_kind(frame) else self._pass_on(frame, "no frame of a hub")
        if known.type == "message":
            if known.sequence_number is None:
                return self._pass_on(frame, "a message of the hub's without its number")
            return self._place(content(known.data, frame), known.sequence_number, known, position, now)
        return self._read_notice(known, frame, position, now)

    def skip(self, now: int) -> list[Numbered]:
        """Say that the next message cannot be taken, and pass over it.

        Nothing before the hello; and nothing where the hello told of no further message, since what
        was too large may have had no number then, and the next number may not have been given out.
        """
        if self._position is None or self._position.sequence >= self._head:
            return []
        items = self._close_gap(self._position.sequence, now)
        number = self._position.sequence + 1
        self._position = self._position._replace(sequence=number)
        gap = Gap(GapReason.OVERFLOW, self._time, max(self._time, now), number, number, 1)
        return [*items, Numbered(gap, self._position, self._time)]

    def explain(self, error: LinkLost) -> LinkLost:
        """Say why the hub ended the link, where its close code or a goodbye tells."""
        wait = self._goodbye.retry_after if self._goodbye else None
        if error.reason is Reason.CLOSED_BY_GATEWAY and error.close_code in _ENDS:
            reason, words = _ENDS[error.close_code]
        elif self._goodbye is not None:
            reason, words = Reason.GOING_DOWN, f"the hub shuts down: {error}"
        else:
            return error
        return LinkLost(words, reason=reason, close_code=error.close_code, retry_after=wait)

    def _greet(self, hello: Hello | None, now: int) -> list[Numbered]:
        if hello is None or not 1 <= hello.oldest <= hello.head + 1:
            raise WrongGatewayMode(
                "the first frame is no hello, so this is no trio_signal hub; "
                'gateway="auto" finds out what it is'
            )
        self.heartbeat_interval = min(max(hello.heartbeat_interval, _SHORTEST), _LONGEST)
        self._head = hello.head
        if self._resume is None:
            return self._begin(Note.REACHED, Position(hello.epoch, hello.head), now)
        self._time, position = self._resume.time, self._resume.position
        if position is None:
            # Where we were is known by the time alone, and a hub keeps no such index.
            until = max(self._time, now)
            gap = Gap(GapReason.GATEWAY, self._time, until)
            return self._begin(gap, Position(hello.epoch, hello.head), until)
        if position.epoch == hello.epoch and position.sequence <= hello.head:
            return self._begin(Note.REACHED, position, self._time)
        self._position = Position(hello.epoch, hello.oldest - 1)
        self._lose_epoch()
        return self._close_gap(hello.head, now) if hello.oldest > hello.head else []

    def _begin(self, item: Gap | Note, position: Position, time: int) -> list[Numbered]:
        self._position, self._time = position, time
        return [Numbered(item, position, time)]

    def _read_notice(self, known: Frame, frame: str | bytes, position: Position, now: int) -> list[Numbered]:
        """Read what is no message; the hello has come."""
        match known.type:
            case "heartbeat":
                return self._read_heartbeat(frame, position, now)
            case "gap":
                return self._read_gap(known, frame, position, now)
            case "direct":
                return [Numbered(content(known.data, frame), None, self._time)]
            case "goodbye":
                self._goodbye = read_as(frame, Goodbye) or Goodbye()
            case "hello":
                raise LinkLost("the hub said hello twice", reason=Reason.CONNECTION_LOST)
            case "token_expiring":
                # The close code 4001 follows, and asks for what this only announces.
                pass
            case _ if known.sequence_number is not None:
                # A newer hub's. It takes up a number, so something must stand for it.
                unknown = undecodable(frame, "a numbered frame of an unknown kind")
                return self._place(unknown, known.sequence_number, known, position, now)
            case _:
                pass
        return []

    def _pass_on(self, frame: str | bytes, reason: str) -> list[Numbered]:
        """Give what cannot be understood to the application as it came."""
        return [Numbered(undecodable(frame, reason), None, self._time)]

    def _place(
        self, item: str | bytes | Gap | Undecodable, number: int, known: Frame, position: Position, now: int
    ) -> list[Numbered]:
        """Hand a numbered item on if it is the next one."""
        if number <= position.sequence:
            return [Numbered(Note.DUPLICATE, None, self._time)]
        if number != position.sequence + 1 and not self._adrift:
            raise _hole(position, f"message {number}")
        came = now if known.timestamp is None else min(known.timestamp, now)
        begun = min(came, item.since) if isinstance(item, Gap) else came
        items = self._close_gap(number - 1, begun) if self._gap is not None else []
        self._position = Position(position.epoch, number)
        self._time = max(self._time, came)
        items.append(Numbered(item, self._position, self._time))
        return items

    def _read_gap(self, known: Frame, frame: str | bytes, position: Position, now: int) -> list[Numbered]:
        # Where the rest cannot be read, that something is missing is certain all the same.
        told = read_as(frame, GapNotice) or GapNotice()
        reason = _REASONS.get(told.reason, GapReason.GATEWAY)
        if known.sequence_number is None and told.last is not None:
            return self._read_hole(reason, told.first, told.last, position, now)
        if known.sequence_number is None and reason is GapReason.EPOCH_CHANGED:
            return self._read_new_epoch(position, now)
        since = self._time if told.since is None else told.since
        until = next((time for time in (told.until, known.timestamp) if time is not None), now)
        gap = Gap(reason, since, max(since, until), count=told.count or None)
        if known.sequence_number is None:
            return [Numbered(gap, None, self._time)]
        return self._place(gap, known.sequence_number, known, position, now)

    def _read_hole(
        self, reason: GapReason, first: int | None, last: int, position: Position, now: int
    ) -> list[Numbered]:
        """Note which numbers the hub cannot give us any more."""
        if last <= position.sequence:
            return []
        if first is not None and first > position.sequence + 1 and not self._adrift:
            raise _hole(position, f"the loss of {first} to {last}")
        items = self._close_gap(position.sequence, now)
        self._position = position._replace(sequence=last)
        self._gap = _OpenGap(reason, self._time, position.sequence + 1, last)
        return items + self._close_gap(last, now) if last >= self._head else items

    def _read_new_epoch(self, position: Position, now: int) -> list[Numbered]:
        if self._knows_of_epoch:
            # We have noted it by ourselves, from the hello.
            return []
        items = self._close_gap(position.sequence, now)
        self._lose_epoch()
        return items

    def _read_heartbeat(self, frame: str | bytes, position: Position, now: int) -> list[Numbered]:
        beat = read_as(frame, Heartbeat)
        if beat is None:
            return self._pass_on(frame, "a heartbeat of the hub's without its head")
        if self._adrift and beat.head > position.sequence:
            # It beats only behind all that it has for us, so there was nothing.
            position = self._position = position._replace(sequence=beat.head)
        if beat.head != position.sequence or beat.head < self._head:
            raise _hole(position, f"the head {beat.head}")
        items = self._close_gap(beat.head, now)
        self._time = max(self._time, now)
        return [*items, Numbered(Note.REACHED, position, self._time)]

    def _lose_epoch(self) -> None:
        self._knows_of_epoch = True
        self._gap = _OpenGap(GapReason.EPOCH_CHANGED, self._time, None, None)

    def _close_gap(self, last: int, until: int) -> list[Numbered]:
        """Hand on the gap that is open, if there is one: it reaches to number ``last`` and to ``until``."""
        missing, self._gap = self._gap, None
        if missing is None or self._position is None:
            return []
        gap = Gap(missing.reason, missing.since, max(missing.since, until), missing.first, missing.last)
        self._time = max(self._time, gap.until)
        return [Numbered(gap, self._position._replace(sequence=last), self._time)]


def _hole(position: Position, next_one: str) -> LinkLost:
    return LinkLost(
        f"the hub went from message {position.sequence} to {next_one}; what is missing is asked for again",
        reason=Reason.HOLE,
    )

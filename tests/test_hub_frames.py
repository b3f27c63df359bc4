"""What a hub's frames come to, against a naive model, and what no frame can do."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_signal import Cursor, Gap, GapReason, LinkLost, Reason, Undecodable, WrongGatewayMode
from trio_signal._continuity import MAX_NUMBER, Position
from trio_signal.gateways import Note, Numbered
from trio_signal.gateways._hub_frames import HubFrames
from trio_signal.gateways._hub_wire import is_of_newer_kind
from trio_signal.hub import HubLimits

NOW: Final = 1_000_000
EPOCH: Final = "this"


def hello(head: int, oldest: int = 1, epoch: str = EPOCH, **more: Any) -> str:
    return json.dumps({"type": "hello", "epoch": epoch, "head": head, "oldest": oldest} | more)


def message(number: int, data: Any = None, **more: Any) -> str:
    fields = {"type": "message", "sequence_number": number, "timestamp": 10 * number}
    return json.dumps(fields | {"data": {"n": number} if data is None else data} | more)


def hole(first: int | None, last: int | None, reason: str = "overwritten") -> str:
    return json.dumps({"type": "gap", "reason": reason, "first": first, "last": last})


def heartbeat(head: int) -> str:
    return json.dumps({"type": "heartbeat", "head": head})


def absence(number: int, **more: Any) -> str:
    fields = {"type": "gap", "sequence_number": number, "timestamp": 10 * number, "reason": "gateway"}
    return json.dumps(fields | {"since": 10 * number - 5, "until": 10 * number} | more)


def at(sequence: int, epoch: str = EPOCH) -> Cursor:
    """A cursor: message n came at time 10 n."""
    return Cursor(10 * sequence, epoch, sequence)


# --- The rule of the numbers, against a model that knows only lists. ---


@dataclass
class Model:
    """What an application would write down by hand: which numbers it has, and which it was told are lost."""

    position: int
    adrift: bool
    had: list[int] = field(default_factory=list[int])
    told: list[tuple[str, int | None, int | None]] = field(
        default_factory=list[tuple[str, int | None, int | None]]
    )
    head: int = 0
    duplicates: int = 0
    broken: bool = False
    knows_of_epoch: bool = False

    def take(self, kind: str, *numbers: int) -> None:
        if self.broken:
            return
        if kind == "message":
            self.take_message(*numbers)
        elif kind == "hole":
            self.take_hole(*numbers)
        elif kind == "epoch":
            self.adrift = self.adrift or not self.knows_of_epoch
            if not self.knows_of_epoch:
                self.told.append(("epoch_changed", None, None))
            self.knows_of_epoch = True
        elif numbers[0] < self.head:
            self.broken = True
        elif self.adrift and numbers[0] > self.position:
            self.position, self.adrift = numbers[0], False
        elif numbers[0] != self.position:
            self.broken = True
        else:
            self.adrift = False

    def take_message(self, number: int) -> None:
        if number <= self.position:
            self.duplicates += 1
        elif number == self.position + 1 or self.adrift:
            self.had.append(number)
            self.position, self.adrift = number, False
        else:
            self.broken = True

    def take_hole(self, first: int, last: int) -> None:
        if last <= self.position:
            return
        if first > self.position + 1 and not self.adrift:
            self.broken = True
            return
        self.told.append(("overwritten", self.position + 1, last))
        self.position, self.adrift = last, False


#: A kind of frame and its numbers.
Told = tuple[str, tuple[int, ...]]

FRAMES: Final[list[Told]] = [
    *(("message", (number,)) for number in range(1, 6)),
    *(("hole", numbers) for numbers in itertools.combinations_with_replacement(range(1, 5), 2)),
    *(("beat", (head,)) for head in range(1, 6)),
    ("epoch", ()),
]


def written(kind: str, numbers: tuple[int, ...]) -> str:
    if kind == "message":
        return message(numbers[0])
    if kind == "hole":
        return hole(numbers[0], numbers[1])
    return hole(None, None, "epoch_changed") if kind == "epoch" else heartbeat(numbers[0])


WRITTEN: Final = {told: written(*told) for told in FRAMES}


def run(frames: HubFrames, texts: Iterable[str]) -> tuple[list[Numbered], bool]:
    """Read frames up to the first that breaks the link."""
    items: list[Numbered] = []
    for text in texts:
        try:
            items += frames.read(text, NOW)
        except LinkLost:
            return items, True
    return items, False


def starts() -> Iterator[tuple[str, Cursor | None, Model]]:
    """Every small log that a link may meet, and every position to come from."""
    for head in range(4):
        yield hello(head, 1), None, Model(head, adrift=False, head=head)
        for oldest in range(1, head + 2):
            for position in range(4):
                same = position <= head
                kept = oldest <= head
                new = Model(oldest - 1, adrift=kept, knows_of_epoch=True, head=head)
                new.told.append(("epoch_changed", None, None))
                yield (
                    hello(head, oldest),
                    at(position),
                    Model(position, adrift=False, head=head) if same else new,
                )
                other = Model(oldest - 1, adrift=kept, knows_of_epoch=True, head=head)
                other.told.append(("epoch_changed", None, None))
                yield hello(head, oldest), at(position, "other"), other


def check(first: str, resume: Cursor | None, model: Model, frames: Sequence[Told]) -> None:
    reader = HubFrames(resume)
    items, broken = run(reader, [first, *(WRITTEN[frame] for frame in frames)])
    for frame in frames:
        model.take(frame[0], *frame[1])
    story = (first, resume, frames)
    assert broken == model.broken, story
    numbers = [json.loads(item.item)["n"] for item in items if isinstance(item.item, bytes)]
    assert numbers == model.had, story
    assert sum(item.item is Note.DUPLICATE for item in items) == model.duplicates, story
    gaps = [item.item for item in items if isinstance(item.item, Gap)]
    told = [(gap.reason.value, gap.first, gap.last) for gap in gaps]
    # One gap may still be open: it is told with what comes next.
    assert told == model.told[: len(told)], story
    assert len(model.told) - len(told) <= 1, story
    if not broken:
        assert reader.position is not None
        assert reader.position.sequence == model.position, story
        if reader.is_synchronised:
            assert told == model.told, story
    check_order(items, story)


def check_order(items: Sequence[Numbered], story: object) -> None:
    """Positions and times do not run backwards; gaps neither overlap nor end before they begin."""
    places = [item for item in items if item.position is not None]
    for before, after in itertools.pairwise(places):
        assert before.position is not None
        assert after.position is not None
        assert before.position.sequence <= after.position.sequence, story
        assert before.time <= after.time, story
    gaps = [item.item for item in items if isinstance(item.item, Gap)]
    assert all(gap.since <= gap.until for gap in gaps), story


@pytest.mark.contract("R1", "R2", "R3", "R4", "R6")
def test_every_short_sequence_of_frames_agrees_with_the_model() -> None:
    """Over 20,000 combinations of a log, a position, and up to three frames, right or wrong."""
    count = 0
    for length in range(4):
        for frames in itertools.product(FRAMES, repeat=length):
            for first, resume, model in STARTS[:: 1 if length < 3 else 7]:
                copied = Model(model.position, model.adrift, told=list(model.told), head=model.head)
                copied.knows_of_epoch = model.knows_of_epoch
                check(first, resume, copied, frames)
                count += 1
    assert count > 20_000


STARTS: Final = list(starts())


@pytest.mark.contract("R1", "R3", "R6")
@given(st.integers(0, len(STARTS) - 1), st.lists(st.sampled_from(FRAMES), max_size=40))
def test_any_sequence_of_frames_agrees_with_the_model(start: int, frames: list[Told]) -> None:
    first, resume, model = list(starts())[start]
    check(first, resume, model, frames)


# --- An honest hub: a list of messages of which some are gone, and a wire that may damage it. ---


@dataclass
class Log:
    """A hub's log as the contract has it (H2, H5), in lists."""

    head: int
    oldest: int
    epoch: str = EPOCH

    def connect(self, resume: Cursor | None) -> list[str]:
        """Everything that a client is sent that comes with this cursor, up to the first heartbeat."""
        frames = [hello(self.head, self.oldest, self.epoch)]
        position = resume.position if resume else None
        if position is not None and (position.epoch != self.epoch or position.sequence > self.head):
            frames.append(hole(None, None, "epoch_changed"))
            frames += [message(n) for n in range(self.oldest, self.head + 1)]
        elif position is not None:
            if position.sequence < self.oldest - 1:
                frames.append(hole(position.sequence + 1, self.oldest - 1))
            frames += [message(n) for n in range(max(position.sequence + 1, self.oldest), self.head + 1)]
        return [*frames, heartbeat(self.head)]


def logs() -> Iterator[Log]:
    for head in range(6):
        for oldest in range(1, head + 2):
            yield Log(head, oldest)


@pytest.mark.contract("R1", "R3", "R4", "H2")
@pytest.mark.parametrize("epoch", [EPOCH, "other"])
def test_whatever_an_honest_hub_has_arrives_or_is_told_to_be_lost(epoch: str) -> None:
    for log in logs():
        for sequence in range(8):
            reader = HubFrames(at(sequence, epoch))
            items, broken = run(reader, log.connect(at(sequence, epoch)))
            assert not broken
            assert reader.is_synchronised
            assert reader.position == Position(log.epoch, log.head)
            numbers = [json.loads(item.item)["n"] for item in items if isinstance(item.item, bytes)]
            gaps = [item.item for item in items if isinstance(item.item, Gap)]
            if epoch == log.epoch and sequence <= log.head:
                lost = list(range(sequence + 1, log.oldest))
                assert numbers == list(range(max(sequence + 1, log.oldest), log.head + 1))
                assert [(gap.first, gap.last) for gap in gaps] == ([(lost[0], lost[-1])] if lost else [])
            else:
                assert numbers == list(range(log.oldest, log.head + 1))
                assert [gap.reason for gap in gaps] == ["epoch_changed"]


@pytest.mark.contract("R1", "R3")
def test_a_frame_that_the_wire_loses_repeats_or_swaps_is_noticed_or_harmless() -> None:
    """Two links: what the damaged first one gave, and what the next one gives, is everything once."""
    for log in logs():
        for sequence in range(log.head + 1):
            frames = log.connect(at(sequence))
            for damaged in damages(frames):
                items, broken = run(HubFrames(at(sequence)), damaged)
                reached = [item.position for item in items if item.position is not None]
                resume = Cursor(NOW, *reached[-1]) if reached else at(sequence)
                if broken or reached[-1].sequence < log.head:
                    more, broken_again = run(HubFrames(resume), log.connect(resume))
                    assert not broken_again
                    items += more
                had = [json.loads(item.item)["n"] for item in items if isinstance(item.item, bytes)]
                lost = [n for item in items if isinstance(item.item, Gap) for n in numbers_of(item.item)]
                assert sorted(had + lost) == list(range(sequence + 1, log.head + 1)), (log, sequence, damaged)
                assert had == sorted(had)


def numbers_of(gap: Gap) -> list[int]:
    assert gap.first is not None
    assert gap.last is not None
    return list(range(gap.first, gap.last + 1))


def damages(frames: list[str]) -> Iterator[list[str]]:
    """Each way to lose, repeat or swap one frame behind the hello, and the end of the link anywhere."""
    for n in range(1, len(frames)):
        yield frames[:n]
        yield frames[:n] + frames[n + 1 :]
        yield frames[: n + 1] + frames[n:]
        yield [*frames[:n], *reversed(frames[n : n + 2]), *frames[n + 2 :]]


# --- The start of a link. ---


def read(resume: Cursor | None, *frames: str | bytes, now: int = NOW) -> list[Numbered]:
    reader = HubFrames(resume)
    return [item for frame in frames for item in reader.read(frame, now)]


@pytest.mark.contract("R5")
def test_without_a_cursor_everything_begins_behind_the_head() -> None:
    assert read(None, hello(7)) == [Numbered(Note.REACHED, Position(EPOCH, 7), NOW)]


@pytest.mark.contract("R3", "R4")
def test_a_cursor_without_a_place_is_an_absence_until_now() -> None:
    (item,) = read(Cursor(5), hello(7, 3))
    assert item == Numbered(Gap(GapReason.GATEWAY, 5, NOW), Position(EPOCH, 7), NOW)


def test_a_cursor_of_the_future_makes_no_gap_that_ends_before_it_began() -> None:
    (item,) = read(Cursor(2 * NOW), hello(7, 3))
    assert item.item == Gap(GapReason.GATEWAY, 2 * NOW, 2 * NOW)


@pytest.mark.contract("R4")
def test_a_new_epoch_with_nothing_kept_is_told_at_once() -> None:
    (item,) = read(at(4, "old"), hello(9, 10))
    assert item == Numbered(Gap(GapReason.EPOCH_CHANGED, 40, NOW), Position(EPOCH, 9), NOW)


@pytest.mark.contract("R4")
def test_a_new_epoch_ends_where_the_first_message_kept_begins() -> None:
    told = hole(None, None, "epoch_changed")
    gap, first, second = read(at(4, "old"), hello(9, 8), told, message(8), message(9))
    assert gap == Numbered(Gap(GapReason.EPOCH_CHANGED, 40, 80), Position(EPOCH, 7), 80)
    assert [first.position, second.position] == [Position(EPOCH, 8), Position(EPOCH, 9)]


@pytest.mark.contract("R3")
def test_what_goes_while_the_hub_begins_to_stream_is_part_of_the_new_epochs_gap() -> None:
    """The hello told 8 as the oldest; by the time of the first page it was 9."""
    gap, first = read(at(4, "old"), hello(9, 8), hole(None, None, "epoch_changed"), message(9))
    assert gap.item == Gap(GapReason.EPOCH_CHANGED, 40, 90)
    assert gap.position == Position(EPOCH, 8)
    assert first.position == Position(EPOCH, 9)


@pytest.mark.contract("R3", "R4")
def test_a_new_epoch_of_which_nothing_is_left_is_told_with_the_heartbeat() -> None:
    reader = HubFrames(at(4, "old"))
    assert [*reader.read(hello(9, 8), NOW), *reader.read(hole(None, None, "epoch_changed"), NOW)] == []
    assert not reader.is_synchronised
    gap, reached = reader.read(heartbeat(9), NOW + 1)
    assert gap == Numbered(Gap(GapReason.EPOCH_CHANGED, 40, NOW + 1), Position(EPOCH, 9), NOW + 1)
    assert reached == Numbered(Note.REACHED, Position(EPOCH, 9), NOW + 1)
    assert reader.is_synchronised


@pytest.mark.contract("R1", "R3")
def test_an_epoch_that_a_hub_changes_under_a_link_is_told_and_nothing_comes_twice() -> None:
    items = read(at(1), hello(3), message(2), hole(None, None, "epoch_changed"), message(2), message(3))
    assert [item.item for item in items] == [
        Note.REACHED,
        b'{"n": 2}',
        Note.DUPLICATE,
        Gap(GapReason.EPOCH_CHANGED, 20, 30),
        b'{"n": 3}',
    ]
    assert items[-1].position == Position(EPOCH, 3)


@pytest.mark.contract("R4")
@pytest.mark.parametrize("reason", ["expired", "overwritten"])
def test_a_hole_is_told_with_its_numbers_between_the_messages(reason: str) -> None:
    _, gap, first, _ = read(at(2), hello(9, 6), hole(3, 5, reason), message(6), message(7))
    assert gap == Numbered(Gap(GapReason(reason), 20, 60, first=3, last=5), Position(EPOCH, 5), 60)
    assert first.position == Position(EPOCH, 6)


@pytest.mark.contract("R4", "C3")
def test_a_hole_up_to_the_head_is_told_at_once() -> None:
    reader = HubFrames(at(2))
    reader.read(hello(5, 6), NOW)
    assert not reader.is_synchronised
    (gap,) = reader.read(hole(3, 5, "expired"), NOW)
    assert gap == Numbered(Gap(GapReason.EXPIRED, 20, NOW, first=3, last=5), Position(EPOCH, 5), NOW)
    assert reader.is_synchronised


def test_two_holes_one_after_the_other_are_two_gaps() -> None:
    items = read(at(2), hello(9, 4), hole(3, 3, "expired"), hole(4, 6), message(7))
    gaps = [item.item for item in items if isinstance(item.item, Gap)]
    assert [(gap.reason.value, gap.first, gap.last) for gap in gaps] == [
        ("expired", 3, 3),
        ("overwritten", 4, 6),
    ]


@pytest.mark.contract("C3")
def test_synchronised_is_when_the_hellos_head_has_come() -> None:
    reader = HubFrames(at(2))
    seen: list[bool] = []
    for frame in [hello(4), message(3), message(4), message(5)]:
        reader.read(frame, NOW)
        seen.append(reader.is_synchronised)
    assert seen == [False, False, True, True]


@pytest.mark.contract("R3")
def test_a_heartbeat_moves_the_time_and_not_the_place() -> None:
    reader = HubFrames(at(3))
    reader.read(hello(3), NOW)
    assert reader.read(heartbeat(3), NOW + 5) == [Numbered(Note.REACHED, Position(EPOCH, 3), NOW + 5)]


@pytest.mark.contract("R3")
@pytest.mark.parametrize("head", [2, 4])
def test_a_head_that_is_not_ours_ends_the_link(head: int) -> None:
    reader = HubFrames(at(3))
    reader.read(hello(3), NOW)
    with pytest.raises(LinkLost, match=rf"^the hub went from message 3 to the head {head}") as caught:
        reader.read(heartbeat(head), NOW)
    assert caught.value.reason is Reason.HOLE


# --- An absence of the hub's own, and messages to one connection. ---


@pytest.mark.contract("R3", "R4")
def test_an_absence_from_the_gateway_has_a_number_of_its_own() -> None:
    _, gap, first = read(at(2), hello(4), absence(3), message(4))
    assert gap == Numbered(Gap(GapReason.GATEWAY, 25, 30), Position(EPOCH, 3), 30)
    assert first.position == Position(EPOCH, 4)


@pytest.mark.contract("R4")
def test_an_absence_tells_what_is_known_of_it() -> None:
    _, gap = read(at(2), hello(4), absence(3, reason="overflow", count=17))
    assert gap.item == Gap(GapReason.OVERFLOW, 25, 30, count=17)
    (gap,) = read(None, hello(2), absence(3, reason="from a newer hub", count=0))[1:]
    assert gap.item == Gap(GapReason.GATEWAY, 25, 30)


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({"since": None}, Gap(GapReason.GATEWAY, 20, 30)),
        ({"until": None}, Gap(GapReason.GATEWAY, 25, 30)),
        ({"until": None, "timestamp": None}, Gap(GapReason.GATEWAY, 25, NOW)),
        ({"until": 1}, Gap(GapReason.GATEWAY, 25, 25)),
        ({"since": "yesterday"}, Gap(GapReason.GATEWAY, 20, 30)),
        ({"reason": None}, Gap(GapReason.GATEWAY, 20, 30)),
    ],
    ids=str,
)
@pytest.mark.contract("R7")
def test_what_is_missing_of_an_absence_is_filled_in_and_its_number_counts(
    changes: dict[str, Any], gap: Gap
) -> None:
    _, item, after = read(at(2), hello(4), absence(3, **changes), message(4))
    assert (item.item, item.position) == (gap, Position(EPOCH, 3))
    assert after.position == Position(EPOCH, 4)


def test_an_absence_behind_a_hole_ends_the_hole_where_it_began_itself() -> None:
    _, lost, gap = read(at(2), hello(9, 6), hole(3, 5), absence(6, since=52, until=60))
    assert lost.item == Gap(GapReason.OVERWRITTEN, 20, 52, first=3, last=5)
    assert gap.item == Gap(GapReason.GATEWAY, 52, 60)


def test_a_gap_without_any_number_is_told_and_moves_nothing() -> None:
    _, gap, after = read(at(2), hello(4), '{"type":"gap","reason":"stalled"}', message(3))
    assert gap == Numbered(Gap(GapReason.STALLED, 20, NOW), None, 20)
    assert after.position == Position(EPOCH, 3)


def test_a_message_to_this_connection_alone_has_no_place() -> None:
    direct = '{"type":"direct","connection_sequence":1,"timestamp":5,"data":{"only":"you"}}'
    _, item, after = read(at(2), hello(4), direct, message(3))
    assert item == Numbered(b'{"only":"you"}', None, 20)
    assert after.position == Position(EPOCH, 3)


# --- Times. ---


def test_times_never_run_backwards_nor_ahead_of_ours() -> None:
    items = read(
        at(2),
        hello(9),
        message(3, timestamp=500),
        message(4, timestamp=400),
        message(5, timestamp=2**50),
        message(6, timestamp=None),
        now=1000,
    )
    assert [item.time for item in items] == [20, 500, 500, 1000, 1000]


# --- What a frame holds. ---


def test_the_gateways_frame_is_passed_on_unchanged() -> None:
    odd = '{"envelope": {"x":1.50,"ä":null} , "account":"+1"}'
    frame = f'{{"type":"message","sequence_number":3,"timestamp":1,"data":{odd}}}'
    for form in (frame, frame.encode()):
        assert read(at(2), hello(4), form)[1].item == odd.encode()


def test_a_frame_that_was_no_json_comes_as_its_text() -> None:
    item = read(at(2), hello(4), message(3, 'no "JSON" ä\n\x01'))[1]
    assert item == Numbered('no "JSON" ä\n\x01', Position(EPOCH, 3), 30)


@pytest.mark.parametrize("data", ["null", "true", "5", "[]"])
def test_what_else_json_can_be_is_passed_on(data: str) -> None:
    frame = f'{{"type":"message","sequence_number":3,"data":{data}}}'
    assert read(at(2), hello(4), frame)[1] == Numbered(data.encode(), Position(EPOCH, 3), NOW)


@pytest.mark.contract("R7")
def test_a_message_without_data_takes_up_its_number() -> None:
    _, item, after = read(at(2), hello(4), '{"type":"message","sequence_number":3}', message(4))
    assert isinstance(item.item, Undecodable)
    assert item.position == Position(EPOCH, 3)
    assert after.position == Position(EPOCH, 4)


@pytest.mark.contract("R7")
def test_a_string_that_cannot_be_read_takes_up_its_number() -> None:
    _, item = read(at(2), hello(4), b'{"type":"message","sequence_number":3,"data":"\xff"}')
    assert item.position == Position(EPOCH, 3)
    assert isinstance(item.item, Undecodable)


# --- Strange frames. ---

STRANGE: Final[dict[str, str | bytes]] = {
    "nothing": "",
    "no JSON": "hello?",
    "half": '{"type":"message","sequence_number":3,"data":{"a"',
    "array": "[]",
    "text": '"text"',
    "null": "null",
    "no type": "{}",
    "type is a number": '{"type":5}',
    "no number": '{"type":"message","data":{}}',
    "a negative number": message(-1),
    "a huge number": message(2**60),
    "a number as text": '{"type":"message","sequence_number":"3","data":{}}',
    "half a number": '{"type":"message","sequence_number":3.5,"data":{}}',
    "no UTF-8": b'{"type":"message","sequence_number":3,"data":"\xff\xfe',
    "deep": "[" * 100_000,
    "a deep type": '{"type":' + "[" * 100_000,
    "a heartbeat without a head": '{"type":"heartbeat"}',
    "a heartbeat of text": '{"type":"heartbeat","head":"3"}',
    "a negative head": '{"type":"heartbeat","head":-1}',
}


@pytest.mark.contract("R7")
@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_frame_is_given_as_it_came_and_changes_nothing(case: str) -> None:
    _, strange, after = read(at(2), hello(4), STRANGE[case], message(3))
    raw = STRANGE[case]
    assert isinstance(strange.item, Undecodable)
    assert strange.item.raw == (raw.encode() if isinstance(raw, str) else raw)
    assert (strange.position, after.position) == (None, Position(EPOCH, 3))


@pytest.mark.contract("R7")
@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"news"}',
        '{"type":"news","sequence_number":"soon","timestamp":[],"head":{}}',
        '{"type":"token_expiring","expires_in":25}',
        '{"type":"token_expiring","expires_in":"soon"}',
        '{"type":"goodbye","retry_after":5}',
        '{"type":"goodbye","retry_after":"soon"}',
    ],
)
def test_a_notice_of_no_interest_gives_nothing(frame: str) -> None:
    _, after = read(at(2), hello(4), frame, message(3))
    assert after.position == Position(EPOCH, 3)


@pytest.mark.contract("R7")
def test_unknown_fields_are_ignored() -> None:
    more = {"more": {"x": [1]}, "since": 5}
    first, second = read(at(2), hello(4, more=True, connection_id="c"), message(3, **more))
    assert (first.item, second.item) == (Note.REACHED, b'{"n": 3}')


@pytest.mark.contract("R3", "R7")
def test_a_numbered_frame_of_a_newer_hub_is_told_and_takes_up_its_number() -> None:
    _, item, after = read(at(2), hello(4), '{"type":"news","sequence_number":3}', message(4))
    assert isinstance(item.item, Undecodable)
    assert item.position == Position(EPOCH, 3)
    assert after.position == Position(EPOCH, 4)


def test_a_second_hello_ends_the_link() -> None:
    with pytest.raises(LinkLost, match="twice") as caught:
        read(at(2), hello(4), hello(4))
    assert caught.value.reason is Reason.CONNECTION_LOST


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    "frame",
    [
        "",
        "nonsense",
        "{}",
        b"\xff",
        '{"envelope":{"timestamp":1},"account":"+15550001"}',
        message(1),
        heartbeat(1),
        '{"type":"hello"}',
        '{"type":"hello","head":5,"oldest":1}',
        '{"type":"hello","epoch":"","head":5,"oldest":1}',
        '{"type":"hello","epoch":5,"head":5,"oldest":1}',
        hello(5, 1, "x" * 201),
        hello(5, 0),
        hello(5, 7),
        hello(-1, 0),
        hello(2**60),
        hello(5, heartbeat_interval="often"),
        hello(5, heartbeat_interval=None),
    ],
    ids=lambda frame: str(frame)[-60:],
)
def test_a_first_frame_that_is_no_hello_is_no_hubs(frame: str | bytes) -> None:
    for resume in (None, at(2), Cursor(5)):
        with pytest.raises(WrongGatewayMode, match="no hello"):
            read(resume, frame)


@pytest.mark.parametrize(
    ("told", "believed"), [(15, 15), (0.001, 1), (-5, 1), (0, 1), (1e9, 600), (2.5, 2.5)]
)
def test_a_heartbeat_interval_is_believed_within_reason(told: float, believed: float) -> None:
    reader = HubFrames(None)
    reader.read(hello(1, heartbeat_interval=told), NOW)
    assert reader.heartbeat_interval == believed


def test_a_hub_that_tells_no_interval_beats_every_twenty_seconds() -> None:
    reader = HubFrames(None)
    reader.read(hello(1), NOW)
    assert reader.heartbeat_interval == 20


# --- What is too large, and how a link ends. ---


@pytest.mark.contract("R3", "R7", "R8")
def test_a_message_that_cannot_be_taken_is_a_gap_of_one() -> None:
    reader = HubFrames(at(2))
    reader.read(hello(4), NOW)
    assert reader.skip(NOW) == [
        Numbered(Gap(GapReason.OVERFLOW, 20, NOW, first=3, last=3, count=1), Position(EPOCH, 3), 20)
    ]
    assert reader.read(message(4), NOW)[0].position == Position(EPOCH, 4)


def test_a_gap_that_is_open_is_told_before_what_cannot_be_taken() -> None:
    reader = HubFrames(at(2))
    for frame in (hello(9, 6), hole(3, 5)):
        reader.read(frame, NOW)
    items = reader.skip(NOW)
    assert [item.item for item in items] == [
        Gap(GapReason.OVERWRITTEN, 20, NOW, first=3, last=5),
        Gap(GapReason.OVERFLOW, NOW, NOW, first=6, last=6, count=1),
    ]


def test_nothing_is_passed_over_before_the_hello() -> None:
    assert HubFrames(at(2)).skip(NOW) == []


@pytest.mark.contract("R1", "R4")
def test_nothing_is_passed_over_that_was_not_given_out() -> None:
    reader = HubFrames(at(MAX_NUMBER))
    reader.read(hello(MAX_NUMBER), NOW)
    assert reader.skip(NOW) == []
    assert reader.position == Position(EPOCH, MAX_NUMBER)


@pytest.mark.contract("C3")
def test_a_heartbeat_before_the_hellos_head_has_come_ends_the_link() -> None:
    reader = HubFrames(at(5))
    reader.read(hello(10), NOW)
    with pytest.raises(LinkLost, match="message 5 to the head 5") as caught:
        reader.read(heartbeat(5), NOW)
    assert caught.value.reason is Reason.HOLE


def closed(code: int | None) -> LinkLost:
    return LinkLost(f"closed with {code}", reason=Reason.CLOSED_BY_GATEWAY, close_code=code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1012, Reason.GOING_DOWN),
        (4001, Reason.TOKEN_EXPIRED),
        (4008, Reason.TOO_SLOW),
        (1000, Reason.CLOSED_BY_GATEWAY),
        (1008, Reason.CLOSED_BY_GATEWAY),
        (1011, Reason.CLOSED_BY_GATEWAY),
        (4999, Reason.CLOSED_BY_GATEWAY),
    ],
)
def test_a_close_code_says_why_the_hub_ended_the_link(code: int, reason: Reason) -> None:
    told = HubFrames(None).explain(closed(code))
    assert (told.reason, told.close_code, told.retry_after) == (reason, code, None)


@pytest.mark.contract("B3")
@pytest.mark.parametrize(
    "error",
    [closed(1012), closed(1001), LinkLost("cut", reason=Reason.CONNECTION_LOST)],
    ids=["1012", "1001", "cut"],
)
def test_a_goodbye_says_when_to_come_back_however_the_link_ends(error: LinkLost) -> None:
    reader = HubFrames(None)
    for frame in (hello(1), '{"type":"goodbye","retry_after":4.5}'):
        reader.read(frame, NOW)
    told = reader.explain(error)
    assert (told.reason, told.retry_after) == (Reason.GOING_DOWN, 4.5)
    assert told.close_code == error.close_code


@pytest.mark.parametrize("wait", ['"soon"', "-1", "null", "[]"])
def test_a_goodbye_without_a_time_is_one_all_the_same(wait: str) -> None:
    reader = HubFrames(None)
    for frame in (hello(1), f'{{"type":"goodbye","retry_after":{wait}}}'):
        reader.read(frame, NOW)
    told = reader.explain(closed(1001))
    assert (told.reason, told.retry_after) == (Reason.GOING_DOWN, None)


def test_a_close_of_our_own_is_not_taken_for_the_hubs() -> None:
    ours = LinkLost("a message was too large", reason=Reason.CONNECTION_LOST, close_code=1009)
    assert HubFrames(None).explain(ours) is ours


# --- Whatever bytes come. ---

VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS: Final = ["type", "sequence_number", "timestamp", "data", "epoch", "head", "oldest", "reason", "since"]
FIELDS_TOO: Final = ["until", "first", "last", "count", "retry_after", "heartbeat_interval", "expires_in"]
KINDS: Final = ["hello", "message", "gap", "heartbeat", "goodbye", "direct", "token_expiring", "news"]


def as_object(kind: str, fields: dict[str, Any]) -> str:
    return json.dumps({"type": kind} | fields)


OBJECTS: Final = st.builds(
    as_object,
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS[1:] + FIELDS_TOO), VALUES | st.integers(0, 6), max_size=6),
)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(OBJECTS, VALUES.map(json.dumps), st.text(), st.binary()), max_size=12),
    st.sampled_from([None, at(2), at(2, "old"), Cursor(5)]),
    st.booleans(),
)
@pytest.mark.contract("R7")
def test_no_frame_raises_anything_but_the_end_of_the_link(
    frames: list[str | bytes], resume: Cursor | None, greeted: bool
) -> None:
    reader = HubFrames(resume)
    items: list[Numbered] = []
    if greeted:
        items += reader.read(hello(4, 2), NOW)
    for frame in frames:
        try:
            items += reader.read(frame, NOW)
        except LinkLost:
            break
        except WrongGatewayMode:
            assert reader.position is None
            break
    check_order(items, frames)
    for item in items:
        # Each becomes a cursor sooner or later, which is checked again when it is given back.
        if item.position is not None:
            Cursor(item.time, item.position.epoch, item.position.sequence)


def test_before_the_hello_the_hubs_own_heartbeat_is_expected() -> None:
    assert HubFrames(None).heartbeat_interval == HubLimits().heartbeat_interval


@pytest.mark.parametrize(
    "kind", ["hello", "message", "gap", "heartbeat", "token_expiring", "goodbye", "direct"]
)
def test_of_a_kind_that_is_known_no_frame_is_passed_over_because_it_cannot_be_read(kind: str) -> None:
    frame = json.dumps({"type": kind, "sequence_number": "no number"})
    assert not is_of_newer_kind(frame)
    assert is_of_newer_kind(frame.replace(kind, f"new_{kind}"))

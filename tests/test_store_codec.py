"""What a message says and what became of it, as bytes: it comes back as it was, or not at all."""

import os
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal import AnswerError, Certainty, DropReason, FailedRecipient, LinkLost, OutgoingAttachment
from trio_signal._contents import Content, LinkPreview, Mention, Quote, Reaction, RemoteDelete, Text
from trio_signal._errors import RecordedError
from trio_signal._outcomes import Dropped, Failed, Outcome, Sent
from trio_signal.store._codec import (
    decode_content,
    decode_outcome,
    encode_content,
    encode_outcome,
    with_paths,
)

PEER = "+15550101"
UUID = "00000000-0000-4000-8000-000000000002"
NOW = 1_795_302_674_123
NAMES = ("plain.png", "what?.txt", "100%#1.txt", "two\nlines", "café", os.fsdecode(b"\xff\xfe not UTF-8"))

times = st.integers(0, 2**63 - 1)
people = st.sampled_from((PEER, UUID, f"PNI:{UUID}"))
#: All that Signal can carry: no halves of characters, but anything else, NUL too.
texts = st.text(st.characters(exclude_categories=["Cs"]))
words = texts.filter(bool)
quotes = st.builds(Quote, times, people, texts)
files = st.one_of(
    st.binary().map(lambda data: OutgoingAttachment(data, None, "text/plain", len(data))),
    st.builds(
        OutgoingAttachment,
        st.sampled_from(NAMES).map(lambda name: Path("/nowhere") / name),
        st.none() | words,
        st.just("image/png"),
        st.integers(0, 2**53),
    ),
)


@st.composite
def written(draw: st.DrawFn) -> Text:
    attachments = tuple(draw(st.lists(files, max_size=3)))
    text = draw(texts if attachments else words)
    preview = None
    if draw(st.booleans()):
        text += "https://example.org/a"
        preview = LinkPreview(
            "https://example.org/a", draw(words), draw(texts), draw(st.none() | st.binary())
        )
    units = len(text.encode("utf-16-le")) // 2
    places = st.integers(0, max(units - 1, 0)).map(lambda start: Mention(start, 1, UUID))
    return Text(
        text,
        attachments,
        draw(st.none() | quotes),
        mentions=tuple(draw(st.lists(places, max_size=3))) if units else (),
        view_once=draw(st.booleans()) and bool(attachments),
        preview=preview,
        edits=draw(st.none() | times),
    )


reactions = st.builds(Reaction, st.sampled_from(("👍", "👨‍👩‍👧", "x")), people, times, st.booleans())
contents: st.SearchStrategy[Content] = st.one_of(written(), reactions, st.builds(RemoteDelete, times))
failures = st.lists(
    st.builds(FailedRecipient, words, words, st.none() | st.floats(0, 1e9), st.none() | words), max_size=3
).map(tuple)
#: What comes from the system may hold halves of characters: a path that is no valid Unicode.
told = st.text(st.characters())


def answer_error(text: str, failed: tuple[FailedRecipient, ...]) -> AnswerError:
    return AnswerError(text, failed=failed)


def recorded_error(text: str, failed: tuple[FailedRecipient, ...]) -> RecordedError:
    return RecordedError(text, "Odd", failed=failed)


errors = st.one_of(
    st.builds(answer_error, told, failures),
    st.builds(LinkLost, told),
    st.builds(OSError, st.integers(1, 100), told),
    st.builds(recorded_error, told, failures),
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Sent, st.integers(0, 2**63 - 1), failures),
    st.builds(Dropped, st.sampled_from(DropReason)),
    st.builds(Failed, errors, st.sampled_from(Certainty)),
)


@pytest.mark.contract("D1")
@given(contents)
@example(Text("**a** b", styled=True, mentions=(Mention(2, 1, PEER),)))
@example(Text("", (OutgoingAttachment(b"", None, None),)))
@example(
    Text("", (OutgoingAttachment(Path("/a"), "a", "a/b", 0), OutgoingAttachment(Path("/b"), "b", "a/b")))
)
def test_what_a_message_says_comes_back_as_it_was(content: Content) -> None:
    assert decode_content(encode_content(content)) == content


@pytest.mark.contract("D1")
@given(outcomes)
def test_what_became_of_a_message_comes_back_as_it_was(outcome: Outcome) -> None:
    back = decode_outcome(encode_outcome(outcome))
    if not isinstance(outcome, Failed):
        assert back == outcome
        return
    assert isinstance(back, Failed)
    assert isinstance(back.error, RecordedError)
    kind = "Odd" if isinstance(outcome.error, RecordedError) else type(outcome.error).__name__
    assert (str(back.error), back.error.kind, back.certainty) == (str(outcome.error), kind, outcome.certainty)
    assert back.error.failed == getattr(outcome.error, "failed", ())
    # Recorded twice, it is the same.
    assert encode_outcome(back) == encode_outcome(outcome)


#: What is said in the fewest words, as it stands in files.
SHORT: Final[dict[str, tuple[dict[str, object], Content]]] = {
    "a text": ({"is": "text", "text": "x"}, Text("x")),
    "a file": (
        {
            "is": "text",
            "text": "",
            "files": [{"is": "_File", "name": None, "type": "a/b", "size": 1, "path": b"/a"}],
        },
        Text("", (OutgoingAttachment(Path("/a"), None, "a/b", 1),)),
    ),
    "a reaction": (
        {"is": "reaction", "emoji": "x", "author": PEER, "timestamp": 1},
        Reaction("x", PEER, 1, remove=False),
    ),
    "a deletion": ({"is": "delete", "timestamp": 1}, RemoteDelete(1)),
}


@pytest.mark.contract("D1")
@pytest.mark.parametrize("case", SHORT)
def test_what_is_not_said_in_a_file_means_what_it_always_meant(case: str) -> None:
    """Otherwise a text that was accepted before an update would go out as something else after it."""
    record, content = SHORT[case]
    written = msgspec.msgpack.encode(record)
    assert decode_content(written) == content
    assert encode_content(content) == written


def test_paths_are_changed_and_nothing_else_is() -> None:
    memory = OutgoingAttachment(b"123", "b.txt", "text/plain", 3)
    files = (
        OutgoingAttachment(Path("/a"), "a.png", "image/png", 7),
        memory,
        OutgoingAttachment(Path("/c"), None, "a/b", 9),
    )
    content = Text("look", files, view_once=True, edits=5)
    changed = with_paths(content, lambda path, size: Path(f"/copies{path}-{size}"))
    assert changed == Text(
        "look",
        (
            OutgoingAttachment(Path("/copies/a-7"), "a.png", "image/png", 7),
            memory,
            OutgoingAttachment(Path("/copies/c-9"), None, "a/b", 9),
        ),
        view_once=True,
        edits=5,
    )
    assert isinstance(changed, Text)
    assert changed.attachments[1] is memory


@pytest.mark.parametrize(
    "content",
    [
        Text("x"),
        Text("", (OutgoingAttachment(b"1", None, "a/b", 1), OutgoingAttachment(Path("/a"), None, "a/b", 1))),
        Reaction("x", PEER, 1),
        RemoteDelete(1),
    ],
    ids=["text", "files", "reaction", "deletion"],
)
def test_where_no_path_changes_the_content_is_the_same(content: Content) -> None:
    assert with_paths(content, lambda path, _size: path) is content


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc0")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\x91" * 100_000)
@example(b"\x81\xa2is\xa4text")
@example(b"\x81\xa2is\xa4" + b"\xff" * 4)
@example(msgspec.msgpack.encode({"is": "poem", "text": "x"}))
@example(msgspec.msgpack.encode({"is": "sent", "timestamp": "x"}))
def test_what_nobody_has_written_is_refused(data: bytes) -> None:
    for decode in (decode_content, decode_outcome):
        with pytest.raises(ValueError):  # noqa: PT011  (of many kinds)
            decode(data)


@given(contents, outcomes, st.data())
def test_what_was_cut_is_refused(content: Content, outcome: Outcome, data: st.DataObject) -> None:
    whole = encode_content(content)
    with pytest.raises(ValueError):  # noqa: PT011  (of many kinds)
        decode_content(whole[: data.draw(st.integers(0, len(whole) - 1))])
    whole = encode_outcome(outcome)
    with pytest.raises(ValueError):  # noqa: PT011  (of many kinds)
        decode_outcome(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(contents, outcomes, st.data())
def test_a_byte_that_has_changed_gives_something_valid_or_is_refused(
    content: Content, outcome: Outcome, data: st.DataObject
) -> None:
    for whole, decode, encode in (
        (encode_content(content), decode_content, encode_content),
        (encode_outcome(outcome), decode_outcome, encode_outcome),
    ):
        changed = bytearray(whole)
        changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            back = decode(bytes(changed))
        except ValueError:
            continue
        encode(back)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "record",
    [
        {"is": "text", "text": ""},
        {"is": "text", "text": "x", "files": [], "colour": "red"},
        {"is": "text", "text": "x", "files": [{"name": None, "type": "a/b", "size": 3}]},
        {"is": "text", "text": "x", "files": [{"name": None, "type": "a/b", "size": 3, "data": b"four"}]},
        {"is": "text", "text": "x", "files": [{"name": None, "type": "a/b", "size": 3, "path": b"relative"}]},
        {"is": "text", "text": "x", "files": [{"name": None, "type": "a/b", "size": 3, "path": b"/a\0b"}]},
        {"is": "text", "text": "x", "files": [{"name": None, "type": "a/b", "size": -2, "path": b"/a"}]},
        {
            "is": "text",
            "text": "x",
            "files": [{"name": None, "type": "a/b", "size": 1, "path": b"/a", "data": b"x"}],
        },
        {"is": "text", "text": "x", "quote": {"timestamp": -1, "author": PEER}},
        {"is": "text", "text": "x", "mentions": [{"start": 5, "length": 1, "author": PEER}]},
        {"is": "text", "text": "x", "edits": -1},
        {"is": "reaction", "emoji": "", "author": PEER, "timestamp": 1},
        {"is": "reaction", "emoji": "x", "author": "nobody", "timestamp": 1},
        {"is": "delete", "timestamp": -1},
    ],
    ids=str,
)
def test_what_could_not_be_sent_is_refused_when_it_comes_back(record: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (of many kinds)
        decode_content(msgspec.msgpack.encode(record))


def test_a_path_that_means_another_file_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'here\.png' is not absolute"):
        encode_content(Text("x", (OutgoingAttachment(Path("here.png"), "here.png", "image/png", 1),)))

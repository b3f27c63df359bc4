"""What a message says, and what Signal cannot carry."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from trio_signal import ConfigurationError, OutgoingAttachment
from trio_signal._contents import (
    MAX_PREVIEW_BYTES,
    MAX_TEXT_BYTES,
    LinkPreview,
    Mention,
    Quote,
    Reaction,
    RemoteDelete,
    Target,
    Text,
    check_all,
    with_files,
)

PEER = "+15550101"
UUID = "00000000-0000-4000-8000-000000000002"
GROUP = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
NOW = 1_795_302_674_123
PREVIEW = LinkPreview("https://example.org/a", "A")
FILE = OutgoingAttachment(b"12345", "a.png", "image/png", 5)
TOO_LONG = "x" * (MAX_TEXT_BYTES + 1)


def refused(argument: str, make: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make(*given, **more)
    assert caught.value.argument == argument
    return str(caught.value)


def test_a_text_with_everything_is_kept() -> None:
    quote, mention = Quote(NOW, UUID, "what?"), Mention(0, 2, PEER)
    text = Text(
        "👋 look: https://example.org/a",
        (FILE,),
        quote,
        styled=True,
        mentions=(mention,),
        view_once=True,
        preview=PREVIEW,
        edits=NOW,
    )
    assert (text.attachments, text.quote, text.mentions) == ((FILE,), quote, (mention,))
    assert (text.styled, text.view_once, text.preview, text.edits) == (True, True, PREVIEW, NOW)


def test_the_bytes_that_it_holds_are_counted() -> None:
    assert Text("ü👋").held == 6
    assert Text("x", (FILE,) * 2).held == 1 + 10
    assert Text("x", quote=Quote(1, PEER, "ü👋")).held == 1 + 6
    url = PREVIEW.url
    assert Text(url, preview=LinkPreview(url, "A", "ü", image=b"123")).held == 2 * len(url) + 1 + 2 + 3
    assert Text("hello", mentions=(Mention(0, 1, PEER),) * 3).held >= 5 + 3 * 100
    assert Reaction("👍", PEER, NOW).held == 4
    assert RemoteDelete(NOW).held == 0


@pytest.mark.parametrize("text", [None, b"bytes", 5, "\udcff", TOO_LONG, "ü" * (MAX_TEXT_BYTES // 2 + 1)])
def test_a_text_that_cannot_be_sent_is_refused(text: Any) -> None:
    refused("text", Text, text)


def test_a_text_may_be_empty_only_with_an_attachment() -> None:
    assert "no attachment" in refused("text", Text, "")
    assert Text("", (FILE,)).text == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("quote", "no"), ("styled", "yes"), ("view_once", 1), ("preview", {"url": "https://x"})],
)
def test_a_field_of_another_type_is_refused(field: str, value: Any) -> None:
    refused(field, Text, "hello", (FILE,), **{field: value})


def test_only_an_attachment_can_be_viewed_once() -> None:
    assert "attachment" in refused("view_once", Text, "hello", view_once=True)


def test_a_mention_ends_within_the_text_counted_in_utf_16() -> None:
    assert Text("👋x", mentions=(Mention(0, 2, PEER), Mention(2, 1, UUID))).text == "👋x"
    assert "has 3 UTF-16 code units" in refused("mentions", Text, "👋x", mentions=(Mention(2, 2, PEER),))
    # Whichever of them it is that ends behind the text.
    within, behind = Mention(0, 2, PEER), Mention(3, 1, UUID)
    refused("mentions", Text, "👋x", mentions=(within, behind))
    refused("mentions", Text, "👋x", mentions=(behind, within))


def test_the_marks_of_a_styled_text_do_not_count_for_a_mention() -> None:
    mention = (Mention(5, 1, PEER),)
    assert Text("👋 **b** x", mentions=mention, styled=True).mentions == mention
    assert Text("👋 **b** x", mentions=(Mention(9, 1, PEER),)).styled is False
    told = refused("mentions", Text, "👋 **b** x", mentions=(Mention(9, 1, PEER),), styled=True)
    assert "without its marks has 6 UTF-16 code units" in told


@pytest.mark.parametrize(
    ("start", "length", "author", "argument"),
    [
        (-1, 1, PEER, "mentions.start"),
        (True, 1, PEER, "mentions.start"),
        ("0", 1, PEER, "mentions.start"),
        (0, 0, PEER, "mentions.length"),
        (0, 1.0, PEER, "mentions.length"),
        (0, 1, "somebody", "mentions.author"),
        (0, 1, GROUP, "mentions.author"),
    ],
)
def test_a_mention_that_is_none_is_refused(start: Any, length: Any, author: Any, argument: str) -> None:
    refused(argument, Mention, start, length, author)


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"url": "http://example.org"}, "preview.url"),
        ({"url": "https://exa mple.org"}, "preview.url"),
        ({"url": 5}, "preview.url"),
        ({"title": ""}, "preview.title"),
        ({"title": None}, "preview.title"),
        ({"description": None}, "preview.description"),
        ({"description": "x" * 5000}, "preview.description"),
        ({"title": "ü" * 2049}, "preview.title"),
        ({"url": "https://" + "x" * 5000}, "preview.url"),
        ({"image": "a.png"}, "preview.image"),
        ({"image": bytes(MAX_PREVIEW_BYTES + 1)}, "preview.image"),
    ],
)
def test_a_preview_that_nobody_would_see_is_refused(given: dict[str, Any], argument: str) -> None:
    refused(argument, LinkPreview, **{"url": "https://example.org", "title": "Example", **given})


def test_a_preview_needs_its_link_in_the_text() -> None:
    assert Text(f"see {PREVIEW.url}!", preview=PREVIEW).preview == PREVIEW
    refused("preview.url", Text, "see for yourself", preview=PREVIEW)


@pytest.mark.parametrize("edits", [-1, "5", True, 1.5])
def test_an_edit_names_a_time(edits: Any) -> None:
    refused("edits", Text, "hello", edits=edits)


@pytest.mark.parametrize(
    ("timestamp", "author", "text", "argument"),
    [
        (1, PEER, "\udcff", "quote.text"),
        (1, PEER, b"bytes", "quote.text"),
        (1, PEER, TOO_LONG, "quote.text"),
        (1, "\udcff", "text", "quote.author"),
        (1, "somebody", "text", "quote.author"),
        (-1, PEER, "text", "quote.timestamp"),
        ("1", PEER, "text", "quote.timestamp"),
        (1.5, PEER, "text", "quote.timestamp"),
        (True, PEER, "text", "quote.timestamp"),
    ],
)
def test_a_quote_that_cannot_be_sent_is_refused(
    timestamp: Any, author: Any, text: Any, argument: str
) -> None:
    refused(argument, Quote, timestamp, author, text)


@pytest.mark.parametrize(
    "emoji", ["", " ", "👍 ", "a b", "👍" * 17, "\udcff", None], ids=lambda emoji: ascii(emoji)[:12]
)
def test_what_is_no_emoji_is_refused(emoji: Any) -> None:
    refused("emoji", Reaction, emoji, PEER, NOW)


def test_an_emoji_of_many_parts_is_one() -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
    assert Reaction(family, UUID, NOW, remove=True).emoji == family


@pytest.mark.parametrize(
    ("author", "timestamp", "remove", "argument"),
    [
        (GROUP, NOW, False, "target.author"),
        ("", NOW, False, "target.author"),
        (PEER, -1, False, "target.timestamp"),
        (PEER, None, False, "target.timestamp"),
        (PEER, NOW, "yes", "remove"),
    ],
)
def test_a_reaction_names_one_message(author: Any, timestamp: Any, remove: Any, argument: str) -> None:
    refused(argument, Reaction, "👍", author, timestamp, remove=remove)


def test_a_deletion_names_one_message() -> None:
    refused("target.timestamp", RemoteDelete, "yesterday")


@pytest.mark.parametrize(
    ("recipient", "author", "timestamp", "argument"),
    [
        ("nobody", PEER, NOW, "target.recipient"),
        (GROUP, GROUP, NOW, "target.author"),
        (GROUP, PEER, "now", "target.timestamp"),
    ],
)
def test_a_target_is_one_message(recipient: Any, author: Any, timestamp: Any, argument: str) -> None:
    assert Target(GROUP, PEER, NOW).recipient == GROUP
    refused(argument, Target, recipient, author, timestamp)


@pytest.mark.parametrize("given", [None, "text", b"bytes", 5, [Mention(0, 1, PEER), None], ["a"]])
def test_a_list_of_other_things_is_refused(given: Any) -> None:
    refused("mentions", check_all, "mentions", given, Mention)


def test_any_iterable_of_the_kind_is_taken() -> None:
    mention = Mention(0, 1, PEER)
    assert check_all("mentions", iter([mention]), Mention) == (mention,)


def test_a_text_gets_other_files_and_stays_as_it_is_otherwise() -> None:
    text = Text("👋", (FILE,), Quote(NOW, UUID), mentions=(Mention(0, 2, PEER),), view_once=True)
    other = OutgoingAttachment(b"678", "b.png", "image/png", 3)
    assert with_files(text, (other, FILE)) == Text(
        "👋", (other, FILE), text.quote, mentions=text.mentions, view_once=True
    )
    assert text.attachments == (FILE,)


# --- The last of each range ---


def preview(
    url: str = "https://example.org", title: str = "A", description: str = "", image: bytes | None = None
) -> LinkPreview:
    return LinkPreview(url, title, description, image)


LIMITS: Final[dict[str, tuple[int, Callable[[int], object]]]] = {
    "text": (16_777_216, lambda size: Text("x" * size)),
    "preview.url": (4096, lambda size: preview(url="https://".ljust(size, "x"))),
    "preview.title": (4096, lambda size: preview(title="x" * size)),
    "preview.description": (4096, lambda size: preview(description="x" * size)),
    "preview.image": (2_097_152, lambda size: preview(image=bytes(size))),
    "emoji": (64, lambda size: Reaction("x" * size, PEER, NOW)),
    "mentions": (1000, lambda size: Text("x", mentions=(Mention(0, 1, PEER),) * size)),
}


@pytest.mark.parametrize("argument", LIMITS)
def test_what_is_too_much_begins_behind_the_limit(argument: str) -> None:
    most, make = LIMITS[argument]
    make(most)
    refused(argument, make, most + 1)


def test_a_time_is_what_java_holds_of_one() -> None:
    assert RemoteDelete(0).timestamp == 0
    assert RemoteDelete(2**63 - 1).timestamp == 2**63 - 1
    refused("target.timestamp", RemoteDelete, 2**63)

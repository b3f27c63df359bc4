"""``POST /v2/send`` of the hub: what it takes, what it refuses by name, and what it says became of it."""

import base64
import json
import math
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial as partial_of
from typing import Any, Final, TypeAlias

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_signal import (
    AnswerError,
    Certainty,
    Dropped,
    DropReason,
    Failed,
    FailedRecipient,
    LinkLost,
    OutgoingAttachment,
    OutgoingMessage,
    Quote,
    Sent,
    SignalClient,
)
from trio_signal._attachments import check_attachments
from trio_signal._contents import Content, LinkPreview, Mention, Reaction, RemoteDelete, Text, with_files
from trio_signal._outcomes import Outcome
from trio_signal.gateways import SendResult
from trio_signal.gateways._hub_answers import read_hub_answer
from trio_signal.gateways._rest_answers import read_answer
from trio_signal.gateways._rest_requests import encode_message
from trio_signal.hub._http import Answer, HttpConnection, HttpError
from trio_signal.hub._letters import Letter, parse_deletion, parse_reaction, parse_send
from trio_signal.hub._sends import answer_for, send
from trio_signal.testing import (
    daemon_down,
    error,
    hang,
    lost,
    memory_connection,
    ok,
    partial,
    rate_limited,
    slow,
)

from .scene import PEER, check_ledger, connected, open_client, open_gateway, settled, texts_at

ACCOUNT: Final = "+15550001"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
UUID: Final = "01234567-89ab-cdef-0123-456789abcdef"
LETTER: Final = Letter(PEER, Text("hi"))
STAMP: Final = 1_700_000_000_000

#: What json.loads() gives.
Json: TypeAlias = Any


def body_of(**fields: Any) -> bytes:
    """Return a send's body, complete but for what is given."""
    return json.dumps({"recipients": [PEER], "message": "hi"} | fields).encode()


def parsed(body: bytes) -> Letter:
    """Return what a body says."""
    return trio.run(parse_send, body, ACCOUNT)


def text_of(body: bytes) -> Text:
    """Return the text that a body says."""
    content = parsed(body).content
    assert isinstance(content, Text)
    return content


def files_of(body: bytes) -> tuple[OutgoingAttachment, ...]:
    """Return the files that a body brings."""
    return text_of(body).attachments


def refusal(body: bytes, read: Callable[[bytes], Letter] = parsed) -> tuple[int, str]:
    """Return status and words with which a body is refused."""
    with pytest.raises(HttpError) as refused:
        read(body)
    return refused.value.answer.status, told(refused.value.answer)["error"]


def told(answer: Answer) -> Json:
    """Return what an answer says."""
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


# --- what is taken ---


def test_the_least_that_can_be_sent() -> None:
    assert parsed(body_of()) == LETTER


def test_everything_that_can_be_sent() -> None:
    body = body_of(
        number=ACCOUNT,
        recipients=[GROUP],
        message="**ä** \N{ROCKET}\n\0",
        text_mode="styled",
        quote_timestamp=STAMP,
        quote_author=UUID,
        quote_message="before",
        base64_attachments=["data:text/plain;filename=a.txt;base64,QUJD", "QUJD"],
        mentions=[{"start": 2, "length": 1, "author": PEER}, {"author": UUID, "length": 2, "start": 4}],
        view_once=True,
        edit_timestamp=STAMP - 1,
    )
    text = Text(
        "**ä** \N{ROCKET}\n\0",
        (
            OutgoingAttachment(b"ABC", "a.txt", "text/plain", 3),
            OutgoingAttachment(b"ABC", None, None, 3),
        ),
        Quote(STAMP, UUID, "before"),
        styled=True,
        mentions=(Mention(2, 1, PEER), Mention(4, 2, UUID)),
        view_once=True,
        edits=STAMP - 1,
    )
    assert parsed(body) == Letter(GROUP, text)


LINK: Final = {"url": "https://a.example/x?y=z", "title": "A title"}


@pytest.mark.parametrize(
    ("fields", "preview"),
    [
        ({}, LinkPreview("https://a.example/x?y=z", "A title")),
        ({"description": None, "base64_thumbnail": None}, LinkPreview("https://a.example/x?y=z", "A title")),
        ({"description": "", "base64_thumbnail": ""}, LinkPreview("https://a.example/x?y=z", "A title")),
        (
            {"description": "More of it", "base64_thumbnail": "QU\nJD\n"},
            LinkPreview("https://a.example/x?y=z", "A title", "More of it", b"ABC"),
        ),
    ],
)
def test_a_link_comes_with_what_is_shown_of_it(fields: dict[str, Any], preview: LinkPreview) -> None:
    words = "see https://a.example/x?y=z !"
    letter = parsed(body_of(message=words, link_preview=LINK | fields))
    assert letter == Letter(PEER, Text(words, preview=preview))


@pytest.mark.parametrize("recipient", [PEER, GROUP, UUID, f"PNI:{UUID}", "ada.01"])
def test_whoever_can_be_written_to_can_be_written_to(recipient: str) -> None:
    assert parsed(body_of(recipients=[recipient])).recipient == recipient


def test_null_counts_as_absent() -> None:
    nothing = dict.fromkeys({*FIELDS, "sticker", "anything"} - {"recipients", "message"})
    assert parsed(body_of(**nothing)) == LETTER


@pytest.mark.parametrize(
    ("text", "name", "mime", "data"),
    [
        ("QUJD", None, None, b"ABC"),
        ("QUJD\nREVG\r\n", None, None, b"ABCDEF"),
        ("data:image/png;base64,QUI=", None, "image/png", b"AB"),
        ("data:;base64,QQ==", None, None, b"A"),
        ("data:;filename=a.txt;base64,QQ==", "a.txt", None, b"A"),
        ("data:a/b;filename=;base64,QQ==", None, "a/b", b"A"),
        ("data:a/b;filename=base64;base64,QQ==", "base64", "a/b", b"A"),
        ("data:a/b;filename=x=y filename=z;base64,QQ==", "x=y filename=z", "a/b", b"A"),
        (
            "data:text/plain;charset=utf-8;filename=ä \N{ROCKET}.txt;base64,QQ==",
            "ä \N{ROCKET}.txt",
            "text/plain",
            b"A",
        ),
        ("data:a/b;filename=one;filename=two;base64,QQ==", "one", "a/b", b"A"),
    ],
)
def test_a_file_comes_with_or_without_a_label(
    text: str, name: str | None, mime: str | None, data: bytes
) -> None:
    assert files_of(body_of(base64_attachments=[text])) == (OutgoingAttachment(data, name, mime, len(data)),)


@pytest.mark.parametrize(
    ("start", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\n\0\0\nWEBP", "image/webp"),
        (b"\0\0\0\nftypisom", "video/mp4"),
        (b"OggS", "audio/ogg"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PNG", None),
        (b"xGIF89a", None),
    ],
)
def test_a_file_without_a_label_is_what_it_begins_with(start: bytes, mime: str | None) -> None:
    coded = base64.b64encode(start + b"...").decode()
    files = [coded, f"data:;filename=a;base64,{coded}"]
    bare, named = files_of(body_of(base64_attachments=files))
    assert bare.content_type == mime
    assert named.content_type is None  # The client goes by the name.


def test_a_message_may_be_empty_with_a_file() -> None:
    assert text_of(body_of(message="", base64_attachments=["QQ=="])).text == ""


# --- what is refused ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b'{"a":1}x',
        b"\xff",
        b'{"message":"\xff"}',
        b'{"\xff":1}',
        b'{"a":' + b"[" * 5000,
        b'{"base64_attachments":["\xff"],"recipients":["+15550002"]}',
        b"\xef\xbb\xbf{}",
        b'{"message":"\\ud800"}',
    ],
)
def test_what_is_no_json_is_a_bad_request(body: bytes) -> None:
    assert refusal(body) == (400, "the body is not JSON")


MEBI: Final = 1024 * 1024


def mention(**changes: Any) -> dict[str, Any]:
    """Return a mention, complete but for what is given."""
    return {"start": 0, "length": 1, "author": PEER} | changes


def link(**changes: Any) -> bytes:
    """Return the body of a text with a link, complete but for what is given."""
    return body_of(message=f"see {LINK['url']}", link_preview=LINK | changes)


UNPROCESSABLE: Final[dict[str, tuple[bytes, str]]] = {
    "an array": (b"[]", "object"),
    "a string": (b'"hi"', "object"),
    "null": (b"null", "object"),
    "a number beyond all": (b'{"recipients":1e999}', "recipients"),
    "nothing": (b"{}", "recipients"),
    "no recipient": (body_of(recipients=[]), "recipients"),
    "null for recipients": (body_of(recipients=None), "recipients"),
    "two recipients": (body_of(recipients=[PEER, UUID]), "recipients"),
    "one bare recipient": (body_of(recipients=PEER), "recipients"),
    "a null recipient": (body_of(recipients=[None]), "recipients[0]"),
    "a recipient that is a number": (body_of(recipients=[15550002]), "recipients[0]"),
    "a recipient that is none": (body_of(recipients=["Ada"]), "recipients"),
    "a long recipient that is none": (body_of(recipients=["x" * 100_000]), "recipients"),
    "the deprecated recipient": (json.dumps({"recipient": PEER, "message": "hi"}).encode(), "recipient"),
    "another account": (body_of(number="+15550009"), "number"),
    "an empty account": (body_of(number=""), "number"),
    "an account that is a number": (body_of(number=15550001), "number"),
    "an empty message": (body_of(message=""), "message"),
    "no message": (body_of(message=None), "message"),
    "no message but an empty list of files": (body_of(message="", base64_attachments=[]), "message"),
    "a message that is a number": (body_of(message=5), "message"),
    "a message that is a list": (body_of(message=["hi"]), "message"),
    "a text mode that is none": (body_of(text_mode="bold"), "text_mode"),
    "a text mode that is a bool": (body_of(text_mode=True), "text_mode"),
    "a quote without an author": (body_of(quote_timestamp=5), "quote_author"),
    "a quote without a time": (body_of(quote_author=PEER), "quote_timestamp"),
    "a quote of a text only": (body_of(quote_message="hi"), "quote_author"),
    "a quote of nobody": (body_of(quote_timestamp=5, quote_author="Ada"), "quote_author"),
    "a quote of an empty name": (body_of(quote_timestamp=5, quote_author=""), "quote_author"),
    "a quote before 1970": (body_of(quote_timestamp=-1, quote_author=PEER), "quote_timestamp"),
    "a quote from a far future": (body_of(quote_timestamp=2**63, quote_author=PEER), "quote_timestamp"),
    "a quote at no whole time": (body_of(quote_timestamp=1.5, quote_author=PEER), "quote_timestamp"),
    "a quote at a time in letters": (body_of(quote_timestamp="5", quote_author=PEER), "quote_timestamp"),
    "a quote at a bool": (body_of(quote_timestamp=True, quote_author=PEER), "quote_timestamp"),
    "a quote of a number": (body_of(quote_timestamp=5, quote_author=PEER, quote_message=5), "quote_message"),
    "one bare file": (body_of(base64_attachments="QQ=="), "base64_attachments"),
    "a file that is a number": (body_of(base64_attachments=["QQ==", 5]), "base64_attachments[1]"),
    "a file that is null": (body_of(base64_attachments=[None]), "base64_attachments[0]"),
    "an empty file": (body_of(base64_attachments=["QQ==", ""]), "base64_attachments[1]"),
    "an empty file with a label": (
        body_of(base64_attachments=["data:a/b;filename=c;base64,"]),
        "base64_attachments[0]",
    ),
    "33 files": (body_of(base64_attachments=["QQ=="] * 33), "at most 32"),
    "no base64": (body_of(base64_attachments=["QQ==", "hello!"]), "base64_attachments[1]"),
    "base64 cut off": (body_of(base64_attachments=["QUJDR"]), "base64_attachments[0]"),
    "base64 without its end": (body_of(base64_attachments=["QQ"]), "base64_attachments[0]"),
    "base64 twice": (body_of(base64_attachments=["QQ==QQ=="]), "base64_attachments[0]"),
    "base64 twice, a long one": (
        body_of(base64_attachments=["A" * (MEBI - 4) + "QQ==" + "A" * 4]),
        "base64_attachments[0]",
    ),
    "base64 beyond ASCII": (body_of(base64_attachments=["QÄ=="]), "base64_attachments[0]"),
    "base64 for URLs": (body_of(base64_attachments=["-_-_"]), "base64_attachments[0]"),
    "a label of plain text": (body_of(base64_attachments=["data:text/plain,hello"]), "base64_attachments[0]"),
    "a label alone": (body_of(base64_attachments=["data:text/plain;base64"]), "base64_attachments[0]"),
    "a label without a colon": (body_of(base64_attachments=["data,QQ=="]), "base64_attachments[0]"),
    "a label in capitals": (body_of(base64_attachments=["DATA:a/b;base64,QQ=="]), "base64_attachments[0]"),
    "a label without an end": (
        body_of(base64_attachments=["data:" + ";" * 1_000_000]),
        "base64_attachments[0]",
    ),
    "a label far too long": (
        body_of(base64_attachments=[f"data:{'x' * 2000};base64,QQ=="]),
        "base64_attachments[0]",
    ),
    "mentions of nobody": (body_of(mentions=[mention(author="Ada")]), "mentions[0].author"),
    "a mention of a group": (body_of(mentions=[mention(author=GROUP)]), "mentions[0].author"),
    "a mention without a place": (body_of(mentions=[{"author": PEER}]), "mentions[0]"),
    "a mention before the text": (body_of(mentions=[mention(start=-1)]), "mentions[0].start"),
    "a mention behind the text": (body_of(mentions=[mention(), mention(start=2)]), "mentions: one ends at 3"),
    "a mention far behind it": (body_of(mentions=[mention(start=2**31)]), "mentions: one ends at"),
    "a mention beyond all": (body_of(mentions=[mention(start=10**30)]), "mentions"),
    "a mention of nothing": (body_of(mentions=[mention(length=0)]), "mentions[0].length"),
    "a mention at a bool": (body_of(mentions=[mention(start=True)]), "mentions[0].start"),
    "a mention with more": (body_of(mentions=[mention(style="BOLD")]), "style"),
    "a mention that is a list": (body_of(mentions=[[0, 1, PEER]]), "mentions[0]"),
    "one bare mention": (body_of(mentions=mention()), "mentions"),
    "1,001 mentions": (body_of(mentions=[mention()] * 1001), "mentions: give at most 1000"),
    "a sticker": (body_of(sticker="a:b"), "sticker"),
    "mentions in a quote": (body_of(quote_mentions=[]), "quote_mentions"),
    "silence for ourselves": (body_of(notify_self=False), "notify_self"),
    "an edit in 1969": (body_of(edit_timestamp=-1), "edit_timestamp"),
    "an edit of a time in letters": (body_of(edit_timestamp="5"), "edit_timestamp"),
    "an edit from a far future": (body_of(edit_timestamp=2**63), "edit_timestamp"),
    "a text to be viewed once": (body_of(view_once=True), "view_once"),
    "a view-once that is a number": (body_of(view_once=1), "view_once"),
    "a link without a title": (body_of(link_preview={"url": "https://a.example"}), "title"),
    "a link with an empty title": (link(title=""), "link_preview.title"),
    "a link that is none": (link(url="a.example"), "link_preview.url"),
    "a link without TLS": (link(url="http://a.example"), "link_preview.url"),
    "a link that the text lacks": (link(url="https://b.example"), "link_preview.url"),
    "a link with more": (link(image="x"), "image"),
    "a link that is a text": (body_of(link_preview="https://a.example"), "link_preview"),
    "a thumbnail that is no base64": (link(base64_thumbnail="?"), "link_preview.base64_thumbnail"),
    "a thumbnail that is a number": (link(base64_thumbnail=5), "link_preview.base64_thumbnail"),
    "a thumbnail that is too large": (
        link(base64_thumbnail="A" * (3 * MEBI)),
        "link_preview.base64_thumbnail",
    ),
    "two of them": (body_of(sticker="a:b", notify_self=True), "notify_self, sticker"),
    "a misspelt one": (body_of(Message="hi"), "Message"),
}


@pytest.mark.parametrize("fault", UNPROCESSABLE)
def test_what_cannot_be_sent_as_it_is_is_refused_and_the_field_named(fault: str) -> None:
    body, field = UNPROCESSABLE[fault]
    status, words = refusal(body)
    assert status == 422
    assert field in words
    assert len(words) <= 500


def test_32_files_are_sent() -> None:
    files = files_of(body_of(base64_attachments=["data:a/b;filename=c;base64,QkI="] * 32))
    assert [file.source for file in files] == [b"BB"] * 32


def test_1000_people_are_named() -> None:
    text = text_of(body_of(mentions=[mention()] * 1000))
    assert text.mentions == (Mention(0, 1, PEER),) * 1000


@pytest.mark.parametrize("size", [MEBI, MEBI + 1, 3 * MEBI])
@pytest.mark.parametrize("every", [76, MEBI])
def test_a_large_file_comes_out_as_it_went_in(size: int, every: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    coded = base64.b64encode(data[:size]).decode()
    lines = "\r\n".join(coded[start : start + every] for start in range(0, len(coded), every))
    (file,) = files_of(body_of(base64_attachments=[lines]))
    assert file.source == data[:size]


#: What is small on the wire and a million things in memory.
SWARMS: Final = {
    "files": b'{"recipients":["+15550002"],"base64_attachments":[%b""]}' % (b'"",' * 600_000),
    "files of nothing": b'{"recipients":["+15550002"],"base64_attachments":[%b{}]}' % (b"{}," * 600_000),
    "people named": b'{"recipients":["+15550002"],"message":"hi","mentions":[%b{}]}'
    % (b'{"start":0,"length":1,"author":"+15550002"},' * 50_000),
    "people named by nothing": b'{"recipients":["+15550002"],"message":"hi","mentions":[%b0]}'
    % (b"0," * 600_000),
    "previews": b'{"recipients":["+15550002"],"message":"hi","link_preview":{%b"url":""}}'
    % (b'"title":"",' * 200_000),
    "recipients": b'{"recipients":[%b""]}' % (b'"",' * 600_000),
    "unknown things": b'{"recipients":["+15550002"],"message":"hi","a":[%b{}]}' % (b"{}," * 600_000),
    "unknown names": b"{%b}" % b",".join(b'"%d":0' % n for n in range(200_000)),
    "names of nothing": b"{%b}" % b",".join(b'"%d":null' % n for n in range(200_000)),
    "one name, again and again": b'{%b"message":""}' % (b'"base64_attachments":[""],' * 60_000),
}


@pytest.mark.contract("H7")
@pytest.mark.parametrize("swarm", SWARMS)
def test_what_is_a_million_things_is_refused_without_making_them(swarm: str) -> None:
    """Each of them would cost some 30 bytes or more and a moment in which nobody else has a turn."""
    tracemalloc.start()
    try:
        status, _ = refusal(SWARMS[swarm])
        assert status == 422
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 5 * MEBI, "the body and a copy or two of it, and no more"
    finally:
        tracemalloc.stop()


@pytest.mark.contract("H11")
async def test_others_have_their_turn_while_a_large_body_is_read(autojump_clock: MockClock) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await parse_send(body_of(base64_attachments=["A" * (4 * MEBI)] * 2), ACCOUNT)
        nursery.cancel_scope.cancel()
    assert turns >= 10


FIELDS: Final = (
    "number",
    "recipients",
    "message",
    "text_mode",
    "quote_timestamp",
    "quote_author",
    "quote_message",
    "base64_attachments",
    "mentions",
    "view_once",
    "edit_timestamp",
    "link_preview",
)
JSONS: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES: Final = st.sampled_from([*FIELDS, "sticker"])
LIKELY: Final = st.sampled_from(
    [
        PEER,
        [PEER],
        ACCOUNT,
        "hi",
        "styled",
        5,
        None,
        ["QQ=="],
        ["data:a/b;base64,QQ=="],
        ["data:;base64,"],
        [mention()],
        [mention(start=1), mention(start=7)],
        LINK,
        "see https://a.example/x?y=z",
        True,
        [""],
        "",
        [],
    ]
)


@given(
    st.binary(max_size=30)
    | JSONS.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(NAMES, LIKELY | JSONS).map(lambda fields: json.dumps(fields).encode())
)
def test_whatever_comes_is_a_letter_or_refused(body: bytes) -> None:
    letter: Letter | HttpError
    try:
        letter = parsed(body)
    except HttpError as refused:
        letter = refused
    if isinstance(letter, HttpError):
        assert letter.answer.status in (400, 422)
        assert told(letter.answer).keys() == {"error"}
        return
    # What is taken, the client takes as well.
    OutgoingMessage(letter.recipient, letter.content)


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FILE_NAMES: Final = st.none() | st.one_of(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=";,/\\\x7f"),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["base64", "filename=x", "data:", 'a"b.txt', "%41", " ", "ä.pdf"]),
)
FILES: Final = st.builds(
    OutgoingAttachment,
    st.binary(min_size=1, max_size=20),
    FILE_NAMES,
    st.none() | st.sampled_from(["image/png", "application/vnd.a+b", "a.b-c/d!e"]),
)


MENTIONS: Final = st.lists(
    st.builds(Mention, st.integers(0, 3), st.integers(1, 3), st.sampled_from([PEER, UUID])), max_size=3
).map(tuple)
PREVIEWS: Final = st.builds(
    LinkPreview,
    st.just("https://a.example"),
    TEXTS.map(lambda text: text or "A title"),
    TEXTS,
    st.none() | st.binary(min_size=1, max_size=20),
)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    """Draw a text with anything that may go with it; its files are not completed yet."""
    files = tuple(draw(st.lists(FILES, max_size=3)))
    preview = draw(st.none() | PREVIEWS)
    mentions = draw(MENTIONS)
    words = draw(TEXTS)
    if mentions or not (words or files):
        words = f"123456{words}"
    return Text(
        f"{words} https://a.example" if preview else words,
        files,
        draw(st.none() | st.builds(Quote, st.integers(0, 2**63 - 1), st.sampled_from([PEER, UUID]), TEXTS)),
        styled=draw(st.booleans()),
        mentions=mentions,
        view_once=bool(files) and draw(st.booleans()),
        preview=preview,
        edits=draw(st.none() | st.integers(0, 2**63 - 1)),
    )


async def written(message: OutgoingMessage) -> tuple[str, str, bytes]:
    """Return method, path and body with which a client sends a message to a hub."""
    call = encode_message(message, ACCOUNT)
    assert call.body is not None
    body = call.body if isinstance(call.body, bytes) else b"".join([piece async for piece in call.body])
    assert isinstance(call.body, bytes) or call.headers["Content-Length"] == str(len(body))
    return call.method, call.path, body


@given(recipient=st.sampled_from([PEER, GROUP, UUID, "ada.01"]), drawn=texts())
def test_what_a_client_sends_to_a_hub_is_what_the_hub_sends_on(recipient: str, drawn: Text) -> None:
    async def main() -> None:
        text = with_files(drawn, await check_attachments(drawn.attachments, limit=1000))
        method, path, body = await written(OutgoingMessage(recipient, text))
        assert (method, path) == ("POST", "/v2/send")
        assert await parse_send(body, ACCOUNT) == Letter(recipient, text)

    trio.run(main)


# --- reactions and deletions ---


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("recipient", [PEER, GROUP, UUID, "ada.01"])
async def test_a_reaction_of_a_client_is_what_the_hub_sends_on(recipient: str, remove: bool) -> None:
    content = Reaction("\N{THUMBS UP SIGN}", UUID, STAMP, remove)
    method, path, body = await written(OutgoingMessage(recipient, content))
    assert (method, path) == ("DELETE" if remove else "POST", f"/v1/reactions/{ACCOUNT}")
    assert parse_reaction(body, remove=remove) == Letter(recipient, content)


@pytest.mark.parametrize("recipient", [PEER, GROUP, UUID, "ada.01"])
async def test_a_deletion_of_a_client_is_what_the_hub_sends_on(recipient: str) -> None:
    content = RemoteDelete(STAMP)
    method, path, body = await written(OutgoingMessage(recipient, content))
    assert (method, path) == ("DELETE", f"/v1/remote-delete/{ACCOUNT}")
    assert parse_deletion(body) == Letter(recipient, content)


REACTION: Final = {"recipient": PEER, "reaction": "x", "target_author": UUID, "timestamp": STAMP}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"recipient": None}, "recipient"),
        ({"recipient": [PEER]}, "recipient"),
        ({"recipient": "Ada"}, "recipient"),
        ({"recipient": "u:u:ada.01"}, "recipient"),
        ({"reaction": ""}, "reaction"),
        ({"reaction": None}, "reaction"),
        ({"reaction": "a b"}, "reaction"),
        ({"reaction": "x" * 65}, "reaction"),
        ({"target_author": GROUP}, "target_author"),
        ({"target_author": "Ada"}, "target_author"),
        ({"target_author": 5}, "target_author"),
        ({"timestamp": "5"}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": 2**63}, "timestamp"),
        ({"timestamp": 10**400}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"silent": True}, "silent"),
    ],
)
def test_a_reaction_or_deletion_that_is_wrong_is_refused_and_the_field_named(
    changes: dict[str, Any], field: str
) -> None:
    body = REACTION | changes
    for remove in (False, True):
        status, words = refusal(json.dumps(body).encode(), partial_of(parse_reaction, remove=remove))
        assert status == 422
        assert field in words
    if field in ("recipient", "timestamp", "silent"):
        deletion = {name: body[name] for name in body if name in ("recipient", "timestamp", "silent")}
        status, words = refusal(json.dumps(deletion).encode(), parse_deletion)
        assert status == 422
        assert field in words


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_reaction_or_deletion_that_is_no_json_is_a_bad_request(body: bytes) -> None:
    for read in (partial_of(parse_reaction, remove=False), parse_deletion):
        assert refusal(body, read) == (400, "the body is not JSON")


@given(
    st.binary(max_size=30)
    | JSONS.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(
        st.sampled_from([*REACTION, "a"]), LIKELY | JSONS | st.sampled_from([*REACTION.values()])
    ).map(lambda fields: json.dumps(REACTION | fields).encode())
)
def test_whatever_comes_is_a_reaction_or_deletion_or_refused(body: bytes) -> None:
    for read in (partial_of(parse_reaction, remove=False), parse_deletion):
        letter: Letter | HttpError
        try:
            letter = read(body)
        except HttpError as refused:
            letter = refused
        if isinstance(letter, HttpError):
            assert letter.answer.status in (400, 422)
            assert told(letter.answer).keys() == {"error"}
        else:
            OutgoingMessage(letter.recipient, letter.content)


# --- what an outcome becomes ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (Sent(17), 201, [{"timestamp": "17"}]),
        (Sent(0), 201, [{"timestamp": "0"}]),
        (
            Sent(17, (FailedRecipient(PEER, "UNREGISTERED_FAILURE"), FailedRecipient(UUID, "unknown"))),
            201,
            [
                {
                    "timestamp": "17",
                    "errors": {
                        "recipients": [
                            {"number": PEER, "reason": "UNREGISTERED_FAILURE"},
                            {"number": UUID, "reason": "unknown"},
                        ]
                    },
                }
            ],
        ),
        (
            Failed(AnswerError("HTTP 400: no", status=400, text="Invalid group id"), Certainty.NOT_SENT),
            400,
            {"error": "Invalid group id", "certainty": "not_sent"},
        ),
        (
            Failed(AnswerError("an empty answer"), Certainty.NOT_SENT),
            400,
            {"error": "an empty answer", "certainty": "not_sent"},
        ),
        (
            Failed(LinkLost("no answer within 60 s"), Certainty.UNKNOWN),
            504,
            {"error": "no answer within 60 s", "certainty": "unknown"},
        ),
        (
            Failed(AnswerError("x" * 9000, challenge_tokens=("a", "b")), Certainty.UNKNOWN),
            504,
            {"error": "x" * 500, "certainty": "unknown", "challenge_tokens": ["a", "b"]},
        ),
        *(
            (
                Dropped(reason),
                503,
                {"error": f"the message was dropped: {reason.value}", "certainty": "not_sent"},
            )
            for reason in DropReason
        ),
    ],
)
def test_each_outcome_has_its_answer(outcome: Outcome, status: int, words: Json) -> None:
    answer = answer_for(outcome, LETTER.content)
    assert (answer.status, told(answer)) == (status, words)
    assert answer.content_type == "application/json"
    assert dict(answer.headers).get("Retry-After") == ("5" if status == 503 else None)


@pytest.mark.contract("O6")
def test_a_reaction_and_a_deletion_have_the_gateways_own_answers() -> None:
    outcome = Sent(17, (FailedRecipient(PEER, "UNREGISTERED_FAILURE"),))
    reaction = answer_for(outcome, Reaction("x", PEER, 5))
    assert (reaction.status, reaction.body) == (204, b"")
    deletion = answer_for(outcome, RemoteDelete(5))
    failed = {"recipients": [{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]}
    assert (deletion.status, told(deletion)) == (201, {"timestamp": "17", "errors": failed})


WORDS: Final = st.text("abcXYZ.:äß\N{ROCKET}", min_size=1, max_size=20)
ERRORS: Final = st.builds(
    AnswerError,
    WORDS,
    status=st.just(400),
    text=WORDS,
    challenge_tokens=st.lists(WORDS, max_size=2).map(tuple),
) | st.builds(LinkLost, WORDS)
CONTENTS: Final = st.sampled_from([Text("hi"), Reaction("x", PEER, 5), RemoteDelete(5)])
OUTCOMES: Final[st.SearchStrategy[Outcome]] = st.one_of(
    st.builds(
        Sent,
        st.integers(0, 10**15),
        st.lists(
            st.builds(
                FailedRecipient,
                st.sampled_from([PEER, UUID, ""]),
                WORDS,
                st.none() | st.integers(0, 86_400).map(float),
                st.none() | WORDS,
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(Dropped, st.sampled_from(DropReason)),
    st.builds(Failed, ERRORS, st.sampled_from(Certainty)),
)


def read_by(reader: Callable[..., SendResult], answer: Answer, content: Content) -> SendResult:
    """Read an answer as a client does that has sent to a group."""
    assert isinstance(answer.body, bytes)
    wait = dict(answer.headers).get("Retry-After")
    return reader(
        answer.status,
        answer.body,
        recipient=GROUP,
        wait=float(wait) if wait else None,
        is_reaction=isinstance(content, Reaction),
    )


@pytest.mark.contract("O6")
@given(OUTCOMES, CONTENTS)
def test_a_client_of_the_hub_comes_to_the_outcome_that_the_hub_came_to(
    outcome: Outcome, content: Content
) -> None:
    result = read_by(read_hub_answer, answer_for(outcome, content), content)
    if isinstance(outcome, Sent):
        # The gateway tells nothing of a reaction but that it was sent.
        assert result.outcome == (Sent(0) if isinstance(content, Reaction) else outcome)
        return
    assert isinstance(result.outcome, Failed)
    if isinstance(outcome, Dropped):
        assert (result.outcome.certainty, result.retry, result.retry_after) == (Certainty.NOT_SENT, True, 5)
        return
    assert result.outcome.certainty is outcome.certainty
    assert not result.retry
    assert isinstance(result.outcome.error, AnswerError)
    tokens = outcome.error.challenge_tokens if isinstance(outcome.error, AnswerError) else ()
    assert result.outcome.error.challenge_tokens == tokens
    words = outcome.error.text if isinstance(outcome.error, AnswerError) else str(outcome.error)
    assert result.outcome.error.text == words


@pytest.mark.contract("O6")
@given(OUTCOMES, CONTENTS)
def test_a_client_that_takes_the_hub_for_a_gateway_errs_on_the_safe_side(
    outcome: Outcome, content: Content
) -> None:
    """It never sends again what may have arrived."""
    result = read_by(read_answer, answer_for(outcome, content), content)
    if isinstance(outcome, Sent):
        assert result.outcome == (Sent(0) if isinstance(content, Reaction) else outcome)
    elif isinstance(outcome, Dropped):
        assert isinstance(result.outcome, Failed)
        assert (result.outcome.certainty, result.retry) == (Certainty.NOT_SENT, True)
    else:
        assert isinstance(result.outcome, Failed)
        assert not result.retry
        if outcome.certainty is Certainty.UNKNOWN:
            assert result.outcome.certainty is Certainty.UNKNOWN


# --- sending ---


class Caller:
    """Somebody who waits for an answer and may hang up."""

    def __init__(self) -> None:
        self.gone = trio.Event()
        self.answer: Answer | None = None
        self.answered_at = math.nan

    async def ask(self, signal: SignalClient, letter: Letter = LETTER, **options: Any) -> None:
        self.answer = await send(signal, letter, hung_up=self.gone.wait, **options)
        self.answered_at = trio.current_time()

    @property
    def words(self) -> tuple[int, Json]:
        """Status and body of the answer, which must be there."""
        assert self.answer is not None
        return self.answer.status, told(self.answer)

    @property
    def verdict(self) -> tuple[int, str]:
        """Status and certainty of the answer."""
        status, words = self.words
        return status, words["certainty"]


async def ask(signal: SignalClient, letter: Letter = LETTER, **options: Any) -> Caller:
    """Send a letter and stay for the answer."""
    caller = Caller()
    await caller.ask(signal, letter, **options)
    return caller


@pytest.mark.contract("O1", "O6")
@pytest.mark.parametrize("version", ["0.100", "0.101"])
async def test_what_was_sent_is_told_as_the_gateway_tells_it(version: str, autojump_clock: MockClock) -> None:
    file = OutgoingAttachment(b"ABC", "a.txt", "text/plain", 3)
    text = Text("**hi**", (file,), Quote(5, PEER, "before"), styled=True, mentions=(Mention(0, 2, UUID),))
    letter = Letter(PEER, text)
    async with open_gateway(version=version) as gateway, connected(gateway) as signal:
        caller = await ask(signal, letter)
        (request,) = gateway.received
        assert caller.words == (201, [{"timestamp": str(request.timestamp)}])
        assert await parse_send(json.dumps(request.body).encode(), ACCOUNT) == letter


@pytest.mark.contract("O6")
async def test_who_of_a_group_did_not_get_it_is_named(autojump_clock: MockClock) -> None:
    async with open_gateway(version="0.101") as gateway, connected(gateway) as signal:
        gateway.script_send(partial([{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]))
        status, (entry,) = (await ask(signal, Letter(GROUP, Text("hi")))).words
    assert status == 201
    assert entry["errors"] == {"recipients": [{"number": PEER, "reason": "UNREGISTERED_FAILURE"}]}


@pytest.mark.contract("O6")
async def test_what_the_gateway_refuses_is_told_in_its_words(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(error(400, "Invalid group id"))
        assert (await ask(signal)).words == (400, {"error": "Invalid group id", "certainty": "not_sent"})


@pytest.mark.contract("O5", "O6")
async def test_what_nobody_knows_is_told_as_that(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(lost(), rate_limited(["", "token-1"]))
        assert (await ask(signal)).verdict == (504, "unknown")
        status, words = (await ask(signal)).words
        assert (status, words["certainty"], words["challenge_tokens"]) == (504, "unknown", ["token-1"])


@pytest.mark.contract("O8")
async def test_what_cannot_leave_within_25_s_is_dropped_and_never_sent_late(
    autojump_clock: MockClock,
) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[daemon_down()] * 100)
        caller = await ask(signal)
        assert caller.words == (503, {"error": "the message was dropped: expired", "certainty": "not_sent"})
        assert caller.answered_at == 25
        gateway.heal()
        await trio.sleep(600)
        assert [request.outcome for request in gateway.received if request.outcome == "ok"] == []


@pytest.mark.contract("O11")
async def test_what_is_being_sent_after_25_s_has_the_send_timeout_on_top(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway, send_timeout=60) as signal:
        gateway.script_send(slow(40), hang())
        caller = await ask(signal)
        assert (caller.words[0], caller.answered_at) == (201, 40)
        caller = await ask(signal)
        # Then it waits for evidence that it went out all the same.
        assert (caller.verdict, caller.answered_at) == ((504, "unknown"), 110)


async def test_how_long_it_may_wait_is_an_option(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[daemon_down()] * 100)
        assert (await ask(signal, wait=3)).answered_at == 3


@pytest.mark.contract("O7", "O10")
async def test_many_callers_are_served_one_after_the_other(autojump_clock: MockClock) -> None:
    callers = [Caller() for _ in range(20)]
    async with open_gateway(answer_delay=1) as gateway, connected(gateway) as signal:
        async with trio.open_nursery() as nursery:
            for n, caller in enumerate(callers):
                nursery.start_soon(caller.ask, signal, Letter(PEER, Text(f"m{n}")))
        assert [caller.words[0] for caller in callers] == [201] * 20
        assert gateway.statistics().most_sends_in_flight == 1
        stamps = {caller.words[1][0]["timestamp"] for caller in callers}
        assert stamps == {str(request.timestamp) for request in gateway.received}


# --- hanging up ---


@pytest.mark.contract("O12")
async def test_who_hangs_up_while_waiting_takes_the_message_back(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(10))
        first, second, third = Caller(), Caller(), Caller()
        async with trio.open_nursery() as nursery:
            for caller, text in ((first, "first"), (second, "second"), (third, "third")):
                nursery.start_soon(caller.ask, signal, Letter(PEER, Text(text)))
                await settled()
            await trio.sleep(5)
            second.gone.set()
        assert second.verdict == (503, "not_sent")
        assert second.answered_at == 5
        assert first.words[0] == third.words[0] == 201
        assert texts_at(gateway) == ["first", "third"]


@pytest.mark.contract("O12")
async def test_who_hangs_up_between_two_attempts_takes_the_message_back(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(daemon_down())
        caller = Caller()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.ask, signal)
            await gateway.wait_received(1)
            await trio.sleep(0.1)
            caller.gone.set()
        assert caller.verdict == (503, "not_sent")
        await trio.sleep(60)
        assert len(gateway.received) == 1


async def test_who_hangs_up_while_it_is_sent_is_told_nothing_for_sure(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(10))
        caller = Caller()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.ask, signal)
            await trio.sleep(5)
            caller.gone.set()
        assert caller.verdict == (504, "unknown")
        assert caller.answered_at == 5
        await trio.sleep(10)
        assert signal.statistics().buffer.outgoing.sent == 1


async def test_who_has_hung_up_already_has_nothing_sent(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway, overflow="wait", buffer_size=1) as signal:
        gateway.refuse(None)
        await signal.send_message(PEER, "in the way")
        caller = Caller()
        caller.gone.set()
        await caller.ask(signal)
        assert caller.verdict == (503, "not_sent")
        assert caller.answered_at == 0
        assert signal.statistics().buffer.outgoing.pending == 1


@pytest.mark.contract("O12")
async def test_what_still_waits_when_the_hub_goes_down_is_taken_back(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[daemon_down()] * 100)
        with trio.move_on_after(5):
            await ask(signal)
        books = signal.statistics().buffer.outgoing
        assert books.dropped == {DropReason.WITHDRAWN: 1}
        assert books.pending == 0


async def test_hanging_up_is_heard_over_the_connection_itself(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(*[daemon_down()] * 100)
        peer, ours = memory_connection()
        http = HttpConnection(ours)
        body = body_of()
        await peer.send_all(
            b"POST /v2/send HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert await http.next_request()
        letter = await parse_send(await http.read_body(1000, timeout=5), ACCOUNT)
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await trio.sleep(3)
                peer.close()

            nursery.start_soon(leave)
            answer = await send(signal, letter, hung_up=http.wait_hung_up)
        assert trio.current_time() == 3
        assert answer.status == 503
        assert not await http.send(answer)


# --- going down ---


@pytest.mark.contract("H10", "O12")
async def test_a_hub_that_goes_down_tells_who_waits_the_truth(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, connected(gateway) as signal:
        gateway.script_send(slow(10))
        callers = [Caller(), Caller()]
        async with trio.open_nursery() as nursery:
            for caller in callers:
                going_down = partial_of(trio.sleep, 4)
                nursery.start_soon(partial_of(caller.ask, signal, going_down=going_down))
                await settled()
        first, second = callers
        words = "the hub went down before it knew what became of it"
        assert first.words == (504, {"error": words, "certainty": "unknown"})
        assert second.verdict == (503, "not_sent")
        assert [caller.answered_at for caller in callers] == [4, 4]
        await trio.sleep(60)
        assert len(gateway.received) == 1


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
async def test_it_is_told_when_the_client_has_the_letter(overflow: str, autojump_clock: MockClock) -> None:
    """Until then the letter is in no limit but the caller's."""
    taken: list[float] = []
    async with open_gateway() as gateway, open_client(gateway, overflow=overflow, buffer_size=1) as signal:
        gateway.refuse(None)
        await signal.send_message(PEER, "held by the send task")
        await settled()
        await signal.send_message(PEER, "in the way")
        await ask(signal, on_taken=lambda: taken.append(trio.current_time()))
    assert taken == [25 if overflow == "wait" else 0]


# --- a client that takes no more ---


@pytest.mark.contract("O3")
async def test_a_full_buffer_is_told_at_once(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway, overflow="error", buffer_size=1) as signal:
        gateway.refuse(None)
        first = await signal.send_message(PEER, "held by the send task")
        await settled()
        second = await signal.send_message(PEER, "in the way")
        caller = await ask(signal)
        assert caller.verdict == (503, "not_sent")
        assert dict(caller.answer.headers if caller.answer else ())["Retry-After"] == "5"
        assert caller.answered_at == 0
        check_ledger(signal, [first, second])


@pytest.mark.contract("O3", "O8")
@pytest.mark.parametrize("others", [0, 1, 3])
async def test_waiting_for_room_ends_in_time_too(others: int, autojump_clock: MockClock) -> None:
    """Others that stand in the way have no deadline, and wait for room for ever."""
    async with open_gateway() as gateway, open_client(gateway, overflow="wait", buffer_size=1) as signal:
        gateway.refuse(None)
        async with trio.open_nursery() as nursery:
            for n in range(2 + others):
                nursery.start_soon(signal.send_message, PEER, f"in the way {n}")
                await settled()
            caller = await ask(signal)
            assert caller.verdict == (503, "not_sent")
            assert caller.answered_at == 25
            nursery.cancel_scope.cancel()


@pytest.mark.contract("O3")
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_a_letter_that_is_dropped_for_room_is_told_so(overflow: str, autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway, overflow=overflow, buffer_size=1) as signal:
        gateway.refuse(None)
        callers = [Caller() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(caller.ask, signal)
                await settled()
    words = [caller.words[1]["error"].rpartition(" ")[2] for caller in callers]
    assert {caller.verdict for caller in callers} == {(503, "not_sent")}
    assert words.count("overflow") >= 3
    assert words.count("expired") + words.count("overflow") == 5
    assert (words[-1] == "overflow") == (overflow == "drop_newest")


async def test_a_client_that_was_closed_is_told(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway:
        async with connected(gateway) as signal:
            pass
        caller = await ask(signal)
    assert caller.verdict == (503, "not_sent")


@pytest.mark.contract("C5")
async def test_a_client_that_closes_while_a_caller_waits_ends_the_waiting(autojump_clock: MockClock) -> None:
    caller = Caller()
    async with open_gateway() as gateway, trio.open_nursery() as nursery:
        async with open_client(gateway, close_timeout=2) as signal:
            gateway.refuse(None)
            nursery.start_soon(caller.ask, signal)
            await settled()
    assert caller.words == (503, {"error": "the message was dropped: closed", "certainty": "not_sent"})
    assert caller.answered_at == 2


LARGE: Final = Letter(PEER, Text("x" * 5000))
FILE: Final = Letter(PEER, Text("", (OutgoingAttachment(b"x" * 500, "a", "a/b", 500),)))
NAME: Final = Letter(PEER, Text("", (OutgoingAttachment(b"x", "../a", "a/b", 1),)))
MIME: Final = Letter(PEER, Text("", (OutgoingAttachment(b"x", "a", "text", 1),)))


@pytest.mark.parametrize(
    ("letter", "options", "field"),
    [
        (LARGE, {"buffer_bytes": 4000}, "message: "),
        (FILE, {"max_attachment_bytes": 400}, "base64_attachments: "),
        (NAME, {}, "base64_attachments: "),
        (MIME, {}, "base64_attachments: "),
    ],
)
async def test_what_the_client_does_not_take_is_refused_and_the_field_named(
    letter: Letter, options: Mapping[str, Any], field: str, autojump_clock: MockClock
) -> None:
    async with open_gateway() as gateway, open_client(gateway, **options) as signal:
        status, words = (await ask(signal, letter)).words
        assert status == 422
        assert words["error"].startswith(field)
        assert signal.statistics().buffer.outgoing.accepted == 0


async def test_a_hub_whose_gateway_is_away_sends_once_it_is_back(autojump_clock: MockClock) -> None:
    async with open_gateway() as gateway, open_client(gateway) as signal:
        gateway.refuse(3)
        gateway.script_send(ok())
        caller = await ask(signal)
        assert caller.words[0] == 201
        assert 0 < caller.answered_at < 25

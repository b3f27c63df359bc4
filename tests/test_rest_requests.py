"""Messages as the REST gateway takes them: every field of a text, reactions, deletions."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import OutgoingAttachment, OutgoingMessage, Quote
from trio_signal._attachments import check_attachments
from trio_signal._contents import Content, LinkPreview, Mention, Reaction, RemoteDelete, Text
from trio_signal._dial import parse_url
from trio_signal.gateways._calls import Call
from trio_signal.gateways._clients import RequestWriter
from trio_signal.gateways._rest_requests import encode_message, in_path

ACCOUNT: Final = "+15550001"
ADDRESS: Final = parse_url("http://gateway.example")
PEER: Final = "+15550002"
UUID: Final = "2c9e0000-0000-4000-8000-000000000002"
GROUP: Final = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
LINK: Final = "https://example.org/a?b=c"


def encode(content: str | Content, recipient: str = PEER) -> Call:
    return encode_message(OutgoingMessage(recipient, content, clock=lambda: 0.0), ACCOUNT)


async def body_of(call: Call) -> Any:
    """Read a body to its end, and decode it."""
    if isinstance(call.body, AsyncIterator):
        data = b"".join([piece async for piece in call.body])
    else:
        assert call.body is not None
        data = call.body
    head = RequestWriter(ADDRESS).write(call, []).head
    assert head.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data))
    assert head.count(b"\r\nContent-") == 2
    return json.loads(data)


async def attached(*contents: bytes) -> tuple[OutgoingAttachment, ...]:
    files = [
        OutgoingAttachment(data, content_type="image/png", filename=f"{number}.png")
        for number, data in enumerate(contents)
    ]
    return await check_attachments(files, limit=1 << 20)


PLAIN: Final = {"number": ACCOUNT, "recipients": [PEER], "message": f"see {LINK}"}
TEXT: Final = f"see {LINK}"

FIELDS: Final[list[tuple[Text, dict[str, Any]]]] = [
    (Text(TEXT), {}),
    (Text(TEXT, styled=True), {"text_mode": "styled"}),
    (
        Text(TEXT, quote=Quote(17, UUID, "what?")),
        {"quote_timestamp": 17, "quote_author": UUID, "quote_message": "what?"},
    ),
    (Text(TEXT, quote=Quote(17, PEER)), {"quote_timestamp": 17, "quote_author": PEER, "quote_message": ""}),
    (
        Text(TEXT, mentions=(Mention(0, 3, PEER), Mention(4, 1, UUID))),
        {"mentions": [{"start": 0, "length": 3, "author": PEER}, {"start": 4, "length": 1, "author": UUID}]},
    ),
    (Text(TEXT, edits=1_795_302_674_001), {"edit_timestamp": 1_795_302_674_001}),
    (Text(TEXT, edits=0), {"edit_timestamp": 0}),
    (
        Text(TEXT, preview=LinkPreview(LINK, "A title")),
        {"link_preview": {"url": LINK, "title": "A title", "description": ""}},
    ),
    (
        Text(TEXT, preview=LinkPreview(LINK, "A title", "what it is", b"\xff\xd8\xff")),
        {
            "link_preview": {
                "url": LINK,
                "title": "A title",
                "description": "what it is",
                "base64_thumbnail": "/9j/",
            }
        },
    ),
]


@pytest.mark.parametrize(("text", "fields"), FIELDS)
async def test_each_part_of_a_text_is_a_field_of_the_gateways(text: Text, fields: dict[str, Any]) -> None:
    call = encode(text)
    assert (call.method, call.path) == ("POST", "/v2/send")
    assert await body_of(call) == PLAIN | fields


@pytest.mark.parametrize("recipient", [GROUP, UUID, "ada.01"])
async def test_a_str_is_a_text_and_the_gateway_tells_recipients_apart_itself(recipient: str) -> None:
    body = await body_of(encode("hi", recipient))
    assert body == {"number": ACCOUNT, "recipients": [recipient], "message": "hi"}


@pytest.mark.parametrize("view_once", [False, True])
async def test_files_come_last_as_data_uris(view_once: bool) -> None:
    call = encode(Text("", attachments=await attached(b"one", b""), view_once=view_once, styled=True))
    body = await body_of(call)
    assert list(body)[-1] == "base64_attachments"
    assert body.pop("base64_attachments") == [
        f"data:image/png;filename=0.png;base64,{base64.b64encode(b'one').decode()}",
        "data:image/png;filename=1.png;base64,",
    ]
    once = {"view_once": True} if view_once else {}
    assert body == {"number": ACCOUNT, "recipients": [PEER], "message": "", "text_mode": "styled"} | once


async def test_all_parts_at_once_stay_one_document() -> None:
    text = Text(
        TEXT,
        attachments=await attached(b"}" * 1000),
        quote=Quote(17, UUID, 'what"}]'),
        styled=True,
        mentions=(Mention(0, 3, PEER),),
        view_once=True,
        preview=LinkPreview(LINK, "}}", "]", b"x"),
        edits=5,
    )
    body = await body_of(encode(text))
    assert set(body) == {
        "number",
        "recipients",
        "message",
        "text_mode",
        "quote_timestamp",
        "quote_author",
        "quote_message",
        "mentions",
        "view_once",
        "edit_timestamp",
        "link_preview",
        "base64_attachments",
    }
    (file,) = body["base64_attachments"]
    assert base64.b64decode(file.partition(",")[2]) == b"}" * 1000


#: How the gateway is told who is meant where it passes on what it is told as it is.
MARKED: Final = [(PEER, PEER), (GROUP, GROUP), (UUID, UUID), ("ada.01", "u:ada.01")]


@pytest.mark.parametrize(("remove", "method"), [(False, "POST"), (True, "DELETE")])
@pytest.mark.parametrize(("recipient", "told"), MARKED)
async def test_a_reaction_has_a_path_of_its_own(remove: bool, method: str, recipient: str, told: str) -> None:
    call = encode(Reaction("👍🏽", UUID, 17, remove), recipient)
    assert (call.method, call.path) == (method, f"/v1/reactions/{ACCOUNT}")
    assert await body_of(call) == {
        "recipient": told,
        "reaction": "👍🏽",
        "target_author": UUID,
        "timestamp": 17,
    }


@pytest.mark.parametrize(("recipient", "told"), MARKED)
async def test_a_deletion_is_a_delete_with_a_body(recipient: str, told: str) -> None:
    call = encode(RemoteDelete(17), recipient)
    assert (call.method, call.path) == ("DELETE", f"/v1/remote-delete/{ACCOUNT}")
    assert await body_of(call) == {"recipient": told, "timestamp": 17}


@given(st.text(st.characters(exclude_categories=["Cs"])))
async def test_any_text_arrives_as_it_is(text: str) -> None:
    if text:
        assert (await body_of(encode(text)))["message"] == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_part_of_a_path_stays_one_part(part: str) -> None:
    assert not set(in_path(part)) & set("/?# ")
    assert in_path(part).isascii()


@pytest.mark.parametrize(
    ("part", "path"), [("+15550001", "+15550001"), (GROUP, GROUP.replace("=", "%3D")), ("a/b?c", "a%2Fb%3Fc")]
)
def test_a_plus_needs_no_escape_in_a_path(part: str, path: str) -> None:
    assert in_path(part) == path

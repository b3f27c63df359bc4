"""Messages and operations as signal-cli takes them, and what its results hold."""

import base64
import json
from contextlib import suppress
from typing import Any, Final, TypeAlias

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import (
    Certainty,
    Contact,
    Group,
    GroupPermissions,
    LinkPreview,
    Mention,
    OutgoingAttachment,
    OutgoingMessage,
    Quote,
    Reaction,
    RemoteDelete,
    RequestFailed,
    Text,
    Unsupported,
)
from trio_signal._attachments import check_attachments
from trio_signal._contents import Content
from trio_signal._dial import parse_url
from trio_signal._operations import (
    RESULTS,
    ChangeMembers,
    CreateGroup,
    DeleteAttachment,
    FinishLink,
    JoinGroup,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    QuitGroup,
    SendReceipt,
    SendTyping,
    StartLink,
    SubmitRateLimitChallenge,
    UpdateContact,
    UpdateGroup,
    UpdateProfile,
)
from trio_signal._wire import group_recipient
from trio_signal.gateways import AttachmentRef
from trio_signal.gateways._calls import Call
from trio_signal.gateways._clients import RequestWriter
from trio_signal.gateways._rpc_requests import (
    encode_call,
    encode_download,
    encode_message,
    encode_operation,
    with_account,
)
from trio_signal.gateways._rpc_results import FileReader, read_result

#: What json.loads() gives.
Json: TypeAlias = Any

ACCOUNT: Final = "+15550001"
ADDRESS: Final = parse_url("http://gateway.example")
PEER: Final = "+15550002"
UUID: Final = "2c9e0000-0000-4000-8000-000000000002"
GROUP_ID: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GROUP: Final = group_recipient(GROUP_ID)
PNG: Final = b"\x89PNG\r\n\x1a\nrest"
JPEG: Final = b"\xff\xd8rest"


async def whole(call: Call) -> bytes:
    if isinstance(call.body, bytes):
        return call.body
    assert call.body is not None
    return b"".join([piece async for piece in call.body])


async def sent(content: Content, recipient: str = PEER, account: str | None = ACCOUNT) -> Json:
    """What a message becomes: its method and its parameters."""
    call = encode_message(OutgoingMessage(recipient, content), account, "r1")
    body = await whole(call)
    assert (call.method, call.path) == ("POST", "/api/v1/rpc")
    head = RequestWriter(ADDRESS).write(call, []).head
    assert head.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert head.count(b"\r\nContent-") == 2
    request = json.loads(body)
    assert {key: request[key] for key in ("jsonrpc", "id")} == {"jsonrpc": "2.0", "id": "r1"}
    assert list(request) == ["jsonrpc", "method", "id", "params"]
    return request["method"], request["params"]


# --- Messages. ---


async def test_a_text() -> None:
    method, params = await sent(Text("hi é"))
    assert method == "send"
    assert params == {"account": ACCOUNT, "recipient": [PEER], "message": "hi é", "notifySelf": True}


async def test_without_an_account_the_daemons_only_one_is_meant() -> None:
    assert "account" not in (await sent(Text("hi"), account=None))[1]


@pytest.mark.contract("A3")
@pytest.mark.parametrize(
    ("recipient", "params"),
    [
        (PEER, {"recipient": [PEER]}),
        (UUID, {"recipient": [UUID]}),
        (f"PNI:{UUID}", {"recipient": [f"PNI:{UUID}"]}),
        ("ada.01", {"recipient": ["u:ada.01"]}),
        (GROUP, {"groupId": [GROUP_ID]}),
    ],
)
async def test_recipients(recipient: str, params: Json) -> None:
    for content in (Text("hi"), Reaction("👍", PEER, 5), RemoteDelete(5)):
        _, given = await sent(content, recipient)
        assert {key: given[key] for key in given if key in {"recipient", "groupId"}} == params


@pytest.mark.parametrize("recipient", ["group.AAA", "group.ab-_", "group.//8="])
async def test_a_group_that_is_none_is_not_sent(recipient: str) -> None:
    with pytest.raises(Unsupported, match="is no group that signal-cli can know"):
        await sent(Text("hi"), recipient)


async def test_styles_are_read_out_of_the_text() -> None:
    _, params = await sent(Text("**bold** 👍 ~gone~", styled=True))
    assert params["message"] == "bold 👍 gone"
    assert params["textStyle"] == ["0:4:BOLD", "8:4:STRIKETHROUGH"]
    assert "textStyle" not in (await sent(Text("plain", styled=True)))[1]
    _, params = await sent(Text("**not styled**"))
    assert params["message"] == "**not styled**"


async def test_what_goes_with_a_text() -> None:
    text = Text(
        "hi @ada https://example.org/x",
        quote=Quote(5, PEER, "what"),
        mentions=(Mention(3, 4, UUID), Mention(0, 2, PEER)),
        preview=LinkPreview("https://example.org/x", "Title", "About", PNG),
        edits=1234,
    )
    _, params = await sent(text)
    assert params == {
        "account": ACCOUNT,
        "recipient": [PEER],
        "message": text.text,
        "notifySelf": True,
        "quoteTimestamp": 5,
        "quoteAuthor": PEER,
        "quoteMessage": "what",
        "mention": [f"3:4:{UUID}", f"0:2:{PEER}"],
        "previewUrl": "https://example.org/x",
        "previewTitle": "Title",
        "previewDescription": "About",
        "previewImage": "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "editTimestamp": 1234,
    }


async def test_a_preview_without_a_picture() -> None:
    _, params = await sent(Text("https://a.b", preview=LinkPreview("https://a.b", "T")))
    assert "previewImage" not in params
    _, params = await sent(Text("https://a.b", preview=LinkPreview("https://a.b", "T", image=JPEG)))
    assert params["previewImage"].startswith("data:image/jpeg;base64,")


async def test_files_are_data_uris_whose_names_can_be_read_back() -> None:
    files = await check_attachments(
        [
            OutgoingAttachment(b"abc", "50% a+b=c é.png"),
            OutgoingAttachment(b"x"),
            OutgoingAttachment(PNG, "a b.txt"),
        ],
        limit=1000,
    )
    _, params = await sent(Text("", files, view_once=True))
    assert params["viewOnce"] is True
    assert params["message"] == ""
    assert params["attachments"] == [
        "data:image/png;filename=50%25 a%2Bb%3Dc %C3%A9.png;base64,YWJj",
        "data:application/octet-stream;base64,eA==",
        "data:text/plain;filename=a b.txt;base64," + base64.b64encode(PNG).decode(),
    ]


async def test_an_empty_file_is_none_to_signal_cli() -> None:
    files = await check_attachments([b""], limit=10)
    with pytest.raises(Unsupported, match=r'is empty.*gateway="rest"'):
        await sent(Text("x", files))


async def test_a_file_that_its_json_reader_cannot_take_is_not_sent() -> None:
    head = len("data:application/octet-stream;base64,")
    fits = (20_000_000 - 1 - head) // 4 * 3
    call = encode_message(
        OutgoingMessage(PEER, Text("x", (OutgoingAttachment(b"", None, "application/octet-stream", fits),))),
        ACCOUNT,
        "r1",
    )
    assert int(call.headers["Content-Length"]) > 19_999_000
    for size in (fits + 1, 10**10):
        file = OutgoingAttachment(b"", None, "application/octet-stream", size)
        with pytest.raises(Unsupported, match=r'too large for signal-cli.*15 MB.*gateway="rest"'):
            encode_message(OutgoingMessage(PEER, Text("x", (file,))), ACCOUNT, "r1")
    await trio.lowlevel.checkpoint()


@pytest.mark.contract("A2")
async def test_reactions_and_deletions() -> None:
    assert await sent(Reaction("👍", UUID, 77)) == (
        "sendReaction",
        {"account": ACCOUNT, "recipient": [PEER], "emoji": "👍", "targetAuthor": UUID, "targetTimestamp": 77},
    )
    assert (await sent(Reaction("👍", UUID, 77, remove=True)))[1]["remove"] is True
    assert await sent(RemoteDelete(78), GROUP) == (
        "remoteDelete",
        {"account": ACCOUNT, "groupId": [GROUP_ID], "targetTimestamp": 78},
    )


# --- Operations. ---


@pytest.mark.contract("A1", "A3")
@pytest.mark.parametrize(
    ("operation", "method", "params"),
    [
        (SendReceipt(PEER, 5), "sendReceipt", {"recipient": PEER, "targetTimestamp": [5], "type": "read"}),
        (
            SendReceipt("ada.01", 5, "viewed"),
            "sendReceipt",
            {"recipient": "u:ada.01", "targetTimestamp": [5], "type": "viewed"},
        ),
        (SendTyping(PEER), "sendTyping", {"recipient": [PEER]}),
        (SendTyping(GROUP, stop=True), "sendTyping", {"groupId": [GROUP_ID], "stop": True}),
        (ListGroups(), "listGroups", {}),
        (CreateGroup("Team", ()), "updateGroup", {"name": "Team"}),
        (
            CreateGroup(
                "Team",
                (PEER, "ada.01"),
                "About",
                3600,
                "enabled-with-approval",
                GroupPermissions(
                    add_members="only-admins", edit_details="every-member", send_messages="only-admins"
                ),
            ),
            "updateGroup",
            {
                "name": "Team",
                "member": [PEER, "u:ada.01"],
                "description": "About",
                "expiration": 3600,
                "link": "enabled-with-approval",
                "setPermissionAddMember": "only-admins",
                "setPermissionEditDetails": "every-member",
                "setPermissionSendMessages": "only-admins",
            },
        ),
        (UpdateGroup(GROUP, "New"), "updateGroup", {"groupId": GROUP_ID, "name": "New"}),
        (
            UpdateGroup(GROUP, "New", "", PNG, 0, "disabled", GroupPermissions(send_messages="every-member")),
            "updateGroup",
            {
                "groupId": GROUP_ID,
                "name": "New",
                "description": "",
                "avatar": "data:image/png;base64," + base64.b64encode(PNG).decode(),
                "expiration": 0,
                "link": "disabled",
                "setPermissionSendMessages": "every-member",
            },
        ),
        (ChangeMembers(GROUP, "add", (PEER,)), "updateGroup", {"groupId": GROUP_ID, "member": [PEER]}),
        (
            ChangeMembers(GROUP, "remove", (PEER,)),
            "updateGroup",
            {"groupId": GROUP_ID, "removeMember": [PEER]},
        ),
        (
            ChangeMembers(GROUP, "add_admins", ("ada.01",)),
            "updateGroup",
            {"groupId": GROUP_ID, "admin": ["u:ada.01"]},
        ),
        (
            ChangeMembers(GROUP, "remove_admins", (UUID,)),
            "updateGroup",
            {"groupId": GROUP_ID, "removeAdmin": [UUID]},
        ),
        (JoinGroup("https://signal.group/#abc"), "joinGroup", {"uri": "https://signal.group/#abc"}),
        (JoinGroup(GROUP), "updateGroup", {"groupId": GROUP_ID}),
        (QuitGroup(GROUP), "quitGroup", {"groupId": GROUP_ID}),
        (ListContacts(), "listContacts", {}),
        (ListContacts(all_recipients=True), "listContacts", {"allRecipients": True}),
        (
            UpdateContact("ada.01", "Ada", 60),
            "updateContact",
            {"recipient": "u:ada.01", "name": "Ada", "expiration": 60},
        ),
        (UpdateContact(PEER, expiration=0), "updateContact", {"recipient": PEER, "expiration": 0}),
        (
            UpdateProfile("Ada", "about", JPEG),
            "updateProfile",
            {
                "givenName": "Ada",
                "familyName": "",
                "about": "about",
                "avatar": "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
            },
        ),
        (UpdateProfile(about=""), "updateProfile", {"about": ""}),
        (
            SubmitRateLimitChallenge("t1", "signalcaptcha://x"),
            "submitRateLimitChallenge",
            {"challenge": "t1", "captcha": "signalcaptcha://x"},
        ),
    ],
)
def test_operations(operation: Operation[Any], method: str, params: Json) -> None:
    assert encode_operation(operation, ACCOUNT) == (method, {"account": ACCOUNT, **params})
    assert encode_operation(operation, None) == (method, params)


@pytest.mark.parametrize(
    ("operation", "method", "params"),
    [
        (ListAccounts(), "listAccounts", {}),
        (StartLink("bot"), "startLink", {}),
        (FinishLink("sgnl://x", "bot"), "finishLink", {"deviceLinkUri": "sgnl://x", "deviceName": "bot"}),
    ],
)
def test_operations_of_no_account(operation: Operation[Any], method: str, params: Json) -> None:
    assert encode_operation(operation, ACCOUNT) == (method, params)


@pytest.mark.contract("A1")
@pytest.mark.parametrize("operation", [ListAttachments(), DeleteAttachment("x1")])
def test_operations_that_it_does_not_have(operation: Operation[Any]) -> None:
    with pytest.raises(Unsupported, match='gateway="rest"'):
        encode_operation(operation, ACCOUNT)


def test_an_operation_on_a_group_that_is_none() -> None:
    with pytest.raises(Unsupported, match="is no group"):
        encode_operation(QuitGroup("group.AAA"), ACCOUNT)


async def test_calls() -> None:
    assert json.loads(await whole(encode_call("version", None, "r1"))) == {
        "jsonrpc": "2.0",
        "method": "version",
        "id": "r1",
    }
    assert json.loads(await whole(encode_call("trust", {"a": [1]}, "r1")))["params"] == {"a": [1]}
    with pytest.raises(TypeError):
        encode_call("trust", {"a": object()}, "r1")


@pytest.mark.parametrize(
    ("params", "account", "expected"),
    [
        (None, None, None),
        (None, ACCOUNT, {"account": ACCOUNT}),
        ({"x": 1}, ACCOUNT, {"account": ACCOUNT, "x": 1}),
        ({"account": PEER}, ACCOUNT, {"account": PEER}),
        ({"x": 1}, None, {"x": 1}),
        ([1], ACCOUNT, [1]),
    ],
)
def test_the_account_goes_among_parameters_that_name_none(
    params: Json, account: str | None, expected: Json
) -> None:
    assert with_account(params, account) == expected


@pytest.mark.contract("A3")
@pytest.mark.parametrize(("place", "params"), [(GROUP, {"groupId": GROUP_ID}), (PEER, {"recipient": PEER})])
async def test_a_file_is_asked_for_where_it_came_from(place: str, params: Json) -> None:
    body = json.loads(await whole(encode_download(AttachmentRef("x1.jpg", place), ACCOUNT, "r1")))
    assert (body["method"], body["params"]) == (
        "getAttachment",
        {"account": ACCOUNT, "id": "x1.jpg", **params},
    )


# --- Results. ---

_ADDRESS: Final = {"number": PEER, "uuid": UUID}


@pytest.mark.contract("A3")
def test_groups_are_the_same_recipients_as_everywhere() -> None:
    listed: Json = {
        "id": GROUP_ID,
        "name": "Team",
        "description": "",
        "isMember": True,
        "isBlocked": False,
        "messageExpirationTime": 0,
        "members": [{"number": None, "uuid": UUID}, _ADDRESS, {"number": None, "uuid": None}],
        "pendingMembers": [_ADDRESS],
        "requestingMembers": [],
        "admins": [_ADDRESS],
        "banned": [],
        "permissionAddMember": "EVERY_MEMBER",
        "groupInviteLink": "https://signal.group/#x",
        "ofTheFuture": {},
    }
    assert read_result(ListGroups(), [listed, {"id": GROUP_ID}]) == (
        Group(
            id=GROUP,
            name="Team",
            members=(PEER, UUID),
            admins=(PEER,),
            pending_members=(PEER,),
            invite_link="https://signal.group/#x",
            is_blocked=False,
            is_member=True,
            expiration=0,
        ),
        Group(id=GROUP),
    )


def test_contacts() -> None:
    listed: Json = {
        **_ADDRESS,
        "username": "ada.01",
        "name": "",
        "givenName": "x",
        "note": "n",
        "color": "ultramarine",
        "isBlocked": True,
        "messageExpirationTime": 60,
        "profile": {"givenName": "Ada", "familyName": "L", "about": "hm", "lastUpdateTimestamp": 5},
    }
    assert read_result(ListContacts(), [listed, {"number": PEER, "profile": None, "name": "P"}]) == (
        Contact(
            number=PEER,
            uuid=UUID,
            username="ada.01",
            profile_name="Ada L",
            about="hm",
            note="n",
            is_blocked=True,
            expiration=60,
        ),
        Contact(number=PEER, name="P"),
    )


@pytest.mark.parametrize(
    ("operation", "value", "expected"),
    [
        (ListAccounts(), [], ()),
        (ListAccounts(), [{"number": ACCOUNT}, {"uuid": UUID}, {"number": None}], (ACCOUNT, UUID)),
        (CreateGroup("x", ()), {"groupId": GROUP_ID, "timestamp": 5, "results": []}, GROUP),
        (JoinGroup("https://signal.group/#x"), {"groupId": GROUP_ID, "onlyRequested": True}, GROUP),
        (JoinGroup("https://signal.group/#x"), {"timestamp": 5}, None),
        (JoinGroup(GROUP), {"timestamp": 5}, GROUP),
        (StartLink("x"), {"deviceLinkUri": "sgnl://x"}, "sgnl://x"),
        (FinishLink("x", "y"), {"number": ACCOUNT}, ACCOUNT),
        (FinishLink("x", "y"), {}, None),
        (SendTyping(PEER), {"timestamp": 5, "results": []}, None),
        (UpdateGroup(GROUP, "New"), None, None),
    ],
)
def test_results(operation: Operation[Any], value: Json, expected: Json) -> None:
    assert read_result(operation, value) == expected


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("operation", "value"),
    [
        (ListGroups(), "x"),
        (ListGroups(), [{"name": "x"}]),
        (ListGroups(), [{"id": 5}]),
        (ListGroups(), [{"id": "x", "members": "y"}]),
        (ListContacts(), [5]),
        (ListAccounts(), None),
        (CreateGroup("x", ()), {"y": 1}),
        (JoinGroup("https://signal.group/#x"), [1]),
        (StartLink("x"), {"deviceLinkUri": None}),
        (FinishLink("x", "y"), None),
    ],
)
def test_results_that_cannot_be_read(operation: Operation[Any], value: Json) -> None:
    with pytest.raises(RequestFailed, match="cannot be read") as caught:
        read_result(operation, value)
    assert caught.value.certainty is Certainty.UNKNOWN


def test_each_operation_is_known() -> None:
    # A new one that nobody has written fails here, and not at whoever asks for it first.
    from trio_signal.gateways._rpc_requests import _WRITERS

    assert set(_WRITERS) == set(RESULTS)


# --- Files. ---


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def answer(data: bytes, head: bytes = b'{"jsonrpc":"2.0","result":{', tail: bytes = b'},"id":"r1"}') -> bytes:
    return head + b'"data":"' + base64.b64encode(data) + b'"' + tail


@given(st.binary(max_size=40), st.integers(1, 60))
def test_a_file_comes_out_whole_however_it_is_cut(data: bytes, size: int) -> None:
    reader = FileReader()
    given_back = b"".join(reader.feed(piece) for piece in pieces(answer(data), size))
    assert given_back == data
    assert reader.has_begun
    assert reader.is_whole


@pytest.mark.parametrize(
    "head",
    [
        b'{"result":{',
        b' { "jsonrpc" : "2.0" ,\n"id": null, "result" : { ',
        b'{"id":"r\\"1","jsonrpc":"2.0","result":{"contentType":"image\\/png","size":5,',
    ],
)
def test_where_the_file_stands_in_the_answer(head: bytes) -> None:
    reader = FileReader()
    assert reader.feed(answer(b"abc", head)) == b"abc"
    assert reader.feed(b"more") == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b'{"jsonrpc":"2.0","error":{"code":-1,"message":"\\"result\\":{\\"data\\":\\"YWJj\\"","data":null}}',
        b'{"jsonrpc":"2.0","error":{"data":"YWJj"},"id":"r1"}',
        b'{"result":{"data":null}}',
        b'{"result":{"data":{"data":"YWJj"}}}',
        b'{"result":["data":"YWJj"]}',
        b'{"result":{"x":' + b"[" * 50,
        b'"' + b"\\" * 4000,
    ],
)
def test_what_holds_no_file(body: bytes) -> None:
    reader = FileReader()
    assert b"".join(reader.feed(piece) for piece in pieces(body, 7)) == b""
    assert not reader.has_begun
    assert reader.head == body


def test_an_answer_that_goes_on_and_on_without_a_file_is_given_up() -> None:
    reader, hopes = FileReader(), list[bool]()
    for data in (b'{"a":"' + b"x" * 4000, b"x" * 200, b'","result":{"data":"YWJj"'):
        assert reader.feed(data) == b""
        hopes.append(reader.may_begin)
    assert hopes == [True, False, False]
    assert not reader.has_begun


@pytest.mark.parametrize(
    "text",
    [b"YW!j", b"YWJjYQ==YWJj", b"YQ=", b'YWJ"', b"\\u0059WJj", b"YW\nJj", b"=", b"YQ==" * 2, b"\xff" * 8],
)
@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_what_is_no_base64_is_no_file(text: bytes, size: int) -> None:
    reader = FileReader()
    with pytest.raises(RequestFailed, match="cannot be read"):
        for piece in pieces(b'{"result":{"data":"' + text + b'"}}', size):
            reader.feed(piece)


@given(st.binary(max_size=200), st.integers(1, 60))
def test_a_file_from_anything_raises_nothing_else(data: bytes, size: int) -> None:
    reader = FileReader()
    with suppress(RequestFailed):
        for piece in pieces(b'{"result":{"data":"' + data, size):
            assert len(reader.feed(piece)) <= len(piece) + 3


def test_each_four_characters_are_given_at_once_and_filled_ones_end_it() -> None:
    reader = FileReader()
    reader.feed(b'{"result":{"data":"')
    assert reader.feed(b"YWJj") == b"abc"
    assert reader.feed(b"YWJjYWI=") == b"abcab"
    with pytest.raises(RequestFailed, match="cannot be read"):
        reader.feed(b"YWJj")


@pytest.mark.parametrize(("size", "hopes"), [(4096, True), (4097, False)])
def test_how_far_into_an_answer_a_file_may_begin(size: int, hopes: bool) -> None:
    reader = FileReader()
    reader.feed(b'{"a":"'.ljust(size, b"x"))
    assert reader.may_begin == hopes
    given = reader.feed(b'","result":{"data":"YWJj"')
    assert given == (b"abc" if hopes else b"")

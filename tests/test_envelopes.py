import base64
import copy
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal._decoding import decode_frame, decode_frames
from trio_signal._envelopes import MessageKind, ReceivedMessage, Undecodable, utf16_slice
from trio_signal._wire import (
    Attachment,
    DataMessage,
    Envelope,
    GroupInfo,
    Mention,
    RemoteDelete,
    group_internal_id,
    group_recipient,
)

ACCOUNT = "+15550001"
ACCOUNT_UUID = "00000000-0000-4000-8000-000000000001"
PEER = "+15550002"
PEER_UUID = "00000000-0000-4000-8000-000000000002"
OTHER = "+15550003"
OTHER_UUID = "00000000-0000-4000-8000-000000000003"
GROUP_ID = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GROUP_RECIPIENT = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
T = 1795302684386
EARLIER = T - 60_000

RECORDINGS = sorted((Path(__file__).parent / "data").glob("gateway-*.json"))


def recorded_frames(recording: Path) -> list[bytes]:
    """The payloads of the frames that a real gateway sent, without their headers of 4 bytes."""
    recorded = json.loads(recording.read_bytes())
    whole = [base64.b64decode(frame) for frame in recorded["websocket_frames_base64"]]
    assert [frame[:4] for frame in whole] == [b"\x81\x7e" + (len(f) - 4).to_bytes(2) for f in whole]
    return [frame[4:] for frame in whole]


RECORDED_TEXT = recorded_frames(RECORDINGS[0])[0]

# Every shape of the wire with every field that is known for it.
PERSON = {"author": OTHER, "authorNumber": OTHER, "authorUuid": OTHER_UUID}
TARGET = {
    "targetAuthor": OTHER,
    "targetAuthorNumber": OTHER,
    "targetAuthorUuid": OTHER_UUID,
    "targetSentTimestamp": EARLIER,
}
ATTACHMENT = {
    "contentType": "image/jpeg",
    "filename": "a.jpg",
    "id": "x1.jpg",
    "size": 12345,
    "width": 640,
    "height": 480,
    "caption": "a caption",
    "uploadTimestamp": EARLIER,
    "isVoiceNote": False,
}
MENTION = {"name": OTHER, "number": OTHER, "uuid": OTHER_UUID, "start": 0, "length": 1}
STYLE = {"style": "BOLD", "start": 2, "length": 4}
GROUP = {"groupId": GROUP_ID, "groupName": "Team", "revision": 7, "type": "DELIVER"}
PREVIEW = {"url": "https://example.org", "title": "a title", "description": "about", "image": ATTACHMENT}
QUOTE = {
    "id": EARLIER,
    **PERSON,
    "text": "quoted",
    "mentions": [MENTION],
    "attachments": [{"contentType": "image/png", "filename": "q.png", "thumbnail": ATTACHMENT}],
    "textStyles": [STYLE],
}
CONTACT = {"name": {"display": "Ada"}, "phone": [{"value": OTHER, "type": "HOME"}]}
STORY = {
    "allowsReplies": True,
    "groupId": GROUP_ID,
    "fileAttachment": ATTACHMENT,
    "textAttachment": {
        "text": "a story",
        "style": "DEFAULT",
        "textForegroundColor": "#000000",
        "textBackgroundColor": "#ffffff",
        "preview": PREVIEW,
        "backgroundGradient": {
            "startColor": "#000000",
            "endColor": "#ffffff",
            "colors": ["#000000", "#ffffff"],
            "positions": [0.0, 1.0],
            "angle": 90,
        },
        "backgroundColor": "#00ff00",
    },
}


def data(**fields: Any) -> dict[str, Any]:
    always = {"message": None, "expiresInSeconds": 0, "isExpirationUpdate": False, "viewOnce": False}
    return {"timestamp": T, **always, **fields}


DATA_SHAPES: dict[str, tuple[MessageKind, dict[str, Any]]] = {
    "text": (MessageKind.MESSAGE, data(message="hi")),
    "text to a group, with everything": (
        MessageKind.MESSAGE,
        data(
            message="\ufffc hello",
            expiresInSeconds=3600,
            groupInfo=GROUP,
            mentions=[MENTION, MENTION | {"start": 3}],
            textStyles=[STYLE],
            previews=[PREVIEW],
            quote=QUOTE,
            attachments=[ATTACHMENT, ATTACHMENT | {"id": "x2.jpg", "isVoiceNote": True}],
            contacts=[CONTACT],
            storyContext={"authorNumber": OTHER, "authorUuid": OTHER_UUID, "sentTimestamp": EARLIER},
            hasProfileKey=True,
            isEndSession=False,
            isProfileKeyUpdate=False,
        ),
    ),
    "empty text": (MessageKind.MESSAGE, data(message="")),
    "attachment": (MessageKind.MESSAGE, data(attachments=[ATTACHMENT])),
    "sticker": (MessageKind.MESSAGE, data(sticker={"packId": "a1b2", "stickerId": 3})),
    "contact": (MessageKind.MESSAGE, data(contacts=[CONTACT])),
    "preview": (MessageKind.MESSAGE, data(previews=[PREVIEW])),
    "quote": (MessageKind.MESSAGE, data(quote=QUOTE)),
    "view once, without its file": (MessageKind.MESSAGE, data(viewOnce=True)),
    "reaction": (MessageKind.REACTION, data(reaction={"emoji": "👍", **TARGET, "isRemove": False})),
    "remote delete": (MessageKind.REMOTE_DELETE, data(remoteDelete={"timestamp": EARLIER})),
    "remote delete, new": (
        MessageKind.REMOTE_DELETE,
        data(remoteDelete={"timestamp": EARLIER, "targetTimestamp": EARLIER}),
    ),
    "admin delete": (MessageKind.REMOTE_DELETE, data(adminDelete=TARGET, groupInfo=GROUP)),
    "poll": (
        MessageKind.POLL_CREATE,
        data(pollCreate={"question": "tea?", "allowMultiple": True, "options": ["yes", "no"]}),
    ),
    "vote": (
        MessageKind.POLL_VOTE,
        data(pollVote={**PERSON, "targetSentTimestamp": EARLIER, "optionIndexes": [0, 1], "voteCount": 1}),
    ),
    "poll closed": (MessageKind.POLL_TERMINATE, data(pollTerminate={"targetSentTimestamp": EARLIER})),
    "pin": (MessageKind.PIN, data(pinMessage={**TARGET, "pinDurationSeconds": 86400})),
    "unpin": (MessageKind.UNPIN, data(unpinMessage=TARGET)),
    "payment": (MessageKind.PAYMENT, data(payment={"note": "for tea", "receipt": "AAEC"})),
    "group update": (MessageKind.GROUP_UPDATE, data(groupInfo=GROUP | {"type": "UPDATE"})),
    "expiration update": (MessageKind.EXPIRATION_UPDATE, data(isExpirationUpdate=True)),
    "group call": (MessageKind.OTHER, data(groupInfo=GROUP, groupCallUpdate={"eraId": "e1"})),
    "profile key": (MessageKind.OTHER, data(isProfileKeyUpdate=True, hasProfileKey=True)),
}
EDIT = {"targetSentTimestamp": EARLIER, "dataMessage": data(message="better", groupInfo=GROUP)}
DESTINATION = {"destination": OTHER, "destinationNumber": OTHER, "destinationUuid": OTHER_UUID}
SHAPES: dict[str, tuple[MessageKind, dict[str, Any]]] = {
    **{name: (kind, {"dataMessage": content}) for name, (kind, content) in DATA_SHAPES.items()},
    **{
        f"own {name}": (kind, {"syncMessage": {"sentMessage": {**DESTINATION, **content}}})
        for name, (kind, content) in DATA_SHAPES.items()
    },
    "edit": (MessageKind.EDIT, {"editMessage": EDIT}),
    "own edit": (MessageKind.EDIT, {"syncMessage": {"sentMessage": {**DESTINATION, "editMessage": EDIT}}}),
    "receipt": (
        MessageKind.RECEIPT,
        {
            "receiptMessage": {
                "when": T,
                "isDelivery": True,
                "isRead": False,
                "isViewed": False,
                "timestamps": [EARLIER, EARLIER + 1],
            }
        },
    ),
    "typing": (
        MessageKind.TYPING,
        {"typingMessage": {"action": "STARTED", "timestamp": T, "groupId": GROUP_ID}},
    ),
    "call": (
        MessageKind.CALL,
        {
            "callMessage": {
                "offerMessage": {"id": 2**64 - 1, "type": "AUDIO_CALL", "opaque": "AAEC"},
                "answerMessage": {"id": 2**64 - 1, "opaque": "AAEC"},
                "busyMessage": {"id": 2**64 - 1},
                "hangupMessage": {"id": 2**64 - 1, "type": "NORMAL", "deviceId": 2},
                "iceUpdateMessages": [{"id": 2**64 - 1, "opaque": "AAEC"}, {"id": 1, "opaque": "AAEC"}],
            }
        },
    ),
    "story": (MessageKind.STORY, {"storyMessage": STORY}),
    "own story": (
        MessageKind.STORY,
        {
            "syncMessage": {
                "sentStoryMessage": {"destinationNumber": OTHER, "destinationUuid": OTHER_UUID, **STORY}
            }
        },
    ),
    "read elsewhere": (
        MessageKind.SYNC,
        {
            "syncMessage": {
                "readMessages": [
                    {"sender": OTHER, "senderNumber": OTHER, "senderUuid": OTHER_UUID, "timestamp": EARLIER}
                ]
            }
        },
    ),
    "blocked": (
        MessageKind.SYNC,
        {"syncMessage": {"blockedNumbers": [OTHER], "blockedGroupIds": [GROUP_ID]}},
    ),
    "sync request": (MessageKind.SYNC, {"syncMessage": {"type": "REQUEST_SYNC"}}),
    "empty sync": (MessageKind.SYNC, {"syncMessage": {}}),
    "no content": (MessageKind.OTHER, {}),
    "content of the future": (MessageKind.OTHER, {"hologramMessage": {"shape": "cube"}}),
}


def frame(content: dict[str, Any], **top: Any) -> dict[str, Any]:
    own = "syncMessage" in content
    source = {
        "source": ACCOUNT if own else PEER,
        "sourceNumber": ACCOUNT if own else PEER,
        "sourceUuid": ACCOUNT_UUID if own else PEER_UUID,
        "sourceName": "Ada",
        "sourceDevice": 2 if own else 1,
        "timestamp": T,
        "serverReceivedTimestamp": T + 1,
        "serverDeliveredTimestamp": T + 2,
    }
    value = {"envelope": {**source, **content}, "account": ACCOUNT, **top}
    fresh: dict[str, Any] = json.loads(
        json.dumps(value)
    )  # shares no part with the shapes, nor one part twice
    return fresh


def receive(value: dict[str, Any]) -> ReceivedMessage:
    message = decode_frame(msgspec.json.encode(value))
    assert isinstance(message, ReceivedMessage)
    return message


def undecodable(value: bytes | str) -> Undecodable:
    result = decode_frame(value)
    assert isinstance(result, Undecodable)
    return result


PROPERTIES = sorted(
    name for name in vars(ReceivedMessage) if isinstance(vars(ReceivedMessage)[name], property)
)


def read_all(message: ReceivedMessage) -> None:
    """Read all there is to read; the key must fit into a set."""
    for name in PROPERTIES:
        getattr(message, name)
    hash(message.duplicate_key)
    assert repr(message).startswith("<ReceivedMessage ")
    assert isinstance(message.kind, MessageKind)


def assert_holds(typed: Any, source: Any) -> None:
    """Check that every value of `source` stands at the same place in `typed`."""
    if isinstance(source, dict):
        for key, value in source.items():  # pyright: ignore[reportUnknownVariableType]
            assert_holds(typed[key], value)
    elif isinstance(source, list):
        for ours, theirs in zip(typed, source, strict=True):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            assert_holds(ours, theirs)
    else:
        assert typed == source


# --- what real gateways sent ---


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.contract("R7")
def test_recorded_frames(recording: Path) -> None:
    frames = recorded_frames(recording)
    messages = [message for message in map(decode_frame, frames) if isinstance(message, ReceivedMessage)]
    assert all(message.raw is frame for message, frame in zip(messages, frames, strict=True))
    assert [message.text for message in messages] == ["hello", "grüß dich 👋", "in a group", ""]
    assert [message.reply_to for message in messages] == [PEER, PEER, GROUP_RECIPIENT, PEER]
    group = GroupInfo(id=GROUP_ID, name="Group", revision=1, type="DELIVER")
    assert [message.group for message in messages] == [None, None, group, None]
    assert len({message.duplicate_key for message in messages}) == len(messages)
    for message in messages:
        assert (message.account, message.kind) == (ACCOUNT, MessageKind.MESSAGE)
        assert (message.sender, message.sender_number, message.sender_uuid) == (PEER, PEER, PEER_UUID)
        assert (message.sender_name, message.sender_device) == ("Peer User", 1)
        assert message.timestamp == message.envelope.timestamp
        assert message.server_received_timestamp == message.envelope.server_received_timestamp
        assert (message.expires_in_seconds, message.view_once, message.from_self) == (0, False, False)
        assert (message.attachments, message.mentions, message.text_styles, message.previews) == (
            (),
            (),
            (),
            (),
        )


def test_there_are_recordings_of_both_forms_of_the_gateway() -> None:
    assert [path.stem for path in RECORDINGS] == ["gateway-0.100", "gateway-0.101-pre"]


def test_str_bytes_and_views_decode_alike() -> None:
    wanted = decode_frame(RECORDED_TEXT)
    for same in (RECORDED_TEXT.decode(), bytearray(RECORDED_TEXT), memoryview(RECORDED_TEXT)):
        message = decode_frame(same)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert message == wanted
        assert type(message.raw) is bytes


# --- every shape ---


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.contract("R7")
def test_every_shape_is_typed_in_full(name: str) -> None:
    kind, content = SHAPES[name]
    message = receive(frame(content))
    assert message.kind is kind
    assert message.from_self == ("syncMessage" in content)
    known = {key: value for key, value in frame(content)["envelope"].items() if key != "hologramMessage"}
    assert_holds(msgspec.to_builtins(message.envelope), known)
    read_all(message)


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place inside a JSON value."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        items = list(enumerate(value))  # pyright: ignore[reportUnknownArgumentType]
    for key, inner in items:
        yield (*path, key)
        yield from nodes(inner, (*path, key))


JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**70,
    "",
    "12",
    "junk",
    [],
    [1, "x", None],
    {},
    {"junk": [1]},
)
DELETE = object()


def mutate(value: Any, path: tuple[str | int, ...], junk: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    if junk is DELETE:
        del value[path[-1]]
    else:
        value[path[-1]] = copy.deepcopy(junk)


def assert_rest_survives(
    before: Any, after: Any, hit: tuple[str | int, ...], path: tuple[str | int, ...] = ()
) -> None:
    """Check that two typed trees are equal but for the place that was hit (a list counts whole)."""
    if path == hit:
        return
    if isinstance(before, dict) and path == hit[: len(path)]:
        for key in before:  # pyright: ignore[reportUnknownVariableType]
            assert_rest_survives(before[key], after[key], hit, (*path, key))  # pyright: ignore[reportUnknownArgumentType]
    else:
        assert after == before, path


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.contract("R7")
def test_one_broken_place_costs_no_more_than_itself(name: str) -> None:
    whole = frame(SHAPES[name][1], exception={"message": "why", "type": "SomeException"})
    before = msgspec.to_builtins(receive(whole).envelope)
    for path in nodes(whole):
        for junk in (*JUNK, DELETE):
            broken = copy.deepcopy(whole)
            mutate(broken, path, junk)
            if not isinstance(broken.get("envelope"), dict):
                assert undecodable(msgspec.json.encode(broken)).reason == "no envelope object"
                continue
            message = receive(broken)
            read_all(message)
            hit = path[1:] if path[0] == "envelope" else ("outside",)
            until_list = next((i for i, step in enumerate(hit) if isinstance(step, int)), len(hit))
            if hit:
                assert_rest_survives(before, msgspec.to_builtins(message.envelope), hit[:until_list])


@pytest.mark.contract("R7")
def test_an_endless_list_with_a_broken_item_is_not_taken_apart() -> None:
    for count, kept in ((9_999, 9_999), (10_000, 0)):
        files = [{"id": "a"}] * count + [1]
        message = receive(frame({"dataMessage": data(message="hi", attachments=files)}))
        assert message.text == "hi"
        assert len(message.attachments) == kept


@pytest.mark.contract("R7")
def test_a_broken_item_leaves_the_other_items() -> None:
    files = [{"id": "a", "size": 1.5}, "not an attachment", {"id": "b", "isVoiceNote": [1]}, None]
    message = receive(frame({"dataMessage": data(message="hi", attachments=files)}))
    assert message.attachments == (Attachment(id="a"), Attachment(id="b"))
    assert message.text == "hi"


@pytest.mark.contract("R7")
def test_a_list_of_plain_values_is_whole_or_absent() -> None:
    """An index into the options of a poll must never point at another option than the one meant."""
    message = receive(frame({"dataMessage": data(pollCreate={"question": "?", "options": ["a", 2, "c"]})}))
    assert message.poll_create is not None
    assert (message.poll_create.question, message.poll_create.options) == ("?", None)


@pytest.mark.contract("R7")
def test_lenient_values_are_taken_as_what_they_mean() -> None:
    message = receive(frame({"dataMessage": data(message="hi", timestamp=str(T), viewOnce="true")}))
    assert (message.timestamp, message.view_once) == (T, True)


@pytest.mark.parametrize("text", ["null", "true", "12", "1.5", ""])
@pytest.mark.contract("R7")
def test_a_text_stays_a_text_beside_a_broken_field(text: str) -> None:
    assert receive(frame({"dataMessage": data(message=text, expiresInSeconds="soon")})).text == text


@pytest.mark.parametrize("number", [b"1e999", b"9" * 5000, b"-" + b"9" * 5000, b"1.5e3"])
@pytest.mark.contract("R7")
def test_a_number_out_of_range_costs_its_field_only(number: bytes) -> None:
    raw = RECORDED_TEXT.replace(b'"expiresInSeconds": 0', b'"expiresInSeconds": ' + number)
    assert number in raw
    message = decode_frame(raw)
    assert isinstance(message, ReceivedMessage)
    assert (message.text, message.sender) == ("hello", PEER)


@pytest.mark.contract("R7")
def test_bytes_that_are_not_utf8_cost_their_field_only() -> None:
    message = decode_frame(RECORDED_TEXT.replace(b"Peer User", b"Peer \xff"))
    assert isinstance(message, ReceivedMessage)
    assert (message.sender_name, message.text) == (None, "hello")
    message = decode_frame(RECORDED_TEXT.decode().replace("Peer User", "Peer \ud800"))
    assert isinstance(message, ReceivedMessage)
    assert (message.sender_name, message.text) == (None, "hello")


@pytest.mark.contract("R7")
def test_of_a_repeated_key_the_last_one_counts() -> None:
    message = decode_frame(
        RECORDED_TEXT.replace(b'"message": "hello"', b'"message": "first", "message": "last"')
    )
    assert isinstance(message, ReceivedMessage)
    assert message.text == "last"


# --- what is in it ---


def test_contents_are_where_they_belong() -> None:
    message = receive(frame(SHAPES["text to a group, with everything"][1]))
    assert message.data is message.envelope.data_message
    assert message.attachments[0] == Attachment(
        content_type="image/jpeg",
        filename="a.jpg",
        id="x1.jpg",
        size=12345,
        width=640,
        height=480,
        caption="a caption",
        upload_timestamp=EARLIER,
        is_voice_note=False,
    )
    assert [file.is_voice_note for file in message.attachments] == [False, True]
    assert message.mentions[1] == Mention(name=OTHER, number=OTHER, uuid=OTHER_UUID, start=3, length=1)
    assert [style.style for style in message.text_styles] == ["BOLD"]
    assert [preview.url for preview in message.previews] == ["https://example.org"]
    assert message.quote is not None
    assert (message.quote.id, message.quote.author_uuid) == (EARLIER, OTHER_UUID)
    assert message.expires_in_seconds == 3600


@pytest.mark.parametrize("prefix", ["", "own "])
def test_each_property_finds_its_shape(prefix: str) -> None:
    def of(name: str) -> ReceivedMessage:
        return receive(frame(SHAPES[prefix + name][1]))

    assert (reaction := of("reaction").reaction) is not None
    assert (reaction.emoji, reaction.target_sent_timestamp, reaction.is_remove) == ("👍", EARLIER, False)
    assert (sticker := of("sticker").sticker) is not None
    assert (sticker.pack_id, sticker.sticker_id) == ("a1b2", 3)
    assert (poll := of("poll").poll_create) is not None
    assert (poll.question, poll.allow_multiple, poll.options) == ("tea?", True, ("yes", "no"))
    assert (vote := of("vote").poll_vote) is not None
    assert (vote.author_uuid, vote.option_indexes) == (OTHER_UUID, (0, 1))
    assert (closed := of("poll closed").poll_terminate) is not None
    assert closed.target_sent_timestamp == EARLIER
    assert (pin := of("pin").pin) is not None
    assert (pin.target_author_uuid, pin.pin_duration_seconds) == (OTHER_UUID, 86400)
    assert (unpin := of("unpin").unpin) is not None
    assert unpin.target_sent_timestamp == EARLIER
    assert (edit := of("edit").edit) is not None
    assert edit.target_sent_timestamp == EARLIER
    assert (story := of("story").story) is not None
    assert story.text_attachment is not None
    assert story.text_attachment.text == "a story"
    assert of("view once, without its file").view_once


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("receipt", "receipt"), ("typing", "typing"), ("call", "call"), ("story", "story")],
)
def test_a_content_has_its_own_property_and_no_other(name: str, wanted: str) -> None:
    message = receive(frame(SHAPES[name][1]))
    found = {
        part for part in ("receipt", "typing", "call", "story", "edit", "data") if getattr(message, part)
    }
    assert found == {wanted}
    assert (message.text, message.attachments, message.remote_delete) == (None, (), None)
    assert (message.expires_in_seconds, message.view_once) == (None, False)


def test_ids_of_64_unsigned_bits_survive() -> None:
    call = receive(frame(SHAPES["call"][1])).call
    assert call is not None
    assert call.offer_message is not None
    assert call.offer_message.id == 2**64 - 1


def test_longer_numbers_than_that_do_no_harm() -> None:
    message = receive(frame({"callMessage": {"busyMessage": {"id": 10**4000}}}) | {"account": None})
    assert message.call is not None
    assert message.call.busy_message is not None
    assert message.call.busy_message.id == 10**4000
    read_all(message)


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"timestamp": 5}, 5),
        ({"targetTimestamp": 5}, 5),
        ({"timestamp": 5, "targetTimestamp": 5}, 5),
        ({"timestamp": None, "targetTimestamp": 5}, 5),
        ({}, None),
    ],
)
@pytest.mark.contract("R7")
def test_a_remote_delete_is_understood_in_its_old_and_new_form(
    fields: dict[str, Any], target: int | None
) -> None:
    deleted = receive(frame({"dataMessage": data(remoteDelete=fields)})).remote_delete
    assert isinstance(deleted, RemoteDelete)
    assert deleted.target_sent_timestamp == target


def test_an_administrators_delete_is_a_remote_delete() -> None:
    deleted = receive(frame(SHAPES["admin delete"][1])).remote_delete
    assert deleted is not None
    assert deleted.target_sent_timestamp == EARLIER


@pytest.mark.parametrize("shape", [{}, {"isVoiceNote": None}, {"isVoiceNote": True}])
@pytest.mark.contract("R7")
def test_an_attachment_with_and_without_the_new_field(shape: dict[str, Any]) -> None:
    old = {key: value for key, value in ATTACHMENT.items() if key != "isVoiceNote"}
    message = receive(frame({"dataMessage": data(attachments=[old | shape])}))
    assert [file.is_voice_note for file in message.attachments] == [shape.get("isVoiceNote")]
    assert message.kind is MessageKind.MESSAGE


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"message": "new name", "groupInfo": GROUP | {"type": "UPDATE"}}, MessageKind.MESSAGE),
        ({"message": "a", "isExpirationUpdate": True}, MessageKind.MESSAGE),
        (
            {"isExpirationUpdate": True, "groupInfo": GROUP | {"type": "UPDATE"}},
            MessageKind.EXPIRATION_UPDATE,
        ),
        ({"groupInfo": GROUP}, MessageKind.OTHER),
        ({}, MessageKind.OTHER),
    ],
)
def test_a_data_message_that_could_be_two_kinds(fields: dict[str, Any], kind: MessageKind) -> None:
    assert receive(frame({"dataMessage": data(**fields)})).kind is kind


# --- who, when, where to ---


@pytest.mark.parametrize(
    ("source", "sender"),
    [
        ({}, PEER),
        ({"sourceNumber": None}, PEER_UUID),
        ({"sourceNumber": None, "sourceUuid": None, "source": OTHER}, OTHER),
        ({"sourceNumber": "", "sourceUuid": "", "source": OTHER}, OTHER),
        ({"sourceNumber": None, "sourceUuid": None, "source": None}, None),
    ],
)
def test_the_sender_is_the_best_name_that_is_told(source: dict[str, Any], sender: str | None) -> None:
    value = frame({"dataMessage": data(message="hi")})
    value["envelope"].update(source)
    message = receive(value)
    assert message.sender == sender
    assert message.reply_to == (sender or "")


@pytest.mark.parametrize("name", ["ada", "+1 555", "group.", "../x", "a" * 5_000])
def test_a_sender_that_is_no_address_cannot_be_answered(name: str) -> None:
    value = frame({"dataMessage": data(message="hi")})
    value["envelope"].update(sourceNumber=name)
    message = receive(value)
    assert (message.sender, message.reply_to) == (name, "")


def sent(**fields: Any) -> dict[str, Any]:
    return {"syncMessage": {"sentMessage": {**DESTINATION, **fields}}}


NO_NUMBER = {"destinationNumber": None}
NO_UUID = {"destinationUuid": None}
NOWHERE = {"destination": None, **NO_NUMBER, **NO_UUID}
NO_GROUP_ID = GROUP | {"groupId": None}
TO_SELF = {"destination": ACCOUNT, "destinationNumber": ACCOUNT, "destinationUuid": ACCOUNT_UUID}


@pytest.mark.parametrize(
    ("content", "reply_to"),
    [
        ({"dataMessage": data(message="hi")}, PEER),
        ({"dataMessage": data(message="hi", groupInfo=GROUP)}, GROUP_RECIPIENT),
        ({"dataMessage": data(message="hi", groupInfo=NO_GROUP_ID)}, ""),
        ({"dataMessage": data(message="hi", groupInfo="a group in a form of the future")}, ""),
        ({"dataMessage": data(message="hi", groupInfo=None)}, PEER),
        ({"editMessage": {"targetSentTimestamp": 1, "dataMessage": data(message="hi")}}, PEER),
        ({"editMessage": EDIT}, GROUP_RECIPIENT),
        ({"editMessage": {"targetSentTimestamp": 1, "dataMessage": None}}, ""),
        (sent(**data(message="hi")), OTHER),
        (sent(**data(message="hi"), **NO_NUMBER), OTHER_UUID),
        (sent(**data(message="hi"), **NO_NUMBER, **NO_UUID), OTHER),
        (sent(**data(message="hi"), **NOWHERE), ""),
        (sent(**data(message="hi"), **TO_SELF), ACCOUNT),
        (sent(**data(message="hi", groupInfo=GROUP), **NOWHERE), GROUP_RECIPIENT),
        (sent(**data(message="hi", groupInfo=NO_GROUP_ID)), ""),
        (sent(**data(message="hi", groupInfo=7)), ""),
        (sent(editMessage={"targetSentTimestamp": 1, "dataMessage": data(message="hi")}), OTHER),
        (sent(editMessage=EDIT, **NOWHERE), GROUP_RECIPIENT),
        (sent(), OTHER),
        (SHAPES["own story"][1], GROUP_RECIPIENT),
        ({"syncMessage": {"sentStoryMessage": {"destinationNumber": OTHER}}}, OTHER),
        ({"syncMessage": {"sentStoryMessage": {"destinationUuid": OTHER_UUID}}}, OTHER_UUID),
        ({"syncMessage": {"readMessages": []}}, ""),
        ({"syncMessage": {}}, ""),
        ({"typingMessage": {"action": "STARTED"}}, PEER),
        (SHAPES["typing"][1], GROUP_RECIPIENT),
        (SHAPES["receipt"][1], PEER),
        (SHAPES["call"][1], PEER),
        (SHAPES["story"][1], GROUP_RECIPIENT),
        ({"storyMessage": {"allowsReplies": True}}, PEER),
        ({}, ""),
    ],
)
def test_where_an_answer_goes(content: dict[str, Any], reply_to: str) -> None:
    assert receive(frame(content)).reply_to == reply_to


def test_what_is_sent_to_oneself_without_a_sync_message_is_from_self() -> None:
    value = frame({"dataMessage": data(message="note")})
    value["envelope"].update(source=ACCOUNT, sourceNumber=ACCOUNT, sourceUuid=ACCOUNT_UUID)
    message = receive(value)
    assert message.from_self
    assert message.reply_to == ACCOUNT
    assert receive(value | {"account": ACCOUNT_UUID}).from_self
    assert not receive(value | {"account": None}).from_self


def test_an_unnamed_sender_is_not_an_unnamed_account() -> None:
    value = frame({"dataMessage": data(message="hi")}, account=None)
    value["envelope"].update(source=None, sourceNumber=None, sourceUuid=None)
    assert not receive(value).from_self


@pytest.mark.parametrize(
    ("content", "text", "timestamp"),
    [
        ({"dataMessage": data(message="hi", timestamp=5)}, "hi", 5),
        ({"dataMessage": data(message="hi", timestamp=None)}, "hi", T),
        (
            {"editMessage": {"targetSentTimestamp": 1, "dataMessage": data(message="new", timestamp=6)}},
            "new",
            6,
        ),
        (sent(**data(message="mine", timestamp=7)), "mine", 7),
        (
            sent(editMessage={"targetSentTimestamp": 1, "dataMessage": data(message="new", timestamp=8)}),
            "new",
            8,
        ),
        (sent(), None, T),
        ({"typingMessage": {"action": "STOPPED", "timestamp": 9}}, None, T),
    ],
)
def test_text_and_timestamp(content: dict[str, Any], text: str | None, timestamp: int) -> None:
    message = receive(frame(content))
    assert (message.text, message.timestamp) == (text, timestamp)


# --- duplicates ---


def key(content: dict[str, Any], **envelope: Any) -> tuple[str | int | bytes | None, ...] | None:
    value = frame(content)
    value["envelope"].update(envelope)
    return receive(value).duplicate_key


def test_a_place_told_beside_a_message_is_part_of_its_key() -> None:
    """No signal-cli sends two contents in one envelope; the group that one names counts for the whole."""
    both = {
        "sourceUuid": PEER_UUID,
        "dataMessage": {"timestamp": T, "message": "hi"},
        "typingMessage": {"action": "STARTED", "timestamp": T, "groupId": GROUP_ID},
    }
    message = receive({"envelope": both, "account": ACCOUNT})
    assert message.duplicate_key == (ACCOUNT, PEER_UUID, None, T, "message", GROUP_ID)


@pytest.mark.threat("T2")
@pytest.mark.parametrize("field", ["sourceUuid", "sourceNumber", "source"])
def test_a_key_of_very_long_names_is_short_and_as_good(field: str) -> None:
    """Thousands of keys are remembered, and a frame may have megabytes."""
    message = {"timestamp": T, "message": "hi"}
    names = ["x" * 1_000_000, "x" * 999_999 + "y", "x" * 3000, "ä" * 3000]
    keys = [receive({"envelope": {field: name, "dataMessage": message}}).duplicate_key for name in names]
    assert len(set(keys)) == len(names)
    assert all(len(repr(key)) < 200 for key in keys)
    # A copy that is longer for another reason, or shorter, has the same.
    copies = [
        {"envelope": {field: "x" * 1900, "dataMessage": message | {"message": text}}}
        for text in ("hi", "hi" * 5000)
    ]
    short, long = (receive(copy).duplicate_key for copy in copies)
    assert short == long is not None
    call = {"envelope": {field: "x" * 3000, "callMessage": {"offerMessage": {"id": 1}}, "timestamp": T}}
    assert len(repr(receive(call).duplicate_key)) < 200


@pytest.mark.threat("T2")
@pytest.mark.parametrize(("length", "is_kept"), [(2048, True), (2049, False)])
def test_which_key_is_too_long_to_be_kept_as_it_is(length: int, is_kept: bool) -> None:
    name = "x" * (length - len("message"))
    message = {"sourceUuid": name, "dataMessage": {"timestamp": T, "message": "hi"}}
    key = receive({"envelope": message}).duplicate_key
    assert key is not None
    assert (name in key) is is_kept


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.contract("R6")
def test_copies_of_a_message_have_one_key(name: str) -> None:
    content = SHAPES[name][1]
    first = key(content)
    assert first is not None
    assert first[:5] == (
        ACCOUNT,
        ACCOUNT_UUID if "syncMessage" in content else PEER_UUID,
        2 if "syncMessage" in content else 1,
        T,
        SHAPES[name][0].value,
    )
    assert key(content, serverDeliveredTimestamp=T + 99, sourceName="Ada L.", futureField=[1]) == first


@pytest.mark.contract("R6")
def test_different_messages_have_different_keys() -> None:
    text = {"dataMessage": data(message="hi")}
    receipt: dict[str, Any] = SHAPES["receipt"][1]["receiptMessage"]
    keys = [
        key(text),
        key({"dataMessage": data(message="hi", timestamp=T + 1)}),
        key({"dataMessage": data(message="hi", groupInfo=GROUP)}),
        key({"dataMessage": data(message="hi", groupInfo=GROUP | {"groupId": "b3RoZXI="})}),
        key({"editMessage": {"targetSentTimestamp": 1, "dataMessage": data(message="hi")}}),
        key(text, sourceUuid=OTHER_UUID),
        key(text, sourceUuid=None),
        key(text, sourceDevice=3),
        receive(frame(text) | {"account": OTHER}).duplicate_key,
        receive(frame({}, exception={"message": None, "type": "UntrustedIdentityException"})).duplicate_key,
        key(sent(**data(message="hi"))),
        key(sent(**data(message="hi"), **TO_SELF)),
        key({"receiptMessage": receipt}),
        key({"receiptMessage": receipt | {"isRead": True}}),
        key({"receiptMessage": receipt | {"timestamps": [EARLIER]}}),
        key({"typingMessage": {"action": "STARTED", "timestamp": T}}),
        key({"typingMessage": {"action": "STOPPED", "timestamp": T}}),
        key({"callMessage": {"offerMessage": {"id": 1}}}),
        key({"callMessage": {"iceUpdateMessages": [{"id": 1}]}}),
        key({"syncMessage": {"type": "CONTACTS_SYNC"}}),
        key({"syncMessage": {"type": "GROUPS_SYNC"}}),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


@pytest.mark.contract("R6")
def test_many_receipts_at_one_time_have_different_keys() -> None:
    receipts = [{"when": T, "isRead": True, "timestamps": [EARLIER + n]} for n in range(2000)]
    assert len({key({"receiptMessage": receipt}) for receipt in receipts}) == len(receipts)


@pytest.mark.contract("R6")
def test_no_key_without_sender_or_timestamp() -> None:
    text = {"dataMessage": data(message="hi")}
    nobody = {"source": None, "sourceNumber": None, "sourceUuid": None}
    assert key(text, **nobody) is None
    assert key({"dataMessage": data(message="hi", timestamp=None)}, timestamp=None) is None
    assert key(text, **nobody | {"source": OTHER}) is not None


# --- exceptions and what is no message ---


@pytest.mark.parametrize("told", [{}, {"message": None, "type": "ProtocolNoSessionException"}])
@pytest.mark.contract("R6", "R7")
def test_an_exception_is_a_message_of_its_own(told: dict[str, Any]) -> None:
    message = receive(frame({}, exception=told))
    assert message.kind is MessageKind.EXCEPTION
    assert message.exception is not None
    assert message.exception.type == told.get("type")
    assert (message.sender, message.text, message.data, message.reply_to) == (PEER, None, None, "")
    decrypted = receive(frame({"dataMessage": data(message="hi")}))
    assert message.duplicate_key != decrypted.duplicate_key


@pytest.mark.contract("R7")
def test_an_exception_beside_a_content_hides_nothing() -> None:
    message = receive(frame({"dataMessage": data(message="hi")}, exception={"type": "SomeException"}))
    assert (message.kind, message.text, message.reply_to) == (MessageKind.EXCEPTION, "hi", PEER)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"\xff": 1, "envelope": 1}', "not UTF-8"),
        (b'{"envelope":' + b"[" * 200_000, "nested too deeply"),
        (b'{"envelope":' + b'{"a":' * 200_000, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b'[{"envelope": {}}]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"12", "not a JSON object"),
        (b'"secret"', "not a JSON object"),
        (b"{}", "no envelope object"),
        (b'{"account": "+1", "exception": {"type": "E"}}', "no envelope object"),
        (b'{"envelope": null}', "no envelope object"),
        (b'{"envelope": "secret"}', "no envelope object"),
        (b'{"envelope": [{}]}', "no envelope object"),
        (b'{"error": {"secret": 1}}', "no envelope object"),
        (b'{"error": "secret"}', "an error frame"),
        (b'{"error": "", "envelope": null}', "an error frame"),
    ],
    ids=lambda value: repr(value[:24]),
)
@pytest.mark.contract("R7")
def test_what_is_no_message_is_kept_raw(raw: bytes, reason: str) -> None:
    result = undecodable(raw)
    assert (result.raw, result.reason) == (raw, reason)
    assert repr(result) == f"<Undecodable {reason}, {len(raw)} bytes>"
    assert result.__rich_repr__() == [("reason", reason), ("size", len(raw))]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"{",
        b"{} {}",
        b'{"a": NaN}',
        b"s3cret",
        b'{"s3cret',
        b'{"envelope": {"s3cret" "s3cret"}}',
    ],
)
@pytest.mark.contract("R7")
def test_what_is_no_json_is_kept_raw(raw: bytes) -> None:
    result = undecodable(raw)
    assert result.raw == raw
    assert result.reason.startswith("not JSON: ")
    assert "s3cret" not in result.reason


@pytest.mark.contract("R7")
def test_an_error_frame_gives_the_gateways_words() -> None:
    assert undecodable('{"error": "daemon says no"}').error == "daemon says no"
    assert undecodable('{"error": 5}').error is None
    assert receive(frame({"dataMessage": data(message="hi")}, error="too")).text == "hi"


@pytest.mark.parametrize("place", ["message", "groupInfo", "quote", "attachments", "contacts", "future"])
@pytest.mark.contract("R7")
def test_no_depth_of_nesting_raises(place: str) -> None:
    """Around the limit too, which differs between releases of Python."""
    results: set[type] = set()
    for depth in range(sys.getrecursionlimit() + 20):
        deep = b"[" * depth + b"1" + b"]" * depth
        field = b'"viewOnce": false, "%b": %b' % (place.encode(), deep)
        results.add(type(decode_frame(RECORDED_TEXT.replace(b'"viewOnce": false', field))))
    assert ReceivedMessage in results


@pytest.mark.contract("R7")
def test_deep_nesting_in_a_field_costs_the_frame_but_raises_nothing() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert undecodable(RECORDED_TEXT.replace(b'"hello"', deep)).reason == "nested too deeply"


# --- whatever comes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    sorted({str(path[-1]) for _, content in SHAPES.values() for path in nodes(content)} - {"0", "1"})
)
FAMILIAR = st.recursive(
    JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)


def check_whatever(raw: bytes | str) -> None:
    result = decode_frame(raw)
    assert result.raw == (raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))
    if isinstance(result, ReceivedMessage):
        read_all(result)


@given(st.binary() | st.text(st.characters()))
@example("\ud800")
@example('{"envelope": {"sourceName": "\ud800"}}')
@example(b'{"envelope": {"sourceName": "\\ud800"}}')
@pytest.mark.contract("R7")
def test_any_bytes_and_any_text(raw: bytes | str) -> None:
    check_whatever(raw)


@given(JSON)
@pytest.mark.contract("R7")
def test_any_json(value: Any) -> None:
    check_whatever(json.dumps(value))


@given(st.dictionaries(NAMES, FAMILIAR), FAMILIAR, FAMILIAR)
@pytest.mark.contract("R7")
def test_every_object_with_an_envelope_is_a_message(
    envelope: dict[str, Any], account: Any, exception: Any
) -> None:
    message = receive({"envelope": envelope, "account": account, "exception": exception})
    read_all(message)


@given(st.sampled_from(sorted(SHAPES)), st.data())
@pytest.mark.contract("R7")
def test_any_mutations_of_any_shape(name: str, choose: st.DataObject) -> None:
    value = frame(SHAPES[name][1])
    for _ in range(choose.draw(st.integers(1, 5))):
        places = [path for path in nodes(value) if path != ("envelope",)]
        path = choose.draw(st.sampled_from(places))
        mutate(value, path, choose.draw(st.just(DELETE) | st.sampled_from(JUNK) | JSON))
    read_all(receive(value))


@pytest.mark.threat("T1")
@given(st.sampled_from(sorted(SHAPES)), st.data())
@pytest.mark.contract("R7")
def test_any_damage_to_the_bytes_of_any_shape(name: str, choose: st.DataObject) -> None:
    raw = bytearray(msgspec.json.encode(frame(SHAPES[name][1])))
    for _ in range(choose.draw(st.integers(1, 4))):
        start = choose.draw(st.integers(0, len(raw)))
        raw[start : start + choose.draw(st.integers(0, 3))] = choose.draw(st.binary(max_size=3))
    check_whatever(bytes(raw))


# --- immutable, comparable, silent ---


def test_messages_are_immutable_hashable_and_picklable() -> None:
    message = receive(frame(SHAPES["text to a group, with everything"][1]))
    with pytest.raises(AttributeError):
        message.account = "+1"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError):
        message.envelope.timestamp = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError):
        undecodable(b"").reason = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    again = pickle.loads(pickle.dumps(message))  # noqa: S301
    assert again == message
    assert not again != message  # noqa: SIM202
    assert not message == receive(frame({}))  # noqa: SIM201
    assert again.envelope == message.envelope
    assert len({message, again, receive(frame({}))}) == 2
    assert message != receive(frame({}))
    assert message != message.raw


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from strings(inner)


def hide(value: Any) -> Any:
    """Put a secret into every text of a content; names of kinds and actions would change what it is."""
    if isinstance(value, dict):
        return {key: hide(inner) if key not in {"type", "groupId"} else inner for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [hide(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return "s3cret" if isinstance(value, str) else value


@pytest.mark.parametrize("name", SHAPES)
def test_no_repr_shows_content(name: str) -> None:
    kind, content = SHAPES[name]
    message = receive(frame(hide(content)))
    assert repr(message) == f"<ReceivedMessage {kind} from {message.sender} at {T}>"
    assert message.__rich_repr__() == [("kind", kind), ("sender", message.sender), ("timestamp", T)]
    shown = [repr(message), str(message), repr(message.envelope), repr(message.envelope.__rich_repr__())]
    shown += [
        repr(getattr(message, part)) for part in ("data", "attachments", "quote", "story", "poll_create")
    ]
    assert "s3cret" not in " ".join(shown)


def test_the_repr_of_a_shape_names_the_fields_that_are_set() -> None:
    assert repr(DataMessage(timestamp=1, message="hi")) == "DataMessage(timestamp, message)"
    assert Envelope(source="+1").__rich_repr__() == [("source", "…")]


def test_the_repr_of_an_undecodable_frame_shows_no_words_of_the_gateway() -> None:
    assert "s3cret" not in repr(undecodable('{"error": "s3cret"}'))


# --- groups and UTF-16 ---


def test_a_group_as_recipient_and_back() -> None:
    assert group_recipient(GROUP_ID) == GROUP_RECIPIENT
    assert group_internal_id(GROUP_RECIPIENT) == GROUP_ID
    assert GroupInfo(name="Team").recipient is None
    assert GroupInfo(id="").recipient is None


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_group_recipients_lose_nothing(internal_id: str) -> None:
    assert group_internal_id(group_recipient(internal_id)) == internal_id


@pytest.mark.parametrize(
    "wrong",
    ["", "group", "group.", "group.!!!", "group.YQ", "YQ==", "x.YQ==", "group.Y!Q==", "group./w==", PEER],
)
def test_what_is_no_group_recipient(wrong: str) -> None:
    with pytest.raises(ValueError, match="a group recipient is"):
        group_internal_id(wrong)


@pytest.mark.parametrize(
    ("start", "length", "wanted"),
    [
        (0, 2, "👋"),
        (2, 3, " hi"),
        (3, 2, "hi"),
        (0, 99, "👋 hi"),
        (9, 2, ""),
        (-3, 2, ""),
        (-3, 5, "👋"),
        (3, 0, ""),
        (3, -2, ""),
        (0, 1, "\ufffd"),
        (1, 2, "\ufffd "),
    ],
)
def test_offsets_count_utf16_units(start: int, length: int, wanted: str) -> None:
    assert utf16_slice("👋 hi", start, length) == wanted


@given(st.text(st.characters()), st.integers(), st.integers())
def test_no_offset_raises(text: str, start: int, length: int) -> None:
    assert isinstance(utf16_slice(text, start, length), str)


@given(
    st.lists(
        st.sampled_from(
            [
                RECORDED_TEXT,
                b"{}",
                b'{"error": "none"}',
                b"[1]",
                b"no JSON",
                b'{"envelope": {"timestamp": "5"}}',
                b'{"account": null, "envelope": {}, "raw": "aGVsbG8="}',
                b'{"account": "a", "envelope": {}, "raw": 5}',
                b'{"account": "a", "envelope": null, "exception": {}}',
                b'{"account": "a", "envelope": {}, "error": "none"}',
            ]
        ),
        max_size=6,
    )
)
def test_frames_that_come_in_one_are_what_each_of_them_is(frames: list[bytes]) -> None:
    together, alone = decode_frames(frames), [decode_frame(frame) for frame in frames]
    assert msgspec.json.encode(together) == msgspec.json.encode(alone)
    assert [event.raw for event in together] == frames

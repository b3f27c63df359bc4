"""Envelopes as signal-cli builds them, to deliver from a fake gateway or to feed to a decoder.

Each function returns a plain dict with the keys in signal-cli's order and every key that it always writes. A
``timestamp`` left out is None in it; `FakeGateway.deliver` puts a fresh one in, and so does `stamped`.

Versions of signal-cli differ in a few fields: `in_version` gives an envelope the form of another one.

Timestamps are milliseconds since the epoch. Senders and authors are phone numbers; their UUID comes from
`uuid_of`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from . import _envelope_versions

Envelope = dict[str, Any]
EnvelopeVersion: TypeAlias = _envelope_versions.EnvelopeVersion
in_version = _envelope_versions.in_version

PEER = "+15550002"
"""Who sends when nothing else is said."""

_OWN_STAMPS = {"timestamp": 0, "when": 0, "serverReceivedTimestamp": 1, "serverDeliveredTimestamp": 2}


def uuid_of(number: str) -> str:
    """Return the UUID that the builders give to ``number``: the same one each time."""
    digits = "".join(character for character in number if character.isdecimal())
    return f"00000000-0000-4000-8000-{digits.removeprefix('1555')[-12:]:0>12}"


def stamped(envelope: Mapping[str, Any], timestamp: int) -> Envelope:
    """Return a copy of ``envelope`` with ``timestamp`` wherever its own timestamp was left out."""
    return {key: _stamped(key, value, timestamp) for key, value in envelope.items()}


def envelope(
    *,
    sender: str = PEER,
    name: str = "Peer User",
    device: int = 1,
    timestamp: int | None = None,
    **content: Any,
) -> Envelope:
    """Build an envelope around ``content``: ``dataMessage=…``, ``typingMessage=…``, or none."""
    return {
        "source": sender,
        "sourceNumber": sender,
        "sourceUuid": uuid_of(sender),
        "sourceName": name,
        "sourceDevice": device,
        "timestamp": timestamp,
        "serverReceivedTimestamp": None if timestamp is None else timestamp + 1,
        "serverDeliveredTimestamp": None if timestamp is None else timestamp + 2,
        **content,
    }


def data_message(
    message: str | None = None, *, timestamp: int | None = None, group: str | None = None, **more: Any
) -> dict[str, Any]:
    """Build the ``dataMessage`` part: ``group`` is a group's internal id (base64), ``more`` other fields."""
    content: dict[str, Any] = {
        "timestamp": timestamp,
        "message": message,
        "expiresInSeconds": 0,
        "isExpirationUpdate": False,
        "viewOnce": False,
        **more,
    }
    if group is not None:
        content["groupInfo"] = {"groupId": group, "groupName": "Group", "revision": 1, "type": "DELIVER"}
    return content


def text(
    message: str | None = "hi",
    *,
    sender: str = PEER,
    group: str | None = None,
    timestamp: int | None = None,
    **more: Any,
) -> Envelope:
    """Build a text message; ``more`` are other fields of the data message, such as `quote_of` makes."""
    content = data_message(message, timestamp=timestamp, group=group, **more)
    return envelope(sender=sender, timestamp=timestamp, dataMessage=content)


def mention(message: str, number: str, *, start: int, length: int = 1, **more: Any) -> Envelope:
    """Build a text that mentions ``number`` (at UTF-16 offset ``start``, where the text has U+FFFC)."""
    mentioned = {"name": number, "number": number, "uuid": uuid_of(number), "start": start, "length": length}
    return text(message, mentions=[mentioned], **more)


def styled(message: str, *styles: tuple[str, int, int], **more: Any) -> Envelope:
    """Build a text with ``styles``: (``"BOLD"`` and so on, start, length), in UTF-16 code units."""
    spans = [{"style": style, "start": start, "length": length} for style, start, length in styles]
    return text(message, textStyles=spans, **more)


def attachment(
    attachment_id: str | None = "picture.jpg",
    *,
    content_type: str = "image/jpeg",
    filename: str | None = None,
    size: int | None = 12345,
    **more: Any,
) -> dict[str, Any]:
    """Build one attachment, for ``attachments=[…]``; the id is the key of GET /v1/attachments/{id}."""
    return {
        "contentType": content_type,
        "filename": filename,
        "id": attachment_id,
        "size": size,
        "width": None,
        "height": None,
        "caption": None,
        "uploadTimestamp": None,
        **more,
    }


def with_attachments(*attachments: Mapping[str, Any], message: str | None = None, **more: Any) -> Envelope:
    """Build a message with ``attachments`` (default: one `attachment`)."""
    return text(message, attachments=[dict(each) for each in attachments] or [attachment()], **more)


def quote_of(timestamp: int, author: str = PEER, message: str | None = "hi") -> dict[str, Any]:
    """Build a quote of the message that ``author`` sent at ``timestamp``, for ``quote=…``."""
    return {"id": timestamp, **_person("author", author), "text": message, "attachments": []}


def quote(
    message: str, timestamp: int, *, author: str = PEER, quoted: str | None = "hi", **more: Any
) -> Envelope:
    """Build a reply to the message that ``author`` sent at ``timestamp``."""
    return text(message, quote=quote_of(timestamp, author, quoted), **more)


def reaction(emoji: str, target: int, *, author: str = PEER, remove: bool = False, **more: Any) -> Envelope:
    """Build a reaction to the message that ``author`` sent at ``target``."""
    content = {
        "emoji": emoji,
        **_person("targetAuthor", author),
        "targetSentTimestamp": target,
        "isRemove": remove,
    }
    return text(None, reaction=content, **more)


def remote_delete(target: int, *, renamed: bool = False, **more: Any) -> Envelope:
    """Build the deletion of the sender's message of ``target``; ``renamed`` adds the key new in 0.14.9."""
    content = {"timestamp": target} | ({"targetTimestamp": target} if renamed else {})
    return text(None, remoteDelete=content, **more)


def admin_delete(target: int, *, author: str = PEER, group: str, **more: Any) -> Envelope:
    """Build a group administrator's deletion of the message that ``author`` sent at ``target``."""
    content = {**_person("targetAuthor", author), "targetSentTimestamp": target}
    return text(None, group=group, adminDelete=content, **more)


def sticker(pack_id: str = "00aa", sticker_id: int = 1, **more: Any) -> Envelope:
    """Build a sticker."""
    return text(None, sticker={"packId": pack_id, "stickerId": sticker_id}, **more)


def group_update(group: str, *, name: str | None = "Group", revision: int = 2, **more: Any) -> Envelope:
    """Build the message that tells of a change of a group."""
    info = {"groupId": group, "groupName": name, "revision": revision, "type": "UPDATE"}
    return text(None, groupInfo=info, **more)


def group_call(era_id: str, *, group: str, **more: Any) -> Envelope:
    """Build the message that tells of a group's call (new in 0.14.9)."""
    return text(None, group=group, groupCallUpdate={"eraId": era_id}, **more)


def poll(question: str, *options: str, multiple: bool = True, **more: Any) -> Envelope:
    """Build the start of a poll."""
    return text(
        None, pollCreate={"question": question, "allowMultiple": multiple, "options": list(options)}, **more
    )


def poll_vote(target: int, *indexes: int, author: str = PEER, count: int = 1, **more: Any) -> Envelope:
    """Build a vote (options counted from 0) in the poll that ``author`` started at ``target``."""
    content = {
        **_person("author", author),
        "targetSentTimestamp": target,
        "optionIndexes": list(indexes),
        "voteCount": count,
    }
    return text(None, pollVote=content, **more)


def poll_terminate(target: int, **more: Any) -> Envelope:
    """Build the end of the poll of ``target``."""
    return text(None, pollTerminate={"targetSentTimestamp": target}, **more)


def pin(target: int, *, author: str = PEER, duration: int = -1, **more: Any) -> Envelope:
    """Build the pinning of a message for ``duration`` seconds (-1: for ever)."""
    content = {
        **_person("targetAuthor", author),
        "targetSentTimestamp": target,
        "pinDurationSeconds": duration,
    }
    return text(None, pinMessage=content, **more)


def unpin(target: int, *, author: str = PEER, **more: Any) -> Envelope:
    """Build the end of a pinning."""
    content = {**_person("targetAuthor", author), "targetSentTimestamp": target}
    return text(None, unpinMessage=content, **more)


def edit(
    message: str,
    target: int,
    *,
    sender: str = PEER,
    group: str | None = None,
    timestamp: int | None = None,
    **more: Any,
) -> Envelope:
    """Build an edit of the sender's message of ``target``."""
    content = {
        "targetSentTimestamp": target,
        "dataMessage": data_message(message, timestamp=timestamp, group=group, **more),
    }
    return envelope(sender=sender, timestamp=timestamp, editMessage=content)


def receipt(
    *timestamps: int,
    kind: str = "delivery",
    sender: str = PEER,
    when: int | None = None,
    timestamp: int | None = None,
) -> Envelope:
    """Build a receipt for our messages of ``timestamps``; ``kind``: delivery, read, viewed, or any other."""
    content = {
        "when": when if when is not None else timestamp,
        "isDelivery": kind == "delivery",
        "isRead": kind == "read",
        "isViewed": kind == "viewed",
        "timestamps": list(timestamps),
    }
    return envelope(sender=sender, timestamp=timestamp, receiptMessage=content)


def typing(
    action: str = "STARTED", *, sender: str = PEER, group: str | None = None, timestamp: int | None = None
) -> Envelope:
    """Build a typing notice: ``"STARTED"`` or ``"STOPPED"``."""
    content: dict[str, Any] = {"action": action, "timestamp": timestamp}
    if group is not None:
        content["groupId"] = group
    return envelope(sender=sender, timestamp=timestamp, typingMessage=content)


def sync(*, account: str, device: int = 2, timestamp: int | None = None, **content: Any) -> Envelope:
    """Build a sync message of another device: ``readMessages=[…]``, ``type="CONTACTS_SYNC"``, or nothing."""
    return envelope(sender=account, name="Own Name", device=device, timestamp=timestamp, syncMessage=content)


def sync_sent(
    message: str | None = "hi",
    *,
    account: str,
    recipient: str | None = PEER,
    group: str | None = None,
    timestamp: int | None = None,
    device: int = 2,
    **more: Any,
) -> Envelope:
    """Build the notice that another device of ``account`` sent to ``recipient``, or to ``group``."""
    to = None if group is not None else recipient
    sent = {
        "destination": to,
        "destinationNumber": to,
        "destinationUuid": None if to is None else uuid_of(to),
        **data_message(message, timestamp=timestamp, group=group, **more),
    }
    return sync(account=account, device=device, timestamp=timestamp, sentMessage=sent)


def sync_edit(
    message: str, target: int, *, account: str, recipient: str = PEER, timestamp: int | None = None
) -> Envelope:
    """Build the notice that another device of ``account`` edited its message of ``target``."""
    sent = {
        "destination": recipient,
        "destinationNumber": recipient,
        "destinationUuid": uuid_of(recipient),
        "editMessage": {
            "targetSentTimestamp": target,
            "dataMessage": data_message(message, timestamp=timestamp),
        },
    }
    return sync(account=account, timestamp=timestamp, sentMessage=sent)


def call(
    *,
    call_id: int = 1,
    kind: str = "AUDIO_CALL",
    sender: str = PEER,
    timestamp: int | None = None,
    **other: Any,
) -> Envelope:
    """Build a call: an offer, or what is given instead, such as ``hangupMessage={…}``."""
    content = other or {"offerMessage": {"id": call_id, "type": kind, "opaque": "AAAA"}}
    return envelope(sender=sender, timestamp=timestamp, callMessage=content)


def story(
    message: str | None = "story",
    *,
    file: Mapping[str, Any] | None = None,
    group: str | None = None,
    sender: str = PEER,
    timestamp: int | None = None,
) -> Envelope:
    """Build a story: a text, or a ``file`` (an `attachment`)."""
    content: dict[str, Any] = {"allowsReplies": True}
    if group is not None:
        content["groupId"] = group
    if file is not None:
        content["fileAttachment"] = dict(file)
    else:
        content["textAttachment"] = {"text": message, "style": "DEFAULT", "backgroundColor": "#000000"}
    return envelope(sender=sender, timestamp=timestamp, storyMessage=content)


def _person(key: str, number: str) -> dict[str, Any]:
    return {key: number, f"{key}Number": number, f"{key}Uuid": uuid_of(number)}


def _stamped(key: str, value: Any, timestamp: int) -> Any:
    if isinstance(value, dict):
        return stamped(cast(Envelope, value), timestamp)
    if value is None and key in _OWN_STAMPS:
        return timestamp + _OWN_STAMPS[key]
    return value

"""The shapes that signal-cli sends, as typed, frozen structs, and how a group is named as a recipient.

The shapes are those of signal-cli 0.13 and 0.14 (the records of its `org.asamk.signal.json`), which both
gateways pass on unchanged. Releases add fields, rename them and leave them out, so every field may be missing
or null here, and unknown ones are ignored.

- Times are milliseconds since the epoch; a `timestamp` is by the sender's clock, and a message's id.
- `start` and `length` count UTF-16 code units.
- `author`, `source`, `destination`, `sender`, `target_author` and a mention's `name` are legacy identifiers,
  a number or a UUID: prefer the `…_number` and `…_uuid` beside them.
"""

import base64
import binascii

import msgspec


# gc=False: frozen trees decoded from JSON hold no cycles, and the collector need not walk a full inbox.
class Wire(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Base of all shapes. Its repr names the fields that are set, not their content: texts belong in no log.

    To look inside while debugging use `msgspec.to_builtins()`.
    """

    def __repr__(self) -> str:
        """Name the type and the fields that are set, without their values."""
        return f"{type(self).__name__}({', '.join(name for name, _ in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """Tell rich, whose tracebacks show locals through this, no more than `repr()` tells."""
        return [(name, "…") for name in self.__struct_fields__ if getattr(self, name) is not None]


class GroupInfo(Wire, frozen=True):
    """The group that a message belongs to. `type` is `"DELIVER"` or `"UPDATE"` (the group itself changed)."""

    id: str | None = msgspec.field(default=None, name="groupId")
    name: str | None = msgspec.field(default=None, name="groupName")
    revision: int | None = None
    type: str | None = None

    @property
    def recipient(self) -> str | None:
        """The group as a recipient for `send_message()`; None when the group's id is not known."""
        return group_recipient(self.id) if self.id else None


class Attachment(Wire, frozen=True):
    """A file of `size` bytes; `GET /v1/attachments/{id}` gives it. `is_voice_note` came after 0.14.6."""

    content_type: str | None = None
    filename: str | None = None
    id: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    caption: str | None = None
    upload_timestamp: int | None = None
    is_voice_note: bool | None = None


class Mention(Wire, frozen=True):
    """A person named in a text, which holds U+FFFC in that place."""

    name: str | None = None
    number: str | None = None
    uuid: str | None = None
    start: int | None = None
    length: int | None = None


class TextStyle(Wire, frozen=True):
    """A part of a text that is BOLD, ITALIC, SPOILER, STRIKETHROUGH or MONOSPACE."""

    style: str | None = None
    start: int | None = None
    length: int | None = None


class Preview(Wire, frozen=True):
    """A preview of a link."""

    url: str | None = None
    title: str | None = None
    description: str | None = None
    image: Attachment | None = None


class QuotedAttachment(Wire, frozen=True):
    """A file of a quoted message."""

    content_type: str | None = None
    filename: str | None = None
    thumbnail: Attachment | None = None


class Quote(Wire, frozen=True):
    """The message that this one answers; `id` is its timestamp."""

    id: int | None = None
    author: str | None = None
    author_number: str | None = None
    author_uuid: str | None = None
    text: str | None = None
    mentions: tuple[Mention, ...] | None = None
    attachments: tuple[QuotedAttachment, ...] | None = None
    text_styles: tuple[TextStyle, ...] | None = None


class Target(Wire, frozen=True):
    """Another message, by its author and timestamp."""

    target_author: str | None = None
    target_author_number: str | None = None
    target_author_uuid: str | None = None
    target_sent_timestamp: int | None = None


class Reaction(Target, frozen=True):
    """An emoji put on the target, or taken off it again (`is_remove`)."""

    emoji: str | None = None
    is_remove: bool | None = None


class AdminDelete(Target, frozen=True):
    """An administrator of the group deleted the target for everybody."""


class PinMessage(Target, frozen=True):
    """The target was pinned."""

    pin_duration_seconds: int | None = None


class UnpinMessage(Target, frozen=True):
    """The target is no longer pinned."""


class RemoteDelete(Wire, frozen=True):
    """The author deleted a message for everybody. From 0.14.9 on `timestamp` is named `target_timestamp`."""

    timestamp: int | None = None
    target_timestamp: int | None = None

    @property
    def target_sent_timestamp(self) -> int | None:
        """The timestamp of the deleted message, whichever name it came under."""
        return self.timestamp if self.target_timestamp is None else self.target_timestamp


class Sticker(Wire, frozen=True):
    """A sticker; `pack_id` is hexadecimal."""

    pack_id: str | None = None
    sticker_id: int | None = None


class Payment(Wire, frozen=True):
    """A payment notice; `receipt` is base64."""

    note: str | None = None
    receipt: str | None = None


class PollCreate(Wire, frozen=True):
    """A new poll. Its message's timestamp is the poll's id."""

    question: str | None = None
    allow_multiple: bool | None = None
    options: tuple[str, ...] | None = None


class PollVote(Wire, frozen=True):
    """A vote; `option_indexes` count from 0."""

    author: str | None = None
    author_number: str | None = None
    author_uuid: str | None = None
    target_sent_timestamp: int | None = None
    option_indexes: tuple[int, ...] | None = None
    vote_count: int | None = None


class PollTerminate(Wire, frozen=True):
    """A poll was closed."""

    target_sent_timestamp: int | None = None


class StoryContext(Wire, frozen=True):
    """The story that a message answers."""

    author_number: str | None = None
    author_uuid: str | None = None
    sent_timestamp: int | None = None


class GroupCallUpdate(Wire, frozen=True):
    """A group call began or ended."""

    era_id: str | None = None


class DataMessage(Wire, frozen=True):
    """What somebody sent: a text, and everything that Signal sends in the place of one."""

    timestamp: int | None = None
    message: str | None = None
    expires_in_seconds: int | None = None
    is_expiration_update: bool | None = None
    view_once: bool | None = None
    reaction: Reaction | None = None
    quote: Quote | None = None
    payment: Payment | None = None
    mentions: tuple[Mention, ...] | None = None
    previews: tuple[Preview, ...] | None = None
    attachments: tuple[Attachment, ...] | None = None
    sticker: Sticker | None = None
    remote_delete: RemoteDelete | None = None
    # Resemble vCards and differ between releases, so they stay plain objects.
    contacts: tuple[dict[str, object], ...] | None = None
    poll_create: PollCreate | None = None
    poll_vote: PollVote | None = None
    poll_terminate: PollTerminate | None = None
    text_styles: tuple[TextStyle, ...] | None = None
    group_info: GroupInfo | None = None
    story_context: StoryContext | None = None
    pin_message: PinMessage | None = None
    unpin_message: UnpinMessage | None = None
    admin_delete: AdminDelete | None = None
    group_call_update: GroupCallUpdate | None = None
    has_profile_key: bool | None = None
    is_end_session: bool | None = None
    is_profile_key_update: bool | None = None


class EditMessage(Wire, frozen=True):
    """A message that replaces an earlier one."""

    target_sent_timestamp: int | None = None
    data_message: DataMessage | None = None


class SentMessage(DataMessage, frozen=True):
    """What another device of the account sent, and to whom. Of an edit only `edit_message` is there."""

    destination: str | None = None
    destination_number: str | None = None
    destination_uuid: str | None = None
    edit_message: EditMessage | None = None


class Gradient(Wire, frozen=True):
    """The background of a story's text."""

    start_color: str | None = None
    end_color: str | None = None
    colors: tuple[str, ...] | None = None
    positions: tuple[float, ...] | None = None
    angle: int | None = None


class TextAttachment(Wire, frozen=True):
    """The text of a story."""

    text: str | None = None
    style: str | None = None
    text_foreground_color: str | None = None
    text_background_color: str | None = None
    preview: Preview | None = None
    background_gradient: Gradient | None = None
    background_color: str | None = None


class StoryMessage(Wire, frozen=True):
    """A story: a file or a text."""

    allows_replies: bool | None = None
    group_id: str | None = None
    file_attachment: Attachment | None = None
    text_attachment: TextAttachment | None = None


class SentStoryMessage(StoryMessage, frozen=True):
    """A story that another device of the account sent."""

    destination_number: str | None = None
    destination_uuid: str | None = None


class ReadMessage(Wire, frozen=True):
    """A message that was read on another device of the account."""

    sender: str | None = None
    sender_number: str | None = None
    sender_uuid: str | None = None
    timestamp: int | None = None


class SyncMessage(Wire, frozen=True):
    """What another device of the account did. `type` is CONTACTS_SYNC, GROUPS_SYNC or REQUEST_SYNC."""

    sent_message: SentMessage | None = None
    sent_story_message: SentStoryMessage | None = None
    read_messages: tuple[ReadMessage, ...] | None = None
    blocked_numbers: tuple[str, ...] | None = None
    blocked_group_ids: tuple[str, ...] | None = None
    type: str | None = None


class CallSignal(Wire, frozen=True):
    """One step of a call; `id` is an unsigned 64-bit number. The step decides which other fields are set."""

    id: int | None = None
    type: str | None = None
    opaque: str | None = None
    device_id: int | None = None


class CallMessage(Wire, frozen=True):
    """Somebody calls, answers, is busy, hangs up."""

    offer_message: CallSignal | None = None
    answer_message: CallSignal | None = None
    busy_message: CallSignal | None = None
    hangup_message: CallSignal | None = None
    ice_update_messages: tuple[CallSignal, ...] | None = None


class ReceiptMessage(Wire, frozen=True):
    """Messages of ours arrived, were read or were viewed; all three are false if signal-cli cannot tell."""

    when: int | None = None
    is_delivery: bool | None = None
    is_read: bool | None = None
    is_viewed: bool | None = None
    timestamps: tuple[int, ...] | None = None


class TypingMessage(Wire, frozen=True):
    """Somebody began or stopped typing: `action` is `"STARTED"` or `"STOPPED"`."""

    action: str | None = None
    timestamp: int | None = None
    group_id: str | None = None


class Envelope(Wire, frozen=True):
    """One thing that arrived: who sent it, when, and at most one content; none if it was not decrypted."""

    source: str | None = None
    source_number: str | None = None
    source_uuid: str | None = None
    source_name: str | None = None
    source_device: int | None = None
    timestamp: int | None = None
    server_received_timestamp: int | None = None
    server_delivered_timestamp: int | None = None
    data_message: DataMessage | None = None
    edit_message: EditMessage | None = None
    story_message: StoryMessage | None = None
    sync_message: SyncMessage | None = None
    call_message: CallMessage | None = None
    receipt_message: ReceiptMessage | None = None
    typing_message: TypingMessage | None = None


class ReceiveError(Wire, frozen=True):
    """Why signal-cli could not read an envelope; `type` is a Java class name."""

    message: str | None = None
    type: str | None = None


class Frame(Wire, frozen=True):
    """What a gateway sends: an envelope and the account that it is for, or an `error` in its own words."""

    account: str | None = None
    envelope: Envelope | None = None
    exception: ReceiveError | None = None
    error: str | None = None


def group_recipient(internal_id: str, /) -> str:
    """Turn a group's internal id, as envelopes hold it, into the recipient that the REST gateway takes.

    Never a checkpoint. The result is `group.` and the base64 of the id's text, which is base64 itself: the
    gateway takes one layer off before it hands the id to signal-cli.
    """
    return "group." + binascii.b2a_base64(internal_id.encode(), newline=False).decode("ascii")


def group_internal_id(recipient: str, /) -> str:
    """Turn a group recipient back into the group's internal id: the inverse of :func:`group_recipient`.

    Never a checkpoint.

    Raises:
        ValueError: `recipient` is not `group.` followed by base64.
    """
    prefix, _, encoded = recipient.partition(".")
    try:
        internal_id = base64.b64decode(encoded, validate=True).decode()
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        internal_id = ""
    if prefix != "group" or not internal_id:
        raise ValueError('a group recipient is "group." followed by the base64 of the group\'s internal id')
    return internal_id

"""Received messages: from the bytes of a frame to typed objects, whatever the bytes are.

:func:`decode_frame` never raises. What cannot be understood at all becomes :class:`Undecodable`; everything
else is a :class:`ReceivedMessage`, which holds the typed envelope and derives the rest when asked. Pure: no
Trio, no I/O, and nothing here is a checkpoint.
"""

import enum
import hashlib
from typing import Final

import msgspec

from ._recipients import is_recipient
from ._wire import (
    AdminDelete,
    Attachment,
    CallMessage,
    DataMessage,
    EditMessage,
    Envelope,
    GroupInfo,
    Mention,
    PinMessage,
    PollCreate,
    PollTerminate,
    PollVote,
    Preview,
    Quote,
    Reaction,
    ReceiptMessage,
    ReceiveError,
    RemoteDelete,
    SentMessage,
    Sticker,
    StoryMessage,
    SyncMessage,
    TextStyle,
    TypingMessage,
    UnpinMessage,
)


class MessageKind(enum.StrEnum):
    """What a received message is; what another device of the account sent has the kind of the thing sent."""

    #: Somebody wrote: text, attachments, a sticker, a contact, a quote, a preview, something to view once.
    MESSAGE = enum.auto()
    EDIT = enum.auto()
    REACTION = enum.auto()
    #: By its author or by an administrator of the group.
    REMOTE_DELETE = enum.auto()
    RECEIPT = enum.auto()
    TYPING = enum.auto()
    CALL = enum.auto()
    STORY = enum.auto()
    POLL_CREATE = enum.auto()
    POLL_VOTE = enum.auto()
    POLL_TERMINATE = enum.auto()
    PIN = enum.auto()
    UNPIN = enum.auto()
    PAYMENT = enum.auto()
    GROUP_UPDATE = enum.auto()
    EXPIRATION_UPDATE = enum.auto()
    #: Another device of the account did something else than send: read messages, blocked, asked for contacts.
    SYNC = enum.auto()
    #: signal-cli could not read it. The same message can come again later, decrypted, for up to two weeks.
    EXCEPTION = enum.auto()
    #: None of these: a profile key, the end of a session, a content that is not known here (see `raw`).
    OTHER = enum.auto()


#: What an envelope without a data message is. These carry no id of their own: see `duplicate_key`.
_ENVELOPE_KINDS: Final = {
    MessageKind.RECEIPT: "receipt_message",
    MessageKind.TYPING: "typing_message",
    MessageKind.CALL: "call_message",
    MessageKind.SYNC: "sync_message",
}

#: Without a data message these do not tell whether they belong to a group.
_PLACELESS: Final = frozenset({MessageKind.EDIT, MessageKind.EXCEPTION, MessageKind.OTHER})

_NOTHING: Final = DataMessage()

#: See :attr:`ReceivedMessage.duplicate_key`.
DuplicateKey = tuple[str | int | bytes | None, ...]

#: A key with more characters than this is remembered as a digest. No shorter frame can have one.
LONGEST_KEY: Final = 2048

#: Looked up for every message, and in an enum that takes a while.
_MESSAGE: Final = MessageKind.MESSAGE


class ReceivedMessage(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One message as it came over the link; immutable.

    `envelope` is all that was understood, and every property is derived from it when it is read. Times are
    milliseconds since the epoch. Two messages are equal when their frames are the same bytes. The repr shows
    no content, so that no text gets into a log by accident.

    Attributes:
        account: The account that the message is for: its number, from signal-cli 0.14.6 on possibly its UUID.
        envelope: The typed envelope.
        exception: Why signal-cli could not read the message, if so.
        raw: The frame as it came, without the WebSocket header.
    """

    account: str | None
    envelope: Envelope
    exception: ReceiveError | None = None
    raw: bytes = b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReceivedMessage) and self.raw == other.raw

    def __ne__(self, other: object) -> bool:
        return not self == other  # Struct's own __ne__ does not ask __eq__

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        """Show kind, sender and timestamp; never content."""
        return f"<ReceivedMessage {self.kind} from {self.sender} at {self.timestamp}>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Tell rich, whose tracebacks show locals through this, no more than `repr()` tells."""
        return [("kind", self.kind), ("sender", self.sender), ("timestamp", self.timestamp)]

    @property
    def kind(self) -> MessageKind:
        """What the message is."""
        if self.exception is not None:
            return MessageKind.EXCEPTION
        data = self.envelope.data_message
        if data is None and self.edit is not None:
            return MessageKind.EDIT
        if data is None:
            data = self.data
        if data is not None:
            return data_kind(data)
        if self.story is not None:
            return MessageKind.STORY
        kinds = (kind for kind, name in _ENVELOPE_KINDS.items() if getattr(self.envelope, name) is not None)
        return next(kinds, MessageKind.OTHER)

    @property
    def text(self) -> str | None:
        """The text that was written; of an edit the new one."""
        data = self.envelope.data_message
        return self._content.message if data is None else data.message

    @property
    def sender(self) -> str | None:
        """Who sent it: the number, else the UUID, else the legacy identifier; None when that is not told."""
        envelope = self.envelope
        return envelope.source_number or envelope.source_uuid or envelope.source

    @property
    def sender_name(self) -> str | None:
        """The sender's name as the account knows it."""
        return self.envelope.source_name

    @property
    def sender_number(self) -> str | None:
        """The sender's phone number, which many people hide."""
        return self.envelope.source_number

    @property
    def sender_uuid(self) -> str | None:
        """The sender's UUID (ACI)."""
        return self.envelope.source_uuid

    @property
    def sender_device(self) -> int | None:
        """The number of the sender's device."""
        return self.envelope.source_device

    @property
    def from_self(self) -> bool:
        """Whether another device of this account sent it."""
        return is_from_self(self)

    @property
    def timestamp(self) -> int | None:
        """When it was sent, by the sender's clock: with the sender, the message's id. An edit has its own."""
        envelope = self.envelope
        data = envelope.data_message
        if data is None:
            data = self.data
        if data is not None and (timestamp := data.timestamp) is not None:
            return timestamp
        return envelope.timestamp

    @property
    def server_received_timestamp(self) -> int | None:
        """When Signal's server got it, by the server's clock."""
        return self.envelope.server_received_timestamp

    @property
    def group(self) -> GroupInfo | None:
        """The group that it belongs to; its `id` is None when it is only known that there is one."""
        envelope = self.envelope
        data = envelope.data_message
        if data is None:
            data = self.data
        if data is not None and (group := data.group_info) is not None:
            return group
        place = envelope.typing_message or envelope.story_message
        if place is None:
            if envelope.sync_message is None:
                return None
            place = envelope.sync_message.sent_story_message
        return GroupInfo(id=place.group_id) if place is not None and place.group_id else None

    @property
    def reply_to(self) -> str:
        """The recipient that answers it: the group, the other person, or whom our other device sent it to.

        A note to self is answered to the own account. Empty when the place is not known: the sender is not
        told or is no address, the group has no id, an exception (which does not say if it was for a group),
        another sync. What :meth:`SignalClient.receive_messages` gives can always be answered.
        """
        group = self.group
        if group is not None:
            # Whatever the id is, this has the form of a group.
            return group.recipient or ""
        envelope = self.envelope
        if envelope.sync_message is not None:
            place = _sent_to(envelope.sync_message)
        elif envelope.data_message is None and self.data is None and self.kind in _PLACELESS:
            place = None
        else:
            place = self.sender
        return place if place is not None and is_recipient(place) else ""

    @property
    def duplicate_key(self) -> DuplicateKey | None:
        """What the copies of this message share and no other message has; None when it cannot be told.

        It is (account, sender, device, timestamp, kind, place). The place takes part because one call of
        signal-cli can send to several groups and people under one timestamp. Receipts, typing, calls and
        other syncs have no id of their own: a digest of their content follows (the same in every process).
        An exception and the same message when it is decrypted later differ in kind.
        """
        envelope, timestamp, group = self.envelope, self.timestamp, self.group
        sender = envelope.source_uuid or envelope.source_number or envelope.source
        if sender is None or timestamp is None:
            return None
        kind = self.kind
        place = _sent_to(envelope.sync_message) if group is None else group.id
        key = (self.account, sender, envelope.source_device, timestamp, kind.value, place)
        part = _ENVELOPE_KINDS.get(kind)
        whole = key if part is None else (*key, _digest(getattr(envelope, part)))
        return whole if len(self.raw) <= LONGEST_KEY else _bounded(whole)

    @property
    def data(self) -> DataMessage | None:
        """The data message that applies: the one that came, the edit's new one, what another device sent."""
        data = self.envelope.data_message
        if data is not None:
            return data
        edit = self.edit
        return self._sent if edit is None else edit.data_message

    @property
    def edit(self) -> EditMessage | None:
        """Which message this one replaces, and by what."""
        if self.envelope.edit_message is not None:
            return self.envelope.edit_message
        sent = self._sent
        return None if sent is None else sent.edit_message

    @property
    def story(self) -> StoryMessage | None:
        """The story, also one that another device sent."""
        envelope = self.envelope
        if envelope.story_message is not None or envelope.sync_message is None:
            return envelope.story_message
        return envelope.sync_message.sent_story_message

    @property
    def receipt(self) -> ReceiptMessage | None:
        """Which messages of ours arrived, were read or were viewed."""
        return self.envelope.receipt_message

    @property
    def typing(self) -> TypingMessage | None:
        """That somebody types or stopped typing."""
        return self.envelope.typing_message

    @property
    def call(self) -> CallMessage | None:
        """A step in setting up a call."""
        return self.envelope.call_message

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files that came with it."""
        return self._content.attachments or ()

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """The people named in the text: see :func:`utf16_slice`."""
        return self._content.mentions or ()

    @property
    def text_styles(self) -> tuple[TextStyle, ...]:
        """The styled parts of the text: see :func:`utf16_slice`."""
        return self._content.text_styles or ()

    @property
    def previews(self) -> tuple[Preview, ...]:
        """The previews of links in the text."""
        return self._content.previews or ()

    @property
    def quote(self) -> Quote | None:
        """The message that it answers."""
        return self._content.quote

    @property
    def reaction(self) -> Reaction | None:
        """The emoji put on another message or taken off it."""
        return self._content.reaction

    @property
    def remote_delete(self) -> RemoteDelete | AdminDelete | None:
        """Which message (`.target_sent_timestamp`) its author or an administrator deleted for everybody."""
        content = self._content
        return content.admin_delete if content.remote_delete is None else content.remote_delete

    @property
    def sticker(self) -> Sticker | None:
        """The sticker."""
        return self._content.sticker

    @property
    def poll_create(self) -> PollCreate | None:
        """The new poll."""
        return self._content.poll_create

    @property
    def poll_vote(self) -> PollVote | None:
        """The vote in a poll."""
        return self._content.poll_vote

    @property
    def poll_terminate(self) -> PollTerminate | None:
        """The poll that was closed."""
        return self._content.poll_terminate

    @property
    def pin(self) -> PinMessage | None:
        """The message that was pinned."""
        return self._content.pin_message

    @property
    def unpin(self) -> UnpinMessage | None:
        """The message that is no longer pinned."""
        return self._content.unpin_message

    @property
    def view_once(self) -> bool:
        """Whether it may be looked at only once."""
        return bool(self._content.view_once)

    @property
    def expires_in_seconds(self) -> int | None:
        """After how many seconds it disappears once read; 0 is never."""
        return self._content.expires_in_seconds

    @property
    def _content(self) -> DataMessage:
        data = self.envelope.data_message or self.data
        return _NOTHING if data is None else data

    @property
    def _sent(self) -> SentMessage | None:
        sync = self.envelope.sync_message
        return None if sync is None else sync.sent_message


class Undecodable(msgspec.Struct, frozen=True, gc=False):
    """A frame that is no message, delivered raw so that nothing that arrived is hidden (R7).

    Attributes:
        raw: The frame as it came, without the WebSocket header.
        reason: What is wrong with it; never any of its content.
        error: The gateway's words if it sent `{"error": "…"}`, as it does to every consumer at once.
    """

    raw: bytes
    reason: str
    error: str | None = None

    def __repr__(self) -> str:
        """Show the reason and the size; never content."""
        return f"<Undecodable {self.reason}, {len(self.raw)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Tell rich no more than `repr()` tells."""
        return [("reason", self.reason), ("size", len(self.raw))]


#: What a frame is when it is decoded.
Decoded = ReceivedMessage | Undecodable


def is_from_self(message: ReceivedMessage, /) -> bool:
    """Return `message.from_self`."""
    envelope = message.envelope
    if envelope.sync_message is not None:
        return True
    # What a device sends with `notify_self` reaches the others as an ordinary message.
    sources = (envelope.source_number, envelope.source_uuid, envelope.source)
    return message.account is not None and message.account in sources


def _bounded(key: DuplicateKey) -> DuplicateKey:
    """Return a digest for a key with very long names, which nobody has: thousands of keys are remembered."""
    length = sum(len(part) for part in key if isinstance(part, str))
    return key if length <= LONGEST_KEY else (_digest(key),)


def utf16_slice(text: str, start: int, length: int) -> str:
    """Cut out what a mention or a text style covers; `start` and `length` count UTF-16 code units.

    Never a checkpoint. What lies outside the text is left out; half of a character becomes U+FFFD.
    """
    units = text.encode("utf-16-le", "surrogatepass")
    return units[2 * max(start, 0) : 2 * max(start + length, 0)].decode("utf-16-le", "replace")


def data_kind(data: DataMessage) -> MessageKind:  # noqa: C901, PLR0911  (a table, but six times as fast)
    """Say what a data message is: the first of these that is set."""
    if data.reaction is not None:
        return MessageKind.REACTION
    if data.remote_delete is not None or data.admin_delete is not None:
        return MessageKind.REMOTE_DELETE
    if data.poll_create is not None:
        return MessageKind.POLL_CREATE
    if data.poll_vote is not None:
        return MessageKind.POLL_VOTE
    if data.poll_terminate is not None:
        return MessageKind.POLL_TERMINATE
    if data.pin_message is not None:
        return MessageKind.PIN
    if data.unpin_message is not None:
        return MessageKind.UNPIN
    if data.payment is not None:
        return MessageKind.PAYMENT
    if data.message is not None or _is_written_without_text(data):
        return _MESSAGE
    if data.is_expiration_update:
        return MessageKind.EXPIRATION_UPDATE
    if data.group_info is not None and data.group_info.type == "UPDATE":
        return MessageKind.GROUP_UPDATE
    return MessageKind.OTHER


def _is_written_without_text(data: DataMessage) -> bool:
    """Whether somebody wrote it. A linked device gets messages to view once without their files."""
    return any((data.attachments, data.sticker, data.contacts, data.previews, data.quote, data.view_once))


def _sent_to(sync: SyncMessage | None) -> str | None:
    """Whom another device of the account sent it to."""
    if sync is None:
        return None
    sent, story = sync.sent_message, sync.sent_story_message
    if sent is not None:
        return sent.destination_number or sent.destination_uuid or sent.destination
    return None if story is None else story.destination_number or story.destination_uuid


def _digest(content: object) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=16).digest()

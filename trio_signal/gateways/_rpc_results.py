"""What signal-cli's results of operations hold, and the files among them. Pure.

Source: signal-cli 0.13.19 (``JsonContact``, ``ListGroupsCommand``, ``JsonAttachmentData`` and the like).
"""

import base64
import re
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from .._operations import (
    Contact,
    CreateGroup,
    FinishLink,
    Group,
    JoinGroup,
    ListAccounts,
    ListContacts,
    ListGroups,
    Operation,
    R_co,
    StartLink,
)
from .._recipients import is_group
from .._wire import group_recipient
from ._rpc_answers import unreadable

#: What may stand before a file: the answer's other members, in any order, and none that is an object.
_MEMBER: Final = rb'\s*+"[^"\\]*+"\s*+:\s*+(?:"(?:[^"\\]|\\.)*+"|[^\s",:{}\[\]]++)\s*+,'
_FILE: Final = re.compile(
    rb"\s*+\{(?:" + _MEMBER + rb')*+\s*+"result"\s*+:\s*+\{(?:' + _MEMBER + rb')*+\s*+"data"\s*+:\s*+"'
)

#: A file begins within so many bytes of the answer.
_MAX_HEAD: Final = 4096


class _Address(msgspec.Struct):
    number: str | None = None
    uuid: str | None = None


class _Group(msgspec.Struct, rename="camel"):
    id: str
    name: str | None = None
    description: str | None = None
    is_member: bool | None = None
    is_blocked: bool | None = None
    message_expiration_time: int | None = None
    members: tuple[_Address, ...] = ()
    admins: tuple[_Address, ...] = ()
    pending_members: tuple[_Address, ...] = ()
    requesting_members: tuple[_Address, ...] = ()
    group_invite_link: str | None = None


class _Profile(msgspec.Struct, rename="camel"):
    given_name: str | None = None
    family_name: str | None = None
    about: str | None = None


class _Contact(msgspec.Struct, rename="camel"):
    number: str | None = None
    uuid: str | None = None
    username: str | None = None
    name: str | None = None
    note: str | None = None
    is_blocked: bool | None = None
    message_expiration_time: int | None = None
    profile: _Profile | None = None


class _NewGroup(msgspec.Struct, rename="camel"):
    group_id: str


class _JoinedGroup(msgspec.Struct, rename="camel"):
    group_id: str | None = None


class _Link(msgspec.Struct, rename="camel"):
    device_link_uri: str


def read_result(operation: Operation[R_co], result: object) -> R_co:
    """Return what comes back of an operation.

    Raises:
        RequestFailed: the result is nothing that signal-cli writes.
    """
    if isinstance(operation, JoinGroup) and is_group(operation.group):
        # The recipient that comes back of an accepted invitation is the one that was given.
        return cast("R_co", operation.group)
    form, convert = _READERS.get(type(operation), (Any, _nothing))
    try:
        return cast("R_co", convert(msgspec.convert(result, form)))
    except (msgspec.ValidationError, RecursionError) as error:
        raise unreadable() from error


class FileReader:
    """Takes the file out of an answer to ``getAttachment``, piece by piece.

    Attributes:
        head: what has come of an answer that holds no file so far.
        has_begun: whether the file has begun.
        is_whole: whether it has ended.
    """

    def __init__(self) -> None:
        self.head = b""
        self.has_begun = False
        self.is_whole = False
        self._rest = b""  # less than four characters, which make three bytes
        self._is_filled = False

    @property
    def may_begin(self) -> bool:
        """Whether it is worth while to look for the beginning of a file in what comes."""
        return len(self.head) <= _MAX_HEAD

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the file that have come with these.

        Raises:
            RequestFailed: what comes is no base64.
        """
        if not self.has_begun:
            # Only so far is it looked at again and again, however small the pieces are.
            if not self.may_begin:
                return b""
            self.head += data
            if (found := _FILE.match(self.head)) is None:
                return b""
            data, self.head, self.has_begun = self.head[found.end() :], b"", True
        return b"" if self.is_whole else self._decode(data)

    def _decode(self, data: bytes) -> bytes:
        text, quote, _ = data.partition(b'"')
        text = self._rest + text
        self.is_whole = bool(quote)
        usable = len(text) if quote else len(text) // 4 * 4
        self._rest = text[usable:]
        try:
            piece = base64.b64decode(text[:usable], validate=True)
        except ValueError as error:
            raise unreadable() from error
        if self._is_filled and text:
            # Only the last four characters may stand for less than three bytes.
            raise unreadable()
        self._is_filled = len(piece) < usable // 4 * 3
        return piece


def _nothing(_: object) -> None:
    return None


def _groups(groups: tuple[_Group, ...]) -> tuple[Group, ...]:
    return tuple(
        Group(
            id=group_recipient(group.id),
            name=group.name or None,
            description=group.description or None,
            members=_people(group.members),
            admins=_people(group.admins),
            pending_members=_people(group.pending_members),
            requesting_members=_people(group.requesting_members),
            invite_link=group.group_invite_link or None,
            is_blocked=group.is_blocked,
            is_member=group.is_member,
            expiration=group.message_expiration_time,
        )
        for group in groups
    )


def _people(addresses: tuple[_Address, ...]) -> tuple[str, ...]:
    """Return the number of each, or else the UUID, in an order: signal-cli's lists are sets."""
    people = (address.number or address.uuid for address in addresses)
    return tuple(sorted(person for person in people if person))


def _contacts(contacts: tuple[_Contact, ...]) -> tuple[Contact, ...]:
    return tuple(_contact(contact, contact.profile or _Profile()) for contact in contacts)


def _contact(contact: _Contact, profile: _Profile) -> Contact:
    names = (profile.given_name, profile.family_name)
    return Contact(
        number=contact.number,
        uuid=contact.uuid,
        username=contact.username,
        name=contact.name or None,
        profile_name=" ".join(name for name in names if name) or None,
        about=profile.about or None,
        note=contact.note or None,
        is_blocked=contact.is_blocked,
        expiration=contact.message_expiration_time,
    )


def _accounts(accounts: tuple[_Address, ...]) -> tuple[str, ...]:
    return tuple(name for account in accounts if (name := account.number or account.uuid))


def _new_group(group: _NewGroup) -> str:
    return group_recipient(group.group_id)


def _joined_group(group: _JoinedGroup) -> str | None:
    return group_recipient(group.group_id) if group.group_id else None


def _link(link: _Link) -> str:
    return link.device_link_uri


def _linked(account: _Address) -> str | None:
    return account.number


#: The form of each result that matters, and what is made of it.
_READERS: Final[dict[type[Operation[Any]], tuple[Any, Callable[[Any], Any]]]] = {
    ListGroups: (tuple[_Group, ...], _groups),
    CreateGroup: (_NewGroup, _new_group),
    JoinGroup: (_JoinedGroup, _joined_group),
    ListContacts: (tuple[_Contact, ...], _contacts),
    ListAccounts: (tuple[_Address, ...], _accounts),
    StartLink: (_Link, _link),
    FinishLink: (_Address, _linked),
}

"""What signal-cli-rest-api answers to operations. Pure.

Source: the gateway's ``src/client/client.go`` (GroupEntry, ListContactsResponse). Go writes an
empty string for what it does not know, and null for a list that is not there. Until early 2026
(rest#793) it called who was invited ``pending_requests`` and who asks to be let in
``pending_invites``; no answer tells which release it is from.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from .._errors import RequestFailed
from .._operations import (
    Contact,
    CreateGroup,
    Group,
    JoinGroup,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    R_co,
    StartLink,
)
from .._outcomes import Failed
from .._recipients import check_group
from ._operation_answers import NOT_JSON, is_success, unreadable
from ._rest_answers import read_answer


def read_operation(operation: Operation[R_co], status: int, body: bytes) -> R_co:
    """Return the result that an answer tells.

    Raises:
        RequestFailed: it tells a failure, or cannot be read.
    """
    if not is_success(status):
        raise rest_failure(status, body)
    form, convert = _READERS.get(type(operation), (None, None))
    if convert is None:
        # The recipient that comes back of an accepted invitation is the one that was given.
        return cast("R_co", operation.group if isinstance(operation, JoinGroup) else None)
    try:
        return cast("R_co", convert(msgspec.json.decode(body, type=form)))
    except NOT_JSON as error:
        raise unreadable(status) from error


def rest_failure(status: int, body: bytes) -> RequestFailed:
    """Return what an answer that is no success means; the table is the same as for sends (contract O6)."""
    failed = cast("Failed", read_answer(status, body, recipient="", wait=None).outcome)
    return RequestFailed(failed.error, failed.certainty)


class _Person(msgspec.Struct):
    number: str | None = None
    uuid: str | None = None


#: Number or UUID, or both with ``expand=true``.
_People = list[str | _Person] | None


class _Group(msgspec.Struct):
    id: str
    name: str | None = None
    description: str | None = None
    members: _People = None
    admins: _People = None
    pending_invites: _People = None
    pending_requests: _People = None
    invite_link: str | None = None
    blocked: bool | None = None
    member: bool | None = None


class _Created(msgspec.Struct):
    id: str


class _Link(msgspec.Struct):
    device_link_uri: str


class _Profile(msgspec.Struct):
    about: str | None = None


class _Contact(msgspec.Struct):
    number: str | None = None
    uuid: str | None = None
    username: str | None = None
    name: str | None = None
    profile_name: str | None = None
    profile: _Profile | None = None
    note: str | None = None
    blocked: bool | None = None
    message_expiration: str | int | None = None


def _read_groups(groups: list[_Group] | None) -> tuple[Group, ...]:
    return tuple(map(_read_group, groups or ()))


def _read_group(group: _Group) -> Group:
    return Group(
        id=group.id,
        name=group.name,
        description=group.description,
        members=_read_people(group.members),
        admins=_read_people(group.admins),
        pending_members=_read_people(group.pending_invites),
        requesting_members=_read_people(group.pending_requests),
        invite_link=group.invite_link or None,
        is_blocked=group.blocked,
        is_member=group.member,
    )


def _read_people(people: _People) -> tuple[str, ...]:
    names = (person if isinstance(person, str) else person.number or person.uuid for person in people or ())
    return tuple(name for name in names if name)


def _read_contacts(contacts: list[_Contact] | None) -> tuple[Contact, ...]:
    return tuple(map(_read_contact, contacts or ()))


def _read_contact(contact: _Contact) -> Contact:
    return Contact(
        number=contact.number or None,
        uuid=contact.uuid or None,
        username=contact.username or None,
        name=contact.name or None,
        profile_name=contact.profile_name or None,
        about=(contact.profile.about or None) if contact.profile else None,
        note=contact.note or None,
        is_blocked=contact.blocked,
        expiration=_read_seconds(contact.message_expiration),
    )


def _read_seconds(value: str | int | None) -> int | None:
    """Read a number that is written as a string, and empty where it is not known."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
    return value


def _read_strings(strings: list[str] | None) -> tuple[str, ...]:
    return tuple(strings or ())


def _read_created(created: _Created) -> str:
    # Without an answer of signal-cli's the gateway gives the prefix alone.
    return check_group("id", created.id)


def _read_link(link: _Link) -> str:
    return link.device_link_uri


_READERS: Final[Mapping[type[Operation[Any]], tuple[Any, Callable[[Any], Any]]]] = {
    ListGroups: (list[_Group] | None, _read_groups),
    CreateGroup: (_Created, _read_created),
    ListContacts: (list[_Contact] | None, _read_contacts),
    ListAccounts: (list[str] | None, _read_strings),
    ListAttachments: (list[str] | None, _read_strings),
    StartLink: (_Link, _read_link),
}

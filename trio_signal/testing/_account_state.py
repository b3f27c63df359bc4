"""What signal-cli knows of groups, contacts and profiles: one small state behind both kinds of gateway.

Groups and contacts are kept in the form in which signal-cli lists them. Nothing of a real account's rules is
checked: who may change a group, or whether a number is registered.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .envelopes import uuid_of

PERMISSIONS = {"every-member": "EVERY_MEMBER", "only-admins": "ONLY_ADMINS"}
LINK_STATES = ("enabled", "enabled-with-approval", "disabled")

Group = dict[str, Any]
Contact = dict[str, Any]


class UserError(Exception):
    """What signal-cli answers with code -1: the request cannot be carried out."""


@dataclass(frozen=True, kw_only=True)
class GroupChange:
    """What is to be changed in a group; None and empty lists leave things as they are."""

    name: str | None = None
    description: str | None = None
    members: Sequence[str] = ()
    remove_members: Sequence[str] = ()
    admins: Sequence[str] = ()
    remove_admins: Sequence[str] = ()
    link: str | None = None
    expiration: int | None = None
    add_permission: str | None = None
    edit_permission: str | None = None
    send_permission: str | None = None


class AccountState:
    """Groups by internal id (base64), contacts by number or UUID, profiles by account; for tests to fill."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.contacts: dict[str, Contact] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.link_uris: list[str] = []
        self._made = 0

    def group(self, internal_id: str) -> Group:
        """Return one group.

        Raises:
            UserError: there is none.
        """
        if internal_id not in self.groups:
            raise UserError(f"Failed to send to group: Group not found: {internal_id}")
        return self.groups[internal_id]

    def create_group(self, account: str, change: GroupChange) -> str:
        """Make a group with ``account`` as its only administrator, and return its internal id."""
        self._made += 1
        seed = hashlib.sha256(f"group {self._made}".encode()).digest()
        internal_id = base64.b64encode(seed).decode()
        self.groups[internal_id] = group(internal_id, members=[account], admins=[account])
        self.change_group(internal_id, change)
        return internal_id

    def change_group(self, internal_id: str, change: GroupChange) -> None:
        """Change a group.

        Raises:
            UserError: there is none, or a value is none that signal-cli knows.
        """
        found = self.group(internal_id)
        _check(change)
        settings = {
            "name": change.name,
            "description": change.description,
            "messageExpirationTime": change.expiration,
            "permissionAddMember": PERMISSIONS.get(change.add_permission or ""),
            "permissionEditDetails": PERMISSIONS.get(change.edit_permission or ""),
            "permissionSendMessage": PERMISSIONS.get(change.send_permission or ""),
        }
        found.update({key: value for key, value in settings.items() if value is not None})
        _add(found["members"], change.members)
        _add(found["admins"], change.admins)
        _remove(found["members"], change.remove_members)
        _remove(found["admins"], [*change.remove_admins, *change.remove_members])
        if change.link is not None:
            found["groupInviteLink"] = None if change.link == "disabled" else invite_link(internal_id)

    def accept_invitation(self, account: str, internal_id: str) -> None:
        """Make ``account`` a member of a group that it was invited to; nothing happens if it is one."""
        found = self.group(internal_id)
        if not found["isMember"]:
            found["isMember"] = True
            _remove(found["pendingMembers"], [account])
            _add(found["members"], [account])

    def join_group(self, account: str, uri: str) -> str:
        """Join by an invitation link and return the group's internal id; unknown links make the group known.

        Raises:
            UserError: this is no link to a group.
        """
        if not uri.startswith("https://signal.group/#"):
            raise UserError("Link is not a signal group invitation link")
        for internal_id, known in self.groups.items():
            if known["groupInviteLink"] == uri:
                self.accept_invitation(account, internal_id)
                return internal_id
        internal_id = base64.b64encode(hashlib.sha256(uri.encode()).digest()).decode()
        self.groups[internal_id] = group(internal_id, members=[account], link=uri)
        return internal_id

    def quit_group(self, account: str, internal_id: str, *, delete: bool = False) -> None:
        """Leave a group, and forget it if asked to.

        Raises:
            UserError: there is none.
        """
        found = self.group(internal_id)
        found["isMember"] = False
        _remove(found["members"], [account])
        _remove(found["admins"], [account])
        if delete:
            del self.groups[internal_id]

    def update_contact(
        self, recipient: str, *, name: str | None, expiration: int | None, note: str | None = None
    ) -> None:
        """Change a contact, or make one."""
        known = self.contacts.setdefault(recipient, contact(recipient))
        settings = {"name": name, "givenName": name, "messageExpirationTime": expiration, "note": note}
        known.update({key: value for key, value in settings.items() if value is not None})

    def start_link(self) -> str:
        """Return a new URI for linking, which `finish_link` knows."""
        self.link_uris.append(f"sgnl://linkdevice?uuid=fake-{len(self.link_uris) + 1}&pub_key=BQ")
        return self.link_uris[-1]

    def finish_link(self, uri: str | None) -> None:
        """Use up a URI of `start_link`.

        Raises:
            UserError: it is none of those.
        """
        if uri is None:
            raise UserError("Missing deviceLinkUri.")
        if uri not in self.link_uris:
            raise UserError("Unknown device link uri.")
        self.link_uris.remove(uri)


def group(
    internal_id: str,
    *,
    name: str = "Group",
    members: Iterable[str] = (),
    admins: Iterable[str] = (),
    link: str | None = None,
    **more: Any,
) -> Group:
    """Build a group as signal-cli's listGroups gives it, for `FakeGateway.groups`.

    Args:
        internal_id: base64 of 32 bytes; the key in `FakeGateway.groups` has to be the same.
        name: its name.
        members: numbers of its members.
        admins: numbers of its administrators.
        link: its invitation link.
        more: other fields, such as ``description`` or ``isMember``.
    """
    return {
        "id": internal_id,
        "name": name,
        "description": "",
        "isMember": True,
        "isBlocked": False,
        "messageExpirationTime": 0,
        "members": [member(each) for each in members],
        "pendingMembers": [],
        "requestingMembers": [],
        "admins": [member(each) for each in admins],
        "banned": [],
        "permissionAddMember": "EVERY_MEMBER",
        "permissionEditDetails": "EVERY_MEMBER",
        "permissionSendMessage": "EVERY_MEMBER",
        "groupInviteLink": link,
        **more,
    }


def member(recipient: str) -> dict[str, str | None]:
    """Build one member of a group: a number gets its UUID, a UUID has no number."""
    if recipient.startswith("+"):
        return {"number": recipient, "uuid": uuid_of(recipient)}
    return {"number": None, "uuid": recipient}


def contact(recipient: str, *, name: str | None = None, **more: Any) -> Contact:
    """Build a contact as signal-cli's listContacts gives it, for `FakeGateway.contacts`.

    ``more`` are other fields. Up to 0.13.19 there is no field ``isArchived``.
    """
    profile = {
        "lastUpdateTimestamp": 0,
        "givenName": None,
        "familyName": None,
        "about": None,
        "aboutEmoji": None,
        "hasAvatar": False,
        "mobileCoinAddress": None,
    }
    return {
        **member(recipient),
        "username": None,
        "name": name,
        "givenName": name,
        "familyName": None,
        "nickName": None,
        "nickGivenName": None,
        "nickFamilyName": None,
        "note": None,
        "color": None,
        "isArchived": False,
        "isBlocked": False,
        "isHidden": False,
        "messageExpirationTime": 0,
        "profileSharing": True,
        "unregistered": False,
        "profile": profile,
        **more,
    }


def invite_link(internal_id: str) -> str:
    """Return the invitation link that the fake gives to a group."""
    digest = hashlib.sha256(internal_id.encode()).digest()
    return f"https://signal.group/#{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _check(change: GroupChange) -> None:
    if change.link is not None and change.link not in LINK_STATES:
        raise UserError(f"Invalid group link state: {change.link}")
    for permission in (change.add_permission, change.edit_permission, change.send_permission):
        if permission is not None and permission not in PERMISSIONS:
            raise UserError(f"Invalid group permission: {permission}")


def _add(people: list[dict[str, str | None]], recipients: Iterable[str]) -> None:
    for new in (member(recipient) for recipient in recipients):
        if new not in people:
            people.append(new)


def _remove(people: list[dict[str, str | None]], recipients: Iterable[str]) -> None:
    gone = set(recipients)
    people[:] = [each for each in people if each["number"] not in gone and each["uuid"] not in gone]

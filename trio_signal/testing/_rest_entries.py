"""How the REST gateway shows what signal-cli lists, with the oddities of its ``client.go``."""

from collections.abc import Mapping
from typing import Any

from ._account_state import PERMISSIONS
from ._config import Config
from ._records import group_recipient


def group_entry(group: Mapping[str, Any], config: Config, *, expand: bool) -> dict[str, Any]:
    """Build what GET /v1/groups lists for ``group``; ``expand``: members with number and UUID.

    Up to 0.97 who is invited and who asks to be let in were mixed up; ``edit_group`` shows another
    permission's value.
    """

    def people(key: str) -> list[Any]:
        return [
            dict(each) if expand else each.get("number") or each.get("uuid") or ""
            for each in group.get(key, ())
        ]

    sides = ("pendingMembers", "requestingMembers")
    invited, asking = sides if config.is_at_least(0, 98) else sides[::-1]
    entry = {
        "name": group.get("name") or "",
        "description": group.get("description") or "",
        "id": group_recipient(group["id"]),
        "internal_id": group["id"],
        "members": people("members"),
        "blocked": group.get("isBlocked", False),
        "pending_invites": people(invited),
        "pending_requests": people(asking),
        "invite_link": group.get("groupInviteLink") or "",
        "admins": people("admins"),
        "permissions": {
            "add_members": _permission(group.get("permissionAddMember")),
            "edit_group": _permission(group.get("permissionSendMessage")),
            "send_messages": _permission(group.get("permissionSendMessage")),
        },
    }
    return entry | ({"member": group.get("isMember", True)} if config.is_at_least(0, 100) else {})


def _permission(value: object) -> str:
    return next((name for name, inside in PERMISSIONS.items() if inside == value), "")


def contact_entry(contact: Mapping[str, Any]) -> dict[str, Any]:
    """Build what GET /v1/contacts lists for ``contact``.

    The gateway looks for ``blocked``, ``messageExpiration`` and ``profileName``; signal-cli never gives them.
    """

    def text(source: Mapping[str, Any], key: str) -> str:
        return source.get(key) or ""

    profile: Mapping[str, Any] = contact.get("profile") or {}
    return {
        "number": text(contact, "number"),
        "uuid": text(contact, "uuid"),
        "name": text(contact, "name"),
        "profile_name": text(contact, "profileName"),
        "username": text(contact, "username"),
        "color": text(contact, "color"),
        "blocked": contact.get("blocked", False),
        "message_expiration": text(contact, "messageExpiration"),
        "note": text(contact, "note"),
        "profile": {
            "given_name": text(profile, "givenName"),
            "lastname": text(profile, "familyName"),
            "about": text(profile, "about"),
            "has_avatar": profile.get("hasAvatar", False),
            "last_updated_timestamp": profile.get("lastUpdateTimestamp") or 0,
        },
        "given_name": text(contact, "givenName"),
        "nickname": {
            "name": text(contact, "nickName"),
            "given_name": text(contact, "nickGivenName"),
            "family_name": text(contact, "nickFamilyName"),
        },
    }

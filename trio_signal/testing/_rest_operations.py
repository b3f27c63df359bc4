"""Groups, contacts, profiles, receipts, typing and the rest through the REST gateway.

Paths, statuses and bodies are those of the gateway's ``api.go`` and ``client.go``, with their oddities: a
zero or an empty text does not reach signal-cli, and a profile without a picture loses the one it had.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from ._account_state import PERMISSIONS, GroupChange, UserError
from ._answers import JSON_TYPE, error_response, go_json
from ._core import Core
from ._http import Response
from ._records import HttpRequest, group_recipient
from ._rest_entries import contact_entry, group_entry
from ._sends import INVALID, parse_object

_DONE = Response(status=204)
_LIST = "Couldn't process request - "


class _Refused(Exception):
    """The gateway answers with an error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass(frozen=True)
class _Asked:
    """One request: to whom, about what, with what."""

    core: Core
    request: HttpRequest
    path: tuple[str, ...]
    """The variable parts of the path, decoded: the account first, where there is one."""

    def body(self, **types: type | tuple[type, ...]) -> dict[str, Any]:
        """Return the JSON object sent, which is refused if one of these fields is of another type."""
        body = parse_object(self.request.body)
        if body is None:
            raise _Refused(INVALID)
        for name, wanted in types.items():
            value = body.get(name)
            if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
                raise _Refused(INVALID)
        return body

    def query(self, name: str) -> str:
        """Return one value of the query, or an empty string."""
        return parse_qs(self.request.target.partition("?")[2]).get(name, [""])[0]

    @property
    def group(self) -> str:
        """The internal id of the group in the path."""
        return _internal(self.path[1])


def operate(core: Core, request: HttpRequest, path: str) -> Response | None:
    """Carry out what is none of the sends, or return None where ``path`` is about something else."""
    for method, pattern, act in _ROUTES:
        found = pattern.fullmatch(path) if method == request.method else None
        if found is None:
            continue
        asked = _Asked(core, request, tuple(unquote(part) for part in found.groups()))
        try:
            if act not in _LOCAL:
                _check_daemon(asked)
            return act(asked)
        except _Refused as refused:
            return refused.response
        except UserError as problem:
            return error_response(400, str(problem))
    return None


def is_operation(method: str, path: str) -> bool:
    """Whether `operate` would carry this out."""
    return any(method == each and pattern.fullmatch(path) for each, pattern, _ in _ROUTES)


def _check_daemon(asked: _Asked) -> None:
    if not asked.core.daemon_up:
        raise _Refused(Response(status=500))
    if asked.path and asked.path[0] not in asked.core.config.accounts:
        raise UserError("Specified account does not exist")


def _json(value: object, status: int = 200) -> Response:
    return Response(status=status, headers=(JSON_TYPE,), body=go_json(value))


def _missing(what: str) -> _Refused:
    return _Refused(error_response(400, f"{_LIST}{what} missing"))


# --- receipts and typing ---


def _receipt(asked: _Asked) -> Response:
    body = asked.body(recipient=str, receipt_type=str, timestamp=int)
    if not body.get("recipient"):
        raise _missing("recipient")
    if body.get("receipt_type") not in {"read", "viewed"}:
        return error_response(400, f"{_LIST}receipt type must be read or viewed")
    if not body.get("timestamp"):
        raise _missing("timestamp")
    return _DONE


def _typing(asked: _Asked) -> Response:
    asked.body(recipient=str)
    return _DONE


# --- groups ---


def _list_groups(asked: _Asked) -> Response:
    if asked.query("expand") not in {"", "true", "false"}:
        return error_response(400, f"{_LIST}expand parameter needs to be either 'true' or 'false'")
    return _json([_entry(asked, group) for group in asked.core.state.groups.values()])


def _one_group(asked: _Asked) -> Response:
    for group in asked.core.state.groups.values():
        if group_recipient(group["id"]) == asked.path[1]:
            return _json(_entry(asked, group))
    return error_response(404, "No group with that id found")


def _entry(asked: _Asked, group: Mapping[str, Any]) -> dict[str, Any]:
    return group_entry(group, asked.core.config, expand=asked.query("expand") == "true")


def _create_group(asked: _Asked) -> Response:
    body = asked.body(name=str, members=list, description=str, group_link=str, permissions=dict)
    change = _change(body, members=body.get("members") or ())
    internal_id = asked.core.state.create_group(asked.path[0], change)
    return _json({"id": group_recipient(internal_id)}, 201)


def _update_group(asked: _Asked) -> Response:
    internal_id = asked.group
    body = asked.body(name=str, description=str, base64_avatar=str, group_link=str, permissions=dict)
    asked.core.state.change_group(internal_id, _change(body))
    return _DONE


def _change(body: Mapping[str, Any], **more: Any) -> GroupChange:
    permissions: Mapping[str, Any] = body.get("permissions") or {}
    link = body.get("group_link") or None
    if link not in {None, "enabled", "enabled-with-approval", "disabled"}:
        allowed = "'enabled', 'enabled-with-approval' and 'disabled'"
        raise _Refused(error_response(400, f"Invalid group link provided - only {allowed} allowed!"))
    return GroupChange(
        name=body.get("name"),
        description=body.get("description"),
        link=link,
        expiration=body.get("expiration_time") or None,
        add_permission=_allowed(permissions, "add_members", "add members permission"),
        edit_permission=_allowed(permissions, "edit_group", "edit group permissions"),
        send_permission=_allowed(permissions, "send_messages", "send messages permissions"),
        **more,
    )


def _allowed(permissions: Mapping[str, Any], key: str, words: str) -> str | None:
    value = permissions.get(key) or None
    if value is not None and value not in PERMISSIONS:
        text = f"Invalid {words} provided - only 'every-member' and 'only-admins' allowed!"
        raise _Refused(error_response(400, text))
    return value


def _members(asked: _Asked) -> Response:
    people: Sequence[str] = tuple(asked.body(members=list).get("members") or ())
    if asked.request.method == "DELETE":
        return _change_people(asked, GroupChange(remove_members=people))
    if not people:
        raise _missing("group members")
    return _change_people(asked, GroupChange(members=people))


def _admins(asked: _Asked) -> Response:
    people: Sequence[str] = tuple(asked.body(admins=list).get("admins") or ())
    if asked.request.method == "DELETE":
        return _change_people(asked, GroupChange(remove_admins=people))
    return _change_people(asked, GroupChange(admins=people))


def _change_people(asked: _Asked, change: GroupChange) -> Response:
    if change == GroupChange():
        return _DONE
    internal_id = asked.group
    if internal_id not in asked.core.state.groups:
        return error_response(404, f"No group with that group id ({asked.path[1]}) found")
    asked.core.state.change_group(internal_id, change)
    return _DONE


def _join(asked: _Asked) -> Response:
    asked.core.state.accept_invitation(asked.path[0], asked.group)
    return _DONE


def _quit(asked: _Asked) -> Response:
    asked.core.state.quit_group(asked.path[0], asked.group)
    return Response(status=200) if asked.request.method == "DELETE" else _DONE


def _internal(recipient: str) -> str:
    try:
        return base64.b64decode(recipient.removeprefix("group."), validate=True).decode()
    except ValueError:
        raise UserError("Invalid group id") from None


# --- contacts, profiles, accounts ---


def _list_contacts(asked: _Asked) -> Response:
    if asked.query("all_recipients") not in {"", "true", "false"}:
        return error_response(400, f"{_LIST}all_recipients parameter needs to be either 'true' or 'false'")
    return _json([contact_entry(each) for each in asked.core.state.contacts.values()])


def _update_contact(asked: _Asked) -> Response:
    body = asked.body(recipient=str, name=str, expiration_in_seconds=int)
    if not body.get("recipient"):
        raise _missing("recipient")
    asked.core.state.update_contact(
        body["recipient"],
        name=body.get("name") or None,
        expiration=body.get("expiration_in_seconds") or None,
    )
    return _DONE


def _update_profile(asked: _Asked) -> Response:
    body = asked.body(name=str, about=str, base64_avatar=str)
    if not body.get("name"):
        raise _missing("profile name")
    profile = asked.core.state.profiles.setdefault(asked.path[0], {})
    profile |= {"givenName": body["name"], "hasAvatar": bool(body.get("base64_avatar"))}
    profile |= {} if body.get("about") is None else {"about": body["about"]}
    return _DONE


def _challenge(asked: _Asked) -> Response:
    body = asked.body(challenge_token=str, captcha=str)
    for name in ("challenge_token", "captcha"):
        if not body.get(name):
            raise _missing(name.replace("_", " "))
    return _DONE


def _start_link(asked: _Asked) -> Response:
    if not asked.query("device_name"):
        return error_response(400, "Please provide a name for the device")
    return _json({"device_link_uri": asked.core.state.start_link()})


def _delete_attachment(asked: _Asked) -> Response:
    if asked.core.attachments.pop(asked.path[0], None) is None:
        return error_response(404, "No attachment with that name found")
    return _DONE


_Act = Callable[[_Asked], Response]

_LOCAL = frozenset[_Act]({_delete_attachment})
"""What the gateway does without signal-cli, and without an account."""

_ACTS: tuple[tuple[str, str, _Act], ...] = (
    ("POST", "/v1/receipts/*", _receipt),
    ("PUT DELETE", "/v1/typing-indicator/*", _typing),
    ("GET", "/v1/groups/*", _list_groups),
    ("POST", "/v1/groups/*", _create_group),
    ("GET", "/v1/groups/*/*", _one_group),
    ("PUT", "/v1/groups/*/*", _update_group),
    ("DELETE", "/v1/groups/*/*", _quit),
    ("POST DELETE", "/v1/groups/*/*/members", _members),
    ("POST DELETE", "/v1/groups/*/*/admins", _admins),
    ("POST", "/v1/groups/*/*/join", _join),
    ("POST", "/v1/groups/*/*/quit", _quit),
    ("GET", "/v1/contacts/*", _list_contacts),
    ("PUT", "/v1/contacts/*", _update_contact),
    ("PUT", "/v1/profiles/*", _update_profile),
    ("POST", "/v1/accounts/*/rate-limit-challenge", _challenge),
    ("GET", "/v1/qrcodelink/raw", _start_link),
    ("DELETE", "/v1/attachments/*", _delete_attachment),
)

_ROUTES: tuple[tuple[str, re.Pattern[str], _Act], ...] = tuple(
    (method, re.compile(path.replace("*", "([^/]+)")), act)
    for methods, path, act in _ACTS
    for method in methods.split()
)

"""Operations as signal-cli-rest-api takes them. Pure.

Source: the gateway's ``src/api/api.go`` and ``src/client/client.go``, whose code has the last
word where its documentation says something else. What follows from them:

- The number 0 and an empty string among what is to be changed never reach signal-cli (Go's
  ``omitempty``), every receipt is sent as ``read`` (it names the kind as signal-cli does not),
  and a profile cannot be changed without a name. What would not happen is refused here.
- An update of the profile without a picture removes the picture.
- Some releases answer 204 to changes of groups and profiles and to typing whatever signal-cli
  said of them, since they lose its error on the way. Nothing can be done about that here.
- Usernames reach signal-cli as they are, which takes them for phone numbers unless they begin
  with ``u:``; only for members the gateway puts that in front itself.
- Linking ends behind the scenes: the gateway waits for the phone, and tells nobody.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from .._errors import Unsupported
from .._operations import (
    JOIN_LINK,
    ChangeMembers,
    CreateGroup,
    DeleteAttachment,
    FinishLink,
    GroupPermissions,
    JoinGroup,
    ListAccounts,
    ListAttachments,
    ListContacts,
    ListGroups,
    Operation,
    QuitGroup,
    SendReceipt,
    SendTyping,
    StartLink,
    SubmitRateLimitChallenge,
    UpdateContact,
    UpdateGroup,
    UpdateProfile,
)
from ._calls import Call, json_call
from ._rest_requests import in_path, marked

#: What the gateway answers by itself; everything else reaches signal-cli, with which one at a time must talk.
_ITS_OWN: Final = ("/v1/about", "/v1/health", "/v1/attachments")

#: What is not one account's.
_OF_NO_ACCOUNT: Final = frozenset[type[Operation[Any]]](
    {DeleteAttachment, FinishLink, ListAccounts, ListAttachments, StartLink}
)


def needs_account(operation: Operation[Any]) -> bool:
    """Say whether an operation is one account's."""
    return type(operation) not in _OF_NO_ACCOUNT


def reaches_signal_cli(path: str) -> bool:
    """Say whether a request to this path makes the gateway talk to signal-cli."""
    return not path.startswith(_ITS_OWN)


def encode_operation(operation: Operation[Any], account: str) -> Call | None:
    """Return the request for an operation; None where there is nothing to ask.

    Args:
        operation: what to do.
        account: for whom; anything where the operation is not one account's.

    Raises:
        Unsupported: this gateway cannot do it.
    """
    return _WRITERS[type(operation)](operation, in_path(account))


def _unsupported(what: str, hint: str = "") -> Unsupported:
    return Unsupported(
        f'signal-cli-rest-api cannot {what}; signal-cli\'s own daemon (gateway="signal-cli") can{hint}'
    )


def _receipt(operation: SendReceipt, account: str) -> Call:
    if operation.kind != "read":
        raise _unsupported(f"send a receipt for {operation.kind!r}, only for 'read'")
    body = {
        "recipient": marked(operation.recipient),
        "receipt_type": operation.kind,
        "timestamp": operation.timestamp,
    }
    return json_call("POST", f"/v1/receipts/{account}", body)


def _typing(operation: SendTyping, account: str) -> Call:
    body = {"recipient": marked(operation.recipient)}
    return json_call("DELETE" if operation.stop else "PUT", f"/v1/typing-indicator/{account}", body)


def _list_groups(_: ListGroups, account: str) -> Call:
    return Call("GET", f"/v1/groups/{account}")


def _create_group(operation: CreateGroup, account: str) -> Call:
    body: dict[str, Any] = {"name": operation.name, "members": operation.members}
    body |= _given(
        description=operation.description or None,
        expiration_time=operation.expiration,
        group_link=operation.link,
        permissions=_permissions(operation.permissions),
    )
    return json_call("POST", f"/v1/groups/{account}", body)


def _update_group(operation: UpdateGroup, account: str) -> Call:
    if operation.expiration == 0:
        raise _unsupported("switch disappearing messages off")
    body = _given(
        name=operation.name,
        description=operation.description,
        base64_avatar=_picture(operation.avatar),
        expiration_time=operation.expiration,
        group_link=operation.link,
        permissions=_permissions(operation.permissions),
    )
    return json_call("PUT", _group_path(operation.group, account), body)


def _change_members(operation: ChangeMembers, account: str) -> Call:
    method = "DELETE" if operation.action.startswith("remove") else "POST"
    path = _group_path(operation.group, account)
    if operation.action.endswith("admins"):
        return json_call(method, f"{path}/admins", {"admins": list(map(marked, operation.members))})
    return json_call(method, f"{path}/members", {"members": operation.members})


def _join_group(operation: JoinGroup, account: str) -> Call:
    if operation.group.startswith(JOIN_LINK):
        raise _unsupported("join a group by its link")
    return Call("POST", f"{_group_path(operation.group, account)}/join")


def _quit_group(operation: QuitGroup, account: str) -> Call:
    return Call("POST", f"{_group_path(operation.group, account)}/quit")


def _list_contacts(operation: ListContacts, account: str) -> Call:
    return Call(
        "GET", f"/v1/contacts/{account}" + ("?all_recipients=true" if operation.all_recipients else "")
    )


def _update_contact(operation: UpdateContact, account: str) -> Call:
    if operation.expiration == 0:
        raise _unsupported("switch disappearing messages off")
    if operation.name == "":
        raise _unsupported("take a contact's name away")
    body: dict[str, Any] = {"recipient": marked(operation.recipient)}
    body |= _given(name=operation.name, expiration_in_seconds=operation.expiration)
    return json_call("PUT", f"/v1/contacts/{account}", body)


def _update_profile(operation: UpdateProfile, account: str) -> Call:
    if operation.name is None:
        raise _unsupported("change a profile without setting the name", "; or give the name too")
    body = _given(name=operation.name, about=operation.about, base64_avatar=_picture(operation.avatar))
    return json_call("PUT", f"/v1/profiles/{account}", body)


def _list_accounts(_: ListAccounts, __: str) -> Call:
    return Call("GET", "/v1/accounts")


def _challenge(operation: SubmitRateLimitChallenge, account: str) -> Call:
    body = {"challenge_token": operation.challenge_token, "captcha": operation.captcha}
    return json_call("POST", f"/v1/accounts/{account}/rate-limit-challenge", body)


def _start_link(operation: StartLink, _: str) -> Call:
    return Call("GET", f"/v1/qrcodelink/raw?device_name={quote(operation.device_name, safe='')}")


def _finish_link(_: FinishLink, __: str) -> None:
    """Ask nothing: the gateway has waited for the phone since the link was started."""


def _list_attachments(_: ListAttachments, __: str) -> Call:
    return Call("GET", "/v1/attachments")


def _delete_attachment(operation: DeleteAttachment, _: str) -> Call:
    return Call("DELETE", f"/v1/attachments/{in_path(operation.id)}")


_WRITERS: Final[Mapping[type[Operation[Any]], Callable[[Any, str], Call | None]]] = {
    SendReceipt: _receipt,
    SendTyping: _typing,
    ListGroups: _list_groups,
    CreateGroup: _create_group,
    UpdateGroup: _update_group,
    ChangeMembers: _change_members,
    JoinGroup: _join_group,
    QuitGroup: _quit_group,
    ListContacts: _list_contacts,
    UpdateContact: _update_contact,
    UpdateProfile: _update_profile,
    ListAccounts: _list_accounts,
    SubmitRateLimitChallenge: _challenge,
    StartLink: _start_link,
    FinishLink: _finish_link,
    ListAttachments: _list_attachments,
    DeleteAttachment: _delete_attachment,
}


def _group_path(group: str, account: str) -> str:
    return f"/v1/groups/{account}/{in_path(group)}"


def _picture(picture: bytes | None) -> str | None:
    return None if picture is None else base64.b64encode(picture).decode()


def _permissions(permissions: GroupPermissions | None) -> dict[str, Any] | None:
    if permissions is None:
        return None
    return _given(
        add_members=permissions.add_members,
        edit_group=permissions.edit_details,
        send_messages=permissions.send_messages,
    )


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are to be set."""
    return {name: value for name, value in fields.items() if value is not None}

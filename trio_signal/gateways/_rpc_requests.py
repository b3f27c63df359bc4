"""Messages and operations as signal-cli's JSON-RPC takes them. Pure.

Source: signal-cli 0.13.19 (the classes of ``org.asamk.signal.commands``) and its man pages. What follows
from them, and holds for every method:

- A person may be a number, a UUID, ``PNI:`` and a UUID, or ``u:`` and a username, wherever one is asked for.
- A parameter that is a list may be given as one value, but not the other way round.
- A file is a path on the daemon's own machine, or a data URI. Of that the file name is percent-decoded, an
  empty one is none (it would be taken for a path), and a JSON string of more than 20,000,000 characters ends
  the whole request.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import quote

from .._attachments import OutgoingAttachment
from .._contents import Reaction, RemoteDelete, Text
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
from .._outgoing import OutgoingMessage
from .._recipients import is_group
from .._styles import parse_styled
from .._wire import group_internal_id
from . import AttachmentRef
from ._calls import Call, call_with_files

Params = dict[str, Any]

#: Where the daemon takes requests.
_PATH: Final = "/api/v1/rpc"

#: The most that a file may take as a data URI, in characters. One more and the daemon's JSON reader gives up.
_MAX_FILE: Final = 20_000_000

#: How a PNG begins; what a preview's picture is otherwise, a JPEG, needs no sign.
_PNG: Final = b"\x89PNG\r\n\x1a\n"

#: What is not one account's.
_OF_NO_ACCOUNT: Final = frozenset[type[Operation[Any]]]({FinishLink, ListAccounts, StartLink})


def encode_message(message: OutgoingMessage, account: str | None, request: str) -> Call:
    """Return the request that sends a message.

    Args:
        message: what to send.
        account: whose it is; None leaves that to a daemon with one account.
        request: the id of the request.

    Raises:
        Unsupported: signal-cli cannot take it like this. Nothing has left.
    """
    content, files = message.content, list[OutgoingAttachment]()
    if isinstance(content, Text):
        method, params = "send", _text(content)
        files = [_checked(file) for file in content.attachments]
    elif isinstance(content, Reaction):
        method, params = "sendReaction", _reaction(content)
    else:
        method, params = "remoteDelete", _remote_delete(content)
    return _call(method, _for(account) | _to(message.recipient) | params, request, files)


def encode_call(method: str, params: object, request: str) -> Call:
    """Return the request that calls a method by its name.

    Raises:
        TypeError: the parameters cannot be written as JSON.
    """
    return _call(method, params, request)


def encode_operation(operation: Operation[Any], account: str | None) -> tuple[str, Params]:
    """Return the method and the parameters of an operation.

    Raises:
        Unsupported: signal-cli cannot do it.
    """
    method, params = _WRITERS[type(operation)](operation)
    return method, (params if type(operation) in _OF_NO_ACCOUNT else _for(account) | params)


def encode_download(ref: AttachmentRef, account: str | None, request: str) -> Call:
    """Return the request for a file that came with a message."""
    return _call("getAttachment", _for(account) | {"id": ref.id} | _at(ref.place), request)


def with_account(params: object, account: str | None) -> object:
    """Return parameters with the account among them where there is place for one and none is named."""
    if account is None or not isinstance(params, dict | None):
        return params
    return _for(account) | cast("Params", params or {})


def _call(method: str, params: object, request: str, files: Sequence[OutgoingAttachment] = ()) -> Call:
    fields: Params = {"jsonrpc": "2.0", "method": method, "id": request}
    if params is not None:
        # The last one: the files are spliced in before its end.
        fields["params"] = params
    return call_with_files("POST", _PATH, fields, place=("params", "attachments"), files=files)


def _for(account: str | None) -> Params:
    return {} if account is None else {"account": account}


def _given(**params: Any) -> Params:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


# --- Who. ---


def _person(person: str) -> str:
    # Of all that a person can be written as, only a username has a dot.
    return f"u:{person}" if "." in person else person


def _group(recipient: str) -> str:
    try:
        return group_internal_id(recipient)
    except ValueError:
        raise Unsupported(
            f"{recipient[:100]!r} is no group that signal-cli can know; take the recipient of a received "
            "message or of list_groups()"
        ) from None


def _to(recipient: str) -> Params:
    """Return whom a message is for, where the method takes several."""
    if is_group(recipient):
        return {"groupId": [_group(recipient)]}
    return {"recipient": [_person(recipient)]}


def _at(recipient: str) -> Params:
    """Return where something is, where the method takes one place."""
    return {"groupId": _group(recipient)} if is_group(recipient) else {"recipient": _person(recipient)}


def _people(people: Sequence[str]) -> list[str]:
    return [_person(person) for person in people]


# --- What. ---


def _text(text: Text) -> Params:
    message, styles = parse_styled(text.text) if text.styled else (text.text, ())
    # Without notifySelf a message to the own number notifies nobody; the REST gateway asks for it as well.
    params: Params = {"message": message, "notifySelf": True}
    if styles:
        params["textStyle"] = [f"{style.start}:{style.length}:{style.name}" for style in styles]
    if text.mentions:
        params["mention"] = [f"{m.start}:{m.length}:{_person(m.author)}" for m in text.mentions]
    if text.quote is not None:
        params |= {
            "quoteTimestamp": text.quote.timestamp,
            "quoteAuthor": _person(text.quote.author),
            "quoteMessage": text.quote.text,
        }
    if text.preview is not None:
        params |= _given(
            previewUrl=text.preview.url,
            previewTitle=text.preview.title,
            previewDescription=text.preview.description,
            previewImage=_picture(text.preview.image),
        )
    if text.view_once:
        params["viewOnce"] = True
    return params | _given(editTimestamp=text.edits)


def _reaction(reaction: Reaction) -> Params:
    params: Params = {
        "emoji": reaction.emoji,
        "targetAuthor": _person(reaction.author),
        "targetTimestamp": reaction.timestamp,
    }
    return params | ({"remove": True} if reaction.remove else {})


def _remote_delete(deletion: RemoteDelete) -> Params:
    return {"targetTimestamp": deletion.timestamp}


def _checked(file: OutgoingAttachment) -> OutgoingAttachment:
    """Return a file as it can go into a data URI.

    Raises:
        Unsupported: it cannot.
    """
    if not file.size:
        raise Unsupported(
            f"the attachment {file.filename!r} is empty, which signal-cli takes for no file at all; "
            'leave it out, or send it through signal-cli-rest-api (gateway="rest")'
        )
    if file.filename is not None:
        file = replace(file, filename=quote(file.filename, safe=" "))
    if len(file.head()) + file.encoded_size() >= _MAX_FILE:
        raise Unsupported(
            f"an attachment of {file.size} bytes is too large for signal-cli's daemon, which takes almost "
            f'{_MAX_FILE * 3 // 4 // 1_000_000} MB; send it through signal-cli-rest-api (gateway="rest")'
        )
    return file


def _picture(picture: bytes | None) -> str | None:
    if picture is None:
        return None
    kind = "image/png" if picture.startswith(_PNG) else "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


# --- Operations. ---


def _receipt(operation: SendReceipt) -> tuple[str, Params]:
    return "sendReceipt", {
        "recipient": _person(operation.recipient),
        "targetTimestamp": [operation.timestamp],
        "type": operation.kind,
    }


def _typing(operation: SendTyping) -> tuple[str, Params]:
    return "sendTyping", _to(operation.recipient) | ({"stop": True} if operation.stop else {})


def _list_groups(_: ListGroups) -> tuple[str, Params]:
    return "listGroups", {}


def _create_group(operation: CreateGroup) -> tuple[str, Params]:
    params: Params = {"name": operation.name}
    if operation.members:
        params["member"] = _people(operation.members)
    details = _given(
        description=operation.description or None, expiration=operation.expiration, link=operation.link
    )
    return "updateGroup", params | details | _permissions(operation.permissions)


def _update_group(operation: UpdateGroup) -> tuple[str, Params]:
    details = _given(
        name=operation.name,
        description=operation.description,
        avatar=_picture(operation.avatar),
        expiration=operation.expiration,
        link=operation.link,
    )
    return "updateGroup", _at(operation.group) | details | _permissions(operation.permissions)


def _permissions(permissions: GroupPermissions | None) -> Params:
    if permissions is None:
        return {}
    return _given(
        setPermissionAddMember=permissions.add_members,
        setPermissionEditDetails=permissions.edit_details,
        setPermissionSendMessages=permissions.send_messages,
    )


_MEMBER_LISTS: Final = {
    "add": "member",
    "remove": "removeMember",
    "add_admins": "admin",
    "remove_admins": "removeAdmin",
}


def _change_members(operation: ChangeMembers) -> tuple[str, Params]:
    members = {_MEMBER_LISTS[operation.action]: _people(operation.members)}
    return "updateGroup", _at(operation.group) | members


def _join_group(operation: JoinGroup) -> tuple[str, Params]:
    if operation.group.startswith(JOIN_LINK):
        return "joinGroup", {"uri": operation.group}
    # An update of a group that one is invited to, whatever it changes, accepts the invitation.
    return "updateGroup", _at(operation.group)


def _quit_group(operation: QuitGroup) -> tuple[str, Params]:
    return "quitGroup", _at(operation.group)


def _list_contacts(operation: ListContacts) -> tuple[str, Params]:
    return "listContacts", ({"allRecipients": True} if operation.all_recipients else {})


def _update_contact(operation: UpdateContact) -> tuple[str, Params]:
    changes = _given(name=operation.name, expiration=operation.expiration)
    return "updateContact", _at(operation.recipient) | changes


def _update_profile(operation: UpdateProfile) -> tuple[str, Params]:
    names: Params = {}
    if operation.name is not None:
        # A family name from before would stay behind the new name otherwise.
        names = {"givenName": operation.name, "familyName": ""}
    return "updateProfile", names | _given(about=operation.about, avatar=_picture(operation.avatar))


def _list_accounts(_: ListAccounts) -> tuple[str, Params]:
    return "listAccounts", {}


def _challenge(operation: SubmitRateLimitChallenge) -> tuple[str, Params]:
    return "submitRateLimitChallenge", {
        "challenge": operation.challenge_token,
        "captcha": operation.captcha,
    }


def _start_link(_: StartLink) -> tuple[str, Params]:
    return "startLink", {}


def _finish_link(operation: FinishLink) -> tuple[str, Params]:
    return "finishLink", {"deviceLinkUri": operation.uri, "deviceName": operation.device_name}


def _attachments(_: ListAttachments | DeleteAttachment) -> tuple[str, Params]:
    raise Unsupported(
        "signal-cli's own daemon cannot list or delete the files that it keeps; "
        'signal-cli-rest-api (gateway="rest") can'
    )


_WRITERS: Final[dict[type[Operation[Any]], Callable[[Any], tuple[str, Params]]]] = {
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
    ListAttachments: _attachments,
    DeleteAttachment: _attachments,
}

"""signal-cli's JSON-RPC methods that are no sends.

Of the others the fake answers that they are not implemented; `FakeGateway.script` can give them any answer.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._account_state import GroupChange, UserError
from ._core import Core
from ._rpc import INVALID_PARAMS, METHOD_NOT_FOUND, Params, RpcCall, RpcError, object_of, params_of
from ._rpc_sends import USER_ERROR, check_group_id, results_of


@dataclass(frozen=True)
class _Asked:
    core: Core
    account: str
    params: Params

    def sent(self) -> dict[str, Any]:
        """The result of what sends something to the recipients of this call."""
        results = results_of(self.params, self.core.state, self.account)
        return {"timestamp": self.core.next_timestamp(), "results": results}


def account_of(core: Core, call: RpcCall) -> str | None:
    """Return the account of a call; None if it names none and the daemon does not have just one.

    Raises:
        RpcError: it names one that the daemon does not have.
    """
    named = object_of(call).get("account")
    if named is None:
        return core.config.accounts[0] if len(core.config.accounts) == 1 else None
    if str(named) not in core.config.accounts:
        raise RpcError(INVALID_PARAMS, "Specified account does not exist")
    return str(named)


def needed_account(core: Core, call: RpcCall) -> str:
    """Return the account of a call that must have one.

    Raises:
        RpcError: there is none, or the daemon does not have it.
    """
    account = account_of(core, call)
    if account is None:
        raise RpcError(INVALID_PARAMS, "Method requires valid account parameter")
    return account


def perform(core: Core, call: RpcCall) -> Any:
    """Carry out a call that is no send, and return its result.

    Raises:
        RpcError: it fails.
    """
    if call.method not in _OF_ACCOUNT and call.method not in _OF_NONE:
        raise RpcError(METHOD_NOT_FOUND, "Method not implemented")
    act = _OF_NONE.get(call.method)
    account = account_of(core, call) or "" if act is not None else needed_account(core, call)
    asked = _Asked(core, account, Params(params_of(call)))
    try:
        return (act or _OF_ACCOUNT[call.method])(asked)
    except UserError as problem:
        raise RpcError(USER_ERROR, str(problem)) from None


# --- without an account ---


def _version(asked: _Asked) -> Any:
    return {"version": asked.core.config.version}


def _list_accounts(asked: _Asked) -> Any:
    return [{"number": number} for number in asked.core.config.accounts]


def _start_link(asked: _Asked) -> Any:
    return {"deviceLinkUri": asked.core.state.start_link()}


def _finish_link(asked: _Asked) -> Any:
    asked.core.state.finish_link(asked.params.text("device-link-uri"))
    return {"number": asked.core.config.account}


# --- messages ---


def _send_receipt(asked: _Asked) -> Any:
    kind = asked.params.text("type") or "read"
    if kind not in {"read", "viewed"}:
        raise UserError(f"Unknown receipt type: {kind}")
    return asked.sent()


def _send_typing(asked: _Asked) -> Any:
    if not (asked.params.many("recipient") or asked.params.many("group-id")):
        raise UserError("No recipients given")
    return asked.sent()


def _get_attachment(asked: _Asked) -> Any:
    name = asked.params.text("id") or ""
    if name not in asked.core.attachments:
        raise UserError(f"Could not find attachment with ID: {name}")
    return {"data": base64.b64encode(asked.core.attachments[name]).decode()}


# --- groups ---


def _list_groups(asked: _Asked) -> Any:
    wanted = asked.params.many("group-id")
    return [group for group in asked.core.state.groups.values() if not wanted or group["id"] in wanted]


def _update_group(asked: _Asked) -> Any:
    state, params = asked.core.state, asked.params
    change = _change(params)
    group = params.text("group-id")
    if group is None:
        created = state.create_group(asked.account, change)
        return {"groupId": created, **_told_group(asked, created)}
    check_group_id(group)
    state.accept_invitation(asked.account, group)
    state.change_group(group, change)
    return _told_group(asked, group)


def _change(params: Params) -> GroupChange:
    return GroupChange(
        name=params.text("name"),
        description=params.text("description"),
        members=params.many("member"),
        remove_members=params.many("remove-member"),
        admins=params.many("admin"),
        remove_admins=params.many("remove-admin"),
        link=params.text("link"),
        expiration=params.number("expiration"),
        add_permission=params.text("set-permission-add-member"),
        edit_permission=params.text("set-permission-edit-details"),
        send_permission=params.text("set-permission-send-messages"),
    )


def _join_group(asked: _Asked) -> Any:
    group = asked.core.state.join_group(asked.account, asked.params.text("uri") or "")
    return {**_told_group(asked, group), "groupId": group, "onlyRequested": False}


def _quit_group(asked: _Asked) -> Any:
    group = asked.params.text("group-id") or ""
    check_group_id(group)
    told = _told_group(asked, group)
    asked.core.state.quit_group(asked.account, group, delete=asked.params.flag("delete"))
    return told


def _told_group(asked: _Asked, group: str) -> dict[str, Any]:
    results = results_of(Params({"groupId": group}), asked.core.state, asked.account)
    return {"timestamp": asked.core.next_timestamp(), "results": results}


# --- contacts, profile, limits ---


def _list_contacts(asked: _Asked) -> Any:
    wanted = asked.params.many("recipient")
    known = asked.core.state.contacts.items()
    contacts = [contact for key, contact in known if not wanted or key in wanted]
    if asked.core.config.is_at_least(0, 14):
        return contacts
    return [{key: value for key, value in each.items() if key != "isArchived"} for each in contacts]


def _update_contact(asked: _Asked) -> Any:
    params = asked.params
    asked.core.state.update_contact(
        params.text("recipient") or "",
        name=params.text("name"),
        expiration=params.number("expiration"),
        note=params.text("note"),
    )
    return {}


def _update_profile(asked: _Asked) -> Any:
    params = asked.params
    profile = asked.core.state.profiles.setdefault(asked.account, {})
    names = {"givenName": params.text("given-name") or params.text("name"), "about": params.text("about")}
    profile |= {key: value for key, value in names.items() if value is not None}
    if params.text("avatar") is not None or params.flag("remove-avatar"):
        profile["hasAvatar"] = not params.flag("remove-avatar")
    return {}


def _submit_challenge(asked: _Asked) -> Any:
    if not (asked.params.text("challenge") and asked.params.text("captcha")):
        raise UserError(
            "Captcha rejected, it may be outdated, already used or solved from a different IP address."
        )
    return {}


_Act = Callable[[_Asked], Any]

_OF_NONE: Mapping[str, _Act] = {
    "version": _version,
    "listAccounts": _list_accounts,
    "startLink": _start_link,
    "finishLink": _finish_link,
}
_OF_ACCOUNT: Mapping[str, _Act] = {
    "sendReceipt": _send_receipt,
    "sendTyping": _send_typing,
    "getAttachment": _get_attachment,
    "listGroups": _list_groups,
    "updateGroup": _update_group,
    "joinGroup": _join_group,
    "quitGroup": _quit_group,
    "listContacts": _list_contacts,
    "updateContact": _update_contact,
    "updateProfile": _update_profile,
    "submitRateLimitChallenge": _submit_challenge,
}

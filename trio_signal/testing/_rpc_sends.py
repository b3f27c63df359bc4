"""What goes into a chat through signal-cli: its checks, its results, and what scripted answers mean there."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ._account_state import AccountState
from ._answers import SendAnswer
from ._records import SendKind
from ._rpc import Params, RpcError
from .envelopes import PEER, uuid_of

SENDS: Mapping[str, SendKind] = {
    "send": "send",
    "sendReaction": "reaction",
    "remoteDelete": "remote_delete",
}

USER_ERROR = -1
UNTRUSTED = -4
RATE_LIMITED = -5

_MENTION = re.compile(r"(\d+):(\d+):(.+)")
_STYLES = frozenset({"BOLD", "ITALIC", "SPOILER", "STRIKETHROUGH", "MONOSPACE"})
_EMPTY = "Sending empty message is not allowed, either a message, attachment or sticker must be given."
_FAILED: Mapping[frozenset[str], tuple[int, str]] = {
    frozenset({"IDENTITY_FAILURE"}): (UNTRUSTED, "Failed to send message due to untrusted identities"),
    frozenset({"RATE_LIMIT_FAILURE"}): (RATE_LIMITED, "Failed to send message due to rate limiting"),
}
"""How it fails when nobody got the message, and all for this one reason."""


def check_send(kind: SendKind, params: Params) -> None:
    """Make signal-cli's own checks.

    Raises:
        RpcError: with its words.
    """
    groups = params.many("group-id")
    if not (params.many("recipient") or groups or params.many("username") or params.flag("note-to-self")):
        raise RpcError(USER_ERROR, "No recipients given")
    for group in groups:
        check_group_id(group)
    if kind == "send":
        _check_text(params)


def check_group_id(group: str) -> None:
    """Refuse what is no base64.

    Raises:
        RpcError: it is none.
    """
    try:
        base64.b64decode(group, validate=True)
    except (binascii.Error, ValueError) as error:
        text = f'Invalid group id: Failed to decode groupId (must be base64) "{group}": {error}'
        raise RpcError(USER_ERROR, text) from None


def results_of(params: Params, state: AccountState, account: str) -> list[dict[str, Any]]:
    """Return the result for each recipient, if all goes well.

    A group that the state does not know has one member beside the sender.
    """
    people = [*params.many("recipient"), *(f"u:{name}" for name in params.many("username"))]
    results = [{"recipientAddress": address(person), "type": "SUCCESS"} for person in people]
    for group in params.many("group-id"):
        results += [
            {"recipientAddress": member, "groupId": group, "type": "SUCCESS"}
            for member in _members(state, group, account)
        ]
    return results


def address(recipient: str) -> dict[str, Any]:
    """Build the address of a number, a UUID, or a username (``u:…``), as results have it."""
    if recipient.startswith("u:"):
        return {"uuid": None, "number": None, "username": recipient.removeprefix("u:")}
    if recipient.startswith("+"):
        return {"uuid": uuid_of(recipient), "number": recipient, "username": None}
    return {"uuid": recipient, "number": None, "username": None}


def rpc_result_of(answer: SendAnswer, timestamp: int, results: list[dict[str, Any]]) -> Any:
    """Return what ``answer`` is as a result of a send.

    Args:
        answer: one that is a proper answer.
        timestamp: milliseconds since the epoch, given to the message.
        results: those of `results_of`.

    Raises:
        RpcError: it is an error.
    """
    match answer.kind:
        case "rpc_result":
            return answer.value
        case "rpc_error":
            raise RpcError(answer.code, answer.text, answer.value)
        case "error":
            raise RpcError(USER_ERROR, answer.text)
        case "rate_limited":
            limited = [_limited(each, at, answer) for at, each in enumerate(results)]
            response = {"timestamp": timestamp, "results": limited}
            raise RpcError(RATE_LIMITED, answer.text, {"response": response})
        case _:  # ok, partial
            return _mixed(answer.failed, timestamp, results)


def _check_text(params: Params) -> None:
    if not (params.text("message") or params.many("attachment") or params.text("sticker")):
        raise RpcError(USER_ERROR, _EMPTY)
    if params.number("quote-timestamp") is not None and not params.text("quote-author"):
        raise RpcError(USER_ERROR, "Quote author parameter is missing")
    for mention in params.many("mention"):
        if _MENTION.fullmatch(mention) is None:
            expected = "expected 'start:length:recipientNumber'"
            raise RpcError(USER_ERROR, f"Invalid mention syntax ({mention}) {expected}")
    for style in params.many("text-style"):
        found = _MENTION.fullmatch(style)
        if found is None:
            raise RpcError(USER_ERROR, f"Invalid textStyle syntax ({style}) expected 'start:length:STYLE'")
        if found[3] not in _STYLES:
            raise RpcError(USER_ERROR, f"Invalid style: {found[3]}")


def _members(state: AccountState, group: str, account: str) -> Iterable[dict[str, Any]]:
    known = state.groups.get(group)
    if known is None:
        return [address(PEER)]
    return [
        {"uuid": each["uuid"], "number": each["number"], "username": None}
        for each in known["members"]
        if each["number"] != account
    ]


def _limited(result: Mapping[str, Any], at: int, answer: SendAnswer) -> dict[str, Any]:
    tokens = answer.tokens or ()
    token = tokens[min(at, len(tokens) - 1)] if tokens else ""
    limited = {**result, "type": "RATE_LIMIT_FAILURE"}
    if token:
        limited["token"] = token
    if answer.retry_after is not None and answer.retry_after.replace(".", "", 1).isdecimal():
        limited["retryAfterSeconds"] = round(float(answer.retry_after))
    return limited


def _mixed(failed: Iterable[Mapping[str, Any]], timestamp: int, results: list[dict[str, Any]]) -> Any:
    for failure in failed:
        for result in results:
            if _is(result["recipientAddress"], failure):
                result["type"] = failure.get("reason", "NETWORK_FAILURE")
                result |= {key: failure[key] for key in ("token", "retryAfterSeconds") if key in failure}
    response = {"timestamp": timestamp, "results": results}
    kinds = frozenset(result["type"] for result in results)
    if results and "SUCCESS" not in kinds:
        code, text = _FAILED.get(kinds, (USER_ERROR, "Failed to send message"))
        raise RpcError(code, text, {"response": response})
    return response


def _is(found: Mapping[str, Any], failure: Mapping[str, Any]) -> bool:
    keys = ("number", "uuid", "username")
    return any(failure.get(key) and failure[key] == found.get(key) for key in keys)

"""What operations and calls over HTTP have in common on the REST gateway and on a hub. Pure."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from .._errors import Certainty, ConfigurationError, LinkLost, RequestFailed, Unsupported
from .._operations import ListAccounts, ListAttachments, ListContacts, ListGroups, Operation
from ._calls import Call, json_call

_CALL: Final = re.compile(r"(GET|POST|PUT|DELETE|PATCH) (/[^\s\x00-\x1f\x7f#]*)")

#: How a JSON-RPC method is called.
_METHOD: Final = re.compile(r"[a-z][A-Za-z0-9_.]*")

#: What changes nothing, however it ends.
_ONLY_READ: Final = frozenset[type[Operation[Any]]]({ListAccounts, ListAttachments, ListContacts, ListGroups})

#: What comes of bytes, or of a value, that is no JSON.
NOT_JSON: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)


def parse_call(what: str, body: object) -> Call:
    """Return the request that ``"METHOD /path"`` and a body stand for.

    Raises:
        ConfigurationError: they stand for none.
        Unsupported: it is the name of a JSON-RPC method.
    """
    found = _CALL.fullmatch(what)
    if found is None:
        if _METHOD.fullmatch(what):
            raise Unsupported(
                f'{what!r} looks like a method of signal-cli\'s own daemon, which only gateway="signal-cli" '
                'can call; here it is "METHOD /path", like "GET /v1/about"'
            )
        raise ConfigurationError("what", f'{what[:100]!r} is not "METHOD /path", like "GET /v1/about"')
    if body is None:
        return Call(found[1], found[2])
    try:
        return json_call(found[1], found[2], body)
    except NOT_JSON as error:
        raise ConfigurationError("body", f"it cannot be written as JSON: {error}") from None


def read_call_answer(body: bytes) -> Any:
    """Return what a call was answered with: JSON decoded, None for nothing, bytes for what is no JSON."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except NOT_JSON:
        return body


def number_of(account: str | None, address: object) -> str:
    """Return the account where there must be one.

    Raises:
        Unsupported: there is none.
    """
    if account is None:
        raise Unsupported(
            f'{address} serves one account at a time; only signal-cli\'s own daemon (gateway="signal-cli") '
            "serves all of its accounts at once: give a number"
        )
    return account


def is_success(status: int) -> bool:
    """Say whether an HTTP status means that it was done."""
    return 200 <= status < 300


def unreadable(status: int) -> RequestFailed:
    """Return what to raise where it was done, but nobody can tell with which result."""
    error = LinkLost(f"the gateway did it (HTTP {status}), but its answer cannot be read")
    return RequestFailed(error, Certainty.UNKNOWN)


@contextmanager
def certain_if_only_read(operation: Operation[Any]) -> Generator[None]:
    """Make any failure of an operation that changes nothing a certain one: nothing was done."""
    try:
        yield
    except RequestFailed as error:
        if type(operation) not in _ONLY_READ or error.certainty is Certainty.NOT_SENT:
            raise
        raise nothing_done(error) from error


def nothing_done(error: RequestFailed) -> RequestFailed:
    """Return the failure of something that changes nothing, however it ended."""
    return RequestFailed(error.error, Certainty.NOT_SENT)

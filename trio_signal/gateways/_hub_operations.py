"""What a hub answers to ``POST /v1/operations`` and to calls. Pure.

The hub answers with what its own client came to: the result as JSON, or an error that says in
``certainty`` whether anything may have been done, and in ``unsupported`` that its gateway cannot.
"""

from typing import Any, Final, cast

import msgspec

from .._errors import RequestFailed, Unsupported
from .._operations import RESULTS, FinishLink, ListAccounts, Operation, R_co, StartLink
from .._outcomes import Failed
from ._calls import Call, json_call
from ._hub_answers import read_hub_answer
from ._operation_answers import NOT_JSON, is_success, unreadable
from ._rest_answers import decode, words

#: What is not about the hub's account.
_OF_THE_GATEWAY: Final = (FinishLink, ListAccounts, StartLink)


def encode_hub_operation(operation: Operation[Any]) -> Call:
    """Return the request for an operation.

    Raises:
        Unsupported: a hub does no such thing.
    """
    if isinstance(operation, _OF_THE_GATEWAY):
        raise Unsupported(
            "a hub serves one account, and neither links nor lists others; ask the gateway behind it: "
            'use its own URL, with gateway="rest" or "signal-cli"'
        )
    return json_call("POST", "/v1/operations", operation)


def read_hub_operation(operation: Operation[R_co], status: int, body: bytes) -> R_co:
    """Return the result that an answer tells.

    Raises:
        RequestFailed: it tells a failure, or cannot be read.
        Unsupported: the gateway behind the hub cannot do it.
    """
    if not is_success(status):
        raise hub_failure(status, body)
    form: Any = RESULTS[type(operation)]
    try:
        return cast("R_co", msgspec.json.decode(body, type=form))
    except NOT_JSON as error:
        raise unreadable(status) from error


def hub_failure(status: int, body: bytes) -> RequestFailed | Unsupported:
    """Return what an answer that is no success means; the table is the same as for sends."""
    answer = decode(body)
    if status == 501 or _unsupported(answer):
        return Unsupported(words(answer, body) or "the hub's gateway cannot do this")
    failed = cast("Failed", read_hub_answer(status, body, recipient="", wait=None).outcome)
    return RequestFailed(failed.error, failed.certainty)


def _unsupported(answer: object) -> bool:
    return isinstance(answer, dict) and cast("dict[str, object]", answer).get("unsupported") is True

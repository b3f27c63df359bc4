"""``POST /v1/operations``: what is asked of the gateway at once, in the library's own words."""

from collections.abc import Awaitable, Callable
from typing import Final, cast

import msgspec
import trio

from .._client import SignalClient
from .._errors import AnswerError, Certainty, ClientClosed, ConfigurationError, RequestFailed, Unsupported
from .._operations import AnyOperation, FinishLink, ListAccounts, StartLink
from ._bodies import decoded, shortened, wrong
from ._exchange import Answer, HttpError
from ._sends import cancel_after, failed, unsent

#: What is about more than the one account that the hub serves.
_FORBIDDEN: Final = (StartLink, FinishLink, ListAccounts)

#: The arguments of the client's that have another name in the body.
_FIELDS: Final = {"target.timestamp": "timestamp", "attachment": "id"}

#: More commas than the largest operation has, with its thousand members and its texts of 4,096 characters.
_MOST_COMMAS: Final = 20_000

#: Unions have no type of their own.
_ANY: Final = cast("type[AnyOperation]", AnyOperation)


def parse_operation(body: bytes) -> AnyOperation:
    """Read an operation. Pure.

    Raises:
        HttpError: it is no JSON (400), no operation, or one with a field that is wrong (422).
    """
    if body.count(b",") > _MOST_COMMAS:
        # Millions of members, say, are not taken apart before they are refused.
        raise HttpError(422, "no operation has that many parts")
    return decoded(body, _ANY, _FIELDS)


async def operate(
    signal: SignalClient, operation: AnyOperation, *, going_down: Callable[[], Awaitable[None]]
) -> Answer:
    """Carry out an operation and answer with what came of it.

    A checkpoint. It has the client's ``send_timeout``. It goes on where the peer hangs up, since
    the gateway would go on with it too, and does not bear the next one beside it.

    Args:
        signal: whose account it is about.
        operation: what to do.
        going_down: returns when the answer must be given.
    """
    if isinstance(operation, _FORBIDDEN):
        await trio.lowlevel.checkpoint()
        told = {"error": "a hub's client has one account and cannot ask for others or link them"}
        return Answer(403, msgspec.json.encode(told | {"certainty": Certainty.NOT_SENT.value}))
    answer = failed(AnswerError("the hub went down while it was done"), Certainty.UNKNOWN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_after, going_down, nursery.cancel_scope)
        answer = await _attempt(signal, operation)
        nursery.cancel_scope.cancel()
    return answer


def answer_for_failure(error: RequestFailed | Unsupported) -> Answer:
    """Return the answer that tells why something was not done. Pure."""
    if isinstance(error, Unsupported):
        told = {"error": shortened(str(error)), "certainty": Certainty.NOT_SENT.value, "unsupported": True}
        return Answer(501, msgspec.json.encode(told))
    in_words = isinstance(error.error, AnswerError) and (error.error.status or 0) < 500
    if error.certainty is Certainty.NOT_SENT and not in_words:
        return unsent(str(error.error))
    return failed(error.error, error.certainty)


async def _attempt(signal: SignalClient, operation: AnyOperation) -> Answer:
    try:
        result: object = await signal._operate(operation)  # noqa: SLF001
    except (RequestFailed, Unsupported) as error:
        return answer_for_failure(error)  # noqa: ASYNC910  (operate() is one)
    except ConfigurationError as error:
        return wrong(error, _FIELDS).answer  # noqa: ASYNC910
    except ClientClosed as error:
        return unsent(str(error))  # noqa: ASYNC910
    return Answer(200, msgspec.json.encode(result))

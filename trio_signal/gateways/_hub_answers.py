"""What a hub's answers to ``POST /v2/send`` mean. Pure.

The hub answers with the outcome that its own client came to, and says in ``certainty``
whether the message may have gone out. That decides; where an answer does not say it, the
status does, since a proxy on the way may have answered.
"""

from typing import Final, cast

from .._errors import AnswerError, Certainty
from .._outcomes import Failed, Sent
from . import SendResult
from ._rest_answers import challenge_tokens, decode, read_taken, words

#: With these the hub, or whoever stands before it, has turned the request away for now.
_LATER: Final = frozenset({429, 503})
_REFUSED: Final = frozenset({401, 403})


def read_hub_answer(
    status: int, body: bytes, *, recipient: str, wait: float | None, is_reaction: bool = False
) -> SendResult:
    """Say what an answer means.

    Args:
        status: the HTTP status.
        body: the body, whole.
        recipient: who the message was for.
        wait: the ``Retry-After`` in seconds, if there was one.
        is_reaction: whether a reaction was sent.
    """
    if status == 201:
        return read_taken(body, recipient)
    if status == 204 and is_reaction:
        return SendResult(Sent(0))
    answer = decode(body)
    text, tokens = words(answer, body), challenge_tokens(answer)
    told = f"the hub answered HTTP {status}" + (f": {text}" if text else "")
    certainty = _certainty(status, answer)
    unsent = certainty is Certainty.NOT_SENT
    return SendResult(
        Failed(AnswerError(told, status=status, text=text, challenge_tokens=tokens), certainty),
        retry=unsent and status in _LATER,
        refused=unsent and status in _REFUSED,
        # Signal's limit, met by the hub's client for a message of ours. A 429 is the hub's own.
        rate_limited=bool(tokens),
        retry_after=wait,
        challenge_tokens=tokens,
    )


def _certainty(status: int, answer: object) -> Certainty:
    fields = cast("dict[str, object]", answer) if isinstance(answer, dict) else {}
    told = fields.get("certainty")
    if isinstance(told, str) and told in set(Certainty):
        return Certainty(told)
    if status == 408 and "error" not in fields:
        # The hub says so of a request that did not come whole; a proxy may say it of the answer.
        return Certainty.UNKNOWN
    # Whoever answered so did not pass it on.
    return Certainty.NOT_SENT if 300 <= status < 500 or status == 503 else Certainty.UNKNOWN

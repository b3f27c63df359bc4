"""What the REST gateway's answers to sends mean. Pure.

The table of answers is contract O6. It rests on the measured behaviour of the gateway:
a status says little (400 covers both bad input and a broken network), the words of the
error tell more, and where neither is certain the answer is "unknown", because a message
sent twice to a person cannot be called back.
"""

from typing import Annotated, Final, cast

import msgspec

from .._errors import AnswerError, Certainty, FailedRecipient, LinkLost
from .._outcomes import Failed, Sent
from .._recipients import is_group
from . import SendResult


class _Taken(msgspec.Struct, forbid_unknown_fields=True):
    """What a gateway says of a message that reached everybody."""

    timestamp: str


#: Reads that, and nothing else.
_TAKEN: Final[msgspec.json.Decoder[_Taken | list[_Taken]]] = msgspec.json.Decoder(
    _Taken | Annotated[list[_Taken], msgspec.Meta(min_length=1)]
)

#: How much of the gateway's own words is kept.
_MAX_WORDS: Final = 500

#: No pause is longer, in seconds; such a number is nonsense.
_LONGEST_WAIT: Final = 1e9

#: Errors with status 400 that the gateway or signal-cli gives before anything goes to Signal, matched by how
#: the text begins. Source: real-gateway measurements (sections 2, 7, 8) and the gateway's ``client.go``.
_REFUSED_BEFORE_SENDING: Final = (
    "Specified account does not exist",
    "Couldn't process request - ",
    "illegal base64 data",
    "Invalid identifier group.",
    "Invalid group id",
    "Signal Messenger phone numbers and usernames cannot be specified together",
    "Unable to complete request due to untrusted recipient keys",
    "User is not registered",
    "Unregistered user",
)

#: Rate limits that come as 400 (rest#482, cli#2071): the limit is real, the fate of the message is not known.
_RATE_LIMIT_WORDS: Final = ("due to rate limiting", "[429]", "[413]", "RateLimitException")


#: What a failed recipient's reason is when the gateway gives none.
_NO_REASON: Final = "unknown"

#: After these a person may have the message all the same; the others come before anything is delivered.
_DOUBTFUL: Final = frozenset({"NETWORK_FAILURE", _NO_REASON})


def read_answer(
    status: int, body: bytes, *, recipient: str, wait: float | None, is_reaction: bool = False
) -> SendResult:
    """Say what an answer to a send, a reaction or a deletion means (contract O6).

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
        # The gateway tells nothing more of one.
        return SendResult(Sent(0))
    answer = decode(body)
    text = words(answer, body)
    tokens = challenge_tokens(answer)
    error = AnswerError(_sentence(status, text), status=status, text=text, challenge_tokens=tokens)
    if status in (401, 403):
        return SendResult(Failed(error, Certainty.NOT_SENT), refused=True, retry_after=wait)
    if status == 503 or (status == 500 and not body.strip()):
        # An empty 500 is the gateway's own link to signal-cli being down; 503 is a proxy without a gateway.
        return SendResult(Failed(error, Certainty.NOT_SENT), retry=True, retry_after=wait)
    if status == 429 or (status == 400 and any(mark in text for mark in _RATE_LIMIT_WORDS)):
        return _rate_limited(error, wait)
    return SendResult(Failed(error, _certainty(status, text)), retry_after=wait)


def _certainty(status: int, text: str) -> Certainty:
    if status == 400:
        known = text.startswith(_REFUSED_BEFORE_SENDING)
        return Certainty.NOT_SENT if known else Certainty.UNKNOWN
    # A redirect, a wrong path, a body too large for a proxy: whoever answered so did not pass it on.
    client_fault = 300 <= status < 500 and status != 408
    return Certainty.NOT_SENT if client_fault else Certainty.UNKNOWN


def _rate_limited(error: AnswerError, wait: float | None) -> SendResult:
    # The message may have been delivered all the same (rest#881).
    return SendResult(
        Failed(error, Certainty.UNKNOWN),
        rate_limited=True,
        retry_after=wait,
        challenge_tokens=error.challenge_tokens,
    )


def read_taken(body: bytes, recipient: str) -> SendResult:
    """Say what a 201 means: an object up to release 0.100, since then a list of one."""
    try:
        taken = _TAKEN.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Somebody was not reached, or the gateway says something else.
        return _accepted(decode(body), recipient)
    entry = taken[0] if isinstance(taken, list) else taken
    return SendResult(Sent(_timestamp(entry.timestamp)))


def _accepted(answer: object, recipient: str) -> SendResult:
    entry = _dict(next(iter(_list(answer)), answer))
    if "timestamp" not in entry:
        error = LinkLost("the gateway took the message (HTTP 201), but its answer cannot be read")
        return SendResult(Failed(error, Certainty.UNKNOWN))
    failed = _failed_recipients(entry)
    # Nobody knows how many members a group has, so somebody else may have it; a person is one recipient.
    if failed and not is_group(recipient):
        reason = ", ".join(sorted({recipient.reason for recipient in failed}))
        doubtful = any(recipient.reason in _DOUBTFUL for recipient in failed)
        certainty = Certainty.UNKNOWN if doubtful else Certainty.NOT_SENT
        return SendResult(
            Failed(AnswerError(f"Signal did not deliver it: {reason}", status=201, text=reason), certainty)
        )
    return SendResult(Sent(_timestamp(entry["timestamp"]), failed))


def _failed_recipients(entry: dict[str, object]) -> tuple[FailedRecipient, ...]:
    listed = _list(_dict(entry.get("errors")).get("recipients"))
    return tuple(_failed_recipient(_dict(recipient)) for recipient in listed)


def _failed_recipient(entry: dict[str, object]) -> FailedRecipient:
    who = entry.get("number") or entry.get("uuid") or entry.get("username") or ""
    wait, token = entry.get("retry_after"), entry.get("challenge_token")
    return FailedRecipient(
        str(who),
        str(entry.get("reason") or _NO_REASON)[:_MAX_WORDS],
        # Only a hub tells these.
        float(wait) if isinstance(wait, int | float) and 0 <= wait < _LONGEST_WAIT else None,
        token if isinstance(token, str) and token else None,
    )


def _timestamp(value: object) -> int:
    """Read a timestamp, which the gateway writes as a string; 0 when it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else 0


def _dict(value: object) -> dict[str, object]:
    """Return a JSON object, empty when it is something else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    """Return a JSON array, empty when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def decode(body: bytes) -> object:
    """Decode JSON whatever its label says; the gateway labels some of it text/plain."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # It is not lost: the words of the error are taken from the bytes instead.
        return None


def challenge_tokens(answer: object) -> tuple[str, ...]:
    """Return what to solve before sending again, without empty ones."""
    tokens = _list(_dict(answer).get("challenge_tokens"))
    return tuple(token for token in tokens if isinstance(token, str) and token)


def words(answer: object, body: bytes) -> str:
    """Return what an answer says went wrong, shortened and printable."""
    text = _dict(answer).get("error")
    if not isinstance(text, str):
        text = body[: 4 * _MAX_WORDS].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_WORDS]).strip()


def _sentence(status: int, text: str) -> str:
    if status == 500 and not text:
        return "the gateway has lost its connection to signal-cli (HTTP 500)"
    if 300 <= status < 400:
        return f"the gateway redirects sends (HTTP {status}); use the address that it redirects to"
    return f"the gateway answered HTTP {status}" + (f": {text}" if text else "")

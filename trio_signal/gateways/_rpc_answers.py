"""What signal-cli's answers to JSON-RPC requests mean. Pure.

The table of answers is contract O6. HTTP says nothing here: results and errors both come with 200. What
tells are the error's code and, of a message, the result for each recipient. Source: signal-cli 0.13.19
(``SendMessageResultUtils``, ``SignalJsonRpcCommandHandler``) and the changes up to 0.14.9:

- A message that reached anybody is a result, with those named that it did not reach; one that reached nobody
  is an error, whose ``data`` is the same result, or holds it as ``response``.
- -32700, -32600, -32601, -32602: signal-cli did not even begin. -1: what was asked for is wrong, found
  before anything is sent, but for "Failed to send message", where results, if there are any, tell more.
  -4: no recipient is trusted. -6: a captcha was not accepted.
- -3, -32603: signal-cli's own network, or anything else, at any moment of sending: nobody knows.
- -5: a rate limit; the message may have been delivered all the same (cli#2071).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

from .._errors import AnswerError, Certainty, FailedRecipient, LinkLost, RequestFailed
from .._outcomes import Failed, Sent
from . import SendResult
from ._rest_answers import decode, words

#: How much of signal-cli's own words is kept.
_MAX_WORDS: Final = 500

#: Nobody is asked to wait longer than this, in seconds; more is nonsense.
_MAX_WAIT: Final = 1e9

#: What Java and SQLite hold of a time.
_MAX_TIME: Final = 2**63

#: Nothing has been sent, or changed, where one of these comes.
_REFUSED: Final = frozenset({-32700, -32600, -32601, -32602, -4, -6})
_USER_ERROR: Final = -1
_RATE_LIMIT: Final = -5

#: How an error -1 begins that comes after sending has begun.
_HAS_BEGUN: Final = "Failed to send message"

#: Rate limits that come under another code.
_RATE_LIMIT_WORDS: Final = ("due to rate limiting", "[429]", "[413]", "RateLimitException")

_SUCCESS: Final = "SUCCESS"
_LIMITED: Final = "RATE_LIMIT_FAILURE"

#: What a failed recipient's reason is when signal-cli gives none.
_NO_REASON: Final = "unknown"

#: After these nobody has the message for certain.
_UNREACHED: Final = frozenset({"UNREGISTERED_FAILURE", "IDENTITY_FAILURE", "INVALID_PRE_KEY_FAILURE"})

#: What to do, for errors that somebody can do something about.
_ADVICE: Final = (
    ("Specified account does not exist", "link or register it on the daemon, or give another number"),
    ("Method requires valid account parameter", "the daemon serves several accounts: say whose this is"),
)

_CODE_ADVICE: Final = {
    -4: "the person's safety number has changed: verify it and trust it on the daemon",
    -6: "the captcha was not accepted: solve a new one",
}


class _Results(NamedTuple):
    """What became of a message, by recipient.

    Attributes:
        reached: whether anybody has it.
        failed: who has it not.
    """

    reached: bool
    failed: tuple[FailedRecipient, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """What a person must solve before more is sent, each once."""
        tokens = (recipient.challenge_token for recipient in self.failed)
        return tuple(dict.fromkeys(token for token in tokens if token))

    @property
    def wait(self) -> float | None:
        """After how long Signal would take it from all, in seconds, where it said so."""
        waits = [recipient.retry_after for recipient in self.failed if recipient.retry_after is not None]
        return max(waits, default=None)

    @property
    def is_limited(self) -> bool:
        """Whether it was for a rate limit that somebody has it not."""
        return any(recipient.reason == _LIMITED for recipient in self.failed)

    @property
    def certainty(self) -> Certainty:
        """Whether somebody may have it, where it is called a failure."""
        nobody = not self.reached and all(recipient.reason in _UNREACHED for recipient in self.failed)
        return Certainty.NOT_SENT if nobody else Certainty.UNKNOWN


class _Failure(NamedTuple):
    """What an answer that is no success means."""

    error: AnswerError | LinkLost
    certainty: Certainty
    is_limited: bool = False
    wait: float | None = None


def read_rpc_answer(status: int, body: bytes, *, wait: float | None, request: str) -> SendResult:
    """Say what an answer to a send, a reaction or a deletion means (contract O6). Never raises.

    Args:
        status: the HTTP status.
        body: the body, whole.
        wait: the ``Retry-After`` in seconds, if there was one.
        request: the id of the request.
    """
    answer = _dict(decode(body))
    if status != 200:
        return _by_status(status, _words(answer, body), wait)
    if (failure := _failure(answer, request)) is not None:
        return _failed(failure, wait)
    return _sent(answer["result"], wait)


def read_rpc_result(status: int, body: bytes, *, request: str) -> object:
    """Return the result that an answer tells.

    Raises:
        RequestFailed: it tells a failure, or cannot be read.
    """
    answer = _dict(decode(body))
    if status != 200:
        failed = cast("Failed", _by_status(status, _words(answer, body), None).outcome)
        raise RequestFailed(failed.error, failed.certainty)
    if (failure := _failure(answer, request)) is not None:
        raise RequestFailed(failure.error, failure.certainty)
    return answer["result"]


def unreadable() -> RequestFailed:
    """Return what to raise where something was done, but nobody can tell with which result."""
    return RequestFailed(_illegible(), Certainty.UNKNOWN)


def _illegible() -> LinkLost:
    return LinkLost("signal-cli has answered, but its answer cannot be read")


def _by_status(status: int, text: str, wait: float | None) -> SendResult:
    """Say what an HTTP status means with which signal-cli answers no request that is a good one."""
    error = AnswerError(_status_sentence(status, text), status=status, text=text)
    if status in (401, 403):
        return SendResult(Failed(error, Certainty.NOT_SENT), refused=True, retry_after=wait)
    if status == 503:
        return SendResult(Failed(error, Certainty.NOT_SENT), retry=True, retry_after=wait)
    if status == 429:
        return SendResult(Failed(error, Certainty.UNKNOWN), rate_limited=True, retry_after=wait)
    # A redirect, a wrong path, a body too large for a proxy: whoever answered so did not pass it on.
    client_fault = 300 <= status < 500 and status not in (408, 425)
    return SendResult(
        Failed(error, Certainty.NOT_SENT if client_fault else Certainty.UNKNOWN), retry_after=wait
    )


def _failure(answer: dict[str, object], request: str) -> _Failure | None:
    """Say what is wrong with an answer; None if it has a result."""
    # An error that was met before the id could be read has none.
    is_ours = answer.get("id") == request or ("error" in answer and answer.get("id") is None)
    if is_ours and isinstance(answer.get("error"), dict):
        return _error(_dict(answer["error"]))
    if is_ours and answer.get("error") is None and "result" in answer:
        return None
    return _Failure(_illegible(), Certainty.UNKNOWN)


def _error(error: dict[str, object]) -> _Failure:
    """Say what an error of signal-cli's means."""
    code = error.get("code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    text = _clean(error.get("message"))
    results = _results(_send_result(error.get("data")))
    is_limited = (
        code == _RATE_LIMIT or results.is_limited or any(mark in text for mark in _RATE_LIMIT_WORDS)
    ) and code not in _REFUSED
    told = AnswerError(
        _sentence(code, text),
        status=200,
        code=code,
        text=text,
        challenge_tokens=results.tokens,
        failed=results.failed,
    )
    return _Failure(told, _certainty(code, text, results, is_limited=is_limited), is_limited, results.wait)


def _certainty(code: int | None, text: str, results: _Results, *, is_limited: bool) -> Certainty:
    if code in _REFUSED:
        return Certainty.NOT_SENT
    if code != _USER_ERROR or is_limited:
        return Certainty.UNKNOWN
    if results.failed:
        return results.certainty
    return Certainty.UNKNOWN if text.startswith(_HAS_BEGUN) else Certainty.NOT_SENT


def _failed(failure: _Failure, wait: float | None) -> SendResult:
    tokens = failure.error.challenge_tokens if isinstance(failure.error, AnswerError) else ()
    return SendResult(
        Failed(failure.error, failure.certainty),
        rate_limited=failure.is_limited,
        retry_after=wait if failure.wait is None else failure.wait,
        challenge_tokens=tokens if failure.is_limited else (),
    )


def _sent(result: object, wait: float | None) -> SendResult:
    """Say what a result means: nobody knows how a future signal-cli tells that nobody was reached."""
    entry = _dict(result)
    if "timestamp" not in entry and not _list(entry.get("results")):
        return _failed(_Failure(_illegible(), Certainty.UNKNOWN), wait)
    results = _results(entry)
    if not results.failed:
        return SendResult(Sent(_timestamp(entry.get("timestamp"))))
    if not results.reached:
        return _failed(_unreached(results), wait)
    return SendResult(
        Sent(_timestamp(entry.get("timestamp")), results.failed),
        rate_limited=bool(results.tokens),
        retry_after=results.wait,
        challenge_tokens=results.tokens,
    )


def _unreached(results: _Results) -> _Failure:
    reasons = ", ".join(sorted({recipient.reason for recipient in results.failed}))
    error = AnswerError(
        f"Signal did not deliver it: {reasons}",
        status=200,
        text=reasons,
        challenge_tokens=results.tokens,
        failed=results.failed,
    )
    return _Failure(error, results.certainty, results.is_limited, results.wait)


# --- Reading what may have any shape. ---


def _send_result(data: object) -> dict[str, object]:
    """Return the result of a send from an error's data, which is one or holds one."""
    entry = _dict(data)
    return entry if "results" in entry else _dict(entry.get("response"))


def _results(entry: dict[str, object]) -> _Results:
    listed = [_dict(result) for result in _list(entry.get("results"))]
    failed = tuple(_failed_recipient(result) for result in listed if result.get("type") != _SUCCESS)
    return _Results(len(failed) < len(listed), failed)


def _failed_recipient(entry: dict[str, object]) -> FailedRecipient:
    address = _dict(entry.get("recipientAddress"))
    who = _first(address.get(name) for name in ("number", "uuid", "username"))
    return FailedRecipient(
        who,
        _clean(entry.get("type")) or _NO_REASON,
        _seconds(entry.get("retryAfterSeconds")),
        _first([entry.get("token")]) or None,
    )


def _first(values: Iterable[object]) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _seconds(value: object) -> float | None:
    # A comparison first, since there are whole numbers that no float can hold.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MAX_WAIT:
        return float(value)
    return None


def _timestamp(value: object) -> int:
    """Read a timestamp; 0 when it is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_TIME:
        return value
    return 0


def _dict(value: object) -> dict[str, object]:
    """Return a JSON object, empty when it is something else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    """Return a JSON array, empty when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


# --- Words. ---


def _words(answer: dict[str, object], body: bytes) -> str:
    """Return what an answer that is not 200 says."""
    return _clean(_dict(answer.get("error")).get("message")) or words(answer, body)


def _clean(text: object) -> str:
    """Return text that can be shown; empty for what is none."""
    if not isinstance(text, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_WORDS]).strip()


def _sentence(code: int | None, text: str) -> str:
    told = "signal-cli answered with an error" if code is None else f"signal-cli answered with error {code}"
    told += f": {text}" if text else ""
    advice = next((advice for start, advice in _ADVICE if text.startswith(start)), None)
    advice = advice or (_CODE_ADVICE.get(code) if code is not None else None)
    return f"{told}; {advice}" if advice else told


def _status_sentence(status: int, text: str) -> str:
    if 300 <= status < 400:
        return f"signal-cli's address redirects (HTTP {status}); use the address that it redirects to"
    if status == 421:
        return f"signal-cli answered HTTP 421: {HOST_REFUSED}"
    return f"signal-cli answered HTTP {status}" + (f": {text}" if text else "")


#: What HTTP 421 means here, and what to do about it.
HOST_REFUSED: Final = (
    "it serves only requests for localhost or for the name that it was started with; use http://127.0.0.1, "
    "start it with --http=NAME:PORT or --http=0.0.0.0:PORT, or have the proxy send it another Host header"
)

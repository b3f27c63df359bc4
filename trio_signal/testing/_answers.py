"""Answers to what is sent that a test can script, and how each looks on the wire of the REST gateway."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._http import Response

JSON_TYPE = ("Content-Type", "application/json; charset=utf-8")

_RATE_LIMITED = (
    "{}. Use the attached challenge tokens to lift the rate limit restrictions via the "
    "'/v1/accounts/{{number}}/rate-limit-challenge' endpoint."
)
_GARBAGE = b"\x00\x01\xfe this is no HTTP \xff\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class SendAnswer:
    """What the fake does with one request; made by the functions of this module."""

    kind: str
    """The name of the function that made it; `SendRequest.outcome` tells it."""
    status: int = 201
    text: str = ""
    tokens: tuple[str, ...] | None = None
    failed: tuple[Mapping[str, Any], ...] = ()
    retry_after: str | None = None
    content_type: str | None = None
    data: bytes = b""
    every: float = 0.0
    delay: float = 0.0
    code: int = 0
    value: object = None
    """The result, or the error's data, of a JSON-RPC answer."""

    @property
    def sends(self) -> bool:
        """Whether signal-cli sends the message, so that it gets a timestamp."""
        return self.kind in {"ok", "hang", "lost", "partial", "garbage", "endless"}

    def after(self, seconds: float) -> "SendAnswer":
        """Return the same answer, given ``seconds`` later."""
        return replace(self, delay=self.delay + seconds)

    def response(self, timestamp: int, account: str, *, array: bool) -> Response:
        """Build the HTTP answer.

        Args:
            timestamp: milliseconds since the epoch, given to the message.
            account: the number that sends.
            array: answer as 0.101 and later do, with a list that names the recipients that failed.
        """
        match self.kind:
            case "ok" | "partial":
                return _accepted(timestamp, self.failed, array=array)
            case "daemon_down":
                return Response(status=500)
            case "rpc_result":
                return Response(status=200, headers=(JSON_TYPE,), body=go_json(self.value))
            case _:
                return self._error(account)

    def _error(self, account: str) -> Response:
        headers = () if self.retry_after is None else (("Retry-After", self.retry_after),)
        if self.kind == "rate_limited":
            body: dict[str, object] = {"error": _RATE_LIMITED.format(self.text)}
            if self.tokens is not None:
                body["challenge_tokens"] = list(self.tokens)
            return Response(
                status=429, headers=(JSON_TYPE, *headers), body=go_json(body | {"account": account})
            )
        if self.content_type is not None:
            kind = (("Content-Type", self.content_type),)
            return Response(status=self.status, headers=(*kind, *headers), body=self.text.encode())
        return error_response(self.status, self.text, *headers)


def ok() -> SendAnswer:
    """201 with `SendRequest.timestamp`: an object up to 0.100, an array from 0.101 on."""
    return SendAnswer(kind="ok")


def slow(seconds: float, answer: SendAnswer | None = None) -> SendAnswer:
    """Give ``answer`` (default `ok`) after ``seconds``."""
    return (answer or ok()).after(seconds)


def hang() -> SendAnswer:
    """Take the message and never answer, as when signal-cli is lost while it sends (measured)."""
    return SendAnswer(kind="hang")


def lost() -> SendAnswer:
    """Receive all of it, send the message, and end the connection without an answer."""
    return SendAnswer(kind="lost")


def cut_body(after: int = 0) -> SendAnswer:
    """End the connection while the body is still being read, once ``after`` bytes of it have come.

    Such a request is in `FakeGateway.requests` but not in `FakeGateway.received`. On signal-cli a send is
    known by its ``method`` only: if that is not among the first ``after`` bytes, any call is cut.
    """
    return SendAnswer(kind="cut_body", status=after)


def rate_limited(
    tokens: Sequence[str] | None = ("token-1",),
    *,
    message: str = "Failed to send message due to rate limiting",
    retry_after: str | float | None = None,
) -> SendAnswer:
    """429, as signal-cli's error -5 becomes; on signal-cli that error, with the results that belong to it.

    Args:
        tokens: challenge tokens; ``[""]`` is a plain limit with nothing to solve, None leaves the field out.
        message: the start of the error text.
        retry_after: a Retry-After header, which the gateway itself never sends but a proxy may: seconds or an
            HTTP date. On signal-cli the ``retryAfterSeconds`` of each recipient.
    """
    return SendAnswer(
        kind="rate_limited",
        status=429,
        text=message,
        tokens=None if tokens is None else tuple(tokens),
        retry_after=_header(retry_after),
    )


def error(
    status: int = 400,
    text: str = "Failed to send message",
    *,
    retry_after: str | float | None = None,
) -> SendAnswer:
    """Answer ``{"error": text}``; 400 is what nearly every error of signal-cli becomes.

    On signal-cli 400 stands for its error -1; any other status is a proxy's.
    """
    return SendAnswer(kind="error", status=status, text=text, retry_after=_header(retry_after))


def reply(
    status: int = 200,
    text: str = "[]",
    *,
    content_type: str = "application/json; charset=utf-8",
    retry_after: str | float | None = None,
) -> SendAnswer:
    """Answer ``text`` as it is: a proxy's page of HTML, or what `FakeGateway.script` is to give."""
    return SendAnswer(
        kind="reply",
        status=status,
        text=text,
        content_type=content_type,
        retry_after=_header(retry_after),
    )


def rpc_error(code: int, message: str, data: object = None) -> SendAnswer:
    """Answer with a JSON-RPC error of signal-cli's; over REST it is 400 with ``message``, as most become."""
    return SendAnswer(kind="rpc_error", status=400, text=message, code=code, value=data)


def rpc_result(value: object) -> SendAnswer:
    """Answer with this JSON-RPC result, for `FakeGateway.script`; over REST it is 200 with it as JSON."""
    return SendAnswer(kind="rpc_result", status=200, value=value)


def daemon_down() -> SendAnswer:
    """500 with an empty body: the gateway's own link to signal-cli is down, nothing was sent.

    On signal-cli itself there is no process behind the process: the connection ends without an answer.
    """
    return SendAnswer(kind="daemon_down", status=500)


def partial(failed: Sequence[Mapping[str, Any]]) -> SendAnswer:
    """201 that names recipients which failed.

    Up to 0.100 the gateway does not show them, and neither does the fake: plain 201. signal-cli names them
    among all others; where they are all, it answers with the error that fits.

    Args:
        failed: each as ``{"number": …, "uuid": …, "reason": "UNREGISTERED_FAILURE"}``; for signal-cli also
            with ``token`` and ``retryAfterSeconds``.
    """
    return SendAnswer(kind="partial", failed=tuple(failed))


def garbage() -> SendAnswer:
    """Take the message, answer with bytes that are no HTTP, and end the connection."""
    return SendAnswer(kind="garbage", data=_GARBAGE)


def endless(*, chunk: int = 1024, every: float = 0.1) -> SendAnswer:
    """201 with a body that never ends: ``chunk`` bytes each ``every`` seconds, until the client leaves."""
    return SendAnswer(kind="endless", data=b"x" * chunk, every=every)


def raw(data: bytes) -> SendAnswer:
    """Answer with exactly ``data`` and end the connection."""
    return SendAnswer(kind="raw", data=data)


def error_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Build the gateway's usual error answer."""
    return Response(status=status, headers=(JSON_TYPE, *headers), body=go_json({"error": text}))


def go_json(value: object) -> bytes:
    """Write JSON as Go does: no spaces, and ``<``, ``>``, ``&`` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _accepted(timestamp: int, failed: Sequence[Mapping[str, Any]], *, array: bool) -> Response:
    body: dict[str, object] = {"timestamp": str(timestamp)}
    if array and failed:
        body["errors"] = {"recipients": [dict(recipient) for recipient in failed]}
    return Response(status=201, headers=(JSON_TYPE,), body=go_json([body] if array else body))


def _header(value: str | float | None) -> str | None:
    return None if value is None else str(value)

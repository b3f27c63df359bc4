"""What an answer to the request for events means, and who gave it. Pure.

An error that ends the client says only what is known: the daemon answers with nothing but a status, so what
has a body of its own, or other headers, comes from something else.
"""

from typing import Final

from .._dial import Address
from .._errors import (
    REFUSED_STATUSES,
    GatewayError,
    GatewayRefused,
    LinkLost,
    PermanentError,
    UnknownAccount,
    WrongGatewayMode,
)
from .._http_answers import Headers, retry_after
from ._rpc_answers import HOST_REFUSED

#: The statuses whose meaning depends on their words.
WORDY_STATUSES: Final = frozenset({400, 404})

#: Who says so does not know the daemon's paths: the JDK's HTTP server, which has others then (measured on
#: 0.13.19), and the one of signal-cli-rest-api.
_NO_SUCH_PATH: Final = (b"No context found for request", b"404 page not found")

#: So the JDK's HTTP server spells what it sends with a stream (measured on 0.13.19).
_JDK_SPELLING: Final = frozenset({b"Transfer-encoding", b"Content-type"})

_EVENTS: Final = "text/event-stream"


def is_the_daemons(address: Address, headers: Headers) -> bool:
    """Say whether the daemon itself ends what has these headers, and not a proxy.

    All signs must speak for it: the daemon knows no TLS, adds neither ``Server`` nor ``Via``, and the HTTP
    server of its JDK has a spelling of its own, which what reads and writes HTTP does not keep (Go writes
    ``Transfer-Encoding``, HAProxy small letters). What forwards bytes without looking at them (a tunnel, a
    plain TCP proxy) shows none of these signs and is taken for the daemon.
    """
    spelled = {name for name, _ in headers.raw}
    return (
        address.scheme == "http"
        and spelled >= _JDK_SPELLING
        and "server" not in headers
        and "via" not in headers
    )


def has_left_all(status: int, headers: Headers) -> bool:
    """Say whether an answer proves that the daemon has given nothing to the request.

    A stream that cannot be read is one nevertheless, and a proxy says 502 or 504 also when the daemon had the
    request.
    """
    return status == 503 or (status < 500 and not (status == 200 and _is_stream(headers)))


def read_refusal(
    address: Address, account: str | None, status: int, headers: Headers, words: bytes | None
) -> GatewayError | None:
    """Say why an answer is no stream of events; None if it is one.

    Args:
        address: who was asked.
        account: for whose messages; None for those of all accounts.
        status: the HTTP status.
        headers: those of the answer.
        words: the body of an answer with one of :data:`WORDY_STATUSES`; None if it did not come.
    """
    wait = retry_after(headers)
    if status == 200:
        return _unreadable(address, headers)
    if status in REFUSED_STATUSES:
        return GatewayRefused(
            f"{address} refused the credentials: HTTP {status}", status=status, retry_after=wait
        )
    if status == 400 and account is not None and words == b"":
        return UnknownAccount(
            f"signal-cli at {address} does not have the account {account}; link or register it on "
            "the daemon, or give another number, or none (account=None) for all that it has"
        )
    if status == 404 and words is not None and any(known in words for known in _NO_SUCH_PATH):
        return WrongGatewayMode(
            f"{address} has no signal-cli daemon at this path (HTTP 404): mend the URL, start the daemon "
            'with --http, or use gateway="auto" to find out what it is'
        )
    if status == 421:
        return PermanentError(f"signal-cli at {address} refused the request (HTTP 421): {HOST_REFUSED}")
    hint = "; look at the URL, and at what stands between here and there" if status in WORDY_STATUSES else ""
    return LinkLost(f"{address} gave no events: HTTP {status}{hint}", status=status, retry_after=wait)


def _unreadable(address: Address, headers: Headers) -> GatewayError | None:
    if not _is_stream(headers):
        kind = headers.get("content-type", "")
        return WrongGatewayMode(
            f"{address} answered with {kind[:100]!r} where signal-cli's daemon gives events: "
            'mend the URL, or use gateway="auto" to find out what it is'
        )
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return None
    name = headers.get("server", headers.get("via", ""))[:100]
    proxy = f"the proxy {name!r}" if name else "a proxy"
    return WrongGatewayMode(
        f"{proxy} at {address} packs the events ({encoding[:50]!r}), though they were asked for as they are: "
        f"switch its compression off for {_EVENTS}"
    )


def _is_stream(headers: Headers) -> bool:
    kind = headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == _EVENTS

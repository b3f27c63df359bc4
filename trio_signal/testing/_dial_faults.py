"""Faults while a client connects: a short list, each used up by the connections that meet it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ._http import Response, phrase_of

Target = Literal["receive", "http", "any"]
"""What a fault is for: WebSocket handshakes, other HTTP requests, or both."""

Kind = Literal["silence", "reject", "hang_up", "garbage"]


@dataclass
class DialFault:
    """One fault, for the next ``times`` requests that it is for, or for all (None)."""

    kind: Kind
    on: Target
    times: int | None
    response: Response = field(default_factory=lambda: Response(status=503))


class DialFaults:
    """The faults that wait, in the order made."""

    def __init__(self) -> None:
        self._waiting: list[DialFault] = []

    def add(self, fault: DialFault) -> None:
        """Put ``fault`` behind those that wait."""
        if fault.times is not None and fault.times < 1:
            raise ValueError(f"times must be at least 1, or None for 'until heal()', not {fault.times}")
        self._waiting.append(fault)

    def heal(self) -> None:
        """Forget all of them."""
        self._waiting.clear()

    def at_connect(self) -> DialFault | None:
        """Take the first fault if it strikes before anything is read: silence towards everybody."""
        if self._waiting and self._waiting[0].kind == "silence" and self._waiting[0].on == "any":
            return self._use(self._waiting[0])
        return None

    def at_request(self, *, handshake: bool) -> DialFault | None:
        """Take the first fault that is for this request."""
        wanted = ("receive", "any") if handshake else ("http", "any")
        for fault in self._waiting:
            if fault.on in wanted:
                return self._use(fault)
        return None

    def _use(self, fault: DialFault) -> DialFault:
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._waiting.remove(fault)
        return fault


def proxy_response(
    status: int, *, body: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Build an answer such as a reverse proxy in front of the gateway gives.

    Args:
        status: the HTTP status.
        body: the content; a page of HTML by default, labelled as JSON if it looks like JSON.
        headers: more headers, such as Retry-After.
    """
    text = _page(status) if body is None else body
    kind = "application/json; charset=utf-8" if text.lstrip()[:1] in {"{", "["} else "text/html"
    return Response(
        status=status,
        headers=(("Content-Type", kind), *(headers or {}).items()),
        body=text.encode(),
    )


def _page(status: int) -> str:
    title = f"{status} {phrase_of(status)}"
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"

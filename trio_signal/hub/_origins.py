"""Which web pages may use the hub: a browser sends along whatever a page of any site asks it to."""

import re
from collections.abc import Collection
from typing import Final

from .._errors import ConfigurationError
from ._http import Answer, HttpError, Request

_ORIGIN: Final = re.compile(r"https?://[!-.0-~]+")
_LOOPBACK: Final = re.compile(r"(127(\.[0-9]{1,3}){3}|localhost|\[::1\])(:[0-9]{1,5})?")


class Origins:
    """Decides by ``Origin``, ``Host`` and ``Sec-Fetch-Site`` of a request, which a page cannot forge.

    Args:
        allowed: pages beside the hub's own, as ``https://host:port``.
        loopback_only: whether ``Host`` must name this machine: there is no key then, and a page
            whose own name was made to point at 127.0.0.1 would pass for the hub's.
    """

    def __init__(self, allowed: Collection[str], *, loopback_only: bool) -> None:
        if isinstance(allowed, str | bytes):
            raise ConfigurationError("allowed_origins", "give a list, not one string")
        for origin in allowed:
            if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    "allowed_origins", f"{origin!r} is not of the form https://host:port"
                )
        self._allowed: Final = frozenset(origin.lower() for origin in allowed)
        self._loopback_only: Final = loopback_only

    def check(self, request: Request) -> None:
        """Refuse what a foreign web page asks for.

        Raises:
            HttpError: 403.
        """
        host = request.headers.get("host", "").lower()
        if self._loopback_only and not _LOOPBACK.fullmatch(host):
            raise HttpError(403, "without a key the hub answers to 127.0.0.1 and localhost only")
        origin = request.headers.get("origin", "").lower()
        if origin and origin not in self._allowed and origin.partition("://")[2] != host:
            raise _foreign()
        # A page that asks as if for an image names no origin. But a link to our own page may be followed.
        from_elsewhere = request.headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
        is_link = request.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"
        if not origin and from_elsewhere and not is_link:
            raise _foreign()

    def headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Return the headers that let an allowed page read the answer."""
        origin = request.headers.get("origin", "")
        if origin.lower() not in self._allowed:
            return ()
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "Retry-After"),
            ("Vary", "Origin"),
        )

    def preflight(self) -> Answer:
        """Answer a browser that asks before it lets an allowed page use its token."""
        allowed = (
            ("Access-Control-Allow-Methods", "GET, POST, DELETE"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
            ("Access-Control-Max-Age", "600"),
        )
        return Answer(204, headers=allowed)


def _foreign() -> HttpError:
    return HttpError(403, "pages of this origin may not use the hub (see allowed_origins)")

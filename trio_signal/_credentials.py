"""Headers and tokens that go with every request, and are shown nowhere."""

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, cast

import trio

from ._errors import ConfigurationError, LinkLost

_logger: Final = logging.getLogger("trio_signal.gateway")

#: A token, or something to call for one before each connection and after each refusal.
Token = str | Callable[[], str | Awaitable[str]]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"([!-~]([ \t!-~]*[!-~])?)?")
_TOKEN: Final = re.compile(r"[!-~]+")

#: How long a token callable may take, in seconds.
_TOKEN_LIMIT: Final = 20.0

#: Headers that the protocols write themselves; a second one would break the request.
_RESERVED: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding", "content-type"}
)


class Credentials:
    """Custom headers and an optional bearer token.

    Attributes:
        known: the headers to send, the same list while they are the same; None before a token is known.

    Raises:
        ConfigurationError: a header is malformed or one that the protocol sets itself.
            The message names the header, never its value.
    """

    def __init__(self, headers: Headers, token: Token | None, authorization: str | None) -> None:
        pairs = _check_headers(headers)
        names = {name.lower() for name, _ in pairs}
        if (authorization or token is not None) and "authorization" in names:
            raise ConfigurationError(
                "headers", "Authorization is given here and by token= or the URL too; choose one"
            )
        if authorization and token is not None:
            raise ConfigurationError("token", "the URL holds a user and password already; choose one")
        if token is not None and not callable(token):
            _check_token(token)
        if authorization:
            pairs.append(("Authorization", authorization))
        self._headers: Final = pairs
        self._token: Final = token
        self.known: list[tuple[str, str]] | None = None if callable(token) else self._with(token)

    def __repr__(self) -> str:
        """Show nothing of what it holds."""
        return "<Credentials>"

    @property
    def can_renew(self) -> bool:
        """Whether there is a token callable."""
        return callable(self._token)

    async def headers(self) -> list[tuple[str, str]]:
        """Return the headers to send, asking for a token if there is none yet. A checkpoint.

        Cancelling is safe.

        Raises:
            LinkLost: the token callable failed.
        """
        if self.known is None:
            await self.renew()
        else:
            await trio.lowlevel.checkpoint()
        return [] if self.known is None else self.known

    async def renew(self) -> bool:
        """Ask the token callable anew; False if there is none. A checkpoint; cancelling is safe.

        Raises:
            LinkLost: the token callable failed, which counts as a failed attempt.
        """
        await trio.lowlevel.checkpoint()
        if not callable(self._token):
            return False
        token: object = None
        with trio.move_on_after(_TOKEN_LIMIT) as limit:  # noqa: ASYNC912  (a callable need not be async)
            try:
                token = self._token()
                if inspect.isawaitable(token):
                    token = await token
                _check_token(token)
            except Exception as error:  # noqa: BLE001
                # Whatever it raises must not end the client: the next attempt asks again. Its text may hold a
                # secret, so only its kind is told.
                _logger.warning("the token callable failed with %s", type(error).__name__)
                raise LinkLost(f"the token callable failed with {type(error).__name__}") from None
        if limit.cancelled_caught:
            raise LinkLost(f"the token callable gave nothing within {_TOKEN_LIMIT:g} s")
        self.known = self._with(cast("str", token))
        return True

    def _with(self, token: str | None) -> list[tuple[str, str]]:
        return self._headers + ([] if token is None else [("Authorization", f"Bearer {token}")])


def _check_headers(headers: object) -> list[tuple[str, str]]:
    if isinstance(headers, Mapping):
        headers = cast("Mapping[object, object]", headers).items()
    if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
        raise ConfigurationError("headers", 'give a mapping like {"X-Api-Key": "…"} or a list of pairs')
    return [_check_header(pair) for pair in cast("Iterable[object]", headers)]


def _check_header(pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple) or len(cast("tuple[object, ...]", pair)) != 2:
        raise ConfigurationError("headers", "each must be a pair of name and value")
    name, value = cast("tuple[object, object]", pair)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError("headers", f"{name!r} is no header name")
    if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
        raise ConfigurationError("headers", f"{name} is set by the protocol; leave it out")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ConfigurationError(
            "headers", f"the value of {name} must be printable ASCII without blanks at its ends"
        )
    return name, value


def _check_token(token: object) -> None:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ConfigurationError("token", "it must be printable ASCII without blanks, and not empty")

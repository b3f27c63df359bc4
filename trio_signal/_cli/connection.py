"""How to reach the gateway, and as whom; secrets are read here and shown nowhere."""

import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from .._asking import open_gateway
from .._client import SignalClient
from .._credentials import Token
from .._dial import Connect
from .._opening import open_signal_client
from ..gateways import Gateway
from ..gateways._kinds import GatewayKind, ReceiveMode
from .options import CA_FILE, HEADER_FILE, RECEIVE_MODE, TOKEN_FILE, Option, UsageError

TOKEN_VARIABLE: Final = "TRIO_SIGNAL_TOKEN"  # noqa: S105  (a name, not a token)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What every command needs to open a client.

    Attributes:
        gateway: the URL, which may hold a password.
        kind: what is there.
        receive_mode: how signal-cli's daemon was started.
        account: the number; None for all accounts of a signal-cli daemon.
        token: the bearer token as it was at the start.
        token_file: where it came from, if from a file.
        headers: what goes with every request.
        ssl_context: for https; None for the system's authorities.
        connect: opens the byte stream to (host, port); None for TCP.
    """

    gateway: str = field(repr=False)
    account: str | None = None
    kind: GatewayKind = "auto"
    receive_mode: ReceiveMode = "on-start"
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ssl_context: ssl.SSLContext | None = None
    connect: Connect | None = None

    @property
    def lasting_token(self) -> Token | None:
        """The token for a client that lives long: one from a file is read again for each connection."""
        path = self.token_file
        if path is None:
            return self.token

        async def read_again() -> str:
            # In a thread that may be left behind: a dead network disk must not hold up the end.
            return await trio.to_thread.run_sync(_token_in, path, abandon_on_cancel=True)

        return read_again

    def open_client(
        self, *, token: Token | None, **options: Any
    ) -> AbstractAsyncContextManager[SignalClient]:
        """Return a client for it. See :func:`open_signal_client`.

        Args:
            token: :attr:`token`, or :attr:`lasting_token` for a client that lives long.
            options: whatever else it takes.
        """
        return open_signal_client(
            self.gateway,
            self.account,
            gateway=self.kind,
            receive_mode=self.receive_mode,
            headers=self.headers,
            token=token,
            ssl_context=self.ssl_context,
            connect=self.connect,
            **options,
        )

    def open_gateway(self, *, timeout: float) -> AbstractAsyncContextManager[Gateway]:
        """Return a gateway to ask without a link. See :func:`trio_signal._asking.open_gateway`.

        Args:
            timeout: how long asking what kind it is may take, in seconds.
        """
        return open_gateway(
            self.gateway,
            account=self.account,
            gateway=self.kind,
            headers=self.headers,
            token=self.token,
            ssl_context=self.ssl_context,
            connect=self.connect,
            timeout=timeout,
        )


def read_connection(values: Mapping[str, Any], environ: Mapping[str, str]) -> Connection:
    """Read the files that the options name, and put the connection together.

    Raises:
        UsageError: a file cannot be used, or the token is given twice. Nothing that a file holds is repeated.
    """
    token = environ.get(TOKEN_VARIABLE) or None
    if token and values["token_file"]:
        raise UsageError(f"{TOKEN_FILE.label}: {TOKEN_VARIABLE} is set too; give only one of them")
    return Connection(
        gateway=values["gateway"],
        account=values.get("account"),
        kind=values["gateway_kind"],
        receive_mode=values.get("receive_mode", RECEIVE_MODE.default),
        token=from_file(TOKEN_FILE, values, _token_in) or token,
        token_file=values["token_file"],
        headers=from_file(HEADER_FILE, values, _headers_in) or (),
        ssl_context=from_file(CA_FILE, values, _trust_in),
    )


def from_file(option: Option, values: Mapping[str, Any], read: Callable[[Path], _T]) -> _T | None:
    """Return what an option's file holds, None without one.

    Raises:
        UsageError: it cannot be read. Nothing of what it holds is repeated.
    """
    path: Path | None = values[option.name]
    if path is None:
        return None
    try:
        return read(path)
    except ssl.SSLError:
        problem = "it holds no certificates in PEM form"
    except OSError as error:
        problem = f"{error.strerror or error}"
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except ValueError as error:
        problem = str(error)
    raise UsageError(f"{option.label}: {str(path)!r} cannot be used: {problem}")


def _token_in(path: Path) -> str:
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError("it is empty")
    return token


def _headers_in(path: Path) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"line {number} is not 'Name: value'")
        headers.append((name.strip(), value.strip()))
    return tuple(headers)


def _trust_in(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)

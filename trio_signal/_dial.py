"""Where the gateway is and how to open a stream to it: URL, TCP, TLS."""

import base64
import enum
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import trio

from ._closing import close_at_once
from ._errors import CertificateError, ConfigurationError, LinkLost

#: Opens a byte stream to (host, port). Give your own to go through a proxy, or to memory in tests.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(
    rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?|(?=.*:)[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?"
)
_PATH: Final = re.compile(r"[!-~]*")
_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}

#: How a place answers at which no program listens. A path that is not there is that of a Unix socket.
_UNHEARD: Final = (ConnectionRefusedError, FileNotFoundError)

#: How long somebody who listens may take to accept a knock, in seconds.
_KNOCK_LIMIT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """A gateway's URL, taken apart. Its text shows neither path nor credentials, for either may be secret.

    Attributes:
        scheme: ``http`` or ``https``; the WebSocket uses the same, as ``ws`` or ``wss``.
        host: as written, without the brackets of an IPv6 address.
        port: the given or the usual one.
        path: what stands before every path of the API, without a slash at the end.
        authorization: the header that follows from ``user:password@`` in the URL, if any.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    authorization: str | None = field(repr=False)

    def __str__(self) -> str:
        """Give scheme, host and port only."""
        return f"{self.scheme}://{self.host_header}"

    @property
    def host_header(self) -> str:
        """What belongs in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: object) -> Address:
    """Take a gateway URL apart.

    Raises:
        ConfigurationError: it is no http, https, ws or wss URL of a host. The message
            never repeats the URL, since it may hold a password.
    """
    if not isinstance(url, str):
        raise ConfigurationError(
            "url", f"{type(url).__name__} is not a str; give something like http://127.0.0.1:8080"
        )
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        # The error's own words repeat parts of the URL.
        raise ConfigurationError("url", "it cannot be read; give something like http://host:8080") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise ConfigurationError("url", "it must begin with http://host or https://host")
    if port == 0:
        raise ConfigurationError("url", "nothing can listen on port 0")
    if not _HOST.fullmatch(parts.hostname):
        raise ConfigurationError(
            "url", "its host is no name or address; write a name beyond ASCII in its xn-- form"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            "url", "it must end with the path; put tokens in headers= or token=, not in a query"
        )
    if not _PATH.fullmatch(parts.path):
        raise ConfigurationError("url", "its path has a character that must be percent-encoded")
    return Address(
        scheme, parts.hostname, port or _DEFAULT_PORTS[scheme], parts.path.rstrip("/"), _authorization(parts)
    )


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    try:
        return "Basic " + base64.b64encode(pair.encode()).decode()
    except UnicodeEncodeError:
        raise ConfigurationError("url", "its user or password is not valid Unicode") from None


async def open_stream(
    address: Address,
    connect: Connect,
    ssl_context: ssl.SSLContext | None,
    *,
    on_tls: Callable[[], None] | None = None,
) -> trio.abc.Stream:
    """Open TCP, and TLS if the address says so.

    A checkpoint. It has no time limit of its own; cancelling closes what was opened.

    Args:
        address: where to.
        connect: opens TCP.
        ssl_context: for https; the system's authorities by default.
        on_tls: called when TCP stands and TLS begins.

    Raises:
        LinkLost: look-up, connect or handshake failed; the cause is attached.
        CertificateError: the certificate does not verify.
    """
    try:
        stream = await connect(address.host, address.port)
    except OSError as error:
        raise LinkLost(
            f"cannot connect to {address}: {_words(error)}", nobody_listens=_nobody_listens(error)
        ) from error
    except Exception as error:
        # A connect= of the caller's, through a proxy for instance, has errors of its own.
        words = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise LinkLost(f"cannot connect to {address}: {words}") from error
    if address.scheme == "http":
        return stream
    if on_tls is not None:
        on_tls()
    return await _start_tls(address, stream, ssl_context)


class Knock(enum.Enum):
    """What came of a knock."""

    ACCEPTED = "accepted"  #: somebody listens
    REFUSED = "refused"  #: nobody does
    UNKNOWN = "unknown"  #: there was no answer in time, or another trouble


async def knock(address: Address, connect: Connect) -> Knock:
    """See whether somebody listens: open TCP and close it at once, with nothing written.

    A checkpoint; cancelling closes what was opened. Takes a second at most, and raises nothing.

    Args:
        address: where.
        connect: opens TCP.
    """
    with trio.move_on_after(_KNOCK_LIMIT):
        try:
            stream = await connect(address.host, address.port)
        # A connect= of the caller's has errors of its own; the next attempt meets them again and tells them.
        except Exception as error:  # noqa: BLE001
            await trio.lowlevel.checkpoint()
            unheard = isinstance(error, OSError) and _nobody_listens(error)
            return Knock.REFUSED if unheard else Knock.UNKNOWN
        await close_at_once(stream)
        return Knock.ACCEPTED
    return Knock.UNKNOWN


async def _start_tls(
    address: Address, stream: trio.abc.Stream, context: ssl.SSLContext | None
) -> trio.abc.Stream:
    done = False
    try:
        # Closing without the TLS goodbye is what HTTP and WebSocket peers do; both know their own end.
        secured = trio.SSLStream(
            stream,
            context or ssl.create_default_context(),
            server_hostname=address.host,
            https_compatible=True,
        )
        await secured.do_handshake()
        done = True
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise bad_certificate(address, error.__cause__) from error.__cause__
        raise LinkLost(f"no TLS with {address}: {error.__cause__ or 'the connection ended'}") from error
    # A stream of the caller's, from connect=, has errors of its own.
    except Exception as error:
        raise LinkLost(f"no TLS with {address}: {str(error) or type(error).__name__}") from error
    finally:
        if not done:
            await close_at_once(stream)  # noqa: ASYNC102  (it shields itself)
    return secured


def bad_certificate(address: Address, error: ssl.SSLCertVerificationError) -> CertificateError:
    """Say what is wrong with a certificate and what to do about it."""
    return CertificateError(
        f"the certificate of {address} does not verify ({error.verify_message}); "
        "renew it, or pass ssl_context= that trusts its authority (http_client= wants to trust it too)"
    )


def _words(error: OSError) -> str:
    """Say what an OSError means."""
    return "; ".join(sorted({_reason(cause) for cause in _causes(error)}))


def _nobody_listens(error: OSError) -> bool:
    """Say whether each address of a host refused the connection, or a Unix socket is not there."""
    return all(isinstance(cause, _UNHEARD) for cause in _causes(error))


def _causes(error: OSError) -> Sequence[BaseException]:
    """Return what failed for each address; Trio hides it behind a summary."""
    return getattr(error.__cause__, "exceptions", None) or [error.__cause__ or error]


def _reason(error: BaseException) -> str:
    words = str(getattr(error, "strerror", None) or error)
    # Trio puts the address before the words, which are said with it already.
    return re.sub(r"^Error connecting to \(.*\): ", "", words)

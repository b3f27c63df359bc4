"""From the options of ``trio-signal daemon --hub`` to the hub."""

import ssl
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .._errors import ConfigurationError
from ..hub import HubLimits, serve_hub
from ..hub.auth import Authenticator
from .connection import from_file
from .daemon import HubSettings
from .options import HUB_KEY_FILE, TLS_CERT, TLS_KEY, UsageError
from .token import read_key


def read_hub(values: Mapping[str, Any]) -> HubSettings:
    """Read the files that the options name, and put the hub together.

    Raises:
        UsageError: a file cannot be used. Nothing that it holds is repeated.
    """
    host, port = values["hub"]
    _allow_files(HubLimits().descriptors)
    key = _authenticator(values)
    serve = partial(
        serve_hub,
        host=host,
        port=port,
        key=key,
        ssl_context=_server_context(values),
        allowed_origins=values["allow_origin"] or (),
    )
    return HubSettings(serve=serve, has_key=key is not None)


def _allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files to what the hub may need, as far as it may."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (not everywhere)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _authenticator(values: Mapping[str, Any]) -> Authenticator | None:
    path: Path | None = values["jwt_key_file"]
    if path is None:
        return None
    try:
        return Authenticator(read_key(path), algorithm=values["jwt_algorithm"])
    except ConfigurationError as error:
        problem = str(error).removeprefix(f"{error.argument}: ")
        raise UsageError(f"{HUB_KEY_FILE.label}: {str(path)!r}: {problem}") from None


def _server_context(values: Mapping[str, Any]) -> ssl.SSLContext | None:
    certificate = from_file(TLS_CERT, values, _readable)
    key = from_file(TLS_KEY, values, _readable)
    if certificate is None:
        if key is not None:
            raise UsageError(f"{TLS_KEY.label}: give {TLS_CERT.flag} too")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # With a password of its own OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        problem = "there is no certificate with its private key, not encrypted, in PEM form"
        raise UsageError(f"{TLS_CERT.label}: {str(certificate)!r}: {problem}") from None
    return context


def _readable(path: Path) -> Path:
    # Of two files OpenSSL does not say which is missing.
    path.open("rb").close()
    return path

"""``trio-signal token``: a token with which somebody may talk to the hub, and a key for a start."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .._errors import ConfigurationError
from ..hub.auth import make_token, read_key_file
from .exits import Exit, failed
from .options import ALGORITHM, JWT_KEY_FILE, NEW_KEY, UsageError

#: Of a new key; as text half as many more.
_RANDOM_BYTES: Final = 48


def run_token(values: Mapping[str, Any]) -> int:
    """Print a token, and return the exit code. Not a checkpoint.

    Raises:
        UsageError: the key's file cannot be used, or made.
    """
    path: Path = values["jwt_key_file"]
    if values["new_key"] and values["algorithm"] != "HS256":
        raise UsageError(f"{NEW_KEY.label}: it makes a key for HS256 only; leave out {ALGORITHM.flag}")
    key = secrets.token_urlsafe(_RANDOM_BYTES).encode() if values["new_key"] else read_key(path)
    try:
        token = make_token(key, values["sub"], ttl=values["ttl"], algorithm=values["algorithm"])
    except ConfigurationError as error:
        return failed(error)
    if values["new_key"]:
        # Last, so that a mistake in another option leaves no key behind.
        _write_key(path, key)
    sys.stdout.write(f"{token}\n")
    return Exit.OK


def read_key(path: Path) -> bytes:
    """Return the key in a file. Not a checkpoint.

    Raises:
        UsageError: the file cannot be used. Nothing of what it holds is repeated.
    """
    try:
        return read_key_file(path)
    except ConfigurationError as error:
        raise UsageError(f"{JWT_KEY_FILE.label}: {error}") from None


def _write_key(path: Path, key: bytes) -> None:
    try:
        # Never over another: a key that is lost makes all its tokens worthless.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + b"\n")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError | ValueError) -> UsageError:
    problem = error.strerror if isinstance(error, OSError) else error
    return UsageError(f"{JWT_KEY_FILE.label}: {str(path)!r}: it cannot be made: {problem}")

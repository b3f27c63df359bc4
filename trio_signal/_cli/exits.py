"""Exit codes, and the one sentence on standard error that goes with each that is not 0."""

import enum
import sys
from collections.abc import Mapping
from typing import Final

from .._errors import ConfigurationError, StoreError
from .connection import TOKEN_VARIABLE
from .options import (
    ACCOUNT,
    ALLOW_ORIGIN,
    BUFFER_SIZE,
    CLOSE_TIMEOUT,
    DELIVERY,
    DEVICE_NAME,
    GATEWAY,
    HEADER_FILE,
    JWT_KEY_FILE,
    MAX_IN_FLIGHT,
    OVERFLOW,
    SETTLE_TIMEOUT,
    STORE,
    SUB,
    TOKEN_FILE,
)
from .text import printable


class Exit(enum.IntEnum):
    """What a command's exit code says. A command that a signal ended gives 128 + its number."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_SENT = 3
    UNKNOWN = 4
    STORE = 5


#: The arguments of the library's calls that can be wrong, and what they are called on the command line.
_NAMES: Final[Mapping[str, str]] = {
    "url": GATEWAY.label,
    "account": ACCOUNT.label,
    "device_name": DEVICE_NAME.label,
    "token": f"{TOKEN_FILE.label} or {TOKEN_VARIABLE}",
    "headers": HEADER_FILE.label,
    "buffer_size": BUFFER_SIZE.label,
    "overflow": OVERFLOW.label,
    "max_in_flight": MAX_IN_FLIGHT.label,
    "delivery": DELIVERY.label,
    "close_timeout": CLOSE_TIMEOUT.label,
    "settle_timeout": SETTLE_TIMEOUT.label,
    "key": JWT_KEY_FILE.label,
    "subject": SUB.label,
    "allowed_origins": ALLOW_ORIGIN.label,
    "recipient": "RECIPIENT",
    "text": "TEXT",
    "attachments": "--attach",
}


def complain(problem: object) -> None:
    """Say a sentence on standard error, whatever its text holds."""
    sys.stderr.write(f"trio-signal: {printable(str(problem))}\n")
    sys.stderr.flush()


def failed(error: Exception) -> Exit:
    """Say what went wrong before or in place of the command's own work, and return the exit code for it."""
    if isinstance(error, ConfigurationError):
        problem = str(error).removeprefix(f"{error.argument}: ")
        complain(f"{_NAMES.get(error.argument, error.argument)}: {problem}")
        return Exit.USAGE
    if isinstance(error, StoreError):
        complain(f"{STORE.label}: {error}")
        return Exit.STORE
    complain(error)
    return Exit.FAILED

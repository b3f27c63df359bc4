"""Options of the commands: from the command line, else from the environment, else the default."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from .._buffer import Overflow
from .._outgoing import Delivery
from ..gateways._kinds import GatewayKind, ReceiveMode
from ..store._schema import Durability


class UsageError(Exception):
    """The command line or the environment is wrong. Its text is one sentence that names both places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option and where its value comes from.

    Attributes:
        flag: how it is written on the command line.
        help: what it does, without its default and variable.
        metavar: what its value is called; None for a switch, which has no value.
        read: turns the text of a value into what it means, or raises ``ValueError`` with the problem.
        default: what it is when it is not given.
        default_text: how the help names that default.
        required: whether it must be given.
    """

    flag: str
    help: str
    metavar: str | None = None
    read: Callable[[str], Any] = str
    default: Any = None
    default_text: str = ""
    required: bool = False

    @property
    def name(self) -> str:
        """The key of its value."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that gives it too."""
        return f"TRIO_SIGNAL_{self.name.upper()}"

    @property
    def label(self) -> str:
        """Both places where it can be given, to begin an error with."""
        return f"{self.flag} (environment variable {self.variable})"

    def but(self, *, default: Any, default_text: str) -> "Option":
        """Return the same option with another default."""
        return replace(self, default=default, default_text=default_text)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Have a parser know it."""
        default = f"; default: {self.default_text}" if self.default_text else ""
        text = f"{self.help}{default} [{self.variable}]".replace("%", "%%")
        if self.metavar is None:
            parser.add_argument(self.flag, dest=self.name, action="store_const", const="1", help=text)
        else:
            parser.add_argument(self.flag, dest=self.name, metavar=self.metavar, help=text)

    def value(self, given: str | None, environ: Mapping[str, str]) -> Any:
        """Return what it is set to. An empty environment variable counts as none.

        Raises:
            UsageError: it is missing, or its value means nothing.
        """
        text = given if given is not None else environ.get(self.variable) or None
        if text is None and self.required:
            raise UsageError(f"give {self.flag} {self.metavar}, or the environment variable {self.variable}")
        if text is None:
            return self.default
        try:
            return self.read(text)
        except ValueError as error:
            raise UsageError(f"{self.label}: {error}") from None


def whole_number(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def seconds(text: str) -> float:
    """Read a number of seconds; the range is for the library to check."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of seconds") from None


def limit(text: str) -> float:
    """Read a number of seconds that something may take."""
    value = seconds(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} is not a number of seconds over 0")
    return value


#: Seconds in the units of a length of time.
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> float:
    """Read a length of time like ``15m``, and return its seconds."""
    match = re.fullmatch(r"0*([1-9][0-9]{0,5})([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time like 30s, 15m, 1h or 30d")
    return float(int(match[1]) * _UNITS[match[2]])


def address(text: str) -> tuple[str, int]:
    """Read a host and a port to listen on."""
    match = re.fullmatch(r"(?:\[([0-9A-Za-z:.%_-]+)\]|([0-9A-Za-z._-]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT, like 127.0.0.1:8765")
    return match[1] or match[2], int(match[3])


def several(text: str) -> tuple[str, ...]:
    """Read words with commas between them."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def switch(text: str) -> bool:
    """Read what a switch's environment variable says."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{text!r} is neither 1 nor 0")


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that takes these words only."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def _choices(literal: object) -> str:
    return ", ".join(get_args(literal))


GATEWAY: Final = Option(
    flag="--gateway",
    metavar="URL",
    required=True,
    help="the signal-cli-rest-api, signal-cli's own daemon or a trio_signal hub, like http://127.0.0.1:8080; "
    "with a password in it, use the variable",
)
GATEWAY_KIND: Final = Option(
    flag="--gateway-kind",
    metavar="KIND",
    read=one_of(*get_args(GatewayKind)),
    default="auto",
    default_text="auto",
    help=f"what it is: {_choices(GatewayKind)}; the first asks it",
)
RECEIVE_MODE: Final = Option(
    flag="--receive-mode",
    metavar="MODE",
    read=one_of(*get_args(ReceiveMode)),
    default="on-start",
    default_text="on-start",
    help=f"how signal-cli's daemon was started: {_choices(ReceiveMode)}; with the last two Signal keeps what "
    "comes while nobody listens",
)
ACCOUNT: Final = Option(
    flag="--account",
    metavar="NUMBER",
    required=True,
    help="the number that the gateway is linked to, like +15550100",
)
ANY_ACCOUNT: Final = replace(
    ACCOUNT, required=False, help=f"{ACCOUNT.help}; signal-cli's daemon can do without: all of its accounts"
)
TOKEN_FILE: Final = Option(
    flag="--token-file",
    metavar="FILE",
    read=Path,
    help="file with a bearer token, for a hub one of trio-signal token; daemon and listen read it again "
    "before each connection. The token itself is taken from TRIO_SIGNAL_TOKEN, never from the command line",
)
HEADER_FILE: Final = Option(
    flag="--header-file",
    metavar="FILE",
    read=Path,
    help="file of HTTP headers to send, one 'Name: value' a line",
)
CA_FILE: Final = Option(
    flag="--ca-file",
    metavar="FILE",
    read=Path,
    help="PEM file of the authorities to trust for https, instead of the system's",
)
#: How to reach the gateway.
ROUTE: Final = (GATEWAY, GATEWAY_KIND, TOKEN_FILE, HEADER_FILE, CA_FILE)

BUFFER_SIZE: Final = Option(
    flag="--buffer-size",
    metavar="N",
    read=whole_number,
    default=100,
    default_text="100",
    help="how many messages may wait to be sent",
)
OVERFLOW: Final = Option(
    flag="--overflow",
    metavar="POLICY",
    default_text="wait with --stdin or --hub, else drop_oldest",
    help=f"what happens when the buffer is full: {_choices(Overflow)}",
)
MAX_IN_FLIGHT: Final = Option(
    flag="--max-in-flight",
    metavar="N",
    read=whole_number,
    default=1,
    default_text="1",
    help="how many messages are sent at once, one of each conversation; a signal-cli-rest-api bears only 1",
)
DELIVERY: Final = Option(
    flag="--delivery",
    metavar="MODE",
    default="at_most_once",
    default_text="at_most_once",
    help=f"{_choices(Delivery)}; the second sends again what may have arrived already",
)
CLOSE_TIMEOUT: Final = Option(
    flag="--close-timeout",
    metavar="SECONDS",
    read=seconds,
    default=10.0,
    default_text="10",
    help="how long the end may go on sending what waits",
)
SETTLE_TIMEOUT: Final = Option(
    flag="--settle-timeout",
    metavar="SECONDS",
    read=seconds,
    default=10.0,
    default_text="10",
    help="how long to wait for a receipt that proves a send whose answer was lost; 0 for not at all",
)
STORE: Final = Option(
    flag="--store",
    metavar="FILE",
    read=Path,
    help="keep in this file what a kill must not lose: messages that were accepted, how far receiving has "
    "come, the hub's log; made if there is none",
)
DURABILITY: Final = Option(
    flag="--durability",
    metavar="KIND",
    read=one_of(*get_args(Durability)),
    default="process",
    default_text="process",
    help=f"what that outlives: {_choices(Durability)}; the first a kill of the process, the second a loss of "
    "power too, and waits for the disk",
)
COPY_ATTACHMENTS: Final = Option(
    flag="--copy-attachments",
    read=switch,
    default=False,
    help="keep copies of attached files beside it, in the folder FILE-files, instead of their paths",
)
#: What must survive the daemon, and how safely.
STORE_OPTIONS: Final = (STORE, DURABILITY, COPY_ATTACHMENTS)
NO_JITTER: Final = Option(
    flag="--no-jitter",
    read=switch,
    default=False,
    help="wait exactly 1, 2, 4, ... 60 s between attempts to connect, instead of a random part of that",
)
STDIN: Final = Option(
    flag="--stdin",
    read=switch,
    default=False,
    help='send each line of standard input, like {"recipient": "+15550100", "text": "hi", "id": "optional"}',
)
SHOW_TEXT: Final = Option(
    flag="--show-text", read=switch, default=False, help="tell the text of received messages too"
)
JSON: Final = Option(flag="--json", read=switch, default=False, help="one JSON object a line")
TIMEOUT: Final = Option(
    flag="--timeout", metavar="SECONDS", read=limit, default=60.0, default_text="60", help="how long to try"
)
_LEVELS: Final = ("debug", "info", "warning", "error")


LOG_LEVEL: Final = Option(
    flag="--log-level",
    metavar="LEVEL",
    read=one_of(*_LEVELS),
    help=f"what to log: {', '.join(_LEVELS)}",
)

DEVICE_NAME: Final = Option(
    flag="--name",
    metavar="NAME",
    default="trio-signal",
    default_text="trio-signal",
    help="what the phone shows in its list of linked devices",
)
URI: Final = Option(
    flag="--uri",
    read=switch,
    default=False,
    help="print what the code says too, as one line; until it is used, whoever has it can link a device",
)

_ALGORITHMS: Final = ("HS256", "RS256", "ES256")

JWT_KEY_FILE: Final = Option(
    flag="--jwt-key-file",
    metavar="FILE",
    read=Path,
    required=True,
    help="file with the key that signs tokens: at least 32 bytes, or for RS256 and ES256 a private key",
)
NEW_KEY: Final = Option(
    flag="--new-key",
    read=switch,
    default=False,
    help="make that file first, with a new key that only you can read; never over another",
)
SUB: Final = Option(
    flag="--sub", metavar="NAME", required=True, help="who will use the token; the hub's status shows it"
)
TTL: Final = Option(
    flag="--ttl",
    metavar="TIME",
    read=duration,
    default=3600.0,
    default_text="1h",
    help="how long the token is valid, like 30s, 15m, 1h or 30d",
)
ALGORITHM: Final = Option(
    flag="--algorithm",
    metavar="NAME",
    read=one_of(*_ALGORITHMS),
    default="HS256",
    default_text="HS256",
    help=f"how the token is signed: {', '.join(_ALGORITHMS)}",
)

HUB: Final = Option(
    flag="--hub",
    metavar="HOST:PORT",
    read=address,
    help="let many clients share this account here, like 127.0.0.1:8765; port 0 is any free one",
)
HUB_KEY_FILE: Final = replace(
    JWT_KEY_FILE,
    required=False,
    help="file with the key that checks their tokens: at least 32 bytes, or for RS256 and ES256 the public "
    "key; without it --hub must be on loopback, and lets everybody in who gets there",
)
JWT_ALGORITHM: Final = replace(ALGORITHM, flag="--jwt-algorithm", help="how their tokens are signed")
ALLOW_ORIGIN: Final = Option(
    flag="--allow-origin",
    metavar="ORIGINS",
    read=several,
    help="web pages beside the hub's own that may use it, like https://example.org; commas between several",
)
TLS_CERT: Final = Option(
    flag="--tls-cert",
    metavar="FILE",
    read=Path,
    help="PEM file of the hub's certificate and its chain, for https",
)
TLS_KEY: Final = Option(
    flag="--tls-key",
    metavar="FILE",
    read=Path,
    help="PEM file of its private key, not encrypted, if that is not in the same file",
)
#: What the hub of a daemon needs.
HUB_OPTIONS: Final = (HUB, HUB_KEY_FILE, JWT_ALGORITHM, ALLOW_ORIGIN, TLS_CERT, TLS_KEY)

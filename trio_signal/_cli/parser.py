"""The command line's grammar and its help."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from .. import __version__
from .options import (
    ACCOUNT,
    ALGORITHM,
    ANY_ACCOUNT,
    BUFFER_SIZE,
    CLOSE_TIMEOUT,
    DELIVERY,
    DEVICE_NAME,
    HUB_OPTIONS,
    JSON,
    JWT_KEY_FILE,
    LOG_LEVEL,
    MAX_IN_FLIGHT,
    NEW_KEY,
    NO_JITTER,
    OVERFLOW,
    RECEIVE_MODE,
    ROUTE,
    SETTLE_TIMEOUT,
    SHOW_TEXT,
    STDIN,
    STORE_OPTIONS,
    SUB,
    TIMEOUT,
    TTL,
    URI,
    Option,
    UsageError,
)

_EXIT_CODES: Final = """\
exit codes:
  0    done; for daemon: ended by a signal with nothing left unsent, or only
       what --store keeps for the next start
  1    the gateway cannot serve this: wrong mode, unknown account, refused
       credentials, a certificate that does not verify; for daemon: --hub
       cannot be listened on; for status: not connected; for link: not linked;
       for demo: the ledger does not balance
  2    the command line or the environment is wrong
  3    not sent; for daemon: something was left unsent at the end; for call:
       nothing was done
  4    it is not known whether it was sent, or done; trying
       again may repeat it
  5    --store cannot be used; nothing in it was changed
  130  status, link, demo: ended by Ctrl-C (143: by SIGTERM); call too, and then
       it is not known whether it was done
"""

_ENVIRONMENT: Final = """\
Every option can be given as the environment variable in brackets instead; the
command line wins. A bearer token for the gateway is read from TRIO_SIGNAL_TOKEN
or --token-file, never from the command line, which other users can read.
"""

_DEMO: Final = """\
Start a fake gateway, a chatty correspondent and a bot that answers; break one
thing after the other; compare at the end what the bot says with what the
gateway saw. Takes half a minute and needs no Signal account.
"""

_DAEMON: Final = """\
Keep an account connected, and log each change, message and gap as one event a
line on standard output. The first SIGTERM or Ctrl-C sends what waits, for up to
--close-timeout; the second ends it at once.

With --hub other programs and web pages connect here instead of to the gateway.
Messages then go to them, numbered and kept for who was away, and not into the
log; the page at http://HOST:PORT/ shows what happens. At the end the hub's
clients are told first when to come back.

With --store a kill at any moment loses no message that was accepted and repeats
none; the next start tells what became of each. What still waits at the end is
kept for it too. A hub goes on with its numbering.
"""

_STATUS: Final = """\
Try once to connect, and say what works: the gateway, the account, the link.

The link to signal-cli's own daemon is not opened: messages that wait for others
might come over it.
"""

_LINK: Final = """\
Link the gateway to a phone's account as another device: show a QR code on
standard error, wait up to two minutes until the phone has scanned it, and print
the account's number where the gateway tells it.
"""

_CALL: Final = """\
Ask the gateway for anything in its own words, and print the JSON of its answer.

WHAT is a method of signal-cli's daemon (man 5 signal-cli-jsonrpc), or a request
to a signal-cli-rest-api or a hub:
  trio-signal call listGroups
  trio-signal call sendTyping '{"recipient": "+15550101"}'
  trio-signal call 'GET /v1/groups/+15550100'
Other users can read a command line; give JSON with a PIN or the like through
standard input, with - in its place. The link is not opened for it, and it is
asked once.
"""

_ABOUT_TOKENS: Final = """\
Print a token with which somebody may read and send through a hub until it
expires; they give it as --token-file, TRIO_SIGNAL_TOKEN or token=. Whoever has
the key can make any token, so keep the file where only the hub can read it.
For a start: trio-signal token --jwt-key-file hub.key --new-key --sub NAME
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: its name, what it does, its options, and what adds its other arguments."""

    name: str
    help: str
    description: str
    options: tuple[Option, ...] = ()
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None


def _add_message(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipient", metavar="RECIPIENT", help="a number, a group, a UUID or a username")
    parser.add_argument(
        "text", metavar="TEXT", nargs="?", help="what to say; from standard input if it is absent or -"
    )
    parser.add_argument(
        "--attach", metavar="FILE", action="append", default=[], help="a file to attach; can be repeated"
    )


def _add_call(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help="a JSON-RPC method, or 'METHOD /path'")
    parser.add_argument(
        "body",
        metavar="JSON",
        nargs="?",
        help="its parameters, or the request's body; - reads it from standard input",
    )


#: How to reach the gateway, and as whom.
_CONNECTION: Final = (*ROUTE, RECEIVE_MODE, ACCOUNT)

#: For commands whose own output says what matters.
_QUIET: Final = LOG_LEVEL.but(default="error", default_text="error")

COMMANDS: Final = (
    Command(
        name="demo",
        help="watch a bot survive a failing gateway, all on this machine",
        description=_DEMO,
    ),
    Command(
        name="daemon",
        help="keep an account connected and log what happens",
        description=_DAEMON,
        options=(
            *_CONNECTION,
            STDIN,
            BUFFER_SIZE,
            OVERFLOW,
            MAX_IN_FLIGHT,
            DELIVERY,
            SETTLE_TIMEOUT,
            CLOSE_TIMEOUT,
            *STORE_OPTIONS,
            NO_JITTER,
            JSON,
            SHOW_TEXT,
            LOG_LEVEL.but(default="info", default_text="info"),
            *HUB_OPTIONS,
        ),
    ),
    Command(
        name="send",
        help="send one message and wait for its outcome",
        description="Send one message, wait for its outcome, and print its timestamp.",
        options=(*ROUTE, ACCOUNT, TIMEOUT, _QUIET),
        add_arguments=_add_message,
    ),
    Command(
        name="listen",
        help="print the messages that arrive",
        description="Print the messages that arrive, and the gaps between them, until Ctrl-C.",
        options=(*ROUTE, RECEIVE_MODE, ANY_ACCOUNT, JSON, _QUIET),
    ),
    Command(
        name="status",
        help="say whether the gateway, the account and the link work",
        description=_STATUS,
        options=(*ROUTE, ANY_ACCOUNT, TIMEOUT.but(default=10.0, default_text="10"), JSON, _QUIET),
    ),
    Command(
        name="link",
        help="link the gateway to a phone's account, with a QR code",
        description=_LINK,
        options=(*ROUTE, DEVICE_NAME, URI, _QUIET),
    ),
    Command(
        name="call",
        help="ask the gateway for anything in its own words",
        description=_CALL,
        options=(*ROUTE, ANY_ACCOUNT, TIMEOUT, _QUIET),
        add_arguments=_add_call,
    ),
    Command(
        name="token",
        help="make a token for a hub",
        description=_ABOUT_TOKENS,
        options=(JWT_KEY_FILE, NEW_KEY, SUB, TTL, ALGORITHM),
    ),
)

#: Options that people may expect and that do not exist on purpose.
_ADVICE: Final = {
    "--token": "other users can read a command line; put the token into TRIO_SIGNAL_TOKEN or a --token-file",
    "--header": "other users can read a command line; put headers into a --header-file",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the command and the values of its options and arguments.

    Raises:
        UsageError: something is wrong.
        SystemExit: the help or the version was asked for, and has been printed.
    """
    namespace, unknown = _build().parse_known_args(arguments)
    if unknown:
        raise UsageError(_unknown(unknown))
    given: dict[str, Any] = vars(namespace)
    command = next(command for command in COMMANDS if command.name == given["command"])
    values = {option.name: option.value(given[option.name], environ) for option in command.options}
    return command.name, given | values


def _unknown(arguments: list[str]) -> str:
    """Name what is unknown, but no value: it may be a secret."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if not flags:
        return "there are more arguments than this command takes; put text with spaces into quotes"
    advice = _ADVICE.get(flags[0])
    return f"there is no option {flags[0]}" + (f": {advice}" if advice else "")


def _build() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trio-signal",
        description="Keep a Signal account's traffic alive across network failures.",
        epilog=f"'trio-signal COMMAND --help' tells the options of a command.\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"trio-signal {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        _add(commands, command)
    return parser


def _add(commands: "argparse._SubParsersAction[_Parser]", command: Command) -> None:
    epilog = f"{_ENVIRONMENT}\n{_EXIT_CODES}" if command.options else _EXIT_CODES
    parser = commands.add_parser(
        command.name,
        help=command.help,
        description=command.description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if command.add_arguments is not None:
        command.add_arguments(parser)
    for option in command.options:
        option.add_to(parser)

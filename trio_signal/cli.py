"""``trio-signal COMMAND``: see ``trio-signal --help``."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from ._cli.connection import read_connection
from ._cli.exits import Exit, complain
from ._cli.library_log import library_on_stderr
from ._cli.options import UsageError
from ._cli.parser import parse

if TYPE_CHECKING:
    from ._cli.daemon import HubSettings

_INTERRUPTED: Final = 130

#: Modules that an extra brings: the name of their package, and the extra.
_EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "rich": ("rich", "cli"),
    "segno": ("segno", "cli"),
    "structlog": ("structlog", "cli"),
    "jwt": ("PyJWT", "hub"),
    "cryptography": ("cryptography", "hub"),
    "prometheus_client": ("prometheus-client", "hub"),
}

_Values = Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; never raises for what a user did wrong.

    Args:
        argv: the arguments after the program's name; those of this process by default.
    """
    _open_closed_streams()
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        # Whatever the locale, text must not end a command half way.
        reconfigure(errors="backslashreplace")
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        complain(error)
        return Exit.USAGE
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        package, extra = _EXTRAS[module]
        complain(f"this command needs {package}; install it with: pip install 'trio-signal[{extra}]'")
        return Exit.USAGE
    except KeyboardInterrupt:
        # Before or after the command's own work, which takes signals in its own way.
        return _INTERRUPTED


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has had enough. Python would fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Put /dev/null in the place of each standard stream that is closed.

    Its number would be given to the next socket, and what is meant for the stream would go there.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if fd else "r"))


def _run(argv: Sequence[str]) -> int:
    try:
        command, values = parse(argv, os.environ)
    except SystemExit as done:
        # The help and the version have been printed.
        _flush()
        return int(done.code or 0)
    code = _COMMANDS[command](values)
    _flush()
    return code


def _demo(_values: _Values) -> int:
    from ._demo.run import run_demo

    return trio.run(run_demo)


def _daemon(values: _Values) -> int:
    from ._cli.daemon_command import run

    return run(values, os.environ, None if values["hub"] is None else _hub(values))


def _hub(values: _Values) -> "HubSettings":
    from ._cli.hub import read_hub

    with library_on_stderr("warning"):
        return read_hub(values)


def _send(values: _Values) -> int:
    from ._cli.send import SendSettings, run_send

    settings = SendSettings(
        where=read_connection(values, os.environ),
        recipient=values["recipient"],
        text=None if values["text"] == "-" else values["text"],
        attach=tuple(map(Path, values["attach"])),
        timeout=values["timeout"],
    )
    with library_on_stderr(values["log_level"]):
        return trio.run(run_send, settings)


def _listen(values: _Values) -> int:
    from ._cli.listen import ListenSettings, run_listen

    settings = ListenSettings(where=read_connection(values, os.environ), as_json=values["json"])
    with library_on_stderr(values["log_level"]):
        return trio.run(run_listen, settings)


def _status(values: _Values) -> int:
    from ._cli.status import StatusSettings, run_status

    settings = StatusSettings(
        where=read_connection(values, os.environ), timeout=values["timeout"], as_json=values["json"]
    )
    with library_on_stderr(values["log_level"]):
        return trio.run(run_status, settings)


def _link(values: _Values) -> int:
    from ._cli.link import LinkSettings, run_link

    settings = LinkSettings(
        where=read_connection(values, os.environ), name=values["name"], with_uri=values["uri"]
    )
    with library_on_stderr(values["log_level"]):
        return trio.run(run_link, settings)


def _call(values: _Values) -> int:
    from ._cli.call import CallSettings, run_call

    settings = CallSettings(
        where=read_connection(values, os.environ),
        what=values["what"],
        body=values["body"],
        timeout=values["timeout"],
    )
    with library_on_stderr(values["log_level"]):
        return trio.run(run_call, settings)


def _token(values: _Values) -> int:
    from ._cli.token import run_token

    with library_on_stderr("warning"):
        return run_token(values)


_COMMANDS: Final[Mapping[str, Callable[[_Values], int]]] = {
    "demo": _demo,
    "daemon": _daemon,
    "send": _send,
    "listen": _listen,
    "status": _status,
    "link": _link,
    "call": _call,
    "token": _token,
}

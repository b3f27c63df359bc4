"""The daemon's log: structlog events, and the library's own log records among them."""

import logging
import sys
from collections.abc import Callable, Generator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from .library_log import library_log, logger_level
from .text import printable

_Fields = MutableMapping[str, Any]

#: What the daemon tells as events of its own, so that the library's lines about it would only repeat it.
_TOLD_ANYWAY: Final = ("trio_signal.buffer", "trio_signal.status")


class _Lines:
    """What structlog hands its finished lines to."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        self._write(f"{line}\n")

    debug = info = warning = error = critical = msg


def wants_colors(environ: Mapping[str, str]) -> bool:
    """Say whether standard output is a terminal that may be coloured (see no-color.org)."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def make_logger(
    write: Callable[[str], None], *, as_json: bool, level: str, colors: bool = False
) -> FilteringBoundLogger:
    """Return a logger of events that writes one line for each.

    Args:
        write: takes each line, its end included.
        as_json: one JSON object a line, else a form for people.
        level: the least that is logged: ``debug``, ``info``, ``warning`` or ``error``.
        colors: whether the form for people is coloured.
    """
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if as_json:
        # Its ASCII escapes keep control characters from a terminal, too.
        processors.append(structlog.processors.JSONRenderer())
    else:
        # The plain formatter: the others show local variables, and with them secrets.
        shown = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=25, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
        processors += [_for_people, shown]
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(write),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return logger


def _for_people(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """Leave out what is None, and make all text safe for a terminal."""
    return {
        key: _printable_lines(value)
        if key == "exception"
        else printable(value)
        if isinstance(value, str)
        else value
        for key, value in fields.items()
        if value is not None
    }


def _printable_lines(traceback: object) -> str:
    """A peer's words may stand in an error's, so not even a traceback goes to the terminal as it is."""
    return "\n".join(map(printable, str(traceback).split("\n")))


class _Bridge(logging.Handler):
    """Turns the library's log records into events."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        more = {"exc_info": record.exc_info} if record.exc_info else {}
        self._log.log(record.levelno, "library", message=record.getMessage(), logger=record.name, **more)


@contextmanager
def library_events(log: FilteringBoundLogger, *, level: str) -> Generator[None]:
    """Let the library's warnings and errors appear in a log; with level ``debug`` all it has to say."""
    everything = level == "debug"
    with ExitStack() as stack:
        stack.enter_context(library_log(_Bridge(log), logging.DEBUG if everything else logging.WARNING))
        for name in () if everything else _TOLD_ANYWAY:
            stack.enter_context(logger_level(name, logging.ERROR))
        yield

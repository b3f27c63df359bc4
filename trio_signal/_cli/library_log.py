"""Where the library's own log records go while a command runs."""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager

from .text import printable


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"trio-signal: {record.levelname.lower()}: {printable(record.getMessage())}"


@contextmanager
def library_on_stderr(level: str) -> Generator[None]:
    """Show what the library logs from a level on as lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    with library_log(handler, logging.getLevelNamesMapping()[level.upper()]):
        yield


@contextmanager
def library_log(handler: logging.Handler, level: int) -> Generator[None]:
    """Send what the library logs from a level on to one handler, and nowhere else."""
    logger = logging.getLogger("trio_signal")
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    with logger_level("trio_signal", level):
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate


@contextmanager
def logger_level(name: str, level: int) -> Generator[None]:
    """Give a logger a level for a while."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)

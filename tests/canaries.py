"""Secrets that no log may show, and an ear that hears every record of every logger while tests run.

The ear is put in by ``conftest.py`` for the whole session. It hears what is logged from DEBUG on, by the
library and by all that it is built on, whether or not anybody listens, and changes nothing for those who do:
a record that would have gone nowhere still goes nowhere. The test during which a secret is logged fails.
"""

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

#: Secrets that tests invent, as far as no form gives them away. Each is part of one, or whole.
KNOWN: Final = (
    "s3cr3t",
    "s3cret",
    "an invented secret",
    "an0ther-key",
    "dXNlcjpwYXNz",  # user:pass
)

#: What a secret looks like, whoever made it. A ticket is 32 random bytes in base64, a new key 48.
FORMS: Final = {
    "a JSON Web Token": r"eyJ[\w-]{6,}\.[\w-]*\.[\w-]*",
    "the value of an Authorization header": r"\b(?:Bearer|Basic|Digest) +[\w.~+/-]{4,}",
    "a password in a URL": r"://[^/\s:@'\"]*:[^/\s:@'\"]+@",
    "a ticket in a URL": r"\bticket=[^&\s\"']",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "what may be a ticket or a key": r"(?<![\w+/=.-])(?=[\w-]*[G-Zg-z_-])(?:[\w-]{43}|[\w-]{64})(?![\w+/=-])",
    "a secret of the tests' own": "|".join(map(re.escape, KNOWN)),
}

_ANY: Final = re.compile("|".join(f"(?:{form})" for form in FORMS.values()))

#: An HTTP client of the caller's own logs the URLs that it is given, so a path is no secret there.
_FOREIGN_CLIENTS: Final = frozenset({"httpx", "httpx2"})
_PATH: Final = "/s3cret-path"

#: How much of a line is repeated where it shows a secret.
_MOST_SHOWN: Final = 500

#: What every record has; all else was added by who logged it.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_plain: Final = logging.Formatter("%(message)s")


def secrets_in(text: str) -> list[str]:
    """Say which kinds of secrets a text shows."""
    if not _ANY.search(text):
        return []
    return [kind for kind, form in FORMS.items() if re.search(form, text)]


def all_of(record: logging.LogRecord) -> str:
    """Return everything that a handler may show of a record: words, fields, traceback."""
    added = [f" {name}={value!r}" for name, value in vars(record).items() if name not in _USUAL]
    if not (added or record.exc_info or record.exc_text or record.stack_info):
        return record.getMessage()
    # A handler that comes later must not find the traceback in our form.
    before = record.exc_text
    text = _plain.format(record) + "".join(added)
    record.exc_text = before
    return text


class Ear:
    """Hears, and remembers what it should not have heard.

    Attributes:
        records: how many records it has heard.
    """

    def __init__(self) -> None:
        self.records = 0
        self._leaks: list[str] = []

    def hear(self, record: logging.LogRecord) -> None:
        """Listen to one record."""
        self.records += 1
        text = all_of(record)
        if record.name in _FOREIGN_CLIENTS:
            text = text.replace(_PATH, "")
        self.read(text, f"the logger {record.name}")

    def read(self, text: str, where: str) -> str:
        """Look through what stands somewhere else than in a log, and give it back."""
        for kind in secrets_in(text):
            self._leaks.append(f"{where} shows {kind}: {text[:_MOST_SHOWN]}")
        return text

    def take(self) -> list[str]:
        """Return what was heard since the last time, and forget it."""
        leaks, self._leaks = self._leaks, []
        return leaks

    @contextmanager
    def expecting(self) -> Generator[list[str]]:
        """Give what is heard within the block to the test that causes it, which does not fail for it."""
        before, self._leaks = self._leaks, []
        leaks: list[str] = []
        try:
            yield leaks
        finally:
            leaks += self._leaks
            self._leaks = before

    @contextmanager
    def put_in(self) -> Generator[None]:
        """Hear every logger of this process, for the length of a block."""
        kind = logging.Logger
        is_enabled, hand_out = kind.isEnabledFor, kind.callHandlers

        def enabled_for_us(logger: logging.Logger, level: int) -> bool:
            return level >= logging.DEBUG or is_enabled(logger, level)

        def hear_first(logger: logging.Logger, record: logging.LogRecord) -> None:
            self.hear(record)
            if is_enabled(logger, record.levelno):
                hand_out(logger, record)

        kind.isEnabledFor, kind.callHandlers = enabled_for_us, hear_first  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            kind.isEnabledFor, kind.callHandlers = is_enabled, hand_out  # type: ignore[method-assign]


#: The one of this process.
EAR: Final = Ear()

"""Text and times as a person may see them. Pure."""

import unicodedata
from datetime import UTC, datetime

#: Categories of characters that can move the cursor, reorder a line or end it: controls, formats, lone
#: surrogates, and the separators of lines and paragraphs.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

#: Formats that only join letters and emoji.
_JOINERS = frozenset("\u200c\u200d")

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Return text that a terminal only shows: control characters as ``\n``, ``\x1b``, ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL or character in _JOINERS:
        return character
    code = ord(character)
    escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _ESCAPES.get(character, escape)


def iso(milliseconds: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 in UTC, or the number if there is no such date."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(milliseconds: int) -> str:
    """Return milliseconds since the epoch as local date and time, or the number if there is no such date."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S")

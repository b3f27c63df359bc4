r"""Reads the marks of styled text: what a REST gateway does itself, done here for signal-cli. Pure.

On every gateway the place of a mention counts in the text without marks, so it is checked against that.

The rules of signal-cli-rest-api for ``text_mode: styled``, so that a text looks the same over each gateway:

- The marks are ``*italic*``, ``**bold**``, ``~strikethrough~``, ``||spoiler||`` and a backtick on each side
  for monospace. They are read from left to right, two asterisks before one; a single bar is no mark.
- A mark needs nothing around it: it works inside a word, beside spaces, over lines, inside monospace too.
- A mark ends a style if the one opened last, and not ended yet, is the same mark; else it opens one. So
  styles nest. They are given in the order in which they end.
- A backslash right before a mark, or before a single bar, is left out and takes that mark's meaning away;
  one backslash does it for both asterisks or both bars. Any other backslash is text, also one before
  another: ``\\*`` is a backslash and an asterisk.
- Start and length count UTF-16 code units of the text without marks: two for a character beyond U+FFFF.

Where that parser drops characters of the text, this one does what its writer will have meant:

- There, a mark that no other ends vanishes: "2 * 3" arrives as "2  3". Here it stays as it was written.
- There, such a mark also hides those around it: in ``**only ~3 left**`` nothing is bold, as in
  ``***both***`` and ``*one ~two* three~``. So if its rule leaves any mark open, each kind of mark is paired
  for itself here, the first with the second and so on; styles may overlap then, as Signal allows.
- There, two marks with nothing between them vanish and make a style of no length. Here they only vanish.
"""

import re
from itertools import accumulate
from typing import Final, NamedTuple

_NAMES: Final = {"**": "BOLD", "*": "ITALIC", "~": "STRIKETHROUGH", "||": "SPOILER", "`": "MONOSPACE"}
_TOKEN: Final = re.compile(r"\\(?P<literal>\*\*|\|\||[*~|`])|(?P<mark>\*\*|\|\||[*~`])")


class Style(NamedTuple):
    """A styled part of a text: `start` and `length` in UTF-16 code units, `name` as signal-cli writes it."""

    start: int
    length: int
    name: str


def parse_styled(text: str) -> tuple[str, tuple[Style, ...]]:
    """Take the marks out of `text`: the text without them, and the styles that they make. Never a checkpoint.

    Raises nothing: whatever is no pair of marks is text.
    """
    pieces, marks = _split(text)
    pairs = _pair_nested(pieces, marks)
    if pairs is None:
        pairs = _pair_alike(pieces, marks)
    names = [_NAMES[pieces[closing]] for _, closing in pairs]
    for opening, closing in pairs:
        pieces[opening] = pieces[closing] = ""
    starts = list(accumulate(map(_units, pieces), initial=0))
    styles = (
        Style(starts[opening], starts[closing] - starts[opening], name)
        for (opening, closing), name in zip(pairs, names, strict=True)
    )
    return "".join(pieces), tuple(style for style in styles if style.length)


def _split(text: str) -> tuple[list[str], list[int]]:
    """Cut the text at its marks: all pieces, escapes resolved, and which of them are marks."""
    pieces: list[str] = []
    marks: list[int] = []
    end = 0
    for token in _TOKEN.finditer(text):
        pieces.append(text[end : token.start()])
        if token["mark"]:
            marks.append(len(pieces))
        pieces.append(token["mark"] or token["literal"])
        end = token.end()
    pieces.append(text[end:])
    return pieces, marks


def _pair_nested(pieces: list[str], marks: list[int]) -> list[tuple[int, int]] | None:
    """Pair marks as the REST gateway does; None if that leaves one open."""
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    for mark in marks:
        if opened and pieces[opened[-1]] == pieces[mark]:
            pairs.append((opened.pop(), mark))
        else:
            opened.append(mark)
    return None if opened else pairs


def _pair_alike(pieces: list[str], marks: list[int]) -> list[tuple[int, int]]:
    """Pair each kind of mark for itself; the last of an odd number stays alone."""
    pairs: list[tuple[int, int]] = []
    opened: dict[str, int] = {}
    for mark in marks:
        if pieces[mark] in opened:
            pairs.append((opened.pop(pieces[mark]), mark))
        else:
            opened[pieces[mark]] = mark
    return pairs


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

"""The marks of styled text: what the REST gateway's parser makes of them, and what it should have."""

import itertools
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_signal._envelopes import utf16_slice
from trio_signal._styles import Style, parse_styled

NAMES: Final = {"*": "ITALIC", "**": "BOLD", "~": "STRIKETHROUGH", "||": "SPOILER", "`": "MONOSPACE"}


def bold(start: int, length: int) -> Style:
    return Style(start, length, "BOLD")


def italic(start: int, length: int) -> Style:
    return Style(start, length, "ITALIC")


def strike(start: int, length: int) -> Style:
    return Style(start, length, "STRIKETHROUGH")


def spoiler(start: int, length: int) -> Style:
    return Style(start, length, "SPOILER")


def mono(start: int, length: int) -> Style:
    return Style(start, length, "MONOSPACE")


@pytest.mark.parametrize(
    ("text", "plain", "styles"),
    [
        pytest.param("", "", [], id="nothing"),
        pytest.param("*i*", "i", [italic(0, 1)], id="italic"),
        pytest.param("**b**", "b", [bold(0, 1)], id="bold"),
        pytest.param("~s~", "s", [strike(0, 1)], id="strikethrough"),
        pytest.param("||h i||", "h i", [spoiler(0, 3)], id="spoiler"),
        pytest.param("`m`", "m", [mono(0, 1)], id="monospace"),
        pytest.param("a **b** *c* d", "a b c d", [bold(2, 1), italic(4, 1)], id="one after the other"),
        pytest.param("un*happi*ness", "unhappiness", [italic(2, 5)], id="inside a word"),
        pytest.param("* a *", " a ", [italic(0, 3)], id="beside spaces"),
        pytest.param("* one\n* two", " one\n two", [italic(0, 5)], id="over lines"),
        pytest.param("||**b**||", "b", [bold(0, 1), spoiler(0, 1)], id="nested, the inner one first"),
        pytest.param("`a *b* c`", "a b c", [italic(2, 1), mono(0, 5)], id="in monospace too"),
        pytest.param("*a **b***", "a b", [bold(2, 1), italic(0, 3)], id="three asterisks at an end"),
        pytest.param("*a~b*c*d~e*", "abcde", [italic(2, 1), strike(1, 3), italic(0, 5)], id="within itself"),
        pytest.param("a|b", "a|b", [], id="a single bar"),
        pytest.param("|||x||", "|x", [spoiler(0, 2)], id="two bars before one"),
        pytest.param("```x```", "x", [mono(0, 1)], id="a fence"),
        pytest.param("a****b", "ab", [], id="nothing between"),
        pytest.param("👋*a*", "👋a", [italic(2, 1)], id="behind a character of two units"),
        pytest.param(
            "👋🏾**a👋**`b`", "👋🏾a👋b", [bold(4, 3), mono(7, 1)], id="with characters of two units"
        ),
        pytest.param("é\u0301**a**", "é\u0301a", [bold(2, 1)], id="characters of one unit"),
    ],
)
def test_marks_mean_what_they_mean_to_the_rest_gateway(text: str, plain: str, styles: list[Style]) -> None:
    assert parse_styled(text) == (plain, tuple(styles))


@pytest.mark.parametrize(
    ("text", "plain", "styles"),
    [
        (r"\*a\*", "*a*", []),
        (r"\**a\**", "**a**", []),
        (r"\*\*a*", "**a*", []),
        (r"\`a\`", "`a`", []),
        (r"\~a\~", "~a~", []),
        (r"\||a\||", "||a||", []),
        (r"\|a", "|a", []),
        (r"a \*b *c*", "a *b c", [italic(5, 1)]),
        (r"\***a*", "**a", [italic(2, 1)]),
        (r"*a\*b*", "a*b", [italic(0, 3)]),
        (r"\\*a\\*", r"\*a\*", []),
        (r"\\", r"\\", []),
        (r"a\b \n", r"a\b \n", []),
        ("\\", "\\", []),
        ("*a*\\", "a\\", [italic(0, 1)]),
    ],
)
def test_a_backslash_takes_a_marks_meaning_away(text: str, plain: str, styles: list[Style]) -> None:
    assert parse_styled(text) == (plain, tuple(styles))


@pytest.mark.parametrize(
    ("text", "plain", "styles"),
    [
        ("2 * 3", "2 * 3", []),
        ("~3 km", "~3 km", []),
        ("a ** b", "a ** b", []),
        ("a || b", "a || b", []),
        ("it`s", "it`s", []),
        ("**only ~3 left**", "only ~3 left", [bold(0, 12)]),
        ("~3 **left**", "~3 left", [bold(3, 4)]),
        ("👋 2 * 3 **is** six", "👋 2 * 3 is six", [bold(9, 2)]),
        ("***both***", "both", [bold(0, 4), italic(0, 4)]),
        ("**a *b***", "a b", [bold(0, 3), italic(2, 1)]),
        ("*one ~two* three~", "one two three", [italic(0, 7), strike(4, 9)]),
        ("**a ~ b** c **d**", "a ~ b c d", [bold(0, 5), bold(8, 1)]),
        ("*a* *b* *c", "a b *c", [italic(0, 1), italic(2, 1)]),
        ("**a*", "**a*", []),
        (r"2 * 3 \* 4", "2 * 3 * 4", []),
    ],
)
def test_a_mark_without_its_like_is_text_and_hides_no_other(
    text: str, plain: str, styles: list[Style]
) -> None:
    assert parse_styled(text) == (plain, tuple(styles))


# --- For any text. ---

texts = st.text(
    st.sampled_from(["*", "*", "~", "|", "|", "`", "\\", " ", "a", "ß", "👋", chr(0xD83D), chr(0xDC4B)])
)


def tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Each character and each mark of `text`, escapes resolved, and whether it is a mark."""
    at = 0
    while at < len(text):
        escaped = text[at] == "\\" and text[at + 1 : at + 2] in {"*", "~", "|", "`"} and at + 1 < len(text)
        at += escaped
        token = text[at : at + 2] if text[at : at + 2] in NAMES else text[at]
        yield token, token in NAMES and not escaped
        at += len(token)


def units(text: str) -> int:
    return sum(2 if ord(character) > 0xFFFF else 1 for character in text)


def as_the_gateway(text: str) -> tuple[str, tuple[Style, ...]] | None:
    """What the REST gateway makes of a text, but for styles of nothing; None if it drops a lone mark."""
    plain = ""
    opened: list[tuple[str, int]] = []
    styles: list[Style] = []
    for token, is_mark in tokens(text):
        if not is_mark:
            plain += token
        elif opened and opened[-1][0] == token:
            start = opened.pop()[1]
            styles.append(Style(start, units(plain) - start, NAMES[token]))
        else:
            opened.append((token, units(plain)))
    return None if opened else (plain, tuple(style for style in styles if style.length))


@given(texts)
def test_where_the_rest_gateway_drops_nothing_the_result_is_the_same(text: str) -> None:
    wanted = as_the_gateway(text)
    assume(wanted is not None)
    assert parse_styled(text) == wanted


@given(texts)
def test_only_marks_are_lost_each_with_its_like_and_all_styles_lie_in_the_text(text: str) -> None:
    plain, styles = parse_styled(text)
    whole = "".join(token for token, _ in tokens(text))
    assert re.sub(r"[*~|`]", "", plain) == re.sub(r"[*~|`]", "", whole)
    for mark in "*~|`":
        assert (whole.count(mark) - plain.count(mark)) % 2 == 0
    for style in styles:
        assert style.start >= 0
        assert style.length > 0
        assert style.start + style.length <= units(plain)
        assert style.name in NAMES.values()


@given(texts)
def test_an_odd_mark_stays_and_an_even_number_goes(text: str) -> None:
    plain, _ = parse_styled(text)
    marks = [token for token, is_mark in tokens(text) if is_mark]
    literal = "".join(token for token, is_mark in tokens(text) if not is_mark)
    left = sum(len(mark) for mark in NAMES if marks.count(mark) % 2)
    assert len(plain) == len(literal) + left


@given(st.text(st.characters(exclude_characters="*~|`")))
def test_a_text_without_marks_comes_back_as_it_is(text: str) -> None:
    assert parse_styled(text) == (text, ())


@given(st.text(st.sampled_from("*~|` a👋")))
def test_a_text_with_a_backslash_before_every_mark_comes_back_without_them(text: str) -> None:
    assert parse_styled(re.sub(r"([*~|`])", r"\\\1", text)) == (text, ())


# --- Marked words, nested as one writes them. ---


class Marked(NamedTuple):
    mark: str
    parts: "list[Part]"


Part = str | Marked


def written(parts: list[Part]) -> str:
    """With marks."""
    texts = (part if isinstance(part, str) else part.mark + written(part.parts) + part.mark for part in parts)
    return "_".join(texts)


def shown(parts: list[Part]) -> str:
    """Without marks."""
    return "_".join(part if isinstance(part, str) else shown(part.parts) for part in parts)


def marked(parts: list[Part]) -> list[tuple[str, str]]:
    """What is marked, each with its style's name."""
    inner = [part for part in parts if isinstance(part, Marked)]
    own = [(NAMES[part.mark], shown(part.parts)) for part in inner]
    return own + list(itertools.chain.from_iterable(marked(part.parts) for part in inner))


def parts_with(marks: frozenset[str], size: int = 4) -> st.SearchStrategy[list[Part]]:
    """Words, and parts marked with some of `marks`, none within itself."""
    word = st.text(st.sampled_from("aä👋🏾 \n"), min_size=1, max_size=3)
    if not marks:
        return st.lists(word, min_size=1, max_size=size)
    inner = st.sampled_from(sorted(marks)).flatmap(
        lambda mark: st.builds(Marked, st.just(mark), parts_with(marks - {mark}, 2))
    )
    return st.lists(word | inner, min_size=1, max_size=size)


def cut_out(text: str) -> list[tuple[str, str]]:
    plain, styles = parse_styled(text)
    return sorted((style.name, utf16_slice(plain, style.start, style.length)) for style in styles)


@given(parts_with(frozenset(NAMES)))
def test_the_styled_parts_are_the_marked_words(parts: list[Part]) -> None:
    assert parse_styled(written(parts))[0] == shown(parts)
    assert cut_out(written(parts)) == sorted(marked(parts))


@given(st.data(), st.sampled_from(sorted(NAMES)), st.sampled_from(sorted(NAMES)))
def test_a_lone_mark_among_marked_words_stays_and_changes_none(
    data: st.DataObject, lone: str, mark: str
) -> None:
    assume(lone != mark)
    others = parts_with(frozenset(NAMES) - {lone, mark}, 2)
    within: Part = Marked(mark, [*data.draw(others), lone, *data.draw(others)])
    parts: list[Part] = [*data.draw(others), within, *data.draw(others)]
    assert parse_styled(written(parts))[0] == shown(parts)
    assert cut_out(written(parts)) == sorted(marked(parts))

"""Every statement of docs/contract.md has a test, and every test that names one names one that exists.

The markers are read from the source and not from the running session, so the answer is the
same whichever tests were chosen.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
CONTRACT = TESTS.parent / "docs" / "contract.md"

_STATEMENT = re.compile(r"^- \*\*([A-Z]\d+)\*\* ", re.MULTILINE)


class Claim(NamedTuple):
    """What a marker says, and where it stands."""

    statement: str
    place: str


def statements() -> list[str]:
    """Return the ids of the contract's statements, in its order."""
    return _STATEMENT.findall(CONTRACT.read_text(encoding="utf-8"))


def claims_in(source: str, path: str) -> Iterator[Claim]:
    """Yield each id in each ``pytest.mark.contract(...)``, wherever it stands.

    Raises:
        TypeError: an id is not a literal string, so it cannot be read from the source.
    """
    for node in ast.walk(ast.parse(source, path)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.contract")):
            continue
        for argument in node.args:
            place = f"{path}:{argument.lineno}"
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                message = f"{place}: write the id as a literal string, not as {ast.unparse(argument)}"
                raise TypeError(message)
            yield Claim(argument.value, place)


def all_claims() -> dict[str, list[str]]:
    """Return the places of the markers for each id that any test names."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for claim in claims_in(path.read_text(encoding="utf-8"), path.relative_to(TESTS.parent).as_posix()):
            places[claim.statement].append(claim.place)
    return places


def test_the_contract_numbers_each_statement_once_and_without_holes() -> None:
    ids = statements()
    sections = Counter(identifier[0] for identifier in ids)
    assert ids
    assert ids == [f"{section}{n}" for section, size in sections.items() for n in range(1, size + 1)]


def test_every_statement_has_a_test() -> None:
    claimed = all_claims()
    assert [identifier for identifier in statements() if identifier not in claimed] == []


def test_every_named_statement_exists() -> None:
    known = set(statements())
    assert {
        identifier: places for identifier, places in all_claims().items() if identifier not in known
    } == {}


def test_markers_are_found_wherever_they_stand() -> None:
    source = """
        import pytest
        pytestmark = [pytest.mark.contract("A1")]

        @pytest.mark.contract("A2", "A3")
        class TestOne:
            @pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.contract("A4"))])
            async def test_two(self, n: int) -> None: ...

        TestThree = pytest.mark.contract("A5")(TestOne)
        text = 'pytest.mark.contract("A6")'
        pytest.mark.usefixtures("A7")
    """
    found = {claim.statement: claim.place for claim in claims_in(dedent(source), "example.py")}
    assert sorted(found) == ["A1", "A2", "A3", "A4", "A5"]
    assert found["A2"] == "example.py:5"


def test_an_id_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"example\.py:1: .* not as NAME"):
        list(claims_in("pytest.mark.contract(NAME)", "example.py"))

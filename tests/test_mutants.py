"""What is changed to try the tests, and that the list of survivors is true."""

import ast
import re
from itertools import groupby
from pathlib import Path
from random import Random
from textwrap import dedent

import pytest

from tests.mutants import SURVIVORS, TESTS, Module, choose, known_survivors, main
from tests.mutations import mutants_of

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def changes(source: str) -> list[str]:
    return [mutant.name for mutant in mutants_of(ast.parse(dedent(source)))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a is None", {"a is not None"}),
        ("a in b", {"a not in b"}),
        ("a and b", {"a or b"}),
        ("not a", {"a"}),
        ("-a", {"a"}),
        ("a + b", {"a - b"}),
        ("a + 'text'", set[str]()),
        ("5", {"6", "4"}),
        ("True", {"False"}),
        ("min(a, b)", {"max(a, b)"}),
        ("a == 'word'", {"a != 'word'", "a == 'XwordX'"}),
        ("a['key']", {"a['XkeyX']"}),
        ("a.get('key', 'else')", {"a.get('XkeyX', 'else')"}),
        ("f('text')", set[str]()),
        ("f'text {a + 1}'", set[str]()),
        ("b if a else c", {"b if not a else c"}),
        ("[a for a in b if a]", {"[a for a in b if not a]"}),
    ],
)
def test_the_changes_of_an_expression(line: str, expected: set[str]) -> None:
    found = changes(f"x = {line}")
    assert set(found) == {f"<module>: x = {line} => x = {after}" for after in expected}


def test_the_changes_of_statements() -> None:
    source = """
        class A:
            def f(self, a) -> bool:
                if a:
                    raise ValueError("words", 5)
                self.b = a
                self.c += a
                for x in a:
                    g(x)
                    continue
                return a
    """
    assert changes(source) == [
        "A.f: a => not a",
        "A.f: raise ValueError('words', 5) => pass",
        "A.f: self.b = a => pass",
        "A.f: self.c += a => self.c -= a",
        "A.f: self.c += a => pass",
        "A.f: g(x) => pass",
        "A.f: continue => break",
        "A.f: return a => return True",
        "A.f: return a => return False",
    ]


def test_each_row_of_a_table_is_left_out() -> None:
    assert changes("T = {'a': b, 'c': d}") == [
        "<module>: without 'a'",
        "<module>: without 'c'",
        "<module>: T = {'a': b, 'c': d} => T = {'XaX': b, 'c': d}",
        "<module>: T = {'a': b, 'c': d} => T = {'a': b, 'XcX': d}",
    ]


def test_what_nobody_promises_is_left_alone() -> None:
    source = '''
        """Words."""
        import a
        T = dict[str, int] | None
        __all__ = ["f"]
        if TYPE_CHECKING:
            x = 1

        @decorated(1)
        def f(a: Literal[1]) -> Literal[2]:
            """Words."""
            assert a == 1
            _logger.debug("a %d", 1)
            raise Error(1 + a)

        class A:
            def __repr__(self): return 1
    '''
    assert changes(source) == ["f: raise Error(1 + a) => pass"]


def test_the_same_change_twice_in_a_function_has_two_names() -> None:
    assert changes("x = 0\nx = 0") == [
        "<module>: x = 0 => x = 1",
        "<module>: x = 0 => x = -1",
        "<module>: x = 0 => x = 1 (no. 2)",
        "<module>: x = 0 => x = -1 (no. 2)",
    ]


def test_looking_for_changes_changes_nothing_and_each_can_be_made() -> None:
    module = Module.read("_states")
    before = ast.dump(module.tree)
    assert before == ast.dump(ast.parse(module.source))
    texts: set[str] = set()
    for mutant in module.mutants:
        back = mutant.edit.make()
        texts.add(ast.unparse(module.tree))
        compile(module.tree, "changed", "exec")
        back.make()
    assert ast.dump(module.tree) == before
    assert len(texts) == len(module.mutants)


def test_every_pure_module_has_its_tests() -> None:
    pure = re.search(r"^PURE := ((?:.*\\\n)*.*)$", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert pure is not None
    assert sorted(pure[1].replace("\\", "").split()) == sorted(TESTS)
    names = {name for tests in TESTS.values() for name in tests}
    assert [name for name in names if not Path(__file__).with_name(f"test_{name}.py").exists()] == []


def test_every_known_survivor_is_a_mutant_and_has_a_reason() -> None:
    known = known_survivors(SURVIVORS.read_text(encoding="utf-8"))
    assert [name for name, reason in known.items() if not reason] == []
    for module, names in groupby(known, key=lambda name: name.partition(": ")[0]):
        there = {mutant.name for mutant in Module.read(module).mutants}
        assert [name for name in names if name.partition(": ")[2] not in there] == []


def test_survivors_are_read_with_their_reasons() -> None:
    text = "# words\na: f: x => y\n    because of\n    this\n\nb: g: x => y\n    that\n"
    assert known_survivors(text) == {"a: f: x => y": "because of this", "b: g: x => y": "that"}


def test_a_sample_is_drawn_from_a_seed() -> None:
    modules = [Module.read("_states"), Module.read("_ratelimit")]
    one, same, other = (choose(modules, 20, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert sum(map(len, one.values())) == 20
    assert sum(map(len, choose(modules, None, 0).values())) == sum(len(m.mutants) for m in modules)


def test_mutants_are_killed_by_the_tests(capsys: pytest.CaptureFixture[str]) -> None:
    seed = Random(2026).randrange(100)
    with pytest.raises(SystemExit) as ended:
        main(["--module", "_ratelimit", "--sample", "3", "--seed", str(seed), "--jobs", "1"])
    output = capsys.readouterr().out
    assert not ended.value.code, output
    assert "3 of 3 mutants killed" in output

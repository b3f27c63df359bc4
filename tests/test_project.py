"""What must hold for the project as a whole: its public face, its layers, its files."""

import ast
import functools
import graphlib
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import trio_signal

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trio_signal"

#: Modules that do no I/O and know no Trio, so that they can be tested exhaustively.
PURE = (
    *("_states", "_continuity", "_duplicates", "_acknowledgements", "_ratelimit", "_errors"),
    *("_pause", "_deadlines", "_envelopes", "_decoding", "_salvage", "_wire"),
    *("_frames", "_http_answers", "_lanes", "hub._incoming", "hub._request_head", "hub._framing"),
    *("hub.log", "hub._pages", "hub._protocol", "hub.connections", "hub.auth"),
)
#: What a pure module may not reach, however indirectly.
IMPURE = {"httpcore", "httpx", "socket", "subprocess", "threading", "trio", "trio_websocket"}

#: Written in two halves, so that this file does not hold what it looks for.
FORBIDDEN = tuple(
    "".join(halves)
    for halves in (
        ("/wo", "rk/"),
        ("/tm", "p/scratch"),
        ("/ro", "ot/"),
        ("pypi.", "org"),
        ("pythonhosted.", "org"),
        ("registry.npmjs.", "org"),
        ("deb.debian.", "org"),
    )
)
#: What git ignores, plus git's own.
NOT_OURS = {
    ".cache",
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
}


def project() -> dict[str, Any]:
    """Return the ``[project]`` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def modules() -> dict[str, Path]:
    """Return the files of the package by their dotted names."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports(name: str, path: Path) -> set[str]:
    """Return the dotted names of the modules that a module imports, anywhere in its source.

    ``from package import name`` counts as the module ``package.name`` where there is one.
    """
    base = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = base.split(".")
            anchor = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (anchor, node.module)))
            children = {f"{source}.{alias.name}" for alias in node.names}
            submodules = children & modules().keys()
            found |= submodules
            if submodules != children:
                found.add(source)
    return found


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return what each module of the package imports."""
    return {name: imports(name, path) for name, path in modules().items()}


def reach(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Return all modules that importing ``start`` brings in, by the package's own imports."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in edges.get(todo.pop(), set()) - seen:
            seen.add(name)
            todo.append(name)
    return seen


def own_files() -> Iterator[Path]:
    """Yield each file of the project that is not made by a tool."""
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and NOT_OURS.isdisjoint(path.relative_to(ROOT).parts):
            yield path


PUBLIC_MODULES = ("trio_signal", "trio_signal.hub", "trio_signal.testing")


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_all_names_what_is_public_and_nothing_else(name: str) -> None:
    module = importlib.import_module(name)
    # What is there, and what would be loaded if it were asked for.
    names = {key for key in dir(module) if not isinstance(getattr(module, key), types.ModuleType)}
    modules_named = {key for key in module.__all__ if isinstance(getattr(module, key), types.ModuleType)}
    assert set(module.__all__) - modules_named - {"__version__"} == {
        key for key in names if not key.startswith("_")
    }
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_classes_and_functions_have_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    documented = {key: getattr(module, key) for key in module.__all__}
    silent = [
        key
        for key, value in documented.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and not value.__doc__
    ]
    assert silent == []


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_names_say_in_one_way_where_they_live(name: str) -> None:
    module = importlib.import_module(name)
    homes = {
        value.__module__
        for value in (getattr(module, key) for key in module.__all__)
        if inspect.isclass(value) or inspect.isroutine(value)
    }
    # Either every one shows the public module, or every one shows the private module that it was written in.
    assert homes == {name} or (name not in homes and all(home.startswith("trio_signal.") for home in homes))


def test_what_hides_its_content_hides_it_from_rich_too() -> None:
    """Each struct has a ``__rich_repr__`` of msgspec that shows all, and rich prefers it to the repr."""
    structs = {
        value
        for name in modules()
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    hiding = {struct for struct in structs if struct.__repr__ is not msgspec.Struct.__repr__}
    assert hiding
    own = msgspec.Struct.__rich_repr__
    assert not {struct for struct in hiding if struct.__rich_repr__ is own}


def test_the_version_is_the_same_in_both_places() -> None:
    assert trio_signal.__version__ == project()["version"]


def test_entry_points_lead_somewhere() -> None:
    targets = {**project()["scripts"], **project()["entry-points"]["pytest11"]}
    for target in targets.values():
        assert pkgutil.resolve_name(target)


@pytest.mark.parametrize("name", ["trio_signal", "trio_signal.testing"])
def test_the_library_needs_no_extra(name: str) -> None:
    extras = {"coverage", "cryptography", "hypothesis", "httpx2", "jwt", "playwright", "prometheus_client"}
    extras |= {"pytest", "pytest_trio", "rich", "schemathesis", "segno", "structlog", "trustme"}
    # Coverage is there when it measures this very process; httpx takes in rich by itself where it finds it.
    code = (
        f"import sys, httpx; before = {{*sys.modules}}; import {name}; "
        f"print(*sorted({extras!r} & (sys.modules.keys() - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"coverage"}


def test_the_lock_file_has_every_dependency() -> None:
    table = project()
    wanted = [
        *table["dependencies"],
        *(item for extra in table["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in wanted}
    lock = (ROOT / "requirements" / "ci.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([\w.-]+)(?:\[\w+\])?==", lock, re.MULTILINE))
    assert names - pinned == set(), "run: make lock"


def test_imports_have_no_cycle() -> None:
    edges = graph()
    inside = {name: {target for target in targets if target in edges} for name, targets in edges.items()}
    try:
        order = list(graphlib.TopologicalSorter(inside).static_order())
    except graphlib.CycleError as error:
        pytest.fail("modules import each other: " + " <- ".join(error.args[1]))
    assert set(order) == set(edges)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_stay_pure(name: str) -> None:
    reached = {target.partition(".")[0] for target in reach(f"trio_signal.{name}", graph())}
    assert reached & IMPURE == set()


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    path = tmp_path / "rest.py"
    path.write_text(
        "import trio\nimport trio.testing as t\nfrom .. import _errors\nfrom .._states import Backoff\n"
        "from . import rest\ndef late():\n    from trio_signal import SignalError\n"
    )
    assert imports("trio_signal.gateways.rest", path) == {
        "trio",
        "trio.testing",
        "trio_signal",
        "trio_signal._errors",
        "trio_signal._states",
        "trio_signal.gateways.rest",
    }


def test_no_file_of_tests_is_passed_over() -> None:
    tests = ROOT / "tests"
    for path in tests.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_tests = any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            for node in ast.walk(tree)
        )
        assert path.name.startswith("test_") or not has_tests, f"pytest does not collect {path}"
        assert (path.parent / "__init__.py").exists(), f"{path.parent} needs an __init__.py"


def test_no_file_names_a_place_on_one_machine() -> None:
    found: list[str] = []
    for path in own_files():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert found == []

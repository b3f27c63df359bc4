"""All cases, by name."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Final

from . import cases
from .case import Case

#: What is told first; the others follow by name.
_FIRST: Final = ("receive", "paced", "send", "sends_many", "echo", "echo_many")


def _found() -> Iterator[Case]:
    """Yield the cases of every package below :mod:`benchmarks.cases`."""
    for module in pkgutil.iter_modules(cases.__path__):
        if module.ispkg:
            package = importlib.import_module(f"{cases.__name__}.{module.name}")
            if hasattr(package, "CASE"):
                yield package.CASE
            else:
                yield from getattr(package, "CASES", ())


def _place(case: Case) -> tuple[int, str]:
    return _FIRST.index(case.name) if case.name in _FIRST else len(_FIRST), case.name


CASES: Final[dict[str, Case]] = {case.name: case for case in sorted(_found(), key=_place)}

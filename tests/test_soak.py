"""``make soak`` itself: whatever fails in it is told, and makes it fail."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from . import soak
from .soak import PARTS, Part, Soaking, main, summary


def some_fail(count: int) -> Iterator[str | None]:
    for case in range(count):
        yield "it broke [like this]\nsee it again: just so" if case % 4 == 3 else None


def breaks(count: int) -> Iterator[str | None]:
    yield None
    raise RuntimeError(f"after one of {count}")


def none_run(count: int) -> Iterator[str | None]:
    return iter(())


def a_seed(seed: int) -> None:
    if seed == 2:
        raise ValueError("this seed is bad")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put parts of the test's own in the place of the real ones, which take hours."""
    fakes = {
        name: Part(count=8, about=name, module=__name__, function=name)
        for name in ("some_fail", "breaks", "none_run")
    }
    fakes["a_seed"] = Part(count=4, about="seeds", module=__name__, function="a_seed", seeds=True)
    monkeypatch.setattr(soak, "PARTS", fakes)


@pytest.mark.usefixtures("parts")
def test_each_failure_is_told_and_nothing_stops_the_rest() -> None:
    output = io.StringIO()
    results = Soaking(Console(file=output, width=120)).run({"breaks": 8, "some_fail": 8, "none_run": 8})
    assert [(each.name, each.cases, len(each.failures)) for each in results] == [
        ("breaks", 1, 1),
        ("some_fail", 8, 2),
        ("none_run", 0, 1),
    ]
    shown = output.getvalue()
    assert shown.count("it broke [like this]") == 2
    assert shown.count("see it again: just so") == 2
    assert "breaks itself failed: RuntimeError: after one of 8" in shown
    assert summary(results).endswith("9 cases, 4 failed")


@pytest.mark.usefixtures("parts")
def test_a_bad_seed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a_seed"]) == 1
    assert "seed 2: ValueError: this seed is bad" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["dancing"], ["--scale", "0"]])
def test_what_there_is_not(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "must be over 0" in (told := capsys.readouterr().err) or "there is no part dancing" in told


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_begin(name: str) -> None:
    part = PARTS[name]
    assert part.count > 0
    if not part.seeds:
        assert iter(part.start(0)) is not None

"""The benchmarks' harness does what it says. What figures a contender gets is not what is tested."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from benchmarks import __main__ as command
from benchmarks import report, traffic
from benchmarks.cases import CASES
from benchmarks.cases.receive import ours, plain
from benchmarks.contender import Gateway, Item, Measurement, Params, Stopwatch, Work
from benchmarks.generators import Generator
from benchmarks.harness import Case, CaseResult, Contender, Metric, Result, run_case, turns
from benchmarks.harness import _last_words as last_words
from trio_signal._wire import Frame

TINY: Final[dict[str, Params]] = {
    "receive": {"warm": 3, "count": 70},
    "send": {"warm": 2, "count": 5},
    "reconnect": {"outages": 2, "down": 1},
}


@pytest.fixture
def generator() -> Iterator[Generator]:
    it = Generator()
    it.start()
    yield it
    it.stop()


# Contenders for the tests of the harness, run in processes of their own.


def honest(_gateway: Gateway, params: Params) -> Measurement:
    return Measurement({"rate": float(params["rate"])}, Work.of([]))


def lying(_gateway: Gateway, _params: Params) -> Measurement:
    return Measurement({"rate": 1e9}, Work.of([(1, "+15550199", None, "never came")]))


def lazy(_gateway: Gateway, _params: Params) -> Measurement:
    return Measurement({}, Work.of([]))


def broken(_gateway: Gateway, _params: Params) -> Measurement:
    raise RuntimeError("out of order")


def grouped(_gateway: Gateway, _params: Params) -> Measurement:
    raise ExceptionGroup("both", [RuntimeError("the first"), OSError("the second")])


def silent(_gateway: Gateway, _params: Params) -> Measurement:
    os._exit(3)


def endless(_gateway: Gateway, _params: Params) -> Measurement:
    while True:
        pass


def case_of(*functions: str, baseline: str = "honest", limit: float = 60.0) -> Case:
    return Case(
        name="case",
        title="a case",
        notes="at {rate}",
        metrics=(Metric("rate", "turns/s", more_is_better=True),),
        contenders=tuple(Contender(name, f"{__name__}:{name}") for name in functions),
        baseline=baseline,
        full={"rate": 7},
        quick={"rate": 7},
        limit=limit,
    )


def run_one(name: str, *, limit: float = 60.0) -> Result:
    (result,) = run_case(case_of(name, limit=limit), rounds=1, params={"rate": 7}).results
    return result


# The cases.


def test_every_case_has_sizes_here() -> None:
    # Those of the hub are run in test_benchmarks_hub.py, and the one in which messages get lost below.
    assert TINY.keys() == CASES.keys() - {"broadcast", "recovery", "overlap"}
    assert all(case.full.keys() == case.quick.keys() for case in CASES.values())
    assert all(CASES[name].quick.keys() == sizes.keys() for name, sizes in TINY.items())


@pytest.mark.parametrize("name", TINY)
def test_all_contenders_of_a_case_do_the_same_work(name: str) -> None:
    case, params = CASES[name], TINY[name]
    told: list[str] = []
    result = run_case(case, rounds=1, params=params, tell=told.append)
    assert [one.error for one in result.results] == [None] * len(case.contenders)
    assert len(told) == len(case.contenders)
    (work,) = {one.measurement.work for one in result.results if one.measurement}
    assert work.count == sum(number for key, number in params.items() if key != "down")
    text = report.case_text(result)
    assert all(metric.title in text for metric in case.metrics)
    assert all(contender.name in text for contender in case.contenders)
    assert "FAILED" not in text
    for contender in case.contenders:
        for metric in case.metrics:
            spread = result.spread(contender.name, metric.name)
            assert spread is not None
            assert spread.low > 0


def test_a_late_path_costs_nothing_where_the_new_link_is_made_first() -> None:
    result = run_case(CASES["overlap"], rounds=1, params={"incidents": 1})
    assert [one.error for one in result.results] == [None, None]
    after, before = (one.measurement.figures for one in result.results if one.measurement)
    assert after["path_lost"] > 0
    assert (before["path_lost"], before["path_gaps"]) == (0, 0)
    for kind in ("dead", "stall"):
        assert before[f"{kind}_gaps"] == after[f"{kind}_gaps"] == 1
    assert "break before make" in report.case_text(result)


def test_contenders_take_turns_there_and_back() -> None:
    a, b, c = (Contender(name, "") for name in "ABC")
    assert "".join(contender.name for _, contender in turns((a, b, c), 3)) == "ABCCBAABC"
    assert [number for number, _ in turns((a, b), 2)] == [0, 0, 1, 1]


# A contender that fails is reported.


def test_a_good_contender_gives_its_figures() -> None:
    assert run_one("honest") == Result("honest", 0, Measurement({"rate": 7.0}, Work.of([])))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("broken", r"RuntimeError: out of order"),
        ("lying", r"did Work\(count=1, .*\), but the generator Work\(count=0, .*\)"),
        ("lazy", r"gave no figures for rate"),
        ("grouped", r"OSError: the second"),
        ("silent", r"ended without a word"),
        ("missing", r"AttributeError: .*'missing'"),
    ],
)
def test_a_contender_that_fails_says_why(name: str, error: str) -> None:
    result = run_one(name)
    assert result.measurement is None
    assert result.error is not None
    assert re.fullmatch(error, result.error)


def test_a_contender_that_does_not_end_is_ended() -> None:
    result = run_one("endless", limit=1.0)
    assert result.measurement is None
    assert result.error == "Timeout (0:00:01)!"


def test_what_a_hanging_contender_last_complained_of_is_told() -> None:
    errors = (
        'an old one\nmessages may be missing\nTimeout (0:01:00)!\nThread 0x1:\n  File "x.py", line 1 in run\n'
    )
    assert last_words(errors) == "messages may be missing Timeout (0:01:00)!"


def test_one_that_fails_is_shown_beside_the_others() -> None:
    result = run_case(case_of("honest", "broken"), rounds=2, params={"rate": 7})
    assert result.has_failed
    assert [one.contender for one in result.results] == ["honest", "broken", "broken", "honest"]
    text = report.case_text(result)
    assert re.search(r"^ +broken +FAILED$", text, re.MULTILINE)
    assert "FAILED in 2 of 2 rounds: broken: RuntimeError: out of order" in text
    assert "at 7" in text


def test_other_work_than_the_first_is_a_failure() -> None:
    # Each agrees with its own generator, so only comparing them with each other can tell.
    case = Case(
        name="case",
        title="",
        notes="",
        metrics=(),
        contenders=(
            Contender("all", f"{__name__}:receives_all"),
            Contender("half", f"{__name__}:receives_half"),
        ),
        baseline="all",
        full={},
        quick={},
    )
    full, half = run_case(case, rounds=1, params={"warm": 2, "count": 4}).results
    assert full.error is None
    assert half.error is not None
    assert re.fullmatch(r"did Work\(count=4, .*\), but others Work\(count=6, .*\)", half.error)


def receives_all(gateway: Gateway, params: Params) -> Measurement:
    return plain.run(gateway, params)


def receives_half(gateway: Gateway, params: Params) -> Measurement:
    return plain.run(gateway, {"warm": params["warm"], "count": params["count"] // 2})


# Sums.


def rounds_of(**figures: list[float | None]) -> CaseResult:
    """Return a result with these figures, round by round; None is a failure."""
    result = CaseResult(case_of(*figures, baseline="a"), {"rate": 7}, 3)
    for name, values in figures.items():
        for number, value in enumerate(values):
            measurement = None if value is None else Measurement({"rate": value}, Work(0, ""))
            result.results.append(Result(name, number, measurement, None if measurement else "broke"))
    return result


def test_medians_and_ratios() -> None:
    result = rounds_of(a=[10.0, 20.0, 40.0], b=[30.0, 20.0, 20.0])
    spread, ratio = result.spread("b", "rate"), result.ratio("b", "rate")
    assert spread is not None
    assert ratio is not None
    assert (spread.median, spread.low, spread.high) == (20.0, 20.0, 30.0)
    # The ratio of the medians, and the range of the ratios inside each round.
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 3.0)
    assert not result.has_failed


def test_rounds_that_failed_count_for_nothing() -> None:
    result = rounds_of(a=[10.0, None, 40.0], b=[None, 30.0, 20.0])
    spread, ratio = result.spread("b", "rate"), result.ratio("b", "rate")
    assert spread is not None
    assert ratio is not None
    assert spread.median == 25.0
    # Only the last round is good for both.
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
    assert result.has_failed
    assert result.failures("b") == ["broke"]


def test_without_one_good_round_there_is_no_figure() -> None:
    result = rounds_of(a=[None, None, None], b=[1.0, 1.0, 1.0])
    assert result.spread("a", "rate") is None
    assert result.ratio("b", "rate") is None
    assert "FAILED in 3 of 3 rounds: a: broke" in report.case_text(result)


def test_work_is_contents_in_order() -> None:
    one: Item = (1, "+15550101", None, "one")
    two: Item = (2, "+15550102", "group", "two")
    assert Work.of([one, two]) == Work.of(iter([one, two]))
    assert (
        len({Work.of(items) for items in ([one, two], [two, one], [one], [one, (2, *two[1:3], "Two")])}) == 4
    )


def test_a_stopwatch_counts_from_its_last_start() -> None:
    watch = Stopwatch()
    watch.stop()
    watch.seconds = watch.cpu_seconds = 0.5
    assert watch.figures(10) == {"rate": 20.0, "cpu": 50_000.0}


# The traffic.


def test_envelopes_are_of_realistic_sizes_and_each_is_its_own() -> None:
    listed = list(traffic.frames(600))
    sizes = [len(frame) - 4 for _, frame in listed]
    assert min(sizes) >= traffic.SMALLEST
    assert max(sizes) <= traffic.LARGEST
    assert len(set(sizes)) > 100
    assert [item[0] for item, _ in listed] == [traffic.timestamp(number) for number in range(600)]
    assert sum(item[2] is not None for item, _ in listed) == 300
    assert listed == list(traffic.frames(600))


def test_frames_hold_what_the_items_say() -> None:
    for (stamp, sender, group, text), frame in traffic.frames(256):
        assert frame[:2] == b"\x81\x7e"
        assert int.from_bytes(frame[2:4]) == len(frame) - 4
        decoded = msgspec.json.decode(frame[4:], type=Frame)
        assert decoded.account == traffic.ACCOUNT
        assert decoded.envelope is not None
        data = decoded.envelope.data_message
        assert data is not None
        assert (data.timestamp, decoded.envelope.timestamp, data.message) == (stamp, stamp, text)
        assert decoded.envelope.source_number == sender
        assert (data.group_info.id if data.group_info else None) == group


def test_the_generator_counts_what_it_has_written(generator: Generator) -> None:
    measurement = ours.events(generator.address, {"warm": 1, "count": 130})
    assert measurement.work == generator.work
    assert generator.work == Work.of(item for item, _ in traffic.frames(131))


# The command line.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Case]:
    """Two cases in the place of the real ones."""
    cases = {"good": case_of("honest"), "bad": case_of("honest", "broken")}
    monkeypatch.setattr(command, "CASES", cases)
    return cases


def test_list_names_all_cases_and_contenders(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    out = capsys.readouterr().out
    for case in CASES.values():
        assert case.name in out
        assert all(contender.name in out for contender in case.contenders)


def test_a_run_prints_the_environment_and_writes_json(
    small: dict[str, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    assert command.main(["run", "good", "--rounds", "1", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    for word in ("CPython", "trio-websocket==", "CPUs", "load average", "turns/s"):
        assert word in out
    kept: dict[str, Any] = json.loads(file.read_text())
    assert kept["environment"]["libraries"]["trio"]
    (case,) = kept["cases"]
    assert (case["params"], case["rounds"], case["baseline"]) == ({"rate": 7}, 1, "honest")
    (contender,) = case["contenders"]
    assert contender["summary"]["rate"]["value"] == {"median": 7.0, "low": 7.0, "high": 7.0}
    assert contender["rounds"][0]["measurement"]["figures"] == {"rate": 7.0}


def test_a_failure_makes_the_exit_status_1(
    small: dict[str, Case], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["run", "bad", "--rounds", "1"]) == 1
    assert "FAILED in 1 of 1 rounds: broken" in capsys.readouterr().out


def test_without_a_command_everything_is_run_quickly(
    small: dict[str, Case], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: list[tuple[str, int, Params]] = []

    def note(case: Case, *, rounds: int, params: Params, tell: object) -> CaseResult:
        run.append((case.contenders[-1].name, rounds, params))
        return rounds_of(a=[1.0])

    monkeypatch.setattr(command, "run_case", note)
    assert command.main([]) == 0
    assert run == [("honest", 3, {"rate": 7}), ("broken", 3, {"rate": 7})]
    assert command.main(["run"]) == 0
    assert [rounds for _, rounds, _ in run[2:]] == [5, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["run", "nothing"],
            "there is no case nothing; there are receive, send, reconnect, broadcast, recovery, overlap",
        ),
        (["run", "--rounds", "0"], "give a number from 1 to 100"),
        (["run", "--rounds", "many"], "give a number from 1 to 100"),
        (["run", "--json", "."], ". cannot be a file"),
        (["run", "--json", "no/such/folder/file"], "cannot be a file"),
        (["bogus"], "invalid choice"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err

"""The benchmarks do what they say. What figures a contender gets is not what is tested."""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import socket
from collections import abc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, BinaryIO, Final

import msgspec
import pytest

from benchmarks import __main__ as command
from benchmarks import contender as contender_module
from benchmarks import harness, report, traffic
from benchmarks.case import Case, Contender, Goal, Metric, Plot
from benchmarks.cases.receive import ours
from benchmarks.cases.receive.orders import Orders, as_it_is
from benchmarks.catalogue import CASES
from benchmarks.contender import Gateway, Item, Measurement, Params, Stopwatch, Takings, Work
from benchmarks.generators import Generator
from benchmarks.harness import CaseResult, Result, run_case, turns
from benchmarks.harness import _last_words as last_words
from benchmarks.page import page, read_runs
from benchmarks.peers import PEERS, Environment, Peer, PeerMissing, Program, bring
from benchmarks.peers import peer as peer_module
from benchmarks.rivals.asyncio_work import Reception
from benchmarks.wakefulness import processors_awake
from trio_signal._wire import Frame
from trio_signal.testing import server_frame

from . import bench_contenders
from .bench_contenders import TINY


@pytest.fixture
def generator() -> Iterator[Generator]:
    it = Generator()
    it.start()
    yield it
    it.stop()


def case_of(*functions: str, baseline: str = "honest", limit: float = 60.0) -> Case:
    return Case(
        name="case",
        title="a case",
        notes="at {rate}",
        metrics=(Metric("rate", "turns/s", more_is_better=True),),
        contenders=tuple(Contender(name, f"{bench_contenders.__name__}:{name}") for name in functions),
        baseline=baseline,
        full={"rate": 7},
        quick={"rate": 7},
        limit=limit,
    )


def run_one(name: str, *, limit: float = 60.0) -> Result:
    (result,) = run_case(case_of(name, limit=limit), rounds=1, params={"rate": 7}).results
    return result


# The cases.


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_a_case_names_only_what_there_is(case: Case) -> None:
    metrics = {metric.name for metric in case.metrics}
    contenders = {contender.name for contender in case.contenders}
    assert len(contenders) == len(case.contenders)
    assert len(metrics) == len(case.metrics)
    assert case.baseline in contenders
    assert case.subject in contenders | {""}
    assert case.full.keys() == case.quick.keys()
    assert {contender.peer for contender in case.contenders} <= {"", *PEERS}
    assert {goal.metric for goal in case.goals} <= metrics
    assert {name for goal in case.goals for name in (goal.of, goal.to)} <= contenders | {""}
    assert all((goal.at_least is None) is not (goal.at_most is None) for goal in case.goals)
    assert {name for plot in case.plots for _, name in plot.points} <= metrics
    assert not contenders & case.cannot.keys()
    notes = case.notes.format(**case.quick)
    assert "{" not in notes


@pytest.mark.parametrize(
    ("name", "contender"),
    [(name, contender) for name in TINY for contender in CASES[name].contenders if not contender.peer],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_contender_does_the_work_that_the_generator_sees(
    name: str, contender: Contender, generator: Generator
) -> None:
    params = TINY[name]
    measurement = resolve_name(contender.target)(generator.address, params)
    assert measurement.work == generator.work
    each = params.get("count") or params.get("each") or 0
    assert measurement.work.count == params.get("people", 1) * (params["warm"] + each)
    for metric in CASES[name].metrics:
        assert measurement.figures[metric.name] > 0


def test_answers_are_compared_by_conversation(generator: Generator) -> None:
    # What two people are told in which order is not said, what one is told is.
    one, two = ("+12025550101", "0 one"), ("+12025550102", "1 two")
    there = traffic.by_conversation([(None, who, None, text) for who, text in (one, two)])
    back = traffic.by_conversation([(None, who, None, text) for who, text in (two, one)])
    assert Work.of(there) == Work.of(back)
    same = [(None, one[0], None, "first"), (None, one[0], None, "second")]
    assert Work.of(traffic.by_conversation(same)) != Work.of(traffic.by_conversation(same[::-1]))


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
        ("leaving", r"had enough"),
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
    result = run_case(case_of("honest", "broken"), rounds=1, params={"rate": 7})
    assert result.has_failed
    text = report.case_text(result)
    assert re.search(r"^ +broken +FAILED$", text, re.MULTILINE)
    assert "FAILED in 1 of 1 rounds: broken: RuntimeError: out of order" in text
    assert "at 7" in text


def test_other_work_than_the_first_is_a_failure() -> None:
    # Each agrees with its own generator, so only comparing them with each other can tell.
    full, half = run_case(case_of("sends", "sends_half"), rounds=1, params={"count": 4, "rate": 1}).results
    assert full.error is None
    assert half.error is not None
    assert re.fullmatch(r"did Work\(count=2, .*\), but others Work\(count=4, .*\)", half.error)


def test_what_a_contender_prints_is_not_its_answer() -> None:
    assert run_one("talkative") == Result("talkative", 0, Measurement({"rate": 7.0}, Work.of([])))


def test_who_is_too_slow_gets_less_of_the_work() -> None:
    slow = Contender("slow", f"{bench_contenders.__name__}:sends", fewer=3)
    case = case_of("sends", baseline="sends")
    case = replace(case, contenders=(*case.contenders, slow))
    result = run_case(case, rounds=1, params={"count": 6, "rate": 1})
    assert [one.error for one in result.results] == [None, None]
    assert [one.measurement.work.count for one in result.results if one.measurement] == [6, 2]
    assert "each had the same 6 messages in the same order, who is given fewer 2" in report.case_text(result)


# Peers.


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Peer]:
    """Others in the place of the real ones, and another place for the locks."""
    instead: dict[str, Peer] = {}
    monkeypatch.setattr(peer_module, "HOME", tmp_path / "peers")
    monkeypatch.setattr(harness, "PEERS", instead)
    monkeypatch.setattr(command, "PEERS", instead)
    return instead


def peer_case(name: str, peer: str) -> Case:
    case = case_of("honest")
    return replace(
        case,
        contenders=(*case.contenders, Contender("theirs", f"{bench_contenders.__name__}:{name}", peer=peer)),
    )


def environment(folder: Path, requirements: str) -> Environment:
    file = folder / "some-peer.txt"
    file.write_text(requirements)
    return Environment("some-peer", file, folder / "home")


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if isinstance(peer, Environment)])
def test_every_package_of_a_peer_is_pinned_with_its_checksums(name: str) -> None:
    peer = PEERS[name]
    assert isinstance(peer, Environment)
    lines = peer.requirements.read_text().splitlines()
    assert peer.versions
    assert set(peer.versions) <= set(peer.packages)
    packages = [number for number, line in enumerate(lines) if "==" in line and not line.startswith("#")]
    assert len(packages) == len(peer.packages)
    assert all(lines[number + 1].startswith("    --hash=sha256:") for number in packages)


def test_a_contender_runs_in_its_peers_environment_which_is_made_once(
    tmp_path: Path, peers: dict[str, Peer]
) -> None:
    peer = environment(tmp_path, "# What is asked for: nothing==1.0\n")
    peers["some-peer"] = peer
    result = run_case(peer_case("needy", "some-peer"), rounds=1, params={"rate": 7})
    ours, theirs = result.results
    assert ours.error is None
    assert theirs.error == "ModuleNotFoundError: No module named 'msgspec'"
    assert result.versions == {"theirs": ("nothing==1.0",)}
    mark = peer.home / "mark"
    mark.touch()
    peer.prepare()
    assert mark.exists()
    # Another list of packages makes it anew.
    environment(tmp_path, "# What is asked for: nothing==1.1\n")
    assert peer.prepare().versions == ("nothing==1.1",)
    assert not mark.exists()


def test_a_peer_that_cannot_be_installed_is_no_failure(tmp_path: Path, peers: dict[str, Peer]) -> None:
    asked = f"nothing @ {(tmp_path / 'nothing-1.0-py3-none-any.whl').as_uri()} --hash=sha256:{'0' * 64}"
    peers["some-peer"] = environment(tmp_path, f"# What is asked for: nothing==1.0\n{asked}\n")
    result = run_case(peer_case("honest", "some-peer"), rounds=1, params={"rate": 7})
    assert [one.contender for one in result.results] == ["honest"]
    assert not result.has_failed
    assert re.match(r"some-peer could not be installed: ERROR: .*nothing", result.missing["theirs"])
    text = report.case_text(result)
    assert re.search(r"^ +theirs +not measured$", text, re.MULTILINE)
    assert "not measured: theirs: some-peer could not be installed" in text
    assert not (tmp_path / "home").exists()


def test_a_program_is_handed_over(peers: dict[str, Peer]) -> None:
    peers["a program"] = Program("a program", ("it==2",), lambda: ("it", "--port", "1"))
    result = run_case(peer_case("with_program", "a program"), rounds=1, params={"rate": 7})
    assert result.results[1].measurement == Measurement({"rate": 3.0}, Work.of([]))
    assert result.versions == {"theirs": ("it==2",)}


def test_two_do_not_bring_the_same_peer_at_once(peers: dict[str, Peer], tmp_path: Path) -> None:
    def look() -> tuple[str, ...]:
        with (tmp_path / "peers" / "a program.lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ("it",)

    peer = Program("a program", (), look)
    assert bring(peer).program == ("it",)
    # It was given back.
    assert bring(peer).program == ("it",)


def test_prepare_brings_what_is_named(peers: dict[str, Peer], capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> tuple[str, ...]:
        raise PeerMissing("is not there")

    peers["good"] = Program("good", ("it==2",), lambda: ("it",))
    peers["bad"] = Program("bad", (), fail)
    assert command.main(["prepare", "good"]) == 0
    assert command.main(["prepare"]) == 1
    assert capsys.readouterr().out.splitlines() == ["good: it==2", "good: it==2", "bad is not there"]


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


def test_nothing_is_compared_with_zero() -> None:
    result = rounds_of(a=[0.0, 0.0, 2.0], b=[1.0, 1.0, 1.0])
    ratio = result.ratio("b", "rate")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
    assert rounds_of(a=[0.0], b=[1.0]).ratio("b", "rate") is None


@pytest.mark.parametrize(
    ("goal", "met", "words"),
    [
        (Goal("rate", "b", to="a", at_least=2), True, "met: turns/s: b at least 2 x a: 2"),
        (Goal("rate", "b", to="a", at_least=2.5), False, "MISSED: turns/s: b at least 2.5 x a: 2"),
        (Goal("rate", "b", to="a", at_most=2), True, "met: turns/s: b at most 2 x a: 2"),
        (Goal("rate", "b", at_most=39), False, "MISSED: turns/s: b at most 39: 40"),
        (Goal("rate", "b", at_least=40), True, "met: turns/s: b at least 40: 40"),
        (Goal("rate", "c", at_least=1), None, "not measured: turns/s: c at least 1"),
    ],
)
def test_a_goal_is_met_or_missed(goal: Goal, met: bool | None, words: str) -> None:
    result = rounds_of(a=[10.0, 20.0, 40.0], b=[30.0, 40.0, 40.0], c=[None, None, None])
    result.case = replace(result.case, goals=(goal,))
    value = result.reached(goal)
    assert (None if value is None else goal.is_met(value)) is met
    assert result.missed == ([goal] if met is False else [])
    assert f"  {words}" in report.case_text(result).splitlines()


def test_work_is_contents_in_order() -> None:
    one: Item = (1, "+15550101", None, "one")
    two: Item = (2, "+15550102", "group", "two")
    assert Work.of([one, two]) == Work.of(iter([one, two]))
    assert (
        len({Work.of(items) for items in ([one, two], [two, one], [one], [one, (2, *two[1:3], "Two")])}) == 4
    )


class ScriptedTime:
    """Stands in for the module `time` where something is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 2


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedTime:
    it = ScriptedTime()
    monkeypatch.setattr(contender_module, "time", it)
    return it


class NotingGateway(Gateway):
    """Writes nothing, and notes what it is ordered to do."""

    def order(self, command: str, *numbers: int) -> None:
        if command == "blast" and numbers == (13,):
            raise RuntimeError("the generator did not obey")
        ORDERS.append((command, *numbers))


ORDERS: Final[list[tuple[object, ...]]] = []


@pytest.fixture
def noting() -> NotingGateway:
    ORDERS.clear()
    return NotingGateway("127.0.0.1", 1, 2)


def as_they_come(count: int) -> list[Item]:
    return [(number, "+15550101", None, f"text {number}") for number in range(count)]


def test_a_stopwatch_leaves_out_what_goes_by_while_it_stands(scripted: ScriptedTime) -> None:
    watch = Stopwatch()
    scripted.now += 3
    watch.stop()
    scripted.now += 1000
    watch.go_on()
    scripted.now += 4
    watch.stop()
    assert (watch.seconds, watch.cpu_seconds) == (7, 3.5)
    assert watch.figures(14) == {"rate": 2.0, "cpu": 250_000.0}
    watch.start()
    scripted.now += 1
    watch.stop()
    assert (watch.seconds, watch.cpu_seconds) == (1, 0.5)


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_what_is_taken_is_summed_up_piece_by_piece_and_forgotten_while_the_watch_stands(
    size: int, scripted: ScriptedTime
) -> None:
    def read(item: Item) -> Item:
        scripted.now += 1000
        return item

    everything = as_they_come(17)
    left = iter(everything)
    takings = Takings[Item](read)
    for count in (5, 12):
        pieces: list[int] = []
        for piece in takings.pieces(count, size):
            assert not takings.taken
            for _ in range(piece):
                scripted.now += 2
                takings.taken.append(next(left))
            pieces.append(piece)
        assert sum(pieces) == count
        assert max(pieces) == min(size, count)
    measurement = takings.measurement(12)
    assert measurement.work == Work.of(everything)
    # The warm-up does not count.
    assert measurement.figures == {"rate": 0.5, "cpu": 1e6}


PACE: Final = {"interval": 500}


@pytest.mark.parametrize(("more", "pieces"), [({}, [66, 1000, 1000, 7]), (PACE, [66, 2007])])
def test_a_burst_is_taken_in_pieces_and_what_is_paced_in_one(
    more: dict[str, int], pieces: list[int], noting: NotingGateway, scripted: ScriptedTime
) -> None:
    orders = Orders(noting, {"warm": 66, "count": 2007} | more, as_it_is)
    everything, told = iter(as_they_come(2073)), list[int]()
    for count in orders:
        told.append(count)
        orders.taken.extend(itertools.islice(everything, count))
        scripted.now += count * 2
    assert told == pieces
    command = ("pace", 500) if more else ("blast",)
    written = [(command[0], count, *command[1:]) for count in (66, 2007)]
    assert [("prepare", 2073), *written] == ORDERS
    assert orders.measurement() == Measurement({"rate": 0.5, "cpu": 1e6}, Work.of(as_they_come(2073)))


def received_by_a_handler(noting: Gateway, params: Params, items: list[Item]) -> Measurement:
    async def receive() -> Measurement:
        reception = Reception(noting, params)

        async def handle_all() -> None:
            for item in items:
                reception.take(item)

        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(reception.measure())
            await asyncio.sleep(0)
            tasks.create_task(handle_all())
        return measuring.result()

    return asyncio.run(receive())


@pytest.mark.parametrize("more", [{}, PACE])
def test_who_is_called_takes_the_same_pieces(more: dict[str, int], noting: NotingGateway) -> None:
    params = {"warm": 66, "count": 2007} | more
    assert received_by_a_handler(noting, params, as_they_come(2073)).work == Work.of(as_they_come(2073))
    assert len(ORDERS) == 3
    # What comes behind the last one that was ordered is other work.
    too_much = received_by_a_handler(noting, params, as_they_come(2075)).work
    assert too_much == Work.of(as_they_come(2075))


def test_a_generator_that_does_not_obey_a_handler_is_told(noting: NotingGateway) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="did not obey")):
        received_by_a_handler(noting, {"warm": 66, "count": 13}, as_they_come(79))


# The processors.


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    it = tmp_path / "current_driver"
    it.write_text("haltpoll\n")
    return it


def test_processors_are_kept_awake_for_as_long_as_something_is_measured(tmp_path: Path, driver: Path) -> None:
    wish = tmp_path / "wish"
    os.mkfifo(wish)
    reader = os.open(wish, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with processors_awake(wish, driver) as awake:
            assert awake
            assert os.read(reader, 8) == b"\0\0\0\0"
            with pytest.raises(BlockingIOError):
                os.read(reader, 8)
        assert os.read(reader, 8) == b"", "it is not closed"
    finally:
        os.close(reader)


@pytest.mark.parametrize("hindrance", ["no wishes", "wishes not taken", "no drivers", "no driver"])
def test_a_system_that_cannot_keep_them_awake_is_measured_as_it_is(
    hindrance: str, tmp_path: Path, driver: Path
) -> None:
    wish = tmp_path / "wish"
    if hindrance == "wishes not taken":
        wish = Path("/dev/full")
    elif hindrance != "no wishes":
        wish.write_bytes(b"")
        driver.write_text("none\n") if hindrance == "no driver" else driver.unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyError) as caught, processors_awake(wish, driver) as awake:
        assert not awake
        raise KeyError("what went wrong")
    # It is told alone, and not as what happened while another error was handled.
    assert caught.value.__context__ is None
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_while_they_are_awake_is_not_swallowed(tmp_path: Path, driver: Path) -> None:
    wish = tmp_path / "wish"
    wish.write_bytes(b"")
    with pytest.raises(PermissionError, match="not ours"), processors_awake(wish, driver) as awake:
        assert awake
        raise PermissionError("not ours")


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


def _receiver(generator: Generator) -> socket.socket:
    """Open a receive socket and read the answer to its handshake."""
    sock = socket.create_connection((generator.address.host, generator.address.port), timeout=5)
    sock.sendall(b"GET /v1/receive/%b HTTP/1.1\r\nSec-WebSocket-Key: key\r\n\r\n" % traffic.ACCOUNT.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return sock


def _unmasked(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Read the frames of a server: opcode and payload."""
    while True:
        first, size = file.read(2)
        if size == 126:
            size = int.from_bytes(file.read(2))
        yield first & 0x0F, file.read(size)


def test_the_generator_pings_between_whole_frames_until_the_connection_ends() -> None:
    generator = Generator(ping_period=0.0005)
    generator.start()
    try:
        with contextlib.closing(_receiver(generator)) as receiver:
            for order in (("prepare", 2_000), ("blast", 2_000)):
                generator.address.order(*order)
            frames = _unmasked(receiver.makefile("rb"))
            texts: list[bytes] = []
            pings = 0
            # The pings go on when all is written.
            while len(texts) < 2_000 or pings < 20:
                opcode, payload = next(frames)
                if opcode == 0x9:
                    pings += 1
                    assert payload == b""
                else:
                    texts.append(payload)
        assert [server_frame(text) for text in texts] == [frame for _, frame in traffic.frames(2_000)]
        # Another one is pinged though the first has ended.
        with contextlib.closing(_receiver(generator)) as receiver:
            assert next(_unmasked(receiver.makefile("rb"))) == (0x9, b"")
    finally:
        generator.stop()


# The report.


class Reader(HTMLParser):
    """Notes what a page consists of, and that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self._open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name.endswith(("href", "src"))]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.remove(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def read(self, text: str) -> str:
        self.feed(text)
        self.close()
        assert not self._open
        return " ".join(" ".join(self.words).split())


def run_of(result: CaseResult, **facts: object) -> dict[str, Any]:
    environment = report.environment("python -m benchmarks run", awake=False) | facts
    # As it comes from a file.
    it: dict[str, Any] = json.loads(json.dumps(report.as_json(environment, [result])))
    return it


def rich_result() -> CaseResult:
    result = rounds_of(a=[1.0, 2.0, 3.0], b=[4000.0, None, 6000.0])
    result.case = replace(
        result.case,
        title="less < more",
        subject="b",
        metrics=(
            *result.case.metrics,
            Metric("small", "at 1", more_is_better=False, is_common=False),
            Metric("large", "at 10", more_is_better=False, is_common=False),
            Metric("huge", "at 100", more_is_better=False, is_common=False),
        ),
        goals=(
            Goal("rate", "b", to="a", at_least=2),
            Goal("rate", "b", at_most=1),
            Goal("small", "a", at_most=1),
        ),
        cannot={"a third": "it cannot count"},
        plots=(Plot("it grows", "size", "ms", ((1, "small"), (10, "large"), (100, "huge"))),),
    )
    result.missing["c"] = "could not be installed: no <network>"
    result.case = replace(result.case, contenders=(*result.case.contenders, Contender("c", "", peer="c")))
    for one in result.results:
        if one.contender == "b" and one.measurement:
            figures: Mapping[str, float] = {**one.measurement.figures, "small": 0.5, "large": 0.0}
            result.results[result.results.index(one)] = replace(
                one, measurement=Measurement(figures, Work(0, ""))
            )
    return result


def test_a_page_is_one_file_without_scripts_and_links_outward() -> None:
    text = page([run_of(rich_result())])
    reader = Reader()
    words = reader.read(text)
    assert "script" not in reader.tags
    assert set(reader.addresses) == {"#case"}
    assert re.findall(r"(?i)https?://[^\s\"'<]*", text) == ["http://www.w3.org/2000/svg"] * 2
    assert reader.tags.count("svg") == 2
    for wanted in (
        *(
            "Goals: 1 of 3 met",
            "case: less < more",
            "at 7",
            "b at least 2 x a 2,500 met",
            "b at most 1 5,000 missed",
        ),
        *("not measured: could not be installed: no <network>", "a third: cannot do this: it cannot count"),
        *("b: failed: broke", "it grows", "python -m benchmarks run", "3 rounds; rate 7", "trio-websocket=="),
    ):
        assert wanted in words
    # The largest size was not measured.
    assert "100" not in words.split()


def test_the_same_figures_give_the_same_page() -> None:
    run = run_of(rich_result())
    assert page([run]) == page([run])


def test_cases_are_shown_in_the_order_that_is_asked() -> None:
    runs = [run_of(rounds_of(a=[1.0])) for _ in range(3)]
    for run, name in zip(runs, ("one", "two", "three"), strict=True):
        run["cases"][0]["name"] = name
    text = page(runs, ["three", "one"])
    assert re.findall(r'<h2 id="(\w+)">', text) == ["three", "one", "two"]


def test_the_last_run_of_a_case_is_shown() -> None:
    old = run_of(rounds_of(a=[1.0]), date="2026-01-01T00:00:00+00:00")
    new = run_of(rounds_of(a=[9.0]), date="2026-01-02T00:00:00+00:00")
    words = Reader().read(page([new, old]))
    assert "2026-01-02T00:00:00+00:00" in words
    assert "2026-01-01T00:00:00+00:00" not in words


def test_a_report_is_made_of_what_the_last_runs_left(
    small: dict[str, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    assert command.main(["report", "--output", str(output)]) == 1
    assert "There are no results yet" in capsys.readouterr().err
    assert command.main(["run", "good", "--rounds", "1"]) == 0
    assert command.main(["report", "--output", str(output)]) == 0
    assert "python -m benchmarks run good --rounds 1" in Reader().read(output.read_text())


@pytest.mark.parametrize(("content", "words"), [("{}", "was not written by"), ("x", "Expecting value")])
def test_a_report_of_something_else_is_refused(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=words):
        read_runs([file])
    assert command.main(["report", str(file), "--output", str(tmp_path / "page.html")]) == 1
    assert words in capsys.readouterr().err
    assert command.main(["report", str(tmp_path / "no.json")]) == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0.00123, "0.00123"), (1.5, "1.50"), (999.4, "999"), (2.0, "2"), (12345.6, "12,346")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert report.figure(value) == text


# The command line.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Case]:
    """Two cases in the place of the real ones, and another place for what they come to."""
    cases = {"good": case_of("honest"), "bad": case_of("honest", "broken")}
    monkeypatch.setattr(command, "CASES", cases)
    monkeypatch.setattr(command, "HOME", tmp_path / "bench")
    monkeypatch.setattr(command, "processors_awake", lambda: contextlib.nullcontext(False))
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


@pytest.mark.parametrize(("flags", "status"), [((), 0), (("--check",), 1)])
def test_a_missed_goal_counts_only_if_asked(
    flags: tuple[str, ...], status: int, small: dict[str, Case], capsys: pytest.CaptureFixture[str]
) -> None:
    small["good"] = replace(small["good"], goals=(Goal("rate", "honest", at_least=8),))
    assert command.main(["run", "good", "--rounds", "1", *flags]) == status
    assert "MISSED: turns/s: honest at least 8: 7" in capsys.readouterr().out


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
    ("flags", "can", "words"),
    [
        ((), True, "kept awake when idle"),
        (("--let-sleep",), True, "free to sleep when idle"),
        ((), False, "free to sleep when idle"),
    ],
)
def test_idle_processors_are_kept_awake_while_a_case_runs_and_it_says_so(
    flags: tuple[str, ...],
    can: bool,
    words: str,
    small: dict[str, Case],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held: list[bool] = []

    @contextlib.contextmanager
    def hold() -> abc.Generator[bool]:
        held.append(can)
        yield can
        held.clear()

    def look(case: Case, **_: object) -> CaseResult:
        assert held == ([] if flags else [can])
        return rounds_of(a=[1.0])

    monkeypatch.setattr(command, "processors_awake", hold)
    monkeypatch.setattr(command, "run_case", look)
    assert command.main(["run", "good", "--rounds", "1", *flags]) == 0
    assert not held
    assert f" CPUs, {words}; " in capsys.readouterr().out
    assert command.main(["report"]) == 0
    assert f" CPUs, {words}, " in (command.HOME / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["run", "nothing"],
            "there is no case nothing; there are receive, paced, send, sends_many, echo, echo_many, ",
        ),
        (["run", "--rounds", "0"], "give a number from 1 to 100"),
        (["run", "--rounds", "many"], "give a number from 1 to 100"),
        (["run", "--json", "."], ". cannot be a file"),
        (["prepare", "nobody"], "there is no peer nobody; there are signalbot, signal-client"),
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

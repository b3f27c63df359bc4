"""The benchmarks of a client's life do what they say: tiny runs, and the books that their gateways keep."""

import contextlib
import http.client
import json
from collections.abc import Generator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, Final

import pytest

from benchmarks.cases.growth.sizes import doubling, up_to
from benchmarks.cases.outage.gateway import MortalGateway
from benchmarks.cases.outage.ledger import PEOPLE, Ledger, Verdict
from benchmarks.cases.reconnect.sites import Sites
from benchmarks.catalogue import CASES
from benchmarks.contender import Params
from benchmarks.traffic import ACCOUNT

TINY: Final[dict[str, Params]] = {
    "comeback": {"clients": 2, "short": 1, "middle": 20, "long": 40},
    "outage": {"rate": 100, "sending": 200, "begin": 50, "down": 50, "settle": 1},
    "outage_6s": {"rate": 100, "sending": 50, "begin": 1, "down": 1, "settle": 1},
    "startup": {"starts": 1, "settle": 0},
    "growth_clients": {"most": 4, "each": 4, "least": 2},
    "growth_waiting": {"most": 1_000, "sends": 5},
    "growth_log": {"most": 5_000, "read": 3},
    "growth_message": {"most": 4_096, "count": 1},
    "steady": {"messages": 200, "reconnects": 3},
}


@contextmanager
def serving(generator: Any) -> Generator[Any]:
    generator.start()
    try:
        yield generator
    finally:
        generator.stop()


def test_each_case_of_this_file_is_run_here() -> None:
    assert TINY.keys() <= CASES.keys()
    mine = {name for name in CASES if name.startswith(("comeback", "outage", "startup", "growth", "steady"))}
    assert mine == TINY.keys()


@pytest.mark.parametrize("name", TINY)
def test_our_side_does_the_work_and_gives_every_figure(name: str) -> None:
    case = CASES[name]
    (ours,) = (contender for contender in case.contenders if contender.name == "trio_signal")
    with serving(resolve_name(case.generator)()) as generator:
        measurement = resolve_name(ours.target)(generator.address, TINY[name])
        figures = measurement.figures | generator.figures
        assert measurement.work == generator.work
    assert {metric.name for metric in case.metrics if metric.is_common} <= figures.keys()
    assert figures.keys() <= {metric.name for metric in case.metrics}
    assert all(figure >= 0 for name, figure in figures.items() if name not in {"messages", "reconnects"})


@pytest.mark.parametrize("name", TINY)
def test_goals_and_plots_name_what_there_is(name: str) -> None:
    case = CASES[name]
    metrics = {metric.name for metric in case.metrics}
    contenders = {contender.name for contender in case.contenders}
    assert {goal.metric for goal in case.goals} <= metrics
    assert {goal.of for goal in case.goals} | {goal.to for goal in case.goals} <= contenders | {""}
    assert {metric for plot in case.plots for _, metric in plot.points} <= metrics
    # What cannot be done is told with words, not measured.
    assert contenders.isdisjoint(case.cannot)


def test_a_client_that_does_not_come_back_has_no_figure() -> None:
    with serving(Sites()) as sites:
        assert sites.figures == {}
        assert sites.work.count == 0


def test_the_books_of_an_outage_tell_each_kind_of_fault() -> None:
    params = {"rate": 1_000, "sending": 10, "begin": 60_000, "down": 0}
    with serving(MortalGateway()) as gateway:
        ledger = Ledger(gateway.address, params)
        assert [number for _, number, _, _ in ledger.due] == list(range(10))
        ledger.begin()
        arrive(gateway, ledger, [5, 0, 1, 1, 2, 3, 6])
        for number in range(10):
            ledger.note(number, {0: Verdict.FAILED, 8: Verdict.UNKNOWN}.get(number, Verdict.SENT), 0.0)
        measurement = ledger.measurement()
        assert measurement.work == gateway.work
        assert measurement.figures["unknown"] == 1
        # Never came 4, 7, 8, 9; 5 and 0 go to the same person.
        expected = {"lost": 4.0, "silent": 3.0, "twice": 1.0, "wrong": 1.0, "disorder": 1.0}
        assert gateway.figures == expected
        assert PEOPLE == 5


def arrive(gateway: MortalGateway, ledger: Ledger, numbers: list[int]) -> None:
    """Send some of what was to be sent, as a client would."""
    connection = http.client.HTTPConnection(gateway.address.host, gateway.address.port, timeout=10)
    with contextlib.closing(connection):
        for number in numbers:
            _, _, recipient, text = ledger.due[number]
            message = {"number": ACCOUNT, "recipients": [recipient], "message": text}
            connection.request("POST", "/v2/send", json.dumps(message))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201


def test_the_steepest_step_is_what_is_told() -> None:
    assert doubling({1: 5.0, 2: 99.0, 4: 20.0}) == pytest.approx(2.0)
    assert doubling({1: 1.0, 100: 100.0}) == pytest.approx(2.0)
    assert doubling({1: 1.0, 4: 3.0, 16: 256.0, 64: 256.0}) == pytest.approx(4.0)
    assert doubling({1: 1.0, 4: 1.0, 16: 1.0, 64: 16.0}) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="one size"):
        doubling({1: 1.0})
    assert up_to(1_000, (100, 1_000, 10_000)) == (100, 1_000)

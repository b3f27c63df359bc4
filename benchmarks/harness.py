"""Running a case: contenders in turn, each in a fresh process, their work checked, their figures summed."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from .case import Case, Contender, Goal
from .contender import Gateway, Measurement, Params, Work
from .peers import PEERS, PeerMissing, Prepared, bring

_ROOT: Final = Path(__file__).parents[1]

#: Seconds beyond its own limit that a process gets to end before it is killed.
_GRACE: Final = 5.0


class ContenderFailed(Exception):
    """A measurement could not be taken, or did other work than asked."""


@dataclass(frozen=True, slots=True)
class Result:
    """One contender in one round.

    Attributes:
        contender: its name.
        round: which round, counted from 0.
        measurement: what it came to; None if it failed.
        error: why it failed; None if it did not.
    """

    contender: str
    round: int
    measurement: Measurement | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and the least and the most of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Sum up at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class CaseResult:
    """All rounds of a case, in the order in which they were run.

    Attributes:
        case: what was run.
        params: how large.
        rounds: how often.
        results: one for each contender in each round.
        missing: who was not measured since its peer could not be brought, with the reason.
        versions: of each contender that has a peer, what that consists of.
    """

    case: Case
    params: Params
    rounds: int
    results: list[Result] = field(default_factory=list[Result])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def failures(self, contender: str) -> list[str]:
        """Return why rounds of this contender failed, for each that did."""
        return [r.error for r in self.results if r.contender == contender and r.error is not None]

    @property
    def has_failed(self) -> bool:
        """Whether any contender failed in any round."""
        return any(result.error is not None for result in self.results)

    def spread(self, contender: str, metric: str) -> Spread | None:
        """Sum up one figure of a contender; None if no round of it succeeded."""
        values = list(self._by_round(contender, metric).values())
        return Spread.of(values) if values else None

    def ratio(self, contender: str, metric: str, to: str | None = None) -> Spread | None:
        """Return the ratio of the medians to the baseline's, and the range of the rounds' own ratios.

        Of the rounds in which both succeeded and the other's figure is not 0; None if there is none. ``to``
        names another contender in the baseline's place.
        """
        mine, other = self._by_round(contender, metric), self._by_round(to or self.case.baseline, metric)
        both = [number for number in mine if other.get(number)]
        if not both:
            return None
        ratios = [mine[number] / other[number] for number in both]
        medians = statistics.median(mine[n] for n in both) / statistics.median(other[n] for n in both)
        return Spread(medians, min(ratios), max(ratios))

    def reached(self, goal: Goal) -> float | None:
        """Return the figure or the ratio that a goal bounds; None if it could not be measured."""
        spread = self.ratio(goal.of, goal.metric, goal.to) if goal.to else self.spread(goal.of, goal.metric)
        return None if spread is None else spread.median

    @property
    def missed(self) -> list[Goal]:
        """The goals that were measured and not met."""
        reached = ((goal, self.reached(goal)) for goal in self.case.goals)
        return [goal for goal, value in reached if value is not None and not goal.is_met(value)]

    def _by_round(self, contender: str, metric: str) -> dict[int, float]:
        good = ((r.round, r.measurement) for r in self.results if r.contender == contender)
        return {
            number: measurement.figures[metric]
            for number, measurement in good
            if measurement is not None and metric in measurement.figures
        }


def run_case(
    case: Case,
    *,
    rounds: int,
    params: Params,
    tell: Callable[[str], None] = lambda _: None,
) -> CaseResult:
    """Run all contenders of a case in turn. A failure is a result; it raises none.

    Args:
        case: what to run.
        rounds: how often.
        params: how large.
        tell: is told of each measurement before it is taken, and of each peer before it is brought.
    """
    outcome = CaseResult(case, params, rounds)
    prepared = _prepare(outcome, tell)
    references: dict[int, Work] = {}
    present = tuple(contender for contender in case.contenders if contender.name in prepared)
    for number, contender in turns(present, rounds):
        tell(f"{case.name}: round {number + 1} of {rounds}: {contender.name}")
        try:
            measurement = _measure(case, contender, prepared[contender.name], contender.share(params))
            reference = references.setdefault(contender.fewer, measurement.work)
            if measurement.work != reference:
                raise ContenderFailed(f"did {measurement.work}, but others {reference}")
        except ContenderFailed as error:
            outcome.results.append(Result(contender.name, number, None, str(error)))
        else:
            outcome.results.append(Result(contender.name, number, measurement))
    return outcome


def turns(contenders: tuple[Contender, ...], rounds: int) -> Iterator[tuple[int, Contender]]:
    """Yield who is measured when: A B C, C B A, A B C and so on."""
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            yield number, contender


def cpus() -> tuple[int | None, int | None]:
    """Return a CPU for the generator and one for the contender; None for both where there are not two."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


def _prepare(outcome: CaseResult, tell: Callable[[str], None]) -> dict[str, Prepared]:
    """Bring what the contenders need; who lacks something is noted and is not in what this returns."""
    prepared: dict[str, Prepared] = {}
    for contender in outcome.case.contenders:
        if not contender.peer:
            prepared[contender.name] = Prepared(())
            continue
        tell(f"{outcome.case.name}: bringing {contender.peer}")
        try:
            peer = bring(PEERS[contender.peer])
        except PeerMissing as error:
            outcome.missing[contender.name] = f"{contender.peer} {error}"
        else:
            prepared[contender.name] = peer
            outcome.versions[contender.name] = peer.versions
    return prepared


def _measure(case: Case, contender: Contender, prepared: Prepared, params: Params) -> Measurement:
    """Run one contender once.

    Raises:
        ContenderFailed: it, or the generator, did not do its work.
    """
    generator_cpu, contender_cpu = cpus()
    serve = {"limit": case.limit + _GRACE, "cpu": generator_cpu, "generator": case.generator}
    with _child(sys.executable, serve) as generator:
        gateway = _heard(generator)
        told = {
            "limit": case.limit,
            "cpu": contender_cpu,
            "contender": contender.target,
            "gateway": asdict(Gateway(**gateway)),
            "params": dict(params),
            "program": list(prepared.program),
        }
        with _child(prepared.python, told) as process:
            answer = _finished(process, case.limit)
        report = _finished(generator, _GRACE)
    measurement = Measurement(answer["figures"] | report["figures"], Work(**answer["work"]))
    written = Work(**report["work"])
    if measurement.work != written:
        raise ContenderFailed(f"did {measurement.work}, but the generator {written}")
    missing = {metric.name for metric in case.metrics if metric.is_common} - measurement.figures.keys()
    if missing:
        raise ContenderFailed(f"gave no figures for {', '.join(sorted(missing))}")
    return measurement


@contextmanager
def _child(python: str, told: Mapping[str, Any]) -> Generator["subprocess.Popen[str]"]:
    """Start a process and tell it what to do; it has ended when the block is left."""
    # A proxy named in the environment would stand between httpx and the generator.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(
        [python, "-m", "benchmarks.child"],
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            _pipe(process.stdin).write(json.dumps(told) + "\n")
            _pipe(process.stdin).flush()
            yield process
        finally:
            process.kill()


def _heard(generator: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return where the generator is."""
    line = _pipe(generator.stdout).readline()
    if not line:
        raise ContenderFailed(f"the generator did not start: {_last_words(generator.communicate()[1])}")
    address: dict[str, Any] = json.loads(line)
    return address


def _finished(process: "subprocess.Popen[str]", limit: float) -> dict[str, Any]:
    """Wait for a process that ends by itself and return what it printed last."""
    try:
        output, errors = process.communicate(timeout=limit + _GRACE)
    except subprocess.TimeoutExpired:
        raise ContenderFailed(f"did not end within {limit:g} s") from None
    if process.returncode != 0 or not output:
        raise ContenderFailed(_last_words(errors))
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def _last_words(errors: str) -> str:
    """Pick from what a process wrote to standard error what says why it ended."""
    # The frames of an exception group are drawn with these.
    lines = [words for line in errors.splitlines() if (words := line.strip(" |+-"))]
    late = [number for number, line in enumerate(lines) if line.startswith("Timeout (")]
    if late:
        # What follows is where it hung; what it last complained of is more telling.
        return " ".join(lines[: late[0] + 1][-2:])
    return lines[-1] if lines else "ended without a word"


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise AssertionError("the process was started without this pipe")
    return stream

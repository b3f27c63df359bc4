"""What a case consists of, as data. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .contender import Params


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that each measurement gives.

    Attributes:
        name: its key in :attr:`~benchmarks.contender.Measurement.figures`.
        title: what it is, with its unit.
        more_is_better: else less is.
        is_common: whether all contenders give it; else those who do not are left out of its table.
    """

    name: str
    title: str
    more_is_better: bool
    is_common: bool = True


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do a case's work.

    Attributes:
        name: what it is called.
        target: the function that does it, as ``package.module:function``.
        peer: the name of what it needs of :mod:`benchmarks.peers`: an environment in which it runs, or a
            program whose command it gets as a third argument. Empty if it needs none.
        fewer: how many times less it is given of what the case counts in ``warm``, ``count`` and ``each``,
            because it is too slow; its work is then checked against the generator's alone.
    """

    name: str
    target: str
    peer: str = ""
    fewer: int = 1

    def share(self, params: Params) -> Params:
        """Return the part of the work that it gets."""
        counted = [name for name in ("warm", "count", "each") if name in params]
        return {**params, **{name: max(1, params[name] // self.fewer) for name in counted}}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a contender is to reach: one bound, of a ratio or of a figure.

    Attributes:
        metric: the name of a metric.
        of: the name of the contender.
        to: the name of another, if it is the ratio of the two medians that is bounded.
        at_least: the least that is good enough; None if there is none.
        at_most: the most that is; exactly one of the two is given.
    """

    metric: str
    of: str
    to: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> float:
        """The number to reach."""
        bound = self.at_most if self.at_least is None else self.at_least
        if bound is None:
            raise AssertionError("a goal has a bound")
        return bound

    def is_met(self, value: float) -> bool:
        """Say whether this is good enough."""
        return value >= self.bound if self.at_least is not None else value <= self.bound


@dataclass(frozen=True, slots=True)
class Plot:
    """Some metrics that are one figure at several sizes, drawn as a line for each contender.

    Attributes:
        title: what it shows.
        x_title: what grows, with its unit.
        y_title: what is measured, with its unit.
        points: the sizes, each with the name of its metric.
    """

    title: str
    x_title: str
    y_title: str
    points: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A piece of work and those who do it.

    Attributes:
        name: what it is called on the command line.
        title: what it measures, in a line.
        notes: what one must know to read the figures; ``{count}`` stands for that parameter.
        metrics: what is measured.
        contenders: who does it; ratios are to the one named by ``baseline``.
        baseline: the name of a contender.
        subject: the name of one whose ratios to each of the others are shown too; none if empty.
        full: the parameters of a full run.
        quick: those of a quick one.
        limit: how long one measurement may take, in seconds.
        goals: what is to be reached.
        cannot: those who cannot do this work, each with a sentence that says why.
        plots: what is drawn as lines; each metric that is in none is drawn as bars.
        generator: the class of what the contenders work against, as ``package.module:Class``; it is used as
            :class:`~benchmarks.generators.Generator` is.
    """

    name: str
    title: str
    notes: str
    metrics: tuple[Metric, ...]
    contenders: tuple[Contender, ...]
    baseline: str
    full: Params
    quick: Params
    subject: str = ""
    limit: float = 30.0
    goals: tuple[Goal, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])
    plots: tuple[Plot, ...] = ()
    generator: str = "benchmarks.generators:Generator"

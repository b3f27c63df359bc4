"""How cost grows with the work: clients, waiting messages, the log, the size of a message."""

from collections.abc import Iterable
from typing import Final

from ...case import Case, Contender, Goal, Metric, Plot
from ...contender import Params
from .sizes import CLIENTS, LOG, MESSAGE, WAITING

_OURS: Final = "trio_signal"
_HERE: Final = "benchmarks.cases.growth"

_DOUBLING: Final = Metric("doubling", "x for twice as much, at the worst", more_is_better=False)
_GOAL: Final = Goal("doubling", _OURS, at_most=2.2)


def _costs(title: str, sizes: Iterable[int]) -> tuple[Metric, ...]:
    # A quick run leaves the largest out.
    return tuple(
        Metric(f"cost_{size}", f"{title}, {size:,}", more_is_better=False, is_common=False) for size in sizes
    )


def _plot(title: str, x_title: str, y_title: str, sizes: Iterable[int], prefix: str = "cost") -> Plot:
    return Plot(title, x_title, y_title, tuple((float(size), f"{prefix}_{size}") for size in sizes))


def _case(
    name: str,
    title: str,
    notes: str,
    metrics: tuple[Metric, ...],
    plots: tuple[Plot, ...],
    *,
    full: Params,
    quick: Params,
    generator: str = "benchmarks.generators:Generator",
    goals: tuple[Goal, ...] = (_GOAL,),
) -> Case:
    return Case(
        name=f"growth_{name}",
        title=title,
        notes=f"{notes} For twice as much is told the steepest growth between sizes ten times apart, as if "
        "it were made of doublings.",
        metrics=(_DOUBLING, *metrics),
        contenders=(Contender(_OURS, f"{_HERE}.{name}:run"),),
        baseline=_OURS,
        full=full,
        quick=quick,
        limit=240.0,
        goals=goals,
        plots=plots,
        generator=generator,
    )


_FLAT: Final = Metric("flat", "x per send with twice as many waiting, at the worst", more_is_better=False)
_SENDS: Final = tuple(
    Metric(f"send_{size}", f"CPU us/send, {size:,} waiting", more_is_better=False, is_common=False)
    for size in WAITING
)

CASES: Final = (
    _case(
        "clients",
        "a broadcast to ever more clients of the hub",
        "CPU of one broadcast, from the call until the last client has it; the mean of so many that {each} "
        "deliveries are made at each size, and of {least} at least, up to {most} clients.",
        _costs("CPU us/broadcast", CLIENTS),
        (_plot("A broadcast", "clients", "CPU us", CLIENTS),),
        full={"most": max(CLIENTS), "each": 20_000, "least": 20},
        quick={"most": 256, "each": 2_000, "least": 5},
        generator=f"{_HERE}.audience:OpenHouse",
    ),
    _case(
        "waiting",
        "ever more messages that wait to be sent",
        "CPU to accept so many messages while there is no gateway, and to give each its outcome when the "
        "client is closed; and, apart from that, CPU of each of {sends} sends while so many more wait, up to "
        "{most}.",
        (_FLAT, *_costs("CPU ms to accept and settle", WAITING), *_SENDS),
        (
            _plot("Accepting and settling", "messages", "CPU ms", WAITING),
            _plot("Sending while others wait", "messages that wait", "CPU us/send", WAITING, "send"),
        ),
        full={"most": max(WAITING), "sends": 300},
        quick={"most": 10_000, "sends": 100},
        generator=f"{_HERE}.waiting_gateway:Counter",
        goals=(_GOAL, Goal("flat", _OURS, at_most=1.3)),
    ),
    _case(
        "log",
        "an ever larger log of the hub",
        "CPU to fill a log, to overwrite all of it, and to read the last {read} messages after each "
        "hundredth, up to {most} messages.",
        _costs("CPU ms to fill twice", LOG),
        (_plot("Filling a log twice", "messages kept", "CPU ms", LOG),),
        full={"most": max(LOG), "read": 10},
        quick={"most": 5_000, "read": 10},
    ),
    _case(
        "message",
        "ever larger messages",
        "CPU to receive one, the mean of {count}, up to {most} bytes of text.",
        _costs("CPU us/message", MESSAGE),
        (_plot("Receiving", "bytes", "CPU us/message", MESSAGE),),
        full={"most": max(MESSAGE), "count": 20},
        quick={"most": 256 * 1024, "count": 5},
        generator=f"{_HERE}.message_gateway:Writer",
    ),
)

"""What is lost when a link is suspected, with and without keeping it open beside the next one."""

from typing import Final

from ...case import Case, Contender, Metric

_WHAT: Final = {
    "path": "path pauses 16 to 30 s",
    "link": "link pauses 16 to 30 s",
    "dead": "link is dead",
    "stall": "gateway stalls for 70 s",
}

CASE: Final = Case(
    name="overlap",
    title="what a suspected link costs, closed before the next one is made or after",
    notes=(
        "The mean of {incidents} incidents of each kind, on the fake gateway and a virtual clock, with "
        "four messages a second, so these figures do not depend on the machine. A pause holds everything "
        "back and then lets it through, which makes pongs 6 to 20 s late: on the whole path, so that the "
        "new link has to wait as well, or on the old link alone. A dead link lets nothing through any "
        "more. A stall is that of a gateway whose other consumer stops reading and then goes. Away is the "
        "time until the client is CONNECTED again."
    ),
    metrics=tuple(
        Metric(f"{kind}_{figure}", f"{what}: {title}", more_is_better=False)
        for kind, what in _WHAT.items()
        for figure, title in (("lost", "lost"), ("gaps", "gaps"), ("away", "s away"))
    ),
    contenders=(
        Contender("break before make", "benchmarks.cases.overlap.ours:without"),
        Contender("make before break", "benchmarks.cases.overlap.ours:run"),
    ),
    baseline="break before make",
    full={"incidents": 40},
    quick={"incidents": 5},
    limit=180.0,
)

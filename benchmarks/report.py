"""Showing results: tables to read, JSON to keep."""

import datetime as dt
import os
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from .harness import CaseResult, Contender, Metric, Spread, cpus

_LIBRARIES: Final = (
    "trio-signal",
    "trio",
    "trio-websocket",
    "wsproto",
    "h11",
    "httpx",
    "httpcore",
    "msgspec",
    "aiohttp",
    "websockets",
)


def environment() -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, and how busy the machine is now."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "pinned_to": list(cpus()),
        "load": [round(average, 2) for average in os.getloadavg()],
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def environment_text(facts: dict[str, Any]) -> str:
    """Put the environment into some lines."""
    generator, contender = facts["pinned_to"]
    pinned = (
        "nothing pinned"
        if generator is None
        else f"generator on CPU {generator}, contender on CPU {contender}"
    )
    libraries = " ".join(f"{name}=={number}" for name, number in facts["libraries"].items())
    return "\n".join(
        (
            f"{facts['date']}  {facts['python']}  {facts['system']}",
            f"{facts['processor']}, {facts['cpu_count']} CPUs; {pinned}; {load_text(facts['load'])}",
            *textwrap.wrap(libraries, 110),
            "Times are this machine's at this hour; compare only ratios inside one run.",
        )
    )


def load_text(load: Sequence[float]) -> str:
    """Put load averages into words."""
    return f"load average {' '.join(f'{average:.2f}' for average in load)}"


def case_text(result: CaseResult) -> str:
    """Put a case's results into a table for each metric."""
    case = result.case
    notes = case.notes.format(**{name: f"{value:,}" for name, value in result.params.items()})
    lines = [
        f"{case.name}: {case.title}",
        *textwrap.wrap(notes, 108, initial_indent="  ", subsequent_indent="  "),
    ]
    heads = [f"{m.title} ({'more' if m.more_is_better else 'less'} is better)" for m in case.metrics]
    width = max(len(name) for name in (*heads, *(contender.name for contender in case.contenders)))
    for metric, head in zip(case.metrics, heads, strict=True):
        lines += [
            "",
            f"  {head:<{width}}  {'median':>9}  {'min .. max':>21}  {'ratio':>7}  {'min .. max':>15}",
        ]
        lines += [
            f"  {c.name:<{width}}  {_row(result, c, metric)}"
            for c in case.contenders
            if metric.is_common or result.spread(c.name, metric.name)
        ]
        if case.subject:
            lines += _comparison(result, metric)
    return "\n".join([*lines, "", *_verdict(result)])


def as_json(facts: dict[str, Any], results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return everything that was measured, each round of it, and what it was summed up to."""
    return {"environment": facts, "cases": [_case_json(result) for result in results]}


def _row(result: CaseResult, contender: Contender, metric: Metric) -> str:
    spread = result.spread(contender.name, metric.name)
    if spread is None:
        return "FAILED"
    row = f"{_figure(spread.median):>9}  {_figure(spread.low) + ' .. ' + _figure(spread.high):>21}"
    ratio = result.ratio(contender.name, metric.name)
    if ratio is not None:
        row += f"  {ratio.median:>6.2f}x  {f'{ratio.low:.2f} .. {ratio.high:.2f}':>15}"
    return row


def _comparison(result: CaseResult, metric: Metric) -> list[str]:
    """Put the subject beside each of the others."""
    case = result.case
    ratios = (
        f"{ratio.median:.2f}x ({ratio.low:.2f} .. {ratio.high:.2f}) {contender.name}"
        for contender in case.contenders
        if contender.name != case.subject
        and (ratio := result.ratio(case.subject, metric.name, contender.name)) is not None
    )
    told = "; ".join(ratios)
    return (
        textwrap.wrap(f"{case.subject} = {told}", 108, initial_indent="  ", subsequent_indent="    ")
        if told
        else []
    )


def _verdict(result: CaseResult) -> list[str]:
    """Say whether all did the same work, and who failed how."""
    failures = [
        f"  FAILED in {len(errors)} of {result.rounds} rounds: {contender.name}: {errors[0]}"
        for contender in result.case.contenders
        if (errors := result.failures(contender.name))
    ]
    works = {r.measurement.work for r in result.results if r.measurement is not None}
    done = [
        f"  rounds: {result.rounds}; ratios are to {result.case.baseline}; "
        f"checked: all had the same {work.count:,} messages in the same order"
        for work in works
    ]
    return done + failures


def _case_json(result: CaseResult) -> dict[str, Any]:
    case = result.case
    return {
        "name": case.name,
        "title": case.title,
        "params": dict(result.params),
        "rounds": result.rounds,
        "baseline": case.baseline,
        "metrics": [asdict(metric) for metric in case.metrics],
        "contenders": [_contender_json(result, contender) for contender in case.contenders],
    }


def _contender_json(result: CaseResult, contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name,
        "summary": {
            metric.name: {
                "value": _spread_json(result.spread(contender.name, metric.name)),
                "ratio": _spread_json(result.ratio(contender.name, metric.name)),
                **_subject_json(result, contender, metric),
            }
            for metric in result.case.metrics
        },
        "rounds": [asdict(one) for one in result.results if one.contender == contender.name],
    }


def _subject_json(result: CaseResult, contender: Contender, metric: Metric) -> dict[str, Any]:
    subject = result.case.subject
    return (
        {"subject_ratio": _spread_json(result.ratio(subject, metric.name, contender.name))} if subject else {}
    )


def _spread_json(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)


def _figure(value: float) -> str:
    """Show three digits or more, never an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def _processor() -> str:
    """Name the processor's model where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()

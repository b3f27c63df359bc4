"""Showing results: tables to read, JSON to keep."""

import datetime as dt
import os
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from .case import Contender, Goal, Metric
from .harness import CaseResult, Spread, cpus

_LIBRARIES: Final = (
    "trio-signal",
    "trio",
    "trio-websocket",
    "wsproto",
    "h11",
    "httptools",
    "httpx",
    "httpcore",
    "msgspec",
)


_VERDICTS: Final[dict[bool | None, str]] = {True: "met", False: "MISSED", None: "not measured"}


def environment(command: str, *, awake: bool) -> dict[str, Any]:
    """Return what the figures depend on: command, machine, versions, and how busy the machine is now.

    Args:
        command: what is run.
        awake: whether idle processors are kept from sleeping.
    """
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "pinned_to": list(cpus()),
        "kept_awake": awake,
        "load": [round(average, 2) for average in os.getloadavg()],
        "libraries": {name: number for name in _LIBRARIES if (number := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


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
            f"{facts['processor']}, {facts['cpu_count']} CPUs, {idle_text(facts)}; {pinned}",
            load_text(facts["load"]),
            *textwrap.wrap(libraries, 110),
            "Times are this machine's at this hour; compare only ratios inside one run.",
        )
    )


def idle_text(facts: dict[str, Any]) -> str:
    """Say what idle processors did."""
    return "kept awake when idle" if facts.get("kept_awake") else "free to sleep when idle"


def load_text(load: Sequence[float]) -> str:
    """Put load averages into words."""
    return f"load average {' '.join(f'{average:.2f}' for average in load)}"


def case_text(result: CaseResult) -> str:
    """Put a case's results into a table for each metric."""
    case = result.case
    lines = [
        f"{case.name}: {case.title}",
        *textwrap.wrap(notes_text(result), 108, initial_indent="  ", subsequent_indent="  "),
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
    return "\n".join([*lines, "", *_goal_lines(result), *_absent_lines(result), *_verdict(result)])


def notes_text(result: CaseResult) -> str:
    """Return a case's notes with its parameters in them."""
    return result.case.notes.format(**{name: f"{value:,}" for name, value in result.params.items()})


def goal_text(metric: Metric, goal: Goal) -> str:
    """Put a goal into words."""
    word = "at most" if goal.at_least is None else "at least"
    bound = f"{word} {goal.bound:,g}"
    return f"{metric.title}: {goal.of} {bound}" + (f" x {goal.to}" if goal.to else "")


def figure(value: float) -> str:
    """Show three digits or more, never an exponent."""
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:#.3g}".rstrip(".")


def as_json(facts: dict[str, Any], results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return everything that was measured, each round of it, and what it was summed up to."""
    return {"environment": facts, "cases": [_case_json(result) for result in results]}


def _row(result: CaseResult, contender: Contender, metric: Metric) -> str:
    if contender.name in result.missing:
        return "not measured"
    spread = result.spread(contender.name, metric.name)
    if spread is None:
        return "FAILED"
    row = f"{figure(spread.median):>9}  {figure(spread.low) + ' .. ' + figure(spread.high):>21}"
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


def _goal_lines(result: CaseResult) -> list[str]:
    """Say of each goal what was reached."""
    return [
        f"  {_VERDICTS[goal['met']]}: {goal['text']}"
        + ("" if goal["value"] is None else f": {figure(goal['value'])}")
        for goal in _goals(result)
    ]


def _goals(result: CaseResult) -> list[dict[str, Any]]:
    metrics = {metric.name: metric for metric in result.case.metrics}
    listed: list[dict[str, Any]] = []
    for goal in result.case.goals:
        value = result.reached(goal)
        listed.append(
            {
                "text": goal_text(metrics[goal.metric], goal),
                "bound": goal.bound,
                "value": value,
                "met": None if value is None else goal.is_met(value),
            }
        )
    return listed


def _absent_lines(result: CaseResult) -> list[str]:
    """Say who was not measured, and why."""
    told = [f"not measured: {name}: {why}" for name, why in result.missing.items()]
    told += [f"cannot do this: {name}: {why}" for name, why in result.case.cannot.items()]
    return [
        line
        for text in told
        for line in textwrap.wrap(text, 108, initial_indent="  ", subsequent_indent="    ")
    ]


def _verdict(result: CaseResult) -> list[str]:
    """Say whether all did the same work, and who failed how."""
    failures = [
        f"  FAILED in {len(errors)} of {result.rounds} rounds: {contender.name}: {errors[0]}"
        for contender in result.case.contenders
        if (errors := result.failures(contender.name))
    ]
    counts = sorted({r.measurement.work.count for r in result.results if r.measurement}, reverse=True)
    if not counts:
        return failures
    fewer = f", who is given fewer {' and '.join(f'{n:,}' for n in counts[1:])}" if counts[1:] else ""
    done = (
        f"  rounds: {result.rounds}; ratios are to {result.case.baseline}; "
        f"checked: each had the same {counts[0]:,} messages in the same order{fewer}"
    )
    return [done, *failures]


def _case_json(result: CaseResult) -> dict[str, Any]:
    case = result.case
    return {
        "name": case.name,
        "title": case.title,
        "notes": notes_text(result),
        "params": dict(result.params),
        "rounds": result.rounds,
        "baseline": case.baseline,
        "goals": _goals(result),
        "cannot": dict(case.cannot),
        "plots": [asdict(plot) for plot in case.plots],
        "metrics": [asdict(metric) for metric in case.metrics],
        "contenders": [_contender_json(result, contender) for contender in case.contenders],
    }


def _contender_json(result: CaseResult, contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name,
        "versions": list(result.versions.get(contender.name, ())),
        "missing": result.missing.get(contender.name),
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


def _processor() -> str:
    """Name the processor's model where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()

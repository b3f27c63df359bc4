"""The report: one HTML page made from the files of some runs. No scripts, and nothing that is loaded."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, cast

from .charts import Bar, bars, lines
from .report import figure, idle_text

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; }
body { color: #212529; }
h2 { margin-top: 2.5em; border-bottom: 1px solid #dee2e6; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #e9ecef; }
th:first-child, td:first-child, .left { text-align: left; }
.met { color: #2b7a0b; } .missed { color: #b00020; font-weight: bold; } .none { color: #6c757d; }
.small { color: #495057; font-size: 13px; } svg { max-width: 100%; height: auto; display: block; }
"""

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>trio_signal: benchmarks</title>
"""


def page(runs: Sequence[dict[str, Any]], order: Sequence[str] = ()) -> str:
    """Put some runs, as :func:`~benchmarks.report.as_json` gives them, on one page.

    Of a case that several of them have, the one that was run last is shown.

    Args:
        runs: what to show.
        order: the names of cases that come first, in this order.
    """
    found = {
        case["name"]: (run["environment"], case)
        for run in sorted(runs, key=lambda run: str(run["environment"]["date"]))
        for case in run["cases"]
    }
    latest = {name: found[name] for name in (*order, *found) if name in found}
    parts = [_HEAD, f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>trio_signal: benchmarks</h1>\n"]
    parts.append(
        "<p>Medians of interleaved rounds, each contender in a fresh process of its own; the thin line is "
        "the least and the most. Times are of this machine at that hour: compare only ratios inside one "
        "run.</p>\n"
    )
    parts += _overview(latest)
    for facts, case in latest.values():
        parts += _case(facts, case)
    return "".join([*parts, "</body>\n</html>\n"])


def read_runs(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Read what ``run`` has written.

    Raises:
        OSError: a file cannot be read.
        ValueError: one is not such a file.
    """
    runs: list[dict[str, Any]] = []
    for file in files:
        run: Any = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(run, dict) or "environment" not in run or "cases" not in run:
            raise ValueError(f"{file} was not written by `python -m benchmarks run`")
        runs.append(cast("dict[str, Any]", run))
    return runs


def _overview(latest: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[str]:
    """Yield a table of all goals."""
    goals = [(name, goal) for name, (_, case) in latest.items() for goal in case["goals"]]
    if not goals:
        return
    met = sum(goal["met"] is True for _, goal in goals)
    yield f"<h2>Goals: {met} of {len(goals)} met</h2>\n<table>\n"
    yield "<tr><th>case</th><th class='left'>goal</th><th>reached</th><th></th></tr>\n"
    for name, goal in goals:
        yield f'<tr><td><a href="#{escape(name)}">{escape(name)}</a></td>{_goal_cells(goal)}</tr>\n'
    yield "</table>\n"


def _goal_cells(goal: dict[str, Any]) -> str:
    kind = "none" if goal["met"] is None else "met" if goal["met"] else "missed"
    word = "not measured" if goal["met"] is None else kind
    reached = "" if goal["value"] is None else figure(goal["value"])
    text = escape(goal["text"])
    return f'<td class="left">{text}</td><td>{reached}</td><td class="{kind}">{word}</td>'


def _case(facts: dict[str, Any], case: dict[str, Any]) -> Iterator[str]:
    """Yield a case's section."""
    yield f'<h2 id="{escape(case["name"])}">{escape(case["name"])}: {escape(case["title"])}</h2>\n'
    yield f"<p>{escape(case['notes'])}</p>\n"
    drawn = {metric for plot in case["plots"] for _, metric in plot["points"]}
    for plot in case["plots"]:
        yield from _plot(case, plot)
    for metric in case["metrics"]:
        if metric["name"] not in drawn:
            yield _bars(case, metric)
            yield from _table(case, metric)
    absent = [
        (one["name"], f"not measured: {one['missing']}") for one in case["contenders"] if one["missing"]
    ]
    absent += [(name, f"cannot do this: {why}") for name, why in case["cannot"].items()]
    absent += [(one["name"], f"failed: {error}") for one in case["contenders"] if (error := _error(one))]
    if absent:
        yield "<ul>\n"
        yield from (f"<li>{escape(name)}: {escape(why)}</li>\n" for name, why in absent)
        yield "</ul>\n"
    yield f'<p class="small">{escape(_circumstances(facts, case))}</p>\n'


def _error(contender: dict[str, Any]) -> str:
    """Return why a round of a contender failed; empty if none did."""
    return next((one["error"] for one in contender["rounds"] if one["error"]), "")


def _bars(case: dict[str, Any], metric: dict[str, Any]) -> str:
    better = "more" if metric["more_is_better"] else "less"
    listed = [
        Bar(one["name"], spread["median"], spread["low"], spread["high"])
        for one in case["contenders"]
        if (spread := one["summary"][metric["name"]]["value"])
    ]
    identifier = f"{case['name']}-{metric['name']}"
    return bars(identifier, f"{metric['title']} ({better} is better)", listed) + "\n" if listed else ""


def _plot(case: dict[str, Any], plot: dict[str, Any]) -> Iterator[str]:
    """Yield a drawing of lines, and its figures."""
    spreads = {
        one["name"]: [one["summary"][metric]["value"] for _, metric in plot["points"]]
        for one in case["contenders"]
    }
    # A quick run leaves the largest out.
    measured = [
        place for place, _ in enumerate(plot["points"]) if any(some[place] for some in spreads.values())
    ]
    sizes = [plot["points"][place][0] for place in measured]
    listed = [
        (name, [some[place]["median"] if some[place] else None for place in measured])
        for name, some in spreads.items()
        if any(some)
    ]
    if not listed:
        return
    identifier = f"{case['name']}-{plot['points'][0][1]}"
    yield lines(identifier, plot["title"], (plot["x_title"], plot["y_title"]), sizes, listed) + "\n"
    yield f'<details><summary class="small">{escape(plot["title"])}: figures</summary>\n<table>\n'
    yield f"<tr><th>{escape(plot['x_title'])}</th>"
    yield from (f"<th>{figure(size)}</th>" for size in sizes)
    yield "</tr>\n"
    for name, values in listed:
        yield f"<tr><td>{escape(name)}</td>"
        yield from (f"<td>{'' if value is None else figure(value)}</td>" for value in values)
        yield "</tr>\n"
    yield "</table></details>\n"


def _table(case: dict[str, Any], metric: dict[str, Any]) -> Iterator[str]:
    """Yield the figures that the drawing shows, with their ratios."""
    has_subject = any("subject_ratio" in one["summary"][metric["name"]] for one in case["contenders"])
    heads = ["", "median", "range", f"ratio to {case['baseline']}"]
    heads += ["trio_signal's ratio to it"] if has_subject else []
    yield f'<details><summary class="small">{escape(metric["title"])}: figures</summary>\n<table>\n<tr>'
    yield from (f"<th>{escape(head)}</th>" for head in heads)
    yield "</tr>\n"
    for one in case["contenders"]:
        summary = one["summary"][metric["name"]]
        if (spread := summary["value"]) is None:
            continue
        cells = [figure(spread["median"]), f"{figure(spread['low'])} .. {figure(spread['high'])}"]
        cells += [_ratio(summary["ratio"])] + ([_ratio(summary["subject_ratio"])] if has_subject else [])
        yield f"<tr><td>{escape(one['name'])}</td>"
        yield from (f"<td>{cell}</td>" for cell in cells)
        yield "</tr>\n"
    yield "</table></details>\n"


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return ""
    return f"{figure(ratio['median'])} ({figure(ratio['low'])} .. {figure(ratio['high'])})"


def _circumstances(facts: dict[str, Any], case: dict[str, Any]) -> str:
    """Say on what, of what and how often it was measured."""
    libraries = [f"{name}=={number}" for name, number in facts["libraries"].items()]
    peers = sorted({version for one in case["contenders"] for version in one["versions"]})
    sizes = ", ".join(f"{name} {value:,}" for name, value in case["params"].items())
    return (
        f"{facts['date']}: {facts['command']}. {case['rounds']} rounds; {sizes}. {facts['processor']}, "
        f"{facts['cpu_count']} CPUs, {idle_text(facts)}, {facts['system']}, {facts['python']}; "
        f"{' '.join(libraries)}. "
        + (f"Peers, each in an environment of its own: {' '.join(peers)}." if peers else "")
    )

"""Drawing: SVG to be put into a page, without scripts and without links to anywhere."""

# pygal has no types.
# mypy: disable-error-code="import-untyped"
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

import pygal
from pygal.style import Style

from .report import figure

_OURS, _OTHERS = "#2a6f97", "#adb5bd"
_LINES: Final = ("#2a6f97", "#e07a1f", "#4f772d", "#9d4edd", "#6c757d", "#c1121f", "#8d6e63", "#00838f")
_WIDTH: Final = 860
_MOST_DECADES: Final = 3
_SVG: Final = "http://www.w3.org/2000/svg"

ET.register_namespace("", _SVG)

# It would make each import that fails from now on a warning of Python, and only pygal's maps need it.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure: its name, the median, and the least and the most of it."""

    name: str
    median: float
    low: float
    high: float


def bars(identifier: str, title: str, listed: Sequence[Bar]) -> str:
    """Draw a bar for each, with the range; those that are trio_signal's stand out."""
    # The first series is drawn at the bottom.
    drawn = list(reversed(listed))
    options = {"height": 70 + 34 * len(drawn), "spacing": 12, "margin_right": 60}
    chart = pygal.HorizontalBar(**_options(title), **options, show_legend=False, max_scale=6)
    # Beside the name, since inside a short bar the range would cross it.
    chart.x_labels = [f"{bar.name}:  {figure(bar.median)}" for bar in drawn]
    chart.value_formatter = figure
    chart.add(
        "",
        [
            {
                "value": bar.median,
                "color": _OURS if "trio_signal" in bar.name else _OTHERS,
                "ci": {"low": bar.low, "high": bar.high},
            }
            for bar in drawn
        ],
    )
    return _svg(chart, identifier)


def lines(
    identifier: str,
    title: str,
    axes: tuple[str, str],
    sizes: Sequence[float],
    listed: Sequence[tuple[str, Sequence[float | None]]],
) -> str:
    """Draw a line for each over the sizes, which are spaced evenly; the figures on a logarithmic scale."""
    x_title, y_title = axes
    chart = pygal.Line(
        **_options(title),
        height=420,
        x_title=x_title,
        y_title=y_title,
        logarithmic=True,
        legend_at_bottom=True,
    )
    chart.x_labels = [figure(size) for size in sizes]
    chart.value_formatter = figure
    for name, values in listed:
        # Nothing is 0 on a logarithmic scale.
        chart.add(name, [value or None for value in values])
    chart.y_labels = _marks([value for _, values in listed for value in values if value])
    return _svg(chart, identifier)


def _marks(values: Sequence[float]) -> list[float]:
    """Return what to write at a logarithmic axis: 1, 2, 5, 10 and so on, or only powers of ten if many."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= _MOST_DECADES else (1,)
    return [step * 10.0**decade for decade in range(low, high) for step in steps] + [10.0**high]


def _options(title: str) -> dict[str, Any]:
    style = Style(
        background="transparent",
        plot_background="transparent",
        font_family="system-ui, sans-serif",
        colors=_LINES,
        value_font_size=12,
        label_font_size=12,
        title_font_size=15,
    )
    return {"title": title, "style": style, "width": _WIDTH, "js": (), "truncate_label": -1}


def _svg(chart: Any, identifier: str) -> str:
    """Render, and leave out what only scripts need."""
    # Named by what it shows and not at random, so that the same figures give the same page.
    chart.uuid = identifier
    root = chart.render_tree()
    for parent in root.iter():
        for child in [child for child in parent if _is_for_scripts(child)]:
            parent.remove(child)
    return str(ET.tostring(root, encoding="unicode"))


def _is_for_scripts(element: Any) -> bool:
    return not isinstance(element.tag, str) or element.tag in {"script", "desc"}

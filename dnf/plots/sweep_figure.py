"""Figures of a sweep against the setting that it varies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.metrics.figures import LEFT_OUT, METRICS, shown
from dnf.plots.style import MARKERS, MOST_SETS, OKABE_ITO, REFERENCE, NamedFigures, new_figure

LEAST = "min_"  # of metrics that stand in the panel of another one, as a dashed line


def draw(rows: Sequence[dict[str, str]], file: str, name: str, key: str) -> NamedFigures:
    yield file, picture(rows, name, key)


def panels(rows: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Metrics that rows have, by the one whose panel they stand in: Cllr with those left out, and its minimum."""
    present, grouped = {row["metric"] for row in rows}, {}
    for metric in shown("sweep"):
        if metric in present:
            grouped.setdefault(metric.removeprefix(LEAST).removesuffix(LEFT_OUT), []).append(metric)
    return grouped


def panel_title(metric: str, shown_there: Sequence[str]) -> str:
    """Title of the metric, and what the lines are where its minimum is there too."""
    title = METRICS[metric].title
    if LEAST + metric in shown_there:
        return f"{title} (line), {METRICS[LEAST + metric].title} (dashed)"
    return title


def picture(rows: Sequence[dict[str, str]], name: str, key: str) -> Figure:
    """Each kind of figure against the value, a line for each set; values stand evenly spaced."""
    values = list(dict.fromkeys(row["value"] for row in rows))
    sets = list(dict.fromkeys(row["set"] for row in rows))[:MOST_SETS]
    styles = {
        of_set: {"color": OKABE_ITO[n % len(OKABE_ITO)], "marker": MARKERS[n % len(MARKERS)], "ms": 4}
        for n, of_set in enumerate(sets)
    }
    grouped = panels(rows)
    figure = new_figure(f"{name}: against {key}", 0.9 + 2.2 * math.ceil(len(grouped) / 2))
    grid = figure.subplots(math.ceil(len(grouped) / 2), min(2, len(grouped)), squeeze=False).flatten()
    for axes, (panel, metrics) in zip(grid, grouped.items()):
        for metric in metrics:
            for n, of_set in enumerate(sets):
                points = [row for row in rows if (row["metric"], row["set"]) == (metric, of_set)]
                places = [values.index(row["value"]) + 0.04 * (n - (len(sets) - 1) / 2) for row in points]
                draw_line(axes, places, points, styles[of_set], dashed=metric.startswith(LEAST))
        axes.set_xticks(range(len(values)), values)
        axes.set(title=panel_title(panel, metrics), ylabel=METRICS[panel].unit, xlabel=key)
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.grid(axis="y", alpha=0.3)
    for axes in grid[len(grouped) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], label=of_set, **style) for of_set, style in styles.items()]
    ends = [Line2D([], [], color=REFERENCE, lw=1, label="95% interval over speakers")]
    figure.legend(handles=handles + ends, loc="outside lower center", ncols=min(3, len(handles) + 1))
    return figure


def draw_line(axes: Axes, places: Sequence[float], points: Sequence[dict], style: dict, *, dashed: bool) -> None:
    """A figure of a set against the value, with intervals unless dashed."""
    axes.plot(places, [float(row["figure"]) for row in points], ls="--" if dashed else "-", lw=1.2, **style)
    for place, row in zip(places, points):
        if row["low"] and not dashed:
            ends = [float(row["low"]), float(row["high"])]
            axes.plot([place] * 2, ends, color=style["color"], lw=1, alpha=0.6)

"""Figures of a sweep against the setting that it varies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.plots.style import MARKERS, OKABE_ITO, new_figure

PANELS = (  # title, unit, metrics with their line styles
    ("utterance accuracy", "share of utterances", {"utt_accuracy": "-"}),
    ("frame accuracy", "share of frames", {"frame_accuracy": "-"}),
    ("calibration: Cllr (line), min Cllr (dashed)", "bits", {"cllr": "-", "cllr_left_out": "-", "min_cllr": "--"}),
    ("NLL", "nats/frame", {"nll": "-"}),
)


def picture(rows: Sequence[dict[str, str]], name: str, key: str) -> Figure:
    """Each kind of figure against the value, a line for each set; values stand evenly spaced."""
    values = list(dict.fromkeys(row["value"] for row in rows))
    sets = list(dict.fromkeys(row["set"] for row in rows))
    shades = {name: OKABE_ITO[n % len(OKABE_ITO)] for n, name in enumerate(sets)}
    markers = {name: MARKERS[n % len(MARKERS)] for n, name in enumerate(sets)}
    panels = [panel for panel in PANELS if any(row["metric"] in panel[2] for row in rows)]
    figure = new_figure(f"{name}: against {key}", 1.6 + 3.6 * math.ceil(len(panels) / 2))
    grid = figure.subplots(math.ceil(len(panels) / 2), min(2, len(panels)), squeeze=False).flatten()
    for axes, (title, unit, metrics) in zip(grid, panels):
        for metric, style in metrics.items():
            for n, of in enumerate(sets):
                own = [row for row in rows if (row["metric"], row["set"]) == (metric, of)]
                places = [values.index(row["value"]) + 0.04 * (n - (len(sets) - 1) / 2) for row in own]
                heights = [float(row["figure"]) for row in own]
                axes.plot(places, heights, ls=style, marker=markers[of], ms=6, lw=1.5, color=shades[of])
                for place, row in zip(places, own):
                    if row["low"] and style == "-":
                        axes.plot(
                            [place] * 2, [float(row["low"]), float(row["high"])], color=shades[of], lw=1, alpha=0.6
                        )
        axes.set_xticks(range(len(values)), values)
        axes.set(title=title, ylabel=unit, xlabel=key, xlim=(-0.5, len(values) - 0.5))
        axes.grid(axis="y", alpha=0.3)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], color=shades[of], marker=markers[of], ms=6, label=of) for of in sets]
    ends = [Line2D([], [], color="gray", lw=1, label="95% interval over speakers")]
    figure.legend(handles=handles + ends, loc="outside lower center", ncols=min(4, len(handles) + 1))
    return figure

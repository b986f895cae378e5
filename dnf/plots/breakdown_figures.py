"""Figures of where the information is: accuracy against the length of a recording, Fisher ratios of dimensions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from dnf.experiment.config import Config
from dnf.experiment.layout import FISHER_TSV
from dnf.experiment.tables import each_row
from dnf.metrics.figures import class_names
from dnf.plots.drawing import Drawing
from dnf.plots.style import BLUE, INPUT_GREY, LINES, MARKERS, MOST_SETS, OKABE_ITO, ORANGE, NamedFigures, new_figure
from dnf.scoring.durations import durations, top_share

PARTS = {"c": (BLUE, "-"), "r": (ORANGE, "--"), "x": (INPUT_GREY, ":")}
MOST_PANELS = 6
LEAST_RATIO = 1e-7  # drawn; smaller ratios lie there


def draw(drawing: Drawing) -> NamedFigures:
    sets = dict.fromkeys(latents.name for latents in (*drawing.shown, *drawing.controls.values()))
    return information_figures(drawing.exp, drawing.config, drawing.name, sets)


def information_figures(exp: Path, config: Config, name: str, sets: Collection[str]) -> NamedFigures:
    """File name and figure of some sets; nothing where there is nothing to show."""
    rows = durations(exp, config, sets)
    if rows:
        yield "durations", duration_figure(rows, name)
    path = exp / FISHER_TSV
    ratios = [row for row in each_row(path) if row["set"] in sets] if path.is_file() else []
    if ratios:
        yield "fisher", fisher_figure(ratios, name)


def duration_figure(rows: list[dict], exp: str) -> Figure:
    """One line a set, over all its known classes; bars are 95 % intervals over speakers.

    Args:
        rows: of durations.tsv.
        exp: experiment, for the title.
    """
    sets = {}
    for row in rows:
        sets.setdefault(row["set"], {}).setdefault(row["class"], []).append(row)
    sets = dict([*sets.items()][:MOST_SETS])
    figure = new_figure(f"{exp}: accuracy against the length of a recording", 3.0 + 0.17 * len(sets))
    axes = figure.subplots()
    lowest, ticks = 0.5, sorted({float(row["seconds"]) for row in rows})
    for i, (name, classes) in enumerate(sets.items()):
        chosen = classes.get("all") or max(classes.values(), key=len)
        label = f"{name}, {class_names('+'.join(sorted(c for c in classes if c != 'all')))}"
        x = np.array([float(row["seconds"]) for row in chosen]) * 1.025 ** (i - (len(sets) - 1) / 2)
        y = np.array([float(row["value"]) for row in chosen])
        ends = np.array([[float(row[key] or row["value"]) for row in chosen] for key in ("low", "high")])
        style = {"color": OKABE_ITO[i % len(OKABE_ITO)], "ls": LINES[i // len(OKABE_ITO) % len(LINES)]}
        axes.errorbar(
            x, y, np.abs(ends - y), marker=MARKERS[i % len(MARKERS)], ms=4, lw=1.2, capsize=2, label=label, **style
        )
        lowest = min(lowest, float(ends.min()))
    axes.set(xscale="log", xlabel="recording (s)", ylabel="accuracy of pieces", ylim=(max(0.0, lowest - 0.03), 1.02))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in ticks])
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def fisher_figure(rows: list[dict], exp: str) -> Figure:
    """Sorted Fisher ratios of each part, with their mean and the share of the top tenth; a panel a set.

    Args:
        rows: of fisher.tsv; of a set with unseen classes, those of the known classes come first and are shown.
        exp: experiment, for the title.
    """
    groups: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        of_set = groups.setdefault(row["set"], {})
        of_set.setdefault(row["classes"], {}).setdefault(row["part"], []).append(float(row["fisher"]))
    shown = list(groups.items())[:MOST_PANELS]
    figure = new_figure(f"{exp}: Fisher ratio of each dimension", 0.4 + 3.1 * len(shown))
    for axes, (name, of_set) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown):
        classes, parts = next(iter(of_set.items()))
        for part, (colour, line) in PARTS.items():
            if part not in parts:
                continue
            values = np.sort(np.nan_to_num(parts[part]))[::-1]
            what = f"{part}, {'input' if part == 'x' else 'latent'}: {len(values)} dims"
            label = f"{what}, mean {values.mean():.2g}, top tenth has {100 * top_share(values):.0f} %"
            share = (np.arange(len(values)) + 0.5) / len(values)
            axes.plot(share, np.maximum(values, LEAST_RATIO), color=colour, ls=line, lw=1.5, label=label)
        axes.set(xlabel="share of the dims, highest ratio first", ylabel="Fisher ratio", yscale="log", xlim=(0, 1))
        axes.set_title(f"{name}, {class_names(classes)}", loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure

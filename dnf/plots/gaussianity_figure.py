"""Gaussianity of each latent dimension."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.experiment.layout import GAUSSIANITY_DIMS_TSV, run_again
from dnf.metrics.figures import class_names, joined_names
from dnf.plots.drawing import Drawing, read_table
from dnf.plots.latent_set import LatentSet
from dnf.plots.style import BLUE, ORANGE, REFERENCE, NamedFigures, fitting, new_figure, wrapped

HALF = 42  # letters of a line of a title over half the width
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")


def draw(drawing: Drawing) -> NamedFigures:
    groups = read_shapes(drawing.exp / GAUSSIANITY_DIMS_TSV, drawing.shown)
    yield "gaussianity", gaussianity(groups, drawing.name)


def read_shapes(path: Path, shown: Sequence[LatentSet]) -> list[tuple[str, list[dict]]]:
    """Rows of gaussianity_dims.tsv of the sets shown, grouped by set and classes, c before r, each with a title."""
    rows = read_table(path, "latents", ("dim_index", *SHAPES), sets=[latents.name for latents in shown])
    groups = []
    for latents in shown:
        of_set = [row for row in rows if row["set"] == latents.name]
        for classes in dict.fromkeys(row["classes"] for row in of_set):
            of_classes = [row for row in of_set if row["classes"] == classes]
            known = sorted(set(latents.classes) & set(latents.model_classes))
            names = known if joined_names(known) == classes else latents.classes
            frames, utterances = latents.counts(set(names))
            title = f"{latents.name}, {class_names(classes)}: {frames:,} frames, {utterances:,} utterances"
            groups.append((title, sorted(of_classes, key=lambda row: (row["part"], row["dim_index"]))))
    if not groups:
        raise ValueError(f"{path}: no rows for {' '.join(s.name for s in shown)}; {run_again('latents')}")
    return groups


def gaussianity(groups: Sequence[tuple[str, Sequence[dict]]], exp: str) -> Figure:
    """Skewness and excess kurtosis of every latent dimension.

    Args:
        groups: title, and rows of gaussianity_dims.tsv in order of dimension, c before r, with float values; one row of
            panels each.
        exp: experiment, for the title.
    """
    groups = groups[: fitting(2.5, 0.8)]
    figure = new_figure(f"{exp}: shape of each latent dimension (0 is Gaussian)", 0.8 + 2.5 * len(groups))
    grid = figure.subplots(len(groups), 2, squeeze=False, sharey="col")
    kinds = (("pooled", "", ORANGE, "^"), ("within class", "_within", BLUE, "o"))
    for panels, (title, rows) in zip(grid, groups):
        border = sum(row["part"] == "c" for row in rows)
        for axes, (moment, name) in zip(panels, (("skew", "skewness"), ("kurt", "excess kurtosis"))):
            means = {}
            for label, suffix, colour, marker in kinds:
                values = torch.tensor([row[moment + suffix] for row in rows], dtype=torch.float64)
                axes.scatter(range(len(rows)), values, s=4, color=colour, marker=marker, alpha=0.7, linewidths=0)
                parts = (("c", values[:border]), ("r", values[border:]))
                centres = ((part, float(own.nanmean())) for part, own in parts if len(own))
                means[label] = ", ".join(f"{part} {mean:+.{3 if abs(mean) < 10 else 1}f}" for part, mean in centres)
            axes.axhline(0, color=REFERENCE, lw=0.8)
            if 0 < border < len(rows):
                axes.axvspan(border - 0.5, len(rows) - 0.5, color=REFERENCE, alpha=0.15, lw=0)
                axes.text(border, 0.02, " r", transform=axes.get_xaxis_transform(), fontweight="bold")
            mean = "\n".join(f"{label} mean {parts}" for label, parts in means.items())
            axes.set_title(f"{wrapped(title, HALF)}\n{mean}", fontsize=8, loc="left")
            axes.set(xlabel="latent dim", ylabel=name, xlim=(-1, len(rows)))
    for column in grid.T:
        far = max((abs(v) for axes in column for v in axes.get_ylim()), default=0)
        if far > 12:  # heavy tails in some dims: keep the rest readable
            for axes in column:
                axes.set_yscale("symlog", linthresh=2)
    handles = [Line2D([], [], ls="", marker=m, color=c, ms=5, label=label) for label, _, c, m in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure

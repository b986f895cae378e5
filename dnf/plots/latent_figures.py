"""Figures of latents and scores of a set: scatter, t-SNE and histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.experiment.settings import Plots
from dnf.plots.drawing import Drawing
from dnf.plots.latent_set import LatentSet
from dnf.plots.projections import separating_plane, spread, tsne_map
from dnf.plots.style import BLACK, LINES, MARKERS, REFERENCE, WIDTH, NamedFigures, new_figure

FIT_FRAMES = 20000  # training frames that the separating plane is computed from
LAYERS = 8  # scatter plots draw the classes in turns, so that the last does not cover the others
MOST_BINS = 60
LONG_TITLE = 28  # letters of a class and set in a legend, beyond which two columns do not fit


class Panel(NamedTuple):
    """One plane of a scatter figure: (m, 2) points, {class: (2,)} marks, labels of the axes and the title."""

    points: torch.Tensor
    marks: dict[str, torch.Tensor]
    x_label: str
    y_label: str
    title: str


def draw_scatter(drawing: Drawing) -> NamedFigures:
    for latents in drawing.shown:
        yield from scatter(latents, drawing.fit, drawing.colours, drawing.name, drawing.config.plots.max_points)


def draw_tsne(drawing: Drawing) -> NamedFigures:
    for latents in drawing.shown:
        yield from tsne(latents, drawing.colours, drawing.name, drawing.config.plots, drawing.config.seed)


def draw_histograms(drawing: Drawing) -> NamedFigures:
    for latents in drawing.shown:
        yield from histograms(latents, drawing.colours, drawing.name)


def scatter(latents: LatentSet, fit: LatentSet, colours: dict[str, str], exp: str, limit: int) -> NamedFigures:
    """Each part of z in two planes: its first two dims, and the plane that holds the training classes furthest apart.

    Args:
        latents: the set to show.
        fit: the training set, from which the plane and the marked class means come.
        colours: of each class.
        exp: experiment, for the title.
        limit: points to show.

    Yields:
        File name and figure.
    """
    shown, rows = spread(latents.labels, limit), spread(fit.labels, FIT_FRAMES)
    labels = fit.labels[rows]
    for suffix, part, columns in latents.parts():
        dims, first = columns.stop - columns.start, columns.start
        if dims < 2:
            continue
        points, known = latents.z[shown][:, columns], fit.z[rows][:, columns]
        plane = separating_plane(known, labels)
        means = {c: known[labels == k].mean(0) for k, c in enumerate(fit.classes) if (labels == k).any()}
        panels = [
            Panel(
                points[:, :2],
                {c: m[:2] for c, m in means.items()},
                f"z[{first}]",
                f"z[{first + 1}]",
                f"first two dims of {part}",
            ),
            Panel(
                points @ plane.axes,
                {c: m @ plane.axes for c, m in means.items()},
                *(f"{name} (within-class s.d.)" for name in plane.names),
                f"plane of {part} fitted on {fit.name}",
            ),
        ]
        title = f"{exp}, set {latents.name}: latent frames, part {part} ({dims} dims)"
        yield f"scatter{suffix}_{latents.name}", scatter_figure(latents, colours, title, panels, shown)


def tsne(latents: LatentSet, colours: dict[str, str], exp: str, plots: Plots, seed: int) -> NamedFigures:
    """t-SNE of each part of z, side by side; nothing if there are too few frames or dims."""
    shown = spread(latents.labels, plots.tsne_points)
    parts = [(part, columns) for _, part, columns in latents.parts() if columns.stop - columns.start >= 2]
    if len(shown) < 5 or not parts:
        return
    panels = []
    for part, columns in parts:
        points = tsne_map(latents.z[shown][:, columns], plots.tsne_perplexity, seed)
        panels.append(Panel(points, {}, "t-SNE 1", "t-SNE 2", f"part {part} ({columns.stop - columns.start} dims)"))
    title = f"{exp}, set {latents.name}: t-SNE of latent frames"
    yield f"tsne_{latents.name}", scatter_figure(latents, colours, title, panels, shown)


def scatter_figure(
    latents: LatentSet, colours: dict[str, str], title: str, panels: Sequence[Panel], shown: torch.Tensor
) -> Figure:
    """Points of each class in each panel; ``shown`` (m,) are the rows of ``latents.labels`` that the points are."""
    columns = 1 if max(len(latents.group_title(group)) for group in latents.groups) > LONG_TITLE else 2
    entries = len(latents.groups) + (len(panels[0].marks) if columns == 1 else 0)
    figure = new_figure(title, 1.2 + WIDTH * (0.45 if len(panels) > 1 else 0.6) + 0.3 / columns * entries)
    rows = {group: torch.nonzero(latents.group[shown] == k).flatten() for k, group in enumerate(latents.groups)}
    shades = latents.group_colours(colours)
    markers = {group: MARKERS[i % len(MARKERS)] for i, group in enumerate(latents.groups)}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for layer in range(LAYERS):
            for group, own in rows.items():
                x, y = panel.points[own[layer::LAYERS]].T.numpy()
                axes.scatter(x, y, s=14, alpha=0.5, linewidths=0, color=shades[group], marker=markers[group])
        for name, mark in panel.marks.items():
            axes.plot(*mark.tolist(), "X", ms=13, mfc=colours[name], mec=BLACK, mew=1.5)
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
        leave_far_points_out(axes, panel)
    handles = []
    for group, own in rows.items():
        mine = [u["rows"] for u in latents.utterances if (u["class"], u["set"]) == group]
        text = f"{latents.group_title(group)}: {len(own):,} of {sum(mine):,} frames, {len(mine):,} utterances"
        handles.append(Line2D([], [], ls="", marker=markers[group], ms=8, color=shades[group], label=text))
    for name in dict.fromkeys(name for panel in panels for name in panel.marks):
        text = f"mean of {name} in the training set"
        handles.append(Line2D([], [], ls="", marker="X", ms=11, mfc=colours[name], mec=BLACK, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def leave_far_points_out(axes: Axes, panel: Panel) -> None:
    """Limits from quantiles, so that single far points do not squeeze the rest; the title says how many lie outside."""
    points = panel.points.double()
    low, high = torch.quantile(points, torch.tensor([0.003, 0.997], dtype=torch.float64), dim=0)
    for mark in panel.marks.values():
        low, high = torch.minimum(low, mark.double()), torch.maximum(high, mark.double())
    margin = 0.08 * (high - low).clamp(min=1e-6)
    low, high = low - margin, high + margin
    axes.set(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
    outside = int(((points < low) | (points > high)).any(1).sum())
    if outside:
        axes.set_title(f"{axes.get_title()} ({outside} points outside)")


def histograms(latents: LatentSet, colours: dict[str, str], exp: str) -> NamedFigures:
    """Utterance scores by true class: log-likelihood ratios of the model's classes; log p(x) if it decides nothing."""
    known = latents.model_classes
    scored = ~latents.loglik.isnan().any(1)
    if not scored.any():
        return
    if not latents.decides:
        kind, title = "loglik_hist", f"{exp}, set {latents.name}: log-likelihood of utterances"
        panels = [(latents.loglik[:, 0], "log p(x), mean over frames (nats/frame)", None)]
    else:
        kind, title = "llr_hist", f"{exp}, set {latents.name}: log-likelihood ratios of utterances"
        panels = [
            (latents.loglik[:, b] - latents.loglik[:, a], known[b], known[a])
            for a, b in itertools.combinations(range(len(known)), 2)
        ]
    shades = latents.group_colours(colours)
    figure = new_figure(title, 0.9 + (3.2 + 0.28 * len(latents.groups)) * len(panels))
    for axes, (scores, above, below) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels):
        low, high = torch.quantile(scores[scored], torch.tensor([0.002, 0.998], dtype=torch.float64)).tolist()
        if below is not None:
            low, high = min(low, 0.0), max(high, 0.0)
        margin = 0.03 * (high - low) or 1.0
        bins = min(MOST_BINS, 8 + math.isqrt(2 * len(scores)))
        edges = torch.linspace(low - margin, high + margin, bins + 1, dtype=torch.float64)
        for i, group in enumerate(latents.groups):
            own = latents.of_group(group) & scored
            if not own.any():
                continue
            frames = sum(u["rows"] for u, mine in zip(latents.utterances, own.tolist()) if mine)
            text = f"{latents.group_title(group)}: {int(own.sum()):,} utterances, {frames:,} frames"
            if below is None:
                text += f", mean {scores[own].mean():.2f}"
            else:
                text += f", {100 * (scores[own] > 0).double().mean():.1f} % above 0"
            inside = scores[own].clamp(float(edges[0]), float(edges[-1]))  # the last bins take what lies beyond
            share = torch.histogram(inside, edges).hist / own.sum()
            axes.stairs(share, edges, fill=True, alpha=0.25, color=shades[group])
            axes.stairs(share, edges, color=shades[group], ls=LINES[i % len(LINES)], lw=2, label=text)
        if below is None:
            axes.set(xlabel=above)
        else:
            axes.axvline(0, color=REFERENCE, lw=1.5)
            axes.set(xlabel=f"log p(x|{above}) - log p(x|{below}), mean over frames (nats/frame)")
        axes.set(ylabel="share of the class", xlim=(float(edges[0]), float(edges[-1])))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    yield f"{kind}_{latents.name}", figure

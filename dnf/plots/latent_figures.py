"""Figures of latents and scores of a set: scatter, t-SNE and histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.experiment.settings import Plots
from dnf.metrics.trials import MOST_PAIRS, most_confused
from dnf.plots.drawing import Drawing
from dnf.plots.latent_set import MOST_GROUPS, LatentSet
from dnf.plots.projections import separating_plane, spread, tsne_map
from dnf.plots.style import BLACK, LINES, MARKERS, REFERENCE, WIDTH, NamedFigures, fitting, new_figure

FIT_FRAMES = 20000  # training frames that the separating plane is computed from
FEW_POINTS = 1000  # up to which the points of a panel are larger
LAYERS = 8  # scatter plots draw the classes in turns, so that the last does not cover the others
MOST_BINS = 60
LONG_TITLE = 28  # letters of a class and set in a legend, beyond which two columns do not fit


class Panel(NamedTuple):
    """One plane of points.

    Attributes:
        points: (m, 2).
        group: (m,) group of each, as an index into the groups of the set.
        labels: of the axes.
        title: what a point is, and how many there are.
        marks: {class: (2,)} its mean in the training set.
        centres: (m, 2) points that each is joined to by a line; None: no lines.
    """

    points: torch.Tensor
    group: torch.Tensor
    labels: tuple[str, str]
    title: str
    marks: dict[str, torch.Tensor] = {}
    centres: torch.Tensor | None = None


def draw_scatter(drawing: Drawing) -> NamedFigures:
    for latents in drawing.with_controls():
        yield from scatter(latents, drawing.fit, drawing.colours, drawing.name, drawing.config.plots.max_points)


def draw_tsne(drawing: Drawing) -> NamedFigures:
    for latents in drawing.with_controls():
        yield from tsne(latents, drawing.colours, drawing.name, drawing.config.plots, drawing.config.seed)


def draw_histograms(drawing: Drawing) -> NamedFigures:
    for latents in drawing.with_controls():
        yield from histograms(latents, drawing.colours, drawing.name)


def scatter(latents: LatentSet, fit: LatentSet, colours: dict[str, str], exp: str, limit: int) -> NamedFigures:
    """Frames and utterances of each part of z in the plane that holds the classes furthest apart.

    Args:
        latents: the set to show.
        fit: the training set, from which the plane and the marked class means come: those of the model's classes, or of
            all where it does not decide.
        colours: of each class.
        exp: experiment, for the title.
        limit: points to show.

    Yields:
        File name and figure.
    """
    frames, utterances = spread(latents.labels, limit), spread(latents.label_of_utterance, limit)
    of_plane = [k for k, name in enumerate(fit.classes) if not fit.decides or name in fit.model_classes]
    known = torch.nonzero(torch.isin(fit.labels, torch.tensor(of_plane))).flatten()
    rows = known[spread(fit.labels[known], FIT_FRAMES)]
    labels = fit.labels[rows]
    marked = {name for name, _ in latents.groups} if len(fit.classes) > MOST_GROUPS else {*fit.classes}
    for suffix, part, columns in latents.parts():
        dims = columns.stop - columns.start
        if dims < 2:
            continue
        z = fit.z[rows][:, columns]
        plane = separating_plane(z, labels)
        means = {fit.classes[k]: z[labels == k].mean(0) @ plane.axes for k in labels.unique().tolist()}
        shared = (
            tuple(f"{name} (within-class s.d.)" for name in plane.names),
            {name: mean for name, mean in means.items() if name in marked},
        )
        panels = [
            Panel(
                latents.z[frames][:, columns] @ plane.axes,
                latents.group[frames],
                shared[0],
                f"{len(frames):,} frames",
                shared[1],
            ),
            Panel(
                latents.z_mean[utterances][:, columns] @ plane.axes,
                latents.group_of_utterance[utterances],
                shared[0],
                f"{len(utterances):,} utterances, by their means",
                shared[1],
            ),
        ]
        title = f"{exp}, set {latents.name}: {part} ({dims} dims) in the plane that separates the classes"
        yield f"scatter{suffix}_{latents.name}", scatter_figure(latents, colours, title, panels)


def tsne(latents: LatentSet, colours: dict[str, str], exp: str, plots: Plots, seed: int) -> NamedFigures:
    """t-SNE of utterances by their mean of each part of z, side by side.

    Nothing if there are too few utterances or dims, or if all utterances are of one class of one set.
    """
    shown = spread(latents.label_of_utterance, plots.tsne_points)
    parts = [(part, columns) for _, part, columns in latents.parts() if columns.stop - columns.start >= 2]
    if len(shown) < 5 or not parts or len(latents.groups) < 2:
        return
    speakers = [(latents.utterances[u]["speaker"], latents.utterances[u]["set"]) for u in shown.tolist()]
    of_speaker = torch.tensor([sorted({*speakers}).index(speaker) for speaker in speakers])
    panels = []
    for part, columns in parts:
        points = tsne_map(latents.z_mean[shown][:, columns], plots.tsne_perplexity, plots.tsne_iterations, seed)
        centres = torch.stack([points[of_speaker == k].mean(0) for k in range(int(of_speaker.max()) + 1)])
        title = f"{len(shown):,} utterances, mean of {part} ({columns.stop - columns.start} dims)"
        group = latents.group_of_utterance[shown]
        panels.append(Panel(points, group, ("t-SNE 1", "t-SNE 2"), title, centres=centres[of_speaker]))
    title = f"{exp}, set {latents.name}: t-SNE of utterances; lines lead to the middle of each speaker"
    yield f"tsne_{latents.name}", scatter_figure(latents, colours, title, panels)


def scatter_figure(latents: LatentSet, colours: dict[str, str], title: str, panels: Sequence[Panel]) -> Figure:
    """Points of each class in each panel."""
    columns = 1 if max(len(latents.group_title(group)) for group in latents.groups) > LONG_TITLE else 2
    entries = len(latents.groups) + (len(panels[0].marks) if columns == 1 else 0)
    figure = new_figure(title, 1.2 + WIDTH * (0.45 if len(panels) > 1 else 0.6) + 0.3 / columns * entries)
    shades = latents.group_colours(colours)
    markers = {group: MARKERS[i % len(MARKERS)] for i, group in enumerate(latents.groups)}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        size = 14 if len(panel.points) > FEW_POINTS else 30
        rows = {group: torch.nonzero(panel.group == k).flatten() for k, group in enumerate(latents.groups)}
        if panel.centres is not None:
            for group, own in rows.items():
                ends = torch.stack([panel.points[own], panel.centres[own]], dim=1).numpy()
                axes.add_collection(LineCollection(ends, colors=[shades[group]], lw=0.7, alpha=0.35))
        for layer in range(LAYERS):
            for group, own in rows.items():
                x, y = panel.points[own[layer::LAYERS]].T.numpy()
                axes.scatter(x, y, s=size, alpha=0.5, linewidths=0, color=shades[group], marker=markers[group])
        for name, mark in panel.marks.items():
            axes.plot(*mark.tolist(), "X", ms=13, mfc=colours[name], mec=BLACK, mew=1.5)
        axes.set(xlabel=panel.labels[0], ylabel=panel.labels[1], title=panel.title)
        leave_far_points_out(axes, panel)
    handles = []
    for group in latents.groups:
        mine = latents.of_group(group)
        text = f"{latents.group_title(group)}: {int(mine.sum()):,} utterances, {latents.frames(mine):,} frames"
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
        axes.set_title(f"{axes.get_title()} ({outside} outside)")


class Ratio(NamedTuple):
    """One panel of histograms: (U,) scores, label of the axis, and the classes of a ratio; none for a log-likelihood."""

    scores: torch.Tensor
    label: str
    classes: tuple[str, ...] = ()


def histograms(latents: LatentSet, colours: dict[str, str], exp: str) -> NamedFigures:
    """Utterance scores by true class: log-likelihood ratios of the model's classes; log p(x) if it decides nothing.

    Of many pairs of classes the most confused ones of the set are shown, two panels in a row, with the other classes
    together.
    """
    scored = ~latents.loglik.isnan().any(1)
    if not scored.any():
        return
    if latents.decides:
        kind, title = "llr_hist", f"{exp}, set {latents.name}: log-likelihood ratios of utterances"
        panels = ratios(latents)
    else:
        kind, title = "loglik_hist", f"{exp}, set {latents.name}: log-likelihood of utterances"
        panels = [Ratio(latents.loglik[:, 0], "log p(x), mean over frames (nats/frame)")]
    groups, tall = [latents.of_group(group) for group in latents.groups], 3.2 + 0.28 * len(latents.groups)
    titles = [latents.group_title(group) for group in latents.groups]
    shades = [*latents.group_colours(colours).values()]
    together = list(zip(titles, shades, groups))
    if len(panels) <= fitting(tall, 0.9):
        figure = new_figure(title, 0.9 + tall * len(panels))
        for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels):
            histogram(axes, panel, together, latents, scored)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    else:
        rows = math.ceil(len(panels) / 2)
        figure = new_figure(title, 0.9 + 4.0 * rows)
        grid = figure.subplots(rows, 2, squeeze=False).flatten()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid, panels):
            histogram(axes, panel, of_pair(latents, panel.classes, colours), latents, scored)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=9)
    yield f"{kind}_{latents.name}", figure


def ratios(latents: LatentSet) -> list[Ratio]:
    """Log-likelihood ratios of pairs of classes; of many pairs of those that the set tells apart least."""
    known, labels = latents.model_classes, [utt["class"] for utt in latents.utterances]
    rows = {name: torch.tensor([label == name for label in labels]) for name in known}
    means = {name: latents.loglik[rows[name]].nanmean(0) for name in known if rows[name].any()}
    pairs, overlap = {}, {}
    for a, b in itertools.combinations(range(len(known)), 2):
        name = f"{known[b]}+{known[a]}"
        pairs[name] = a, b
        if known[a] in means and known[b] in means:
            of_a, of_b = (means[known[k]] for k in (a, b))
            overlap[name] = float((of_b[b] - of_b[a]) - (of_a[b] - of_a[a]))
    return [
        Ratio(
            latents.loglik[:, b] - latents.loglik[:, a],
            f"log p(x|{known[b]}) - log p(x|{known[a]}), mean over frames (nats/frame)",
            (known[a], known[b]),
        )
        for a, b in (pairs[name] for name in most_confused(list(pairs), overlap, MOST_PAIRS))
    ]


def of_pair(latents: LatentSet, pair: tuple[str, ...], colours: dict[str, str]) -> list[tuple[str, str, torch.Tensor]]:
    """Title, colour and utterances (U,) bool of the classes of a pair, of the other classes, and of unseen ones."""
    labels = [utt["class"] for utt in latents.utterances]
    known = set(latents.model_classes)
    groups = [(name, colours[name], torch.tensor([label == name for label in labels])) for name in pair]
    others = torch.tensor([label in known and label not in pair for label in labels])
    unseen = torch.tensor([label not in known for label in labels])
    return [*groups, ("other classes", REFERENCE, others), ("classes unseen by the model", BLACK, unseen)]


def histogram(
    axes: Axes,
    panel: Ratio,
    groups: Sequence[tuple[str, str, torch.Tensor]],
    latents: LatentSet,
    scored: torch.Tensor,
) -> None:
    """Scores of groups of utterances, each a share of its group.

    Args:
        axes: to draw in.
        panel: the scores.
        groups: title, colour and utterances (U,) bool of each.
        latents: the set.
        scored: (U,) bool, utterances that have scores.
    """
    scores = panel.scores
    low, high = torch.quantile(scores[scored], torch.tensor([0.002, 0.998], dtype=torch.float64)).tolist()
    if panel.classes:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.03 * (high - low) or 1.0
    bins = min(MOST_BINS, 8 + math.isqrt(2 * len(scores)))
    edges = torch.linspace(low - margin, high + margin, bins + 1, dtype=torch.float64)
    for i, (title, colour, of_group) in enumerate(groups):
        own = of_group & scored
        if not own.any():
            continue
        text = f"{title}: {int(own.sum()):,} utterances, {latents.frames(own):,} frames"
        if panel.classes:
            text += f", {100 * (scores[own] > 0).double().mean():.1f} % above 0"
        else:
            text += f", mean {scores[own].mean():.2f}"
        inside = scores[own].clamp(float(edges[0]), float(edges[-1]))  # the last bins take what lies beyond
        share = torch.histogram(inside, edges).hist / own.sum()
        axes.stairs(share, edges, fill=True, alpha=0.25, color=colour)
        axes.stairs(share, edges, color=colour, ls=LINES[i % len(LINES)], lw=2, label=text)
    if panel.classes:
        axes.axvline(0, color=REFERENCE, lw=1.5)
    axes.set(xlabel=panel.label, ylabel="share of the class", xlim=(float(edges[0]), float(edges[-1])))

"""Figures of latents and scores of a set: scatter, t-SNE and histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

from dnf.experiment.settings import Plots
from dnf.metrics.trials import MOST_PAIRS, most_confused
from dnf.plots.drawing import Drawing
from dnf.plots.latent_set import MOST_GROUPS, LatentSet
from dnf.plots.projections import separating_plane, spread, tsne_map
from dnf.plots.style import BLACK, LINES, MARKERS, REFERENCE, WIDTH, NamedFigures, fitting, new_figure

FIT_FRAMES = 20000  # training frames that the separating plane is computed from
FEW_POINTS = 1000  # up to which the points of a panel have the marker of their group
LAYERS = 8  # scatter plots draw the classes in turns, so that the last does not cover the others
MOST_BINS = 60
FEWEST_OUTLINED = 30  # points of a group that has an outline
GRID = 64  # bins of each axis that an outline is computed from
HALO = [patheffects.withStroke(linewidth=2, foreground="white")]


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

    @property
    def crowded(self) -> bool:
        """Whether points cover each other, so that outlines show the groups."""
        return len(self.points) > FEW_POINTS and self.centres is None


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
    model_classes = set(fit.model_classes)
    of_plane = [k for k, name in enumerate(fit.classes) if not fit.decides or name in model_classes]
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
                f"means of {len(utterances):,} utterances",
                shared[1],
            ),
        ]
        title = f"{exp}, set {latents.name}: {part} ({dims} dims), classes furthest apart"
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
    title = f"{exp}, set {latents.name}: t-SNE of utterances"
    yield f"tsne_{latents.name}", scatter_figure(latents, colours, title, panels)


def scatter_figure(latents: LatentSet, colours: dict[str, str], title: str, panels: Sequence[Panel]) -> Figure:
    """Points of each class in each panel."""
    figure = new_figure(title, 0.9 + WIDTH * (0.45 if len(panels) > 1 else 0.6) + 0.17 * (len(latents.groups) + 2))
    shades, crowded = latents.group_colours(colours), any(panel.crowded for panel in panels)
    looks = {
        group: {"color": shades[group], "marker": MARKERS[k % len(MARKERS)], "ls": LINES[k % len(LINES)]}
        for k, group in enumerate(latents.groups)
    }
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        draw_points(axes, panel, list(looks.values()))
        for name, mark in panel.marks.items():
            axes.plot(*mark.tolist(), "X", ms=8, mfc=colours[name], mec=BLACK, mew=0.8)
            axes.annotate(name, mark.tolist(), (5, 5), textcoords="offset points", fontweight="bold", path_effects=HALO)
        axes.set(xlabel=panel.labels[0], ylabel=panel.labels[1], title=panel.title)
        leave_far_points_out(axes, panel)
    handles = []
    for group, look in looks.items():
        mine = latents.of_group(group)
        text = f"{latents.group_title(group)}: {int(mine.sum()):,} utterances, {latents.frames(mine):,} frames"
        handles.append(Line2D([], [], label=text, mfc="none", **(look if crowded else look | {"ls": ""})))
    if crowded:
        handles.append(Line2D([], [], color=REFERENCE, label="line around the densest half of its frames"))
    if panels[0].marks:
        handles.append(
            Line2D([], [], ls="", marker="X", ms=7, mfc="white", mec=BLACK, label="mean in the training set")
        )
    figure.legend(handles=handles, loc="outside lower center", handlelength=3)
    return figure


def draw_points(axes: Axes, panel: Panel, looks: Sequence[dict]) -> None:
    """Points of each group; markers where they are few, else dots and an outline of each group."""
    rows = [torch.nonzero(panel.group == k).flatten() for k in range(len(looks))]
    if panel.centres is not None:
        for own, look in zip(rows, looks):
            ends = torch.stack([panel.points[own], panel.centres[own]], dim=1).numpy()
            axes.add_collection(LineCollection(ends, colors=[look["color"]], lw=0.4, alpha=0.35))
    for layer in range(LAYERS):
        for own, look in zip(rows, looks):
            x, y = panel.points[own[layer::LAYERS]].T.numpy()
            if panel.crowded:
                axes.scatter(x, y, s=2, alpha=0.3, linewidths=0, color=look["color"])
            else:
                edges = {"edgecolors": [look["color"]], "facecolors": "none", "linewidths": 0.7}
                axes.scatter(x, y, s=10, alpha=0.8, marker=look["marker"], **edges)
    if panel.crowded:
        for own, look in zip(rows, looks):
            outline(axes, panel.points[own].numpy(), look["color"], look["ls"])


def outline(axes: Axes, points: np.ndarray, colour: Sequence[float], line: str) -> None:
    """The region of highest density that holds half of the points ``(m, 2)``, by a smoothed histogram."""
    if len(points) < FEWEST_OUTLINED:
        return
    count, *edges = np.histogram2d(*points.T, bins=GRID, range=[grown(axis) for axis in points.T])
    density = ndimage.gaussian_filter(count, GRID / 20)
    ranked = np.argsort(-density.ravel())
    held = count.ravel()[ranked].cumsum()
    level = density.ravel()[ranked[np.searchsorted(held, held[-1] / 2)]]
    middle = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    contour = axes.contour(*middle, density.T, [level], colors=[colour], linestyles=line, linewidths=1.8)
    contour.set_path_effects(HALO)


def grown(values: np.ndarray) -> tuple[float, float]:
    """The range of almost all values ``(m,)``, made wider by a third on both sides."""
    low, high = np.quantile(values, (0.005, 0.995))
    room = (high - low) / 3 or 1.0
    return low - room, high + room


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

    Of many pairs of classes the most confused ones of the set are shown, with the other classes together.
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
    groups, tall = [latents.of_group(group) for group in latents.groups], 2.1 + 0.17 * len(latents.groups)
    titles = [latents.group_title(group) for group in latents.groups]
    shades = [*latents.group_colours(colours).values()]
    together = list(zip(titles, shades, groups))
    each = [together] * len(panels)
    if len(panels) > fitting(tall, 0.5):
        each, tall = [of_pair(latents, panel.classes, colours) for panel in panels], 2.1 + 0.17 * 4
    figure = new_figure(title, 0.5 + tall * len(panels))
    for axes, panel, shown in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, each):
        histogram(axes, panel, shown, scored)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    yield f"{kind}_{latents.name}", figure


def ratios(latents: LatentSet) -> list[Ratio]:
    """Log-likelihood ratios of pairs of classes; of many pairs those that the set separates least."""
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
    scored: torch.Tensor,
) -> None:
    """Scores of groups of utterances, each a share of its group.

    Args:
        axes: to draw in.
        panel: the scores.
        groups: title, colour and utterances (U,) bool of each.
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
        text = f"{title}: {int(own.sum()):,} utterances"
        if panel.classes:
            text += f", {100 * (scores[own] > 0).double().mean():.1f} % above 0"
        else:
            text += f", mean {scores[own].mean():.2f}"
        inside = scores[own].clamp(float(edges[0]), float(edges[-1]))  # the last bins take what lies beyond
        share = torch.histogram(inside, edges).hist / own.sum()
        filled = torch.nonzero(share).flatten()
        first, end = int(filled[0]), int(filled[-1]) + 1
        style = {"color": colour, "ls": LINES[i % len(LINES)], "lw": 1.5}
        axes.stairs(share[first:end], edges[first : end + 1], label=text, **style)
    if panel.classes:
        axes.axvline(0, color=REFERENCE, lw=1)
    axes.set(xlabel=panel.label, ylabel="share of the class", xlim=(low - 2 * margin, high + 2 * margin))

"""Pictures of detection: DET curves and reliability of posteriors, all systems together."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import special

from dnf.experiment.config import Config
from dnf.experiment.layout import PLOTS
from dnf.metrics import detection
from dnf.metrics.trials import Trials, most_confused
from dnf.plots.drawn_sets import drawn_sets
from dnf.plots.style import MARKERS, OKABE_ITO, REFERENCE, NamedFigures, fitting, new_figure, write_figures

log = logging.getLogger(__name__)

TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
KIND = "detection"  # of the files


def det(axes: Axes, pair: Trials, colour: str, line: str) -> None:
    """A DET curve (Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997)."""
    scores = pair.ranked_by("eer")
    false, miss = detection.det_points(scores, pair.target)
    # Half an utterance, where there is no error.
    least = 0.5 / min(pair.target.sum(), (~pair.target).sum())
    at = np.argsort(miss, kind="stable")
    axes.plot(
        *(special.ndtri(np.clip(rates[at], least, 1 - least)) for rates in (false, miss)), color=colour, ls=line, lw=1.8
    )
    rate = special.ndtri(np.clip(detection.eer(scores, pair.target), least, 1 - least))
    axes.plot(rate, rate, color=colour, marker="o", ms=6, mfc="white" if line != "-" else colour)


def det_axes(axes: Axes, pairs: list[Trials]) -> None:
    """Axes of normal deviates, marked in shares."""
    least = min(0.5 / min(p.target.sum(), (~p.target).sum()) for p in pairs)
    ticks = [t for t in TICKS if t >= least * 0.9]
    low, high = special.ndtri(max(least, 1e-4)) - 0.1, special.ndtri(0.95)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(special.ndtri(ticks), [f"{100 * t:g}" for t in ticks])
    first, second = pairs[0].classes
    axes.plot([low, high], [low, high], color=REFERENCE, lw=0.8, zorder=0.5)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{second} taken for {first}, %", ylabel=f"{first} missed, %")


def reliability_bins(pair: Trials) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean posterior, share that is of the first class, and deviation of that share, ``(B,)``, of bins of like counts.

    Classes weigh alike, as in the posterior under equal priors. Equal posteriors are in one bin.
    """
    posterior = special.expit(pair.ranked_by("cllr"))
    order = np.argsort(posterior, kind="stable")
    ends = np.linspace(0, len(order), int(np.clip(len(order) // 15, 2, 10)) + 1).round().astype(int)[1:-1]
    ends = np.unique(np.searchsorted(posterior[order], posterior[order][ends]))
    weights = np.where(pair.target, 0.5 / pair.target.sum(), 0.5 / (~pair.target).sum())
    bins = np.split(order, ends[ends > 0])
    total = np.array([weights[b].sum() for b in bins])
    stated = np.array([weights[b] @ posterior[b] for b in bins]) / total
    seen = np.array([weights[b] @ pair.target[b] for b in bins]) / total
    counts = np.array([weights[b].sum() ** 2 / (weights[b] ** 2).sum() for b in bins])
    return stated, seen, np.sqrt(seen * (1 - seen) / counts)


def reliability(axes: Axes, pair: Trials, colour: str, marker: str) -> None:
    """What posteriors say against what is so; bars: a binomial deviation, as if utterances were independent."""
    stated, seen, deviation = reliability_bins(pair)
    ends = np.array([np.minimum(deviation, seen), np.minimum(deviation, 1 - seen)])
    axes.errorbar(stated, seen, ends, color=colour, marker=marker, ms=6, lw=1.5, elinewidth=1, capsize=2)


def detection_figure(name: str, exp: str, systems: Mapping[str, tuple[Trials, Trials | None]], control: str) -> Figure:
    """One row a pair of classes: DET curves left, reliability right; solid the set, dashed with its control.

    Args:
        name: set.
        exp: experiment, for the title.
        systems: each system's utterances of the set, and those with its control.
        control: name of the control; may be empty.
    """
    pairs = sorted({p for both in systems.values() for t in both if t is not None for p in t.pairs()})
    first = next(iter(systems.values()))[0]
    pairs.sort(key=lambda pair: [first.classes.index(c) for c in pair])
    names = {"+".join(pair): pair for pair in pairs}
    pairs = [names[name] for name in most_confused(list(names), first.dev_auc)]
    entries = sum(1 for both in systems.values() for trials in both if trials is not None)
    title, tall = f"{exp}: {name}, one class against another", 6.0 + 0.24 * entries
    # more pairs than fit, two in a row and half the size
    side_by_side = 1 if len(pairs) <= max(3, fitting(tall, 0.6)) else 2
    small = {"fontsize": 11} if side_by_side == 1 else {"fontsize": 8}
    rows = math.ceil(len(pairs) / side_by_side)
    figure = new_figure(title, 0.6 + rows * (tall if side_by_side == 1 else 3.6 + 0.2 * entries))
    grid = figure.subplots(rows, 2 * side_by_side, squeeze=False).reshape(-1, 2)
    for axes in grid[len(pairs) :].flat:
        axes.set_visible(False)
    for row, (first, second) in zip(grid, pairs):
        drawn, handles = [], []
        for n, (system, both) in enumerate(systems.items()):
            colour, marker = OKABE_ITO[n % len(OKABE_ITO)], MARKERS[n % len(MARKERS)]
            for trials, line, place in zip(both, ("-", "--"), ("", f", control {control}")):
                if trials is None or not trials.has((first, second)):
                    continue
                pair = trials.pair(first, second)
                drawn.append(pair)
                det(row[0], pair, colour, line)
                eer = detection.eer(pair.ranked_by("eer"), pair.target)
                label = f"{system}{place}: EER {100 * eer:.1f} %"
                handles.append([Line2D([], [], color=colour, ls=line, label=label), None])
                if pair.calibrated and not place:
                    reliability(row[1], pair, colour, marker)
                    llr = pair.ranked_by("cllr")
                    costs = detection.cllr(llr, pair.target), detection.min_cllr(llr, pair.target)
                    label = f"{system}: Cllr {costs[0]:.2f} bits, least {costs[1]:.2f}"
                    handles[-1][1] = Line2D([], [], color=colour, marker=marker, label=label)
        det_axes(row[0], drawn)
        row[0].set_title("DET; the dot marks equal errors" if side_by_side == 1 else "DET", loc="left")
        row[1].plot([0, 1], [0, 1], color=REFERENCE, lw=0.8, zorder=0.5)
        row[1].set_title(
            "Reliability; correct posteriors are on the line" if side_by_side == 1 else "Reliability", loc="left"
        )
        row[1].set(xlabel=f"posterior of {first} against {second}", ylabel=f"share that is {first}")
        row[1].set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        for axes, side in zip(row, zip(*handles)):
            shown = [handle for handle in side if handle]
            axes.set_aspect("equal", anchor="N")
            if side_by_side > 1:
                axes.tick_params(labelsize=8)
                axes.xaxis.label.set_fontsize(9)
                axes.yaxis.label.set_fontsize(9)
            if shown:
                place = (0.5, -0.13 if side_by_side == 1 else -0.25)
                axes.legend(handles=shown, loc="upper center", bbox_to_anchor=place, **small)
            else:
                axes.text(0.5, 0.9, "not calibrated", transform=axes.transAxes, ha="center")
    return figure


Systems = Mapping[str, Mapping[str, Trials]]  # utterances by system and set


def draw(exp: str, judged: Systems, beside: Systems, config: Config) -> NamedFigures:
    """A figure of every set with two classes or a control that has pictures; arguments as those of ``make_plots``."""
    controls = config.data.controls
    for name in drawn_sets(sorted({name for sets in judged.values() for name in sets}), config):
        of_set = {system: (sets[name], beside[system].get(name)) for system, sets in judged.items() if name in sets}
        if any(trials.pairs() for both in of_set.values() for trials in both if trials is not None):
            yield f"{KIND}_{name}", detection_figure(name, exp, of_set, controls.get(name, ""))


def make_plots(exp: Path, judged: Systems, beside: Systems, config: Config) -> list[Path]:
    """Write ``plots/detection_<set>.png`` of every set with two classes or a control, and remove those of earlier runs.

    Args:
        exp: folder of the experiment.
        trials: utterances by system and set.
        beside: those with the set's control, by system and set.
        config: settings.
    """
    folder = exp / PLOTS
    shown = judged if config.plots.enabled else {}
    figures = draw(exp.resolve().name, shown, beside, config)
    written = write_figures(figures, folder, config.plots.dpi)
    for path in sorted(set(folder.glob(f"{KIND}_*.png")) - set(written)):
        path.unlink()
    log.info("%d pictures of detection in %s", len(written), folder)
    return written

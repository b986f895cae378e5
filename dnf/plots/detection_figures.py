"""Pictures of detection: DET curves and reliability of posteriors, all systems together."""

from __future__ import annotations

import logging
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
from dnf.plots.style import (
    MARKERS,
    MOST_HEIGHT,
    OKABE_ITO,
    REFERENCE,
    NamedFigures,
    fitting,
    new_figure,
    wrapped,
    write_figures,
)

log = logging.getLogger(__name__)

TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
KIND = "detection"  # of the files
CHANCE = 0.4  # EER above which a system decides hardly better than by chance, and has a thin line
HALF = 40  # letters of a line of a legend over half the width

# Systems with their colours and markers, and their utterances of a pair of classes, of the set and with its control.
Of = list[tuple[str, tuple[str, str], list[Trials | None]]]


def det(axes: Axes, pair: Trials, eer: float, colour: str, line: str) -> None:
    """A DET curve (Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997)."""
    false, miss = detection.det_points(pair.ranked_by("eer"), pair.target)
    least = least_rate(pair)
    at = np.argsort(miss, kind="stable")
    x, y = (special.ndtri(np.clip(rates[at], least, 1 - least)) for rates in (false, miss))
    axes.plot(x, y, color=colour, ls=line, lw=0.7 if eer > CHANCE else 1.5)
    dot = special.ndtri(np.clip(eer, least, 1 - least))
    axes.plot(dot, dot, color=colour, marker="o", ms=4, mfc="white" if line != "-" else colour)


def least_rate(pair: Trials) -> float:
    """Half an utterance, which stands for no error on axes of normal deviates."""
    return 0.5 / min(pair.target.sum(), (~pair.target).sum())


def det_axes(axes: Axes, pairs: list[Trials], eers: list[float]) -> None:
    """Axes of normal deviates, marked in shares; up to 50 % unless only systems at chance are drawn."""
    least = min(map(least_rate, pairs))
    low, high = special.ndtri(max(least, 1e-4)) - 0.1, special.ndtri(0.95 if min(eers, default=0) > CHANCE else 0.55)
    ticks = [t for t in TICKS if t >= least * 0.9 and special.ndtri(t) < high]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(special.ndtri(ticks), [f"{100 * t:g}" for t in ticks])
    first, second = pairs[0].classes
    axes.plot([low, high], [low, high], color=REFERENCE, lw=0.8, zorder=0.5)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{second} taken for {first}, %", ylabel=f"{first} missed, %")
    axes.set_title("DET; the dot is the EER", loc="left")


def reliability_bins(pair: Trials) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean posterior, share that is of the first class, and deviation of that share, ``(B,)``, of bins of equal counts.

    Classes have equal weights, as in the posterior under equal priors. Equal posteriors are in one bin.
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
    """Posteriors against the share that is of the first class; bars: a binomial deviation, as if utterances were independent."""
    stated, seen, deviation = reliability_bins(pair)
    ends = np.array([np.minimum(deviation, seen), np.minimum(deviation, 1 - seen)])
    axes.errorbar(stated, seen, ends, color=colour, marker=marker, ls="", ms=4, alpha=0.8, elinewidth=0.8, capsize=2)


def det_panel(axes: Axes, of_pair: Of, control: str) -> list[Line2D]:
    """DET curves of the systems that make errors; entries of the legend, one line for all that make none."""
    handles, drawn, perfect = [], [], {}
    for system, (colour, _), pairs in of_pair:
        for pair, line, place in zip(pairs, ("-", "--"), ("", f", control {control}")):
            if pair is None:
                continue
            eer = detection.eer(pair.ranked_by("eer"), pair.target)
            if not eer:
                perfect.setdefault(place, []).append(system)
                continue
            det(axes, pair, eer, colour, line)
            drawn.append(eer)
            handles.append(
                Line2D(
                    [],
                    [],
                    color=colour,
                    ls=line,
                    label=wrapped(f"{system}{place}: EER\u00a0{100 * eer:.1f}\u00a0%", HALF),
                )
            )
    det_axes(axes, [pair for *_, pairs in of_pair for pair in pairs if pair is not None], drawn)
    if not drawn:
        axes.text(0.35, 0.75, "no errors", transform=axes.transAxes, ha="center")
    texts = (f"{', '.join(names)}{place}: no\u00a0errors" for place, names in perfect.items())
    return handles + [Line2D([], [], ls="", label=wrapped(text, HALF)) for text in texts]


def reliability_panel(axes: Axes, of_pair: Of, classes: tuple[str, str]) -> list[Line2D]:
    """Reliability of the calibrated systems on the set; entries of the legend."""
    handles = []
    for system, (colour, marker), (pair, _) in of_pair:
        if pair is None or not pair.calibrated:
            continue
        reliability(axes, pair, colour, marker)
        llr = pair.ranked_by("cllr")
        cost, least = detection.cllr(llr, pair.target), detection.min_cllr(llr, pair.target)
        label = f"{system}: Cllr {cost:.2f} bits, least {least:.2f}"
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=wrapped(label, HALF)))
    if not handles:
        axes.text(0.5, 0.9, "not calibrated", transform=axes.transAxes, ha="center")
    axes.plot([0, 1], [0, 1], color=REFERENCE, lw=0.8, zorder=0.5)
    axes.set_title("Reliability", loc="left")
    axes.set(xlabel=f"posterior of {classes[0]} against {classes[1]}", ylabel=f"share that is {classes[0]}")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    return handles


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
    tall = 3.1 + 0.16 * sum(1 for both in systems.values() for trials in both if trials is not None)
    shown = pairs[: fitting(tall, 0.5)]
    some = f", {len(shown)} of {len(pairs)} pairs" if len(shown) < len(pairs) else ""
    figure = new_figure(f"{exp}: {name}, one class against another{some}", 0.5 + len(shown) * tall)
    looks = {system: (OKABE_ITO[n % len(OKABE_ITO)], MARKERS[n % len(MARKERS)]) for n, system in enumerate(systems)}
    lines = 0
    for row, classes in zip(figure.subplots(len(shown), 2, squeeze=False), shown):
        of_pair = [
            (system, looks[system], [t.pair(*classes) if t is not None and t.has(classes) else None for t in both])
            for system, both in systems.items()
        ]
        legends = det_panel(row[0], of_pair, control), reliability_panel(row[1], of_pair, classes)
        for axes, handles in zip(row, legends):
            axes.set_aspect("equal", anchor="N")
            lines = max(lines, sum(1 + str(handle.get_label()).count("\n") for handle in handles))
            if handles:
                axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, -0.2), fontsize=8)
    figure.set_figheight(min(MOST_HEIGHT, 0.4 + len(shown) * (3.1 + 0.16 * lines)))
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
        judged: utterances by system and set.
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

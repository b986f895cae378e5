"""Picture of verification: DET curves of all systems on the same trials."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import special

from dnf.plots.detection_figures import TICKS
from dnf.plots.style import LINES, OKABE_ITO, REFERENCE, new_figure, wrapped

LETTERS = 70  # of a line of the legend
HIGHEST = 0.55  # error rate at the end of the axes


def det_figure(title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]], least: float) -> Figure:
    """DET curves on axes of normal deviates (Martin et al., Eurospeech 1997); the dot is the EER.

    Args:
        title: experiment and trials.
        curves: false alarms, misses and EER of each system.
        least: rate that stands for no error, half a trial of the rarer kind.
    """
    figure = new_figure(title, 6.4 + 0.1 * len(curves))
    axes = figure.subplots()
    low, high = special.ndtri(max(least, 1e-5)) - 0.1, special.ndtri(HIGHEST)
    for number, (name, (false, miss, eer)) in enumerate(curves.items()):
        x, y = (special.ndtri(np.clip(rate, least, 1 - least)) for rate in (false, miss))
        look = {"color": OKABE_ITO[number % len(OKABE_ITO)], "ls": LINES[number // len(OKABE_ITO) % len(LINES)]}
        axes.plot(x, y, **look, label=wrapped(f"{name}: EER\u00a0{100 * eer:.2f}\u00a0%", LETTERS))
        dot = special.ndtri(np.clip(eer, least, 1 - least))
        axes.plot(dot, dot, color=look["color"], marker="o", ms=4)
    ticks = [tick for tick in TICKS if least * 0.9 <= tick < HIGHEST]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(special.ndtri(ticks), [f"{100 * tick:g}" for tick in ticks])
    axes.plot([low, high], [low, high], color=REFERENCE, lw=0.8, zorder=0.5)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="false alarms, %", ylabel="misses, %")
    axes.set_aspect("equal")
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    return figure

"""Figures of an experiment's tables, made in memory: training curves and the shape of each latent dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.plots.style import BLACK, BLUE, ORANGE, PINK, new_figure


def curves(history: Mapping[str, torch.Tensor], exp: str, accuracy: bool) -> Figure:
    """Training curves against the step.

    Args:
        history: columns of history.tsv, (rows,) float64, NaN where a row has no value; ``spikes`` and ``restores``
            count from the start of training; ``ce`` and ``dev_ce`` where there is a cross-entropy.
        exp: experiment, for the title.
        accuracy: whether the model has classes to decide between.
    """
    step = history["step"]
    loglik = {f"{prefix}logll": history[f"{prefix}logp"] + history[f"{prefix}logdet"] for prefix in ("", "dev_")}
    columns = {**history, **loglik}
    panels = [
        ("LogDet", "nats/frame", "logdet", "dev_logdet", "linear"),
        ("LogP", "nats/frame", "logp", "dev_logp", "linear"),
        ("LogLL = LogP + LogDet", "nats/frame", "logll", "dev_logll", "linear"),
        ("NLL = -LogLL", "nats/frame", "nll", "dev_nll", "linear"),
        ("gradient norm", "nats/frame per unit", "grad_norm", None, "log"),
        ("learning rate", "per step", "lr", None, "linear"),
    ]
    if accuracy:
        panels.append(("frame accuracy", "share of frames", None, "dev_accuracy", "linear"))
    if "dev_ce" in history:
        panels.append(("cross-entropy of the class posteriors", "nats/frame", "ce", "dev_ce", "linear"))
    panels.append(("speed", "frames/s", "frames_per_s", None, "linear"))
    count = {name: int(columns[name].nan_to_num().max()) for name in ("spikes", "restores")}
    rows = math.ceil(len(panels) / 2)
    figure = new_figure(f"{exp}: training, {int(step.max()):,} steps", 0.9 + 2.9 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, (title, unit, train, dev, scale) in zip(grid, panels):
        if train:
            axes.plot(step, columns[train], color=BLUE, lw=1.3)
        if dev:
            seen = ~columns[dev].isnan()
            axes.plot(step[seen], columns[dev][seen], color=ORANGE, ls="--", marker="o", ms=4, lw=1.5)
        for name, colour, style in (("spikes", PINK, ":"), ("restores", BLACK, "-.")):
            rise = columns[name].nan_to_num().diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
            for x in step[rise].tolist():
                axes.axvline(x, color=colour, ls=style, lw=1.3, zorder=0.5)
        axes.set(title=title, ylabel=unit, xlabel="step", yscale=scale)
        axes.locator_params(axis="x", nbins=5)
        drawn = torch.cat([columns[c] for c in (train, dev) if c])
        late = torch.cat([columns[c][len(step) // 20 :] for c in (train, dev) if c])
        if scale == "linear":
            leave_start_out(axes, drawn[drawn.isfinite()], late[late.isfinite()])
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], color=BLUE, label="train, mean over the steps since the last row"),
        Line2D([], [], color=ORANGE, ls="--", marker="o", ms=4, label="dev"),
        Line2D([], [], color=PINK, ls=":", lw=2, label=f"spike ({count['spikes']:,} in all)"),
        Line2D([], [], color=BLACK, ls="-.", lw=2, label=f"restore ({count['restores']:,} in all)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def leave_start_out(axes: Axes, values: torch.Tensor, late: torch.Tensor) -> None:
    """Limits from what comes after the first twentieth; the title says how many values lie outside."""
    if len(late) < 2:
        return
    low, high = torch.quantile(late, torch.tensor([0.02, 0.98], dtype=torch.float64)).tolist()
    room = (high - low) or abs(high) * 0.1 or 1.0
    low, high = max(float(values.min()), low - room), min(float(values.max()), high + room)
    outside = int(((values < low) | (values > high)).sum())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    if outside:
        axes.set_title(f"{axes.get_title()} ({outside} values outside)")

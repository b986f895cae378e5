"""Training curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnf.experiment.layout import HISTORY_TSV, TRAINING_JSON
from dnf.plots.drawing import Drawing, read_table
from dnf.plots.style import BLACK, BLUE, ORANGE, PINK, REFERENCE, NamedFigures, new_figure, plain_log_ticks

# Columns of history.tsv; those of HYBRID where there is a cross-entropy.
HISTORY = (
    *("step", "nll", "logp", "logdet", "grad_norm", "lr", "frames_per_s"),
    *("dev_nll", "dev_logp", "dev_logdet", "dev_accuracy", "spikes", "restores"),
)
HYBRID = ("ce", "dev_ce")


class Panel(NamedTuple):
    """Title, unit, columns of train and dev, either of which may be None, and scale of the vertical axis."""

    title: str
    unit: str
    train: str | None
    dev: str | None
    scale: str = "linear"

    @property
    def columns(self) -> list[str]:
        return [column for column in (self.train, self.dev) if column]


PANELS = (
    Panel("LogDet", "nats/frame", "logdet", "dev_logdet"),
    Panel("LogP", "nats/frame", "logp", "dev_logp"),
    Panel("LogLL = LogP + LogDet", "nats/frame", "logll", "dev_logll"),
    Panel("gradient norm", "nats/frame per unit", "grad_norm", None, "log"),
    Panel("learning rate", "per step", "lr", None),
)
ACCURACY = Panel("frame accuracy", "share", None, "dev_accuracy")
CROSS_ENTROPY = Panel("cross-entropy of posteriors", "nats/frame", "ce", "dev_ce")
SMOOTHED = 10  # rows of history.tsv, about an epoch, that a moving average is over
SPEED = Panel(f"speed, mean of {SMOOTHED} rows", "frames/s", "speed", None)
EVENTS = {"spikes": ("spike", PINK, ":"), "restores": ("restore", BLACK, "-.")}


def draw(drawing: Drawing) -> NamedFigures:
    history, path = read_history(drawing.exp / HISTORY_TSV), drawing.exp / TRAINING_JSON
    kept = json.loads(path.read_text(encoding="utf-8"))["best_step"] if path.is_file() else None
    yield "curves", curves(history, drawing.name, accuracy=drawing.fit.decides, kept=kept)


def read_history(path: Path) -> dict[str, torch.Tensor]:
    """Columns of history.tsv, (rows,) float64; NaN where a row has no evaluation. Cross-entropy if it has one."""
    rows = read_table(path, "train", HISTORY, gaps=True)
    if "dev_ce" in rows[0]:
        rows = read_table(path, "train", (*HISTORY, *HYBRID), gaps=True)
    columns = [column for column in (*HISTORY, *HYBRID) if column in rows[0]]
    return {column: torch.tensor([row[column] for row in rows], dtype=torch.float64) for column in columns}


def curves(history: Mapping[str, torch.Tensor], exp: str, *, accuracy: bool, kept: int | None = None) -> Figure:
    """Training curves against the step.

    Args:
        history: columns of history.tsv, (rows,) float64, NaN where a row has no value; ``spikes`` and ``restores``
            count from the start of training; ``ce`` and ``dev_ce`` where there is a cross-entropy.
        exp: experiment, for the title.
        accuracy: whether the model has classes to decide between.
        kept: the step of ``best.pt``.
    """
    step = history["step"]
    loglik = {f"{prefix}logll": history[f"{prefix}logp"] + history[f"{prefix}logdet"] for prefix in ("", "dev_")}
    columns = {**history, **loglik, "speed": moving_average(history["frames_per_s"], SMOOTHED)}
    panels = [*PANELS, *([ACCURACY] if accuracy else []), *([CROSS_ENTROPY] if "dev_ce" in history else []), SPEED]
    rows = math.ceil(len(panels) / 2)
    figure = new_figure(f"{exp}: training, {int(step.max()):,} steps", 0.8 + 1.6 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, panel in zip(grid, panels):
        draw_panel(axes, panel, columns)
        if kept is not None:
            axes.axvline(kept, color=REFERENCE, lw=1, zorder=0.5)
    for axes in grid[len(panels) - 2 : len(panels)]:
        axes.set_xlabel("step")
    handles = legend_of(columns, kept)
    if len(panels) % 2:
        grid[-1].axis("off")
        grid[-1].legend(handles=handles, loc="center")
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def legend_of(columns: Mapping[str, torch.Tensor], kept: int | None) -> list[Line2D]:
    """Entries of what there is: train, dev, the step that was kept, and the events that occurred."""
    handles = [
        Line2D([], [], color=BLUE, label="train"),
        Line2D([], [], color=ORANGE, ls="--", marker="o", ms=3, label="dev"),
    ]
    if kept is not None:
        handles.append(Line2D([], [], color=REFERENCE, lw=1, label=f"step kept: {kept:,}"))
    for name, (event, colour, style) in EVENTS.items():
        if count := int(columns[name].nan_to_num().max()):
            handles.append(Line2D([], [], color=colour, ls=style, label=f"{event} ({count:,} in all)"))
    return handles


def moving_average(values: torch.Tensor, width: int) -> torch.Tensor:
    """Mean of each value and the ``width - 1`` before it, as far as there are any, ``(rows,)``; NaN is left out."""
    kept = torch.stack([values.nan_to_num(), (~values.isnan()).double()])
    sums = torch.nn.functional.pad(kept.cumsum(1), (width, 0))
    total, count = sums[:, width:] - sums[:, :-width]
    return total / count


def draw_panel(axes: Axes, panel: Panel, columns: Mapping[str, torch.Tensor]) -> None:
    """One quantity of train and dev against the step, with the events of training."""
    step = columns["step"]
    if panel.train:
        axes.plot(step, columns[panel.train], color=BLUE, lw=0.9)
    if panel.dev:
        seen = ~columns[panel.dev].isnan()
        axes.plot(step[seen], columns[panel.dev][seen], color=ORANGE, ls="--", marker="o", ms=2.5, lw=1)
    for name, (_, colour, style) in EVENTS.items():
        rise = columns[name].nan_to_num().diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
        for x in step[rise].tolist():
            axes.axvline(x, color=colour, ls=style, lw=1, zorder=0.5)
    axes.set(title=panel.title, ylabel=panel.unit, xlim=(0, float(step.max())), yscale=panel.scale)
    axes.locator_params(axis="x", nbins=4)
    if panel.scale == "log":
        plain_log_ticks(axes.yaxis)
    if panel.scale == "linear":
        drawn = torch.cat([columns[column] for column in panel.columns])
        late = torch.cat([columns[column][len(step) // 20 :] for column in panel.columns])
        leave_start_out(axes, drawn[drawn.isfinite()], late[late.isfinite()])


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
        axes.set_title(f"{axes.get_title()} ({outside} outside)")

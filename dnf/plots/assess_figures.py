"""Figures of expert scores: predicted against expert score, with speakers, errors against duration, likelihood by score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dnf.experiment.config import Config
from dnf.experiment.layout import ASSESS, PLOTS
from dnf.experiment.tables import read_tsv
from dnf.metrics.correlation import by_speaker
from dnf.metrics.figures import FUSED
from dnf.plots.drawn_sets import drawn_sets
from dnf.plots.style import BLUE, ORANGE, REFERENCE, NamedFigures, new_figure, plain_log_ticks, write_figures

log = logging.getLogger(__name__)

KIND = "assess"  # of the files
MOST_TENTHS = 10
GROUPS = ("lowest third", "middle third", "highest third")  # of the utterances, by expert score
BINS = 25


def column(rows: Sequence[dict], name: str) -> np.ndarray:
    """A column of numbers ``(U,)``."""
    return np.array([float(row[name]) for row in rows])


def tenths(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Means of both in each tenth by ``x``, from the lowest."""
    parts = np.array_split(np.argsort(x, kind="stable"), min(MOST_TENTHS, len(x)))
    return [float(x[part].mean()) for part in parts], [float(y[part].mean()) for part in parts]


def predicted_against_expert(axes: Axes, rows: Sequence[dict]) -> None:
    """Utterances, joined to the mean of their speaker, and the means of tenths by predicted score."""
    speakers = np.array([row["speaker"] for row in rows])
    expert, predicted = column(rows, "score"), column(rows, FUSED)
    x, y, names = by_speaker(speakers, predicted, expert)
    place = np.searchsorted(names, speakers)
    lines = np.stack([np.stack([predicted, expert], 1), np.stack([x[place], y[place]], 1)], 1)
    axes.add_collection(LineCollection(lines, colors=BLUE, lw=0.3, alpha=0.25))
    axes.plot(predicted, expert, ".", color=BLUE, ms=3, alpha=0.5, label=f"{len(rows)} utterances")
    axes.plot(x, y, "o", color=BLUE, ms=4.5, mec="white", mew=0.5, label=f"{len(names)} speakers (means)")
    axes.plot(
        *tenths(predicted, expert), "s-", color=ORANGE, ms=3.5, lw=1.2, label="means of tenths by predicted score"
    )
    low, high = min(expert.min(), predicted.min()), max(expert.max(), predicted.max())
    axes.plot([low, high], [low, high], color=REFERENCE, lw=1, zorder=0.5)
    axes.set(xlabel="predicted score", ylabel="expert score")


def errors_against_duration(axes: Axes, rows: Sequence[dict]) -> None:
    """Predicted minus expert score, and the means of tenths by duration."""
    seconds, error = column(rows, "seconds"), column(rows, FUSED) - column(rows, "score")
    axes.plot(seconds, error, ".", color=BLUE, ms=3, alpha=0.5)
    axes.plot(*tenths(seconds, error), "s-", color=ORANGE, ms=3.5, lw=1.2, label="means of tenths by duration")
    axes.axhline(0, color=REFERENCE, lw=1, zorder=0.5)
    axes.set(xscale="log", xlabel="duration (s)", ylabel="predicted minus expert score")
    plain_log_ticks(axes.xaxis)


def assess_figure(rows: Sequence[dict], title: str) -> Figure:
    """Both panels of a set; the first alone where utterances have no duration.

    Args:
        rows: of ``assess/<set>.tsv``.
        title: of the figure.
    """
    has_seconds = bool(rows[0]["seconds"])
    figure = new_figure(title, 4.0)
    grid = figure.subplots(1, 1 + has_seconds, squeeze=False)[0]
    predicted_against_expert(grid[0], rows)
    if has_seconds:
        errors_against_duration(grid[1], rows)
    for axes in grid:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)
    return figure


def likelihood_figure(rows: Sequence[dict], title: str) -> Figure:
    """Histograms of the log-likelihood of the utterances, by thirds of the expert score.

    After Cheng et al., Interspeech 2020, who show them by score: they overlap where the likelihood says little of the score.
    """
    expert, loglik = column(rows, "score"), column(rows, "loglik")
    axes = (figure := new_figure(title, 3.2)).subplots()
    edges = np.linspace(loglik.min(), loglik.max() + 1e-6, BINS + 1)
    parts = np.array_split(np.argsort(expert, kind="stable"), len(GROUPS))
    for name, part, colour in zip(GROUPS, parts, (ORANGE, REFERENCE, BLUE)):
        label = f"{name}: {expert[part].min():.3g} to {expert[part].max():.3g}" if len(part) else name
        axes.hist(loglik[part], edges, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(loglik[part], edges, histtype="step", color=colour, lw=1.5, label=label)
    axes.set(xlabel="log-likelihood, nats per frame", ylabel="utterances")
    axes.legend(title="expert score", loc="upper left", fontsize=8)
    return figure


def draw(exp: str, tables: Mapping[str, Sequence[dict]]) -> NamedFigures:
    """Both figures of each set.

    Args:
        exp: experiment, for titles.
        tables: rows of ``assess/<set>.tsv`` by set.
    """
    for name, rows in tables.items():
        yield f"{KIND}_{name}", assess_figure(rows, f"{exp}: {name}, expert scores predicted by all predictors")
        yield f"{KIND}_loglik_{name}", likelihood_figure(rows, f"{exp}: {name}, log-likelihood by expert score")


def make_plots(exp: Path, config: Config) -> list[Path]:
    """Write ``plots/assess_<set>.png`` and ``assess_loglik_<set>.png`` of every set with predicted and expert scores.

    Those of earlier runs are removed.
    """
    folder, paths = exp / PLOTS, sorted((exp / ASSESS).glob("*.tsv"))
    tables = {path.stem: [row for row in read_tsv(path) if row["score"]] for path in paths if config.plots.enabled}
    tables = {name: rows for name, rows in tables.items() if rows}
    shown = drawn_sets(list(tables), config) if tables else []
    figures = draw(exp.resolve().name, {name: tables[name] for name in shown})
    written = write_figures(figures, folder, config.plots.dpi)
    for path in sorted(set(folder.glob(f"{KIND}_*.png")) - set(written)):
        path.unlink()
    if written:
        log.info("%d pictures of predicted scores in %s", len(written), folder)
    return written

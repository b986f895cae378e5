"""Accuracy of pieces of recordings by their duration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from dnf.experiment.config import Config
from dnf.experiment.layout import PIECES_TSV
from dnf.experiment.tables import each_row
from dnf.metrics.figure_rows import share_row

LEAST_SPEAKERS = 5  # fewest speakers of a class for a row
TOP = 0.1  # share of the dims with the highest Fisher ratios


def duration_rows(pieces: Sequence[dict], config: Config) -> list[dict]:
    """Rows of ``durations.tsv``: accuracy of pieces of each set and number of seconds, by class and over all.

    A class with fewer than ``LEAST_SPEAKERS`` speakers has no row, and then ``all`` has none either. Some speakers have only
    short pieces, so durations have different speakers; column ``speakers`` has their number.

    Args:
        pieces: rows of ``pieces.tsv``.
        config: resamples and seed for the intervals.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for piece in pieces:
        groups.setdefault((piece["set"], piece["seconds"]), []).append(piece)
    rows = []
    for (name, seconds), cut in groups.items():
        of_class: dict[str, list[dict]] = {}
        for piece in cut:
            of_class.setdefault(piece["class"], []).append(piece)
        present = sorted(of_class)
        enough = [c for c in present if len({p["speaker"] for p in of_class[c]}) >= LEAST_SPEAKERS]
        for true in enough + (["all"] if len(enough) == len(present) > 1 else []):
            hits = [
                (p["speaker"], int(p["decision"] == p["class"]), 1) for p in (cut if true == "all" else of_class[true])
            ]
            names = {"set": name, "class": true, "seconds": seconds}
            rows.append(share_row("duration_accuracy", hits, config.report.bootstrap, config.seed, **names))
    return rows


def durations(exp: Path, config: Config, sets: Collection[str] | None = None) -> list[dict]:
    """Rows of ``durations.tsv`` of some sets, or of all; none if the model makes no decisions."""
    path = exp / PIECES_TSV
    pieces = each_row(path) if path.is_file() else ()
    return duration_rows([row for row in pieces if sets is None or row["set"] in sets], config)


def top_share(ratios: np.ndarray) -> float:
    """Share of the highest tenth of Fisher ratios ``(D,)`` in their sum."""
    highest = np.sort(ratios)[::-1][: max(1, round(TOP * len(ratios)))]
    return float(highest.sum() / ratios.sum()) if ratios.any() else 0.0

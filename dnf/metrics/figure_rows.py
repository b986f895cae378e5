"""Rows of figures with their intervals and counts: ``accuracy.tsv`` and ``results.tsv``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dnf.metrics.bootstrap import fewest, share_interval

COLUMNS = ("system", "metric", "set", "class", "decided", "value", "low", "high", "count", "total", "speakers")


def p_text(p: float | str, metric: str, resamples: int) -> str:
    """``p 0.0123``, or ``p < 0.002`` at the resolution of the resamples; nothing without a p-value."""
    if p in ("", None):
        return ""
    floor = (1 if "accuracy" in metric else 2) / (resamples + 1)
    if float(p) > floor * 1.001:
        return f"p {float(p):.4f}"
    unit = 10.0 ** math.floor(math.log10(floor))
    return f"p < {math.ceil(floor / unit) * unit:.6g}"


def row_of(
    value: float,
    ends: tuple[float, float] | None,
    speakers: Sequence[str],
    strata: Sequence | None = None,
    **names: str,
) -> dict:
    """A row of ``accuracy.tsv``: a figure of U utterances with the ends of its interval, empty if it has none.

    Args:
        value: the figure.
        ends: of its interval.
        speakers: of each utterance.
        strata: class of each utterance, where the figure needs every class.
        names: more columns: metric, set, class ...
    """
    low, high = (f"{end:.6f}" for end in ends) if ends else ("", "")
    figures = {
        "value": f"{value:.6f}",
        "low": low,
        "high": high,
        "total": len(speakers),
        "speakers": len(set(speakers)),
        "fewest": fewest(speakers, strata),
    }
    return names | figures


def share_row(metric: str, rows: list[tuple[str, float, float]], resamples: int, seed: int, **names: str) -> dict:
    """A share with its interval from ``(speaker, hits, total)`` of each utterance."""
    hits, totals = {}, {}
    for speaker, hit, total in rows:
        hits[speaker] = hits.get(speaker, 0) + hit
        totals[speaker] = totals.get(speaker, 0) + total
    count, total = sum(hits.values()), sum(totals.values())
    pairs = np.array([(hits[speaker], totals[speaker]) for speaker in totals], dtype=float).T
    ends = share_interval(*pairs, resamples, seed)
    return row_of(count / total, ends, list(totals), metric=metric, **names) | {"count": count, "total": total}


COLUMNS += ("fewest", "p")  # speakers of the class that has the fewest, where an interval needs every class; p-value

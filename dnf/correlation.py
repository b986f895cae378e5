"""Correlation of the utterances' log-likelihood ratio with expert scores, with intervals over speakers."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dnf import bootstrap

COEFFICIENTS = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
LEAST = 3  # points below which a correlation says nothing


def coefficient(name: str, x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's r or Spearman's rho of ``x`` and ``y`` ``(N,)``; None for too few points or a constant."""
    if len(x) < LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(COEFFICIENTS[name](x, y).statistic)


def by_speaker(
    ratios: np.ndarray, scores: np.ndarray, speakers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each speaker's mean ratio and mean score, and the speakers, sorted."""
    names, index = np.unique(speakers, return_inverse=True)
    count = np.bincount(index)
    return np.bincount(index, ratios) / count, np.bincount(index, scores) / count, names


def interval(
    name: str, ratios: np.ndarray, scores: np.ndarray, speakers: np.ndarray, resamples: int, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval by bootstrap over speakers; None for few speakers, or if most resamples have none."""
    rows = [np.flatnonzero(speakers == speaker) for speaker in np.unique(speakers)]
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        chosen = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        value = coefficient(name, ratios[chosen], scores[chosen])
        if value is not None:
            found.append(value)
    if len(rows) < bootstrap.LEAST or len(found) < resamples / 2:
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def correlation_rows(
    ratios: list[float], scores: list[float], speakers: list[str], resamples: int, seed: int, **names: str
) -> list[dict]:
    """Rows of ``accuracy.tsv``: both coefficients at utterance and at speaker level; none where there is no correlation.

    Args:
        ratios, scores, speakers: of each scored utterance.
        names: set and class, for the rows.
    """
    utterances = np.array(ratios), np.array(scores), np.array(speakers)
    rows = []
    for level, (x, y, who) in {"utt": utterances, "speaker": by_speaker(*utterances)}.items():
        for name in COEFFICIENTS:
            value = coefficient(name, x, y)
            if value is None:
                continue
            ends = interval(name, x, y, who, resamples, seed)
            low, high = (f"{end:.6f}" for end in ends) if ends else ("", "")
            row = {"metric": f"{level}_{name}", **names, "value": f"{value:.6f}", "low": low, "high": high}
            rows.append(row | {"total": len(x), "speakers": len(np.unique(who))})
    return rows

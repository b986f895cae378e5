"""Correlation of the utterances' log-likelihood ratio with expert scores, with intervals over speakers.

Weights ``(R, U)`` count each utterance several times (``dnf.metrics.bootstrap``) and give R coefficients at once; a coefficient
of a constant is NaN.
"""

from __future__ import annotations

import numpy as np

LEAST = 3  # fewest points, and speakers, of a correlation


def varies(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether a resample of ``values`` ``(U,)`` has different values, ``(R,)`` bool."""
    drawn = weights > 0
    return np.where(drawn, values, -np.inf).max(1) > np.where(drawn, values, np.inf).min(1)


def product_moment(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r ``(R,)`` of values ``(U,)`` or, of each resample its own, ``(R, U)``; both vary."""
    total = weights.sum(1, keepdims=True)
    x, y = (values - (weights * values).sum(1, keepdims=True) / total for values in (x, y))
    squares = (weights * x * x).sum(1) * (weights * y * y).sum(1)
    return np.clip((weights * x * y).sum(1) / np.sqrt(squares), -1, 1)


def ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ranks ``(R, U)`` of values ``(U,)`` among those that each resample drew, from 0; equal ones have their mean."""
    distinct, index = np.unique(values, return_inverse=True)
    order = np.argsort(index, kind="stable")
    equal = np.add.reduceat(weights[:, order], np.searchsorted(index[order], np.arange(len(distinct))), axis=1)
    return (np.cumsum(equal, axis=1) - (equal + 1) / 2)[:, index]


def pearson(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of ``x`` and ``y`` ``(U,)`` in each resample, ``(R,)``; NaN for a constant."""
    coefficients, usable = np.full(len(weights), np.nan), varies(weights, x) & varies(weights, y)
    coefficients[usable] = product_moment(weights[usable], x, y)
    return coefficients


def spearman(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of ``x`` and ``y`` ``(U,)`` in each resample, ``(R,)``; NaN for a constant."""
    coefficients, usable = np.full(len(weights), np.nan), varies(weights, x) & varies(weights, y)
    coefficients[usable] = product_moment(weights[usable], ranks(weights[usable], x), ranks(weights[usable], y))
    return coefficients


COEFFICIENTS = {"pearson": pearson, "spearman": spearman}


def by_speaker(
    ratios: np.ndarray, scores: np.ndarray, speakers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ratio and mean score ``(S,)`` of each speaker, and the S speakers, sorted; from utterances ``(U,)``."""
    names, index = np.unique(speakers, return_inverse=True)
    count = np.bincount(index)
    return np.bincount(index, ratios) / count, np.bincount(index, scores) / count, names

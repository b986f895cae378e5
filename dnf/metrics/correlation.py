"""How well a number of each utterance, such as its log-likelihood ratio, agrees with expert scores.

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


def rmse(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Root of the mean squared difference of ``x`` and ``y`` ``(U,)`` in each resample, ``(R,)``."""
    return np.sqrt(weights @ (x - y) ** 2 / weights.sum(1))


COEFFICIENTS = {"pearson": pearson, "spearman": spearman}
AGREEMENT = COEFFICIENTS | {"rmse": rmse}


def partial(weights: np.ndarray, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Pearson's r of ``x`` and ``y`` without what is linear in ``given``, all ``(U,)``, in each resample, ``(R,)``."""
    xy, xg, yg = (pearson(weights, *pair) for pair in ((x, y), (x, given), (y, given)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xy - xg * yg) / np.sqrt((1 - xg**2) * (1 - yg**2))


def pairwise(weights: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Mean of Pearson's r over the pairs of experts in each resample, ``(R,)``.

    Args:
        weights: ``(R, U)``.
        marks: ``(U, E)``, NaN where an expert gave none.
    """
    pairs = [(marks[:, i], marks[:, j]) for i in range(marks.shape[1]) for j in range(i)]
    return mean_of_experts(weights, pairs)


def one_against_others(weights: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Mean over the experts of Pearson's r of one's marks and the mean of the others'; arguments as of ``pairwise``."""
    given, total = np.isfinite(marks).sum(1), np.nansum(marks, 1)
    pairs = []
    for own in marks.T:
        others = np.where(np.isfinite(own) & (given > 1), total - np.nan_to_num(own), np.nan) / np.maximum(given - 1, 1)
        pairs.append((own, others))
    return mean_of_experts(weights, pairs)


def mean_of_experts(weights: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Mean of Pearson's r ``(R,)`` of pairs ``(U,)``, each of the utterances that have both; NaN if one is not defined."""
    both = [np.isfinite(x) & np.isfinite(y) for x, y in pairs]
    return np.mean([pearson(weights[:, has], x[has], y[has]) for has, (x, y) in zip(both, pairs) if has.any()], axis=0)


def by_speaker(speakers: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means ``(S,)`` of each speaker of columns ``(U,)``, and the S speakers, sorted."""
    names, index = np.unique(speakers, return_inverse=True)
    count = np.bincount(index)
    return *(np.bincount(index, column) / count for column in columns), names

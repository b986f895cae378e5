"""The effective number of independent frames of an utterance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LAGS = 100  # vectors; longer correlations are the utterance's


def autocovariance(series: Iterable[np.ndarray], lags: int = LAGS) -> np.ndarray:
    """Autocovariance ``(L,)``, L <= lags + 1, of the log-likelihood ratio of two classes, mean over their pairs.

    Args:
        series: log p(x | k) ``(n, K)`` of the frames of each utterance, nats.
        lags: the longest lag, in vectors.
    """
    sums, counts = np.zeros(lags + 1), np.zeros(lags + 1)
    for loglik in series:
        n, classes = loglik.shape
        if n < 2 or classes < 2:
            continue
        x = loglik - loglik.mean(1, keepdims=True)
        spectrum = np.fft.rfft(x - x.mean(0), 2 * n, axis=0)
        reach = min(n, lags + 1)
        # the mean product of differences over K (K - 1) / 2 pairs is 2 / (K - 1) times the sum over centred classes
        sums[:reach] += 2 / (classes - 1) * np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:reach].sum(1)
        counts[:reach] += n - np.arange(reach)
    covariance = sums[counts > 0] / counts[counts > 0]
    if len(covariance) < 2 or covariance[0] <= 0:
        return covariance[:1]
    pairs = covariance[: len(covariance) // 2 * 2].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs <= 0)
    return covariance[: 2 * ends[0] if len(ends) else len(covariance)] if pairs[0] > 0 else covariance[:1]


def effective_frames(frames: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """How many independent frames ``frames`` ``(U,)`` correlated ones are worth, ``(U,)`` float64, at least 1.

    Args:
        frames: counts.
        covariance: autocovariance from lag 0 on; without further lags frames are independent.
    """
    n, place = np.unique(np.maximum(np.asarray(frames, dtype=float), 1.0), return_inverse=True)
    if len(covariance) > 1 and covariance[0] > 0:
        lags = np.arange(1, len(covariance))
        weights = np.clip(1 - lags / n[:, None], 0, None)
        n = np.clip(n / (1 + 2 * weights @ (covariance[1:] / covariance[0])), 1, n)
    return n[place]


def observed(frames: np.ndarray, covariance: np.ndarray, window: float) -> np.ndarray:
    """How many observations frames ``(U,)`` are worth, ``(U,)`` float64, at least 1.

    Args:
        frames: counts.
        covariance: as for ``effective_frames``; empty: not known, and windows side by side are counted.
        window: hops that a vector spans.
    """
    if len(covariance):
        return effective_frames(frames, covariance)
    return np.maximum(1.0, np.asarray(frames, dtype=float) / window)

"""What the frames of an utterance say together: mean log-likelihoods, and how many independent frames they are worth.

Neighbouring frames share a phone, and neighbouring vectors share frames where the windows overlap, so log-likelihoods
of frames must not be added as if each were news. The mean of n frames whose log-likelihood ratio has autocovariance
gamma_0, gamma_1, ... has the variance

    v(n) = (gamma_0 + 2 sum_{k=1}^{n-1} (1 - k/n) gamma_k) / n

(Bartlett, "On the theoretical specification and sampling properties of autocorrelated time-series", JRSS Suppl. 8,
1946), so the utterance is worth gamma_0 / v(n) independent frames. The autocovariance is pooled over utterances, and
cut off where the sum of a pair of neighbouring lags stops being positive: the initial positive sequence of Geyer,
"Practical Markov chain Monte Carlo", Statistical Science 7, 1992, section 3.3. Each utterance's own mean is taken off
first: what an utterance or its speaker has for good is no correlation of frames but the business of calibration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.config import Data
from dnf.score import Latents
from dnf.sets import name_of

LAGS = 100  # vectors; longer correlations are the utterance's


class Evidence(NamedTuple):
    """Evidence of the U utterances of a set about K classes.

    Attributes:
        classes: the K classes.
        utts: rows of utts.tsv.
        mean: ``(U, K)`` float64, mean over frames of log p(x | k), nats.
        frames: ``(U,)`` int64.
        effective: ``(U,)`` float64, how many independent frames those are worth, 1 to ``frames``.
        covariance: ``(L,)`` float64, autocovariance of the frames' log-likelihood ratio from lag 0 on, nats squared.
    """

    classes: list[str]
    utts: Sequence[dict]
    mean: np.ndarray
    frames: np.ndarray
    effective: np.ndarray
    covariance: np.ndarray = np.zeros(0)

    def only(self, rows: np.ndarray) -> Evidence:
        """Some utterances, by number."""
        arrays = {name: getattr(self, name)[rows] for name in ("mean", "frames", "effective")}
        return self._replace(utts=[self.utts[row] for row in rows], **arrays)


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
    n, of = np.unique(np.maximum(np.asarray(frames, dtype=float), 1.0), return_inverse=True)
    if len(covariance) > 1 and covariance[0] > 0:
        lags = np.arange(1, len(covariance))
        weights = np.clip(1 - lags / n[:, None], 0, None)
        n = np.clip(n / (1 + 2 * weights @ (covariance[1:] / covariance[0])), 1, n)
    return n[of]


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


def evidence(latents: Latents, covariance: np.ndarray | None = None) -> Evidence:
    """Evidence of every utterance of a set.

    Args:
        latents: of the set.
        covariance: autocovariance of the frames' log-likelihood ratio, as found on dev; None finds it on the utterances
            of this set whose class the model knows, empty if there are none.
    """
    frames = np.array([utt["rows"] for utt in latents.utts], dtype=np.int64)
    mean = np.zeros((len(frames), len(latents.classes)))
    for own, utt in zip(mean, latents.utts):
        own[:] = latents.loglik(utt).mean(0)
    if covariance is None:
        covariance = autocovariance(latents.loglik(utt) for utt in latents.utts if utt["class"] in latents.classes)
    return Evidence(latents.classes, latents.utts, mean, frames, effective_frames(frames, covariance), covariance)


def dev_covariance(exp: Path, data: Data) -> np.ndarray:
    """Autocovariance of the frames' log-likelihood ratio on an experiment's dev; empty if its latents are not there."""
    folder = exp / "latents" / name_of(data, "dev")
    return evidence(Latents.open(folder)).covariance if (folder / "meta.json").is_file() else np.zeros(0)

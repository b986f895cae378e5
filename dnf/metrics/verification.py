"""Figures of verification trials with intervals over speakers, in memory for ten millions of trials.

A trial has two speakers, and the trials of one speaker are not independent. A resample draws speakers, and a trial counts as
often as both of its speakers together: once for a target trial, w_a w_b times for a nontarget trial of speakers a and b. For
the resamples, scores are in bins, so each costs a histogram.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dnf.metrics import detection
from dnf.metrics.bootstrap import LEAST, draws, quantiles

BINS = 4000  # bins of scores for intervals
MOST = 1_000_000  # most target and most nontarget trials for intervals, drawn at random
PRIORS = {"min_dcf_01": 0.01, "min_dcf_05": 0.05}  # of a target, costs 1


class Scored(NamedTuple):
    """N scored trials.

    Attributes:
        scores: ``(N,)``, high for a target.
        target: ``(N,)`` bool.
        enrolled, tested: ``(N,)`` numbers of the speakers, from 0 on.
        llr: ``(N,)`` calibrated log-likelihood ratios, nats; None without a calibration.
    """

    scores: np.ndarray
    target: np.ndarray
    enrolled: np.ndarray
    tested: np.ndarray
    llr: np.ndarray | None = None

    def sample(self, seed: int) -> Scored:
        """At most ``MOST`` trials of each kind."""
        rng, rows = np.random.default_rng(seed), []
        for kind in (self.target, ~self.target):
            of_kind = np.flatnonzero(kind)
            rows.append(of_kind if len(of_kind) <= MOST else rng.choice(of_kind, MOST, replace=False))
        rows = np.concatenate(rows)
        return Scored(*(None if array is None else array[rows] for array in self))


def measured(miss: np.ndarray, false: np.ndarray) -> dict[str, float]:
    """EER and minDCF from misses and false alarms ``(G,)`` of rising thresholds, the first 0 and 1, the last 1 and 0."""
    gap = miss - false
    after = int((gap >= 0).argmax())
    slope = (miss[after] - miss[after - 1]) / (gap[after] - gap[after - 1])
    figures = {"eer": float(miss[after - 1] - slope * gap[after - 1])}
    for name, prior in PRIORS.items():
        figures[name] = float((prior * miss + (1 - prior) * false).min() / prior)
    return figures


def figures(trials: Scored) -> dict[str, float]:
    """EER, minDCF at the priors of ``PRIORS`` and, if calibrated, Cllr of all trials."""
    miss, false = detection.error_rates(trials.scores, trials.target, np.ones((1, len(trials.scores))))
    found = measured(miss[0], false[0])
    return found if trials.llr is None else found | {"cllr": float(detection.cllr(trials.llr, trials.target))}


def rates(bins: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Misses and false alarms ``(BINS + 1,)`` of weighted trials in bins ``(N,)``."""
    below = []
    for kind in (target, ~target):
        counts = np.cumsum(np.bincount(bins[kind], weights[kind], BINS))
        below.append(np.append(0, counts) / counts[-1])
    return below[0], 1 - below[1]


def intervals(trials: Scored, resamples: int, seed: int) -> dict[str, tuple[float, float] | None]:
    """95 % percentile intervals over speakers of ``figures``; none below ``LEAST`` speakers."""
    names = np.union1d(trials.enrolled, trials.tested)
    if len(names) < LEAST:
        return {}
    edges = [np.quantile(trials.scores[kind], np.linspace(0, 1, BINS // 2)) for kind in (trials.target, ~trials.target)]
    bins = np.searchsorted(np.sort(np.concatenate(edges))[:-1], trials.scores)
    places = np.searchsorted(names, trials.enrolled), np.searchsorted(names, trials.tested)
    costs = None if trials.llr is None else detection.surprise(trials.llr, trials.target)
    values: dict[str, list[float]] = {}
    for block in draws([f"{n:09}" for n in range(len(names))], None, resamples, seed):
        for drawn in block:
            weights = np.where(trials.target, drawn[places[0]], drawn[places[0]] * drawn[places[1]])
            sums = [weights[kind].sum() for kind in (trials.target, ~trials.target)]
            if not all(sums):
                continue
            found = measured(*rates(bins, trials.target, weights))
            if costs is not None:
                kinds = (trials.target, ~trials.target)
                found["cllr"] = np.mean([weights[kind] @ costs[kind] / total for kind, total in zip(kinds, sums)])
            for name, value in found.items():
                values.setdefault(name, []).append(value)
    return {name: quantiles(np.array(of_name)) for name, of_name in values.items()}


def identified(scores: np.ndarray, target: np.ndarray, tested: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Test utterances that can be identified, and whether each is: its highest score is that of a target trial.

    Args:
        scores, target: of N trials.
        tested: ``(N,)`` number of the test utterance.
        count: number of test utterances.

    Returns:
        Numbers of the utterances with trials of both kinds ``(V,)``, and bool ``(V,)``.
    """
    best = np.full((2, count), -np.inf)
    for kind, row in ((target, best[0]), (~target, best[1])):
        np.maximum.at(row, tested[kind], scores[kind])
    both = np.flatnonzero(np.isfinite(best).all(0))
    return both, best[0, both] > best[1, both]


def affine(scores: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Slope and offset that turn scores ``(N,)`` into log-likelihood ratios, nats, by logistic regression; classes weigh equally."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    centre, scale = scores.mean(), scores.std() or 1.0
    fitted = LogisticRegression(C=1e6, class_weight="balanced").fit((scores[:, None] - centre) / scale, target)
    slope = float(fitted.coef_[0, 0]) / scale
    return slope, float(fitted.intercept_[0]) - slope * centre


def thinned(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False alarms and misses of a DET curve, at most ``BINS`` points of each kind of trial."""
    miss, false = detection.error_rates(scores, target, np.ones((1, len(scores))))
    kept = [np.searchsorted(rate, np.linspace(0, 1, BINS)) for rate in (miss[0], 1 - false[0])]
    rows = np.unique(np.clip(np.concatenate(kept), 0, miss.shape[1] - 1))
    return false[0, rows], miss[0, rows]

"""Measures of detection: AUC, EER, minimum detection cost, Cllr and its minimum, DET points.

Scores are log-likelihood ratios in nats, high for the target class. ``weights`` ``(R, U)`` count each utterance
several times (``dnf.metrics.bootstrap``) and give R figures at once; without them the figure is a float.

Cllr: Brummer & du Preez, "Application-independent evaluation of speaker detection", Computer Speech and Language 20,
2006; several classes: Brummer & van Leeuwen, "On calibration of language recognition scores", Odyssey 2006. Both are
the cost in bits of not knowing the class, with equal weights of the classes: log2 K (1 bit for two classes) for
scores without information.
"""

from __future__ import annotations

import numpy as np

from dnf.metrics.log_sum_exp import log_sum_exp


def error_rates(scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Misses and false alarms ``(R, G + 1)`` of rising thresholds: below all scores, above each of G distinct ones."""
    order = np.argsort(scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    rates = []
    for chosen in (target, ~target):
        of_class = chosen[order]
        below = np.cumsum(weights[:, order[of_class]], axis=1)
        below = np.concatenate([np.zeros((len(weights), 1)), below], axis=1)
        below = below[:, np.append(0, np.cumsum(of_class)[last])]
        with np.errstate(invalid="ignore"):  # a resample without the class has no rate
            rates.append(below / below[:, -1:])
    return rates[0], 1 - rates[1]


def checked(scores, target, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Arrays, weights of 1 where there are none, and whether there were none.

    Raises:
        ValueError: there is only one of the two classes.
    """
    scores, target = np.asarray(scores, dtype=float), np.asarray(target, dtype=bool)
    if not target.any() or target.all():
        raise ValueError("detection needs utterances of the target class and of the other")
    return scores, target, np.ones((1, len(scores))) if weights is None else weights, weights is None


def auc(scores: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Area under the ROC: chance that a target scores above another; a tie counts half.

    Args:
        scores: ``(U,)``.
        target: ``(U,)`` bool.
        weights: ``(R, U)`` or None.
    """
    scores, target, weights, single = checked(scores, target, weights)
    if single:
        return chance_above(scores[target], scores[~target])
    miss, false = error_rates(scores, target, weights)
    return (-np.diff(false, axis=1) * (2 - miss[:, 1:] - miss[:, :-1]) / 2).sum(1)


def chance_above(targets: np.ndarray, others: np.ndarray) -> float:
    """Chance that one of ``targets`` ``(T,)`` is above one of ``others`` ``(N,)``, at least one each; a tie counts half."""
    others = np.sort(others)
    below = others.searchsorted(targets) + others.searchsorted(targets, side="right")
    return float(below.sum() / (2 * len(targets) * len(others)))


def eer(scores: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Equal error rate, where the line through the DET points has as many misses as false alarms."""
    scores, target, weights, single = checked(scores, target, weights)
    miss, false = error_rates(scores, target, weights)
    gap = miss - false  # rises from -1 to 1
    after = (gap >= 0).argmax(1)[:, None]
    (m0, m1), (g0, g1) = ([np.take_along_axis(x, at, 1)[:, 0] for at in (after - 1, after)] for x in (miss, gap))
    rate = m0 + (m1 - m0) * -g0 / (g1 - g0)
    return float(rate[0]) if single else rate


def min_dcf(
    scores: np.ndarray,
    target: np.ndarray,
    prior: float = 0.5,
    cost_miss: float = 1.0,
    cost_false: float = 1.0,
    weights: np.ndarray | None = None,
) -> float | np.ndarray:
    """Detection cost at the best threshold, as a share of that of the better constant decision (1: useless).

    Args:
        scores, target, weights: as for ``auc``.
        prior: of the target class.
        cost_miss, cost_false: of a miss, and of a false alarm.
    """
    scores, target, weights, single = checked(scores, target, weights)
    miss, false = error_rates(scores, target, weights)
    of_miss, of_false = cost_miss * prior, cost_false * (1 - prior)
    cost = (of_miss * miss + of_false * false).min(1) / min(of_miss, of_false)
    return float(cost[0]) if single else cost


def surprise(loglik: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """-log2 of the true class's posterior under equal priors, ``(U,)`` bits; ``loglik``, ``columns`` as for ``cllr``."""
    loglik, columns = np.asarray(loglik, dtype=float), np.asarray(columns)
    if loglik.ndim == 1:
        return np.logaddexp(0, np.where(columns.astype(bool), -loglik, loglik)) / np.log(2)
    rows = np.arange(len(columns))
    return (log_sum_exp(loglik) - loglik[rows, columns]) / np.log(2)


def class_mean(values: np.ndarray, columns: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Mean of ``values`` ``(U,)`` over the utterances of each class, and of those over the classes there are."""
    single, weights = weights is None, np.ones((1, len(values))) if weights is None else weights
    order = np.argsort(columns, kind="stable")
    classes = np.split(order, np.flatnonzero(np.diff(columns[order].astype(int))) + 1)
    means = [(weights[:, rows] @ values[rows]) / weights[:, rows].sum(1) for rows in classes]
    mean = np.mean(means, axis=0)
    return float(mean[0]) if single else mean


def cllr(loglik: np.ndarray, columns: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Cost of log-likelihood ratios, bits.

    Args:
        loglik: ``(U,)`` log-likelihood ratios of two classes, or ``(U, K)`` log-likelihoods up to a constant of the
            utterance, nats.
        columns: ``(U,)``, whether an utterance is of the target class, or its class as a column of ``loglik``.
        weights: ``(R, U)`` or None.
    """
    return class_mean(surprise(loglik, columns), np.asarray(columns), weights)


def min_cllr(scores: np.ndarray, target: np.ndarray) -> float:
    """Cllr of the scores after the best monotone map (pool adjacent violators), the least that calibration can reach."""
    from sklearn.isotonic import IsotonicRegression  # slow to import

    scores, target, _, _ = checked(scores, target, None)
    weights = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum())
    posterior = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, target.astype(float), sample_weight=weights)
    of_true = np.where(target, posterior, 1 - posterior)
    return float(weights @ -np.log2(np.clip(of_true, np.finfo(float).tiny, 1)))


def det_points(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False alarms and misses ``(G,)`` of rising thresholds, for a DET plot."""
    from sklearn.metrics import det_curve  # slow to import

    scores, target, _, _ = checked(scores, target, None)
    false, miss, _ = det_curve(target, scores)
    return false, miss

"""Intervals by bootstrap over speakers, not utterances: those of one speaker are not independent.

A resample is a number of times that each speaker is drawn; statistics take those numbers as weights ``(R, U)`` of the
utterances, so R resamples cost a few matrix products. Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13 (percentile intervals); drawing whole clusters: Davison & Hinkley, "Bootstrap Methods and their
Application", 1997, section 3.8.

Percentile intervals are too narrow with few speakers, and have no width where all are right. So below ``LEAST``
speakers there is none, and a share has the interval of Korn & Graubard, "Confidence intervals for proportions with
small expected number of positive counts estimated from survey data", Survey Methodology 24, 1998: that of Clopper and
Pearson for as many independent trials as the bootstrap says that the utterances are worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

CELLS = 2_000_000  # weights held at once
ENDS = (0.025, 0.975)
LEAST = 5  # speakers of a stratum below which there is no percentile interval and no p-value
EXACT = 12  # speakers up to whom all signs of a permutation are tried
FEW = 10  # speakers of a stratum below which a percentile interval is marked as one of few

Statistic = Callable[..., np.ndarray]  # (weights (R, U), *arrays) -> (R,)


def weighted_share(weights: np.ndarray, hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """sum(hits) / sum(totals) of each resample: an accuracy of utterances, or of frames."""
    return (weights @ hits) / (weights @ totals)


def draws(speakers: Sequence[str], strata: Sequence[str] | None, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights ``(R, U)`` of the utterances, in blocks of resamples: how often the speaker of each was drawn.

    With ``strata`` as many speakers of each stratum are drawn as there are; one who is in several, such as a speaker of
    two languages, is drawn among those who are in the same ones.
    """
    names, index = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    groups = np.zeros(len(names), dtype=int)
    if strata is not None:
        labels, label = np.unique(np.asarray(strata), return_inverse=True)
        member = np.zeros((len(names), len(labels)), dtype=bool)
        member[index, label] = True
        groups = np.unique(member, axis=0, return_inverse=True)[1].ravel()
    rng, block = np.random.default_rng(seed), max(1, CELLS // max(1, len(index)))
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        counts = np.zeros((size, len(names)))
        for group in range(groups.max() + 1):
            members = np.flatnonzero(groups == group)
            even = np.full(len(members), 1 / len(members))
            counts[:, members] = rng.multinomial(len(members), even, size)
        yield counts[:, index]


def fewest(speakers: Sequence[str], strata: Sequence[str] | None) -> int:
    """Number of speakers of the stratum that has the fewest."""
    pairs = set(zip(strata, speakers)) if strata is not None else {("", speaker) for speaker in speakers}
    return min(Counter(stratum for stratum, _ in pairs).values(), default=0)


def quantiles(values: np.ndarray) -> tuple[float, float] | None:
    """The ends of the interval of resampled values; None if most are not defined."""
    values = values[np.isfinite(values)] if np.isfinite(values).sum() >= len(values) / 2 else values[:0]
    return tuple(float(end) for end in np.quantile(values, ENDS)) if len(values) else None


def interval(
    statistic: Statistic,
    speakers: Sequence[str],
    *arrays: np.ndarray,
    strata: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 1,
) -> tuple[float, float] | None:
    """95 % percentile interval; None if a stratum has fewer than ``LEAST`` speakers.

    Args:
        statistic: of weights ``(R, U)`` and the arrays, ``(R,)``.
        speakers: of each of U utterances.
        arrays: what the statistic needs of the utterances.
        strata: classes of the utterances, where a resample must have every class; None draws among all speakers.
        resamples: how many.
        seed: of the draws.
    """
    if fewest(speakers, strata) < LEAST:
        return None
    values = [statistic(weights, *arrays) for weights in draws(speakers, strata, resamples, seed)]
    return quantiles(np.concatenate(values))


def gap(
    statistic: Statistic,
    a: tuple[Sequence[str], Sequence | None, Sequence[np.ndarray]],
    b: tuple[Sequence[str], Sequence | None, Sequence[np.ndarray]],
    resamples: int = 1000,
    seed: int = 1,
) -> tuple[float, float | None, float | None]:
    """Difference of a statistic between two sets of utterances, with its interval.

    Speakers who are in both, with the same classes, are drawn together, so what they add to both figures cancels; the
    others are drawn within their set.

    Args:
        statistic: of weights and arrays.
        a, b: speakers of the utterances, strata or None, and what the statistic needs of them.
        resamples, seed: of the draws.

    Returns:
        Statistic of a minus that of b, low and high; None if a stratum of either has fewer than ``LEAST`` speakers.
    """
    ones = [np.ones((1, len(speakers))) for speakers, _, _ in (a, b)]
    difference = float((statistic(ones[0], *a[2]) - statistic(ones[1], *b[2]))[0])
    if min(fewest(speakers, strata) for speakers, strata, _ in (a, b)) < LEAST:
        return difference, None, None
    everyone, of_a = [*a[0], *b[0]], len(a[0])
    places = [f"{n} {label}" for n, (who, strata, _) in enumerate((a, b)) for label in strata or [""] * len(who)]
    drawn = draws(everyone, places, resamples, seed)
    values = [statistic(w[:, :of_a], *a[2]) - statistic(w[:, of_a:], *b[2]) for w in drawn]
    return difference, *(quantiles(np.concatenate(values)) or (None, None))


def paired_share(
    speakers: Sequence[str], a_hits: np.ndarray, b_hits: np.ndarray, resamples: int = 1000, seed: int = 1
) -> tuple[float, float | None, float | None, float | None]:
    """``paired`` of accuracies of utterances, the p-value that of a permutation over speakers.

    Were the systems alike, a speaker's difference in right utterances could as well have the other sign: the p-value is
    the share of all signs, of those speakers who have a difference, that differ as much in either direction. Beyond
    ``EXACT`` such speakers it is of ``resamples`` random signs, with 1 added to both counts.

    Args:
        speakers: of each of U utterances.
        a_hits, b_hits: ``(U,)`` 1 where the system is right.
        resamples, seed: of the interval, and of the signs.
    """
    ones = np.ones(len(speakers))
    difference, low, high, p = paired(weighted_share, speakers, (a_hits, ones), (b_hits, ones), None, resamples, seed)
    if p is None:
        return difference, None, None, None
    names, index = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    gains = np.bincount(index, np.asarray(a_hits, float) - b_hits, len(names))
    gains = gains[gains != 0]
    if len(gains) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(gains))[:, None] >> np.arange(len(gains)) & 1)
        extreme, tried = 0, len(signs)
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), (resamples, len(gains)))
        extreme, tried = 1, resamples + 1
    extreme += int((np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9).sum())
    return difference, low, high, extreme / tried


def share_interval(hits: np.ndarray, totals: np.ndarray, resamples: int, seed: int) -> tuple[float, float] | None:
    """95 % interval of ``sum(hits) / sum(totals)`` by Korn & Graubard; None for fewer than two speakers.

    The bootstrap's variance says how many independent trials the share is worth, at most as many as there are;
    Student's quantile for one speaker less than there are makes them fewer, since that variance is uncertain. A share
    of 0 or 1 has no variance to go by: every speaker is then one trial.

    Args:
        hits, totals: sums ``(S,)`` of each speaker.
        resamples: how many.
        seed: of the draws.
    """
    from scipy import stats  # slow to import, and reading figures does not need it

    speakers = len(totals)
    if speakers < 2:
        return None
    count, trials = float(hits.sum()), float(totals.sum())
    p = count / trials
    if 0 < count < trials:
        names = [str(number) for number in range(speakers)]
        values = np.concatenate([weighted_share(w, hits, totals) for w in draws(names, None, resamples, seed)])
        variance = values.var() * speakers / (speakers - 1)
        worth = min(trials, p * (1 - p) / variance) if variance > 0 else trials
        worth *= (stats.t.ppf(ENDS[1], trials - 1) / stats.t.ppf(ENDS[1], speakers - 1)) ** 2
    else:
        worth = float(speakers)
    right, wrong = p * worth, (1 - p) * worth
    low = float(stats.beta.ppf(ENDS[0], right, wrong + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(ENDS[1], right + 1, wrong)) if count < trials else 1.0
    return low, high


def paired(
    statistic: Statistic,
    speakers: Sequence[str],
    a_arrays: Sequence[np.ndarray],
    b_arrays: Sequence[np.ndarray],
    strata: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 1,
) -> tuple[float, float | None, float | None, float | None]:
    """Difference of a statistic between systems a and b on the same utterances, with its interval and p-value.

    The same speakers are drawn for both, so what makes an utterance hard for both cancels. The p-value is two-sided:
    twice the smaller share of resamples in which the difference is not above, or not below, 0 (Davison & Hinkley,
    section 4.4, with 1 added to both counts so that it is never 0).

    Returns:
        Statistic of a minus that of b, low, high, p; the last three None if a stratum has fewer than ``LEAST``
        speakers.
    """
    once = np.ones((1, len(speakers)))
    difference = float((statistic(once, *a_arrays) - statistic(once, *b_arrays))[0])
    if fewest(speakers, strata) < LEAST:
        return difference, None, None, None
    values = np.concatenate(
        [statistic(w, *a_arrays) - statistic(w, *b_arrays) for w in draws(speakers, strata, resamples, seed)]
    )
    ends, defined = quantiles(values), values[np.isfinite(values)]
    if ends is None:
        return difference, None, None, None
    tail = min((defined <= 0).sum(), (defined >= 0).sum())
    return difference, *ends, float(min(1.0, 2 * (tail + 1) / (len(defined) + 1)))

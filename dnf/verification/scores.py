"""Scores of trials by a back-end, in blocks of enrolments, and their adaptive normalization (as-norm) with a cohort.

As-norm: Matejka et al., "Analysis of score normalization in multilingual speaker recognition", Interspeech 2017.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dnf.models.backends import Groups
from dnf.verification.trial_list import Enrolments, TrialList

ENROLMENTS = 256  # enrolments of a block
TESTS = 10_000  # test vectors whose features are made at once
COHORT = 300  # highest scores of the cohort that as-norm takes


class Backend(Protocol):
    """What ``dnf.models.backends`` has: features whose products are the scores."""

    def prepared(self, x: np.ndarray) -> np.ndarray: ...

    def enrolled(self, groups: Groups) -> np.ndarray: ...

    def tested(self, prepared: np.ndarray) -> np.ndarray: ...


class Features:
    """Prepared vectors of a set, float32, from which the features of enrolments and test vectors are made as they are needed.

    Args:
        backend: fitted.
        x: ``(U, D)`` vectors of the set; may be mapped from disk.
        enrolments: of the set.
    """

    def __init__(self, backend: Backend, x: np.ndarray, enrolments: Enrolments):
        parts = (np.asarray(x[first : first + TESTS], np.float64) for first in range(0, len(x), TESTS))
        self.backend = backend
        self.prepared = np.concatenate([backend.prepared(part).astype(np.float32) for part in parts])
        self.groups = Groups.of(self.prepared[enrolments.members], enrolments.of, len(enrolments.names))

    def enrolled(self, rows: slice) -> np.ndarray:
        """Features of some enrolments."""
        return self.backend.enrolled(Groups(self.groups.counts[rows], self.groups.means[rows]))

    def tested(self, rows: np.ndarray) -> np.ndarray:
        """Features of the test vectors of some rows."""
        return self.backend.tested(self.prepared[rows].astype(np.float64))


def trial_scores(features: Features, trials: TrialList) -> np.ndarray:
    """Scores ``(N,)`` of the trials; in memory are those of a block of enrolments with a block of its test vectors."""
    scores = np.empty(len(trials.target))
    order = np.argsort(trials.enrolled, kind="stable")
    firsts = np.arange(0, len(features.groups.counts), ENROLMENTS)
    ends = np.append(np.searchsorted(trials.enrolled[order], firsts), len(order))
    for first, start, end in zip(firsts, ends, ends[1:]):
        if start == end:
            continue
        block, enrolled = order[start:end], features.enrolled(slice(first, first + ENROLMENTS))
        used, place = np.unique(trials.tested[block], return_inverse=True)
        for left in range(0, len(used), TESTS):
            mine = (place >= left) & (place < left + TESTS)
            matrix = enrolled @ features.tested(used[left : left + TESTS]).T
            scores[block[mine]] = matrix[trials.enrolled[block[mine]] - first, place[mine] - left]
    return scores


def cohort_statistics(backend: Backend, groups: Groups, cohort: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``(G,)`` of the ``COHORT`` highest scores of groups of prepared vectors against features of the cohort."""
    most = min(COHORT, len(cohort))
    means, deviations = np.empty(len(groups.counts)), np.empty(len(groups.counts))
    for first in range(0, len(means), ENROLMENTS):
        rows = slice(first, first + ENROLMENTS)
        scores = backend.enrolled(Groups(groups.counts[rows], groups.means[rows])) @ cohort.T
        highest = np.partition(scores, len(cohort) - most, axis=1)[:, len(cohort) - most :]
        means[rows], deviations[rows] = highest.mean(1), highest.std(1)
    return means, np.maximum(deviations, np.finfo(np.float32).tiny)


def as_norm(scores: np.ndarray, features: Features, trials: TrialList, cohort: np.ndarray) -> np.ndarray:
    """Scores ``(N,)`` normalized by those of the enrolment and of the test vector against a cohort.

    Args:
        scores: of the trials.
        features: of the set.
        trials: N.
        cohort: ``(C, D)`` vectors, such as the means of the training speakers.
    """
    backend, tested = features.backend, np.unique(trials.tested)
    of_cohort = backend.tested(backend.prepared(np.asarray(cohort, np.float64)))
    single = Groups(np.ones(len(tested), int), features.prepared[tested].astype(np.float64))
    places = trials.enrolled, np.searchsorted(tested, trials.tested)
    sides = (cohort_statistics(backend, groups, of_cohort) for groups in (features.groups, single))
    return sum((scores - mean[place]) / deviation[place] for (mean, deviation), place in zip(sides, places)) / 2

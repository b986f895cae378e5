"""Rows of ``accuracy.tsv`` on what a log-likelihood ratio detects: unseen classes against each known class.

A ratio of native against Mandarin readers can detect Mandarin, or any non-native accent. The AUC of the two classes does not
show which. If unseen accents are as far from the native readers as Mandarin is, and no ratio separates them from Mandarin, the
ratio detects any non-native accent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from dnf.decisions.detection_rows import weighted
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.config import Config
from dnf.experiment.sets import fitted_sets
from dnf.metrics import detection
from dnf.metrics.bootstrap import interval
from dnf.metrics.figure_rows import row_of
from dnf.metrics.figures import MOST_CLASSES
from dnf.metrics.trials import MOST_PAIRS, Trials, joined


def ratio(trials: Trials, known: str) -> np.ndarray:
    """Mean log-likelihood ratio ``(U,)`` per frame of a known class against the best of the others, nats."""
    place, mean = list(trials.classes).index(known), trials.scores["mean"]
    return mean[:, place] - np.delete(mean, place, axis=1).max(axis=1)


def nearest(unseen: Trials, known: Sequence[str]) -> list[str]:
    """Known classes, in their order; of more than ``MOST_PAIRS``, those of highest mean log-likelihood."""
    likely = dict(zip(unseen.classes, unseen.scores["mean"].mean(axis=0)))
    chosen = set(sorted(known, key=likely.get, reverse=True)[:MOST_PAIRS])
    return [name for name in known if name in chosen]


def known_pools(sets: Mapping[str, Trials], config: Config) -> dict[str, dict[str, Trials]]:
    """Utterances of each known class for comparison with the unseen classes of each test set: its own, else all test sets'.

    Args:
        sets: utterances of known classes, by set.
        config: names train, dev and the views.
    """
    tests = {name: trials for name, trials in sets.items() if name not in fitted_sets(config.data)}
    whole = [trials for name, trials in tests.items() if name not in config.data.views and len(trials)]
    everyone = joined(whole) if whole else None
    pools: dict[str, dict[str, Trials]] = {}
    for name, trials in tests.items():
        sources = [trials, *([everyone] if everyone else [])]
        pools[name] = {
            known: next(source.only(source.rows_by_class[known]) for source in sources if known in source.rows_by_class)
            for known in trials.classes
            if any(known in source.rows_by_class for source in sources)
        }
    return pools


def unseen_rows(sets: Mapping[str, Trials], unseen: Mapping[str, Trials], config: Config) -> list[dict]:
    """Rows of every test set and unseen class: the AUC of each known class's ratio, known against unseen utterances.

    If there are many known classes, only the nearest have rows; if there are more than ``MOST_CLASSES``, none.

    Args:
        sets: utterances of known classes, by set, with score ``mean`` ``(U, K)``.
        unseen: utterances of unseen classes, by set.
        config: resamples and seed for the intervals over speakers, drawn separately from known and unseen utterances.
    """
    rows = []
    if any(len(trials.classes) > MOST_CLASSES for trials in sets.values()):
        return rows
    for name, pools in known_pools(sets, config).items():
        for label, numbers in unseen[name].rows_by_class.items() if len(pools) > 1 else ():
            of_class = unseen[name].only(numbers)
            for known in nearest(of_class, list(pools)) if label != UNLABELLED else ():
                both = joined([pools[known], of_class])
                score, target = ratio(both, known), both.labels == known
                draw = {"resamples": config.report.bootstrap, "seed": config.seed, "strata": target.tolist()}
                ends = interval(partial(weighted, detection.auc), both.speakers, score, target, **draw)
                names = {"metric": "auc_unseen", "set": name, "class": label, "decided": known}
                value = detection.auc(score, target)
                row = row_of(value, ends, both.speakers, target.tolist(), **names)
                rows.append(row | {"count": len(of_class)})
    return rows

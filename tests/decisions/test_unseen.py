"""AUC of the ratio of known classes against unseen ones, against counts by hand."""

import numpy as np
import pytest

from dnf.decisions.unseen_rows import known_pools, nearest, ratio, unseen_rows
from dnf.experiment.config import resolve
from dnf.metrics.trials import Trials, joined

CONFIG = resolve(["data.views={part: {sets: [test]}}", "report.bootstrap=100"])


def trials(name: str, label: str, scores, classes=("en", "zh")) -> Trials:
    """Utterances of as many speakers, with the mean log-likelihoods ``(U, K)``."""
    names = [f"{name}-{label}{n}" for n in range(len(scores))]
    return Trials(names, names, [label] * len(scores), {"mean": np.array(scores, dtype=float)}, classes)


def both(*parts: Trials) -> Trials:
    return joined(parts)


def empty(classes=("en", "zh")) -> Trials:
    return Trials([], [], [], {"mean": np.zeros((0, len(classes)))}, classes)


def test_rows_are_shares_of_pairs_by_the_ratio_of_the_known_class():
    known = both(
        trials("t", "en", [[3, 0], [2, 0], [1, 0], [0, 1], [5, 0]]),
        trials("t", "zh", [[0, n] for n in (1, 2, 3, 4, 5)]),
    )
    unseen = trials("t", "ja", [[0, n - 0.5] for n in (1, 2, 3, 4, 5)])
    rows = unseen_rows({"test": known}, {"test": unseen}, CONFIG)
    found = {row["decided"]: row for row in rows}
    assert found.keys() == {"en", "zh"} and {row["class"] for row in rows} == {"ja"}
    pairs = [(a, b) for a in (3, 2, 1, -1, 5) for b in (-0.5, -1.5, -2.5, -3.5, -4.5)]
    assert float(found["en"]["value"]) == pytest.approx(np.mean([a > b for a, b in pairs]))
    pairs = [(a, b - 0.5) for a in (1, 2, 3, 4, 5) for b in (1, 2, 3, 4, 5)]
    assert float(found["zh"]["value"]) == pytest.approx(np.mean([a > b for a, b in pairs]))
    assert float(found["zh"]["low"]) < 0.6 < float(found["zh"]["high"])
    assert (found["en"]["count"], found["en"]["total"]) == (5, 10)


def test_the_ratio_is_against_the_best_of_the_others():
    three = trials("t", "en", [[5, 1, 4], [0, 3, 1]], ("en", "ja", "zh"))
    assert ratio(three, "en").tolist() == [1, -3] and ratio(three, "zh").tolist() == [-1, -2]


def test_known_utterances_are_those_of_the_set_or_of_all_test_sets_but_views_train_and_dev():
    sets = {
        "train": trials("r", "zh", [[0, 1]]),
        "test": both(trials("t", "en", [[1, 0]]), trials("t", "zh", [[0, 1]])),
        "part": trials("t", "zh", [[0, 1]]),
        "calls": trials("c", "en", [[1, 0]]),
        "more": empty(),
    }
    pools = known_pools(sets, CONFIG)
    names = {name: {known: pool.utts.tolist() for known, pool in of_set.items()} for name, of_set in pools.items()}
    assert names == {
        "test": {"en": ["t-en0"], "zh": ["t-zh0"]},
        "part": {"en": ["t-en0", "c-en0"], "zh": ["t-zh0"]},
        "calls": {"en": ["c-en0"], "zh": ["t-zh0"]},
        "more": {"en": ["t-en0", "c-en0"], "zh": ["t-zh0"]},
    }


def test_recordings_without_a_class_are_of_no_unseen_one():
    known = both(trials("t", "en", [[1, 0]]), trials("t", "zh", [[0, 1]]))
    assert unseen_rows({"test": known}, {"test": trials("t", "unlabelled", [[0, 1]])}, CONFIG) == []


def test_of_many_known_classes_the_nearest_have_a_row():
    names = [f"c{n:02d}" for n in range(20)]
    unseen = trials("t", "ja", [[-abs(n - 10) for n in range(20)]] * 3, names)
    assert nearest(unseen, names) == names[6:14]
    assert nearest(unseen, names[:3]) == names[:3]

"""Trials: parts of them, pairs of classes, and sets with a control, by hand."""

import numpy as np
import pytest

from dnf.metrics.trials import Trials, joined, with_control


@pytest.fixture
def trials() -> Trials:
    """Five utterances: two of en, one each of ce and je, and one of a class that the model does not know."""
    mean = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 5.0], [0.0, 4.0, 1.0], [1.0, 1.0, 2.0], [9.0, 9.0, 9.0]])
    scores = {"mean": mean, "frames": np.arange(5)}
    return Trials(list("abcde"), list("rrstt"), ["en", "en", "ce", "je", "xx"], scores, ["en", "ce", "je"])


def test_a_part_has_its_own_names_and_scores(trials):
    part = trials.only(trials.known)
    assert len(part) == 4 and part.utts.tolist() == list("abcd") and part.columns.tolist() == [0, 0, 1, 2]
    backwards = trials.only(np.array([4, 0]))
    assert backwards.speakers.tolist() == ["t", "r"] and backwards.scores["frames"].tolist() == [4, 0]
    assert backwards.known.tolist() == [False, True]


def test_the_scores_of_a_pair_are_the_first_class_against_the_second(trials):
    assert trials.pairs() == [("en", "ce"), ("en", "je"), ("ce", "je")]
    pair = trials.pair("ce", "en")
    assert pair.name == "ce+en" and pair.utts.tolist() == list("abc") and pair.target.tolist() == [False, False, True]
    assert pair.scores["mean"].tolist() == [-2.0, 0.0, 4.0] and pair.scores["frames"].tolist() == [0, 1, 2]


def test_costs_are_of_calibrated_ratios_and_ranks_of_the_mean_ones():
    names = ["a", "b"], ["r", "s"], ["en", "ce"]
    scores = {"mean": np.array([1.0, 2.0]), "calibrated": np.array([3.0, 4.0])}
    both, plain = Trials(*names, scores, ("en", "ce")), Trials(*names, {"mean": scores["mean"]}, ("en", "ce"))
    for metric in ("cllr", "cllr_left_out", "min_cllr"):
        assert both.ranked_by(metric) is scores["calibrated"] and plain.ranked_by(metric) is scores["mean"]
    assert both.ranked_by("auc") is scores["mean"]


def test_joined_trials_have_the_scores_that_all_have(trials):
    other = Trials(["f"], ["u"], ["en"], {"frames": np.array([7])}, ["en", "ce", "je"])
    both = joined([trials, other])
    assert both.utts.tolist() == list("abcdef") and both.scores.keys() == {"frames"}
    assert both.scores["frames"].tolist() == [0, 1, 2, 3, 4, 7] and both.classes == trials.classes


def test_a_control_takes_the_place_of_its_classes(trials):
    known, control = trials.only(trials.known), trials.only(trials.labels == "ce")
    both = with_control(known, control)
    assert both.utts.tolist() == list("cabd") and both.pairs() == [("en", "ce"), ("ce", "je")]
    assert with_control(known, trials.only(np.zeros(5, dtype=bool))) is None

"""Figures of trials: against those of detection, against resamples made by hand, and identification."""

import numpy as np
import pytest

from dnf.metrics import detection, verification
from dnf.metrics.verification import Scored


def scored(speakers: int = 12, utterances: int = 6, seed: int = 1) -> Scored:
    """All pairs of utterances; each speaker has its own difficulty."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), utterances)
    a, b = np.triu_indices(len(who), 1)
    target = who[a] == who[b]
    shift = rng.uniform(0, 4, speakers)
    scores = rng.normal(size=len(a)) + np.where(target, shift[who[a]], 0)
    return Scored(scores, target, who[a], who[b], llr=2 * scores - 2)


def test_figures_are_those_of_detection():
    trials = scored()
    found = verification.figures(trials)
    assert found["eer"] == pytest.approx(detection.eer(trials.scores, trials.target))
    for name, prior in (("min_dcf_01", 0.01), ("min_dcf_05", 0.05)):
        assert found[name] == pytest.approx(detection.min_dcf(trials.scores, trials.target, prior))
    assert found["cllr"] == pytest.approx(detection.cllr(trials.llr, trials.target))


def test_intervals_are_those_of_drawn_speakers():
    trials, rng, values = scored(), np.random.default_rng(5), []
    for _ in range(400):
        drawn = np.bincount(rng.integers(0, 12, 12), minlength=12)
        count = np.where(trials.target, drawn[trials.enrolled], drawn[trials.enrolled] * drawn[trials.tested])
        values.append(detection.eer(np.repeat(trials.scores, count), np.repeat(trials.target, count)))
    found = verification.intervals(trials, 400, 1)
    np.testing.assert_allclose(found["eer"], np.quantile(values, (0.025, 0.975)), atol=0.02)
    assert all(low < value < high for (low, high), value in zip(found.values(), verification.figures(trials).values()))


def test_few_speakers_have_no_intervals():
    assert verification.intervals(scored(speakers=4), 50, 1) == {}


def test_the_highest_score_identifies():
    scores = np.array([3.0, 1, 2, 5, 4, 4])
    target = np.array([True, False, False, False, True, True])
    utterances, right = verification.identified(scores, target, np.array([0, 0, 0, 1, 1, 2]), 4)
    np.testing.assert_array_equal(utterances, [0, 1])  # 2 has no other speaker to be taken for, 3 no trial
    np.testing.assert_array_equal(right, [True, False])


def test_a_calibration_gives_log_likelihood_ratios():
    rng, target = np.random.default_rng(1), np.arange(40_000) < 4000
    llr = rng.normal(size=40_000) * 2 + np.where(target, 2, -2)  # N(+-s^2 / 2, s^2) is its own log-likelihood ratio
    slope, offset = verification.affine(llr / 5 + 3, target)
    assert slope == pytest.approx(5, rel=0.05) and offset == pytest.approx(-15, rel=0.05)


def test_a_thinned_curve_has_the_same_equal_error_rate():
    trials = scored(speakers=60)
    false, miss = verification.thinned(trials.scores, trials.target)
    at = np.abs(false - miss).argmin()
    assert len(false) < len(trials.scores)
    assert (false[at] + miss[at]) / 2 == pytest.approx(detection.eer(trials.scores, trials.target), abs=2e-3)


def test_a_sample_has_trials_of_both_kinds(monkeypatch):
    monkeypatch.setattr(verification, "MOST", 50)
    sample = scored().sample(1)
    assert (len(sample.target), sample.target.sum()) == (100, 50)

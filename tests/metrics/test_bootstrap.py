"""Intervals by bootstrap over speakers: against draws by hand and scipy, coverage, strata, and paired differences."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from dnf.decisions.detection_rows import weighted
from dnf.metrics import detection
from dnf.metrics.bootstrap import draws, gap, interval, paired, paired_share, share_interval, weighted_share
from dnf.metrics.figure_rows import p_text

auc = partial(weighted, detection.auc)


def speaker_share(hits: dict, totals: dict, resamples: int, seed: int):
    """The percentile interval of a share from sums by speaker."""
    pairs = np.array([(hits[s], totals[s]) for s in totals], dtype=float).T
    return interval(weighted_share, list(totals), *pairs, resamples=resamples, seed=seed)


def sums(rows) -> tuple[dict, dict]:
    hits, totals = {}, {}
    for speaker, hit in rows:
        hits[speaker], totals[speaker] = hits.get(speaker, 0) + hit, totals.get(speaker, 0) + 1
    return hits, totals


def simulated(speakers: int, seed: int, utterances: int, spread: float) -> list[tuple[str, int]]:
    """Utterances right or wrong, with an accuracy of each speaker's own around 0.7."""
    rng = np.random.default_rng(seed)
    own = np.clip(0.7 + spread * rng.standard_normal(speakers), 0, 1)
    return [(f"s{s:03}", int(rng.random() < own[s])) for s in range(speakers) for _ in range(utterances)]


def scored(seed: int, speakers: int = 20, utterances: int = 5, apart: float = 2.0, spread: float = 0.7):
    """Speakers, scores and targets of two classes of as many speakers each; scores share their speaker's deviation."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(2 * speakers), utterances)
    target = who % 2 == 1
    scores = apart * target + (spread * rng.standard_normal(2 * speakers))[who] + rng.standard_normal(len(who))
    return [f"s{n:03}" for n in who], scores, target


def test_an_interval_is_over_speakers_not_utterances():
    """A hundred utterances of each of few, unlike speakers do not make the figure surer."""
    low, high = speaker_share(*sums([(f"s{n}", int(n % 2)) for n in range(6) for _ in range(100)]), 1000, 1)
    assert high - low > 0.5


def test_an_interval_of_a_share_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        low, high = speaker_share(*sums(simulated(40, seed, utterances=5, spread=0.1)), 300, 1)
        covered += low <= 0.7 <= high
    assert 86 <= covered <= 100


@pytest.mark.parametrize(
    ("speakers", "utterances", "accuracy", "alike"),
    [(6, 10, 0.93, 0.1), (6, 10, 0.9, 0.4), (44, 1, 0.98, 0), (3, 20, 0.8, 0.1), (40, 7, 0.8, 0.2)],
)
def test_an_interval_of_a_share_covers_with_few_speakers_and_near_1(speakers, utterances, accuracy, alike):
    """Beta-binomial utterances; ``alike`` is the correlation of those of a speaker."""
    rng, covered, certain = np.random.default_rng(1), 0, 0
    for _ in range(200):
        shape = [p * (1 - alike) / alike for p in (accuracy, 1 - accuracy)] if alike else None
        own = rng.beta(*shape, speakers) if alike else np.full(speakers, accuracy)
        hits = rng.binomial(utterances, own).astype(float)
        low, high = share_interval(hits, np.full(speakers, float(utterances)), 200, 1)
        covered += low <= accuracy <= high
        certain += low == high
    assert covered >= 0.9 * 200 and not certain


def test_an_interval_of_independent_utterances_is_that_of_clopper_and_pearson():
    """A speaker an utterance: 40 of 50, and 50 of 50."""
    for right in (40, 50):
        found = share_interval(np.repeat([1.0, 0.0], (right, 50 - right)), np.ones(50), 20000, 1)
        wanted = stats.binomtest(right, 50).proportion_ci(method="exact")
        np.testing.assert_allclose(found, (wanted.low, wanted.high), atol=0.005)
    low, high = share_interval(np.zeros(3), np.full(3, 9.0), 100, 1)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 3))
    assert share_interval(np.ones(1), np.ones(1), 100, 1) is None


def test_an_interval_of_an_auc_covers_the_truth_about_as_often_as_it_says():
    truth = stats.norm.cdf(2.0 / np.sqrt(2 * (1 + 0.7**2)))
    covered = 0
    for seed in range(100):
        speakers, scores, target = scored(seed)
        low, high = interval(auc, speakers, scores, target, strata=target.tolist(), resamples=300, seed=1)
        covered += low <= truth <= high
    assert 86 <= covered <= 100


def test_intervals_weigh_speakers_by_their_frames_and_follow_the_seed():
    hits = {"a": 90, "b": 0, "c": 5, "d": 20, "e": 7}
    totals = {"a": 100, "b": 10, "c": 10, "d": 40, "e": 10}
    found = speaker_share(hits, totals, 400, 1)
    assert found == speaker_share(hits, dict(reversed(totals.items())), 400, 1)
    assert found != speaker_share(hits, totals, 400, 2)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 5, (4000, 5))
    h, t = (np.array(list(of.values())) for of in (hits, totals))
    wanted = np.percentile(h[drawn].sum(1) / t[drawn].sum(1), [2.5, 97.5])
    np.testing.assert_allclose(speaker_share(hits, totals, 4000, 1), wanted, atol=0.05)


def test_the_interval_of_a_mean_of_independent_speakers_is_that_of_scipy():
    values = np.random.default_rng(3).standard_normal(80)
    found = interval(weighted_share, [f"s{n}" for n in range(80)], values, np.ones(80), resamples=20000, seed=1)
    wanted = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(2))
    np.testing.assert_allclose(found, wanted.confidence_interval, atol=0.01)


def test_weights_count_how_often_each_speaker_is_drawn():
    speakers = ["a", "b", "a", "c", "b"]
    weights = np.concatenate(list(draws(speakers, None, 500, 1)))
    assert weights.shape == (500, 5)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)


def test_strata_keep_every_class_in_every_resample():
    speakers, strata = ["a", "b", "c", "c", "d", "d"], ["en", "en", "ce", "ce", "ce", "en"]  # d speaks both
    weights = np.concatenate(list(draws(speakers, strata, 300, 1)))
    assert (weights[:, 0] + weights[:, 1] == 2).all() and (weights[:, 2] == 1).all() and (weights[:, 4] == 1).all()
    free = np.concatenate(list(draws(speakers, None, 300, 1)))
    assert (free[:, :2].sum(1) == 0).any()


def test_resamples_in_blocks_are_all_there(monkeypatch):
    monkeypatch.setattr("dnf.metrics.bootstrap.CELLS", 30)
    blocks = list(draws(["a", "b", "c"], None, 25, 1))
    assert [len(block) for block in blocks] == [10, 10, 5]


@pytest.mark.parametrize("strata", (None, ["x", "x", "y"]))
def test_too_few_speakers_have_no_interval(strata):
    speakers = ["a", "a", "a"] if strata is None else ["a", "b", "c"]
    hits = np.ones(3)
    assert interval(weighted_share, speakers, hits, hits, strata=strata) is None
    assert paired(weighted_share, speakers, (hits, hits), (hits, 2 * hits), strata) == (0.5, None, None, None)


def test_a_paired_difference_is_surer_than_two_intervals():
    """Two systems that err on the same speakers: each figure is uncertain, their difference is not."""
    speakers, scores, target = scored(5, spread=1.5)
    better = scores + 0.5 * target
    strata, draw = target.tolist(), {"resamples": 1000, "seed": 1}
    difference, low, high, p = paired(auc, speakers, (better, target), (scores, target), strata, **draw)
    assert difference == pytest.approx(detection.auc(better, target) - detection.auc(scores, target))
    assert 0 < low <= difference <= high and p < 0.01
    ends = [interval(auc, speakers, s, target, strata=strata, **draw) for s in (better, scores)]
    assert ends[1][1] > ends[0][0]  # the intervals alone meet
    assert high - low < 0.5 * (ends[1][1] - ends[1][0])
    turned = paired(auc, speakers, (scores, target), (better, target), strata, **draw)
    np.testing.assert_allclose(turned, (-difference, -high, -low, p))


def test_equal_systems_do_not_differ_and_p_is_uniform_under_no_difference():
    speakers, scores, target = scored(1)
    assert paired(auc, speakers, (scores, target), (scores, target), target.tolist()) == (0, 0, 0, 1)
    rng, small = np.random.default_rng(0), 0
    for seed in range(100):
        speakers, scores, target = scored(seed, utterances=2)
        a, b = ((scores + rng.standard_normal(len(scores)), target) for _ in range(2))
        small += paired(auc, speakers, a, b, target.tolist(), 200, 1)[3] < 0.1
    assert 3 <= small <= 20


def test_a_gap_of_two_sets_draws_the_speakers_of_both_together():
    """Targets of two corpora against the same others, who are hard: what they add cancels."""
    speakers, scores, target = scored(3, spread=1.5)
    others, own = np.flatnonzero(~target), np.flatnonzero(target)
    rng = np.random.default_rng(1)
    both = []
    for prefix, shift in (("a", 0.0), ("b", -2.0)):
        who = [prefix + speakers[u] for u in own] + [speakers[u] for u in others]
        moved = np.concatenate([2 + shift + 0.3 * rng.standard_normal(len(own)), scores[others]])
        hit = np.repeat([True, False], (len(own), len(others)))
        both.append((who, hit.tolist(), (moved, hit)))
    difference, low, high = gap(auc, *both, 1000, 1)
    figures = [detection.auc(*arrays) for _, _, arrays in both]
    assert difference == pytest.approx(figures[0] - figures[1]) and 0 < low < difference < high
    apart = [([who.replace("s", "t") for who in both[1][0]], *both[1][1:])][0]
    _, wide_low, wide_high = gap(auc, both[0], apart, 1000, 1)
    assert high - low < 0.8 * (wide_high - wide_low)
    assert gap(auc, both[0], both[0], 100, 1) == (0, 0, 0)


def test_a_gap_of_disjoint_speakers_covers_the_truth_and_needs_five():
    covered = 0
    for seed in range(100):
        rows = simulated(30, seed, 5, 0.1), simulated(40, 1000 + seed, 4, 0.1)
        both = [([s for s, _ in of], None, (np.array([h for _, h in of], float), np.ones(len(of)))) for of in rows]
        low, high = gap(weighted_share, (["a" + s for s in both[0][0]], *both[0][1:]), both[1], 200, 1)[1:]
        covered += low <= 0 <= high
    assert 86 <= covered <= 100
    few = [s for s, _ in simulated(4, 1, 5, 0.1)], None, (np.ones(20), np.ones(20))
    assert gap(weighted_share, both[0], few)[1:] == (None, None)


def test_a_difference_of_accuracies_is_tested_by_flipping_speakers():
    """Of one right utterance more for each of six of eight speakers, two of 64 signs are as extreme."""
    speakers, worse = [f"s{n}" for n in range(8) for _ in range(3)], np.zeros(24)
    better = np.array([float(u % 3 == 0 and u < 18) for u in range(24)])
    difference, low, high, p = paired_share(speakers, better, worse)
    assert (difference, p) == (0.25, 2 / 64) and 0 < low < 0.25 < high
    assert paired_share(speakers, worse, better)[3] == p and paired_share(speakers, better, better)[3] == 1
    assert paired_share(speakers[:12], better[:12], worse[:12]) == (1 / 3, None, None, None)


def test_random_signs_give_about_the_p_value_of_all(monkeypatch):
    rng = np.random.default_rng(2)
    speakers = [f"s{n}" for n in range(11) for _ in range(4)]
    a, b = (rng.random((2, 44)) < [[0.8], [0.6]]).astype(float)
    every = paired_share(speakers, a, b)[3]
    monkeypatch.setattr("dnf.metrics.bootstrap.EXACT", 0)
    assert 0.02 < every < 0.9 and paired_share(speakers, a, b, 20000)[3] == pytest.approx(every, abs=0.01)


def test_p_of_six_speakers_without_a_difference_is_seldom_small():
    rng, small = np.random.default_rng(0), 0
    for _ in range(200):
        a, b = (rng.random((2, 6)) < rng.beta(6, 1, 6)).astype(float).repeat(2, axis=1)
        small += paired_share([f"s{u // 2}" for u in range(12)], a, b, 20, 1)[3] <= 0.05
    assert small <= 14


@pytest.mark.parametrize(
    ("p", "metric", "resamples", "wanted"),
    [
        (0.001998, "auc_difference", 1000, "p < 0.002"), (0.003996, "auc_difference", 1000, "p 0.0040"),
        ("0.000999", "utt_accuracy_calibrated_difference", 1000, "p < 0.001"),
        (0.00995, "cllr", 200, "p < 0.01"), ("", "auc", 1000, ""), (None, "auc", 1000, ""),
    ],
)  # fmt: skip
def test_a_p_value_at_the_floor_is_said_to_be_less(p, metric, resamples, wanted):
    assert p_text(p, metric, resamples) == wanted


def test_resamples_are_measured_many_at_a_time():
    speakers, scores, target = scored(1, speakers=30)
    assert len(scores) == 300
    for measure in (detection.auc, detection.eer, detection.cllr, detection.min_dcf):
        counts = []

        def statistic(weights, scores, target, measure=measure, counts=counts):
            counts.append(len(weights))
            return measure(scores, target, weights=weights)

        assert interval(statistic, speakers, scores, target, strata=target.tolist(), resamples=1000)
        assert sum(counts) == 1000 and len(counts) <= 10

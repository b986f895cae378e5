"""AUC, EER, minDCF, Cllr and DET: closed forms of Gaussian scores, scikit-learn, and utterances repeated by hand."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import log_loss, roc_auc_score

from dnf.metrics import detection


def gaussian(seed: int, number: int = 4000, d: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood ratios that are right: normal with variance d^2 and means d^2 / 2 and -d^2 / 2."""
    rng = np.random.default_rng(seed)
    target = np.arange(number) % 2 == 0
    return d * rng.standard_normal(number) + np.where(target, 1, -1) * d**2 / 2, target


def coarse(seed: int, number: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Few scores with many ties."""
    rng = np.random.default_rng(seed)
    target = rng.random(number) < 0.4
    return np.round(rng.standard_normal(number) + target, 0), target


def expected_cllr(d: float) -> float:
    """Cllr of Gaussian log-likelihood ratios that are right, by quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(80)
    return float((w / w.sum() * np.logaddexp(0, -(d * x + d**2 / 2))).sum() / np.log(2))


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_that_of_scikit_learn_ties_and_weights_included(seed):
    scores, target = coarse(seed)
    assert detection.auc(scores, target) == pytest.approx(roc_auc_score(target, scores))
    weights = np.random.default_rng(seed).integers(0, 4, (6, len(scores))).astype(float)
    wanted = [roc_auc_score(target, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(detection.auc(scores, target, weights), wanted)


@pytest.mark.parametrize("name", ("auc", "eer", "min_dcf", "cllr"))
def test_weights_are_repetitions(name):
    measure = getattr(detection, name)
    scores, target = coarse(3)
    weights = np.random.default_rng(1).integers(0, 3, (5, len(scores)))
    wanted = [measure(np.repeat(scores, w), np.repeat(target, w)) for w in weights]
    np.testing.assert_allclose(measure(scores, target, weights=weights.astype(float)), wanted, rtol=1e-9)


@pytest.mark.parametrize("d", (0.5, 1.0, 2.0, 3.0))
def test_gaussian_scores_have_the_figures_of_their_closed_forms(d):
    scores, target = gaussian(1, 40000, d)
    assert detection.auc(scores, target) == pytest.approx(stats.norm.cdf(d / np.sqrt(2)), abs=0.01)
    assert detection.eer(scores, target) == pytest.approx(stats.norm.cdf(-d / 2), abs=0.01)
    assert detection.cllr(scores, target) == pytest.approx(expected_cllr(d), abs=0.01)
    assert detection.min_cllr(scores, target) == pytest.approx(expected_cllr(d), abs=0.015)
    for prior in (0.5, 0.1):
        threshold = np.log((1 - prior) / prior)
        miss, false = stats.norm.cdf((threshold - d**2 / 2) / d), stats.norm.sf((threshold + d**2 / 2) / d)
        wanted = (prior * miss + (1 - prior) * false) / min(prior, 1 - prior)
        assert detection.min_dcf(scores, target, prior) == pytest.approx(wanted, abs=0.03)


def test_costs_are_those_of_the_setting():
    scores, target = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True])
    # thresholds in rising order: (miss, false alarm) = (0, 1), (0, 1/2), (1/2, 1/2), (1/2, 0), (1, 0)
    assert detection.min_dcf(scores, target) == pytest.approx(0.5)
    assert detection.min_dcf(scores, target, 0.5, cost_miss=10, cost_false=1) == pytest.approx(0.5)
    assert detection.min_dcf(scores, target, 0.5, cost_miss=1, cost_false=10) == pytest.approx(0.5)
    assert detection.min_dcf(scores, target, 0.2, cost_miss=4, cost_false=2) == pytest.approx(0.5 * 0.8 / 0.8)
    assert detection.eer(scores, target) == pytest.approx(0.5)


def test_perfect_and_useless_scores():
    target = np.arange(10) % 2 == 0
    for measure in (detection.eer, detection.min_dcf, detection.min_cllr):
        assert measure(target * 1.0, target) == pytest.approx(0, abs=1e-9)
    same = np.zeros(10)
    figures = [
        m(same, target) for m in (detection.auc, detection.eer, detection.min_dcf, detection.cllr, detection.min_cllr)
    ]
    np.testing.assert_allclose(figures, (0.5, 0.5, 1.0, 1.0, 1.0))
    wrong = np.where(target, -50.0, 50.0)
    assert detection.auc(wrong, target) == 0 and detection.cllr(wrong, target) > 70
    assert detection.min_cllr(wrong, target) == pytest.approx(1)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="of the target class and of the other"):
        detection.auc(np.arange(3.0), np.ones(3, dtype=bool))


def test_scores_that_are_too_sure_cost_more_than_they_must():
    scores, target = gaussian(2)
    right, sure, shifted = (detection.cllr(s, target) for s in (scores, 4 * scores, scores + 3))
    assert sure > right + 0.2 and shifted > right + 0.2
    least = detection.min_cllr(scores, target)
    assert right == pytest.approx(least, rel=0.05)
    for moved in (4 * scores, scores + 3, np.exp(scores)):
        assert detection.min_cllr(moved, target) == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_least_cllr_is_below_every_rising_map_of_the_scores(seed):
    scores, target = coarse(seed)
    least = detection.min_cllr(scores, target)
    rng = np.random.default_rng(seed)
    for _ in range(50):
        levels = np.sort(3 * rng.standard_normal(len(np.unique(scores))))
        mapped = levels[np.unique(scores, return_inverse=True)[1]]
        assert least <= detection.cllr(mapped, target) + 1e-9


def test_cllr_of_several_classes_is_the_log_loss_under_equal_priors():
    rng = np.random.default_rng(1)
    loglik, labels = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    counts = np.bincount(labels)
    wanted = log_loss(labels, special.softmax(loglik, 1), sample_weight=1 / counts[labels]) / np.log(2)
    assert detection.cllr(loglik, labels) == pytest.approx(wanted)
    assert detection.cllr(loglik + 5 * rng.standard_normal((60, 1)), labels) == pytest.approx(wanted)
    assert detection.cllr(np.zeros((60, 3)), labels) == pytest.approx(np.log2(3))
    two, of_two = loglik[labels < 2][:, :2], labels[labels < 2]
    assert detection.cllr(two, of_two) == pytest.approx(detection.cllr(two[:, 0] - two[:, 1], of_two == 0))


def test_det_points_pass_through_the_equal_error_rate():
    scores, target = gaussian(4)
    false, miss = detection.det_points(scores, target)
    assert (np.diff(miss) >= 0).all() and (np.diff(false) <= 0).all()
    nearest = np.abs(false - miss).argmin()
    assert detection.eer(scores, target) == pytest.approx((false[nearest] + miss[nearest]) / 2, abs=1e-3)


def test_the_minimum_of_a_small_set_is_too_good():
    """Scores that are the true log-likelihood ratios, of 44 and 280 utterances: their Cllr is far above its minimum."""
    rng, ratios = np.random.default_rng(1), []
    target, d = np.arange(324) < 44, 2.9
    for _ in range(200):
        scores = d * (rng.normal(size=324) + np.where(target, d / 2, -d / 2))
        ratios.append(detection.cllr(scores, target) / detection.min_cllr(scores, target))
    assert 1.3 < np.mean(ratios) < 1.5 and np.min(ratios) > 1.1

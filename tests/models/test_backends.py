"""Back-ends: scores against densities of the joint Gaussian, PLDA against the model that drew the data, and the optimum."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from dnf.metrics import detection
from dnf.models.backends import Cosine, Groups, LengthNormalized, Plda, normalized_likelihood, scatter_within

DIM = 6


def covariance(rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(DIM, DIM)) / np.sqrt(DIM)
    return root @ root.T + 0.2 * np.eye(DIM)


@pytest.fixture(scope="module")
def true():
    rng = np.random.default_rng(3)
    return Plda(rng.normal(size=DIM), covariance(rng), covariance(rng))


def drawn(model: Plda, counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of speakers with ``counts`` each, and the number of the speaker of each."""
    rng, speaker = np.random.default_rng(seed), np.repeat(np.arange(len(counts)), counts)
    centres = rng.multivariate_normal(model.mean, model.between, len(counts))
    return centres[speaker] + rng.multivariate_normal(np.zeros(DIM), model.within, len(speaker)), speaker


def joint_density(model: Plda, x: np.ndarray) -> float:
    """log p of vectors of one speaker together, from the definition."""
    n = len(x)
    total = np.kron(np.ones((n, n)), model.between) + np.kron(np.eye(n), model.within)
    return multivariate_normal(np.tile(model.mean, n), total).logpdf(x.reshape(-1))


def matrix(backend, enrolled: np.ndarray, of: np.ndarray, tested: np.ndarray) -> np.ndarray:
    groups = Groups.of(backend.prepared(enrolled), of)
    return backend.enrolled(groups) @ backend.tested(backend.prepared(tested)).T


@pytest.mark.parametrize("enrolments", (1, 2, 5))
def test_plda_is_the_ratio_of_joint_densities(true, enrolments):
    x, _ = drawn(true, np.array([enrolments + 1]), 4)
    expected = joint_density(true, x) - joint_density(true, x[:-1]) - joint_density(true, x[-1:])
    score = matrix(true, x[:-1], np.zeros(enrolments, int), x[-1:])
    np.testing.assert_allclose(score, expected, rtol=1e-9)


def test_em_finds_the_model_from_speakers_with_unequal_counts(true):
    x, speaker = drawn(true, np.random.default_rng(5).integers(1, 20, 3000), 6)
    found = Plda.fit(x, speaker)
    np.testing.assert_allclose(found.between, true.between, atol=0.06 * np.abs(true.between).max())
    np.testing.assert_allclose(found.within, true.within, atol=0.03 * np.abs(true.within).max())
    np.testing.assert_allclose(found.mean, true.mean, atol=0.06)


def test_every_step_of_em_raises_the_likelihood_of_all_vectors(true):
    x, speaker = drawn(true, np.random.default_rng(7).integers(1, 6, 60), 8)
    groups, model, values, direct = Groups.of(x, speaker), Plda(np.zeros(DIM), np.eye(DIM), np.eye(DIM)), [], []
    for _ in range(8):
        direct.append(sum(joint_density(model, x[speaker == k]) for k in range(60)))
        model, likelihood = model.step(groups, scatter_within(x, speaker, groups))
        values.append(likelihood)
    assert np.all(np.diff(direct) > 0)
    np.testing.assert_allclose(np.diff(values), np.diff(direct), rtol=1e-6)


@pytest.mark.parametrize("enrolments", (1, 3))
def test_fitted_plda_verifies_as_well_as_the_true_model(true, enrolments):
    found = Plda.fit(*drawn(true, np.full(800, 8), 9))
    x, speaker = drawn(true, np.full(300, enrolments + 4), 10)
    place = np.tile(np.arange(enrolments + 4), 300)
    enrolled, tested = place < enrolments, place >= enrolments
    target = (np.arange(300)[:, None] == speaker[tested]).ravel()
    best, found_eer = (
        detection.eer(matrix(model, x[enrolled], speaker[enrolled], x[tested]).ravel(), target)
        for model in (true, found)
    )
    assert 0.01 < best < 0.4 and abs(found_eer - best) < 0.006
    llr = matrix(found, x[enrolled], speaker[enrolled], x[tested]).ravel()
    assert (
        detection.cllr(llr, target) < detection.min_cllr(llr, target) + 0.02
    )  # a log-likelihood ratio without a calibration


def test_plda_does_not_depend_on_linear_maps(true):
    x, speaker = drawn(true, np.full(50, 5), 11)
    mixed = x @ np.random.default_rng(12).normal(size=(DIM, DIM)) + 3
    scores = [matrix(Plda.fit(v, speaker), v[:9], np.arange(9) // 3, v[9:20]) for v in (x, mixed)]
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-5)


def test_cosine_is_that_of_centred_vectors():
    x = np.random.default_rng(1).normal(size=(20, DIM)) + 5
    scores = matrix(Cosine.fit(x, np.arange(20)), x[:4], np.array([0, 0, 1, 2]), x[4:6])
    y = x - x.mean(0)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    of_two = y[:2].mean(0) / np.linalg.norm(y[:2].mean(0))
    np.testing.assert_allclose(scores, np.stack([of_two, y[2], y[3]]) @ y[4:6].T)


def test_cosine_without_centring_and_after_lda():
    rng, speaker = np.random.default_rng(4), np.repeat(np.arange(30), 8)
    x = 5 + rng.normal(size=(30, 3))[speaker] + rng.normal(size=(240, 3)) * [1, 3, 0.2]
    plain = Cosine.uncentred(x, speaker)
    np.testing.assert_allclose(plain.prepared(x[:2]), x[:2] / np.linalg.norm(x[:2], axis=1, keepdims=True))
    bent = rng.normal(size=(3, 3))
    one, other = Cosine.lda(x, speaker), Cosine.lda(x @ bent, speaker)
    scores = [backend.prepared(v) @ backend.prepared(v).T for backend, v in ((one, x), (other, x @ bent))]
    np.testing.assert_allclose(*scores, atol=1e-8)
    y = (x - one.mean) @ one.matrix
    within = np.mean([np.cov(y[speaker == k].T, bias=True) for k in range(30)], axis=0)
    np.testing.assert_allclose(within, np.eye(3), atol=1e-8)
    assert Cosine.lda(x[:16], speaker[:16]).matrix.shape == (3, 1)


def test_normalized_likelihood_is_plda_with_the_variances_of_the_prior():
    variances = np.array([1.0, 1, 1, 1, 0.5, 2])
    model = Plda(np.zeros(DIM), np.diag(np.arange(1.0, 7)), np.diag(variances))
    x, speaker = drawn(model, np.full(4000, 3), 2)
    found = normalized_likelihood(x, speaker, variances)
    np.testing.assert_allclose(np.diag(found.between), np.arange(1, 7), rtol=0.1)
    np.testing.assert_array_equal(found.within, np.diag(variances))
    assert np.count_nonzero(found.between) == DIM


def test_length_normalization_takes_away_the_length(true):
    x, speaker = drawn(true, np.full(100, 5), 13)
    fitted = LengthNormalized.fit(x, speaker)
    stretched = fitted.mean + 7 * (x[:6] - fitted.mean)
    np.testing.assert_allclose(fitted.prepared(stretched), fitted.prepared(x[:6]), rtol=1e-8)


def test_too_few_vectors_for_plda_are_an_error(true):
    x, _ = drawn(true, np.full(8, 1), 14)
    with pytest.raises(ValueError, match="PLDA: 8 training vectors of 8 speakers are too few for 6 dims; project"):
        Plda.fit(x, np.arange(8))

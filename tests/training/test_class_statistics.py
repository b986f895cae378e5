"""Statistics of the classes from one pass, against numpy and scikit-learn, and covariances that have no inverse."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from dnf.models.standardize import Standardize
from dnf.training import class_statistics as module
from dnf.training.class_statistics import class_means, class_statistics
from dnf.training.ranks import Ranks

NAMES = ["en", "ja", "zh"]


class Vectors:
    """What ``class_statistics`` asks of ``Windows``, over vectors in memory."""

    def __init__(self, x: np.ndarray, labels: np.ndarray):
        self.x, self._labels = torch.from_numpy(x), torch.from_numpy(labels)
        self.dim, self.device = x.shape[1], torch.device("cpu")

    def __len__(self) -> int:
        return len(self.x)

    def gather(self, rows):
        return self.x[rows]

    def labels(self, rows):
        return self._labels[rows]


def draw(counts, dim: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled vectors (N, D) of classes with means and covariances of their own, heavy tails, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    mixes, means = rng.standard_normal((len(counts), dim, dim)), 3 * rng.standard_normal((len(counts), dim))
    x = np.einsum("nij,nj->ni", mixes[labels], rng.standard_t(8, (len(labels), dim))) + means[labels] + 5
    return x, labels


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "batch_for", lambda device: 37)


def statistics(x, labels, names=NAMES, mean=4.0, std=2.0):
    standardize = Standardize(x.shape[1])
    standardize.set(torch.full((1,), mean), torch.full((1,), std))
    return class_statistics(Vectors(x, labels), names, standardize)


def test_vectors_about_the_means_of_their_classes_have_the_pooled_covariance(small_batches):
    x, labels = draw((300, 40, 1), 6)
    standardize, vectors = Standardize(6), Vectors(x, labels)
    counts, means = class_means(vectors, NAMES, standardize)
    assert counts.tolist() == [300, 40, 1]
    np.testing.assert_allclose(means, [x[labels == k].mean(0) for k in range(3)], rtol=1e-10)
    pooled = class_statistics(vectors, ["all classes"], standardize, about=means)
    centred = x - means.numpy()[labels]
    np.testing.assert_allclose(pooled.covariances[0], centred.T @ centred / 341, rtol=1e-10)
    np.testing.assert_allclose(pooled.fourth, [np.square((centred**2).sum(1)).mean()], rtol=1e-10)


def test_one_pass_gives_what_numpy_finds(small_batches):
    x, labels = draw((300, 40, 1), 6)
    found, z = statistics(x, labels), (x - 4) / 2
    assert found.counts.tolist() == [300, 40, 1]
    np.testing.assert_allclose(found.mean(), z.mean(0), rtol=1e-10)
    for k in range(3):
        of_class = z[labels == k]
        centred = of_class - of_class.mean(0)
        np.testing.assert_allclose(found.means[k], of_class.mean(0), rtol=1e-10)
        np.testing.assert_allclose(found.covariances[k], centred.T @ centred / len(centred), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.fourth[k], ((centred**2).sum(1) ** 2).mean(), rtol=1e-9, atol=1e-8)


def test_one_name_takes_all_vectors():
    x, labels = draw((30, 40), 5)
    found = statistics(x, labels, ["all"])
    np.testing.assert_allclose(found.covariances[0], np.cov(((x - 4) / 2).T, bias=True), rtol=1e-9, atol=1e-10)


def test_the_parts_of_several_ranks_are_all_vectors():
    x, labels = draw((90, 11), 4)
    parts = []

    class Recording(Ranks):
        def sum_tensor(self, values):
            parts.append(values.clone())
            return values

    class Summing(Ranks):
        def sum_tensor(self, values):
            return values + others.pop(0)

    layer = Standardize(4)
    class_statistics(Vectors(x, labels), NAMES[:2], layer, Recording(0, 2))
    others = parts
    both, alone = (class_statistics(Vectors(x, labels), NAMES[:2], layer, r) for r in (Summing(1, 2), Ranks()))
    for name in ("counts", "means", "covariances", "fourth"):
        torch.testing.assert_close(getattr(both, name), getattr(alone, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", (3, 5, 30, 3000))
def test_shrinkage_is_that_of_scikit_learn(count, caplog):
    x, labels = draw((count,), 20)
    found = statistics(x, labels, ["en"], 0.0, 1.0)
    wanted, weight = ledoit_wolf(x)
    assert found.shrinkage(0) == pytest.approx(weight, abs=1e-9)
    made = found.invertible()[0]
    if count < 200:  # few
        np.testing.assert_allclose(made, wanted, rtol=1e-7, atol=1e-9)
        assert f"class en: {count} vectors of 20 dims: covariance shrunk by {weight:.4f}" in caplog.text
    else:
        np.testing.assert_array_equal(made, found.covariances[0])
        assert not caplog.text


def test_a_constant_dim_is_left_to_itself_and_named(caplog):
    x, labels = draw((300, 300), 5)
    x[:, [1, 3]] = [7.0, -2.0]
    made = statistics(x, labels, NAMES[:2]).invertible()
    for covariance in made.numpy():
        np.testing.assert_array_equal(covariance[[1, 3]], np.eye(5)[[1, 3]])
        assert np.linalg.eigvalsh(covariance).min() > 1e-6
    assert "2 dims are constant in training and are modelled separately: 1 3" in caplog.text


def test_a_class_without_variance_in_a_direction_gets_a_little(caplog):
    x, labels = draw((300, 300), 5)
    x[labels == 1, 2] = 7.0
    made = statistics(x, labels, NAMES[:2]).invertible().numpy()
    assert np.linalg.eigvalsh(made[1]).min() == pytest.approx(module.LEAST_VARIANCE, rel=1e-6)
    assert "class ja is constant in 1 directions" in caplog.text and "class en" not in caplog.text


@pytest.mark.parametrize("count", (1, 2))
def test_a_class_of_hardly_a_vector_has_the_mean_covariance(caplog, count):
    x, labels = draw((300, 200, count), 5)
    found = statistics(x, labels)
    weights = found.counts / found.counts.sum()
    np.testing.assert_allclose(found.invertible()[2], torch.tensordot(weights, found.covariances, 1), rtol=1e-10)
    assert f"class zh has {count} vectors: its covariance is the mean" in caplog.text


@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_frames_that_are_not_finite_are_an_error_that_names_the_utterance(new_trainer, value):
    train = new_trainer().train
    third = list(train.segments())[2].first
    gather = train.gather

    def broken(rows):
        x = gather(rows)
        x[rows == third + 7, 5] = value
        return x

    train.gather = broken
    standardize = Standardize(12)
    standardize.set(torch.full((12,), value), torch.ones(12))  # statistics of such frames are not finite, either
    with pytest.raises(ValueError, match=r"set train: frames of s12en-u are not finite; run stage features") as caught:
        class_statistics(train, ["en", "zh"], standardize)
    assert "\n" not in str(caught.value)

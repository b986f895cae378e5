"""Linear maps that make covariances diagonal."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from dnf.models import diagonalize as module
from dnf.models.diagonalize import diagonal_of, diagonalize, divergence, in_order, newton_step, whiten


def related(k: int, dim: int, noise: float = 0.0, seed: int = 1) -> np.ndarray:
    """Covariances ``(K, D, D)`` that one map makes diagonal, and more or less of what none does."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((dim, dim))
    own = rng.standard_normal((k, dim, 3 * dim)) * np.sqrt(noise / (3 * dim))
    return mix * np.exp(rng.standard_normal((k, 1, dim))) @ mix.T + own @ own.transpose(0, 2, 1)


def mapped(v: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    return np.stack([v.T @ covariance @ v for covariance in covariances])


def test_whitened_dims_have_variance_one_and_stand_in_falling_order_of_variance():
    rotation, variances = ortho_group.rvs(5, random_state=1), np.array([3.0, 0.1, 9.0, 1.0, 0.01])
    covariance = rotation * variances @ rotation.T
    v = whiten(covariance)
    np.testing.assert_allclose(v.T @ covariance @ v, np.eye(5), atol=1e-12)
    order = np.argsort(-variances)
    np.testing.assert_allclose(np.abs(v), np.abs(rotation[:, order] / np.sqrt(variances[order])), rtol=1e-9)


def test_order_follows_what_a_dim_stands_for_in_the_data():
    v = np.diag([1.0, 0.1, 10.0])  # x = z / v
    np.testing.assert_array_equal(in_order(v), v[:, [1, 0, 2]])
    np.testing.assert_array_equal(in_order(-v), v[:, [1, 0, 2]])


@pytest.mark.parametrize("k", (2, 3, 7))
@pytest.mark.parametrize("dim", (1, 2, 12))
def test_what_can_be_made_diagonal_is(k, dim):
    covariances, shares = related(k, dim), np.arange(1, k + 1) / (k * (k + 1) / 2)
    made = mapped(diagonalize(covariances, shares), covariances)
    diagonals = np.diagonal(made, axis1=1, axis2=2)
    np.testing.assert_allclose(shares @ diagonals, np.ones(dim), rtol=1e-9)
    assert np.abs(made - diagonals[:, None] * np.eye(dim)).max() < 1e-3 and divergence(made, shares) < 1e-6


def test_two_matrices_of_any_kind_are_made_diagonal_exactly():
    covariances, shares = related(2, 30, noise=1.0), np.array([0.3, 0.7])
    made = mapped(diagonalize(covariances, shares), covariances)
    assert np.abs(made * (1 - np.eye(30))).max() < 1e-10


def test_more_are_made_as_diagonal_as_a_map_near_by_can(caplog):
    """The gradient is that of the divergence by differences, and it is zero where the search ends."""
    covariances, shares = related(4, 8, noise=1.0), np.array([0.1, 0.2, 0.3, 0.4])
    with caplog.at_level("INFO"):
        v = diagonalize(covariances, shares)
    assert "joint diagonalization of 4 classes" in caplog.text and "stopped" not in caplog.text
    best, rng = divergence(mapped(v, covariances), shares), np.random.default_rng(2)
    assert 0.01 < best < divergence(mapped(whiten(np.tensordot(shares, covariances, 1)), covariances), shares)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            moved = v @ (np.eye(8) + size * rng.standard_normal((8, 8)))
            assert divergence(mapped(moved, covariances), shares) > best - 1e-6


def test_the_step_goes_down_and_the_gradient_is_that_of_differences():
    matrices, shares = related(3, 5, noise=1.0), np.array([0.2, 0.3, 0.5])
    gradient = np.einsum("k,kij,ki->ij", shares, matrices, 1 / np.diagonal(matrices, axis1=1, axis2=2)) - np.eye(5)
    step, size = newton_step(matrices, shares)
    assert size == pytest.approx(np.abs(gradient).max())
    for i, j in ((0, 1), (3, 2)):
        turn = np.eye(5)
        turn[j, i] = 1e-6  # (I + E)' with E_ij
        rise = (divergence(mapped(turn, matrices), shares) - divergence(matrices, shares)) / 1e-6
        assert rise == pytest.approx(gradient[i, j], rel=1e-3)
    assert (step * gradient).sum() < 0


def test_a_search_that_stops_before_its_end_says_so(monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_STEPS", 2)
    covariances, shares = related(3, 8, noise=1.0), np.full(3, 1 / 3)
    made = mapped(diagonalize(covariances, shares), covariances)
    np.testing.assert_allclose(shares @ np.diagonal(made, axis1=1, axis2=2), np.ones(8), rtol=1e-9)
    assert "stopped before its end" in caplog.text


def test_diagonal_of_is_the_diagonal():
    covariances = related(1, 6, noise=1.0)
    v = np.random.default_rng(3).standard_normal((6, 4))
    np.testing.assert_allclose(diagonal_of(v, covariances[0]), np.diag(v.T @ covariances[0] @ v))

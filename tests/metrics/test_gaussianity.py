"""Moments and Mardia's test against closed forms, scipy and simulation."""

import math

import pytest
import torch
from scipy import stats

from dnf.metrics.gaussianity import Moments, mardia


def sample(seed: int, n: int = 4000, dim: int = 3, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Skewed, heavy-tailed classes far from zero: (N, D) float64 latents and (N,) labels."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    x = torch.randn(n, dim, generator=g, dtype=torch.float64)
    x = x + 0.3 * x**2 + 0.1 * torch.arange(1, dim + 1) * x**3
    return x * (1 + labels[:, None]) + 50.0 * labels[:, None] + 1000.0, labels


def gathered(z: torch.Tensor, labels: torch.Tensor, classes: int = 3) -> Moments:
    moments = Moments(classes, z.shape[1])
    moments.update(z, labels)
    return moments


def standardize(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = z.clone()
    for k in labels.unique():
        z[labels == k] = (z[labels == k] - z[labels == k].mean(0)) / z[labels == k].std(0, correction=0)
    return z


def test_moments_equal_scipy():
    z, labels = sample(1)
    moments = gathered(z, labels)
    pooled, within, w = moments.pooled(), moments.within(), standardize(z, labels)
    torch.testing.assert_close(pooled.skew, torch.from_numpy(stats.skew(z.numpy())), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pooled.kurt, torch.from_numpy(stats.kurtosis(z.numpy())), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(within.skew, torch.from_numpy(stats.skew(w.numpy())), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(within.kurt, torch.from_numpy(stats.kurtosis(w.numpy())), rtol=1e-9, atol=1e-9)
    assert moments.count.tolist() == torch.bincount(labels).tolist()


def test_a_choice_of_classes_equals_those_frames_alone():
    z, labels = sample(2)
    some, kept = gathered(z, labels), labels != 1
    pooled, within = some.pooled([0, 2]), some.within([0, 2])
    alone = gathered(z[kept], labels[kept])
    for ours, theirs in zip((*pooled, *within), (*alone.pooled(), *alone.within())):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_batches_and_merging_equal_one_pass():
    z, labels = sample(3)
    whole, left, right = gathered(z, labels), Moments(3, 3), Moments(3, 3)
    cuts = torch.randint(0, len(z), (9,), generator=torch.Generator().manual_seed(0)).sort().values.tolist()
    cuts = [0, 0, 1, *cuts, len(z)]  # an empty batch and one of a single frame among them
    for i, (a, b) in enumerate(zip(cuts, cuts[1:])):
        (left if i % 2 else right).update(z[a:b], labels[a:b])
    both = Moments(3, 3).merge(left).merge(right)
    for ours, theirs in zip((*both.pooled(), *both.within()), (*whole.pooled(), *whole.within())):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_mean_far_from_zero_costs_no_digits():
    z, labels = sample(4, classes=1)
    shifted = gathered(z + 1e7, labels).pooled()
    torch.testing.assert_close(shifted.kurt, gathered(z, labels).pooled().kurt, rtol=1e-6, atol=1e-6)


def test_float32_rows_are_summed_in_float64():
    """More rows than one block of powers, far from zero: as scipy has it of the same numbers in float64."""
    z, labels = sample(9, n=3000)
    z = z.float()
    for ours, theirs in zip(gathered(z, labels).pooled(), gathered(z.double(), labels).pooled()):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    of_scipy = torch.from_numpy(stats.kurtosis(z.double().numpy()))
    torch.testing.assert_close(gathered(z, labels).pooled().kurt, of_scipy, rtol=1e-9, atol=1e-9)


def test_two_separated_gaussians_pool_to_minus_two_but_are_gaussian_within():
    """Equal classes at +-a with variance one: excess kurtosis -2 a^4 / (1 + a^2)^2, skewness 0."""
    n, a = 20000, 5.0
    quantiles = stats.norm.ppf((torch.arange(n, dtype=torch.float64) + 0.5).numpy() / n)
    x = torch.from_numpy(quantiles)[:, None]
    x = x / x.std(correction=0)
    moments = gathered(torch.cat([x - a, x + a]), torch.arange(2 * n) // n, classes=2)
    pooled, within = moments.pooled(), moments.within()
    assert pooled.kurt.item() == pytest.approx(-2 * a**4 / (1 + a**2) ** 2, abs=2e-3)
    assert pooled.skew.item() == pytest.approx(0, abs=1e-9)
    assert within.kurt.item() == pytest.approx(0, abs=0.01)


def test_one_class_is_the_same_pooled_and_within():
    z, labels = sample(5, classes=1)
    moments = gathered(z, labels)
    for pooled, within in zip(moments.pooled(), moments.within()):
        torch.testing.assert_close(pooled, within, rtol=1e-12, atol=1e-12)


def test_constant_dims_are_nan():
    z, labels = sample(6, dim=2)
    z[:, 0] = 0.1  # constant throughout
    z[labels == 2, 1] = 0.1  # constant within one class
    moments = gathered(z[:1777], labels[:1777])
    moments.update(z[1777:], labels[1777:])
    assert moments.pooled().kurt.isnan().tolist() == [True, False]
    assert moments.within().skew.isnan().tolist() == [True, True]
    assert moments.within([0, 1]).kurt.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    "z, labels, message",
    [
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), "expected"),
        (torch.zeros(4, 3), torch.zeros(5, dtype=torch.long), "expected"),
        (torch.zeros(4, 3), torch.full((4,), 7), "class ids from 7 to 7"),
        (torch.zeros(4, 3), torch.full((4,), -1), "class ids from -1"),
        (torch.full((4, 3), math.nan), torch.zeros(4, dtype=torch.long), "NaN"),
    ],
)
def test_bad_batches_are_refused(z, labels, message):
    with pytest.raises(ValueError, match=message):
        Moments(3, 3).update(z, labels)


def test_no_frames_and_unlike_moments_are_refused():
    with pytest.raises(ValueError, match="no frames"):
        Moments(3, 3).pooled()
    with pytest.raises(ValueError, match="do not merge"):
        Moments(3, 3).merge(Moments(2, 3))


def test_mardia_in_one_dim_is_squared_skewness_and_kurtosis():
    z, _ = sample(7, n=300, dim=1)
    result = mardia(z)
    assert result.skew == pytest.approx(stats.skew(z[:, 0].numpy()) ** 2, rel=1e-9)
    assert result.kurt == pytest.approx(stats.kurtosis(z[:, 0].numpy(), fisher=False), rel=1e-9)


def test_mardia_does_not_see_scale_rotation_or_blocks(monkeypatch):
    z, labels = sample(8, n=500)
    mixed = z @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 0.0, 1.0]], dtype=torch.float64) - 7
    one = mardia(mixed, labels)
    monkeypatch.setattr("dnf.metrics.gaussianity.BLOCK", 64)
    assert tuple(mardia(z, labels)) == pytest.approx(tuple(one), rel=1e-6)


@pytest.mark.parametrize("sizes, dim", [((80,), 3), ((60, 40), 4)])
def test_gaussians_give_uniform_p_values(sizes, dim):
    """200 Gaussian samples; classes differ in mean, scale and correlation, which must not matter."""
    results = []
    for seed in range(200):
        g = torch.Generator().manual_seed(seed)
        draws = [(torch.randn(n, dim, generator=g), torch.randn(dim, dim, generator=g)) for n in sizes]
        parts = [x @ mix + 9 * i for i, (x, mix) in enumerate(draws)]
        labels = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
        results.append(mardia(torch.cat(parts), labels))
    skew_p, kurt_p, kurt_z = ([getattr(r, name) for r in results] for name in ("skew_p", "kurt_p", "kurt_z"))
    assert stats.kstest(skew_p, "uniform").pvalue > 0.005
    assert stats.kstest(kurt_p, "uniform").pvalue > 0.005
    assert abs(torch.tensor(kurt_z).mean()) < 0.25
    assert 0.8 < torch.tensor(kurt_z).std() < 1.2


@pytest.mark.parametrize("n, dim, seeds", [(400, 120, 8), (100, 60, 60)])
def test_many_dims_keep_the_level(n, dim, seeds):
    """The asymptotic mean of 1970 is four deviations off in the first case, its spread 2.5-fold in the second."""
    draws = (torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) for seed in range(seeds))
    results = [mardia(draw) for draw in draws]
    kurt_z = torch.tensor([r.kurt_z for r in results])
    assert abs(kurt_z.mean()) < 3.5 / seeds**0.5
    assert 0.5 < kurt_z.std() < 1.5 and (seeds < 50 or 0.75 < kurt_z.std() < 1.25)
    assert min(r.skew_p for r in results) > 1e-4


def test_non_gaussians_are_rejected():
    g = torch.Generator().manual_seed(0)
    normal = torch.randn(1000, 4, generator=g)
    heavy = normal / (torch.randn(1000, 5, generator=g).pow(2).mean(1, keepdim=True)).sqrt()  # multivariate t, 5 dof
    light = torch.rand(1000, 4, generator=g)  # product of uniforms: symmetric, short tails
    lopsided = torch.rand(1000, 4, generator=g).log()  # product of exponentials
    assert mardia(heavy).kurt_z > 5 and mardia(heavy).kurt_p < 1e-6
    assert mardia(light).kurt_z < -5 and mardia(light).skew_p > 1e-3
    assert mardia(lopsided).skew_p < 1e-6
    product = torch.randn(2000, 2, generator=g)
    product[:, 1] = product[:, 0].abs() * product[:, 1].sign()  # both marginals Gaussian, jointly not
    assert abs(stats.kurtosis(product[:, 1].numpy())) < 0.3 and mardia(product).kurt_p < 1e-6


def test_mardia_refuses_what_it_cannot_test():
    z, labels = sample(9, n=40)
    with pytest.raises(ValueError, match="at least 5 frames .* got 4"):
        mardia(z[:4])
    with pytest.raises(ValueError, match="got 1"):
        mardia(z, (torch.arange(40) == 0).long())
    with pytest.raises(ValueError, match="linearly"):
        mardia(torch.cat([z, z.sum(1, keepdim=True)], 1))
    with pytest.raises(ValueError, match="constant"):
        mardia(torch.cat([z, torch.full((40, 1), 0.1)], 1))
    with pytest.raises(ValueError, match="NaN"):
        mardia(z.where(z > 1010, torch.nan))
    with pytest.raises(ValueError, match="expected"):
        mardia(z, labels[:5])

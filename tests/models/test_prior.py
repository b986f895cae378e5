"""Every kind of prior is one density, however it is asked: by class, for all classes, by drawing from it, by its means."""

import itertools
import math

import pytest
import torch
from one_step import one_step
from scipy import stats

from dnf.experiment.settings import Prior
from dnf.models.prior import ClassPrior
from dnf.training.trainer import Trainer

KINDS = list(itertools.product((False, True), ("fixed", "tied", "free")))


def make(dim: int, classes: int, cond_dim: int, cond_r: bool, variances: str, seed: int = 1) -> ClassPrior:
    """A prior in float64 whose parameters are all apart."""
    prior = ClassPrior(dim, classes, Prior(cond_dim, 0.5, 2.0, cond_r, variances)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return prior


def points(n: int, dim: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
@pytest.mark.parametrize("cond_dim", (1, 4, 6))
def test_a_density_is_scipys_gaussian_of_the_means_and_variances(cond_dim, cond_r, variances):
    prior, z = make(6, 3, cond_dim, cond_r, variances), 3 * points(40, 6)
    means, var = prior.class_means().detach(), prior.class_log_variances().detach().exp()
    assert means.shape == var.shape == (3, 6)
    all_classes = prior.of_all(z).detach()
    assert all_classes.shape == (40, 3)
    for k in range(3):
        wanted = stats.multivariate_normal(means[k].numpy(), var[k].diag().numpy()).logpdf(z.numpy())
        torch.testing.assert_close(all_classes[:, k], torch.from_numpy(wanted), rtol=1e-9, atol=1e-9)
        labels = torch.full((40,), k)
        torch.testing.assert_close(prior.of_class(z, labels).detach(), all_classes[:, k], rtol=1e-9, atol=1e-9)
        u = prior.standardized(z, labels).detach()
        torch.testing.assert_close(u, (z - means[k]) / var[k].sqrt(), rtol=1e-12, atol=1e-12)
    squashed = ((z - means.mean(0)) / var.log().mean(0).exp().sqrt()).tanh()
    torch.testing.assert_close(prior.squashed(z).detach(), squashed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
def test_what_is_shared_and_what_is_the_classs_own(cond_r, variances):
    prior = make(6, 3, 4, cond_r, variances)
    means, var = prior.class_means().detach(), prior.class_log_variances().detach()
    assert (means[0, :4] != means[1, :4]).all()
    assert (means[0, 4:] != means[1, 4:]).all() if cond_r else (means[:, 4:] == 0).all()
    assert (var[0, :4] != var[1, :4]).all() == (variances == "free")
    assert (var[0, 4:] != var[1, 4:]).all() == (variances == "free" and cond_r)
    assert len(var[0].unique()) == (2 if variances == "fixed" else 6)
    names = (
        {"means"} | ({"means_r"} if cond_r else set()) | ({"log_var_c", "log_var_r"} if variances != "fixed" else set())
    )
    assert {name for name, _ in prior.named_parameters()} == names


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
@pytest.mark.parametrize("cond_dim", (1, 2))
def test_density_integrates_to_one(cond_dim, cond_r, variances):
    prior = make(2, 3, cond_dim, cond_r, variances)
    means, deviations = prior.class_means().detach(), (0.5 * prior.class_log_variances().detach()).exp()
    axes = [
        torch.linspace(*(f((means + s * 7 * deviations)[:, d]).item() for f, s in ((min, -1), (max, 1))), 500).double()
        for d in range(2)
    ]
    cell = math.prod((axis[1] - axis[0]).item() for axis in axes)
    mass = prior.of_all(torch.cartesian_prod(*axes)).exp().sum(0) * cell
    torch.testing.assert_close(mass.detach(), torch.ones(3).double(), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
def test_samples_have_the_means_and_variances(cond_r, variances):
    prior, n = make(5, 2, 3, cond_r, variances), 40000
    labels = torch.arange(2 * n) % 2
    z = prior.sample(labels, torch.Generator().manual_seed(3)).detach()
    means, var = prior.class_means().detach(), prior.class_log_variances().detach().exp()
    for k in range(2):
        own = z[labels == k]
        assert ((own.mean(0) - means[k]).abs() < 5 * (var[k] / n).sqrt()).all()
        torch.testing.assert_close(own.var(0), var[k], rtol=0.05, atol=0)


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
def test_gradients_are_those_of_numbers(cond_r, variances):
    prior, z = make(4, 2, 3, cond_r, variances), points(5, 4).requires_grad_()
    labels, parameters = torch.tensor([0, 1, 1, 0, 1]), list(prior.parameters())
    assert torch.autograd.gradcheck(lambda z, *_: prior.of_all(z), (z, *parameters))
    assert torch.autograd.gradcheck(lambda z, *_: prior.of_class(z, labels), (z, *parameters))


def test_learned_variances_start_where_fixed_ones_stay():
    z, labels = 2 * points(30, 6), torch.arange(30) % 3
    fixed = ClassPrior(6, 3, Prior(4, 0.5, 900.0)).double()
    for cond_r, variances in KINDS:
        prior = ClassPrior(6, 3, Prior(4, 0.5, 900.0, cond_r, variances)).double()
        torch.testing.assert_close(prior.of_class(z, labels), fixed.of_class(z, labels), rtol=1e-6, atol=1e-6)


def test_many_dims_and_means_far_out_keep_precision():
    prior = make(400, 3, 300, True, "free")
    with torch.no_grad():
        prior.means += 20
    z = prior.sample(torch.arange(300) % 3, torch.Generator().manual_seed(1)).detach()
    exact = prior.of_all(z)
    torch.testing.assert_close(prior.float().of_all(z.float()).double(), exact, rtol=1e-5, atol=0.02)


def test_the_fixed_prior_has_the_weights_it_always_had():
    assert list(ClassPrior(6, 3, Prior(4, 1.0, 1.0)).state_dict()) == ["means"]


@pytest.mark.parametrize(("cond_r", "variances"), KINDS)
def test_every_kind_trains_and_starts_at_the_means_of_its_latents(new_trainer, cond_r, variances):
    trainer: Trainer = new_trainer(
        f"prior.cond_r={str(cond_r).lower()}", f"prior.variances={variances}", "train.lr=0.01"
    )
    rows = torch.arange(300)
    z, labels = trainer.model(trainer.train.gather(rows))[0].detach(), trainer.train.labels(rows)
    for k in range(2):
        mean = z[labels == k].mean(0)
        mean[6:] *= cond_r
        torch.testing.assert_close(trainer.model.prior.class_means()[k].detach(), mean, rtol=1e-3, atol=1e-3)
    before = {name: p.detach().clone() for name, p in trainer.model.prior.named_parameters()}
    first = one_step(trainer)["nll"]
    for _ in range(40):
        last = one_step(trainer)["nll"]
    assert last < first - 0.5
    for name, parameter in trainer.model.prior.named_parameters():
        assert (parameter != before[name]).all(), name


def test_class_means_of_r_need_a_class(small_config):
    with pytest.raises(ValueError, match="prior.cond_r: a flow with prior.cond_dim 0 has no classes"):
        small_config("prior.cond_dim=0", "prior.cond_r=true")
    small_config("prior.cond_dim=0", "prior.variances=free")

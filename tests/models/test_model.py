"""The model is a density, class by class, and its checkpoint is the same density."""

import math

import pytest
import torch
from scipy import stats

from dnf.experiment.config import resolve
from dnf.experiment.settings import Flow, Prior
from dnf.models import checkpoint
from dnf.models.dnf import DNF
from dnf.models.prior import ClassPrior

FLOW = resolve(
    ["flow.blocks=3", "flow.hidden=7", "flow.activation=tanh", "flow.mask=evenodd", "flow.log_scale_bound=0.8"]
).flow


def make(dim: int, classes: int, prior: Prior, flow: Flow = FLOW, seed: int = 1, identity: bool = False) -> DNF:
    """A model in float64 with a standardization, means apart and, unless it is to be the identity, random weights."""
    generator = torch.Generator().manual_seed(seed)
    model = DNF(dim, classes, flow, prior).double()

    def draw(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        model.first.set(draw(dim), 0.5 + draw(dim).abs())
        if not identity:
            for parameter in model.flow.parameters():
                parameter.copy_(0.5 * draw(parameter.shape))
        model.prior.means.copy_(draw(model.prior.means.shape))
    return model


def points(n: int, dim: int, seed: int = 2, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("cond_dim", (0, 1, 2))
def test_density_of_each_class_integrates_to_one(cond_dim):
    model = make(2, 3, Prior(cond_dim, 0.5, 2.0))
    z = torch.cat([model.prior.sample(torch.full((2000,), k)) for k in range(3)])
    x = model.inverse(z)[0]
    centre = x.quantile(0.5, 0)
    low, high = centre - 2.5 * (centre - x.min(0)[0]), centre + 2.5 * (x.max(0)[0] - centre)
    axes = [torch.linspace(a, b, 400, dtype=torch.float64) for a, b in zip(low, high)]
    grid = torch.cartesian_prod(*axes)
    cell = math.prod((axis[1] - axis[0]).item() for axis in axes)
    mass = torch.cat([model.log_prob(part).exp() for part in grid.split(200_000)]).sum(0) * cell
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), rtol=0, atol=2e-3)


@pytest.mark.parametrize("cond_dim", (0, 2, 5))
def test_log_prob_of_an_identity_flow_is_scipys_gaussian(cond_dim):
    """x = mean + std z with z ~ N([mu_k; 0], diag(v_c, v_r)): variances, not standard deviations, each in its place."""
    model, x = make(5, 3, Prior(cond_dim, 0.25, 7.0), identity=True), 3 * points(40, 5)
    mean, std = model.first.mean, model.first.std
    variances = torch.tensor([0.25] * cond_dim + [7.0] * (5 - cond_dim), dtype=torch.float64)
    got = model.log_prob(x).detach()
    assert got.shape == (40, 3)
    for k in range(3):
        mu = torch.cat([model.prior.means[k].detach(), torch.zeros(5 - cond_dim, dtype=torch.float64)])
        gaussian = stats.multivariate_normal((mean + std * mu).numpy(), torch.diag(std**2 * variances).numpy())
        torch.testing.assert_close(got[:, k], torch.from_numpy(gaussian.logpdf(x.numpy())), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cond_dim", (0, 3, 6))
def test_all_classes_at_once_equal_each_class_by_itself(cond_dim):
    prior, z = make(6, 4, Prior(cond_dim, 0.3, 9.0)).prior, 5 * points(50, 6)
    each = torch.stack([prior.of_class(z, torch.full((50,), k)) for k in range(4)], dim=1)
    torch.testing.assert_close(prior.of_all(z), each, rtol=1e-12, atol=1e-12)
    labels = torch.arange(50) % 4
    torch.testing.assert_close(prior.of_class(z, labels), each[torch.arange(50), labels], rtol=0, atol=0)


def test_all_classes_at_once_are_exact_enough_in_float32_for_440_dims():
    prior = ClassPrior(440, 3, Prior(400, 1.0, 1000.0))
    with torch.no_grad():
        prior.means.copy_(3 * points(3, 400, seed=5))
    z = prior.sample(torch.arange(300) % 3, torch.Generator().manual_seed(1)).detach()
    exact = prior.double().of_all(z.double())
    prior.float()
    torch.testing.assert_close(prior.of_all(z).double(), exact, rtol=0, atol=0.01)


@pytest.mark.parametrize("cond_dim", (2, 5))
def test_plain_flow_equals_one_class_of_zero_mean(cond_dim):
    plain, dnf = make(5, 1, Prior(0, 1.0, 2.0)), make(5, 1, Prior(cond_dim, 2.0, 2.0))
    with torch.no_grad():
        dnf.prior.means.zero_()
    dnf.flow.load_state_dict(plain.flow.state_dict())
    dnf.first.load_state_dict(plain.first.state_dict())
    x = points(30, 5)
    torch.testing.assert_close(plain.log_prob(x), dnf.log_prob(x), rtol=1e-12, atol=1e-12)
    assert plain.prior.means.shape == (1, 0)


def test_forward_and_inverse_go_through_standardization_and_flow():
    model, x = make(5, 2, Prior(2, 1.0, 1.0)), points(20, 5)
    z, forward = model(x)
    back, inverse = model.inverse(z)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse, -forward, rtol=1e-9, atol=1e-9)
    assert torch.equal(z, model.flow(model.first(x)[0])[0])


def test_sampling_has_the_means_and_variances_of_the_prior():
    n, model = 40_000, make(5, 2, Prior(3, 0.25, 4.0), identity=True)
    labels = torch.arange(n) % 2
    z = model.prior.sample(labels, torch.Generator().manual_seed(3)).detach()
    assert z.dtype == torch.float64
    variances = torch.tensor([0.25, 0.25, 0.25, 4.0, 4.0]).double()
    x = model.sample(labels, torch.Generator().manual_seed(3))
    torch.testing.assert_close(x, model.inverse(z)[0])
    for k in range(2):
        mean = torch.cat([model.prior.means[k].detach(), torch.zeros(2).double()])
        of_class = z[labels == k]
        assert ((of_class.mean(0) - mean).abs() < 5 * (variances / (n / 2)).sqrt()).all()
        assert ((of_class.var(0) / variances - 1).abs() < 5 * math.sqrt(2 / (n / 2))).all()
        correlation = torch.corrcoef(of_class.T) - torch.eye(5).double()
        assert correlation.abs().max() < 5 / math.sqrt(n / 2)


def test_mean_log_prob_of_samples_is_minus_the_entropy_of_the_prior():
    """Sampling and density agree: E log N(z) = -(D log(2 pi e) + log det V) / 2."""
    n, prior = 20_000, make(5, 2, Prior(3, 0.25, 4.0)).prior
    labels = torch.arange(n) % 2
    z = prior.sample(labels, torch.Generator().manual_seed(4))
    entropy = 0.5 * (5 * math.log(2 * math.pi * math.e) + 3 * math.log(0.25) + 2 * math.log(4.0))
    assert abs(prior.of_class(z, labels).mean().item() + entropy) < 5 * math.sqrt(5 / 2 / n)


def test_sampling_repeats_with_its_generator():
    model, labels = make(4, 2, Prior(2, 1.0, 1.0)), torch.tensor([0, 1, 1])
    first, again, other = (model.sample(labels, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not first.requires_grad


def test_means_start_at_the_class_means_of_the_latents_in_the_order_of_ids():
    model, x = make(4, 3, Prior(2, 1.0, 1.0)), points(60, 4)
    labels = torch.tensor([2, 0, 1] * 20)  # the order of appearance is not that of the ids
    model.init_means(x, labels)
    c = model(x)[0].detach()[:, :2]
    for k in range(3):
        torch.testing.assert_close(model.prior.means[k].detach(), c[labels == k].mean(0))
    assert model.prior.means.requires_grad
    assert (model.prior.means[0] - model.prior.means[1]).abs().max() > 0.01


def test_gradient_reaches_means_and_flow():
    model, x = make(5, 2, Prior(2, 1.0, 1.0)), points(30, 5)
    z, logdet = model(x)
    (-(model.prior.of_class(z, torch.arange(30) % 2) + logdet).mean()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def trained(small_config, *words) -> tuple[DNF, dict]:
    """A float32 model of small settings with random weights, and its checkpoint."""
    config = small_config("prior.cond_dim=4", *words)
    model = make(config.dim, 2, config.prior, config.flow).float()
    content = {"model": model.state_dict(), "config": checkpoint.config_tree(config), "classes": ["en", "zh"]}
    return model, content


def test_classes_of_a_checkpoint_are_found_among_those_of_the_corpus(small_config, tmp_path):
    checkpoint.save(tmp_path / "best.pt", trained(small_config)[1])
    assert checkpoint.load_model(tmp_path / "best.pt", known_classes=["ar", "en", "ru", "zh"]).classes == ["en", "zh"]


@pytest.mark.parametrize("known", (["en"], ["de", "en"], ["zh", "en"], []))
def test_other_classes_are_refused(small_config, tmp_path, known):
    checkpoint.save(tmp_path / "best.pt", trained(small_config)[1])
    with pytest.raises(ValueError, match=r"best.pt: was trained on classes en, zh; the data has .*train again$"):
        checkpoint.load_model(tmp_path / "best.pt", known_classes=known)


def test_another_shape_is_refused_in_one_line(small_config, tmp_path):
    content = trained(small_config)[1]
    content["config"]["flow"]["hidden"] = 9
    checkpoint.save(tmp_path / "best.pt", content)
    with pytest.raises(ValueError, match=r"best.pt: the shape of its weights does not match .*train again$") as caught:
        checkpoint.load_model(tmp_path / "best.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ("lacks", "has more"))
def test_missing_and_unknown_weights_are_refused_in_one_line(small_config, tmp_path, change):
    content = trained(small_config)[1]
    if change == "lacks":
        del content["model"]["prior.means"]
    else:
        content["model"]["flow.blocks.7.net.0.weight"] = torch.zeros(1)
    checkpoint.save(tmp_path / "best.pt", content)
    with pytest.raises(ValueError, match=r"^\S*best.pt: [^\n]*$"):
        checkpoint.load_model(tmp_path / "best.pt")


def damaged_files(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"no checkpoint at all\n",
        "json": b'{"format": 2}\n',
        "cut": whole[: len(whole) // 2],
        "cut early": whole[:100],
        "zeros": bytes(1000),
        "flipped": whole[:50] + bytes(255 - b for b in whole[50:400]) + whole[400:],
        "wav": b"RIFF\x24\x08\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(range(256)),
    }


@pytest.mark.parametrize("kind", damaged_files(b""))
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(small_config, tmp_path, kind):
    path = tmp_path / "best.pt"
    checkpoint.save(path, trained(small_config)[1])
    path.write_bytes(damaged_files(path.read_bytes())[kind])
    with pytest.raises(ValueError, match=r"best.pt: [^\n]*(checkpoint|train again|run stage train)[^\n]*$"):
        checkpoint.load_model(path)


@pytest.mark.parametrize("content", ([1, 2], {"model": {}}, {"format": 999, "model": {}}))
def test_tensors_of_another_program_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "best.pt")
    with pytest.raises(ValueError, match="best.pt: not a checkpoint of this program"):
        checkpoint.load(tmp_path / "best.pt")


class Payload:
    """An object whose unpickling would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    torch.save({"format": checkpoint.FORMAT, "model": Payload(str(tmp_path / "made"))}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match="best.pt: not a readable checkpoint"):
        checkpoint.load(tmp_path / "best.pt")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_not_there_is_not_said_to_lack_a_stage(tmp_path):
    (tmp_path / "best.pt").touch()
    with pytest.raises(ValueError, match="none: no such folder; name the folder of an experiment"):
        checkpoint.load_model(tmp_path / "none" / "best.pt")
    with pytest.raises(ValueError, match="best.pt: is a file; name the folder of an experiment"):
        checkpoint.load_model(tmp_path / "best.pt" / "best.pt")


def test_no_checkpoint_says_which_stage_makes_one(tmp_path):
    with pytest.raises(ValueError, match="best.pt: no checkpoint; run stage train"):
        checkpoint.load_model(tmp_path / "best.pt")


def test_an_interrupted_save_leaves_the_old_file(small_config, tmp_path, monkeypatch):
    _, content = trained(small_config)
    checkpoint.save(tmp_path / "best.pt", content)
    before = (tmp_path / "best.pt").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path / "best.pt", content | {"step": 9})
    assert (tmp_path / "best.pt").read_bytes() == before

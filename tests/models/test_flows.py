"""Properties that a flow of every family must have, in float64, with weights that are nowhere zero."""

import itertools
import math
from typing import get_args, get_type_hints

import pytest
import torch
from flow_checks import Given, jacobian_logdet, randomized, vectors
from torch import nn

from dnf.experiment.settings import Flow, Prior
from dnf.models import checkpoint
from dnf.models.dnf import DNF
from dnf.models.flows import CONDITIONAL, FLOWS, make_flow
from dnf.models.prior import ClassPrior

SIZE = ("flow.blocks=3", "flow.hidden=7", "flow.layers=2", "flow.log_scale_bound=1.5")
CHOICES = {  # a family's settings that change what it does
    "realnvp": {"mask": ("halves", "evenodd"), "nets": ("one", "two")},
    "maf": {"nets": ("one", "two")},
    "spline": {"mask": ("halves", "evenodd"), "bins": (2, 6)},
    "conditional": {"mask": ("halves", "evenodd"), "nets": ("one", "two"), "summary": (9,)},
}

MIXING = (("flow.mix=permute",), ("flow.mix=lu", "flow.first_trainable=true"))  # around the blocks
CONTEXT = 8  # dims that a conditional flow is given


def variants(kind: str) -> list[tuple[str, ...]]:
    """``section.key=value`` words of every choice of a family, with every activation."""
    choices = {"kind": (kind,), "activation": ("relu", "tanh", "silu")} | CHOICES.get(kind, {})
    known = ("prior.cond_dim=4",) if kind in CONDITIONAL else ()  # no more than the dims of a frame
    return [
        (*(f"flow.{name}={value}" for name, value in zip(choices, values)), *known)
        for values in itertools.product(*choices.values())
    ] + [
        (f"flow.kind={kind}", "flow.activation=tanh", *words, *known)
        for words in (MIXING[:1] if kind in CONDITIONAL else MIXING)
    ]


ALL = [words for kind in FLOWS for words in variants(kind)]
every_variant = pytest.mark.parametrize("words", ALL, ids=lambda words: ",".join(w.split("=")[1] for w in words))
every_dim = pytest.mark.parametrize("dim", (2, 5, 6))


def flow_of(settings: Flow, dim: int) -> nn.Module:
    """A new flow of some dims; a conditional one is given the same vector always."""
    if settings.kind not in CONDITIONAL:
        return make_flow(dim, settings)
    return Given(make_flow(dim, settings, CONTEXT), vectors(1, CONTEXT, seed=5)[0])


@pytest.fixture
def make(small_config):
    """A flow of some dims with random weights, smaller ones with ``lu``: a product of random matrices is nearly singular."""
    return lambda words, dim: randomized(
        flow_of(small_config(*SIZE, *words).flow, dim), scale=0.3 if "flow.mix=lu" in words else 0.6
    )


def test_the_settings_offer_the_families_there_are():
    assert get_args(get_type_hints(Flow)["kind"]) == tuple(FLOWS)


@every_variant
@every_dim
def test_inverse_undoes_forward_both_ways(make, words, dim):
    flow, x = make(words, dim), vectors(20, dim)
    z, forward = flow(x)
    back, inverse = flow.inverse(z)
    assert (z - x).abs().max() > 0.5  # it does something
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse, -forward, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow(flow.inverse(x)[0])[0], x, rtol=1e-9, atol=1e-9)


@every_variant
@every_dim
def test_reported_logdets_are_those_of_the_jacobians(make, words, dim):
    flow, x = make(words, dim), vectors(6, dim)
    forward, inverse = flow(x)[1], flow.inverse(x)[1]
    assert forward.shape == inverse.shape == (6,)
    assert forward.std() > 0.01  # it depends on the point
    torch.testing.assert_close(forward, jacobian_logdet(flow, x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(inverse, jacobian_logdet(flow.inverse, x), rtol=1e-8, atol=1e-8)


@every_variant
@every_dim
def test_gradient_reaches_every_parameter(make, words, dim):
    flow = make(words, dim)
    z, logdet = flow(vectors(2000, dim))
    (z.square().sum() - logdet.sum()).backward()
    masks = {name.replace("mask", "weight"): mask.bool() for name, mask in flow.named_buffers() if ".mask" in name}
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        reached = parameter.grad != 0
        if name in masks:  # a masked weight is none
            assert not reached[~masks[name]].any(), name
            reached = reached[masks[name]]
        assert reached.any() if "flow.activation=relu" in words else reached.all(), name  # a rectifier may be off


@every_variant
@every_dim
def test_evaluation_equals_training(make, words, dim):
    flow, x = make(words, dim), vectors(20, dim)
    training = flow.train()(x)
    again = flow(x)  # no layer keeps a running figure
    evaluation = flow.eval()(x)
    for got in (again, evaluation):
        assert torch.equal(training[0], got[0]) and torch.equal(training[1], got[1])


@every_variant
@every_dim
def test_a_new_flow_is_the_identity_and_can_leave_it(small_config, words, dim):
    flow, x = flow_of(small_config(*SIZE, *words).flow, dim).double(), vectors(20, dim, scale=3.0)
    z, logdet = flow(x)  # so a prior that fits the input of the flow fits its latents
    torch.testing.assert_close(z, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(logdet, torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-14)
    (z.square().sum() - logdet.sum()).backward()
    chains = [module for module in flow.modules() if type(module) is nn.Sequential]
    nets = [chain for chain in chains if isinstance(chain[-1], nn.Linear)]
    assert all(any(p.grad.abs().max() > 0 for p in net.parameters()) for net in nets) and len(nets) >= 3


@every_variant
def test_latents_stay_wide_under_bfloat16(small_config, words):
    """Only the products of the networks are rounded: a new flow is the identity as before."""
    flow, x = flow_of(small_config(*SIZE, *words).flow, 6), vectors(20, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, logdet = flow(x)
        back, _ = flow.inverse(z)
    assert z.dtype == logdet.dtype == back.dtype == torch.float32
    torch.testing.assert_close(z, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FLOWS)
def test_one_dim_is_refused(small_config, kind):
    with pytest.raises(ValueError, match=f"{kind} needs at least 2 dims, not 1"):
        flow_of(small_config(f"flow.kind={kind}", "prior.cond_dim=1").flow, 1)


@pytest.mark.parametrize(("kind", "word"), [("maf", "flow.mask=evenodd"), ("spline", "flow.nets=two")])
def test_settings_that_a_family_cannot_serve_are_refused(small_config, kind, word):
    with pytest.raises(ValueError, match=f"flow.kind {kind} .*{word.split('=')[0]}"):
        make_flow(6, small_config(f"flow.kind={kind}", word).flow)


@every_variant
def test_a_vector_is_mapped_by_itself(make, words):
    """Gradients are exact over micro-batches because of it."""
    flow, x = make(words, 5), vectors(20, 5)
    for whole, parts in zip(flow(x), zip(*(flow(part) for part in x.split(7)))):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-12)


@every_variant
def test_density_integrates_to_one(small_config, words):
    flow = flow_of(small_config(*SIZE, *words, "flow.log_scale_bound=0.8").flow, 2)
    prior = ClassPrior(2, 1, Prior(0, 1.0, 1.0))
    randomized(flow, scale=0.5)
    with torch.no_grad():
        z = prior.double().sample(torch.zeros(6000, dtype=torch.long), torch.Generator().manual_seed(3))
        x = flow.inverse(z)[0]
        centre = x.quantile(0.5, 0)
        low, high = centre - 2.5 * (centre - x.min(0)[0]), centre + 2.5 * (x.max(0)[0] - centre)
        axes = [torch.linspace(a, b, 400, dtype=torch.float64) for a, b in zip(low, high)]
        cell = math.prod((axis[1] - axis[0]).item() for axis in axes)
        z, logdet = flow(torch.cartesian_prod(*axes))
        assert abs((prior.of_all(z)[:, 0] + logdet).exp().sum().item() * cell - 1) < 2e-3


@every_variant
def test_a_saved_model_gives_the_same_log_prob(small_config, tmp_path, words):
    config = small_config(*words, "prior.cond_dim=4", "prior.var_r=1000.0")
    model = DNF.from_config(config, 2)
    randomized(model, scale=0.3).float()
    content = {"model": model.state_dict(), "config": checkpoint.config_tree(config), "classes": ["en", "zh"]}
    checkpoint.save(tmp_path / "best.pt", content)
    loaded = checkpoint.load_model(tmp_path / "best.pt", known_classes=["en", "zh"])
    x = vectors(20, 12).float()
    assert torch.equal(loaded.model.log_prob(x), model.log_prob(x))
    assert loaded.classes == ["en", "zh"] and loaded.config == config and not loaded.model.training
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]

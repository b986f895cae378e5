"""What is RealNVP's alone: its halves, masks, networks and bounds. ``test_flows.py`` has what all families share."""

import itertools

import pytest
import torch
from flow_checks import randomized, vectors
from torch.func import jacrev, vmap

from dnf.experiment.config import resolve
from dnf.experiment.settings import Flow
from dnf.models.flows.realnvp import AffineCoupling, RealNVP

MASKS, NETS, ACTIVATIONS, DIMS = ("halves", "evenodd"), ("one", "two"), ("relu", "tanh", "silu"), (2, 5, 6)
every_net = pytest.mark.parametrize(("nets", "activation"), list(itertools.product(NETS, ACTIVATIONS)))


def settings(mask="halves", nets="one", activation="tanh", blocks=3, hidden=7, layers=2, bound=1.5) -> Flow:
    words = [f"mask={mask}", f"nets={nets}", f"activation={activation}", f"log_scale_bound={bound}"]
    words += [f"blocks={blocks}", f"hidden={hidden}", f"layers={layers}"]
    return resolve([f"flow.{word}" for word in words]).flow


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("mask", "blocks"), list(itertools.product(MASKS, (1, 2))))
def test_each_block_changes_one_half_and_latents_keep_the_order_of_the_data(mask, blocks, dim):
    order = torch.arange(dim) if mask == "halves" else torch.cat([torch.arange(0, dim, 2), torch.arange(1, dim, 2)])
    first, second = order[: (dim + 1) // 2], order[(dim + 1) // 2 :]
    flow, x = randomized(RealNVP(dim, settings(mask, blocks=blocks))), vectors(20, dim)
    z = flow(x)[0]
    if blocks == 1:
        assert torch.equal(z[:, first], x[:, first])
        jacobian = vmap(jacrev(lambda v: flow(v[None])[0][0]))(x)[:, second][:, :, second]
        assert torch.equal(jacobian, torch.diag_embed(jacobian.diagonal(dim1=1, dim2=2)))  # each from its own place
    else:
        assert (z[:, first] != x[:, first]).all()
    assert (z[:, second] != x[:, second]).all()


@every_net
def test_log_scale_never_exceeds_its_bound_and_comes_close_to_it(nets, activation):
    coupling = randomized(AffineCoupling(3, 4, settings(nets=nets, activation=activation, bound=0.75)), scale=30.0)
    kept, changed = vectors(500, 3, scale=1e3), vectors(500, 4)
    log_scale, _ = coupling.scale_and_shift(kept)
    assert log_scale.abs().max() <= 0.75
    assert log_scale.abs().max() > 0.74 and log_scale.max() > 0 > log_scale.min()
    y, logdet = coupling(kept, changed)
    assert y.isfinite().all() and logdet.abs().max() <= 4 * 0.75


@every_net
def test_one_hidden_layer_is_not_affine(nets, activation):
    coupling = randomized(
        AffineCoupling(3, 4, settings(nets=nets, activation=activation, layers=1, bound=1e4)), scale=1.0
    )
    a, b = vectors(50, 3, seed=3), vectors(50, 3, seed=4)
    for at, left, right in zip(*(coupling.scale_and_shift(kept) for kept in ((a + b) / 2, a, b))):
        assert (at - (left + right) / 2).abs().max() > 0.1


def test_size_of_the_networks_follows_the_settings():
    flow = RealNVP(6, settings(nets="two", blocks=5, hidden=11, layers=3))
    assert len(flow.blocks) == 5
    widths = [m.out_features for m in flow.blocks[0].scale_net if isinstance(m, torch.nn.Linear)]
    assert widths == [11, 11, 11, 3]
    one = RealNVP(6, settings(nets="one", blocks=1, hidden=11, layers=1)).blocks[0].net
    assert [m.out_features for m in one if isinstance(m, torch.nn.Linear)] == [11, 6]


def test_every_block_steers_by_the_dims_the_one_before_changed():
    """After three blocks every latent depends on every dim of the data."""
    flow, x = randomized(RealNVP(5, settings(blocks=3))), vectors(5, 5)
    jacobian = vmap(jacrev(lambda v: flow(v[None])[0][0]))(x)
    assert (jacobian[:, 3:] != 0).all()
    assert (jacobian[:, :3, 3:] != 0).all()

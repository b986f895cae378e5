"""What is the masked autoregressive flow's alone: which dims see which. ``test_flows.py`` has what all families share."""

import pytest
import torch
from flow_checks import randomized, vectors
from torch.func import jacrev, vmap

from dnf.experiment.config import resolve
from dnf.models.flows.maf import MAF


def make(dim: int, blocks: int, *words: str) -> MAF:
    sizes = (f"flow.blocks={blocks}", "flow.hidden=20", "flow.activation=tanh")
    return randomized(MAF(dim, resolve(["flow.kind=maf", *sizes, *words]).flow))


def jacobian(flow: MAF, x: torch.Tensor) -> torch.Tensor:
    """dz/dx ``(N, D, D)``."""
    return vmap(jacrev(lambda point: flow(point[None])[0][0]))(x)


@pytest.mark.parametrize("layers", (1, 3))
@pytest.mark.parametrize("nets", ("one", "two"))
@pytest.mark.parametrize("dim", (2, 5, 12))
def test_a_dim_is_steered_by_all_dims_before_it_and_no_other(dim, nets, layers):
    found = jacobian(make(dim, 1, f"flow.nets={nets}", f"flow.layers={layers}"), vectors(5, dim)) != 0
    assert torch.equal(found, torch.ones(5, dim, dim).tril().bool())


def test_the_order_is_reversed_from_block_to_block():
    flow, x = make(5, 2), vectors(5, 5)
    del flow[0]
    assert torch.equal(jacobian(flow, x) != 0, torch.ones(5, 5, 5).triu().bool())
    assert (jacobian(make(5, 2), x) != 0).all()


def test_a_block_is_affine_in_each_dim_given_those_before():
    flow, x = make(4, 1), vectors(9, 4)
    moved = x.clone()
    moved[:, -1] += torch.linspace(-3, 3, 9, dtype=torch.float64)
    (z, logdet), (shifted, same) = flow(x), flow(moved)
    scale = jacobian(flow, x)[:, -1, -1]
    torch.testing.assert_close(shifted[:, -1] - z[:, -1], scale * (moved - x)[:, -1])
    torch.testing.assert_close(same, logdet)

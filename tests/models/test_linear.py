"""The linear layers around the blocks of a flow; ``test_flows.py`` holds flows that have them to what all flows are."""

import pytest
import torch
from flow_checks import jacobian_logdet, randomized, vectors

from dnf.models.flows import make_flow
from dnf.models.flows.linear import LU, Permute, make_mixes


def test_lu_is_the_product_of_its_triangles():
    layer, x = randomized(LU(5)), vectors(7, 5)
    lower, upper = layer.triangles()
    assert torch.equal(lower, lower.tril()) and torch.equal(upper, upper.triu()) and (lower.diagonal() == 1).all()
    matrix = lower @ upper
    z, logdet = layer(x)
    torch.testing.assert_close(z, x @ matrix.T)
    torch.testing.assert_close(logdet, torch.linalg.slogdet(matrix).logabsdet.expand(7))
    torch.testing.assert_close(layer.inverse(z)[0], x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer.inverse(z)[1], jacobian_logdet(layer.inverse, z), rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in layer.parameters()) == 25


def test_lu_is_exact_where_products_run_in_bfloat16():
    layer, x = randomized(LU(40), scale=0.2).float(), vectors(9, 40).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x)[0], layer(x.float())[0]) and layer(x)[0].dtype == torch.float32
        back = layer.inverse(layer(x)[0])[0]
    assert torch.equal(layer(x)[0], x @ (torch.mm(*layer.triangles())).T)
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)


def test_a_permutation_is_taken_back():
    layer, x = Permute(torch.tensor([2, 0, 1])), vectors(4, 3)
    z, logdet = layer(x)
    assert torch.equal(z, x[:, [2, 0, 1]]) and not logdet.any()
    assert torch.equal(layer.inverse(z)[0], x)


def test_permutations_differ_repeat_with_the_seed_and_undo_each_other_in_the_end(small_config):
    settings = small_config("flow.mix=permute", "flow.blocks=4").flow
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(torch.stack([layer.order for layer in make_mixes(9, settings)]))
    assert len(made[0]) == 4 and len({tuple(order.tolist()) for order in made[0]}) == 4
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    x = torch.arange(9)
    for order in made[0]:
        x = x[order]
    assert torch.equal(x, torch.arange(9))


@pytest.mark.parametrize("kind", ("realnvp", "maf", "spline"))
def test_without_mixing_weights_are_drawn_as_ever(small_config, kind):
    """A permutation takes draws of its own, after those of the blocks."""
    drawn = []
    for words in ((), ("flow.mix=permute",), ("flow.mix=lu",)):
        torch.manual_seed(3)
        flow = make_flow(6, small_config(f"flow.kind={kind}", *words).flow)
        drawn.append([p for name, p in flow.named_parameters() if "factors" not in name])
    for others in drawn[1:]:
        assert all(torch.equal(a, b) for a, b in zip(drawn[0], others, strict=True))

"""What is the spline flow's alone: knots, tails and bounds. ``test_flows.py`` has what all families share."""

import math

import pytest
import torch
from flow_checks import randomized, vectors
from scipy.integrate import quad

from dnf.experiment.config import resolve
from dnf.models.flows.spline import SplineCoupling

KEPT, CHANGED = 3, 4


def make(*words: str, scale: float = 0.6) -> SplineCoupling:
    sizes = ("flow.hidden=7", "flow.bins=5", "flow.tail_bound=3.0", "flow.log_scale_bound=1.5")
    return randomized(SplineCoupling(KEPT, CHANGED, resolve(["flow.kind=spline", *sizes, *words]).flow), scale=scale)


def slopes_at(coupling: SplineCoupling, kept: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dy/dx of each changed dim, ``(N, changed)``."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(coupling(kept, x)[0].sum(), x)[0]


def test_the_spline_goes_through_its_knots_with_their_slopes():
    coupling, kept = make(), vectors(20, KEPT)
    across, up, slopes = coupling.knots(kept)
    for x, y, slope in zip(across.unbind(1), up.unbind(1), slopes.unbind(1)):
        torch.testing.assert_close(coupling(kept, x)[0], y)
        torch.testing.assert_close(coupling.inverse(kept, y)[0], x)
        inside = x.clamp(-3 + 1e-9, 3 - 1e-9)
        torch.testing.assert_close(slopes_at(coupling, kept, inside), slope, rtol=1e-5, atol=1e-5)
    assert torch.equal(slopes[:, 0], torch.ones(20, CHANGED, dtype=torch.float64))


def test_it_is_the_identity_outside_its_tails_and_continuous_at_them():
    coupling, kept = make(), vectors(20, KEPT)
    for place in (-50.0, -3.001, 3.001, 50.0):
        x = torch.full((20, CHANGED), place, dtype=torch.float64)
        y, logdet = coupling(kept, x)
        assert torch.equal(y, x) and torch.equal(coupling.inverse(kept, x)[0], x)
        assert not logdet.any()
    x = torch.full((20, CHANGED), 3 - 1e-9, dtype=torch.float64)
    torch.testing.assert_close(coupling(kept, x)[0], x, rtol=0, atol=1e-8)


def test_it_rises_by_the_integral_of_its_slope():
    coupling, kept = make(), vectors(1, KEPT)

    def slope(at: float) -> float:
        x = torch.full((1, CHANGED), at, dtype=torch.float64)
        return slopes_at(coupling, kept, x)[0, 0].item()

    assert min(slope(at) for at in torch.linspace(-3, 3, 101).tolist()) > 0
    knots = coupling.knots(kept)[0][0, 1:-1, 0].tolist()
    assert quad(slope, -3, 3, points=knots, limit=200)[0] == pytest.approx(6, abs=1e-6)


def test_knots_are_bounded_whatever_the_network_says():
    coupling = make(scale=30.0)
    across, up, slopes = coupling.knots(vectors(500, KEPT, scale=1e3))
    assert slopes.log().abs().max() <= 1.5 and slopes.log().abs().max() > 1.49
    for edges in (across, up):
        sizes = edges.diff(dim=1)
        assert sizes.min() > 6 * math.exp(-3) / (4 + math.exp(-3)) * 0.999
        assert sizes.max() < 6 * math.exp(3) / (4 + math.exp(3)) * 1.001
        torch.testing.assert_close(edges[:, -1], torch.full((500, CHANGED), 3.0, dtype=torch.float64))


@pytest.mark.parametrize("word", ("flow.bins=1", "flow.bins=101", "flow.tail_bound=0.0"))
def test_settings_out_of_range_are_refused(word):
    with pytest.raises(ValueError, match=word.split("=")[0]):
        make(word)

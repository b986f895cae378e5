"""Rational-quadratic spline couplings. Source: Durkan et al., "Neural spline flows", arXiv:1906.04032."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.coupling import CouplingFlow
from dnf.models.flows.transforms import make_net, widened


class Bin(NamedTuple):
    """The bin of each value, ``(N, changed)`` each: its lower left corner, its size, the slopes at its ends."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y of x, and log dy/dx (eq. 4 and 5)."""
        slope, at = self.height / self.width, (x - self.x) / self.width
        mixed = at * (1 - at)
        below = slope + (self.left + self.right - 2 * slope) * mixed
        y = self.y + self.height * (slope * at.square() + self.left * mixed) / below
        rise = self.right * at.square() + 2 * slope * mixed + self.left * (1 - at).square()
        return y, 2 * (slope / below).log() + rise.log()

    def inverse(self, y: Tensor) -> Tensor:
        """x of y: the root of a quadratic equation (eq. 6 to 8)."""
        slope, above = self.height / self.width, y - self.y
        bend = above * (self.left + self.right - 2 * slope)
        a = self.height * (slope - self.left) + bend
        b = self.height * self.left - bend
        c = -slope * above
        return self.x - self.width * 2 * c / (b + (b.square() - 4 * a * c).clamp(min=0).sqrt())


class SplineCoupling(nn.Module):
    """Monotonic splines of the dims that change, with parameters from those that stay; the identity outside +-``tail_bound``.

    A spline has ``bins`` bins. Its log-slopes at the knots and the logits of its bins' widths and heights are bounded by
    ``log_scale_bound`` as in an affine transform; the slope at the outer knots is 1. It starts as the identity.

    Args:
        kept: number of dims that stay.
        changed: number of dims that change.
    """

    def __init__(self, kept: int, changed: int, settings: Flow):
        super().__init__()
        if settings.nets != "one":
            raise ValueError(f"flow.kind {settings.kind} has one network per coupling; set flow.nets=one")
        self.bins, self.tail, self.bound = settings.bins, settings.tail_bound, settings.log_scale_bound
        self.net = make_net(kept, (3 * self.bins - 1) * changed, settings)

    def knots(self, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places of the knots in x and in y, and slopes at them, ``(N, bins + 1, changed)`` each."""
        bounded = self.bound * torch.tanh(widened(self.net(kept))).unflatten(1, (3 * self.bins - 1, -1))
        widths, heights, slopes = bounded.split([self.bins, self.bins, self.bins - 1], dim=1)
        return self.edges(widths), self.edges(heights), nn.functional.pad(slopes.exp(), (0, 0, 1, 1), value=1.0)

    def edges(self, logits: Tensor) -> Tensor:
        """Edges ``(N, bins + 1, changed)`` of bins that cover the complete range."""
        inner = self.tail * (2 * logits.softmax(1).cumsum(1) - 1)
        return nn.functional.pad(inner, (0, 0, 1, 0), value=-self.tail)

    def find(self, values: Tensor, edges: Tensor, knots: tuple[Tensor, Tensor, Tensor]) -> Bin:
        """The bin of each of ``values`` ``(N, changed)`` among ``edges``."""
        lower = (values[:, None] >= edges[:, 1:-1]).sum(1, keepdim=True)
        (x, right), (y, top), slopes = ([of.gather(1, lower + end).squeeze(1) for end in (0, 1)] for of in knots)
        return Bin(x, y, right - x, top - y, *slopes)

    def forward(self, kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        knots = self.knots(kept)
        inner = changed.clamp(-self.tail, self.tail)
        y, logdet = self.find(inner, knots[0], knots).forward(inner)
        outside = inner != changed
        return torch.where(outside, changed, y), logdet.masked_fill(outside, 0.0).sum(1)

    def inverse(self, kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        knots = self.knots(kept)
        inner = changed.clamp(-self.tail, self.tail)
        at = self.find(inner, knots[1], knots)
        x = at.inverse(inner)
        outside = inner != changed
        return torch.where(outside, changed, x), -at.forward(x)[1].masked_fill(outside, 0.0).sum(1)


class SplineFlow(CouplingFlow):
    """Coupling layers of rational-quadratic splines with linear tails.

    >>> from dnf.experiment.config import resolve
    >>> flow = SplineFlow(6, resolve(["flow.kind=spline", "flow.blocks=3", "flow.hidden=8"]).flow)
    >>> x = torch.tensor([[-9.0, -1.0, 0.0, 0.5, 2.0, 9.0]])
    >>> z, logdet = flow(x)
    >>> torch.allclose(z, x, atol=1e-6)  # a new flow is the identity
    True
    """

    coupling = SplineCoupling

"""Linear layers that mix dims, before a flow and between its blocks: Kingma and Dhariwal, "Glow", arXiv:1807.03039."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow


class LU(nn.Module):
    """y = x U' L', a product of triangular matrices (eq. 10 with P the identity); it starts as the identity.

    One parameter ``(D, D)`` has both: L below its diagonal, with ones on its own diagonal, U above it, and log|diag U| on it.
    The layer maps the vectors themselves, so it never uses bfloat16.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.factors = nn.Parameter(torch.zeros(dim, dim))

    def triangles(self) -> tuple[Tensor, Tensor]:
        """L and U, ``(D, D)`` each."""
        diagonal = self.factors.diagonal()
        lower = self.factors.tril(-1) + torch.ones_like(diagonal).diag()
        return lower, self.factors.triu(1) + diagonal.exp().diag()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self.triangles()
            return x @ (lower @ upper).T, self.factors.trace().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            lower, upper = self.triangles()
            x = torch.linalg.solve_triangular(lower, z.T, upper=False, unitriangular=True)
            return torch.linalg.solve_triangular(upper, x, upper=True).T, -self.factors.trace().expand(len(z))


class Permute(nn.Module):
    """y_i = x_order(i)."""

    def __init__(self, order: Tensor):
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class Chain(nn.Sequential):
    """A sequence of flows."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for layer in self:
            x, logdet = layer(x)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(len(z))
        for layer in reversed(self):
            z, logdet = layer.inverse(z)
            total = total + logdet
        return z, total


def make_mixes(dim: int, settings: Flow) -> nn.ModuleList:
    """A layer for after each block of a flow; none with ``mix: none``. The complete sequence starts as the identity.

    Permutations are drawn from torch's generator, and the last one inverts the product of the others.
    """
    if settings.mix == "none":
        return nn.ModuleList()
    if settings.mix == "lu":
        return nn.ModuleList(LU(dim) for _ in range(settings.blocks))
    orders, done = [torch.randperm(dim) for _ in range(settings.blocks - 1)], torch.arange(dim)
    for order in orders:
        done = done[order]
    return nn.ModuleList(Permute(order) for order in (*orders, done.argsort()))

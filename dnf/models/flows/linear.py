"""Linear layers that mix dims, before a flow and between its blocks: Kingma and Dhariwal, "Glow", arXiv:1807.03039."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow


class LU(nn.Module):
    """y = x U' L', the matrix as a product of triangular ones (eq. 10 with P the identity); it starts as the identity.

    One parameter ``(D, D)`` holds both: below its diagonal that of L, whose own is ones, above it that of U, and on it
    log|diag U|. The vectors themselves go through it, so bfloat16 is kept out.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.factors = nn.Parameter(torch.zeros(dim, dim))

    def triangles(self) -> tuple[Tensor, Tensor]:
        """L and U, ``(D, D)`` each."""
        diagonal = self.factors.diagonal()
        return self.factors.tril(-1) + torch.diag(torch.ones_like(diagonal)), self.factors.triu(
            1
        ) + diagonal.exp().diag()

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
    """Flows one after the other."""

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
    """A layer to follow each block of a flow; none with ``mix: none``. As the blocks do, all of them start as the identity.

    Permutations are drawn from torch's generator, and the last undoes the others.
    """
    if settings.mix == "none":
        return nn.ModuleList()
    if settings.mix == "lu":
        return nn.ModuleList(LU(dim) for _ in range(settings.blocks))
    orders, done = [torch.randperm(dim) for _ in range(settings.blocks - 1)], torch.arange(dim)
    for order in orders:
        done = done[order]
    return nn.ModuleList(Permute(order) for order in (*orders, done.argsort()))

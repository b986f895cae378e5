"""A first layer that takes the correlations of the features away, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decorrelate(nn.Module):
    """Fixed first layer z = (x - mean) V, so that densities are densities of the features themselves.

    Directions of little variance are blown up by a lot: it computes in float64 whatever the model does.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("matrix", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("logdet", torch.zeros((), dtype=torch.float64))

    def set(self, mean: Tensor, matrix: Tensor) -> None:
        """Take the mean ``(D,)`` and V ``(D, D)``."""
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        self.logdet.copy_(torch.linalg.slogdet(matrix).logabsdet)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x.to(self.matrix.dtype) - self.mean) @ self.matrix
        return z.to(x.dtype), self.logdet.to(x.dtype).expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.linalg.solve(self.matrix, z.to(self.matrix.dtype), left=False) + self.mean
        return x.to(z.dtype), -self.logdet.to(z.dtype).expand(len(z))

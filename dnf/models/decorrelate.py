"""A first layer that decorrelates the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decorrelate(nn.Module):
    """Fixed first layer z = (x - mean) V, so that densities are densities of the features themselves.

    With ``frame``, the output is one frame of a window minus its prediction from the other frames: V has a column for each of
    its F dims, and the log-determinant is that of the frame given the others. Without it, F is D.

    Directions of small variance are scaled by large factors, so the layer always computes in float64.
    """

    def __init__(self, dim: int, frame: slice | None = None):
        super().__init__()
        self.frame = frame or slice(0, dim)
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("matrix", torch.eye(dim, dtype=torch.float64)[:, self.frame].clone())
        self.register_buffer("logdet", torch.zeros((), dtype=torch.float64))

    def set(self, mean: Tensor, matrix: Tensor) -> None:
        """Set the mean ``(D,)`` and V ``(D, F)``."""
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        self.logdet.copy_(torch.linalg.slogdet(matrix[self.frame]).logabsdet)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``(N, D)`` to ``(N, F)`` and the log-determinant ``(N,)``."""
        z = (x.to(self.matrix.dtype) - self.mean) @ self.matrix
        return z.to(x.dtype), self.logdet.to(x.dtype).expand(len(x))

    def inverse(self, z: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(N, F)`` to the dims of the frame ``(N, F)``, of windows ``(N, D)`` whose other frames are ``given``."""
        wide = z.to(self.matrix.dtype)
        if given is not None:
            others = given.to(self.matrix.dtype) - self.mean
            others[:, self.frame] = 0
            wide = wide - others @ self.matrix
        x = torch.linalg.solve(self.matrix[self.frame], wide, left=False) + self.mean[self.frame]
        return x.to(z.dtype), -self.logdet.to(z.dtype).expand(len(z))

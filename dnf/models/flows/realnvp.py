"""RealNVP. Source: Dinh et al., "Density estimation using Real NVP", arXiv:1605.08803."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.transforms import Coupling


class RealNVP(nn.Module):
    """Coupling layers that change the second and the first half of the dims in turn.

    ``mask: evenodd`` makes the halves of the even and the odd dims; latents keep the order of the data either way.
    One dim cannot be halved, so ``dim`` is at least 2.

    >>> from dnf.experiment.config import resolve
    >>> flow = RealNVP(6, resolve(["flow.blocks=3", "flow.hidden=8"]).flow)
    >>> z, logdet = flow(torch.ones(2, 6))
    >>> z.shape, logdet.tolist()  # a new flow is the identity
    (torch.Size([2, 6]), [0.0, 0.0])
    """

    def __init__(self, dim: int, settings: Flow):
        super().__init__()
        if dim < 2:
            raise ValueError(f"a RealNVP needs at least 2 dims, not {dim}")
        order = torch.arange(dim)
        if settings.mask == "evenodd":
            order = torch.cat([order[0::2], order[1::2]])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.reorders = settings.mask == "evenodd"
        self.sizes = (dim - dim // 2, dim // 2)
        self.blocks = nn.ModuleList(
            Coupling(self.sizes[i % 2], self.sizes[(i + 1) % 2], settings) for i in range(settings.blocks)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        halves = list((x[:, self.order] if self.reorders else x).split(self.sizes, dim=1))
        logdet = x.new_zeros(len(x))
        for i, block in enumerate(self.blocks):
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block(halves[kept], halves[changed])
            logdet = logdet + change
        return self._join(halves), logdet

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` to data ``(N, D)`` and log|det dx/dz| ``(N,)``."""
        halves = list((z[:, self.order] if self.reorders else z).split(self.sizes, dim=1))
        logdet = z.new_zeros(len(z))
        for i, block in reversed(list(enumerate(self.blocks))):
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block.inverse(halves[kept], halves[changed])
            logdet = logdet + change
        return self._join(halves), logdet

    def _join(self, halves: list[Tensor]) -> Tensor:
        joined = torch.cat(halves, dim=1)
        return joined[:, self.back] if self.reorders else joined

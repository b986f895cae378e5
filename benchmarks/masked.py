"""A RealNVP as in the notes' code base: masks over the full width, two networks per block.

It computes the same function as ``dnf.models.flows.realnvp.RealNVP`` with ``flow.nets: two``, with more multiply-adds: the
networks read all dims, with zeros for those that change, and output all dims, of which those that stay are not used. Source:
Dinh et al., "Density estimation using Real NVP", arXiv:1605.08803, eq. 9.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.transforms import make_net


class MaskedCoupling(nn.Module):
    """y = b x + (1 - b) (x exp(s(b x)) + t(b x)) with a mask b ``(D,)`` that is 1 where dims stay."""

    def __init__(self, mask: Tensor, settings: Flow):
        super().__init__()
        self.register_buffer("mask", mask)
        self.bound = settings.log_scale_bound
        self.scale_net, self.shift_net = (make_net(len(mask), len(mask), settings) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, changes = self.mask * x, 1 - self.mask
        raw, shift = self.scale_net(kept), self.shift_net(kept)
        if raw.dtype == torch.bfloat16:
            raw, shift = raw.float(), shift.float()
        log_scale = changes * (self.bound * torch.tanh(raw))
        return kept + changes * (x * log_scale.exp() + shift), log_scale.sum(1)


class MaskedRealNVP(nn.Module):
    """Masked couplings that change the second and the first half of the dims, or the odd and the even ones, in turn."""

    def __init__(self, dim: int, settings: Flow):
        super().__init__()
        if settings.nets != "two":
            raise ValueError(f"full-width masks need flow.nets: two, not {settings.nets}")
        if settings.mask == "evenodd":
            first = torch.arange(dim) % 2 == 0
        else:
            first = torch.arange(dim) < dim - dim // 2
        masks = (first.float(), (~first).float())
        self.blocks = nn.ModuleList(MaskedCoupling(masks[i % 2], settings) for i in range(settings.blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        logdet = x.new_zeros(len(x))
        for block in self.blocks:
            x, change = block(x)
            logdet = logdet + change
        return x, logdet

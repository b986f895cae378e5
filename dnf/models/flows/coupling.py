"""Flows of coupling layers, for any transform of the changed half of the dims."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.linear import make_mixes


def steering(kept: Tensor, given: Tensor | None) -> Tensor:
    """Input of the networks of a layer: the dims that stay, and the condition of the flow."""
    return kept if given is None else torch.cat([kept, given], dim=1)


class CouplingFlow(nn.Module):
    """Coupling layers that change the second and the first half of the dims in turn.

    With ``mask: evenodd`` the halves are the even and the odd dims; latents always keep the order of the data.
    ``dim`` is at least 2, since one dim has no halves. The layers of a conditional flow also read its condition
    ``(N, given)``.

    A family is a subclass with its ``coupling``: a module that is made from the number of dims that its networks read, the
    number of dims that change, and the settings. Its ``forward`` and ``inverse`` take both, ``(N, kept)`` and
    ``(N, changed)``, and return the changed dims and the log|det| of their Jacobian, ``(N,)`` in nats.
    """

    coupling: Callable[[int, int, Flow], nn.Module]

    def __init__(self, dim: int, settings: Flow, given: int = 0):
        super().__init__()
        if dim < 2:
            raise ValueError(f"flow.kind {settings.kind} needs at least 2 dims, not {dim}")
        order = torch.arange(dim)
        if settings.mask == "evenodd":
            order = torch.cat([order[0::2], order[1::2]])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.reorders = settings.mask == "evenodd"
        self.sizes = (dim - dim // 2, dim // 2)
        self.blocks = nn.ModuleList(
            self.coupling(self.sizes[i % 2] + given, self.sizes[(i + 1) % 2], settings) for i in range(settings.blocks)
        )
        self.mixes = make_mixes(dim, settings)

    def forward(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        halves = list((x[:, self.order] if self.reorders else x).split(self.sizes, dim=1))
        logdet = x.new_zeros(len(x))
        for i, block in enumerate(self.blocks):
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block(steering(halves[kept], given), halves[changed])
            logdet = logdet + change
            if self.mixes:
                mixed, change = self.mixes[i](torch.cat(halves, dim=1))
                halves, logdet = list(mixed.split(self.sizes, dim=1)), logdet + change
        return self._join(halves), logdet

    def inverse(self, z: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` to data ``(N, D)`` and log|det dx/dz| ``(N,)``."""
        halves = list((z[:, self.order] if self.reorders else z).split(self.sizes, dim=1))
        logdet = z.new_zeros(len(z))
        for i, block in reversed(list(enumerate(self.blocks))):
            if self.mixes:
                mixed, change = self.mixes[i].inverse(torch.cat(halves, dim=1))
                halves, logdet = list(mixed.split(self.sizes, dim=1)), logdet + change
            kept, changed = i % 2, (i + 1) % 2
            halves[changed], change = block.inverse(steering(halves[kept], given), halves[changed])
            logdet = logdet + change
        return self._join(halves), logdet

    def _join(self, halves: list[Tensor]) -> Tensor:
        joined = torch.cat(halves, dim=1)
        return joined[:, self.back] if self.reorders else joined

"""Masked autoregressive flow. Source: Papamakarios et al., "Masked autoregressive flow for density estimation",
arXiv:1705.07057; its blocks: Germain et al., "MADE: masked autoencoder for distribution estimation", arXiv:1502.03509.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.linear import Chain, make_mixes
from dnf.models.flows.transforms import Affine, make_net


class MaskedLinear(nn.Linear):
    """A linear layer with only the weights of a mask ``(outputs, inputs)``."""

    def __init__(self, layer: nn.Linear, mask: Tensor):
        super().__init__(layer.in_features, layer.out_features)
        self.load_state_dict(layer.state_dict())
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


def make_masked_net(places: Tensor, each: int, settings: Flow) -> nn.Sequential:
    """A network ``(N, D)`` to ``(N, each * D)`` whose outputs for a dim depend only on the dims before it.

    A hidden unit of place p reads the dims up to p, and the outputs of later dims read it; the places of a layer are evenly
    spaced.

    Args:
        places: the place of each dim in the order, ``(D,)``.
        each: number of outputs for each dim; output ``i * D + k`` is for dim k.
    """
    dim = len(places)
    hidden = torch.arange(settings.hidden) * (dim - 1) // settings.hidden
    net = make_net(dim, each * dim, settings)
    seen = places
    for n in range(0, len(net) - 1, 2):
        net[n] = MaskedLinear(net[n], hidden[:, None] >= seen)
        seen = hidden
    net[-1] = MaskedLinear(net[-1], places.repeat(each)[:, None] > seen)
    return net


class MADE(Affine):
    """A layer that scales and shifts each dim by functions of the dims before it.

    Args:
        places: the place of each dim in the order, ``(D,)``.
    """

    def __init__(self, places: Tensor, settings: Flow):
        super().__init__(lambda each: make_masked_net(places, each, settings), settings)
        self.register_buffer("places", places, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """D passes, each of which computes the dim of the next place."""
        x = torch.zeros_like(y)
        for place in range(y.shape[1]):
            found, logdet = super().inverse(x, y)
            x = torch.where(self.places == place, found, x)
        return x, logdet


class MAF(Chain):
    """MADE blocks with alternating order of the dims; latents keep the order of the data.

    The density takes one pass, the inverse one pass for each dim and block.

    >>> from dnf.experiment.config import resolve
    >>> flow = MAF(6, resolve(["flow.blocks=3", "flow.hidden=8"]).flow)
    >>> z, logdet = flow(torch.ones(2, 6))
    >>> z.shape, logdet.tolist()  # a new flow is the identity
    (torch.Size([2, 6]), [0.0, 0.0])
    """

    def __init__(self, dim: int, settings: Flow):
        if dim < 2:
            raise ValueError(f"flow.kind {settings.kind} needs at least 2 dims, not {dim}")
        if settings.mask != "halves":
            raise ValueError(f"flow.kind {settings.kind} has no mask; do not set flow.mask")
        places = torch.arange(dim)
        blocks = [MADE(places if i % 2 == 0 else places.flip(0), settings) for i in range(settings.blocks)]
        mixes = make_mixes(dim, settings)
        super().__init__(*(layer for pair in zip(blocks, mixes) for layer in pair) if mixes else blocks)

"""A flow of a frame given the other frames of its window, p(x_t | x_t-L .. x_t-1, x_t+1 .. x_t+R, class).

Windows overlap, so the sum of their log densities counts every frame many times. With R = 0, by the chain rule, the sum of
these conditional log densities is the log-likelihood of the utterance.
"""

from __future__ import annotations

from torch import Tensor, nn

from dnf.experiment.settings import Flow
from dnf.models.flows.realnvp import RealNVP
from dnf.models.flows.transforms import hidden_layer


class Conditional(nn.Module):
    """Affine couplings of the F dims of a frame, also conditioned on a summary of its context.

    The summary is a layer of ``flow.summary`` units, the same for all couplings (Rasul et al., "Multivariate
    probabilistic time series forecasting via conditioned normalizing flows", arXiv:2002.06103).

    >>> import torch
    >>> from dnf.experiment.config import resolve
    >>> flow = Conditional(4, resolve(["flow.blocks=3", "flow.hidden=8"]).flow, context=20)
    >>> z, logdet = flow(torch.ones(2, 4), torch.ones(2, 20))
    >>> z.shape, logdet.tolist()  # a new flow is the identity
    (torch.Size([2, 4]), [0.0, 0.0])

    Args:
        dim: F.
        context: dims of the context of a frame.
    """

    def __init__(self, dim: int, settings: Flow, context: int):
        super().__init__()
        if settings.first_trainable:
            raise ValueError(f"flow.kind {settings.kind} has no trainable first layer; set flow.first_trainable=false")
        if not context:
            raise ValueError(f"flow.kind {settings.kind} needs frames around each; set splice.left, e.g. to 10")
        self.summary = nn.Sequential(*hidden_layer(context, settings.summary, settings))
        self.frame = RealNVP(dim, settings, settings.summary)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(N, F)`` to latents ``(N, F)`` and log|det dz/dx| ``(N,)``, given ``(N, C)``."""
        return self.frame(x, self.summary(context))

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, F)`` to frames ``(N, F)`` and log|det dx/dz| ``(N,)``, given ``(N, C)``."""
        return self.frame.inverse(z, self.summary(context))

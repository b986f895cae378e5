"""The discriminative normalization flow: a flow and a prior whose mean depends on the class.

    z = f(x) = [c ; r],   log p(x | y=k) = log N(c; mu_k, v_c I) + log N(r; 0, v_r I) + log|det df/dx|

Sources: Cai et al., "Deep normalization for speaker vectors", arXiv:2004.04095 (class-dependent means); Sun et al.,
"Deep generative factorization for speech signal", ICASSP 2021 (the parts c and r). All densities are in nats.
``prior.cond_r`` gives r a class-dependent mean, too; ``prior.variances`` makes the variances a parameter of each dim,
or of each class and dim. f is a fixed first layer, ``flow.first``, and the flow proper behind it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.experiment.settings import Flow, Prior
from dnf.models.decorrelate import Decorrelate
from dnf.models.flows import make_flow
from dnf.models.prior import ClassPrior
from dnf.models.standardize import Standardize


class DNF(nn.Module):
    """A flow with a class-dependent prior.

    Args:
        dim: D, dims of a vector.
        num_classes: K; a plain normalization flow may have 1.
        flow, prior: the settings.
    """

    def __init__(self, dim: int, num_classes: int, flow: Flow, prior: Prior):
        super().__init__()
        self.first = Standardize(dim) if flow.first == "standardize" else Decorrelate(dim)
        self.flow = make_flow(dim, flow)
        self.prior = ClassPrior(dim, num_classes, prior)

    @classmethod
    def from_config(cls, config: Config, num_classes: int) -> DNF:
        return cls(config.dim, num_classes, config.flow, config.prior)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        y, scaling = self.first(x)
        z, logdet = self.flow(y)
        return z, logdet + scaling

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` to data ``(N, D)`` and log|det dx/dz| ``(N,)``."""
        y, logdet = self.flow.inverse(z)
        x, scaling = self.first.inverse(y)
        return x, logdet + scaling

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | y=k) ``(N, K)`` of vectors ``(N, D)`` for every class."""
        z, logdet = self(x)
        return self.prior.of_all(z) + logdet[:, None]

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Vectors ``(N, D)``, one drawn for each class id of ``labels`` ``(N,)``."""
        return self.inverse(self.prior.sample(labels, generator))[0]

    @torch.no_grad()
    def init_means(self, x: Tensor, labels: Tensor) -> None:
        """Start each class mean at that of its latents, in class-id order; ``x`` ``(N, D)``, ``labels`` ``(N,)``."""
        z, prior = self(x)[0], self.prior
        for k in range(len(prior.means)):
            mean = z[labels == k].mean(0)
            prior.means[k] = mean[: prior.cond_dim]
            if prior.means_r is not None:
                prior.means_r[k] = mean[prior.cond_dim :]

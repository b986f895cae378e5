"""The discriminative normalization flow: a flow and a prior whose mean depends on the class.

    z = f(x) = [c ; r],   log p(x | y=k) = log N(c; mu_k, v_c I) + log N(r; 0, v_r I) + log|det df/dx|

Sources: Cai et al., "Deep normalization for speaker vectors", arXiv:2004.04095 (class-dependent means); Sun et al., "Deep
generative factorization for speech signal", ICASSP 2021 (the parts c and r). All densities are in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dnf.config import Config, Flow, Prior
from dnf.flows import RealNVP, Standardize


class ClassPrior(nn.Module):
    """Gaussian prior of z = [c ; r]: c ~ N(mu_k, v_c I) over the first ``cond_dim`` dims, r ~ N(0, v_r I) over the rest.

    ``var_c`` and ``var_r`` are variances. With ``cond_dim`` 0 it is the prior of a plain normalization flow.
    """

    def __init__(self, dim: int, num_classes: int, settings: Prior):
        super().__init__()
        self.dim, self.cond_dim = dim, settings.cond_dim
        self.var_c, self.var_r = settings.var_c, settings.var_r
        self.means = nn.Parameter(torch.zeros(num_classes, settings.cond_dim))

    @property
    def constant(self) -> float:
        """The part of the log density that depends on neither z nor the class."""
        rest = self.dim - self.cond_dim
        return -0.5 * (self.cond_dim * math.log(2 * math.pi * self.var_c) + rest * math.log(2 * math.pi * self.var_r))

    def of_class(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log density ``(N,)`` of latents ``(N, D)`` under the class of each, ``(N,)`` ids."""
        c, r = z[:, : self.cond_dim], z[:, self.cond_dim :]
        distance = (c - nn.functional.embedding(labels, self.means)).square().sum(1) / self.var_c
        return self.constant - 0.5 * (distance + r.square().sum(1) / self.var_r)

    def of_all(self, z: Tensor) -> Tensor:
        """Log density ``(N, K)`` of latents ``(N, D)`` under every class, the squares expanded: one matrix product."""
        c, r = z[:, : self.cond_dim], z[:, self.cond_dim :]
        squares = c.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * c @ self.means.T
        return self.constant - 0.5 * (squares / self.var_c + r.square().sum(1, keepdim=True) / self.var_r)

    def sample(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents ``(N, D)``, one for each class id of ``labels`` ``(N,)``."""
        z = torch.randn(len(labels), self.dim, generator=generator, device=self.means.device, dtype=self.means.dtype)
        c, r = (
            z[:, : self.cond_dim] * math.sqrt(self.var_c) + self.means[labels],
            z[:, self.cond_dim :] * math.sqrt(self.var_r),
        )
        return torch.cat([c, r], dim=1)


class DNF(nn.Module):
    """A flow with a class-dependent prior.

    Args:
        dim: D, dims of a vector.
        num_classes: K; a plain normalization flow may have 1.
        flow, prior: the settings.
    """

    def __init__(self, dim: int, num_classes: int, flow: Flow, prior: Prior):
        super().__init__()
        self.standardize = Standardize(dim)
        self.flow = RealNVP(dim, flow)
        self.prior = ClassPrior(dim, num_classes, prior)

    @classmethod
    def from_config(cls, config: Config, num_classes: int) -> DNF:
        return cls(config.dim, num_classes, config.flow, config.prior)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents ``(N, D)`` and log|det dz/dx| ``(N,)``."""
        y, scaling = self.standardize(x)
        z, logdet = self.flow(y)
        return z, logdet + scaling

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, D)`` to data ``(N, D)`` and log|det dx/dz| ``(N,)``."""
        y, logdet = self.flow.inverse(z)
        x, scaling = self.standardize.inverse(y)
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
        """Start each class mean at the mean of its latents, in class-id order; ``x`` ``(N, D)``, ``labels`` ``(N,)``."""
        c = self(x)[0][:, : self.prior.cond_dim]
        for k in range(len(self.prior.means)):
            self.prior.means[k] = c[labels == k].mean(0)

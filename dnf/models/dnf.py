"""The discriminative normalization flow: a flow and a prior whose mean depends on the class.

    z = f(x) = [c ; r],   log p(x | y=k) = log N(c; mu_k, v_c I) + log N(r; 0, v_r I) + log|det df/dx|

Sources: Cai et al., "Deep normalization for speaker vectors", arXiv:2004.04095 (class-dependent means); Sun et al.,
"Deep generative factorization for speech signal", ICASSP 2021 (the parts c and r). All densities are in nats.
``prior.cond_r`` gives r a class-dependent mean, too; ``prior.variances`` makes the variances a parameter of each dim,
or of each class and dim. f is a fixed first layer, ``flow.first``, and the flow proper behind it.

With ``flow.kind: conditional`` x is a window, f maps its current frame x_t, given the others, and the densities are
log p(x_t | x_t-L .. x_t-1, x_t+1 .. x_t+R, y=k): with R = 0 their sum is the log-likelihood of the utterance.
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
        dim: D, dims of a vector. Latents have as many, or the F of a frame.
        num_classes: K; a plain normalization flow may have 1.
        flow, prior: the settings.
        frame: columns of the current frame of a window, for a conditional flow; None for others.
    """

    def __init__(self, dim: int, num_classes: int, flow: Flow, prior: Prior, frame: slice | None = None):
        super().__init__()
        self.frame, latent = frame, frame.stop - frame.start if frame else dim
        plain = flow.first == "standardize" and frame is None
        self.first = Standardize(dim) if plain else Decorrelate(dim, frame)
        self.scale_context = Standardize(dim) if frame else None
        self.flow = make_flow(latent, flow, dim - latent)
        self.prior = ClassPrior(latent, num_classes, prior)

    @classmethod
    def from_config(cls, config: Config, num_classes: int) -> DNF:
        return cls(config.dim, num_classes, config.flow, config.prior, config.frame)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data ``(N, D)`` to latents, ``(N, D)`` or ``(N, F)``, and log|det dz/dx| ``(N,)``."""
        y, scaling = self.first(x)
        z, logdet = self.flow(y, *self._context(x))
        return z, logdet + scaling

    def inverse(self, z: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents to data of the same dims and log|det dx/dz| ``(N,)``.

        Args:
            z: ``(N, D)``, or ``(N, F)`` of a conditional flow.
            given: windows ``(N, D)`` of which a conditional flow takes all frames but the current one.
        """
        if self.frame is None:
            y, logdet = self.flow.inverse(z)
            x, scaling = self.first.inverse(y)
        else:
            y, logdet = self.flow.inverse(z, *self._context(given))
            x, scaling = self.first.inverse(y, given)
        return x, logdet + scaling

    def _context(self, x: Tensor) -> tuple[Tensor, ...]:
        """What a conditional flow is given of windows ``(N, D)``: their other frames, standardized."""
        if self.frame is None:
            return ()
        scaled = self.scale_context(x)[0]
        return (torch.cat([scaled[:, : self.frame.start], scaled[:, self.frame.stop :]], dim=1),)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | y=k) ``(N, K)`` of vectors ``(N, D)`` for every class."""
        z, logdet = self(x)
        return self.prior.of_all(z) + logdet[:, None]

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator | None = None, given: Tensor | None = None) -> Tensor:
        """Vectors ``(N, D)``, or frames ``(N, F)`` of windows ``given``, one for each class id of ``labels`` ``(N,)``."""
        return self.inverse(self.prior.sample(labels, generator), given)[0]

    @torch.no_grad()
    def init_means(self, x: Tensor, labels: Tensor) -> None:
        """Start each class mean at that of its latents, in class-id order; ``x`` ``(N, D)``, ``labels`` ``(N,)``."""
        z, prior = self(x)[0], self.prior
        for k in range(len(prior.means)):
            mean = z[labels == k].mean(0)
            prior.means[k] = mean[: prior.cond_dim]
            if prior.means_r is not None:
                prior.means_r[k] = mean[prior.cond_dim :]

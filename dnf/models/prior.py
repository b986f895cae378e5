"""The prior of the latents: Gaussians with a mean for each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dnf.experiment.settings import Prior


class ClassPrior(nn.Module):
    """Gaussian prior of z = [c ; r]: c ~ N(mu_k, v_c I), the first ``cond_dim`` dims, and r ~ N(0, v_r I), the rest.

    ``var_c`` and ``var_r`` are variances. With ``cond_dim`` 0 it is the prior of a plain normalization flow.

    With ``cond_r`` r ~ N(m_k, v_r I) has class means of its own. With ``variances`` tied or free each dim has a learned
    variance: tied, the same for all classes, or free, one for each class in the parts whose mean depends on the class.
    """

    def __init__(self, dim: int, num_classes: int, settings: Prior):
        super().__init__()
        self.dim, self.cond_dim = dim, settings.cond_dim
        self.var_c, self.var_r = settings.var_c, settings.var_r
        rest = dim - settings.cond_dim
        self.means = nn.Parameter(torch.zeros(num_classes, settings.cond_dim))
        self.means_r = nn.Parameter(torch.zeros(num_classes, rest)) if settings.cond_r else None
        self.log_var_c = self.log_var_r = None
        if settings.variances != "fixed":
            rows = num_classes if settings.variances == "free" else 1
            self.log_var_c = nn.Parameter(torch.full((rows, settings.cond_dim), math.log(settings.var_c)))
            rows = rows if settings.cond_r else 1
            self.log_var_r = nn.Parameter(torch.full((rows, rest), math.log(settings.var_r)))

    @property
    def is_plain(self) -> bool:
        """Whether the prior has only one variance per part and the means of c."""
        return self.means_r is None and self.log_var_c is None

    @torch.no_grad()
    def start(self, means: Tensor, variances: Tensor, shares: Tensor) -> None:
        """Take means and, unless they are fixed, variances of latents, ``(K, D)`` each; ``(1, D)`` without classes.

        Args:
            shares: of the classes in what a variance common to them is the mean over, ``(K,)`` with sum 1.
        """
        means, variances, shares = (t.to(self.means.device) for t in (means, variances, shares))
        self.means.copy_(means[:, : self.cond_dim])
        if self.means_r is not None:
            self.means_r.copy_(means[:, self.cond_dim :])
        if self.log_var_c is None:
            return
        about = variances + (means - self.class_means()[: len(means)]).square()  # r has the mean 0 unless ``cond_r``
        for parameter, part in (
            (self.log_var_c, about[:, : self.cond_dim]),
            (self.log_var_r, about[:, self.cond_dim :]),
        ):
            parameter.copy_((part if len(parameter) == len(part) else shares @ part).log())

    def class_means(self) -> Tensor:
        """Mean of z for each class, ``(K, D)``; 0 in r unless it depends on the class."""
        k, rest = len(self.means), self.dim - self.cond_dim
        return torch.cat([self.means, self.means.new_zeros(k, rest) if self.means_r is None else self.means_r], dim=1)

    def class_log_variances(self) -> Tensor:
        """Log-variance of each dim of z for each class, ``(K, D)``."""
        k, rest = len(self.means), self.dim - self.cond_dim
        if self.log_var_c is None:
            ones = self.means.new_ones(k, 1)
            return torch.cat(
                [(math.log(self.var_c) * ones).expand(k, self.cond_dim), (math.log(self.var_r) * ones).expand(k, rest)],
                1,
            )
        return torch.cat([self.log_var_c.expand(k, -1), self.log_var_r.expand(k, -1)], dim=1)

    @property
    def constant(self) -> float:
        """The part of the log density that depends on neither z nor the class, where the variances are fixed."""
        rest = self.dim - self.cond_dim
        return -0.5 * (self.cond_dim * math.log(2 * math.pi * self.var_c) + rest * math.log(2 * math.pi * self.var_r))

    def of_class(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log density ``(N,)`` of latents ``(N, D)`` under the class of each, ``(N,)`` ids."""
        if not self.is_plain:
            log_var = nn.functional.embedding(labels, self.class_log_variances())
            distance = (z - nn.functional.embedding(labels, self.class_means())).square() * (-log_var).exp()
            return -0.5 * ((distance + log_var).sum(1) + self.dim * math.log(2 * math.pi))
        c, r = z[:, : self.cond_dim], z[:, self.cond_dim :]
        distance = (c - nn.functional.embedding(labels, self.means)).square().sum(1) / self.var_c
        return self.constant - 0.5 * (distance + r.square().sum(1) / self.var_r)

    def of_all(self, z: Tensor) -> Tensor:
        """Log density ``(N, K)`` of latents ``(N, D)`` under every class, the squares expanded: matrix products."""
        if not self.is_plain:
            means, log_var = self.class_means(), self.class_log_variances()
            centre = means.mean(0)  # the squares are smaller about it, and so are their rounding errors
            z, means, precision = z - centre, means - centre, (-log_var).exp()
            squares = z.square() @ precision.T - 2 * z @ (means * precision).T + (means.square() * precision).sum(1)
            return -0.5 * (squares + log_var.sum(1) + self.dim * math.log(2 * math.pi))
        c, r = z[:, : self.cond_dim], z[:, self.cond_dim :]
        squares = c.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * c @ self.means.T
        return self.constant - 0.5 * (squares / self.var_c + r.square().sum(1, keepdim=True) / self.var_r)

    def standardized(self, z: Tensor, labels: Tensor) -> Tensor:
        """Latents ``(N, D)`` less the mean of their class, in standard deviations: N(0, I) where the prior holds."""
        means, log_var = (
            nn.functional.embedding(labels, table) for table in (self.class_means(), self.class_log_variances())
        )
        return (z - means) * (-0.5 * log_var).exp()

    @torch.no_grad()
    def squashed(self, z: Tensor) -> Tensor:
        """tanh of latents ``(N, D)`` in standard deviations about the mean of the class means: few frames cannot dominate means."""
        return ((z - self.class_means().mean(0)) * (-0.5 * self.class_log_variances().mean(0)).exp()).tanh()

    def sample(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents ``(N, D)``, one for each class id of ``labels`` ``(N,)``."""
        z = torch.randn(len(labels), self.dim, generator=generator, device=self.means.device, dtype=self.means.dtype)
        if not self.is_plain:
            return z * (0.5 * self.class_log_variances()[labels]).exp() + self.class_means()[labels]
        c, r = (
            z[:, : self.cond_dim] * math.sqrt(self.var_c) + self.means[labels],
            z[:, self.cond_dim :] * math.sqrt(self.var_r),
        )
        return torch.cat([c, r], dim=1)

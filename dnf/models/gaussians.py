"""Gaussian baselines as modules: LDA and diagonal GMMs."""

from __future__ import annotations

import math

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from dnf.models.standardize import Standardize


class LDA(nn.Module):
    """Gaussians with one covariance for all classes, in float64.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.standardize = Standardize(dim)
        self.register_buffer("whiten", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(num_classes, dim, dtype=torch.float64))
        self.register_buffer("constant", torch.tensor(-0.5 * dim * math.log(2 * math.pi), dtype=torch.float64))

    def set(self, lda: LinearDiscriminantAnalysis) -> None:
        """Take what scikit-learn fitted; its solver must keep ``covariance_``."""
        factor = torch.linalg.cholesky(torch.from_numpy(lda.covariance_).double())
        eye = torch.eye(len(factor), dtype=torch.float64)
        self.whiten.copy_(torch.linalg.solve_triangular(factor, eye, upper=False).T)
        self.means.copy_(torch.from_numpy(lda.means_).to(self.whiten.device).double() @ self.whiten)
        self.constant.copy_(-0.5 * len(factor) * math.log(2 * math.pi) - factor.diagonal().log().sum())

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        z = z @ self.whiten
        squares = z.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * z @ self.means.T
        return self.constant - 0.5 * squares + change[:, None]


class GMM(nn.Module):
    """A mixture of M Gaussians with diagonal covariances for each class, in float64.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
        components: M; a class may use fewer.
    """

    def __init__(self, dim: int, num_classes: int, components: int):
        super().__init__()
        self.standardize = Standardize(dim)
        shape = num_classes, components, dim
        self.register_buffer("log_weights", torch.full(shape[:2], -math.inf, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variances", torch.ones(shape, dtype=torch.float64))

    def set(self, label: int, gmm: GaussianMixture) -> None:
        """Take what scikit-learn fitted to the vectors of a class."""
        used = gmm.n_components
        self.log_weights[label, :used] = torch.from_numpy(gmm.weights_).log().to(self.means.device)
        self.means[label, :used] = torch.from_numpy(gmm.means_).to(self.means.device)
        self.variances[label, :used] = torch.from_numpy(gmm.covariances_).to(self.means.device)

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        constant = self.log_weights - 0.5 * (2 * math.pi * self.variances).log().sum(2)
        squares = z.square()
        of_class = []
        for means, precisions, of_each in zip(self.means, 1 / self.variances, constant):
            distance = squares @ precisions.T - 2 * z @ (means * precisions).T + (means.square() * precisions).sum(1)
            of_class.append(torch.logsumexp(of_each - 0.5 * distance, dim=1))
        return torch.stack(of_class, dim=1) + change[:, None]

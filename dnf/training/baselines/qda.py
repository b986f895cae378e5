"""Quadratic discriminant analysis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.training.baselines.baseline import Baseline
from dnf.training.class_statistics import class_statistics


class QDA(Baseline):
    """A Gaussian with a full covariance for each class, in float64; the covariance of a class with few frames is shrunk."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        eyes = torch.eye(dim, dtype=torch.float64).repeat(num_classes, 1, 1)
        self.register_buffer("whiten", eyes)
        self.register_buffer("means", torch.zeros(num_classes, dim, dtype=torch.float64))
        constant = torch.full((num_classes,), -0.5 * dim * math.log(2 * math.pi), dtype=torch.float64)
        self.register_buffer("constant", constant)

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """Fit to all frames, in one pass."""
        statistics = class_statistics(train, classes, self.standardize)
        self.set(statistics.means, statistics.invertible())

    def set(self, means: Tensor, covariances: Tensor) -> None:
        """Set the means ``(K, D)`` and covariances ``(K, D, D)`` of the classes."""
        self.means.copy_(means)
        eye = torch.eye(means.shape[1], dtype=torch.float64)
        for label, covariance in enumerate(covariances):
            factor = torch.linalg.cholesky(covariance)
            self.whiten[label] = torch.linalg.solve_triangular(factor, eye, upper=False).T
            self.constant[label] = -0.5 * len(eye) * math.log(2 * math.pi) - factor.diagonal().log().sum()

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        squares = [((z - mean) @ whiten).square().sum(1) for mean, whiten in zip(self.means, self.whiten)]
        return self.constant - 0.5 * torch.stack(squares, dim=1) + change[:, None]

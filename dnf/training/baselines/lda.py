"""Linear discriminant analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.training.baselines.baseline import Baseline, shares_in_batches, vectors_of_class


class LDA(Baseline):
    """Gaussians with one covariance for all classes, in float64."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        self.register_buffer("whiten", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(num_classes, dim, dtype=torch.float64))
        self.register_buffer("constant", torch.tensor(-0.5 * dim * math.log(2 * math.pi), dtype=torch.float64))

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """One class after the other, so that the vectors of one are in memory."""
        counts, most = train.class_counts(classes).values(), self.settings.max_frames
        vectors = (vectors_of_class(train, k, n, most, self.standardize) for k, n in enumerate(counts))
        self.fit_vectors(vectors, shares_in_batches(train, classes, config).numpy())

    def fit_vectors(self, of_classes: Iterable[np.ndarray], shares: np.ndarray) -> None:
        """Take means and the covariance within class from the standardized vectors ``(N, D)`` of each class.

        The covariance is the mean of those of the classes, weighted by their ``shares`` ``(K,)``, which add up to 1.
        Each is shrunk as Ledoit and Wolf say, which keeps it invertible. ``LinearDiscriminantAnalysis(solver="lsqr",
        shrinkage="auto")`` of scikit-learn finds the same from the vectors of all classes at once.
        """
        dim = len(self.whiten)
        means, covariance = [], np.zeros((dim, dim))
        for vectors, share in zip(of_classes, shares):
            means.append(vectors.mean(0))
            covariance += share * shrunk_covariance(vectors)
        factor = torch.linalg.cholesky(torch.from_numpy(covariance))
        self.whiten.copy_(torch.linalg.solve_triangular(factor, torch.eye(dim, dtype=factor.dtype), upper=False).T)
        self.means.copy_(torch.from_numpy(np.stack(means)).to(self.whiten.device) @ self.whiten)
        self.constant.copy_(-0.5 * dim * math.log(2 * math.pi) - factor.diagonal().log().sum())

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        z = z @ self.whiten
        squares = z.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * z @ self.means.T
        return self.constant - 0.5 * squares + change[:, None]


def shrunk_covariance(vectors: np.ndarray) -> np.ndarray:
    """Covariance ``(D, D)`` of vectors ``(N, D)``, shrunk with each dim scaled to variance 1."""
    scaler = StandardScaler()
    covariance, _ = ledoit_wolf(scaler.fit_transform(vectors))
    return scaler.scale_[:, None] * covariance * scaler.scale_

"""Linear discriminant analysis."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
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
        """The covariance is shrunk as Ledoit and Wolf say, which keeps it invertible."""
        counts = list(train.class_counts(classes).values())
        vectors = [
            vectors_of_class(train, k, n, self.settings.max_frames, self.standardize) for k, n in enumerate(counts)
        ]
        labels = np.repeat(np.arange(len(classes)), [len(v) for v in vectors])
        priors = shares_in_batches(train, classes, config).numpy()
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
        self.set(lda.fit(np.concatenate(vectors), labels))

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

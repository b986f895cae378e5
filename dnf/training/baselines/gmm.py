"""Gaussian mixture models."""

from __future__ import annotations

import logging
import math

import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.training.baselines.baseline import Baseline, vectors_of_class

log = logging.getLogger(__name__)


class GMM(Baseline):
    """A mixture of M Gaussians with diagonal covariances for each class, in float64; a class of few frames has fewer."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        shape = num_classes, settings.gmm_components, dim
        self.register_buffer("log_weights", torch.full(shape[:2], -math.inf, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variances", torch.ones(shape, dtype=torch.float64))

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """By expectation-maximization, each class by itself."""
        for label, (name, count) in enumerate(train.class_counts(classes).items()):
            vectors = vectors_of_class(train, label, count, self.settings.max_frames, self.standardize)
            components = min(self.settings.gmm_components, len(vectors))
            gmm = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=config.seed)
            # with threads, k-means adds up in a random order
            with threadpool_limits(1, user_api="openmp"):
                gmm.fit(vectors)
            log.info("gmm: class %s: %d frames, %d steps of EM", name, len(vectors), gmm.n_iter_)
            self.set(label, gmm)

    def set(self, label: int, gmm: GaussianMixture) -> None:
        """Copy the parameters that scikit-learn fitted to the vectors of a class."""
        used = gmm.n_components
        self.log_weights[label, :used] = torch.from_numpy(gmm.weights_).log().to(self.means.device)
        self.means[label, :used] = torch.from_numpy(gmm.means_).to(self.means.device)
        self.variances[label, :used] = torch.from_numpy(gmm.covariances_).to(self.means.device)

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        constants = self.log_weights - 0.5 * (2 * math.pi * self.variances).log().sum(2)
        squares = z.square()
        classes = []
        for means, precisions, constant in zip(self.means, 1 / self.variances, constants):
            distance = squares @ precisions.T - 2 * z @ (means * precisions).T + (means.square() * precisions).sum(1)
            classes.append(torch.logsumexp(constant - 0.5 * distance, dim=1))
        return torch.stack(classes, dim=1) + change[:, None]

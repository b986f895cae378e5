"""Multinomial logistic regression."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.training.baselines.baseline import PosteriorBaseline, shares_in_batches, vectors_of_class

log = logging.getLogger(__name__)

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse penalties per vector that are tried; the best on dev is kept
STEPS = 200  # most iterations of a fit


class LR(PosteriorBaseline):
    """Class posteriors linear in the vectors; what it returns is free of the classes' shares in training."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        self.register_buffer("weights", torch.zeros(dim, num_classes, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(num_classes, dtype=torch.float64))

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x) ``(N, K)`` of vectors ``(N, D)`` with the shares of the classes in training."""
        return torch.log_softmax(self.standardize(x.double())[0] @ self.weights + self.bias, dim=1)

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """With the L2 penalty of lowest cross-entropy on dev; the classes have their shares of training batches."""
        counts, most = list(train.class_counts(classes).values()), self.settings.max_frames
        vectors = [vectors_of_class(train, k, n, most, self.standardize) for k, n in enumerate(counts)]
        labels = np.repeat(np.arange(len(classes)), [len(part) for part in vectors])
        x = np.concatenate(vectors)
        del vectors
        shares = shares_in_batches(train, classes, config)
        self.log_prior.copy_(shares.log())
        weights = (shares.numpy() * len(x) / np.bincount(labels))[labels]
        on_dev = self.dev_weights(dev, classes)
        best, kept = math.inf, {}
        model = LogisticRegression(max_iter=STEPS, warm_start=True)
        for strength in STRENGTHS:
            model.C = strength
            self.set(model.fit(x, labels, sample_weight=weights))
            value = self.cross_entropy(dev, on_dev)
            log.info("lr: inverse penalty %g: cross-entropy %.4f on dev", strength, value)
            if value < best:
                best, kept = value, {"weights": self.weights.clone(), "bias": self.bias.clone()}
        self.load_state_dict(kept, strict=False)

    def set(self, model: LogisticRegression) -> None:
        """Take the parameters of a fitted model; for two classes it has those of the second against the first."""
        weights, bias = torch.from_numpy(model.coef_.T.copy()), torch.from_numpy(model.intercept_.copy())
        if weights.shape[1] == 1:
            weights, bias = torch.cat([-weights, weights], dim=1) / 2, torch.cat([-bias, bias]) / 2
        self.weights.copy_(weights)
        self.bias.copy_(bias)

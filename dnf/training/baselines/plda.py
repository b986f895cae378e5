"""Two-covariance PLDA with the classes as its speakers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.windows import Windows
from dnf.models.backends import Groups, Plda
from dnf.training.baselines.baseline import Baseline, vectors_of_class


class PLDA(Baseline):
    """log p(x | the training vectors of a class), in float64; a class of few vectors has a less certain mean than in an LDA."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("axes", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("enrolled", torch.zeros(num_classes, 2 * dim + 1, dtype=torch.float64))

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """By expectation-maximization; then each class is enrolled with its training vectors."""
        counts, most = train.class_counts(classes).values(), self.settings.max_frames
        vectors = [vectors_of_class(train, k, n, most, self.standardize) for k, n in enumerate(counts)]
        label = np.repeat(np.arange(len(vectors)), [len(part) for part in vectors])
        x = np.concatenate(vectors)
        del vectors
        model = Plda.fit(x, label)
        enrolled = model.enrolled(Groups.of(model.prepared(x), label))[:, :-1]  # the rest is common to the classes
        for name, values in (("mean", model.mean), ("axes", model.axes), ("enrolled", enrolled)):
            getattr(self, name).copy_(torch.from_numpy(values))

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats, up to a constant common to the classes."""
        z = (self.standardize(x.double())[0] - self.mean) @ self.axes
        return torch.cat([z.square(), z, z.new_ones(len(z), 1)], dim=1) @ self.enrolled.T

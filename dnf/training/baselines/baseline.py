"""What every baseline is, and the vectors and class shares it is fitted with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.experiment.settings import Baselines
from dnf.features.rows import batch_for, evenly_spaced
from dnf.features.windows import Windows
from dnf.models.standardize import Standardize
from dnf.training.sampler import class_shares

FEWEST_FRAMES = 2  # fewest frames of a class for a fit


class Baseline(nn.Module):
    """A system whose ``forward`` takes vectors ``(N, D)`` to log p(x | k) ``(N, K)``, nats.

    They may lack a constant that is common to the classes. All that ``fit`` finds is in the state dict.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
        settings: of all baselines.
    """

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__()
        self.settings = settings
        self.standardize = Standardize(dim)

    def fit(self, train: Windows, dev: Windows, classes: list[str], config: Config) -> None:
        """Fit a new system, whose first layer is set.

        Args:
            train, dev: vectors of the classes, all of which have some.
            classes: their names, in id order.
            config: all settings.
        """
        raise NotImplementedError


class PosteriorBaseline(Baseline):
    """A system that is trained to give class posteriors, ``log_posterior``; it divides them by the shares in training."""

    def __init__(self, dim: int, num_classes: int, settings: Baselines):
        super().__init__(dim, num_classes, settings)
        self.register_buffer("log_prior", torch.full((num_classes,), -math.log(num_classes)))

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x) ``(N, K)`` of vectors ``(N, D)`` with the shares of the classes in training, ``log_prior``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats, up to a constant common to the classes."""
        return self.log_posterior(x) - self.log_prior

    def dev_weights(self, dev: Windows, classes: list[str]) -> Tensor:
        """Weight ``(K,)`` of a frame of each class of dev, so that dev has the shares of training."""
        return self.log_prior.exp() / torch.tensor(list(dev.class_counts(classes).values()), device=dev.device)

    @torch.no_grad()
    def cross_entropy(self, windows: Windows, weights: Tensor) -> float:
        """Mean cross-entropy in nats, each frame with the weight of its class ``(K,)``."""
        self.eval()
        total = weight = 0.0
        for rows in torch.arange(len(windows)).split(batch_for(windows.device)):
            labels = windows.labels(rows)
            frame_weights = weights[labels]
            true_class = self.log_posterior(windows.gather(rows)).gather(1, labels[:, None])[:, 0]
            total -= (true_class * frame_weights).double().sum().item()
            weight += frame_weights.double().sum().item()
        return total / weight


def shares_in_batches(train: Windows, classes: list[str], config: Config) -> Tensor:
    """Shares ``(K,)`` that the classes have in training batches."""
    return class_shares(list(train.class_counts(classes).values()), balanced=config.train.sampling != "natural")


def vectors_of_class(windows: Windows, label: int, count: int, max_frames: int, standardize: Standardize) -> np.ndarray:
    """At most ``max_frames`` of the ``count`` vectors of a class, evenly spaced, standardized: ``(N, D)`` float64."""
    nth = evenly_spaced(count, max_frames)
    vectors = np.empty((len(nth), windows.dim))
    size = batch_for(windows.device)
    for first in range(0, len(nth), size):
        x = windows.gather(windows.rows_of_class(label, nth[first : first + size]))
        vectors[first : first + size] = standardize(x.double())[0].cpu().numpy()
    return vectors

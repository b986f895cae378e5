"""What every baseline is, and the vectors and class shares it is fitted with."""

from __future__ import annotations

import numpy as np
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


def shares_in_batches(train: Windows, classes: list[str], config: Config) -> Tensor:
    """Shares ``(K,)`` that the classes have in training batches."""
    return class_shares(list(train.class_counts(classes).values()), balanced=config.train.sampling == "balanced")


def vectors_of_class(windows: Windows, label: int, count: int, max_frames: int, standardize: Standardize) -> np.ndarray:
    """At most ``max_frames`` of the ``count`` vectors of a class, evenly spaced, standardized: ``(N, D)`` float64."""
    nth = evenly_spaced(count, max_frames)
    vectors = np.empty((len(nth), windows.dim))
    size = batch_for(windows.device)
    for first in range(0, len(nth), size):
        x = windows.gather(windows.rows_of_class(label, nth[first : first + size]))
        vectors[first : first + size] = standardize(x.double())[0].cpu().numpy()
    return vectors

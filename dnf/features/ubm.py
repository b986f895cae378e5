"""A universal background model: a mixture of Gaussians with diagonal covariances, and statistics of utterances under it.

Reynolds, Quatieri and Dunn, "Speaker verification using adapted Gaussian mixture models", Digital Signal Processing 10, 2000.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import run_again

log = logging.getLogger(__name__)

CHUNK = 20_000  # frames of a step
LEAST_VARIANCE = 0.01  # share of the variance of all frames


class Ubm(NamedTuple):
    """Attributes: ``weights`` ``(C,)``, which add up to 1; ``means`` and ``variances`` ``(C, D)``; float32."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def load(cls, path: Path) -> Ubm:
        """Raises ``ValueError`` if the file is missing or damaged."""
        with intact(path, run_again("features")), np.load(path) as arrays:
            return cls(*(torch.from_numpy(arrays[name]) for name in cls._fields))

    def save(self, path: Path) -> None:
        write_arrays(path, {name: value.cpu().numpy() for name, value in self._asdict().items()})

    def joint(self, x: Tensor) -> Tensor:
        """log p(c, x) ``(N, C)`` of frames ``(N, D)``, nats."""
        precisions = 1 / self.variances
        constants = self.weights.log() - 0.5 * (2 * math.pi * self.variances).log().sum(1)
        constants = constants - 0.5 * (self.means.square() * precisions).sum(1)
        return torch.addmm(constants, x, (self.means * precisions).T) - 0.5 * x.square() @ precisions.T

    def statistics(self, x: Tensor) -> Tensor:
        """Zeroth- and first-order statistics ``(C, 1 + D)`` of frames ``(N, D)``: frames of each Gaussian, and their sum."""
        posteriors = self.joint(x).softmax(1)
        return torch.cat([posteriors.sum(0)[:, None], posteriors.T @ x], 1)

    def supervector(self, statistics: Tensor, relevance: float) -> Tensor:
        """Shift of the MAP means from those of the model ``(C D,)``, in standard deviations times the root of the weights.

        The squared distance of two supervectors bounds the divergence of the two adapted models (Campbell, Sturim and
        Reynolds, "Support vector machines using GMM supervectors for speaker verification", IEEE Signal Processing
        Letters 13, 2006).
        """
        count, sums = statistics[:, :1], statistics[:, 1:]
        shift = (sums - count * self.means) / (count + relevance)
        return (shift * (self.weights[:, None] / self.variances).sqrt()).flatten()


def fit(x: Tensor, components: int, iterations: int, seed: int) -> Ubm:
    """A model of frames ``(N, D)`` on their device, by EM from means at frames that are far from each other.

    Raises:
        ValueError: there are fewer frames than components.
    """
    if len(x) < components:
        raise ValueError(
            f"{len(x)} speech frames of training for {components} Gaussians; set vectors.ubm_components lower"
        )
    mean = x.mean(0, dtype=torch.float64).to(x.dtype)
    spread = (x - mean).square().mean(0)
    means = first_means(x, spread, components, seed)
    ubm = Ubm(x.new_full((components,), 1 / components), means, spread.expand(components, -1))
    for iteration in range(iterations):
        ubm, likelihood = em_step(ubm, x, LEAST_VARIANCE * spread)
        log.info("EM step %d of %d: %.4f nats a frame", iteration + 1, iterations, likelihood)
    return ubm


def first_means(x: Tensor, spread: Tensor, components: int, seed: int) -> Tensor:
    """Frames ``(C, D)`` of ``x`` ``(N, D)``, each drawn with a probability that grows with its squared distance from those before.

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; on at most ``CHUNK`` frames.
    """
    generator = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=generator)[:CHUNK].to(x.device)]
    chosen, distance = [x[0]], x.new_full((len(x),), math.inf)
    while len(chosen) < components:
        distance = torch.minimum(distance, ((x - chosen[-1]).square() / spread).sum(1))
        chosen.append(x[torch.multinomial(distance.cpu().clamp(min=1e-9), 1, generator=generator).to(x.device)][0])
    return torch.stack(chosen)


def em_step(ubm: Ubm, x: Tensor, floor: Tensor) -> tuple[Ubm, float]:
    """The model after one step of EM on frames ``(N, D)``, and the mean log-likelihood before, nats."""
    count = x.new_zeros(len(ubm.weights), dtype=torch.float64)
    sums, squares = (x.new_zeros(ubm.means.shape, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for part in x.split(CHUNK):
        joint = ubm.joint(part)
        likelihood = joint.logsumexp(1)
        posteriors = (joint - likelihood[:, None]).exp()
        total += likelihood.sum(dtype=torch.float64).item()
        count += posteriors.sum(0)
        sums += posteriors.T @ part
        squares += posteriors.T @ part.square()
    held = count.clamp(min=1e-3)[:, None]  # a Gaussian without frames keeps a weight above 0
    means = sums / held
    variances = torch.maximum(squares / held - means.square(), floor.double())
    weights = held[:, 0] / held.sum()
    return Ubm(weights.to(x.dtype), means.to(x.dtype), variances.to(x.dtype)), total / len(x)

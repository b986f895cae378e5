"""Autocorrelation of the latents of an utterance.

Latents of a conditional flow are innovations: where the model is right, and is given only frames before, they are uncorrelated
in time. Latents of overlapping windows are correlated.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAGS = (1, 2, 3, 5, 10)  # vectors
CHUNK = 512  # rows that are in the processor's cache together


class Autocorrelation:
    """Autocorrelation of each dimension at ``LAGS``, gathered batch by batch in float64.

    r = 2 sum(a b) / sum(a^2 + b^2) over all pairs of vectors a and b of a segment that are so far apart. It is between -1 and
    1. The mean is that of the model, so it is known, and a segment's own mean is not taken away.

    Args:
        dim: D.
        device: where the sums live and are computed; it must know float64.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu"):
        self.pairs = torch.zeros(len(LAGS), dtype=torch.int64)
        self._products, self._squares = torch.zeros(2, len(LAGS), dim, dtype=torch.float64, device=device)
        # The last ones, for pairs with the next batch
        self._vectors, self._segments = self._products[:0], self.pairs[:0]

    def update(self, deviations: Tensor, segments: Tensor) -> None:
        """Add vectors that follow those before.

        Args:
            deviations: ``(N, D)``, from the mean, in standard deviations.
            segments: ``(N,)`` number of the segment of each; vectors of a segment stand together.
        """
        size = CHUNK if self._vectors.device.type == "cpu" else max(1, len(deviations))
        for some, of_segments in zip(deviations.split(size), segments.cpu().split(size)):
            self._add(some.to(self._vectors), of_segments)

    def _add(self, vectors: Tensor, segments: Tensor) -> None:
        held = len(self._segments)
        vectors, segments = torch.cat([self._vectors, vectors]), torch.cat([self._segments, segments])
        squares = vectors.square()
        for i, lag in enumerate(LAGS):
            first = max(held, lag)  # of the later vectors of new pairs
            later, earlier = slice(first, None), slice(first - lag, -lag)
            same = segments[later] == segments[earlier]
            weights = same.to(vectors)
            self.pairs[i] += same.sum()
            self._products[i] += weights @ (vectors[later] * vectors[earlier])
            self._squares[i] += weights @ squares[later] + weights @ squares[earlier]
        self._vectors, self._segments = vectors[-max(LAGS) :].clone(), segments[-max(LAGS) :].clone()

    def means(self, columns: slice) -> Tensor:
        """Mean over dimensions ``columns`` at each lag, ``(L,)`` float64; NaN without pairs, or if all dimensions are 0."""
        return (2 * self._products[:, columns] / self._squares[:, columns]).nanmean(1).cpu()

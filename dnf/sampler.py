"""Which training vectors make up which batch: a function of the step alone, so training can go on from any step."""

from __future__ import annotations

import torch
from torch import Tensor


class Sampler:
    """Shuffled batches without replacement, epoch after epoch.

    Args:
        labels: class ids ``(N,)`` of the training vectors.
        batch_size: vectors a batch; what is left over at the end of an epoch is left out of it.
        balanced: each class fills the same share of an epoch, its vectors repeated or left out as needed.
        seed: of the whole sequence.
    """

    def __init__(self, labels: Tensor, batch_size: int, balanced: bool, seed: int):
        self.labels, self.balanced, self.seed = labels, balanced, seed
        self.batch_size = min(batch_size, len(labels))
        self.steps_per_epoch = len(labels) // self.batch_size
        self._epoch, self._rows = -1, torch.empty(0)

    def batch(self, step: int) -> Tensor:
        """Rows ``(B,)`` of the batch of a step, from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, self._shuffle(epoch)
        return self._rows[position * self.batch_size : (position + 1) * self.batch_size]

    def _shuffle(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if not self.balanced:
            return torch.randperm(len(self.labels), generator=generator)
        present = self.labels.unique()
        share = -(-len(self.labels) // len(present))
        rows = torch.cat([cycle(torch.nonzero(self.labels == k)[:, 0], share, generator) for k in present])
        return rows[torch.randperm(len(rows), generator=generator)]


def cycle(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``rows``, each shuffled pass through them complete before the next begins."""
    passes = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))]
    return torch.cat(passes)[:count]

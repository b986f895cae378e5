"""Which training vectors make up which batch: a function of the step alone, so training can go on from any step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dnf.distributed import ALONE, Ranks
from dnf.permutation import permute


class Sampler:
    """Shuffled batches without replacement, epoch after epoch; nothing is held in memory.

    Args:
        counts: training vectors of each class; there are N in all.
        rows_of_class: the n-th vectors of a class, ``(class id, (B,)) -> (B,)``, as rows 0 .. N - 1.
        batch_size: vectors a batch; what is left over at the end of an epoch is left out of it.
        balanced: each class fills the same share of an epoch, its vectors as often as each other, but for one, or left out.
        seed: of the whole sequence.
    """

    def __init__(
        self,
        counts: Sequence[int],
        rows_of_class: Callable[[int, Tensor], Tensor],
        batch_size: int,
        balanced: bool,
        seed: int,
    ):
        self.total, self.counts, self.rows_of_class = sum(counts), list(counts), rows_of_class
        self.balanced, self.seed = balanced, seed
        self.batch_size = min(batch_size, self.total)
        self.steps_per_epoch = self.total // self.batch_size
        self.present = [k for k, count in enumerate(counts) if count]
        self.share = -(-self.total // len(self.present))

    def batch(self, step: int, ranks: Ranks = ALONE) -> Tensor:
        """Rows ``(B,)`` of the batch of a step, from 0; of several ranks, the part of this one."""
        epoch, position = divmod(step, self.steps_per_epoch)
        seed = self.seed * 1_000_003 + epoch
        index = position * self.batch_size + torch.arange(*ranks.bounds(self.batch_size))
        if not self.balanced:
            return permute(index, self.total, seed)
        drawn = permute(index, self.share * len(self.present), seed)
        rows = torch.empty_like(drawn)
        for place, label in enumerate(self.present):
            mine = drawn // self.share == place
            nth = permute(drawn[mine] % self.share % self.counts[label], self.counts[label], seed * 1_000_003 + label)
            rows[mine] = self.rows_of_class(label, nth)
        return rows

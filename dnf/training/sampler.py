"""The training vectors of each batch: a function of the step alone, so training can continue from any step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dnf.features.draws import permute
from dnf.features.windows import Windows
from dnf.training.ranks import ALONE, Ranks

BLOCK = 1_000_000  # vectors whose positions are computed together, in one call for many steps


class Sampler:
    """Shuffled batches without replacement, epoch after epoch; nothing is held in memory.

    Args:
        counts: training vectors of each class; there are N in all.
        rows_of_class: the n-th vectors of a class, ``(class id, (B,)) -> (B,)``, as rows 0 .. N - 1.
        batch_size: vectors per batch; the rest at the end of an epoch is not used.
        seed: seed of the sequence.
        balanced: each class fills the same share of an epoch. Within one, a vector of a class comes k or k + 1 times, or
            not at all where the class has more than its share.
        device: where the rows are computed and stay.
        total: vectors of an epoch; None: N.
    """

    def __init__(
        self,
        counts: Sequence[int],
        rows_of_class: Callable[[int, Tensor], Tensor],
        batch_size: int,
        seed: int,
        *,
        balanced: bool,
        device: torch.device = torch.device("cpu"),
        total: int | None = None,
    ):
        self.total, self.counts, self.rows_of_class = total or sum(counts), list(counts), rows_of_class
        self.balanced, self.seed, self.device = balanced, seed, device
        self.batch_size = min(batch_size, self.total)
        self.steps_per_epoch = self.total // self.batch_size
        self.present = [k for k, count in enumerate(counts) if count]
        self.class_vectors = -(-self.total // len(self.present))
        self._block: tuple[tuple, tuple[Tensor, ...]] = (), ()

    def batch(self, step: int, ranks: Ranks = ALONE) -> Tensor:
        """Rows ``(B,)`` of the batch of a step, from 0; of several ranks, the part of this one."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first, end = ranks.bounds(self.batch_size)
        steps = max(1, BLOCK // self.batch_size)
        key = epoch, position // steps, first, end
        if self._block[0] != key:
            positions = range(position // steps * steps, min((position // steps + 1) * steps, self.steps_per_epoch))
            places = torch.arange(positions.start, positions.stop, device=self.device)[:, None] * self.batch_size
            index = places + torch.arange(first, end, device=self.device)
            self._block = key, self._rows(index.flatten(), epoch).view(len(positions), -1).unbind()
        return self._block[1][position % steps]

    def _rows(self, index: Tensor, epoch: int) -> Tensor:
        """Rows ``(B,)`` of the places ``index`` ``(B,)`` of an epoch."""
        seed = self.seed * 1_000_003 + epoch
        if not self.balanced:
            return permute(index, self.total, seed)
        drawn = permute(index, self.class_vectors * len(self.present), seed)
        rows = torch.empty_like(drawn)
        for place, label in enumerate(self.present):
            mine = drawn // self.class_vectors == place
            nth = permute(
                drawn[mine] % self.class_vectors % self.counts[label], self.counts[label], seed * 1_000_003 + label
            )
            rows[mine] = self.rows_of_class(label, nth)
        return rows


class OfCorpora:
    """The vectors of each class with equally many of each corpus, for a balanced ``Sampler``.

    Vector n of a class with m corpora is of corpus n modulo m. Vectors of the smaller corpora are repeated.

    Attributes:
        counts: vectors of each class, with the repeated ones.

    Args:
        train: training vectors.
        classes: number of classes.
    """

    def __init__(self, train: Windows, classes: int):
        self._train, self._parts = train, [list(train.corpus_counts(label).items()) for label in range(classes)]
        self.counts = [len(parts) * max((count for _, count in parts), default=0) for parts in self._parts]

    def rows_of_class(self, label: int, nth: Tensor) -> Tensor:
        """The ``nth`` ``(B,)`` vectors of a class as rows ``(B,)``."""
        parts, rows = self._parts[label], torch.empty_like(nth)
        for place, (corpus, count) in enumerate(parts):
            mine = nth % len(parts) == place
            rows[mine] = self._train.rows_of_class(label, nth[mine] // len(parts) % count, corpus)
        return rows


def class_shares(counts: Sequence[int], *, balanced: bool) -> Tensor:
    """Shares ``(K,)`` float64 that classes of ``counts`` vectors have in training batches; 0 for a class without any."""
    of_each = torch.tensor(counts, dtype=torch.float64)
    of_each = (of_each > 0).double() if balanced else of_each
    return of_each / of_each.sum()

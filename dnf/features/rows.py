"""Select rows of a set, and the number of rows for one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BATCH = 4000  # vectors at a time on a processor
GPU_BATCH = 40000


def evenly_spaced(total: int, count: int) -> torch.Tensor:
    """``count`` of the numbers 0 .. total - 1, evenly spaced and ascending; all of them if there are fewer."""
    if count <= 0 or count >= total:
        return torch.arange(total)
    return torch.div(torch.arange(count) * total, count, rounding_mode="floor")


def batch_for(device: torch.device) -> int:
    """Vectors to score at a time."""
    return BATCH if device.type == "cpu" else GPU_BATCH


def few_of_each(names: Sequence[tuple[str, str]], most: int) -> list[int]:
    """Up to ``most`` positions of each name, evenly spaced, in order."""
    places: dict[tuple[str, str], list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return sorted(p[j] for p in places.values() for j in evenly_spaced(len(p), most).tolist())

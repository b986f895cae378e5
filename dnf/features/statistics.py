"""Kaldi's CMVN statistics, without PyTorch, which is slow to import."""

from __future__ import annotations

import numpy as np


def cmvn_stats(frames: np.ndarray) -> np.ndarray:
    """CMVN statistics ``(2, F + 1)`` of frames ``(N, F)``: sums and count, sums of squares and 0."""
    frames = frames.astype(np.float64)
    stats = np.zeros((2, frames.shape[1] + 1))
    stats[0, :-1], stats[0, -1], stats[1, :-1] = frames.sum(0), len(frames), (frames**2).sum(0)
    return stats

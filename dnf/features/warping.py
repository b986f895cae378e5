"""Frames whose distribution over a few seconds is normal, and differences of frames over time.

Feature warping: Pelecanos and Sridharan, "Feature warping for robust speaker verification", Odyssey 2001.
"""

from __future__ import annotations

import numpy as np
import torch

DELTA_REACH = 2  # frames on each side of a difference, as in Kaldi
LARGEST_HALF = 255  # frames on one side of a window, so that a count of them takes one byte


def warp(x: np.ndarray, window: int) -> np.ndarray:
    """Frames ``(N, D)`` with each value replaced by the normal quantile of its rank in the window of frames around it.

    Windows have ``window // 2`` frames on each side, and fewer at both ends. With ``n`` frames, of which ``r`` have a
    smaller value, the quantile is that of (r + 1/2) / n.
    """
    half = min(window // 2, LARGEST_HALF, max(0, len(x) - 1))
    before, after = (np.zeros(x.shape, np.uint8) for _ in range(2))
    for offset in range(1, half + 1):
        less = x[offset:] < x[:-offset]  # the later of two frames has the smaller value
        after[:-offset] += less.view(np.uint8)
        before[offset:] += np.logical_not(less, out=less).view(np.uint8)
    places = np.arange(len(x))
    count = 1 + np.minimum(places, half) + np.minimum(places[::-1], half)
    shares = (before.astype(np.float32) + after + 0.5) / count[:, None].astype(np.float32)
    return torch.special.ndtri(torch.from_numpy(shares)).numpy()


def with_deltas(x: np.ndarray) -> np.ndarray:
    """Frames ``(N, D)`` with their first and second differences over time, ``(N, 3 D)``; the end frames are repeated."""
    first = deltas(x)
    return np.concatenate([x, first, deltas(first)], axis=1)


def deltas(x: np.ndarray) -> np.ndarray:
    """Slopes of the least-squares lines through the frames around each frame of ``x`` ``(N, D)``."""
    padded = np.pad(x, ((DELTA_REACH, DELTA_REACH), (0, 0)), "edge")
    steps = range(1, DELTA_REACH + 1)
    at = {n: padded[DELTA_REACH + n : DELTA_REACH + n + len(x)] for n in range(-DELTA_REACH, DELTA_REACH + 1)}
    return sum(n * (at[n] - at[-n]) for n in steps) / (2 * sum(n * n for n in steps))

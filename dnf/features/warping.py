"""Frames whose distribution over a few seconds is normal, and differences of frames over time.

Feature warping: Pelecanos and Sridharan, "Feature warping for robust speaker verification", Odyssey 2001.
"""

from __future__ import annotations

import numpy as np
import torch

DELTA_REACH = 2  # frames on each side of a difference, as in Kaldi
LARGEST_HALF = 255  # frames on one side of a window, so that a count of them takes one byte


def warp(x: np.ndarray, window: int, speech: np.ndarray | None = None) -> np.ndarray:
    """Frames ``(N, D)`` with each value replaced by the normal quantile of its rank in the window of frames around it.

    Windows have ``window // 2`` frames on each side, and fewer at both ends. With ``n`` frames, of which ``r`` have a
    smaller value, the quantile is that of (r + 1/2) / n. Of equal values the earlier one is the smaller one.

    Args:
        speech: ``(N,)`` bool, which frames are ranked among; a frame of a pause is ranked among these and itself. None: all.
    """
    half = min(window // 2, LARGEST_HALF, max(0, len(x) - 1))
    speech = np.ones(len(x), bool) if speech is None else speech
    values = x.astype(np.result_type(x, np.float32), copy=False)  # NumPy compares float16 slowly
    among = np.where(speech[:, None], values, np.inf)
    before, after = (np.zeros(x.shape, np.uint8) for _ in range(2))
    for offset in range(1, half + 1):
        after[:-offset] += (among[offset:] < values[:-offset]).view(np.uint8)
        before[offset:] += (among[:-offset] <= values[offset:]).view(np.uint8)
    places, until = np.arange(len(x)), np.concatenate([[0], speech.cumsum()])
    count = until[np.minimum(places + half + 1, len(x))] - until[np.maximum(places - half, 0)] + ~speech
    shares = (before.astype(np.float32) + after + 0.5) / count[:, None].astype(np.float32)
    return torch.special.ndtri(torch.from_numpy(shares)).numpy().astype(x.dtype)


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

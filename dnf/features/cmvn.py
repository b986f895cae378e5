"""Normalization of frames: mean and variance over speech frames, or warping within windows."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.settings import Cmvn
from dnf.features.frame_store import FrameStore
from dnf.features.warping import warp

CHUNK = 100_000  # utterances whose statistics are read at a time
BLOCK_FRAMES = 4000  # of a pass over frames


def of_segments(
    store: FrameStore, cmvn: Cmvn, utterance: Tensor, spoken: Tensor, count: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Mean and inverse standard deviation ``(G, F)`` float32 that CMVN takes from each segment's frames.

    Args:
        utterance: ``(G,)`` utterance of each segment.
        spoken, count: ``(G,)`` first and number of the centres of pieces; ``count`` is None for whole utterances.
    """
    if cmvn.scope in ("none", "window"):
        return None, None
    if cmvn.scope == "speaker":
        speakers = {name: i for i, name in enumerate(sorted(set(store.speakers)))}
        group = torch.tensor([speakers[name] for name in store.speakers])
        stats = torch.zeros(len(speakers), *store.stats.shape[1:], dtype=torch.float64)
        for chunk in torch.arange(len(group)).split(CHUNK):
            stats.index_add_(0, group[chunk], store.stats[chunk])
        group = group[utterance]
    elif count is None:
        stats, group = store.stats, utterance
    else:
        stats, group = None, utterance
    mean = torch.empty(len(group), store.frames.shape[1])
    scale = torch.empty_like(mean)
    for chunk in torch.arange(len(group)).split(CHUNK):
        of = (
            piece_stats(store.frames, store.centres, spoken[chunk], count[chunk])
            if stats is None
            else stats[group[chunk]]
        )
        mean[chunk], scale[chunk] = mean_and_scale(of, variance=cmvn.variance)
    return mean, scale


def mean_and_scale(stats: Tensor, *, variance: bool) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation ``(G, F)`` float32 of CMVN statistics ``(G, 2, F + 1)``; ones without variance."""
    mean, square = stats[:, 0, :-1] / stats[:, 0, -1:], stats[:, 1, :-1] / stats[:, 0, -1:]
    scale = (square - mean**2).clamp(min=1e-8).rsqrt() if variance else torch.ones_like(mean)
    return mean.float(), scale.float()


def piece_stats(frames: Tensor, centres: Tensor, spoken: Tensor, count: Tensor) -> Tensor:
    """CMVN statistics ``(G, 2, F + 1)`` float64 of segments of ``frames`` ``(T, F)``, whose speech ``centres`` ``(S,)`` name."""
    stats = torch.zeros(len(spoken), 2, frames.shape[1] + 1, dtype=torch.float64)
    for i, (first, rows) in enumerate(zip(spoken.tolist(), count.tolist())):
        x = frames[centres[first : first + rows]].double()
        stats[i, 0, :-1], stats[i, 0, -1], stats[i, 1, :-1] = x.sum(0), rows, x.square().sum(0)
    return stats


def warped(store: FrameStore, begin: Tensor, end: Tensor, cmvn: Cmvn) -> Tensor:
    """The frames ``(T, F)`` of a store, warped in segments ``begin : end`` ``(G,)``: a file of the type and in the folder of
    the store's, which vanishes with the tensor."""
    shape, dtype = tuple(store.frames.shape), store.frames.numpy().dtype
    with tempfile.TemporaryFile(dir=store.directory) as file:
        frames = np.memmap(file, dtype, "w+", shape=shape)
    for start, stop in zip(begin.tolist(), end.tolist()):
        for first in range(start, stop, BLOCK_FRAMES):
            last = min(first + BLOCK_FRAMES, stop)
            before, after = max(start, first - cmvn.reach), min(stop, last + cmvn.reach)
            part = warp(store.frames[before:after].numpy(), cmvn.window, store.marks(before, after))
            frames[first:last] = part[first - before : last - before]
    return torch.from_numpy(frames)


def normalize(frames: np.ndarray, speech: np.ndarray, stats: np.ndarray, cmvn: Cmvn) -> Tensor:
    """Frames ``(N, F)`` of a recording, as stored, normalized: float32.

    Args:
        speech: ``(N,)`` bool, which of them are speech.
        stats: ``(2, F + 1)`` CMVN statistics of the recording.
    """
    if cmvn.scope == "window":
        return torch.from_numpy(warp(frames, cmvn.window, speech)).float()
    x = torch.from_numpy(frames).float()
    if cmvn.scope == "none":
        return x
    mean, scale = mean_and_scale(torch.from_numpy(stats)[None], variance=cmvn.variance)
    return (x - mean) * scale

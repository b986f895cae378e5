"""Cepstral mean and variance normalization: statistics over speech frames, and their application."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.config import Config
from dnf.experiment.settings import Cmvn
from dnf.features.frame_store import FrameStore

CHUNK = 100_000  # utterances whose statistics are read at a time


def of_segments(
    store: FrameStore, cmvn: Cmvn, utterance: Tensor, spoken: Tensor, count: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Mean and inverse standard deviation ``(G, F)`` float32 that CMVN takes from each segment's frames.

    Args:
        utterance: ``(G,)`` utterance of each segment.
        spoken, count: ``(G,)`` first and number of the centres of pieces; ``count`` is None for whole utterances.
    """
    if cmvn.scope == "none":
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
        of = piece_stats(store, spoken[chunk], count[chunk]) if stats is None else stats[group[chunk]]
        mean[chunk], scale[chunk] = mean_and_scale(of, variance=cmvn.variance)
    return mean, scale


def mean_and_scale(stats: Tensor, *, variance: bool) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation ``(G, F)`` float32 of CMVN statistics ``(G, 2, F + 1)``; ones without variance."""
    mean, square = stats[:, 0, :-1] / stats[:, 0, -1:], stats[:, 1, :-1] / stats[:, 0, -1:]
    scale = (square - mean**2).clamp(min=1e-8).rsqrt() if variance else torch.ones_like(mean)
    return mean.float(), scale.float()


def piece_stats(store: FrameStore, spoken: Tensor, count: Tensor) -> Tensor:
    """CMVN statistics ``(G, 2, F + 1)`` float64 of the speech frames of pieces."""
    stats = torch.zeros(len(spoken), 2, store.frames.shape[1] + 1, dtype=torch.float64)
    for i, (first, rows) in enumerate(zip(spoken.tolist(), count.tolist())):
        frames = store.frames[store.centres[first : first + rows]].double()
        stats[i, 0, :-1], stats[i, 0, -1], stats[i, 1, :-1] = frames.sum(0), rows, frames.square().sum(0)
    return stats


def of_recording(stats: np.ndarray, config: Config) -> tuple[Tensor, Tensor] | None:
    """Mean and inverse standard deviation ``(F,)`` of CMVN statistics ``(2, F + 1)``; None without CMVN."""
    if config.cmvn.scope == "none":
        return None
    mean, scale = mean_and_scale(torch.from_numpy(stats)[None], variance=config.cmvn.variance)
    return mean[0], scale[0]

"""Latents of a flow of frames as the frames of another model: samples of a recording to latents, as stages 1 to 4 make them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from dnf.experiment.config import Config
from dnf.features.cmvn import normalize
from dnf.features.extractor import extract_whole
from dnf.features.rows import BATCH
from dnf.features.statistics import cmvn_stats
from dnf.features.vad import speech_marks
from dnf.models.checkpoint import Trained


def log_mel(samples: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Filter banks ``(N, F)`` and speech marks ``(N,)``, bool, of samples ``(T,)`` in -1..1; raises ``ValueError`` without speech."""
    frames, log_energy = extract_whole(samples, dataclasses.replace(config.features, kind="fbank"))
    return frames, speech_marks(samples, log_energy, config) > 0


@torch.no_grad()
def latents(samples: np.ndarray, trained: Trained) -> np.ndarray:
    """Latents ``(N, D)`` of every ``splice.hop``-th speech frame of samples ``(T,)``, which count as one speaker for CMVN.

    Raises:
        ValueError: there is no speech.
    """
    config = trained.config
    frames, speech = log_mel(samples, config)
    frames = frames.astype(config.frames.dtype)  # as the frame stores have them
    x = normalize(frames, speech, cmvn_stats(frames[speech]), config.cmvn)
    window = torch.arange(-config.splice.left, config.splice.right + 1)
    centres = torch.from_numpy(np.flatnonzero(speech))[:: config.splice.hop]
    index = (centres[:, None] + window).clamp(0, len(x) - 1)
    return torch.cat([trained.model(x[part].flatten(1))[0] for part in index.split(BATCH)]).numpy()

"""Means and standard deviations of the frames of an utterance: of filter banks, or of the latents of another experiment's flow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from dnf.experiment.config import Config
from dnf.experiment.layout import VECTOR
from dnf.features.front_ends.source import FlowSource


class PoolFrontEnd:
    """The front-end of ``vectors.front_end: pool``."""

    kind = VECTOR

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder
        self.source = FlowSource(config.vectors.pool_of, folder)
        self.fitted = self.source.files

    def fit(self, utterances: Iterable[np.ndarray], device: torch.device) -> None:
        """Copy the flow; nothing is fitted."""
        if self.source.exp:
            self.source.copy()

    def prepare(self) -> None:
        self.source.prepare()

    def measure(self, samples: np.ndarray) -> np.ndarray:
        """Means and standard deviations ``(2 D,)`` of the speech frames."""
        from dnf.features.flow_latents import log_mel  # imports lhotse, which stage frames does not need

        if self.source.exp:
            frames = self.source.latents(samples)
        else:
            frames, speech = log_mel(samples, self.config)
            frames = frames[speech]
        return np.concatenate([frames.mean(0), frames.std(0)]).astype(np.float32)

    def vector(self, kept: np.ndarray) -> np.ndarray:
        return kept

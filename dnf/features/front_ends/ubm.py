"""Supervectors: the means of a background model of MFCC, or of the latents of a flow, adapted to an utterance.

Stage features keeps zeroth- and first-order statistics of each utterance, from which stage frames makes the vectors, so
another relevance factor needs no second reading of the recordings.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from dnf.experiment.config import Config
from dnf.experiment.layout import SUFFSTATS, UBM_NPZ
from dnf.features import ubm
from dnf.features.front_ends.source import FlowSource


class UbmFrontEnd:
    """The front-end of ``vectors.front_end: ubm``."""

    kind = SUFFSTATS

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder, self.path = config, folder, folder / UBM_NPZ
        self.source = FlowSource(config.vectors.ubm_of, folder)
        self.fitted = (UBM_NPZ, *self.source.files)

    @functools.cached_property
    def ubm(self) -> ubm.Ubm:
        return ubm.Ubm.load(self.path)

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Speech frames ``(N, D)`` of samples ``(T,)``; raises ``ValueError`` if there are none."""
        if self.source.exp:
            return self.source.latents(samples)
        from dnf.features.mfcc import speech_mfcc  # imports lhotse, which stage frames does not need

        return speech_mfcc(samples, self.config)

    def fit(self, utterances: Iterable[np.ndarray], device: torch.device) -> None:
        """Fit the model to the samples of training utterances and write it."""
        settings = self.config.vectors
        if self.source.exp:
            self.source.copy()
        frames = []
        for samples in utterances:
            with contextlib.suppress(ValueError):  # no speech: compute rejects it
                frames.append(self.frames(samples))
        if not frames:
            raise ValueError("vectors.front_end ubm: no recording of the training sets is usable")
        x = torch.from_numpy(np.concatenate(frames)).to(device)
        ubm.fit(x, settings.ubm_components, settings.ubm_iterations, self.config.seed).save(self.path)

    def prepare(self) -> None:
        self.source.prepare()
        _ = self.ubm

    def measure(self, samples: np.ndarray) -> np.ndarray:
        """Statistics ``(C, 1 + D)``."""
        return self.ubm.statistics(torch.from_numpy(self.frames(samples))).numpy()

    def vector(self, kept: np.ndarray) -> np.ndarray:
        """The supervector ``(C D,)``; raises ``ValueError`` if the statistics are of another model."""
        if kept.shape != (len(self.ubm.weights), 1 + self.ubm.means.shape[1]):
            raise ValueError(f"statistics of shape {kept.shape} are not of {self.path}")
        statistics = torch.from_numpy(np.array(kept, np.float32))
        return self.ubm.supervector(statistics, self.config.vectors.ubm_relevance).numpy()

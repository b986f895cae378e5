"""Rates of an utterance, without its spectrum: how much of it is speech, its pauses, and its syllable nuclei.

They are those of ``dnf.features.timing`` that do not grow with the duration. This is the trivial system: one that hears
accents must be better.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dnf.experiment.config import Config
from dnf.experiment.layout import VECTOR
from dnf.features.vad import speech_marks

RATES = ("share of speech", "pauses a second", "mean length of pauses, s", "peaks a second", "peaks a second of speech")


class RatesFrontEnd:
    """The front-end of ``vectors.front_end: rates``."""

    kind = VECTOR
    fitted = ()

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder

    def prepare(self) -> None:
        """It needs nothing."""

    def measure(self, samples: np.ndarray) -> np.ndarray:
        """``RATES`` between the first and the last speech frame."""
        from dnf.features.extractor import extract_whole  # imports lhotse, and timing scipy: stage frames needs neither
        from dnf.features.timing import FEATURES, timing

        features = dataclasses.replace(self.config.features, kind="fbank")
        frames, log_energy = extract_whole(samples, features)
        spoken = speech_marks(samples, log_energy, self.config) > 0
        inside = slice(np.flatnonzero(spoken)[0], np.flatnonzero(spoken)[-1] + 1)
        measured = timing(frames[inside].mean(1), spoken[inside], features.frame_shift)
        values = dict(zip(FEATURES, measured))
        values["pauses a second"] = values["pauses"] / np.exp(values["log duration, s"])
        return np.array([values[name] for name in RATES], np.float32)

    def vector(self, kept: np.ndarray) -> np.ndarray:
        return kept

"""Voice activity detection: by energy, with Kaldi's threshold or one between noise and speech, or by Silero VAD.

A frame has a score, its log-energy or Silero's probability of speech, and is speech if enough of its neighbours have scores above
a threshold.
"""

from __future__ import annotations

import numpy as np

from dnf.experiment.config import Config
from dnf.experiment.settings import Vad
from dnf.features import silero

LOWER = {"energy": "energy_threshold", "relative": "relative_share", "silero": "silero_threshold"}
QUIET_AND_LOUD = (0.05, 0.95)  # quantiles of the log-energy that stand for noise and for speech


def speech_marks(samples: np.ndarray, log_energy: np.ndarray, config: Config) -> np.ndarray:
    """The marks of ``vote`` for a complete recording ``(T,)`` with frames ``(N,)``; raises ``ValueError`` if it has no speech."""
    scores = log_energy
    if config.vad.kind == "silero":
        scores = silero.probabilities(samples, len(log_energy), config.features)
    speech = vote(scores, config.vad)
    if not speech.any():
        raise ValueError(f"{no_speech(config.vad)}; leave it out, or lower vad.{LOWER[config.vad.kind]}")
    return speech


def no_speech(settings: Vad) -> str:
    return f"the {'Silero' if settings.kind == 'silero' else 'energy'} VAD finds no speech"


def threshold_of(scores: np.ndarray, settings: Vad) -> float:
    """The score above which a frame votes for speech, from the scores ``(N,)`` of all frames of a recording.

    With ``vad.kind: energy`` it follows Kaldi's rule, so that all frames of a noisy recording may be loud. With ``relative`` it lies
    between the quiet and the loud frames, at a share of the way, wherever these are. With ``silero`` it is a probability.
    """
    if settings.kind == "silero":
        return settings.silero_threshold
    if settings.kind == "relative":
        low, high = np.quantile(scores, QUIET_AND_LOUD)
        return low + settings.relative_share * (high - low)
    return by_mean(scores.mean(), settings)


def by_mean(mean: float, settings: Vad) -> float:
    """The threshold of Kaldi's rule for a recording of this mean log-energy."""
    return settings.energy_threshold + settings.energy_mean_scale * mean


def vote(scores: np.ndarray, settings: Vad, threshold: float | None = None) -> np.ndarray:
    """Speech (1) or not (0) for each frame ``(N,)``: whether enough frames around it have scores above the threshold.

    ``threshold`` is that of the recording if ``scores`` are only of a part of it.
    """
    threshold = threshold_of(scores, settings) if threshold is None else threshold
    window = np.ones(2 * settings.frames_context + 1)
    centre = slice(settings.frames_context, settings.frames_context + len(scores))
    loud = np.convolve(scores > threshold, window)[centre]
    votes = np.convolve(np.ones(len(scores)), window)[centre]
    return (loud >= votes * settings.proportion_threshold).astype(np.float32)

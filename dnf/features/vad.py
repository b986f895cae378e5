"""Voice activity detection by energy: Kaldi's rule with a fixed threshold, or a threshold between noise and speech."""

from __future__ import annotations

import numpy as np

from dnf.experiment.settings import Vad

QUIET_AND_LOUD = (0.05, 0.95)  # quantiles of the log-energy that stand for noise and for speech


def speech_marks(log_energy: np.ndarray, settings: Vad) -> np.ndarray:
    """The marks of ``energy_vad`` for a complete recording; raises ``ValueError`` if it has no speech."""
    speech = energy_vad(log_energy, settings)
    if not speech.any():
        raise ValueError("the energy VAD finds no speech; leave it out, or lower vad.energy_threshold")
    return speech


def threshold_of(log_energy: np.ndarray, settings: Vad) -> float:
    """The log-energy above which a frame is loud, from all frames ``(N,)`` of a recording.

    With ``vad.kind: energy`` it follows Kaldi's rule, so that all frames of a noisy recording may be loud. With ``relative`` it lies
    between the quiet and the loud frames, at a share of the way, wherever these are.
    """
    if settings.kind == "relative":
        low, high = np.quantile(log_energy, QUIET_AND_LOUD)
        return low + settings.relative_share * (high - low)
    return by_mean(log_energy.mean(), settings)


def by_mean(mean: float, settings: Vad) -> float:
    """The threshold of Kaldi's rule for a recording of this mean log-energy."""
    return settings.energy_threshold + settings.energy_mean_scale * mean


def energy_vad(log_energy: np.ndarray, settings: Vad, threshold: float | None = None) -> np.ndarray:
    """Speech (1) or not (0) for each frame ``(N,)``: whether it is loud, by a vote of the neighbouring frames.

    ``threshold`` is that of the recording if ``log_energy`` is only a part of it.
    """
    threshold = threshold_of(log_energy, settings) if threshold is None else threshold
    window = np.ones(2 * settings.frames_context + 1)
    centre = slice(settings.frames_context, settings.frames_context + len(log_energy))
    loud = np.convolve(log_energy > threshold, window)[centre]
    votes = np.convolve(np.ones(len(log_energy)), window)[centre]
    return (loud >= votes * settings.proportion_threshold).astype(np.float32)

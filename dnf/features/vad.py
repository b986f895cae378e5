"""Kaldi's energy VAD."""

from __future__ import annotations

import numpy as np

from dnf.experiment.settings import Vad


def speech_marks(log_energy: np.ndarray, settings: Vad) -> np.ndarray:
    """The marks of ``energy_vad`` for a complete recording; raises ``ValueError`` if it has no speech."""
    speech = energy_vad(log_energy, settings)
    if not speech.any():
        raise ValueError("the energy VAD finds no speech; leave it out, or lower vad.energy_threshold")
    return speech


def energy_vad(log_energy: np.ndarray, settings: Vad, mean: float | None = None) -> np.ndarray:
    """Speech (1) or not (0) for each frame ``(N,)``: Kaldi's energy rule with a vote of the neighbouring frames.

    ``mean`` is the mean log-energy of the recording if ``log_energy`` is only a part of it.
    """
    threshold = settings.energy_threshold + settings.energy_mean_scale * (log_energy.mean() if mean is None else mean)
    window = np.ones(2 * settings.frames_context + 1)
    centre = slice(settings.frames_context, settings.frames_context + len(log_energy))
    loud = np.convolve(log_energy > threshold, window)[centre]
    votes = np.convolve(np.ones(len(log_energy)), window)[centre]
    return (loud >= votes * settings.proportion_threshold).astype(np.float32)

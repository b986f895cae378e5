"""Mel-frequency cepstral coefficients: the log-mel filter banks and log-energies of ``dnf.features.fbank``, with Lhotse's
cosine transform and lifter. They equal those of Lhotse's ``Mfcc`` without ``use_energy``.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from lhotse.features.kaldi.layers import Wav2MFCC

from dnf.experiment.config import Config
from dnf.features.extractor import extract_whole
from dnf.features.vad import speech_marks
from dnf.features.warping import warp, with_deltas


@functools.cache
def transform(num_filters: int, num_ceps: int, lifter: int) -> np.ndarray:
    """Matrix ``(F, num_ceps)`` from log-mel filter banks to liftered coefficients."""
    dct, weights = Wav2MFCC.make_dct_matrix(num_ceps, num_filters), Wav2MFCC.make_lifter(num_ceps, lifter)
    return (dct * weights).numpy()


def mfcc(samples: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients ``(N, num_ceps)`` and log-energies ``(N,)`` of samples ``(T,)`` in -1..1."""
    settings = config.vectors
    mel, log_energy = extract_whole(samples, dataclasses.replace(config.features, kind="fbank"))
    return mel @ transform(mel.shape[1], settings.ubm_ceps, settings.ubm_lifter), log_energy


def speech_mfcc(samples: np.ndarray, config: Config) -> np.ndarray:
    """Warped coefficients with differences ``(N, 3 num_ceps)`` float32 of the speech frames of samples ``(T,)``.

    Differences are over neighbouring frames, and windows of the warping over speech frames.

    Raises:
        ValueError: there is no speech.
    """
    frames, log_energy = mfcc(samples, config)
    speech = with_deltas(frames)[speech_marks(samples, log_energy, config) > 0]
    window = round(config.vectors.ubm_warp / config.features.frame_shift)
    return (warp(speech, window) if window else speech).astype(np.float32)

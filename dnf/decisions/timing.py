"""Timing features of an utterance: its duration, amount of speech, pauses, and rate.

They are computed from the VAD and the loudness of frames, without text or recognizer. Peaks of loudness approximate syllable
nuclei, after de Jong & Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically", Behavior Research
Methods 41, 2009.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.signal import find_peaks

from dnf.features.frame_store import FrameStore

FEATURES = (
    "log duration, s",
    "log speech, s",
    "share of speech",
    "pauses",
    "mean length of pauses, s",
    "peaks a second",
    "peaks a second of speech",
)
LEAST_PAUSE = 0.15  # shortest pause, seconds
SMOOTH = 0.05  # seconds of the moving average of loudness
PROMINENCE = 0.5  # least prominence of a peak, nats of power (about 2 dB)


def pauses(spoken: np.ndarray, shift: float) -> np.ndarray:
    """Lengths of the pauses between the first and the last speech frame, seconds.

    Args:
        spoken: ``(N,)`` bool.
        shift: frame shift, seconds.
    """
    gaps = np.diff(np.flatnonzero(spoken)) - 1
    lengths = gaps * shift
    return lengths[lengths >= LEAST_PAUSE]


def peaks(loudness: np.ndarray, spoken: np.ndarray, shift: float) -> int:
    """Number of syllable nuclei: peaks of the smoothed loudness ``(N,)``, nats, within speech."""
    width = max(1, round(SMOOTH / shift))
    smooth = np.convolve(
        np.pad(loudness, (width // 2, width - 1 - width // 2), "edge"), np.full(width, 1 / width), "valid"
    )
    found, _ = find_peaks(smooth, prominence=PROMINENCE)
    return int(spoken[found].sum())


def timing(loudness: np.ndarray, spoken: np.ndarray, shift: float) -> list[float]:
    """``FEATURES`` of an utterance of N frames.

    Args:
        loudness: ``(N,)`` mean over the log-mel bins, nats.
        spoken: ``(N,)`` bool, from the VAD.
        shift: frame shift, seconds.
    """
    duration, speech = len(spoken) * shift, max(1, spoken.sum()) * shift
    silent, nuclei = pauses(spoken, shift), peaks(loudness, spoken, shift)
    mean = float(silent.mean()) if len(silent) else 0.0
    rates = nuclei / duration, nuclei / speech
    return [np.log(duration), np.log(speech), speech / duration, len(silent), mean, *rates]


def store_timing(store: FrameStore, shift: float) -> Iterator[tuple[str, list[float]]]:
    """Each utterance of a frame store with its ``FEATURES``."""
    offsets, places = store.offsets.tolist(), store.spoken.tolist()
    for u, utt in enumerate(store.utterances):
        frames = store.frames[offsets[u] : offsets[u + 1]]
        spoken = np.zeros(len(frames), dtype=bool)
        spoken[store.centres[places[u] : places[u + 1]].numpy() - offsets[u]] = True
        yield utt, timing(frames.mean(1, dtype=torch.float32).numpy(), spoken, shift)

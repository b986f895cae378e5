"""Timing features of an utterance: its duration, amount of speech, pauses, rate, and how fast its spectrum changes.

They are computed from the VAD and the log-mel frames, without text or recognizer. Peaks of loudness approximate syllable
nuclei, after de Jong & Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically", Behavior Research
Methods 41, 2009.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dct

if TYPE_CHECKING:  # imports torch, which is slow
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
LAGS = (0.02, 0.04, 0.08, 0.16, 0.32)  # of the autocorrelation of the spectrum, seconds
COLUMNS = {  # of each predictor, among FEATURES and one for each of LAGS
    "duration": [0],
    "timing": list(range(len(FEATURES))),
    "tempo": [0, *range(len(FEATURES), len(FEATURES) + len(LAGS))],
}
CEPSTRA = 12
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
    from scipy.signal import find_peaks  # slow to import, and needed only with scores

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


def autocorrelation(cepstra: np.ndarray, spoken: np.ndarray, shift: float) -> list[float]:
    """Autocorrelation of the cepstra at ``LAGS``, mean over the coefficients, from the first to the last speech frame.

    It is high where the spectrum changes slowly: in slow speech, long sounds and pauses. 0 at lags beyond the end.

    Args:
        cepstra: ``(N, CEPSTRA)``.
        spoken: ``(N,)`` bool.
        shift: frame shift, seconds.
    """
    places = np.flatnonzero(spoken)
    part = cepstra[places[0] : places[-1] + 1] if len(places) else cepstra
    part = part - part.mean(0)
    part = part / (part.std(0) + 1e-3)  # a constant coefficient has no correlation
    steps = [max(1, round(lag / shift)) for lag in LAGS]
    return [float((part[step:] * part[:-step]).mean()) if step < len(part) else 0.0 for step in steps]


def cepstra_of(frames: np.ndarray) -> np.ndarray:
    """Cepstral coefficients 1 to ``CEPSTRA``, ``(N, CEPSTRA)``, of log-mel frames ``(N, F)``."""
    return dct(frames, axis=1, norm="ortho")[:, 1 : 1 + CEPSTRA]


def measures(loudness: np.ndarray, cepstra: np.ndarray, spoken: np.ndarray, shift: float) -> list[float]:
    """``FEATURES`` and the autocorrelation at ``LAGS`` of an utterance; arguments as of ``timing`` and ``autocorrelation``."""
    return [*timing(loudness, spoken, shift), *autocorrelation(cepstra, spoken, shift)]


def store_measures(store: FrameStore, shift: float) -> Iterator[tuple[str, list[float]]]:
    """Each utterance of a frame store with its ``measures``."""
    for utt, frames, spoken in utterances(store):
        yield utt, measures(frames.mean(1), cepstra_of(frames), spoken, shift)


def store_rates(store: FrameStore, shift: float) -> Iterator[tuple[str, float]]:
    """Each utterance of a frame store with its syllable nuclei a second of speech."""
    for utt, frames, spoken in utterances(store):
        yield utt, timing(frames.mean(1), spoken, shift)[FEATURES.index("peaks a second of speech")]


def utterances(store: FrameStore) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each utterance of a frame store with its log-mel frames ``(N, F)`` and speech marks ``(N,)``."""
    offsets, places = store.offsets.tolist(), store.spoken.tolist()
    for u, utt in enumerate(store.utterances):
        frames = store.frames[offsets[u] : offsets[u + 1]].float()
        spoken = np.zeros(len(frames), dtype=bool)
        spoken[store.centres[places[u] : places[u + 1]].numpy() - offsets[u]] = True
        yield utt, frames.numpy(), spoken

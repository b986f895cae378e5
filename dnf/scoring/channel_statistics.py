"""Statistics of the channel of a recording: long-term spectrum, level, noise floor, dynamics and share of speech.

All are of log-mel frames before normalization, natural logarithms of power; 1 neper of power is 4.34 dB. The *profile* is
their smooth part: the first coefficients of the discrete cosine transform over the bins of five spectra. It has so few dims
that a Gaussian of it can be fitted to some tens of speakers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

DB = 10 / math.log(10)  # decibels of a natural logarithm of power
LOWEST, STEP, STEPS = -16.0, 0.1, 600  # levels of the histograms for quantiles, nats
FLOOR = 0.1  # quantile of the frames of a bin that is its noise floor
TINY = 1e-6  # in logarithms
SCALARS = ("level", "range", "tilt", "share", "duration")
PROFILE = {"spectrum": 8, "spread": 4, "floor": 4, "dynamics": 4, "decay": 3}  # coefficients of each spectrum
LAG = 4  # frames of a rise or fall


class Statistics(NamedTuple):
    """Statistics of one recording, or of U recordings with one more axis in front.

    Attributes:
        spectrum: ``(F,)`` mean of the speech frames minus the mean of its lower half.
        level: that mean.
        range: 95 % minus 5 % quantile of the levels of all frames.
        tilt: slope of the spectrum, nats per octave.
        share: share of the frames that are speech.
        duration: logarithm of the number of frames.
        spread: ``(F,)`` standard deviation of the speech frames.
        floor: ``(F,)`` quantile FLOOR of all frames minus the mean of the speech frames.
        dynamics: ``(F,)`` root mean square of the difference of successive frames.
        decay: ``(F,)`` logarithm of the root mean square of the falls within LAG frames over that of the rises; reverberation
            makes sounds fall more slowly than they rise.
    """

    spectrum: np.ndarray
    level: np.ndarray
    range: np.ndarray
    tilt: np.ndarray
    share: np.ndarray
    duration: np.ndarray
    spread: np.ndarray
    floor: np.ndarray
    dynamics: np.ndarray
    decay: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Statistics:
        """From vectors ``(..., S)`` of ``statistics``."""
        bins = (vectors.shape[-1] - len(SCALARS)) // 5
        ends = np.cumsum([bins, *(1 for _ in SCALARS), bins, bins, bins])
        parts = np.split(vectors, ends, axis=-1)
        return cls(*(part[..., 0] if name in SCALARS else part for name, part in zip(cls._fields, parts)))


def statistics(blocks: Iterable[tuple[np.ndarray, np.ndarray]], frequencies: np.ndarray) -> np.ndarray:
    """The statistics of one recording as a vector ``(S,)``, S = 5 F + 5, which ``Statistics.of`` takes apart.

    Args:
        blocks: log-mel frames ``(n, F)`` and speech marks ``(n,)`` of all blocks of the recording.
        frequencies: ``(F,)`` centres of the bins, Hz.
    """
    dim = len(frequencies)
    total, squares, changes, spoken, count = np.zeros(dim), np.zeros(dim), np.zeros(dim), 0, 0
    levels, bins, last = np.zeros(STEPS), np.zeros((dim, STEPS)), np.zeros((0, dim))
    rises, falls = np.full(dim, TINY), np.full(dim, TINY)
    for frames, speech in blocks:
        frames = frames.astype(np.float64)
        heard = frames[speech]
        total, squares, spoken = total + heard.sum(0), squares + (heard**2).sum(0), spoken + len(heard)
        joined = np.concatenate([last, frames])
        changes += (np.diff(joined[max(0, len(last) - 1) :], axis=0) ** 2).sum(0)
        slopes = joined[LAG:] - joined[:-LAG]
        rises, falls = rises + (np.maximum(slopes, 0) ** 2).sum(0), falls + (np.minimum(slopes, 0) ** 2).sum(0)
        levels += np.bincount(steps(frames.mean(1)), minlength=STEPS)
        places = steps(frames) + np.arange(dim) * STEPS
        bins += np.bincount(places.ravel(), minlength=dim * STEPS).reshape(dim, STEPS)
        last, count = joined[-LAG:], count + len(frames)
    spectrum = total / max(1, spoken)
    octaves = np.log2(frequencies)
    tilt = np.polyfit(octaves, spectrum, 1)[0]
    reference = spectrum[: max(1, dim // 2)].mean()
    low, high = quantile(levels, 0.05), quantile(levels, 0.95)
    scalars = [reference, high - low, tilt, spoken / max(1, count), math.log(max(1, count))]
    spread = np.sqrt(np.maximum(squares / max(1, spoken) - spectrum**2, 0.0))
    floor = quantile(bins, FLOOR) - spectrum
    dynamics = np.sqrt(changes / max(1, count - 1))
    return np.concatenate([spectrum - reference, scalars, spread, floor, dynamics, np.log(falls / rises) / 2])


def steps(levels: np.ndarray) -> np.ndarray:
    """The step of the histogram of each level."""
    return np.clip((levels - LOWEST) / STEP, 0, STEPS - 1).astype(np.int64)


def quantile(counts: np.ndarray, share: float) -> np.ndarray:
    """The quantile of histograms ``(..., STEPS)``."""
    shares = counts.cumsum(-1)
    return LOWEST + STEP * ((shares < share * shares[..., -1:]).sum(-1) + 0.5)


def profile(vectors: np.ndarray) -> np.ndarray:
    """The profiles ``(..., P)`` of vectors ``(..., S)`` of ``statistics``."""
    from scipy.fft import dct  # slow to import

    parts = Statistics.of(vectors)
    parts = parts._replace(spectrum=parts.spectrum + np.asarray(parts.level)[..., None])
    smooth = (dct(getattr(parts, name), norm="ortho", axis=-1)[..., :kept] for name, kept in PROFILE.items())
    return np.concatenate(list(smooth), axis=-1)

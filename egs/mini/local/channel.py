"""Simulate the channel of a recording: room, noise, microphone, band limits and level.

A channel is drawn from the ranges of its family with a key that never contains the class, so it is independent of the
class. All linear parts are applied as one product of spectra.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from scipy import fft

RATE = 16000  # Hz
FLOOR = 10 ** (-50 / 20)  # lowest gain of a microphone at any frequency
FULL_SCALE = 32768

Range = tuple[float, float]


@dataclass(frozen=True)
class Family:
    """The channels of one corpus: the lowest and the highest value of each property.

    Attributes:
        snr: speech to noise, dB.
        noise_slope: slope of the noise spectrum, dB per octave.
        swell: standard deviation of the noise level within an utterance, dB.
        tilt: slope of the microphone's response, dB per octave.
        peak: height of each of two broad peaks or dips of the response, dB.
        low, high: ends of the passband, Hz.
        decay: time in which the room's echo falls by 60 dB, s.
        wet: level of the echo relative to the direct sound, dB.
        level: mean level of a speaker, dB of full scale.
        drift: largest deviation of an utterance from the speaker's level, dB.
    """

    snr: Range
    noise_slope: Range
    swell: Range
    tilt: Range
    peak: Range
    low: Range
    high: Range
    decay: Range
    wet: Range
    level: Range
    drift: Range


@dataclass(frozen=True)
class Channel:
    """One speaker's channel: a value for each property of ``Family``, and the positions of the peaks."""

    snr: float
    noise_slope: float
    swell: float
    tilt: float
    peaks: tuple[tuple[float, float, float], ...]  # Hz, dB, octaves
    low: float
    high: float
    decay: float
    wet: float
    level: float
    drift: float


STUDIO = Family(
    snr=(15, 35), noise_slope=(-4.5, -1.5), swell=(0, 0.5), tilt=(-0.4, 0.4), peak=(-3, 3),
    low=(40, 80), high=(7800, 8000), decay=(0.05, 0.25), wet=(-30, -15), level=(-29, -25), drift=(-3, 3),
)  # fmt: skip
OFFICE = Family(
    snr=(22, 32), noise_slope=(-3.5, -2.5), swell=(0, 0.5), tilt=(0.3, 0.8), peak=(-4, 4),
    low=(90, 130), high=(7000, 7800), decay=(0.2, 0.4), wet=(-18, -12), level=(-36, -34), drift=(-1, 1),
)  # fmt: skip
STREET = Family(
    snr=(0, 15), noise_slope=(-6, -1), swell=(1, 4), tilt=(-1.2, 1.2), peak=(-6, 6),
    low=(60, 300), high=(3400, 7600), decay=(0.2, 0.8), wet=(-15, -5), level=(-36, -22), drift=(-5, 5),
)  # fmt: skip


def draw(family: Family, *key: object) -> Channel:
    """The channel of ``family`` that belongs to ``key``; no part of the key may depend on the class."""
    rng = random.Random("/".join(map(str, ("channel", *key))))
    peaks = tuple((200 * 32 ** rng.random(), rng.uniform(*family.peak), rng.uniform(0.5, 1.0)) for _ in range(2))
    names = ("snr", "noise_slope", "swell", "tilt", "low", "high", "decay", "wet", "level", "drift")
    values = {name: rng.uniform(*getattr(family, name)) for name in names if name != "drift"}
    return Channel(peaks=peaks, drift=max(family.drift), **values)


def response(channel: Channel, frequencies: np.ndarray) -> np.ndarray:
    """Gain of the microphone ``(F,)`` at ``frequencies`` ``(F,)``, Hz; its phase is zero."""
    f = np.maximum(frequencies, 1.0)
    gain = channel.tilt * np.log2(np.maximum(f, 50.0) / 1000)
    for centre, height, width in channel.peaks:
        gain += height * np.exp(-0.5 * (np.log2(f / centre) / width) ** 2)
    gain -= 10 * np.log10(1 + (channel.low / f) ** 8)
    gain -= 10 * np.log10(1 + (f / channel.high) ** 32)
    return np.maximum(10 ** (gain / 20), FLOOR)


def echo(channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """Impulse response of the room, ``(N,)``: the direct sound, then decaying noise."""
    decay = np.arange(1, int(channel.decay * RATE)) / (channel.decay * RATE)
    tail = rng.standard_normal(len(decay)) * 10 ** (-3 * decay)
    tail *= 10 ** (channel.wet / 20) / np.sqrt(np.sum(tail**2))
    return np.concatenate([[1.0], tail])


def transmit(speech: np.ndarray, channel: Channel, room: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Send ``speech`` through ``channel``.

    Args:
        speech: float ``(N,)``, at 16 kHz.
        channel: the speaker's channel.
        room: the speaker's room, from ``echo``.
        rng: for the noise and the level of this utterance.

    Returns:
        int16 ``(N,)``.
    """
    level = channel.level + rng.uniform(
        -channel.drift, channel.drift
    )  # drawn first, so that it does not depend on the length
    count = len(speech)
    size = fft.next_fast_len(count + len(room) + RATE // 10, real=True)
    frequencies = fft.rfftfreq(size, 1 / RATE)
    microphone = response(channel, frequencies)
    heard = fft.irfft(fft.rfft(speech, size) * fft.rfft(room, size) * microphone, size)[:count]

    colour = np.maximum(frequencies, 20.0) ** (channel.noise_slope / 20 * np.log2(10))
    noise = fft.irfft(fft.rfft(rng.standard_normal(size)) * colour * microphone, size)[:count]
    noise *= 10 ** (channel.swell * slow(count, rng) / 20)

    mixed = heard / heard.std() + noise / noise.std() * 10 ** (-channel.snr / 20)
    mixed *= FULL_SCALE * 10 ** (level / 20) / mixed.std()
    return np.clip(np.round(mixed), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


def slow(count: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random curve of ``count`` samples with unit variance, which changes direction about once a second."""
    knots = rng.standard_normal(2 + count // (RATE // 2))
    return np.interp(np.arange(count) / (RATE // 2), np.arange(len(knots)), knots)

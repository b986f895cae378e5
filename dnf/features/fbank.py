"""Log-mel filter banks and log-energies by Lhotse, of samples that are held whole or come in blocks of any size."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from lhotse import Fbank, FbankConfig

from dnf.experiment.settings import Features


def mel_frequencies(settings: Features) -> np.ndarray:
    """Centres of the mel bins, Hz, ``(F,)``."""
    top = settings.high_freq if settings.high_freq > 0 else settings.sampling_rate / 2 + settings.high_freq
    low, high = (1127 * math.log1p(f / 700) for f in (settings.low_freq, top))
    steps = np.arange(1, settings.num_filters + 1) / (settings.num_filters + 1)
    return 700 * np.expm1((low + steps * (high - low)) / 1127)


FULL_SCALE = 32768.0
BLOCK_SECONDS = 20.0  # whose frames are made at once: a minute at once takes one and a half times as long


def make_extractor(settings: Features, device: str = "cpu") -> Fbank:
    """Lhotse's Fbank with every option set; column 0 is the frame's log-energy, then ``num_filters`` log-mel bins."""
    return Fbank(
        FbankConfig(
            sampling_rate=settings.sampling_rate,
            frame_length=settings.frame_length,
            frame_shift=settings.frame_shift,
            round_to_power_of_two=settings.round_to_power_of_two,
            remove_dc_offset=settings.remove_dc_offset,
            preemph_coeff=settings.preemph_coeff,
            window_type=settings.window_type,
            dither=settings.dither,
            snip_edges=settings.snip_edges,
            energy_floor=settings.energy_floor,
            raw_energy=settings.raw_energy,
            use_energy=True,
            use_fft_mag=settings.use_fft_mag,
            low_freq=settings.low_freq,
            high_freq=settings.high_freq,
            num_filters=settings.num_filters,
            norm_filters=settings.norm_filters,
            torchaudio_compatible_mel_scale=True,
            device=device,
        )
    )


@functools.cache
def snipping_extractor(settings: Features, device: str) -> Fbank:
    """The extractor without mirrored ends, whatever ``settings.snip_edges``; Lhotse warns of it in vain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_extractor(dataclasses.replace(settings, snip_edges=True), device)


def fbank_and_energy(samples: np.ndarray, extractor: Fbank) -> tuple[np.ndarray, np.ndarray]:
    """Samples ``(T,)`` in -1..1 to log-mel ``(N, num_filters)`` and log-energy ``(N,)``, both float32, on the 16-bit scale."""
    both = extractor.extract(samples * FULL_SCALE, extractor.config.sampling_rate)
    return np.ascontiguousarray(both[:, 1:]), both[:, 0]


def fbank(samples: np.ndarray, settings: Features) -> tuple[np.ndarray, np.ndarray]:
    """The same of samples of any length, ``BLOCK_SECONDS`` at a time."""
    size = round(BLOCK_SECONDS * settings.sampling_rate)
    parts = list(fbank_blocks((samples[i : i + size] for i in range(0, len(samples), size)), settings))
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts)))


def fbank_blocks(
    blocks: Iterable[np.ndarray], settings: Features, device: str = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Log-mel ``(N, num_filters)`` and log-energy ``(N,)`` of samples; together they are those of the whole recording.

    Without ``snip_edges`` the recording is mirrored at its two ends, and nowhere else.

    Raises:
        ValueError: the recording is shorter than one frame.
    """
    extractor = snipping_extractor(settings, device)
    length = math.floor(settings.frame_length * settings.sampling_rate)
    shift = math.floor(settings.frame_shift * settings.sampling_rate)
    margin = 0 if settings.snip_edges else (length - shift) // 2
    held = tail = np.zeros(0, np.float32)
    total = made = 0
    for block, following in itertools.pairwise(itertools.chain(blocks, [None])):
        total, tail = total + len(block), np.concatenate([tail, block])[-length:]
        held = np.concatenate([held, block])
        if total < length:
            continue
        if total - len(block) < length:  # the first time that there is enough for a frame
            held = np.concatenate([held[:margin][::-1], held])
        if following is None and not settings.snip_edges:
            short = ((total + shift // 2) // shift - made - 1) * shift + length - len(held)
            held = np.concatenate([held, tail[len(tail) - max(0, short) :][::-1]])
        count = (len(held) - length) // shift + 1
        if count > 0:
            yield fbank_and_energy(held[: (count - 1) * shift + length], extractor)
            held, made = held[count * shift :], made + count
    if total < length:
        raise ValueError(f"{total / settings.sampling_rate:.3f} s is shorter than one frame")

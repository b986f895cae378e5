"""Log-mel filter banks and log-energies by Lhotse."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
from lhotse import Fbank, FbankConfig

from dnf.experiment.settings import Features

FULL_SCALE = 32768.0


def mel_frequencies(settings: Features) -> np.ndarray:
    """Centres of the mel bins, Hz, ``(F,)``."""
    top = settings.high_freq if settings.high_freq > 0 else settings.sampling_rate / 2 + settings.high_freq
    low, high = (1127 * math.log1p(f / 700) for f in (settings.low_freq, top))
    steps = np.arange(1, settings.num_filters + 1) / (settings.num_filters + 1)
    return 700 * np.expm1((low + steps * (high - low)) / 1127)


def lhotse_fbank(settings: Features, device: str = "cpu") -> Fbank:
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
            torchaudio_compatible_mel_scale=True,
            device=device,
        )
    )


class LogMel:
    """The extractor of ``features.kind: fbank``; figures are those of samples on the 16-bit scale, as in Kaldi."""

    def __init__(self, settings: Features, device: str = "cpu"):
        self.dim, self.frequencies = settings.num_filters, mel_frequencies(settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lhotse warns of snip_edges
            self._fbank = lhotse_fbank(dataclasses.replace(settings, snip_edges=True), device)

    def extract(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples ``(T,)`` in -1..1 to log-mel ``(N, F)`` and log-energy ``(N,)``, float32, of the windows wholly inside."""
        both = self._fbank.extract(samples * FULL_SCALE, self._fbank.config.sampling_rate)
        return np.ascontiguousarray(both[:, 1:]), both[:, 0]

"""Filter banks and VAD equal Kaldi's, and CMVN statistics, of single recordings; stage 1 is in test_features.py."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from dnf.experiment.config import resolve
from dnf.experiment.settings import Features, Vad
from dnf.features.extractor import extract_whole
from dnf.features.statistics import cmvn_stats
from dnf.features.vad import threshold_of, vote

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]  # Lhotse's

# ---- filter banks --------------------------------------------------------------------------------


def kaldi_fbank(samples: np.ndarray, settings) -> np.ndarray:
    """Log-energy and log-mel ``(N, 1 + num_filters)`` by kaldi-native-fbank, on the 16-bit scale."""
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq, frame.dither, frame.snip_edges = settings.sampling_rate, 0.0, settings.snip_edges
    frame.frame_length_ms, frame.frame_shift_ms = 1000 * settings.frame_length, 1000 * settings.frame_shift
    frame.preemph_coeff, frame.remove_dc_offset = settings.preemph_coeff, settings.remove_dc_offset
    frame.window_type, frame.round_to_power_of_two = settings.window_type, settings.round_to_power_of_two
    mel.num_bins, mel.low_freq, mel.high_freq = settings.num_filters, settings.low_freq, settings.high_freq
    options.use_energy, options.energy_floor, options.raw_energy = True, settings.energy_floor, settings.raw_energy
    options.use_power = not settings.use_fft_mag
    online = knf.OnlineFbank(options)
    online.accept_waveform(settings.sampling_rate, (32768 * samples).tolist())
    online.input_finished()
    return np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])


@pytest.mark.parametrize("snip_edges", ("true", "false"))
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("features.sampling_rate=8000", "features.high_freq=-200"),
        ("features.window_type=hamming", "features.raw_energy=false"),
        ("features.window_type=hanning", "features.use_fft_mag=true"),
        ("features.window_type=rectangular", "features.preemph_coeff=0", "features.remove_dc_offset=false"),
        ("features.round_to_power_of_two=false", "features.num_filters=23", "features.high_freq=0", "prior.cond_dim=0"),
        ("features.frame_length=0.032", "features.frame_shift=0.008", "features.energy_floor=1e7"),
    ],
    ids=lambda words: ",".join(word.split("=")[1] for word in words) or "defaults",
)
def test_fbank_and_energy_equal_kaldis(speech_like, words, snip_edges):
    settings = resolve([*words, f"features.snip_edges={snip_edges}"]).features
    for seed, seconds in enumerate((1.0, 0.777, 0.5313)):
        assert_equals_kaldi(
            speech_like(seconds, seed, settings.sampling_rate) + np.float32(0.001), settings
        )  # with an offset


@pytest.mark.parametrize("window", get_args(get_type_hints(Features)["window_type"]))
def test_every_window_the_settings_offer_is_kaldis(speech_like, window):
    assert_equals_kaldi(speech_like(0.6, 1), resolve([f"features.window_type={window}"]).features)


def assert_equals_kaldi(samples: np.ndarray, settings: Features) -> None:
    frames, energy = extract_whole(samples, settings)
    wanted = kaldi_fbank(samples, settings)
    assert frames.shape == (len(wanted), settings.num_filters) and frames.dtype == energy.dtype == np.float32
    np.testing.assert_allclose(frames, wanted[:, 1:], rtol=0, atol=1e-3)
    np.testing.assert_allclose(energy, wanted[:, 0], rtol=0, atol=2e-5)


# ---- VAD -----------------------------------------------------------------------------------------


def kaldi_vad(log_energy: np.ndarray, settings: Vad) -> list[float]:
    """Kaldi's ComputeVadEnergy, line by line."""
    frames = len(log_energy)
    threshold = settings.energy_threshold
    if settings.energy_mean_scale != 0:
        threshold += settings.energy_mean_scale * sum(float(e) for e in log_energy) / frames
    marks = []
    for t in range(frames):
        count = total = 0
        for t2 in range(t - settings.frames_context, t + settings.frames_context + 1):
            if 0 <= t2 < frames:
                total += 1
                if log_energy[t2] > threshold:
                    count += 1
        marks.append(1.0 if count >= total * settings.proportion_threshold else 0.0)
    return marks


@pytest.mark.parametrize(
    "settings",
    [
        Vad(5.0, 0.5, 2, 0.12),
        Vad(5.5, 0.5, 0, 0.6),
        Vad(5.0, 0.0, 5, 0.6),
        Vad(2.0, 0.8, 3, 0.5),
        Vad(0.0, 1.0, 30, 0.35),
        Vad(100.0, 0.0, 2, 0.12),
        Vad(-100.0, 0.0, 2, 1.0),
    ],
    ids=str,
)
def test_vad_equals_kaldis_rule(settings):
    rng = np.random.default_rng(1)
    for frames in (1, 2, 4, 5, 40, 200):
        log_energy = (10 + 4 * np.sin(np.arange(frames) / 7) + rng.normal(0, 3, frames)).astype(np.float32)
        marks = vote(log_energy, settings)
        assert marks.dtype == np.float32 and marks.tolist() == kaldi_vad(log_energy, settings), frames


def test_a_relative_threshold_finds_the_same_speech_at_any_level_and_in_noise():
    rng = np.random.default_rng(1)
    spoken = np.repeat([0.0, 1.0, 0.0, 1.0, 0.0], 60)
    noise = rng.normal(8, 0.5, len(spoken))
    log_energy = np.logaddexp(np.where(spoken, 16 + rng.normal(0, 1, len(spoken)), 0), noise).astype(np.float32)
    relative, energy = Vad(5.0, 0.5, 0, 0.12, kind="relative"), Vad(5.0, 0.5, 0, 0.12)
    for change in (lambda e: e, lambda e: e - 5, lambda e: np.logaddexp(e, 12.0 + rng.normal(0, 0.2, len(e)))):
        assert (vote(change(log_energy), relative) == spoken).mean() > 0.97
    assert vote(np.logaddexp(log_energy, 13.0), energy).all()  # noise alone is above Kaldi's threshold
    half = vote(log_energy[:90], relative, threshold_of(log_energy, relative))
    np.testing.assert_array_equal(half, vote(log_energy, relative)[:90])


def test_vad_counts_energies_above_the_threshold_and_shares_at_it():
    log_energy = np.array([0, 0, 10, 0, 0, 0], dtype=np.float32)
    assert vote(log_energy, Vad(10.0, 0.0, 0, 0.5)).sum() == 0  # equal is not above
    assert vote(log_energy, Vad(9.0, 0.0, 2, 0.2)).tolist() == [
        1,
        1,
        1,
        1,
        1,
        0,
    ]  # one vote of five is enough, of three too


# ---- CMVN ----------------------------------------------------------------------------------------


def test_cmvn_statistics_are_kaldis():
    x = np.random.default_rng(1).normal(10, 3, (50, 4)).astype(np.float32)
    stats = cmvn_stats(x)
    assert stats.shape == (2, 5) and stats.dtype == np.float64
    np.testing.assert_allclose(stats[0], [*x.sum(0, dtype=np.float64), 50])
    np.testing.assert_allclose(stats[1], [*(x.astype(np.float64) ** 2).sum(0), 0])

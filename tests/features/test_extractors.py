"""Properties that an extractor of every kind must have."""

import dataclasses
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from dnf.experiment.config import resolve
from dnf.experiment.settings import Features
from dnf.features.extractor import EXTRACTORS, extract_blocks, extract_whole, make_extractor

every_kind = pytest.mark.parametrize("kind", EXTRACTORS)
# Settings of how recordings are read, and of what becomes of them and of the frames
NOT_THE_EXTRACTORS = {"kind", "resample", "channel", "min_duration", "max_rejected", "compress"}
OTHER = {  # another value of each of the others
    "sampling_rate": 15900,
    "num_filters": 23,
    "frame_length": 0.02,
    "frame_shift": 0.008,
    "window_type": "hamming",
    "preemph_coeff": 0.5,
    "remove_dc_offset": "false",
    "dither": 1.0,
    "snip_edges": "true",
    "round_to_power_of_two": "false",
    "low_freq": 100.0,
    "high_freq": -1000.0,
    "energy_floor": 1e9,
    "raw_energy": "false",
    "use_fft_mag": "true",
}


def settings_of(kind: str, *words: str) -> Features:
    return resolve([f"features.kind={kind}", "prior.cond_dim=0", *words]).features


@pytest.fixture
def sound(speech_like) -> np.ndarray:
    return speech_like(1.2, 3) + np.float32(0.01)


def test_the_settings_offer_the_kinds_there_are():
    assert get_args(get_type_hints(Features)["kind"]) == (*EXTRACTORS, "vectors")


@every_kind
def test_frames_have_the_dims_the_settings_say(kind, sound):
    settings = settings_of(kind)
    extractor, (frames, energy) = make_extractor(settings), extract_whole(sound, settings)
    assert frames.shape == (len(energy), settings.dim) and extractor.dim == settings.dim
    assert frames.dtype == energy.dtype == np.float32 and np.isfinite(frames).all() and np.isfinite(energy).all()
    assert extractor.frequencies.shape == (settings.dim,) and (np.diff(extractor.frequencies) > 0).all()
    assert 0 < extractor.frequencies[0] and extractor.frequencies[-1] < settings.sampling_rate / 2


@every_kind
@pytest.mark.parametrize("samples", (400, 401, 479, 480, 1000, 16000))
def test_number_of_frames_follows_length_and_shift(kind, sound, samples):
    for snip_edges, count in (("true", (samples - 400) // 160 + 1), ("false", (samples + 80) // 160)):
        frames, energy = extract_whole(sound[:samples], settings_of(kind, f"features.snip_edges={snip_edges}"))
        assert len(frames) == len(energy) == count


@every_kind
@pytest.mark.parametrize("size", (100, 1601, 5000))
def test_blocks_give_the_frames_of_the_whole(kind, sound, size):
    settings = settings_of(kind)
    blocks = (sound[i : i + size] for i in range(0, len(sound), size))
    for made, wanted in zip(
        map(np.concatenate, zip(*extract_blocks(blocks, settings))), extract_whole(sound, settings)
    ):
        np.testing.assert_allclose(made, wanted, atol=2e-4)


@every_kind
def test_what_is_shorter_than_a_frame_is_refused(kind, sound):
    with pytest.raises(ValueError, match="0.025 s is shorter than one frame"):
        extract_whole(sound[:399], settings_of(kind))


def test_every_setting_is_named_here():
    assert {field.name for field in dataclasses.fields(Features)} == NOT_THE_EXTRACTORS | OTHER.keys()


@pytest.mark.parametrize("name", OTHER)
def test_no_setting_is_ignored(name, sound):
    """Each changes what one kind at least makes."""

    def changed(kind: str) -> bool:
        torch.manual_seed(0)
        before, after = (extract_whole(sound, settings_of(kind, *w)) for w in ((), (f"features.{name}={OTHER[name]}",)))
        return any(a.shape != b.shape or not np.allclose(a, b, atol=1e-3) for a, b in zip(before, after))

    assert any(map(changed, EXTRACTORS))

"""Silero VAD gives the probabilities of its own program, for whole recordings as for those in blocks."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dnf.experiment import packages
from dnf.experiment.config import resolve
from dnf.features import extract, silero
from dnf.features.extractor import extract_whole
from dnf.features.vad import speech_marks

WORDS = {16000: (), 8000: ("features.sampling_rate=8000", "features.high_freq=-200")}
COMMAND = "python3 -m pip install --no-deps silero-vad==6.2.3"
lacking = packages.absent("silero_vad", "onnxruntime")
installed = pytest.mark.skipif(bool(lacking), reason=str(lacking))


def settings(rate: int, *words: str):
    return resolve(["vad.kind=silero", "vad.silero_threshold=0.02", *WORDS[rate], *words])


@installed
@pytest.mark.parametrize("rate", WORDS)
def test_probabilities_are_those_of_the_packages_own_program(speech_like, rate):
    from silero_vad.utils_vad import OnnxWrapper

    samples, config = speech_like(1.5, 5, rate), settings(rate)
    path = Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0]) / "data/silero_vad.onnx"
    wanted = OnnxWrapper(str(path)).audio_forward(torch.from_numpy(samples), rate)[0].numpy()
    made = silero.probabilities(samples, 150, config.features)
    middles = (np.arange(150) * rate // 100 + rate // 200) // (rate * 32 // 1000)
    np.testing.assert_allclose(made, wanted[middles], atol=1e-6)
    assert np.ptp(made) > 0.03


@installed
@pytest.mark.parametrize("snip_edges", ("true", "false"))
@pytest.mark.parametrize("rate", WORDS)
@pytest.mark.parametrize("size", (1, 97, 512, 10**6))
def test_probabilities_in_blocks_are_those_of_the_whole(speech_like, rate, size, snip_edges):
    config = settings(rate, f"features.snip_edges={snip_edges}")
    samples = speech_like(0.7, 3, rate)
    frames = len(extract_whole(samples, config.features)[1])
    in_blocks = silero.Silero(config.features)
    passed = list(in_blocks.passed([samples[i : i + size] for i in range(0, len(samples), size)]))
    np.testing.assert_array_equal(np.concatenate(passed), samples)
    whole = silero.probabilities(samples, frames, config.features)
    parts = [in_blocks.probabilities(first, min(first + 9, frames)) for first in range(0, frames, 9)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@installed
def test_frames_are_speech_above_the_threshold(speech_like):
    samples, config = speech_like(1.5, 3), settings(16000, "vad.frames_context=0")
    energy = extract_whole(samples, config.features)[1]
    marks = speech_marks(samples, energy, config)
    assert 0 < marks.sum() < len(marks)
    np.testing.assert_array_equal(marks > 0, silero.probabilities(samples, len(energy), config.features) > 0.02)
    with pytest.raises(ValueError, match=r"^the Silero VAD finds no speech; leave it out, or lower vad.silero_thresho"):
        speech_marks(samples, energy, settings(16000, "vad.silero_threshold=0.9"))


def test_other_rates_are_refused():
    with pytest.raises(
        ValueError, match=r"^vad.kind: silero reads 8000 or 16000 Hz, not features.sampling_rate 11025;"
    ):
        settings(16000, "features.sampling_rate=11025", "features.high_freq=-200")
    settings(8000)


def test_a_missing_package_is_named_before_any_recording_is_read(tmp_path, monkeypatch, write_corpus):
    config, there = settings(16000), importlib.util.find_spec
    write_corpus(tmp_path / "data/train")
    config.save(tmp_path / "feats/config.yaml")
    (tmp_path / "data/wav/train").rename(tmp_path / "gone")
    for lacking, wanted in (
        (["silero_vad"], f"the package silero-vad is not installed: {COMMAND}"),
        (["onnxruntime"], "the package onnxruntime is not installed: python3 -m pip install onnxruntime"),
        (
            ["silero_vad", "onnxruntime"],
            f"the packages silero-vad and onnxruntime are not installed: {COMMAND} && python3 -m pip install onnxruntime",
        ),
    ):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest, lacking=lacking: (
                None
                if name in lacking
                else importlib.machinery.ModuleSpec(name, None)
                if name in packages.INSTALL
                else there(name, *rest)
            ),
        )
        with pytest.raises(ValueError, match=f"^vad.kind silero: {wanted}$"):
            extract.compute(tmp_path / "data", tmp_path / "feats", config, 1, 1)


def test_a_damaged_network_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "silero_vad/data/silero_vad.onnx"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "__init__.py").write_text("raise ImportError('this package must not be imported')\n")
    path.write_bytes(b"no")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)  # an earlier test imports it
    silero.session.cache_clear()
    with pytest.raises(
        ValueError, match=f"^{path}: has a wrong checksum; install the package again: {COMMAND} --force"
    ):
        silero.session()

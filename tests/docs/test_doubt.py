"""The script behind the table of docs/doubt.md: each copy has the channel that its name says."""

import importlib.util

import numpy as np
import pytest
import soundfile
from recipe_runs import ROOT

from dnf.data.kaldi_files import read_table, write_table

RATE = 16000


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("doubt", ROOT / "docs" / "doubt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def copies(script, tmp_path_factory):
    """Samples of the copies of half a second of noise and silence, by kind."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "set").mkdir()
    x = 0.05 * np.random.default_rng(1).standard_normal(RATE)
    x[RATE // 2 :] = 0
    soundfile.write(folder / "a.wav", x, RATE)
    tables = {"wav.scp": str(folder / "a.wav"), "utt2spk": "s", "utt2class": "en"}
    for name, value in tables.items():
        write_table(folder / "set" / name, {"u": value})
    script.make_copies([folder / "set"], folder / "out")
    paths = {kind: read_table(folder / "out" / kind / "wav.scp")["u"] for kind in script.KINDS}
    assert all(read_table(folder / "out" / kind / "utt2class") == {"u": "en"} for kind in paths)
    return {kind: soundfile.read(path) for kind, path in paths.items()}


def decibels(x: np.ndarray, low: float, high: float) -> float:
    """Power between two frequencies in Hz."""
    frequencies = np.fft.rfftfreq(len(x), 1 / RATE)
    return 10 * np.log10((np.abs(np.fft.rfft(x)) ** 2)[(low <= frequencies) & (frequencies < high)].mean() + 1e-20)


def test_copies_have_the_rate_of_the_recording(copies):
    assert {rate for _, rate in copies.values()} == {RATE}
    assert all(abs(len(x) - RATE) < 0.1 * RATE for x, _ in copies.values())


@pytest.mark.parametrize("kind", ("telephone_band", "mu_law", "gsm", "mp3"))
def test_narrow_copies_have_no_upper_band(copies, kind):
    x, whole = copies[kind][0], copies["unchanged"][0]
    assert decibels(x, 4800, 7800) < decibels(whole, 4800, 7800) - 20
    assert abs(decibels(x, 800, 2000) - decibels(whole, 800, 2000)) < 3


@pytest.mark.parametrize("level", (20, 10))
def test_noise_is_below_the_recording_by_so_much(copies, level):
    whole = copies["unchanged"][0]
    noise = copies[f"noise_{level}_dB"][0] - whole
    assert 20 * np.log10(whole.std() / noise.std()) == pytest.approx(level, abs=0.2)


def test_level_and_tilt(copies):
    whole = copies["unchanged"][0]
    assert 20 * np.log10(whole.std() / copies["10_dB_quieter"][0].std()) == pytest.approx(10, abs=0.1)
    change = [decibels(copies["tilt_2_dB"][0], f, 1.1 * f) - decibels(whole, f, 1.1 * f) for f in (1000, 2000, 4000)]
    assert np.diff(change) == pytest.approx([-2, -2], abs=0.1)


@pytest.mark.parametrize("seconds", (0.3, 0.6))
def test_reverberation_falls_by_60_decibels_in_its_time(copies, seconds):
    tail = copies[f"reverberation_{seconds}_s"][0][RATE // 2 :]
    tenth = int(0.1 * RATE)
    fall = 20 * np.log10(tail[:tenth].std() / tail[tenth : 2 * tenth].std())
    assert fall == pytest.approx(60 * 0.1 / seconds, abs=1.5)

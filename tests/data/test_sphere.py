"""SPHERE files are read by their header: compressed ones through sph2pipe, whatever they are called."""

import os
import subprocess

import lhotse
import numpy as np
import pytest
import tree_wsj
from lhotse import Recording, SupervisionSegment
from lhotse.audio.backend import LibsndfileBackend

from dnf.data import sphere
from dnf.data.audio import Rejected, load_samples
from dnf.experiment.config import resolve

SAMPLES = (np.random.default_rng(7).standard_normal(8000) * 3000).astype(np.int16)
SETTINGS = resolve([]).features
pytestmark = pytest.mark.usefixtures("by_header")


@pytest.fixture
def sph2pipe(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tree_wsj.fake_sph2pipe(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.fixture
def no_sph2pipe(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


def utterance(recording: Recording, start: float = 0.0, duration: float | None = None) -> SupervisionSegment:
    return SupervisionSegment("u", recording.id, start=start, duration=duration or recording.duration)


@pytest.mark.parametrize("name", ["a.wv1", "a.sph", "a.wav", "A.WV2"])
def test_uncompressed_needs_no_program(tmp_path, no_sph2pipe, name):
    path = tmp_path / name
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201"))
    recording = Recording.from_file(path)
    assert (recording.num_samples, recording.sampling_rate) == (8000, 16000)
    assert np.array_equal(load_samples(recording, utterance(recording), SETTINGS) * 32768, SAMPLES)


@pytest.mark.parametrize("name", ["a.wv1", "a.sph", "with blank; and 'quote.wv1"])
def test_compressed_goes_through_sph2pipe(tmp_path, sph2pipe, name):
    path = tmp_path / name
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201", tree_wsj.SHORTEN))
    recording = Recording.from_file(path)
    assert (recording.num_samples, recording.sampling_rate, recording.num_channels) == (8000, 16000, 1)
    assert np.array_equal(load_samples(recording, utterance(recording), SETTINGS) * 32768, SAMPLES)
    part = load_samples(recording, utterance(recording, start=0.1, duration=0.25), SETTINGS)
    assert np.array_equal(part * 32768, SAMPLES[1600:5600])


def test_compressed_and_no_sph2pipe(tmp_path, sph2pipe, monkeypatch):
    path = tmp_path / "a.wv1"
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201", tree_wsj.SHORTEN))
    recording = Recording.from_file(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Rejected) as error:
        load_samples(recording, utterance(recording), SETTINGS)
    assert str(error.value) == (
        f"{path}: its samples are compressed (pcm,embedded-shorten-v1.1) and sph2pipe, which decodes them, is not "
        f"installed; run 'lhotse install-sph2pipe', or convert the corpus to wav or flac"
    )


def test_sph2pipe_fails(tmp_path, sph2pipe):
    path = tmp_path / "a.wv1"
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201", tree_wsj.SHORTEN))
    recording = Recording.from_file(path)
    sph2pipe.write_text("#!/bin/sh\necho unexpected end of file >&2\nexit 1\n")
    with pytest.raises(Rejected, match=r"a\.wv1: cannot be read .*unexpected end of file"):
        load_samples(recording, utterance(recording), SETTINGS)


def test_less_comes_out_than_the_header_says(tmp_path, sph2pipe):
    path = tmp_path / "a.wv1"
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201", tree_wsj.SHORTEN, count=9000))
    recording = Recording.from_file(path)
    with pytest.raises(Rejected, match=r"gave 8000 samples, but its header says 9000"):
        load_samples(recording, utterance(recording), SETTINGS)


def test_cut_off(tmp_path):
    path = tmp_path / "a.wv1"
    path.write_bytes(tree_wsj.sphere(SAMPLES, "01ic0201")[:9000])
    recording = Recording.from_file(path)
    with pytest.raises(Rejected, match=r"a\.wv1: truncated"):
        load_samples(recording, utterance(recording), SETTINGS)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"hello " * 300, b"NIST_1A\n   1024\nsample_count -i 8000\n", b"NIST_1A\n   many\n"]
)
def test_other_files_have_no_compression(tmp_path, content):
    (tmp_path / "a.wv1").write_bytes(content)
    assert sphere.compression(tmp_path / "a.wv1") == ""
    assert not sphere.cut_off(tmp_path / "a.wv1")


def test_a_backend_that_the_user_chose_stays():
    chosen = lhotse.set_current_audio_backend(LibsndfileBackend())
    sphere.install()
    assert lhotse.get_current_audio_backend() is chosen


def test_install_twice():
    backend = lhotse.get_current_audio_backend()
    sphere.install()
    assert lhotse.get_current_audio_backend() is backend
    assert sum(isinstance(b, sphere.Sphere) for b in backend.backends) == 1


def test_features_task_reads_by_header(tmp_path, sph2pipe):
    """A task of the job array is a process of its own and asks for the backend itself."""
    code = (
        "import lhotse, pathlib, sys\nfrom dnf.features import extract\nfrom dnf.experiment.config import resolve\n"
        "try:\n    extract.compute(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]), resolve([]), 1, 1)\n"
        "except ValueError:\n    pass\nprint(type(lhotse.get_current_audio_backend().backends[0]).__name__)"
    )
    done = subprocess.run([os.sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Sphere", done.stderr

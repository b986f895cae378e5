"""Shared fixtures: small settings, recordings, data directories and frame stores, all made on the spot from a seed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

RATE = 16000
SMALL = (
    "features.num_filters=4",
    "splice.left=1",
    "splice.right=1",
    "prior.cond_dim=6",
    "flow.blocks=2",
    "flow.hidden=8",
    "flow.layers=1",
    "train.batch_size=50",
    "train.epochs=2",
    "train.warmup_steps=2",
    "train.precision=float32",
    "latents.mardia_frames=300",
)


LONGEST_FIRST = (
    "recipes/test_killed", "recipes", "training/test_distributed", "inference/test_classify", "report/test_sweep", "jobs", "benchmarks",
    "experiment", "training", "data",
)  # fmt: skip
APART = {  # long tests that share no fixture with the rest of their files
    "test_killed_at_twelve_random_moments",
    "test_nothing_but_the_accent_tells_the_classes_apart",
    "test_without_je_and_voxceleb_the_rest_runs",
    "test_wrong_command_lines_say_so_in_one_line",
    "test_the_mini_recipe_whole_as_two_processes_and_as_two_nodes",
    "test_a_data_directory_is_decided_as_by_the_recipe",
}
SLOW_FIXTURES = {"everything", "good", "killed", "new_exp"}  # whole runs of a recipe, killed and parallel training


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; tests of slow fixtures are slow."""
    folder = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(folder).as_posix()
        return next((n for n, start in enumerate(LONGEST_FIRST) if path.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """A worker gets a file as a whole, whose fixtures are made once, but for the tests in ``APART``."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return f"{file}::{test.partition('[')[0]}" if test.partition("[")[0] in APART else file

    return Files(config, log)


@pytest.fixture(scope="session")
def small_config() -> Callable:
    """Settings of a model that trains in a second, with more ``section.key=value`` words laid over them."""
    from dnf.experiment.config import resolve

    return lambda *words: resolve([*SMALL, *words])


@pytest.fixture(scope="session")
def speech_like() -> Callable:
    """Samples ``(T,)`` in -1..1 of noise in bursts, with near silence at both ends and between them."""
    import numpy as np

    def make(seconds: float, seed: int, rate: int = RATE):
        rng = np.random.default_rng(seed)
        t = np.arange(round(seconds * rate)) / rate
        loud = (np.sin(2 * np.pi * 2.3 * t - 1) > -0.3) & (t > 0.1) & (t < seconds - 0.1)
        colour = np.convolve(rng.standard_normal(len(t) + 7), rng.uniform(-1, 1, 8), mode="valid")
        return np.clip(colour * np.where(loud, 0.08, 0.0001), -1, 1).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def write_corpus(speech_like) -> Callable:
    """Write a set's wav files and data directory; ids are ``<speaker>-<n>``, and a speaker's class ends its name."""
    import soundfile
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    from dnf.data.write_set import write_set

    def make(
        directory: Path, speakers=("anna_en", "bert_zh"), utterances: int = 2, seconds: float = 0.8, rate: int = RATE
    ):
        wavs = directory.parent / "wav" / directory.name
        wavs.mkdir(parents=True)
        recordings, supervisions = [], []
        for s, speaker in enumerate(speakers):
            for n in range(utterances):
                utt = f"{speaker}-{n}"
                soundfile.write(
                    wavs / f"{utt}.wav", speech_like(seconds + 0.1 * n, 100 * s + n, rate), rate, subtype="PCM_16"
                )
                recording = Recording.from_file(wavs / f"{utt}.wav", recording_id=utt)
                recordings.append(recording)
                supervisions.append(
                    SupervisionSegment(
                        id=utt,
                        recording_id=utt,
                        start=0.0,
                        duration=recording.duration,
                        speaker=speaker,
                        custom={"class": speaker.rsplit("_", 1)[1]},
                    )
                )
        write_set(RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions), directory)
        return wavs

    return make


@pytest.fixture(scope="session")
def write_store() -> Callable:
    """Write arks and tables of given frames and build their frame store.

    Utterances are ``{utterance: (speaker, class, frames (N, F), speech (N,)[, expert score or None])}``; the data directory
    is left beside it.
    """
    import kaldiio

    from dnf.features.frame_store import FrameStore
    from dnf.features.frames import build

    def make(store: Path, utterances: dict, dtype: str = "float32") -> FrameStore:
        directory = store.with_name(store.name + "_data")
        directory.mkdir(parents=True, exist_ok=True)
        ordered = dict(sorted(utterances.items()))
        for at, kind in ((2, "feats"), (3, "vad")):
            with kaldiio.WriteHelper(f"ark,scp:{directory}/{kind}.ark,{directory}/{kind}.scp") as writer:
                for utt, row in ordered.items():
                    writer(utt, row[at].astype("float32"))
        for name, column in (("utt2spk", 0), ("utt2class", 1)):
            (directory / name).write_text("".join(f"{utt} {row[column]}\n" for utt, row in ordered.items()))
        (directory / "utt2num_frames").write_text("".join(f"{utt} {len(row[2])}\n" for utt, row in ordered.items()))
        scores = {utt: row[4] for utt, row in ordered.items() if row[4:] and row[4] is not None}
        (directory / "utt2score").unlink(missing_ok=True)
        if scores:
            (directory / "utt2score").write_text("".join(f"{utt} {score}\n" for utt, score in scores.items()))
        build(directory, store, dtype)
        return FrameStore(store)

    return make


@pytest.fixture(scope="session")
def two_classes() -> Callable:
    """Utterances of classes en and zh whose frames are bent, correlated and apart: a problem a flow gains on."""
    import numpy as np

    def make(seed: int, utterances: int = 6, frames: int = 50, dim: int = 4, offset: float = 0.0) -> dict:
        rng = np.random.default_rng(seed)
        made = {}
        for n in range(utterances):
            name = ("en", "zh")[n % 2]
            x = rng.standard_normal((frames, dim))
            x[:, 1] += 2 * np.tanh(2 * x[:, 0])
            x[:, 2] = x[:, 2] * np.exp(0.5 * x[:, 0]) + (3 if name == "zh" else -1)
            made[f"s{seed}{n}{name}-u"] = (f"s{seed}{n}{name}", name, 4 * x + 10 + offset, np.ones(frames))
        return made

    return make


@pytest.fixture(scope="session")
def problem(write_store, two_classes, tmp_path_factory) -> Path:
    """Stores train (300 vectors, 6 speakers) and dev (100 vectors, 2 speakers) of en and zh, and classes.txt beside them."""
    folder = tmp_path_factory.mktemp("small") / "frames"
    write_store(folder / "train", two_classes(1))
    write_store(folder / "dev", two_classes(2, utterances=2))
    (folder.parent / "classes.txt").write_text("en\nzh\n")
    return folder


@pytest.fixture
def new_trainer(problem, small_config, tmp_path) -> Callable:
    """Make a trainer of ``problem``, or other stores, with ``section.key=value`` words."""
    from dnf.training.ranks import ALONE
    from dnf.training.train import make_trainer

    def make(*words: str, out: str = "exp", stores: Path = problem):
        (tmp_path / out).mkdir(exist_ok=True)
        return make_trainer(stores, tmp_path / out, small_config(*words), ["en", "zh"], ALONE)

    return make


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Callable:
    """Make a folder once for all workers: ``shared(name, make)`` is that folder, which ``make`` is given to fill."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        with FileLock(base / f"{name}.lock"):
            if not (base / name).is_dir():
                make(base / f"{name}.tmp")
                (base / f"{name}.tmp").rename(base / name)
        return base / name

    return once


@pytest.fixture(scope="session")
def voices(shared) -> dict[str, list]:
    """Synthetic speech for miniature corpora: class -> (speaker, gender, [int16 ``(T,)`` at 16 kHz]) of 8 speakers."""
    import subprocess
    import sys

    import soundfile
    from lhotse import SupervisionSet
    from recipe_runs import ROOT, counts, environment

    def speak(folder: Path) -> None:
        command = [sys.executable, ROOT / "egs/mini/local/prepare_data.py", folder, "--nj", "2", *counts(8, 1, 1, 1, 3)]
        subprocess.run(command, check=True, env=environment(), capture_output=True)

    data = shared("voices", speak)
    spoken: dict[str, dict[tuple[str, str], list]] = {}
    for s in sorted(SupervisionSet.from_file(data / "train" / "supervisions.jsonl.gz"), key=lambda s: s.id):
        samples, _ = soundfile.read(data / "wav" / "train" / s.speaker / f"{s.id}.wav", dtype="int16")
        spoken.setdefault(s.custom["class"], {}).setdefault((s.speaker, s.gender), []).append(samples[: 4 * RATE])
    return {name: [(*speaker, samples) for speaker, samples in of_class.items()] for name, of_class in spoken.items()}


@pytest.fixture(scope="session")
def noise() -> dict[str, list]:
    """Voices that say nothing, of the form of ``voices``: short noise, eight speakers of each class."""
    import numpy as np

    rng = np.random.default_rng(0)

    def utterances() -> list:
        return [(1000 * rng.standard_normal(800 * n)).astype(np.int16) for n in (5, 6, 7)]

    return {name: [(f"{name}{k}", "mf"[k % 2], utterances()) for k in range(8)] for name in ("en", "ce", "je")}


@pytest.fixture
def by_header() -> Iterator[None]:
    """Lhotse reads recordings by their headers, as in stages, while a test runs."""
    import lhotse

    from dnf.data import sphere

    before = lhotse.get_current_audio_backend()
    sphere.install()
    yield
    lhotse.set_current_audio_backend(before)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Killer:
    """Kills what runs at the n-th change of a folder or file name."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int):
        self.left = n
        for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir"):
            patch.setattr(os, name, partial(self.change, getattr(os, name)))

    def change(self, function: Callable, *args, **options):
        self.left -= 1
        if not self.left:
            raise Killed
        return function(*args, **options)


@pytest.fixture
def until_not_killed(monkeypatch) -> Callable:
    """Run something again and again, killed at its first, second, ... change, until it gets to its end.

    ``check`` is called with the number of the change after every kill. Returns how many kills there were.
    """

    def change_by_change(run: Callable[[], object], check: Callable[[int], object]) -> int:
        for n in range(1, 1000):
            with monkeypatch.context() as patch:
                Killer(patch, n)
                try:
                    run()
                    return n - 1
                except Killed:
                    pass
            check(n)
        raise AssertionError("it never came to its end")

    return change_by_change

"""What a user is told when the input is bad: one line with the file, the reason and the remedy, and nothing lost."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_runs import ROOT

from dnf.data import own_data, splits
from dnf.experiment import entry
from dnf.features import collect, extract, frames

TINY = (
    "splice.left=1", "splice.right=1", "prior.cond_dim=120", "flow.blocks=2", "flow.hidden=8", "train.steps=4",
    "train.batch_size=100", "plots.tsne_points=40", "plots.tsne_perplexity=5", "plots.dpi=40", "report.bootstrap=20", "baselines.enabled=false", "latents.durations=[]",
)  # fmt: skip
SPEAKERS = {"train": ("a1", "a2", "b1", "b2"), "dev": ("a3", "b3"), "test": ("a4", "b4")}
CLASS = {"a": "en", "b": "ce"}
UTTERANCES = 2


def samples(seed: int, seconds: float = 0.8, rate: int = 16000) -> np.ndarray:
    """Bursts of noise between near silence."""
    rng, n = np.random.default_rng(seed), int(seconds * rate)
    return (rng.standard_normal(n) * np.where(np.sin(np.arange(n) / rate * 20) > -0.2, 0.1, 0.0003)).astype(np.float32)


def write_kaldi(folder: Path) -> None:
    """A good corpus as Kaldi data directories."""
    (folder / "wav").mkdir(parents=True)
    for name, speakers in SPEAKERS.items():
        lines: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "utt2class": []}
        for speaker in speakers:
            for i in range(UTTERANCES):
                utt = f"{speaker}-{i}"
                soundfile.write(folder / "wav" / f"{utt}.wav", samples(int.from_bytes(utt.encode())), 16000, "PCM_16")
                lines["wav.scp"].append(f"{utt} wav/{utt}.wav\n")
                lines["utt2spk"].append(f"{utt} {speaker}\n")
                lines["utt2class"].append(f"{utt} {CLASS[speaker[0]]}\n")
        (folder / name).mkdir()
        for table, content in lines.items():
            (folder / name / table).write_text("".join(content))


def run(folder: Path, *options: str, corpus: str = "corpus") -> subprocess.CompletedProcess:
    settings = [word for setting in TINY for word in ("--set", setting)]
    line = [ROOT / "run.sh", "--data", corpus, "--exp", "dnf120", "--nj", "1", "--device", "cpu", *settings, *options]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A folder with a good corpus and what a whole run on it left."""
    folder = tmp_path_factory.mktemp("good")
    write_kaldi(folder / "corpus")
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def copy(good, tmp_path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(good, folder)
    return folder


def replace(table: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(corpus: Path) -> None:
        path = corpus / table
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return damage


def audio(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Damage one training recording."""

    def damage(corpus: Path) -> None:
        write(corpus / "wav" / "a1-0.wav")
        (corpus / "train" / "wav.scp").touch()

    return damage


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def not_numbers(path: Path) -> None:
    wave = samples(1)
    wave[100] = np.nan
    soundfile.write(path, wave, 16000, "FLOAT")


BAD = {
    "truncated": (audio(shorten), "wav/a1-0.wav: truncated"),
    "empty": (audio(lambda path: path.write_bytes(b"")), "wav/a1-0.wav: cannot be read"),
    "text": (audio(lambda path: path.write_text("no sound")), "wav/a1-0.wav: cannot be read"),
    "silent": (audio(lambda path: soundfile.write(path, np.zeros(16000), 16000)), "wav/a1-0.wav: digital silence"),
    "nan": (audio(not_numbers), "wav/a1-0.wav: has NaN or infinite samples"),
    "too short": (
        audio(lambda path: soundfile.write(path, samples(1, 0.05), 16000)),
        "wav/a1-0.wav: 0.050 s is shorter than",
    ),
    "wrong rate": (
        audio(lambda path: soundfile.write(path, samples(1, rate=8000), 8000)),
        "wav/a1-0.wav: 8000 Hz, not",
    ),
    "stereo": (
        audio(lambda path: soundfile.write(path, np.stack([samples(1)] * 2, 1), 16000)),
        "wav/a1-0.wav: 2 channels",
    ),
    "missing": (audio(lambda path: path.unlink()), "wav/a1-0.wav: no such file"),
    "pipe": (replace("train/wav.scp", "wav/a1-0.wav", "cat wav/a1-0.wav |"), "'a1-0' is a command"),
    "unsorted": (replace("train/utt2spk", "a1-0 a1\na1-1 a1\n", "a1-1 a1\na1-0 a1\n"), "train/utt2spk line 2"),
    "duplicate": (replace("train/utt2spk", "a1-0 a1\n", "a1-0 a1\na1-0 a1\n"), "train/utt2spk line 2"),
    "no such utterance": (replace("train/utt2class", "a1-0 en\n", ""), "train/utt2class"),
    "two classes": (replace("train/utt2class", "a1-0 en", "a1-0 ce"), "a1"),
    "three columns": (replace("train/utt2spk", "a1-0 a1", "a1-0 a1 x"), "train/utt2spk line 1"),
    "bad class name": (replace("train/utt2class", " en\n", " En\n"), "'En'"),
    "speaker in two splits": (
        lambda corpus: (shutil.rmtree(corpus / "test"), shutil.copytree(corpus / "dev", corpus / "test")),
        "in both dev and test",
    ),
    "no train": (lambda corpus: shutil.rmtree(corpus / "train"), "no set 'train'"),
}


@pytest.mark.parametrize("what", ("truncated", "speaker in two splits"))
def test_bad_corpus_is_one_line_and_costs_no_results(copy, what):
    damage, message = BAD[what]
    before = {
        path: path.read_bytes() for path in (copy / "exp/corpus_dnf120").iterdir() if path.name.startswith("results")
    }
    damage(copy / "corpus")
    done = run(copy, "--force", "true", "--stop-stage", "2")
    said = [line for line in done.stderr.splitlines() if re.match(r" *\S+\.py: (?!job failed)", line)]
    assert done.returncode == 1, done.stderr
    assert any(message in line for line in said), done.stderr
    assert "Traceback" not in done.stderr
    assert len(before) == 2 and all(path.read_bytes() == content for path, content in before.items())


COMMANDS = (  # of stages data to frames, as run.sh gives them
    (own_data, "corpus data/own/corpus"),
    (splits, "data/own/corpus"),
    (extract, "compute data/own/corpus exp/feats/own/corpus --job 1 --jobs 1 --work again"),
    (collect, "data/own/corpus exp/feats/own/corpus --jobs 1"),
    (frames, "build data/own/corpus exp/frames/own/corpus"),
)


@pytest.mark.parametrize("what", BAD)
def test_bad_corpus_is_the_users_to_mend(copy, what, monkeypatch):
    damage, message = BAD[what]
    damage(copy / "corpus")
    monkeypatch.chdir(copy)
    with pytest.raises((ValueError, OSError)) as error:
        for module, words in COMMANDS:
            module.main(words.split())
    assert message in entry.describe(error.value)


def test_a_bad_recording_below_the_limit_is_listed_and_counted(copy):
    shorten(copy / "corpus/wav/a1-0.wav")
    done = run(copy, "--force", "true", "--stop-stage", "2", "--max-rejected", "20%")
    assert done.returncode == 0, done.stderr
    assert (copy / "data/own/corpus/train/rejected.txt").read_text().startswith("a1-0 ")
    assert (
        len((copy / "data/own/corpus/train/feats.scp").read_text().splitlines())
        == len(SPEAKERS["train"]) * UTTERANCES - 1
    )
    assert "1 rejected" in done.stderr
    again = run(copy, "--stop-stage", "2", "--max-rejected", "20%")
    assert again.stderr.count("up to date") == 3
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for verb in ("fix", "validate"):
        subprocess.run(
            [sys.executable, "-m", "dnf", "datadir", verb, copy / "data/own/corpus/train"], env=environment, check=True
        )


def test_pipes_run_only_when_allowed(copy):
    replace("train/wav.scp", "wav/a1-0.wav", f"cat {copy}/corpus/wav/a1-0.wav |")(copy / "corpus")
    done = run(copy, "--stop-stage", "2", "--allow-pipes", "true")
    assert done.returncode == 0, done.stderr


def test_a_command_in_a_manifest_runs_only_when_allowed(copy):
    assert run(copy, "--stop-stage", "0").returncode == 0
    manifest, ran = copy / "data/own/corpus/train/recordings.jsonl.gz", copy / "ran"
    first, *rest = gzip.decompress(manifest.read_bytes()).decode().splitlines(keepends=True)
    record = json.loads(first)
    command = f"touch {ran}; cat {record['sources'][0]['source']}"
    record["sources"] = [{"type": "command", "channels": [0], "source": command}]
    manifest.write_bytes(gzip.compress("".join([json.dumps(record) + "\n", *rest]).encode()))
    done = run(copy, "--stage", "1", "--stop-stage", "1")
    assert done.returncode == 1 and not ran.exists()
    assert f"the source of '{record['id']}' is a command" in done.stderr
    done = run(copy, "--stage", "1", "--stop-stage", "1", "--allow-pipes", "true")
    assert done.returncode == 0 and ran.exists(), done.stderr


OWN_SETS = ("data.train=[train]", "data.dev=[dev]", "data.test=[]", "data.views={}", "data.controls={}")


def prepare_own_data(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Stage data of a corpus with classes en and ce, by a recipe that has other classes."""
    line = [ROOT / "run.sh", "--recipe", "voxceleb_cnceleb", "--data", "corpus", "--nj", "1", "--stop-stage", "0"]
    return subprocess.run([*line, *options], cwd=folder, capture_output=True, text=True)


def test_own_data_have_their_own_classes_in_every_recipe(tmp_path):
    write_kaldi(tmp_path / "corpus")
    planned = prepare_own_data(tmp_path, "--dry-run")
    assert planned.stdout.splitlines()[-1] == "classes and sets are checked when stage 0 has run", planned.stderr
    done = prepare_own_data(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the classes are those of the data: ce en; select classes with --set 'data.classes=[...]'" in done.stderr


def test_own_data_must_have_the_classes_of_a_yaml_that_is_named(tmp_path):
    write_kaldi(tmp_path / "corpus")
    shutil.copy(ROOT / "egs/voxceleb_cnceleb/conf/en_cn.yaml", tmp_path / "own.yaml")
    settings = [word for setting in OWN_SETS for word in ("--set", setting)]
    planned = prepare_own_data(tmp_path, "--exp", "own.yaml", *settings, "--dry-run")
    assert planned.stdout.splitlines()[-1] == "classes and sets are checked when stage 0 has run", planned.stderr
    done = prepare_own_data(tmp_path, "--exp", "own.yaml", *settings)
    assert done.returncode == 1 and "'cn' is not a class of" in done.stderr


def test_a_class_without_data_is_named(copy):
    done = run(copy, "--set", "data.classes=[en, zz]")
    assert done.returncode == 1 and "'zz' is not a class of" in done.stderr
    replace("dev/utt2class", " ce\n", " en\n")(copy / "corpus")
    done = run(copy)
    assert done.returncode == 1 and "class ce has no utterance in dev" in done.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.views={test: {sets: [train]}}", "data.views: test is the name of a set"),
        ("plots.sets=[tset]", "plots.sets: there is no set tset in data/own/corpus, which has dev, test, train"),
        ("data.views={v: {set: [test]}}", "data.views.v: {'set': ['test']} is not a view such as"),
        ("data.train=[train, more]", "experiment dnf120 cannot run: no set more in data/own/corpus"),
    ],
)
def test_bad_settings_of_sets_are_one_line_before_training(copy, setting, message):
    before = (copy / "exp/corpus_dnf120/last.pt").stat().st_mtime_ns
    done = run(copy, "--set", setting)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (copy / "exp/corpus_dnf120/last.pt").stat().st_mtime_ns == before


def test_a_table_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "recordings.csv").write_bytes(b"recording,speaker,class,set\na.wav,Andr\xe9,en,train\n")
    done = run(tmp_path)
    assert done.returncode == 1 and "recordings.csv: is not UTF-8 text" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_folder_that_cannot_be_written_is_named(tmp_path):
    write_kaldi(tmp_path / "corpus")
    (tmp_path / "exp").write_text("in the way")
    done = run(tmp_path, "--stop-stage", "1")
    assert done.returncode == 1 and "'exp'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("stage", "kilobytes"), [(1, 300), (3, 740)])
def test_full_disk_is_said_and_the_run_goes_on_later(good, tmp_path, stage, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], capture_output=True
        ).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = run(disk, "--stop-stage", str(stage), corpus=str(good / "corpus"))
        assert done.returncode == 1 and "No space left on device" in done.stderr and "Traceback" not in done.stderr, (
            done.stderr
        )
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        done = run(disk, "--stop-stage", str(stage), corpus=str(good / "corpus"))
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", disk], check=True)

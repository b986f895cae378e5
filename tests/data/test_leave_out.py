"""Corpora left out: the sets by corpus, and the experiments without each corpus."""

import shlex
import subprocess
from pathlib import Path

import pytest
import recipe_runs
from recipe_runs import command, environment

from dnf.data import by_corpus, leave_out, own_data, splits
from dnf.data.by_corpus import parts_of
from dnf.data.kaldi_files import read_table
from dnf.experiment.config import resolve
from dnf.experiment.layout import done_marker
from dnf.experiment.tables import read_tsv

# Set, speaker, class, corpus: only en has two corpora
VOICES = (
    ("train", "ann", "en", "studio"), ("train", "bea", "zh", "studio"), ("train", "cid", "en", "phone"),
    ("dev", "dan", "en", "studio"), ("dev", "eve", "zh", "studio"), ("dev", "flo", "en", "phone"),
    ("test", "gil", "en", "studio"), ("test", "hal", "zh", "studio"), ("test", "ivy", "en", "car"),
)  # fmt: skip
PHONE = {"train": ["train.studio"], "dev": ["dev.studio"], "test": ["train.phone", "dev.phone"]}


def write_table(own, voices=VOICES, utterances: int = 1, **options) -> None:
    """Recordings of each voice, as a table with the column corpus."""
    names = ("set", "speaker", "class", "corpus")
    own.table(
        [
            dict(zip(names, voice)) | {"recording": own.wav(f"{'_'.join(voice[:2])}_{voice[3]}_{n}.wav", **options)}
            for voice in voices
            for n in range(utterances)
        ]
    )


@pytest.fixture
def data(own, tmp_path, monkeypatch):
    """Make the folder ``data`` of a run on such recordings, where stage data is done."""

    def make(voices=VOICES) -> Path:
        write_table(own, voices)
        monkeypatch.chdir(tmp_path)
        resolve([]).save(Path("data/config.yaml"))
        assert own_data.main([str(own.folder), "data"]) == 0
        done_marker(Path("data"), "data").write_text("{}")
        Path("y.yaml").write_text("train: {lr: 0.5}\n")
        return Path("data")

    return make


def planned(capsys, *options: str) -> dict[str, list[str]]:
    """The words of each planned experiment by its name."""
    capsys.readouterr()
    assert leave_out.main(["y.yaml", *options]) == 0
    lines = (shlex.split(line.replace("=(", "= (")) for line in capsys.readouterr().out.splitlines())
    return {words[0].partition("=")[2]: words for words in lines}


def settings_of(words: list[str]):
    """The settings of a planned experiment."""
    layers = [word.lstrip("(").rstrip(")") for word in words if ".yaml" not in word]
    return resolve([word for before, word in zip(layers, layers[1:]) if before == "--set"]).data


def test_a_corpus_is_trained_without_and_is_the_control_of_dev(data, capsys):
    data()
    found = planned(capsys)
    assert list(found) == ["y_without_phone"]  # zh has studio alone, and car is not in training
    chosen = settings_of(found["y_without_phone"])
    assert {role: getattr(chosen, role) for role in PHONE} == PHONE
    assert chosen.controls == {"dev.studio": "left_out"} and chosen.views["left_out"].sets == PHONE["test"]
    assert "data_dir=data/own/by_corpus" in found["y_without_phone"]
    assert "exp_dir=exp/y_without_phone" in found["y_without_phone"]


def test_values_of_a_sweep_have_experiments_of_their_own(data, capsys):
    data()
    names = ["y_without_phone_train.lr=0.1", "y_without_phone_train.lr=0.2"]
    assert list(planned(capsys, "--sweep", "train.lr=0.1,0.2")) == names


def test_the_sets_by_corpus_are_valid_and_hold_all_utterances(data, tmp_path):
    source, out = data(), tmp_path / "parts"
    resolve([f"data.{role}=[{', '.join(sets)}]" for role, sets in PHONE.items()]).save(out / "config.yaml")
    (out / "of_earlier_run").mkdir()
    (out / "of_earlier_run" / "utt2spk").write_text("")
    assert by_corpus.main([str(source), str(out)]) == 0 and splits.main([str(out)]) == 0
    assert sorted(path.parent.name for path in out.glob("*/utt2spk")) == [
        *("dev.phone", "dev.studio", "test.car", "test.studio", "train.phone", "train.studio")
    ]
    for part in parts_of(source):
        assert set(read_table(out / part.name / "utt2corpus").values()) == set(part.corpora)
    whole = {utt for name in ("train", "dev", "test") for utt in read_table(source / name / "utt2spk")}
    assert {utt for path in out.glob("*/utt2spk") for utt in read_table(path)} == whole


def test_a_speaker_of_two_corpora_is_neither_trained_on_nor_tested_when_one_is_left_out(data, capsys):
    data([*VOICES, ("train", "kim", "en", "phone"), ("train", "kim", "en", "studio")])
    chosen = settings_of(planned(capsys)["y_without_phone"])
    assert chosen.train == ["train.studio"] and chosen.test == PHONE["test"]


def test_each_corpus_of_both_classes_is_left_out_and_stands_for_itself(data, capsys):
    data([*VOICES, ("train", "kim", "zh", "phone"), ("dev", "lee", "zh", "phone")])
    found = planned(capsys)
    assert list(found) == ["y_without_phone", "y_without_studio"]
    assert settings_of(found["y_without_studio"]).train == ["train.phone"]


@pytest.mark.parametrize(
    ("voices", "options", "message"),
    (
        (VOICES[:2] + VOICES[3:5], (), "studio: class en has no other corpus in data.train.*give a class a second corpus"),
        (VOICES[:3] + VOICES[4:6], (), "phone: class en has no other corpus in data.dev; studio: class zh"),
        ([(*voice[:3], "my:phone") for voice in VOICES], (), "corpus 'my:phone' of .* cannot be in the name of a folder"),
        ([(*voice[:3], "") for voice in VOICES], (), "no utt2corpus; name the corpus of each recording"),
        (VOICES, ("--set", "data.train=[train, more]"), "data: no set more; name sets of dev, test, train"),
    ),
)  # fmt: skip
def test_where_nothing_can_be_left_out_one_line_says_why(data, voices, options, message):
    data(voices)
    with pytest.raises(ValueError, match=message):
        leave_out.main(["y.yaml", *options])


def test_a_speaker_of_both_corpora_alone_cannot_test_one(data, capsys):
    voices = [voice for voice in VOICES if voice[3] != "phone"]
    data([*voices, ("train", "kim", "en", "phone"), ("train", "kim", "en", "studio")])
    with pytest.raises(ValueError, match="phone: all its speakers are in another corpus, too"):
        leave_out.main(["y.yaml"])


def test_a_model_that_knows_the_corpus_is_not_the_start(data):
    data()
    with pytest.raises(ValueError, match="y: starts from exp/a, which may know the left-out corpus"):
        leave_out.main(["y.yaml", "--set", "train.from_model=exp/a"])


def test_stage_data_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is known after stage data; run it first: ./run.sh --stop-stage 0"):
        leave_out.main(["y.yaml"])


def test_a_trained_model_has_no_corpora_to_leave_out(tmp_path):
    words = ("--model", tmp_path, "--data", tmp_path, "--leave-corpora-out")
    done = subprocess.run(command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "no --sweep or --leave-corpora-out" in done.stderr


@pytest.mark.slow
def test_the_driver_trains_without_each_corpus_and_prints_the_table(own, tmp_path):
    voices = [(voice[0], f"{voice[1]}{n}", *voice[2:]) for voice in VOICES for n in range(2)]
    write_table(own, voices, utterances=2, seconds=1.5)
    words = ("--data", own.folder, "--exp", "hybrid", "--set", "plots.enabled=false")
    sweep = ("--sweep", "train.sampling=natural,corpora")
    said = recipe_runs.run(tmp_path, *words, "--leave-corpora-out", *sweep)
    rows = read_tsv(tmp_path / "exp" / "left_out_corpora.tsv")
    names = [f"own_hybrid_train.sampling={value}" for value in ("corpora", "natural")]
    assert [(row["experiment"], row["left_out"]) for row in rows] == [
        (name, left_out) for name in names for left_out in ("phone", "mean")
    ]
    assert all(float(row["cllr"]) > 0 and 0 <= float(row["auc"]) <= 1 for row in rows)
    assert "lowest mean Cllr without phone: own_hybrid_train.sampling=" in said
    assert "stage 1 (features): up to date" in said  # the second experiment takes the features of the first

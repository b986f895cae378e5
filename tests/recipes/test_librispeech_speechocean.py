"""Recipe librispeech_speechocean: readers, downloads, a whole run on miniature trees, one on real recordings."""

import csv
import json
import logging
import os
import re
import shutil
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import tree_librispeech
import tree_speechocean
from experiment_files import check_experiment
from recipe_runs import ROOT, experiments_on_frames, results, run_here, run_recipe
from scipy import stats

from dnf.data import check_sets
from dnf.data.kaldi_files import read_table
from egs.corpora import librispeech, speechocean
from egs.librispeech_speechocean.local import prepare_data, speaker_sets

RECIPE = "librispeech_speechocean"
CORPORA = Path(os.environ.get("DNF_CORPORA", ROOT.parent / "shared" / "corpora"))
EXPERIMENTS = experiments_on_frames(RECIPE)
SETS = {f"librispeech_{part}" for part in ("train", "dev", "test")} | {
    *("speechocean_train", "speechocean_dev", "speechocean_test", "test_other"),
}


@pytest.fixture
def native(tmp_path, noise):
    return tree_librispeech.make(tmp_path, noise)


@pytest.fixture
def mandarin(tmp_path, noise):
    return tree_speechocean.make(tmp_path, noise)


def test_librispeech_part_has_speakers_genders_and_no_words(native):
    made = librispeech.read(native, "train-clean-100", native.parent / "data")
    utterances = {s.id: s for s in made.supervisions}
    assert len(utterances) == 18 and {s.speaker for s in utterances.values()} == {
        f"librispeech_{reader}" for reader in tree_librispeech.READERS["train-clean-100"]
    }
    first = utterances["librispeech_103-121669-0000"]
    assert first.custom == {"class": "en"} and first.text is None and first.gender == "m"
    assert utterances["librispeech_1034-121669-0002"].gender == "f"
    assert utterances["librispeech_103-121669-0002"].duration == 0.35
    recording = next(r for r in made.recordings if r.id == first.recording_id)
    assert recording.sources[0].source == str(native / "train-clean-100/103/121669/103-121669-0000.flac")


def test_librispeech_without_speakers_txt_has_no_genders(native):
    (native / "SPEAKERS.TXT").unlink()
    assert {s.gender for s in librispeech.read(native, "test-other", native.parent / "data").supervisions} == {None}


def test_words_of_the_transcripts_make_no_difference(tmp_path, noise, native):
    other = tree_librispeech.make(tmp_path / "other", noise, text="CHAPTER ONE MISSUS RACHEL LYNDE")
    made, again = (librispeech.read(folder, "test-other", tmp_path / "data") for folder in (native, other))
    assert [s.to_dict() for s in made.supervisions] == [s.to_dict() for s in again.supervisions]


def test_speechocean_has_adults_only(mandarin):
    made = speechocean.read(mandarin)
    assert {u.speaker for u in made["train"]} == {f"speechocean_{n}" for n in ("0036", "0135", "1012", "2022", "9601")}
    assert {u.speaker for u in made["test"]} == {f"speechocean_{n}" for n in ("0120", "0461", "9604")}
    first = made["train"][0]
    assert first.id == first.recording == "speechocean_0036-000360011"
    assert first.path == str(mandarin / "WAVE/SPEAKER0036/000360011.WAV")
    assert (first.name, first.gender, first.text) == ("ce", "m", None)


@pytest.mark.parametrize("kind", speechocean.SCORES)
def test_speechocean_scores_are_those_asked_for(mandarin, kind):
    for utterance in (u for spoken in speechocean.read(mandarin, kind).values() for u in spoken):
        name = utterance.id.split("-")[1]
        assert utterance.score == tree_speechocean.score(name, kind)
        assert utterance.marks == tuple(tree_speechocean.marks_of(name, kind))
        others = [other for other in speechocean.SCORES if other != kind]
        assert len(utterance.tables) == 2 * len(others)
        for other in others:
            score, marks = tree_speechocean.score(name, other), tree_speechocean.marks_of(name, other)
            assert float(utterance.tables[f"utt2score_{other}"]) == score
            assert utterance.tables[f"utt2scores_{other}"] == " ".join(map(str, marks))


def test_speechocean_without_scores_is_read_all_the_same(mandarin):
    (mandarin / "resource" / "scores.json").unlink()
    assert {u.score for u in speechocean.read(mandarin)["test"]} == {None}


def test_counts_that_are_not_the_published_ones_are_said(native, mandarin, caplog):
    librispeech.read(native, "train-clean-100", native.parent / "data")
    speechocean.read(mandarin)
    said = "\n".join(r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert "18 utterances" in said and "28539" in said and "30 utterances" in said and "5000" in said


def prepare(out, **folders):
    return prepare_data.prepare({name: folder for name, folder in folders.items() if folder}, out)


def speakers(manifests):
    return {s.speaker for s in manifests.supervisions}


def test_sets_of_speakers_have_pieces_of_readers_and_other_speakers_in_the_test(
    tmp_path, native, mandarin, monkeypatch
):
    for name, value in (("SECONDS", 0.1), ("LEAST", 3), ("MOST", 7)):
        monkeypatch.setattr(speaker_sets, name, value)
    corpora = ["--librispeech", str(native), "--speechocean", str(mandarin), "--speakers", "true"]
    assert prepare_data.main([str(tmp_path / "data"), *corpora]) == 0
    sets = {path.parent.name: read_table(path) for path in (tmp_path / "data").glob("*/utt2spk")}
    assert set(sets) == {"train", "dev", "calibration", "test"}
    training = set(sets["train"].values())
    assert training == set(sets["dev"].values()) and len(training) == 6 + 4
    assert training.isdisjoint(sets["test"].values()) and training.isdisjoint(sets["calibration"].values())
    labels = {name: set(read_table(tmp_path / "data" / name / "utt2class").values()) for name in sets}
    assert labels["train"] == training and labels["test"] == labels["calibration"] == {"unlabelled"}
    of_one = [utt for name in ("train", "dev") for utt, speaker in sets[name].items() if speaker == "librispeech_103"]
    assert len(of_one) == 7 and "librispeech_103-121669-0002-02" in of_one
    segments = read_table(tmp_path / "data" / "train" / "segments")
    ends = [tuple(map(float, segments[utt].split()[1:])) for utt in sets["train"] if utt in of_one]
    assert all(end - start == pytest.approx(0.1) and end <= 0.351 for start, end in ends)


def test_sets_share_no_speaker_and_follow_from_the_seed(tmp_path, native, mandarin):
    sets = prepare(tmp_path / "data", librispeech=native, speechocean=mandarin)
    assert set(sets) == SETS
    speakers_yaml = str(ROOT / "egs" / RECIPE / "conf" / "speakers.yaml")
    assert check_sets.main([str(tmp_path / "data"), "--config", speakers_yaml]) == check_sets.CANNOT_RUN
    everyone = [speaker for manifests in sets.values() for speaker in speakers(manifests)]
    assert len(everyone) == len(set(everyone)) == 16
    counts = {name: len(speakers(manifests)) for name, manifests in sets.items()}
    assert counts["librispeech_train"] == 4 and counts["librispeech_dev"] == counts["librispeech_test"] == 1
    assert (counts["speechocean_train"], counts["speechocean_dev"], counts["test_other"]) == (4, 1, 2)
    again = prepare(tmp_path / "again", librispeech=native, speechocean=mandarin)
    assert {name: speakers(m) for name, m in sets.items()} == {name: speakers(m) for name, m in again.items()}
    others = [
        prepare_data.prepare({"librispeech": native}, tmp_path / "o", seed=seed)["librispeech_test"]
        for seed in range(2, 8)
    ]
    assert any(speakers(m) != speakers(sets["librispeech_test"]) for m in others)
    listed = (tmp_path / "data/lists/speechocean_dev.txt").read_text().split()
    assert set(listed) == speakers(sets["speechocean_dev"])


def test_data_directories_have_what_the_stages_read(tmp_path, native, mandarin):
    prepare(tmp_path / "data", librispeech=native, speechocean=mandarin)
    assert (tmp_path / "data/classes.txt").read_text() == "ce\nen\n"
    english, chinese = tmp_path / "data/librispeech_test", tmp_path / "data/speechocean_test"
    assert not (english / "text").exists() and not (english / "utt2score").exists()
    assert (chinese / "utt2scores").read_text().splitlines()[0] == " ".join(
        ["speechocean_0120-001200011", *map(str, tree_speechocean.marks_of("001200011", "total"))]
    )
    assert (chinese / "utt2score").read_text().splitlines()[0] == (
        f"speechocean_0120-001200011 {float(tree_speechocean.score('001200011', 'total'))}"
    )
    assert (chinese / "utt2score_fluency").read_text().splitlines()[0] == (
        f"speechocean_0120-001200011 {float(tree_speechocean.score('001200011', 'fluency'))}"
    )
    assert {line.split()[1] for line in (chinese / "utt2class").read_text().splitlines()} == {"ce"}
    assert (chinese / "spk2gender").is_file() and (english / "spk2gender").is_file()


def test_one_corpus_alone_says_what_the_other_one_would_make(tmp_path, mandarin):
    assert set(prepare(tmp_path / "data", speechocean=mandarin)) == {
        name for name in SETS if name.startswith("speechocean")
    }
    missing = (tmp_path / "data/missing.txt").read_text()
    assert (
        "librispeech_train --librispeech PATH" in missing and "test_other" in missing and "--download true" in missing
    )


def test_without_test_other_there_is_no_control(tmp_path, native, caplog):
    shutil.rmtree(native / "test-other")
    assert set(prepare(tmp_path / "data", librispeech=native)) == {
        name for name in SETS if name.startswith("librispeech")
    }
    assert "no test-other" in caplog.text


def remove(pattern):
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def empty(pattern):
    return lambda root: [path.write_bytes(b"") for path in root.glob(pattern)]


def edit(name, change):
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def replace(name, old, new):
    return edit(f"speechocean762/{name}", lambda text: text.replace(old, new))


def scores(change):
    return edit("speechocean762/resource/scores.json", change)


def marks(value):
    name = "speechocean762/resource/scores-detail.json"
    return edit(name, lambda text: json.dumps(json.loads(text) | {"001200011": {"total": value}}))


def total(value):
    return scores(lambda text: json.dumps(json.loads(text) | {"001200011": {"total": value}}))


MISTAKES = {  # how to spoil the trees; what the message says
    "no part": (
        lambda root: shutil.rmtree(root / "LibriSpeech/train-clean-100"),
        "no train-clean-100/",
        "--download true",
    ),
    "no recordings": (remove("LibriSpeech/train-clean-100/*/*/*-0001.flac"), "6 of 18", "no such file"),
    "empty recording": (empty("LibriSpeech/*/26/*/*-0000.flac"), "26-121669-0000.flac", "restore or leave out"),
    "no spk2age": (remove("speechocean762/train/spk2age"), "no train/spk2age", "--download true"),
    "no age": (replace("test/spk2age", "0120\t22\n", ""), "test/spk2age: speaker 0120 has no age", "restore"),
    "age in words": (replace("test/spk2age", "22", "adult"), "test/spk2age: speaker 0120 has no age", "restore"),
    "no speaker": (replace("test/utt2spk", "001200011\t0120\n", ""), "test/utt2spk: no utterance 001200011", "restore"),
    "command": (replace("test/wav.scp", "11.WAV", "11.WAV |"), "test/wav.scp: 000030011 is a command", "restore"),
    "no wav": (remove("speechocean762/WAVE/*0120/*11.WAV"), "001200011.WAV: no such file", "leave out the recording"),
    "empty wav": (empty("speechocean762/WAVE/*0120/*11.WAV"), "001200011.WAV: cannot be read", "restore"),
    "not JSON": (scores(lambda text: text[:-9]), "scores.json: not JSON", "restore"),
    "a list": (scores(lambda text: "[1]"), "scores.json: expected an object", "restore"),
    "score above": (total(10.5), "utterance 001200011: total is 10.5", "0 to 10"),
    "score below": (total(-1), "utterance 001200011: total is -1", "0 to 10"),
    "score NaN": (total(float("nan")), "utterance 001200011: total is nan", "0 to 10"),
    "score in words": (total("good"), "utterance 001200011: total is 'good'", "0 to 10"),
    "score true": (total(True), "utterance 001200011: total is True", "0 to 10"),
    "five scores": (total([8, 9, 8, 8, 9]), "utterance 001200011: total is [8, 9, 8, 8, 9]", "0 to 10"),
    "one mark": (marks(8.0), "scores-detail.json: utterance 001200011: total is 8.0, not a list", "0 to 10"),
    "mark above": (marks([8.0, 11.0]), "total is [8.0, 11.0], not a list of numbers", "0 to 10"),
    "no score": (scores(lambda text: text.replace("total", "sum")), "total is None", "0 to 10"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_corpus_are_one_line(tmp_path, native, mandarin, mistake):
    spoil, what, remedy = MISTAKES[mistake]
    spoil(tmp_path)
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        prepare(tmp_path / "data", librispeech=native, speechocean=mandarin)
    assert str(tmp_path) in str(error.value) and what in str(error.value) and remedy in str(error.value)
    assert not list(tmp_path.glob("data/*/utt2spk"))


def test_few_missing_recordings_are_left_out(tmp_path, native, mandarin):
    (native / "train-clean-100/26/121669/26-121669-0001.flac").unlink()
    (native / "train-clean-100/26/121669/26-121669-0002.flac").write_bytes(b"")
    (native / "train-clean-100/26/121669/._26-121669.trans.txt").write_bytes(b"\0\5\x16\7\xff")
    (mandarin / "WAVE/SPEAKER0120/001200011.WAV").unlink()
    folders = {"librispeech": native, "speechocean": mandarin}
    sets = prepare_data.prepare(folders, tmp_path / "data", max_rejected=0.2)
    ids = {s.id for manifests in sets.values() for s in manifests.supervisions}
    assert len(ids) == 24 + 24 - 3
    listed = (tmp_path / "data/lists/librispeech_train-clean-100_rejected.txt").read_text()
    assert "26-121669-0001.flac: no such file" in listed and "26-121669-0002.flac: cannot be read" in listed
    assert "librispeech_26-121669-0000" in ids and "librispeech_26-121669-0001" not in ids
    assert "speechocean_0120-001200011" in (tmp_path / "data/lists/speechocean_test_rejected.txt").read_text()


def main(*options):
    return prepare_data.main(list(map(str, options)))


def test_no_corpus_at_all_names_options_layouts_and_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--librispeech .*train-clean-100.*--speechocean .*WAVE.*--download true"):
        main("data")
    with pytest.raises(ValueError, match="--librispeech nowhere/LibriSpeech: does not exist; .*--download true"):
        main("data", "--librispeech", "nowhere/LibriSpeech")


class Net:
    """What stands in for the net: archives of miniature trees, and a list of what was fetched."""

    def __init__(self, monkeypatch, trees):
        self.trees, self.fetched, self.failure = trees, [], None
        monkeypatch.setattr(librispeech, "download_librispeech", self.parts)
        monkeypatch.setattr(speechocean, "resumable_download", self.archive)

    def parts(self, target_dir, dataset_parts):
        for part in dataset_parts:
            self.fetch(part)
            shutil.copytree(
                self.trees / "LibriSpeech" / part, Path(target_dir, "LibriSpeech", part), dirs_exist_ok=True
            )
            Path(target_dir, "LibriSpeech", part, ".completed").touch()

    def archive(self, url, filename):
        self.fetch(url)
        with tarfile.open(filename, "w:gz") as tar:
            tar.add(self.trees / "speechocean762", "speechocean762")

    def fetch(self, what):
        self.fetched.append(what)
        if self.failure:
            raise self.failure


@pytest.fixture
def net(tmp_path_factory, noise, monkeypatch):
    trees = tmp_path_factory.mktemp("net")
    tree_librispeech.make(trees, noise)
    tree_speechocean.make(trees, noise)
    return Net(monkeypatch, trees)


def test_download_fetches_what_is_not_there_once(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("data", "--download", "true")
    assert net.fetched == ["train-clean-100", "test-other", speechocean.URL]
    assert {path.parent.name for path in Path("data").glob("*/utt2spk")} == SETS
    main("data", "--download", "true")
    main("again")  # what was fetched is the default from now on
    assert len(net.fetched) == 3 and {path.parent.name for path in Path("again").glob("*/utt2spk")} == SETS
    assert Path("again/test_other/wav.scp").read_text().split()[1].startswith("/")


def test_download_fetches_the_part_that_is_missing_and_touches_no_other(tmp_path, net, native, mandarin):
    shutil.rmtree(native / "test-other")
    main(tmp_path / "data", "--librispeech", native, "--speechocean", mandarin, "--download", "true")
    assert net.fetched == ["test-other"]
    assert not (native / "train-clean-100" / ".completed").exists()


def test_download_that_was_stopped_while_unpacking_goes_on(tmp_path, net, native, mandarin):
    shutil.rmtree(native / "train-clean-100" / "26")
    shutil.rmtree(mandarin / "WAVE" / "SPEAKER0120")
    (tmp_path / "train-clean-100.tar.gz").touch()
    (tmp_path / "speechocean762.tar.gz").touch()
    main(tmp_path / "data", "--librispeech", native, "--speechocean", mandarin, "--download", "true")
    assert net.fetched == ["train-clean-100", speechocean.URL]
    assert (mandarin / "WAVE" / "SPEAKER0120" / "001200011.WAV").is_file()


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no net"), tarfile.ReadError("not a gzip file"), EOFError("cut off")]
)
@pytest.mark.parametrize("module", [librispeech, speechocean])
def test_download_that_fails_is_one_line(tmp_path, net, module, failure):
    net.failure = failure
    with pytest.raises(ValueError, match="openslr.*(no net|gzip|cut off).*start again") as error:
        module.download(tmp_path / "new" / module.FOLDER)
    assert "\n" not in str(error.value) and str(tmp_path / "new") in str(error.value)


@pytest.mark.parametrize("module", [librispeech, speechocean])
def test_download_to_a_folder_of_another_name_is_refused(tmp_path, net, module):
    with pytest.raises(ValueError, match="use this name, or omit the option"):
        module.download(tmp_path / "corpus")
    assert net.fetched == []


@pytest.fixture(scope="module")
def everything(tmp_path_factory, voices):
    """A folder in which every experiment of the recipe was run on miniature trees, dnf120 as a user does."""
    folder = tmp_path_factory.mktemp("open")
    native, mandarin = tree_librispeech.make(folder, voices), tree_speechocean.make(folder, voices)
    options = ("--librispeech", native, "--speechocean", mandarin)
    run_recipe(folder / "run", RECIPE, *options)
    for exp in EXPERIMENTS:
        if exp != "dnf120":
            run_here(folder / "run", RECIPE, exp, options)
    return folder / "run"


def test_fetching_makes_no_other_data(everything):
    given = [
        ("--librispeech", everything.parent / librispeech.FOLDER),
        ("--speechocean", everything.parent / speechocean.FOLDER),
    ]
    options = [word for option in given for word in option]
    said = run_recipe(everything, RECIPE, *options, "--exp", "dnf120", "--stop-stage", "2", "--download", "true")
    assert re.findall(r"stage (\d) \(\w+\): up to date", said) == ["0", "1", "2"]
    other = run_recipe(everything, RECIPE, *options, "--exp", "dnf120", "--score", "fluency", "--dry-run")
    assert re.search(r"stage 0 data +would run", other)


def figures(folder, exp):
    return {(row["metric"], row["set"], row["class"]): row for row in results(folder, exp)}


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_every_experiment_comes_to_its_results(everything, exp):
    out = everything / "exp" / exp
    check_experiment(out)
    for name in ("librispeech_test", "speechocean_test", "test_other"):
        assert (out / "latents" / name / "logp.npy").is_file()
    assert (out / "plots" / "scatter_test.png").is_file() and (out / "plots" / "curves.png").is_file()
    assert abs(float(figures(everything, exp)["train_eval_difference", "", ""]["value"])) < 1e-3


@pytest.mark.parametrize("exp", [exp for exp in EXPERIMENTS if exp != "nf"])
def test_no_accuracy_on_native_speech_stands_without_its_control(everything, exp):
    lines = (everything / "exp" / exp / "results.txt").read_text().splitlines()
    for metric in ("frame_accuracy", "utt_accuracy"):
        for name in ("test", "librispeech_test"):
            line = next(line for line in lines if line.startswith(f"{metric} {name} en "))
            assert " | control test_other " in line
    rows = figures(everything, exp)
    assert (
        int(rows["utt_accuracy", "test", "en"]["total"]) == 3 and int(rows["utt_accuracy", "test", "ce"]["total"]) == 9
    )
    assert int(rows["utt_accuracy", "test", "all"]["total"]) == 12


@pytest.mark.parametrize("level", ["utt", "speaker"])
def test_scores_are_correlated_with_the_log_likelihood_ratio(everything, level):
    out = everything / "exp" / "dnf120"
    with (out / "decisions" / "speechocean_test.txt").open(newline="") as file:
        decided = list(csv.DictReader(file, delimiter="\t"))
    assert len(decided) == 9
    assert all(float(d["score"]) == tree_speechocean.score(d["utt"].split("-")[1], "total") for d in decided)
    points = [[float(d["llr"]), float(d["score"])] for d in decided]
    if level == "speaker":
        who = [d["speaker"] for d in decided]
        points = [np.mean([p for p, w in zip(points, who) if w == speaker], axis=0) for speaker in sorted(set(who))]
    rows = figures(everything, "dnf120")
    for name, expected in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        row = rows[f"{level}_{name}", "speechocean_test", "ce"]
        assert float(row["value"]) == pytest.approx(expected(*np.transpose(points)).statistic, abs=1e-4)
        assert int(row["total"]) == len(points) and int(row["speakers"]) == 3
        assert (f"{level}_{name}", "librispeech_test", "en") not in rows
    lines = (out / "results.txt").read_text().splitlines()
    assert any(line.startswith(f"correlation {level} speechocean_test ce ") and " spearman " in line for line in lines)


def test_residual_part_has_gaussianity_of_its_own(everything):
    assert {"kurt_c", "kurt_r"} <= {metric for metric, _, _ in figures(everything, "dnf440_c400_r40")}


def test_plain_flow_is_of_native_speech_and_decides_nothing(everything):
    rows = figures(everything, "nf")
    assert ("loglik", "librispeech_train", "en") in rows and ("loglik", "speechocean_test", "ce") in rows
    assert not any(metric == "utt_accuracy" for metric, _, _ in rows)


def test_experiments_that_lack_a_corpus_name_its_option(tmp_path, mandarin, monkeypatch):
    monkeypatch.delenv("DNF_CORPORA", raising=False)
    said = run_recipe(tmp_path / "run", RECIPE, "--speechocean", mandarin, status=1)
    assert "dnf120 cannot run" in said and "--librispeech PATH" in said and "--download true" in said
    assert "Traceback" not in said


def test_help_names_the_options_of_the_recipe(tmp_path):
    said = run_recipe(tmp_path, RECIPE, "--help")
    assert all(f"--{option}" in said for option in ("librispeech", "speechocean", "score", "download"))


SHORT = (
    "flow.blocks=4", "flow.hidden=32", "train.epochs=4", "train.steps=800", "train.batch_size=500",
    "plots.tsne_points=60", "plots.tsne_perplexity=5", "report.bootstrap=50",
    "baselines.mlp_epochs=2", "baselines.mlp_hidden=64", "baselines.gmm_components=4", "baselines.max_frames=8000", "latents.durations=[1, 3]",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    not all((CORPORA / module.FOLDER).is_dir() for module in (librispeech, speechocean)),
    reason=f"no LibriSpeech and speechocean762 in {CORPORA}; name their folder with DNF_CORPORA",
)
def test_real_recordings_from_the_corpora_to_results(tmp_path, monkeypatch):
    monkeypatch.setenv("DNF_CORPORA", str(CORPORA))
    settings = [word for setting in SHORT for word in ("--set", setting)]
    run_recipe(tmp_path, RECIPE, "--exp", "dnf120", *settings, tiny=False)
    spoken = {name: (tmp_path / "data" / name / "utt2spk").read_text().splitlines() for name in SETS}
    ages = dict(line.split() for line in (CORPORA / "speechocean762/test/spk2age").read_text().splitlines())
    assert {line.split()[1] for line in spoken["speechocean_test"]} == {
        f"speechocean_{speaker}" for speaker, age in ages.items() if int(age) >= 18
    }
    assert len(spoken["test_other"]) == len(list((CORPORA / "LibriSpeech/test-other").rglob("*.flac")))
    assert not list(tmp_path.glob("data/*/text"))
    rows, total = figures(tmp_path, "dnf120"), len(spoken["librispeech_test"]) + len(spoken["speechocean_test"])
    assert int(rows["utt_accuracy", "test", "all"]["total"]) == total
    assert abs(float(rows["train_eval_difference", "", ""]["value"])) < 1e-3
    assert " | control test_other " in (tmp_path / "exp/dnf120/results.txt").read_text()
    with (tmp_path / "exp/dnf120/history.tsv").open(newline="") as file:
        looks = [float(r["dev_nll"]) for r in csv.DictReader(file, delimiter="\t") if r["dev_nll"]]
    assert looks[-1] < looks[0]

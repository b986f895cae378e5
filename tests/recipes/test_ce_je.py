"""Recipe ce_je: readers of accented English and TIMIT, and every experiment on miniature trees of all its corpora."""

import csv
import dataclasses
import logging
import re

import numpy as np
import pytest
import recipe_runs
import soundfile
import torch
import tree_timit
import tree_ume_erj
import tree_voxceleb
import tree_wsj
from recipe_runs import ROOT, results

from dnf.experiment.config import resolve
from dnf.models.checkpoint import load_model
from egs.ce_je.local import prepare_data
from egs.corpora import accented, timit, ume_erj

CONF = ROOT / "egs/ce_je/conf"
EXPERIMENTS = sorted(path.stem for path in CONF.glob("*.yaml"))
TRAINED = {"exp1_joint", "exp3_joint", "nf", "dnf_je"}  # their other stages are those of exp2_joint and exp1
ALIKE = {"exp1_vr1000": "exp1", "exp3_vr1000": "exp3"}  # no dim is in r, so its variance is nothing
SET_COUNTS = {"train": 6, "dev": 1, "test": 1}


def write_accented(folder, voices, name):
    """Recordings of the voices of a class, ``folder/<name>.csv`` that lists them, and its rows."""
    rows = []
    for n, (speaker, gender, utterances) in enumerate(voices[name]):
        for k, samples in enumerate(utterances):
            path = folder / "sounds" / f"{speaker}_{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, 16000)
            score = str(1 + 4 * n // (len(voices[name]) - 1))
            row = {
                "recording": f"sounds/{path.name}",
                "speaker": speaker,
                "class": name,
                "score": score,
                "gender": gender,
            }
            rows.append(row)
    return write_table(folder / f"{name}.csv", rows), rows


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, rows[0], delimiter="," if path.suffix == ".csv" else "\t", quoting=csv.QUOTE_MINIMAL
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_kaldi(folder, rows, base, **tables):
    """A Kaldi data directory of table rows; more tables as dicts by utterance."""
    folder.mkdir()
    utts = {f"{row['speaker']}-{n % 3}": row for n, row in enumerate(rows)}
    tables = {
        "wav.scp": {utt: str(base / row["recording"]) for utt, row in utts.items()},
        "utt2spk": {utt: row["speaker"] for utt, row in utts.items()},
        **{name.replace("_scp", ".scp"): table for name, table in tables.items()},
    }
    for name, table in tables.items():
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in sorted(table.items())))
    return sorted(utts)


@pytest.fixture
def je(tmp_path, noise):
    """Table of Japanese English, and its rows."""
    return write_accented(tmp_path, noise, "je")


def read(path, name, tmp_path, max_rejected=0.01):
    return accented.read(path, name, name, tmp_path / "data", max_rejected)


def by_id(manifests):
    return {s.id: s for s in manifests.supervisions}


def test_table_becomes_utterances_of_the_corpus(je, tmp_path):
    found = read(je[0], "je", tmp_path)
    made = by_id(found)
    assert len(made) == 24 and len({s.speaker for s in made.values()}) == 8
    one = made["je_je3-je3_1"]
    assert (one.speaker, one.gender, one.custom) == ("je_je3", "f", {"class": "je", "score": 2.0})
    recording = {r.id: r for r in found.recordings}[one.recording_id]
    assert recording.sources[0].source == str(tmp_path / "sounds/je3_1.wav") and recording.num_samples == 4800


def test_table_with_tabs_and_without_scores(je, tmp_path):
    rows = [{key: row[key] for key in ("recording", "speaker", "class")} for row in je[1]]
    made = by_id(read(write_table(tmp_path / "je.tsv", rows), "je", tmp_path))
    assert len(made) == 24 and made["je_je3-je3_1"].custom == {"class": "je"}


@pytest.mark.parametrize("column", ["recording", "speaker", "class"])
def test_table_without_a_column(je, tmp_path, column):
    rows = [{key: value for key, value in row.items() if key != column} for row in je[1]]
    with pytest.raises(ValueError, match=rf"je.csv: no column '{column}' in its first line"):
        read(write_table(je[0], rows), "je", tmp_path)


@pytest.mark.parametrize("score", ["0", "5.5", "good"])
def test_score_off_the_scale_names_file_line_and_value(je, tmp_path, score):
    je[1][4]["score"] = score
    with pytest.raises(ValueError, match=rf"je.csv: line 6: score.*{score}") as error:
        read(write_table(je[0], je[1]), "je", tmp_path)
    assert "\n" not in str(error.value)


def test_an_utterance_of_another_class_is_refused(je, tmp_path):
    je[1][7]["class"] = "ce"  # the speaker has both classes now
    with pytest.raises(
        ValueError, match="je.csv: utterance je2-je2_1 has class 'ce', but --je must have only class 'je'"
    ):
        read(write_table(je[0], je[1]), "je", tmp_path)
    with pytest.raises(ValueError, match="has class 'je', but --ce must have only class 'ce'"):
        read(write_table(je[0], je[1][:3]), "ce", tmp_path)


def test_an_unreadable_recording_is_listed_up_to_the_limit(je, tmp_path):
    (tmp_path / "sounds/je0_0.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"corpus je: 1 of 24 utterances rejected.*je0_0.wav"):
        read(je[0], "je", tmp_path)
    assert len(by_id(read(je[0], "je", tmp_path, max_rejected=0.05))) == 23
    assert "je_je0-je0_0" in (tmp_path / "data/lists/je_rejected.txt").read_text()


@pytest.mark.parametrize("name, others", [("ce", ""), ("je", "UME-ERJ")])
def test_another_layout_says_what_is_expected(tmp_path, name, others):
    with pytest.raises(ValueError, match=f"--{name} .*: expected a table .csv or .tsv .*Kaldi.*{others}"):
        read(tmp_path, name, tmp_path)
    with pytest.raises(ValueError, match="not a table of recordings"):
        (tmp_path / "list.txt").write_text("sound.wav\n")
        read(tmp_path / "list.txt", name, tmp_path)


def test_kaldi_directory_is_imported(je, tmp_path):
    utts = write_kaldi(
        tmp_path / "kaldi",
        je[1],
        tmp_path,
        utt2score={"je0-0": "1", "je1-2": "4.5"},
        utt2class={f"je{n}-{k}": "je" for n in range(8) for k in range(3)},
        spk2gender={f"je{n}": "mf"[n % 2] for n in range(8)},
    )
    found = read(tmp_path / "kaldi", "je", tmp_path)
    made = by_id(found)
    assert sorted(made) == [f"je_{utt}" for utt in utts]
    assert made["je_je0-0"].custom == {"class": "je", "score": 1.0} and made["je_je0-1"].custom == {"class": "je"}
    assert made["je_je1-2"].custom["score"] == 4.5 and made["je_je1-2"].gender == "f"
    assert {r.id: r.num_samples for r in found.recordings}["je_je1-2"] == 5600


def test_kaldi_directory_with_segments_and_without_classes(je, tmp_path):
    rows = je[1][:3]
    segments = {"je0-0a": "rec 0.05 0.2", "je0-0b": "rec 0.2 0.25"}
    write_kaldi(
        tmp_path / "kaldi",
        rows,
        tmp_path,
        wav_scp={"rec": tmp_path / rows[2]["recording"]},
        utt2spk=dict.fromkeys(segments, "je0"),
        segments=segments,
    )
    found = read(tmp_path / "kaldi", "je", tmp_path)
    one = by_id(found)["je_je0-0b"]
    assert (one.start, round(one.duration, 6), one.custom) == (0.2, 0.05, {"class": "je"})
    assert [r.id for r in found.recordings] == [one.recording_id]


def test_kaldi_directory_must_not_run_commands(je, tmp_path):
    write_kaldi(tmp_path / "kaldi", je[1][:1], tmp_path, wav_scp={"je0-0": "touch ran; cat sound.wav |"})
    with pytest.raises(ValueError, match=r"wav.scp line 1: 'je0-0' is a command"):
        read(tmp_path / "kaldi", "je", tmp_path)


def test_kaldi_scores_and_classes_are_checked(je, tmp_path):
    write_kaldi(tmp_path / "kaldi", je[1], tmp_path, utt2score={"je0-0": "3", "je4-1": "7"})
    with pytest.raises(ValueError, match="utt2score: line 2: utterance je4-1: score 7 is not between 1 and 5"):
        read(tmp_path / "kaldi", "je", tmp_path)
    (tmp_path / "kaldi/utt2score").unlink()
    (tmp_path / "kaldi/utt2class").write_text("".join(f"je{n}-{k} ce\n" for n in range(8) for k in range(3)))
    with pytest.raises(ValueError, match="kaldi: utterance je0-0 has class 'ce', but --je must have only class 'je'"):
        read(tmp_path / "kaldi", "je", tmp_path)


def test_kaldi_recording_that_is_not_there_is_rejected(je, tmp_path):
    write_kaldi(tmp_path / "kaldi", je[1], tmp_path)
    (tmp_path / "sounds/je5_2.wav").unlink()
    assert len(by_id(read(tmp_path / "kaldi", "je", tmp_path, max_rejected=0.05))) == 23
    assert "je_je5-2" in (tmp_path / "data/lists/je_rejected.txt").read_text()


def test_ume_erj_rated_sentences(tmp_path, noise, caplog):
    with caplog.at_level(logging.WARNING):
        made = by_id(read(tree_ume_erj.make(tmp_path / "erj", noise), "je", tmp_path))
    assert len(made) == 24 and len({s.speaker for s in made.values()}) == 8
    one = made["je_dos_m01-s6_001"]
    assert (one.speaker, one.gender) == ("je_dos_m01", "m")
    assert one.custom == {"class": "je", "score": 1.25}  # of the ratings 1 1 2 1
    assert made["je_tok_f08-s6_002"].custom["score"] == 4.8  # of 5 5 5 4 5
    assert "24 rated sentences, 1900 in the published corpus" in caplog.text


def test_ume_erj_without_ratings_gives_all_sentences_and_no_words(tmp_path, noise, caplog):
    with caplog.at_level(logging.WARNING):
        made = by_id(read(tree_ume_erj.make(tmp_path / "erj", noise, ratings=False), "je", tmp_path))
    assert len(made) == 25 and "je_dos_m01-s6_099" in made and not any("w1_001" in utt for utt in made)
    assert "all 25 sentences are used, without scores" in caplog.text
    assert all(s.custom == {"class": "je"} for s in made.values())


def test_ume_erj_is_japanese_only(tmp_path, noise):
    with pytest.raises(ValueError, match="--ce .*: expected a table"):
        read(tree_ume_erj.make(tmp_path / "erj", noise), "ce", tmp_path)


@pytest.mark.parametrize(
    "line", ["DOS/M01/S6_001.wav", "S6_001.wav 3 4", "DOS/M01/S6_001.wav 3 x", "DOS/M01/S6_001.wav 6"]
)
def test_ume_erj_damaged_list_names_the_line(tmp_path, noise, line):
    root = tree_ume_erj.make(tmp_path / "erj", noise)
    (root / "lbl/male-sentence/segmental/scores.lst").write_text(f"# ratings\n\n{line}\n")
    with pytest.raises(ValueError, match="scores.lst: line 3: "):
        ume_erj.read(root)


@pytest.mark.parametrize("layout", tree_timit.LAYOUTS)
def test_timit_in_every_layout(tmp_path, noise, caplog, layout):
    root = tree_timit.make(tmp_path / "corpus", noise, layout)
    with caplog.at_level(logging.WARNING):
        found = timit.read(root, tmp_path / "data")
    made = by_id(found)
    speakers = {s.speaker for s in made.values()}
    assert len(made) == 24 and speakers == {
        f"timit_{name[2].lower()}" for names in tree_timit.NAMES.values() for name in names
    }
    one = made["timit_msjs1-sa1"]  # a speaker of neither of Lhotse's lists of test speakers
    assert (one.gender, one.custom, one.text) == ("m", {"class": "en"}, "She had your dark suit.")
    recording = {r.id: r for r in found.recordings}[one.recording_id]
    samples = soundfile.read(recording.sources[0].source, dtype="int16")[0]
    assert recording.sources[0].source.startswith(str(root)) and recording.sampling_rate == 16000
    assert np.array_equal(samples, noise["en"][2][2][0]) and np.array_equal(recording.load_audio()[0], samples / 32768)
    assert "24 utterances, 6300 in the published corpus" in caplog.text and "8 speakers, 630" in caplog.text


def test_timit_at_the_folder_of_train_itself(tmp_path, noise):
    root = tree_timit.make(tmp_path / "corpus", noise)
    assert len(by_id(timit.read(root / "TIMIT", tmp_path / "data"))) == 24


def test_timit_that_is_another_folder_or_a_part(tmp_path, noise):
    with pytest.raises(
        ValueError, match="no recording of the core test and development and training speakers of TIMIT"
    ):
        timit.read(tmp_path, tmp_path / "data")
    root = tree_timit.make(tmp_path / "corpus", noise)
    with pytest.raises(
        ValueError, match=r"no recording of the core test and development speakers of TIMIT; expected LDC"
    ):
        timit.read(root / "TIMIT/TRAIN", tmp_path / "data")


def test_timit_damaged_file_is_named(tmp_path, noise):
    root = tree_timit.make(tmp_path / "corpus", noise, "lower")
    path = root / "timit/train/dr1/fcjf0/sa1.wav"
    path.write_bytes(b"no sound" * 200)
    with pytest.raises(ValueError, match=f"1 of 24 utterances rejected, .*{path}: cannot be read") as error:
        timit.read(root, tmp_path / "data")
    assert "\n" not in str(error.value)


def test_timit_few_damaged_files_are_listed_and_hidden_ones_passed_over(tmp_path, noise):
    root = tree_timit.make(tmp_path / "corpus", noise, "lower")
    folder = root / "timit/train/dr1/fcjf0"
    (folder / "sa1.wav").write_bytes(b"")
    for name in (".hidden/train/dr1/fcjf0/sa2.wav", "timit/train/dr1/fcjf0/._sx37.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\5\x16\7")
    made = by_id(timit.read(root, tmp_path / "data", max_rejected=0.1))
    assert len(made) == 23 and "timit_fcjf0-sa1" not in made
    assert "fcjf0/sa1.wav: cannot be read" in (tmp_path / "data/lists/timit_rejected.txt").read_text()


def test_kaldi_segment_that_ends_at_minus_one_ends_with_its_recording(je, tmp_path):
    rows = je[1]
    recording = tmp_path / rows[2]["recording"]
    segments = {"je0-a": "rec 0.1 -1", "je0-b": "rec 0.1 0.2"}
    utt2spk = dict.fromkeys(segments, "je0")
    write_kaldi(tmp_path / "kaldi", rows, tmp_path, wav_scp={"rec": recording}, utt2spk=utt2spk, segments=segments)
    made = by_id(read(tmp_path / "kaldi", "je", tmp_path))
    assert made["je_je0-a"].end == soundfile.info(recording).duration and round(made["je_je0-b"].end, 6) == 0.2


@pytest.mark.parametrize("times", ("0.2 0.2", "0.3 0.1", "0.1 1.5", "5 6"))
def test_kaldi_segment_that_cannot_be_cut_is_rejected_alone(je, tmp_path, times):
    rows = je[1]
    segments = {f"je0-{n}": "rec 0.1 0.2" for n in range(19)} | {"je0-odd": f"rec {times}"}
    recording = tmp_path / rows[2]["recording"]
    utt2spk = dict.fromkeys(segments, "je0")
    write_kaldi(tmp_path / "kaldi", rows, tmp_path, wav_scp={"rec": recording}, utt2spk=utt2spk, segments=segments)
    assert len(by_id(read(tmp_path / "kaldi", "je", tmp_path, max_rejected=0.05))) == 19
    assert "je_je0-odd its segment" in (tmp_path / "data/lists/je_rejected.txt").read_text()


def test_division_follows_from_ids_and_seed(je, tmp_path):
    found = {}
    for run, rows, seed in (("a", je[1], 1), ("b", je[1][::-1], 1), ("c", je[1], 2)):
        sets = prepare_data.prepare({"je": write_table(tmp_path / f"{run}.csv", rows)}, tmp_path / run, seed)
        found[run] = {name: {s.speaker for s in made.supervisions} for name, made in sets.items()}
        for name, speakers in found[run].items():
            assert (tmp_path / run / "lists" / f"{name}.txt").read_text().split() == sorted(speakers)
    assert found["a"] == found["b"] != found["c"]
    assert {name: len(speakers) for name, speakers in found["a"].items()} == {
        f"je_{k}": n for k, n in SET_COUNTS.items()
    }
    assert len(set().union(*found["a"].values())) == 8
    assert (tmp_path / "a/classes.txt").read_text() == "je\n"
    missing = dict(line.split(maxsplit=1) for line in (tmp_path / "a/missing.txt").read_text().splitlines())
    assert missing["wsj_train"].startswith("--wsj ") and missing["ce_dev"].startswith("--ce ")
    assert missing["timit"].startswith("--timit ") and missing["voxceleb"].startswith("--vox1 ")


def test_no_corpus_and_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no corpus; give at least one of: --wsj"):
        prepare_data.main([str(tmp_path / "data")])
    with pytest.raises(ValueError, match="--ce .*nowhere: does not exist; expected a table"):
        prepare_data.main([str(tmp_path / "data"), "--ce", str(tmp_path / "nowhere")])


def config_of(exp):
    """All settings of an experiment of the recipe."""
    return resolve([*recipe_runs.recipe_words("ce_je")["RECIPE_SETTINGS"], CONF / f"{exp}.yaml"])


@pytest.mark.parametrize(
    "exp, dim, cond_dim, var_r, classes",
    [
        ("exp1", 120, 120, 1.0, ["en", "ce"]),
        ("exp1_vr1000", 120, 120, 1000.0, ["en", "ce"]),
        ("exp2", 440, 400, 1.0, ["en", "ce"]),
        ("exp2_vr1000", 440, 400, 1000.0, ["en", "ce"]),
        ("exp3", 440, 440, 1.0, ["en", "ce"]),
        ("exp3_vr1000", 440, 440, 1000.0, ["en", "ce"]),
        ("two_class", 440, 440, 1.0, ["en", "ce"]),
        ("three_class", 440, 440, 1.0, ["en", "ce", "je"]),
    ],
)
def test_experiments_are_those_of_the_notes(exp, dim, cond_dim, var_r, classes):
    config = config_of(exp)
    assert (config.dim, config.prior.cond_dim, config.prior.var_c, config.prior.var_r) == (dim, cond_dim, 1.0, var_r)
    assert (config.flow.blocks, config.flow.hidden, config.train.batch_size, config.train.steps) == (
        10,
        512,
        10000,
        80000,
    )
    assert config.data.classes == classes and config.data.controls == {"wsj_test": "timit"}
    corpora = {"en": "wsj", "ce": "ce", "je": "je"}
    assert config.data.train == [f"{corpora[name]}_train" for name in classes]
    assert config.data.dev == [f"{corpora[name]}_dev" for name in classes]
    seen = {*config.data.train, *config.data.dev}
    plotted_only = {"wsj", "ce", "je"} if exp == "three_class" else set()
    for name, view in config.data.views.items():
        assert name in plotted_only or not seen & set(view.sets), name
    assert {"wsj+ce", "wsj+ce+je", "english", "je", "je_12"} <= config.data.views.keys()
    assert {"wsj_test", "ce_test", "timit", "voxceleb"} <= set(config.data.test)


@pytest.mark.parametrize("exp, trained", [("nf", ["wsj_train"]), ("dnf_je", ["wsj_train", "je_train"])])
def test_scores_of_japanese_english_are_fitted_whether_or_not_the_flow_has_seen_it(exp, trained):
    config = config_of(exp)
    assert config.data.train == trained and (config.prior.cond_dim > 0) == (exp == "dnf_je")
    fitted = config.assess.fit or [*config.data.train, *config.data.dev]
    assert {"je_train", "je_dev"} <= set(fitted) and set(config.assess.fit) <= set(config.data.test)
    assert "je_test" in config.data.test and "je_test" not in fitted


@pytest.mark.parametrize("exp", ["exp1", "exp2", "exp3"])
def test_second_files_differ_only_in_first_layer_and_variances(exp):
    notes, joint = config_of(exp), config_of(f"{exp}_joint")
    flow = dataclasses.replace(notes.flow, first="joint")
    prior = dataclasses.replace(notes.prior, variances="free")
    assert joint == dataclasses.replace(notes, flow=flow, prior=prior)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, voices):
    """Options that name miniature trees of all five corpora."""
    root = tmp_path_factory.mktemp("corpora")
    tree_wsj.make(root / "wsj", voices)
    tree_voxceleb.make(root, recipe_runs.other_takes(voices, 1))
    rows = write_accented(root, voices, "ce")[1]
    options = {
        "wsj": root / "wsj",
        "timit": tree_timit.make(root / "timit", recipe_runs.other_takes(voices, 2)),
        "ce": write_table(root / "ce.tsv", [{k: v for k, v in row.items() if k != "score"} for row in rows]),
        "je": tree_ume_erj.make(root / "erj", voices),
        "vox1": root / "VoxCeleb1",
    }
    return {name: (f"--{name}", str(path)) for name, path in options.items()}


@pytest.fixture(scope="module")
def everything(tmp_path_factory, corpora):
    """A folder in which every experiment was run with all corpora, exp1 as a user does; those of ``ALIKE`` and ``TRAINED`` are only trained."""
    folder = tmp_path_factory.mktemp("ce_je") / "run"
    given = [word for option in corpora.values() for word in option]
    recipe_runs.run_recipe(folder, "ce_je", "--exp", "exp1", *given)
    for exp in EXPERIMENTS:
        if exp != "exp1":
            recipe_runs.run_here(folder, "ce_je", exp, given, last="train" if exp in {*ALIKE, *TRAINED} else "report")
    return folder


def lines(folder, exp):
    """``results.txt`` without its remarks."""
    text = (folder / "exp" / exp / "results.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def having(folder, exp, start):
    """The lines of ``results.txt`` that begin with the words ``start``."""
    return [line for line in lines(folder, exp) if line.startswith(f"{start} ")]


def test_sets_are_those_of_the_recipe(everything):
    sets = {path.parent.name for path in everything.glob("data/*/utt2spk")}
    divided = {f"{name}_{part}" for name in ("wsj", "ce", "je") for part in SET_COUNTS}
    assert sets == divided | {"timit", "voxceleb"}
    assert (everything / "data/classes.txt").read_text().split() == ["ce", "en", "je", "vox"]
    assert not (everything / "data/missing.txt").exists()


@pytest.mark.parametrize(
    "exp, parts",
    [("exp1", ["c120"]), ("exp2", ["c400", "r40"]), ("exp2_vr1000", ["c400", "r40"]), ("exp3", ["c440"])],
)
def test_rows_1_to_3_gaussianity_curves_and_plots(everything, exp, parts):
    for name, classes in (("train", "ce+en"), ("wsj+ce", "ce+en"), ("wsj+ce+je", "ce+en+je")):
        for part in parts:
            (line,) = having(everything, exp, f"gaussianity {name} {classes} {part}")
            words = line.split()
            assert words[4] == "skew" and words[6] == "kurt" and abs(float(words[5])) < 100 and float(words[7]) > -2
        plots = {f"{kind}_{name}.png" for kind in ("scatter", "tsne")} if name != "train" else set()
        assert plots <= {path.name for path in (everything / "exp" / exp / "plots").iterdir()}
    assert (everything / "exp" / exp / "plots/curves.png").is_file()
    assert {"logp", "logdet", "nll"} <= set(
        (everything / "exp" / exp / "history.tsv").read_text().split("\n")[0].split("\t")
    )


def test_var_r_changes_nothing_where_r_is_empty(everything):
    for name, other in ALIKE.items():
        one, two = (load_model(everything / "exp" / exp / "best.pt").model for exp in (name, other))
        weights = one.state_dict(), two.state_dict()
        assert weights[0].keys() == weights[1].keys() and all(map(torch.equal, *(w.values() for w in weights)))
        x = torch.randn(20, one.prior.dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(one.log_prob(x), two.log_prob(x))
    assert results(everything, "exp2") != results(everything, "exp2_vr1000")


@pytest.mark.parametrize("exp", ["exp1_joint", "exp2_joint", "exp3_joint"])
def test_second_files_have_a_variance_for_each_class(everything, exp):
    en, ce = load_model(everything / "exp" / exp / "best.pt").model.prior.class_log_variances()
    assert (en - ce).abs().mean() > 0.01


@pytest.mark.parametrize("exp", ["exp3", "two_class"])
def test_row_4_channel_check(everything, exp):
    for name in ("wsj+ce+timit", "wsj+ce+timit+je"):
        for measure in ("frame_accuracy", "utt_accuracy"):
            assert having(everything, exp, f"{measure} {name} en") and having(everything, exp, f"{measure} {name} ce")
        for kind in ("scatter", "tsne"):
            assert (everything / "exp" / exp / "plots" / f"{kind}_{name}.png").is_file()
    for measure in ("frame_accuracy", "utt_accuracy"):
        (line,) = having(everything, exp, f"{measure} wsj_test en")
        assert f"| control timit {having(everything, exp, f'{measure} timit en')[0].split()[3]}" in line
    low = {row["value"] for row in results(everything, exp) if row["set"] == "je_12" and row["metric"] == "utt_share"}
    assert low == {
        row["value"]
        for row in results(everything, exp)
        if (row["set"], row["class"], row["metric"]) == ("wsj+ce+timit+je", "je", "utt_share")
    }


@pytest.mark.parametrize("measure", ["frame", "utt"])
def test_row_5_three_classes(everything, measure):
    for name, true in (("english", "en"), ("ce_test", "ce"), ("je_test", "je"), ("wsj_test", "en"), ("timit", "en")):
        assert len(having(everything, "three_class", f"{measure}_accuracy {name} {true}")) == 1
    for decided in ("en", "ce", "je"):
        assert having(everything, "three_class", f"{measure}_share voxceleb vox (unseen) decided {decided}")
    plots = {path.name for path in (everything / "exp/three_class/plots").iterdir()}
    assert {f"llr_hist_{name}.png" for name in ("wsj", "wsj_test", "ce", "ce_test", "je", "je_test")} <= plots
    assert "llr_hist_timit.png" not in plots  # the control of wsj_test, and part of its picture
    train = next(
        row for row in results(everything, "three_class") if (row["metric"], row["set"]) == ("utt_accuracy", "je")
    )
    assert int(train["total"]) == 18


@pytest.mark.parametrize("exp", ["two_class", "exp3"])
@pytest.mark.parametrize("measure", ["frame", "utt"])
def test_row_6_two_classes(everything, exp, measure):
    for name, true in (("english", "en"), ("ce_test", "ce")):
        assert len(having(everything, exp, f"{measure}_accuracy {name} {true}")) == 1
    for name, true in (("je", "je"), ("je_12", "je"), ("voxceleb", "vox")):
        shares = [
            having(everything, exp, f"{measure}_share {name} {true} (unseen) decided {to}")[0] for to in ("en", "ce")
        ]
        assert sum(float(line.split()[6]) for line in shares) == pytest.approx(1, abs=2e-4)


def test_low_scores_are_part_of_je(everything):
    counts = {}
    for row in results(everything, "two_class"):
        if row["metric"] == "utt_share" and row["class"] == "je":
            counts[row["set"]] = int(row["total"])
    assert counts["je"] == counts["wsj+ce+je"] == 24
    listed = [(everything / f"data/je_{part}/utt2score").read_text().splitlines() for part in SET_COUNTS]
    scores = [float(line.split()[1]) for of_set in listed for line in of_set]
    assert counts["je_12"] == sum(score <= 2 for score in scores) == 12
    assert having(everything, "two_class", "correlation utt je je llr of en")


@pytest.mark.slow
def test_without_je_and_voxceleb_the_rest_runs(tmp_path, corpora):
    given = [word for name in ("wsj", "timit", "ce") for word in corpora[name]]
    recipe_runs.run_recipe(tmp_path, "ce_je", *given, "--stop-stage", "2")
    recipe_runs.run_here(tmp_path, "ce_je", "exp1", given)
    runner = tmp_path / "runner"  # only says what it should run
    runner.write_text('#!/usr/bin/env bash\nwhile [[ $1 == -* ]]; do shift 2; done; echo "runs ${*:2}"\n')
    runner.chmod(0o755)
    words = ("--exp", "all", "--stage", "3", "--stop-stage", "3", "--cmd", runner)
    said = recipe_runs.run_recipe(tmp_path, "ce_je", *given, *words)
    for name in ("three_class", "dnf_je"):
        assert f"left out: experiment {name}: no set je_train: give --je PATH" in said
    trained = re.findall(r"^runs python3 -m dnf.training.train exp/frames exp/(\w+) ", said, re.MULTILINE)
    assert {*trained, "exp1"} == {*EXPERIMENTS} - {"three_class", "dnf_je"}
    text = (tmp_path / "exp/exp1/results.txt").read_text()
    for name, option in (
        ("wsj+ce+je", "--je"),
        ("wsj+ce+timit+je", "--je"),
        ("je", "--je"),
        ("je_12", "--je"),
        ("voxceleb", "--vox1"),
    ):
        assert f"# left out: {name}: no set " in text and f"give {option} PATH" in text
    assert having(tmp_path, "exp1", "gaussianity wsj+ce ce+en c120") and having(
        tmp_path, "exp1", "utt_accuracy english en"
    )
    said = recipe_runs.run_recipe(tmp_path, "ce_je", *given, "--exp", "three_class", status=1)
    assert "experiment three_class cannot run: no set je_train: give --je PATH" in said

"""Recipe voxceleb_cnceleb: readers of VoxCeleb and CN-Celeb, and a whole run on miniature trees of all its corpora."""

import csv
import logging
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tree_cnceleb
import tree_voxceleb
import tree_wsj
from recipe_runs import ROOT, other_takes, results, run_recipe

from dnf.data import check_sets
from dnf.data.kaldi_files import read_table
from dnf.experiment.config import resolve
from dnf.verification import verify
from dnf.verification.trial_list import Enrolments, Utterances, read_trials
from egs.corpora import cnceleb, voxceleb
from egs.voxceleb_cnceleb.local import prepare_data
from egs.voxceleb_cnceleb.local import speaker_sets as sets_of_speakers

RECIPE = ROOT / "egs" / "voxceleb_cnceleb"


@pytest.fixture
def vox(tmp_path, noise):
    return tree_voxceleb.make(tmp_path, noise)


@pytest.fixture
def cn(tmp_path, noise):
    return tree_cnceleb.make(tmp_path, noise)


def speakers(spoken):
    return sorted({u.speaker for u in spoken})


def test_voxceleb_is_divided_as_published(vox):
    made = voxceleb.read(*vox)
    assert speakers(made["test"]) == ["vox_id10270", "vox_id10271"]
    assert speakers(made["train"]) == [f"vox_id{n}" for n in ("00012", "00015", "10001", "10002", "10003", "10004")]
    assert len(made["test"]) == 6 and len(made["train"]) == 18
    first = made["test"][0]
    assert first.id == first.recording == "vox_id10270--GHdGUu8C6o-00001"
    assert first.path == str(vox[0] / "wav" / "id10270" / "-GHdGUu8C6o" / "00001.wav")
    assert {u.name for u in made["train"] + made["test"]} == {"en"}
    assert {u.speaker: u.gender for u in made["train"]}["vox_id10002"] == "f"
    assert {u.speaker: u.gender for u in made["train"]}["vox_id00015"] == "f"


def test_voxceleb_alone_and_of_another_class(vox):
    assert {u.name for u in voxceleb.read(vox[0], name="vox")["test"]} == {"vox"}
    second = voxceleb.read(None, vox[1])
    assert speakers(second["train"]) == ["vox_id00012", "vox_id00015"] and second["test"] == []


def test_voxceleb_in_dev_and_test_folders(vox):
    (vox[0] / "test" / "wav").mkdir(parents=True)
    for speaker in ("id10270", "id10271"):
        shutil.move(vox[0] / "wav" / speaker, vox[0] / "test" / "wav" / speaker)
    (vox[0] / "dev").mkdir()
    (vox[0] / "wav").rename(vox[0] / "dev" / "wav")
    made = voxceleb.read(vox[0])
    assert (len(made["train"]), len(made["test"])) == (12, 6)


def test_voxceleb_of_some_nationalities(vox):
    made = voxceleb.read(vox[0], nationalities=["USA", "UK"])
    assert speakers(made["train"]) == ["vox_id10004"] and len(speakers(made["test"])) == 2
    with pytest.raises(ValueError, match="no speaker of nationality Atlantis"):
        voxceleb.read(vox[0], nationalities=["USA", "Atlantis"])
    with pytest.raises(ValueError, match="VoxCeleb2 has no nationalities"):
        voxceleb.read(*vox, nationalities=["USA"])


def test_missing_meta_file_says_where_to_get_it(vox):
    (vox[0] / "vox1_meta.csv").unlink()
    with pytest.raises(ValueError, match=r"vox1_meta.csv: no such file; download it from https://.*/vox1_meta.csv"):
        voxceleb.read(vox[0])


def test_damaged_meta_file_names_the_line(vox):
    path = vox[1] / "vox2_meta.csv"
    path.write_text(path.read_text().replace(",m ,dev", ""))
    with pytest.raises(ValueError, match="vox2_meta.csv: line 2: not"):
        voxceleb.read(None, vox[1])


def test_speaker_outside_the_meta_file(vox):
    shutil.copytree(vox[0] / "wav" / "id10001", vox[0] / "wav" / "id19999")
    with pytest.raises(ValueError, match="id19999: speaker id19999 is not in .*vox1_meta.csv"):
        voxceleb.read(vox[0])


def test_m4a_has_to_be_converted(vox):
    encoded = vox[1] / "dev" / "aac" / "id00012" / "-GHdGUu8C6o" / "00007.m4a"
    encoded.write_bytes(b"")
    with pytest.raises(ValueError, match=r"00007.m4a: AAC in .m4a cannot be read here; convert .*ffmpeg") as error:
        voxceleb.read(None, vox[1])
    assert "\n" not in str(error.value)
    encoded.with_suffix(".flac").write_bytes(b"")  # converted beside the original, as usual
    assert len(voxceleb.read(None, vox[1])["train"]) == 7


def test_flac_of_voxceleb2(tmp_path, noise):
    assert len(voxceleb.read(None, tree_voxceleb.make(tmp_path, noise, suffix=".flac")[1])["train"]) == 6


def test_counts_are_compared_with_the_published_ones(vox, cn, caplog):
    with caplog.at_level(logging.WARNING):
        voxceleb.read(*vox)
        cnceleb.read(*cn)
    for line in (
        "18 utterances, 153516",
        "6 speakers, 1251",
        "2 speakers, 6112",
        "18 utterances, 126532",
        "4 training speakers, 797",
    ):
        assert line in caplog.text
    caplog.clear()
    published = voxceleb.PUBLISHED | {"vox1": {"speakers": 6, "utterances": 18}}
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(voxceleb, "PUBLISHED", published)
        voxceleb.read(vox[0])
    assert not caplog.text


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_eval_speakers_of_cnceleb_are_in_test_only(tmp_path, noise, suffix):
    made = cnceleb.read(*tree_cnceleb.make(tmp_path, noise, suffix=suffix))
    assert speakers(made["test"]) == ["cn_id00800", "cn_id00802"]
    assert speakers(made["train"]) == [f"cn_id{n}" for n in ("00010", "00012", "00013", "00016", "10001", "10002")]
    assert [u.id for u in made["test"]][:2] == ["cn_id00800-interview-01-002", "cn_id00800-live_broadcast-01-002"]
    assert made["test"][0].path.endswith(f"data/id00800/interview-01-002{suffix}")
    assert {u.name for u in made["train"] + made["test"]} == {"cn"} and len(made["train"]) == 18


def test_lists_of_cnceleb_alone_name_the_test_speakers(cn):
    for part in ("test", "enroll"):
        shutil.rmtree(cn[0] / "eval" / part)
    assert speakers(cnceleb.read(cn[0])["test"]) == ["cn_id00800", "cn_id00802"]


def test_genres_of_cnceleb(cn):
    made = cnceleb.read(*cn, genres=["interview", "live_broadcast"])
    assert len(made["train"]) == 12 and {cnceleb.genre(u) for u in made["train"]} == {"interview", "live_broadcast"}
    with pytest.raises(
        ValueError, match="no recording of genre opera; give some of interview, live_broadcast, singing"
    ):
        cnceleb.read(*cn, genres=["opera"])


def test_speaker_in_no_list_of_cnceleb_is_left_out(cn, caplog):
    (cn[0] / "dev" / "dev.lst").write_text("id00010\nid00012\nid00013\n")
    with caplog.at_level(logging.WARNING):
        made = cnceleb.read(cn[0])
    assert speakers(made["train"]) == ["cn_id00010", "cn_id00012", "cn_id00013"]
    assert "left out, since neither in dev/dev.lst nor in eval/: cn_id00016" in caplog.text


def test_mistaken_folders_of_voxceleb(vox):
    with pytest.raises(ValueError, match="no idNNNNN/<video>/NNNNN.wav or .flac in it"):
        shutil.rmtree(vox[0] / "wav")
        voxceleb.read(vox[0])


def test_mistaken_folders_of_cnceleb(cn):
    with (cn[0] / "dev" / "dev.lst").open("a") as file:
        file.write("id00800\n")
    with pytest.raises(ValueError, match="cn_id00800 and 0 more are also test speakers of eval/"):
        cnceleb.read(cn[0])
    (cn[0] / "dev" / "dev.lst").unlink()
    with pytest.raises(ValueError, match="dev.lst: no such file"):
        cnceleb.read(cn[0])
    with pytest.raises(ValueError, match="no data/idNNNNN"):
        cnceleb.read(cn[0] / "data")
    shutil.rmtree(cn[0] / "eval")
    (cn[0] / "dev" / "dev.lst").write_text("id00010\n")
    with pytest.raises(ValueError, match="eval: no test speakers"):
        cnceleb.read(cn[0])


def test_dev_is_set_apart_by_speaker(vox, cn, tmp_path):
    options = {"vox1": vox[0], "vox2": vox[1], "cnceleb1": cn[0]}
    made = prepare_data.prepare(options, tmp_path / "data", seed=3, dev_hours=1.0)
    assert sorted(made) == [f"{c}_{part}" for c in ("cnceleb", "voxceleb") for part in ("dev", "test", "train")]
    of = {name: {s.speaker for s in manifests.supervisions} for name, manifests in made.items()}
    for corpus, count in (("voxceleb", 6), ("cnceleb", 4)):
        assert len(of[f"{corpus}_dev"]) == 1  # a tenth of the speech at most, but someone
        assert len(of[f"{corpus}_train"] | of[f"{corpus}_dev"]) == count
        assert not of[f"{corpus}_test"] & (of[f"{corpus}_train"] | of[f"{corpus}_dev"])
    listed = (tmp_path / "data" / "lists" / "voxceleb_dev_speakers.txt").read_text().split()
    assert set(listed) == of["voxceleb_dev"]
    again = prepare_data.prepare(options, tmp_path / "again", seed=3, dev_hours=1.0)
    assert {s.id for s in again["voxceleb_dev"].supervisions} == {s.id for s in made["voxceleb_dev"].supervisions}


def test_options_of_the_data_preparation(vox, cn, tmp_path):
    words = ["--nationalities", "Ireland, India", "--genres", "singing"]
    words += ["--vox1", vox[0], "--cnceleb1", cn[0], "--seed", 2, "--max-rejected", 0]
    assert prepare_data.main([str(word) for word in (tmp_path / "data", *words)]) == 0
    train, dev = (read_table(tmp_path / "data" / f"voxceleb_{part}" / "utt2spk") for part in ("train", "dev"))
    assert {*train.values(), *dev.values()} == {"vox_id10001", "vox_id10002", "vox_id10003"}
    assert all("-singing-" in utt for utt in read_table(tmp_path / "data" / "cnceleb_test" / "utt2spk"))
    missing = read_table(tmp_path / "data" / "missing.txt")
    assert missing.keys() == {"wsj", "ce", "je"} and missing["wsj"].startswith("--wsj PATH")


def test_hours_of_dev_must_be_some(vox, tmp_path):
    for hours in ("0", "nan", "inf"):
        with pytest.raises(ValueError, match=f"--dev-hours {hours}: give a number above 0"):
            prepare_data.main([str(tmp_path / "data"), "--vox1", str(vox[0]), "--dev-hours", hours])


def test_experiment_that_cannot_run_names_the_option(vox, tmp_path):
    prepare_data.prepare({"vox1": vox[0]}, tmp_path / "data")
    reason = check_sets.lacking(resolve([RECIPE / "conf" / "en_cn.yaml"]).data, tmp_path / "data")
    assert reason.startswith("no set cnceleb_train: give --cnceleb1 PATH")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, voices):
    """The folder of a run of en_cn on all corpora."""
    folder = tmp_path_factory.mktemp("whole")
    options = dict(zip(("--vox1", "--vox2"), tree_voxceleb.make(folder, voices)))
    options |= zip(("--cnceleb1", "--cnceleb2"), tree_cnceleb.make(folder, voices))
    tree_wsj.make(folder / "wsj", other_takes(voices, 1), layout="merged")
    options["--wsj"] = folder / "wsj"
    for name in ("ce", "je"):
        options[f"--{name}"] = write_table(folder / f"{name}.csv", other_takes(voices, 2)[name], name)
    run_recipe(folder, "voxceleb_cnceleb", *(word for option in options.items() for word in option))
    return folder


def write_table(path, voices, name):
    """A table of recordings, with the recordings beside it."""
    lines = ["recording,speaker,class"]
    for speaker, _, utterances in voices:
        for number, samples in enumerate(utterances):
            file = path.parent / f"{name}_wav" / f"{speaker}_{number}.wav"
            file.parent.mkdir(exist_ok=True)
            soundfile.write(file, samples, 16000, subtype="PCM_16")
            lines.append(f"{file.relative_to(path.parent)},{speaker},{name}")
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


ROW_7 = re.findall(r"^\| `(\w+_(?:accuracy|share) .*?)` \|", (RECIPE / "README.md").read_text(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROW_7)
def test_figures_of_row_7_stand_in_the_results(whole, name):
    lines = (whole / "exp" / "en_cn" / "results.txt").read_text().splitlines()
    found = [line for line in lines if line.startswith(f"{name} ")]
    assert len(found) == 1 and re.match(
        r"[01]\.\d{4} \[ \d+ / \d+, 95% .* speakers \]", found[0].removeprefix(f"{name} ")
    )


def test_row_7_is_complete():
    assert len(ROW_7) == 14


@pytest.mark.slow
def test_sets_and_views_of_the_results(whole):
    rows = results(whole, "en_cn")
    utterances = {r["set"]: int(r["total"]) for r in rows if r["metric"] == "utt_accuracy" and r["class"] != "all"}
    assert utterances["voxceleb_test"] == utterances["cnceleb_test"] == 6 and utterances["wsj"] == 24
    for name in ("cn", "vox"):  # utterances of 2.5 to 4 s
        assert 12 <= utterances[f"{name}_1s"] <= 24 and 0 < utterances.get(f"{name}_3s", 0) <= 6
    speakers = {p.parent.name: set(read_table(p)) for p in (whole / "data").glob("*/spk2utt")}
    assert speakers["voxceleb_test"] == {"vox_id10270", "vox_id10271"}
    assert speakers["cnceleb_test"] == {"cn_id00800", "cn_id00802"}
    lines = (whole / "exp" / "en_cn" / "results.txt").read_text()
    assert re.search(r"^utt_accuracy voxceleb_test en .*\| control wsj ", lines, re.MULTILINE)


@pytest.mark.slow
def test_listing_has_the_likelihoods_of_both_classes(whole):
    with (whole / "exp" / "en_cn" / "decisions" / "cn_1s.txt").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows and {row["class"] for row in rows} == {"cn"} and {row["near_tie"] for row in rows} <= {"yes", "no"}
    for row in rows:
        difference = float(row["logp_en"]) - float(row["logp_cn"])
        assert math.isclose(abs(difference), float(row["margin"]), abs_tol=1e-4)
        assert row["decision"] == ("en" if difference > 0 else "cn")


def test_files_that_a_mac_leaves_are_no_recordings(vox, cn):
    before = [u for part in (*voxceleb.read(*vox).values(), *cnceleb.read(*cn).values()) for u in part]
    for root in (*vox, *cn):
        for path in [path for path in root.rglob("*.*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\xff")
    assert [u for part in (*voxceleb.read(*vox).values(), *cnceleb.read(*cn).values()) for u in part] == before


def test_a_speaker_of_two_lines_of_the_meta_file_is_named(vox):
    meta = vox[0] / "vox1_meta.csv"
    lines = meta.read_text().splitlines()
    meta.write_text(
        "\n".join([*lines, lines[1].replace("\tm\t", "\tx\t").replace("\tf\t", "\tm\t").replace("x", "f")]) + "\n"
    )
    with pytest.raises(ValueError, match=rf"vox1_meta.csv: line {len(lines) + 1}: .* differs from line 2"):
        voxceleb.read(vox[0])
    meta.write_bytes(lines[0].encode() + b"\nAndr\xe9\n")
    with pytest.raises(ValueError, match="vox1_meta.csv line 2: not UTF-8"):
        voxceleb.read(vox[0])


def with_more(vox: Path, cn: Path) -> list[str]:
    """Options of experiment speakers, after ten more utterances of each speaker, and a list of VoxCeleb1-O, are in the trees."""
    rng = np.random.default_rng(1)
    for root in (vox / "wav", cn / "data"):
        for folder in sorted(root.glob("id*")):
            samples, rate = soundfile.read(next(path for path in sorted(folder.rglob("*.*")) if path.is_file()))
            for number in range(10):
                place = (
                    (f"video{number}", f"0000{number}.wav") if root.name == "wav" else (f"speech-02-{number:03}.flac",)
                )
                path = folder.joinpath(*place)
                path.parent.mkdir(exist_ok=True)
                soundfile.write(path, samples + 0.01 * rng.standard_normal(len(samples)), rate, subtype="PCM_16")
    pairs = [
        "1 id10270/video0/00000.wav id10270/video1/00001.wav",
        "0 id10270/video0/00000.wav id10271/video1/00001.wav",
    ]
    (vox / "veri_test2.txt").write_text("\n".join(pairs) + "\n")
    return ["--vox1", str(vox), "--cnceleb1", str(cn), "--speakers", "true"]


@pytest.fixture
def speaker_sets(vox, cn, tmp_path):
    """The data directories of experiment speakers."""
    assert prepare_data.main([str(tmp_path / "data"), *with_more(vox[0], cn[0])]) == 0
    return tmp_path / "data"


@pytest.mark.slow
def test_speakers_are_trained_and_the_published_trials_scored(voices, tmp_path, monkeypatch, capsys):
    options = with_more(tree_voxceleb.make(tmp_path, voices)[0], tree_cnceleb.make(tmp_path, voices)[0])
    settings = ("vectors.front_end=pool", "vectors.project_to=8", "flow.blocks=10", "baselines.enabled=true")
    words = [word for setting in (*settings, "plots.enabled=false") for word in ("--set", setting)]
    said = run_recipe(tmp_path, "voxceleb_cnceleb", *options, "--exp", "speakers", *words)
    assert "results: exp/speakers/results.txt" in said
    monkeypatch.chdir(tmp_path)
    for name, counts in (("voxceleb_test", "1 target, 1 nontarget"), ("cnceleb_test", "4 target, 4 nontarget")):
        assert verify.main(["exp/speakers", "--set", name, "--as-norm", "train"]) == 0
        text = capsys.readouterr().out
        assert counts in text and "vectors_cosine" in text and "latents_nl" in text
    assert not [row for row in results(tmp_path, "speakers") if row["class"].startswith(("vox_id1027", "cn_id008"))]


def test_speakers_are_classes_and_the_published_trials_name_utterances(speaker_sets):
    classes = {part: read_table(speaker_sets / part / "utt2class") for part in ("train", "dev")}
    known = (speaker_sets / "classes.txt").read_text().split()
    assert set(known) == {"unlabelled", *classes["train"].values()}
    assert set(classes["train"].values()) == set(classes["dev"].values())
    assert {"vox_id10001", "cn_id00010"} <= set(classes["train"].values())
    assert not classes["train"].keys() & classes["dev"].keys() and len(classes["train"]) > 4 * len(classes["dev"])
    for name, targets in (("voxceleb_test", 1), ("cnceleb_test", 4)):
        table = read_table(speaker_sets / name / "utt2spk")
        speakers = list(dict.fromkeys(table.values()))
        utterances = Utterances.of(name, list(table), list(table.values()), {})
        trials = read_trials(speaker_sets / name / "trials", Enrolments.each(utterances), utterances)
        assert len(speakers) == 2 and trials.target.sum() == targets and len(trials.target) == 2 * targets
    assert "cn_id00800-enroll" in table


def test_a_list_of_trials_that_is_damaged_is_named(vox, tmp_path):
    (vox[0] / "veri_test.txt").write_text("1 a/b/1.wav a/c/1.wav\nhtml\n")
    with pytest.raises(ValueError, match=r"veri_test.txt: line 2: 'html' is not a trial; download the list again"):
        sets_of_speakers.write_trials({"vox1": vox[0]}, tmp_path)

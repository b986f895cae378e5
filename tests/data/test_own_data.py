"""A user's own recordings, of a table and in general, to checked sets; Kaldi directories are in test_own_kaldi.py."""

import gzip
import logging
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSet
from own_speakers import CLASS, RATE, SPEAKERS

from dnf.data import manifests, own_data, splits
from dnf.data.kaldi_files import read_table
from dnf.data.validate import validate
from dnf.experiment import entry

# ---- recordings.tsv ------------------------------------------------------------------------------


def test_a_table_becomes_valid_sets(own, rows, small_config):
    own.table(rows)
    assert own.prepare(small_config()) == 0
    assert (own.out / "classes.txt").read_text() == "en\nzh\n"
    assert sorted(path.parent.name for path in own.out.glob("*/utt2spk")) == ["dev", "test", "train"]
    for name in ("dev", "test", "train"):
        validate(own.out / name, classes=own.out / "classes.txt")
    assert own.utts("test") == {"eve-eve_1": "eve", "flo-flo_1": "flo"}
    assert read_table(own.out / "test" / "utt2class") == {"eve-eve_1": "en", "flo-flo_1": "zh"}
    assert read_table(own.out / "test" / "wav.scp")["eve-eve_1"] == str(own.folder / "wav" / "eve_1.wav")
    recordings = RecordingSet.from_file(own.out / "test" / "recordings.jsonl.gz")
    supervisions = SupervisionSet.from_file(own.out / "test" / "supervisions.jsonl.gz")
    assert [r.num_samples for r in recordings] == [8000, 8000]
    assert [(s.id, s.speaker, s.custom) for s in supervisions] == [
        ("eve-eve_1", "eve", {"class": "en"}),
        ("flo-flo_1", "flo", {"class": "zh"}),
    ]
    assert splits.main([str(own.out)]) == 0


def test_a_table_may_be_csv(own, rows, small_config):
    for row in rows:
        row["text"] = ""
    rows[-1]["text"] = 'he said "a, b"'
    own.table(rows, "recordings.csv")
    own.prepare(small_config())
    assert own.utts("test") == {"eve-eve_1": "eve", "flo-flo_1": "flo"}
    (text,) = (s.text for s in SupervisionSet.from_file(own.out / "test" / "supervisions.jsonl.gz") if s.text)
    assert text == 'he said "a, b"'


def test_optional_columns_arrive(own, rows, small_config):
    for n, row in enumerate(rows):
        row |= {"utt": f"u{n}", "score": str(n / 2), "gender": "fm"[(n + n // 9) // 2 % 2], "text": f"line {n}"}
        row |= {"score_fluency": str(n)} if n != 9 else {}
    own.table(rows)
    own.prepare(small_config())
    assert own.utts("test") == {"eve-u8": "eve", "flo-u9": "flo"}
    assert read_table(own.out / "test" / "utt2score") == {"eve-u8": "4.0", "flo-u9": "4.5"}
    assert read_table(own.out / "test" / "utt2score_fluency") == {"eve-u8": "8.0"}
    assert read_table(own.out / "test" / "spk2gender") == {"eve": "f", "flo": "m"}
    assert read_table(own.out / "test" / "text") == {"eve-u8": "line 8", "flo-u9": "line 9"}
    custom = {s.id: s.custom for s in SupervisionSet.from_file(own.out / "test" / "supervisions.jsonl.gz")}
    assert custom["eve-u8"] == {"class": "en", "score": 4.0, "tables": {"utt2score_fluency": "8.0"}}


def test_an_id_that_begins_with_its_speaker_is_kept(own, rows, small_config):
    for n, row in enumerate(rows):
        row["utt"] = f"{row['speaker']}-u{n}"
    own.table(rows)
    own.prepare(small_config())
    assert list(own.utts("test")) == ["eve-u8", "flo-u9"]


def test_a_score_may_be_left_out(own, rows, small_config):
    for row in rows:
        row["score"] = ""
    rows[-1]["score"] = "3"
    own.table(rows)
    own.prepare(small_config())
    assert read_table(own.out / "test" / "utt2score") == {"flo-flo_1": "3.0"}
    assert not (own.out / "train" / "utt2score").exists()
    validate(own.out / "test")


def test_an_absolute_path_and_blanks_in_names(own, rows, small_config):
    own.wav("my sound.wav")
    rows[-1] |= {"recording": str(own.folder / "wav" / "my sound.wav"), "speaker": "flo mc"}
    own.table(rows)
    own.prepare(small_config())
    assert own.utts("test")["flo_mc-my_sound"] == "flo_mc"
    assert read_table(own.out / "test" / "wav.scp")["flo_mc-my_sound"].endswith("/wav/my sound.wav")
    validate(own.out / "test")


@pytest.mark.parametrize("column", ("recording", "speaker", "class", "set"))
def test_a_missing_column_is_named(own, rows, small_config, column):
    own.table([{k: v for k, v in row.items() if k != column} for row in rows])
    with pytest.raises(ValueError, match=rf"recordings.tsv: no column '{column}' in its first line"):
        own.prepare(small_config())


@pytest.mark.parametrize("column", ("recording", "speaker", "class", "set"))
def test_an_empty_cell_is_named(own, rows, small_config, column):
    rows[2][column] = ""
    own.table(rows)
    with pytest.raises(ValueError, match=rf"recordings.tsv: line 4: column {column} is empty"):
        own.prepare(small_config())


@pytest.mark.parametrize("text", ("three", "3,5", "nan", "inf"))
def test_a_score_that_is_no_number_is_named(own, rows, small_config, text):
    for row in rows:
        row["score"] = "1"
    rows[4]["score"] = text
    own.table(rows)
    with pytest.raises(ValueError, match=rf"recordings.tsv: line 6: score: '{text}' is not a number"):
        own.prepare(small_config())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "English"}, "class 'English' is not a name like en"),
        ({"class": "zh-cn"}, "class 'zh-cn' is not a name like en"),
        ({"set": "my set"}, "line 11: set 'my set' cannot be the name of a folder"),
        ({"set": "../train"}, "line 11: set '../train' cannot be the name of a folder"),
        ({"set": ".."}, "line 11: set '..' cannot be the name of a folder"),
        ({"set": "."}, "line 11: set '.' cannot be the name of a folder"),
    ],
)
def test_a_cell_of_illegal_form_is_named(own, rows, small_config, change, message):
    rows[9] |= change
    own.table(rows)
    with pytest.raises(ValueError, match=re.escape(message)):
        own.prepare(small_config())
    assert not list(own.out.glob("*/utt2spk"))  # nothing is written before all is checked


def test_one_name_for_two_recordings_is_named(own, rows, small_config):
    rows[1]["recording"] = rows[0]["recording"]
    own.table(rows)
    with pytest.raises(ValueError, match="line 3: utterance ann-ann_1 is in line 2, too; add a column utt"):
        own.prepare(small_config())


def test_too_many_cells_are_named(own, rows, small_config):
    own.table(rows)
    path = own.folder / "recordings.tsv"
    lines = path.read_text().splitlines()
    lines[3] += "\tmore"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="line 4: more columns than the first line names"):
        own.prepare(small_config())


@pytest.mark.parametrize(
    ("before", "end"), [("\ufeff", "\n"), ("", "\r\n")], ids=("byte order mark", "carriage returns")
)
def test_a_table_from_a_spreadsheet_is_read_or_named(own, rows, small_config, before, end):
    own.table(rows)
    path = own.folder / "recordings.tsv"
    path.write_bytes((before + path.read_text().replace("\n", end)).encode())
    own.prepare(small_config())
    assert list(own.utts("test")) == ["eve-eve_1", "flo-flo_1"]


def test_speakers_whose_names_begin_alike_make_valid_sets_or_are_named(own, rows, small_config):
    """Kaldi wants utt2spk sorted by speaker too: ids of 'fr' and 'fr-ca' must not mix."""
    for row, speaker in zip(rows, ("fr", "fr", "fr-ca", "fr-ca", "cid", "cid", "dan", "dan")):
        row["speaker"] = speaker
    rows[0] |= {"recording": own.wav("x.wav")}
    own.table(rows + [{"recording": own.wav("y.wav"), "speaker": "gus", "class": "en", "set": "dev"}])
    try:
        own.prepare(small_config())
    except ValueError as error:
        assert re.search("'?fr'? .*'?fr-ca'?", str(error)) and not list(own.out.glob("*/utt2spk"))
        return
    validate(own.out / "train")


# ---- dev, speakers, classes ----------------------------------------------------------------------


def test_dev_is_cut_from_train_by_speaker_with_every_class(own, rows, small_config):
    own.table(rows)
    own.prepare(small_config())
    train, dev = own.utts("train"), own.utts("dev")
    assert len(train) == len(dev) == 4 and train.keys() | dev.keys() == {
        f"{s}-{s}_{n}" for s in SPEAKERS for n in (1, 2)
    }
    assert not set(train.values()) & set(dev.values())
    assert {CLASS[s] for s in dev.values()} == {CLASS[s] for s in train.values()} == {"en", "zh"}


def test_the_choice_of_dev_speakers_follows_the_seed():
    train = [
        manifests.Utterance(f"s{n:02}-1", f"s{n:02}-1", "a.wav", f"s{n:02}", ("en", "zh")[n % 2]) for n in range(40)
    ]
    chosen = {seed: {u.speaker for u in own_data.split_dev(train, seed)[1]} for seed in (1, 2, 3)}
    assert all(len(speakers) == 6 for speakers in chosen.values())  # 15 % of 20, in each class
    assert len({frozenset(speakers) for speakers in chosen.values()}) == 3
    assert {u.speaker for u in own_data.split_dev(train[::-1], 1)[1]} == chosen[1]


def test_the_seed_of_the_settings_is_used(own, small_config, monkeypatch):
    rows = [
        {"recording": own.wav(f"s{n:02}.wav"), "speaker": f"s{n:02}", "class": ("en", "zh")[n % 2], "set": "train"}
        for n in range(12)
    ]
    own.table(rows)
    found = set()
    for seed in range(1, 5):
        shutil.rmtree(own.out, ignore_errors=True)
        own.prepare(small_config(f"seed={seed}"))
        found.add(tuple(own.utts("dev")))
    assert len(found) > 1


def test_a_dev_set_of_the_users_is_left_alone(own, rows, small_config):
    for row in rows[2:4]:
        row["set"] = "dev"
    own.table(rows)
    own.prepare(small_config())
    assert set(own.utts("dev").values()) == {"bea"} and set(own.utts("train").values()) == {"ann", "cid", "dan"}


def test_a_class_of_one_speaker_cannot_give_a_dev_speaker(own, rows, small_config):
    own.table([row for row in rows if row["speaker"] != "dan"])
    with pytest.raises(ValueError, match="class zh has one speaker, bea: .*add a dev set"):
        own.prepare(small_config())


@pytest.mark.parametrize("other", ("test", "dev"))
def test_a_speaker_of_train_in_another_set_is_refused(own, rows, small_config, other):
    rows[1]["set"] = other
    own.table(rows)
    with pytest.raises(ValueError, match="speaker '?ann'? .*") as caught:
        own.prepare(small_config())
    assert "train" in str(caught.value) and other in str(caught.value) and "\n" not in str(caught.value)
    assert not list(own.out.glob("*/utt2spk"))  # nothing is written before all is checked


@pytest.mark.parametrize("row", (1, 8), ids=("in the same set", "in another set"))
def test_a_speaker_of_two_classes_is_refused(own, rows, small_config, row):
    rows[row] |= {"speaker": "ann", "class": "zh"}
    own.table(rows)
    with pytest.raises(ValueError, match="speaker '?ann'? .*(en|zh).*(en|zh)") as caught:
        own.prepare(small_config())
    assert "\n" not in str(caught.value)
    assert not list(own.out.glob("*/utt2spk"))


# ---- two sources, genders, bad items -------------------------------------------------------------


def test_two_tables_or_a_table_beside_directories_are_refused(own, rows, kaldi, small_config):
    own.table(rows)
    own.table(rows, "recordings.csv")
    with pytest.raises(ValueError, match="has recordings.tsv and recordings.csv, which is ambiguous"):
        own.prepare(small_config())
    (own.folder / "recordings.csv").unlink()
    kaldi("train")
    with pytest.raises(ValueError, match="has recordings.tsv and train/utt2spk, which is ambiguous"):
        own.prepare(small_config())


@pytest.mark.parametrize(("make", "reason"), [(os.mkfifo, "is a named pipe"), (os.mkdir, "is a folder, not a file")])
def test_a_table_that_is_no_file_is_named(own, kaldi, small_config, make, reason):
    own.folder.mkdir()
    make(own.folder / "recordings.tsv")
    with pytest.raises(ValueError, match=f"recordings.tsv: {reason}"):
        own.prepare(small_config())
    (own.folder / "recordings.tsv").rename(own.folder / "other")
    kaldi("train", utt2class=None)
    make(own.folder / "train" / "utt2class")
    with pytest.raises(ValueError, match=f"train/utt2class: {reason}"):
        own.prepare(small_config())


def test_data_that_is_a_file_is_said(own, small_config):
    own.folder.write_text("")
    with pytest.raises(ValueError, match="own: is not a folder; name the folder of recordings.tsv or"):
        own.prepare(small_config())


def test_hidden_folders_are_no_sets(own, kaldi, small_config):
    kaldi("train")
    kaldi(".old", ("eve", "flo"))
    own.prepare(small_config())
    assert sorted(path.parent.name for path in own.out.glob("*/utt2spk")) == ["dev", "train"]


def test_a_speaker_of_two_genders_in_two_sets_is_refused(own, kaldi, small_config):
    kaldi("train")
    for name, gender in (("one", "f"), ("two", "m")):
        kaldi(name, ("eve",), spk2gender={"eve": gender})
    with pytest.raises(ValueError, match="^set two: speaker eve is m, but f in one; correct one of the two$"):
        own.prepare(small_config())


def test_genders_of_some_speakers_only_are_said_to_be_left_out(own, rows, small_config, caplog):
    for row in rows:
        row["gender"] = "f" if row["speaker"] in ("eve", "ann", "cid") else ""
    own.table(rows)
    with caplog.at_level(logging.WARNING):
        own.prepare(small_config())
    assert "test: 1 of 2 speakers have no gender, the first is flo: no spk2gender" in caplog.text


def test_a_segment_that_ends_at_minus_one_ends_with_its_recording(own, kaldi, small_config):
    kaldi("train", segments={f"{speaker}-{n}": f"{speaker}-{n} 0.1 -1" for speaker in SPEAKERS for n in (1, 2)})
    own.prepare(small_config())
    for supervision in SupervisionSet.from_file(own.out / "train" / "supervisions.jsonl.gz"):
        assert (supervision.start, supervision.end) == (0.1, 0.5)
    assert splits.main([str(own.out)]) == 0


@pytest.mark.parametrize("times", ("0.2 0.2", "0.4 0.1", "0.1 1.5", "5 6", "-0.1 0.3"))
def test_one_segment_that_cannot_be_cut_does_not_end_the_stage(own, kaldi, small_config, times):
    utts = [f"{speaker}-{n}" for speaker in SPEAKERS for n in (1, 2)]
    kaldi("train", segments={utt: f"{utt} {times if utt == 'cid-2' else '0.1 0.4'}" for utt in utts})
    own.prepare(small_config("features.max_rejected=0.3"))
    (line,) = [path.read_text() for path in own.out.glob("*/rejected.txt")]
    start, end = times.split()
    assert line.startswith("cid-2 its segment") and "cid-2.wav of 0.50 s; correct segments" in line
    assert f"{float(start)} to {float(end)} s" in line
    assert len({**own.utts("train"), **own.utts("dev")}) == 7 and splits.main([str(own.out)]) == 0


@pytest.mark.parametrize("table", (True, False))
def test_one_recording_without_samples_does_not_end_the_stage(own, rows, kaldi, small_config, table):
    if table:
        own.table(rows)
    else:
        kaldi("train")
    path = own.folder / "wav" / ("cid_2.wav" if table else "cid-2.wav")
    soundfile.write(path, np.zeros(0), RATE)
    with pytest.raises(ValueError, match=r"1 of \d utterances rejected, more than --max-rejected 0.1.*has no samples"):
        own.prepare(small_config("features.max_rejected=0.1"))
    own.prepare(small_config("features.max_rejected=0.3"))
    (line,) = [path.read_text() for path in own.out.glob("*/rejected.txt")]
    assert f"{path}: has no samples; leave it out" in line and splits.main([str(own.out)]) == 0


# ---- recordings that cannot be opened ------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "no such file; correct the path, or leave out the recording"),
        (lambda path: path.write_bytes(b""), "cannot be read .*; restore or leave out the file"),
        (lambda path: path.write_text("no sound"), "cannot be read .*; restore or leave out the file"),
    ],
    ids=("missing", "empty", "text"),
)
def test_a_recording_that_cannot_be_opened_is_listed(own, rows, small_config, caplog, harm, reason):
    own.table(rows)
    harm(own.folder / "wav" / "flo_1.wav")
    with caplog.at_level(logging.INFO):
        own.prepare(small_config("features.max_rejected=0.5"))
    (line,) = (own.out / "test" / "rejected.txt").read_text().splitlines()
    assert re.fullmatch(rf"flo-flo_1 {own.folder}/wav/flo_1.wav: {reason}", line)
    assert "1 utterances of 1 speakers, 1 rejected" in caplog.text and line.split(" ", 1)[1] in caplog.text
    assert list(own.utts("test")) == ["eve-eve_1"] and not (own.out / "train" / "rejected.txt").exists()
    validate(own.out / "test")


def test_too_many_that_cannot_be_opened_fail_before_anything_is_written(own, rows, small_config):
    own.table(rows)
    (own.folder / "wav" / "flo_1.wav").unlink()
    small_config("features.max_rejected=0.4").save(own.out / "config.yaml")
    with pytest.raises(SystemExit) as caught:
        entry.run(lambda: own_data.main([str(own.folder), str(own.out)]))
    assert isinstance(caught.value.code, str) and "\n" not in caught.value.code
    assert (
        "set test: 1 of 2 utterances rejected" in caught.value.code and "flo_1.wav: no such file" in caught.value.code
    )
    assert [path.name for path in own.out.iterdir()] == ["config.yaml"]


# ---- run again -----------------------------------------------------------------------------------


def test_the_same_data_gives_the_same_tables(own, rows, small_config):
    own.table(rows)
    tables = ("utt2spk", "spk2utt", "utt2class", "utt2dur", "wav.scp")
    got = []
    for _ in range(2):
        own.prepare(small_config())
        got.append(
            {
                (name, table): (own.out / name / table).read_bytes()
                for name in ("train", "dev", "test")
                for table in tables
            }
        )
    assert got[0] == got[1]


def test_a_stage_killed_anywhere_ends_the_same_when_run_again(own, rows, small_config, until_not_killed):
    own.table(rows)
    (own.folder / "wav" / "flo_1.wav").write_bytes(b"")
    config = small_config("features.max_rejected=0.5")
    config.save(own.out / "config.yaml")

    def run() -> int:
        return own_data.main([str(own.folder), str(own.out)])

    def everything() -> dict:
        found = {p.relative_to(own.out): p.read_bytes() for p in sorted(own.out.rglob("*")) if p.is_file()}
        return {path: gzip.decompress(content) if path.suffix == ".gz" else content for path, content in found.items()}

    run()
    wanted = everything()

    def check(n: int) -> None:
        run()
        assert everything() == wanted, n

    assert until_not_killed(run, check) > 10


def test_a_set_taken_out_is_gone(own, rows, small_config):
    own.table(rows)
    own.prepare(small_config())
    own.table([row for row in rows if row["set"] != "test"])
    own.prepare(small_config())
    assert sorted(path.parent.name for path in own.out.glob("*/utt2spk")) == ["dev", "train"]


def test_recordings_can_be_added_after_features_were_made(own, rows, small_config):
    """What stage 1 left in a set is of the old recordings; it must not make the new set invalid."""
    own.table(rows)
    own.prepare(small_config())
    for table in ("feats.scp", "vad.scp"):
        (own.out / "test" / table).write_text("".join(f"{utt} x.ark:5\n" for utt in own.utts("test")))
    (own.out / "test" / "utt2num_frames").write_text("".join(f"{utt} 9\n" for utt in own.utts("test")))
    (own.out / "test" / "cmvn.scp").write_text("eve x.ark:5\nflo x.ark:9\n")
    own.table([*rows, {"recording": own.wav("more.wav"), "speaker": "eve", "class": "en", "set": "test"}])
    own.prepare(small_config())
    validate(own.out / "test")

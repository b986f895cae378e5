"""dnf.data.datadir: Kaldi's rules for data directories, and the tools that keep them."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_runs import ROOT

from dnf.data.datadir import main
from dnf.data.fix import fix
from dnf.data.kaldi_files import read_table, write_table
from dnf.data.validate import Counts, validate

# Utterances by speaker; sorted, and the second speaker's id begins with the first's.
SPEAKERS = {"a01": ["a01-1", "a01-2", "a01-3"], "a011": ["a011-1"], "b02": ["b02-1", "b02-2"], "c03": ["c03-1"]}
CLASSES = {"a01": "en", "a011": "en", "b02": "zh_cn", "c03": "zh_cn"}
UTTERANCES = [(u, s) for s, us in SPEAKERS.items() for u in us]


def dump(path, records):
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


def load(path):
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def make(directory, segments=False):
    """A valid set with every kind of file; with ``segments``, one recording for each speaker."""
    directory.mkdir(parents=True)
    audio = directory.parent / "audio"
    audio.mkdir(exist_ok=True)
    recordings = [f"{s}-rec" for s in sorted(SPEAKERS)] if segments else [u for u, _ in UTTERANCES]
    for name in recordings:
        (audio / f"{name}.wav").touch()
    lines = {
        "utt2spk": [f"{u} {s}" for u, s in UTTERANCES],
        "spk2utt": [f"{s} {' '.join(us)}" for s, us in SPEAKERS.items()],
        "wav.scp": [f"{r} {audio}/{r}.wav" for r in recordings],
        "text": [f"{u} wörter {u}" for u, _ in UTTERANCES],
        "utt2class": [f"{u} {CLASSES[s]}" for u, s in UTTERANCES],
        "utt2dur": [f"{u} {n + 1}.5" for n, (u, _) in enumerate(UTTERANCES)],
        "utt2num_frames": [f"{u} {100 * n + 150}" for n, (u, _) in enumerate(UTTERANCES)],
        "utt2score": [f"{u} 2.5" for u, _ in UTTERANCES[4:]],
        "feats.scp": [f"{u} exp/feats/raw.1.ark:{n * 40 + 9}" for n, (u, _) in enumerate(UTTERANCES)],
        "vad.scp": [f"{u} exp/feats/vad.1.ark:{n * 40 + 9}" for n, (u, _) in enumerate(UTTERANCES)],
        "ali.scp": [f"{u} exp/feats/ali.1.ark:{n * 40 + 9}" for n, (u, _) in enumerate(UTTERANCES)],
        "cmvn.scp": [f"{s} exp/feats/cmvn.ark:{n * 40 + 9}" for n, s in enumerate(SPEAKERS)],
        "spk2gender": [f"{s} {'fm'[n % 2]}" for n, s in enumerate(SPEAKERS)],
        "reco2dur": [f"{r} 60.25" for r in recordings],
        "frame_shift": ["0.01"],
    }
    if segments:
        lines["segments"] = [f"{u} {s}-rec {n}.25 {n + 1}.5" for n, (u, s) in enumerate(UTTERANCES)]
    for name, content in lines.items():
        (directory / name).write_text("".join(line + "\n" for line in content), encoding="utf-8")
    source = {"type": "file", "channels": [0]}
    dump(
        directory / "recordings.jsonl.gz",
        [{"id": r, "sources": [source | {"source": f"{audio}/{r}.wav"}], "duration": 9.0} for r in recordings],
    )
    dump(
        directory / "supervisions.jsonl.gz",
        [
            {"id": u, "recording_id": f"{s}-rec" if segments else u, "speaker": s, "custom": {"class": CLASSES[s]}}
            for u, s in UTTERANCES
        ],
    )
    return directory


@pytest.fixture(params=[False, True], ids=["whole", "segments"])
def data(request, tmp_path):
    return make(tmp_path / "data", request.param)


@pytest.fixture
def whole(tmp_path):
    return make(tmp_path / "data")


@pytest.fixture
def segmented(tmp_path):
    return make(tmp_path / "data", segments=True)


def command(*arguments, cwd=None):
    """``python3 -m dnf datadir`` as a process."""
    return subprocess.run(
        [sys.executable, "-m", "dnf", "datadir", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )


def edit(directory, name, old, new):
    text = (directory / name).read_bytes().decode()
    assert old in text
    (directory / name).write_bytes(text.replace(old, new, 1).encode())


def snapshot(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def kaldi_accepts(directory):
    """The checks of Kaldi's validate_data_dir.sh on order and keys, with its tools."""
    script = r"""
    cd "$1"; export LC_ALL=C
    for f in utt2spk spk2utt wav.scp segments feats.scp vad.scp utt2dur utt2num_frames cmvn.scp spk2gender text; do
      [ ! -f $f ] || awk '{print $1}' $f | sort -uC || { echo "$f is not sorted or not unique"; exit 1; }
    done
    sort -k2 utt2spk | cmp -s - utt2spk || { echo utt2spk is not sorted by speaker; exit 1; }
    awk '{for (i = 2; i <= NF; i++) print $i, $1}' spk2utt | cmp -s - <(awk '{print $1, $2}' utt2spk) ||
      { echo spk2utt and utt2spk do not match; exit 1; }
    for f in feats.scp vad.scp utt2dur utt2num_frames text segments; do
      [ ! -f $f ] || cmp -s <(awk '{print $1}' $f) <(awk '{print $1}' utt2spk) || { echo $f differs; exit 1; }
    done
    for f in cmvn.scp spk2gender; do
      [ ! -f $f ] || cmp -s <(awk '{print $1}' $f) <(awk '{print $1}' spk2utt) || { echo $f differs; exit 1; }
    done
    if [ -f segments ]; then
      awk 'NF != 4 || $4 <= $3 {exit 1}' segments &&
        cmp -s <(awk '{print $2}' segments | sort -u) <(awk '{print $1}' wav.scp)
    else
      cmp -s <(awk '{print $1}' wav.scp) <(awk '{print $1}' utt2spk)
    fi || { echo recordings differ; exit 1; }
    """
    done = subprocess.run(["bash", "-c", script, "_", directory], capture_output=True, text=True, timeout=10)
    assert done.stderr == ""
    return done.returncode == 0


def test_valid(data):
    counts = validate(data, need_feats=True)
    assert (counts.utterances, counts.speakers, counts.seconds, counts.frames) == (7, 4, 31.5, 3150)
    assert counts.recordings == (4 if (data / "segments").exists() else 7)
    assert counts.classes == {"en": 4, "zh_cn": 3}
    assert kaldi_accepts(data)


def test_valid_as_a_command(whole):
    done = command("validate", "data", cwd=whole.parent)
    assert done.returncode == 0 and done.stdout == ""
    assert (
        "data is valid: 7 utterances, 4 speakers, 7 recordings, 0:00:32 hours, 3150 frames, 4 of class en"
        in done.stderr
    )


def test_minimal_set(tmp_path):
    write_table(tmp_path / "utt2spk", {"a-1": "a"})
    write_table(tmp_path / "spk2utt", {"a": "a-1"})
    assert validate(tmp_path, need_wav=False).recordings is None
    with pytest.raises(ValueError, match="wav.scp: no such file"):
        validate(tmp_path)
    with pytest.raises(ValueError, match="feats.scp: no such file"):
        validate(tmp_path, need_wav=False, need_feats=True)


# Every rule with a violation of it: file, what to replace, by what, and words of the error.
VIOLATIONS = [
    ("utt2spk", "a01-1 a01\na01-2 a01\n", "a01-2 a01\na01-1 a01\n", "utt2spk line 2: 'a01-1' comes after 'a01-2'"),
    ("utt2spk", "a01-1 a01\n", "a01-1 a01\na01-1 a01\n", "utt2spk line 2: 'a01-1' appears twice"),
    ("utt2spk", "c03-1 c03\n", "c03-1 c03", "utt2spk line 7: the last line does not end in a newline"),
    ("utt2spk", "a01-1 a01\n", "a01-1 a01 extra\n", "utt2spk line 1: 'a01-1' has 'a01 extra', not one speaker id"),
    ("utt2spk", "a01-1 a01\n", "a01-1\n", "utt2spk line 1: 'a01-1' has '', not one speaker id"),
    ("utt2spk", "a01-1 a01\n", "\na01-1 a01\n", "utt2spk line 1: blank line"),
    ("utt2spk", "a01-1 a01\n", " a01-1 a01\n", "utt2spk line 1: begins with a blank"),
    ("utt2spk", "a01-1 a01\n", "a01-1 a01\r\n", "utt2spk line 1: ends in a carriage return"),
    ("utt2spk", "a01-1 a01\n", "\ufeffa01-1 a01\n", "utt2spk line 1: begins with a byte-order mark"),
    ("utt2spk", "c03-1 c03\n", "c03-1\u3000x c03\n", "utt2spk line 7: the id 'c03-1\\u3000x' has a blank or control"),
    ("utt2spk", "a01-2 a01\n", "a01-2 b02\n", "utt2spk line 2: 'a01-2 b02' stands where 'a01-3 a01' would"),
    ("utt2spk", None, "", "utt2spk: no utterances"),
    ("spk2utt", "a01-2 a01-3", "a01-2", "spk2utt line 1: speaker 'a01' has other utterances than in utt2spk (a01-3)"),
    ("spk2utt", "a01-2 a01-3", "a01-3 a01-2", "spk2utt line 1: speaker 'a01' has other utterances"),
    ("spk2utt", "a01-2", "a01-2 a01-2", "spk2utt line 1: speaker 'a01' has other utterances"),
    ("spk2utt", "c03 c03-1\n", "", "its speakers differ from"),
    ("wav.scp", "a01-1 ", "a01-0 ", "its utterances differ from"),
    ("wav.scp", "a01-2.wav", "a01-9.wav", "wav.scp line 2: the audio file of 'a01-2' is not there"),
    ("wav.scp", "a01-1 /", "a01-1 ~/", "wav.scp line 1: 'a01-1' has '~/"),
    ("wav.scp", "a01-1.wav\n", "a01-1.wav |\n", "wav.scp line 1: 'a01-1' is a command"),
    ("wav.scp", "a01-1.wav\n", "a01-1.wav |\u00a0\n", "wav.scp line 1: 'a01-1' is a command"),
    ("feats.scp", ".ark:9\n", ".ark\n", "feats.scp line 1: 'a01-1' has 'exp/feats/raw.1.ark', not 'archive:offset'"),
    ("feats.scp", "exp/feats/raw.1.ark:9\n", "cat x.ark |\n", "feats.scp line 1: 'a01-1' is a command"),
    ("feats.scp", "c03-1 ", "c03-2 ", "lacks 1 (c03-1), has 1 more (c03-2)"),
    ("vad.scp", "c03-1 ", "c03-2 ", "vad.scp: its utterances differ from"),
    ("ali.scp", "c03-1 ", "c03-2 ", "ali.scp: its utterances differ from"),
    ("cmvn.scp", "c03 ", "c04 ", "cmvn.scp: its speakers differ from"),
    ("text", "c03-1 ", "c03-2 ", "text: its utterances differ from"),
    ("text", "wörter", "w<s> <s>", "text line 1: 'a01-1' has 'w<s> <s> a01-1', not words"),
    ("text", "wörter", "w\u2003r", "text line 1: 'a01-1' has"),
    ("text", "wörter", "w\x07r", "text line 1: 'a01-1' has"),
    ("utt2dur", "a01-1 1.5", "a01-1 0", "utt2dur line 1: 'a01-1' has '0', not a number of seconds above 0"),
    ("utt2dur", "a01-1 1.5", "a01-1 -1", "utt2dur line 1"),
    ("utt2dur", "a01-1 1.5", "a01-1 nan", "utt2dur line 1"),
    ("utt2dur", "a01-1 1.5", "a01-1 inf", "utt2dur line 1"),
    ("utt2dur", "a01-1 1.5", "a01-1 1_0", "utt2dur line 1"),
    ("utt2dur", "a01-1 1.5", "a01-1 1.5 2", "utt2dur line 1"),
    ("utt2dur", "a01-1 1.5\n", "", "utt2dur: its utterances differ from"),
    ("utt2num_frames", " 150", " 150.5", "utt2num_frames line 1: 'a01-1' has '150.5', not a whole number above 0"),
    ("utt2num_frames", " 150", " 0", "utt2num_frames line 1"),
    ("utt2class", "a01-1 en", "a01-1 En", "utt2class line 1: 'a01-1' has 'En', not a class name"),
    ("utt2class", "a01-1 en", "a01-1 1en", "utt2class line 1"),
    (
        "utt2class",
        "a01-2 en",
        "a01-2 ce",
        "utt2class line 2: speaker 'a01' has class 'ce' in 'a01-2' and 'en' in 'a01-1'",
    ),
    ("utt2class", "a01-2 en\n", "", "utt2class: its utterances differ from"),
    ("utt2score", " 2.5", " good", "utt2score line 1: 'b02-1' has 'good', not a number"),
    ("utt2score", "c03-1 ", "c03-2 ", "utt2score: its utterances differ from"),
    ("spk2gender", " f", " x", "spk2gender line 1: 'a01' has 'x', not m or f"),
    ("spk2gender", "a01 f\n", "", "spk2gender: its speakers differ from"),
    ("reco2dur", " 60.25", " long", "reco2dur line 1"),
    ("reco2dur", "c03-1", "c03-2", "reco2dur: its recordings differ from"),
    ("frame_shift", "0.01", "10ms", "frame_shift: not a number above 0"),
    ("utt2lang", None, "a01-1 en\n", "utt2lang: its utterances differ from"),
    ("spk2warp", None, "a01 2\n", "spk2warp line 1: 'a01' has '2', not a number between 0.5 and 1.5"),
    ("reco2file_and_channel", None, "a01-1 a C\n", "reco2file_and_channel line 1"),
    ("segments", None, "a01-1 a01-rec 1 2\n", "wav.scp: its recordings differ from"),
]
SEGMENT_VIOLATIONS = [
    (
        "segments",
        " 0.25 1.5\n",
        " 1.5 1.5\n",
        "segments line 1: 'a01-1' has 'a01-rec 1.5 1.5', not 'recording start end'",
    ),
    ("segments", " 0.25 1.5\n", " -1 1.5\n", "segments line 1"),
    ("segments", " 0.25 1.5\n", " 0.25\n", "segments line 1"),
    ("segments", " 0.25 1.5\n", " 0.25 1.5 x\n", "segments line 1"),
    ("segments", "c03-rec", "c04-rec", "wav.scp: its recordings differ from"),
    ("segments", "c03-1 ", "c03-2 ", "segments: its utterances differ from"),
    ("wav.scp", "c03-rec ", "c04-rec ", "wav.scp: its recordings differ from"),
    ("wav.scp", None, None, "wav.scp: no such file"),
    ("reco2dur", "c03-rec", "c04-rec", "reco2dur: its recordings differ from"),
]


def violate(directory, name, old, new):
    if new is None:
        (directory / name).unlink()
    elif old is None:
        (directory / name).write_text(new)
    else:
        edit(directory, name, old, new)


@pytest.mark.parametrize("name, old, new, message", VIOLATIONS)
def test_violations(whole, name, old, new, message):
    violate(whole, name, old, new)
    with pytest.raises(ValueError) as error:
        validate(whole)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert ";" in str(error.value)  # what to do comes after


@pytest.mark.parametrize("name, old, new, message", SEGMENT_VIOLATIONS)
def test_violations_with_segments(segmented, name, old, new, message):
    violate(segmented, name, old, new)
    with pytest.raises(ValueError) as error:
        validate(segmented)
    assert message in str(error.value) and ";" in str(error.value)


@pytest.mark.parametrize("number", [3, 12, 18, 42])
def test_violations_end_the_command(whole, number):
    name, old, new, message = VIOLATIONS[number]
    violate(whole, name, old, new)
    done = command("validate", whole)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("dnf datadir: ") and done.stderr.count("\n") == 1 and message in done.stderr


@pytest.mark.parametrize("name", ["utt2spk", "spk2utt", "text"])
def test_not_utf8(whole, name):
    path = whole / name
    path.write_bytes(path.read_bytes().replace(b"a01-2", b"a\xe401-2", 1))
    with pytest.raises(ValueError, match=rf"{name} line [12]: not UTF-8"):
        validate(whole)


def test_segments_without_wav(segmented):
    (segmented / "wav.scp").unlink()
    with pytest.raises(ValueError, match="segments: wav.scp is missing"):
        validate(segmented, need_wav=False)


@pytest.mark.parametrize("missing", ["utt2spk", "spk2utt"])
def test_missing_tables(whole, missing):
    (whole / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing}: no such file"):
        validate(whole)
    with pytest.raises(ValueError, match="no such data directory"):
        validate(whole / "nowhere")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("supervisions.jsonl.gz", lambda rs: rs[1:], "supervisions.jsonl.gz: its utterances differ from"),
        ("supervisions.jsonl.gz", lambda rs: [rs[0] | {"speaker": "x"}, *rs[1:]], "'a01-1' has speaker 'x', but 'a01'"),
        (
            "supervisions.jsonl.gz",
            lambda rs: [rs[0] | {"custom": {"class": "ce"}}, *rs[1:]],
            "has class 'ce', but 'en'",
        ),
        ("supervisions.jsonl.gz", lambda rs: [rs[0] | {"recording_id": "x"}, *rs[1:]], "is of recording 'x', not in"),
        ("recordings.jsonl.gz", lambda rs: rs[1:], "recordings.jsonl.gz: its recordings differ from"),
        ("recordings.jsonl.gz", lambda rs: [*rs, rs[0]], "recordings.jsonl.gz line 8: 'a01-1' appears twice"),
        (
            "recordings.jsonl.gz",
            lambda rs: [{"name": "x"}, *rs],
            "recordings.jsonl.gz line 1: not gzipped JSON with an id",
        ),
        (
            "recordings.jsonl.gz",
            lambda rs: [rs[0] | {"sources": [{"type": "command", "source": "cat x"}]}, *rs[1:]],
            "recordings.jsonl.gz line 1: the source of 'a01-1' is a command",
        ),
    ],
)
def test_manifests_that_contradict(whole, name, change, message):
    dump(whole / name, change(load(whole / name)))
    with pytest.raises(ValueError) as error:
        validate(whole)
    assert message in str(error.value)


def test_manifest_that_is_none(whole):
    (whole / "recordings.jsonl.gz").write_text("{}")
    with pytest.raises(ValueError, match="not gzipped JSON"):
        validate(whole)


def test_what_may_be_waived(whole):
    edit(whole, "wav.scp", "a01-1.wav\n", "a01-1.wav |\n")
    edit(whole, "wav.scp", "a01-2.wav", "a01-9.wav")
    with pytest.raises(ValueError, match="is a command"):
        validate(whole, wav_files=False)
    with pytest.raises(ValueError, match="is not there"):
        validate(whole, allow_pipes=True)
    validate(whole, allow_pipes=True, wav_files=False)
    assert command("validate", "--allow-pipes", "--no-wav-files", whole).returncode == 0


def test_audio_in_an_archive(whole):
    edit(whole, "wav.scp", "a01-1.wav\n", "a01-1.wav:1234\n")
    validate(whole)


def test_speaker_order(tmp_path):
    # Kaldi asks that utt2spk stays sorted when sorted by its second field; "a-b" comes between utterances of "a".
    write_table(tmp_path / "utt2spk", {"a-1": "a", "a-b-1": "a-b", "a-c": "a"})
    write_table(tmp_path / "spk2utt", {"a": "a-1 a-c", "a-b": "a-b-1"})
    assert not kaldi_accepts(tmp_path)
    with pytest.raises(ValueError, match="utt2spk line 2: 'a-b-1 a-b' stands where 'a-c a' would if sorted by speaker"):
        validate(tmp_path, need_wav=False)
    validate(tmp_path, need_wav=False, spk_sort=False)
    assert main(["validate", "--no-wav", "--no-spk-sort", str(tmp_path)]) == 0


def test_tabs_are_fine(whole):
    for name in ("utt2spk", "wav.scp", "text", "utt2class"):
        lines = (whole / name).read_text().splitlines()
        (whole / name).write_text("".join(line.replace(" ", "\t", 1) + "\n" for line in lines))
    assert validate(whole).classes == {"en": 4, "zh_cn": 3}
    assert kaldi_accepts(whole)


def test_agrees_with_kaldi_on_speaker_order(tmp_path):
    draw = random.Random(1)
    verdicts = []
    for _ in range(60):
        names = sorted({"".join(draw.choices("aB-_", k=draw.randint(1, 3))) for _ in range(4)})
        speakers = {name: name[: draw.randint(1, len(name))] for name in names}
        spk2utt = {}
        for name, speaker in speakers.items():
            spk2utt.setdefault(speaker, []).append(name)
        lines = [f"{name}{draw.choice([' ', ' ', chr(9)])}{speaker}\n" for name, speaker in speakers.items()]
        (tmp_path / "utt2spk").write_text("".join(lines))
        write_table(tmp_path / "spk2utt", {speaker: " ".join(names) for speaker, names in spk2utt.items()})
        write_table(tmp_path / "wav.scp", dict.fromkeys(names, "x.wav"))
        try:
            validate(tmp_path, wav_files=False)
            verdicts.append(True)
        except ValueError:
            verdicts.append(False)
        assert kaldi_accepts(tmp_path) == verdicts[-1], (tmp_path / "utt2spk").read_text()
    assert 10 < sum(verdicts) < 50


@pytest.mark.parametrize(
    "text, message",
    [
        ("en\nzh_cn\n", None),
        ("en\nje\nzh_cn\n", None),
        ("en\nje\n", "utt2class line 5: class 'zh_cn' of 'b02-1' is not in"),
        ("zh_cn\nen\n", "line 2: 'en' comes after 'zh_cn'"),
        ("en\nen\nzh_cn\n", "line 2: 'en' appears twice"),
        ("EN\nen\nzh_cn\n", "line 1: 'EN ' is not one class name"),
        ("en 0\nzh_cn 1\n", "line 1: 'en 0' is not one class name"),
    ],
)
def test_list_of_classes(whole, text, message):
    path = whole.parent / "classes.txt"
    path.write_text(text)
    if message is None:
        validate(whole, classes=path)
        return
    with pytest.raises(ValueError) as error:
        main(["validate", str(whole), "--classes", str(path)])
    assert message in str(error.value)


def test_tables_round_trip(tmp_path):
    path = tmp_path / "t"
    write_table(path, {"b": "2 x", "a": "", "ä": "3", "B": "1"})
    assert path.read_bytes() == "B 1\na\nb 2 x\nä 3\n".encode()
    assert read_table(path) == {"B": "1", "a": "", "b": "2 x", "ä": "3"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("table", [{"a b": "1"}, {"": "1"}, {"a": "1\n2"}, {"a\u3000": "1"}])
def test_tables_that_could_not_be_read_back(tmp_path, table):
    write_table(tmp_path / "t", {"old": "1"})
    with pytest.raises(ValueError, match="t: "):
        write_table(tmp_path / "t", table)
    assert read_table(tmp_path / "t") == {"old": "1"}


def test_order_is_that_of_bytes(tmp_path):
    names = ["a", "B", "é", "z", "\U00010000", "\uffee", "a-", "a_", "a0"]
    write_table(tmp_path / "t", dict.fromkeys(names, "x"))
    written = (tmp_path / "t").read_bytes().split(b"\n")[:-1]
    assert written == sorted(written)
    read_table(tmp_path / "t")


def test_fix_leaves_a_valid_set_alone(data):
    before = snapshot(data)
    fix(data)
    assert snapshot(data) == before


def test_fix(data):
    before = snapshot(data)
    utt2spk = (data / "utt2spk").read_text().splitlines()
    (data / "utt2spk").write_text("\n".join([*utt2spk[::-1], utt2spk[0], ""]) + "\r\nextra\tb02")
    edit(data, "feats.scp", "a01-2 exp/feats/raw.1.ark:49\n", "")
    edit(data, "cmvn.scp", "c03 exp/feats/cmvn.ark:129\n", "")
    (data / "spk2utt").unlink()
    counts = fix(data)
    assert (counts.utterances, counts.speakers) == (5, 3)
    assert kaldi_accepts(data)
    left = ["a01-1", "a01-3", "a011-1", "b02-1", "b02-2"]
    for name in ("utt2spk", "text", "utt2class", "vad.scp", "utt2dur"):
        assert list(read_table(data / name)) == left
    assert read_table(data / "spk2utt") == {"a01": "a01-1 a01-3", "a011": "a011-1", "b02": "b02-1 b02-2"}
    assert [record["id"] for record in load(data / "supervisions.jsonl.gz")] == left
    assert sorted(record["id"] for record in load(data / "recordings.jsonl.gz")) == sorted(read_table(data / "wav.scp"))
    assert "c03-rec" not in read_table(data / "wav.scp") and "c03-1" not in read_table(data / "wav.scp")
    backup = {path.name: path.read_bytes() for path in (data / ".backup").iterdir()}
    assert backup["text"] == before[Path("text")] and b"extra" in backup["utt2spk"]
    assert (data / "frame_shift").read_bytes() == before[Path("frame_shift")]
    after = snapshot(data)
    fix(data)
    assert snapshot(data) == after


def test_fix_writes_the_same_manifest_each_time(tmp_path):
    contents = []
    for name in ("x", "y"):
        data = make(tmp_path / name / "data")
        edit(data, "feats.scp", "a01-2 exp/feats/raw.1.ark:49\n", "")
        edit(data, "wav.scp", str(tmp_path), "")
        fix(data)
        contents.append((data / "supervisions.jsonl.gz").read_bytes())
    assert contents[0] == contents[1] and contents[0][4:8] == b"\0\0\0\0"


@pytest.fixture(params=(False, True), ids=("whole", "segments"))
def mixed(request, tmp_path):
    """Speakers 1 and 13, whose utterances 1_0 and 13_0 sort the other way round, with every kind of table."""
    utts = {f"{speaker}_{n}": speaker for speaker in ("1", "13") for n in (0, 1)}
    directory = tmp_path / "mixed"
    directory.mkdir()
    recordings = {utt: "rec" if request.param else utt for utt in utts}
    tables = {
        "utt2spk": utts,
        "utt2class": dict.fromkeys(utts, "en"),
        "text": {utt: f"words of {utt[-1]}" for utt in utts},
        "wav.scp": {recording: f"{recording}.wav" for recording in recordings.values()},
        "spk2gender": {"1": "f", "13": "m"},
        "utt2score": {"13_1": "2.5"},
    }
    if request.param:
        tables["segments"] = {utt: f"rec {n} {n + 1}" for n, utt in enumerate(utts)}
    for name, table in tables.items():
        write_table(directory / name, table)
    source = [{"type": "file", "channels": [0], "source": "x.wav"}]
    dump(directory / "recordings.jsonl.gz", [{"id": r, "sources": source} for r in sorted(set(recordings.values()))])
    dump(
        directory / "supervisions.jsonl.gz",
        [{"id": u, "recording_id": recordings[u], "speaker": s, "custom": {"class": "en"}} for u, s in utts.items()],
    )
    return directory


def test_what_sort_does_to_speakers_1_and_13_is_said_and_mended(mixed):
    write_table(mixed / "spk2utt", {"1": "1_0 1_1", "13": "13_0 13_1"})
    with pytest.raises(ValueError) as caught:
        validate(mixed, wav_files=False)
    assert "sort puts '13_0' before '1_0', for '3' comes before '_' in byte order, but speaker '1' before '13'" in str(
        caught.value
    )
    assert f"fix {mixed}" in str(caught.value)
    fix(mixed)
    assert validate(mixed, wav_files=False).speakers == 2
    assert read_table(mixed / "utt2spk") == {"1-0": "1", "1-1": "1", "13-0": "13", "13-1": "13"}
    assert read_table(mixed / "text")["13-1"] == "words of 1" and read_table(mixed / "utt2score") == {"13-1": "2.5"}
    assert read_table(mixed / "wav.scp").get("1-0", "rec.wav") in ("1_0.wav", "rec.wav")
    assert (mixed / ".backup" / "utt2spk").is_file()


def test_ids_that_no_hyphen_puts_in_order_stay_refused(tmp_path):
    for name, table in {
        "utt2spk": {"fr-1": "fr", "fr-ca-1": "fr-ca", "fr-x": "fr"},
        "wav.scp": dict.fromkeys(("fr-1", "fr-ca-1", "fr-x"), "x.wav"),
    }.items():
        write_table(tmp_path / name, table)
    with pytest.raises(ValueError, match="sort puts 'fr-ca-1' before 'fr-x'"):
        fix(tmp_path)


def test_fix_by_manifest_and_by_times(segmented):
    dump(segmented / "supervisions.jsonl.gz", load(segmented / "supervisions.jsonl.gz")[1:])
    edit(segmented, "segments", "a01-2 a01-rec 1.25 2.5", "a01-2 a01-rec 2.5 2.5")
    assert fix(segmented).utterances == 5


def test_fix_with_nothing_left(whole):
    (whole / "text").write_text("other-1 x\n")
    before = snapshot(whole)
    done = command("fix", whole)
    assert done.returncode == 1 and "no utterance remains without those that text does not have" in done.stderr
    assert snapshot(whole) == before


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("text", "a01-1 w", "a01-1 other\na01-1 w", "text line 2: 'a01-1' appears before with another value"),
        ("utt2class", "a01-2 en", "a01-2 ce", "speaker 'a01' has class"),
    ],
)
def test_fix_does_not_guess(whole, name, old, new, message):
    edit(whole, name, old, new)
    with pytest.raises(ValueError, match=message):
        fix(whole)


@pytest.mark.parametrize("verb", ["", "validate", "fix"])
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as error:
        main([word for word in (verb, "--help") if word])
    assert error.value.code == 0 and "usage: python3 -m dnf.data.datadir" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["validate"], ["fix"], ["nonsense"]])
def test_bad_usage(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_light():
    script = "import dnf.data.datadir, sys; print({'torch', 'lhotse', 'numpy', 'kaldiio', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "set()\n"


def test_many_classes_are_counted_together():
    few, many = ({f"c{k}": k + 1 for k in range(count)} for count in (2, 500))
    assert str(Counts(3, 2, None, None, None, few)).endswith("2 speakers, 1 of class c0, 2 of class c1")
    assert str(Counts(9, 2, None, None, None, many)).endswith("2 speakers, 1 to 500 of each of 500 classes")

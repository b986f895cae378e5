"""A user's own Kaldi data directories, to checked sets; pipes are refused."""

import numpy as np
import pytest
from lhotse import RecordingSet, SupervisionSet
from own_speakers import RATE, SPEAKERS

from dnf.data import splits
from dnf.data.kaldi_files import read_table
from dnf.data.validate import validate
from dnf.features import collect, extract


def test_kaldi_directories_become_valid_sets(own, kaldi, small_config):
    kaldi("train")
    kaldi(
        "test",
        ("eve", "flo"),
        utt2score={"eve-1": "2.5"},
        utt2score_fluency={"eve-1": "3", "flo-2": "4"},
        utt2scores_fluency={"eve-1": "2 4"},
        text={f"{s}-{n}": "hi" for s in ("eve", "flo") for n in (1, 2)},
    )
    own.prepare(small_config())
    assert len(own.utts("train")) == len(own.utts("dev")) == 4
    assert read_table(own.out / "test" / "utt2score") == {"eve-1": "2.5"}
    assert read_table(own.out / "test" / "utt2score_fluency") == {"eve-1": "3", "flo-2": "4"}
    assert read_table(own.out / "test" / "utt2scores_fluency") == {"eve-1": "2 4"}
    assert read_table(own.out / "test" / "text")["flo-2"] == "hi"
    assert read_table(own.out / "test" / "wav.scp")["flo-2"] == str(own.folder / "wav" / "flo-2.wav")
    assert splits.main([str(own.out)]) == 0


def test_the_files_the_help_text_names_are_enough(own, kaldi, small_config):
    """wav.scp, utt2spk and utt2class; spk2utt only says the same again."""
    kaldi("train", spk2utt=None)
    own.prepare(small_config())
    assert len(own.utts("train")) == 4


def test_segments_cut_recordings(own, kaldi, small_config):
    own.wav("long.wav", seconds=2.0)
    utts = {f"{speaker}-{n}": speaker for speaker in SPEAKERS for n in (1, 2)}
    segments = {utt: f"long {0.2 * at} {0.2 * at + 0.35}" for at, utt in enumerate(utts)}
    kaldi("train", wav__scp={"long": "wav/long.wav"}, segments=segments)
    own.prepare(small_config())
    made = [SupervisionSet.from_file(own.out / name / "supervisions.jsonl.gz") for name in ("train", "dev")]
    starts = {s.id: (s.recording_id, s.start, s.duration) for of_set in made for s in of_set}
    for at, utt in enumerate(utts):
        assert starts[utt][0] == "long" and starts[utt][1:] == pytest.approx((0.2 * at, 0.35))
    validate(own.out / "train")


@pytest.mark.parametrize("times", ("0.1 0.9", "0.6 0.7"))
def test_a_segment_beyond_its_recording_is_refused(own, kaldi, small_config, times):
    utts = [f"{speaker}-{n}" for speaker in SPEAKERS for n in (1, 2)]
    segments = {utt: f"{utt} {times if utt == 'cid-2' else '0.1 0.4'}" for utt in utts}
    kaldi("train", segments=segments)
    with pytest.raises(
        ValueError,
        match=rf"utterance cid-2: its segment {times.replace(' ', ' to ')} s is outside .*cid-2.wav of 0.50 s",
    ):
        own.prepare(small_config())


def test_a_segment_may_end_a_rounding_error_after_its_recording(own, kaldi, small_config):
    utts = [f"{speaker}-{n}" for speaker in SPEAKERS for n in (1, 2)]
    kaldi("train", segments={utt: f"{utt} 0.1 0.505" for utt in utts})
    own.prepare(small_config())
    for supervision in SupervisionSet.from_file(own.out / "train" / "supervisions.jsonl.gz"):
        assert supervision.end == pytest.approx(0.5)
    validate(own.out / "train")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"utt2spk": {"ann-1": "ann"}}, "train"),
        ({"utt2class": {"ann-1": "en"}}, "utt2class: its utterances differ from"),
        ({"utt2class": {f"{s}-{n}": "En" for s in SPEAKERS for n in (1, 2)}}, "utt2class line 1: 'ann-1' has 'En'"),
        ({"utt2score": {"ann-1": "good"}}, "utt2score line 1: 'ann-1' has 'good'"),
        ({"utt2score_fluency": {"ann-1": "good"}}, "utt2score_fluency line 1: 'ann-1' has 'good', not a number"),
        ({"utt2score_fluency": {"zoe-1": "3"}}, "utt2score_fluency: its utterances differ from"),
        ({"segments": {"ann-1": "ann-1 0.4 late"}}, "segments line 1"),
    ],
)
def test_a_directory_that_contradicts_itself_is_refused(own, kaldi, small_config, tables, message):
    kaldi("train", **tables)
    with pytest.raises(ValueError, match=message) as caught:
        own.prepare(small_config())
    assert "\n" not in str(caught.value)


def test_a_directory_without_classes_says_what_to_do(own, kaldi, small_config):
    kaldi("train", utt2class=None)
    with pytest.raises(ValueError, match=r"train/utt2class: .*; .+"):
        own.prepare(small_config())


@pytest.mark.parametrize("name", ("Train", "test"))
def test_without_a_train_set_those_that_are_there_are_named(own, kaldi, small_config, name):
    kaldi(name)
    with pytest.raises(ValueError, match=f"no set 'train'; there are only '{name}': rename one"):
        own.prepare(small_config())


def test_no_set_at_all_says_what_is_expected(own, small_config):
    own.folder.mkdir()
    with pytest.raises(ValueError, match="no set 'train': expected data directories train/ .* or recordings.tsv"):
        own.prepare(small_config())


def test_no_folder_is_named(own, small_config):
    with pytest.raises(ValueError, match="--data .*own: no such folder"):
        own.prepare(small_config())


# ---- pipes ---------------------------------------------------------------------------------------


@pytest.fixture
def piped(own, kaldi):
    """A train set whose wav.scp holds commands; each leaves a trace when it is run."""
    wavs = {f"{speaker}-{n}": own.wav(f"{speaker}-{n}.wav") for speaker in SPEAKERS for n in (1, 2)}
    kaldi("train", wav__scp={utt: f"touch {own.folder}/ran; cat {own.folder / path} |" for utt, path in wavs.items()})


def test_pipes_are_refused_and_not_run(own, piped, small_config):
    with pytest.raises(ValueError, match=r"wav.scp line 1: 'ann-1' is a command"):
        own.prepare(small_config())
    with pytest.raises(ValueError, match="pipe"):
        own.prepare(small_config(), "--allow-pipes", "false")
    assert not (own.folder / "ran").exists()


def test_pipes_are_read_when_allowed(own, piped, small_config):
    own.prepare(small_config(), "--allow-pipes", "true")
    assert (own.folder / "ran").exists()
    recordings = RecordingSet.from_file(own.out / "train" / "recordings.jsonl.gz")
    assert {(r.num_samples, r.sampling_rate) for r in recordings} == {(8000, RATE)}
    validate(own.out / "train", allow_pipes=True)
    with pytest.raises(ValueError, match="is a command"):
        validate(own.out / "train")
    assert splits.main([str(own.out), "--allow-pipes", "true"]) == 0


@pytest.mark.filterwarnings("ignore:.*__array_wrap__")
def test_features_of_pipes_equal_those_of_files(own, piped, kaldi, small_config, tmp_path):
    import kaldiio

    config, got = small_config("features.max_rejected=0"), []
    for options in (["--allow-pipes", "true"], []):
        own.prepare(config, *options)
        config.save(tmp_path / "feats" / "config.yaml")
        extract.main(["compute", str(own.out), str(tmp_path / "feats"), *options])
        collect.main([str(own.out), str(tmp_path / "feats")])
        got.append({utt: kaldiio.load_mat(at) for utt, at in read_table(own.out / "train" / "feats.scp").items()})
        kaldi("train")  # now with files
    assert got[0].keys() == got[1].keys() and len(got[0]) == 4
    assert all(np.array_equal(got[0][utt], got[1][utt]) for utt in got[0])


def test_a_pipe_in_the_table_is_no_way_round(own, rows, small_config):
    """recordings.tsv names files; a command in it must not be run unless pipes are allowed."""
    rows[0] |= {"recording": f"touch {own.folder}/ran; cat {own.folder}/wav/ann_1.wav |", "utt": "u0"}
    for n, row in enumerate(rows):
        row["utt"] = f"u{n}"
    own.table(rows)
    with pytest.raises(ValueError, match="line 2: recording is a command"):
        own.prepare(small_config())
    assert not (own.folder / "ran").exists()

"""Stage 1 as a whole, and what it does with recordings and files that cannot be used."""

import logging
import re
import struct
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from dnf.data.audio import Rejected, load_samples
from dnf.data.fix import fix
from dnf.data.kaldi_files import read_table, write_table
from dnf.data.validate import validate
from dnf.data.write_set import write_set
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.features import collect, extract
from dnf.features.extractor import extract_whole
from dnf.features.vad import vote

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{of}") for of in ("snip_edges", "__array_wrap__")]  # Lhotse's
RATE = 16000
TABLES = ("feats.scp", "vad.scp", "cmvn.scp")


# ---- stage 1 as a whole --------------------------------------------------------------------------


def run_stage(data: Path, feats: Path, config: Config, jobs: int = 1) -> None:
    config.save(feats / "config.yaml")
    for job in range(1, jobs + 1):
        assert extract.main(["compute", str(data), str(feats), "--job", str(job), "--jobs", str(jobs)]) == 0
    assert collect.main([str(data), str(feats), "--jobs", str(jobs)]) == 0


def read_scp(path: Path) -> dict[str, np.ndarray]:
    return {key: kaldiio.load_mat(value) for key, value in read_table(path).items()}


def read_float_ark(entry_: str) -> np.ndarray:
    """A binary float matrix or vector at ``ark:offset``, read from the bytes as Kaldi's documentation gives them."""
    path, offset = entry_.rsplit(":", 1)
    data = Path(path).read_bytes()[int(offset) :]
    assert data[:2] == b"\0B"
    kind, rest = data[2:5], data[5:]
    assert kind in (b"FM ", b"FV ")
    sizes = []
    for _ in range(2 if kind == b"FM " else 1):
        assert rest[0] == 4
        sizes.append(struct.unpack("<i", rest[1:5])[0])
        rest = rest[5:]
    return np.frombuffer(rest, "<f4", int(np.prod(sizes))).reshape(sizes)


def contents(data: Path) -> dict:
    """All that stage 1 says about every set, without where the arks are."""
    said = {}
    for directory in sorted(path.parent for path in data.glob("*/utt2spk")):
        for name in TABLES:
            said |= {(directory.name, name, key): array.tolist() for key, array in read_scp(directory / name).items()}
        said[directory.name, "frames"] = read_table(directory / "utt2num_frames")
        said[directory.name, "rejected"] = (directory / "rejected.txt").is_file()
    return said


@pytest.fixture(scope="module")
def computed(write_corpus, small_config, tmp_path_factory):
    """Two sets with features, computed by one task."""
    root = tmp_path_factory.mktemp("computed")
    write_corpus(root / "data" / "dev", speakers=("carl_en",), utterances=1)
    write_corpus(root / "data" / "train", utterances=3)
    run_stage(root / "data", root / "feats", small_config())
    return root


def test_features_of_a_set_are_those_of_its_recordings(computed, small_config):
    config, directory = small_config(), computed / "data" / "train"
    feats, vad = read_scp(directory / "feats.scp"), read_scp(directory / "vad.scp")
    assert list(feats) == list(vad) == list(read_table(directory / "utt2spk")) and len(feats) == 6
    for utt, path in read_table(directory / "wav.scp").items():
        frames, energy = extract_whole(soundfile.read(path, dtype="float32")[0], config.features)
        np.testing.assert_array_equal(feats[utt], frames)
        np.testing.assert_array_equal(vad[utt], vote(energy, config.vad))
        assert 0 < vad[utt].sum() < len(frames)
        assert read_table(directory / "utt2num_frames")[utt] == str(len(frames))


def test_cmvn_is_that_of_the_speech_frames_of_each_speaker(computed):
    directory = computed / "data" / "train"
    feats, vad, cmvn = (read_scp(directory / name) for name in TABLES)
    assert list(cmvn) == ["anna_en", "bert_zh"]
    for speaker, stats in cmvn.items():
        x = np.concatenate([feats[u][vad[u] > 0] for u in feats if u.startswith(speaker)]).astype(np.float64)
        np.testing.assert_allclose(stats, [[*x.sum(0), len(x)], [*(x**2).sum(0), 0]], rtol=1e-6)


def test_arks_have_kaldis_bytes(computed):
    for name in ("feats.scp", "vad.scp"):
        for key, value in read_table(computed / "data" / "train" / name).items():
            np.testing.assert_array_equal(read_float_ark(value), kaldiio.load_mat(value), err_msg=key)


def test_the_data_directory_stays_valid(computed):
    counts = validate(computed / "data" / "train", need_feats=True)
    assert counts.utterances == 6 and counts.frames == sum(
        map(int, read_table(computed / "data/train/utt2num_frames").values())
    )


def test_nothing_temporary_is_left(computed):
    assert sorted(path.name for path in (computed / "feats").iterdir()) == ["config.yaml", "dev", "fbank.conf", "train"]
    assert not (computed / "data" / "train" / "rejected.txt").exists()


@pytest.mark.parametrize("jobs", (3, 9))
def test_any_number_of_tasks_gives_the_same_tables(computed, small_config, tmp_path, jobs):
    before = contents(computed / "data")
    run_stage(computed / "data", tmp_path / "feats", small_config(), jobs)
    assert contents(computed / "data") == before


def test_tasks_share_the_utterances(computed):
    directory = computed / "data" / "train"
    for jobs in (1, 2, 4, 9):
        taken = [u.id for job in range(1, jobs + 1) for _, u in extract.task_utterances(directory, job, jobs)[1]]
        assert taken == list(read_table(directory / "utt2spk"))


@pytest.mark.parametrize("work, jobs, again", [("one", 2, False), ("other", 2, True), ("one", 3, True), ("", 2, True)])
def test_a_finished_task_is_not_done_again_as_part_of_the_same_work(
    computed, small_config, tmp_path, work, jobs, again
):
    data = computed / "data"
    small_config().save(tmp_path / "config.yaml")
    compute = ["compute", str(data), str(tmp_path), "--job", "1"]
    assert extract.main([*compute, "--jobs", "2", "--work", "one"]) == 0
    arks = sorted(tmp_path.glob("new/*/feats.1.ark"))
    assert arks
    for ark in arks:
        ark.write_bytes(b"")
    assert extract.main([*compute, "--jobs", str(jobs), *(["--work", work] if work else [])]) == 0
    assert any(ark.stat().st_size > 0 for ark in arks) == again


def test_tasks_that_failed_a_check_are_done_again(computed, small_config, tmp_path):
    data = computed / "data"
    small_config().save(tmp_path / "config.yaml")
    assert extract.main(["compute", str(data), str(tmp_path), "--job", "1", "--jobs", "2", "--work", "one"]) == 0
    assert (tmp_path / "new/done.1").is_file()
    with pytest.raises(ValueError, match="task 2 of 2 has no output"):
        collect.main([str(data), str(tmp_path), "--jobs", "2"])
    assert not (tmp_path / "new/done.1").exists()


def test_a_rerun_replaces_the_arks(computed, small_config, tmp_path):
    run_stage(computed / "data", tmp_path / "feats", small_config(), jobs=2)
    run_stage(computed / "data", tmp_path / "feats", small_config("features.num_filters=5"), jobs=1)
    arks = {path.name for path in (tmp_path / "feats" / "train").glob("*.ark")}
    assert arks == {"feats.1.ark", "vad.1.ark", "stats.1.ark", "cmvn.ark"}
    assert {x.shape[1] for x in read_scp(computed / "data/train/feats.scp").values()} == {5}
    run_stage(computed / "data", computed / "feats", small_config())


@pytest.mark.parametrize("name", ("my feats", "a:b", "t=1"))
def test_paths_with_odd_letters_are_read_back(write_corpus, small_config, tmp_path, name):
    write_corpus(tmp_path / "my data" / "train")
    run_stage(tmp_path / "my data", tmp_path / name, small_config(), jobs=2)
    assert len(read_scp(tmp_path / "my data" / "train" / "feats.scp")) == 4


def test_compressed_arks_are_near(write_corpus, small_config, tmp_path):
    write_corpus(tmp_path / "data" / "train")
    run_stage(tmp_path / "data", tmp_path / "plain", small_config())
    exact = read_scp(tmp_path / "data" / "train" / "feats.scp")
    run_stage(tmp_path / "data", tmp_path / "small", small_config("features.compress=true"))
    for utt, near in read_scp(tmp_path / "data" / "train" / "feats.scp").items():
        np.testing.assert_allclose(near, exact[utt], atol=0.2)
        assert not np.array_equal(near, exact[utt])
    assert (tmp_path / "small/train/feats.1.ark").stat().st_size < 0.6 * (
        tmp_path / "plain/train/feats.1.ark"
    ).stat().st_size


def test_a_task_that_left_nothing_is_named(computed, small_config, tmp_path):
    small_config().save(tmp_path / "feats" / "config.yaml")
    extract.main(["compute", str(computed / "data"), str(tmp_path / "feats"), "--job", "1", "--jobs", "2"])
    with pytest.raises(ValueError, match=r"task 2 of 2 has no output; see its log, and run stage features again"):
        collect.main([str(computed / "data"), str(tmp_path / "feats"), "--jobs", "2"])


def test_an_utterance_without_features_is_named(computed, small_config, tmp_path):
    small_config().save(tmp_path / "feats" / "config.yaml")
    for job in (1, 2):
        extract.main(["compute", str(computed / "data"), str(tmp_path / "feats"), "--job", str(job), "--jobs", "3"])
    with pytest.raises(ValueError, match=r"dev: no features for utterance carl_en-0"):
        collect.main([str(computed / "data"), str(tmp_path / "feats"), "--jobs", "2"])


def test_no_data_says_which_stage_makes_it(small_config, tmp_path):
    with pytest.raises(ValueError, match="has no data directories; run stage data"):
        run_stage(tmp_path, tmp_path / "feats", small_config())


def test_dither_follows_the_seed_of_the_task(write_corpus, small_config, tmp_path):
    write_corpus(tmp_path / "data" / "train")
    got = {}
    for name, words in {"one": ["seed=1"], "again": ["seed=1"], "two": ["seed=2"]}.items():
        run_stage(tmp_path / "data", tmp_path / name, small_config("features.dither=1.0", *words))
        got[name] = read_scp(tmp_path / "data" / "train" / "feats.scp")
    utt = "anna_en-0"
    assert np.array_equal(got["one"][utt], got["again"][utt]) and not np.array_equal(got["one"][utt], got["two"][utt])


# ---- recordings that cannot be used --------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def silence(path: Path, **_) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)


# kind: what the file is, what happens to it once its manifest is made, what the reason says
BAD = {
    "cut.wav": ({}, cut, "truncated|cannot be read"),
    "cut.flac": ({}, cut, "truncated|cannot be read"),
    "cut_in_header.wav": ({}, lambda path: path.write_bytes(path.read_bytes()[:30]), "truncated|cannot be read"),
    "empty.wav": ({}, empty, "cannot be read|truncated"),
    "text.wav": ({}, lambda path: path.write_text("no sound\n"), "cannot be read"),
    "missing.wav": ({}, Path.unlink, "cannot be read|no such file"),
    "silent.wav": ({"gain": 0.0}, None, "digital silence"),
    "nan.wav": ({"nan": True}, None, "NaN or infinite samples"),
    "short.wav": ({"seconds": 0.05}, None, r"0.050 s is shorter than .*features.min_duration"),
    "slow.wav": ({"rate": 8000}, None, r"8000 Hz, not features.sampling_rate 16000"),
    "stereo.wav": ({"channels": 2}, None, "2 channels; convert it to mono, or set features.channel"),
    "faint.wav": ({"gain": 1e-4}, None, "the energy VAD finds no speech"),
}


@pytest.fixture
def write_file(speech_like):
    def write(path: Path, seconds=0.8, rate=RATE, channels=1, gain=1.0, nan=False, seed=5) -> None:
        samples = gain * np.stack([speech_like(seconds, seed + c, rate) for c in range(channels)], axis=1)
        if nan:
            samples[100] = np.nan
        soundfile.write(path, samples, rate, subtype="PCM_16" if path.suffix == ".flac" else "FLOAT")

    return write


@pytest.fixture
def write_with_bad(write_file, tmp_path):
    """A set of three good utterances and one of each given kind of bad one."""

    def write(*kinds: str) -> Path:
        directory = tmp_path / "data" / "train"
        (tmp_path / "wav").mkdir()
        recordings, damage = [], []
        for n, kind in enumerate(("good.wav", "good.wav", "good.flac", *kinds)):
            properties, harm, _ = BAD.get(kind, ({}, None, ""))
            path = tmp_path / "wav" / f"{n}_{kind}"
            write_file(path, **properties)
            recordings.append(Recording.from_file(path, recording_id=f"a-{n}"))
            damage += [(harm, path)] if harm else []
        supervisions = [
            SupervisionSegment(r.id, r.id, start=0, duration=r.duration, speaker="a", custom={"class": "en"})
            for r in recordings
        ]
        write_set(RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions), directory)
        for harm, path in damage:
            harm(path)
        return directory

    return write


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_recording_is_listed_with_its_reason(write_with_bad, small_config, tmp_path, caplog, kind):
    directory = write_with_bad(kind)
    with caplog.at_level(logging.INFO):
        run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=0.25"))
    (line,) = (directory / "rejected.txt").read_text().splitlines()
    assert re.fullmatch(rf"a-3 {tmp_path}/wav/3_{kind}: .*({BAD[kind][2]}).*", line)
    assert re.search("[;:] (restore|leave|convert|correct|make|write)", line)  # what to do
    assert line[4:] in caplog.text and "3 utterances" in caplog.text and "1 rejected" in caplog.text
    assert [*read_table(directory / "feats.scp")] == [*read_table(directory / "vad.scp")] == ["a-0", "a-1", "a-2"]
    assert list(read_table(directory / "utt2num_frames")) == ["a-0", "a-1", "a-2"]


def test_all_kinds_at_once_have_a_line_each(write_with_bad, small_config, tmp_path):
    directory = write_with_bad(*BAD)
    run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=0.9"), jobs=2)
    rejected = read_table(directory / "rejected.txt")
    assert list(rejected) == sorted(f"a-{n}" for n in range(3, 3 + len(BAD)))
    assert len(read_table(directory / "feats.scp")) == 3


def test_too_many_bad_recordings_fail_and_leave_the_tables_alone(write_corpus, small_config, tmp_path):
    data, feats = tmp_path / "data", tmp_path / "feats"
    write_corpus(data / "dev", speakers=("carl_en",))
    wavs = write_corpus(data / "train")
    run_stage(data, feats, small_config())
    before = contents(data)
    bytes_before = {path: path.read_bytes() for path in data.glob("*/*") if path.is_file()}
    empty(wavs / "bert_zh-1.wav")
    small_config("features.max_rejected=0.24").save(feats / "config.yaml")
    extract.main(["compute", str(data), str(feats)])
    with pytest.raises(SystemExit) as caught:
        entry.run(lambda: collect.main([str(data), str(feats)]))
    assert isinstance(caught.value.code, str) and "\n" not in caught.value.code  # one line on stderr, status 1
    assert re.search(
        rf"train: 1 of 4 utterances rejected.*--max-rejected 0.24; utterance bert_zh-1: {wavs}/bert_zh-1",
        caught.value.code,
    )
    assert {path: path.read_bytes() for path in bytes_before} == bytes_before and not list(data.glob("*/rejected.txt"))
    assert contents(data) == before


def test_a_mended_recording_leaves_the_list(write_corpus, small_config, tmp_path):
    wavs = write_corpus(tmp_path / "data" / "train")
    whole = (wavs / "bert_zh-1.wav").read_bytes()
    empty(wavs / "bert_zh-1.wav")
    run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=0.5"))
    assert (tmp_path / "data" / "train" / "rejected.txt").exists()
    (wavs / "bert_zh-1.wav").write_bytes(whole)
    run_stage(tmp_path / "data", tmp_path / "feats", small_config())
    assert not (tmp_path / "data" / "train" / "rejected.txt").exists()
    assert "bert_zh-1" in read_table(tmp_path / "data" / "train" / "feats.scp")


def test_the_same_settings_give_the_same_features_whatever_ran_before(write_corpus, small_config, tmp_path):
    """What one setting rejects another may take: the sets that stage 0 made stay whole."""
    write_corpus(tmp_path / "data" / "train")  # utterances of 0.8 and 0.9 s
    wanted, strict = (
        small_config("features.max_rejected=0.5"),
        small_config("features.max_rejected=0.5", "features.min_duration=0.85"),
    )
    run_stage(tmp_path / "data", tmp_path / "feats", wanted)
    before = contents(tmp_path / "data")
    run_stage(tmp_path / "data", tmp_path / "feats", strict)
    assert list(read_table(tmp_path / "data/train/feats.scp")) == ["anna_en-1", "bert_zh-1"]
    run_stage(tmp_path / "data", tmp_path / "feats", wanted)
    assert contents(tmp_path / "data") == before


def test_a_directory_with_rejected_recordings_can_be_fixed(write_with_bad, small_config, tmp_path):
    directory = write_with_bad("silent.wav")
    run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=0.25"))
    fix(directory)
    validate(directory, need_feats=True)


@pytest.mark.parametrize("kinds", ((), ("silent.wav",)), ids=("all good", "one rejected"))
def test_a_stage_killed_anywhere_ends_the_same_when_run_again(
    write_with_bad, small_config, tmp_path, until_not_killed, kinds
):
    directory = write_with_bad(*kinds)
    data, feats, config = tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=0.25")

    def everything() -> tuple:
        texts = {
            path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.suffix != ".gz"
        }
        manifests = [
            [item.to_dict() for item in of.from_file(directory / name)]
            for of, name in ((RecordingSet, "recordings.jsonl.gz"), (SupervisionSet, "supervisions.jsonl.gz"))
        ]
        folders = sorted(path.name for path in [*directory.iterdir(), *feats.iterdir()] if path.is_dir())
        return contents(data), texts, manifests, folders

    run_stage(data, feats, config)
    wanted = everything()

    def check(n: int) -> None:
        run_stage(data, feats, config)
        assert everything() == wanted, n

    assert until_not_killed(lambda: run_stage(data, feats, config), check) > 10


def test_a_class_corrected_after_recordings_were_rejected_stays_corrected(write_with_bad, small_config, tmp_path):
    """Tables of data/ may be mended by hand; stage 1 then runs again and must not silently bring the old ones back."""
    directory, config = write_with_bad("silent.wav"), small_config("features.max_rejected=0.25")
    run_stage(tmp_path / "data", tmp_path / "feats", config)
    table = dict.fromkeys(read_table(directory / "utt2class"), "zh")
    write_table(directory / "utt2class", table)
    try:
        run_stage(tmp_path / "data", tmp_path / "feats", config)
    except ValueError as error:
        assert "by hand" in str(error) and str(directory) in str(error)
    assert {utt: name for utt, name in read_table(directory / "utt2class").items() if utt in table} == table


def test_tables_and_manifests_that_differ_are_named(write_corpus, small_config, tmp_path):
    """An utterance taken out of utt2spk by hand, or by a run that was killed, but not out of the manifests."""
    write_corpus(tmp_path / "data" / "train")
    path = tmp_path / "data" / "train" / "utt2spk"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="anna_en-0"):
        run_stage(tmp_path / "data", tmp_path / "feats", small_config())


def test_recordings_that_stage_0_rejected_stay_listed(write_corpus, small_config, tmp_path):
    write_corpus(tmp_path / "data" / "train")
    (tmp_path / "data/train/rejected.txt").write_text("zoe_en-1 wav/zoe.wav: no such file; correct the path\n")
    for _ in range(2):
        run_stage(tmp_path / "data", tmp_path / "feats", small_config())
        assert read_table(tmp_path / "data/train/rejected.txt") == {
            "zoe_en-1": "wav/zoe.wav: no such file; correct the path"
        }


def test_all_recordings_bad_is_an_error_at_any_limit(write_corpus, small_config, tmp_path):
    wavs = write_corpus(tmp_path / "data" / "train")
    for path in wavs.iterdir():
        empty(path)
    with pytest.raises(ValueError, match="train: .*rejected"):
        run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.max_rejected=1.0"))


def whole_utterance(recording: Recording, start: float = 0.0, duration: float | None = None) -> SupervisionSegment:
    return SupervisionSegment("u", recording.id, start=start, duration=duration or recording.duration, speaker="u")


def test_a_streamed_wav_without_its_length_is_read(write_file, small_config, tmp_path):
    """What sox or ffmpeg write into a pipe has the largest length in its header."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile(np.float32([0.1, -0.1]), 8000), RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    recording = Recording.from_file(path)
    assert len(load_samples(recording, whole_utterance(recording), small_config().features)) == 16000


def test_a_segment_is_cut_from_its_recording(write_file, small_config, tmp_path):
    write_file(tmp_path / "long.wav", seconds=2.0)
    recording = Recording.from_file(tmp_path / "long.wav")
    samples = load_samples(recording, whole_utterance(recording, 0.5, 0.75), small_config().features)
    whole = soundfile.read(tmp_path / "long.wav", dtype="float32")[0]
    np.testing.assert_array_equal(samples, whole[8000:20000])


def test_another_rate_is_resampled_when_asked(write_file, small_config, tmp_path):
    write_file(tmp_path / "slow.wav", rate=8000)
    recording = Recording.from_file(tmp_path / "slow.wav")
    samples = load_samples(recording, whole_utterance(recording), small_config("features.resample=true").features)
    assert len(samples) == 12800 and np.isfinite(samples).all()
    loud = soundfile.read(tmp_path / "slow.wav")[0].std()
    assert 0.8 < samples.std() / loud < 1.2


def test_a_channel_is_taken_when_named(write_file, small_config, tmp_path):
    write_file(tmp_path / "stereo.wav", channels=2)
    both = soundfile.read(tmp_path / "stereo.wav", dtype="float32")[0]
    recording = Recording.from_file(tmp_path / "stereo.wav")
    for channel in (0, 1):
        settings = small_config(f"features.channel={channel}").features
        np.testing.assert_array_equal(load_samples(recording, whole_utterance(recording), settings), both[:, channel])
    with pytest.raises(Rejected, match="has no channel 2; its channels are"):
        load_samples(recording, whole_utterance(recording), small_config("features.channel=2").features)
    write_file(tmp_path / "mono.wav")
    mono = Recording.from_file(tmp_path / "mono.wav")
    assert len(load_samples(mono, whole_utterance(mono), small_config("features.channel=1").features)) == 12800


def command_recording(command: str, like: Recording) -> Recording:
    source = AudioSource("command", [0], command)
    return Recording(like.id, [source], like.sampling_rate, like.num_samples, like.duration)


def test_a_command_that_stage_0_let_in_is_read(write_file, small_config, tmp_path):
    write_file(tmp_path / "a.wav")
    plain = Recording.from_file(tmp_path / "a.wav")
    settings = small_config().features
    samples = load_samples(command_recording(f"cat {tmp_path}/a.wav", plain), whole_utterance(plain), settings)
    np.testing.assert_array_equal(samples, load_samples(plain, whole_utterance(plain), settings))


@pytest.mark.parametrize("command", ("cat {}/missing.wav", "head -c 3000 {}/a.wav", "true", "no_such_program {}"))
def test_a_command_that_fails_is_a_reason(write_file, small_config, tmp_path, command):
    write_file(tmp_path / "a.wav")
    plain = Recording.from_file(tmp_path / "a.wav")
    with pytest.raises(Rejected, match=r"cannot be read") as caught:
        load_samples(
            command_recording(command.format(tmp_path), plain), whole_utterance(plain), small_config().features
        )
    assert "\n" not in str(caught.value)


def test_an_utterance_shorter_than_a_frame_is_a_reason_even_when_the_limit_is_lower(write_file, small_config, tmp_path):
    write_file(tmp_path / "a.wav", seconds=0.015)
    recording = Recording.from_file(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="a.wav|features.min_duration"):
        config = small_config("features.min_duration=0.001", "features.snip_edges=true")
        extract.extract(recording, whole_utterance(recording), config)


# ---- damaged files of stages 0 and 1 -------------------------------------------------------------


@pytest.mark.parametrize("name", ("recordings.jsonl.gz", "supervisions.jsonl.gz"))
@pytest.mark.parametrize("share", (0.0, 0.3, 0.7))
def test_a_manifest_that_was_cut_off_is_named(write_corpus, small_config, tmp_path, name, share):
    write_corpus(tmp_path / "data" / "train", utterances=5)
    path = tmp_path / "data" / "train" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{name}: is damaged|no features for utterance|stands beside") as caught:
        run_stage(tmp_path / "data", tmp_path / "feats", small_config())
    assert str(tmp_path) in str(caught.value) and "run stage data again" in str(caught.value) or not share


@pytest.mark.parametrize("name", ("feats.1.scp", "num_frames.1", "stats.1.ark"))
def test_what_a_task_left_and_was_cut_off_is_named(write_corpus, small_config, tmp_path, name):
    write_corpus(tmp_path / "data" / "train")
    small_config().save(tmp_path / "feats" / "config.yaml")
    extract.main(["compute", str(tmp_path / "data"), str(tmp_path / "feats")])
    path = tmp_path / "feats" / "new" / "train" / name
    path.write_bytes(path.read_bytes()[:100] if name.endswith("ark") else b"anna_en-0\n")
    with pytest.raises(ValueError, match=rf"{name}: .*; run stage features again") as caught:
        collect.main([str(tmp_path / "data"), str(tmp_path / "feats")])
    assert "\n" not in str(caught.value)


def test_recordings_below_the_rate_are_said(write_corpus, small_config, tmp_path, caplog):
    write_corpus(tmp_path / "data" / "train", rate=8000)
    with caplog.at_level(logging.WARNING):
        run_stage(tmp_path / "data", tmp_path / "feats", small_config("features.resample=true"))
    assert "4 of 4 recordings are sampled at 8000 Hz, below features.sampling_rate 16000 Hz" in caplog.text

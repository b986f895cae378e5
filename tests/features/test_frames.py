"""The frame store: what is in it, how it is made, and the vectors of it as arks for Kaldi."""

import pickle
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch

from dnf.data.kaldi_files import write_table
from dnf.experiment.settings import Cmvn, Splice
from dnf.features import frames, splice
from dnf.features.arks import read_all
from dnf.features.frame_store import FrameStore
from dnf.features.statistics import cmvn_stats
from dnf.features.windows import Windows

CPU = torch.device("cpu")
EVERY_CMVN = [Cmvn(scope, variance) for scope in ("none", "utterance", "speaker") for variance in (False, True)]
EVERY_CMVN.append(Cmvn("window", False, window=8))
every_cmvn = pytest.mark.parametrize("cmvn", EVERY_CMVN, ids=lambda c: f"{c.scope}-{c.variance}")


def speech_of(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.fixture
def toy(write_store, tmp_path) -> FrameStore:
    """Frames of one dim that say where they are: 10..15 and 20..23 of speaker a, 30..34 of b and 40 of c."""
    return write_store(
        tmp_path / "toy",
        {
            "a-1": ("a", "en", np.arange(10.0, 16.0)[:, None], speech_of(0, 1, 0, 1, 1, 0)),
            "a-2": ("a", "en", np.arange(20.0, 24.0)[:, None], speech_of(1, 1, 1, 1)),
            "b-1": ("b", "zh", np.arange(30.0, 35.0)[:, None], speech_of(1, 0, 0, 0, 1)),
            "c-1": ("c", "ja", np.arange(40.0, 41.0)[:, None], speech_of(1)),
        },
    )


@pytest.fixture(scope="module")
def random_store(write_store, tmp_path_factory) -> FrameStore:
    rng = np.random.default_rng(3)
    made = {}
    for speaker in "dabc":
        for n in range(3):
            count = int(rng.integers(5, 30))
            spoken = rng.random(count) < 0.6
            spoken[rng.integers(count)] = True
            name = "zh" if speaker in "bd" else "en"
            x = rng.normal(rng.normal(8, 3, 4), rng.uniform(0.5, 3, 4), (count, 4))
            made[f"{speaker}-{n}"] = (speaker, name, x, spoken.astype(np.float32), n + 0.5 if speaker == "d" else None)
    return write_store(tmp_path_factory.mktemp("store") / "train", made)


def windows(store, left=0, right=0) -> Windows:
    return Windows([store], Splice(left, right, 1), Cmvn("none", False), ["en", "zh"], keep_unseen=True, device=CPU)


def gathered(of: Windows) -> np.ndarray:
    return of.gather(torch.arange(len(of))).numpy()


def spoken_frames(store: FrameStore, u: int) -> np.ndarray:
    """Numbers, within utterance u, of its speech frames."""
    return (store.centres[store.spoken[u] : store.spoken[u + 1]] - store.offsets[u]).numpy()


def test_statistics_of_the_store_are_those_of_its_speech_frames(random_store):
    for u, name in enumerate(random_store.utterances):
        first, last = random_store.offsets[u].item(), random_store.offsets[u + 1].item()
        spoken = random_store.frames[first:last].numpy()[spoken_frames(random_store, u)]
        np.testing.assert_allclose(random_store.stats[u].numpy(), cmvn_stats(spoken), err_msg=name)


def test_utterances_keep_their_names_order_and_scores(random_store):
    assert random_store.name == "train" and random_store.utterances == sorted(random_store.utterances)
    assert [u[0] for u in random_store.utterances] == random_store.speakers
    assert random_store.classes == ["zh" if s in "bd" else "en" for s in random_store.speakers]
    assert random_store.scores == [None] * 9 + [0.5, 1.5, 2.5]


def test_centres_of_an_utterance_are_the_frames_its_vad_marks(toy):
    assert [spoken_frames(toy, u).tolist() for u in range(4)] == [[1, 3, 4], [0, 1, 2, 3], [0, 4], [0]]
    assert toy.frames[toy.centres, 0].tolist() == [11, 13, 14, 20, 21, 22, 23, 30, 34, 40]
    assert toy.spoken[-1] == len(toy.centres) == 10 and toy.offsets.tolist() == [0, 6, 10, 15, 16]


@pytest.mark.parametrize("change", ("nothing", "scores", "speaker", "class", "name", "frames", "speech"))
def test_the_fingerprint_is_of_what_training_reads(write_store, tmp_path, change):
    rows = {f"a-{n}": ("a", "en", np.ones((4, 2)) * n, np.ones(4)) for n in (1, 2, 3)}
    before = write_store(tmp_path / "one", rows).fingerprint()
    speaker, name, x, speech = rows.pop("a-2")
    utt = "a-22" if change == "name" else "a-2"
    score = (3.0,) if change == "scores" else ()
    x = x + (change == "frames")
    speech = speech * [1, 1, 1, change != "speech"]
    rows[utt] = ("b" if change == "speaker" else speaker, "zh" if change == "class" else name, x, speech, *score)
    assert (write_store(tmp_path / "two", rows).fingerprint() == before) == (change in ("nothing", "scores"))


def test_float16_is_within_its_precision(write_store, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(12, 4, (200, 3))
    utterances = {"a-1": ("a", "en", x, np.ones(200))}
    narrow, wide = (write_store(tmp_path / dtype, utterances, dtype) for dtype in ("float16", "float32"))
    np.testing.assert_allclose(gathered(windows(narrow)), gathered(windows(wide)), rtol=2**-11, atol=0)
    np.testing.assert_array_equal(gathered(windows(wide)), x.astype(np.float32))
    assert (narrow.directory / "frames.bin").stat().st_size * 2 == (wide.directory / "frames.bin").stat().st_size
    assert windows(narrow).gather(torch.arange(3)).dtype == torch.float32


def test_the_store_is_a_small_share_of_the_spliced_bytes(write_store, tmp_path):
    """A set like real ones: 40 dims, 4 s utterances, 60 % of the frames speech; 440 dims of float32 when spliced."""
    rng = np.random.default_rng(2)
    utterances = {
        f"{s:02}-{n}": (f"{s:02}", "en", rng.normal(12, 4, (400, 40)), np.arange(400) % 5 < 3)
        for s in range(4)
        for n in range(3)
    }
    store = write_store(
        tmp_path / "real", {u: (*row[:3], row[3].astype(np.float32)) for u, row in utterances.items()}, "float16"
    )
    of = windows(store, left=5, right=5)
    spliced = len(of) * of.dim * 4
    stored = sum(path.stat().st_size for path in store.directory.iterdir())
    assert of.dim == 440 and stored * 11 < spliced


@every_cmvn
def test_spliced_arks_equal_the_gathered_vectors(random_store, tmp_path, cmvn):
    settings = Splice(2, 1, 2)
    splice.write_spliced(random_store, settings, cmvn, tmp_path / "spliced")
    read = kaldiio.load_scp(str(tmp_path / "spliced" / "spliced.scp"))
    of = Windows([random_store], settings, cmvn, [], keep_unseen=True, device=CPU)
    assert list(read) == random_store.utterances
    for segment in of.segments():
        rows = torch.arange(segment.first, segment.first + segment.rows)
        assert np.array_equal(read[segment.utt], of.gather(rows).numpy()), segment.utt


def test_the_splice_command_writes_every_set(random_store, tmp_path):
    argv = [str(random_store.directory.parent), str(tmp_path), "--set", "splice.left=1", "--set", "splice.right=0"]
    assert splice.main([*argv, "--set", "prior.cond_dim=0"]) == 0
    read = kaldiio.load_scp(str(tmp_path / "train" / "spliced.scp"))
    assert read["a-0"].shape[1] == 8 and list(read) == random_store.utterances


def test_the_build_command_makes_a_store_of_every_set(write_store, small_config, tmp_path):
    x = np.arange(16.0).reshape(4, 4)
    for name in ("dev", "train"):
        write_store(tmp_path / "data" / name, {"a-1": ("a", "en", x, np.ones(4))})
    small_config("frames.dtype=float16").save(tmp_path / "exp" / "config.yaml")
    assert frames.main([str(tmp_path / "data"), str(tmp_path / "exp")]) == 0
    for name in ("dev_data", "train_data"):
        store = FrameStore(tmp_path / "exp" / name)
        assert store.frames.dtype == torch.float16 and np.array_equal(store.frames.numpy(), x)
    shutil.rmtree(tmp_path / "data" / "dev_data")
    assert frames.main([str(tmp_path / "data"), str(tmp_path / "exp")]) == 0
    assert [path.parent.name for path in (tmp_path / "exp").glob("*/meta.json")] == ["train_data"]


def test_a_store_is_replaced_as_a_whole(write_store, tmp_path):
    write_store(tmp_path / "train", {"a-1": ("a", "en", np.ones((4, 2)), np.ones(4))})
    store = write_store(tmp_path / "train", {"b-1": ("b", "en", np.zeros((3, 2)), np.ones(3))})
    assert store.utterances == ["b-1"] and len(store.frames) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "train_data"]


def test_a_store_killed_anywhere_can_be_made_again(write_store, tmp_path, until_not_killed):
    store = write_store(tmp_path / "train", {"a-1": ("a", "en", np.ones((4, 2)), np.ones(4))})

    def build():
        return frames.build(tmp_path / "train_data", store.directory, "float32")

    def check(n: int) -> None:
        build()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "train_data"], n
        assert FrameStore(store.directory).utterances == ["a-1"], n

    assert until_not_killed(build, check) > 2


def test_no_store_says_which_stage_makes_one(tmp_path):
    with pytest.raises(ValueError, match="no frame store; run stage frames"):
        FrameStore(tmp_path)


@pytest.mark.parametrize(("file", "size"), [("frames.bin", 64), ("centres.bin", 80), ("stats.bin", 4 * 2 * 2 * 8)])
def test_a_cut_store_is_refused(toy, file, size):
    path = toy.directory / file
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=rf"{file}: {size - 4} bytes, not .*run stage frames again"):
        FrameStore(toy.directory)


def test_what_is_written_to_opened_frames_does_not_reach_the_disk(toy):
    before = (toy.directory / "frames.bin").read_bytes()
    toy.frames[:] = 0.0
    assert (toy.directory / "frames.bin").read_bytes() == before


def test_utterances_without_features_are_passed_over_and_those_without_a_class_an_error(toy, tmp_path):
    directory = tmp_path / "toy_data"
    before = list(frames.utterances(directory))
    assert [row["utt"] for row in before] == toy.utterances and "utt2score" not in before[0]
    for name in ("feats.scp", "utt2num_frames"):  # as stage 1 leaves what it rejects
        lines = (directory / name).read_text().splitlines(keepends=True)
        (directory / name).write_text("".join(line for line in lines if not line.startswith(("a-1", "b-1"))))
    (directory / "utt2score").write_text("b-1 1\nc-1 2.5\n")
    after = list(frames.utterances(directory))
    assert after == [before[1], before[3] | {"utt2score": "2.5"}]
    (directory / "utt2class").write_text("a-1 en\nc-1 en\n")
    with pytest.raises(ValueError, match="utt2class: no utterance a-2"):
        list(frames.utterances(directory))


def change_lengths(directory):
    write_table(directory / "utt2num_frames", {"a-1": "5", "a-2": "4"})


def change_vad(directory):
    with kaldiio.WriteHelper(f"ark,scp:{directory}/vad.ark,{directory}/vad.scp") as writer:
        writer("a-1", np.ones(5, dtype=np.float32))
        writer("a-2", np.ones(4, dtype=np.float32))


def change_dim(directory):
    with kaldiio.WriteHelper(f"ark,scp:{directory}/feats.ark,{directory}/feats.scp") as writer:
        writer("a-1", np.ones((4, 2), dtype=np.float32))
        writer("a-2", np.ones((4, 3), dtype=np.float32))


def plant_nan(directory):
    with kaldiio.WriteHelper(f"ark,scp:{directory}/feats.ark,{directory}/feats.scp") as writer:
        writer("a-1", np.ones((4, 2), dtype=np.float32))
        writer("a-2", np.full((4, 2), np.nan, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_lengths, r"utterance a-1 has \(4, 2\) features and 4 VAD marks, not 5 frames"),
        (change_vad, r"utterance a-1 has \(4, 2\) features and 5 VAD marks"),
        (change_dim, r"utterance a-2 has \(4, 3\) features"),
        (plant_nan, "utterance a-2 has NaN or infinite features"),
    ],
)
def test_features_that_contradict_each_other_name_the_utterance(write_store, tmp_path, change, message):
    store = write_store(tmp_path / "s", {f"a-{n}": ("a", "en", np.ones((4, 2)), np.ones(4)) for n in (1, 2)})
    before = (store.directory / "frames.bin").read_bytes()
    change(tmp_path / "s_data")
    with pytest.raises(ValueError, match=message):
        frames.build(tmp_path / "s_data", store.directory, "float32")
    assert (store.directory / "frames.bin").read_bytes() == before


# ---- damaged files and archives that are none ----------------------------------------------------


def shorten(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize("file", ("meta.json", "offsets.npy", "spoken.npy", "utts.tsv"))
@pytest.mark.parametrize("share", (0.0, 0.5, 0.9))
def test_a_file_of_a_store_that_was_cut_off_is_named(toy, file, share):
    shorten(toy.directory / file, share)
    with pytest.raises(ValueError, match=rf"toy/{file}: is damaged \(.+\); run stage frames again") as caught:
        FrameStore(toy.directory)
    assert "\n" not in str(caught.value)


@pytest.fixture
def two(write_store, tmp_path):
    """A set of two utterances of two dims, and a way to build its store."""
    write_store(tmp_path / "s", {f"a-{n}": ("a", "en", np.ones((4, 2)), np.ones(4)) for n in (1, 2)})

    class Two:
        directory = tmp_path / "s_data"

        def change(self, name, value):
            table = self.directory / name
            lines = table.read_text().splitlines()
            table.write_text(f"{lines[0]}\na-2 {value}\n")

        def build(self, dim=None):
            return frames.build(self.directory, tmp_path / "s", "float32", dim)

    return Two()


@pytest.mark.parametrize("name", ("feats.scp", "vad.scp"))
@pytest.mark.parametrize("command", ("touch ran; cat {ark} |", "| touch ran", " |touch ran; cat {ark}:5", "touch ran|"))
def test_no_command_of_an_scp_is_run(two, monkeypatch, tmp_path, name, command):
    monkeypatch.chdir(tmp_path)
    two.change(name, command.format(ark=two.directory / "feats.ark"))
    with pytest.raises(ValueError, match=rf"{name}: a-2 is a command"):
        two.build()
    assert not (tmp_path / "ran").exists()


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a-2 PKL" + pickle.dumps(Trap()), "no array at this offset"),
        (b"a-2 NPY", "no array at this offset"),
        (b"a-2 RIFF", "no array at this offset"),
        (b"a-2 ", "no array at this offset"),
        (b"a-2 \0BFM \4\4\0\0\0\4\2\0\0\0\0\0\0\0", "cannot be read"),
        (b"a-2 \0BFM ", "cannot be read"),
        (None, "No such file or directory"),
    ],
    ids=("pickle", "NumPy", "sound", "nothing", "cut off", "cut off in its header", "gone"),
)
def test_an_archive_that_is_none_is_named(two, monkeypatch, tmp_path, content, reason):
    monkeypatch.chdir(tmp_path)
    ark = tmp_path / "other.ark"
    if content is not None:
        ark.write_bytes(content)
    two.change("feats.scp", f"{ark}:4")
    with pytest.raises(ValueError, match=rf"feats.scp: a-2: {ark}:4 .*{reason}.*run stage features again") as caught:
        two.build()
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


def test_an_archive_that_is_named_like_a_command_is_only_read(two, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("touch ran|").write_bytes(b"a-2 \0BFM junk")
    two.change("feats.scp", "touch ran|:4")
    with pytest.raises(ValueError, match=r"feats.scp: a-2: touch ran\|:4 cannot be read"):
        two.build()
    assert not Path("ran").exists()


def test_an_entry_of_a_whole_archive_is_not_unpickled(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ark = tmp_path / "stats.1.ark"
    ark.write_bytes(b"a-2 PKL" + pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"stats.1.ark: cannot be read \(no array at this offset\)"):
        list(read_all(ark))
    assert not Path("ran").exists()


def test_values_that_are_no_place_in_an_archive_are_named(two):
    for value in ("feats.ark", "-", "feats.ark:x", ""):
        two.change("feats.scp", value)
        with pytest.raises(ValueError, match=r"feats.scp: a-2 is '.*', not 'archive:offset'"):
            two.build()


def test_a_length_that_is_no_number_is_named(two):
    two.change("utt2num_frames", "four")
    with pytest.raises(ValueError, match="utt2num_frames: a-2 has 'four', not a number"):
        two.build()


@pytest.mark.parametrize("dim", (13, 80))
def test_archives_of_other_dims_are_refused(two, dim):
    assert two.build(2)["dim"] == 2
    with pytest.raises(ValueError, match=rf"expected {dim} dims \(features.num_filters\), found 2"):
        two.build(dim)


def test_the_build_command_knows_how_many_dims_there_are(two, small_config, tmp_path):
    small_config("features.num_filters=5").save(tmp_path / "exp" / "config.yaml")
    with pytest.raises(ValueError, match="expected 5 dims"):
        frames.main([str(two.directory.parent), str(tmp_path / "exp")])

"""The frame store and the vectors gathered from it, against hand values and plain loops over numpy arrays."""

import itertools

import kaldiio
import numpy as np
import pytest
import torch

from dnf import frames
from dnf.config import Cmvn, Splice
from dnf.datadir import write_table
from dnf.features import cmvn_stats
from dnf.frames import FrameStore, Windows, write_spliced

CPU = torch.device("cpu")
NO_CMVN = Cmvn("none", False)
EVERY_CMVN = [Cmvn(scope, variance) for scope in ("none", "utterance", "speaker") for variance in (False, True)]
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
            made[f"{speaker}-{n}"] = (speaker, name, x, spoken.astype(np.float32))
    return write_store(tmp_path_factory.mktemp("store") / "train", made)


def windows(store, left=0, right=0, hop=1, cmvn=NO_CMVN, classes=("en", "zh"), keep_unseen=True) -> Windows:
    return Windows(store, Splice(left, right, hop), cmvn, list(classes), keep_unseen, CPU)


def gathered(of: Windows) -> np.ndarray:
    return of.gather(torch.arange(len(of))).numpy()


def normalized(store: FrameStore, cmvn: Cmvn) -> list[np.ndarray]:
    """Each utterance's frames ``(N, F)`` after CMVN with the statistics of the speech frames, in plain numpy."""
    offsets = store.offsets.numpy()
    all_frames = [store.frames[a:b].double().numpy() for a, b in itertools.pairwise(offsets)]
    speech = [x[spoken_frames(store, u)] for u, x in enumerate(all_frames)]
    result = []
    for u, x in enumerate(all_frames):
        if cmvn.scope == "none":
            result.append(x)
            continue
        mates = (
            [v for v in range(len(all_frames)) if store.speakers[v] == store.speakers[u]]
            if cmvn.scope == "speaker"
            else [u]
        )
        pool = np.concatenate([speech[v] for v in mates])
        result.append((x - pool.mean(0)) / (pool.std(0) if cmvn.variance else 1.0))
    return result


def spoken_frames(store: FrameStore, u: int) -> np.ndarray:
    """Numbers, within utterance u, of its speech frames."""
    first, last = store.offsets[u].item(), store.offsets[u + 1].item()
    centres = store.centres.numpy()
    return centres[(centres >= first) & (centres < last)] - first


def slow_vectors(store: FrameStore, splice: Splice, cmvn: Cmvn) -> tuple[np.ndarray, list[int]]:
    """All spliced vectors and the utterance of each, frame by frame."""
    rows, utterances = [], []
    for u, x in enumerate(normalized(store, cmvn)):
        for centre in spoken_frames(store, u)[:: splice.hop]:
            parts = [x[min(max(t, 0), len(x) - 1)] for t in range(centre - splice.left, centre + splice.right + 1)]
            rows.append(np.concatenate(parts))
            utterances.append(u)
    return np.array(rows), utterances


def test_splice_repeats_edges_and_takes_context_that_the_vad_removed(toy):
    got = gathered(windows(toy, left=2, right=1))
    assert got.dtype == np.float32
    assert got.tolist() == [
        [10, 10, 11, 12],
        [11, 12, 13, 14],
        [12, 13, 14, 15],
        [20, 20, 20, 21],
        [20, 20, 21, 22],
        [20, 21, 22, 23],
        [21, 22, 23, 23],
        [30, 30, 30, 31],
        [32, 33, 34, 34],
        [40, 40, 40, 40],
    ]


def test_a_window_wider_than_the_utterance_stays_in_it(toy):
    assert gathered(windows(toy, left=0, right=9))[3].tolist() == [20, 21, 22, 23, 23, 23, 23, 23, 23, 23]


@pytest.mark.parametrize(
    ("hop", "centres"),
    [(1, [11, 13, 14, 20, 21, 22, 23, 30, 34, 40]), (2, [11, 14, 20, 22, 30, 40]), (3, [11, 20, 23, 30, 40])],
)
def test_hop_counts_the_speech_frames_of_each_utterance(toy, hop, centres):
    assert gathered(windows(toy, hop=hop))[:, 0].tolist() == centres


def test_labels_are_places_in_the_list_of_classes(toy):
    of = windows(toy, classes=("en", "zh"))
    assert of.labels(torch.arange(len(of))).tolist() == [0] * 7 + [1, 1, -1]
    assert windows(toy, classes=("ja", "zh")).labels(torch.tensor([9, 0, 8])).tolist() == [0, -1, 1]
    assert of.class_counts(["en", "zh"]) == {"en": 7, "zh": 2}


def test_utterances_of_unseen_classes_can_be_left_out(toy):
    of = windows(toy, left=1, classes=("zh",), keep_unseen=False)
    assert gathered(of).tolist() == [[30, 30], [33, 34]]
    assert of.labels(torch.arange(2)).tolist() == [0, 0] and of.class_counts(["zh"]) == {"zh": 2}


def test_any_rows_in_any_order(random_store):
    of = windows(random_store, left=1, right=2)
    rows = torch.tensor([7, 0, 7, len(of) - 1, 3])
    assert np.array_equal(of.gather(rows).numpy(), gathered(of)[rows.numpy()])


@every_cmvn
@pytest.mark.parametrize("splice", [Splice(0, 0, 1), Splice(2, 1, 1), Splice(5, 5, 3)], ids=str)
def test_vectors_equal_a_plain_loop(random_store, cmvn, splice):
    of = Windows(random_store, splice, cmvn, ["en", "zh"], True, CPU)
    wanted, utterances = slow_vectors(random_store, splice, cmvn)
    assert of.dim == wanted.shape[1] and len(of) == len(wanted)
    np.testing.assert_allclose(gathered(of), wanted, rtol=1e-4, atol=1e-4)
    assert of.utterance.tolist() == utterances
    assert of.labels(torch.arange(len(of))).tolist() == [int(random_store.classes[u] == "zh") for u in utterances]


@pytest.mark.parametrize("scope", ("utterance", "speaker"))
def test_normalized_speech_has_mean_zero_and_variance_one_in_its_scope(random_store, scope):
    of = windows(random_store, cmvn=Cmvn(scope, True))
    names = np.array(random_store.utterances if scope == "utterance" else random_store.speakers)[of.utterance.numpy()]
    x = gathered(of)
    for name in set(names):
        if (names == name).sum() > 2:
            np.testing.assert_allclose(x[names == name].mean(0), 0, atol=1e-4)
            np.testing.assert_allclose(x[names == name].std(0), 1, atol=1e-3)


@every_cmvn
@pytest.mark.parametrize("classes", [("en", "zh"), ("zh",)], ids=len)
def test_global_normalization_equals_numpy(random_store, cmvn, classes):
    of = windows(random_store, cmvn=cmvn, classes=classes, keep_unseen=False)
    mean, std = of.global_normalization()
    x = gathered(of).astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), x.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(std.numpy(), x.std(0), rtol=1e-4, atol=1e-4)
    assert mean.dtype == std.dtype == torch.float32 and mean.shape == (4,)


def test_a_constant_dim_is_not_divided_by_zero(write_store, tmp_path):
    x = np.ones((9, 2))
    x[:, 1] = np.arange(9)
    store = write_store(tmp_path / "flat", {"a-1": ("a", "en", x, np.ones(9))})
    for cmvn in EVERY_CMVN:
        of = windows(store, cmvn=cmvn)
        assert np.isfinite(gathered(of)).all() and (of.global_normalization()[1] > 0).all()


def test_statistics_of_the_store_are_those_of_its_speech_frames(random_store):
    for u, name in enumerate(random_store.utterances):
        first, last = random_store.offsets[u].item(), random_store.offsets[u + 1].item()
        spoken = random_store.frames[first:last].numpy()[spoken_frames(random_store, u)]
        np.testing.assert_allclose(random_store.stats[u].numpy(), cmvn_stats(spoken), err_msg=name)


def test_utterances_keep_their_names_and_order(random_store):
    assert random_store.utterances == sorted(random_store.utterances)
    assert [u[0] for u in random_store.utterances] == random_store.speakers
    assert random_store.classes == ["zh" if s in "bd" else "en" for s in random_store.speakers]


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
    splice = Splice(2, 1, 2)
    write_spliced(random_store, splice, cmvn, tmp_path / "spliced")
    read = kaldiio.load_scp(str(tmp_path / "spliced" / "spliced.scp"))
    of = Windows(random_store, splice, cmvn, [], True, CPU)
    assert list(read) == random_store.utterances
    for u, utt in enumerate(random_store.utterances):
        rows = torch.nonzero(of.utterance == u)[:, 0]
        assert np.array_equal(read[utt], of.gather(rows).numpy()), utt


def test_the_splice_command_writes_every_set(random_store, tmp_path):
    argv = [
        "splice",
        str(random_store.directory.parent),
        str(tmp_path),
        "--set",
        "splice.left=1",
        "--set",
        "splice.right=0",
    ]
    argv += ["--set", "prior.cond_dim=0"]
    assert frames.main(argv) == 0
    read = kaldiio.load_scp(str(tmp_path / "train" / "spliced.scp"))
    assert read["a-0"].shape[1] == 8 and list(read) == random_store.utterances


def test_the_build_command_makes_a_store_of_every_set(write_store, small_config, tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    for name in ("dev", "train"):
        write_store(tmp_path / "data" / name, {"a-1": ("a", "en", x, np.ones(4))})
    small_config("frames.dtype=float16").save(tmp_path / "exp" / "config.yaml")
    assert frames.main(["build", str(tmp_path / "data"), str(tmp_path / "exp")]) == 0
    for name in ("dev_data", "train_data"):
        store = FrameStore(tmp_path / "exp" / name)
        assert store.frames.dtype == torch.float16 and np.array_equal(store.frames.numpy(), x)


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
    with pytest.raises(ValueError, match="no frame store; run stage 2"):
        FrameStore(tmp_path)


def test_a_cut_store_is_refused(toy):
    path = toy.directory / "frames.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="frames.bin: 60 bytes, not .*run stage 2 again"):
        FrameStore(toy.directory)


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
        (plant_nan, "utterance a-2 has features that are not numbers"),
    ],
)
def test_features_that_contradict_each_other_name_the_utterance(write_store, tmp_path, change, message):
    store = write_store(tmp_path / "s", {f"a-{n}": ("a", "en", np.ones((4, 2)), np.ones(4)) for n in (1, 2)})
    before = (store.directory / "frames.bin").read_bytes()
    change(tmp_path / "s_data")
    with pytest.raises(ValueError, match=message):
        frames.build(tmp_path / "s_data", store.directory, "float32")
    assert (store.directory / "frames.bin").read_bytes() == before

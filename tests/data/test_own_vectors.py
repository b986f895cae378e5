"""A user's own vectors: npz, npy with a table, and Kaldi's tables, to checked sets; and what is wrong with them."""

import shutil

import kaldiio
import numpy as np
import pytest

from dnf.data import own_data, own_vectors, splits
from dnf.data.kaldi_files import read_table, write_table

VECTORS = ("features.kind=vectors", "prior.cond_dim=null")
SPEAKERS = {"train": ("ann", "bea", "cid", "dan"), "test": ("eve", "flo")}
CLASS = {"ann": "en", "bea": "zh", "cid": "en", "dan": "zh", "eve": "en", "flo": "zh"}


def names(part: str, each: int = 2) -> list[str]:
    return [f"{speaker}-{n}" for speaker in SPEAKERS[part] for n in range(each)]


def arrays(part: str, **changed) -> dict[str, np.ndarray]:
    """An npz of a set: ``utt``, ``spk``, ``class`` and vectors of three dims that say which they are."""
    utts = names(part)
    made = {
        "vector": np.arange(3.0 * len(utts)).reshape(-1, 3),
        "utt": np.array(utts),
        "spk": np.array([utt[:3] for utt in utts]),
        "class": np.array([CLASS[utt[:3]] for utt in utts]),
    }
    return {name: value for name, value in (made | changed).items() if value is not None}


@pytest.fixture
def own(tmp_path, small_config):
    """A folder of the user's, to be filled, and where stage 0 puts its sets."""

    class Own:
        folder, out = tmp_path / "own", tmp_path / "data" / "own"

        def npz(self, part: str, **changed) -> None:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
            np.savez(self.folder / part / "vectors.npz", **arrays(part, **changed))

        def kaldi(self, part: str, scp: str = "vector.scp") -> None:
            folder, made = self.folder / part, arrays(part)
            folder.mkdir(parents=True, exist_ok=True)
            by_speaker = scp.startswith("spk_")
            keys = SPEAKERS[part] if by_speaker else names(part)
            with kaldiio.WriteHelper(f"ark,scp:{folder}/v.ark,{folder}/{scp}") as writer:
                for key, vector in zip(keys, made["vector"].astype(np.float32)):
                    writer(key, vector)
            write_table(folder / "utt2spk", {utt: utt[:3] for utt in names(part)})
            write_table(folder / "utt2class", {utt: CLASS[utt[:3]] for utt in names(part)})

        def prepare(self, *words: str) -> None:
            small_config(*VECTORS, *words).save(self.out / "config.yaml")
            assert own_data.main([str(self.folder), str(self.out)]) == splits.main([str(self.out)]) == 0

        def vectors(self, part: str) -> dict[str, list[float]]:
            path = self.out / part / "vector.scp"
            return (
                {utt: vector.tolist() for utt, vector in kaldiio.load_scp(str(path)).items()} if path.exists() else {}
            )

    return Own()


@pytest.fixture
def both(own):
    own.npz("train")
    own.npz("test")
    return own


def test_npz_files_become_valid_sets(both):
    both.prepare()
    assert (both.out / "classes.txt").read_text() == "en\nzh\n"
    assert both.vectors("test") == dict(zip(names("test"), arrays("test")["vector"].tolist()))
    assert read_table(both.out / "test" / "utt2class") == {utt: CLASS[utt[:3]] for utt in names("test")}
    assert read_table(both.out / "test" / "spk2utt") == {"eve": "eve-0 eve-1", "flo": "flo-0 flo-1"}
    dev = set(read_table(both.out / "dev" / "utt2spk").values())
    assert len(dev) == 2 and not dev & set(read_table(both.out / "train" / "utt2spk").values())


@pytest.mark.parametrize("scp", ("vector.scp", "xvector.scp", "ivector.scp"))
def test_kaldi_directories_keep_their_archives(own, scp):
    own.kaldi("train", scp)
    own.kaldi("test", scp)
    own.prepare()
    place = read_table(own.out / "test" / "vector.scp")["eve-0"]
    assert place.startswith(f"{own.folder}/test/v.ark:")
    assert own.vectors("test")["eve-1"] == [3.0, 4.0, 5.0]


def test_relative_archives_start_from_the_folder_of_the_sets(own):
    own.kaldi("train")
    own.kaldi("test")
    table = own.folder / "test" / "vector.scp"
    write_table(table, {utt: place.removeprefix(f"{own.folder}/") for utt, place in read_table(table).items()})
    own.prepare()
    assert own.vectors("test")["eve-1"] == [3.0, 4.0, 5.0]


def test_expert_scores_of_vectors_are_kept(own):
    own.npz("train", score=np.array(["7.5", "", *["3"] * 6]))
    own.kaldi("test")
    write_table(own.folder / "test" / "utt2score", {"eve-1": "2.5"})
    own.prepare()
    train, dev = (read_table(own.out / part / "utt2score") for part in ("train", "dev"))
    assert train | dev == {utt: "7.5" if utt == "ann-0" else "3.0" for utt in names("train") if utt != "ann-1"}
    assert read_table(own.out / "test" / "utt2score") == {"eve-1": "2.5"}


def test_a_vector_a_speaker_makes_the_speaker_an_utterance(own):
    own.kaldi("train", "spk_xvector.scp")
    own.kaldi("test", "spk_xvector.scp")
    own.prepare()
    assert read_table(own.out / "test" / "utt2class") == {"eve": "en", "flo": "zh"}
    assert own.vectors("test") == {"eve": [0.0, 1.0, 2.0], "flo": [3.0, 4.0, 5.0]}


@pytest.mark.parametrize("name", ("vectors.npz", "vectors.npy"))
def test_one_file_of_all_sets(own, name):
    own.folder.mkdir()
    of_set = {part: arrays(part, set=np.array([part] * len(names(part)))) for part in SPEAKERS}
    whole = {key: np.concatenate([of_set[part][key] for part in of_set]) for key in of_set["train"]}
    if name == "vectors.npz":
        np.savez(own.folder / name, **whole)
    else:
        np.save(own.folder / name, whole["vector"])
        rows = zip(*(whole[key].tolist() for key in ("utt", "spk", "class", "set")))
        lines = ["utt\tspeaker\tclass\tset", *map("\t".join, rows)]
        (own.folder / "vectors.tsv").write_text("".join(f"{line}\n" for line in lines))
    own.prepare()
    assert own.vectors("test")["flo-1"] == [9.0, 10.0, 11.0]


def test_without_classes_the_speakers_are_the_classes(own):
    own.npz("train", **{"class": None, "spk": np.array(["1089"] * 4 + ["dan"] * 4)})
    own.npz("test", **{"class": None, "spk": np.array(["1089"] * 2 + ["dan"] * 2)})
    own.prepare("data.shared_speakers=true")
    assert (own.out / "classes.txt").read_text() == "dan\nspk_1089\n"
    parts = {part: set(read_table(own.out / part / "utt2class").values()) for part in ("train", "dev", "test")}
    assert all(classes == {"dan", "spk_1089"} for classes in parts.values())
    assert len(read_table(own.out / "dev" / "utt2spk")) == 2
    own.npz("test", **{"class": None, "spk": np.array(["1089"] * 2 + ["eve"] * 2)})
    own.prepare("data.shared_speakers=true")
    assert list(read_table(own.out / "test" / "utt2class").values()) == ["spk_1089"] * 2 + ["unlabelled"] * 2


def test_speakers_that_would_be_one_class_are_an_error():
    with pytest.raises(ValueError, match="speakers A-1 and A_1 would both be class spk_a_1"):
        own_vectors.class_of_speaker(["b", "A-1", "A_1"])


WRONG = {
    "shape": ({"vector": np.zeros(8)}, r"vectors of shape \(8,\)"),
    "text": ({"vector": np.full((8, 3), "x")}, "not \\(U, D\\) numbers"),
    "count": ({"spk": np.array(["ann"])}, "8 vectors and 1 values of 'speaker'"),
    "no speaker": ({"spk": None}, "has no speaker of each vector; add 'speaker'"),
    "no utt": ({"utt": None}, "lacks the arrays 'vector' and 'utt'; it has vector, spk, class"),
    "twice": ({"utt": np.array(["ann-0"] * 2 + names("train")[2:])}, "utterance ann-0 has vectors 0 and 1; keep one"),
    "class": ({"class": np.array(["English"] * 8)}, "class 'English' is not a name like en"),
    "some classes": ({"class": np.array(["en", "", *["zh"] * 6])}, "utterance ann-1 has no class, and others have one"),
    "pickled": ({"utt": np.array(names("train"), object)}, "has pickled objects, which can run any code when read"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_with_an_npz_is_said(both, fault):
    changed, message = WRONG[fault]
    both.npz("train", **changed)
    with pytest.raises(ValueError, match=message):
        both.prepare()
    assert not (both.out / "classes.txt").exists()


def test_tables_beside_an_npz_have_its_utterances(both):
    write_table(both.folder / "train" / "utt2class", dict.fromkeys(names("train"), "fr"))
    assert {u.name for u in own_vectors.read_sets(both.folder)["train"]} == {"fr"}
    write_table(both.folder / "train" / "utt2class", dict.fromkeys(names("train")[1:], "fr"))
    with pytest.raises(ValueError, match=r"vectors.npz: its utterances differ from .*utt2class: has 1 more \(ann-0\)"):
        own_vectors.read_sets(both.folder)


@pytest.mark.parametrize(
    "sets, message",
    (
        (None, "vectors.npz: has no sets; add 'set', or make a folder of each set"),
        (["train"] * 7 + ["../test"], "set '../test' cannot be the name of a folder"),
    ),
)
def test_one_file_names_a_folder_of_each_vector(own, sets, message):
    own.folder.mkdir()
    np.savez(own.folder / "vectors.npz", **arrays("train", set=None if sets is None else np.array(sets)))
    with pytest.raises(ValueError, match=message):
        own_vectors.read_sets(own.folder)


def test_vectors_in_two_places_are_ambiguous(both):
    np.savez(both.folder / "vectors.npz", **arrays("train"))
    with pytest.raises(ValueError, match="has vectors.npz and t.*/vectors.npz, but only one is read; remove the other"):
        own_vectors.read_sets(both.folder)


def test_an_npz_that_is_none_is_named(both):
    (both.folder / "train" / "vectors.npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(ValueError, match=r"train/vectors.npz: cannot be read"):
        both.prepare()


@pytest.mark.parametrize(
    "table, message",
    (
        ("vector.scp", r"vector.scp: its utterances differ from .*utt2spk: lacks 1 \(bea-0\)"),
        ("utt2spk", r"vector.scp: its utterances differ from .*utt2spk: has 1 more \(bea-0\)"),
    ),
)
def test_utterances_without_a_vector_and_vectors_without_an_utterance_are_named(own, table, message):
    own.kaldi("train")
    own.kaldi("test")
    for name in {table, "utt2class"} if table == "utt2spk" else {table}:
        rows = read_table(own.folder / "train" / name)
        del rows["bea-0"]
        write_table(own.folder / "train" / name, rows)
    with pytest.raises(ValueError, match=message):
        own.prepare()


def test_no_command_is_run(own):
    own.kaldi("train")
    own.kaldi("test")
    rows = read_table(own.folder / "train" / "vector.scp")
    write_table(own.folder / "train" / "vector.scp", rows | {"bea-0": f"touch {own.folder}/ran |"})
    with pytest.raises(ValueError, match="is a command"):
        own.prepare()
    assert not (own.folder / "ran").exists()


def test_utterances_of_train_in_another_set_are_said(both, caplog):
    both.prepare()
    assert not caplog.text
    shutil.copy(both.folder / "train" / "vectors.npz", both.folder / "test")
    own_vectors.read_sets(both.folder)
    assert (
        f"set test: utterance {names('train')[0]} and {len(names('train')) - 1} more are in train, too" in caplog.text
    )


def test_a_folder_without_vectors_is_named(own):
    own.folder.mkdir()
    with pytest.raises(ValueError, match="no vectors of a set 'train': expected data directories train/"):
        own.prepare()

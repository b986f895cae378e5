"""Vectors as frames: preprocessing against its definition, the stores, and what is wrong with vectors."""

import logging

import kaldiio
import numpy as np
import pytest
import torch

from dnf.data.kaldi_files import write_table
from dnf.experiment import stage
from dnf.experiment.config import resolve
from dnf.experiment.layout import Layout
from dnf.experiment.settings import Cmvn, Splice
from dnf.features import frames
from dnf.features.frame_store import FrameStore
from dnf.features.vectors import Preprocessing, Vectors
from dnf.features.windows import Windows
from dnf.inference.recordings import check_takes_recordings

WORDS = ("features.kind=vectors", "prior.cond_dim=null")
CLASSES = np.repeat(["a", "b", "c"], 40)


def settings(**changed):
    plain = {"centre": False, "length_norm": False, "project": "none", "project_to": 2, "whiten": False}
    return resolve(
        [*WORDS, *(f"vectors.{name}={str(value).lower()}" for name, value in (plain | changed).items())]
    ).vectors


@pytest.fixture
def x() -> np.ndarray:
    """120 vectors of three classes in six dims, the last two of them constant and one of them not zero."""
    rng = np.random.default_rng(1)
    made = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4)) + 3 * np.eye(4)[np.repeat(range(3), 40)]
    return np.hstack([made, np.zeros((120, 1)), np.full((120, 1), 7.0)]).astype(np.float32)


def applied(x, **changed) -> np.ndarray:
    fitted = Preprocessing.fit(x, CLASSES.tolist(), settings(**changed))
    return fitted.apply(Vectors("train", [f"u{i}" for i in range(len(x))], [], [], [], x))


def test_constant_dims_are_left_out_and_named(x, caplog):
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(applied(x), x[:, :4])
    assert "2 of 6 dims never change in training and are left out: 4 5" in caplog.text


def test_saved_steps_are_read_again_and_a_damaged_file_is_an_error(x, tmp_path):
    path, made = tmp_path / "preprocessing.npz", Preprocessing.fit(x, CLASSES.tolist(), settings(centre=True))
    made.save(path)
    for name, value in Preprocessing.load(path)._asdict().items():
        np.testing.assert_array_equal(value, getattr(made, name))
    for damaged in (b"", b"no", path.read_bytes()[:500]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^{path}: is damaged \(.*\); run stage frames again"):
            Preprocessing.load(path)


def test_centring_then_length_normalization(x):
    y = applied(x, centre=True, length_norm=True)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 2.0, rtol=1e-6)
    centred = x[:, :4] - x[:, :4].mean(0)
    np.testing.assert_allclose(y, 2 * centred / np.linalg.norm(centred, axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("project", ("none", "pca", "lda"))
def test_whitening_makes_the_covariance_the_identity(x, project):
    y = applied(x, project=project, whiten=True)
    assert y.shape == (120, 4 if project == "none" else 2)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(y.shape[1]), atol=1e-5)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)


def test_pca_keeps_the_directions_of_most_variance(x):
    values = np.linalg.eigvalsh(np.cov(x[:, :4].T))[::-1]
    np.testing.assert_allclose(np.cov(applied(x, project="pca").T), np.diag(values[:2]), atol=1e-4)


def test_lda_maximizes_the_ratio_of_variances(x):
    from scipy.linalg import eigh

    y = applied(x, project="lda").astype(float)

    def ratios(y):
        means = np.stack([y[CLASSES == name].mean(0) for name in "abc"])
        within = sum(np.cov(y[CLASSES == name].T, bias=True) for name in "abc") / 3
        return eigh(np.cov(means.T, bias=True), within, eigvals_only=True)[::-1]

    np.testing.assert_allclose(ratios(y), ratios(x[:, :4].astype(float))[:2], rtol=1e-4)


def test_a_projection_to_more_dims_than_there_are_is_an_error(x):
    with pytest.raises(
        ValueError, match=r"vectors.project_to 3: lda of 120 vectors of 4 dims and 3 classes has at most 2"
    ):
        applied(x, project="lda", project_to=3)


@pytest.fixture
def data(tmp_path, x):
    """Data directories train and test, as stage data leaves them; ``x`` may be changed first."""

    class Data:
        folder, frames = tmp_path / "data", tmp_path / "frames"
        sets = {"train": x, "test": x[::3].copy()}

        def build(self, *words: str) -> int:
            for name, vectors in self.sets.items():
                (self.folder / name).mkdir(parents=True)
                utts = [f"s{i:03}" for i in range(len(vectors))]
                with kaldiio.WriteHelper(f"ark,scp:{self.folder}/{name}/v.ark,{self.folder}/{name}/vector.scp") as out:
                    for utt, vector in zip(utts, vectors):
                        out(utt, vector)
                write_table(self.folder / name / "utt2spk", {utt: utt for utt in utts})
                write_table(self.folder / name / "utt2class", dict(zip(utts, CLASSES[:: 120 // len(vectors)])))
            (self.folder / "classes.txt").write_text("a\nb\nc\n")
            resolve([*WORDS, *words]).save(self.frames / "config.yaml")
            return frames.main([str(self.folder), str(self.frames)])

    return Data()


def test_a_store_has_one_frame_an_utterance(data, x):
    assert data.build("vectors.centre=false") == 0
    store = FrameStore(data.frames / "test")
    assert store.frames.shape == (40, 4) and store.utterances[1] == "s001" and store.classes == list(CLASSES[::3])
    windows = Windows(
        [store], Splice(0, 0, 1), Cmvn("none", False), ["a", "b"], keep_unseen=True, device=torch.device("cpu")
    )
    np.testing.assert_array_equal(windows.gather(torch.arange(len(windows))).numpy(), x[::3, :4])
    assert windows.labels(torch.tensor([0, 39])).tolist() == [0, -1]
    mean, std = windows.global_normalization()
    np.testing.assert_allclose(mean, x[::3, :4].mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, x[::3, :4].std(0), rtol=1e-5)


def test_what_is_fitted_is_kept_and_is_of_training_alone(data, x):
    data.sets["test"] += 5
    data.build("vectors.whiten=true", "data.classes=[a, b]")
    kept = np.load(data.frames / "preprocessing.npz")
    np.testing.assert_allclose(kept["mean"], x[:80, :4].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(kept["kept"], range(4))


def damaged(sets, fault):
    train, test = sets["train"], sets["test"]
    if fault == "nan":
        train[5, 1] = np.nan
    elif fault == "zero":
        test[3] = 0
    elif fault == "lengths":
        sets["train"] = [*train[:7], train[7, :4], *train[8:]]
    elif fault == "other":
        sets["test"] = test[:, :4]
    elif fault == "same":
        train[:] = 1


@pytest.mark.parametrize(
    "fault, words, message",
    (
        ("nan", (), r"train/vector.scp: s005 and 0 more have NaN or infinite values"),
        ("zero", ("vectors.length_norm=true",), "set test: the vector of s003 is all zero and has no direction"),
        ("lengths", (), r"s007 has shape \(4,\), not that of a vector of 6 dims, as s000"),
        ("other", (), "test/vector.scp: vectors of 4 dims, but those of training have 6"),
        ("same", (), "training sets: all vectors are the same"),
        ("dim", ("vectors.dim=5",), "vectors.dim is 5, but the vectors have 4 dims"),
    ),
)
def test_what_is_wrong_with_vectors_is_said(data, fault, words, message):
    damaged(data.sets, fault)
    with pytest.raises(ValueError, match=message):
        data.build(*words)


def test_all_zero_is_no_fault_without_length_normalization(data):
    damaged(data.sets, "zero")
    assert data.build() == 0


def test_settings_about_time_are_off():
    config = resolve(["features.kind=vectors", "prior.cond_dim=12", "cmvn.scope=utterance", "splice.left=3"])
    assert (config.splice, config.cmvn.scope, config.latents.durations) == (Splice(0, 0, 1), "none", [])
    assert config.frames.dtype == "float32" and config.dim is None and config.prior.cond_dim == 12
    with pytest.raises(ValueError, match="flow.kind: conditional needs the frames before one"):
        resolve([*WORDS, "flow.kind=conditional"])
    with pytest.raises(ValueError, match="data.views: cut: a vector has no pieces of 2 seconds"):
        resolve(["features.kind=vectors", "data.views={cut: {sets: [test], seconds: 2}}"])


def test_all_dims_may_be_class_dependent():
    assert resolve(["prior.cond_dim=null"]).prior.cond_dim == 440
    assert resolve([*WORDS, "vectors.dim=30"]).prior.cond_dim == 30 and resolve(WORDS).prior.cond_dim is None
    with pytest.raises(ValueError, match=r"prior.cond_dim 31 is more than the 30 dims of a vector \(null: all of them"):
        resolve([*WORDS, "vectors.dim=30", "prior.cond_dim=31"])


def test_the_dims_that_stage_frames_found_are_those_of_the_model(data, monkeypatch):
    layout = Layout(data.folder, data.frames, data.frames, data.folder / "exp")
    config = resolve(WORDS)
    assert stage.with_dim(config, layout, "", []) == config
    data.build()
    monkeypatch.setattr(stage, "up_to_date", lambda name, *_: name == "frames")
    known = stage.with_dim(config, layout, "", [])
    assert known.dim == known.prior.cond_dim == 4
    assert stage.settings_of("train", known)["prior.cond_dim"] == 4 and config.prior.cond_dim is None
    with pytest.raises(ValueError, match=r"prior.cond_dim 5 is more than the 4 dims of a vector"):
        stage.with_dim(resolve([*WORDS, "prior.cond_dim=5"]), layout, "", [])


def test_what_is_made_of_vectors_lies_in_the_experiment(tmp_path):
    layout = Layout.make(tmp_path / "exp", "dnf", "mine", has_vectors=True)
    assert (layout.frames, layout.feats) == (layout.exp / "frames", layout.exp / "feats")
    assert layout.data == tmp_path / "data/own/mine" and layout.exp.name == "mine_dnf"


def test_a_model_of_vectors_takes_no_recordings(tmp_path):
    with pytest.raises(ValueError, match="exp: was trained on vectors and cannot read recordings"):
        check_takes_recordings(tmp_path / "exp", resolve(WORDS))
    check_takes_recordings(tmp_path / "exp", resolve([]))

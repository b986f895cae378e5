"""The baselines of stage 4, against scikit-learn, and the folders they leave and take away."""

import dataclasses
import functools
import json
import math
import tracemalloc
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from recipe_runs import stage_arguments
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.mixture import GaussianMixture

from dnf.decisions import decide
from dnf.experiment.settings import Baselines
from dnf.features.frame_store import FrameStore
from dnf.features.windows import Windows
from dnf.scoring import baselines, score
from dnf.scoring.latent_store import Latents
from dnf.training.baselines import SYSTEMS, fit_baseline
from dnf.training.baselines.baseline import shares_in_batches, vectors_of_class
from dnf.training.baselines.gmm import GMM
from dnf.training.baselines.lda import LDA
from dnf.training.baselines.lr import STRENGTHS
from dnf.training.baselines.mlp import MLP
from dnf.training.baselines.qda import QDA

CPU = torch.device("cpu")
SMALL = (
    "data.classes=[en, zh]",
    f"baselines.systems=[{', '.join(SYSTEMS)}]",
    "baselines.gmm_components=3",
    "baselines.mlp_hidden=16",
    "baselines.mlp_epochs=40",
)


@pytest.fixture(scope="module")
def root(write_store, two_classes, tmp_path_factory):
    """Frame stores of two classes; set other has class ja, unknown to the models, and scores."""
    root = tmp_path_factory.mktemp("baselines")
    unseen = {f"j{n}-u": (f"j{n}", "ja", *row[2:], float(n)) for n, row in enumerate(two_classes(4, 3, 40).values())}
    for name, rows in (
        ("train", two_classes(1, 8)),
        ("dev", two_classes(2)),
        ("test", two_classes(3)),
        ("other", unseen),
    ):
        write_store(root / "frames" / name, rows)
    (root / "classes.txt").write_text("en\nja\nzh\n")
    return root


@pytest.fixture(scope="module")
def run(root, small_config):
    def run(exp, *words: str):
        small_config(*SMALL, *words).save(exp / "config.yaml")
        assert baselines.main(stage_arguments(root, exp)) == 0
        return exp

    return run


@pytest.fixture(scope="module")
def done(run, tmp_path_factory):
    views = "{low: {sets: [other], scores: [0, 1]}, cut: {sets: [test], seconds: 0.1}, none: {sets: [test], scores: [1, 2]}}"
    return run(tmp_path_factory.mktemp("done"), f"data.views={views}")


def ratios(latents: Latents) -> tuple[list[bool], list[float]]:
    """Whether each utterance is of class zh, and its mean log-likelihood ratio."""
    means = [latents.loglik(u).mean(0) for u in latents.utts]
    return [u["class"] == "zh" for u in latents.utts], [float(m[1] - m[0]) for m in means]


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_baseline_tells_separable_classes_apart(done, name):
    true, llr = ratios(Latents.open(done / "baselines" / name / "latents" / "test"))
    assert roc_auc_score(true, llr) == 1.0 and [x > 0 for x in llr] == true


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_baseline_has_the_sets_views_and_rows_of_the_flow(done, root, name, small_config):
    folder, config = done / "baselines" / name / "latents", small_config(*SMALL)
    assert sorted(path.name for path in folder.iterdir()) == ["cut", "dev", "low", "other", "test", "train"]
    for made in folder.iterdir():
        latents, meta = Latents.open(made), json.loads((made / "meta.json").read_text())
        assert latents.classes == ["en", "zh"] and latents.cond_dim == 12
        assert latents.logp.shape == (meta["frames"], 2) and not latents.logdet.any()
    assert [u["score"] for u in Latents.open(folder / "low").utts] == ["0.0", "1.0"]
    windows = Windows(
        [FrameStore(root / "frames" / "other")],
        config.splice,
        config.cmvn,
        ["en", "zh"],
        keep_unseen=True,
        device=torch.device("cpu"),
    )
    model, _, classes = baselines.load_baseline(done / "baselines" / name / "model.pt")
    with torch.no_grad():
        expected = model(windows.gather(torch.arange(len(windows))))
    other = Latents.open(folder / "other")
    assert classes == other.classes and [u["rows"] for u in other.utts] == [s.rows for s in windows.segments()]
    np.testing.assert_allclose(other.logp, expected.float(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_later_stages_take_a_baseline_for_a_flow(done, name, tmp_path):
    exp = done / "baselines" / name
    (exp / "config.yaml").write_text((done / "config.yaml").read_text())
    assert score.main([str(exp)]) == 0 and decide.main([str(exp)]) == 0
    assert (exp / "accuracy.tsv").read_text().count("utt_accuracy\ttest\tall\t\t1.000000") == 1


def blobs(counts, dim: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Correlated vectors (N, D) around class means, and labels."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((dim, dim))
    labels = np.repeat(np.arange(len(counts)), counts)
    return (rng.standard_normal((len(labels), dim)) + labels[:, None] * 0.8) @ mix + 3, labels


@pytest.mark.parametrize("counts", [(300, 100), (200, 300, 100)])
def test_lda_densities_and_priors_give_the_posteriors_of_sklearn(small_config, counts):
    x, labels = blobs(counts, 5)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, labels)
    model = LDA(5, len(counts), small_config().baselines)
    model.fit_vectors((x[labels == k] for k in range(len(counts))), fitted.priors_)
    joint = model(torch.from_numpy(x)) + torch.from_numpy(fitted.priors_).log()
    np.testing.assert_allclose(torch.softmax(joint, 1), fitted.predict_proba(x), atol=1e-9)
    wanted = torch.distributions.MultivariateNormal(
        torch.from_numpy(fitted.means_[1]), torch.from_numpy(fitted.covariance_)
    )
    np.testing.assert_allclose(model(torch.from_numpy(x))[:, 1], wanted.log_prob(torch.from_numpy(x)), rtol=1e-9)


@pytest.mark.parametrize("classes", (["en", "zh"], ["en", "ja", "zh"]))
def test_lr_has_the_posteriors_of_sklearn_with_the_penalty_that_is_best_on_dev(
    write_store, tmp_path, classes, small_config
):
    rng, windows = np.random.default_rng(4), []
    for name in ("train", "dev"):
        rows = {
            f"{c}{n}-u": (f"{c}{n}", c, (rng.standard_normal((30, 4)) + 0.4 * k).astype(np.float32), np.ones(30))
            for k, c in enumerate(classes)
            for n in range(3)
        }
        write_store(tmp_path / name, rows)
    config = small_config("data.classes=[]", "train.sampling=balanced")
    windows = [
        Windows([FrameStore(tmp_path / name)], config.splice, config.cmvn, classes, keep_unseen=False, device=CPU)
        for name in ("train", "dev")
    ]
    model = fit_baseline("lr", *windows, classes, config)
    x, y, dev, true = (
        part
        for of_set in windows
        for part in (
            model.standardize(of_set.gather(torch.arange(len(of_set))).double())[0],
            of_set.labels(torch.arange(len(of_set))),
        )
    )
    fits = [LogisticRegression(C=strength, max_iter=1000, tol=1e-8).fit(x, y) for strength in STRENGTHS]
    losses = [log_loss(true, fitted.predict_proba(dev)) for fitted in fits]
    expected = fits[int(np.argmin(losses))].predict_log_proba(dev)
    found = model.log_posterior(windows[1].gather(torch.arange(len(windows[1]))))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_lda_holds_the_vectors_of_one_class_at_a_time(small_config):
    def peak(classes: int) -> int:
        model = LDA(8, classes, small_config().baselines)
        tracemalloc.start()
        model.fit_vectors((blobs((20000,), 8, k)[0] for k in range(classes)), np.full(classes, 1 / classes))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(12) < 1.2 * peak(2)


@pytest.mark.parametrize("counts", [(300, 100), (200, 300, 100)])
def test_qda_densities_and_priors_give_the_posteriors_of_sklearn(small_config, counts):
    x, labels = blobs(counts, 5)
    x = x * np.linspace(0.5, 2, len(counts))[labels, None]
    classes = [x[labels == k] for k in range(len(counts))]
    means, covariances = np.stack([c.mean(0) for c in classes]), np.stack([np.cov(c.T, bias=True) for c in classes])
    model = QDA(5, len(counts), small_config().baselines)
    model.set(torch.from_numpy(means), torch.from_numpy(covariances))
    fitted = QuadraticDiscriminantAnalysis().fit(x, labels)
    joint = model(torch.from_numpy(x)) + torch.from_numpy(fitted.priors_).log()
    np.testing.assert_allclose(torch.softmax(joint, 1), fitted.predict_proba(x), atol=1e-9)
    wanted = torch.distributions.MultivariateNormal(*map(torch.from_numpy, (means[1], covariances[1])))
    np.testing.assert_allclose(model(torch.from_numpy(x))[:, 1], wanted.log_prob(torch.from_numpy(x)), rtol=1e-9)


def test_qda_has_the_covariances_of_all_frames_and_shrinks_those_of_few(root, small_config, caplog):
    config = small_config("splice.left=4", "splice.right=4", "baselines.max_frames=20")
    open_set = functools.partial(
        Windows, splice=config.splice, cmvn=config.cmvn, classes=["en", "zh"], keep_unseen=False, device=CPU
    )
    train, dev = (open_set([FrameStore(root / "frames" / role)]) for role in ("train", "dev"))
    x, labels = train.gather(torch.arange(len(train))).double(), train.labels(torch.arange(len(train)))
    model = fit_baseline("qda", train, dev, ["en", "zh"], config)
    z = model.standardize(x)[0][labels == 1].numpy()
    covariance, weight = ledoit_wolf(z)
    inverse = (model.whiten[1] @ model.whiten[1].T).numpy()
    np.testing.assert_allclose(np.linalg.inv(inverse), covariance, rtol=1e-6, atol=1e-8)
    assert f"class zh: 200 vectors of 36 dims: covariance shrunk by {weight:.4f}" in caplog.text


def test_gmm_densities_are_those_of_sklearn_whatever_the_number_of_components(small_config):
    x, labels = blobs((200, 100), 4)
    model = GMM(4, 2, small_config("baselines.gmm_components=3").baselines)
    for label, components in enumerate((3, 2)):
        fitted = GaussianMixture(components, covariance_type="diag", random_state=0).fit(x[labels == label])
        model.set(label, fitted)
        np.testing.assert_allclose(model(torch.from_numpy(x))[:, label], fitted.score_samples(x), rtol=1e-8)


def test_densities_are_those_of_the_features_not_of_the_standardized_ones(small_config):
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 + 10
    settings = small_config("baselines.gmm_components=1").baselines
    for model in (LDA(3, 2, settings), QDA(3, 2, settings), GMM(3, 2, settings)):
        model.standardize.set(torch.full((3,), 10.0), torch.full((3,), 4.0))
        if isinstance(model, GMM):
            model.log_weights.zero_()
        wanted = torch.distributions.Normal(10.0, 4.0).log_prob(x).sum(1)
        np.testing.assert_allclose(model(x)[:, 0], wanted, rtol=1e-6)


def test_mlp_likelihoods_are_posteriors_without_the_priors_of_training(small_config):
    model = MLP(3, 2, small_config().baselines).eval()
    model.log_prior.copy_(torch.tensor([0.75, 0.25]).log())
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ratio, posterior = model(x).diff(dim=1)[:, 0], model.log_posterior(x).diff(dim=1)[:, 0]
    np.testing.assert_allclose(ratio, posterior + math.log(3), atol=1e-5)


@pytest.mark.parametrize("balanced", (True, False))
def test_shares_are_those_of_the_batches(root, small_config, balanced):
    config = small_config(f"train.sampling={'balanced' if balanced else 'natural'}")
    frames = FrameStore(root / "frames" / "other")
    stores = [FrameStore(root / "frames" / "train"), frames]
    windows = Windows(
        stores, config.splice, config.cmvn, ["en", "ja", "zh"], keep_unseen=False, device=torch.device("cpu")
    )
    shares = np.array([1, 1, 1]) / 3 if balanced else np.array([200, 120, 200]) / 520
    np.testing.assert_allclose(shares_in_batches(windows, ["en", "ja", "zh"], config), shares)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(done, run, tmp_path):
    for n, seed in enumerate((1, 2)):
        exp = run(tmp_path / str(seed), f"seed={seed}", "data.test=[test]")
        for name in ("gmm", "mlp"):
            one, two = (np.load(e / "baselines" / name / "latents" / "test" / "logp.npy") for e in (done, exp))
            assert np.array_equal(one, two) == (n == 0)


def test_few_frames_are_enough_and_they_are_evenly_spaced(root, run, small_config, tmp_path):
    exp = run(tmp_path, "baselines.max_frames=20", "baselines.gmm_components=30", "baselines.systems=[lda, gmm]")
    true, llr = ratios(Latents.open(exp / "baselines" / "lda" / "latents" / "test"))
    assert roc_auc_score(true, llr) == 1.0
    gmm, _, _ = baselines.load_baseline(exp / "baselines" / "gmm" / "model.pt")
    assert torch.isfinite(gmm.log_weights).sum().tolist() == 40  # 20 of 30 components for each class
    config = small_config()
    windows = Windows(
        [FrameStore(root / "frames" / "train")], config.splice, config.cmvn, ["en", "zh"], keep_unseen=False, device=CPU
    )
    taken = vectors_of_class(windows, 1, 200, 20, lambda x: (x, None))
    np.testing.assert_array_equal(taken, windows.gather(windows.rows_of_class(1, torch.arange(0, 200, 10))))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["baselines.enabled=false"], "the settings have none"),
        (["baselines.systems=[]"], "the settings have none"),
        (["prior.cond_dim=0"], "has no classes"),
        (["data.classes=[en]"], "has no classes"),
    ],
)
def test_without_baselines_there_are_none_left_and_one_line_says_why(run, tmp_path, caplog, words, reason):
    stale = tmp_path / "baselines" / "lda" / "latents" / "test"
    stale.mkdir(parents=True)
    with caplog.at_level("INFO"):
        run(tmp_path, *words)
    assert not (tmp_path / "baselines").exists()
    assert len(caplog.records) == 1 and reason in caplog.text


def test_what_is_no_longer_asked_for_goes_away(run, tmp_path):
    (tmp_path / "baselines" / "old" / "latents").mkdir(parents=True)
    run(tmp_path, "baselines.systems=[lda]", "data.test=[test]")
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["lda"]


def test_a_class_with_hardly_a_frame_is_an_error_that_names_it(write_store, two_classes, small_config, tmp_path):
    rows = two_classes(1)
    rows["x-u"] = ("x", "ja", np.ones((1, 4)), np.ones(1))
    for name, part in (("train", rows), ("dev", two_classes(2) | {"y-u": ("y", "ja", np.ones((1, 4)), np.ones(1))})):
        write_store(tmp_path / "frames" / name, part)
    (tmp_path / "classes.txt").write_text("en\nja\nzh\n")
    small_config().save(tmp_path / "exp" / "config.yaml")
    with pytest.raises(ValueError, match="class ja has 1 frames in train, too few for baselines"):
        baselines.main(stage_arguments(tmp_path))


OTHER = {  # another value of each setting
    "max_frames": 20,
    "gmm_components": 2,
    "mlp_hidden": 8,
    "mlp_layers": 1,
    "mlp_dropout": 0.0,
    "mlp_epochs": 3,
    "mlp_lr": 0.01,
    "mlp_weight_decay": 0.5,
}


@pytest.fixture(scope="module")
def fitted(root, small_config):
    """The state of a system fitted with ``section.key=value`` words."""

    @functools.cache
    def state(name: str, *words: str) -> dict[str, torch.Tensor]:
        config = small_config(*SMALL, "baselines.mlp_epochs=5", *words)
        train, dev = (
            Windows(
                [FrameStore(root / "frames" / role)],
                config.splice,
                config.cmvn,
                ["en", "zh"],
                keep_unseen=False,
                device=CPU,
            )
            for role in ("train", "dev")
        )
        return fit_baseline(name, train, dev, ["en", "zh"], config).state_dict()

    return state


def test_the_settings_offer_the_systems_there_are():
    offered = get_args(get_args(get_type_hints(Baselines)["systems"])[0])
    assert offered == tuple(SYSTEMS)
    assert {field.name for field in dataclasses.fields(Baselines)} == {"enabled", "systems"} | OTHER.keys()


@pytest.mark.parametrize("key", OTHER)
def test_a_setting_changes_the_system_it_names_and_no_other(fitted, key):
    def changed(name: str) -> bool:
        before, after = fitted(name), fitted(name, f"baselines.{key}={OTHER[key]}")
        return any(b.shape != after[k].shape or not torch.equal(b, after[k]) for k, b in before.items() if k in after)

    found = {name for name in SYSTEMS if changed(name)}
    owner = key.split("_")[0]
    assert found == {owner} if owner in SYSTEMS else found


@pytest.mark.parametrize(
    "word",
    ("baselines.systems=[svm]", "baselines.systems=[lda, lda]", "baselines.mlp_dropout=1.0", "baselines.max_frames=0"),
)
def test_settings_out_of_range_are_refused(small_config, word):
    with pytest.raises(ValueError, match="baselines"):
        small_config(word)

"""Where training starts: at Gaussian classes, held against scikit-learn's quadratic discriminant analysis."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from one_step import one_step
from scipy import stats
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from dnf.training import start as start_module
from dnf.training.evaluate import evaluate
from dnf.training.ranks import ALONE, Ranks
from dnf.training.train import make_trainer

GAUSSIAN = ("prior.cond_dim=12", "prior.variances=free")


@pytest.fixture(scope="module")
def stores(write_store, two_classes, tmp_path_factory):
    """Stores train (1000 vectors: enough for 12 dims) and dev."""
    folder = tmp_path_factory.mktemp("start")
    write_store(folder / "train", two_classes(1, utterances=10, frames=100))
    write_store(folder / "dev", two_classes(2, utterances=4))
    return folder


@pytest.fixture
def start(new_trainer, stores):
    return lambda *words, stores=stores: new_trainer(*words, stores=stores)


def everything(windows) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.arange(len(windows))
    return windows.gather(rows), windows.labels(rows)


@pytest.mark.parametrize("kind", ("realnvp", "maf", "spline"))
@pytest.mark.parametrize("mix", ("none", "permute", "lu"))
def test_step_0_is_quadratic_discriminant_analysis(start, kind, mix):
    """Two classes, all dims class-dependent, class variances: log-likelihood ratios equal to 1e-4."""
    trainer = start(*GAUSSIAN, "flow.first=joint", f"flow.kind={kind}", f"flow.mix={mix}", "flow.first_trainable=true")
    x, labels = everything(trainer.train)
    qda = QuadraticDiscriminantAnalysis().fit(x.double(), labels)
    for vectors in (x.double(), everything(trainer.dev)[0].double()):
        with torch.no_grad():
            ratios = trainer.model.double().log_prob(vectors).diff(dim=1)[:, 0]
        assert ratios.abs().max() > 5
        np.testing.assert_allclose(ratios, qda.decision_function(vectors), rtol=0, atol=1e-4)


@pytest.mark.parametrize("first", ("whiten", "joint"))
def test_the_density_at_step_0_is_that_of_gaussian_classes(start, first):
    """joint: full covariances. whiten with tied variances: one covariance, that of linear discriminant analysis."""
    tied = first == "whiten"
    trainer = start(*GAUSSIAN, f"flow.first={first}", f"prior.variances={'tied' if tied else 'free'}")
    x, labels = everything(trainer.train)
    x = x.double().numpy()
    covariances = [np.cov(x[labels == k].T, bias=True) for k in range(2)]
    if tied:
        covariances = [np.mean(covariances, 0)] * 2
    wanted = [stats.multivariate_normal(x[labels == k].mean(0), covariances[k]).logpdf(x) for k in range(2)]
    with torch.no_grad():
        found = trainer.model.double().log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(found, np.stack(wanted, 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("variances", ("tied", "free"))
@pytest.mark.parametrize("cond_r", (True, False))
def test_variances_start_at_those_of_the_latents_about_the_means_of_the_prior(start, variances, cond_r):
    trainer = start("prior.cond_dim=5", f"prior.cond_r={str(cond_r).lower()}", f"prior.variances={variances}")
    model, (x, labels) = trainer.model.double(), everything(trainer.train)
    with torch.no_grad():
        z = model(x.double())[0]
        about = torch.stack([(z[labels == k] - model.prior.class_means()[k]).square().mean(0) for k in range(2)])
        found = model.prior.class_log_variances().exp()
        np.testing.assert_allclose(
            model.prior.class_means()[:, :5], [z[labels == k, :5].mean(0) for k in range(2)], atol=1e-5
        )
    assert model.prior.class_means()[:, 5:].any() == cond_r
    own = torch.tensor([variances == "free"] * 5 + [variances == "free" and cond_r] * 7)
    wanted = torch.where(own, about, about.mean(0))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("words", [("prior.variances=fixed",), ("prior.variances=free", "train.sampling=balanced")])
def test_training_goes_down_from_there(start, words):
    trainer = start(
        "prior.cond_dim=12", *words, "flow.first=joint", "flow.first_trainable=true", "flow.mix=lu", "train.epochs=10"
    )
    before = evaluate(trainer.model, trainer.train)["nll"]
    while trainer.step < 200:
        trainer.advance()
    assert len(trainer.settle()) == 200
    assert evaluate(trainer.model, trainer.train)["nll"] < before - 0.05
    assert all(p.abs().max() > 1e-3 for name, p in trainer.model.named_parameters() if "factors" in name)


def test_a_flow_without_classes_is_whitened_by_the_covariance_of_all_vectors(start, caplog):
    trainer = start("prior.cond_dim=0", "flow.first=joint")
    z = trainer.model(everything(trainer.train)[0])[0].detach().double()
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(12), atol=1e-4)
    np.testing.assert_allclose(z.mean(0), np.zeros(12), atol=1e-4)
    assert "flow.first joint: the flow has no classes" in caplog.text


@pytest.mark.parametrize("first", ("whiten", "joint"))
def test_classes_whose_covariances_do_not_fit_share_one(start, monkeypatch, caplog, first):
    monkeypatch.setattr(start_module, "MOST_CELLS", 2 * 12**2 - 1)
    trainer = start("prior.cond_dim=12", "prior.variances=free", f"flow.first={first}")
    x, labels = everything(trainer.train)
    with torch.no_grad():
        z = trainer.model(x)[0].double()
    means = torch.stack([z[labels == k].mean(0) for k in range(2)])
    np.testing.assert_allclose(np.cov((z - means[labels]).T, bias=True), np.eye(12), atol=1e-4)
    np.testing.assert_allclose(trainer.model.prior.class_means().detach(), means, atol=1e-4)
    np.testing.assert_allclose(trainer.model.prior.class_log_variances().detach(), np.zeros((2, 12)), atol=1e-4)
    told = "flow.first joint: the covariances of 2 classes in 12 dims do not fit in memory, so the first layer is whitening"
    assert (told in caplog.text) == (first == "joint")


def test_one_class_is_whitened(small_config, stores, tmp_path, caplog):
    trainer = make_trainer(stores, tmp_path, small_config(*GAUSSIAN, "flow.first=joint"), ["zh"], ALONE)
    z = trainer.model(everything(trainer.train)[0])[0].detach().double()
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(12), atol=1e-4)
    assert "flow.first joint: there is one class" in caplog.text


@pytest.fixture
def telephone(write_store, two_classes, tmp_path):
    """Class zh has few vectors, and a feature that is constant: in both classes, or in zh alone."""

    def make(everywhere: bool):
        for name, seed, utterances in (("train", 1, 4), ("dev", 2, 2)):
            rows = two_classes(seed, utterances=utterances)
            few = {
                utt: (row[0], row[1], row[2][:4], row[3][:4]) if row[1] == "zh" else row for utt, row in rows.items()
            }
            for _, label, frames, _ in few.values():
                if everywhere or label == "zh":
                    frames[:, 3] = -15.9424
            write_store(tmp_path / name, few)
        return tmp_path

    return make


@pytest.mark.parametrize("everywhere", (True, False))
@pytest.mark.parametrize("first", ("standardize", "whiten", "joint"))
def test_few_vectors_and_constant_features_are_logged_and_make_nothing_infinite(
    start, telephone, caplog, first, everywhere
):
    trainer = start(*GAUSSIAN, f"flow.first={first}", stores=telephone(everywhere))
    assert "class zh: 8 vectors of 12 dims: covariance shrunk by" in caplog.text
    assert ("3 dims are constant in training and are modelled separately: 3 7 11" in caplog.text) == everywhere
    x, _ = everything(trainer.dev)
    z, logdet = trainer.model(x)
    assert z.isfinite().all() and logdet.isfinite().all() and z.abs().max() < 1e3
    np.testing.assert_allclose(trainer.model.inverse(z)[0].detach(), x, rtol=1e-4, atol=1e-3)
    assert np.isfinite(one_step(trainer)["nll"]) and np.isfinite(evaluate(trainer.model, trainer.dev)["nll"])


def test_every_rank_finds_the_first_layer_of_one_process(small_config, stores, tmp_path):
    """Two ranks, each with its share of the vectors."""
    config = small_config(*GAUSSIAN, "flow.first=joint")
    alone = make_trainer(stores, tmp_path, config, ["en", "zh"], ALONE)
    meet = threading.Barrier(2)
    given = [None, None]

    class Thread(Ranks):
        def sum_tensor(self, values):
            given[self.rank] = values
            meet.wait()
            total = given[0] + given[1]
            meet.wait()
            return total

        def wrap(self, model):
            return model

    with ThreadPoolExecutor(2) as pool:
        models = [
            t.model
            for t in pool.map(
                lambda rank: make_trainer(stores, tmp_path, config, ["en", "zh"], Thread(rank, 2)), range(2)
            )
        ]
    for model in models:
        for name in ("first.mean", "first.matrix", "prior.means", "prior.log_var_c"):
            torch.testing.assert_close(model.state_dict()[name], alone.model.state_dict()[name], rtol=1e-5, atol=1e-6)

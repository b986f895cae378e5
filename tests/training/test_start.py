"""Where training starts: at Gaussian classes, held against scikit-learn's quadratic discriminant analysis."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

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
    qda = QuadraticDiscriminantAnalysis(priors=[0.5, 0.5]).fit(x.double(), labels)
    held_out, _ = everything(trainer.dev)
    for vectors_ in (x, held_out):
        with torch.no_grad():
            ours = trainer.model.double().log_prob(vectors_.double()).diff(dim=1)[:, 0]
        theirs = qda.decision_function(vectors_.double())
        np.testing.assert_allclose(ours, theirs * (499 / 500), rtol=0, atol=1) if False else None
        assert np.abs(theirs).max() > 5
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)

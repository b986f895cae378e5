"""Fitting the baselines to training frames."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from dnf.experiment.config import Config
from dnf.features.rows import batch_for, evenly_spaced
from dnf.features.windows import Windows
from dnf.models.gaussians import GMM, LDA
from dnf.models.mlp import MLP
from dnf.models.standardize import Standardize
from dnf.training.mlp import train_mlp
from dnf.training.sampler import class_shares

log = logging.getLogger(__name__)

LEAST = 2  # frames a class needs to be fitted


def shares_of(train: Windows, classes: list[str], config: Config) -> Tensor:
    """Shares ``(K,)`` that the classes have in training batches."""
    return class_shares(list(train.class_counts(classes).values()), config.train.sampling == "balanced")


def of_class(windows: Windows, label: int, count: int, max_frames: int, standardize: Standardize) -> np.ndarray:
    """At most ``max_frames`` of the ``count`` vectors of a class, evenly spaced, standardized: ``(N, D)`` float64."""
    nth = evenly_spaced(count, max_frames)
    vectors = np.empty((len(nth), windows.dim))
    size = batch_for(windows.device)
    for first in range(0, len(nth), size):
        x = windows.gather(windows.rows_of_class(label, nth[first : first + size]))
        vectors[first : first + size] = standardize(x.double())[0].cpu().numpy()
    return vectors


def with_normalization(model: nn.Module, train: Windows) -> nn.Module:
    """``model`` on the device of ``train``, its first layer set to the mean and deviation of the frames."""
    model = model.to(train.device)
    model.standardize.set(*train.global_normalization())
    return model


def fit_lda(train: Windows, dev: Windows, classes: list[str], config: Config) -> LDA:
    """LDA with the covariance shrunk as Ledoit and Wolf say, which keeps it invertible."""
    model = with_normalization(LDA(train.dim, len(classes)), train)
    counts = list(train.class_counts(classes).values())
    vectors = [
        of_class(train, k, n, config.baselines.max_frames, model.standardize) for k, n in enumerate(counts)
    ]  # (N, D) of each class
    labels = np.repeat(np.arange(len(classes)), [len(v) for v in vectors])
    priors = shares_of(train, classes, config).numpy()
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
    model.set(lda.fit(np.concatenate(vectors), labels))
    return model


def fit_gmm(train: Windows, dev: Windows, classes: list[str], config: Config) -> GMM:
    """A mixture for each class by expectation-maximization."""
    settings = config.baselines
    model = with_normalization(GMM(train.dim, len(classes), settings.gmm_components), train)
    for label, (name, count) in enumerate(train.class_counts(classes).items()):
        vectors = of_class(train, label, count, settings.max_frames, model.standardize)
        components = min(settings.gmm_components, len(vectors))
        gmm = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=config.seed)
        with threadpool_limits(1, user_api="openmp"):  # k-means adds up in the order in which threads come to their end
            gmm.fit(vectors)
        log.info("gmm: class %s: %d frames, %d steps of EM", name, len(vectors), gmm.n_iter_)
        model.set(label, gmm)
    return model


def fit_mlp(train: Windows, dev: Windows, classes: list[str], config: Config) -> MLP:
    """The perceptron of ``dnf.training.mlp``, freed of the classes' shares in its batches."""
    return train_mlp(train, dev, classes, config, shares_of(train, classes, config).log())


FIT: dict[str, Callable[[Windows, Windows, list[str], Config], nn.Module]] = {
    "lda": fit_lda,
    "gmm": fit_gmm,
    "mlp": fit_mlp,
}

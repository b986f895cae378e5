"""Stage 4, after the latents: LDA, diagonal GMMs and an MLP on the frames of the flow, scored on the same sets.

Each leaves ``exp/<exp>/baselines/<name>/latents/<set>/`` as the flow leaves ``latents/<set>/``, with log-likelihoods of
the classes in ``logp`` and 0 in ``logdet``, so that every later stage treats all systems alike. LDA and GMM give
densities of the vectors as the flow does; the MLP gives them up to a constant common to the classes.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from dnf import checkpoint, entry
from dnf.classes import choose_classes, read_classes
from dnf.config import Config, from_saved
from dnf.environment import choose_device
from dnf.evaluate import batch_for, evenly_spaced
from dnf.flows import Standardize
from dnf.mlp import MLP, train_mlp
from dnf.sampler import class_shares
from dnf.scored import each_set, open_sets, write_scored, written_whole
from dnf.windows import Windows

log = logging.getLogger(__name__)

LEAST = 2  # frames a class needs to be fitted


class LDA(nn.Module):
    """Gaussians with one covariance for all classes, in float64.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.standardize = Standardize(dim)
        self.register_buffer("whiten", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(num_classes, dim, dtype=torch.float64))
        self.register_buffer("constant", torch.tensor(-0.5 * dim * math.log(2 * math.pi), dtype=torch.float64))

    def set(self, lda: LinearDiscriminantAnalysis) -> None:
        """Take what scikit-learn fitted; its solver must keep ``covariance_``."""
        factor = torch.linalg.cholesky(torch.from_numpy(lda.covariance_).double())
        eye = torch.eye(len(factor), dtype=torch.float64)
        self.whiten.copy_(torch.linalg.solve_triangular(factor, eye, upper=False).T)
        self.means.copy_(torch.from_numpy(lda.means_).to(self.whiten.device).double() @ self.whiten)
        self.constant.copy_(-0.5 * len(factor) * math.log(2 * math.pi) - factor.diagonal().log().sum())

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        z = z @ self.whiten
        squares = z.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * z @ self.means.T
        return self.constant - 0.5 * squares + change[:, None]


class GMM(nn.Module):
    """A mixture of M Gaussians with diagonal covariances for each class, in float64.

    Args:
        dim: D, dims of a vector.
        num_classes: K.
        components: M; a class may use fewer.
    """

    def __init__(self, dim: int, num_classes: int, components: int):
        super().__init__()
        self.standardize = Standardize(dim)
        shape = num_classes, components, dim
        self.register_buffer("log_weights", torch.full(shape[:2], -math.inf, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variances", torch.ones(shape, dtype=torch.float64))

    def set(self, label: int, gmm: GaussianMixture) -> None:
        """Take what scikit-learn fitted to the vectors of a class."""
        used = gmm.n_components
        self.log_weights[label, :used] = torch.from_numpy(gmm.weights_).log().to(self.means.device)
        self.means[label, :used] = torch.from_numpy(gmm.means_).to(self.means.device)
        self.variances[label, :used] = torch.from_numpy(gmm.covariances_).to(self.means.device)

    def forward(self, x: Tensor) -> Tensor:
        """log p(x | k) ``(N, K)`` of vectors ``(N, D)``, nats."""
        z, change = self.standardize(x.double())
        constant = self.log_weights - 0.5 * (2 * math.pi * self.variances).log().sum(2)
        squares = z.square()
        of_class = []
        for means, precisions, of_each in zip(self.means, 1 / self.variances, constant):
            distance = squares @ precisions.T - 2 * z @ (means * precisions).T + (means.square() * precisions).sum(1)
            of_class.append(torch.logsumexp(of_each - 0.5 * distance, dim=1))
        return torch.stack(of_class, dim=1) + change[:, None]


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
    """The perceptron of ``dnf.mlp``, freed of the classes' shares in its batches."""
    return train_mlp(train, dev, classes, config, shares_of(train, classes, config).log())


FIT: dict[str, Callable[[Windows, Windows, list[str], Config], nn.Module]] = {
    "lda": fit_lda,
    "gmm": fit_gmm,
    "mlp": fit_mlp,
}


def load(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, Config, list[str]]:
    """A baseline in evaluation mode, the settings it was made with and its classes, from its ``model.pt``."""
    content = checkpoint.load(path, device)
    config, classes = from_saved(content["config"]), content["classes"]
    make = {
        "lda": lambda: LDA(config.dim, len(classes)),
        "gmm": lambda: GMM(config.dim, len(classes), config.baselines.gmm_components),
        "mlp": lambda: MLP(config.dim, len(classes), config.baselines),
    }
    model = make[content["system"]]().to(device)
    model.load_state_dict(content["model"], strict=True)
    return model.eval(), config, classes


def why_none(config: Config, classes: list[str]) -> str | None:
    """Why an experiment has no baselines, in words; None if it has."""
    if not config.baselines.enabled or not config.baselines.systems:
        return "they are switched off"
    if config.prior.cond_dim == 0 or len(classes) < 2:
        return "its flow knows no classes"
    return None


def main(argv: list[str] | None = None) -> int:
    parser = entry.model_parser("dnf.baselines", __doc__)
    args = parser.parse_args(argv)
    config, root = Config.load(args.exp / "config.yaml"), args.exp / "baselines"
    classes = choose_classes(read_classes(args.classes), config.data.classes, args.classes)
    shutil.rmtree(root, ignore_errors=True)
    reason = why_none(config, classes)
    if reason:
        log.info("%s: no baselines: %s", args.exp, reason)
        return 0
    device = choose_device(args.device)
    opened, roles = open_sets(args.frames, config), {}
    for role in ("train", "dev"):
        stores = [opened.stores[name] for name in getattr(config.data, role)]
        roles[role] = Windows(stores, config.splice, config.cmvn, classes, keep_unseen=False, device=device)
        for name, count in roles[role].class_counts(classes).items():
            if count < LEAST:
                raise ValueError(
                    f"{args.frames}: class {name} has {count} frames in {role}, too few for baselines; "
                    "add recordings of it, or set baselines.enabled=false"
                )
    models = {}
    for name in config.baselines.systems:
        start = time.monotonic()
        models[name] = FIT[name](roles["train"], roles["dev"], classes, config).eval()
        size = sum(t.numel() for t in models[name].state_dict().values())
        log.info("%s: %s of %d numbers, made in %.1f s", args.exp, name, size, time.monotonic() - start)
        (root / name).mkdir(parents=True)
        content = {"system": name, "model": models[name].state_dict(), "classes": classes}
        checkpoint.save(root / name / "model.pt", content | {"config": checkpoint.config_tree(config)})
    meta = {"classes": classes, "cond_dim": config.dim}
    with torch.no_grad():
        for set_name, windows, _ in each_set(opened, config, classes, device):
            for name, model in models.items() if windows is not None else ():
                out = root / name / "latents" / set_name
                with written_whole(out) as folder:
                    write_scored(
                        folder, windows, meta, lambda rows, x: (model(x), torch.zeros(len(x))), f"{name} {out}"
                    )
    return 0


if __name__ == "__main__":
    entry.run(main)

"""Start of training: first layer, class means and class variances from the training vectors.

A new flow is the identity, so with means and variances of all classes and dims, training starts at Gaussian classes. With
``flow.first: joint`` and two classes it starts at quadratic discriminant analysis, since the first layer makes both
covariances diagonal.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnf.experiment.config import Config
from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows
from dnf.models.diagonalize import diagonal_of, diagonalize, whiten
from dnf.models.dnf import DNF
from dnf.models.standardize import Standardize
from dnf.training.class_statistics import class_means, class_statistics
from dnf.training.evaluate import AGREEMENT_FRAMES
from dnf.training.ranks import ALONE, Ranks
from dnf.training.sampler import class_shares

log = logging.getLogger(__name__)

MOST_CELLS = 50_000_000  # most K x D x D for which each class has its own covariance: 0.4 GB, and a copy


def of_each_class(windows: Windows, counts: Sequence[int], count: int) -> Tensor:
    """About ``count`` rows of ``windows``, evenly spaced within each class, with the same number from each class."""
    present = [k for k, n in enumerate(counts) if n]
    per_class = -(-count // len(present))
    return torch.cat([windows.rows_of_class(k, evenly_spaced(counts[k], per_class)) for k in present])


def start_model(model: DNF, train: Windows, classes: Sequence[str], config: Config, ranks: Ranks = ALONE) -> None:
    """Set the first layer and the prior of a new model.

    Class means come from a sample if no other class statistics are needed, else from all vectors.

    Args:
        model: on the device of ``train``.
        train: vectors of the classes, at least one of each.
        classes: their names, in id order.
        config: the settings.
        ranks: processes that call this together.
    """
    standardize = model.scale_context or Standardize(config.dim).to(train.device)
    standardize.set(*train.global_normalization())
    if config.flow.first == "standardize":
        mean, std = standardize.mean, standardize.std
        model.first.set(mean, torch.diag(1 / std)[:, model.frame] if model.frame else std)
    if config.flow.first == "standardize" and config.prior.variances == "fixed":
        rows = of_each_class(train, list(train.class_counts(classes).values()), AGREEMENT_FRAMES)
        model.init_means(train.gather(rows), train.labels(rows))
    else:
        start_from_statistics(model, train, classes, config, standardize, ranks)


def residual(covariance: Tensor, frame: slice) -> Tensor:
    """``(D, F)``: maps a window to its current frame minus the best linear prediction from the other frames.

    Args:
        covariance: invertible covariance of windows ``(D, D)``.
        frame: columns of the current frame.
    """
    dim = len(covariance)
    others = torch.cat([torch.arange(frame.start), torch.arange(frame.stop, dim)])
    taken = torch.eye(dim, dtype=covariance.dtype)[:, frame]
    taken[others] = -torch.linalg.solve(covariance[others][:, others], covariance[others, frame])
    return taken


def start_from_statistics(
    model: DNF, train: Windows, classes: Sequence[str], config: Config, standardize: Standardize, ranks: Ranks
) -> None:
    """Set the prior, and a first layer that decorrelates, from means and covariances of the classes, or of all vectors."""
    known = classes if config.prior.cond_dim else ["all"]
    kind, has_own = config.flow.first, len(known) == 1 or len(known) * config.dim**2 <= MOST_CELLS
    if has_own:
        statistics = class_statistics(train, known, standardize, ranks)
        counts, means = statistics.counts, statistics.means
    else:
        counts, means = class_means(train, known, standardize, ranks)
        statistics = class_statistics(train, ["all classes"], standardize, ranks, about=means)
    covariances = statistics.invertible().numpy()
    shares = class_shares(counts.tolist(), balanced=config.train.sampling != "natural")
    weights = shares if has_own else torch.ones(1, dtype=torch.float64)
    matrix = torch.eye(config.dim, dtype=torch.float64)[:, config.frame or slice(None)]
    if kind != "standardize":
        centre = counts @ means / counts.sum()
        if kind == "joint" and len(covariances) == 1:
            why = "there is one class" if config.prior.cond_dim else "the flow has no classes"
            if not has_own:
                why = f"the covariances of {len(known)} classes in {config.dim} dims do not fit in memory"
            log.warning("flow.first joint: %s, so the first layer is whitening, as with whiten", why)
            kind = "whiten"
        if config.frame:
            matrix = residual(torch.tensordot(weights, torch.from_numpy(covariances), 1), config.frame)
        inner = matrix.T.numpy() @ covariances @ matrix.numpy()
        found = diagonalize(inner, weights.numpy()) if kind == "joint" else whiten(np.tensordot(weights, inner, 1))
        matrix, means = matrix @ torch.from_numpy(found), means - centre
        mean, std = standardize.mean.cpu().double(), standardize.std.cpu().double()
        model.first.set(mean + std * centre, matrix / std[:, None])
    variances = torch.stack([torch.from_numpy(diagonal_of(matrix.numpy(), c)) for c in covariances])
    model.prior.start(means @ matrix, variances.expand(len(known), -1), shares)

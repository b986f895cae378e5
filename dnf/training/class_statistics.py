"""Counts, means and covariances of the classes, in memory K x D x D for any number of vectors, or D x D for a common covariance."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnf.experiment.layout import run_again
from dnf.features.rows import batch_for
from dnf.features.windows import Windows
from dnf.models.standardize import Standardize
from dnf.training.ranks import ALONE, Ranks

log = logging.getLogger(__name__)

FEWEST = 3  # fewest vectors of a class for its own covariance
FEW = 10  # vectors per dim; with fewer, the covariance is shrunk
LEAST_VARIANCE = 1e-6  # least variance of a direction, as a share of the variance of its features, for an inverse
NAMED = 8  # most constant dims that a message names


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of standardized vectors, in float64 on the processor.

    Attributes:
        classes: names of the classes, in id order.
        counts: number of vectors of each class ``(K,)``.
        means: ``(K, D)``.
        covariances: maximum-likelihood covariances ``(K, D, D)``.
        fourth: mean of ||x - mean||^4 ``(K,)``.
    """

    classes: Sequence[str]
    counts: Tensor
    means: Tensor
    covariances: Tensor
    fourth: Tensor

    def mean(self) -> Tensor:
        """Mean of all vectors ``(D,)``."""
        return self.counts @ self.means / self.counts.sum()

    def shrinkage(self, label: int) -> float:
        """Weight of the multiple of the identity in the covariance of a class, after Ledoit and Wolf.

        Source: "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Anal. 88
        (2004). It needs only the mean of ||x - mean||^4, so one pass gives the result of scikit-learn.
        """
        covariance = self.covariances[label]
        norm = covariance.square().sum()
        distance = norm - covariance.trace().square() / len(covariance)
        error = (self.fourth[label] - norm) / self.counts[label]
        return (error / distance).clamp(0, 1).item() if distance > 0 else 0.0

    def invertible(self) -> Tensor:
        """The covariances ``(K, D, D)``, regularized if they have no good inverse; the log lists the changes.

        A constant dim becomes independent of the others, with variance 1. The covariance of a class with few vectors is
        shrunk; a class with fewer than ``FEWEST`` gets the mean covariance of all classes. Directions that still have too
        little variance get ``LEAST_VARIANCE``.
        """
        covariances = self.covariances.clone()
        constant = self._constant_dims()
        for label, (name, count) in enumerate(zip(self.classes, self.counts.long().tolist())):
            covariance, dim = covariances[label], self.means.shape[1]
            if count < FEWEST:
                log.warning("class %s has %d vectors: its covariance is the mean of all classes", name, count)
                covariance.copy_(self._mean_covariance())
            elif count < FEW * dim:
                weight, variance = self.shrinkage(label), covariance.trace() / dim
                log.warning("class %s: %d vectors of %d dims: covariance shrunk by %.4f", name, count, dim, weight)
                covariance.mul_(1 - weight).diagonal().add_(weight * variance)
            covariance[constant], covariance[:, constant] = 0.0, 0.0
            covariance.diagonal()[constant] = 1.0
            self._lift(covariance, name)
        return covariances

    def _mean_covariance(self) -> Tensor:
        """Mean within-class covariance ``(D, D)``."""
        return torch.tensordot(self.counts / self.counts.sum(), self.covariances, 1)

    def _constant_dims(self) -> Tensor:
        """Indices of the dims that are constant over all vectors."""
        spread = (self.means - self.mean()).square() + self.covariances.diagonal(dim1=1, dim2=2)
        constant = torch.nonzero(self.counts @ spread / self.counts.sum() < LEAST_VARIANCE)[:, 0]
        if len(constant):
            names = " ".join(map(str, constant[:NAMED].tolist())) + " ..." * (len(constant) > NAMED)
            log.warning("%d dims are constant in training and are modelled separately: %s", len(constant), names)
        return constant

    def _lift(self, covariance: Tensor, name: str) -> None:
        """Raise the variances of directions to ``LEAST_VARIANCE``, in place."""
        least = LEAST_VARIANCE * torch.eye(len(covariance), dtype=torch.float64)
        if torch.linalg.cholesky_ex(covariance - least).info:
            values, directions = torch.linalg.eigh(covariance)
            flat = int((values < LEAST_VARIANCE).sum())
            log.warning("class %s is constant in %d directions: variance %g", name, flat, LEAST_VARIANCE)
            covariance.copy_(directions * values.clamp(min=LEAST_VARIANCE) @ directions.T)


def check_finite(x: Tensor, rows: Tensor, windows: Windows) -> None:
    """Raise ``ValueError`` for the first of vectors ``(N, D)``, ``rows`` ``(N,)`` of ``windows``, that is not finite."""
    broken = torch.nonzero(~x.isfinite().all(1))[:, 0]
    if len(broken):
        number = int(windows.segment(rows[broken[:1].cpu()]))
        segment = next(itertools.islice(windows.segments(), number, None))
        raise ValueError(
            f"set {segment.set}: frames of {segment.utt} are not finite; {run_again('features')} with --force"
        )


def standardized(windows: Windows, standardize: Standardize, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
    """All vectors of a rank in batches ``(N, D)`` float64, standardized, with their labels ``(N,)``.

    Raises:
        ValueError: a vector has a value that is not finite.
    """
    first, end = ranks.bounds(len(windows))
    for start in range(first, end, batch_for(windows.device)):
        rows = torch.arange(start, min(start + batch_for(windows.device), end))
        x = windows.gather(rows)
        check_finite(x, rows, windows)
        yield standardize(x.double())[0], windows.labels(rows)


@torch.no_grad()
def class_means(
    windows: Windows, classes: Sequence[str], standardize: Standardize, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Number of vectors ``(K,)`` and mean ``(K, D)`` of each class; arguments as of ``class_statistics``."""
    counts = torch.zeros(len(classes), dtype=torch.float64, device=windows.device)
    sums = torch.zeros(len(classes), windows.dim, dtype=torch.float64, device=windows.device)
    for x, labels in standardized(windows, standardize, ranks):
        counts += labels.bincount(minlength=len(classes))
        sums.index_add_(0, labels, x)
    counts, sums = (ranks.sum_tensor(t).cpu() for t in (counts, sums))
    return counts, sums / counts[:, None]


@torch.no_grad()
def class_statistics(
    windows: Windows,
    classes: Sequence[str],
    standardize: Standardize,
    ranks: Ranks = ALONE,
    about: Tensor | None = None,
) -> ClassStatistics:
    """Statistics of all vectors of ``windows``, standardized; every vector is gathered once.

    Args:
        windows: vectors of these classes only, at least one of each.
        classes: their names, in id order; a single class takes all vectors.
        standardize: the layer for standardization, which keeps the sums small.
        ranks: processes that call this together, each for its part of the vectors; all get the same result.
        about: ``(L, D)`` means of the labels from ``class_means``, subtracted from the vectors of each: the covariance of a
            single class is then the pooled one within the labels.

    Raises:
        ValueError: a vector has a value that is not finite.
    """
    k, dim, device = len(classes), windows.dim, windows.device
    about = about.to(device) if about is not None else None
    counts, norms, squares = (torch.zeros(k, dtype=torch.float64, device=device) for _ in range(3))
    sums, weighted = (torch.zeros(k, dim, dtype=torch.float64, device=device) for _ in range(2))
    products = torch.zeros(k, dim, dim, dtype=torch.float64, device=device)
    for x, labels in standardized(windows, standardize, ranks):
        x = x - about[labels] if about is not None else x
        for label in labels.unique().tolist() if k > 1 else [0]:
            of_class = x[labels == label] if k > 1 else x
            norm = of_class.square().sum(1)
            counts[label] += len(of_class)
            norms[label] += norm.sum()
            squares[label] += norm.square().sum()
            sums[label] += of_class.sum(0)
            weighted[label] += norm @ of_class
            products[label].addmm_(of_class.T, of_class)
    gathered = (ranks.sum_tensor(t).cpu() for t in (counts, norms, squares, sums, weighted, products))
    counts, norms, squares, sums, weighted, products = gathered
    means, n = sums / counts[:, None], counts
    square = means.square().sum(1)
    fourth = squares - 4 * (means * weighted).sum(1) + 2 * square * norms - 3 * n * square.square()
    for label, mean in enumerate(means):
        fourth[label] += 4 * mean @ products[label] @ mean
        products[label].div_(n[label]).addr_(mean, mean, alpha=-1)
    return ClassStatistics(classes, counts, means, products, fourth / n)

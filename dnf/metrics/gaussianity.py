"""Gaussianity of the latents: skewness and kurtosis of each dimension, pooled and within class, and Mardia's test.

Pooling well separated classes drives the kurtosis of a dimension towards -2 however Gaussian each class is; the
within-class figures, after each class has lost its own mean and scale, are the ones about Gaussianity.

References:
    P. Pebay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
    moments", Sandia report SAND2008-6212, 2008 (equations 1.1 to 1.6).
    K. V. Mardia, "Measures of multivariate skewness and kurtosis with applications", Biometrika 57, 1970.
    K. V. Mardia, "Applications of some measures of multivariate skewness and kurtosis in testing normality and
    robustness studies", Sankhya B 36, 1974 (exact moments under the Gaussian).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy import stats

BLOCK = 1024  # rows of the N x N product that Mardia's skewness holds at a time
CHUNK = 512  # rows whose powers are in the processor's cache together


class Shape(NamedTuple):
    """Shape of each latent dimension: third and fourth standardized moments, with 1/N throughout (no bias correction).

    Attributes:
        skew: (D,) float64, skewness, 0 for a Gaussian.
        kurt: (D,) float64, excess kurtosis, 0 for a Gaussian, never below -2.
    """

    skew: torch.Tensor
    kurt: torch.Tensor


class Mardia(NamedTuple):
    """Mardia's test of multivariate normality; see ``mardia``."""

    skew: float
    skew_stat: float
    skew_p: float
    kurt: float
    kurt_z: float
    kurt_p: float


class Sums(NamedTuple):
    """Counts, means and sums of powers of the deviations from the mean; ``...`` is empty or the classes."""

    count: torch.Tensor  # (...,)
    mean: torch.Tensor  # (..., D)
    m2: torch.Tensor  # (..., D)
    m3: torch.Tensor  # (..., D)
    m4: torch.Tensor  # (..., D)


class Moments:
    """Moments of each dimension up to order four, per class, gathered batch by batch in float64.

    Each batch is centred near its own mean before it is raised to any power and then merged (Pebay 2008), so a mean far
    from zero costs no digits and the result does not depend on how the frames were cut into batches.

    A dimension without variance has no shape: it is NaN in ``pooled`` if it is constant over all frames asked for, and
    NaN in ``within`` if it is constant within any of those classes (a class of one frame is). Classes without frames
    do not count; no frame at all is an error.

    Args:
        num_classes: K; labels are 0 to K - 1.
        dim: D, latent dimensions.
        device: where the sums live and are computed; it must know float64.
    """

    def __init__(self, num_classes: int, dim: int, device: torch.device | str = "cpu"):
        self.num_classes, self.dim, self.device = num_classes, dim, torch.device(device)
        self._sums = self._zeros()

    @property
    def count(self) -> torch.Tensor:
        """Frames of each class so far, (K,) float64."""
        return self._sums.count

    def update(self, z: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Args:
            z: (N, D) latents.
            labels: (N,) class ids, integers.

        Raises:
            ValueError: wrong shapes, a label out of range, or a latent that is NaN or infinite.
        """
        if z.ndim != 2 or z.shape[1] != self.dim or labels.shape != z.shape[:1]:
            raise ValueError(
                f"latents of shape {tuple(z.shape)} with labels of shape {tuple(labels.shape)}: "
                f"expected (N, {self.dim}) and (N,)"
            )
        if len(z) == 0:
            return
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(f"class ids from {low} to {high}: expected 0 to {self.num_classes - 1}; check classes.txt")
        z, labels = z.to(self.device), labels.to(self.device)
        for k in range(low, high + 1):
            x = z if low == high else z[labels == k]
            if not len(x):
                continue
            of_class = _central(x)
            if not torch.isfinite(of_class.mean).all():
                raise ValueError(
                    "a latent is NaN or infinite: the flow overflowed on these frames; check the checkpoint"
                )
            for total, merged in zip(self._sums, _merge(Sums(*(total[k] for total in self._sums)), of_class)):
                total[k] = merged

    def merge(self, other: Moments) -> Moments:
        """Add everything ``other`` has seen; returns self."""
        if (other.num_classes, other.dim) != (self.num_classes, self.dim):
            raise ValueError(
                f"moments of {other.num_classes} classes, {other.dim} dims do not merge "
                f"into {self.num_classes} classes, {self.dim} dims"
            )
        self._sums = _merge(self._sums, Sums(*(t.to(self.device) for t in other._sums)))
        return self

    def pooled(self, classes: Sequence[int] | None = None) -> Shape:
        """Shape of each dimension over all frames of the given class ids (default: all), classes thrown together."""
        rows = self._rows(classes)
        total = rows[0]
        for row in rows[1:]:
            total = _merge(total, row)
        skew, fourth = _standardized(total)
        return Shape(skew, fourth - 3)

    def within(self, classes: Sequence[int] | None = None) -> Shape:
        """Shape of each dimension after every class has lost its own mean and scale.

        Standardized so, class k has variance one and the mixture's moments are the averages of the classes'
        standardized moments, weighted by their counts; no second pass over the frames is needed. With one class this
        equals ``pooled``.
        """
        rows = self._rows(classes)
        weight = torch.stack([row.count for row in rows])[:, None]
        shapes = [_standardized(row) for row in rows]
        skew, fourth = (torch.stack(moment) for moment in zip(*shapes))
        weight = weight / weight.sum()
        return Shape((weight * skew).sum(0), (weight * fourth).sum(0) - 3)

    def fisher(self, classes: Sequence[int] | None = None) -> torch.Tensor:
        """Fisher ratio of each dimension (D,) float64: variance of the class means over the mean variance within class.

        Classes weigh the same, however many frames they have. NaN if there is no variance within class.
        """
        rows = self._rows(classes)
        means = torch.stack([row.mean for row in rows])
        within = torch.stack([row.m2 / row.count for row in rows]).mean(0)
        return means.var(0, correction=0) / torch.where(within > 0, within, torch.nan)

    def _zeros(self) -> Sums:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=self.device)

        return Sums(zeros(self.num_classes), *(zeros(self.num_classes, self.dim) for _ in range(4)))

    def _rows(self, classes: Sequence[int] | None) -> list[Sums]:
        wanted = range(self.num_classes) if classes is None else classes
        rows = [Sums(*(t[k] for t in self._sums)) for k in wanted if self._sums.count[k] > 0]
        if not rows:
            raise ValueError(f"no frames of class ids {list(wanted)}: no moments")
        return rows


def mardia(z: torch.Tensor, labels: torch.Tensor | None = None) -> Mardia:
    """Mardia's multivariate skewness and kurtosis within class, and tests of both against the Gaussian.

    Every class is centred and whitened with its own mean and covariance (1/n) and measured in its own coordinates; b1
    and b2 are averages over the classes, weighted by frames, and do not change with any affine map of a class. Both
    statistics are centred (and the kurtosis scaled) with their *exact* moments under the Gaussian (Mardia 1974): the
    asymptotic ones of 1970 are wrong by many standard deviations at the hundreds of dimensions of a latent space.
    Under the Gaussian ``skew_stat`` is approximately chi-square with D(D+1)(D+2)/6 degrees of freedom a class, and
    ``kurt_z`` standard normal.

    The tests take the rows as independent. Neighbouring speech frames are not (spliced ones even share their
    samples), so the caller passes a sample thinned in time, far enough apart, not a run of frames. With very many
    frames any real network is rejected: read the sizes, ``skew`` and ``kurt / (D (D + 2)) - 1``, next to the p values.

    Args:
        z: (N, D) latents; each class needs more than D + 1 rows (and 3). Time is O(N^2 D), memory O(N (D + 1024)).
        labels: (N,) class ids; None for a single class.

    Returns:
        skew: b1, mean of (w_i . w_j)^3 over pairs of a class, 0 for a Gaussian but for sampling, which adds about
            D(D+1)(D+2)/n; skew_stat, skew_p: chi-square and upper tail.
        kurt: b2, mean of (w_i . w_i)^2, D (D + 2) for a Gaussian; kurt_z, kurt_p: normal score and two-sided p.

    Raises:
        ValueError: too few rows in a class, or dimensions that depend on each other linearly.
    """
    groups, d = _groups(z, labels), z.shape[1]
    skew = skew_stat = kurt = excess = variance = 0.0
    freedom = d * (d + 1) * (d + 2) / 6
    for group in groups:
        n, share, w = len(group), len(group) / len(z), _whiten(group)
        b1 = sum((w[i : i + BLOCK] @ w.T).pow_(3).sum().item() for i in range(0, n, BLOCK)) / n**2
        b2 = w.pow(2).sum(1).pow(2).mean().item()
        skew += share * b1
        skew_stat += freedom * b1 * (n + 1) * (n + 3) / (d * (d + 2) * ((n + 1) * (d + 1) - 6))
        kurt += share * b2
        excess += share * (b2 - d * (d + 2) * (n - 1) / (n + 1))
        spread = (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
        variance += share**2 * 8 * d * (d + 2) * spread
    skew_p = float(stats.chi2.sf(skew_stat, freedom * len(groups)))
    kurt_z = excess / variance**0.5
    return Mardia(skew, skew_stat, skew_p, kurt, kurt_z, float(2 * stats.norm.sf(abs(kurt_z))))


def _groups(z: torch.Tensor, labels: torch.Tensor | None) -> list[torch.Tensor]:
    """Rows ``(N, D)`` of each class, float64; raises ``ValueError`` if they are too few for ``mardia``."""
    if z.ndim != 2 or (labels is not None and labels.shape != z.shape[:1]):
        shape = None if labels is None else tuple(labels.shape)
        raise ValueError(f"latents of shape {tuple(z.shape)} with labels of shape {shape}: expected (N, D) and (N,)")
    z = z.to(torch.float64)
    if not torch.isfinite(z).all():
        raise ValueError("a latent is NaN or infinite: the flow overflowed on these frames; check the checkpoint")
    groups = [z] if labels is None else [z[labels == k] for k in labels.unique().tolist()]
    d, least = z.shape[1], max(z.shape[1] + 2, 4)
    short = min((len(group) for group in groups), default=0)
    if d == 0 or short < least:
        raise ValueError(f"Mardia's test needs at least {least} frames of each class for {d} dims, got {short}")
    return groups


def _central(x: torch.Tensor) -> Sums:
    """Sums of one class's rows ``(N, D)``: of powers about a centre near the mean, then moved to the mean."""
    n, near = len(x), x[0].double() + (x - x[0]).mean(0).double()  # exact for a constant
    s1, s2, s3, s4 = torch.zeros(4, x.shape[1], dtype=torch.float64, device=x.device)
    for rows in x.split(CHUNK if x.device.type == "cpu" else n):
        d = rows - near
        square = d * d
        s1 += d.sum(0)
        s2 += square.sum(0)
        s3 += d.mul_(square).sum(0)
        s4 += square.mul_(square).sum(0)
    e = s1 / n
    m2 = s2 - n * e**2
    m3 = s3 - 3 * e * s2 + 2 * n * e**3
    m4 = s4 - 4 * e * s3 + 6 * e**2 * s2 - 3 * n * e**4
    return Sums(torch.tensor(n, dtype=torch.float64), near + e, m2, m3, m4)


def _merge(a: Sums, b: Sums) -> Sums:
    """Sums over the union of two disjoint samples; either may be empty (Pebay 2008, equations 2.1)."""
    count = a.count + b.count
    safe = count.clamp(min=1.0)
    p, q, n = (t.unsqueeze(-1) for t in (a.count / safe, b.count / safe, count))
    delta = b.mean - a.mean
    return Sums(
        count,
        a.mean + q * delta,
        a.m2 + b.m2 + n * p * q * delta**2,
        a.m3 + b.m3 + n * p * q * (p - q) * delta**3 + 3 * delta * (p * b.m2 - q * a.m2),
        a.m4
        + b.m4
        + n * p * q * (p * p - p * q + q * q) * delta**4
        + 6 * delta**2 * (p * p * b.m2 + q * q * a.m2)
        + 4 * delta * (p * b.m3 - q * a.m3),
    )


def _standardized(sums: Sums) -> tuple[torch.Tensor, torch.Tensor]:
    """Third and fourth standardized moments (D,), NaN if the variance is zero."""
    n = sums.count
    var = torch.where(sums.m2 > 0, sums.m2 / n, torch.nan)
    return sums.m3 / n / var**1.5, sums.m4 / n / var**2


def _whiten(x: torch.Tensor) -> torch.Tensor:
    """(n, D) -> (n, D) with mean zero and covariance (1/n) the identity."""
    x = x - x[0]  # exact for a constant
    x = x - x.mean(0)
    scale = x.pow(2).mean(0).sqrt()
    constant = torch.nonzero(scale == 0).flatten().tolist()
    if constant:
        raise ValueError(
            f"{len(constant)} latent dims are constant within a class, for example dim {constant[0]}: leave them out"
        )
    x = x / scale
    factor, failed = torch.linalg.cholesky_ex(x.T @ x / len(x))
    if failed or factor.diagonal().min() < 1e-6:
        raise ValueError(f"the {x.shape[1]} latent dims are linearly dependent within a class: leave some out")
    return torch.linalg.solve_triangular(factor, x.T, upper=False).T

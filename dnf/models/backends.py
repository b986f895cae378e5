"""Back-ends that score a test vector against one or several enrolment vectors: cosine, PLDA, normalized likelihood.

All of them are products of features: score = enrolled . tested, with a row of features for each enrolment and each test
vector. So a block of scores is one product of matrices, and the number of trials needs no memory (``dnf.verification.scores``).

``Plda`` is the two-covariance model of Bruemmer and De Villiers, "The speaker partitioning problem", Odyssey 2010:
speakers y ~ N(m, B) and vectors x ~ N(y, W). Its score is log p(x | x_1 ... x_n) - log p(x), nats, for any number n of
enrolment vectors. Normalized likelihood (NL) is the same ratio in the latent space of a DNF, where the covariance within
speakers is the variance of the prior, and only the diagonal covariance of the speakers is estimated ("Neural discriminant
analysis for deep speaker embedding", arXiv:2005.11905). The Jacobian cancels in the ratio.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

STEPS = 20  # most steps of EM
TOLERANCE = 1e-4  # nats per vector; EM ends when the likelihood rises by less
LEAST = 1e-8  # least eigenvalue of a covariance, as a share of its largest
BLOCK = 10_000  # vectors whose features are made at once


class Groups(NamedTuple):
    """Vectors in groups, by speaker or by enrolment.

    Attributes:
        counts: ``(G,)`` vectors of each group.
        means: ``(G, D)`` float64.
    """

    counts: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, group: np.ndarray, count: int | None = None) -> Groups:
        """Groups of vectors ``(U, D)``, with the group of each ``(U,)``; ``count`` groups, each with a vector or more."""
        order = np.argsort(group, kind="stable")
        counts = np.bincount(group, minlength=count or 0)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        means = np.empty((len(counts), x.shape[1]))
        step = max(1, BLOCK // max(1, int(counts.mean())))
        for first in range(0, len(counts), step):
            last = min(first + step, len(counts))
            rows = order[starts[first] : starts[last - 1] + counts[last - 1]]
            means[first:last] = np.add.reduceat(x[rows].astype(np.float64), starts[first:last] - starts[first])
        return cls(counts, means / counts[:, None])


def of_length_one(x: np.ndarray) -> np.ndarray:
    """Vectors ``(N, D)`` of length 1; a zero vector stays zero."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


class Cosine:
    """Cosine of the angle between the test vector and the mean of the enrolment vectors, all centred, mapped and of length 1.

    Args:
        mean: ``(D,)`` mean of the training vectors.
        matrix: ``(D, E)`` the map; None: none.
    """

    def __init__(self, mean: np.ndarray, matrix: np.ndarray | None = None):
        self.mean, self.matrix = mean, matrix

    @classmethod
    def fit(cls, x: np.ndarray, speaker: np.ndarray) -> Cosine:
        """From training vectors ``(U, D)``; their speakers ``(U,)`` are not used."""
        return cls(x.mean(0, dtype=np.float64))

    @classmethod
    def uncentred(cls, x: np.ndarray, speaker: np.ndarray) -> Cosine:
        """Of vectors as they are; the training vectors have no influence."""
        return cls(np.zeros(x.shape[1]))

    @classmethod
    def lda(cls, x: np.ndarray, speaker: np.ndarray) -> Cosine:
        """In all directions of a linear discriminant analysis of the speakers, where the covariance within them is I."""
        groups = Groups.of(x, speaker)
        within = lifted(scatter_within(x, speaker, groups) / len(x))
        axes, _ = diagonalizing(np.cov(groups.means.T).reshape(within.shape), within)
        return cls(x.mean(0, dtype=np.float64), axes[:, ::-1][:, : len(groups.counts) - 1])

    def prepared(self, x: np.ndarray) -> np.ndarray:
        """Centred and mapped vectors ``(N, E)`` of length 1, whose means are the enrolments."""
        return of_length_one(x - self.mean if self.matrix is None else (x - self.mean) @ self.matrix)

    def enrolled(self, groups: Groups) -> np.ndarray:
        """Features ``(G, D)`` of enrolments, from groups of prepared vectors."""
        return of_length_one(groups.means)

    def tested(self, prepared: np.ndarray) -> np.ndarray:
        """Features ``(N, D)`` of prepared test vectors."""
        return prepared


class Plda:
    """Two-covariance model; the score is a log-likelihood ratio, nats.

    Args:
        mean: ``(D,)`` m.
        between: ``(D, D)`` B, covariance of the speakers.
        within: ``(D, D)`` W, covariance of the vectors of a speaker.
    """

    def __init__(self, mean: np.ndarray, between: np.ndarray, within: np.ndarray):
        self.mean, self.between, self.within = mean, between, within
        self.axes, self.spread = diagonalizing(between, within)

    @classmethod
    def fit(cls, x: np.ndarray, speaker: np.ndarray) -> Plda:
        """By expectation-maximization from training vectors ``(U, D)`` with speakers ``(U,)``, integers from 0 on.

        Speakers may have different numbers of vectors.

        Raises:
            ValueError: too few vectors, or no speaker has two.
        """
        groups = Groups.of(x, speaker)
        scatter = scatter_within(x, speaker, groups)
        free = len(x) - len(groups.counts)
        if len(groups.counts) < 2 or free < x.shape[1]:
            raise ValueError(
                f"PLDA: {len(x)} training vectors of {len(groups.counts)} speakers are too few for {x.shape[1]} dims; "
                "project the vectors (vectors.project), or score by cosine"
            )
        within = lifted(scatter / free)
        mean = groups.means.mean(0)
        between = lifted(np.cov(groups.means.T).reshape(within.shape) - within * (1 / groups.counts).mean())
        model, before = cls(mean, between, within), -np.inf
        for _ in range(STEPS):
            model, likelihood = model.step(groups, scatter)
            if likelihood - before < TOLERANCE * len(x):
                break
            before = likelihood
        return model

    def step(self, groups: Groups, scatter: np.ndarray) -> tuple[Plda, float]:
        """A step of EM, and the log-likelihood of the vectors before it, nats, up to a constant of the vectors.

        Args:
            groups: the vectors of each speaker.
            scatter: ``(D, D)`` sum of squares of the vectors about the means of their speakers.
        """
        n = groups.counts[:, None]
        centred = (groups.means - self.mean) @ self.axes
        # of y given the vectors, in the axes where W is I and B is diagonal
        variance = self.spread / (n * self.spread + 1)
        speakers = n * variance * centred
        total = self.spread + 1 / n
        likelihood = -0.5 * (centred**2 / total + np.log(total)).sum()
        likelihood += n.sum() * np.linalg.slogdet(self.axes)[1] - 0.5 * ((self.axes.T @ scatter) * self.axes.T).sum()
        back = np.linalg.inv(self.axes)
        shift = speakers.mean(0)
        about = speakers - shift
        between = (about.T @ about + np.diag(variance.sum(0))) / len(n)
        rest = centred - speakers
        within = ((n * rest).T @ rest + np.diag((n * variance).sum(0))) / n.sum()
        made = lifted(back.T @ within @ back + scatter / n.sum())
        return Plda(self.mean + shift @ back, lifted(back.T @ between @ back), made), float(likelihood)

    def prepared(self, x: np.ndarray) -> np.ndarray:
        """Vectors ``(N, D)`` in the axes where W is the identity matrix and B is diagonal."""
        return (x - self.mean) @ self.axes

    def enrolled(self, groups: Groups) -> np.ndarray:
        """Features ``(G, 2 D + 2)`` of enrolments, from groups of prepared vectors."""
        n = groups.counts[:, None]
        posterior = self.spread / (n * self.spread + 1)
        centre, variance = n * posterior * groups.means, 1 + posterior
        constant = -0.5 * (centre**2 / variance + np.log(variance)).sum(1)
        return np.column_stack([-0.5 / variance, centre / variance, constant, np.ones(len(n))])

    def tested(self, prepared: np.ndarray) -> np.ndarray:
        """Features ``(N, 2 D + 2)`` of prepared test vectors."""
        total = 1 + self.spread
        alone = 0.5 * (prepared**2 / total + np.log(total)).sum(1)
        return np.column_stack([prepared**2, prepared, np.ones(len(prepared)), alone])


class LengthNormalized:
    """PLDA on whitened vectors of length sqrt(D) (Garcia-Romero and Espy-Wilson, Interspeech 2011).

    Args:
        mean: ``(D,)`` of the training vectors.
        whiten: ``(D, E)``, after which their covariance is the identity matrix.
        plda: fitted to the vectors after these steps.
    """

    def __init__(self, mean: np.ndarray, whiten: np.ndarray, plda: Plda):
        self.mean, self.whiten, self.plda = mean, whiten, plda
        self.enrolled, self.tested = plda.enrolled, plda.tested

    @classmethod
    def fit(cls, x: np.ndarray, speaker: np.ndarray) -> LengthNormalized:
        """As ``Plda.fit``."""
        mean = x.mean(0, dtype=np.float64)
        values, directions = np.linalg.eigh(np.cov(x.T.astype(np.float64)).reshape(2 * x.shape[1:]))
        good = values > LEAST * values[-1]
        whiten = directions[:, good] / np.sqrt(values[good])
        return cls(mean, whiten, Plda.fit(normalized(x, mean, whiten), speaker))

    def prepared(self, x: np.ndarray) -> np.ndarray:
        """Vectors ``(N, D)`` after all steps, ``(N, E)``."""
        return self.plda.prepared(normalized(x, self.mean, self.whiten))


def normalized(x: np.ndarray, mean: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    """Whitened vectors of length sqrt(E), ``(N, E)``."""
    return np.sqrt(whiten.shape[1]) * of_length_one((x - mean) @ whiten)


def normalized_likelihood(x: np.ndarray, speaker: np.ndarray, within: np.ndarray) -> Plda:
    """Back-end of normalized likelihood for latents ``(U, D)`` with speakers ``(U,)``.

    Args:
        x, speaker: training latents, and the speaker of each, integers from 0 on.
        within: ``(D,)`` variances of the flow's prior within a class.
    """
    groups = Groups.of(x, speaker)
    between = groups.means.var(0) - within * (1 / groups.counts).mean()
    return Plda(groups.means.mean(0), np.diag(np.maximum(between, LEAST * within)), np.diag(within))


def scatter_within(x: np.ndarray, speaker: np.ndarray, groups: Groups) -> np.ndarray:
    """Sum ``(D, D)`` of squares of vectors ``(U, D)`` about the mean of their group."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        rest = x[first : first + BLOCK] - groups.means[speaker[first : first + BLOCK]]
        total += rest.T @ rest
    return total


def lifted(covariance: np.ndarray) -> np.ndarray:
    """The covariance ``(D, D)`` with eigenvalues of ``LEAST`` of the largest or more."""
    values, directions = np.linalg.eigh((covariance + covariance.T) / 2)
    return directions * np.maximum(values, max(LEAST * values[-1], np.finfo(float).tiny)) @ directions.T


def diagonalizing(between: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes ``(D, D)`` as columns and variances ``(D,)``: ``axes' within axes = I``, ``axes' between axes = diag(variances)``."""
    factor = np.linalg.inv(np.linalg.cholesky(within)).T
    values, directions = np.linalg.eigh(factor.T @ between @ factor)
    return factor @ directions, np.maximum(values, 0)

"""Open-set detection: is an utterance of none of the known classes?

The scores are fitted on training and dev utterances of known classes. An utterance has four figures (``FIGURES``), which
are larger if it is less like the known classes:

    density     - mean over frames of log p(x), the classes' densities weighted equally
    typicality  distance of mean log p(x), or of the mean log prior density of z (a function of the mean squared norm of z
                about its class mean), from dev's, on both sides: data that are *too* likely are not typical
    distance    squared Mahalanobis distance of the utterance's mean latent from the nearest class, over the expected
                distance at its duration; the covariance is the within-class covariance of training utterances' mean
                latents, shrunk
    gap         - |mean log p(x | best class) - mean log p(x | second)|: unknown data lie between the classes

``combined`` is the sum of typicality, distance and gap, each in standard deviations of dev. It leaves out density, since
typicality contains it, two-sided, and since a flow can give unseen data a higher density than its training data.
Utterances of unseen classes are not used in the fit or for the threshold, which is a quantile over dev with equal weights
of classes and of speakers. The scales come from dev, too: on new speakers somewhat more than ``false_alarm`` are flagged.

``docs/open_set.md`` says how the default was chosen, which used class je of the mini corpus, and what was tried later without
it (covariance shrunk by speakers left out: AUC 0.01 higher, not built; hybrid training: 0.05 and 0.21 higher on two pairs of
classes, the first still at chance).

References:
    E. Nalisnick, A. Matsukawa, Y. W. Teh, B. Lakshminarayanan, "Detecting out-of-distribution inputs to deep generative
    models using typicality", arXiv:1906.02994, 2019.
    K. Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
    arXiv:1807.03888, 2018 (Mahalanobis distance from the nearest class mean under a tied covariance).
    O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate
    Analysis 88, 2004.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dnf.decisions.utterance_summary import Summary
from dnf.experiment.files import intact, write_arrays, write_json
from dnf.experiment.layout import run_again
from dnf.experiment.settings import OpenSetSettings

MOST = 20000  # most training utterances for the covariance
LEAST = 8  # fewest dev utterances for a threshold
CHUNK = 256  # utterances whose mean latents are in memory at a time; more are slower with thousands of classes


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a figure at n frames: the variance is ``base + per_frame / n``."""

    mean: float
    base: float
    per_frame: float

    @classmethod
    def fit(cls, values: np.ndarray, frames: np.ndarray) -> Scale:
        mean = float(values.mean())
        base, per_frame = against_frames((values - mean) ** 2, frames)
        return cls(mean, base, per_frame)

    def __call__(self, values: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return (values - self.mean) / np.sqrt(self.base + self.per_frame / frames)


def against_frames(values: np.ndarray, frames: np.ndarray) -> tuple[float, float]:
    """Least-squares fit of ``values`` ``(U,)`` by a + b / frames with a, b >= 0, not both zero."""
    from scipy.optimize import nnls  # slow to import, and only a fit needs it

    (a, b), _ = nnls(np.stack([np.ones(len(frames)), 1 / frames], axis=1), values)
    return (float(a), float(b)) if a + b > 0 else (1e-12, 0.0)


@dataclass(frozen=True)
class OpenSet:
    """A fitted score with its threshold.

    Attributes:
        classes: K names of the model's classes.
        means: ``(K, D)`` mean latents of the classes.
        precision: ``(D, D)`` inverse covariance of mean latents of utterances within class.
        expected: a, b of the expected squared distance a + b / frames.
        inner: scales of log p(x) and of the log prior density under the nearest class.
        scales: scale of each figure.
        score_name: the score of the decision, one of ``SCORES``.
        threshold: utterances with a higher score are of none of the classes.
        false_alarm: share of flagged known-class utterances that the threshold was set for.
    """

    classes: list[str]
    means: np.ndarray
    precision: np.ndarray
    expected: tuple[float, float]
    inner: dict[str, Scale]
    scales: dict[str, Scale]
    score_name: str
    threshold: float
    false_alarm: float

    @classmethod
    def fit(
        cls,
        train: Summary,
        train_labels: Sequence[str],
        dev: Summary,
        classes: Sequence[str],
        settings: OpenSetSettings,
        dev_names: Sequence[tuple[str, str]] = (),
    ) -> OpenSet:
        """Means and covariance from training utterances, scales and threshold from dev.

        Args:
            train: utterances of known classes, ``train_labels`` their classes.
            dev: utterances of known classes.
            classes: classes of the model.
            settings: the score and the false-alarm rate.
            dev_names: class and speaker of each dev utterance, for the threshold; empty: equal weights of utterances.

        Raises:
            ValueError: a class without training utterances, or too few dev utterances.
        """
        labels = np.asarray(train_labels)
        present = set(train_labels)
        absent = [name for name in classes if name not in present]
        if absent:
            raise ValueError(f"no training utterance of class {absent[0]}: it has no mean latent; check data.classes")
        if len(dev.frames) < LEAST:
            raise ValueError(
                f"{len(dev.frames)} dev utterances of known classes are too few for a threshold; {LEAST} are needed"
            )
        means, precision = gaussian(train.z_mean, labels, classes)
        likely = {"density": dev.mixture + dev.logdet, "norm": dev.best[:, 0]}
        model = cls(
            classes=list(classes),
            means=means,
            precision=precision,
            expected=against_frames(nearest(dev.z_mean, means, precision), dev.frames),
            inner={name: Scale.fit(values, dev.frames) for name, values in likely.items()},
            scales={},
            score_name=settings.score,
            threshold=0.0,
            false_alarm=settings.false_alarm,
        )
        scales = {name: Scale.fit(values, dev.frames) for name, values in model.figures(dev).items()}
        model = replace(model, scales=scales)
        weights = weights_of(dev_names) if dev_names else np.ones(len(dev.frames))
        return replace(model, threshold=threshold(model.score(dev), settings.false_alarm, weights))

    def figures(self, summary: Summary) -> dict[str, np.ndarray]:
        """The ``FIGURES`` ``(U,)`` that the model has, each in its own unit."""
        values = {name: figure(self, summary) for name, figure in FIGURES.items()}
        return {name: figure for name, figure in values.items() if figure is not None}

    @property
    def score_names(self) -> list[str]:
        """Names of the ``SCORES`` that the model has."""
        return [name for name, parts in SCORES.items() if not self.scales.keys().isdisjoint(parts)]

    def score(self, summary: Summary, name: str | None = None) -> np.ndarray:
        """The score ``(U,)``, in standard deviations of dev; larger for utterances that are less like the known classes.

        Raises:
            ValueError: the score is the gap, and the model has only one class.
        """
        return self.score_of(self.figures(summary), summary.frames, name)

    def score_of(self, figures: dict[str, np.ndarray], frames: np.ndarray, name: str | None = None) -> np.ndarray:
        """The same, from the output of ``figures`` for utterances of ``frames`` ``(U,)``."""
        parts = [part for part in SCORES[name or self.score_name] if part in figures]
        if not parts:
            raise ValueError(f"open_set.score {name or self.score_name}: a model of one class has no gap; use combined")
        return sum(self.scales[part](figures[part], frames) for part in parts)

    def is_none_of_these(self, summary: Summary) -> np.ndarray:
        """Whether each utterance ``(U,)`` is flagged: its score is above the threshold."""
        return self.score(summary) > self.threshold

    def save(self, path: Path) -> None:
        """Write ``path`` (JSON) and, beside it, the arrays as ``.npz``."""
        content = {"classes": self.classes, "score": self.score_name, "threshold": self.threshold}
        content |= {"false_alarm": self.false_alarm, "expected": self.expected}
        for name in ("inner", "scales"):
            content[name] = {key: vars(scale) for key, scale in getattr(self, name).items()}
        write_arrays(path.with_suffix(".npz"), {"means": self.means, "precision": self.precision})
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> OpenSet:
        """Read ``path`` and the arrays beside it, which ``save`` wrote.

        Raises:
            ValueError: one of the two files is missing or damaged.
        """
        beside = path.with_suffix(".npz")
        with intact(beside, run_again("decide")), np.load(beside) as arrays:
            means, precision = arrays["means"], arrays["precision"]
        with intact(path, run_again("decide")):
            content = json.loads(path.read_text(encoding="utf-8"))
            inner, scales = ({key: Scale(**s) for key, s in content[name].items()} for name in ("inner", "scales"))
            return cls(
                classes=content["classes"],
                means=means,
                precision=precision,
                expected=tuple(content["expected"]),
                inner=inner,
                scales=scales,
                score_name=content["score"],
                threshold=content["threshold"],
                false_alarm=content["false_alarm"],
            )


def density(model: OpenSet, summary: Summary) -> np.ndarray:
    """Minus the mean log p(x) of each utterance ``(U,)``, nats."""
    return -(summary.mixture + summary.logdet)


def typicality(model: OpenSet, summary: Summary) -> np.ndarray:
    """Distance ``(U,)`` of log p(x), or of the log prior density under the nearest class, from dev's."""
    likely = model.inner["density"](summary.mixture + summary.logdet, summary.frames)
    norm = model.inner["norm"](summary.best[:, 0], summary.frames)
    return np.maximum(np.abs(likely), np.abs(norm))


def distance(model: OpenSet, summary: Summary) -> np.ndarray:
    """Squared distance ``(U,)`` of the mean latent from the nearest class, over the expected one at its duration."""
    a, b = model.expected
    return nearest(summary.z_mean, model.means, model.precision) / (a + b / summary.frames)


def gap(model: OpenSet, summary: Summary) -> np.ndarray | None:
    """Minus the difference ``(U,)`` of the best two classes, nats; None for a model of one class."""
    if len(model.classes) < 2:
        return None
    return summary.best[:, 1] - summary.best[:, 0]


# Values of ``open_set.score``: a figure, or a sum of figures. A new one needs a function here and a name in the settings.
FIGURES: dict[str, Callable[[OpenSet, Summary], np.ndarray | None]] = {
    "density": density,
    "typicality": typicality,
    "distance": distance,
    "gap": gap,
}
SCORES = {"combined": ("typicality", "distance", "gap")} | {name: (name,) for name in FIGURES}


def weights_of(names: Sequence[tuple[str, str]]) -> np.ndarray:
    """Weights ``(U,)`` of utterances, equal over classes and over the speakers of a class."""
    utterances, speakers = Counter(names), Counter(name for name, _ in set(names))
    return np.array([1 / (speakers[name[0]] * utterances[name]) for name in names])


def threshold(scores: np.ndarray, false_alarm: float, weights: np.ndarray) -> float:
    """The weighted quantile (1 - false_alarm)(1 + 1 / U) of ``scores`` ``(U,)``, one of the scores.

    The term 1 / U is a margin for one more utterance; if U is too small for it, the largest score is returned.

    With equal weights this is rank ceil((U + 1)(1 - false_alarm)), as in split conformal prediction, but without its
    guarantee: the scales of the scores come from dev, too, and utterances of one speaker are not independent.
    """
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    place = int(np.searchsorted(below, (1 - false_alarm) * (1 + 1 / len(scores)) - 1e-9))
    return float(scores[order][min(place, len(scores) - 1)])


def gaussian(z_mean: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Means ``(K, D)`` of mean latents ``(U, D)`` by class, and the inverse covariance ``(D, D)`` within class, shrunk."""
    from sklearn.covariance import LedoitWolf  # slow to import, and only a fit needs it

    place = {name: column for column, name in enumerate(classes)}
    column = np.array([place[label] for label in labels])
    order = np.argsort(column, kind="stable")
    groups = np.split(order, np.searchsorted(column[order], np.arange(1, len(classes))))
    means = np.stack([mean_of(z_mean, rows) for rows in groups])
    chosen = np.linspace(0, len(column) - 1, min(MOST, len(column))).round().astype(int)
    return means, LedoitWolf(assume_centered=True).fit(z_mean[chosen] - means[column[chosen]]).precision_


def nearest(z_mean: np.ndarray, means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance ``(U,)`` of mean latents ``(U, D)`` from the nearest of ``means`` ``(K, D)``."""
    factor, squared = np.linalg.cholesky(precision), np.empty(len(z_mean))
    centre = means.mean(0)  # distances are smaller about it, and so are their rounding errors
    mapped = (means - centre) @ factor
    for part in chunks(len(z_mean)):
        z = (z_mean[part] - centre) @ factor
        squared[part] = (z**2).sum(1) + ((mapped**2).sum(1) - 2 * z @ mapped.T).min(1)
    return np.maximum(squared, 0)


def mean_of(z_mean: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean ``(D,)`` float64 of some rows of mean latents ``(U, D)``, by index."""
    return sum(z_mean[rows[part]].sum(0, dtype=np.float64) for part in chunks(len(rows))) / len(rows)


def chunks(count: int) -> Iterator[slice]:
    """Slices of ``CHUNK`` that cover ``count`` rows."""
    return (slice(first, first + CHUNK) for first in range(0, count, CHUNK))

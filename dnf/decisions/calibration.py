"""Calibrated log-likelihoods of utterances: multi-class logistic regression on dev, with duration as a covariate.

For the mean log-likelihoods m_k of an utterance, centred over the classes, and its n effective frames
(``dnf.decisions.evidence``)

    l_k = n / (n + h) * slope * (m_k - middle_k) + offset_k

Where the mean of an utterance varies by s_b^2 between utterances of a class (speaker, words, channel) and by s_w^2 /
n for its frames, its log-likelihood ratio has this form with h = s_w^2 / s_b^2: the ratio of short utterances grows with
their frames, and that of long ones is bounded by the variance between utterances. middle_k is the average of m_k over the
classes. It keeps duration itself out of the ratio: with an offset inside the weight, a corpus of longer utterances could be
recognized by their length.

The slope and offsets are fitted as in Brummer & van Leeuwen, "On calibration of language recognition scores",
Odyssey 2006, and Brummer & du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20, 2006: all classes have equal weight, so the result is a log-likelihood and not a posterior under dev's class
counts; all speakers of a class have equal weight, too. log h has a normal prior around the logarithm of the estimate from an
analysis of variance of dev, since dev may have utterances of about one length. Targets are smoothed as in Platt,
"Probabilistic outputs for support vector machines", 1999, with the number of speakers S of the smallest class as count:
p pseudo-speakers added to each class make the target odds S / p + 1 to 1, the same for all classes, and keep the slope
finite if classes do not overlap. That bounds the targets of the fit but not its output: an utterance that is more extreme
than most of dev gets higher odds.

p was chosen among 0.05, 0.1, 0.2, 0.3, 0.5 and 1 by the Cllr of dev with each speaker left out of the fit
(``cllr_left_out`` of results.txt; ``--sweep calibrate.pseudo_speakers=...`` compares values). On recordings of 25 to 30
speakers (three divisions, each with a hybrid flow, an MLP and a GMM) its mean is 0.408, 0.389, 0.384, 0.390, 0.409 and
0.460 bits. If S is the number of speakers of each class itself, it is 0.398 instead of 0.384, and offsets favour the class
with more speakers.

More than ``MOST_CLASSES`` classes share one slope, without offsets and middles: dev has too few utterances of each. S is then the number of
all speakers, and the p pseudo-speakers are of all classes together.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnf.decisions.evidence import Evidence
from dnf.experiment.classes import check_priors
from dnf.experiment.files import replace_file
from dnf.experiment.layout import run_again, run_stage
from dnf.experiment.settings import Calibrate
from dnf.metrics.effective_frames import effective_frames
from dnf.metrics.figures import MOST_CLASSES
from dnf.metrics.log_sum_exp import log_sum_exp

HALF = (1e-2, 1e5)  # lowest and highest h, effective frames
LEAST = 1e-6  # least deviation of log-likelihoods that counts, nats
SPREAD = 1.0  # standard deviation of the prior of slopes of several systems around their mean
DOUBT = 0.5  # standard deviation of the prior of log h
FOLDS, FEW_FOLDS = 100, 10  # most folds when speakers are left out, and the fewest for a large dev set
CELLS = 10_000_000  # most log-likelihoods in all these fits; beyond it there are fewer folds


@dataclass(frozen=True)
class Calibration:
    """The map from mean to calibrated log-likelihoods.

    Attributes:
        classes: K names.
        slope: nats of log-likelihood per nat of mean frame log-likelihood, for very long utterances.
        middle: K, mean over the classes of the mean of m_k, nats; 0 of many classes.
        offsets: K, nats.
        half: effective frames h of an utterance with half the weight of a very long one; None: equal weights.
        covariance: autocovariance of the frames' log-likelihood ratio on dev from lag 0 on, nats squared; empty, or of
            lag 0 alone: frames count as independent.
        speakers: number of speakers of dev, by class.
        utterances: number of utterances of dev, by class.
    """

    classes: list[str]
    slope: float
    middle: list[float]
    offsets: list[float]
    half: float | None
    covariance: list[float]
    speakers: dict[str, int]
    utterances: dict[str, int]

    @classmethod
    def fit(cls, evidence: Evidence, settings: Calibrate) -> Calibration:
        """Fit on the evidence of dev without utterances of unknown classes.

        Raises:
            ValueError: dev has no utterance of one of the classes.
        """
        many, missing = len(evidence.classes) > MOST_CLASSES, absent_classes(evidence)
        if missing and not many:
            raise ValueError(f"dev has no utterance of class {missing[0]}: log-likelihood ratios cannot be calibrated")
        covariance = evidence.covariance if settings.effective_frames else evidence.covariance[:1]
        known = known_utterances(evidence)
        columns = columns_of(evidence, known)
        speakers = [evidence.utts[u]["speaker"] for u in known]
        frames = effective_frames(evidence.frames[known], covariance)
        mean = evidence.mean[known]
        mean = mean - mean.mean(1, keepdims=True)
        counts = Counter(column for column, _ in set(zip(columns.tolist(), speakers)))
        start = usual_half(mean, columns, frames, covariance) if settings.duration else None
        weights = speaker_weights(columns, speakers, len(evidence.classes))
        middle = np.zeros(len(evidence.classes)) if many else weights @ mean / weights.sum()
        size, pseudo = min(counts.values()), settings.pseudo_speakers
        if many:
            size, pseudo = len(set(speakers)), pseudo / len(evidence.classes)
        targets = targets_of(columns, size, len(evidence.classes), pseudo)
        (slope,), offsets, half = regress((mean - middle)[None], targets, weights, frames, start, with_offsets=not many)
        return cls(
            list(evidence.classes),
            float(slope),
            middle.tolist(),
            offsets.tolist(),
            half,
            [float(value) for value in covariance],
            {name: counts[k] for k, name in enumerate(evidence.classes)},
            dict(zip(evidence.classes, np.bincount(columns, minlength=len(evidence.classes)).tolist())),
        )

    @classmethod
    def left_out(cls, evidence: Evidence, settings: Calibrate) -> np.ndarray | None:
        """Log-likelihoods of dev itself by ``scored_left_out``; the autocovariance of frames is that of the complete dev set."""
        return scored_left_out(
            evidence, lambda kept, out: cls.fit(evidence.only(kept), settings).loglik(evidence.only(out))
        )

    def loglik(self, evidence: Evidence) -> np.ndarray:
        """Calibrated log-likelihoods ``(U, K)``, nats, up to a constant of the utterance.

        An utterance's effective frames follow from its frames and the autocovariance of dev.

        Raises:
            ValueError: the classes differ from those of the calibration.
        """
        if list(evidence.classes) != self.classes:
            raise ValueError(f"calibrated for classes {' '.join(self.classes)}, not {' '.join(evidence.classes)}")
        mean = evidence.mean - evidence.mean.mean(1, keepdims=True)
        weight = np.ones(len(mean))
        if self.half is not None:
            frames = effective_frames(evidence.frames, np.array(self.covariance))
            weight = frames / (frames + self.half)
        return weight[:, None] * self.slope * (mean - np.array(self.middle)) + np.array(self.offsets)

    def posteriors(self, evidence: Evidence, priors: dict[str, float]) -> np.ndarray:
        """Posteriors ``(U, K)`` of the classes under priors by class; empty: equal priors."""
        return posteriors(self.loglik(evidence), self.classes, priors)

    def save(self, path: Path) -> None:
        replace_file(path, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file that ``save`` wrote.

        Raises:
            ValueError: the file does not exist, or is not a calibration.
        """
        if not path.is_file():
            raise ValueError(
                f"{path}: does not exist; {run_stage('decide')} with calibrate.enabled and all classes in dev"
            )
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError):
            raise ValueError(f"{path}: not a calibration; {run_again('decide')}") from None


def scored_left_out(evidence: Evidence, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray | None:
    """Log-likelihoods ``(U, K)`` of all utterances, nats, each by a fit without the speaker.

    Above ``FOLDS`` speakers, a fold has several, of different classes if possible. Utterances of unknown classes are scored by
    the fit on all speakers. None if all speakers of a class are in one fold, so that a fit without them is impossible.

    Args:
        evidence: of the utterances.
        score: fits on the utterances of its first argument, indices ``(A,)``, and scores those of the second ``(B,)``.
    """
    known, loglik = known_utterances(evidence), np.empty_like(evidence.mean)
    unknown = np.setdiff1d(np.arange(len(loglik)), known)
    if len(unknown):
        loglik[unknown] = score(known, unknown)
    folds = int(np.clip(CELLS // max(1, evidence.mean.size), FEW_FOLDS, FOLDS))
    of_known = speaker_folds([(evidence.utts[u]["class"], evidence.utts[u]["speaker"]) for u in known], folds)
    for number in np.unique(of_known):
        kept, out = known[of_known != number], known[of_known == number]
        if absent_classes(evidence.only(kept)):
            return None
        loglik[out] = score(kept, out)
    return loglik


def absent_classes(evidence: Evidence) -> list[str]:
    """Classes of the model without utterances."""
    return sorted(set(evidence.classes) - {utt["class"] for utt in evidence.utts})


def posteriors(loglik: np.ndarray, classes: list[str], priors: dict[str, float]) -> np.ndarray:
    """Posteriors ``(U, K)`` of calibrated log-likelihoods ``(U, K)`` under priors by class; empty: equal priors."""
    joint = loglik + np.log(prior_of(classes, priors))
    return np.exp(joint - log_sum_exp(joint)[:, None])


def known_utterances(evidence: Evidence) -> np.ndarray:
    """Indices of the utterances of known classes."""
    classes = set(evidence.classes)
    return np.array([u for u, utt in enumerate(evidence.utts) if utt["class"] in classes], dtype=int)


def columns_of(evidence: Evidence, rows: np.ndarray) -> np.ndarray:
    """Their classes, as columns of the evidence."""
    column = {name: k for k, name in enumerate(evidence.classes)}
    return np.array([column[evidence.utts[row]["class"]] for row in rows], dtype=int)


def speaker_folds(names: Sequence[tuple[str, str]], folds: int) -> np.ndarray:
    """Fold ``(U,)`` of each utterance: one fold for a speaker, and the speakers of a class spread over the folds.

    Args:
        names: class and speaker of each utterance.
        folds: most folds.
    """
    speakers = dict.fromkeys(speaker for _, speaker in sorted(set(names)))
    fold = {speaker: n % folds for n, speaker in enumerate(speakers)}
    return np.array([fold[speaker] for _, speaker in names], dtype=int)


def prior_of(classes: list[str], priors: dict[str, float]) -> np.ndarray:
    """Prior of each class ``(K,)``, with sum 1; equal if ``priors`` is empty.

    Raises:
        ValueError: a class has no prior.
    """
    if not priors:
        return np.full(len(classes), 1 / len(classes))
    check_priors(classes, priors)
    values = np.array([priors[name] for name in classes])
    return values / values.sum()


def usual_half(mean: np.ndarray, columns: np.ndarray, frames: np.ndarray, covariance: np.ndarray) -> float:
    """h = s_w^2 / s_b^2 by an analysis of variance between and within utterances of a class.

    Args:
        mean: ``(U, K)`` centred mean log-likelihoods, nats.
        columns: ``(U,)`` columns of their classes.
        frames: ``(U,)`` effective frames.
        covariance: autocovariance from lag 0 on; without it, h is the median of ``frames``.
    """
    classes = mean.shape[1]
    if len(mean) <= classes:
        return float(np.median(frames))
    rest = mean - np.stack([mean[columns == k].mean(0) for k in range(classes)])[columns]
    total = 2 / (classes - 1) * (rest**2).sum() / max(1, len(mean) - classes)
    if len(covariance) == 0 or covariance[0] <= 0 or total <= 0:
        return float(np.median(frames))
    between = max(total - (covariance[0] / frames).mean(), total / 100)
    return float(np.clip(covariance[0] / between, *HALF))


def speaker_weights(columns: np.ndarray, speakers: list[str], classes: int) -> np.ndarray:
    """Weights ``(U,)``, equal over classes and over the speakers of a class; their sum is the number of pairs of both."""
    pairs = list(zip(columns.tolist(), speakers))
    of_pair = Counter(pairs)
    of_class = np.bincount([k for k, _ in of_pair], minlength=classes)
    return np.array([len(of_pair) / (classes * of_class[k] * of_pair[k, s]) for k, s in pairs])


def targets_of(columns: np.ndarray, speakers: int, classes: int, pseudo: float) -> np.ndarray:
    """Targets ``(U, K)`` of the posteriors: 1 and 0, smoothed by ``pseudo`` speakers added to each class."""
    targets = np.full((len(columns), classes), pseudo)
    targets[np.arange(len(columns)), columns] += speakers
    return targets / (speakers + classes * pseudo)


def regress(
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    frames: np.ndarray,
    half: float | None,
    *,
    with_offsets: bool = True,
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Slopes ``(M,)`` of M systems, offsets ``(K,)`` and h of greatest posterior density.

    Args:
        x: ``(M, U, K)`` log-likelihoods, centred over the classes and around their middle, nats.
        targets: ``(U, K)`` of the posteriors.
        weights: ``(U,)``.
        frames: ``(U,)`` effective frames.
        half: median of the prior of h; None: no h.
        with_offsets: whether classes have offsets; else these are 0.
    """
    from scipy import optimize  # slow to import, and only a fit needs it

    systems, _, classes = x.shape
    weighted_targets = weights[:, None] * targets
    scale = np.sqrt((x**2).mean((1, 2)))
    scale[scale < LEAST] = 1.0  # no information
    x = x / scale[:, None, None]

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        score = np.tensordot(theta[:systems], x, 1)
        weight = np.ones(len(score)) if half is None else frames / (frames + np.exp(theta[-1]))
        logits = weight[:, None] * score + theta[systems : systems + classes]
        logits -= logits.max(1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(1, keepdims=True)
        gap = weights[:, None] * (odds / total - targets)
        value = -(weighted_targets * (logits - np.log(total))).sum()
        gradient = [*np.tensordot(x, gap * weight[:, None], 2), *gap.sum(0)]
        if half is not None:
            far = theta[-1] - np.log(half)
            value += 0.5 * (far / DOUBT) ** 2
            gradient.append(-((gap * score).sum(1) * weight * (1 - weight)).sum() + far / DOUBT**2)
        apart = (theta[:systems] / scale - (theta[:systems] / scale).mean()) / SPREAD
        value += 0.5 * (apart**2).sum()
        gradient[:systems] = gradient[:systems] + apart / SPREAD / scale
        return value, np.array(gradient)

    start = np.array([1 / systems] * systems + [0.0] * classes + ([] if half is None else [np.log(half)]))
    bounds = [(0, None)] * systems + [(None, None) if with_offsets else (0, 0)] * classes
    bounds += [] if half is None else [tuple(np.log(HALF))]
    best = optimize.minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-8, "ftol": 1e-13}
    )
    offsets = best.x[systems : systems + classes]
    return best.x[:systems] / scale, offsets - offsets.mean(), None if half is None else float(np.exp(best.x[-1]))

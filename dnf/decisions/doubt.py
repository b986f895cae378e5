"""Doubt: is a recording unlike training, and how far can its log-likelihood ratio be trusted?

The *score* of a recording is larger if it is less like training: the distance of its channel from the nearest training set
(``dnf.scoring.channel_model``), plus the distance of its mean log p(x) from that of dev on both sides, each in standard
deviations of home: training, by fits without the speaker, and dev. A recording is foreign beyond ``limit_for_new_speakers``
of home's scores. A set is foreign by its mean channel.

Log-likelihood ratios are multiplied by a *factor* of at most 1, so that the posteriors of foreign recordings are modest:

    min(exp(-rate * excess), foreign if the recording or its set is, else 1)

excess is the number of standard deviations by which the mean log p(x) is above that of dev, less ``USUAL``. Frames of noisy and
reverberant speech are alike, so a flow finds them too likely, and their ratios move to one class. Both parameters are learned from
copies of dev with other channels (``dnf.scoring.shifted_copies``): rate has the lowest mean Cllr over dev and the kinds of shift;
foreign is the strongest shrinkage that costs no kind more than ``PRICE`` bits. Kinds that harm the ratios little set this limit. It
is meant for what copies cannot show: another corpus has other speakers and sentences, too.

A quality measure in a calibration is that of M. I. Mandasari et al., "Quality measure functions for calibration of speaker
recognition systems in various duration conditions", IEEE Trans. Audio, Speech, and Language Processing 21, 2013.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.calibration import Calibration
from dnf.decisions.evidence import Evidence
from dnf.decisions.open_set import Scale, threshold, weights_of
from dnf.experiment.files import write_json
from dnf.experiment.layout import run_again
from dnf.metrics.detection import cllr
from dnf.scoring.shifted_evidence import Shifted

FALSE_ALARM = 0.05  # share of recordings of new speakers that may be called foreign
USUAL = 1.5  # standard deviations of log p(x) above the mean of dev that count as usual
RATES = np.concatenate([[0.0], np.geomspace(0.01, 2.0, 47)])  # higher ones cost the noisier recordings of home
FACTORS = np.arange(1.0, 0.24, -0.05)
PRICE = 0.075  # bits
LEAST = 8  # fewest dev utterances
SURE = 0.9  # posterior from which a decision is called sure
FOREIGN, UNSURE = "foreign", "unsure"


class Home(NamedTuple):
    """U recordings of training and dev.

    Attributes:
        names: class and speaker of each.
        distances: ``(U,)`` of their channels, those of training from fits without the speaker.
        density: ``(U,)`` mean log p(x), nats; that of training, which the flow has seen, moved to the mean of dev's class.
        frames: ``(U,)`` number of scored frames.
    """

    names: list[tuple[str, str]]
    distances: np.ndarray
    density: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Doubt:
    """The fitted score and factor.

    Attributes:
        density: scale of an utterance's mean log p(x) at home.
        channel: mean and standard deviation of the channel distances of home.
        limit: score beyond which a recording is foreign.
        rate: of the factor, per standard deviation of excess.
        foreign: factor of foreign recordings and sets.
    """

    density: Scale
    channel: tuple[float, float]
    limit: float
    rate: float
    foreign: float

    @classmethod
    def fit(
        cls,
        home: Home,
        dev: Evidence,
        density: np.ndarray,
        shifted: Shifted,
        calibration: Calibration | None,
    ) -> Doubt:
        """Fit the score on home, and the factor on dev and its shifted copies.

        Args:
            home: recordings of known classes.
            dev: evidence of U utterances of known classes.
            density: ``(U,)`` their mean log p(x), nats.
            shifted: shifted copies.
            calibration: of the log-likelihoods; None: no factor is learned.
        """
        place = float(home.distances.mean()), float(max(home.distances.std(), 1e-6))
        model = cls(Scale.fit(home.density, home.frames), place, np.inf, 0.0, 1.0)
        model = dataclasses.replace(model, limit=limit_for_new_speakers(model.score(*home[1:]), home.names))
        has_copies = len(shifted.kinds) > 0
        return model.learn(dev, density, shifted, calibration) if calibration and has_copies else model

    def learn(self, dev: Evidence, density: np.ndarray, shifted: Shifted, calibration: Calibration) -> Doubt:
        """The same with its factor learned."""
        utts = [{"class": name} for name in shifted.labels]
        copies = Evidence(dev.classes, utts, shifted.mean, shifted.frames)
        loglik = np.concatenate([calibration.loglik(dev), calibration.loglik(copies)])
        excess = [self.excess(density, dev.frames), self.excess(shifted.density, shifted.frames)]
        labels = [*(utt["class"] for utt in dev.utts), *shifted.labels]
        columns = np.array([dev.classes.index(name) for name in labels])
        kinds = np.concatenate([np.repeat("", len(density)), shifted.kinds])

        def costs(rate: float, foreign: float) -> np.ndarray:
            """Cllr of dev and of each kind, bits; a kind that lacks a class is left out."""
            factor = np.minimum(np.exp(-rate * np.concatenate(excess)), np.where(kinds == "", 1.0, foreign))
            groups = [kinds == kind for kind in sorted(set(kinds))]
            return np.array(
                [
                    cllr(factor[g, None] * loglik[g], columns[g])
                    for g in groups
                    if len(set(columns[g])) == len(dev.classes)
                ]
            )

        if not len(costs(0.0, 1.0)):
            return self
        rate = min(RATES, key=lambda rate: costs(rate, 1.0).mean())
        usual = costs(rate, 1.0)
        foreign = min(f for f in FACTORS if (costs(rate, f) <= usual + PRICE).all())
        return dataclasses.replace(self, rate=float(rate), foreign=round(float(foreign), 2))

    def score(self, distances: np.ndarray, density: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The score ``(U,)``, larger for recordings that are less like training.

        Args:
            distances: ``(U,)`` of their channels.
            density: ``(U,)`` mean log p(x), nats.
            frames: ``(U,)`` number of scored frames.
        """
        mean, deviation = self.channel
        return (distances - mean) / deviation + np.abs(self.density(density, frames))

    def excess(self, density: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Standard deviations ``(U,)`` by which log p(x) is above what is usual."""
        return np.maximum(0.0, self.density(density, frames) - USUAL)

    def factor(self, density: np.ndarray, frames: np.ndarray, foreign: np.ndarray) -> np.ndarray:
        """The factor ``(U,)`` of log-likelihood ratios; ``foreign`` ``(U,)``: the recording or its set is."""
        return np.minimum(np.exp(-self.rate * self.excess(density, frames)), np.where(foreign, self.foreign, 1.0))

    def save(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Doubt:
        """Read a file that ``save`` wrote.

        Raises:
            ValueError: it is not such a file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content |= {"density": Scale(**content["density"]), "channel": tuple(content["channel"])}
            return cls(**content)
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{path}: not the doubt of a model; {run_again('decide')}") from None


def limit_for_new_speakers(scores: np.ndarray, names: Sequence[tuple[str, str]]) -> float:
    """The score that FALSE_ALARM of the recordings of new speakers are expected to exceed.

    It is the larger of the weighted quantile and of the bound of prediction for a recording of a new speaker, with
    variances b between and w within S speakers:

        mean + t_{S-1} sqrt(b (1 + 1 / S) + w)

    The quantile alone is too low where speakers are few, and the bound where the scores have a long tail.

    Args:
        scores: ``(U,)``.
        names: class and speaker of each.
    """
    from scipy.stats import t  # slow to import, and only a fit needs it

    limit = threshold(scores, FALSE_ALARM, weights_of(names))
    speakers, place, counts = np.unique([speaker for _, speaker in names], return_inverse=True, return_counts=True)
    if len(speakers) < 2:
        return limit
    means = np.bincount(place, scores) / counts
    within = ((scores - means[place]) ** 2).sum() / max(1, len(scores) - len(speakers))
    between = max(0.0, means.var(ddof=1) - within * (1 / counts).mean())
    width = t.ppf(1 - FALSE_ALARM, len(speakers) - 1) * np.sqrt(between * (1 + 1 / len(speakers)) + within)
    return max(limit, float(means.mean() + width))


def words(posteriors: np.ndarray, foreign: Sequence[bool]) -> list[str]:
    """``sure``, ``unsure`` or ``foreign`` for each recording with posteriors ``(U, K)``."""
    return [
        FOREIGN if is_foreign else "sure" if best >= SURE else UNSURE
        for best, is_foreign in zip(posteriors.max(1), foreign)
    ]

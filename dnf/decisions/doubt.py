"""Doubt: is a recording unlike training, and how far can its log-likelihood ratio be trusted?

The *score* of a recording is larger if it is less like training: the distance of its channel from the nearest training set
(``dnf.scoring.channel_model``), plus the distance of its mean log p(x) from that of dev on both sides, each in standard
deviations of home: training, by fits without the speaker, and dev. A recording is foreign beyond ``limit_for_new_speakers``
of home's scores. A set is foreign by its mean channel.

From the log-likelihoods of foreign recordings and sets the bias of their channel is subtracted (``dnf.decisions.channel_bias``). Then their
ratios are multiplied by a *factor* of at most 1, so that their posteriors are modest. Both are learned from copies of dev with other
channels (``dnf.scoring.shifted_copies``): the factor is the strongest shrinkage that costs no kind of copy more than ``PRICE`` bits
of Cllr. It is meant for what copies cannot show: another corpus has other speakers and sentences, too.
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
from dnf.decisions.channel_bias import ChannelBias
from dnf.decisions.evidence import Evidence
from dnf.decisions.open_set import Scale, threshold, weights_of
from dnf.experiment.files import write_json
from dnf.experiment.layout import BIAS_NPZ, run_again
from dnf.metrics.detection import cllr

FALSE_ALARM = 0.05  # share of recordings of new speakers that may be called foreign
FACTORS = np.arange(1.0, 0.24, -0.05)
PRICE = 0.2  # bits
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
        foreign: factor of foreign recordings and sets.
        bias: of their channels; None: unknown.
    """

    density: Scale
    channel: tuple[float, float]
    limit: float
    foreign: float
    bias: ChannelBias | None = None

    @classmethod
    def fit(cls, home: Home) -> Doubt:
        """Fit the score on recordings of known classes."""
        place = float(home.distances.mean()), float(max(home.distances.std(), 1e-6))
        model = cls(Scale.fit(home.density, home.frames), place, np.inf, 1.0)
        return dataclasses.replace(model, limit=limit_for_new_speakers(model.score(*home[1:]), home.names))

    def learn(self, bias: ChannelBias, copies: Evidence, kinds: np.ndarray, calibration: Calibration) -> Doubt:
        """The same with a bias and a factor; without them if no kind of copy has all classes.

        Args:
            bias: of channels.
            copies: evidence of N copies without the bias that fits without their speakers give.
            kinds: ``(N,)`` of shift.
            calibration: of log-likelihoods.
        """
        loglik, columns = calibration.loglik(copies), np.array(copies.columns([utt["class"] for utt in copies.utts]))
        groups = [kinds == kind for kind in sorted(set(kinds))]
        groups = [group for group in groups if len(set(columns[group])) == len(copies.classes)]

        def costs(foreign: float) -> np.ndarray:
            return np.array([cllr(foreign * loglik[group], columns[group]) for group in groups])

        if not groups:
            return self
        foreign = min(factor for factor in FACTORS if (costs(factor) <= costs(1.0) + PRICE).all())
        return dataclasses.replace(self, foreign=round(float(foreign), 2), bias=bias)

    def score(self, distances: np.ndarray, density: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The score ``(U,)``, larger for recordings that are less like training.

        Args:
            distances: ``(U,)`` of their channels.
            density: ``(U,)`` mean log p(x), nats.
            frames: ``(U,)`` number of scored frames.
        """
        mean, deviation = self.channel
        return (distances - mean) / deviation + np.abs(self.density(density, frames))

    def factor(self, foreign: np.ndarray) -> np.ndarray:
        """The factor ``(U,)`` of log-likelihood ratios; ``foreign`` ``(U,)``: the recording or its set is."""
        return np.where(foreign, self.foreign, 1.0)

    def save(self, path: Path) -> None:
        """Write ``path``, and the bias beside it."""
        path.with_name(BIAS_NPZ).unlink(missing_ok=True)
        if self.bias:
            self.bias.save(path.with_name(BIAS_NPZ))
        content = dataclasses.asdict(dataclasses.replace(self, bias=None))
        del content["bias"]
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Doubt:
        """Read what ``save`` wrote.

        Raises:
            ValueError: it is not such a file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content |= {"density": Scale(**content["density"]), "channel": tuple(content["channel"])}
            model = cls(**content)
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{path}: not the doubt of a model; {run_again('decide')}") from None
        beside = path.with_name(BIAS_NPZ)
        return dataclasses.replace(model, bias=ChannelBias.load(beside)) if beside.is_file() else model


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

"""What the frames of an utterance say together: mean log-likelihoods, and how many independent frames they are worth.

Neighbouring frames share a phone, and neighbouring vectors share frames where the windows overlap, so log-likelihoods
of frames must not be added as if each were news. The mean of n frames whose log-likelihood ratio has autocovariance
gamma_0, gamma_1, ... has the variance

    v(n) = (gamma_0 + 2 sum_{k=1}^{n-1} (1 - k/n) gamma_k) / n

(Bartlett, "On the theoretical specification and sampling properties of autocorrelated time-series", JRSS Suppl. 8,
1946), so the utterance is worth gamma_0 / v(n) independent frames. The autocovariance is pooled over utterances, and
cut off where the sum of a pair of neighbouring lags stops being positive: the initial positive sequence of Geyer,
"Practical Markov chain Monte Carlo", Statistical Science 7, 1992, section 3.3. Each utterance's own mean is taken off
first: what an utterance or its speaker has for good is no correlation of frames but the business of calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.experiment.layout import LATENTS, META_JSON
from dnf.experiment.sets import name_of
from dnf.experiment.settings import DataSettings
from dnf.metrics.effective_frames import autocovariance
from dnf.scoring.latent_store import Latents


class Evidence(NamedTuple):
    """Evidence of the U utterances of a set about K classes.

    Attributes:
        classes: the K classes.
        utts: rows of utts.tsv.
        mean: ``(U, K)`` float64, mean over frames of log p(x | k), nats.
        frames: ``(U,)`` int64.
        covariance: ``(L,)`` float64, autocovariance of the frames' log-likelihood ratio from lag 0 on, nats squared.
    """

    classes: list[str]
    utts: Sequence[dict]
    mean: np.ndarray
    frames: np.ndarray
    covariance: np.ndarray = np.zeros(0)

    def only(self, rows: np.ndarray) -> Evidence:
        """Some utterances, by number."""
        return self._replace(utts=[self.utts[row] for row in rows], mean=self.mean[rows], frames=self.frames[rows])


def evidence(latents: Latents, covariance: np.ndarray | None = None) -> Evidence:
    """Evidence of every utterance of a set.

    Args:
        latents: of the set.
        covariance: autocovariance of the frames' log-likelihood ratio, as found on dev; None finds it on the utterances
            of this set whose class the model knows, empty if there are none.
    """
    frames = np.array([utt["rows"] for utt in latents.utts], dtype=np.int64)
    mean = np.zeros((len(frames), len(latents.classes)))
    for row, utt in zip(mean, latents.utts):
        row[:] = latents.loglik(utt).mean(0)
    if covariance is None:
        covariance = autocovariance(latents.loglik(utt) for utt in latents.utts if utt["class"] in latents.classes)
    return Evidence(latents.classes, latents.utts, mean, frames, covariance)


def dev_covariance(exp: Path, data: DataSettings) -> np.ndarray:
    """Autocovariance of the frames' log-likelihood ratio on an experiment's dev; empty if its latents are not there."""
    folder = exp / LATENTS / name_of(data, "dev")
    return evidence(Latents.open(folder)).covariance if (folder / META_JSON).is_file() else np.zeros(0)

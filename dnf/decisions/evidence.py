"""Evidence of an utterance: its mean log-likelihoods, and its effective number of independent frames.

Neighbouring frames share a phone, and neighbouring vectors share frames if their windows overlap, so log-likelihoods
of frames are not independent and must not be added. The mean of n frames whose log-likelihood ratio has autocovariance
gamma_0, gamma_1, ... has the variance

    v(n) = (gamma_0 + 2 sum_{k=1}^{n-1} (1 - k/n) gamma_k) / n

(Bartlett, "On the theoretical specification and sampling properties of autocorrelated time-series", JRSS Suppl. 8,
1946), so the utterance has gamma_0 / v(n) effective frames. The autocovariance is pooled over utterances, and
truncated before the first pair of neighbouring lags whose sum is not positive: the initial positive sequence of Geyer,
"Practical Markov chain Monte Carlo", Statistical Science 7, 1992, section 3.3. The mean of each utterance is subtracted
first, since calibration models the variance between utterances and speakers.
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
from dnf.metrics.log_sum_exp import log_sum_exp
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

    def columns(self, names: Sequence[str]) -> list[int]:
        """Columns of some of the classes."""
        column = {name: k for k, name in enumerate(self.classes)}
        return [column[name] for name in names]

    def without(self, bias: np.ndarray) -> Evidence:
        """The same with ``bias`` ``(U, K)`` subtracted from the log-likelihoods, nats."""
        return self._replace(mean=self.mean - bias)

    def only(self, rows: np.ndarray) -> Evidence:
        """Some utterances, by index."""
        return self._replace(utts=[self.utts[row] for row in rows], mean=self.mean[rows], frames=self.frames[rows])


def ratio_to_others(loglik: np.ndarray, place: int) -> np.ndarray:
    """Log-likelihood ratio ``(...)`` of class ``place`` against the mean density of the others, nats.

    Args:
        loglik: log-likelihoods ``(..., K)``, nats.
        place: column of the class.
    """
    others = np.delete(loglik, place, axis=-1)
    return loglik[..., place] - log_sum_exp(others) + np.log(others.shape[-1])


def evidence(latents: Latents, covariance: np.ndarray | None = None) -> Evidence:
    """Evidence of every utterance of a set.

    Args:
        latents: latents of the set.
        covariance: autocovariance of the frames' log-likelihood ratio on dev; None estimates it on the utterances of known
            classes of this set, and gives an empty one if there are none.
    """
    frames = np.array([utt["rows"] for utt in latents.utts], dtype=np.int64)
    mean = np.zeros((len(frames), len(latents.classes)))
    for row, utt in zip(mean, latents.utts):
        row[:] = latents.loglik(utt).mean(0)
    if covariance is None:
        known = set(latents.classes)
        covariance = autocovariance(latents.loglik(utt) for utt in latents.utts if utt["class"] in known)
    return Evidence(latents.classes, latents.utts, mean, frames, covariance)


def dev_covariance(exp: Path, data: DataSettings) -> np.ndarray:
    """Autocovariance of the frames' log-likelihood ratio on an experiment's dev; empty if dev has no latents."""
    folder = exp / LATENTS / name_of(data, "dev")
    return evidence(Latents.open(folder)).covariance if (folder / META_JSON).is_file() else np.zeros(0)

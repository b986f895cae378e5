"""Trials: utterances of known classes with their log-likelihoods, and pairs of classes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

ARRAYS = ("labels", "mean", "frames", "loglik")  # of a value, or row, an utterance


class Trials(NamedTuple):
    """Utterances of classes that a model knows, as it scored them.

    Attributes:
        classes: K names, the reference class first.
        utts: names of the utterances.
        speakers: of each utterance.
        labels: ``(U,)`` true classes, as columns of ``loglik``.
        mean: ``(U, K)`` mean log-likelihoods per frame, nats: what ranks utterances, with and without a calibration. It
            knows nothing of their duration, which tells corpora apart where one has the longer utterances.
        frames: ``(U,)`` frames.
        loglik: ``(U, K)`` calibrated log-likelihoods up to a constant of the utterance, nats; ``mean`` without one.
        calibrated: whether ``loglik`` is.
        control: classes whose utterances come from a control; None: there is no control.
    """

    classes: list[str]
    utts: list[str]
    speakers: list[str]
    labels: np.ndarray
    mean: np.ndarray
    frames: np.ndarray
    loglik: np.ndarray
    calibrated: bool
    control: frozenset[str] | None = None

    def only(self, rows: np.ndarray) -> Trials:
        """Some utterances, by number."""
        utts, speakers = ([names[row] for row in rows] for names in (self.utts, self.speakers))
        arrays = {name: getattr(self, name)[rows] for name in ARRAYS}
        return self._replace(utts=utts, speakers=speakers, **arrays)

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of classes that both have utterances; with a control, those of which it has one."""
        present = [name for k, name in enumerate(self.classes) if (self.labels == k).any()]
        pairs = itertools.combinations(present, 2)
        return [pair for pair in pairs if self.control is None or self.control & set(pair)]

    def pair(self, first: str, second: str) -> PairTrials:
        """What tells two classes apart."""
        a, b = self.classes.index(first), self.classes.index(second)
        rows = np.flatnonzero((self.labels == a) | (self.labels == b))
        mean, llr = (values[rows, a] - values[rows, b] for values in (self.mean, self.loglik))
        speakers, target = [self.speakers[row] for row in rows], self.labels[rows] == a
        return PairTrials(f"{first}+{second}", speakers, mean, llr, self.frames[rows], target, self.calibrated)


class PairTrials(NamedTuple):
    """Two classes, by utterance.

    Attributes:
        name: both, joined by +.
        speakers: of each of U utterances.
        mean: ``(U,)`` mean log-likelihood ratio per frame of the first class against the second, nats.
        llr: ``(U,)`` the calibrated one, nats; ``mean`` without a calibration.
        frames: ``(U,)``.
        target: ``(U,)`` which are of the first class.
        calibrated: whether ``llr`` is.
    """

    name: str
    speakers: list[str]
    mean: np.ndarray
    llr: np.ndarray
    frames: np.ndarray
    target: np.ndarray
    calibrated: bool

    def scores(self, metric: str) -> np.ndarray:
        """What a figure is of: ``llr`` for the costs of log-likelihood ratios, ``mean`` for those that only rank."""
        return self.llr if metric.startswith(("cllr", "min_cllr")) else self.mean


def with_control(judged: Trials, control: Trials) -> Trials | None:
    """Utterances of the control, and of the set where it is of classes that the control has none of.

    A control of the reference class alone is so held against the other classes of the set, and one of all classes
    stands for itself. None for a control without classes that the model knows.
    """
    if not len(control.labels):
        return None
    rest = judged.only(np.flatnonzero(~np.isin(judged.labels, control.labels)))
    return Trials(
        judged.classes,
        control.utts + rest.utts,
        control.speakers + rest.speakers,
        *(np.concatenate([getattr(part, name) for part in (control, rest)]) for name in ARRAYS),
        judged.calibrated,
        frozenset(judged.classes[label] for label in control.labels),
    )

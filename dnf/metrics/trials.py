"""Trials: utterances with the speaker, the class and the scores of each, of a set, a pair of classes or a pool."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Trials:
    """U utterances with their scores.

    Scores have names. Those of a system: ``mean``, mean log-likelihoods per frame, nats, which rank utterances with and
    without a calibration and know nothing of their duration, which tells corpora apart where one has the longer
    utterances; ``calibrated``, calibrated log-likelihoods up to a constant of the utterance, nats; ``frames``; and, by
    the name of an accuracy, whether the decision is right. Of a pair of classes both are log-likelihood ratios ``(U,)``.

    Attributes:
        utts: ``(U,)`` names of the utterances.
        speakers: ``(U,)`` names.
        labels: ``(U,)`` names of the true classes.
        scores: arrays ``(U,)`` or ``(U, K)`` by name.
        classes: K names, the columns of scores ``(U, K)``; of a set and a pair the reference class first.
        control: classes whose utterances come from a control; None: there is no control.
    """

    utts: np.ndarray
    speakers: np.ndarray
    labels: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Sequence[str] = ()
    control: frozenset[str] | None = None

    def __post_init__(self):
        for name in ("utts", "speakers", "labels"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=object))

    def __len__(self) -> int:
        return len(self.utts)

    @property
    def name(self) -> str:
        """The classes, joined by +."""
        return "+".join(self.classes)

    @property
    def calibrated(self) -> bool:
        """Whether there are calibrated log-likelihoods."""
        return "calibrated" in self.scores

    @property
    def known(self) -> np.ndarray:
        """Which utterances ``(U,)`` are of one of ``classes``."""
        return np.array([label in self.classes for label in self.labels], dtype=bool)

    @property
    def columns(self) -> np.ndarray:
        """Column of the true class of each utterance ``(U,)`` in scores ``(U, K)``; all are of known classes."""
        return np.array([self.classes.index(label) for label in self.labels], dtype=int)

    @property
    def target(self) -> np.ndarray:
        """Which utterances ``(U,)`` are of the first class."""
        return np.array([label == self.classes[0] for label in self.labels], dtype=bool)

    def only(self, rows: np.ndarray) -> Trials:
        """Some utterances, ``(U,)`` bool or by number."""
        names = self.utts[rows], self.speakers[rows], self.labels[rows]
        scores = {name: values[rows] for name, values in self.scores.items()}
        return Trials(*names, scores, self.classes, self.control)

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of classes that both have utterances; with a control, those of which it has one."""
        present = set(self.labels)
        pairs = itertools.combinations([name for name in self.classes if name in present], 2)
        return [pair for pair in pairs if self.control is None or self.control & set(pair)]

    def pair(self, first: str, second: str) -> Trials:
        """Utterances of two classes; scores ``(U, K)`` become differences ``(U,)`` of the first from the second."""
        a, b = self.classes.index(first), self.classes.index(second)
        both = self.only(np.array([label in (first, second) for label in self.labels], dtype=bool))
        scores = {
            name: values[:, a] - values[:, b] if values.ndim == 2 else values for name, values in both.scores.items()
        }
        return replace(both, scores=scores, classes=(first, second))

    def ranked_by(self, metric: str) -> np.ndarray:
        """What a figure is of: ``calibrated``, if there is, for the costs of log-likelihood ratios, else ``mean``."""
        cost = metric.startswith(("cllr", "min_cllr"))
        return self.scores["calibrated" if cost and self.calibrated else "mean"]


def joined(parts: Sequence[Trials]) -> Trials:
    """The utterances of all, with the scores that all have and the classes of the first."""
    names = (np.concatenate([getattr(part, name) for part in parts]) for name in ("utts", "speakers", "labels"))
    common = [name for name in parts[0].scores if all(name in part.scores for part in parts)]
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in common}
    return Trials(*names, scores, parts[0].classes)


def with_control(of_set: Trials, control: Trials) -> Trials | None:
    """Utterances of the control, and of the set where it is of classes that the control has none of.

    A control of the reference class alone is so held against the other classes of the set, and one of all classes
    stands for itself. None for a control without utterances.
    """
    if not len(control):
        return None
    present = frozenset(control.labels)
    rest = of_set.only(np.array([label not in present for label in of_set.labels], dtype=bool))
    return replace(joined([control, rest]), control=present)

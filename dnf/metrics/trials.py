"""Trials: utterances with the speaker, the class and the scores of each, of a set, a pair of classes or a pool."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dnf.metrics.figures import MOST_CLASSES, WITHOUT_DOUBT

MOST_PAIRS = 8  # pairs of classes of a set whose figures have intervals and are shown
MOST_ROWS = 120  # pairs of classes of a set that have figures


def most_confused(pairs: Sequence[str], dev_auc: Mapping[str, float], most: int = MOST_PAIRS) -> list[str]:
    """Pairs of classes, joined by +: all of them as they come, and of more than ``MOST_PAIRS`` those of lowest AUC on dev.

    Args:
        pairs: to choose from.
        dev_auc: AUC of pairs on dev; pairs that it lacks come last.
        most: how many to choose of more than ``MOST_PAIRS``, the most confused first.
    """
    if len(pairs) <= MOST_PAIRS:
        return list(pairs)
    return heapq.nsmallest(most, pairs, key=lambda pair: dev_auc.get(pair, math.inf))


@dataclass(frozen=True, eq=False)
class Trials:
    """U utterances with their scores.

    Scores have names. Those of a system: ``mean``, mean log-likelihoods per frame, nats, which rank utterances with and
    without a calibration and do not depend on duration, which separates corpora if one has longer
    utterances; ``calibrated``, calibrated log-likelihoods up to a constant of the utterance, nats; ``frames``; and, by
    the name of an accuracy, whether the decision is right. Of a pair of classes both are log-likelihood ratios ``(U,)``.
    Those of a set that is doubted have a second value without doubt, with ``WITHOUT_DOUBT`` behind the name.
    Of more than ``MOST_CLASSES`` classes, in their place are ``ranks`` and ``bits`` ``(U,)``, from ``dnf.decisions.detection_rows.summarized``.

    Attributes:
        utts: ``(U,)`` names of the utterances.
        speakers: ``(U,)`` names.
        labels: ``(U,)`` names of the true classes.
        scores: arrays ``(U,)`` or ``(U, K)`` by name.
        classes: K names, the columns of scores ``(U, K)``; of a set and a pair the reference class first.
        control: classes whose utterances come from a control; None: there is no control.
        dev_auc: AUC on dev of pairs of classes, joined by +, where there are more than ``MOST_PAIRS``.
    """

    utts: np.ndarray
    speakers: np.ndarray
    labels: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Sequence[str] = ()
    control: frozenset[str] | None = None
    dev_auc: Mapping[str, float] = field(default_factory=dict)

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
        return "calibrated" in self.scores or "bits" in self.scores

    @property
    def known(self) -> np.ndarray:
        """Which utterances ``(U,)`` are of one of ``classes``."""
        classes = set(self.classes)
        return np.array([label in classes for label in self.labels], dtype=bool)

    @property
    def columns(self) -> np.ndarray:
        """Column of the true class of each utterance ``(U,)`` in scores ``(U, K)``; all are of known classes."""
        column = {name: k for k, name in enumerate(self.classes)}
        return np.array([column[label] for label in self.labels], dtype=int)

    @property
    def target(self) -> np.ndarray:
        """Which utterances ``(U,)`` are of the first class."""
        return np.array([label == self.classes[0] for label in self.labels], dtype=bool)

    def only(self, rows: np.ndarray) -> Trials:
        """Some utterances, ``(U,)`` bool or by number."""
        names = {name: getattr(self, name)[rows] for name in ("utts", "speakers", "labels")}
        return replace(self, **names, scores={name: values[rows] for name, values in self.scores.items()})

    @cached_property
    def rows_by_class(self) -> dict[str, np.ndarray]:
        """Numbers of the utterances of each class that has any."""
        rows: dict[str, list[int]] = {}
        for number, label in enumerate(self.labels):
            rows.setdefault(label, []).append(number)
        return {label: np.array(numbers) for label, numbers in rows.items()}

    def has(self, pair: tuple[str, str]) -> bool:
        """Whether both classes have utterances; with a control, one of them from that."""
        return self.rows_by_class.keys() >= set(pair) and (self.control is None or bool(self.control & set(pair)))

    def pairs(self, most: int = MOST_PAIRS) -> list[tuple[str, str]]:
        """Pairs of classes that both have utterances, or ``most_confused`` ones; with a control, those of which it has one.

        More than ``MOST_CLASSES`` classes have no pairs.
        """
        if len(self.classes) > MOST_CLASSES:
            return []
        present = [name for name in self.classes if name in self.rows_by_class]
        pairs = {"+".join(pair): pair for pair in itertools.combinations(present, 2) if self.has(pair)}
        return [pairs[name] for name in most_confused(list(pairs), self.dev_auc, most)]

    def pair(self, first: str, second: str) -> Trials:
        """Utterances of two classes; scores ``(U, K)`` become differences ``(U,)`` of the first from the second."""
        a, b = self.classes.index(first), self.classes.index(second)
        none = np.zeros(0, dtype=int)
        both = self.only(np.sort(np.concatenate([self.rows_by_class.get(name, none) for name in (first, second)])))
        scores = {
            name: values[:, a] - values[:, b] if values.ndim == 2 else values for name, values in both.scores.items()
        }
        return replace(both, scores=scores, classes=(first, second))

    @property
    def is_doubted(self) -> bool:
        """Whether doubt has changed scores."""
        return any(name.endswith(WITHOUT_DOUBT) for name in self.scores)

    @property
    def without_doubt(self) -> Trials:
        """The same utterances with their scores without doubt."""
        before = {n.removesuffix(WITHOUT_DOUBT): v for n, v in self.scores.items() if n.endswith(WITHOUT_DOUBT)}
        return replace(self, scores=self.scores | before)

    def ranked_by(self, metric: str) -> np.ndarray:
        """What a figure is of: ``calibrated``, if there is, for the costs of log-likelihood ratios, else ``mean``."""
        cost = metric.startswith(("cllr", "min_cllr"))
        return self.scores["calibrated" if cost and self.calibrated else "mean"]


def joined(parts: Sequence[Trials]) -> Trials:
    """The utterances of all, with the scores that all have and the classes of the first."""
    names = (np.concatenate([getattr(part, name) for part in parts]) for name in ("utts", "speakers", "labels"))
    common = [name for name in parts[0].scores if all(name in part.scores for part in parts)]
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in common}
    return Trials(*names, scores, parts[0].classes, dev_auc=parts[0].dev_auc)


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

"""Accuracy, decided shares and correlation with expert scores of a set, as rows of ``accuracy.tsv``."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping

import numpy as np

from dnf.decisions.detection_rows import ACCURACY, CALIBRATED_ACCURACY
from dnf.metrics.bootstrap import Statistic, interval
from dnf.metrics.correlation import COEFFICIENTS, LEAST, by_speaker
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.figures import MOST_CLASSES, MOST_DECIDED
from dnf.metrics.trials import Trials


def agreement_rows(
    x: np.ndarray,
    y: np.ndarray,
    speakers: np.ndarray,
    statistics: Mapping[str, Statistic],
    resamples: int,
    seed: int,
    prefix: str = "",
    **names: str,
) -> list[dict]:
    """Rows of ``accuracy.tsv``: agreement of two columns, over utterances and over speakers' means; none if it is undefined.

    Args:
        x, y: columns ``(U,)``.
        speakers: speaker of each utterance.
        statistics: functions of weights and both columns, by name.
        resamples, seed: for the intervals.
        prefix: metrics are named ``<prefix><utt or speaker>_<statistic>``.
        names: more columns of the rows.
    """
    rows = []
    for level, (a, b, who) in {"utt": (x, y, speakers), "speaker": by_speaker(speakers, x, y)}.items():
        enough = len(np.unique(who)) >= LEAST
        for name, statistic in statistics.items() if len(a) >= LEAST else ():
            value = statistic(np.ones((1, len(a))), a, b)[0]
            if np.isnan(value):
                continue
            ends = interval(statistic, who, a, b, resamples=resamples, seed=seed) if enough else None
            rows.append(row_of(value, ends, who, metric=f"{prefix}{level}_{name}", **names))
    return rows


def correlation_rows(trials: Trials, resamples: int, seed: int, **names: str) -> list[dict]:
    """Rows of ``accuracy.tsv``: correlation of the log-likelihood ratio with expert scores, by ``agreement_rows``.

    Args:
        trials: utterances with an expert score, ``score``, and their log-likelihood ratio, ``llr``, nats.
        resamples, seed: for the intervals.
        names: set and class, for the rows.
    """
    columns = trials.scores["llr"], trials.scores["score"], trials.speakers
    return agreement_rows(*columns, COEFFICIENTS, resamples, seed, **names)


FRAMES = "frames_"  # prefix of columns that count the frames decided as a class


class Tally:
    """Counts of a set's decisions for the figures, updated while the decisions are written.

    Attributes:
        classes: classes of the model.
        counts: numbers of utterances and frames, by true class and speaker.
    """

    def __init__(self, classes: list[str]):
        self.classes = classes
        self.counts: dict[tuple[str, str], Counter] = {}
        self._names: tuple[list[str], list[str], list[str]] = [], [], []
        self._scores = {ACCURACY: array("b"), "llr": array("d"), "score": array("d")}

    def add(self, row: dict) -> dict:
        """Count a row of ``decide`` and return it."""
        label, speaker, right = row["class"], row["speaker"], row["decision"] == row["class"]
        counts = self.counts.setdefault((label, speaker), Counter())
        counts.update(utterances=1, right=int(right), frames=row["frames"], right_frames=row.get(f"{FRAMES}{label}", 0))
        clear = row["near_tie"] == "no"
        counts.update(near_ties=int(not clear), clear=int(clear), clear_right=int(clear and right))
        counts["decided", row["decision"]] += 1
        for column, count in row.items():
            if column.startswith(FRAMES) and count:
                counts["frames", column.removeprefix(FRAMES)] += count
        for column, name in zip(self._names, (row["utt"], speaker, label)):
            column.append(name)
        for column, value in zip(self._scores.values(), (right, float(row["llr"]), float(row["score"] or "nan"))):
            column.append(value)
        return row

    def trials(self) -> Trials:
        """All utterances with three scores: whether the decision is right, ``llr`` in nats, and the expert ``score``, NaN for none."""
        scores = {name: np.array(values) for name, values in self._scores.items()}
        return Trials(*self._names, scores, self.classes)


def accuracy_rows(name: str, tally: Tally, resamples: int, seed: int) -> list[dict]:
    """Accuracy and decided shares of a set by true class; ``all`` has the utterances of all known classes.

    Of more than ``MOST_CLASSES`` classes, a class has its utterance accuracy alone.
    """
    by_class: dict[str, list[tuple[str, Counter]]] = {}
    for (label, speaker), counts in tally.counts.items():
        by_class.setdefault(label, []).append((speaker, counts))
    labels = sorted(by_class)
    classes = set(tally.classes)
    known = [label for label in labels if label in classes]
    everyone = [(speaker, counts) for (label, speaker), counts in tally.counts.items() if label in classes]
    rows = []

    def add(metric: str, label: str, count, total="utterances", **names: str) -> None:
        of_class = everyone if label == "all" else by_class[label]
        shares = [(speaker, counts[count], counts[total]) for speaker, counts in of_class if counts[total]]
        if shares:
            rows.append(share_row(metric, shares, resamples, seed, set=name, **{"class": label}, **names))

    has_frames = any(counts["frames"] > counts["utterances"] for counts in tally.counts.values())
    many = len(tally.classes) > MOST_CLASSES
    for label in (known + ["all"]) if known else []:
        brief = many and label != "all"
        if has_frames and not brief:
            add("frame_accuracy", label, "right_frames", "frames")
        add(ACCURACY, label, "right")
        if has_frames and not brief:  # whose deviations tell a near-tie
            add("near_ties", label, "near_ties")
            add("utt_accuracy_clear", label, "clear_right", "clear")
    for label in [] if many else labels:
        sums = sum((counts for _, counts in by_class[label]), Counter())
        for decided in decided_most(label, sums, tally.classes):
            if has_frames:
                add("frame_share", label, ("frames", decided), "frames", decided=decided)
            add("utt_share", label, ("decided", decided), decided=decided)
    return rows


def decided_most(label: str, counts: Counter, classes: list[str]) -> list[str]:
    """All classes, or of more than ``MOST_DECIDED`` the true class and the most frequent decisions for its utterances, then frames.

    Args:
        label: true class.
        counts: number of its utterances by ``("decided", class)``, and of its frames by ``("frames", class)``.
        classes: classes of the model.
    """
    if len(classes) <= MOST_DECIDED:
        return classes
    rank = {name: (name == label, counts["decided", name], counts["frames", name]) for name in classes}
    chosen = sorted((name for name in classes if any(rank[name])), key=rank.get, reverse=True)[:MOST_DECIDED]
    return [name for name in classes if name in chosen]


def calibrated_rows(name: str, trials: Trials, resamples: int, seed: int) -> list[dict]:
    """Accuracy of a set if the class of highest posterior is decided, by true class and over all."""
    rows, hits = [], trials.scores[CALIBRATED_ACCURACY]
    few = len(trials.classes) <= MOST_CLASSES
    groups = {label: trials.labels == label for label in sorted(set(trials.labels))} if few else {}
    for label, group in (groups | {"all": np.ones(len(trials), dtype=bool)}).items():
        shares = [(speaker, int(hit), 1) for speaker, hit in zip(trials.speakers[group], hits[group])]
        if shares:
            rows.append(share_row(CALIBRATED_ACCURACY, shares, resamples, seed, set=name, **{"class": label}))
    return rows

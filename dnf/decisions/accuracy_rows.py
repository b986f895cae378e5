"""Accuracy, decided shares and correlation with expert scores of a set, as rows of ``accuracy.tsv``."""

from __future__ import annotations

from collections import Counter

import numpy as np

from dnf.decisions.detection_rows import right
from dnf.experiment.config import Config
from dnf.metrics.bootstrap import interval
from dnf.metrics.correlation import COEFFICIENTS, LEAST, by_speaker
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.trials import Trials


def correlation_rows(
    ratios: list[float], scores: list[float], speakers: list[str], resamples: int, seed: int, **names: str
) -> list[dict]:
    """Rows of ``accuracy.tsv``: both coefficients, of utterances and of speakers; none where there is no correlation.

    Args:
        ratios, scores, speakers: of each scored utterance; ratios in nats.
        resamples, seed: of the intervals.
        names: set and class, for the rows.
    """
    utterances = np.array(ratios), np.array(scores), np.array(speakers)
    rows = []
    for level, (x, y, who) in {"utt": utterances, "speaker": by_speaker(*utterances)}.items():
        enough = len(np.unique(who)) >= LEAST
        for name, coefficient in COEFFICIENTS.items() if len(x) >= LEAST else ():
            value = coefficient(np.ones((1, len(x))), x, y)[0]
            if np.isnan(value):
                continue
            ends = interval(coefficient, who, x, y, resamples=resamples, seed=seed) if enough else None
            rows.append(row_of(value, ends, who, metric=f"{level}_{name}", **names))
    return rows


class Tally:
    """What figures need of a set's decisions, counted as these are made and written; by speaker, not by utterance.

    Attributes:
        classes: those the model knows.
        counts: of utterances and frames, by true class and speaker.
        scored: log-likelihood ratio, expert score, speaker and class of each utterance with a score.
        hits: speaker, class and whether the decision is right, of each utterance of a known class, if they are kept.
    """

    def __init__(self, classes: list[str], keep_hits: bool = False):
        self.classes, self.keep_hits = classes, keep_hits
        self.counts: dict[tuple[str, str], Counter] = {}
        self.scored: list[tuple[float, float, str, str]] = []
        self.hits: list[tuple[str, str, bool]] = []

    def add(self, row: dict) -> dict:
        """Count a row of ``decide``; returns it."""
        true, speaker, right = row["class"], row["speaker"], row["decision"] == row["class"]
        own = self.counts.setdefault((true, speaker), Counter())
        own.update(utterances=1, right=int(right), frames=row["frames"], right_frames=row.get(f"frames_{true}", 0))
        clear = row["near_tie"] == "no"
        own.update(near_ties=int(not clear), clear=int(clear), clear_right=int(clear and right))
        own["decided", row["decision"]] += 1
        for name in self.classes:
            own["frames", name] += row[f"frames_{name}"]
        if row.get("score"):
            self.scored.append((float(row["llr"]), float(row["score"]), speaker, true))
        if self.keep_hits and true in self.classes:
            self.hits.append((speaker, true, right))
        return row


def accuracy_rows(name: str, tally: Tally, resamples: int, seed: int) -> list[dict]:
    """Accuracy and decided shares of a set by true class; ``all`` is every utterance of a class the model knows."""
    found = sorted({true for true, _ in tally.counts})
    known = [c for c in found if c in tally.classes]
    rows = []

    def add(metric: str, true: str, count, total="utterances", **names: str) -> None:
        wanted = known if true == "all" else [true]
        shares = [
            (speaker, own[count], own[total])
            for (c, speaker), own in tally.counts.items()
            if c in wanted and own[total]
        ]
        if shares:
            rows.append(share_row(metric, shares, resamples, seed, set=name, **{"class": true}, **names))

    for true in (known + ["all"]) if known else []:
        add("frame_accuracy", true, "right_frames", "frames")
        add("utt_accuracy", true, "right")
        add("near_ties", true, "near_ties")
        add("utt_accuracy_clear", true, "clear_right", "clear")
    for true in found:
        for decided in tally.classes:
            add("frame_share", true, ("frames", decided), "frames", decided=decided)
            add("utt_share", true, ("decided", decided), decided=decided)
    return rows


def calibrated_rows(name: str, judged: Trials, config: Config) -> list[dict]:
    """Accuracy of a set when the class of highest posterior is decided, by true class and of all."""
    hits, rows = right(judged, config.calibrate), []
    groups = {c: np.flatnonzero(judged.labels == k) for k, c in enumerate(judged.classes)}
    groups = {c: group for c, group in sorted(groups.items()) if len(group)} | {"all": np.arange(len(hits))}
    for true, group in groups.items():
        if len(group):
            cells = [(judged.speakers[u], int(hits[u]), 1) for u in group]
            draw = (config.report.bootstrap, config.seed)
            rows.append(share_row("utt_accuracy_calibrated", cells, *draw, set=name, **{"class": true}))
    return rows


def hits_of(tally: Tally, judged: Trials, config: Config) -> dict[str, list[tuple]]:
    """Speaker, class and whether the decision is right, of each utterance of a known class, by name of the accuracy."""
    found = {"utt_accuracy": tally.hits}
    if judged.calibrated:
        labels = [judged.classes[label] for label in judged.labels]
        hits = right(judged, config.calibrate)
        found["utt_accuracy_calibrated"] = list(zip(judged.speakers, labels, hits))
    return found
